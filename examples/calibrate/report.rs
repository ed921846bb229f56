//! The table of a calibration: what is computed from the runs, and its Markdown.

use std::fmt;
use std::process::Command;

use livepoint::diagnostics::{Calibration, EXACT, MAX_RELATIVE_BIAS, accept};
use serde::Deserialize;

/// Family level of all tests of the table together.
const ALPHA: f64 = 0.01;

/// Largest share of runs that may say "do not trust this run", on problems whose answers are right.
const MAX_WARNING_SHARE: f64 = 0.05;

/// What the table needs of a record.
#[derive(Debug, Deserialize)]
pub struct Measured {
    pub problem: String,
    pub seed: u64,
    n_like: f64,
    n_like_exploration: f64,
    n_eff: f64,
    log_z: f64,
    log_z_error: f64,
    cpu_s: f64,
    likelihood_s: f64,
    train_s: f64,
    warnings: Vec<String>,
}

/// One problem.
#[derive(Debug)]
pub struct Row {
    name: &'static str,
    /// Runs that were asked for, and what became of them.
    n_runs: u64,
    runs: Vec<Measured>,
    /// Absent when fewer than two runs succeeded.
    calibration: Option<Calibration>,
    /// Root mean square of log Z - truth.
    rms: f64,
}

/// Everything that is printed; [`Display`](fmt::Display) is the Markdown.
#[derive(Debug)]
pub struct Report {
    pub options: String,
    pub settings: String,
    pub first_seed: u64,
    pub rows: Vec<Row>,
}

impl Row {
    pub fn new(name: &'static str, n_runs: u64, truth: f64, runs: Vec<Measured>) -> Self {
        let log_z: Vec<f64> = runs.iter().map(|run| run.log_z).collect();
        let errors: Vec<f64> = runs.iter().map(|run| run.log_z_error).collect();
        let calibration = Calibration::from_runs(&log_z, &errors, truth)
            .inspect_err(|error| eprintln!("{name} cannot be judged: {error}"))
            .ok();
        let square = log_z.iter().map(|log_z| (log_z - truth).powi(2)).sum::<f64>();
        Self { name, n_runs, rms: (square / log_z.len() as f64).sqrt(), runs, calibration }
    }

    fn mean(&self, value: impl Fn(&Measured) -> f64) -> f64 {
        self.runs.iter().map(value).sum::<f64>() / self.runs.len() as f64
    }

    /// What is wrong, given whether bias and tests were accepted; nothing for a pass.
    fn faults(&self, accepted: bool) -> Vec<String> {
        let mut faults = Vec::new();
        let failed = self.n_runs - self.runs.len() as u64;
        if failed > 0 {
            faults.push(format!("{failed} runs failed"));
        }
        let Some(calibration) = &self.calibration else { return faults };
        if !accepted {
            let bias = calibration.relative_bias.is_some_and(|bias| bias >= MAX_RELATIVE_BIAS);
            faults.push(match (&calibration.pulls, bias) {
                (None, _) => format!("off by {:.1e}", calibration.max_abs_bias),
                (Some(_), true) => "bias".to_owned(),
                (Some(_), false) => "pulls".to_owned(),
            });
        }
        faults
    }
}

impl Report {
    /// What is wrong with each problem: nothing for a pass.
    fn faults(&self) -> Vec<Vec<String>> {
        let table: Vec<Calibration> = self.rows.iter().filter_map(|row| row.calibration.clone()).collect();
        let mut accepted = accept(&table, ALPHA).into_iter();
        self.rows
            .iter()
            .map(|row| row.faults(row.calibration.is_some() && accepted.next().unwrap_or_default()))
            .collect()
    }

    /// Runs with warnings and all runs.
    fn n_warned(&self) -> (usize, usize) {
        let runs = self.rows.iter().flat_map(|row| &row.runs);
        (runs.clone().filter(|run| !run.warnings.is_empty()).count(), runs.count())
    }

    fn warnings_pass(&self) -> bool {
        let (warned, runs) = self.n_warned();
        warned as f64 <= MAX_WARNING_SHARE * runs as f64
    }

    /// Whether every problem is calibrated and warnings are rare.
    pub fn passes(&self) -> bool {
        self.faults().iter().all(Vec::is_empty) && self.warnings_pass()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.faults();
        self.head(f)?;
        self.errors(f, &faults)?;
        self.costs(f)?;

        let failed = faults.iter().filter(|faults| !faults.is_empty()).count();
        let n = self.rows.len();
        let verdict = if failed == 0 {
            format!("pass, {n} of {n} problems")
        } else {
            format!("FAIL, {failed} of {n} problems do not pass")
        };
        writeln!(f, "\n**Family verdict** (alpha {ALPHA}, Holm): {verdict}.")?;
        let (warned, runs) = self.n_warned();
        let verdict = if self.warnings_pass() { "pass" } else { "FAIL" };
        writeln!(
            f,
            "\n**Warnings** (\"do not trust this run\", at most {MAX_WARNING_SHARE} of runs): {verdict}, {warned} of {runs} runs."
        )?;
        self.list_warnings(f)
    }
}

impl Report {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        writeln!(f, "# Calibration\n")?;
        writeln!(f, "- command: `{}`", format!("cargo calibrate {}", arguments.join(" ")).trim_end())?;
        let commit = commit().map_or_else(String::new, |commit| format!(", commit {commit}"));
        writeln!(f, "- livepoint {}{commit}", env!("CARGO_PKG_VERSION"))?;
        writeln!(f, "- machine: {}", machine())?;
        writeln!(f, "- options: {}", self.options)?;
        writeln!(f, "- sampler, at the first seed: `{}`\n", self.settings)
    }

    fn errors(&self, f: &mut fmt::Formatter<'_>, faults: &[Vec<String>]) -> fmt::Result {
        writeln!(
            f,
            "Seeds {seeds}. pull = (log Z - truth) / reported error; its mean is tested by z, its variance by \
             chi-square. A problem passes if neither test rejects and |bias| / median error is below {MAX_RELATIVE_BIAS}; one without \
             variance, if every run is within {EXACT:.0e} of the truth.\n",
            seeds =
                if self.first_seed == 1 { "1 to R".to_owned() } else { format!("{0} to {0} + R - 1", self.first_seed) }
        )?;
        writeln!(
            f,
            "| problem | R | mean bias ± s.e. | median error | rms error | \\|bias\\| / error | mean pull | p | variance of pulls | p | verdict |"
        )?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|")?;
        for (row, faults) in self.rows.iter().zip(faults) {
            let verdict = if faults.is_empty() { "pass".to_owned() } else { format!("FAIL: {}", faults.join(", ")) };
            let Some(c) = &row.calibration else {
                writeln!(f, "| {} | {} | | | | | | | | | {verdict} |", row.name, row.runs.len())?;
                continue;
            };
            write!(f, "| {} | {} ", row.name, c.n_runs)?;
            if let (Some(bias), Some(pulls)) = (c.relative_bias, &c.pulls) {
                write!(
                    f,
                    "| {:+.5} ± {:.5} | {:.5} | {:.5} | {bias:.3} ",
                    c.mean_bias, c.mean_bias_error, c.median_error, row.rms
                )?;
                write!(
                    f,
                    "| {:+.3} | {:.2e} | {:.3} | {:.2e} ",
                    pulls.mean, pulls.p_mean, pulls.variance, pulls.p_variance
                )?;
            } else {
                write!(f, "| {:+.1e} ± {:.1e} ", c.mean_bias, c.mean_bias_error)?;
                write!(f, "| {:.1e} | {:.1e} | | | | | ", c.median_error, row.rms)?;
            }
            writeln!(f, "| {verdict} |")?;
        }
        Ok(())
    }

    fn costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nMeans over the runs. Calls are rows evaluated; sigma is the median reported error; CPU is user + system of the process, \
             all threads.\n"
        )?;
        writeln!(
            f,
            "| problem | calls exploring | calls sampling | N_eff | calls x sigma² | CPU s likelihood | CPU s training | CPU s total | runs with warnings |"
        )?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for row in &self.rows {
            let calls = row.mean(|run| run.n_like);
            let sigma = row.calibration.as_ref().map_or(f64::NAN, |c| c.median_error);
            writeln!(
                f,
                "| {} | {:.0} | {:.0} | {:.0} | {:.2} | {:.3} | {:.2} | {:.2} | {} of {} |",
                row.name,
                row.mean(|run| run.n_like_exploration),
                row.mean(|run| run.n_like - run.n_like_exploration),
                row.mean(|run| run.n_eff),
                calls * sigma * sigma,
                row.mean(|run| run.likelihood_s),
                row.mean(|run| run.train_s),
                row.mean(|run| run.cpu_s),
                row.runs.iter().filter(|run| !run.warnings.is_empty()).count(),
                row.runs.len()
            )?;
        }
        Ok(())
    }

    fn list_warnings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warned = self.rows.iter().flat_map(|row| row.runs.iter().map(move |run| (row.name, run)));
        let mut warned = warned.filter(|(_, run)| !run.warnings.is_empty()).peekable();
        if warned.peek().is_some() {
            writeln!(f)?;
        }
        warned.try_for_each(|(name, run)| writeln!(f, "- {name}, seed {}: {}", run.seed, run.warnings.join("; ")))
    }
}

/// The commit of the sources, as `git describe` names it; nothing where there is no git or no repository.
fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--tags", "--dirty"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Processor, cores and system.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or_else(|_| "?".to_owned(), |n| n.to_string());
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or_else(String::new, |(_, model)| format!("{}, ", model.trim()));
    format!("{model}{cores} cores, {} {}", std::env::consts::OS, std::env::consts::ARCH)
}
