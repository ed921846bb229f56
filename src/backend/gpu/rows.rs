//! Rows that lie on a device, on their way from a sampler to a likelihood.

use std::fmt;
use std::sync::Arc;

use super::Gpu;

/// Points of the unit cube as they travel to a likelihood on the same device: coordinate after coordinate, each the probability of its nearer tail, negative
/// for the upper one, as a pair of f32. They are there until the sampler proposes the next.
#[derive(Clone)]
pub(crate) struct DeviceRows {
    gpu: Arc<Gpu>,
    buffer: wgpu::Buffer,
    n: usize,
}

impl DeviceRows {
    pub(crate) fn new(gpu: Arc<Gpu>, buffer: wgpu::Buffer, n: usize) -> Self {
        Self { gpu, buffer, n }
    }

    /// The rows, for whoever works on that device.
    pub(crate) fn on(&self, gpu: &Gpu) -> Option<&wgpu::Buffer> {
        self.gpu.is(gpu).then_some(&self.buffer)
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.n
    }
}

impl fmt::Debug for DeviceRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceRows").field("n", &self.n).finish_non_exhaustive()
    }
}

impl PartialEq for DeviceRows {
    fn eq(&self, other: &Self) -> bool {
        self.buffer == other.buffer && self.n == other.n
    }
}
