//! Runs a problem of known log Z, once or for many seeds, and says how the answer compares with the truth.

mod common;
#[path = "common/problem.rs"]
mod problem;
#[path = "common/record.rs"]
mod record;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use livepoint::diagnostics::Calibration;
use livepoint::testing::{Problem, RV7_HELP, all};
use livepoint::{NeuralBoundSampler, ProgressLine, Run};
use problem::{RV7_VARIABLE, find};
use record::{Record, Sampler, measure};
use serde::Serialize;

/// Run a problem of known log Z, once or for many seeds
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: common::CommonArgs,
    /// Problem to run; --list shows them
    #[arg(long, value_name = "NAME", required_unless_present = "list")]
    problem: Option<String>,
    /// List the problems and leave
    #[arg(long)]
    list: bool,
    /// Sampler
    #[arg(long, value_enum, default_value_t = Sampler::NeuralBound)]
    sampler: Sampler,
    /// One line of JSON for each run on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    /// Repeat with every seed from A to B, both included, and judge the errors of log Z
    #[arg(long, value_name = "A..B", value_parser = parse_seeds, conflicts_with = "seed")]
    seeds: Option<RangeInclusive<u64>>,
    /// Data file of problem rv7 [default: the file that LIVEPOINT_RV7_DATA names]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Whether the points of the exploration are left out of evidence and posterior [default: the sampler's]
    #[arg(long, value_name = "BOOL")]
    discard_exploration: Option<bool>,
    /// Networks in an ensemble [default: the sampler's]
    #[arg(long, value_name = "N")]
    n_networks: Option<usize>,
    /// Rows in a proposal [default: the sampler's]
    #[arg(long, value_name = "N")]
    n_batch: Option<usize>,
    /// Stop after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<Duration>,
    /// Stop after so many likelihood calls
    #[arg(long, value_name = "N")]
    n_like_max: Option<usize>,
}

/// What `--seeds` ends with.
#[derive(Serialize)]
struct Summary<'a> {
    summary: bool,
    problem: &'static str,
    calibration: &'a Calibration,
}

fn main() -> Result<(), common::Failure> {
    let args = Args::parse();
    if args.list {
        list();
        return Ok(());
    }
    let problem = find(args.problem.as_deref().unwrap_or_default(), args.data.as_deref());
    let args = Args { common: args.common.prepared(), ..args };

    let Some(seeds) = args.seeds.clone() else {
        run(&args, &problem, args.common.seed, "")?;
        return Ok(());
    };
    let mut records = Vec::new();
    for seed in seeds {
        records.push(run(&args, &problem, seed, &format!("seed{seed}"))?);
    }
    let log_z: Vec<f64> = records.iter().map(|record| record.log_z).collect();
    let errors: Vec<f64> = records.iter().map(|record| record.log_z_error).collect();
    let Some(truth) = problem.log_z_truth else { return Ok(()) };
    let calibration = Calibration::from_runs(&log_z, &errors, truth)?;
    if args.json {
        println!(
            "{}",
            serde_json::to_string(&Summary { summary: true, problem: problem.name, calibration: &calibration })?
        );
    } else {
        println!("{}\n{calibration}", Calibration::header());
    }
    Ok(())
}

/// One run, printed as soon as it is done. The result's files go to the folder `folder` of `--out`.
fn run(args: &Args, problem: &Problem, seed: u64, folder: &str) -> Result<Record, common::Failure> {
    let backends = args.common.backends();
    let (prior, likelihood) = (problem.prior(), problem.likelihood());
    let mut run = Run::new(&prior, &likelihood).observer(ProgressLine::new());
    if let Some(timeout) = args.timeout {
        run = run.timeout(timeout);
    }
    if let Some(n_like_max) = args.n_like_max {
        run = run.n_like_max(n_like_max);
    }

    let (record, result) = measure(problem, run, &backends, args.sampler, sampler(args).seed(seed), seed)?;
    if args.json {
        println!("{}", serde_json::to_string(&record)?);
        args.common.save(&result, folder)?;
    } else {
        println!("{}, seed {seed}", problem.name);
        args.common.report(&result, folder)?;
        if let Some(truth) = problem.log_z_truth {
            println!("log Z - truth: {:+.3e}, reported error {:.3e}", record.log_z - truth, record.log_z_error);
        }
    }
    Ok(record)
}

fn sampler(args: &Args) -> NeuralBoundSampler {
    let mut sampler = match args.sampler {
        Sampler::NeuralBound => args.common.sampler(),
    };
    if let Some(discard) = args.discard_exploration {
        sampler = sampler.discard_exploration(discard);
    }
    if let Some(n) = args.n_networks {
        sampler = sampler.n_networks(n);
    }
    if let Some(n) = args.n_batch {
        sampler = sampler.n_batch(n);
    }
    sampler
}

fn list() {
    println!("{:<14} {:>5} {:>18}  description", "problem", "n_dim", "log Z");
    for problem in all() {
        let log_z = problem.log_z_truth.map_or("unknown".to_owned(), |log_z| format!("{log_z:.9}"));
        println!("{:<14} {:>5} {log_z:>18}  {}", problem.name, problem.n_dim, problem.description);
    }
    println!("{:<14} {:>5} {:>18}  needs a data file by --data or {RV7_VARIABLE}: {RV7_HELP}", "rv7", 7, "-748.4165");
}

fn parse_seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (first, last) = text.split_once("..").ok_or("expected A..B, as in 1..20")?;
    let number =
        |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is not a seed; expected A..B, as in 1..20"));
    let (first, last) = (number(first)?, number(last.trim_start_matches('='))?);
    // A scatter needs two runs.
    if last > first {
        Ok(first..=last)
    } else {
        Err(format!("expected at least two seeds, but {first}..{last} is not"))
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
