//! Eight schools (Rubin 1981): a hierarchical model in its non-centred form, with each school's effect as a derived value; in WGSL and in Rust.

#[path = "../common/mod.rs"]
mod common;

use std::f64::consts::TAU;

use clap::Parser;
use livepoint::{Likelihood, Prior, ProgressLine, Run};

/// Effect of coaching in each school, and its standard error.
const Y: [f64; 8] = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0];
const SIGMA: [f64; 8] = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0];

/// By quadrature over mu and tau, with the schools integrated out in closed form.
const LOG_Z: f64 = -31.3113;

fn main() -> Result<(), common::Failure> {
    let args = common::CommonArgs::parse().prepared();

    // The effects themselves, theta_j ~ N(mu, tau), lie in a funnel that narrows with tau; z_j = (theta_j - mu) / tau do not.
    let mut prior = Prior::new().normal("mu", 0.0, 5.0).half_cauchy("tau", 5.0);
    for school in 1..=Y.len() {
        prior = prior.normal(format!("z{school}"), 0.0, 1.0);
    }
    let effects: Vec<String> = (1..=Y.len()).map(|school| format!("theta{school}")).collect();
    let likelihood = Likelihood::wgsl(include_str!("likelihood.wgsl"))
        .table("schools", [("y", Y), ("sigma", SIGMA)])
        .derived(&effects)
        .twin(Likelihood::point_derived(&effects, log_likelihood));

    let result =
        Run::new(&prior, likelihood).backends(args.backends()).observer(ProgressLine::new()).sample(args.sampler())?;
    args.report(&result, "")?;
    let evidence = result.evidence();
    println!(
        "log Z {:.4} +- {:.4}, by quadrature {LOG_Z}: {:+.2} errors",
        evidence.log_z,
        evidence.log_z_error,
        (evidence.log_z - LOG_Z) / evidence.log_z_error
    );
    Ok(())
}

/// The same function as `likelihood.wgsl`, in f64.
fn log_likelihood(x: &[f64], theta: &mut [f64]) -> f64 {
    let (mu, tau) = (x[0], x[1]);
    let mut log_l = 0.0;
    for (j, (y, sigma)) in Y.into_iter().zip(SIGMA).enumerate() {
        theta[j] = mu + tau * x[2 + j];
        log_l -= 0.5 * ((y - theta[j]) / sigma).powi(2) + 0.5 * (TAU * sigma * sigma).ln();
    }
    log_l
}
