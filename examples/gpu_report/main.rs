//! What a GPU does with livepoint: self-test, contract suite, a short calibration, and how fast it is beside the CPU and its own ceilings.
//!
//! One program, so that it can be carried to a machine and run there: `gpu_report --backend gpu --out report`.

mod ceilings;
#[allow(dead_code)]
#[path = "../common/mod.rs"]
mod common;
#[path = "../../tests/contract/mod.rs"]
mod contract;
mod end_to_end;
mod numbers;
mod rates;
#[allow(dead_code)]
#[path = "../common/record.rs"]
mod record;
mod sampler;
mod section;

use std::error::Error;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use livepoint::testing::internals::device_traits;
use livepoint::{GpuInfo, GpuOptions, list_gpus};
use section::Section;
use serde_json::{Value, json};

/// Rows of the table of log Z where no part is asked for: those that end soon.
const SHORT: [&str; 2] = ["gauss3", "rosen2"];

/// What a GPU does with livepoint: self-test, contract suite, log Z against the CPU, speed beside the CPU and the device's own ceilings
#[derive(Parser)]
struct Args {
    /// Device: gpu, gpu:N, gpu:NAME or gpu:software
    #[arg(long, value_name = "BACKEND", default_value = "gpu", value_parser = common::parse_gpu)]
    backend: GpuOptions,
    /// Parts of the report [default: all, of `numbers` two rows only]
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
    /// Problems of the whole runs [default: gauss3, rosen2, gauss10corr, rosen10; on a software driver the first two]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    problem: Vec<String>,
    /// Effective sample sizes that whole runs are to reach
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "10000", value_parser = common::parse_positive)]
    n_eff: Vec<f64>,
    /// Live points of whole runs and of the sampler's part
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = common::parse_count)]
    n_live: usize,
    /// Folder for report.json and one Markdown file for each part; made if it is not there
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
    /// Proposals a second, and the training of bounds
    Sampler,
    /// Whole runs on every pair of machines
    EndToEnd,
    /// Memory and arithmetic ceilings of the device, and what is reached of them
    Ceilings,
}

impl Part {
    /// Its file and its key.
    fn name(self) -> &'static str {
        match self {
            Self::Contract => "contract",
            Self::Numbers => "numbers",
            Self::Rates => "rates",
            Self::Sampler => "sampler",
            Self::EndToEnd => "end_to_end",
            Self::Ceilings => "ceilings",
        }
    }

    fn section(self, args: &Args, device: &GpuInfo) -> Result<Section, Box<dyn Error>> {
        let options = &args.backend;
        match self {
            Self::Contract => Ok(contract_section(options)),
            Self::Numbers => {
                let short = args.part.is_empty() && args.row.is_empty();
                let rows = if short { SHORT.map(str::to_owned).to_vec() } else { args.row.clone() };
                let mut section = numbers::section(options, &rows, args.seeds, args.jobs)?;
                if short {
                    section.markdown += "\nThe short form: `--part numbers` has every row.\n";
                }
                Ok(section)
            }
            Self::Rates => rates::section(options),
            Self::Sampler => sampler::section(options, args.n_live),
            Self::EndToEnd => {
                let wanted = end_to_end::Wanted { problems: &args.problem, n_live: args.n_live, n_eff: &args.n_eff };
                end_to_end::section(options, device.kind, &wanted)
            }
            Self::Ceilings => ceilings::section(options, args.n_live),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if args.list {
        list_gpus().iter().for_each(|gpu| println!("{}: {gpu}, driver {}", gpu.index, gpu.driver));
        return Ok(());
    }
    let start = Instant::now();
    let (device, self_test) = device_traits(&args.backend)?;
    let (head, mut json) = head(&device, &self_test, start.elapsed().as_secs_f64());
    println!("{head}");
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out)?;
    }
    let mut all_well = true;
    for part in Part::value_variants().iter().filter(|part| args.part.is_empty() || args.part.contains(part)) {
        let name = part.name();
        // The other parts are still wanted.
        let section = part.section(&args, &device).unwrap_or_else(|error| Section {
            markdown: format!("# {name}\n\n**failed**: {error}\n"),
            json: json!({ "error": error.to_string() }),
            passed: false,
        });
        all_well &= section.passed;
        println!("{}", section.markdown);
        json["parts"][name] = section.json;
        json["parts"][name]["passed"] = json!(section.passed);
        if let Some(out) = &args.out {
            let (title, body) = section.markdown.split_once('\n').unwrap_or((&section.markdown, ""));
            std::fs::write(out.join(format!("{name}.md")), format!("{title}\n\n{head}{}", body.trim_start()))?;
            // After every part: what comes next may break the device.
            std::fs::write(out.join("report.json"), format!("{json:#}\n"))?;
        }
    }
    if all_well { Ok(()) } else { Err("not all of it passed".into()) }
}

/// What every table says of the device and the program, and the same for programs.
fn head(device: &GpuInfo, self_test: &str, open_s: f64) -> (String, Value) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load = load_average();
    let busy = match load {
        Some(load) if load > 0.25 * cores as f64 => {
            format!(", load average {load} at the start: other programs ran beside this one, so times are too long")
        }
        Some(load) => format!(", load average {load} at the start"),
        None => String::new(),
    };
    let (version, commit, command, date) = (env!("CARGO_PKG_VERSION"), commit(), command(), today());
    let text = format!(
        "- device: {device}\n- driver: {}\n- self-test: {self_test}\n- livepoint {version}, commit {commit}\n- command: `gpu_report {command}`\n- \
         {cores} processor cores, {date}{busy}\n\n",
        device.driver
    );
    let json = json!({
        "device": device.name, "kind": device.kind.to_string(), "api": device.api.to_string(), "driver": device.driver,
        "self_test": self_test, "open_s": open_s, "version": version, "commit": commit, "command": format!("gpu_report {command}"),
        "processor_cores": cores, "load_average": load, "date": date, "parts": {},
    });
    (text, json)
}

/// Programs that wanted a core in the last minute, where the system tells.
fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

fn contract_section(options: &GpuOptions) -> Section {
    let mut text = "# Contract suite\n\n| backend | check | outcome |\n|---|---|---|\n".to_owned();
    let (start, mut passed, mut failed) = (Instant::now(), 0, 0);
    let mut checks = Vec::new();
    for (backend, options) in
        [("gpu", options.clone()), ("gpu, WebGPU's default limits", options.clone().webgpu_limits(true))]
    {
        for check in contract::on_device(&options) {
            let failure = catch_unwind(AssertUnwindSafe(check.run)).err().map(|payload| {
                let text = payload.downcast_ref::<String>().map(String::as_str);
                text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("panicked").replace('\n', " ")
            });
            *(if failure.is_none() { &mut passed } else { &mut failed }) += 1;
            let said = failure
                .as_ref()
                .map_or("passed".to_owned(), |text| format!("**failed**: {}", text.replace('|', "\\|")));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {backend} | {} | {said} |", check.name);
            checks.push(json!({ "backend": backend, "check": check.name, "failure": failure }));
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let _ = writeln!(text, "\n{passed} passed, {failed} failed, {seconds:.1} s");
    let json = json!({ "n_passed": passed, "n_failed": failed, "seconds": seconds, "checks": checks });
    Section { markdown: text, json, passed: failed == 0 }
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
