//! Bounds on a device: draws from them, and which of them hold a row. Plain numbers go in and come out; what they mean is the business of the room `bound`.

mod launch;
mod plan;
mod store;
mod texts;

use std::sync::Arc;

use super::evaluate::KernelError;
use super::network::{NetworkLayout, network_rows};
use super::self_test::self_test;
use super::source::Source;
use crate::backend::{DeviceError, Gpu};

use launch::{Ahead, InFlight};
pub(crate) use launch::{Among, Segment};
pub(crate) use plan::{BoundPlan, ClusterPlan, EllipsoidPlan, EmulatorPlan, from_position, to_position};
use plan::{Shape, pack};
use store::Batch;
pub(crate) use store::Weights;
#[cfg(feature = "testing")]
pub(crate) use texts::bounds_wgsl;
use texts::{Step, Texts};

/// Invocations of a workgroup that draws or tests, and of one that makes rows dense.
const GROUP: usize = 64;
const DENSE_GROUP: usize = 256;

/// Draws of one launch at most and at least, and at first; in between as many as took this long.
const ROWS_MAX: usize = 1 << 16;
const ROWS_LEAST: usize = 1 << 10;
const ROWS_FIRST: usize = 1 << 13;
const LAUNCH_S: f64 = 0.05;

/// Rows that wait on the device to be proposed: of the last ones so many are there.
pub(crate) const RING: usize = 1 << 17;

/// Counters of a cell: drawn, in the cell, accepted by the networks, held by a later bound.
pub(crate) const COUNTERS: usize = 4;

/// Cells that can be counted in one call of [`BoundKernels::draw`].
pub(crate) const MAX_CELLS: usize = 1 << 12;

/// No cell, no bound.
pub(crate) const NONE: u32 = u32::MAX;

/// Bytes from the parameters of one dispatch to those of the next: what every device can do.
const STEP_BYTES: u64 = 256;

/// Dispatches of one submission at most; a bound takes two for each of its clusters.
const STEPS_MAX: usize = 4096;

/// A bound that lies on the device.
pub(crate) struct DeviceBound {
    n_members: usize,
    is_cube: bool,
    /// Whether each cluster has networks.
    has_networks: Vec<bool>,
    group: wgpu::BindGroup,
    weights_group: wgpu::BindGroup,
    text: wgpu::Buffer,
    weights: wgpu::Buffer,
}

/// Buffers of a launch, for [`ROWS_MAX`] draws.
struct Scratch {
    steps: wgpu::Buffer,
    groups: wgpu::Buffer,
    status: wgpu::Buffer,
    counts: wgpu::Buffer,
    meta: wgpu::Buffer,
    out: wgpu::Buffer,
    totals: wgpu::Buffer,
    staging: wgpu::Buffer,
    upload: wgpu::Buffer,
    numbers: wgpu::Buffer,
    ring: wgpu::Buffer,
    /// Of each cluster that is asked, how many rows wait for its networks, as a dispatch over them and as a number.
    waits: wgpu::Buffer,
    scratch_group: wgpu::BindGroup,
    predict_group: wgpu::BindGroup,
    rows_group: wgpu::BindGroup,
    fetch_group: wgpu::BindGroup,
}

struct Pipelines {
    draw: wgpu::ComputePipeline,
    own: wgpu::ComputePipeline,
    other: wgpu::ComputePipeline,
    predict: wgpu::ComputePipeline,
    count: wgpu::ComputePipeline,
    scan: wgpu::ComputePipeline,
    scatter: wgpu::ComputePipeline,
    emit: wgpu::ComputePipeline,
    gather: wgpu::ComputePipeline,
    fetch: wgpu::ComputePipeline,
    lesson: wgpu::ComputePipeline,
    lesson_layout: wgpu::BindGroupLayout,
    bound_layout: wgpu::BindGroupLayout,
    weights_layout: wgpu::BindGroupLayout,
    gather_layout: wgpu::BindGroupLayout,
}

/// The kernels of one space of one number of dimensions, with the buffers that they use again and again.
pub(crate) struct BoundKernels {
    gpu: Arc<Gpu>,
    shape: Shape,
    networks: NetworkLayout,
    n_networks: usize,
    pipelines: Pipelines,
    scratch: Scratch,
    /// Draws of the next launch.
    rows: usize,
    /// Rows that went to the ring so far.
    next_slot: u64,
    /// Part of the draws that came back as rows lately.
    kept: f64,
    n_counters: usize,
    loop_limit: Option<u32>,
    /// Position of every point of the ledger, row after row, and how many there are.
    points: wgpu::Buffer,
    n_points: usize,
    batch: Batch,
    /// A launch that was handed over before anybody asked for it, and one that came back meanwhile.
    ahead: Option<(Vec<Segment>, InFlight)>,
    done_ahead: Option<Ahead>,
}

/// One dispatch of a submission.
struct Dispatch<'a> {
    pipeline: &'a wgpu::ComputePipeline,
    group: &'a wgpu::BindGroup,
    bound: Option<&'a DeviceBound>,
    size: Size,
    step: Step,
}

/// How many workgroups, or where in [`Scratch::waits`] the device has counted them.
#[derive(Clone, Copy)]
enum Size {
    Groups(usize),
    Waiting(u32),
}

fn binding(k: usize, ty: wgpu::BufferBindingType, has_dynamic_offset: bool) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding: k as u32,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
        count: None,
    }
}

const READ: wgpu::BufferBindingType = wgpu::BufferBindingType::Storage { read_only: true };
const WRITE: wgpu::BufferBindingType = wgpu::BufferBindingType::Storage { read_only: false };

/// The parameters of a dispatch, then buffers.
fn step_layout(device: &wgpu::Device, buffers: &[wgpu::BufferBindingType]) -> wgpu::BindGroupLayout {
    let mut entries = vec![binding(0, wgpu::BufferBindingType::Uniform, true)];
    entries.extend(buffers.iter().enumerate().map(|(k, ty)| binding(k + 1, *ty, false)));
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
}

fn bind(
    device: &wgpu::Device,
    layout: &wgpu::BindGroupLayout,
    steps: &wgpu::Buffer,
    buffers: &[&wgpu::Buffer],
) -> wgpu::BindGroup {
    let step = wgpu::BufferBinding { buffer: steps, offset: 0, size: wgpu::BufferSize::new(size_of::<Step>() as u64) };
    let resources = [wgpu::BindingResource::Buffer(step)].into_iter();
    let resources = resources.chain(buffers.iter().map(|buffer| buffer.as_entire_binding()));
    let entries: Vec<_> =
        (0..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
    device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
}

impl BoundKernels {
    /// Compiles the kernels for `n_dim` dimensions and ensembles of `n_networks` networks with such hidden layers, and makes their buffers.
    ///
    /// # Errors
    /// A driver that refuses them, no room.
    pub(crate) fn new(gpu: Arc<Gpu>, n_dim: usize, hidden: &[usize], n_networks: usize) -> Result<Self, KernelError> {
        use wgpu::BufferUsages as Usage;
        let networks = NetworkLayout::new(n_dim + 1, hidden);
        let texts = Texts::compose(n_dim, &networks, n_networks, network_rows(&gpu))?;
        let loop_limit = self_test(&gpu)?.loop_limit;
        let storage = Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST;
        let buffer = |what: &str, bytes: usize, usage| gpu.buffer(what, bytes as u64, usage);
        let steps = buffer("parameters", STEPS_MAX * STEP_BYTES as usize, Usage::UNIFORM | Usage::COPY_DST)?;
        let groups = buffer("draws", 2 * 16 * (ROWS_MAX / GROUP), Usage::STORAGE | Usage::COPY_DST)?;
        let position = 8 * n_dim;
        let x = buffer("positions of a launch", position * ROWS_MAX, storage)?;
        let status = buffer("rows of a launch", 16 * ROWS_MAX, storage)?;
        let n_counters = COUNTERS * MAX_CELLS;
        let counts = buffer("counters", 4 * n_counters, storage)?;
        let list = buffer("a list of rows", 4 * (ROWS_MAX + 1), storage)?;
        let totals = buffer("totals", 4 * (ROWS_MAX / DENSE_GROUP + 1), storage)?;
        let meta = buffer("rows that are left", 16 * ROWS_MAX, storage)?;
        let out = buffer("their positions", position * ROWS_MAX, storage)?;
        let ring = buffer("rows that wait", position * RING, storage)?;
        let upload = buffer("rows of the host", position * ROWS_MAX, Usage::STORAGE | Usage::COPY_DST)?;
        let numbers = buffer("numbers of rows", 4 * RING, Usage::STORAGE | Usage::COPY_DST)?;
        let waiting = buffer("rows that wait for networks", (16 + 4 * networks.stride_in()) * ROWS_MAX, storage)?;
        let waits = buffer("how many wait", 16 * STEPS_MAX, storage | Usage::INDIRECT)?;
        let staging_bytes = 4 * n_counters + 4 + (16 + position) * ROWS_MAX;
        let staging = buffer("rows on the host", staging_bytes, Usage::MAP_READ | Usage::COPY_DST)?;

        let made = gpu.scoped("the kernels of bounds", 0, |device| {
            let scratch_layout = step_layout(device, &[READ, WRITE, WRITE, WRITE, WRITE, WRITE, WRITE]);
            let predict_layout = step_layout(device, &[READ, WRITE, WRITE, READ, READ]);
            let one = wgpu::BindGroupLayoutDescriptor { label: None, entries: &[binding(0, READ, false)] };
            let [bound_layout, weights_layout] = [(); 2].map(|()| device.create_bind_group_layout(&one));
            let rows_layout = step_layout(device, &[WRITE; 7]);
            let gather_layout = step_layout(device, &[READ, READ, WRITE, WRITE]);
            let fetch_layout = step_layout(device, &[READ, WRITE, WRITE, WRITE]);
            let lesson_layout = step_layout(device, &[READ, READ, WRITE]);
            let module = |source: &Source| {
                device.create_shader_module(wgpu::ShaderModuleDescriptor {
                    label: None,
                    source: wgpu::ShaderSource::Wgsl(source.text().into()),
                })
            };
            let pipeline = |module: &wgpu::ShaderModule, layouts: &[Option<&wgpu::BindGroupLayout>], entry: &str| {
                let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                    label: None,
                    bind_group_layouts: layouts,
                    immediate_size: 0,
                });
                device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: Some(entry),
                    layout: Some(&layout),
                    module,
                    entry_point: Some(entry),
                    compilation_options: wgpu::PipelineCompilationOptions::default(),
                    cache: None,
                })
            };
            let bounds = module(&texts.bounds);
            let of_bounds = |entry| pipeline(&bounds, &[Some(&scratch_layout), Some(&bound_layout)], entry);
            let rows = module(&texts.rows);
            let of_rows = |entry| pipeline(&rows, &[Some(&rows_layout)], entry);
            let [predict, gather, fetch, lesson] =
                [&texts.predict, &texts.gather, &texts.fetch, &texts.lesson].map(module);
            let predict_layouts = [Some(&predict_layout), Some(&bound_layout), Some(&weights_layout)];
            let pipelines = Pipelines {
                draw: of_bounds("lp_draw"),
                own: of_bounds("lp_test_own"),
                other: of_bounds("lp_test_other"),
                predict: pipeline(&predict, &predict_layouts, "lp_predict"),
                count: of_rows("lp_count"),
                scan: of_rows("lp_scan"),
                scatter: of_rows("lp_scatter"),
                emit: of_rows("lp_emit"),
                gather: pipeline(&gather, &[Some(&gather_layout)], "lp_gather"),
                fetch: pipeline(&fetch, &[Some(&fetch_layout)], "lp_fetch"),
                lesson: pipeline(&lesson, &[Some(&lesson_layout), Some(&bound_layout)], "lp_lesson"),
                lesson_layout,
                bound_layout,
                weights_layout,
                gather_layout,
            };
            let buffers = [&groups, &x, &status, &counts, &list, &waiting, &waits];
            let scratch_group = bind(device, &scratch_layout, &steps, &buffers);
            let buffers = [&groups, &status, &counts, &waiting, &waits];
            let predict_group = bind(device, &predict_layout, &steps, &buffers);
            let rows_group = bind(device, &rows_layout, &steps, &[&status, &list, &totals, &x, &meta, &out, &ring]);
            let fetch_group = bind(device, &fetch_layout, &steps, &[&upload, &x, &status, &list]);
            (pipelines, [scratch_group, predict_group, rows_group, fetch_group])
        })?;
        let (pipelines, [scratch_group, predict_group, rows_group, fetch_group]) = made;
        let points = gpu.buffer("points", (position * ROWS_FIRST) as u64, storage)?;
        let batch = Batch::new(&gpu, n_dim, ROWS_FIRST)?;
        Ok(Self {
            gpu,
            shape: Shape::new(n_dim),
            networks,
            n_networks,
            pipelines,
            scratch: Scratch {
                steps,
                groups,
                status,
                counts,
                meta,
                out,
                totals,
                staging,
                upload,
                numbers,
                ring,
                waits,
                scratch_group,
                predict_group,
                rows_group,
                fetch_group,
            },
            rows: ROWS_FIRST,
            next_slot: 0,
            kept: 0.5,
            n_counters,
            loop_limit,
            points,
            n_points: 0,
            batch,
            ahead: None,
            done_ahead: None,
        })
    }

    /// Uses every kernel once for nothing, with time for a driver that compiles them only then.
    ///
    /// # Errors
    /// A device that fails.
    pub(crate) fn warm_up(&self, bound: &DeviceBound) -> Result<(), DeviceError> {
        let (p, s) = (&self.pipelines, &self.scratch);
        let step = Step { capacity: ROWS_MAX as u32, ring: RING as u32, ..Step::default() };
        let with_bound =
            |pipeline, group| Dispatch { pipeline, group, bound: Some(bound), size: Size::Groups(1), step };
        let rows = |pipeline| Dispatch { pipeline, group: &s.rows_group, bound: None, size: Size::Groups(1), step };
        let dispatches = [
            Dispatch { pipeline: &p.fetch, group: &s.fetch_group, bound: None, size: Size::Groups(1), step },
            with_bound(&p.draw, &s.scratch_group),
            with_bound(&p.own, &s.scratch_group),
            with_bound(&p.other, &s.scratch_group),
            with_bound(&p.predict, &s.predict_group),
            rows(&p.count),
            rows(&p.scan),
            rows(&p.scatter),
            rows(&p.emit),
        ];
        self.gpu.upload(&s.groups, 0, &[0; 32])?;
        self.gpu.submit_first("the kernels of bounds", self.record(&dispatches, |_| {})?)
    }

    /// The device.
    pub(crate) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Works through another handle of the same device.
    pub(crate) fn set_gpu(&mut self, gpu: Arc<Gpu>) {
        self.gpu = gpu;
    }

    /// The shape of a network.
    pub(crate) fn networks(&self) -> &NetworkLayout {
        &self.networks
    }

    /// Takes a bound to the device, with room for its weights.
    ///
    /// # Errors
    /// No room; a driver that would cut its loops short.
    pub(crate) fn bound(&self, plan: &BoundPlan) -> Result<DeviceBound, DeviceError> {
        use wgpu::BufferUsages as Usage;
        let network = self.networks.n_weights() / 4;
        let iterations = self.shape.iterations(
            plan.members.len(),
            self.n_networks,
            self.networks.iterations(network_rows(&self.gpu)),
        );
        if let Some(limit) = self.loop_limit.filter(|limit| iterations > *limit as usize) {
            return Err(DeviceError::Limit {
                adapter: self.gpu.name(),
                what: "membership in a bound, in iterations of loops,".to_owned(),
                needed: iterations as u64,
                limit: u64::from(limit),
                advice: "it cuts longer ones short in silence: run the sampler on the CPU, with Backend::cpu",
            });
        }
        let text = pack(self.shape, plan, network, self.n_networks);
        let n_ensembles = plan.clusters.iter().filter(|cluster| cluster.emulator.is_some()).count();
        let usage = Usage::STORAGE | Usage::COPY_DST;
        let bytes = 16 * text.len();
        let buffer = self.gpu.buffer("a bound", bytes as u64, usage)?;
        let weights_bytes = (16 * network * self.n_networks * n_ensembles).max(16) as u64;
        let weights = self.gpu.buffer("the weights of a bound", weights_bytes, usage | Usage::COPY_SRC)?;
        self.gpu.upload(&buffer, 0, bytemuck::cast_slice(&text))?;
        let p = &self.pipelines;
        let [group, weights_group] = self.gpu.scoped("a bound", 0, |device| {
            [(&p.bound_layout, &buffer), (&p.weights_layout, &weights)].map(|(layout, buffer)| {
                let entries = [wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }];
                device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
            })
        })?;
        let has_networks = plan.clusters.iter().map(|c| c.emulator.is_some() && self.n_networks > 0).collect();
        let n_members = plan.members.len();
        Ok(DeviceBound { n_members, is_cube: plan.is_cube, has_networks, group, weights_group, text: buffer, weights })
    }

    /// Puts another text of the same length in the place of a bound's, for thresholds that changed.
    ///
    /// # Errors
    /// A device that fails.
    pub(crate) fn rewrite(&self, bound: &DeviceBound, plan: &BoundPlan) -> Result<(), DeviceError> {
        let text = pack(self.shape, plan, self.networks.n_weights() / 4, self.n_networks);
        self.gpu.upload(&bound.text, 0, bytemuck::cast_slice(&text))
    }

    /// Records dispatches as one pass, behind what `before` records.
    fn record(
        &self,
        dispatches: &[Dispatch<'_>],
        before: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> Result<wgpu::CommandEncoder, DeviceError> {
        let n = dispatches.len();
        if n > STEPS_MAX {
            return Err(DeviceError::Limit {
                adapter: self.gpu.name(),
                what: "dispatches of one submission".to_owned(),
                needed: n as u64,
                limit: STEPS_MAX as u64,
                advice: "there are too many bounds for the device: run the sampler on the CPU, with Backend::cpu",
            });
        }
        let mut steps = vec![0u8; n * STEP_BYTES as usize];
        for (room, dispatch) in steps.chunks_exact_mut(STEP_BYTES as usize).zip(dispatches) {
            room[..size_of::<Step>()].copy_from_slice(bytemuck::bytes_of(&dispatch.step));
        }
        self.gpu.upload(&self.scratch.steps, 0, &steps)?;
        let waits = dispatches.iter().filter(|dispatch| matches!(dispatch.size, Size::Waiting(_))).count();
        self.gpu.upload(&self.scratch.waits, 0, bytemuck::cast_slice(&vec![[0u32, 1, 1, 0]; waits.max(1)]))?;
        self.gpu.count_dispatches(n);
        self.gpu.scoped("bounds", 0, |device| {
            let mut commands = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            before(&mut commands);
            {
                let mut pass = commands.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                for (k, dispatch) in dispatches.iter().enumerate() {
                    pass.set_pipeline(dispatch.pipeline);
                    pass.set_bind_group(0, dispatch.group, &[(k as u64 * STEP_BYTES) as u32]);
                    if let Some(bound) = dispatch.bound {
                        pass.set_bind_group(1, &bound.group, &[]);
                        pass.set_bind_group(2, &bound.weights_group, &[]);
                    }
                    match dispatch.size {
                        Size::Groups(n) => pass.dispatch_workgroups(n as u32, 1, 1),
                        Size::Waiting(k) => pass.dispatch_workgroups_indirect(&self.scratch.waits, 16 * u64::from(k)),
                    }
                }
            }
            commands
        })
    }
}
