//! What a run returns: evidence, posterior, ledger, timings; how it prints and what it saves.

use std::fmt;
use std::fs;
use std::path::Path;

use ndarray::{Array2, s};
use serde::Serialize;
use serde_json::json;

use super::Tally;
use super::error::SaveError;
use crate::backend::{Backend, Backends};
use crate::evidence::Evidence;
use crate::likelihood::Likelihood;
use crate::posterior::Posterior;
use crate::prior::Prior;
use crate::sampler::neural_bound::NeuralBoundSampler;
use crate::sampler::{Sampler, SamplerStatus};
use crate::samples::Samples;

/// Columns of `samples.csv` behind parameters and derived values.
pub(super) const WEIGHT_COLUMNS: [&str; 2] = ["weight", "log_l"];

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopReason {
    /// The sampler reached its targets.
    Converged,
    /// The sampler could draw no more points, short of its targets.
    Stalled,
    /// `n_like_max` calls were made.
    CallLimit,
    /// The time was up.
    Timeout,
    /// An observer asked for it.
    Observer,
    /// An error ended it; this is the result until then.
    Error,
}

/// Seconds spent in one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Timing {
    /// The whole run, by the clock.
    pub wall_s: f64,
    /// CPU seconds in the likelihood, summed over threads; on a device, seconds by the clock of feeding it and waiting for it.
    pub likelihood_s: f64,
    /// CPU seconds in the training of networks, summed over threads (earlier runs of the same sampler counted).
    pub train_s: f64,
    /// Evaluating batches, prior transform included, by the clock.
    pub likelihood_wall_s: f64,
    /// Proposing, training included, by the clock.
    pub sampler_wall_s: f64,
}

/// What a run had to do with devices, both halves together; zeros where none took part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeviceUse {
    /// What trained the networks, in words.
    pub train_device: String,
    /// Bytes that went to the device for training (earlier runs of the same sampler counted): the number and the target of each point of a lesson, and options; no positions, no weights.
    pub train_bytes_uploaded: u64,
    /// Kernels started, those of tensor likelihoods not counted.
    pub dispatches: u64,
    /// Times that the host waited for a device.
    pub host_waits: u64,
    /// Bytes from the host to a device, training included.
    pub bytes_uploaded: u64,
    /// Bytes from a device to the host.
    pub bytes_read_back: u64,
}

/// The result of a run: evidence, posterior, every evaluated point.
///
/// It prints as evidence, effort, warnings and a table of the posterior, and [`save`](Self::save)s to a folder.
#[derive(Debug)]
pub struct RunResult<S = NeuralBoundSampler> {
    sampler: S,
    names: Vec<String>,
    theta: Array2<f64>,
    prior: serde_json::Value,
    stopped: StopReason,
    tally: Tally,
    evidence: Evidence,
    status: SamplerStatus,
}

impl<S: Sampler> RunResult<S> {
    pub(super) fn new(sampler: S, prior: &Prior, likelihood: &Likelihood, stopped: StopReason, tally: Tally) -> Self {
        let samples = sampler.samples();
        let mut theta = Array2::zeros((samples.len(), prior.n_params()));
        if samples.is_empty() || prior.transform_batch(samples.u(), theta.view_mut()).is_err() {
            // Every row was transformed before, so this is a sampler that was handed another prior: keep the ledger.
            theta = Array2::from_elem((samples.len(), prior.n_params()), f64::NAN);
        }
        let names = prior.names().iter().chain(likelihood.derived_names()).cloned().collect();
        let evidence = sampler.evidence();
        let status = sampler.status();
        let prior = serde_json::to_value(prior.describe()).unwrap_or_default();
        Self { sampler, names, theta, prior, stopped, tally, evidence, status }
    }

    /// Evidence, its error, effective sample size.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Weighted posterior samples: parameters in the order of the prior, then derived values. No rows when nothing has weight.
    ///
    /// Built anew by each call, at the cost of a copy of all points that count.
    pub fn posterior(&self) -> Posterior {
        let log_weight = self.sampler.log_weights();
        let samples = self.sampler.samples();
        let keep: Vec<usize> = (0..samples.len()).filter(|&k| log_weight[k] > f64::NEG_INFINITY).collect();
        let n_params = self.theta.ncols();
        // As for theta: a sampler that was handed a likelihood with other derived values keeps its ledger.
        let has_derived = samples.derived().ncols() == self.names.len() - n_params;
        let mut rows = Array2::from_elem((keep.len(), self.names.len()), f64::NAN);
        for (mut row, &k) in rows.rows_mut().into_iter().zip(&keep) {
            row.slice_mut(s![..n_params]).assign(&self.theta.row(k));
            if has_derived {
                row.slice_mut(s![n_params..]).assign(&samples.derived().row(k));
            }
        }
        let pick = |values: &[f64]| keep.iter().map(|&k| values[k]).collect::<Vec<f64>>();
        Posterior::new(self.names.clone(), rows, pick(&log_weight), pick(samples.log_l()))
            .unwrap_or_else(|_| Posterior::empty(self.names.clone()))
    }

    /// Every evaluated point, whether it counts or not.
    pub fn samples(&self) -> &Samples {
        self.sampler.samples()
    }

    /// Parameters of every evaluated point, `[n_points, n_params]`: row k belongs to point k of [`samples`](Self::samples), columns are in
    /// the order of the prior.
    pub fn theta(&self) -> &Array2<f64> {
        &self.theta
    }

    /// Likelihood calls before the bounds were frozen.
    pub fn n_like_exploration(&self) -> usize {
        self.status.n_like_exploration
    }

    /// Points of this run (not of earlier ones of the same sampler) whose log L was NaN or +inf and was taken as -inf, by the
    /// user's choice.
    pub fn n_non_finite(&self) -> usize {
        self.tally.n_non_finite
    }

    /// The machines that did the work: `auto` has become what it turned out to be.
    pub fn backends(&self) -> &Backends {
        &self.tally.machines.backends
    }

    /// The device or the threads that evaluated the likelihood, in words; none when the run failed before it was opened.
    pub fn likelihood_device(&self) -> Option<&str> {
        self.tally.machines.likelihood_device.as_deref()
    }

    /// The device or the threads that ran the sampler, in words; none when the run failed before it was opened.
    pub fn sampler_device(&self) -> Option<&str> {
        self.tally.machines.sampler_device.as_deref()
    }

    /// What is worth knowing and speaks not against the result, such as why `auto` took the CPU.
    pub fn notes(&self) -> &[String] {
        &self.tally.machines.notes
    }

    /// What the run had to do with devices.
    pub fn device_use(&self) -> &DeviceUse {
        &self.tally.device_use
    }

    /// Seconds spent.
    pub fn timing(&self) -> &Timing {
        &self.tally.timing
    }

    /// Why the run ended.
    pub fn stopped(&self) -> StopReason {
        self.stopped
    }

    /// What the user should know before trusting the result; empty when all is well.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match self.stopped {
            StopReason::Converged => {}
            StopReason::Stalled => warnings.push(
                "the run ended before its targets were reached: hardly any draw falls in the shells that need more points".into(),
            ),
            StopReason::CallLimit => {
                warnings.push("the run ended at n_like_max before its targets were reached".into())
            }
            StopReason::Timeout => warnings.push("the run ended at its timeout before its targets were reached".into()),
            StopReason::Observer => warnings.push("an observer ended the run before its targets were reached".into()),
            StopReason::Error => warnings.push("an error ended the run before its targets were reached".into()),
        }
        if self.tally.n_non_finite > 0 {
            warnings
                .push(format!("{} values of log L were NaN or +inf and were taken as -inf", self.tally.n_non_finite));
        }
        warnings.extend(self.tally.warnings.iter().cloned());
        warnings.extend(self.sampler.warnings());
        warnings
    }

    /// The sampler with all it knows: give it tighter targets and sample on, under the same prior.
    pub fn into_sampler(self) -> S {
        self.sampler
    }

    /// Settings, prior, backends, evidence, timings, warnings and summary as JSON; numbers that are not finite are null.
    ///
    /// Cost: as [`posterior`](Self::posterior), and a sort of every column.
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "settings": self.sampler.settings(),
            "prior": self.prior,
            "likelihood_backend": self.tally.machines.backends.likelihood.to_string(),
            "sampler_backend": self.tally.machines.backends.sampler.to_string(),
            "likelihood_device": self.tally.machines.likelihood_device,
            "sampler_device": self.tally.machines.sampler_device,
            "notes": self.tally.machines.notes,
            "stopped": self.stopped,
            "n_dim": self.sampler.samples().u().ncols(),
            "n_like": self.n_like(),
            "n_like_exploration": self.n_like_exploration(),
            "n_non_finite": self.tally.n_non_finite,
            "evidence": self.evidence,
            "timing": self.tally.timing,
            "device_use": self.tally.device_use,
            "warnings": self.warnings(),
            "summary": self.posterior().summary(),
        })
    }

    /// Writes `result.json` ([`to_json`](Self::to_json)) and `samples.csv` to a folder, which is made when missing.
    ///
    /// The columns of `samples.csv` are those of [`posterior`](Self::posterior), then `weight` (sum 1) and `log_l`.
    ///
    /// # Errors
    /// [`SaveError`] names the path that cannot be written; files that were there before stay whole.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), SaveError> {
        let folder = folder.as_ref();
        let failed =
            |path: &Path, reason: &dyn fmt::Display| SaveError { path: path.into(), reason: reason.to_string() };
        fs::create_dir_all(folder).map_err(|e| failed(folder, &e))?;
        let json = serde_json::to_string_pretty(&self.to_json()).map_err(|e| failed(folder, &e))?;
        let csv = self.samples_csv().map_err(|e| failed(folder, &e))?;
        // Both are written beside and then renamed, so that a failure half-way leaves the old files.
        let files = [("result.json", json.into_bytes()), ("samples.csv", csv)]
            .map(|(name, content)| (folder.join(name), folder.join(format!("{name}.part")), content));
        let written = files
            .iter()
            .try_for_each(|(path, part, content)| fs::write(part, content).map_err(|e| failed(path, &e)))
            .and_then(|()| {
                files.iter().try_for_each(|(path, part, _)| fs::rename(part, path).map_err(|e| failed(path, &e)))
            });
        if written.is_err() {
            // Parts that were not renamed are of no use to anyone; one that cannot be removed does no harm.
            files.iter().for_each(|(_, part, _)| drop(fs::remove_file(part)));
        }
        written
    }

    fn samples_csv(&self) -> Result<Vec<u8>, csv::Error> {
        let posterior = self.posterior();
        let mut writer = csv::Writer::from_writer(Vec::new());
        let header = posterior.names().iter().map(String::as_str).chain(WEIGHT_COLUMNS);
        writer.write_record(header)?;
        for ((row, weight), log_l) in
            posterior.rows().rows().into_iter().zip(posterior.weights()).zip(posterior.log_l())
        {
            writer.write_record(row.iter().chain([&weight, log_l]).map(|value| format!("{value:?}")))?;
        }
        writer.into_inner().map_err(|e| e.into_error().into())
    }
}

impl<S> RunResult<S> {
    /// Likelihood calls, counted in points; those of earlier runs of the same sampler count too.
    pub fn n_like(&self) -> usize {
        self.status.n_like
    }
}

impl RunResult<NeuralBoundSampler> {
    /// Leaves points and volumes of the exploration out (true) or keeps them (false); either way back is possible at any time.
    ///
    /// Evidence, posterior and warnings follow at once. Leaving them out may take the effective sample size below its target: run on then.
    pub fn set_discard_exploration(&mut self, discard_exploration: bool) {
        self.sampler.set_discard_exploration(discard_exploration);
        self.evidence = self.sampler.evidence();
        self.status = self.sampler.status();
    }
}

impl<S: Sampler> fmt::Display for RunResult<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &self.evidence;
        let terms = &e.error_terms;
        writeln!(f, "log Z = {:.4} +- {:.4}", e.log_z, e.log_z_error)?;
        writeln!(f, "  error from scatter {:.4}, from volumes {:.4}", terms.scatter.sqrt(), terms.volume().sqrt())?;
        writeln!(
            f,
            "  information {:.2} nats, N_eff {:.0}, efficiency {:.2}, largest weight {:.2e}",
            e.information, e.n_eff, e.efficiency, e.max_weight_share
        )?;
        writeln!(
            f,
            "{} calls ({} exploring), {} bounds, {:.2} s (training {:.2} s CPU, likelihood {:.2} s CPU)",
            self.n_like(),
            self.n_like_exploration(),
            self.status.n_bounds,
            self.tally.timing.wall_s,
            self.tally.timing.train_s,
            self.tally.timing.likelihood_s
        )?;
        let machines = &self.tally.machines;
        let half = |backend: &Backend, device: &Option<String>| match (backend, device) {
            (Backend::Gpu(_), Some(device)) => format!("{backend}: {device}"),
            _ => backend.to_string(),
        };
        let likelihood = half(&machines.backends.likelihood, &machines.likelihood_device);
        let sampler = half(&machines.backends.sampler, &machines.sampler_device);
        writeln!(f, "likelihood on {likelihood}, sampler on {sampler}")?;
        for note in &machines.notes {
            writeln!(f, "note: {note}")?;
        }
        for warning in self.warnings() {
            writeln!(f, "warning: {warning}")?;
        }
        write!(f, "\n{}", self.posterior().summary())
    }
}
