//! Nested sampling for vectorised likelihoods.
#![warn(missing_docs)]

mod backend;
#[allow(dead_code, unused_imports, reason = "the neural bound and the sampler are what uses it")]
mod bound;
mod math;
mod rng;

pub use backend::{Backend, BackendError, Backends};
