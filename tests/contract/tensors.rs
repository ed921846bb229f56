//! Tensor likelihoods: the same function on the device, in f32, and on the CPU, in f64.

use livepoint::burn::tensor::Tensor;
use livepoint::testing::log_likelihood_on;
use livepoint::{Backend, GpuOptions, Likelihood};

use super::fixtures;

/// Every check of this file.
pub const CASES: &[super::Case<GpuOptions>] = &[
    ("a_tensor_function_gives_the_same_on_the_device", a_tensor_function_gives_the_same_on_the_device),
    ("every_prior_reaches_the_tensor", every_prior_reaches_the_tensor),
];

/// Roundings of some forty operations on values up to a hundred.
const TOLERANCE: (f64, f64) = (1e-4, 5e-6);

fn compare(options: &GpuOptions, prior: &livepoint::Prior, likelihood: &Likelihood, tolerance: (f64, f64)) {
    let u = fixtures::points(prior.n_dim());
    let on = |backend: Backend| log_likelihood_on(prior, likelihood, &backend, u.view()).unwrap();
    let (found, found_derived) = on(options.clone().into());
    let (expected, expected_derived) = on(Backend::cpu(1));
    let values = found.iter().zip(&expected).chain(found_derived.iter().zip(&expected_derived));
    for (k, (found, expected)) in values.enumerate() {
        let close = (found - expected).abs() <= tolerance.0 + tolerance.1 * expected.abs();
        assert!(close || found == expected, "value {k}: {found} for {expected}");
    }
    assert!(expected.iter().any(|x| *x != expected[0]), "a likelihood that tells points apart");
}

/// Data held on the device, broadcasting, a matrix product, a derived value.
fn a_tensor_function_gives_the_same_on_the_device(options: &GpuOptions) {
    let prior = (0..3).fold(livepoint::Prior::new(), |prior, k| prior.uniform(format!("x{k}"), -1.0..1.0));
    let likelihood = Likelihood::tensor_derived_on(["sum"], |device| {
        let design: Vec<f64> = (0..3 * 40).map(|i| (0.7 * f64::from(i)).sin()).collect();
        let data: Vec<f64> = (0..40).map(|i| (0.3 * f64::from(i)).cos()).collect();
        let design = Tensor::<1>::from_data(design.as_slice(), device).reshape([3, 40]);
        let data = Tensor::<1>::from_data(data.as_slice(), device).reshape([1, 40]);
        move |theta: Tensor<2>| {
            let residual = theta.clone().matmul(design.clone()) - data.clone();
            let log_l = (residual.clone() * residual).sum_dim(1).squeeze_dim::<1>(1) * -0.5;
            (log_l, theta.sum_dim(1))
        }
    });
    compare(options, &prior, &likelihood, TOLERANCE);
}

/// log L is the parameter itself, one after the other.
fn every_prior_reaches_the_tensor(options: &GpuOptions) {
    let (prior, _) = fixtures::every_prior();
    for (k, name) in prior.names().iter().enumerate() {
        // The tails of both Cauchys leave the range of f32, and fixed values tell no points apart.
        if ["cauchy", "half_cauchy", "fixed"].contains(&name.as_str()) {
            continue;
        }
        let likelihood = Likelihood::tensor(move |theta: Tensor<2>| {
            let n = theta.dims()[0];
            theta.slice([0..n, k..k + 1]).squeeze_dim::<1>(1)
        });
        compare(options, &prior, &likelihood, (3e-6, 3e-6));
    }
}
