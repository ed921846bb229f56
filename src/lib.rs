//! Nested sampling for vectorised likelihoods.
#![warn(missing_docs)]

mod backend;
mod math;
mod prior;
mod rng;

pub use backend::{Backend, BackendError, Backends};
pub use prior::{BlockOutput, ParameterDescription, Prior, PriorError};
