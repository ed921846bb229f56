//! A straight line through points with outliers, its likelihood written in WGSL: data on the device, derived values, a CPU twin.

#[path = "../common/mod.rs"]
mod common;

use std::f64::consts::TAU;

use clap::Parser;
use livepoint::{Likelihood, Prior, ProgressLine, Run};

/// Twenty points near y = 1 + 2 x, every fifth far off.
const X: [f64; 20] =
    [0.1, 0.4, 0.9, 1.3, 1.8, 2.2, 2.5, 3.1, 3.4, 3.9, 4.2, 4.8, 5.1, 5.6, 6.0, 6.3, 6.9, 7.2, 7.7, 8.1];
const Y: [f64; 20] = [
    1.32, 1.71, 2.88, 3.49, 9.80, 5.27, 6.13, 7.04, 7.91, 2.10, 9.55, 10.42, 11.33, 12.19, 4.90, 13.48, 14.91, 15.22,
    16.57, 9.60,
];
const SIGMA: f64 = 0.25;
const SIGMA_OUTLIER: f64 = 5.0;

fn main() -> Result<(), common::Failure> {
    let args = common::CommonArgs::parse().prepared();
    let prior = Prior::new().uniform("intercept", -10.0..10.0).normal("slope", 0.0, 5.0).uniform("outliers", 0.0..1.0);
    let likelihood = Likelihood::wgsl(include_str!("likelihood.wgsl"))
        .table("points", [("x", X), ("y", Y)])
        .constant("SIGMA", SIGMA)
        .constant("SIGMA_OUTLIER", SIGMA_OUTLIER)
        .derived(["y_at_10"])
        .twin(Likelihood::point_derived(["y_at_10"], log_likelihood));

    let result =
        Run::new(&prior, likelihood).backends(args.backends()).observer(ProgressLine::new()).sample(args.sampler())?;
    args.report(&result, "")
}

/// The same function as `likelihood.wgsl`, in f64: it runs where there is no GPU, and is what the shader is checked against.
fn log_likelihood(theta: &[f64], derived: &mut [f64]) -> f64 {
    let &[intercept, slope, outliers] = theta else { return f64::NAN };
    derived[0] = intercept + 10.0 * slope;
    let normal = |residual: f64, sigma: f64| -0.5 * (residual / sigma).powi(2) - 0.5 * (TAU * sigma * sigma).ln();
    X.iter()
        .zip(Y)
        .map(|(x, y)| {
            let residual = y - intercept - slope * x;
            let good = (1.0 - outliers).ln() + normal(residual, SIGMA);
            let bad = outliers.ln() + normal(residual, SIGMA_OUTLIER);
            good.max(bad) + (-(good - bad).abs()).exp().ln_1p()
        })
        .sum()
}
