//! The prior transform alone: points of the unit cube to rows of theta in somebody else's memory.

use std::sync::Arc;

use super::batch::{self, Batch, WORKGROUP};
use super::evaluate::KernelError;
use super::library;
use super::self_test::self_test;
use super::source::{ShaderError, Source};
use super::transform::TransformPlan;
use crate::backend::{DeviceError, Gpu};

/// The kernel on its device, with room for the points that go in.
pub(crate) struct ThetaKernel {
    gpu: Arc<Gpu>,
    pipeline: wgpu::ComputePipeline,
    batch: wgpu::Buffer,
    input: wgpu::Buffer,
    rows: usize,
}

impl ThetaKernel {
    /// Compiles the kernel for launches of at most `rows` rows, or of as many as the device's limits allow.
    ///
    /// # Errors
    /// A driver that refuses the kernel, no room for the points.
    pub(crate) fn new(gpu: Arc<Gpu>, plan: &TransformPlan, rows: usize) -> Result<Self, KernelError> {
        self_test(&gpu)?;
        let pipeline = batch::pipeline(&gpu, "the prior transform", &Self::compose(plan)?, 0)?;
        let widest = (8 * plan.n_travelling()).max(4 * plan.columns.len()).max(1);
        let storage = gpu.limits.max_buffer_size.min(gpu.limits.max_storage_buffer_binding_size) as usize;
        let groups = gpu.limits.max_compute_workgroups_per_dimension as usize;
        let rows = rows.min(storage / widest).min(groups * WORKGROUP).max(1);
        let bytes = (8 * rows * plan.n_travelling()).max(8) as u64;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let input = gpu.buffer("the points of a batch", bytes, usage)?;
        let batch = Batch::buffer(&gpu)?;
        Ok(Self { gpu, pipeline, batch, input, rows })
    }

    /// The whole text, checked.
    ///
    /// # Errors
    /// A text that does not validate, which is our fault.
    pub(crate) fn compose(plan: &TransformPlan) -> Result<Source, ShaderError> {
        let source = Source::default()
            .part(&library::text())
            .part(&batch::header(plan.columns.len()))
            .part(include_str!("../../shaders/prior.wgsl"))
            .part(&plan.wgsl())
            .part(include_str!("../../shaders/theta.wgsl"));
        let (module, _) = source.check()?;
        Batch::check(&module)?;
        Ok(source)
    }

    /// The most rows of a launch.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Maps `n` rows, given as the values that travel, column after column, to `theta [n, n_params]` in f32, row after row. The work is handed
    /// over and not waited for: what is submitted later to the same queue finds theta there.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub(crate) fn run(&self, n: usize, input: &[[f32; 2]], theta: wgpu::BindingResource) -> Result<(), DeviceError> {
        self.gpu.scoped("the prior transform", 0, |device| {
            self.gpu.queue.write_buffer(&self.batch, 0, bytemuck::bytes_of(&Batch::new(n)));
            self.gpu.queue.write_buffer(&self.input, 0, bytemuck::cast_slice(input));
            let resources = [self.batch.as_entire_binding(), self.input.as_entire_binding(), theta];
            let entries: Vec<_> = resources
                .into_iter()
                .enumerate()
                .map(|(k, resource)| wgpu::BindGroupEntry { binding: k as u32, resource })
                .collect();
            let layout = self.pipeline.get_bind_group_layout(0);
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &layout,
                entries: &entries,
            });
            let mut commands = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            {
                let mut pass = commands.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                pass.set_pipeline(&self.pipeline);
                pass.set_bind_group(0, &group, &[]);
                pass.dispatch_workgroups(n.div_ceil(WORKGROUP) as u32, 1, 1);
            }
            self.gpu.queue.submit([commands.finish()]);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::transform::Column;
    use super::*;

    #[test]
    fn the_text_is_valid_for_every_column() {
        let columns = vec![
            Column::Host,
            Column::Fixed(1.5),
            Column::Tied(0),
            Column::Uniform { lo: -1.0, hi: 2.0 },
            Column::LogUniform { lo: 1.0, hi: 1e3 },
            Column::Normal { mean: 1.0, sd: 2.0 },
            Column::HalfNormal { sd: 2.0 },
            Column::LogNormal { mu: 0.0, sigma: 1.0 },
            Column::Exponential { scale: 2.0 },
            Column::Cauchy { location: 0.0, scale: 1.0 },
            Column::HalfCauchy { scale: 1.0 },
        ];
        for columns in [columns, vec![Column::Fixed(1.0)]] {
            if let Err(error) = ThetaKernel::compose(&TransformPlan::new(columns, false)) {
                panic!("{error}");
            }
        }
    }
}
