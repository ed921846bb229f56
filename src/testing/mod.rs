//! Problems with known log Z, for the tests of this crate and of code that builds on it (feature `testing`).

mod densities;
pub mod kepler;
mod problems;
#[cfg(test)]
mod quadrature;
mod rv7;

pub use problems::{Problem, all, problem};
pub use rv7::{RV7_HELP, Rv7Error, rv7};

/// What integration tests and benches reach of the private rooms; no part of the public interface.
#[doc(hidden)]
pub mod internals {
    pub use crate::backend::CpuPool;
    pub use crate::bound::{Ellipsoid, Union, UnionOptions};
    #[cfg(feature = "gpu")]
    pub use crate::kernel::{generated, library};
    pub use crate::math::{ks_uniform, log_sum_exp};
    pub use crate::nn::Ensemble;
    pub use crate::rng::Stream;

    /// Destroys the device that runs with these options share, as a driver reset would; it is opened first if need be.
    ///
    /// # Errors
    /// A device that cannot be opened.
    #[cfg(feature = "gpu")]
    pub fn lose_gpu(options: &crate::GpuOptions) -> Result<(), crate::DeviceError> {
        crate::backend::Gpu::open(options).map(|gpu| gpu.lose())
    }
}
