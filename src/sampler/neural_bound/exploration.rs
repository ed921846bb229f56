//! Exploration: bounds are built inwards until the live points hold hardly any of the evidence.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use ndarray::Array2;

use super::scouting::{Cover, systematic};
use super::shells::Tagged;
use super::{Options, Pending, SamplerError, Stage, State};
use crate::backend::CpuPool;
use crate::bound::{BoundError, Cloud, Live};
use crate::evidence::{ShellEvidence, shell_log_weights};
use crate::live_points::{SHARE, Threshold, threshold};
use crate::math::log_sum_exp;
use crate::samples::{NO_SHELL, Place};

/// Candidate bounds in a row that may fail before the exploration is taken as far as it goes.
const N_REJECTED_MAX: usize = 10;

/// Calls, in units of `n_live`, after which a likelihood that is -inf nearly everywhere is an error.
const N_LIKE_INFINITE_MAX: usize = 1000;

/// The live points are this times the root of their share of the evidence as many as at first, where that is less; and no fewer than this part.
const SHARE_FACTOR: f64 = 2.0;
const N_LIVE_LEAST: f64 = 0.25;

/// A bound is built from at most so many times as many live points as are needed.
const MANY_LIVE: usize = 3;

/// Steps of the fixed point that finds how to choose them.
const N_SCALINGS: usize = 50;

/// A shell is left to the one in front of it when it holds less than this fraction of its bound and less than that share of the
/// evidence: finding points in it would cost more draws than it is worth.
const SHELL_FRACTION_MIN: f64 = 0.01;
const SHELL_SHARE_MIN: f64 = 1e-3;
const REGION_FRACTION_MIN: f64 = 1e-4;

#[derive(Debug)]
pub(super) struct Exploration {
    /// What was left out and is explored now; none while it is everything.
    region: Option<Region>,
    /// New points at or above the newest threshold; it starts below zero, so that the first bound waits for `n_live` more.
    n_update_iter: i64,
    n_like_iter: usize,
    n_like: usize,
    n_like_checked: usize,
    /// Points that the newest bound took over, by where they were and their new cell; draws that fall there use them up.
    transfer: HashMap<(Place, u32), VecDeque<usize>>,
    queue: VecDeque<Tagged>,
    /// The draws of the batch that waits for its log L, in order.
    asked: Vec<(Tagged, Fate)>,
    /// Draws so far, and those of them that were points of the newest shell.
    n_drawn: usize,
    n_own: usize,
    n_rejected: usize,
    f_live: f64,
    finished: bool,
    /// Live points that the newest bound was built around.
    n_enclosed: usize,
}

/// What becomes of a draw from the newest bound.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// Its log L is asked for.
    Asked,
    /// This point, which the newest bound took over, stands in for it.
    StandIn(usize),
    /// A later bound holds it.
    Elsewhere,
}

/// What earlier bounds left out: bounds of its own are built around it. They come right behind the innermost bound that holds any of it, so they take nothing from deeper ones, which left it out.
#[derive(Debug, Clone)]
pub(super) struct Region {
    /// Points of it, by id, with log L at or above `level`.
    pub(super) found: Vec<usize>,
    pub(super) level: f64,
    /// Logarithm of the volume that they stand for, as far as it is known.
    pub(super) log_volume: f64,
    /// Part of the evidence that it holds, as far as it is known.
    pub(super) share: f64,
    /// The place of its first bound among all: behind those that hold it.
    pub(super) at: usize,
    /// Whether that bound is there.
    pub(super) is_enclosed: bool,
}

impl Exploration {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            region: None,
            n_update_iter: -(options.n_live as i64),
            n_like_iter: 0,
            n_like: 0,
            n_like_checked: 0,
            transfer: HashMap::new(),
            queue: VecDeque::new(),
            asked: Vec::new(),
            n_drawn: 0,
            n_own: 0,
            n_rejected: 0,
            f_live: 1.0,
            finished: false,
            n_enclosed: 0,
        }
    }

    /// Exploration of what was left out: a bound is due at once.
    pub(super) fn of_region(options: &Options, region: Region) -> Self {
        let f_live = region.share.min(1.0);
        Self { n_update_iter: i64::MAX, f_live, region: Some(region), ..Self::new(options) }
    }
}

impl State {
    pub(super) fn f_live(&self) -> f64 {
        match &self.stage {
            Stage::Exploration(e) => e.f_live,
            Stage::Scouting(s) => s.f_live(),
            Stage::Sampling(s) => s.f_live(),
        }
    }

    /// Makes the next batch of the exploration; false when it is over.
    pub(super) fn explore(&mut self, pool: &CpuPool, max_points: usize) -> Result<bool, SamplerError> {
        // A batch that never came back, because the run was ended by an error, say.
        self.settle(0);
        let n_live = self.n_live();
        let n_update = self.options.n_update.unwrap_or((self.n_enough() as f64 * (1.0 / SHARE - 1.0)) as usize) as i64;
        let n_like_new_bound = self.options.n_like_new_bound.unwrap_or(10 * n_live);
        let Stage::Exploration(e) = &mut self.stage else { return Ok(false) };
        if e.finished {
            return Ok(false);
        }
        let due = e.n_update_iter >= n_update || e.n_like_iter >= n_like_new_bound;
        if due && self.samples.len() > self.options.n_live {
            self.next_bound(pool)?;
            let Stage::Exploration(e) = &mut self.stage else { return Ok(false) };
            (e.n_update_iter, e.n_like_iter) = (0, 0);
        }
        self.fill(self.options.n_batch.min(max_points), pool)
    }

    /// Draws from the newest bound until `n` rows need a likelihood call; draws that a transfer point stands in for need none.
    ///
    /// Nothing is counted before the answers are there: see [`Self::settle`].
    fn fill(&mut self, n: usize, pool: &CpuPool) -> Result<bool, SamplerError> {
        const N_EMPTY_MAX: usize = 100;
        const N_WANTED_MAX: usize = 100_000;
        const N_ELSEWHERE_MAX: usize = 1_000_000;
        let Stage::Exploration(e) = &mut self.stage else { return Ok(false) };
        let newest = self.shells.newest() as u32;
        let (mut rows, mut place, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        let (mut n_rows, mut n_empty, mut n_elsewhere) = (0, 0, 0);
        while !e.finished && n_rows < n {
            let Some(draw) = e.queue.pop_front() else {
                let tag = e.transfer.values().any(|t| !t.is_empty());
                // Where later bounds hold most of it, more draws are needed.
                let part = (e.n_own + n_rows + 1) as f64 / (e.n_drawn + n_rows + n_elsewhere + 1) as f64;
                let wanted = (((n - n_rows) as f64 / part) as usize).min(N_WANTED_MAX.max(n));
                e.queue.extend(self.shells.draw_newest(wanted, tag, pool)?);
                n_empty = if e.queue.is_empty() { n_empty + 1 } else { 0 };
                if n_empty == N_EMPTY_MAX {
                    self.warnings
                        .push("the newest bound could not be drawn from any more; exploration ended there".into());
                    e.finished = true;
                }
                continue;
            };
            let stands_in = |other: Place| e.transfer.get_mut(&(other, draw.cell)).and_then(VecDeque::pop_front);
            let fate = match draw.other {
                Some(other) if other.shell > newest => {
                    n_elsewhere += 1;
                    // Next to nothing of the bound is its own: nothing worth having was left out there.
                    e.finished |= n_elsewhere == N_ELSEWHERE_MAX;
                    Fate::Elsewhere
                }
                other => other.and_then(stands_in).map_or(Fate::Asked, Fate::StandIn),
            };
            if matches!(fate, Fate::Asked) {
                place.push(Place { shell: newest, cell: draw.cell });
                rows.extend_from_slice(&draw.u);
                slots.extend(draw.slot);
                n_rows += 1;
            }
            e.asked.push((draw, fate));
        }
        if e.finished && n_rows == 0 {
            self.settle(0);
            return Ok(false);
        }
        if e.queue.len() < n / 2 && !e.finished {
            let tag = e.transfer.values().any(|t| !t.is_empty());
            self.shells.draw_ahead(n, tag)?;
        }
        let u = Array2::from_shape_vec((n_rows, self.space.n_dim), rows).unwrap_or_default();
        self.pending = Some(Pending { u, place, slots });
        Ok(true)
    }

    /// Counts the draws of the last batch, of which the first `n` rows were evaluated.
    ///
    /// A draw counts when it is a point of its shell, and not before. Those behind the last evaluated row wait in front of the
    /// queue: the next batch begins with them, so that where a batch was cut off does not change what is drawn.
    pub(super) fn settle(&mut self, n: usize) {
        let newest = self.shells.newest() as u32;
        let Stage::Exploration(e) = &mut self.stage else { return };
        let asked = e.asked.iter().enumerate().filter(|(_, (_, fate))| matches!(fate, Fate::Asked));
        let end = asked.map(|(k, _)| k).nth(n).unwrap_or(e.asked.len());
        for (draw, fate) in e.asked.drain(end..).rev() {
            if let (Fate::StandIn(id), Some(other)) = (fate, draw.other) {
                e.transfer.entry((other, draw.cell)).or_default().push_front(id);
            }
            e.queue.push_front(draw);
        }
        e.n_drawn += e.asked.len();
        for (draw, fate) in e.asked.drain(..) {
            self.shells.count_exploration_draw(draw.cell);
            e.n_own += usize::from(!matches!(fate, Fate::Elsewhere));
            if let Fate::StandIn(id) = fate {
                self.samples.set_place(id, Some(Place { shell: newest, cell: draw.cell }));
            }
        }
    }

    /// The shells that the exploration is about.
    fn explored(&self) -> Range<u32> {
        let newest = self.shells.newest() as u32;
        match &self.stage {
            Stage::Exploration(Exploration { region: Some(region), .. }) if region.is_enclosed => {
                region.at as u32..newest + 1
            }
            Stage::Exploration(Exploration { region: Some(_), .. }) => 0..0,
            _ => 0..newest + 1,
        }
    }

    /// log L of the points that the exploration is about, `-inf` for all others, `[n_points]`.
    fn log_l_explored(&self) -> Vec<f64> {
        let all = self.samples.log_l();
        let Stage::Exploration(Exploration { region: Some(region), .. }) = &self.stage else { return all.to_vec() };
        let explored = self.explored();
        let points = all.iter().zip(self.samples.shells());
        let of_shell = |(l, shell): (&f64, &u32)| if explored.contains(shell) { *l } else { f64::NEG_INFINITY };
        let mut log_l: Vec<f64> = points.map(of_shell).collect();
        region.found.iter().for_each(|&id| log_l[id] = all[id]);
        log_l
    }

    /// Tries to build the next bound around the live points; without one, exploration goes on in the newest shell.
    fn next_bound(&mut self, pool: &CpuPool) -> Result<(), SamplerError> {
        let log_l = self.log_l_explored();
        let max = log_l.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let min = log_l.iter().copied().fold(f64::INFINITY, f64::min);
        let (n_live, n_points_min) = (self.n_live(), self.n_points_min());
        let newest = self.shells.newest();
        // One that an error left behind.
        self.shells.reject();
        let Stage::Exploration(e) = &mut self.stage else { return Ok(()) };
        let at = e.region.as_ref().filter(|region| !region.is_enclosed).map_or(newest + 1, |region| region.at);
        let left_out = e.region.clone().filter(|region| !region.is_enclosed);
        let mut at_will = left_out.is_some();
        if max > f64::NEG_INFINITY && max == min {
            // A constant likelihood.
            e.finished = true;
            return Ok(());
        }
        if !at_will && max > f64::NEG_INFINITY && max <= self.shells.threshold(newest) {
            // The plateau at the top is enclosed. A bound around a few of its points is drawn anew when there are more.
            let n_top = log_l.iter().filter(|l| **l == max).count();
            at_will = e.n_enclosed < self.options.n_live && n_top >= 2 * e.n_enclosed;
            if !at_will {
                e.finished = true;
                return Ok(());
            }
        }
        let regions = self.shells.regions(&self.samples, true);
        let log_weight = shell_log_weights(&regions.volumes, &vec![0.0; log_l.len()], &regions.of_point);
        let of_region = e.region.is_some();
        let is_of_another = |id: usize| of_region && log_l[id] == f64::NEG_INFINITY;
        // Relative to the heaviest above the newest threshold, since volumes may be below any number.
        let current = self.shells.threshold(newest);
        let above = log_weight.iter().zip(&log_l).filter(|(_, l)| **l >= current);
        let heaviest = above.map(|(w, _)| *w).fold(f64::NEG_INFINITY, f64::max).max(f64::MIN);
        let weight = |id: usize| if is_of_another(id) { 0.0 } else { (log_weight[id] - heaviest).exp() };
        let weight: Vec<f64> = (0..log_l.len()).map(weight).collect();
        let n_least = (n_live / 2).max(n_points_min);
        let n_enough = self.options.n_live.max(self.n_enough());
        let threshold = match &left_out {
            Some(region) => Some(Threshold { log_l: region.level, plateau_skipped: false }),
            None => threshold(&log_l, &weight, current, n_enough, n_least, n_points_min),
        };
        let Some(threshold) = threshold else {
            let n_infinite = log_l.iter().filter(|l| **l == f64::NEG_INFINITY).count();
            if newest == 0 && n_infinite > N_LIKE_INFINITE_MAX * self.options.n_live {
                return Err(SamplerError::NoFiniteLikelihood {
                    n_infinite,
                    n_points: log_l.len(),
                    needed: n_points_min,
                });
            }
            // Without a likelihood that is finite anywhere a region has no next bound.
            let Stage::Exploration(e) = &mut self.stage else { return Ok(()) };
            e.n_rejected += usize::from(of_region);
            e.finished |= e.n_rejected == N_REJECTED_MAX;
            return Ok(());
        };
        let is_tie = left_out.as_ref().is_some_and(|region| log_l.iter().filter(|l| **l == region.level).count() > 1);
        let is_live = |(_, l): &(&f64, &f64)| **l >= threshold.log_l;
        let live_weight: Vec<f64> = log_weight.iter().zip(&log_l).filter(is_live).map(|(w, _)| *w).collect();
        let live = Live {
            threshold: threshold.log_l,
            at_edge: threshold.plateau_skipped || threshold.log_l == max || is_tie,
            log_volume: left_out.as_ref().map_or_else(|| log_sum_exp(&live_weight), |region| region.log_volume),
        };
        let options = self.bound_options();
        let ids = self.for_bound(live.threshold, &log_l, &log_weight);
        let rows = self.samples.select(&ids);
        let log_l: Vec<f64> = ids.iter().map(|&id| self.samples.log_l()[id]).collect();
        let cloud = Cloud { u: rows.view(), log_l: &log_l, ids: &ids };
        let built = self.shells.enclose(cloud, live, at - 1, &options, pool);
        let candidate = match built {
            Ok(bound) => {
                self.train_s += bound.train_s();
                let candidate = self.shells.candidate(bound, live.threshold, pool)?;
                Ok(if self.shells.is_fit(&candidate, at_will) {
                    candidate
                } else {
                    self.shells.relaxed(candidate, pool)?
                })
            }
            Err(BoundError::Device(error)) => return Err(error.into()),
            Err(error) => Err(error),
        };
        match candidate {
            Ok(candidate) if self.shells.is_fit(&candidate, at_will) => {
                // Points of later bounds stay there.
                let assigned: Vec<usize> = (0..self.samples.len())
                    .filter(|&id| self.samples.shell(id).is_some_and(|shell| shell < at))
                    .collect();
                let rows = self.samples.select(&assigned);
                let cells = self.shells.locate_in_candidate(rows.as_slice().unwrap_or(&[]), pool)?;
                let Stage::Exploration(e) = &mut self.stage else { return Ok(()) };
                e.n_rejected = 0;
                e.n_enclosed = live_weight.len();
                e.queue.clear();
                e.transfer.clear();
                (e.n_drawn, e.n_own) = (0, 0);
                for (id, cell) in assigned.into_iter().zip(cells) {
                    if let (Some(place), Some(cell)) = (self.samples.place(id), cell) {
                        e.transfer.entry((place, cell)).or_default().push_back(id);
                        self.samples.set_place(id, None);
                    }
                }
                if let Some(region) = &mut e.region {
                    region.is_enclosed = true;
                }
                self.samples.insert_shell(at);
                self.shells.accept(candidate, at, of_region);
            }
            failed => {
                self.shells.reject();
                let Stage::Exploration(e) = &mut self.stage else { return Ok(()) };
                if let Some(region) = left_out {
                    e.finished = true;
                    self.give_up_region(region.share);
                    return Ok(());
                }
                self.shells.raise_newest_threshold(live.threshold);
                e.n_rejected += 1;
                let (of_region, f_live) = (e.region.is_some(), e.f_live);
                if e.n_rejected == N_REJECTED_MAX {
                    e.finished = true;
                    // Of a region that holds next to nothing as much is left to its newest shell.
                    if of_region && f_live < self.lost_warned() {
                        return Ok(());
                    }
                    let reason = match failed {
                        Ok(_) => "none was smaller than the one before".to_owned(),
                        Err(error) => error.to_string(),
                    };
                    self.warnings.push(format!(
                        "exploration ended after {N_REJECTED_MAX} failed bounds in a row with f_live = {f_live:.2e} ({reason})"
                    ));
                }
            }
        }
        Ok(())
    }

    /// The points that a bound is built from, by id: those with log L below the threshold, and the live ones, but of many more than are needed only a
    /// sample that is uniform in volume.
    ///
    /// `log_l` `[n_points]` is `-inf` for points that the exploration is not about: those above the threshold are left to the bounds that hold them.
    /// `log_weight` is the logarithm of the volume that each point stands for.
    fn for_bound(&self, threshold: f64, log_l: &[f64], log_weight: &[f64]) -> Vec<usize> {
        let mut chosen: Vec<bool> = self.samples.log_l().iter().map(|l| *l < threshold).collect();
        let mut live: Vec<usize> = (0..log_l.len()).filter(|&id| log_l[id] >= threshold).collect();
        let thinned = self.thinned(&live, log_weight);
        if thinned.len() >= self.options.n_live / 2 {
            // What scouts found has no weight.
            live.retain(|&id| self.samples.place(id).is_none());
            live.extend(thinned);
        }
        live.into_iter().for_each(|id| chosen[id] = true);
        (0..log_l.len()).filter(|&id| chosen[id]).collect()
    }

    /// A sample of the points `ids` that is uniform in volume, if there are many more than a bound is built from.
    fn thinned(&self, ids: &[usize], log_weight: &[f64]) -> Vec<usize> {
        let most = MANY_LIVE * self.options.n_live.max(self.n_enough());
        if ids.len() <= most {
            return Vec::new();
        }
        let heaviest = ids.iter().map(|&id| log_weight[id]).fold(f64::MIN, f64::max);
        let weight: Vec<f64> = ids.iter().map(|&id| (log_weight[id] - heaviest).exp()).collect();
        // Each with the probability `scale * weight`, one at most, so that they are `most` on average.
        let mut scale = 1.0;
        for _ in 0..N_SCALINGS {
            let n: f64 = weight.iter().map(|weight| (scale * weight).min(1.0)).sum();
            scale *= most as f64 / n;
        }
        systematic(ids.iter().zip(weight).map(|(&id, weight)| (id, (scale * weight).min(1.0))))
    }

    /// Looks at the `n_new` points that just came in.
    pub(super) fn learn(&mut self, n_new: usize) -> Result<(), SamplerError> {
        let newest = self.shells.threshold(self.shells.newest());
        let n = self.samples.len();
        let Stage::Exploration(e) = &mut self.stage else {
            self.learn_from_scouts(n_new);
            self.scout_at_spike();
            return Ok(());
        };
        e.n_like_iter += n_new;
        e.n_like += n_new;
        e.n_update_iter += self.samples.log_l()[n - n_new..].iter().filter(|l| **l >= newest).count() as i64;
        // The share changes slowly and its cost grows with the number of points: not every batch.
        let known = e.n_like;
        if known > self.n_live() {
            let Stage::Exploration(e) = &mut self.stage else { return Ok(()) };
            if known >= e.n_like_checked + (self.options.n_live / 10).max(known / 50) {
                e.n_like_checked = known;
                if let Some((f_live, effective)) = self.live_share() {
                    let Stage::Exploration(e) = &mut self.stage else { return Ok(()) };
                    e.f_live = f_live;
                    // A few points that carry the rest would leave a heavy tail to the sampling phase.
                    e.finished |= f_live <= self.options.targets.f_live * effective;
                }
            }
        }
        Ok(())
    }

    /// Live points of the next bound: fewer than at first once they hold little of the evidence, since what could be missed among them weighs
    /// little. Bounds of many cells need points for each.
    fn n_live(&self) -> usize {
        let part = (SHARE_FACTOR * self.f_live().sqrt()).clamp(N_LIVE_LEAST, 1.0);
        let for_cells = 2 * self.shells.n_cells_max(self.explored()) * self.n_points_min();
        ((self.options.n_live as f64 * part) as usize).max(for_cells.min(self.options.n_live))
    }

    /// Points that the next bound is built around: every cell should have enough for an ellipsoid of its own.
    fn n_enough(&self) -> usize {
        self.n_live().max(self.shells.n_cells_newest() * self.n_points_min())
    }

    /// Share of the evidence that the live points hold, those of highest log L that the exploration is about, and the part of them that is effective; none
    /// where there are too few.
    fn live_share(&self) -> Option<(f64, f64)> {
        let n_live = self.n_live();
        let explored = self.explored();
        let regions = self.shells.regions(&self.samples, true);
        let log_weight = shell_log_weights(&regions.volumes, self.samples.log_l(), &regions.of_point);
        let total = log_sum_exp(&log_weight);
        let points = self.samples.log_l().iter().zip(log_weight).zip(self.samples.shells());
        let mut points: Vec<(f64, f64)> =
            points.filter(|(_, shell)| explored.contains(shell)).map(|((l, w), _)| (*l, w)).collect();
        if points.len() <= n_live {
            return None;
        }
        points.select_nth_unstable_by(n_live - 1, |a, b| b.0.total_cmp(&a.0));
        let weights: Vec<f64> = points[..n_live].iter().map(|(_, w)| *w).collect();
        let live = log_sum_exp(&weights);
        if live == f64::NEG_INFINITY {
            return None;
        }
        // (mean L)^2 / mean L^2 over the volume that they stand for.
        let moment = |power: f64| {
            let points = points[..n_live].iter().filter(|(l, _)| *l > f64::NEG_INFINITY);
            log_sum_exp(&points.map(|(l, w)| w + power * l).collect::<Vec<_>>())
        };
        Some(((live - total).exp(), (2.0 * live - moment(-1.0) - moment(1.0)).exp()))
    }

    /// Ends the exploration: shells with next to nothing in them go, bounds and counts of the exploration stay as they are from here on.
    pub(super) fn freeze(&mut self, bulk: Option<Cover>, pool: &CpuPool) -> Result<(), SamplerError> {
        let evidence = self.evidence(true);
        let fraction = self.shells.exploration_fractions(&self.samples);
        let holds_something = |(k, (s, fraction)): (usize, (&ShellEvidence, &f64))| {
            let share = (s.log_z - evidence.log_z).exp();
            // A region is there for what little it holds, and most of its bounds may be held by others.
            let in_region =
                self.shells.is_of_region(k) && *fraction >= REGION_FRACTION_MIN && share >= 0.1 * self.lost_most();
            s.n_points > 0 && (*fraction >= SHELL_FRACTION_MIN || share >= SHELL_SHARE_MIN || in_region)
        };
        let mut keep: Vec<bool> = evidence.shells.iter().zip(&fraction).enumerate().map(holds_something).collect();
        // Outside the first bound there is no shell to take over: if the cube's is empty, the first bound goes instead.
        let first = (1..keep.len()).find(|&k| !self.shells.is_of_region(k));
        if let Some(first) = first.filter(|_| !keep[0]) {
            keep[first] = false;
        }
        if let Some(outermost) = keep.first_mut() {
            *outermost = true;
        }
        let mut n_kept = 0;
        let target: Vec<u32> = keep
            .iter()
            .map(|keep| {
                n_kept += u32::from(*keep);
                if *keep { n_kept - 1 } else { NO_SHELL }
            })
            .collect();
        for id in 0..self.samples.len() {
            if let Some(place) = self.samples.place(id) {
                let shell = target[place.shell as usize];
                self.samples.set_place(id, (shell != NO_SHELL).then_some(Place { shell, ..place }));
            }
        }
        let f_live = self.f_live();
        self.shells.freeze(&keep, pool)?;
        self.stage = Stage::Sampling(super::sampling::Sampling::new(self.samples.len(), f_live, bulk));
        Ok(())
    }
}
