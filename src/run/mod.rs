//! The run: a loop that carries batches between a sampler and a likelihood until a target or a limit is reached.

mod error;
mod machines;
mod observer;
mod precision;
mod progress_line;
mod result;

use std::time::{Duration, Instant};

use ndarray::{Array1, Axis};

pub use error::{RunError, RunErrorKind, SaveError};
use machines::{Half, Machines};
pub use observer::{Observer, Progress};
pub use progress_line::ProgressLine;
pub use result::{DeviceUse, RunResult, StopReason, Timing};

use crate::backend::{Backend, Backends, Machine};
use crate::batch::Evaluated;
use crate::likelihood::{EvaluationError, Evaluator, Likelihood};
use crate::posterior::Posterior;
use crate::prior::Prior;
use crate::sampler::{Sampler, SamplerError, Space};
use crate::samples::Phase;

/// Observers are asked this often.
const OBSERVE_EVERY: Duration = Duration::from_millis(100);

/// A batch that would take longer than this is evaluated in pieces, so that limits and observers are heard in between.
const PIECE_S: f64 = 1.0;

/// A prior, a likelihood, where to run them, and when to stop; [`sample`](Run::sample) does the run.
pub struct Run<'a> {
    prior: &'a Prior,
    likelihood: Likelihood,
    backends: Backends,
    n_like_max: Option<usize>,
    timeout: Option<Duration>,
    observers: Vec<Box<dyn Observer + 'a>>,
}

impl<'a> Run<'a> {
    /// A run without limits, on one pool for the likelihood and one for the sampler, each with a thread per available core.
    ///
    /// Takes a [`Likelihood`] or a reference to one, or what makes one, such as a [`WgslLikelihood`](crate::WgslLikelihood).
    pub fn new(prior: &'a Prior, likelihood: impl Into<Likelihood>) -> Self {
        Self {
            prior,
            likelihood: likelihood.into(),
            backends: Backend::cpu(0).into(),
            n_like_max: None,
            timeout: None,
            observers: Vec::new(),
        }
    }

    /// Which machine does which half: `(likelihood_backend, sampler_backend)`, or one for both.
    pub fn backends(mut self, backends: impl Into<Backends>) -> Self {
        self.backends = backends.into();
        self
    }

    /// Ends the run after this many likelihood calls, counted in points; those of earlier runs of the same sampler count too.
    ///
    /// The limit is never exceeded. 0 makes [`sample`](Self::sample) fail.
    pub fn n_like_max(mut self, n_like_max: usize) -> Self {
        self.n_like_max = Some(n_like_max);
        self
    }

    /// Ends the run after this time by the clock; it is looked at about once a second, but a call of a tensor likelihood and a bound under training
    /// are finished first.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Adds an observer; any number of them may watch.
    pub fn observer(mut self, observer: impl Observer + 'a) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Samples until the sampler's targets, a limit or an observer ends the run; [`RunResult::stopped`] says which it was.
    ///
    /// A sampler that has sampled before ([`RunResult::into_sampler`]) goes on with the points it has.
    ///
    /// # Errors
    /// Bad options, a bad prior, a likelihood or a transform that fails or gives NaN, threads that cannot be started: see
    /// [`RunErrorKind`]. Every error carries the result so far.
    pub fn sample<S: Sampler>(mut self, mut sampler: S) -> Result<RunResult<S>, RunError<S>> {
        let start = Instant::now();
        let mut tally = Tally {
            timing: Timing::default(),
            n_non_finite: 0,
            machines: Machines::new(&self.backends),
            device_use: DeviceUse::default(),
            warnings: Vec::new(),
        };
        let ended = self.drive(&mut sampler, start, &mut tally);
        tally.timing.wall_s = start.elapsed().as_secs_f64();
        let status = sampler.status();
        tally.timing.train_s = status.train_s;
        let last = self.progress_of(status, start, None);
        self.observers.iter_mut().for_each(|o| o.finished(&last));
        let (stopped, kind) = match ended {
            Ok(reason) => (reason, None),
            Err(kind) => (StopReason::Error, Some(kind)),
        };
        let result = RunResult::new(sampler, self.prior, &self.likelihood, stopped, tally);
        match kind {
            None => Ok(result),
            Some(kind) => Err(RunError { kind, result: Box::new(result) }),
        }
    }

    fn drive<S: Sampler>(
        &mut self,
        sampler: &mut S,
        start: Instant,
        tally: &mut Tally,
    ) -> Result<StopReason, RunErrorKind> {
        self.prior.validate()?;
        let likelihood = self.likelihood.clone();
        check_names(self.prior.names(), likelihood.derived_names())?;
        if self.n_like_max == Some(0) {
            let problem = "no point could be evaluated; leave it out for no limit";
            return Err(RunErrorKind::Option { option: "n_like_max", value: "0".into(), problem });
        }
        let space = Space {
            n_dim: self.prior.n_dim(),
            n_derived: likelihood.derived_names().len(),
            periodic: self.prior.periodic_dims(),
            prior: self.prior.describe().iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        };
        let mut sampler_machine = tally.machines.open(Half::Sampler, &self.backends.sampler, Ok(()))?;
        match sampler.start(&space, &sampler_machine) {
            Err(SamplerError::Device(error)) if self.backends.sampler == Backend::Auto => {
                sampler_machine = tally.machines.open(Half::Sampler, &Backend::cpu(0), Ok(()))?;
                tally.machines.notes.push(format!("sampler: auto took the CPU, for {error}"));
                sampler.start(&space, &sampler_machine)?;
            }
            started => started?,
        }
        // Bounds that were begun on threads stay there, on the threads beside the device.
        let status = sampler.status();
        tally.machines.sampler_device = Some(status.device.unwrap_or_else(|| sampler_machine.threads_name()));
        let evaluator = self.open_likelihood(&likelihood, &mut tally.machines)?;
        tally.machines.notes.extend(evaluator.notes());
        precision::before_run(&evaluator)?;
        let ended = self.sample_on(sampler, &evaluator, &sampler_machine, start, tally);
        let (likelihood, sampling) = (evaluator.traffic(), sampler_machine.traffic());
        tally.device_use = DeviceUse {
            train_device: tally.machines.sampler_device.clone().unwrap_or_default(),
            train_bytes_uploaded: sampler.status().train_bytes_uploaded,
            dispatches: likelihood.dispatches + sampling.dispatches,
            host_waits: likelihood.host_waits + sampling.host_waits,
            bytes_uploaded: likelihood.bytes_uploaded + sampling.bytes_uploaded,
            bytes_read_back: likelihood.bytes_read_back + sampling.bytes_read_back,
        };
        if evaluator.precision().is_some() {
            tally.warnings = precision_of(sampler, &evaluator);
        }
        ended
    }

    /// Opens the likelihood on its machine. `auto` means the CPU where a device opens but cannot do this work, and the device alone where the
    /// likelihood has no form for the CPU.
    fn open_likelihood(&self, likelihood: &Likelihood, machines: &mut Machines) -> Result<Evaluator, RunErrorKind> {
        let asked = match &self.backends.likelihood {
            Backend::Auto if !likelihood.runs_on_cpu() => &Backend::gpu(),
            asked => asked,
        };
        let machine = machines.open(Half::Likelihood, asked, likelihood.device_can())?;
        match Evaluator::open(self.prior, likelihood, machine) {
            Err(EvaluationError::Device(error)) if *asked == Backend::Auto => {
                let machine = machines.open(Half::Likelihood, &Backend::cpu(0), Ok(()))?;
                machines.notes.push(format!("likelihood: auto took the CPU, for {error}"));
                Ok(Evaluator::open(self.prior, likelihood, machine)?)
            }
            opened => Ok(opened?),
        }
    }

    /// The loop.
    fn sample_on<S: Sampler>(
        &mut self,
        sampler: &mut S,
        evaluator: &Evaluator,
        sampler_machine: &Machine,
        start: Instant,
        tally: &mut Tally,
    ) -> Result<StopReason, RunErrorKind> {
        let n_derived = evaluator.n_derived();
        let mut resolved = false;

        let n_like_before = sampler.samples().len();
        let mut watch = Watch { start, last: None, newest: None, phase: "", sampling: None, n_like_before };
        let mut seconds_per_row = None;
        loop {
            let n_like = sampler.samples().len();
            let room = self.n_like_max.map_or(usize::MAX, |max| max.saturating_sub(n_like));
            if let Some(reason) = self.limit(sampler, &mut watch) {
                return Ok(reason);
            }
            if room == 0 {
                return Ok(StopReason::CallLimit);
            }
            let before = Instant::now();
            let proposal = sampler.propose(sampler_machine.pool(), room);
            tally.timing.sampler_wall_s += before.elapsed().as_secs_f64();
            let Some(proposal) = proposal? else {
                return Ok(if sampler.status().phase == "stalled" {
                    StopReason::Stalled
                } else {
                    StopReason::Converged
                });
            };

            let n = proposal.u.nrows();
            let most = seconds_per_row.map_or(n, |each| (PIECE_S / each) as usize).max(evaluator.threads());
            let mut evaluated = Evaluated::empty(n_derived);
            let mut stop = None;
            while evaluated.len() < n && stop.is_none() {
                let from = evaluated.len();
                let to = from.saturating_add(piece(most, evaluator.rows_per_call())).min(n);
                let before = Instant::now();
                let part = evaluator.evaluate_rows(&proposal, from..to);
                let wall = before.elapsed().as_secs_f64();
                tally.timing.likelihood_wall_s += wall;
                seconds_per_row = Some(wall / (to - from) as f64);
                match part {
                    Ok(part) => {
                        tally.timing.likelihood_s += part.likelihood_cpu_s;
                        tally.n_non_finite += part.n_non_finite;
                        evaluated.append(part);
                    }
                    Err(error) => {
                        // What came before the failing piece is paid for: it enters the ledger.
                        sampler.update(&evaluated)?;
                        return Err(error.into());
                    }
                }
                if evaluated.len() < n {
                    stop = self.limit(sampler, &mut watch);
                }
            }
            sampler.update(&evaluated)?;
            if let Some(reason) = stop {
                return Ok(reason);
            }
            if !resolved && sampler.samples().phase().last() == Some(&Phase::Sampling) {
                precision::before_sampling(evaluator, sampler.samples())?;
                resolved = true;
            }
        }
    }

    /// Looks at the clock and asks the observers.
    fn limit<S: Sampler>(&mut self, sampler: &S, watch: &mut Watch) -> Option<StopReason> {
        if self.timeout.is_some_and(|timeout| watch.start.elapsed() >= timeout) {
            return Some(StopReason::Timeout);
        }
        // A status costs a pass over all points; the newest point tells a change of phase for nothing.
        let newest = sampler.samples().phase().last().copied();
        let due = newest != watch.newest || watch.last.is_none_or(|last| last.elapsed() >= OBSERVE_EVERY);
        if self.observers.is_empty() || !due {
            return None;
        }
        watch.newest = newest;
        let status = sampler.status();
        if status.phase != watch.phase {
            watch.phase = status.phase;
            watch.sampling = (status.phase == "sampling").then_some((Instant::now(), status.n_eff));
        }
        let mut progress = self.progress_of(status, watch.start, watch.sampling);
        let new = progress.status.n_like - watch.n_like_before;
        progress.calls_per_s = new as f64 / progress.elapsed.as_secs_f64().max(1e-9);
        watch.last = Some(Instant::now());
        let mut stop = false;
        for observer in &mut self.observers {
            // Every observer is told, also when another has asked to stop.
            stop |= observer.progress(&progress).is_break();
        }
        stop.then_some(StopReason::Observer)
    }

    fn progress_of(
        &self,
        status: crate::sampler::SamplerStatus,
        start: Instant,
        sampling: Option<(Instant, f64)>,
    ) -> Progress {
        let elapsed = start.elapsed();
        let time_left = sampling.and_then(|(since, n_eff)| {
            let gained = status.n_eff - n_eff;
            let left = (status.n_eff_target - status.n_eff).max(0.0) / gained * since.elapsed().as_secs_f64();
            Duration::try_from_secs_f64(left).ok()
        });
        let calls_per_s = status.n_like as f64 / elapsed.as_secs_f64().max(1e-9);
        Progress { status, elapsed, calls_per_s, time_left }
    }
}

/// Rows of a piece of at least `most` rows and one: whole calls of the likelihood, whose values must not depend on the clock.
fn piece(most: usize, rows_per_call: usize) -> usize {
    most.max(1).checked_next_multiple_of(rows_per_call).unwrap_or(usize::MAX)
}

/// What f32 may have done to what the sampler holds now.
fn precision_of<S: Sampler>(sampler: &S, evaluator: &Evaluator) -> Vec<String> {
    let (samples, log_weight) = (sampler.samples(), sampler.log_weights());
    let keep: Vec<usize> = (0..samples.len()).filter(|&k| log_weight[k] > f64::NEG_INFINITY).collect();
    let pick = |values: &[f64]| keep.iter().map(|&k| values[k]).collect::<Vec<f64>>();
    let names = (0..samples.u().ncols()).map(|dim| dim.to_string()).collect();
    let u = samples.u().select(Axis(0), &keep);
    let Ok(posterior) = Posterior::new(names, u, pick(&log_weight), pick(samples.log_l())) else { return Vec::new() };
    let draws = posterior.equal_weight_indices(precision::N_DRAWS, 0);
    let u = posterior.rows().select(Axis(0), &draws);
    let log_l: Array1<f64> = draws.iter().map(|&k| posterior.log_l()[k]).collect();
    precision::after_run(evaluator, u.view(), log_l.view(), sampler.evidence().log_z_error)
}

/// Refuses names that would make two columns of the result one.
fn check_names(parameters: &[String], derived: &[String]) -> Result<(), RunErrorKind> {
    let reserved = |name: &String| result::WEIGHT_COLUMNS.contains(&name.as_str());
    if let Some(name) = parameters.iter().find(|name| reserved(name)) {
        let problem = "samples.csv has a column of its own by that name; rename the parameter";
        return Err(RunErrorKind::ParameterName { name: name.clone(), problem });
    }
    for (k, name) in derived.iter().enumerate() {
        let problem = if name.is_empty() {
            "the name is empty; name every derived value"
        } else if parameters.contains(name) {
            "a parameter has the same name; rename one of the two"
        } else if reserved(name) {
            "samples.csv has a column of its own by that name; rename the derived value"
        } else if derived[..k].contains(name) {
            "another derived value has the same name; rename one of the two"
        } else {
            continue;
        };
        return Err(RunErrorKind::DerivedName { name: name.clone(), problem });
    }
    Ok(())
}

/// What a run counts besides its points.
#[derive(Debug)]
struct Tally {
    timing: Timing,
    n_non_finite: usize,
    machines: Machines,
    device_use: DeviceUse,
    /// What a device's precision may have done to the result.
    warnings: Vec<String>,
}

/// What the loop remembers between looks at the clock.
struct Watch {
    start: Instant,
    last: Option<Instant>,
    /// Phase of the newest point when the observers were last asked.
    newest: Option<Phase>,
    phase: &'static str,
    /// When the sampling phase was first seen, and the effective points then.
    sampling: Option<(Instant, f64)>,
    n_like_before: usize,
}

#[cfg(test)]
mod tests {
    use super::piece;

    #[test]
    fn pieces_are_whole_calls() {
        for (most, rows_per_call, expected) in [
            (0, 1, 1),
            (7, 1, 7),
            (0, 1024, 1024),
            (1024, 1024, 1024),
            (1025, 1024, 2048),
            (usize::MAX, 1024, usize::MAX),
        ] {
            assert_eq!(piece(most, rows_per_call), expected, "{most} {rows_per_call}");
        }
    }
}
