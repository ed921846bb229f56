//! Bounds on a device: draws from them, and which of them hold a row. Plain numbers go in and come out; what they mean is the business of the room `bound`.

mod plan;
mod texts;

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::evaluate::KernelError;
use super::network::NetworkLayout;
use super::self_test::self_test;
use super::source::Source;
use crate::backend::{DeviceError, DeviceRows, Fetch, Gpu};

pub(crate) use plan::{BoundPlan, ClusterPlan, EllipsoidPlan, EmulatorPlan, from_position, to_position};
use plan::{Shape, pack, words};
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

/// Dispatches of one submission at most.
const STEPS_MAX: usize = 1024;

/// A bound that lies on the device.
pub(crate) struct DeviceBound {
    n_members: usize,
    is_cube: bool,
    group: wgpu::BindGroup,
    text: wgpu::Buffer,
    weights: wgpu::Buffer,
}

/// Where the weights of an ensemble lie on the device.
#[derive(Clone)]
pub(crate) struct Weights {
    pub(super) buffer: wgpu::Buffer,
    pub(super) offset: u64,
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

/// Draws from one bound.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Segment {
    pub bound: usize,
    /// [`NONE`]: from the members by volume.
    pub cell: u32,
    pub key: [u32; 2],
    pub range: Range<u64>,
    /// First of the counters of the bound's cells.
    pub counts: usize,
}

/// What is asked about rows; the numbers are those of the shaders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Among {
    /// Nothing.
    Nothing,
    /// Which later bound holds them: those that one does are dropped.
    Later,
    /// Which earlier bound holds them.
    Earlier,
}

/// What came of segments.
#[derive(Debug, Default)]
pub(crate) struct Launched {
    pub counts: Vec<u32>,
    /// Of each row: segment, cell, bound that holds it and the cell there.
    pub rows: Vec<[u32; 4]>,
    /// Positions `[n, n_dim]`.
    pub positions: Vec<u64>,
    /// Where on the device each lies.
    pub slots: Vec<u64>,
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
    scratch_group: wgpu::BindGroup,
    rows_group: wgpu::BindGroup,
    fetch_group: wgpu::BindGroup,
}

struct Pipelines {
    draw: wgpu::ComputePipeline,
    own: wgpu::ComputePipeline,
    other: wgpu::ComputePipeline,
    count: wgpu::ComputePipeline,
    scan: wgpu::ComputePipeline,
    scatter: wgpu::ComputePipeline,
    emit: wgpu::ComputePipeline,
    gather: wgpu::ComputePipeline,
    fetch: wgpu::ComputePipeline,
    lesson: wgpu::ComputePipeline,
    lesson_layout: wgpu::BindGroupLayout,
    bound_layout: wgpu::BindGroupLayout,
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

/// A launch that is not waited for yet.
struct InFlight {
    fetch: Fetch,
    /// The segment of each workgroup.
    of_group: Vec<usize>,
    n_counts: usize,
    /// Rows that come back with it.
    guess: usize,
    keep_rows: bool,
}

/// What came of segments that were handed over ahead.
struct Ahead {
    segments: Vec<Segment>,
    launched: Launched,
}

/// The workgroups of the next launch, at most `room`, and the segment of each; what is left of the segments stays in `rest` from `first` on.
fn next_groups(rest: &mut [Segment], first: &mut usize, room: usize) -> (Vec<[u32; 4]>, Vec<usize>) {
    let (mut groups, mut of_group) = (Vec::new(), Vec::new());
    while let Some(segment) = rest.get_mut(*first) {
        while segment.range.start < segment.range.end && of_group.len() < room {
            let start = segment.range.start;
            let n = (segment.range.end - start).min(GROUP as u64);
            segment.range.start += n;
            groups.push([segment.key[0], segment.key[1], start as u32, (start >> 32) as u32]);
            groups.push([segment.cell, n as u32, segment.counts as u32, segment.bound as u32]);
            of_group.push(*first);
        }
        if segment.range.start < segment.range.end {
            break;
        }
        *first += 1;
    }
    (groups, of_group)
}

/// Rows that were taken from the ring: as they travel to a likelihood, and as positions.
struct Batch {
    n: usize,
    positions: wgpu::Buffer,
    tails: wgpu::Buffer,
}

/// One dispatch of a submission.
struct Dispatch<'a> {
    pipeline: &'a wgpu::ComputePipeline,
    group: &'a wgpu::BindGroup,
    bound: Option<&'a DeviceBound>,
    n_groups: usize,
    step: Step,
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

impl Batch {
    fn new(gpu: &Gpu, n_dim: usize, rows: usize) -> Result<Self, DeviceError> {
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
    /// Compiles the kernels for `n_dim` dimensions and ensembles of `n_networks` networks with such hidden layers, and makes their buffers.
    ///
    /// # Errors
    /// A driver that refuses them, no room.
    pub(crate) fn new(gpu: Arc<Gpu>, n_dim: usize, hidden: &[usize], n_networks: usize) -> Result<Self, KernelError> {
        use wgpu::BufferUsages as Usage;
        let networks = NetworkLayout::new(n_dim + 1, hidden);
        let texts = Texts::compose(n_dim, &networks, n_networks)?;
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
        let staging_bytes = 4 * n_counters + 4 + (16 + position) * ROWS_MAX;
        let staging = buffer("rows on the host", staging_bytes, Usage::MAP_READ | Usage::COPY_DST)?;

        let made = gpu.scoped("the kernels of bounds", 0, |device| {
            let scratch_layout = step_layout(device, &[READ, WRITE, WRITE, WRITE, WRITE]);
            let bound_entries = [binding(0, READ, false), binding(1, READ, false)];
            let bound_layout = device
                .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &bound_entries });
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
            let [gather, fetch, lesson] = [&texts.gather, &texts.fetch, &texts.lesson].map(module);
            let pipelines = Pipelines {
                draw: of_bounds("lp_draw"),
                own: of_bounds("lp_test_own"),
                other: of_bounds("lp_test_other"),
                count: of_rows("lp_count"),
                scan: of_rows("lp_scan"),
                scatter: of_rows("lp_scatter"),
                emit: of_rows("lp_emit"),
                gather: pipeline(&gather, &[Some(&gather_layout)], "lp_gather"),
                fetch: pipeline(&fetch, &[Some(&fetch_layout)], "lp_fetch"),
                lesson: pipeline(&lesson, &[Some(&lesson_layout), Some(&bound_layout)], "lp_lesson"),
                lesson_layout,
                bound_layout,
                gather_layout,
            };
            let scratch_group = bind(device, &scratch_layout, &steps, &[&groups, &x, &status, &counts, &list]);
            let rows_group = bind(device, &rows_layout, &steps, &[&status, &list, &totals, &x, &meta, &out, &ring]);
            let fetch_group = bind(device, &fetch_layout, &steps, &[&upload, &x, &status, &list]);
            (pipelines, scratch_group, rows_group, fetch_group)
        })?;
        let (pipelines, scratch_group, rows_group, fetch_group) = made;
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
                scratch_group,
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
            |pipeline| Dispatch { pipeline, group: &s.scratch_group, bound: Some(bound), n_groups: 1, step };
        let rows = |pipeline| Dispatch { pipeline, group: &s.rows_group, bound: None, n_groups: 1, step };
        let dispatches = [
            Dispatch { pipeline: &p.fetch, group: &s.fetch_group, bound: None, n_groups: 1, step },
            with_bound(&p.draw),
            with_bound(&p.own),
            with_bound(&p.other),
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
        let dispatch = Dispatch { pipeline, group: &group, bound: None, n_groups: n.div_ceil(GROUP), step };
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
            n_groups: numbers.len().div_ceil(GROUP),
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
    fn n_weights(&self) -> usize {
        self.n_networks * self.networks.n_weights()
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
        let iterations =
            self.shape.iterations(plan.members.len(), plan.clusters.len(), self.n_networks, self.networks.iterations());
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
        let group = self.gpu.scoped("a bound", 0, |device| {
            let entries: Vec<_> = (0..)
                .zip([&buffer, &weights])
                .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
                .collect();
            let layout = &self.pipelines.bound_layout;
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
        })?;
        Ok(DeviceBound { n_members: plan.members.len(), is_cube: plan.is_cube, group, text: buffer, weights })
    }

    /// Puts another text of the same length in the place of a bound's, for thresholds that changed.
    ///
    /// # Errors
    /// A device that fails.
    pub(crate) fn rewrite(&self, bound: &DeviceBound, plan: &BoundPlan) -> Result<(), DeviceError> {
        let text = pack(self.shape, plan, self.networks.n_weights() / 4, self.n_networks);
        self.gpu.upload(&bound.text, 0, bytemuck::cast_slice(&text))
    }

    /// Does what the segments want, in one or several launches; those of one bound stand together. Where it is what [`draw_ahead`](Self::draw_ahead) handed over, it is
    /// done already.
    ///
    /// # Errors
    /// A device that fails.
    pub(crate) fn draw(
        &mut self,
        bounds: &[DeviceBound],
        segments: &[Segment],
        among: Among,
        keep_rows: bool,
    ) -> Result<Launched, DeviceError> {
        if let Some(ahead) = self.take_ahead()?
            && ahead.segments == segments
        {
            return Ok(ahead.launched);
        }
        let mut launched = Launched { counts: vec![0; self.counters_of(bounds, segments)?], ..Launched::default() };
        let mut rest: Vec<Segment> = segments.to_vec();
        let mut first = 0;
        loop {
            let (groups, of_group) = next_groups(&mut rest, &mut first, self.rows / GROUP);
            if of_group.is_empty() {
                return Ok(launched);
            }
            let before = Instant::now();
            let in_flight = self.launch(bounds, &groups, of_group, among, keep_rows, launched.counts.len())?;
            let n = self.collect(in_flight, &mut launched)?;
            self.pace(n, before);
        }
    }

    /// Hands over what [`draw`](Self::draw) will be asked for next, if it fits into one launch, and does not wait.
    ///
    /// # Errors
    /// A device that fails.
    pub(crate) fn draw_ahead(
        &mut self,
        bounds: &[DeviceBound],
        segments: &[Segment],
        among: Among,
    ) -> Result<(), DeviceError> {
        self.forget_ahead();
        let n_counts = self.counters_of(bounds, segments)?;
        let (mut rest, mut first) = (segments.to_vec(), 0);
        let (groups, of_group) = next_groups(&mut rest, &mut first, self.rows / GROUP);
        if first == rest.len() && !of_group.is_empty() {
            let in_flight = self.launch(bounds, &groups, of_group, among, true, n_counts)?;
            self.ahead = Some((segments.to_vec(), in_flight));
        }
        Ok(())
    }

    /// Gives up what was handed over ahead.
    pub(crate) fn forget_ahead(&mut self) {
        self.done_ahead = None;
        if let Some((_, in_flight)) = self.ahead.take() {
            // Its rows lie in the ring all the same.
            self.next_slot += in_flight.of_group.len() as u64 * GROUP as u64;
            self.scratch.staging.unmap();
        }
    }

    fn take_ahead(&mut self) -> Result<Option<Ahead>, DeviceError> {
        let Some((segments, in_flight)) = self.ahead.take() else { return Ok(self.done_ahead.take()) };
        let mut launched = Launched { counts: vec![0; in_flight.n_counts], ..Launched::default() };
        self.collect(in_flight, &mut launched)?;
        Ok(Some(Ahead { segments, launched }))
    }

    fn counters_of(&self, bounds: &[DeviceBound], segments: &[Segment]) -> Result<usize, DeviceError> {
        let n_counts = segments.iter().map(|s| s.counts + COUNTERS * bounds[s.bound].n_members).max().unwrap_or(0);
        if n_counts > self.n_counters {
            return Err(DeviceError::Limit {
                adapter: self.gpu.name(),
                what: "cells of bounds that are drawn from at once".to_owned(),
                needed: (n_counts / COUNTERS) as u64,
                limit: (self.n_counters / COUNTERS) as u64,
                advice: "run the sampler on the CPU, with Backend::cpu",
            });
        }
        Ok(n_counts)
    }

    /// Fits the size of the next launch to the time of one with `n` rows.
    fn pace(&mut self, n: usize, before: Instant) {
        let seconds = before.elapsed().as_secs_f64();
        let possible = (n as f64 * (LAUNCH_S / seconds.max(1e-6)).min(4.0)) as usize;
        // A small launch that was quick says nothing of large ones.
        if n >= self.rows || seconds > LAUNCH_S && possible < self.rows {
            self.rows = possible.next_multiple_of(GROUP).clamp(ROWS_LEAST, ROWS_MAX);
        }
    }

    fn launch(
        &mut self,
        bounds: &[DeviceBound],
        groups: &[[u32; 4]],
        of_group: Vec<usize>,
        among: Among,
        keep_rows: bool,
        n_counts: usize,
    ) -> Result<InFlight, DeviceError> {
        let n = of_group.len() * GROUP;
        let dense = n.div_ceil(DENSE_GROUP);
        let step = Step {
            n: n as u32,
            capacity: ROWS_MAX as u32,
            n_groups: dense as u32,
            slot: (self.next_slot % RING as u64) as u32,
            ring: RING as u32,
            ..Step::default()
        };
        let (p, s) = (&self.pipelines, &self.scratch);
        let mut dispatches = Vec::new();
        let of_bound = |group: usize| groups[2 * group + 1][3] as usize;
        let mut own = Vec::new();
        let mut first = 0;
        while first < of_group.len() {
            let bound = of_bound(first);
            let end = (first..of_group.len()).find(|&k| of_bound(k) != bound).unwrap_or(of_group.len());
            let step = Step { first: first as u32, bound: bound as u32, ..step };
            dispatches.push(Dispatch {
                pipeline: &p.draw,
                group: &s.scratch_group,
                bound: Some(&bounds[bound]),
                n_groups: end - first,
                step,
            });
            own.push(bound);
            first = end;
        }
        own.sort_unstable();
        own.dedup();
        let rows = |pipeline, n_groups, ask| Dispatch {
            pipeline,
            group: &s.rows_group,
            bound: None,
            n_groups,
            step: Step { ask, ..step },
        };
        dispatches.extend([rows(&p.count, dense, 0), rows(&p.scan, 1, 0), rows(&p.scatter, dense, 0)]);
        let test = |pipeline, bound: usize, ask| Dispatch {
            pipeline,
            group: &s.scratch_group,
            bound: Some(&bounds[bound]),
            n_groups: n.div_ceil(GROUP),
            step: Step { bound: bound as u32, ask, ..step },
        };
        dispatches.extend(own.iter().filter(|b| !bounds[**b].is_cube).map(|&b| test(&p.own, b, 0)));
        let (outermost, innermost) = (own.first().copied().unwrap_or(0), own.last().copied().unwrap_or(0));
        match among {
            Among::Nothing => {}
            Among::Later => dispatches.extend((outermost + 1..bounds.len()).rev().map(|b| test(&p.other, b, 1))),
            Among::Earlier => dispatches.extend((0..innermost).rev().map(|b| test(&p.other, b, 2))),
        }
        let stays = if among == Among::Later { 2 } else { 1 };
        if keep_rows {
            dispatches.extend([rows(&p.count, dense, stays), rows(&p.scan, 1, stays), rows(&p.emit, dense, stays)]);
        }

        let position = 8 * self.shape.n_dim;
        // More rows than that are asked for once more.
        let guess = if keep_rows { ((1.2 * self.kept * n as f64) as usize + GROUP).min(n) } else { 0 };
        let (counts_bytes, meta_bytes) = (4 * n_counts + 4, 16 * guess);
        self.gpu.upload(&s.groups, 0, bytemuck::cast_slice(groups))?;
        let mut commands = self.record(&dispatches, |commands| commands.clear_buffer(&s.counts, 0, None))?;
        commands.copy_buffer_to_buffer(&s.counts, 0, &s.staging, 0, 4 * n_counts as u64);
        commands.copy_buffer_to_buffer(&s.totals, 4 * dense as u64, &s.staging, 4 * n_counts as u64, 4);
        if guess > 0 {
            commands.copy_buffer_to_buffer(&s.meta, 0, &s.staging, counts_bytes as u64, meta_bytes as u64);
            let at = (counts_bytes + meta_bytes) as u64;
            commands.copy_buffer_to_buffer(&s.out, 0, &s.staging, at, (position * guess) as u64);
        }
        let bytes = counts_bytes + meta_bytes + position * guess;
        let fetch = self.gpu.begin_fetch("draws from bounds", commands, &s.staging, bytes as u64)?;
        Ok(InFlight { fetch, of_group, n_counts, guess, keep_rows })
    }

    /// Waits for a launch; the number of its rows, those included that no one asked for.
    fn collect(&mut self, in_flight: InFlight, launched: &mut Launched) -> Result<usize, DeviceError> {
        let InFlight { fetch, of_group, n_counts, guess, keep_rows } = in_flight;
        let n = of_group.len() * GROUP;
        let position = 8 * self.shape.n_dim;
        let (counts_bytes, meta_bytes) = (4 * n_counts + 4, 16 * guess);
        let read = self.gpu.end_fetch("draws from bounds", fetch)?;
        let s = &self.scratch;
        let counts: Vec<u32> = bytemuck::pod_collect_to_vec(&read[..counts_bytes]);
        launched.counts.iter_mut().zip(&counts).for_each(|(sum, count)| *sum += count);
        if !keep_rows {
            return Ok(n);
        }
        let n_rows = counts[n_counts] as usize;
        let taken = n_rows.min(guess);
        let mut meta: Vec<[u32; 4]> = bytemuck::pod_collect_to_vec(&read[counts_bytes..counts_bytes + 16 * taken]);
        let at = counts_bytes + meta_bytes;
        let mut positions: Vec<[u32; 2]> = bytemuck::pod_collect_to_vec(&read[at..at + position * taken]);
        if n_rows > taken {
            let more = n_rows - taken;
            let commands = self.gpu.scoped("draws from bounds", 0, |device| {
                let mut commands = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                commands.copy_buffer_to_buffer(&s.meta, 16 * taken as u64, &s.staging, 0, 16 * more as u64);
                let at = 16 * more as u64;
                let (from, size) = ((position * taken) as u64, (position * more) as u64);
                commands.copy_buffer_to_buffer(&s.out, from, &s.staging, at, size);
                commands
            })?;
            let read = self.gpu.fetch("draws from bounds", commands, &s.staging, ((16 + position) * more) as u64)?;
            meta.extend(bytemuck::pod_collect_to_vec::<u8, [u32; 4]>(&read[..16 * more]));
            positions.extend(bytemuck::pod_collect_to_vec::<u8, [u32; 2]>(&read[16 * more..]));
        }
        self.kept = 0.5 * self.kept + 0.5 * n_rows as f64 / n as f64;
        launched.slots.extend(self.next_slot..self.next_slot + n_rows as u64);
        self.next_slot += n_rows as u64;
        let row = |&[cell, holder, holder_cell, group]: &[u32; 4]| {
            [of_group[group as usize] as u32, cell, holder, holder_cell]
        };
        launched.rows.extend(meta.iter().map(row));
        launched.positions.extend(positions.iter().map(|[hi, lo]| u64::from(*hi) << 32 | u64::from(*lo)));
        Ok(n)
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
                    }
                    pass.dispatch_workgroups(dispatch.n_groups as u32, 1, 1);
                }
            }
            commands
        })
    }

    /// Of each of the positions `[n, n_dim]`: the innermost of the bounds of `among` that holds it, and the cell there; [`NONE`] twice where none does.
    ///
    /// # Errors
    /// A device that fails.
    pub(crate) fn locate(
        &mut self,
        bounds: &[DeviceBound],
        among: Range<usize>,
        positions: &[u64],
    ) -> Result<Vec<[u32; 2]>, DeviceError> {
        // What was handed over ahead holds the memory that results come back through.
        if let Some(ahead) = self.take_ahead()? {
            self.done_ahead = Some(ahead);
        }
        let n_dim = self.shape.n_dim;
        let mut found = Vec::with_capacity(positions.len() / n_dim);
        let mut start = 0;
        while start < positions.len() {
            let end = (start + self.rows * n_dim).min(positions.len());
            let n = (end - start) / n_dim;
            let words: Vec<[u32; 2]> = positions[start..end].iter().map(|x| words(*x)).collect();
            self.gpu.upload(&self.scratch.upload, 0, bytemuck::cast_slice(&words))?;
            let (p, s) = (&self.pipelines, &self.scratch);
            let step = Step { n: n as u32, capacity: ROWS_MAX as u32, ..Step::default() };
            let n_groups = n.div_ceil(GROUP);
            let mut dispatches =
                vec![Dispatch { pipeline: &p.fetch, group: &s.fetch_group, bound: None, n_groups, step }];
            dispatches.extend(among.clone().rev().map(|bound| Dispatch {
                pipeline: &p.other,
                group: &s.scratch_group,
                bound: Some(&bounds[bound]),
                n_groups,
                step: Step { bound: bound as u32, ..step },
            }));
            let before = Instant::now();
            let mut commands = self.record(&dispatches, |_| {})?;
            commands.copy_buffer_to_buffer(&s.status, 0, &s.staging, 0, 16 * n as u64);
            let read = self.gpu.fetch("membership in bounds", commands, &s.staging, 16 * n as u64)?;
            let status: Vec<[u32; 4]> = bytemuck::pod_collect_to_vec(&read);
            found.extend(status.iter().map(|s| [s[1], s[2]]));
            start = end;
            self.pace(n, before);
        }
        Ok(found)
    }
}
