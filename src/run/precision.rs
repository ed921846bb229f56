//! Whether the f32 of a device is good enough for the problem: looked at before the run, before its sampling phase, and at its end.

use std::time::{Duration, Instant};

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};

use super::error::RunErrorKind;
use crate::likelihood::{DevicePrecision, EvaluationError, Evaluator};
use crate::rng::Stream;
use crate::samples::Samples;

/// Points compared with the f64 reference before the run.
const N_START: usize = 64;

/// Points of the posterior that are looked at.
const N_POSTERIOR: usize = 128;

/// Draws of the posterior on which log Z is compared with the reference.
pub(super) const N_DRAWS: usize = 512;

/// Share of the points at which device and reference may differ before the run: where log L is beyond all reason, f32 may overflow.
const MAX_DIFFERENT: f64 = 0.05;

/// Difference from the reference that is never held against a device: absolute, and relative to log L.
const TOLERANCE: (f64, f64) = (0.01, 1e-3);

/// How many times its own response to one step of f32 a log L may be off: a device rounds more than once.
const ROUNDINGS: f64 = 30.0;

/// A posterior narrower than this many steps of f32 in a parameter is warned of.
const FEW_STEPS: f64 = 200.0;

/// A posterior narrower than this many steps ends the run before its sampling phase: log Z would be wrong by more than its error.
const LEAST_STEPS: f64 = 3.0;

/// Steps that tell a slope, which gives so many times the change, from the noise of rounding, which does not.
const MANY_STEPS: f64 = 8.0;

/// Noise in log L that is felt in log Z: half its square, 0.005.
const LOUD_NOISE: f64 = 0.1;

/// Spacing of log L in f32 that is not small against 1.
const WIDE_SPACING: f64 = 0.03;

/// Longest time for comparing with a slow reference.
const PATIENCE: Duration = Duration::from_secs(2);

/// Compares device and reference on draws of the prior.
///
/// A difference is held against the device only where rounding theta cannot explain it: where log L is so steep that a few steps of f32 change it
/// as much, it says nothing.
///
/// # Errors
/// [`RunErrorKind::Precision`] when they are different functions, and what either of them refuses.
pub(super) fn before_run(evaluator: &Evaluator) -> Result<(), RunErrorKind> {
    let Some(precision) = evaluator.precision().filter(|_| evaluator.has_reference()) else { return Ok(()) };
    let prior = evaluator.prior();
    let stream = Stream::new(0x1175);
    let u = Array2::from_shape_fn((N_START, prior.n_dim()), |(i, j)| {
        stream.substream(j as u64).at(i as u64).uniform().clamp(1e-6, 1.0 - 1e-6)
    });
    let n = affordable(evaluator, u.view())?;
    let u = u.slice(s![..n, ..]);
    let (device, reference) = (lenient(evaluator.evaluate(u))?, lenient(evaluator.reference(u))?);
    let (Some(device), Some(reference)) = (device, reference) else { return Ok(()) };
    let differ = |k: usize| -> Result<bool, RunErrorKind> {
        let (found, expected) = (device[k], reference[k]);
        // Below this f32 may have reached -inf on its way.
        if found == expected || found.max(expected) < -1e30 {
            return Ok(false);
        }
        let difference = (found - expected).abs();
        if difference <= TOLERANCE.0 + TOLERANCE.1 * expected.abs() {
            return Ok(false);
        }
        let nudged = nudged(evaluator, precision, u.slice(s![k..k + 1, ..]), 1.0);
        let Some(response) = lenient(evaluator.reference(nudged.view()))? else { return Ok(false) };
        let most = response.iter().map(|x| (x - expected).abs()).fold(0.0, f64::max);
        Ok(difference > ROUNDINGS * most)
    };
    let start = Instant::now();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    while seen < n && start.elapsed() < PATIENCE {
        if differ(seen)? {
            wrong.push(seen);
        }
        seen += 1;
    }
    let n = seen;
    match wrong.first() {
        Some(&k) if wrong.len() as f64 > MAX_DIFFERENT * n as f64 => {
            let theta = prior.unit_to_theta(u.slice(s![k..k + 1, ..]))?;
            let point: Vec<String> =
                prior.names().iter().zip(theta.row(0)).map(|(name, value)| format!("{name} = {value:?}")).collect();
            Err(RunErrorKind::Precision {
                what: "the likelihood on the device and its f64 form on the CPU".to_owned(),
                problem: format!(
                    "they differ at {} of {n} draws of the prior, by more than rounding explains: log L is {} on the device and {} on the CPU at \
                     {}; make them the same function",
                    wrong.len(),
                    device[k],
                    reference[k],
                    point.join(", ")
                ),
            })
        }
        _ => Ok(()),
    }
}

/// Ends a run whose posterior f32 cannot resolve, on the points near the peak.
///
/// # Errors
/// [`RunErrorKind::Precision`] with the parameter's name.
pub(super) fn before_sampling(evaluator: &Evaluator, samples: &Samples) -> Result<(), RunErrorKind> {
    let Some(precision) = evaluator.precision() else { return Ok(()) };
    let best = samples.log_l().iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // log L of posterior draws lies about n_dim / 2 below the peak.
    let depth = 3.0 + 0.5 * samples.u().ncols() as f64;
    let near: Vec<usize> = (0..samples.len()).filter(|&k| samples.log_l()[k] > best - depth).collect();
    let stride = near.len().div_ceil(N_POSTERIOR).max(1);
    let rows: Vec<usize> = near.into_iter().step_by(stride).collect();
    let u = samples.u().select(Axis(0), &rows);
    match unresolved(evaluator, precision, u.view(), LEAST_STEPS)?.into_iter().next() {
        Some((what, problem)) => Err(RunErrorKind::Precision { what, problem }),
        None => Ok(()),
    }
}

/// What f32 may have done to a result; `u` are draws of the posterior with equal weights, `log_l` what the device said of them.
pub(super) fn after_run(
    evaluator: &Evaluator,
    u: ArrayView2<f64>,
    log_l: ArrayView1<f64>,
    log_z_error: f64,
) -> Vec<String> {
    let Some(precision) = evaluator.precision() else { return Vec::new() };
    let mut warnings = Vec::new();
    let few = u.slice(s![..u.nrows().min(N_POSTERIOR), ..]);
    // A check that fails to run says nothing about the result: that was complete before it.
    let found = unresolved(evaluator, precision, few, FEW_STEPS).unwrap_or_default();
    warnings.extend(found.into_iter().map(|(what, problem)| format!("{what}: {problem}")));
    let largest = log_l.iter().map(|x| x.abs()).fold(0.0, f64::max);
    let spacing = f64::from((largest as f32).next_up() - largest as f32);
    if !precision.value_pair && spacing > WIDE_SPACING {
        warnings.push(format!(
            "log L reaches {largest:.3e}, where f32 has steps of {spacing:.3}; {}",
            value_advice(precision)
        ));
    }
    if evaluator.has_reference() {
        warnings.extend(shift(evaluator, precision, u, log_l, log_z_error));
    }
    warnings
}

/// Parameters whose posterior is narrower than `least` steps, and what to do; or log L itself, where more steps do not change it more.
fn unresolved(
    evaluator: &Evaluator,
    precision: DevicePrecision,
    u: ArrayView2<f64>,
    least: f64,
) -> Result<Vec<(String, String)>, RunErrorKind> {
    let mut widths = steps(evaluator, precision, u, 1.0)?;
    widths.retain(|(_, _, width)| *width < least);
    if widths.is_empty() {
        return Ok(Vec::new());
    }
    let many = steps(evaluator, precision, u, MANY_STEPS)?;
    let is_noise = |&(dim, _, width): &(usize, String, f64)| {
        let far = many.iter().find(|(other, ..)| *other == dim);
        far.is_some_and(|(_, _, narrower)| width < 0.5 * MANY_STEPS * narrower)
    };
    let (mut noise, narrow): (Vec<_>, Vec<_>) = widths.into_iter().partition(is_noise);
    noise.retain(|(_, _, width)| 1.0 / width > LOUD_NOISE);
    let told = |(_, name, width): (usize, String, f64)| {
        let advice = advice(precision);
        (format!("parameter `{name}`"), format!("its posterior is only {width:.1} steps of f32 wide; {advice}"))
    };
    let mut found: Vec<(String, String)> = narrow.into_iter().map(told).collect();
    if let Some((.., width)) = noise.into_iter().min_by(|a, b| a.2.total_cmp(&b.2)) {
        let problem = format!(
            "rounding makes it jump by {:.3} from one step of a parameter to the next, and no less over larger steps; {}",
            1.0 / width,
            sum_advice(precision)
        );
        found.push(("log L".to_owned(), problem));
    }
    Ok(found)
}

/// Warns when log Z by the f64 reference would be another.
fn shift(
    evaluator: &Evaluator,
    precision: DevicePrecision,
    u: ArrayView2<f64>,
    log_l: ArrayView1<f64>,
    log_z_error: f64,
) -> Option<String> {
    let n = affordable(evaluator, u).ok()?;
    let reference = evaluator.reference(u.slice(s![..n, ..])).ok()?.log_l;
    // Z_reference / Z_device is the mean of L_reference / L_device over the posterior of the device.
    let ratios: Vec<f64> = reference.iter().zip(log_l).map(|(reference, device)| (reference - device).exp()).collect();
    let mean = ratios.iter().sum::<f64>() / n as f64;
    let variance = ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum::<f64>() / (n as f64 - 1.0).max(1.0);
    let (shift, error) = (mean.ln(), (variance / n as f64).sqrt() / mean);
    let seen = shift.abs() > (0.3 * log_z_error).max(3.0 * error) || !shift.is_finite();
    seen.then(|| {
        format!(
            "f32 moves log Z: by the f64 form of the likelihood it would change by {shift:+.4} +- {error:.4}, against an error of {log_z_error:.4}; \
             {}",
            sum_advice(precision)
        )
    })
}

/// What to do about a posterior of few steps.
fn advice(precision: DevicePrecision) -> &'static str {
    if precision.tensors {
        "subtract an offset from the parameter, narrow the prior, or use the CPU for the likelihood, where tensors are f64"
    } else if precision.theta_pair {
        "use the CPU for the likelihood, or narrow the prior around the peak"
    } else {
        "write the likelihood as log_likelihood(theta_hi, theta_lo), narrow the prior, or use the CPU for it"
    }
}

/// What to do about a large log L.
fn value_advice(precision: DevicePrecision) -> &'static str {
    if precision.tensors {
        "leave a constant out of it, or use the CPU for the likelihood, where tensors are f64"
    } else {
        "return it in two parts as vec2<f32> (sum_pair of the library adds up so), or leave a constant out of it"
    }
}

/// What to do about rounding in log L.
fn sum_advice(precision: DevicePrecision) -> &'static str {
    if precision.tensors {
        "subtract offsets from parameters and data, or use the CPU for the likelihood, where tensors are f64"
    } else {
        "add up in two parts (Sum, vec2<f32>) or use the CPU for the likelihood"
    }
}

/// How wide the posterior is in each sampled parameter, in steps of the device's numbers: one over the root mean square of what `n` steps at
/// once do to log L. Dimension, name, width; dimensions that change nothing are left out.
fn steps(
    evaluator: &Evaluator,
    precision: DevicePrecision,
    u: ArrayView2<f64>,
    n: f64,
) -> Result<Vec<(usize, String, f64)>, RunErrorKind> {
    let n_dim = u.ncols();
    let Some(here) = lenient(evaluator.evaluate(u))? else { return Ok(Vec::new()) };
    let Some(there) = lenient(evaluator.evaluate(nudged(evaluator, precision, u, n).view()))? else {
        return Ok(Vec::new());
    };
    let names = evaluator.prior().sampled_names();
    let mut out = Vec::new();
    for (j, name) in names.into_iter().enumerate() {
        let changes = (0..u.nrows()).map(|i| there[i * n_dim + j] - here[i]).filter(|change| change.is_finite());
        let (n, sum) = changes.fold((0.0, 0.0), |(n, sum), change| (n + 1.0, sum + change * change));
        if n > 0.0 && sum > 0.0 {
            out.push((j, name.to_owned(), (n / sum).sqrt()));
        }
    }
    Ok(out)
}

/// For every row of u, `n_dim` rows: each with one coordinate moved so far that theta changes by `n` steps of the device's numbers.
fn nudged(evaluator: &Evaluator, precision: DevicePrecision, u: ArrayView2<f64>, n: f64) -> Array2<f64> {
    let n_dim = u.ncols();
    let mut out = Array2::from_shape_fn((u.nrows() * n_dim, n_dim), |(i, j)| u[[i / n_dim, j]]);
    // The slope of theta from a step that f64 resolves, towards the middle, where no end is met.
    let side = |u: f64| if u < 0.5 { 1.0 } else { -1.0 };
    let small = |u: f64| 1e-6 * u.min(1.0 - u).max(1e-12);
    for i in 0..out.nrows() {
        let x = &mut out[[i, i % n_dim]];
        *x += side(*x) * small(*x);
    }
    let prior = evaluator.prior();
    let (Ok(at), Ok(beside)) = (prior.unit_to_theta(u), prior.unit_to_theta(out.view())) else { return out };
    let relative = if precision.theta_pair { 2f64.powi(-47) } else { f64::from(f32::EPSILON) };
    for i in 0..out.nrows() {
        let j = i % n_dim;
        let before = u[[i / n_dim, j]];
        let (at, beside) = (at.row(i / n_dim), beside.row(i));
        let moved = at.iter().zip(beside).map(|(at, beside)| {
            let step = relative * 2f64.powi(at.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() as i32);
            (beside - at).abs() / step
        });
        let steps = moved.fold(0.0, f64::max);
        out[[i, j]] = before + side(before) * (n * small(before) / steps.max(1e-300)).min(small(before).max(0.01));
    }
    out
}

/// How many of the rows the reference can take in the time there is.
fn affordable(evaluator: &Evaluator, u: ArrayView2<f64>) -> Result<usize, RunErrorKind> {
    let few = u.nrows().min(4);
    let start = Instant::now();
    lenient(evaluator.reference(u.slice(s![..few, ..])))?;
    let each = start.elapsed().as_secs_f64() / few.max(1) as f64;
    Ok(((PATIENCE.as_secs_f64() / each.max(1e-9)) as usize).clamp(few, u.nrows()))
}

/// log L, or nothing where it is NaN somewhere: that is the run's to report, at a point that it draws.
fn lenient(evaluated: Result<crate::batch::Evaluated, EvaluationError>) -> Result<Option<Array1<f64>>, RunErrorKind> {
    match evaluated {
        Ok(evaluated) => Ok(Some(evaluated.log_l)),
        Err(EvaluationError::NonFinite { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_advised_to_write_what_there_is_not() {
        let tensors = DevicePrecision { theta_pair: false, value_pair: false, tensors: true };
        for text in [advice, value_advice, sum_advice].map(|advice| advice(tensors)) {
            assert!(text.contains("the CPU") && text.contains("f64"), "{text}");
            assert!(!text.contains("theta_hi") && !text.contains("vec2"), "{text}");
        }
        let wgsl = |theta_pair| DevicePrecision { theta_pair, value_pair: false, tensors: false };
        assert!(advice(wgsl(false)).contains("theta_hi") && !advice(wgsl(true)).contains("theta_hi"));
        assert!(value_advice(wgsl(false)).contains("vec2") && sum_advice(wgsl(false)).contains("vec2"));
    }
}
