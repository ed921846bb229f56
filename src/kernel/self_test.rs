//! What a device was found to do: exact sums, NaN by bits, loops that run to their end; tried once on each.

use super::library;
use crate::backend::{DeviceError, DeviceTraits, Gpu};
use crate::rng::Stream;

const PAIRS: usize = 1024;

/// More loops than any software driver is known to allow, and few enough for a blink.
const LOOPS: u32 = 100_000;

/// The twin of `LpSelfTest` in the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Parameters {
    zero: u32,
    n_pairs: u32,
    n_loops: u32,
    padding: u32,
}

/// The text of the shader.
pub(crate) fn self_test_wgsl() -> String {
    library::text() + include_str!("../../shaders/self_test.wgsl")
}

/// What the device does; found out at the first call.
///
/// # Errors
/// A device that fails meanwhile.
pub(crate) fn self_test(gpu: &Gpu) -> Result<DeviceTraits, DeviceError> {
    if let Some(&traits) = gpu.traits.get() {
        return Ok(traits);
    }
    let traits = try_out(gpu)?;
    Ok(*gpu.traits.get_or_init(|| traits))
}

fn try_out(gpu: &Gpu) -> Result<DeviceTraits, DeviceError> {
    use wgpu::BufferUsages as Usage;
    let what = "the self-test";
    let pairs: Vec<[f32; 2]> = (0..PAIRS as u64)
        .map(|k| {
            let mut draw = Stream::new(0).at(k);
            // Six decades apart at most: a low part that underflows is no fault.
            [draw.normal(), draw.normal() * 10f64.powf(6.0 * draw.uniform() - 3.0)].map(|x| x as f32)
        })
        .collect();
    let parameters = Parameters { zero: 0, n_pairs: PAIRS as u32, n_loops: LOOPS, padding: 0 };
    let bytes = 16 * (PAIRS as u64 + 1);
    let uniform = gpu.buffer(what, size_of::<Parameters>() as u64, Usage::UNIFORM | Usage::COPY_DST)?;
    let input = gpu.buffer(what, 8 * PAIRS as u64, Usage::STORAGE | Usage::COPY_DST)?;
    let output = gpu.buffer(what, bytes, Usage::STORAGE | Usage::COPY_SRC)?;
    let staging = gpu.buffer(what, bytes, Usage::MAP_READ | Usage::COPY_DST)?;
    let commands = gpu.scoped(what, 0, |device| {
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(what),
            source: wgpu::ShaderSource::Wgsl(self_test_wgsl().into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(what),
            layout: None,
            module: &module,
            entry_point: Some("lp_main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let entries: Vec<_> = [&uniform, &input, &output]
            .into_iter()
            .zip(0..)
            .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let layout = pipeline.get_bind_group_layout(0);
        let group =
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries });
        gpu.queue.write_buffer(&uniform, 0, bytemuck::bytes_of(&parameters));
        gpu.queue.write_buffer(&input, 0, bytemuck::cast_slice(&pairs));
        let mut commands = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = commands.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(PAIRS.div_ceil(64) as u32, 1, 1);
        }
        commands.copy_buffer_to_buffer(&output, 0, &staging, 0, bytes);
        commands
    })?;
    let found: Vec<[f32; 4]> = bytemuck::pod_collect_to_vec(&gpu.fetch_first(what, commands, &staging, bytes)?);
    let exact = |[a, b]: [f32; 2], [sum, sum_low, product, product_low]: [f32; 4]| {
        let [a, b] = [a, b].map(f64::from);
        f64::from(sum) + f64::from(sum_low) == a + b && f64::from(product) + f64::from(product_low) == a * b
    };
    let [known, loops, ..] = found[PAIRS];
    Ok(DeviceTraits {
        exact_sums: pairs.iter().zip(&found).all(|(&pair, &found)| exact(pair, found)),
        nan_by_bits: known == 7.0,
        loop_limit: (loops != LOOPS as f32).then_some(loops as u32),
    })
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;
    use crate::kernel::layout;

    #[test]
    fn host_and_shader_agree_on_the_parameters() {
        let module = naga::front::wgsl::parse_str(&self_test_wgsl()).unwrap();
        let field = |name, offset| (name, offset, 4);
        let fields = [
            field("zero", offset_of!(Parameters, zero)),
            field("n_pairs", offset_of!(Parameters, n_pairs)),
            field("n_loops", offset_of!(Parameters, n_loops)),
            field("padding", offset_of!(Parameters, padding)),
        ];
        assert_eq!(layout::check(&module, "LpSelfTest", size_of::<Parameters>(), &fields), Ok(()));
        // A struct that differs in one field is noticed.
        let swapped = [fields[1], fields[0], fields[2], fields[3]];
        assert!(layout::check(&module, "LpSelfTest", size_of::<Parameters>(), &swapped).is_err());
        assert!(layout::check(&module, "LpSelfTest", 20, &fields).is_err());
    }
}
