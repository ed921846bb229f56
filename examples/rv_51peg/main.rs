//! Is there a planet around 51 Pegasi? Evidence for one Keplerian orbit against none, from the velocities of two spectrographs.
//!
//! Each likelihood is there twice: in WGSL for a GPU (`no_planet.wgsl`, `one_planet.wgsl`), and in Rust for the CPU and as its check.

#[path = "../common/mod.rs"]
mod common;
mod model;

use std::sync::Arc;

use clap::Parser;
use livepoint::{Likelihood, Prior, ProgressLine, Run, RunResult};

use model::{Data, no_planet, noise, one_planet, orbit};

/// Is there a planet around 51 Pegasi? Evidence for one orbit against none
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: common::CommonArgs,
    /// Lower end of the log-uniform prior of the period, in days
    ///
    /// The defaults are a window of 0.03 d about the period of the discovery, 4.2293 +- 0.0011 d (Mayor & Queloz 1995). With 18
    /// years of data the peak is 1e-5 d wide: a window a hundred times wider needs many more live points to find it.
    #[arg(long, value_name = "DAYS", default_value_t = 4.2)]
    period_min: f64,
    /// Upper end of the log-uniform prior of the period, in days
    #[arg(long, value_name = "DAYS", default_value_t = 4.26)]
    period_max: f64,
}

fn main() -> Result<(), common::Failure> {
    let args = Args::parse();
    if !(args.period_min > 0.0 && args.period_min < args.period_max && args.period_max.is_finite()) {
        common::usage_error(&format!(
            "--period-min {} and --period-max {} are not a range above 0",
            args.period_min, args.period_max
        ));
    }
    let common = args.common.prepared();
    let data = Arc::new(Data::of_51_pegasi());
    let run = |prior: &Prior, likelihood: &Likelihood| {
        Run::new(prior, likelihood).backends(common.backends()).observer(ProgressLine::new()).sample(common.sampler())
    };

    println!("51 Pegasi without a planet");
    let without = run(&noise(Prior::new()), &no_planet(&data))?;
    common.report(&without, "no_planet")?;

    println!("51 Pegasi with one planet");
    let with = run(&noise(orbit(args.period_min..args.period_max)), &one_planet(&data))?;
    common.report(&with, "one_planet")?;

    let log_z = |result: &RunResult| (result.evidence().log_z, result.evidence().log_z_error);
    let ((z0, error0), (z1, error1)) = (log_z(&without), log_z(&with));
    println!("no planet:       log Z = {z0:.3} +- {error0:.3}");
    println!("one planet:      log Z = {z1:.3} +- {error1:.3}");
    println!("ln Bayes factor: {:.3} +- {:.3} for the planet", z1 - z0, error0.hypot(error1));
    Ok(())
}
