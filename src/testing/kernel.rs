//! A kernel of a benchmark's own on a device: compiled, launched and timed with the checks and time limits of ours.

use std::sync::Arc;
use std::time::Instant;

use crate::backend::Gpu;
use crate::{DeviceError, GpuOptions};

/// The entry point `main` of a text, and its storage buffers.
pub struct DeviceKernel {
    gpu: Arc<Gpu>,
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    buffers: Vec<wgpu::Buffer>,
}

impl DeviceKernel {
    /// Compiles the text; `lengths` are those of its storage buffers of f32, in the order of their bindings. They start as zeros.
    ///
    /// # Errors
    /// A text that the device refuses, no room.
    pub fn new(options: &GpuOptions, wgsl: &str, lengths: &[usize]) -> Result<Self, DeviceError> {
        use wgpu::BufferUsages as Usage;
        let gpu = Gpu::open(options)?;
        let what = "a benchmark";
        let buffers = lengths
            .iter()
            .map(|&n| gpu.buffer(what, 4 * n as u64, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC))
            .collect::<Result<Vec<_>, _>>()?;
        let (pipeline, group) = gpu.scoped(what, 0, |device| {
            let source = wgpu::ShaderSource::Wgsl(wgsl.into());
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(what), source });
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(what),
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            });
            let entries: Vec<_> = (buffers.iter().zip(0..))
                .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
                .collect();
            let layout = pipeline.get_bind_group_layout(0);
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &layout,
                entries: &entries,
            });
            (pipeline, group)
        })?;
        let kernel = Self { gpu, pipeline, group, buffers };
        // Many drivers compile at the first use, and memory is cleared then.
        kernel.gpu.submit_first(what, kernel.commands(0)?)?;
        Ok(kernel)
    }

    /// The most f32 that one storage buffer of the device holds.
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub fn longest(options: &GpuOptions) -> Result<usize, DeviceError> {
        let limits = &Gpu::open(options)?.limits;
        Ok((limits.max_buffer_size.min(limits.max_storage_buffer_binding_size) / 4) as usize)
    }

    /// Writes to the front of a buffer.
    ///
    /// # Errors
    /// What the device says to it.
    pub fn write(&self, buffer: usize, values: &[f32]) -> Result<(), DeviceError> {
        self.gpu.upload(&self.buffers[buffer], 0, bytemuck::cast_slice(values))
    }

    /// Seconds of one launch of `n_groups` workgroups, the wait for it included.
    ///
    /// # Errors
    /// A device that fails.
    pub fn launch(&self, n_groups: u32) -> Result<f64, DeviceError> {
        let commands = self.commands(n_groups)?;
        let start = Instant::now();
        self.gpu.submit("a benchmark", commands)?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// The first `n` values of a buffer.
    ///
    /// # Errors
    /// A device that fails.
    pub fn read(&self, buffer: usize, n: usize) -> Result<Vec<f32>, DeviceError> {
        let bytes = 4 * n as u64;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.gpu.buffer("a benchmark", bytes, usage)?;
        let mut commands = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        commands.copy_buffer_to_buffer(&self.buffers[buffer], 0, &staging, 0, bytes);
        let read = self.gpu.fetch("a benchmark", commands, &staging, bytes)?;
        Ok(bytemuck::pod_collect_to_vec(&read))
    }

    fn commands(&self, n_groups: u32) -> Result<wgpu::CommandEncoder, DeviceError> {
        self.gpu.scoped("a benchmark", 0, |device| {
            let mut commands = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            {
                let mut pass = commands.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                pass.set_pipeline(&self.pipeline);
                pass.set_bind_group(0, &self.group, &[]);
                pass.dispatch_workgroups(n_groups, 1, 1);
            }
            commands
        })
    }
}
