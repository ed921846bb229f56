//! Scouts: steps from points of the posterior across the borders of the bounds, to find what some bound cut off.
//!
//! What was cut off may lie in a shell so large that the sampling phase never meets it. Where it hangs together with what is enclosed, a step over
//! the border leads into it: where bounds follow the likelihood such steps end far below the posterior, where they cut it they do not.
//! Steps that end inside need no likelihood, so that a border is patrolled with next to no calls.

use std::collections::VecDeque;

use ndarray::Array2;

use super::exploration::{Exploration, Region};
use super::{Pending, SamplerError, Stage, State};
use crate::backend::CpuPool;
use crate::math::log_sum_exp;
use crate::rng::{Draw, Stream};
use crate::samples::Place;

/// The lowest level that is patrolled has this share of the evidence below it. It holds the posterior together.
const SHARE_BELOW: f64 = 0.01;

/// Higher ones follow at every so many factors e of volume, while this share of the evidence lies above. They see what was cut of a peak that stands on a broad foot, where the
/// foot's bounds hold all.
const LEVEL_STEP: f64 = 3.0;
const SHARE_ABOVE: f64 = 0.05;
const N_LEVELS_MAX: usize = 100;

/// What lies above a level should lie in bounds larger than its volume by no more than `e` to this, at the lowest level and at the higher ones. Where bounds
/// follow the likelihood, none of 12,000 fresh points on each of six problems missed even 1.
const DEPTH: f64 = 2.0;
const DEPTH_HIGHER: f64 = 4.0;

/// A single point counts for no more than this share when a level is chosen.
const SHARE_MOST: f64 = 0.01;

/// Steps of the patrol from each point of the posterior; they are shorter than the distance of neighbours by up to a factor.
const N_STEPS: usize = 20;
const SCALE_LEAST: f64 = 0.01;

/// Calls of a patrol at most, as a fraction of `n_live`, at the lowest level and at the higher ones.
const PATROL_CALLS: f64 = 0.2;
const PATROL_CALLS_HIGHER: f64 = 0.05;

/// Points of the posterior that the patrol starts from; at the lowest level, where a thin end is to be found, one for so many calls where that is more.
const N_POSTERIOR: usize = 2000;
const CALLS_PER_START: usize = 40;

/// Scouts that walk on from what was found, for each 1000 live points, and steps of each.
const N_SCOUTS: usize = 50;
const N_ROUNDS: usize = 40;

/// Part of the scouts' calls that should stay above the level; else the next steps are shorter or longer by a factor.
const ACCEPTED: std::ops::Range<f64> = 0.15..0.35;
const SCALE_FACTOR: f64 = 1.5;

/// Exploration opens again when more of the posterior than this lies outside, in units of the error of log Z aimed at; what a patrol cannot see
/// is nothing to aim at. When it may not, the run is warned of more than that.
const LOST_SHARE: f64 = 0.03;
const LOST_SHARE_WARNED: f64 = 0.1;
const N_EFF_MOST: f64 = 1e5;

/// What was left out is taken to have the same part of the volume above a level as it has of the evidence, but no less than this.
const VOLUME_LEAST: f64 = 1e-3;

/// Times that exploration opens again at most.
const N_REOPENED_MAX: usize = 20;

/// The stream of scouts, beside those that train; beside those of its rounds, the one that tells what is lost.
const SCOUT_STREAM: u64 = 1 << 32;
const LOST_STREAM: u64 = 1 << 32;

/// What the bounds should enclose, and which of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cover {
    /// Points with log L at or above it.
    pub(super) level: f64,
    /// Logarithm of the volume where they are.
    pub(super) log_v: f64,
    /// They should lie in shells of bounds whose volume, as a logarithm, is at most this.
    pub(super) log_v_most: f64,
}

#[derive(Debug)]
pub(super) struct Scouting {
    cover: Cover,
    /// Of the ladder of levels that are patrolled, and what holds those above the lowest.
    rung: usize,
    bulk: Option<Cover>,
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
    /// Points of the posterior by the word of the exploration, and what should hold those above the level of a rung, counted from the lowest; none where there are no more rungs.
    fn posterior(&self, rung: usize) -> (Vec<usize>, Option<Cover>) {
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
        let mut first = n_below.count();
        let log_volume: Vec<f64> = ids.iter().map(|&id| log_weight[id] - log_l[id]).collect();
        let lowest = log_sum_exp(&log_volume[first.min(ids.len())..]);
        if rung > 0 {
            let most = (-LEVEL_STEP * rung as f64).exp();
            let mut above = 0.0;
            let n_above = log_volume.iter().rev().take_while(|v| {
                above += (**v - lowest).exp();
                above <= most
            });
            first = ids.len() - n_above.count();
        }
        let n_posterior = if rung == 0 { N_POSTERIOR.max(log_l.len() / CALLS_PER_START) } else { N_POSTERIOR };
        // Part of a plateau is no level: what lies strictly above it is.
        if first > 0 && ids.get(first).is_some_and(|id| log_l[*id] == log_l[ids[first - 1]]) {
            let plateau = log_l[ids[first]];
            first = (first..ids.len()).find(|&k| log_l[ids[k]] > plateau).unwrap_or(ids.len());
        }
        let posterior = systematic(ids.iter().zip(&weight).map(|(id, w)| (*id, w * n_posterior as f64 / total)));
        let share_above = weight[first.min(ids.len())..].iter().sum::<f64>() / total;
        let level = ids.get(first).filter(|_| share_above >= SHARE_ABOVE && rung < N_LEVELS_MAX).map(|id| log_l[*id]);
        let cover = level.map(|level| {
            let log_v = log_sum_exp(&log_volume[first..]);
            if rung > 0 {
                return Cover { level, log_v, log_v_most: log_v + DEPTH_HIGHER };
            }
            // Ellipsoids alone may be larger: what the bound for this level holds is inside.
            let of_level = self.shells.deepest(level);
            Cover { level, log_v, log_v_most: self.shells.log_bounds()[of_level].max(log_v + DEPTH) }
        });
        (posterior, cover)
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

    /// Part of the posterior that may lie outside.
    pub(super) fn lost_most(&self) -> f64 {
        LOST_SHARE / self.options.targets.n_eff.min(N_EFF_MOST).sqrt()
    }

    /// A run is warned when more of the posterior than this may be wrong.
    pub(super) fn lost_warned(&self) -> f64 {
        self.lost_most() * LOST_SHARE_WARNED / LOST_SHARE
    }

    /// What was left out could not be enclosed.
    pub(super) fn give_up_region(&mut self, share: f64) {
        self.n_rungs_patrolled += 1;
        if share >= self.lost_warned() {
            self.warnings.push(
                "part of the posterior lies outside of the bounds and no bound could be put around it: log Z may be too low; raise n_live"
                    .into(),
            );
        }
    }

    /// Whether exploration may open again.
    pub(super) fn may_reopen(&self) -> bool {
        self.n_reopened < N_REOPENED_MAX
    }

    /// What the innermost of the bounds that are about everything should hold.
    pub(super) fn top(&self) -> Cover {
        let innermost = self.shells.deepest(f64::INFINITY);
        let log_v = self.shells.log_bounds()[innermost];
        Cover { level: self.shells.threshold(innermost), log_v, log_v_most: log_v + DEPTH }
    }

    /// Sends scouts out at the end of the exploration: from points that the innermost bound left out, else across the borders around the posterior.
    pub(super) fn patrol(&mut self, pool: &CpuPool) -> Result<(), SamplerError> {
        let (posterior, bulk) = self.posterior(0);
        if posterior.is_empty() || !self.may_reopen() {
            return self.freeze(bulk, pool);
        }
        let top = self.top();
        let (found, share) = self.left_out(&top, true);
        if found.is_empty() || share < self.lost_most() {
            return self.patrol_from(self.n_rungs_patrolled, bulk, pool);
        }
        let scouting = self.scouting(top, posterior, found, share);
        self.stage = Stage::Scouting(Scouting { n_rounds: 1, ..scouting });
        Ok(())
    }

    /// Bounds around what was left out take nothing from those that left it out: no lower rung needs another patrol.
    ///
    /// Patrols the first rung from `rung` on whose cover is smaller than the cube; freezes the bounds when there is none.
    fn patrol_from(&mut self, rung: usize, bulk: Option<Cover>, pool: &CpuPool) -> Result<(), SamplerError> {
        for rung in rung.. {
            let (posterior, Some(cover)) = self.posterior(rung) else { break };
            if cover.log_v_most < 0.0 {
                let (found, lost) = self.left_out(&cover, true);
                self.stage = Stage::Scouting(Scouting { rung, bulk, ..self.scouting(cover, posterior, found, lost) });
                return Ok(());
            }
        }
        self.freeze(bulk, pool)
    }

    /// Sends scouts out from points that the sampling phase met and `cover` should hold.
    pub(super) fn scout_from(&mut self, found: Vec<usize>, cover: Cover) {
        let (mut posterior, _) = self.posterior(0);
        if posterior.is_empty() {
            posterior.clone_from(&found);
        }
        let scouting = self.scouting(cover, posterior, found, f64::INFINITY);
        self.stage = Stage::Scouting(Scouting { frozen: true, n_rounds: 1, ..scouting });
    }

    fn scouting(&self, cover: Cover, posterior: Vec<usize>, found: Vec<usize>, lost: f64) -> Scouting {
        Scouting {
            cover,
            rung: 0,
            bulk: None,
            f_live: self.f_live(),
            frozen: false,
            stream: self.shells.training_stream().substream(SCOUT_STREAM + self.samples.len() as u64),
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
    pub(super) fn scout(&mut self, pool: &CpuPool, max_points: usize) -> Result<bool, SamplerError> {
        loop {
            let Stage::Scouting(scouting) = &self.stage else { return Ok(false) };
            if !scouting.queue.is_empty() {
                let rows = scouting.queue.iter().take(max_points).flat_map(|(_, row)| row).copied();
                let rows: Vec<f64> = rows.collect();
                let n = rows.len() / self.space.n_dim;
                let u = Array2::from_shape_vec((n, self.space.n_dim), rows).unwrap_or_default();
                self.pending = Some(Pending { u, place: vec![Place { shell: 0, cell: 0 }; n], slots: Vec::new() });
                return Ok(true);
            }
            let round = scouting.n_rounds;
            // What the patrol cannot find has no weight.
            let in_vain = round == 1 && scouting.out == 0.0 && scouting.lost < self.lost_most();
            let n_scouts = (N_SCOUTS * self.options.n_live).div_ceil(1000).min(4 * N_SCOUTS);
            let scouts: Vec<usize> = match round {
                0 => self.inside(scouting),
                1 => scouting.found.iter().rev().cycle().take(n_scouts).copied().collect(),
                _ => scouting.scouts.clone(),
            };
            if scouts.is_empty() || round > N_ROUNDS || in_vain {
                return Ok(false);
            }
            // A round without a single call went nowhere near: too far.
            let accepted = scouting.n_accepted as f64 / scouting.n_queued.max(1) as f64;
            let scale = match round {
                0 | 1 => scouting.scale,
                _ if accepted < ACCEPTED.start => scouting.scale / SCALE_FACTOR,
                _ if accepted > ACCEPTED.end => scouting.scale * SCALE_FACTOR,
                _ => scouting.scale,
            };
            let stream = scouting.stream.substream(round as u64);
            let mut steps = match round {
                0 => self.steps(scouting, &scouts, N_STEPS, None, &stream, pool),
                _ => self.steps(scouting, &scouts, 1, Some(scale), &stream, pool),
            };
            let (rung, log_v_most) = (scouting.rung, scouting.cover.log_v_most);
            self.look_up(&mut steps, log_v_most, pool)?;
            let mut queue: Vec<_> = steps.into_iter().filter(|s| !s.inside).map(|s| (s.scout, s.end)).collect();
            let mut weight = 0.0;
            if round == 0 {
                let part = if rung == 0 { PATROL_CALLS } else { PATROL_CALLS_HIGHER };
                let n = (part * self.options.n_live as f64) as usize;
                weight = (queue.len() as f64 / n as f64).max(1.0) / (N_STEPS * scouts.len()) as f64;
                stream.substream(1).at(0).shuffle(&mut queue);
                queue.truncate(n);
            }
            let Stage::Scouting(scouting) = &mut self.stage else { return Ok(false) };
            (scouting.scouts, scouting.scale, scouting.n_rounds, scouting.weight) = (scouts, scale, round + 1, weight);
            (scouting.n_queued, scouting.n_accepted) = (queue.len(), 0);
            scouting.queue = queue.into();
        }
    }

    /// Points of the posterior that lie where they should.
    fn inside(&self, scouting: &Scouting) -> Vec<usize> {
        let log_v = self.shells.log_bounds();
        let is_inside =
            |id: &&usize| self.samples.shell(**id).is_some_and(|shell| log_v[shell] <= scouting.cover.log_v_most);
        scouting.posterior.iter().filter(is_inside).copied().collect()
    }

    /// Part of the posterior that lies outside, as patrol and scouts tell: as much comes back as goes out.
    fn lost(&mut self, pool: &CpuPool) -> Result<f64, SamplerError> {
        let Stage::Scouting(scouting) = &self.stage else { return Ok(0.0) };
        if scouting.out == 0.0 || scouting.scouts.is_empty() {
            return Ok(0.0);
        }
        let n_steps = (scouting.posterior.len() * N_STEPS).div_ceil(scouting.scouts.len());
        let stream = scouting.stream.substream(LOST_STREAM);
        let mut steps = self.steps(scouting, &scouting.scouts, n_steps, None, &stream, pool);
        // Scouts are spread evenly above the level, the posterior is not.
        let log_l: Vec<f64> = scouting.scouts.iter().map(|&id| self.samples.log_l()[id]).collect();
        let max = log_l.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weight: Vec<f64> = log_l.iter().map(|l| (l - max).exp()).collect();
        let total = weight.iter().sum::<f64>() * n_steps as f64;
        let (out, log_v_most) = (scouting.out, scouting.cover.log_v_most);
        self.look_up(&mut steps, log_v_most, pool)?;
        let back: f64 = steps.iter().filter(|step| step.inside).map(|step| weight[step.scout]).sum();
        // As if one of the steps came back where none did.
        let ratio = out * total / back.max(1.0);
        Ok(ratio / (1.0 + ratio))
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
        // Steps of random length are those of the patrol: to and fro they depend on the same points.
        let found: &[usize] = if scale.is_some() { &scouting.found } else { &[] };
        let known: Vec<usize> = scouting.posterior.iter().chain(found).copied().collect();
        let n_neighbours = (2 * n_dim + 2).min(known.len());
        let is_periodic = |k: usize| self.space.periodic.contains(&k);
        let delta = |id: usize, at: usize| {
            let pairs = self.samples.row(id).iter().zip(self.samples.row(at)).map(|(y, x)| y - x).enumerate();
            pairs.map(|(k, delta)| if is_periodic(k) { delta - delta.round() } else { delta })
        };
        let (mut mean, mut unit) = (vec![0.0; n_dim], vec![0.0; n_dim]);
        for &id in &scouting.posterior {
            for ((mean, unit), delta) in mean.iter_mut().zip(&mut unit).zip(delta(id, scouting.posterior[0])) {
                *mean += delta / scouting.posterior.len() as f64;
                *unit += delta * delta / scouting.posterior.len() as f64;
            }
        }
        unit.iter_mut().zip(&mean).for_each(|(unit, mean)| *unit = (*unit - mean * mean).max(f64::MIN_POSITIVE));
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
        let chunks = pool.map_chunks(from.len(), CHUNK, |range| range.flat_map(steps_from).collect::<Vec<Step>>());
        chunks.concat()
    }

    /// Finds out which steps end where bounds hold them.
    fn look_up(&mut self, steps: &mut [Step], log_v_most: f64, pool: &CpuPool) -> Result<(), SamplerError> {
        let rows: Vec<f64> = steps.iter().flat_map(|step| &step.end).copied().collect();
        let inside = self.shells.are_deep(&rows, log_v_most, pool)?;
        steps.iter_mut().zip(inside).for_each(|(step, inside)| step.inside = inside);
        Ok(())
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
    pub(super) fn end_scouting(&mut self, pool: &CpuPool) -> Result<(), SamplerError> {
        let Stage::Scouting(scouting) = &self.stage else { return Ok(()) };
        let (cover, rung, bulk, known) = (scouting.cover, scouting.rung, scouting.bulk, scouting.lost);
        let lost = known.max(self.lost(pool)?);
        let Stage::Scouting(scouting) = &self.stage else { return Ok(()) };
        if scouting.found.is_empty() || lost < self.lost_most() {
            self.n_rungs_patrolled = rung + 1;
            return self.patrol_from(rung + 1, bulk, pool);
        }
        let (mut found, frozen) = (scouting.found.clone(), scouting.frozen);
        if found.len() < self.n_points_min() {
            // They outline nothing: with all that is as good.
            found = (0..self.samples.len()).filter(|&id| self.samples.log_l()[id] >= cover.level).collect();
        }
        let rows: Vec<f64> = found.iter().flat_map(|&id| self.samples.row(id)).copied().collect();
        let at = self.shells.innermost_holder(&rows, pool)? + 1;
        let log_volume = cover.log_v + lost.clamp(VOLUME_LEAST, 1.0).ln();
        let region = Region { found, level: cover.level, log_volume, share: lost, at, is_enclosed: false };
        self.n_reopened += 1;
        if !self.may_reopen() && lost >= self.lost_warned() {
            self.warnings.push(format!(
                "exploration was opened again {N_REOPENED_MAX} times around what bounds had left out, and no more: log Z may be too low; raise n_live"
            ));
        }
        if frozen {
            self.shells.reopen(&self.samples);
            self.samples.reopen();
            self.n_rungs_patrolled = 0;
        }
        self.stage = Stage::Exploration(Exploration::of_region(&self.options, region));
        Ok(())
    }
}

/// A systematic sample of the items, each as often as it is expected, but once at most.
pub(super) fn systematic<T>(expected: impl Iterator<Item = (T, f64)>) -> Vec<T> {
    let mut sum = 0.0;
    let chosen = expected.filter(|(_, expected)| {
        let before = sum;
        sum += expected;
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

#[cfg(test)]
mod tests;
