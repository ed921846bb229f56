//! The shortest complete run: a Gaussian in three dimensions, normalised, so that the true log Z is 0; in WGSL for a GPU, in Rust for the CPU.

mod common;

use std::f64::consts::TAU;

use clap::Parser;
use livepoint::{Likelihood, Prior, ProgressLine, Run};

fn main() -> Result<(), common::Failure> {
    let args = common::CommonArgs::parse().prepared();

    let prior = Prior::new().uniform("x", 0.0..1.0).uniform("y", 0.0..1.0).uniform("z", 0.0..1.0);
    let likelihood = Likelihood::wgsl(
        "fn log_likelihood(theta: array<f32, N_DIM>) -> f32 {
            let sigma = 0.1;
            return normal_log_pdf(theta[0], 0.5, sigma) + normal_log_pdf(theta[1], 0.5, sigma) + normal_log_pdf(theta[2], 0.5, sigma);
        }",
    )
    .twin(Likelihood::point(|theta: &[f64]| {
        let sigma = 0.1;
        theta.iter().map(|x| -0.5 * ((x - 0.5) / sigma).powi(2) - 0.5 * (TAU * sigma * sigma).ln()).sum::<f64>()
    }));

    let result =
        Run::new(&prior, likelihood).backends(args.backends()).observer(ProgressLine::new()).sample(args.sampler())?;
    args.report(&result, "")
}
