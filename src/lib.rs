//! Nested sampling for vectorised likelihoods.
#![warn(missing_docs)]

mod backend;
mod math;
mod rng;
#[cfg(feature = "testing")]
pub mod testing;

pub use backend::{Backend, BackendError, Backends};
