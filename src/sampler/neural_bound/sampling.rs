//! The sampling phase: frozen bounds, fresh points where they lower the variance of log Z most.

use ndarray::Array2;

use super::scouting::Cover;
use super::{Pending, SamplerError, Stage, State};
use crate::backend::CpuPool;
use crate::evidence::{Evidence, ShellEvidence, ShellVolume};
use crate::math::log_sum_exp;
use crate::samples::Place;

/// Member draws of one request at most; a shell that needs more gets them in later rounds.
const N_DRAWS_MAX: u64 = 1 << 20;

/// Share of the plan that the first round asks for, while only exploration tells what each shell needs.
const FIRST_ROUND: f64 = 0.5;

/// Points for each effective one that a shell may need by the word of the exploration alone.
const THIN_MOST: f64 = 10.0;

/// A shell that needs this many times what the exploration said of it gets it.
const SURPRISE: f64 = 4.0;

/// A fresh point with more than this share of the weight, and this many times the mean share, is a spike.
const SPIKE_SHARE: f64 = 0.05;
const SPIKE_POINTS: f64 = 20.0;

/// Fresh points that the bounds should have held deeper reopen the exploration once they carry more than this part of the error of log Z.
const LEFT_OUT_SHARE: f64 = 0.1;

/// Variance that the volumes may add to log Z, as a fraction of that of the likelihood's scatter, or of `1/n_eff` where that is more: draws
/// without likelihood calls go on until then.
const VOLUME_SHARE: f64 = 0.25;
const VOLUME_SHARE_OF_N_EFF: f64 = 0.1;

/// Such draws at most, for each fresh point.
const VOLUME_DRAWS_MAX: f64 = 100.0;

/// Fresh points per effective point beyond which a run gives up.
const CALLS_PER_EFFECTIVE_MAX: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Sampling {
    n_like_exploration: usize,
    f_live: f64,
    /// Where the posterior lies, as far as it is smaller than the cube.
    bulk: Option<Cover>,
    /// Of each shell: member draws that end in it, as a fraction, by the counts of the exploration alone, so that the number
    /// of draws asked for does not depend on the counts it will be added to.
    shell_yield: Vec<f64>,
    /// How many points each shell should get, in relative terms, by the word of the exploration alone. Were it for the fresh points to say, a shell whose first
    /// ones happen to be low would get no more, and stay low, while one that is high by chance gets more until it is right.
    need: Vec<f64>,
    /// How many draws its volume should get, in relative terms, by the same word and for the same reason.
    volume_need: Vec<f64>,
    /// Rounds of requests in a row that brought nothing.
    n_fruitless: usize,
}

/// So many, and the run gives up.
const N_FRUITLESS_MAX: usize = 20;

impl Sampling {
    pub(super) fn new(n_like_exploration: usize, f_live: f64, bulk: Option<Cover>) -> Self {
        Self {
            n_like_exploration,
            f_live,
            bulk,
            shell_yield: Vec::new(),
            need: Vec::new(),
            volume_need: Vec::new(),
            n_fruitless: 0,
        }
    }

    pub(super) fn n_like_exploration(&self) -> usize {
        self.n_like_exploration
    }

    pub(super) fn f_live(&self) -> f64 {
        self.f_live
    }

    pub(super) fn phase(&self) -> &'static str {
        if self.n_fruitless == N_FRUITLESS_MAX { "stalled" } else { "sampling" }
    }

    /// A run that goes on tries again.
    pub(super) fn resume(&mut self) {
        self.n_fruitless = 0;
    }
}

impl State {
    /// Makes the next batch of the sampling phase; leaves nothing pending when the targets are reached.
    pub(super) fn sample(&mut self, pool: &CpuPool, max_points: usize) -> Result<(), SamplerError> {
        self.pending = None;
        if self.is_hopeless()
            && let Stage::Sampling(sampling) = &mut self.stage
        {
            sampling.n_fruitless = N_FRUITLESS_MAX;
            return Ok(());
        }
        loop {
            if matches!(&self.stage, Stage::Sampling(sampling) if sampling.need.is_empty()) {
                let explored = self.evidence(true);
                let need = self.shell_need(&explored);
                let Stage::Sampling(sampling) = &mut self.stage else { return Ok(()) };
                sampling.need = need;
                let shell_yield = self.shells.exploration_yield(&self.samples);
                sampling.shell_yield =
                    shell_yield.into_iter().map(|y| y.clamp(1.0 / N_DRAWS_MAX as f64, 1.0)).collect();
                // One draw adds `(1 - p) / p` to the relative variance of a volume that a part `p` of them hits.
                let volume_need =
                    |(s, y): (&ShellEvidence, &f64)| share(s.log_z, explored.log_z) * (1.0 / y - 1.0).sqrt();
                sampling.volume_need = explored.shells.iter().zip(&sampling.shell_yield).map(volume_need).collect();
            }
            let wanted = self.wanted(max_points);
            let Stage::Sampling(sampling) = &mut self.stage else { return Ok(()) };
            if wanted.is_empty() {
                sampling.n_fruitless = 0;
                if self.sharpen_volumes(pool)? {
                    // With other volumes n_eff is another, too.
                    continue;
                }
                return Ok(());
            }
            if sampling.n_fruitless == N_FRUITLESS_MAX {
                return Ok(());
            }
            let requests: Vec<(usize, u64)> = wanted
                .iter()
                .map(|&(shell, n)| {
                    let draws = n as f64 / sampling.shell_yield[shell];
                    (shell, (draws.ceil() as u64).clamp(1, N_DRAWS_MAX))
                })
                .collect();
            let drawn = self.shells.draw_shells(&requests, pool)?;
            let n_dim = self.space.n_dim;
            let (mut rows, mut place, mut slots) = (Vec::new(), Vec::new(), Vec::new());
            for (k, drawn) in drawn.iter().enumerate() {
                // The volume counts hold every draw; which of the rows are evaluated is free to choose. A shell whose yield
                // was taken for smaller than it is must not cost many times the calls that were wanted.
                let n = drawn.cells.len().min(2 * wanted[k].1);
                rows.extend_from_slice(&drawn.rows[..n * n_dim]);
                let shell = requests[k].0 as u32;
                place.extend(drawn.cells[..n].iter().map(|&cell| Place { shell, cell }));
                slots.extend(drawn.slots.iter().take(n));
            }
            place.truncate(max_points);
            slots.truncate(max_points);
            rows.truncate(place.len() * n_dim);
            let Stage::Sampling(sampling) = &mut self.stage else { return Ok(()) };
            if place.is_empty() {
                sampling.n_fruitless += 1;
                continue;
            }
            sampling.n_fruitless = 0;
            let u = Array2::from_shape_vec((place.len(), n_dim), rows).unwrap_or_default();
            self.pending = Some(Pending { u, place, slots });
            return Ok(());
        }
    }

    /// Draws from the shells without evaluating anything where their volumes add much to the variance of log Z; says whether it did.
    ///
    /// With `M_i` draws, shell `i` adds `s_i^2 c_i / M_i`, where `s_i` is its share of the evidence and `c_i` the relative variance for one draw. For a
    /// given number of draws the sum is least with `M_i` in proportion to `s_i sqrt(c_i)`. The exploration says what that is: were it for the draws to say, a volume that comes out small
    /// would get fewer draws, and stay small.
    fn sharpen_volumes(&mut self, pool: &CpuPool) -> Result<bool, SamplerError> {
        if !self.every_shell_sampled() {
            return Ok(false);
        }
        let evidence = self.evidence(false);
        let scatter = evidence.error_terms.scatter;
        let target = (VOLUME_SHARE * scatter).max(VOLUME_SHARE_OF_N_EFF / evidence.n_eff);
        if evidence.error_terms.volume() <= target {
            return Ok(false);
        }
        let Stage::Sampling(Sampling { volume_need, .. }) = &self.stage else { return Ok(false) };
        let volumes = self.shells.regions(&self.samples, false).volumes;
        let drawn: Vec<f64> = self.shells.sampling_draws().into_iter().map(|n| n as f64).collect();
        // So many in all that the sum comes to the target, for what is known now; a little more, so that chance seldom asks for another round.
        let variance = |((s, v), (n, need)): ((&ShellEvidence, &ShellVolume), (&f64, &f64))| {
            share(s.log_z, evidence.log_z).powi(2) * v.relative_variance() * n / need.max(1e-300)
        };
        let of_shells = evidence.shells.iter().zip(&volumes).zip(drawn.iter().zip(volume_need));
        let scale = 1.1 * of_shells.map(variance).filter(|v| v.is_finite()).sum::<f64>() / target;
        let room = VOLUME_DRAWS_MAX * evidence.n_points as f64 - drawn.iter().sum::<f64>();
        let missing: Vec<f64> = volume_need.iter().zip(&drawn).map(|(need, n)| (need * scale - n).max(0.0)).collect();
        let all: f64 = missing.iter().sum();
        let part = (room / all).min(1.0);
        let requests: Vec<(usize, u64)> = missing
            .iter()
            .map(|n| ((n * part).ceil() as u64).min(N_DRAWS_MAX))
            .enumerate()
            .filter(|(_, n)| *n > 0)
            .collect();
        if room <= 0.0 || requests.is_empty() {
            return Ok(false);
        }
        self.shells.count_shells(&requests, pool)?;
        Ok(true)
    }

    /// Whether the bounds serve so badly that the target is out of reach: far more fresh points than any sensible number per
    /// effective one, and still not a tenth of the way.
    fn is_hopeless(&self) -> bool {
        let targets = &self.options.targets;
        let most = CALLS_PER_EFFECTIVE_MAX * targets.n_eff + (10 * self.shells.len()) as f64 * targets.n_shell as f64;
        let n_exploration = self.n_like_exploration();
        (self.samples.len() - n_exploration) as f64 > most && self.evidence(false).n_eff < 0.1 * targets.n_eff
    }

    fn n_like_exploration(&self) -> usize {
        match &self.stage {
            Stage::Exploration(_) | Stage::Scouting(_) => self.samples.len(),
            Stage::Sampling(sampling) => sampling.n_like_exploration(),
        }
    }

    /// Goes back when one fresh point carries so much weight that a peak must have been missed; what was sampled
    /// so far shapes the new bounds and so becomes part of the exploration.
    pub(super) fn scout_at_spike(&mut self) {
        let Stage::Sampling(sampling) = &self.stage else { return };
        if !self.may_reopen() || !self.every_shell_sampled() {
            return;
        }
        let fresh = self.evidence(false);
        for cover in [Some(self.top()), sampling.bulk].into_iter().flatten() {
            let (left_out, share) = self.left_out(&cover, false);
            if share > LEFT_OUT_SHARE * fresh.log_z_error {
                return self.scout_from(left_out, cover);
            }
        }
        if fresh.max_weight_share > SPIKE_SHARE.max(SPIKE_POINTS / fresh.n_points as f64) {
            let log_weight = self.log_weights(false);
            let log_z = log_sum_exp(&log_weight);
            let is_spike = |id: &usize| log_weight[*id] - log_z > SPIKE_SHARE.ln();
            let spike: Vec<usize> = (0..log_weight.len()).filter(is_spike).collect();
            // A peak stands out from everything else that was met, and no bound knows of it.
            let others = (0..log_weight.len()).filter(|id| !is_spike(id)).map(|id| self.samples.log_l()[id]);
            let lowest = spike.iter().map(|&id| self.samples.log_l()[id]).fold(f64::INFINITY, f64::min);
            let level = others.fold(self.top().level, f64::max).min(lowest);
            if !spike.is_empty() {
                self.scout_from(spike, Cover { level, log_v_most: f64::NEG_INFINITY, ..self.top() });
            }
        }
    }

    /// How many more points which shell should get now.
    ///
    /// The variance of log Z for a given number of calls is least with `n_i` in proportion to `Z_i sqrt(n_i/n_eff,i)`. The exploration says what that is; fresh points
    /// only say how many are needed of all together, and where it was far off.
    fn wanted(&self, max_points: usize) -> Vec<(usize, usize)> {
        let targets = &self.options.targets;
        let current = self.evidence(!targets.discard_exploration);
        let fresh = self.evidence(false);
        let n_fresh: usize = fresh.n_points;
        let Stage::Sampling(Sampling { need, shell_yield, .. }) = &self.stage else { return Vec::new() };
        // Points to be expected of the draws so far: were those counted that came, a volume that comes out small would get more draws than others.
        let draws = self.shells.sampling_draws().into_iter().zip(shell_yield);
        let expected: Vec<f64> = draws.map(|(n, part)| n as f64 * part).collect();
        let plan: Vec<f64> = if self.every_shell_sampled() {
            let now = self.shell_need(&fresh);
            let surprised = |(need, now): (&f64, f64)| if now > SURPRISE * need { now } else { *need };
            let need: Vec<f64> = need.iter().zip(now).map(surprised).collect();
            // So many that the scatter of the fresh points gives `n_eff`.
            let scatter = |((s, need), expected): ((&ShellEvidence, &f64), &f64)| {
                share(s.log_z, fresh.log_z).powi(2) * expected / (s.n_eff * need).max(1e-300)
            };
            let scale = targets.n_eff * fresh.shells.iter().zip(&need).zip(&expected).map(scatter).sum::<f64>();
            need.iter().map(|need| need * scale).collect()
        } else {
            let total: f64 = need.iter().sum();
            need.iter().map(|need| targets.n_eff * need * total).collect()
        };

        let floor: Vec<usize> = fresh.shells.iter().map(|s| targets.n_shell.saturating_sub(s.n_points)).collect();
        let below_floor = floor.iter().any(|f| *f > 0);
        let short = current.n_eff < targets.n_eff;
        if !below_floor && !short || max_points == 0 {
            return Vec::new();
        }
        let explored =
            current.shells.iter().zip(&fresh.shells).map(|(all, fresh)| (all.n_points - fresh.n_points) as f64);
        let known: Vec<f64> = explored.zip(&expected).map(|(explored, expected)| explored + expected).collect();
        let deficit: Vec<f64> = plan.iter().zip(&known).map(|(plan, known)| (plan - known).max(0.0)).collect();
        let missing: f64 = deficit.iter().sum();
        // Each round at most doubles what is there, so that a surprise is met while it is cheap.
        let budget =
            missing.min(if n_fresh == 0 { (FIRST_ROUND * missing).min(targets.n_eff) } else { n_fresh as f64 });
        let mut wanted: Vec<usize> = deficit
            .iter()
            .zip(&floor)
            .map(|(d, floor)| ((d / missing.max(1.0) * budget).round() as usize).max(*floor))
            .collect();
        // The plan is met but the target is not: one more batch where it helps most.
        if wanted.iter().sum::<usize>() < self.options.n_batch {
            let lack = |k: usize| plan[k] / known[k].max(1.0);
            let best = (0..wanted.len()).max_by(|&a, &b| lack(a).total_cmp(&lack(b)));
            if let Some(best) = best {
                wanted[best] += self.options.n_batch;
            }
        }
        wanted.into_iter().enumerate().filter(|(_, n)| *n > 0).map(|(i, n)| (i, n.min(max_points))).collect()
    }

    /// `Z_i/Z sqrt(n_i/n_eff,i)` of each shell.
    fn shell_need(&self, known: &Evidence) -> Vec<f64> {
        // What exploration says of thin shells is not to be relied on.
        let most = if known.exploration_kept { THIN_MOST } else { f64::INFINITY };
        known
            .shells
            .iter()
            .map(|s| share(s.log_z, known.log_z) * (s.n_points as f64 / s.n_eff.max(1e-300)).min(most).sqrt())
            .map(|need| if need.is_finite() { need } else { 0.0 })
            .collect()
    }
}

fn share(log_z_shell: f64, log_z: f64) -> f64 {
    if log_z_shell == f64::NEG_INFINITY { 0.0 } else { (log_z_shell - log_z).exp() }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2};

    use super::*;
    use crate::backend::Machine;
    use crate::batch::Evaluated;
    use crate::sampler::neural_bound::NeuralBoundSampler;
    use crate::sampler::{Sampler, Space};

    #[test]
    fn a_sampler_that_draws_nothing_says_so_and_may_try_again() {
        let machine = Machine::threads(1).unwrap();
        let pool = machine.pool();
        let space = Space { n_dim: 2, n_derived: 0, periodic: vec![], prior: String::new() };
        let mut sampler = NeuralBoundSampler::default().n_live(100).n_networks(0).n_eff(500.0);
        let step = |sampler: &mut NeuralBoundSampler| {
            let Some(proposal) = sampler.propose(pool, usize::MAX).unwrap() else { return false };
            let log_l: Array1<f64> = proposal
                .u
                .rows()
                .into_iter()
                .map(|u| -50.0 * u.iter().map(|u| (u - 0.5).powi(2)).sum::<f64>())
                .collect();
            let derived = Array2::zeros((log_l.len(), 0));
            sampler.update(&Evaluated { log_l, derived, likelihood_cpu_s: 0.0, n_non_finite: 0 }).unwrap();
            true
        };
        sampler.start(&space, &machine).unwrap();
        while sampler.status().phase == "exploration" {
            assert!(step(&mut sampler));
        }
        let Some(State { stage: Stage::Sampling(sampling), .. }) = &mut sampler.state else {
            panic!("no sampling phase")
        };
        sampling.n_fruitless = N_FRUITLESS_MAX;
        assert!(!step(&mut sampler));
        assert_eq!(sampler.status().phase, "stalled");
        sampler.start(&space, &machine).unwrap();
        assert_eq!(sampler.status().phase, "sampling");
        while step(&mut sampler) {}
        assert_eq!(sampler.status().phase, "sampling");
        assert!(sampler.status().n_eff >= 500.0);
    }

    /// Free draws are no points: what a shell's volume is taken for must not depend on whether exploration opened again. Counted as draws
    /// that found nothing, they would make it a hundred times smaller.
    #[test]
    fn opening_again_leaves_the_volumes_as_they_were() {
        const TOLERANCE: f64 = 0.05;
        let machine = Machine::threads(1).unwrap();
        let pool = machine.pool();
        let space = Space { n_dim: 2, n_derived: 0, periodic: vec![], prior: String::new() };
        let mut sampler = NeuralBoundSampler::default().n_live(200).n_networks(0).n_eff(1000.0).seed(2);
        sampler.start(&space, &machine).unwrap();
        while let Some(proposal) = sampler.propose(pool, usize::MAX).unwrap() {
            let square = |u: ndarray::ArrayView1<f64>| u.iter().map(|u| (u - 0.5).powi(2)).sum::<f64>();
            let log_l: Array1<f64> = proposal.u.rows().into_iter().map(|u| -50.0 * square(u)).collect();
            let derived = Array2::zeros((log_l.len(), 0));
            sampler.update(&Evaluated { log_l, derived, likelihood_cpu_s: 0.0, n_non_finite: 0 }).unwrap();
        }
        let state = sampler.state.as_mut().unwrap();
        let drawn: u64 = state.shells.sampling_draws().iter().sum();
        let fresh = state.samples.len() - state.n_like_exploration();
        assert!(drawn > 5 * fresh as u64, "{drawn} draws for {fresh} points: too few free ones to tell");
        let volumes =
            |state: &State| -> Vec<f64> { state.evidence(true).shells.iter().map(|s| s.log_volume).collect() };
        let before = volumes(state);
        state.shells.reopen(&state.samples);
        state.samples.reopen();
        for (before, after) in before.iter().zip(volumes(state)) {
            assert!((before - after).abs() < TOLERANCE, "log volume {before} became {after}");
        }
    }
}
