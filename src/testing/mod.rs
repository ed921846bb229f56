//! Problems with known log Z, for the tests of this crate and of code that builds on it (feature `testing`).

mod bounds;
mod densities;
mod evaluate;
pub mod kepler;
#[cfg(feature = "gpu")]
mod kernel;
#[cfg(feature = "gpu")]
mod networks;
mod problems;
#[cfg(test)]
mod quadrature;
mod rv7;

pub use evaluate::{Session, log_likelihood_on};
pub use problems::{Problem, all, problem};
pub use rv7::{RV7_HELP, Rv7Error, rv7};

/// What integration tests and benches reach of the private rooms; no part of the public interface.
#[doc(hidden)]
pub mod internals {
    pub use super::bounds::{TestAsk, TestDraws, TestNest};
    pub use crate::backend::CpuPool;
    pub use crate::bound::{Ellipsoid, Union, UnionLimits, UnionOptions};
    #[cfg(feature = "gpu")]
    pub use crate::kernel::{generated, library};
    pub use crate::math::{ks_uniform, log_sum_exp};
    pub use crate::nn::{Ensemble, Lesson};
    pub use crate::rng::Stream;
    #[cfg(feature = "gpu")]
    pub use crate::testing::kernel::DeviceKernel;
    #[cfg(feature = "gpu")]
    pub use crate::testing::networks::{DeviceNetworks, PHILOX, SHUFFLE, network_wgsl};

    /// The WGSL text that a device would get of us for a likelihood, checked: for tensors the prior transform, for closures none.
    #[cfg(feature = "gpu")]
    pub fn composed_wgsl(
        prior: &crate::Prior,
        likelihood: impl Into<crate::Likelihood>,
    ) -> Result<Option<String>, crate::EvaluationError> {
        crate::likelihood::composed(prior, &likelihood.into())
    }

    /// Evaluations a second of a WGSL likelihood over the points `u [n_points, n_dim]` (or as many of them as take up to `launch_s` seconds in one launch), which stay on
    /// the device: prior transform and likelihood, without uploads and reading back.
    #[cfg(feature = "gpu")]
    pub fn resident_rate(
        prior: &crate::Prior,
        likelihood: impl Into<crate::Likelihood>,
        options: &crate::GpuOptions,
        u: ndarray::ArrayView2<f64>,
        launch_s: f64,
    ) -> Result<f64, crate::EvaluationError> {
        let gpu = crate::backend::Gpu::open(options)?;
        crate::likelihood::resident_rate(&gpu, prior, &likelihood.into(), u, launch_s)
    }

    /// The WGSL texts of the kernels of bounds, by name; each invocation asks networks about `rows` rows.
    ///
    /// # Errors
    /// A text that does not validate, in words.
    #[cfg(feature = "gpu")]
    pub fn bounds_wgsl(
        n_dim: usize,
        hidden: &[usize],
        n_networks: usize,
        rows: usize,
    ) -> Result<Vec<(&'static str, String)>, String> {
        crate::kernel::bounds_wgsl(n_dim, hidden, n_networks, rows).map_err(|error| error.to_string())
    }

    /// The WGSL text of the device's self-test.
    #[cfg(feature = "gpu")]
    pub fn self_test_wgsl() -> String {
        crate::kernel::self_test_wgsl()
    }

    /// The device that the options mean, and its self-test in words.
    #[cfg(feature = "gpu")]
    pub fn device_traits(options: &crate::GpuOptions) -> Result<(crate::GpuInfo, String), crate::DeviceError> {
        let gpu = crate::backend::Gpu::open(options)?;
        let traits = crate::kernel::self_test(&gpu)?;
        let yes = |holds: bool| if holds { "yes" } else { "NO" };
        let loops =
            traits.loop_limit.map_or("run to their end".to_owned(), |n| format!("are cut after {n} iterations"));
        let text = format!(
            "exact sums and products of two f32: {}; NaN and infinities told by bits: {}; loops {loops}",
            yes(traits.exact_sums),
            yes(traits.nan_by_bits)
        );
        Ok((gpu.info.clone(), text))
    }

    /// Whether two options mean one device, shared by the runs of both.
    ///
    /// # Errors
    /// A device that cannot be opened.
    #[cfg(feature = "gpu")]
    pub fn share_a_device(a: &crate::GpuOptions, b: &crate::GpuOptions) -> Result<bool, crate::DeviceError> {
        Ok(crate::backend::Gpu::open(a)?.is(&*crate::backend::Gpu::open(b)?))
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
