//! Is there a planet around 51 Pegasi? Evidence for one Keplerian orbit against none, from the velocities of two spectrographs.

#[path = "../common/mod.rs"]
mod common;
mod model;

use std::f64::consts::TAU;
use std::sync::Arc;

use clap::Parser;
use livepoint::{Likelihood, Prior, ProgressLine, Run, RunResult};
use ndarray::{ArrayView2, ArrayViewMut2};

use model::{Data, Planet};

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
    let without = run(&noise(Prior::new()), &no_planet(data.clone()))?;
    common.report(&without, "no_planet")?;

    println!("51 Pegasi with one planet");
    let with = run(&noise(orbit(args.period_min..args.period_max)), &one_planet(data))?;
    common.report(&with, "one_planet")?;

    let log_z = |result: &RunResult| (result.evidence().log_z, result.evidence().log_z_error);
    let ((z0, error0), (z1, error1)) = (log_z(&without), log_z(&with));
    println!("no planet:       log Z = {z0:.3} +- {error0:.3}");
    println!("one planet:      log Z = {z1:.3} +- {error1:.3}");
    println!("ln Bayes factor: {:.3} +- {:.3} for the planet", z1 - z0, error0.hypot(error1));
    Ok(())
}

/// Prior of the orbit: a period over the asked range, semi-amplitudes up to those of a few Jupiter masses, eccentricities that
/// favour round orbits, and angles that have no walls.
fn orbit(period: std::ops::Range<f64>) -> Prior {
    Prior::new()
        .log_uniform("period", period)
        .uniform("k", 0.0..200.0)
        .truncated_normal("e", 0.0, 0.3, 0.0..0.95)
        .periodic("omega", 0.0..TAU)
        .periodic("phase", 0.0..TAU)
}

/// Adds what both models share: each instrument's offset from its median velocity and the noise that its errors leave out.
fn noise(prior: Prior) -> Prior {
    prior
        .uniform("offset_elodie", -100.0..100.0)
        .log_uniform("jitter_elodie", 0.1..100.0)
        .uniform("offset_harps", -100.0..100.0)
        .log_uniform("jitter_harps", 0.1..100.0)
}

fn no_planet(data: Arc<Data>) -> Likelihood {
    Likelihood::batch(move |theta: ArrayView2<f64>| -> Vec<f64> {
        theta.rows().into_iter().map(|x| data.log_l(None, [x[0], x[1], x[2], x[3]])).collect()
    })
}

fn one_planet(data: Arc<Data>) -> Likelihood {
    let names = ["minimum_mass"];
    Likelihood::batch_derived(names, move |theta: ArrayView2<f64>, mut derived: ArrayViewMut2<f64>| -> Vec<f64> {
        theta
            .rows()
            .into_iter()
            .zip(derived.rows_mut())
            .map(|(x, mut derived)| {
                let planet = Planet { period: x[0], k: x[1], e: x[2], omega: x[3], phase: x[4] };
                derived[0] = planet.minimum_mass();
                data.log_l(Some(planet), [x[5], x[6], x[7], x[8]])
            })
            .collect()
    })
}
