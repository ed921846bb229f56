//! The nest on a device: bounds packed as plain numbers, draws and membership by its kernels.

use std::ops::Range;
use std::sync::Arc;

use super::NeuralBound;
use super::nest::{Answer, Ask, CellCounts, Request};
use crate::backend::{DeviceError, Gpu};
use crate::evidence::Fraction;
use crate::kernel::{
    Among, BoundKernels, BoundPlan, COUNTERS, DeviceBound, EllipsoidPlan, KernelError, NONE, Segment, from_position,
    to_position,
};
use crate::samples::Place;

/// By how much the members reach beyond their border on the device at least, as a fraction of their size: what is drawn is kept by the test that all
/// rows are told by, so they must hold all that it accepts.
const REACH: f64 = 1e-4;

/// Bounds on a device, in the order of the nest.
pub(super) struct DeviceNest {
    kernels: BoundKernels,
    n_dim: usize,
    bounds: Vec<DeviceBound>,
    log_v_members: Vec<Vec<f64>>,
}

impl std::fmt::Debug for DeviceNest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceNest").field("n_bounds", &self.bounds.len()).finish_non_exhaustive()
    }
}

fn device_error(gpu: &Gpu, error: KernelError) -> DeviceError {
    match error {
        KernelError::Device(error) => error,
        KernelError::Shader(error) => {
            DeviceError::Driver { adapter: gpu.name(), reason: format!("our kernel is refused: {error}") }
        }
    }
}

/// The unit cube: a bound of one member over no dimension.
fn cube(n_dim: usize) -> BoundPlan {
    let member = EllipsoidPlan {
        dims: (0..n_dim).collect(),
        k: 0,
        centre: Vec::new(),
        half_widths: Vec::new(),
        inverse: Vec::new(),
        factor: Vec::new(),
    };
    BoundPlan { members: vec![member], shares: vec![1.0], clusters: Vec::new(), shift: Vec::new(), is_cube: true }
}

impl DeviceNest {
    /// The unit cube alone.
    pub fn unit_cube(gpu: &Arc<Gpu>, n_dim: usize, hidden: &[usize], n_networks: usize) -> Result<Self, DeviceError> {
        let kernels =
            BoundKernels::new(gpu.clone(), n_dim, hidden, n_networks).map_err(|error| device_error(gpu, error))?;
        let cube = kernels.bound(&cube(n_dim))?;
        kernels.warm_up(&cube)?;
        Ok(Self { kernels, n_dim, bounds: vec![cube], log_v_members: vec![vec![0.0]] })
    }

    pub fn gpu(&self) -> &Gpu {
        self.kernels.gpu()
    }

    fn plan(bound: &NeuralBound) -> (BoundPlan, Vec<f64>) {
        let mut plan = bound.plan();
        let mut log_v = bound.log_v_members();
        for (member, log_v) in plan.members.iter_mut().zip(&mut log_v) {
            let reach = 1.0 + member.uncertainty().max(REACH);
            member.factor.iter_mut().for_each(|f| *f *= reach);
            *log_v += member.k as f64 * reach.ln();
        }
        (plan, log_v)
    }

    /// Puts a bound inside all others.
    pub fn push(&mut self, bound: &NeuralBound) -> Result<(), DeviceError> {
        let (plan, log_v) = Self::plan(bound);
        let on_device = self.kernels.bound(&plan)?;
        self.kernels.upload_weights(&on_device, &bound.weights())?;
        self.bounds.push(on_device);
        self.log_v_members.push(log_v);
        Ok(())
    }

    /// Brings the thresholds of the innermost bound up to date.
    pub fn rewrite_innermost(&self, bound: &NeuralBound) -> Result<(), DeviceError> {
        self.bounds.last().map_or(Ok(()), |on_device| self.kernels.rewrite(on_device, &Self::plan(bound).0))
    }

    pub fn truncate(&mut self, n: usize) {
        self.bounds.truncate(n);
        self.log_v_members.truncate(n);
    }

    pub fn retain(&mut self, keep: &[bool]) {
        let (mut bounds, mut log_v) = (keep.iter(), keep.iter());
        self.bounds.retain(|_| bounds.next().copied().unwrap_or(true));
        self.log_v_members.retain(|_| log_v.next().copied().unwrap_or(true));
    }

    /// Logarithm of the volume that is drawn from for each member of a bound.
    pub fn log_v_members(&self, bound: usize) -> Vec<f64> {
        self.log_v_members[bound].clone()
    }

    pub fn draw(&mut self, requests: &[Request], ask: Ask) -> Result<Vec<Answer>, DeviceError> {
        let n_cells = |request: &Request| self.log_v_members[request.bound].len();
        // Requests for single cells of one bound share its counters.
        let mut blocks: Vec<(usize, bool)> = Vec::with_capacity(requests.len());
        let (mut segments, mut n_counters) = (Vec::<Segment>::with_capacity(requests.len()), 0);
        for (k, request) in requests.iter().enumerate() {
            let shares = |j: &usize| requests[*j].bound == request.bound && requests[*j].cell.is_some();
            let shared = k.checked_sub(1).filter(shares).filter(|_| request.cell.is_some());
            let counts = shared.map_or(n_counters, |j| segments[j].counts);
            n_counters = n_counters.max(counts + COUNTERS * n_cells(request));
            blocks.push((counts, request.cell.is_some()));
            segments.push(Segment {
                bound: request.bound,
                cell: request.cell.map_or(NONE, |cell| cell as u32),
                key: request.stream.key(),
                range: request.range.clone(),
                counts,
            });
        }
        let (among, keeps_rows) = match ask {
            Ask::Counts => (Among::Nothing, false),
            Ask::Rows => (Among::Nothing, true),
            Ask::Holder => (Among::Earlier, true),
            Ask::Shell => (Among::Later, true),
            Ask::ShellCounts => (Among::Later, false),
        };
        let launched = self.kernels.draw(&self.bounds, &segments, among, keeps_rows)?;
        let mut answers: Vec<Answer> = (requests.iter().zip(&blocks))
            .map(|(request, &(first, one_cell))| {
                let cell = |cell: usize| {
                    if one_cell && request.cell != Some(cell) {
                        return CellCounts::default();
                    }
                    let at = first + COUNTERS * cell;
                    let [drawn, kept, accepted, held] =
                        [0, 1, 2, 3].map(|k| launched.counts.get(at + k).copied().map_or(0, u64::from));
                    let shell = |accepted| match among {
                        Among::Later => Fraction { drawn: accepted, kept: accepted - held },
                        _ => Fraction::default(),
                    };
                    if request.bound == 0 {
                        // The volume of the cube is known: nothing is counted of it.
                        return CellCounts { shell: shell(kept), ..CellCounts::default() };
                    }
                    CellCounts {
                        union: Fraction { drawn, kept },
                        network: Fraction { drawn: kept, kept: accepted },
                        shell: shell(accepted),
                    }
                };
                Answer { counts: (0..n_cells(request)).map(cell).collect(), ..Answer::default() }
            })
            .collect();
        let rows = launched.rows.iter().zip(launched.positions.chunks_exact(self.n_dim)).zip(&launched.slots);
        for ((&[segment, cell, holder, holder_cell], position), &slot) in rows {
            let answer = &mut answers[segment as usize];
            answer.rows.extend(position.iter().map(|x| from_position(*x)));
            answer.cells.push(cell);
            answer.slots.push(slot);
            if ask == Ask::Holder {
                answer.holders.push(place(holder, holder_cell));
            }
        }
        Ok(answers)
    }

    /// As [`Nest::locate`](super::Nest::locate).
    pub fn locate(&mut self, rows: &[f64], among: Range<usize>) -> Result<Vec<Option<Place>>, DeviceError> {
        let positions: Vec<u64> = rows.iter().map(|x| to_position(*x)).collect();
        let found = self.kernels.locate(&self.bounds, among, &positions)?;
        Ok(found.into_iter().map(|[bound, cell]| place(bound, cell)).collect())
    }
}

fn place(bound: u32, cell: u32) -> Option<Place> {
    (bound != NONE).then_some(Place { shell: bound, cell })
}
