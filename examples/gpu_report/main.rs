//! What a GPU does with livepoint: its self-test, the contract suite, log Z against the CPU's over many seeds, evaluations a second.
//!
//! One program, so that it can be carried to a machine and run there: `gpu_report --backend gpu --out report`.

#[allow(dead_code)]
#[path = "../common/mod.rs"]
mod common;
#[path = "../../tests/contract/mod.rs"]
mod contract;
mod numbers;
mod rates;

use std::error::Error;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use livepoint::testing::internals::device_traits;
use livepoint::{GpuOptions, list_gpus};

/// Self-test, contract suite, log Z against the CPU, evaluations a second: what a GPU does with livepoint
#[derive(Parser)]
struct Args {
    /// Device: gpu, gpu:N, gpu:NAME or gpu:software
    #[arg(long, value_name = "BACKEND", default_value = "gpu", value_parser = common::parse_gpu)]
    backend: GpuOptions,
    /// Parts of the report [default: all]
    #[arg(long, value_enum, value_name = "PART", value_delimiter = ',')]
    part: Vec<Part>,
    /// Seeds of each row of the table of log Z
    #[arg(long, value_name = "N", default_value_t = 20)]
    seeds: u64,
    /// Rows of the table of log Z [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    row: Vec<String>,
    /// Runs at the same time, for the table of log Z
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// Folder for one Markdown file for each part; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the adapters of this computer and leave
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Every check of the contract suite, on the device and under WebGPU's default limits
    Contract,
    /// log Z with the likelihood on the device minus log Z on the CPU
    Numbers,
    /// Evaluations a second by batch size
    Rates,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if args.list {
        list_gpus().iter().for_each(|gpu| println!("{}: {gpu}, driver {}", gpu.index, gpu.driver));
        return Ok(());
    }
    let (device, traits) = device_traits(&args.backend)?;
    let (name, driver) = (device.to_string(), device.driver);
    let head = format!(
        "- device: {name}\n- driver: {driver}\n- self-test: {traits}\n- livepoint {}, commit {}\n- command: `gpu_report {}`\n- \
         {} processor cores, {}\n\n",
        env!("CARGO_PKG_VERSION"),
        commit(),
        command(),
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        today(),
    );
    println!("{head}");
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out)?;
    }
    let mut all_well = true;
    for part in [Part::Contract, Part::Numbers, Part::Rates] {
        if !args.part.is_empty() && !args.part.contains(&part) {
            continue;
        }
        let (file, text, well) = match part {
            Part::Contract => contract_part(&args.backend),
            Part::Numbers => numbers::table(&args.backend, &args.row, args.seeds, args.jobs)?,
            Part::Rates => rates::table(&args.backend)?,
        };
        all_well &= well;
        println!("{text}");
        if let Some(out) = &args.out {
            let title = text.lines().next().unwrap_or_default();
            let body = text.split_once('\n').map_or("", |(_, body)| body);
            std::fs::write(out.join(file), format!("{title}\n\n{head}{}", body.trim_start()))?;
        }
    }
    if all_well { Ok(()) } else { Err("not all of it passed".into()) }
}

fn contract_part(options: &GpuOptions) -> (&'static str, String, bool) {
    let mut text = "# Contract suite\n\n| backend | check | outcome |\n|---|---|---|\n".to_owned();
    let (start, mut passed, mut failed) = (Instant::now(), 0, 0);
    for (backend, options) in
        [("gpu", options.clone()), ("gpu, WebGPU's default limits", options.clone().webgpu_limits(true))]
    {
        for check in contract::on_device(&options) {
            let outcome = catch_unwind(AssertUnwindSafe(check.run));
            let said = match &outcome {
                Ok(()) => "passed".to_owned(),
                Err(payload) => {
                    let text = payload.downcast_ref::<String>().map(String::as_str);
                    let text = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("panicked");
                    format!("**failed**: {}", text.replace('\n', " ").replace('|', "\\|"))
                }
            };
            if outcome.is_ok() {
                passed += 1
            } else {
                failed += 1
            }
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {backend} | {} | {said} |", check.name);
        }
    }
    let _ = writeln!(text, "\n{passed} passed, {failed} failed, {:.1} s", start.elapsed().as_secs_f64());
    ("contract.md", text, failed == 0)
}

/// The arguments, but for the folder, which is nobody's business.
fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.iter().position(|argument| argument == "--out");
    let keep = |k: &usize| folder.is_none_or(|folder| *k != folder && *k != folder + 1);
    (0..arguments.len()).filter(keep).map(|k| arguments[k].as_str()).collect::<Vec<_>>().join(" ")
}

/// The commit that the program was built from, where git told.
fn commit() -> &'static str {
    option_env!("LIVEPOINT_COMMIT").unwrap_or("unknown (build with LIVEPOINT_COMMIT=$(git rev-parse --short HEAD))")
}

/// The day, as days are counted from 1970 (the civil calendar of Howard Hinnant's algorithm).
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
    let days = (seconds / 86_400) as i64 + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (d, m) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{}-{m:02}-{d:02}", year + era * 400 + i64::from(m <= 2))
}
