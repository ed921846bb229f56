//! Calibration: runs problems of known log Z for many seeds and judges whether the reported errors are honest.

// A table of many runs is printed here, no single result.
#[allow(dead_code)]
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/problem.rs"]
mod problem;
#[path = "../common/record.rs"]
mod record;
mod report;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use livepoint::testing::Problem;
use livepoint::{Run, Sampler as _};
use record::{Sampler, measure};
use report::{Measured, Report, Row};

/// Every problem that needs no data file: 100 seeds up to three dimensions, 40 above.
const TABLE: &str = "gauss1:100,gauss3:100,rosen2:100,eggbox2:100,shells2:100,loggamma2:100,plateau:100,corners:100,constant2:100,\
    shells5:40,spikeslab5:40,conjugate:40,eight_schools:40,gauss10corr:40,loggamma10:40,funnel10:40,rosen10:40,gauss20:40,gauss30:40";

/// Run problems of known log Z for many seeds and judge the errors of log Z.
///
/// Seeds are fixed beforehand and none is replaced: R of them from --seed on. Every run is a process of its own, so that its CPU time is known.
/// The problems of the default take hours, of which those from gauss10corr on take most. Exit status 1 says that the calibration failed.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: common::CommonArgs,
    /// Problems and their numbers of seeds R
    #[arg(long, value_name = "NAME:R,..", value_delimiter = ',', default_value = TABLE, value_parser = parse_problem)]
    problems: Vec<(String, u64)>,
    /// Data file of problem rv7 [default: the file that LIVEPOINT_RV7_DATA names]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Write the table to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write one line of JSON for each run to this file, as soon as it is done
    #[arg(long, value_name = "FILE")]
    jsonl: Option<PathBuf>,
    /// Go on with the file of --jsonl: runs that it holds are not made again. They must be those of this program with these options
    #[arg(long, requires = "jsonl")]
    resume: bool,
    /// Runs side by side, each with the threads of its backends; results do not depend on it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Do one run and print its record: what this program starts itself with
    #[arg(long, value_name = "NAME:SEED", value_parser = parse_run, hide = true)]
    one: Option<(String, u64)>,
}

fn main() -> Result<ExitCode, common::Failure> {
    let args = Args::parse();
    let data = args.data.as_deref();
    if let Some((name, seed)) = &args.one {
        one(&args, &known_problem(name, data), *seed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let problems: Vec<(Problem, u64)> =
        args.problems.iter().map(|(name, runs)| (known_problem(name, data), *runs)).collect();
    let args = Args { common: args.common.prepared(), ..args };
    // What cannot be written is known before hours of work; an old table stays until there is a new one.
    if let Some(path) = &args.markdown {
        open(path, false);
    }
    let known = match &args.jsonl {
        Some(path) if args.resume => records_in(path)?,
        _ => HashMap::new(),
    };
    let jsonl = args.jsonl.as_deref().map(|path| open(path, true));

    let lines = run_all(&problems, args.common.seed, usize::from(args.jobs), jsonl, &known)?;

    let mut lines = lines.into_iter();
    let mut rows = Vec::new();
    for (problem, n_runs) in &problems {
        let lines: Vec<Option<String>> = lines.by_ref().take(*n_runs as usize).collect();
        let runs: Vec<Measured> = lines.iter().flatten().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let truth = problem.log_z_truth.unwrap_or(f64::NAN);
        rows.push(Row::new(problem.name, *n_runs, truth, runs));
    }
    let backends = args.common.backends();
    let report = Report {
        options: format!(
            "likelihood on {}, sampler on {}, {} run(s) side by side",
            backends.likelihood, backends.sampler, args.jobs
        ),
        settings: args.common.sampler().settings().to_string(),
        first_seed: args.common.seed,
        rows,
    };
    match &args.markdown {
        Some(path) => std::fs::write(path, report.to_string())?,
        None => print!("{report}"),
    }
    Ok(if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One run in this process; its record goes to standard output.
fn one(args: &Args, problem: &Problem, seed: u64) -> Result<(), common::Failure> {
    let (prior, likelihood) = (problem.prior(), problem.likelihood());
    let run = Run::new(&prior, &likelihood);
    let sampler = args.common.sampler().seed(seed);
    let (record, result) = measure(problem, run, &args.common.backends(), Sampler::NeuralBound, sampler, seed)?;
    println!("{}", serde_json::to_string(&record)?);
    args.common.save(&result, &format!("{}/seed{seed}", problem.name))
}

/// Every run of every problem as a process of its own, `jobs` at a time: its record, or nothing for a run that failed.
fn run_all(
    problems: &[(Problem, u64)],
    first_seed: u64,
    jobs: usize,
    jsonl: Option<File>,
    known: &HashMap<String, String>,
) -> Result<Vec<Option<String>>, common::Failure> {
    let runs: Vec<String> = problems
        .iter()
        .flat_map(|(problem, n_runs)| (0..*n_runs).map(|k| format!("{}:{}", problem.name, first_seed + k)))
        .collect();
    let program = std::env::current_exe()?;
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let next = AtomicUsize::new(0);
    let mut done = Done { n: 0, records: vec![None; runs.len()], jsonl };
    for (record, run) in done.records.iter_mut().zip(&runs) {
        *record = known.get(run).cloned();
    }
    // What was known is written before anything can end the program.
    for record in done.records.iter().flatten() {
        if let Some(file) = &mut done.jsonl {
            writeln!(file, "{record}")?;
        }
    }
    done.n = done.records.iter().flatten().count();
    let missing: Vec<usize> = (0..runs.len()).filter(|&index| done.records[index].is_none()).collect();
    let done = Mutex::new(done);
    let show = std::io::stderr().is_terminal();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(&index) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let run = &runs[index];
                    let record = record_of(&program, &arguments, run);
                    let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    done.n += 1;
                    match record.and_then(|record| done.write(&record).map(|()| record)) {
                        Ok(record) => done.records[index] = Some(record),
                        Err(reason) => eprintln!("{run} failed: {reason}"),
                    }
                    if show {
                        eprint!("\r\x1b[K{} of {} runs, last {run}", done.n, runs.len());
                    }
                }
            });
        }
    });
    if show {
        eprintln!();
    }
    Ok(done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).records)
}

/// The records of an earlier call, by `problem:seed`; none where there is no such file. What was cut off in mid-line is left out.
fn records_in(path: &Path) -> Result<HashMap<String, String>, common::Failure> {
    if !path.exists() {
        return Ok(HashMap::new());
    }
    let text = std::fs::read_to_string(path)?;
    let key = |line: &str| {
        let run: Measured = serde_json::from_str(line).ok()?;
        Some(format!("{}:{}", run.problem, run.seed))
    };
    Ok(text.lines().filter_map(|line| Some((key(line)?, line.to_owned()))).collect())
}

/// What the workers have done so far.
struct Done {
    n: usize,
    records: Vec<Option<String>>,
    jsonl: Option<File>,
}

impl Done {
    fn write(&mut self, record: &str) -> Result<(), String> {
        self.jsonl
            .as_mut()
            .map_or(Ok(()), |file| writeln!(file, "{record}"))
            .map_err(|error| format!("--jsonl: {error}"))
    }
}

/// The record that the process of one run prints.
fn record_of(program: &Path, arguments: &[OsString], run: &str) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .args(["--one", run])
        .output()
        .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    if !output.status.success() {
        return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    String::from_utf8(output.stdout).map(|line| line.trim().to_owned()).map_err(|error| error.to_string())
}

/// The problem of that name; ends the program when there is none, or none whose log Z is known.
fn known_problem(name: &str, data: Option<&Path>) -> Problem {
    let problem = problem::find(name, data);
    if problem.log_z_truth.is_none() {
        common::usage_error(&format!("the log Z of problem {name} is not known, so nothing can be judged by it"));
    }
    problem
}

/// The file to write to, emptied if `truncate`; ends the program when it cannot be written.
fn open(path: &Path, truncate: bool) -> File {
    File::options()
        .write(true)
        .create(true)
        .truncate(truncate)
        .open(path)
        .unwrap_or_else(|error| common::usage_error(&format!("cannot write the file {}: {error}", path.display())))
}

fn parse_problem(text: &str) -> Result<(String, u64), String> {
    let (name, runs) = parse_run(text)?;
    // A scatter needs two runs.
    if runs < 2 { Err(format!("`{text}` has fewer than two seeds")) } else { Ok((name, runs)) }
}

fn parse_run(text: &str) -> Result<(String, u64), String> {
    let expected = || format!("`{text}` is not a problem and a number, as in gauss3:100");
    let (name, number) = text.split_once(':').ok_or_else(expected)?;
    Ok((name.to_owned(), number.parse().map_err(|_| expected())?))
}
