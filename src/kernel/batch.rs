//! What every kernel over a batch of points shares: its first bindings, the struct that tells it of the batch, its pipeline.

use std::mem::offset_of;

use super::layout;
use super::source::{ShaderError, Source};
use crate::backend::{DeviceError, Gpu};

/// Invocations of a workgroup in the entry files.
pub(super) const WORKGROUP: usize = 64;

/// Bindings of our own: batch, input, output.
pub(super) const OWN_BINDINGS: usize = 3;

/// What a kernel is told of a batch; the twin of `LpBatch` in the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Batch {
    n_points: u32,
    /// Always 0, which the compiler cannot know.
    zero: u32,
    /// Where its rows lie in the input: the first, and rows of a column.
    first: u32,
    stride: u32,
}

impl Batch {
    pub(super) fn new(n_points: usize) -> Self {
        Self::part(0, n_points, n_points)
    }

    /// The rows from `first` on of an input of `stride` rows.
    pub(super) fn part(first: usize, n_points: usize, stride: usize) -> Self {
        Self { n_points: n_points as u32, zero: 0, first: first as u32, stride: stride as u32 }
    }

    /// Room for one on the device.
    pub(super) fn buffer(gpu: &Gpu) -> Result<wgpu::Buffer, DeviceError> {
        gpu.buffer("the batch", size_of::<Self>() as u64, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)
    }

    /// Holds `LpBatch` of a module to this struct.
    pub(super) fn check(module: &naga::Module) -> Result<(), ShaderError> {
        let fields = [
            ("n_points", offset_of!(Self, n_points), 4),
            ("zero", offset_of!(Self, zero), 4),
            ("first", offset_of!(Self, first), 4),
            ("stride", offset_of!(Self, stride), 4),
        ];
        layout::check(module, "LpBatch", size_of::<Self>(), &fields).map_err(ShaderError::new)
    }
}

/// The WGSL of the bindings and names that every kernel has.
pub(super) fn header(n_params: usize) -> String {
    format!(
        "struct LpBatch {{ n_points: u32, zero: u32, first: u32, stride: u32 }}\n\
         @group(0) @binding(0) var<uniform> lp_batch: LpBatch;\n\
         @group(0) @binding(1) var<storage, read> lp_in: array<vec2<f32>>;\n\
         @group(0) @binding(2) var<storage, read_write> lp_out: array<f32>;\n\
         const N_DIM: u32 = {n_params}u;\nalias Theta = array<f32, N_DIM>;\n"
    )
}

/// The pipeline of a checked text with `n_data` buffers behind our own; every binding is there whether the text names it or not.
///
/// # Errors
/// What the driver has against it; `what` goes into the message.
pub(super) fn pipeline(
    gpu: &Gpu,
    what: &str,
    source: &Source,
    n_data: usize,
) -> Result<wgpu::ComputePipeline, DeviceError> {
    gpu.scoped(what, 0, |device| {
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(what),
            source: wgpu::ShaderSource::Wgsl(source.text().into()),
        });
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(what),
            layout: Some(&layout_of(device, n_data)),
            module: &module,
            entry_point: Some("lp_main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        })
    })
}

fn layout_of(device: &wgpu::Device, n_data: usize) -> wgpu::PipelineLayout {
    let entry = |binding: usize, ty: wgpu::BufferBindingType| wgpu::BindGroupLayoutEntry {
        binding: binding as u32,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let read = wgpu::BufferBindingType::Storage { read_only: true };
    let write = wgpu::BufferBindingType::Storage { read_only: false };
    let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform), entry(1, read), entry(2, write)];
    entries.extend((0..n_data).map(|k| entry(OWN_BINDINGS + k, read)));
    let group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
    device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&group)],
        immediate_size: 0,
    })
}
