//! Nested sampling for vectorised likelihoods.
#![warn(missing_docs)]

mod backend;
mod math;
mod nn;
mod rng;

pub use backend::{Backend, BackendError, Backends};
