//! Problems with known log Z, for the tests of this crate and of code that builds on it (feature `testing`).

mod densities;
mod evaluate;
pub mod kepler;
mod problems;
#[cfg(test)]
mod quadrature;
mod rv7;

pub use evaluate::log_likelihood_on;
pub use problems::{Problem, all, problem};
pub use rv7::{RV7_HELP, Rv7Error, rv7};

/// What integration tests and benches reach of the private rooms; no part of the public interface.
#[doc(hidden)]
pub mod internals {
    pub use crate::backend::CpuPool;
    pub use crate::bound::{Ellipsoid, Union, UnionOptions};
    pub use crate::math::{ks_uniform, log_sum_exp};
    pub use crate::nn::Ensemble;
    pub use crate::rng::Stream;
}
