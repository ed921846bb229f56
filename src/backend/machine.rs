//! An opened backend: what a half of a run works with.

#[cfg(feature = "gpu")]
use std::sync::Arc;

#[cfg(feature = "gpu")]
use super::Gpu;
use super::{Backend, BackendError, CpuPool, DeviceError, GpuOptions, Traffic};

/// The machine of one half of a run.
#[non_exhaustive]
pub enum Machine {
    /// Threads only.
    Cpu(CpuPool),
    /// A device, and threads that prepare what it works on.
    #[cfg(feature = "gpu")]
    Gpu {
        /// The device.
        gpu: Arc<Gpu>,
        /// The threads.
        pool: CpuPool,
    },
}

impl Machine {
    /// Opens a backend for `role`. For [`Backend::Auto`], `device_can` says whether a device could do this half's work; the second value says in
    /// words why it became the CPU.
    ///
    /// # Errors
    /// Threads that cannot be started, a device that was asked for and cannot be opened.
    pub(crate) fn open(
        backend: &Backend,
        role: &str,
        device_can: Result<(), &'static str>,
    ) -> Result<(Self, Option<String>), BackendError> {
        let threads = match backend {
            Backend::Cpu { threads } => *threads,
            Backend::Gpu(_) | Backend::Auto => 0,
        };
        let pool = CpuPool::new(threads, role)?;
        Ok(match backend {
            Backend::Cpu { .. } => (Self::Cpu(pool), None),
            Backend::Gpu(options) => (Self::device(options, pool).map_err(|(error, _)| error)?, None),
            Backend::Auto => match device_can {
                Err(why) => (Self::Cpu(pool), Some(why.to_owned())),
                Ok(()) => match Self::device(&GpuOptions::default(), pool) {
                    Ok(machine) => (machine, None),
                    Err((error, pool)) => (Self::Cpu(pool), Some(error.to_string())),
                },
            },
        })
    }

    /// A pool of so many threads.
    ///
    /// # Errors
    /// Threads that cannot be started.
    #[cfg(test)]
    pub(crate) fn threads(threads: usize) -> Result<Self, BackendError> {
        CpuPool::new(threads, "test").map(Self::Cpu)
    }

    #[cfg(feature = "gpu")]
    fn device(options: &GpuOptions, pool: CpuPool) -> Result<Self, (DeviceError, CpuPool)> {
        match Gpu::open(options) {
            Ok(gpu) => Ok(Self::Gpu { gpu, pool }),
            Err(error) => Err((error, pool)),
        }
    }

    #[cfg(not(feature = "gpu"))]
    fn device(_: &GpuOptions, pool: CpuPool) -> Result<Self, (DeviceError, CpuPool)> {
        Err((DeviceError::NotBuilt, pool))
    }

    /// Its threads.
    pub(crate) fn pool(&self) -> &CpuPool {
        match self {
            Self::Cpu(pool) => pool,
            #[cfg(feature = "gpu")]
            Self::Gpu { pool, .. } => pool,
        }
    }

    /// What was asked for, with `auto` become what it turned out to be.
    pub(crate) fn backend(&self, asked: &Backend) -> Backend {
        match (self, asked) {
            (Self::Cpu(_), Backend::Auto) => Backend::cpu(0),
            #[cfg(feature = "gpu")]
            (Self::Gpu { .. }, Backend::Auto) => Backend::gpu(),
            _ => asked.clone(),
        }
    }

    /// What was to do with its device so far; nothing where it has none.
    pub(crate) fn traffic(&self) -> Traffic {
        match self {
            Self::Cpu(_) => Traffic::default(),
            #[cfg(feature = "gpu")]
            Self::Gpu { gpu, .. } => gpu.traffic(),
        }
    }

    /// Its threads, in words.
    pub(crate) fn threads_name(&self) -> String {
        match self.pool().threads() {
            1 => "1 thread".to_owned(),
            threads => format!("{threads} threads"),
        }
    }

    /// What it is made of, in words: `2 threads`, `NVIDIA H200 (discrete, Vulkan)`.
    pub(crate) fn device_name(&self) -> String {
        match self {
            Self::Cpu(_) => self.threads_name(),
            #[cfg(feature = "gpu")]
            Self::Gpu { gpu, .. } => gpu.name(),
        }
    }
}
