//! Nested sampling for vectorised likelihoods.
#![warn(missing_docs)]

mod backend;
mod batch;
pub mod diagnostics;
mod likelihood;
mod math;
mod posterior;
mod rng;
#[cfg(feature = "testing")]
pub mod testing;

pub use backend::{Backend, BackendError, Backends};
pub use likelihood::{
    EvaluationError, IntoLogL, IntoPointLogL, Likelihood, LikelihoodError, NonFinite, Place, VectorizedLikelihood,
};
pub use posterior::{ColumnSummary, Posterior, PosteriorError, Summary};
