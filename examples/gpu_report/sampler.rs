//! What a sampler does beside the likelihood: proposals a second and the training of bounds, on the device and on the CPU.

use std::error::Error;
use std::f64::consts::TAU;
use std::fmt::Write;
use std::ops::{Range, RangeInclusive};
use std::time::Instant;

use livepoint::testing::internals::{Stream, TestAsk, TestNest};
use livepoint::testing::{Problem, problem};
use livepoint::{Backend, GpuOptions};
use ndarray::{Array2, s};
use serde_json::json;

use crate::section::Section;

/// Time spent on each number of proposals.
const SECONDS: f64 = 0.5;

/// Draws asked for at once, from all bounds together: as many as take so long, and what a run asks for at most.
const CALL_S: f64 = 0.1;
const DRAWS: RangeInclusive<u64> = 1 << 13..=1 << 16;

/// Bounds inside the unit cube, each with half the volume of the one before.
pub const N_BOUNDS: usize = 8;

/// Networks of an ensemble: the sampler's default.
pub const N_NETWORKS: usize = 4;

/// Trainings of each kind; the time is the median.
const TRAININGS: usize = 3;

/// Of the ball that holds the points of a training.
const RADIUS: f64 = 0.4;

/// The table of draws and that of trainings.
pub fn section(options: &GpuOptions, n_live: usize) -> Result<Section, Box<dyn Error>> {
    let device = Backend::from(options.clone());
    let mut text = format!(
        "# The sampler's half of a run\n\n## Proposals\n\n\
         Draws from a nest of {N_BOUNDS} bounds with {N_NETWORKS} networks for each cluster, built on every machine from the same points ({n_live} new ones for \
         each bound, which keeps half of their volume): from the innermost bound, and from all bounds and the cube at once, where what a later \
         bound holds is dropped (the shells of the sampling phase). A proposal is a draw that is left; it comes back to the host. Up to {} draws at a time, for {SECONDS} s; kernels, waits \
         and bytes are those of one time.\n\n\
         | problem | draws from | machine | draws/s | kept | proposals/s | against 1 thread | draws at a time | kernels | waits | bytes up | bytes down |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
        DRAWS.end()
    );
    let mut proposals = Vec::new();
    for problem in ["rosen2", "gauss10corr"].into_iter().filter_map(problem) {
        let path = Path::explore(&problem, n_live)?;
        let mut of_one_thread = [f64::NAN; 2];
        for (machine, backend) in
            [("1 CPU thread", Backend::cpu(1)), ("all CPU threads", Backend::cpu(0)), ("device", device.clone())]
        {
            let mut nest = path.nest(&backend)?;
            for (k, (from, bounds, ask)) in [
                ("the innermost bound", N_BOUNDS..N_BOUNDS + 1, TestAsk::Rows),
                ("all shells", 0..N_BOUNDS + 1, TestAsk::Shell),
            ]
            .into_iter()
            .enumerate()
            {
                let Draws { draws_per_s, proposals_per_s, at_a_time, spent, .. } = draws(&mut nest, bounds, ask)?;
                if machine == "1 CPU thread" {
                    of_one_thread[k] = proposals_per_s;
                }
                let ratio = proposals_per_s / of_one_thread[k];
                let [kernels, waits, up, down] = spent;
                writeln!(
                    text,
                    "| {} | {from} | {machine} | {draws_per_s:.2e} | {:.3} | {proposals_per_s:.2e} | {ratio:.2} | {at_a_time} | {kernels:.0} | {waits:.1} | {up:.0} | {down:.0} |",
                    problem.name,
                    proposals_per_s / draws_per_s,
                )?;
                proposals.push(json!({
                    "problem": problem.name, "n_dim": problem.n_dim, "n_bounds": N_BOUNDS + 1, "draws_from": from, "machine": machine,
                    "draws_per_s": draws_per_s, "proposals_per_s": proposals_per_s, "against_one_cpu_thread": ratio,
                    "draws_at_a_time": at_a_time, "dispatches": kernels, "host_waits": waits, "bytes_uploaded": up, "bytes_read_back": down,
                }));
            }
        }
    }
    write!(
        text,
        "\n## Training of a bound\n\n\
         {N_NETWORKS} networks of the default shape on {n_live} live points and {n_live} others in their ellipsoid: from random weights, and from those of the bound before. The training is CPU \
         seconds on the CPU, seconds by the clock on the device; the whole bound, by the clock, has the ellipsoids besides, which the host fits. Medians of {TRAININGS}.\n\n\
         | dimensions | weights | machine | training, s | whole bound, s | against 1 core | kernels | waits | bytes up | bytes down |\n\
         |---|---|---|---|---|---|---|---|---|---|\n"
    )?;
    let mut trainings = Vec::new();
    for n_dim in [2, 10] {
        let mut of_one_core = [f64::NAN; 2];
        for (machine, backend) in [("1 CPU core", Backend::cpu(1)), ("device", device.clone())] {
            for (k, training) in train(&backend, n_dim, n_live)?.into_iter().enumerate() {
                let Training { train_s, bound_s, spent: [kernels, waits, up, down] } = training;
                if machine == "1 CPU core" {
                    of_one_core[k] = train_s;
                }
                let (weights, ratio) = (["random", "those before"][k], of_one_core[k] / train_s);
                writeln!(
                    text,
                    "| {n_dim} | {weights} | {machine} | {train_s:.3} | {bound_s:.3} | {ratio:.2} | {kernels} | {waits} | {up} | {down} |"
                )?;
                trainings.push(json!({
                    "n_dim": n_dim, "n_networks": N_NETWORKS, "n_points": 2 * n_live, "warm_start": k == 1, "machine": machine,
                    "train_s": train_s, "bound_s": bound_s, "against_one_cpu_core": ratio,
                    "dispatches": kernels, "host_waits": waits, "bytes_uploaded": up, "bytes_read_back": down,
                }));
            }
        }
    }
    Ok(Section { markdown: text, json: json!({ "proposals": proposals, "training": trainings }), passed: true })
}

/// The way of an exploration: points, and the bounds that were put around them.
pub struct Path {
    u: Array2<f64>,
    log_l: Vec<f64>,
    levels: Vec<Level>,
}

/// A bound around the points of log L from `threshold` on among the first `n_points`.
struct Level {
    n_points: usize,
    threshold: f64,
    log_volume: f64,
}

impl Path {
    /// Goes up to the peak of a problem on the CPU: `n_live` points from each bound, the next one around the better half of them.
    pub fn explore(problem: &Problem, n_live: usize) -> Result<Self, Box<dyn Error>> {
        let (prior, d) = (problem.prior(), problem.n_dim);
        let mut path = Self { u: Array2::zeros((0, d)), log_l: Vec::new(), levels: Vec::new() };
        let mut nest = TestNest::new(&Backend::cpu(0), d, N_NETWORKS, Vec::new())?;
        for k in 0..N_BOUNDS {
            let (mut rows, mut drawn, mut kept, mut log_volume) = (Vec::new(), 0, 0, 0.0);
            while rows.len() < n_live * d {
                let (next, step) = (drawn + n_live as u64, Stream::new(1).substream(k as u64));
                let more = nest.draw(k, None, step, drawn..next, TestAsk::Rows)?;
                (drawn, kept, log_volume) = (next, kept + more.cells.len(), more.log_volume);
                rows.extend(more.rows);
                if drawn > 1000 * n_live as u64 {
                    return Err(format!("{}: next to no draw from bound {k} is kept", problem.name).into());
                }
            }
            log_volume += (kept as f64 / drawn as f64).ln();
            rows.truncate(n_live * d);
            let u = Array2::from_shape_vec((n_live, d), rows)?;
            let theta = prior.unit_to_theta(u.view())?;
            let log_l: Vec<f64> = theta.rows().into_iter().map(|row| problem.log_l(&row.to_vec())).collect();
            let threshold = median(&log_l);
            nest.learn(u.view(), &log_l)?;
            nest.enclose(threshold, log_volume - 2f64.ln(), Stream::new(2).substream(k as u64))?;
            path.u.append(ndarray::Axis(0), u.view())?;
            path.log_l.extend(log_l);
            path.levels.push(Level { n_points: path.log_l.len(), threshold, log_volume: log_volume - 2f64.ln() });
        }
        Ok(path)
    }

    /// The same bounds, around the same points, on another machine.
    pub fn nest(&self, backend: &Backend) -> Result<TestNest, Box<dyn Error>> {
        let mut nest = TestNest::new(backend, self.u.ncols(), N_NETWORKS, Vec::new())?;
        let mut known = 0;
        for (k, Level { n_points, threshold, log_volume }) in self.levels.iter().enumerate() {
            nest.learn(self.u.slice(s![known..*n_points, ..]), &self.log_l[known..*n_points])?;
            known = *n_points;
            nest.enclose(*threshold, *log_volume, Stream::new(2).substream(k as u64))?;
        }
        Ok(nest)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What came of draws.
pub struct Draws {
    pub draws_per_s: f64,
    pub proposals_per_s: f64,
    /// Of each draw: whether it fell into its cell.
    pub in_cell: f64,
    at_a_time: u64,
    /// Of so many draws: kernels, waits, bytes up, bytes down.
    spent: [f64; 4],
}

/// Draws from some bounds for a while.
pub fn draws(nest: &mut TestNest, bounds: Range<usize>, ask: TestAsk) -> Result<Draws, Box<dyn Error>> {
    let n_bounds = bounds.len() as u64;
    let (mut n, mut first) = (DRAWS.start() / n_bounds, 0);
    let mut draw = |nest: &mut TestNest, n: u64| {
        first += n;
        nest.draw_from_each(bounds.clone(), Stream::new(3), first - n..first, ask)
    };
    // The first time a device learns its pace.
    draw(nest, n)?;
    loop {
        let start = Instant::now();
        draw(nest, n)?;
        if start.elapsed().as_secs_f64() > CALL_S || n == DRAWS.end() / n_bounds {
            break;
        }
        n = (2 * n).min(DRAWS.end() / n_bounds);
    }
    let (before, start) = (nest.traffic(), Instant::now());
    let (mut rounds, mut kept, mut in_cell) = (0u64, 0, 0);
    while rounds < 2 || start.elapsed().as_secs_f64() < SECONDS {
        let drawn = draw(nest, n)?;
        (rounds, kept, in_cell) = (rounds + 1, kept + drawn.cells.len(), in_cell + drawn.counts[1]);
    }
    let (seconds, at_a_time) = (start.elapsed().as_secs_f64(), n * n_bounds);
    let n_draws = (rounds * at_a_time) as f64;
    Ok(Draws {
        draws_per_s: n_draws / seconds,
        proposals_per_s: kept as f64 / seconds,
        in_cell: in_cell as f64 / n_draws,
        at_a_time,
        spent: spent(before, nest.traffic()).map(|total| total as f64 / rounds as f64),
    })
}

/// Rows a second of which a bound is asked whether it holds them, all of them its own.
pub fn membership(nest: &mut TestNest, bound: usize) -> Result<f64, Box<dyn Error>> {
    let own = nest.draw_from_each(bound..bound + 1, Stream::new(6), 0..*DRAWS.end(), TestAsk::Rows)?;
    let n = own.cells.len();
    let ask = |nest: &mut TestNest| nest.locate(&own.rows, bound..bound + 1);
    if ask(nest)?.iter().any(Option::is_none) {
        return Err(format!("bound {bound} does not hold its own draws").into());
    }
    let (mut rounds, start) = (0, Instant::now());
    while rounds < 2 || start.elapsed().as_secs_f64() < SECONDS {
        ask(nest)?;
        rounds += 1;
    }
    Ok((rounds * n) as f64 / start.elapsed().as_secs_f64())
}

/// Kernels, waits, bytes up, bytes down between two looks at [`TestNest::traffic`].
fn spent(before: [u64; 5], after: [u64; 5]) -> [u64; 4] {
    [0, 1, 2, 4].map(|k| after[k] - before[k])
}

/// The training of one bound.
#[derive(Clone, Copy)]
pub struct Training {
    pub train_s: f64,
    bound_s: f64,
    /// Kernels, waits, bytes up, bytes down.
    spent: [u64; 4],
}

/// Bounds around half of `2 n_live` points, with the others among them: from random weights, and from those before.
pub fn train(backend: &Backend, n_dim: usize, n_live: usize) -> Result<[Training; 2], Box<dyn Error>> {
    let (u, log_l) = ball(2 * n_live, n_dim);
    let threshold = median(&log_l);
    let mut nest = TestNest::new(backend, n_dim, N_NETWORKS, Vec::new())?;
    nest.learn(u.view(), &log_l)?;
    let log_volume = log_volume_of_ball(n_dim) - 2f64.ln();
    let mut times = [Vec::new(), Vec::new()];
    // The first time round a device learns its pace.
    for round in 0..=TRAININGS {
        nest.truncate(1);
        for times in &mut times {
            let (before, start) = (nest.traffic(), Instant::now());
            let train_s = nest.enclose(threshold, log_volume, Stream::new(4).substream(round as u64))?;
            let bound_s = start.elapsed().as_secs_f64();
            times.push(Training { train_s, bound_s, spent: spent(before, nest.traffic()) });
        }
    }
    Ok(times.map(|mut times| {
        times.remove(0);
        times.sort_by(|a, b| a.train_s.total_cmp(&b.train_s));
        times[times.len() / 2]
    }))
}

/// Points uniform in a ball about the middle of the cube. Their log L is noise, so that any half of them fills the whole ball.
fn ball(n: usize, n_dim: usize) -> (Array2<f64>, Vec<f64>) {
    let (mut u, mut log_l) = (Array2::zeros((n, n_dim)), Vec::with_capacity(n));
    for (k, mut row) in u.rows_mut().into_iter().enumerate() {
        let mut draw = Stream::new(5).at(k as u64);
        row.iter_mut().for_each(|x| *x = draw.normal());
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        let radius = RADIUS * draw.uniform().powf(1.0 / n_dim as f64);
        row.iter_mut().for_each(|x| *x = 0.5 + radius * *x / norm);
        log_l.push(draw.uniform());
    }
    (u, log_l)
}

/// By the volume of the unit ball two dimensions below, times 2 pi / n.
fn log_volume_of_ball(n_dim: usize) -> f64 {
    let unit: f64 = (2..=n_dim).rev().step_by(2).map(|n| TAU / n as f64).product();
    let unit = if n_dim % 2 == 1 { 2.0 * unit } else { unit };
    unit.ln() + n_dim as f64 * RADIUS.ln()
}
