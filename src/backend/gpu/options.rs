//! Which device a user means, and how an adapter describes itself.

use std::fmt;
use std::time::Duration;

/// Which GPU to use, from the most to the least specific; [`Backend::gpu`](super::super::Backend::gpu) takes the default.
///
/// ```
/// use livepoint::{Backend, GpuOptions, GraphicsApi};
/// let backend = Backend::from(GpuOptions::default().name("radeon").api(GraphicsApi::Vulkan));
/// assert_eq!(backend.to_string(), "gpu:radeon");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GpuOptions {
    pub(crate) index: Option<usize>,
    pub(crate) name: Option<String>,
    pub(crate) power: PowerPreference,
    pub(crate) api: Option<GraphicsApi>,
    pub(crate) software: bool,
    pub(crate) webgpu_limits: bool,
    pub(crate) timeout: Duration,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self {
            index: None,
            name: None,
            power: PowerPreference::default(),
            api: None,
            software: false,
            webgpu_limits: false,
            timeout: Duration::from_secs(60),
        }
    }
}

impl GpuOptions {
    /// The adapter at this place of [`list_gpus`](crate::list_gpus).
    pub fn index(mut self, index: usize) -> Self {
        self.index = Some(index);
        self
    }

    /// The first adapter whose name holds this text, upper and lower case alike; of hardware adapters before others.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Which of several cards is preferred where neither index nor name says so.
    pub fn power(mut self, power: PowerPreference) -> Self {
        self.power = power;
        self
    }

    /// The graphics API; by default any but OpenGL, whose compute support is patchy.
    pub fn api(mut self, api: GraphicsApi) -> Self {
        self.api = Some(api);
        self
    }

    /// Allows adapters that run on the processor (lavapipe, SwiftShader, WARP) where there is no hardware one.
    ///
    /// They are slower than [`Backend::cpu`](crate::Backend::cpu), and good for tests. Asking for one by index or name allows it too. Beware of
    /// lavapipe (llvmpipe): it leaves every loop of a shader after 65,535 rounds without a word, so a longer sum over data is cut short.
    pub fn software(mut self, software: bool) -> Self {
        self.software = software;
        self
    }

    /// Opens the device with no more than WebGPU's default limits, which every conforming device has: for tests of portability.
    ///
    /// Tensor likelihoods are refused there: burn takes for granted all that the adapter has.
    pub fn webgpu_limits(mut self, webgpu_limits: bool) -> Self {
        self.webgpu_limits = webgpu_limits;
        self
    }

    /// How long to wait for a piece of work (normally a tenth of a second) before the device is given up as hung; 60 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// `gpu`, with the index or the name asked for behind a colon.
impl fmt::Display for GpuOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.index, &self.name) {
            (Some(index), _) => write!(f, "gpu:{index}"),
            (None, Some(name)) => write!(f, "gpu:{name}"),
            (None, None) if self.software => f.write_str("gpu:software"),
            (None, None) => f.write_str("gpu"),
        }
    }
}

/// Which of several cards to prefer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PowerPreference {
    /// Discrete cards before integrated ones.
    #[default]
    HighPerformance,
    /// Integrated cards before discrete ones.
    LowPower,
}

/// The interface through which a card is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GraphicsApi {
    /// Vulkan: Linux, Windows, Android.
    Vulkan,
    /// Metal: macOS, iOS.
    Metal,
    /// DirectX 12: Windows.
    Dx12,
    /// OpenGL: only when asked for.
    OpenGl,
}

impl fmt::Display for GraphicsApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vulkan => "Vulkan",
            Self::Metal => "Metal",
            Self::Dx12 => "DirectX 12",
            Self::OpenGl => "OpenGL",
        })
    }
}

/// What an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// A card with memory of its own.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A GPU handed to a virtual machine.
    Virtual,
    /// The processor in the role of a GPU.
    Software,
    /// The driver does not say.
    Unknown,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
            Self::Unknown => "unknown kind",
        })
    }
}

/// An adapter as [`list_gpus`](crate::list_gpus) shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuInfo {
    /// Its place in the list, for [`GpuOptions::index`].
    pub index: usize,
    /// The card.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// The interface through which it would be driven.
    pub api: GraphicsApi,
    /// The driver and its version.
    pub driver: String,
}

/// `NVIDIA H200 (discrete, Vulkan)`.
impl fmt::Display for GpuInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.kind, self.api)
    }
}
