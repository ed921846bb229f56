//! The networks of a device for tests: the kernels of `kernel/train.rs` with weights and lessons from the host.

use crate::backend::Gpu;
use crate::bound::train_options;
use crate::kernel::{NetworkLayout, TrainKernel, Weights, train_wgsl_texts};
use crate::rng::Stream;
use crate::{DeviceError, GpuOptions, NetworkOptions};

/// WGSL of the random words and of the shuffle, to be tried by themselves.
pub const PHILOX: &str = include_str!("../../shaders/philox.wgsl");
/// See [`PHILOX`].
pub const SHUFFLE: &str = include_str!("../../shaders/shuffle.wgsl");

/// The texts of the kernels for networks of `n_in` inputs: fresh weights, training, predictions of `rows` rows by each invocation.
///
/// # Errors
/// A text that does not validate, in words.
pub fn network_wgsl(n_in: usize, hidden: &[usize], rows: usize) -> Result<[String; 3], String> {
    train_wgsl_texts(&NetworkLayout::new(n_in, hidden), rows).map_err(|error| error.to_string())
}

/// An ensemble of networks on a device.
pub struct DeviceNetworks {
    gpu: std::sync::Arc<Gpu>,
    kernel: TrainKernel,
    layout: NetworkLayout,
    n_networks: usize,
    n_points: usize,
}

impl DeviceNetworks {
    /// Compiles the kernels.
    ///
    /// # Errors
    /// In words.
    pub fn new(options: &GpuOptions, n_in: usize, hidden: &[usize], n_networks: usize) -> Result<Self, String> {
        let gpu = Gpu::open(options).map_err(|error| error.to_string())?;
        let layout = NetworkLayout::new(n_in, hidden);
        let kernel = TrainKernel::new(gpu.clone(), &layout, n_networks).map_err(|error| error.to_string())?;
        Ok(Self { gpu, kernel, layout, n_networks, n_points: 0 })
    }

    /// Floats of a network.
    pub fn n_weights(&self) -> usize {
        self.layout.n_weights()
    }

    /// Uploads points `x [n_points, n_in]` and targets `y [n_points]`, as they are.
    ///
    /// # Errors
    /// As the kernel's.
    pub fn teach(&mut self, x: &[f32], y: &[f32]) -> Result<(), DeviceError> {
        let (n_points, stride) = (y.len(), self.layout.stride_in());
        let mut rows = vec![0.0; n_points * stride];
        for (row, x) in rows.chunks_mut(stride).zip(x.chunks(x.len() / n_points)) {
            row[..x.len()].copy_from_slice(x);
            row[x.len()] = 1.0;
        }
        let queue = self.gpu.queue.clone();
        let (buffer_x, buffer_y) = self.kernel.lesson(n_points)?;
        queue.write_buffer(buffer_x, 0, bytes(&rows));
        queue.write_buffer(buffer_y, 0, bytes(y));
        self.n_points = n_points;
        Ok(())
    }

    /// Random weights.
    ///
    /// # Errors
    /// As the kernel's.
    pub fn start_fresh(&mut self, stream: Stream) -> Result<(), DeviceError> {
        self.kernel.start_fresh(stream)
    }

    /// The weights of other networks of the same shape.
    ///
    /// # Errors
    /// As the kernel's.
    pub fn start_from(&mut self, other: &Self) -> Result<(), DeviceError> {
        self.kernel.start_from(&Weights::at_start_of(other.kernel.weights()))
    }

    /// Weights `[n_networks, n_weights]` of the host's.
    pub fn set_weights(&mut self, weights: &[f32]) {
        self.gpu.queue.write_buffer(self.kernel.weights(), 0, bytes(weights));
    }

    /// The weights `[n_networks, n_weights]`.
    ///
    /// # Errors
    /// As the kernel's.
    pub fn weights(&self) -> Result<Vec<f32>, DeviceError> {
        let size = self.kernel.weights().size();
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.gpu.buffer("weights on the host", size, usage)?;
        let mut commands = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        commands.copy_buffer_to_buffer(self.kernel.weights(), 0, &staging, 0, size);
        let bytes = self.gpu.fetch("weights", commands, &staging, size)?;
        Ok(bytes.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect())
    }

    /// Trains on the lesson; network `k` leaves out the points from `folds[k]` to `folds[k + 1]`.
    ///
    /// # Errors
    /// As the kernel's.
    pub fn train(&mut self, folds: &[u32], options: &NetworkOptions, stream: Stream) -> Result<(), DeviceError> {
        self.kernel.train(self.n_points, folds, &train_options(options), stream)
    }

    /// What each network says of each row of the lesson, `[n_networks, n_points]`.
    ///
    /// # Errors
    /// As the kernel's.
    pub fn predict(&mut self) -> Result<Vec<f32>, DeviceError> {
        self.kernel.predict(self.n_points)
    }

    /// Cuts trainings into dispatches of so many steps.
    pub fn set_steps_per_dispatch(&mut self, steps: usize) {
        self.kernel.set_steps_per_dispatch(steps);
    }

    /// Folds of equal size, to within one.
    pub fn even_folds(&self) -> Vec<u32> {
        (0..=self.n_networks).map(|k| (k * self.n_points / self.n_networks) as u32).collect()
    }

    /// Dispatches, bytes uploaded, bytes read back and waits so far.
    pub fn spent(&self) -> [u64; 4] {
        let traffic = self.gpu.traffic();
        [traffic.dispatches, traffic.bytes_uploaded, traffic.bytes_read_back, traffic.host_waits]
    }
}

fn bytes(values: &[f32]) -> &[u8] {
    bytemuck::cast_slice(values)
}
