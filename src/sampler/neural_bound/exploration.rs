//! Exploration: bounds are built inwards until the live points hold hardly any of the evidence.

use std::collections::{HashMap, VecDeque};

use ndarray::Array2;

use super::shells::{Candidate, Tagged};
use super::{Options, Pending, SamplerError, Stage, State};
use crate::backend::CpuPool;
use crate::bound::{Live, NeuralBound};
use crate::evidence::{ShellEvidence, shell_log_weights};
use crate::live_points::threshold;
use crate::math::log_sum_exp;
use crate::samples::{NO_SHELL, Place};

/// Candidate bounds in a row that may fail before the exploration is taken as far as it goes.
const N_REJECTED_MAX: usize = 10;

/// Calls, in units of `n_live`, after which a likelihood that is -inf nearly everywhere is an error.
const N_LIKE_INFINITE_MAX: usize = 1000;

/// Logarithm of the ratio of two volumes by which a point is too deep for its shell. Where bounds follow the likelihood hardly any point
/// is: none of 12,000 fresh ones on each of six problems was deeper than 1.
const LEFT_OUT_DEPTH: f64 = 1.0;

/// Chains that may be begun behind a shell, at most.
const N_REOPENED_MAX: usize = 50;

/// Live points of such a chain, as a fraction of those of the first.
const CHAIN_N_LIVE: f64 = 0.25;

/// A chain goes on while its live points hold more than this share of its own evidence, since what is small now may grow.
const CHAIN_F_LIVE: f64 = 0.3;

/// A shell is left to the one in front of it when it holds less than this fraction of its bound and less than that share of the
/// evidence: finding points in it would cost more draws than it is worth.
const SHELL_FRACTION_MIN: f64 = 0.01;
const SHELL_SHARE_MIN: f64 = 1e-3;

/// One chain of bounds in the making: the first from the unit cube, later ones behind a shell that holds more than it should.
#[derive(Debug)]
pub(super) struct Exploration {
    /// The first shell of the chain.
    root: usize,
    /// The shell of its newest bound.
    newest: usize,
    n_live: usize,
    /// New points at or above the newest threshold; it starts below zero, so that the first bound waits for `n_live` more.
    n_update_iter: i64,
    n_like_iter: usize,
    n_like_checked: usize,
    /// Points that the newest bound took over, by where they were and their new cell; draws that fall there use them up.
    transfer: HashMap<(Place, u32), VecDeque<usize>>,
    queue: VecDeque<Tagged>,
    /// The draws of the batch that waits for its log L, in order, with the point that stands in where one does.
    asked: Vec<(Tagged, Option<usize>)>,
    n_rejected: usize,
    f_live: f64,
    finished: bool,
    /// Live points that the newest bound was built around.
    n_enclosed: usize,
}

impl Exploration {
    pub(super) fn new(options: &Options) -> Self {
        let n_live = options.n_live;
        Self { n_update_iter: -(n_live as i64), ..Self::behind(0, n_live) }
    }

    /// Goes on from shell `newest`, the first of its chain.
    fn behind(newest: usize, n_live: usize) -> Self {
        Self {
            root: newest,
            newest,
            n_live,
            n_update_iter: 0,
            n_like_iter: 0,
            n_like_checked: 0,
            transfer: HashMap::new(),
            queue: VecDeque::new(),
            asked: Vec::new(),
            n_rejected: 0,
            f_live: 1.0,
            finished: false,
            n_enclosed: 0,
        }
    }

    /// Where a draw of the newest bound is a point.
    fn place(&self, draw: &Tagged) -> Place {
        Place { shell: self.newest as u32, cell: draw.cell }
    }
}

impl State {
    pub(super) fn f_live(&self) -> f64 {
        match &self.stage {
            Stage::Exploration(e) => e.f_live,
            Stage::Sampling(s) => s.f_live(),
        }
    }

    /// Makes the next batch of the exploration; false when it is over.
    pub(super) fn explore(&mut self, pool: &CpuPool, max_points: usize) -> Result<bool, SamplerError> {
        // A batch that never came back, because the run was ended by an error, say.
        self.settle(0);
        let n_points_min = self.n_points_min();
        let Stage::Exploration(e) = &mut self.stage else { return Ok(false) };
        if e.finished {
            return Ok(false);
        }
        // Every cell should have points enough for an ellipsoid of its own.
        let for_cells = self.shells.n_cells(e.newest) * n_points_min;
        let n_update = self.options.n_update.unwrap_or(e.n_live.max(for_cells)) as i64;
        let n_like_new_bound = self.options.n_like_new_bound.unwrap_or(10 * e.n_live);
        let due = e.n_update_iter >= n_update || e.n_like_iter >= n_like_new_bound;
        if due && self.samples.len() > e.n_live {
            (e.n_update_iter, e.n_like_iter) = (0, 0);
            self.next_bound(pool)?;
        }
        self.fill(self.options.n_batch.min(max_points), pool)
    }

    /// Draws from the newest bound until `n` rows need a likelihood call; draws that a transfer point stands in for need none.
    ///
    /// Nothing is counted before the answers are there: see [`Self::settle`].
    fn fill(&mut self, n: usize, pool: &CpuPool) -> Result<bool, SamplerError> {
        const N_EMPTY_MAX: usize = 100;
        let Stage::Exploration(e) = &mut self.stage else { return Ok(false) };
        let (mut rows, mut place) = (Vec::new(), Vec::new());
        let (mut n_rows, mut n_empty) = (0, 0);
        while !e.finished && n_rows < n {
            let Some(draw) = e.queue.pop_front() else {
                let tag = e.transfer.values().any(|t| !t.is_empty());
                e.queue.extend(self.shells.draw_newest(e.newest, n - n_rows, tag, pool));
                n_empty = if e.queue.is_empty() { n_empty + 1 } else { 0 };
                if n_empty == N_EMPTY_MAX {
                    self.warnings
                        .push("the newest bound could not be drawn from any more; exploration ended there".into());
                    e.finished = true;
                }
                continue;
            };
            let stand_in = draw.before.and_then(|b| e.transfer.get_mut(&(b, draw.cell))).and_then(VecDeque::pop_front);
            if stand_in.is_none() && !draw.lost {
                place.push(e.place(&draw));
                rows.extend_from_slice(&draw.u);
                n_rows += 1;
            }
            e.asked.push((draw, stand_in));
        }
        if e.finished && n_rows == 0 {
            self.settle(0);
            return Ok(false);
        }
        let u = Array2::from_shape_vec((n_rows, self.space.n_dim), rows).unwrap_or_default();
        self.pending = Some(Pending { u, place });
        Ok(true)
    }

    /// Counts the draws of the last batch, of which the first `n` rows were evaluated.
    ///
    /// A draw counts when it is a point of its shell, and not before. Those behind the last evaluated row wait in front of the
    /// queue: the next batch begins with them, so that where a batch was cut off does not change what is drawn.
    pub(super) fn settle(&mut self, n: usize) {
        let Stage::Exploration(e) = &mut self.stage else { return };
        let is_fresh = |(draw, stand_in): &(Tagged, Option<usize>)| stand_in.is_none() && !draw.lost;
        let mut fresh = e.asked.iter().enumerate().filter(|(_, asked)| is_fresh(asked)).map(|(k, _)| k);
        let end = fresh.nth(n).unwrap_or(e.asked.len());
        for (draw, stand_in) in e.asked.drain(end..).rev() {
            if let (Some(id), Some(before)) = (stand_in, draw.before) {
                e.transfer.entry((before, draw.cell)).or_default().push_front(id);
            }
            e.queue.push_front(draw);
        }
        for (draw, stand_in) in std::mem::take(&mut e.asked) {
            self.shells.count_exploration_draw(e.newest, draw.cell);
            if let Some(id) = stand_in {
                self.samples.set_place(id, Some(e.place(&draw)));
            }
        }
    }

    /// Tries to build the next bound around the live points; without one, exploration goes on in the newest shell.
    fn next_bound(&mut self, pool: &CpuPool) -> Result<(), SamplerError> {
        let n_points_min = self.n_points_min();
        let Stage::Exploration(e) = &mut self.stage else { return Ok(()) };
        let (newest, n_live) = (e.newest, e.n_live);
        // Points that no shell uses still teach the networks.
        let of_chain = |id: &usize| match self.samples.place(*id) {
            Some(place) => (e.root..=newest).contains(&(place.shell as usize)),
            None => e.root == 0,
        };
        let ids: Vec<usize> = (0..self.samples.len()).filter(of_chain).collect();
        let log_l: Vec<f64> = ids.iter().map(|&id| self.samples.log_l()[id]).collect();
        let max = log_l.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let min = log_l.iter().copied().fold(f64::INFINITY, f64::min);
        let mut at_will = false;
        if max > f64::NEG_INFINITY && max == min {
            // A constant likelihood.
            e.finished = true;
            return Ok(());
        }
        if max > f64::NEG_INFINITY && max <= self.shells.threshold(newest) {
            // The plateau at the top is enclosed. A bound around a few of its points is drawn anew when there are more.
            let n_top = log_l.iter().filter(|l| **l == max).count();
            at_will = e.n_enclosed < n_live && n_top >= 2 * e.n_enclosed;
            if !at_will {
                e.finished = true;
                return Ok(());
            }
        }
        let regions = self.shells.regions(&self.samples, true);
        let log_weight = shell_log_weights(&regions.volumes, &vec![0.0; self.samples.len()], &regions.of_point);
        let log_weight: Vec<f64> = ids.iter().map(|&id| log_weight[id]).collect();
        let heaviest = log_weight.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weight: Vec<f64> = log_weight.iter().map(|w| (w - heaviest).exp()).collect();
        let n_least = (n_live / 2).max(n_points_min);
        let Some(threshold) = threshold(&log_l, &weight, self.shells.threshold(newest), n_least, n_points_min) else {
            let n_infinite = log_l.iter().filter(|l| **l == f64::NEG_INFINITY).count();
            if newest == 0 && n_infinite > N_LIKE_INFINITE_MAX * self.options.n_live {
                return Err(SamplerError::NoFiniteLikelihood {
                    n_infinite,
                    n_points: log_l.len(),
                    needed: n_points_min,
                });
            }
            return Ok(());
        };
        let is_live = |(_, l): &(&f64, &f64)| **l >= threshold.log_l;
        let live_weight: Vec<f64> = log_weight.iter().zip(&log_l).filter(is_live).map(|(w, _)| *w).collect();
        let live = Live {
            threshold: threshold.log_l,
            at_edge: threshold.plateau_skipped || threshold.log_l == max,
            log_volume: log_sum_exp(&live_weight),
        };
        let options = self.bound_options();
        let stream = self.shells.training_stream();
        let u = self.samples.select(&ids);
        let built = NeuralBound::enclosing(u.view(), &log_l, live, &options, stream, pool);
        let candidate = match built {
            Ok(bound) => {
                self.train_s += bound.train_s();
                let candidate = self.shells.candidate(bound, live.threshold, newest, pool);
                Ok(if self.shells.is_fit(&candidate, newest, at_will) {
                    candidate
                } else {
                    self.shells.relaxed(candidate, pool)
                })
            }
            Err(error) => Err(error),
        };
        let Stage::Exploration(e) = &mut self.stage else { return Ok(()) };
        match candidate {
            Ok(candidate) if self.shells.is_fit(&candidate, newest, at_will) => {
                e.n_rejected = 0;
                e.n_enclosed = live_weight.len();
                e.newest += 1;
                self.insert(candidate, newest, pool);
            }
            failed => {
                self.shells.raise_threshold(newest, live.threshold);
                e.n_rejected += 1;
                if e.n_rejected == N_REJECTED_MAX {
                    e.finished = true;
                    if e.root > 0 {
                        return Ok(());
                    }
                    let reason = match failed {
                        Ok(_) => "none was smaller than the one before".to_owned(),
                        Err(error) => error.to_string(),
                    };
                    self.warnings.push(format!(
                        "exploration ended after {N_REJECTED_MAX} failed bounds in a row with f_live = {:.2e} ({reason})",
                        e.f_live
                    ));
                }
            }
        }
        Ok(())
    }

    /// Puts a bound behind shell `newest`; points of the shells up to there that lie in it wait for draws to stand in for.
    fn insert(&mut self, candidate: Candidate, newest: usize, pool: &CpuPool) {
        let older = |id: &usize| self.samples.place(*id).is_some_and(|place| place.shell as usize <= newest);
        let ids: Vec<usize> = (0..self.samples.len()).filter(older).collect();
        let rows = self.samples.select(&ids);
        let cells = candidate.locate(rows.as_slice().unwrap_or(&[]), self.space.n_dim, pool);
        let Stage::Exploration(e) = &mut self.stage else { return };
        e.queue.clear();
        e.transfer.clear();
        self.samples.insert_shell(newest as u32 + 1);
        self.shells.accept(candidate, newest);
        for (id, cell) in ids.into_iter().zip(cells) {
            if let (Some(place), Some(cell)) = (self.samples.place(id), cell) {
                e.transfer.entry((place, cell)).or_default().push_back(id);
                self.samples.set_place(id, None);
            }
        }
    }

    /// Explores what the deepest of the points that their shells should not hold is a part of; false when there is none.
    ///
    /// A point is too deep for its shell when its log L is above the threshold of a later bound of the same chain that is a good deal smaller: that
    /// bound should have contained it. Its nearest neighbours in the shell make the first bound of a new chain, put behind the shell, and the
    /// exploration goes on in there. Other shells are not touched, nor are their points.
    pub(super) fn explore_what_was_left_out(&mut self, pool: &CpuPool) -> Result<bool, SamplerError> {
        if self.n_reopened >= N_REOPENED_MAX {
            return Ok(false);
        }
        let Some((id, place)) = self.deepest_left_out() else { return Ok(false) };
        self.n_reopened += 1;
        let shell = place.shell as usize;
        let frame = |id: usize| self.shells.to_frame(place, self.samples.row(id));
        let centre = frame(id);
        let in_shell = |id: &usize| self.samples.place(*id).is_some_and(|p| p.shell == place.shell);
        let distance = |id: usize| frame(id).iter().zip(&centre).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let mut near: Vec<(f64, usize)> =
            (0..self.samples.len()).filter(in_shell).map(|id| (distance(id), id)).collect();
        near.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        near.truncate(self.n_points_min());
        let ids: Vec<usize> = near.into_iter().map(|(_, id)| id).collect();
        let Ok(bound) = NeuralBound::around(self.samples.select(&ids).view(), &self.bound_options()) else {
            return Ok(false);
        };
        let candidate = self.shells.first_of_chain(bound, shell, pool);
        self.samples.reopen(place.shell);
        self.shells.reopen(shell);
        let n_live = ((self.options.n_live as f64 * CHAIN_N_LIVE) as usize).max(2 * self.n_points_min());
        self.stage = Stage::Exploration(Exploration::behind(shell + 1, n_live));
        self.insert(candidate, shell, pool);
        Ok(true)
    }

    fn deepest_left_out(&self) -> Option<(usize, Place)> {
        let log_v = self.shells.log_bounds();
        let depth = |(id, place): (usize, Place)| {
            let shell = place.shell as usize;
            let log_l = self.samples.log_l()[id];
            let chain = self.shells.chain(shell);
            let above = |k: &usize| self.shells.chain(*k) == chain && self.shells.threshold(*k) <= log_l;
            let smallest = (shell + 1..log_v.len()).filter(above).map(|k| log_v[k]).fold(f64::INFINITY, f64::min);
            (log_v[shell] - smallest, id, place)
        };
        let points = (0..self.samples.len()).filter_map(|id| self.samples.place(id).map(|place| (id, place)));
        let deepest = points.map(depth).filter(|(depth, ..)| *depth >= LEFT_OUT_DEPTH);
        deepest.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))).map(|(_, id, place)| (id, place))
    }

    /// Looks at the `n_new` points that just came in.
    pub(super) fn learn(&mut self, n_new: usize) -> Result<(), SamplerError> {
        let n = self.samples.len();
        let Stage::Exploration(e) = &mut self.stage else { return Ok(()) };
        let newest = self.shells.threshold(e.newest);
        e.n_like_iter += n_new;
        e.n_update_iter += self.samples.log_l()[n - n_new..].iter().filter(|l| **l >= newest).count() as i64;
        // The share changes slowly and its cost grows with the number of points: not every batch.
        let wait = if e.root == 0 { (e.n_live / 10).max(n / 50) } else { e.n_live / 2 };
        if n > e.n_live && n >= e.n_like_checked + wait {
            e.n_like_checked = n;
            let (of_all, of_chain) = self.live_share();
            let Stage::Exploration(e) = &mut self.stage else { return Ok(()) };
            e.f_live = of_all;
            e.finished |= of_all <= self.options.targets.f_live && of_chain <= CHAIN_F_LIVE;
        }
        Ok(())
    }

    /// Share of the evidence, in all and of that in the chain, that the `n_live` points of highest log L of the chain hold.
    fn live_share(&self) -> (f64, f64) {
        let Stage::Exploration(e) = &self.stage else { return (0.0, 0.0) };
        let regions = self.shells.regions(&self.samples, true);
        let log_weight = shell_log_weights(&regions.volumes, self.samples.log_l(), &regions.of_point);
        let of_chain = |id: &usize| {
            self.samples.place(*id).is_some_and(|place| (e.root..=e.newest).contains(&(place.shell as usize)))
        };
        let mut points: Vec<(f64, f64)> = (0..self.samples.len())
            .filter(of_chain)
            .map(|id| (self.samples.log_l()[id], log_weight[id]))
            .collect();
        if points.len() <= e.n_live {
            return (1.0, 1.0);
        }
        points.select_nth_unstable_by(e.n_live - 1, |a, b| b.0.total_cmp(&a.0));
        let sum = |points: &[(f64, f64)]| log_sum_exp(&points.iter().map(|(_, w)| *w).collect::<Vec<_>>());
        let (live, chain, total) = (sum(&points[..e.n_live]), sum(&points), log_sum_exp(&log_weight));
        if chain == f64::NEG_INFINITY { (1.0, 1.0) } else { ((live - total).exp(), (live - chain).exp()) }
    }

    /// Ends the exploration: shells with next to nothing in them go, bounds and counts of the exploration stay as they are from here on.
    pub(super) fn freeze(&mut self, pool: &CpuPool) {
        let evidence = self.evidence(true);
        let fraction = self.shells.exploration_fractions(&self.samples);
        let holds_something = |(s, fraction): (&ShellEvidence, &f64)| {
            s.n_points > 0
                && (*fraction >= SHELL_FRACTION_MIN || (s.log_z - evidence.log_z).exp() >= SHELL_SHARE_MIN)
        };
        // What is frozen already was looked at, and has points that count.
        let mut keep: Vec<bool> = (0..self.shells.len())
            .map(|k| self.shells.is_frozen(k) || holds_something((&evidence.shells[k], &fraction[k])))
            .collect();
        // Outside the first bound there is no shell to take over: if the cube's is empty, the first bound goes instead.
        if let [outermost, first, ..] = &mut keep[..]
            && !*outermost
        {
            *first = false;
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
        self.shells.freeze(&keep, pool);
        self.stage = Stage::Sampling(super::sampling::Sampling::new(f_live));
    }
}
