//! The nest on a device: bounds packed as plain numbers, draws and membership by its kernels.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::nest::{Answer, Ask, CellCounts, Request};
use super::quadratic::Quadratic;
use super::{BoundError, Ellipsoid, NeuralBound, PhaseShift};
use crate::backend::{DeviceError, DeviceRows, Gpu};
use crate::evidence::Fraction;
use crate::kernel::{
    Among, BoundKernels, BoundPlan, COUNTERS, ClusterPlan, DeviceBound, EllipsoidPlan, EmulatorPlan, KernelError,
    MAX_CELLS, NONE, Segment, TrainKernel, TrainOptions, TrainSchedule, Weights, from_position, to_position,
};
use crate::math::log_sum_exp;
use crate::nn::{NetworkError, NetworkOptions, Scaling, Schedule};
use crate::rng::Stream;
use crate::samples::{Place, Samples};

/// By how much the members reach beyond their border on the device at least, as a fraction of their size: what is drawn is kept by the test that all
/// rows are told by, so they must hold all that it accepts.
const REACH: f64 = 1e-4;

/// Bounds on a device, in the order of the nest.
pub(super) struct DeviceNest {
    kernels: BoundKernels,
    /// None where there are no networks to train.
    trainer: Option<TrainKernel>,
    n_networks: usize,
    train_bytes_uploaded: u64,
    n_dim: usize,
    bounds: Vec<DeviceBound>,
    log_v_members: Vec<Vec<f64>>,
}

impl std::fmt::Debug for DeviceNest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceNest").field("n_bounds", &self.bounds.len()).finish_non_exhaustive()
    }
}

/// The networks of a cluster whose weights lie on the device.
#[derive(Debug)]
pub(super) struct DeviceEnsemble {
    pub scaling: Scaling,
    weights: Weights,
    /// That the training took, by the clock.
    pub seconds: f64,
}

/// A cluster with its surface, before it has networks.
fn cluster_alone((ellipsoid, quadratic, shift): (&Ellipsoid, Option<&Quadratic>, &PhaseShift)) -> BoundPlan {
    let surface = quadratic.map(Quadratic::coefficients);
    let emulator = EmulatorPlan { surface, mean: 0.0, deviation: 1.0, thresholds: Vec::new() };
    let cluster = ClusterPlan { ellipsoid: ellipsoid.plan(), emulator: Some(emulator) };
    let shift = shift.boundaries().to_vec();
    BoundPlan { members: Vec::new(), shares: Vec::new(), clusters: vec![cluster], shift, is_cube: false }
}

/// The same options as the kernels have them.
pub(crate) fn train_options(options: &NetworkOptions) -> TrainOptions {
    TrainOptions {
        learning_rate_init: options.learning_rate_init,
        learning_rate: match options.learning_rate {
            Schedule::Constant => TrainSchedule::Constant,
            Schedule::Linear => TrainSchedule::Linear,
            Schedule::Cosine => TrainSchedule::Cosine,
        },
        batch_size: options.batch_size,
        max_iter: options.max_iter,
        max_steps: options.max_steps,
        n_iter_no_change: options.n_iter_no_change,
        tol: options.tol,
        beta_1: options.beta_1,
        beta_2: options.beta_2,
        epsilon: options.epsilon,
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
        let kernels = BoundKernels::new(gpu.clone(), n_dim, if n_networks > 0 { hidden } else { &[] }, n_networks)
            .map_err(|error| device_error(gpu, error))?;
        let cube = kernels.bound(&cube(n_dim))?;
        kernels.warm_up(&cube)?;
        let trainer = (n_networks > 0).then(|| TrainKernel::new(gpu.clone(), kernels.networks(), n_networks));
        let trainer = trainer.transpose().map_err(|error| device_error(gpu, error))?;
        Ok(Self {
            kernels,
            trainer,
            n_networks,
            train_bytes_uploaded: 0,
            n_dim,
            bounds: vec![cube],
            log_v_members: vec![vec![0.0]],
        })
    }

    pub fn gpu(&self) -> &Gpu {
        self.kernels.gpu()
    }

    /// Goes on through another handle of the same device: its time limit and counters are those of the run at hand.
    pub fn go_on_with(&mut self, gpu: &Arc<Gpu>) {
        self.kernels.set_gpu(gpu.clone());
        if let Some(trainer) = &mut self.trainer {
            trainer.set_gpu(gpu.clone());
        }
    }

    fn plan(bound: &NeuralBound) -> (BoundPlan, Vec<f64>) {
        let mut plan = bound.plan();
        let mut log_v = bound.log_v_members();
        for (member, log_v) in plan.members.iter_mut().zip(&mut log_v) {
            let reach = 1.0 + member.uncertainty().max(REACH);
            member.factor.iter_mut().for_each(|f| *f *= reach);
            *log_v += member.k as f64 * reach.ln();
        }
        // A member is drawn as often as its volume asks for, reach included.
        let log_total = log_sum_exp(&log_v);
        let mut sum = 0.0;
        for (share, log_v) in plan.shares.iter_mut().zip(&log_v) {
            sum += (log_v - log_total).exp();
            *share = sum;
        }
        (plan, log_v)
    }

    /// Puts a bound inside all others.
    pub fn push(&mut self, bound: &mut NeuralBound) -> Result<(), DeviceError> {
        let (plan, log_v) = Self::plan(bound);
        let on_device = self.kernels.bound(&plan)?;
        for (k, ensemble) in bound.device_ensembles().enumerate() {
            ensemble.weights = self.kernels.set_weights(&on_device, k, &ensemble.weights)?;
        }
        self.bounds.push(on_device);
        self.log_v_members.push(log_v);
        Ok(())
    }

    /// Trains networks on points of the ledger, `ids` with targets `y`: the ensemble, and what it says of each point, as a mean and by the network that did not see it.
    ///
    /// What goes up is the number of each point and its target, what comes back the predictions.
    #[allow(clippy::type_complexity)]
    pub fn teach(
        &mut self,
        cluster: (&Ellipsoid, Option<&Quadratic>, &PhaseShift),
        y: &[f32],
        ids: &[usize],
        from: Option<&DeviceEnsemble>,
        options: &NetworkOptions,
        stream: Stream,
    ) -> Result<(DeviceEnsemble, Vec<f32>, Vec<f32>), BoundError> {
        let (start, before) = (Instant::now(), self.gpu().traffic().bytes_uploaded);
        let (targets, scaling) = Scaling::of(y);
        let n = self.n_networks;
        // Those that a network does not see stand together.
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|&k| ids[k] % n);
        let folds: Vec<u32> = (0..=n).map(|fold| ids.iter().filter(|id| **id % n < fold).count() as u32).collect();
        let points: Vec<u32> = order.iter().map(|&k| ids[k] as u32).collect();
        let targets: Vec<f32> = order.iter().map(|&k| targets[k]).collect();
        let bound = self.kernels.bound(&cluster_alone(cluster))?;
        let Some(trainer) = &mut self.trainer else {
            return Err(BoundError::Network(NetworkError::Option {
                name: "n_networks",
                value: "0".into(),
                want: "1 or more",
            }));
        };
        let (x, _) = trainer.lesson(points.len())?;
        self.kernels.lesson(&bound, &points, x)?;
        trainer.set_targets(&targets)?;
        let mut from = from.filter(|_| options.max_steps_warm > 0);
        let said = loop {
            match from {
                Some(from) => trainer.start_from(&from.weights)?,
                None => trainer.start_fresh(stream)?,
            }
            let options = if from.is_some() { &options.warm() } else { options };
            trainer.train(points.len(), &folds, &train_options(options), stream)?;
            let said = trainer.predict(points.len())?;
            if said.iter().all(|value| value.is_finite()) {
                break said;
            }
            if from.take().is_none() {
                let network = said.iter().position(|value| !value.is_finite()).map_or(0, |k| k / points.len());
                let learning_rate_init = options.learning_rate_init;
                return Err(BoundError::Network(NetworkError::Diverged { network, learning_rate_init }));
            }
        };
        let weights = self.kernels.keep(trainer.weights())?;
        let value = |said: f32| scaling.mean + scaling.deviation * said;
        let (mut prediction, mut held_out) = (vec![0.0; ids.len()], vec![0.0; ids.len()]);
        for (row, &k) in order.iter().enumerate() {
            let by = |network: usize| said[network * points.len() + row];
            prediction[k] = value((0..n).map(by).sum::<f32>() / n as f32);
            held_out[k] = value(by(ids[k] % n));
        }
        self.train_bytes_uploaded += self.gpu().traffic().bytes_uploaded - before;
        let seconds = start.elapsed().as_secs_f64();
        Ok((DeviceEnsemble { scaling, weights, seconds }, prediction, held_out))
    }

    /// What an ensemble says of `rows` `[n, n_dim]` of the shifted cube.
    pub fn scores(
        &mut self,
        (ellipsoid, quadratic, shift): (&Ellipsoid, Option<&Quadratic>, &PhaseShift),
        rows: &[f64],
        ensemble: &DeviceEnsemble,
    ) -> Result<Vec<f32>, DeviceError> {
        let mut rows = rows.to_vec();
        rows.chunks_exact_mut(self.n_dim).for_each(|row| shift.invert(row));
        let positions: Vec<u64> = rows.iter().map(|x| to_position(*x)).collect();
        let n_rows = rows.len() / self.n_dim;
        let bound = self.kernels.bound(&cluster_alone((ellipsoid, quadratic, shift)))?;
        let Some(trainer) = &mut self.trainer else { return Ok(Vec::new()) };
        let (x, _) = trainer.lesson(n_rows)?;
        self.kernels.lesson_at(&bound, &positions, x)?;
        trainer.start_from(&ensemble.weights)?;
        let said = trainer.predict(n_rows)?;
        let sum = |row: usize| (0..self.n_networks).map(|k| said[k * n_rows + row]).sum::<f32>();
        let Scaling { mean, deviation } = ensemble.scaling;
        Ok((0..n_rows).map(|row| mean + deviation * sum(row) / self.n_networks as f32).collect())
    }

    /// Bytes that went up for trainings so far.
    pub fn train_bytes_uploaded(&self) -> u64 {
        self.train_bytes_uploaded
    }

    /// Brings the thresholds of the innermost bound up to date.
    pub fn rewrite_innermost(&self, bound: &NeuralBound) -> Result<(), DeviceError> {
        self.bounds.last().map_or(Ok(()), |on_device| self.kernels.rewrite(on_device, &Self::plan(bound).0))
    }

    pub fn move_innermost_to(&mut self, at: usize) {
        self.kernels.forget_ahead();
        self.bounds[at..].rotate_right(1);
        self.log_v_members[at..].rotate_right(1);
    }

    pub fn truncate(&mut self, n: usize) {
        self.kernels.forget_ahead();
        self.bounds.truncate(n);
        self.log_v_members.truncate(n);
    }

    pub fn retain(&mut self, keep: &[bool]) {
        self.kernels.forget_ahead();
        let (mut bounds, mut log_v) = (keep.iter(), keep.iter());
        self.bounds.retain(|_| bounds.next().copied().unwrap_or(true));
        self.log_v_members.retain(|_| log_v.next().copied().unwrap_or(true));
    }

    /// Logarithm of the volume that is drawn from for each member of a bound.
    pub fn log_v_members(&self, bound: usize) -> Vec<f64> {
        self.log_v_members[bound].clone()
    }

    /// What the kernels are asked for requests.
    fn segments(&self, requests: &[Request]) -> Vec<Segment> {
        // Requests for single cells of one bound share its counters.
        let (mut segments, mut n_counters) = (Vec::<Segment>::with_capacity(requests.len()), 0);
        for (k, request) in requests.iter().enumerate() {
            let shares = |j: &usize| requests[*j].bound == request.bound && requests[*j].cell.is_some();
            let shared = k.checked_sub(1).filter(shares).filter(|_| request.cell.is_some());
            let counts = shared.map_or(n_counters, |j| segments[j].counts);
            n_counters = n_counters.max(counts + COUNTERS * self.log_v_members[request.bound].len());
            segments.push(Segment {
                bound: request.bound,
                cell: request.cell.map_or(NONE, |cell| cell as u32),
                key: request.stream.key(),
                range: request.range.clone(),
                counts,
            });
        }
        segments
    }

    /// Hands over requests that will be asked for next, without waiting.
    pub fn draw_ahead(&mut self, requests: &[Request], ask: Ask) -> Result<(), DeviceError> {
        let segments = self.segments(requests);
        self.kernels.draw_ahead(&self.bounds, &segments, among(ask))
    }

    pub fn draw(&mut self, requests: &[Request], ask: Ask) -> Result<Vec<Answer>, DeviceError> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut rest = requests;
        while !rest.is_empty() {
            // As many as there are counters for; one bound alone always fits.
            let mut n_cells = 0;
            let fits = |request: &&Request| {
                n_cells += self.log_v_members[request.bound].len();
                request.cell.is_some() || n_cells <= MAX_CELLS
            };
            let (now, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            answers.extend(self.draw_at_once(now, ask)?);
            rest = later;
        }
        Ok(answers)
    }

    fn draw_at_once(&mut self, requests: &[Request], ask: Ask) -> Result<Vec<Answer>, DeviceError> {
        let segments = self.segments(requests);
        let (n_cells, among) = (|request: &Request| self.log_v_members[request.bound].len(), among(ask));
        let keeps_rows = ask.keeps_rows();
        let launched = self.kernels.draw(&self.bounds, &segments, among, keeps_rows)?;
        let mut answers: Vec<Answer> = (requests.iter().zip(&segments))
            .map(|(request, segment)| {
                let cell = |cell: usize| {
                    if request.cell.is_some_and(|of| of != cell) {
                        return CellCounts::default();
                    }
                    let at = segment.counts + COUNTERS * cell;
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

    /// The rows at `slots` as a batch for a likelihood on the device, if they are all still there.
    pub fn gather(&mut self, slots: &[u64]) -> Result<Option<DeviceRows>, DeviceError> {
        self.kernels.gather(slots)
    }

    /// The last `n` points of the ledger are new.
    pub fn append(&mut self, samples: &Samples, n: usize) -> Result<(), DeviceError> {
        let first = self.kernels.n_points();
        if first + n != samples.len() {
            // A device that failed in between may lack some.
            self.kernels.forget_batch();
        }
        self.kernels.append(samples.len() - first, || {
            (first..samples.len()).flat_map(|id| samples.row(id)).map(|x| to_position(*x)).collect()
        })
    }

    /// As [`Nest::locate`](super::Nest::locate).
    pub fn locate(&mut self, rows: &[f64], among: Range<usize>) -> Result<Vec<Option<Place>>, DeviceError> {
        let positions: Vec<u64> = rows.iter().map(|x| to_position(*x)).collect();
        let found = self.kernels.locate(&self.bounds, among, &positions)?;
        Ok(found.into_iter().map(|[bound, cell]| place(bound, cell)).collect())
    }
}

fn among(ask: Ask) -> Among {
    match ask {
        Ask::Counts | Ask::Rows => Among::Nothing,
        Ask::Holder => Among::Others,
        Ask::Shell | Ask::ShellCounts => Among::Later,
    }
}

fn place(bound: u32, cell: u32) -> Option<Place> {
    (bound != NONE).then_some(Place { shell: bound, cell })
}
