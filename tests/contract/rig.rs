//! The bare device for the checks of the library: runs one WGSL function over many inputs.

use livepoint::GpuOptions;
use wgpu::util::DeviceExt;

/// An adapter with its device.
pub struct Rig {
    device: wgpu::Device,
    queue: wgpu::Queue,
}

/// What the tests' function may read beside its argument: `table[i]` and `other[i]`.
pub type Tables<'a> = [&'a [f32]; 2];
pub const NO_TABLES: Tables = [&[0.0], &[0.0]];

/// `text`, which gives `fn f(x: vec4<f32>) -> vec2<f32>`, with an entry point that applies it.
pub fn with_entry_point(text: &str) -> String {
    format!(
        "{text}
@group(0) @binding(0) var<uniform> zero: u32;
@group(0) @binding(1) var<storage, read> inputs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read> other: array<f32>;
@group(0) @binding(4) var<storage, read_write> outputs: array<vec2<f32>>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
    lp_zero = zero;
    // The lengths of the tables keep them in the layout where f does not read them.
    if (id.x < arrayLength(&inputs) && arrayLength(&table) > 0u && arrayLength(&other) > 0u) {{
        outputs[id.x] = f(inputs[id.x]);
    }}
}}
"
    )
}

impl Rig {
    /// The device that the options mean.
    pub fn new(options: &GpuOptions) -> Self {
        let (device, queue) =
            livepoint::testing::internals::raw_device(options).expect("a device that was there before");
        Self { device, queue }
    }

    /// Applies the function `f` of `text` to each input.
    pub fn map(&self, text: &str, inputs: &[[f32; 4]], tables: Tables) -> Vec<[f32; 2]> {
        use wgpu::BufferUsages as Usage;
        let source = wgpu::ShaderSource::Wgsl(with_entry_point(text).into());
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        });
        let filled = |contents: &[u8], usage| {
            self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
        };
        let empty = |usage| {
            let size = size_of::<[f32; 2]>() as u64 * inputs.len() as u64;
            self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let outputs = empty(Usage::STORAGE | Usage::COPY_SRC);
        let readable = empty(Usage::MAP_READ | Usage::COPY_DST);
        let buffers = [
            filled(bytemuck::bytes_of(&0_u32), Usage::UNIFORM),
            filled(bytemuck::cast_slice(inputs), Usage::STORAGE),
            filled(bytemuck::cast_slice(tables[0]), Usage::STORAGE),
            filled(bytemuck::cast_slice(tables[1]), Usage::STORAGE),
            outputs.clone(),
        ];
        let entries: Vec<_> = (0..)
            .zip(&buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let bind_group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bind_group, &[]);
            pass.dispatch_workgroups(inputs.len().div_ceil(64) as u32, 1, 1);
        }
        encoder.copy_buffer_to_buffer(&outputs, 0, &readable, 0, outputs.size());
        self.queue.submit([encoder.finish()]);
        readable.slice(..).map_async(wgpu::MapMode::Read, |done| done.expect("a readable buffer"));
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("a device that answers");
        let bytes = readable.slice(..).get_mapped_range().expect("a mapped buffer");
        bytemuck::cast_slice(&bytes).to_vec()
    }
}
