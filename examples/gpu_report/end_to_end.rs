//! Whole runs of problems with known log Z on every pair of machines.

use std::cell::Cell;
use std::error::Error;
use std::fmt::Write;
use std::ops::ControlFlow;

use livepoint::testing::{Problem, problem};
use livepoint::{
    Backend, Backends, CpuPool, DeviceKind, Evaluated, Evidence, GpuOptions, Machine, NeuralBoundSampler, Progress,
    Proposal, Run, SamplerError, SamplerStatus, Samples, Space,
};
use serde_json::{Value, json};

use crate::record::{Sampler, measure};
use crate::section::Section;

/// Those of a report, and those that a software driver ends in a few minutes.
const PROBLEMS: [&str; 4] = ["gauss3", "rosen2", "gauss10corr", "rosen10"];
const CHEAP: [&str; 2] = ["gauss3", "rosen2"];

/// Largest |log Z - truth| in reported errors; an honest error is exceeded so far once in two million runs.
const MAX_PULL: f64 = 5.0;

/// What is run.
pub struct Wanted<'a> {
    /// Names of problems; none: those that suit the device.
    pub problems: &'a [String],
    pub n_live: usize,
    pub n_eff: &'a [f64],
}

/// The table of runs.
pub fn section(options: &GpuOptions, kind: DeviceKind, wanted: &Wanted<'_>) -> Result<Section, Box<dyn Error>> {
    let (names, left_out): (Vec<&str>, _) = match (wanted.problems, kind) {
        ([], DeviceKind::Software) => (
            CHEAP.into(),
            format!(
                " This is a software driver: only {} are run unless --problem names others ({}).",
                CHEAP.join(" and "),
                PROBLEMS.join(", ")
            ),
        ),
        ([], _) => (PROBLEMS.into(), String::new()),
        (named, _) => (named.iter().map(String::as_str).collect(), String::new()),
    };
    let problems: Vec<Problem> = names
        .into_iter()
        .map(|name| problem(name).ok_or_else(|| format!("there is no problem `{name}`")))
        .collect::<Result<_, _>>()?;
    let mut text = format!(
        "# Whole runs\n\n\
         One run with {} live points, seed 1, for each pair (likelihood, sampler); the CPU with all its threads.{left_out} Start: machines opened, kernels compiled, the \
         likelihood compared with its twin; a driver that remembers kernels compiles them for the first run only. Run: all that follows. A step is one batch proposed, evaluated and told.\n\n\
         | problem | N_eff | likelihood | sampler | start, s | run, s | against the CPU | of it training, s | calls | log Z - truth | error | in errors | steps | waits per step | kernels | bytes up | bytes down |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        wanted.n_live
    );
    let (mut runs, mut passed) = (Vec::new(), true);
    for problem in &problems {
        for &n_eff in wanted.n_eff {
            let mut on_cpu = f64::NAN;
            let device = Backend::from(options.clone());
            for (likelihood, sampler) in [("cpu", "cpu"), ("gpu", "cpu"), ("cpu", "gpu"), ("gpu", "gpu")] {
                let backend = |name: &str| if name == "gpu" { device.clone() } else { Backend::cpu(0) };
                let backends = (backend(likelihood), backend(sampler)).into();
                let name = problem.name;
                let mut run = match one(problem, &backends, wanted.n_live, n_eff) {
                    Ok(run) => run,
                    Err(error) => {
                        passed = false;
                        writeln!(text, "| {name} | {n_eff:.0} | {likelihood} | {sampler} | **failed**: {error} |")?;
                        runs.push(
                            json!({ "problem": name, "pair": [likelihood, sampler], "error": error.to_string() }),
                        );
                        continue;
                    }
                };
                let number = |key: &str| run[key].as_f64().unwrap_or(f64::NAN);
                if (likelihood, sampler) == ("cpu", "cpu") {
                    on_cpu = number("run_s");
                }
                let (difference, ratio) = (number("log_z") - number("log_z_truth"), on_cpu / number("run_s"));
                let error = number("log_z_error");
                // A constant likelihood has no error at all.
                let well = difference.abs() <= MAX_PULL * error && number("n_eff") >= n_eff;
                let pull = if error > 0.0 { difference / error } else { 0.0 };
                passed &= well;
                writeln!(
                    text,
                    "| {name} | {n_eff:.0} | {likelihood} | {sampler} | {:.2} | {:.2} | {ratio:.2} | {:.2} | {} | {difference:+.4} | {error:.4} | {pull:+.2}{} | {} | {:.2} | {} | {} | {} |",
                    number("start_s"),
                    number("run_s"),
                    number("train_s"),
                    run["n_like"],
                    if well { "" } else { " **fail**" },
                    run["steps"],
                    number("host_waits") / number("steps"),
                    run["dispatches"],
                    run["bytes_uploaded"],
                    run["bytes_read_back"],
                )?;
                run["pair"] = json!([likelihood, sampler]);
                run["n_eff_target"] = json!(n_eff);
                run["against_cpu"] = json!(ratio);
                runs.push(run);
            }
        }
    }
    Ok(Section { markdown: text, json: json!({ "n_live": wanted.n_live, "runs": runs }), passed })
}

/// The record of a run, with its number of steps and its times.
fn one(problem: &Problem, backends: &Backends, n_live: usize, n_eff: f64) -> Result<Value, Box<dyn Error>> {
    let (prior, likelihood) = (problem.prior(), problem.likelihood());
    // An observer is asked for the first time when everything is open.
    let start_s = Cell::new(None);
    let run = Run::new(&prior, &likelihood).observer(|progress: &Progress| {
        start_s.set(start_s.get().or(Some(progress.elapsed.as_secs_f64())));
        ControlFlow::Continue(())
    });
    let sampler = Counted { sampler: NeuralBoundSampler::default().n_live(n_live).n_eff(n_eff).seed(1), steps: 0 };
    let (record, result) =
        measure(problem, run, backends, Sampler::NeuralBound, sampler, 1).map_err(|failure| format!("{failure:?}"))?;
    let mut json = serde_json::to_value(&record)?;
    let start_s = start_s.get().unwrap_or(f64::NAN);
    json["start_s"] = json!(start_s);
    json["run_s"] = json!(record.wall_s - start_s);
    json["steps"] = json!(result.into_sampler().steps);
    Ok(json)
}

/// A sampler whose steps are counted.
#[derive(Debug)]
struct Counted {
    sampler: NeuralBoundSampler,
    steps: usize,
}

impl livepoint::Sampler for Counted {
    fn start(&mut self, space: &Space, machine: &Machine) -> Result<(), SamplerError> {
        self.sampler.start(space, machine)
    }

    fn propose(&mut self, pool: &CpuPool, max_points: usize) -> Result<Option<Proposal>, SamplerError> {
        let proposal = self.sampler.propose(pool, max_points)?;
        self.steps += usize::from(proposal.is_some());
        Ok(proposal)
    }

    fn update(&mut self, evaluated: &Evaluated) -> Result<(), SamplerError> {
        self.sampler.update(evaluated)
    }

    fn samples(&self) -> &Samples {
        self.sampler.samples()
    }

    fn evidence(&self) -> Evidence {
        self.sampler.evidence()
    }

    fn log_weights(&self) -> Vec<f64> {
        self.sampler.log_weights()
    }

    fn status(&self) -> SamplerStatus {
        self.sampler.status()
    }

    fn settings(&self) -> Value {
        self.sampler.settings()
    }

    fn warnings(&self) -> Vec<String> {
        self.sampler.warnings()
    }
}
