//! Where work runs: a [`Backend`] value names a machine, a pair of them splits a run into its two halves.

mod cpu;
mod gpu;
mod machine;

pub use cpu::CpuPool;
pub use gpu::{DeviceError, DeviceKind, GpuInfo, GpuOptions, GraphicsApi, PowerPreference, list_gpus};
#[cfg(feature = "gpu")]
pub(crate) use gpu::{DeviceRows, DeviceTraits, Fetch, Gpu};
pub use machine::Machine;

use std::any::Any;
use std::fmt;

/// What a half of a run had to do with a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Kernels started.
    pub(crate) dispatches: u64,
    /// Times that the host waited for the device.
    pub(crate) host_waits: u64,
    pub(crate) bytes_uploaded: u64,
    pub(crate) bytes_read_back: u64,
}

/// A machine that can evaluate likelihoods or run a sampler.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// A thread pool of its own on this computer; 0 threads means one per available core.
    Cpu {
        /// Number of threads, 0 for one per available core.
        threads: usize,
    },
    /// A GPU through wgpu, on any vendor's card, with a thread pool beside it that feeds it. The value can always be made; a build
    /// without the feature `gpu` cannot open it.
    Gpu(GpuOptions),
    /// A GPU where there is one made of hardware and the work can run there, else a thread for each core; the result says which it was.
    Auto,
}

impl Backend {
    /// A thread pool of `threads` threads on this computer, 0 meaning one per available core.
    pub fn cpu(threads: usize) -> Self {
        Self::Cpu { threads }
    }

    /// The fastest GPU of this computer; [`GpuOptions`] into a `Backend` for another.
    pub fn gpu() -> Self {
        Self::Gpu(GpuOptions::default())
    }

    /// A GPU if there is one that can do the work, else the CPU.
    pub fn auto() -> Self {
        Self::Auto
    }

    /// Threads of this computer that it keeps busy.
    pub fn threads(&self) -> usize {
        match self {
            Self::Cpu { threads: 0 } | Self::Gpu(_) | Self::Auto => {
                std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
            }
            Self::Cpu { threads } => *threads,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu { threads: 0 } => write!(f, "cpu"),
            Self::Cpu { threads } => write!(f, "cpu:{threads}"),
            Self::Gpu(options) => options.fmt(f),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl From<GpuOptions> for Backend {
    fn from(options: GpuOptions) -> Self {
        Self::Gpu(options)
    }
}

/// The pair that says which machine does which half of a run; made from `(likelihood, sampler)` or from one value for both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends {
    /// Evaluates the prior transform and the likelihood.
    pub likelihood: Backend,
    /// Draws proposals, tests membership, trains networks.
    pub sampler: Backend,
}

impl From<Backend> for Backends {
    fn from(both: Backend) -> Self {
        Self { likelihood: both.clone(), sampler: both }
    }
}

impl From<(Backend, Backend)> for Backends {
    fn from((likelihood, sampler): (Backend, Backend)) -> Self {
        Self { likelihood, sampler }
    }
}

/// Why a backend could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The operating system refused the threads.
    #[error("could not start {threads} threads for the {role} pool: {reason}; ask for fewer with Backend::cpu(n)")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// Which half of the run they were for.
        role: String,
        /// The system's own words.
        reason: String,
    },
    /// A device could not be opened.
    #[error("{0}")]
    Device(#[from] DeviceError),
}

/// What a panic said, if it said it in words.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(the panic carried no text)".to_owned())
}
