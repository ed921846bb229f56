//! Problems with known log Z, for the tests of this crate and of code that builds on it (feature `testing`).

mod densities;
pub mod kepler;
mod problems;
#[cfg(test)]
mod quadrature;
mod rv7;

pub use problems::{Problem, all, problem};
pub use rv7::{RV7_HELP, Rv7Error, rv7};
