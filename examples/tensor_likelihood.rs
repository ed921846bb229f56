//! Logistic regression over 200 trials, its likelihood written in tensor operations: one function for the CPU in f64 and any GPU in f32.

mod common;

use clap::Parser;
use livepoint::burn::tensor::{Device, Tensor};
use livepoint::{Likelihood, Prior, ProgressLine, Run};

const N_TRIALS: usize = 200;

/// What the trials were made with: intercept, effect of the dose, effect of the age.
const TRUTH: [f64; 3] = [-3.0, 6.0, 1.0];

/// Covariates `[N_TRIALS, 3]` (1, dose from 0 to 1, age from -1 to 1) and outcomes, 1 for a response and 0 for none.
fn trials() -> (Vec<[f64; 3]>, Vec<f64>) {
    // Multiples of irrational numbers, modulo 1, stand in for draws: no random number, and no table.
    let spread = |i: usize, step: f64| (i as f64 * step).fract();
    let covariates: Vec<[f64; 3]> =
        (0..N_TRIALS).map(|i| [1.0, i as f64 / N_TRIALS as f64, 2.0 * spread(i, 0.754_877_666) - 1.0]).collect();
    let outcome = |(i, row): (usize, &[f64; 3])| {
        let z: f64 = row.iter().zip(TRUTH).map(|(x, effect)| x * effect).sum();
        f64::from(u8::from(spread(i, 0.569_840_291) < 1.0 / (1.0 + (-z).exp())))
    };
    let outcomes = covariates.iter().enumerate().map(outcome).collect();
    (covariates, outcomes)
}

fn main() -> Result<(), common::Failure> {
    let args = common::CommonArgs::parse().prepared();
    let prior = Prior::new().normal("intercept", 0.0, 5.0).normal("dose", 0.0, 10.0).normal("age", 0.0, 5.0);
    let (covariates, outcomes) = trials();
    let likelihood = Likelihood::tensor_derived_on(["median_dose"], move |device: &Device| {
        // The data are made once, on the device that the run opened.
        let covariates =
            Tensor::<1>::from_data(covariates.concat().as_slice(), device).reshape([N_TRIALS, 3]).transpose();
        let outcomes = Tensor::<1>::from_data(outcomes.as_slice(), device).unsqueeze::<2>(); // [1, n_trials]
        move |theta: Tensor<2>| {
            let z = theta.clone().matmul(covariates.clone()); // [n_points, 3] x [3, n_trials]
            // ln(1 + e^z), which neither overflows nor loses small terms.
            let softplus = z.clone().clamp_min(0.0) + z.clone().abs().neg().exp().log1p();
            let log_l = (outcomes.clone() * z - softplus).sum_dim(1).squeeze_dim::<1>(1);
            // The dose to which half of those of middle age respond.
            let [intercept, dose] = [0, 1].map(|k| theta.clone().narrow(1, k, 1));
            (log_l, intercept.neg() / dose)
        }
    });

    let result =
        Run::new(&prior, likelihood).backends(args.backends()).observer(ProgressLine::new()).sample(args.sampler())?;
    args.report(&result, "")
}
