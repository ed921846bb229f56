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
    #[cfg(feature = "gpu")]
    pub use crate::kernel::{generated, library};
    pub use crate::math::{ks_uniform, log_sum_exp};
    pub use crate::nn::Ensemble;
    pub use crate::rng::Stream;

    /// The WGSL text that a device would get of us for a likelihood, checked: for tensors the prior transform, for closures none.
    #[cfg(feature = "gpu")]
    pub fn composed_wgsl(
        prior: &crate::Prior,
        likelihood: impl Into<crate::Likelihood>,
    ) -> Result<Option<String>, crate::EvaluationError> {
        crate::likelihood::composed(prior, &likelihood.into())
    }

    /// The WGSL text of the device's self-test.
    #[cfg(feature = "gpu")]
    pub fn self_test_wgsl() -> String {
        crate::kernel::self_test_wgsl()
    }

    /// The device that the options mean, which runs share.
    #[cfg(feature = "gpu")]
    pub fn raw_device(options: &crate::GpuOptions) -> Result<(wgpu::Device, wgpu::Queue), crate::DeviceError> {
        let gpu = crate::backend::Gpu::open(options)?;
        Ok((gpu.device.clone(), gpu.queue.clone()))
    }

    /// Destroys the device that runs with these options share, as a driver reset would; it is opened first if need be.
    ///
    /// # Errors
    /// A device that cannot be opened.
    #[cfg(feature = "gpu")]
    pub fn lose_gpu(options: &crate::GpuOptions) -> Result<(), crate::DeviceError> {
        crate::backend::Gpu::open(options).map(|gpu| gpu.lose())
    }
}
