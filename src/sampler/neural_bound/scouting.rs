//! Scouts: steps from points of the posterior across the borders of the bounds, to find what some bound cut off.
//!
//! What was cut off may lie in a shell so large that the sampling phase never meets it. Where it hangs together with what is enclosed, a step over
//! the border leads into it: where bounds follow the likelihood such steps end far below the posterior, where they cut it they do not.
//! Steps that end inside need no likelihood, so that a border is patrolled with next to no calls.

use std::collections::VecDeque;

use ndarray::Array2;

use super::exploration::Exploration;
use super::{Pending, Stage, State};
use crate::backend::CpuPool;
use crate::math::log_sum_exp;
use crate::rng::{Draw, Stream};
use crate::samples::Place;

/// Share of the evidence that may lie below the level above which all should be enclosed.
const SHARE_BELOW: f64 = 0.01;

/// A single point counts for no more than this share when the level is chosen.
const SHARE_MOST: f64 = 0.01;

/// All above it should lie in shells of bounds no larger than its own volume times `e` to this. Where bounds follow the likelihood none lies farther out: of
/// 12,000 fresh points on each of six problems none missed even 1.
const DEPTH: f64 = 2.0;

/// Steps of the patrol from each point of the posterior; they are shorter than the distance of neighbours by up to a factor.
const N_STEPS: usize = 20;
const SCALE_LEAST: f64 = 0.01;

/// Calls of the patrol at most, as a fraction of `n_live`.
const PATROL_CALLS: f64 = 0.25;

/// Scouts that walk on from what was found, and steps of each.
const N_SCOUTS: usize = 100;
const N_ROUNDS: usize = 40;

/// Part of the scouts' calls that should stay above the level; else the next steps are shorter or longer by a factor.
const ACCEPTED: std::ops::Range<f64> = 0.15..0.35;
const SCALE_FACTOR: f64 = 1.5;

/// Exploration opens again when more of the posterior than this lies outside, in units of the error of log Z aimed at.
const LOST_SHARE: f64 = 0.1;

/// Times that exploration opens again at most.
const N_REOPENED_MAX: usize = 20;

/// The stream of scouts, beside those that train; beside those of its rounds, the one that tells what is lost.
const SCOUT_STREAM: u64 = 1 << 32;
const LOST_STREAM: u64 = 1 << 32;

/// What the bounds should enclose, and which of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cover {
    /// Points with log L at or above it.
    level: f64,
    /// They should lie in shells of bounds whose volume, as a logarithm, is at most this.
    log_v_most: f64,
}

#[derive(Debug)]
pub(super) struct Scouting {
    cover: Cover,
    f_live: f64,
    /// The bounds were frozen already: the sampling phase met what was left out.
    frozen: bool,
    stream: Stream,
    /// Points of the posterior, by id.
    posterior: Vec<usize>,
    /// Points above the level that lie outside.
    found: Vec<usize>,
    /// Part of the posterior that is outside, as far as it is known.
    lost: f64,
    /// Rows that wait for their log L, with the scout that would go there.
    queue: VecDeque<(usize, Vec<f64>)>,
    /// How many of the rows were queued in this round and turned out to be above the level.
    n_queued: usize,
    n_accepted: usize,
    /// The patrol is round 0.
    n_rounds: usize,
    /// Part of the patrol's steps that went out and stayed above the level; what each point found by it counts for.
    out: f64,
    weight: f64,
    /// The point where each scout stands.
    scouts: Vec<usize>,
    /// Length of the scouts' steps, in units of the distance of neighbours.
    scale: f64,
}

/// A step that ends in the cube.
#[derive(Debug, Clone)]
struct Step {
    scout: usize,
    /// Whether the bounds hold its end.
    inside: bool,
    end: Vec<f64>,
}

impl Scouting {
    pub(super) fn f_live(&self) -> f64 {
        self.f_live
    }
}

impl State {
    /// What the bounds should hold by the word of the exploration, and points of the posterior; none where nothing smaller than the cube does.
    fn cover(&self) -> Option<(Cover, Vec<usize>)> {
        let log_l = self.samples.log_l();
        let log_weight = self.log_weights(true);
        let mut ids: Vec<usize> = (0..log_l.len()).filter(|&id| log_weight[id] > f64::NEG_INFINITY).collect();
        ids.sort_by(|&a, &b| log_l[a].total_cmp(&log_l[b]));
        let log_z = log_sum_exp(&log_weight);
        let weight: Vec<f64> = ids.iter().map(|&id| (log_weight[id] - log_z).exp().min(SHARE_MOST)).collect();
        let total: f64 = weight.iter().sum();
        let mut below = 0.0;
        let n_below = weight.iter().take_while(|w| {
            below += **w;
            below < SHARE_BELOW * total
        });
        let n_below = n_below.count();
        let level = log_l[*ids.get(n_below)?];
        let log_volume: Vec<f64> = ids[n_below..].iter().map(|&id| log_weight[id] - log_l[id]).collect();
        let log_v_most = log_sum_exp(&log_volume) + DEPTH;
        if log_v_most >= 0.0 {
            return None;
        }
        let shares = ids.iter().zip(&weight).map(|(id, w)| (*id, w / total));
        let posterior = systematic(shares, self.options.n_live);
        (!posterior.is_empty()).then_some((Cover { level, log_v_most }, posterior))
    }

    /// Points that `cover` should hold and does not, and the part of the evidence that they carry.
    pub(super) fn left_out(&self, cover: &Cover, keep_exploration: bool) -> (Vec<usize>, f64) {
        let log_weight = self.log_weights(keep_exploration);
        let log_z = log_sum_exp(&log_weight);
        let log_v = self.shells.log_bounds();
        let is_left_out = |id: &usize| {
            let is_outside = |shell: usize| log_v[shell] > cover.log_v_most;
            self.samples.log_l()[*id] >= cover.level && self.samples.shell(*id).is_some_and(is_outside)
        };
        let ids: Vec<usize> = (0..self.samples.len()).filter(is_left_out).collect();
        let share = ids.iter().map(|&id| (log_weight[id] - log_z).exp()).sum();
        (ids, share)
    }

    /// Whether exploration may open again.
    pub(super) fn may_reopen(&self) -> bool {
        self.n_reopened < N_REOPENED_MAX
    }

    /// Sends scouts out at the end of the exploration; freezes the bounds where there is no border to patrol.
    pub(super) fn patrol(&mut self, pool: &CpuPool) {
        match self.cover().filter(|_| self.may_reopen()) {
            None => self.freeze(None, pool),
            Some((cover, posterior)) => {
                let (found, lost) = self.left_out(&cover, true);
                self.stage = Stage::Scouting(self.scouting(cover, posterior, found, lost));
            }
        }
    }

    /// Sends scouts out from points that the sampling phase met.
    pub(super) fn scout_from(&mut self, found: Vec<usize>, cover: Option<Cover>) {
        let now = self.cover();
        let nothing = Cover { level: f64::NEG_INFINITY, log_v_most: 0.0 };
        let cover = cover.or(now.as_ref().map(|(cover, _)| *cover)).unwrap_or(nothing);
        let posterior = now.map_or_else(|| found.clone(), |(_, posterior)| posterior);
        let scouting = self.scouting(cover, posterior, found, f64::INFINITY);
        self.stage = Stage::Scouting(Scouting { frozen: true, n_rounds: 1, ..scouting });
    }

    fn scouting(&self, cover: Cover, posterior: Vec<usize>, found: Vec<usize>, lost: f64) -> Scouting {
        Scouting {
            cover,
            f_live: self.f_live(),
            frozen: false,
            stream: self.shells.training_stream().substream(SCOUT_STREAM + self.n_reopened as u64),
            posterior,
            found,
            lost,
            queue: VecDeque::new(),
            n_queued: 0,
            n_accepted: 0,
            n_rounds: 0,
            out: 0.0,
            weight: 0.0,
            scouts: Vec::new(),
            scale: 1.0,
        }
    }

    /// Makes the next batch of scouts; false when they are all back.
    pub(super) fn scout(&mut self, pool: &CpuPool, max_points: usize) -> bool {
        loop {
            let Stage::Scouting(scouting) = &self.stage else { return false };
            if !scouting.queue.is_empty() {
                let rows = scouting.queue.iter().take(max_points).flat_map(|(_, row)| row).copied();
                let rows: Vec<f64> = rows.collect();
                let n = rows.len() / self.space.n_dim;
                let u = Array2::from_shape_vec((n, self.space.n_dim), rows).unwrap_or_default();
                self.pending = Some(Pending { u, place: vec![Place { shell: 0, cell: 0 }; n] });
                return true;
            }
            let round = scouting.n_rounds;
            let scouts = match round {
                0 => scouting.posterior.clone(),
                // The last ones found first: they are the farthest.
                1 => scouting
                    .found
                    .iter()
                    .rev()
                    .cycle()
                    .take(N_SCOUTS.min(N_SCOUTS * scouting.found.len()))
                    .copied()
                    .collect(),
                _ => scouting.scouts.clone(),
            };
            if scouts.is_empty() || round > N_ROUNDS {
                return false;
            }
            let scale = match scouting.n_accepted as f64 / scouting.n_queued as f64 {
                accepted if round > 1 && accepted < ACCEPTED.start => scouting.scale / SCALE_FACTOR,
                accepted if round > 1 && accepted > ACCEPTED.end => scouting.scale * SCALE_FACTOR,
                _ => scouting.scale,
            };
            let stream = scouting.stream.substream(round as u64);
            let steps = match round {
                0 => self.steps(scouting, &scouts, N_STEPS, None, &stream, pool),
                _ => self.steps(scouting, &scouts, 1, Some(scale), &stream, pool),
            };
            let mut queue: Vec<_> = steps.into_iter().filter(|s| !s.inside).map(|s| (s.scout, s.end)).collect();
            let mut weight = 0.0;
            if round == 0 {
                let n = (PATROL_CALLS * self.options.n_live as f64) as usize;
                weight = (queue.len() as f64 / n as f64).max(1.0) / (N_STEPS * scouts.len()) as f64;
                stream.substream(1).at(0).shuffle(&mut queue);
                queue.truncate(n);
            }
            let Stage::Scouting(scouting) = &mut self.stage else { return false };
            (scouting.scouts, scouting.scale, scouting.n_rounds, scouting.weight) = (scouts, scale, round + 1, weight);
            (scouting.n_queued, scouting.n_accepted) = (queue.len(), 0);
            scouting.queue = queue.into();
        }
    }

    /// Part of the posterior that lies outside, as patrol and scouts tell: as much comes back as goes out.
    fn lost(&self, scouting: &Scouting, pool: &CpuPool) -> f64 {
        if scouting.out == 0.0 || scouting.scouts.is_empty() {
            return 0.0;
        }
        let n_steps = (scouting.posterior.len() * N_STEPS).div_ceil(scouting.scouts.len());
        let stream = scouting.stream.substream(LOST_STREAM);
        let steps = self.steps(scouting, &scouting.scouts, n_steps, None, &stream, pool);
        let n_back = 1 + steps.iter().filter(|step| step.inside).count();
        scouting.out * (n_steps * scouting.scouts.len()) as f64 / n_back as f64
    }

    /// `n_steps` from each of the points `from`, with the covariance of its neighbours and of length `scale` (none: a random one), as in the
    /// walk move of Goodman & Weare (2010).
    ///
    /// Cost: one distance for each pair of `from` and known points, and membership for each step.
    fn steps(
        &self,
        scouting: &Scouting,
        from: &[usize],
        n_steps: usize,
        scale: Option<f64>,
        stream: &Stream,
        pool: &CpuPool,
    ) -> Vec<Step> {
        const CHUNK: usize = 64;
        let n_dim = self.space.n_dim;
        let known: Vec<usize> = scouting.posterior.iter().chain(&scouting.found).copied().collect();
        let n_neighbours = (2 * n_dim + 2).min(known.len());
        let is_periodic = |k: usize| self.space.periodic.contains(&k);
        let delta = |id: usize, at: usize| {
            let pairs = self.samples.row(id).iter().zip(self.samples.row(at)).map(|(y, x)| y - x).enumerate();
            pairs.map(|(k, delta)| if is_periodic(k) { delta - delta.round() } else { delta })
        };
        let mut unit = vec![f64::MIN_POSITIVE; n_dim];
        for &id in &scouting.posterior {
            unit.iter_mut().zip(delta(id, scouting.posterior[0])).for_each(|(sum, delta)| *sum += delta * delta);
        }
        let steps_from = |index: usize| {
            let distance: Vec<f64> =
                known.iter().map(|&id| delta(id, from[index]).zip(&unit).map(|(d, unit)| d * d / unit).sum()).collect();
            let mut order: Vec<usize> = (0..known.len()).collect();
            let by_distance = |a: &usize, b: &usize| distance[*a].total_cmp(&distance[*b]).then(a.cmp(b));
            order.select_nth_unstable_by(n_neighbours - 1, by_distance);
            let mut nearby: Vec<f64> =
                order[..n_neighbours].iter().flat_map(|&k| delta(known[k], from[index])).collect();
            for k in 0..n_dim {
                let mean = nearby.iter().skip(k).step_by(n_dim).sum::<f64>() / n_neighbours as f64;
                nearby.iter_mut().skip(k).step_by(n_dim).for_each(|y| *y -= mean);
            }
            let end = |step: usize| {
                let mut draw = stream.at((index * n_steps + step) as u64);
                let mut end = walk(self.samples.row(from[index]), &nearby, scale, &mut draw);
                end.iter_mut().enumerate().filter(|(k, _)| is_periodic(*k)).for_each(|(_, x)| *x = x.rem_euclid(1.0));
                end
            };
            let ends = (0..n_steps).map(end).filter(|end| end.iter().all(|x| (0.0..1.0).contains(x)));
            ends.map(|end| Step { scout: index, inside: false, end }).collect::<Vec<_>>()
        };
        let chunks = pool.map_chunks(from.len(), CHUNK, |range| {
            let mut steps: Vec<Step> = range.flat_map(steps_from).collect();
            let rows: Vec<f64> = steps.iter().flat_map(|step| &step.end).copied().collect();
            let inside = self.shells.are_deep(&rows, scouting.cover.log_v_most);
            steps.iter_mut().zip(inside).for_each(|(step, inside)| step.inside = inside);
            steps
        });
        chunks.concat()
    }

    /// Looks at what the scouts met, the last `n_new` points.
    pub(super) fn learn_from_scouts(&mut self, n_new: usize) {
        let n = self.samples.len();
        let Stage::Scouting(scouting) = &mut self.stage else { return };
        for (id, (scout, _)) in (n - n_new..n).zip(scouting.queue.drain(..n_new)) {
            // Where it lies was chosen: it says nothing of volumes.
            self.samples.set_place(id, None);
            if self.samples.log_l()[id] >= scouting.cover.level {
                scouting.found.push(id);
                scouting.n_accepted += 1;
                scouting.out += scouting.weight;
                if scouting.n_rounds > 1 {
                    scouting.scouts[scout] = id;
                }
            }
        }
    }

    /// Opens exploration again around what was found; freezes the bounds where that was nothing of weight.
    pub(super) fn end_scouting(&mut self, pool: &CpuPool) {
        let Stage::Scouting(scouting) = &self.stage else { return };
        let cover = scouting.cover;
        let lost = scouting.lost.max(self.lost(scouting, pool));
        if scouting.found.is_empty() || lost < LOST_SHARE / self.options.targets.n_eff.sqrt() {
            return self.freeze(Some(cover), pool);
        }
        let (found, frozen) = (scouting.found.clone(), scouting.frozen);
        self.guides.extend(found);
        self.n_reopened += 1;
        if !self.may_reopen() {
            self.warnings.push(format!(
                "exploration was opened again {N_REOPENED_MAX} times and peaks are still met by chance: log Z may be too low; raise n_live"
            ));
        }
        if frozen {
            self.shells.reopen(&self.samples);
            self.samples.reopen();
        }
        self.stage = Stage::Exploration(Exploration::reopened(&self.options, cover.level));
    }
}

/// About `n` of the items, each in proportion to its share.
pub(super) fn systematic<T>(shares: impl Iterator<Item = (T, f64)>, n: usize) -> Vec<T> {
    let mut sum = 0.0;
    let chosen = shares.filter(|(_, share)| {
        let before = sum;
        sum += share * n as f64;
        f64::floor(sum) > f64::floor(before)
    });
    chosen.map(|(item, _)| item).collect()
}

/// A step from `at` `[n_dim]` with the covariance of `nearby` `[n, n_dim]`, whose mean is 0, times `scale` squared.
fn walk(at: &[f64], nearby: &[f64], scale: Option<f64>, draw: &mut Draw) -> Vec<f64> {
    let scale = scale.unwrap_or_else(|| SCALE_LEAST.powf(draw.uniform()));
    let scale = scale / (nearby.len() as f64 / at.len() as f64).sqrt();
    let mut end = at.to_vec();
    for y in nearby.chunks_exact(at.len()) {
        let factor = scale * draw.normal();
        end.iter_mut().zip(y).for_each(|(x, y)| *x += factor * y);
    }
    end
}
