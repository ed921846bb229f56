//! Devices that run likelihoods and samplers: which one a user means, which ones are there, and what can go wrong with them.

#[cfg(feature = "gpu")]
mod context;
mod options;
#[cfg(feature = "gpu")]
mod rows;
#[cfg(feature = "gpu")]
mod tensors;

#[cfg(feature = "gpu")]
pub use context::list_gpus;
#[cfg(feature = "gpu")]
pub(crate) use context::{DeviceTraits, Fetch, Gpu};
pub use options::{DeviceKind, GpuInfo, GpuOptions, GraphicsApi, PowerPreference};
#[cfg(feature = "gpu")]
pub(crate) use rows::DeviceRows;

/// Without the feature `gpu` there is no device to list.
#[cfg(not(feature = "gpu"))]
pub fn list_gpus() -> Vec<GpuInfo> {
    Vec::new()
}

/// What went wrong with a device.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// This build has no GPU code.
    #[error("livepoint was built without its feature `gpu`; build it with the feature, or use Backend::cpu(n)")]
    NotBuilt,
    /// No adapter is what was asked for.
    #[error(
        "no GPU {wanted}; found: {found}. Install the card's Vulkan, Metal or DirectX 12 driver, choose another with GpuOptions \
         (a software adapter is taken only when it is asked for, OpenGL only by its api or index), or use Backend::cpu(n) or Backend::auto()"
    )]
    NoAdapter {
        /// What was asked for, in words.
        wanted: String,
        /// The adapters that are there, in words.
        found: String,
    },
    /// The adapter is there but gives no device.
    #[error("{adapter} gives no device: {reason}; update its driver or choose another with GpuOptions")]
    NotOpened {
        /// Its name.
        adapter: String,
        /// The driver's own words.
        reason: String,
    },
    /// The device went away: driver reset, card removed, watchdog.
    #[error(
        "{adapter} was lost ({reason}); run again to open it anew and go on with the points so far, or use Backend::cpu(n)"
    )]
    Lost {
        /// Its name.
        adapter: String,
        /// The driver's own words.
        reason: String,
    },
    /// The device has no room for a buffer.
    #[error("{adapter} is out of memory for {what} ({bytes} bytes); free some, or use less data or smaller batches")]
    OutOfMemory {
        /// Its name.
        adapter: String,
        /// What the memory was for.
        what: String,
        /// Bytes asked for.
        bytes: u64,
    },
    /// More than the device can do at all.
    #[error("{what} needs {needed}, and {adapter} allows {limit}; {advice}")]
    Limit {
        /// Its name.
        adapter: String,
        /// What needs too much.
        what: String,
        /// How much it needs.
        needed: u64,
        /// How much there can be.
        limit: u64,
        /// What to do.
        advice: &'static str,
    },
    /// Work that was handed to the device does not come back.
    #[error(
        "{adapter} has not answered for {seconds} s: {what} may hold a loop that does not end; give every loop a bound, or raise \
         GpuOptions::timeout for work that is just long"
    )]
    Hung {
        /// Its name.
        adapter: String,
        /// What it was working on.
        what: String,
        /// How long was waited.
        seconds: f64,
    },
    /// The driver or the layers above it refuse something that was checked before.
    #[error("{adapter}: {reason}")]
    Driver {
        /// Its name.
        adapter: String,
        /// The driver's own words.
        reason: String,
    },
}
