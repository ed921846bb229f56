//! Launches: draws from bounds, and which bounds hold rows.

use std::ops::Range;
use std::time::Instant;

use super::plan::words;
use super::texts::Step;
use super::{
    BoundKernels, COUNTERS, DENSE_GROUP, DeviceBound, Dispatch, GROUP, LAUNCH_S, RING, ROWS_LEAST, ROWS_MAX, Size,
};
use crate::backend::{DeviceError, Fetch};

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
    /// Which other bound holds them.
    Others,
}

/// What came of segments.
#[derive(Debug, Default)]
pub(crate) struct Launched {
    pub counts: Vec<u32>,
    /// Of each row: segment, cell, bound that holds it ([`NONE`]: none does) and the cell there.
    pub rows: Vec<[u32; 4]>,
    /// Positions `[n, n_dim]`.
    pub positions: Vec<u64>,
    /// Where on the device each lies.
    pub slots: Vec<u64>,
}

/// A launch that is not waited for yet.
pub(super) struct InFlight {
    fetch: Fetch,
    /// The segment of each workgroup.
    pub(super) of_group: Vec<usize>,
    n_counts: usize,
    /// Rows that come back with it.
    guess: usize,
    keep_rows: bool,
}

/// What came of segments that were handed over ahead.
pub(super) struct Ahead {
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

/// What the kernels are told when rows that were drawn from a bound ask that one.
const ASK_OWN: u32 = 3;

/// Dispatches of a launch, and what membership adds to them.
struct Tests<'a> {
    kernels: &'a BoundKernels,
    bounds: &'a [DeviceBound],
    n_groups: usize,
    step: Step,
    n_waits: u32,
    dispatches: Vec<Dispatch<'a>>,
}

impl<'a> Tests<'a> {
    /// Each cluster of a bound: which rows of the list lie in it, then what its networks say of those.
    fn push(&mut self, pipeline: &'a wgpu::ComputePipeline, bound: usize, ask: u32) {
        let on_device = &self.bounds[bound];
        let (p, s) = (&self.kernels.pipelines, &self.kernels.scratch);
        for cluster in 0..on_device.has_networks.len().max(1) {
            let waits = self.n_waits;
            let step = Step { bound: bound as u32, ask, cluster: cluster as u32, waits, ..self.step };
            let dispatch = |pipeline, group, size| Dispatch { pipeline, group, bound: Some(on_device), size, step };
            self.dispatches.push(dispatch(pipeline, &s.scratch_group, Size::Groups(self.n_groups)));
            if on_device.has_networks.get(cluster) == Some(&true) {
                self.dispatches.push(dispatch(&p.predict, &s.predict_group, Size::Waiting(waits)));
                self.n_waits += 1;
            }
        }
    }
}

impl BoundKernels {
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
                size: Size::Groups(end - first),
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
            size: Size::Groups(n_groups),
            step: Step { ask, ..step },
        };
        dispatches.extend([rows(&p.count, dense, 0), rows(&p.scan, 1, 0), rows(&p.scatter, dense, 0)]);
        let mut tests = Tests { kernels: self, bounds, n_groups: n.div_ceil(GROUP), step, n_waits: 0, dispatches };
        own.iter().filter(|b| !bounds[**b].is_cube).for_each(|&b| tests.push(&p.own, b, ASK_OWN));
        let outermost = own.first().copied().unwrap_or(0);
        match among {
            Among::Nothing => {}
            Among::Later => (outermost + 1..bounds.len()).rev().for_each(|b| tests.push(&p.other, b, 1)),
            Among::Others => (0..bounds.len()).rev().for_each(|b| tests.push(&p.other, b, 2)),
        }
        let mut dispatches = tests.dispatches;
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

    /// Of each of the positions `[n, n_dim]`: the innermost of the bounds of `among` that holds it, and the cell there; [`NONE`] for the bound where none does.
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
            let size = Size::Groups(n_groups);
            let dispatches = vec![Dispatch { pipeline: &p.fetch, group: &s.fetch_group, bound: None, size, step }];
            let mut tests = Tests { kernels: self, bounds, n_groups, step, n_waits: 0, dispatches };
            among.clone().rev().for_each(|bound| tests.push(&p.other, bound, 0));
            let dispatches = tests.dispatches;
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
