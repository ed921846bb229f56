//! What stays on the device: rows that wait, points of the ledger, weights; and lessons made of them.

use super::plan::words;
use super::texts::Step;
use super::{BoundKernels, DeviceBound, Dispatch, GROUP, RING, Size, bind};
use crate::backend::{DeviceError, DeviceRows, Gpu};

/// Where the weights of an ensemble lie on the device.
#[derive(Clone)]
pub(crate) struct Weights {
    pub(in crate::kernel) buffer: wgpu::Buffer,
    pub(in crate::kernel) offset: u64,
}

#[cfg(feature = "testing")]
impl Weights {
    /// Those that a buffer begins with.
    pub(crate) fn at_start_of(buffer: &wgpu::Buffer) -> Self {
        Self { buffer: buffer.clone(), offset: 0 }
    }
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights").field("offset", &self.offset).finish_non_exhaustive()
    }
}

/// Rows that were taken from the ring: as they travel to a likelihood, and as positions.
pub(super) struct Batch {
    pub(super) n: usize,
    positions: wgpu::Buffer,
    tails: wgpu::Buffer,
}

impl Batch {
    pub(super) fn new(gpu: &Gpu, n_dim: usize, rows: usize) -> Result<Self, DeviceError> {
        use wgpu::BufferUsages as Usage;
        let bytes = (8 * n_dim * rows) as u64;
        Ok(Self {
            n: 0,
            positions: gpu.buffer("positions of a batch", bytes, Usage::STORAGE | Usage::COPY_SRC)?,
            tails: gpu.buffer("a batch", bytes, Usage::STORAGE)?,
        })
    }
}

impl BoundKernels {
    /// Takes rows of the ring to a batch, unless newer rows have taken the place of one of them: then nothing is done, and the answer is none.
    ///
    /// # Errors
    /// A device that fails.
    pub(crate) fn gather(&mut self, slots: &[u64]) -> Result<Option<DeviceRows>, DeviceError> {
        let n = slots.len();
        let in_flight = self.ahead.as_ref().map_or(0, |(_, launch)| launch.of_group.len() * GROUP);
        let newest = self.next_slot + in_flight as u64;
        if n == 0 || n > RING || slots.iter().any(|slot| slot + (RING as u64) < newest) {
            self.batch.n = 0;
            return Ok(None);
        }
        let n_dim = self.shape.n_dim;
        if self.batch.tails.size() < (8 * n_dim * n) as u64 {
            self.batch = Batch::new(&self.gpu, n_dim, n.next_power_of_two())?;
        }
        let numbers: Vec<u32> = slots.iter().map(|slot| (slot % RING as u64) as u32).collect();
        let s = &self.scratch;
        self.gpu.upload(&s.numbers, 0, bytemuck::cast_slice(&numbers))?;
        let group = self.gpu.scoped("a batch", 0, |device| {
            let buffers = [&s.numbers, &s.ring, &self.batch.positions, &self.batch.tails];
            bind(device, &self.pipelines.gather_layout, &s.steps, &buffers)
        })?;
        let step = Step { n: n as u32, ..Step::default() };
        let pipeline = &self.pipelines.gather;
        let dispatch = Dispatch { pipeline, group: &group, bound: None, size: Size::Groups(n.div_ceil(GROUP)), step };
        self.hand_over(&[dispatch])?;
        self.batch.n = n;
        Ok(Some(DeviceRows::new(self.gpu.clone(), self.batch.tails.clone(), n)))
    }

    fn hand_over(&self, dispatches: &[Dispatch<'_>]) -> Result<(), DeviceError> {
        let commands = self.record(dispatches, |_| {})?;
        self.gpu.scoped("bounds", 0, |_| {
            self.gpu.queue.submit([commands.finish()]);
        })
    }

    /// Adds points to those of the ledger: the first `n` rows of the batch where they were taken from the ring, else `positions` `[n, n_dim]`.
    ///
    /// # Errors
    /// No room.
    pub(crate) fn append(&mut self, n: usize, positions: impl FnOnce() -> Vec<u64>) -> Result<(), DeviceError> {
        let bytes = |n: usize| (8 * self.shape.n_dim * n) as u64;
        let (start, end) = (bytes(self.n_points), bytes(self.n_points + n));
        if end > self.points.size() {
            let limit = self.gpu.limits.max_storage_buffer_binding_size.min(self.gpu.limits.max_buffer_size) & !7;
            let larger = self.gpu.buffer("points", end.next_power_of_two().min(limit).max(end), self.points.usage())?;
            self.copy(&self.points, 0, &larger, 0, start)?;
            self.points = larger;
        }
        if self.batch.n >= n {
            self.copy(&self.batch.positions, 0, &self.points, start, end - start)?;
        } else {
            let words: Vec<[u32; 2]> = positions().into_iter().map(words).collect();
            self.gpu.upload(&self.points, start, bytemuck::cast_slice(&words))?;
        }
        self.batch.n = 0;
        self.n_points += n;
        Ok(())
    }

    fn copy(&self, from: &wgpu::Buffer, at: u64, to: &wgpu::Buffer, to_at: u64, bytes: u64) -> Result<(), DeviceError> {
        if bytes == 0 {
            return Ok(());
        }
        self.gpu.scoped("a copy", 0, |device| {
            let mut commands = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            commands.copy_buffer_to_buffer(from, at, to, to_at, bytes);
            self.gpu.queue.submit([commands.finish()]);
        })
    }

    /// Writes points of the ledger, by number, to a lesson as the networks of the only cluster of `bound` see them.
    ///
    /// # Errors
    /// A device that fails.
    pub(crate) fn lesson(&self, bound: &DeviceBound, points: &[u32], lesson: &wgpu::Buffer) -> Result<(), DeviceError> {
        self.lesson_from(bound, &self.points, points, lesson)
    }

    /// The same for other positions `[n, n_dim]`.
    ///
    /// # Errors
    /// A device that fails.
    pub(crate) fn lesson_at(
        &self,
        bound: &DeviceBound,
        positions: &[u64],
        lesson: &wgpu::Buffer,
    ) -> Result<(), DeviceError> {
        let words: Vec<[u32; 2]> = positions.iter().map(|x| words(*x)).collect();
        self.gpu.upload(&self.scratch.upload, 0, bytemuck::cast_slice(&words))?;
        let numbers: Vec<u32> = (0..(positions.len() / self.shape.n_dim) as u32).collect();
        self.lesson_from(bound, &self.scratch.upload, &numbers, lesson)
    }

    fn lesson_from(
        &self,
        bound: &DeviceBound,
        from: &wgpu::Buffer,
        numbers: &[u32],
        lesson: &wgpu::Buffer,
    ) -> Result<(), DeviceError> {
        let buffer = self.gpu.buffer(
            "numbers of points",
            4 * numbers.len() as u64,
            wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
        )?;
        self.gpu.upload(&buffer, 0, bytemuck::cast_slice(numbers))?;
        let group = self.gpu.scoped("a lesson", 0, |device| {
            bind(device, &self.pipelines.lesson_layout, &self.scratch.steps, &[&buffer, from, lesson])
        })?;
        let step = Step { n: numbers.len() as u32, ..Step::default() };
        self.hand_over(&[Dispatch {
            pipeline: &self.pipelines.lesson,
            group: &group,
            bound: Some(bound),
            size: Size::Groups(numbers.len().div_ceil(GROUP)),
            step,
        }])
    }

    /// Copies an ensemble of `from` to the place of ensemble `k` of a bound.
    ///
    /// # Errors
    /// A device that fails.
    pub(crate) fn set_weights(&self, bound: &DeviceBound, k: usize, from: &Weights) -> Result<Weights, DeviceError> {
        let bytes = 4 * self.n_weights() as u64;
        let weights = Weights { buffer: bound.weights.clone(), offset: bytes * k as u64 };
        self.copy(&from.buffer, from.offset, &weights.buffer, weights.offset, bytes)?;
        Ok(weights)
    }

    /// A copy of weights that another training will change.
    ///
    /// # Errors
    /// No room.
    pub(crate) fn keep(&self, from: &wgpu::Buffer) -> Result<Weights, DeviceError> {
        let bytes = 4 * self.n_weights() as u64;
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffer = self.gpu.buffer("the weights of a cluster", bytes, usage)?;
        self.copy(from, 0, &buffer, 0, bytes)?;
        Ok(Weights { buffer, offset: 0 })
    }

    /// Points of the ledger that the device knows.
    pub(crate) fn n_points(&self) -> usize {
        self.n_points
    }

    /// Forgets the rows of the batch: what comes next did not come from the ring.
    pub(crate) fn forget_batch(&mut self) {
        self.batch.n = 0;
    }

    /// Floats of the weights of an ensemble.
    pub(super) fn n_weights(&self) -> usize {
        self.n_networks * self.networks.n_weights()
    }
}
