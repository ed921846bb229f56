//! The command line that all examples share, and what they do with a result.

use std::fmt;
use std::path::PathBuf;

use livepoint::{Backend, Backends, GpuOptions, NeuralBoundSampler, RunResult};

const ORDER_OF_PRECEDENCE: &str = "\
Backends:
  A run has two halves: one machine evaluates the likelihood, one runs the sampler. --backend sets both;
  --likelihood-backend and --sampler-backend override it for their half. `cpu:N` is a pool of N threads,
  `cpu` takes its number of threads from --threads, and without that one per available core. `gpu` is the fastest GPU of
  this computer, `gpu:N` the one with number N and `gpu:NAME` one whose name holds NAME; software adapters are taken only
  by number, by name or as `gpu:software`. `auto` is the GPU where there is one that can do the work, else the CPU.
  The default is `cpu`.";

/// Exit status of a command line that asks for what cannot be: the same that clap uses.
const USAGE_ERROR: i32 = 2;

// No doc comment here: clap would print it as the description of every example.
#[derive(Debug, Clone, clap::Parser)]
#[command(after_help = ORDER_OF_PRECEDENCE)]
pub struct CommonArgs {
    /// Machine for both halves of the run: gpu, cpu, auto, cpu:N or gpu:NAME
    #[arg(long, value_name = "BACKEND", value_parser = parse_backend)]
    backend: Option<Chosen>,
    /// Machine that evaluates the likelihood, over --backend
    #[arg(long, value_name = "BACKEND", value_parser = parse_backend)]
    likelihood_backend: Option<Chosen>,
    /// Machine that runs the sampler, over --backend
    #[arg(long, value_name = "BACKEND", value_parser = parse_backend)]
    sampler_backend: Option<Chosen>,
    /// Threads of a `cpu` given without a number [default: one per available core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Seed of all random numbers: the same seed gives the same result for any number of threads
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub seed: u64,
    /// Number of live points
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = parse_count)]
    pub n_live: usize,
    /// Effective sample size to reach
    #[arg(long, value_name = "N", default_value_t = 10_000.0, value_parser = parse_positive)]
    pub n_eff: f64,
    /// Folder for the result's files; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl CommonArgs {
    /// Does what must not wait for the end of a long run: makes the folder for the result. Ends the program when that fails.
    pub fn prepared(self) -> Self {
        if let Some(out) = &self.out
            && let Err(error) = std::fs::create_dir_all(out)
        {
            usage_error(&format!("cannot make the folder {} of --out: {error}", out.display()));
        }
        self
    }

    /// The pair of machines, by the order of precedence that `--help` explains.
    pub fn backends(&self) -> Backends {
        let both = self.backend.clone().unwrap_or(Chosen::Cpu { threads: None });
        let backend = |chosen: &Option<Chosen>| match chosen.as_ref().unwrap_or(&both) {
            Chosen::Cpu { threads } => Backend::cpu(usize::from(threads.or(self.threads).unwrap_or(0))),
            Chosen::Other(backend) => backend.clone(),
        };
        Backends { likelihood: backend(&self.likelihood_backend), sampler: backend(&self.sampler_backend) }
    }

    /// The sampler with the options of the command line.
    pub fn sampler(&self) -> NeuralBoundSampler {
        NeuralBoundSampler::default().n_live(self.n_live).n_eff(self.n_eff).seed(self.seed)
    }

    /// Prints a result and saves it, as [`CommonArgs::save`] does.
    pub fn report(&self, result: &RunResult, name: &str) -> Result<(), Failure> {
        println!("{result}");
        self.save(result, name)
    }

    /// Writes the result's files when `--out` asks for them, in its sub-folder `name` unless that is empty.
    pub fn save(&self, result: &RunResult, name: &str) -> Result<(), Failure> {
        if let Some(out) = &self.out {
            let folder = if name.is_empty() { out.clone() } else { out.join(name) };
            result.save(&folder)?;
            eprintln!("saved to {}", folder.display());
        }
        Ok(())
    }
}

/// A backend as the command line names it; a `cpu` without a number gets one later.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Chosen {
    Cpu { threads: Option<u16> },
    Other(Backend),
}

fn parse_backend(text: &str) -> Result<Chosen, String> {
    let (machine, detail) = text.split_once(':').map_or((text, None), |(machine, detail)| (machine, Some(detail)));
    match (machine, detail) {
        ("cpu", None) => Ok(Chosen::Cpu { threads: None }),
        ("cpu", Some(count)) => match count.parse() {
            Ok(threads) if threads > 0 => Ok(Chosen::Cpu { threads: Some(threads) }),
            _ => {
                Err(format!("`{count}` is not a number of threads from 1 to {}; write cpu:2 for two threads", u16::MAX))
            }
        },
        ("gpu", detail) => parse_gpu_detail(detail).map(|options| Chosen::Other(options.into())),
        ("auto", None) => Ok(Chosen::Other(Backend::auto())),
        _ => Err("not a backend; use gpu, cpu or auto, cpu:N with N threads, or gpu:N or gpu:NAME for one of several"
            .to_owned()),
    }
}

/// A device as the command line names it: gpu, gpu:N, gpu:NAME or gpu:software.
#[allow(dead_code)] // not every example takes a device
pub fn parse_gpu(text: &str) -> Result<GpuOptions, String> {
    match parse_backend(text)? {
        Chosen::Other(Backend::Gpu(options)) => Ok(options),
        _ => Err("not a device; use gpu, gpu:N, gpu:NAME or gpu:software".to_owned()),
    }
}

fn parse_gpu_detail(detail: Option<&str>) -> Result<GpuOptions, String> {
    let options = GpuOptions::default();
    match detail {
        None => Ok(options),
        Some("") => Err("nothing stands behind the colon; write gpu, gpu:0 or gpu:NAME".to_owned()),
        Some("software") => Ok(options.software(true)),
        Some(detail) => Ok(match detail.parse() {
            Ok(index) => options.index(index),
            Err(_) => options.name(detail),
        }),
    }
}

pub fn parse_count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "expected a whole number above 0".to_owned())
}

pub fn parse_positive(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|x: &f64| x.is_finite() && *x > 0.0).ok_or_else(|| "expected a number above 0".to_owned())
}

/// Ends the program because of what the command line asked for.
pub fn usage_error(message: &str) -> ! {
    eprintln!("error: {message}");
    std::process::exit(USAGE_ERROR)
}

/// Any error on its way out of `main`, which prints the `Debug` form: here that is the message itself.
pub struct Failure(Box<dyn std::error::Error>);

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn backends(line: &str) -> Backends {
        CommonArgs::try_parse_from(format!("example {line}").split_whitespace()).unwrap().backends()
    }

    #[test]
    fn precedence_is_what_help_says() {
        let pair =
            |likelihood, sampler| Backends { likelihood: Backend::cpu(likelihood), sampler: Backend::cpu(sampler) };
        for (line, expected) in [
            ("", pair(0, 0)),
            ("--threads 3", pair(3, 3)),
            ("--backend cpu:2", pair(2, 2)),
            ("--backend cpu:2 --threads 3", pair(2, 2)),
            ("--backend cpu --threads 3", pair(3, 3)),
            ("--backend cpu:2 --sampler-backend cpu:1", pair(2, 1)),
            ("--backend cpu:2 --likelihood-backend cpu:5", pair(5, 2)),
            ("--likelihood-backend cpu:5 --sampler-backend cpu --threads 3", pair(5, 3)),
            ("--sampler-backend cpu:4 --threads 3", pair(3, 4)),
        ] {
            assert_eq!(backends(line), expected, "{line}");
        }
        let gpu = GpuOptions::default;
        for (line, likelihood, sampler) in [
            ("--backend gpu", Backend::gpu(), Backend::gpu()),
            ("--backend gpu:1 --sampler-backend cpu:2", gpu().index(1).into(), Backend::cpu(2)),
            ("--likelihood-backend gpu:radeon --threads 3", gpu().name("radeon").into(), Backend::cpu(3)),
            ("--backend auto --likelihood-backend gpu:software", gpu().software(true).into(), Backend::auto()),
        ] {
            assert_eq!(backends(line), Backends { likelihood, sampler }, "{line}");
        }
    }

    #[test]
    fn bad_values_are_refused_with_a_reason() {
        for (line, reason) in [
            ("--backend gpu:", "nothing stands behind the colon"),
            ("--sampler-backend GPU:0", "not a backend"),
            ("--likelihood-backend auto:1", "not a backend"),
            ("--backend cpu:0", "`0` is not a number of threads"),
            ("--backend cpu:two", "`two` is not a number of threads"),
            ("--backend abacus", "not a backend"),
            ("--threads 0", "0 is not in 1..=65535"),
            ("--n-live 0", "whole number above 0"),
            ("--n-eff nan", "number above 0"),
            ("--seed one", "--seed"),
        ] {
            let error = CommonArgs::try_parse_from(format!("example {line}").split_whitespace()).unwrap_err();
            assert!(error.to_string().contains(reason), "{line}: {error}");
            assert_eq!(error.exit_code(), USAGE_ERROR, "{line}");
        }
    }
}
