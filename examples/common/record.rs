//! One run of a problem with known log Z, and what is written down of it.

use std::fmt::Debug;
use std::time::Instant;

use livepoint::testing::Problem;
use livepoint::{Backends, Run, RunResult, StopReason};
use serde::Serialize;

use crate::common::Failure;

#[derive(Debug, Clone, Copy, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    NeuralBound,
}

/// One run: a line of JSON.
#[derive(Serialize)]
pub struct Record {
    problem: &'static str,
    sampler: Sampler,
    /// The backends that ran: `auto` is what it turned out to be.
    likelihood_backend: String,
    sampler_backend: String,
    likelihood_device: Option<String>,
    sampler_device: Option<String>,
    /// Of the likelihood's pool.
    threads: usize,
    seed: u64,
    n_dim: usize,
    /// Rows evaluated in the whole run.
    n_like: usize,
    n_like_exploration: usize,
    n_eff: f64,
    ess_kish: f64,
    pub log_z: f64,
    pub log_z_error: f64,
    log_z_truth: Option<f64>,
    log_z_truth_error: f64,
    max_weight_share: f64,
    /// Wall time of the whole run.
    pub wall_s: f64,
    /// User and system time of the process during the run, all threads.
    cpu_s: f64,
    /// CPU time in the likelihood, summed over threads.
    likelihood_s: f64,
    /// CPU time in the training of networks, summed over threads.
    train_s: f64,
    /// What trained the networks, and what went to and fro between host and device.
    train_device: String,
    train_bytes_uploaded: u64,
    dispatches: u64,
    host_waits: u64,
    bytes_uploaded: u64,
    bytes_read_back: u64,
    /// Largest resident set of the process so far.
    peak_rss_mib: f64,
    /// Whether the targets were reached, or what ended the run before.
    stopped: StopReason,
    /// What the run itself says against trusting it.
    warnings: Vec<String>,
}

/// Does the run with a sampler of that seed. Its CPU time is that of the process: nothing else may work in it meanwhile.
pub fn measure<S: livepoint::Sampler + Debug + 'static>(
    problem: &Problem,
    run: Run<'_>,
    backends: &Backends,
    kind: Sampler,
    sampler: S,
    seed: u64,
) -> Result<(Record, RunResult<S>), Failure> {
    let (wall, cpu) = (Instant::now(), usage().cpu_s);
    let result = run.backends(backends.clone()).sample(sampler)?;
    let (wall_s, usage) = (wall.elapsed().as_secs_f64(), usage());
    let (evidence, ran) = (result.evidence(), result.backends());
    let record = Record {
        problem: problem.name,
        sampler: kind,
        likelihood_backend: ran.likelihood.to_string(),
        sampler_backend: ran.sampler.to_string(),
        likelihood_device: result.likelihood_device().map(str::to_owned),
        sampler_device: result.sampler_device().map(str::to_owned),
        threads: ran.likelihood.threads(),
        seed,
        n_dim: problem.n_dim,
        n_like: result.n_like(),
        n_like_exploration: result.n_like_exploration(),
        n_eff: evidence.n_eff,
        ess_kish: result.posterior().ess_kish(),
        log_z: evidence.log_z,
        log_z_error: evidence.log_z_error,
        log_z_truth: problem.log_z_truth,
        log_z_truth_error: problem.log_z_truth_error,
        max_weight_share: evidence.max_weight_share,
        wall_s,
        cpu_s: usage.cpu_s - cpu,
        likelihood_s: result.timing().likelihood_s,
        train_s: result.timing().train_s,
        train_device: result.device_use().train_device.clone(),
        train_bytes_uploaded: result.device_use().train_bytes_uploaded,
        dispatches: result.device_use().dispatches,
        host_waits: result.device_use().host_waits,
        bytes_uploaded: result.device_use().bytes_uploaded,
        bytes_read_back: result.device_use().bytes_read_back,
        peak_rss_mib: usage.peak_rss_mib,
        stopped: result.stopped(),
        warnings: result.warnings(),
    };
    Ok((record, result))
}

/// What the operating system says about this process.
struct Usage {
    cpu_s: f64,
    peak_rss_mib: f64,
}

fn usage() -> Usage {
    // SAFETY: rusage is plain numbers, for which zero bytes are a value, and getrusage writes to nothing else.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + 1e-6 * time.tv_usec as f64;
    // Linux counts in KiB, macOS in bytes.
    let unit = if cfg!(target_os = "macos") { 1.0 / 1024.0 } else { 1.0 } / 1024.0;
    Usage { cpu_s: seconds(usage.ru_utime) + seconds(usage.ru_stime), peak_rss_mib: usage.ru_maxrss as f64 * unit }
}
