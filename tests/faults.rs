//! Every kind of bad input: a typed error that says what, where and what to do, or the right answer; never a panic, a hang or a lost point.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use livepoint::{
    Backend, BackendError, EvaluationError, Likelihood, LikelihoodError, NetworkOptions, NeuralBoundSampler, NonFinite,
    Place, Prior, PriorError, Progress, Run, RunError, RunErrorKind, RunResult, Sampler, SamplerError, StopReason,
};
use ndarray::{Array2, ArrayView2, ArrayViewMut2};

/// An honest error is exceeded so far once in two million; seeds are fixed, so a failure means that the code changed.
const MAX_PULL: f64 = 5.0;

/// What a problem without variance must be right to: rounding only (as `diagnostics::EXACT`).
const EXACT: f64 = 1e-9;

/// Rows of an exploration batch in these runs.
const N_BATCH: usize = 100;

type Outcome = Result<RunResult, RunError<NeuralBoundSampler>>;

fn square() -> Prior {
    Prior::new().uniform("x", -5.0..5.0).uniform("y", -5.0..5.0)
}

/// log Z of [`gauss`] on [`square`].
const LOG_Z: f64 = -4.605_170_185_988_092;

/// A normalised Gaussian of width 0.5.
fn gauss(theta: &[f64]) -> f64 {
    let square: f64 = theta.iter().map(|x| (x / 0.5).powi(2)).sum();
    -0.5 * square - theta.len() as f64 * (0.5f64.ln() + 0.5 * std::f64::consts::TAU.ln())
}

/// Ellipsoids only: most faults have nothing to do with networks.
fn small() -> NeuralBoundSampler {
    NeuralBoundSampler::default().n_live(100).n_batch(N_BATCH).n_eff(500.0).n_shell(20).n_networks(0).seed(1)
}

fn sample(prior: &Prior, likelihood: &Likelihood, sampler: NeuralBoundSampler) -> Outcome {
    Run::new(prior, likelihood).backends((Backend::cpu(2), Backend::cpu(1))).sample(sampler)
}

fn assert_right(result: &RunResult, truth: f64) {
    assert_eq!(result.stopped(), StopReason::Converged);
    let e = result.evidence();
    assert!(e.log_z_error > 0.0 && e.log_z_error < 0.3, "error {}", e.log_z_error);
    assert!((e.log_z - truth).abs() < MAX_PULL * e.log_z_error, "{} +- {}, truth {truth}", e.log_z, e.log_z_error);
}

/// What every failed run must hold: `n_like` points, consistent with each other, and words that carry the number.
fn assert_kept(error: &RunError<NeuralBoundSampler>, n_like: usize) {
    let result = &error.result;
    assert_eq!((result.n_like(), result.samples().len(), result.theta().nrows()), (n_like, n_like, n_like));
    assert_eq!(result.stopped(), StopReason::Error);
    assert!(result.warnings()[0].starts_with("an error ended the run"));
    let e = result.evidence();
    match n_like {
        0 => assert_eq!((e.log_z, e.log_z_error, e.n_points), (f64::NEG_INFINITY, f64::INFINITY, 0)),
        _ => {
            assert!(e.log_z.is_finite() && e.log_z_error > 0.0 && e.n_points > 0, "{} {}", e.log_z, e.log_z_error);
            assert!(error.to_string().contains(&format!("the {n_like} points evaluated before")), "{error}");
            assert!((result.posterior().weights().iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }
    assert!(!format!("{result}").is_empty() && result.to_json()["n_like"] == n_like);
    let source = std::error::Error::source(error).map(ToString::to_string);
    assert_eq!(source, Some(error.kind.to_string()));
}

/// Goes on after an error with a mended likelihood: nothing is lost, and the answer is right.
fn assert_goes_on(error: RunError<NeuralBoundSampler>, prior: &Prior, mended: &Likelihood, truth: f64) {
    let before = error.result.samples().clone();
    let result = sample(prior, mended, error.result.into_sampler()).unwrap();
    let n = before.len();
    assert!(result.n_like() > n);
    assert_eq!(&result.samples().log_l()[..n], before.log_l());
    assert!(n == 0 || result.samples().u().slice(ndarray::s![..n, ..]) == before.u());
    assert_right(&result, truth);
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Nan,
    Infinity,
    Error,
    Panic,
    TooFew,
    TooMany,
}

const FAULTS: [Fault; 6] = [Fault::Nan, Fault::Infinity, Fault::Error, Fault::Panic, Fault::TooFew, Fault::TooMany];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Point,
    Batch,
    Whole,
}

/// [`gauss`], but at the `at`-th point (counted from 1) something goes wrong.
fn faulty(fault: Fault, at: usize, form: Form) -> Likelihood {
    let calls = AtomicUsize::new(0);
    let value = move |theta: &[f64]| {
        if calls.fetch_add(1, Ordering::SeqCst) + 1 != at {
            return Ok(gauss(theta));
        }
        match fault {
            Fault::Nan => Ok(f64::NAN),
            Fault::Infinity => Ok(f64::INFINITY),
            Fault::Panic => panic!("the spectrograph is on fire"),
            _ => Err("the disk is full".to_owned()),
        }
    };
    if form == Form::Point {
        return Likelihood::point(value);
    }
    let batch = Likelihood::batch(move |theta: ArrayView2<f64>| {
        let mut log_l = Vec::new();
        for row in theta.rows() {
            match (value(&row.to_vec()), fault) {
                (Ok(l), _) => log_l.push(l),
                (Err(_), Fault::TooFew) => {}
                (Err(_), Fault::TooMany) => log_l.extend([0.0; 2]),
                (Err(error), _) => return Err(error),
            }
        }
        Ok(log_l)
    });
    if form == Form::Whole { batch.whole_batches() } else { batch }
}

fn assert_place(place: &Place, form: Form, fault: Fault) {
    let names: Vec<&str> = place.parameters.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x", "y"]);
    assert!(place.parameters.iter().all(|(_, value)| value.abs() <= 5.0));
    let one_row = form == Form::Point || matches!(fault, Fault::Nan | Fault::Infinity);
    assert!(!place.rows.is_empty() && (!one_row || place.rows.len() == 1), "{fault:?} {form:?}: {place}");
}

fn assert_kind(error: &RunError<NeuralBoundSampler>, fault: Fault, form: Form) {
    let text = error.to_string();
    assert!(text.contains("of the batch (") && text.contains("x = "), "{text}");
    let RunErrorKind::Likelihood(evaluation) = &error.kind else { panic!("{error:?}") };
    match (fault, evaluation) {
        (Fault::Nan | Fault::Infinity, EvaluationError::NonFinite { place, value }) => {
            assert_place(place, form, fault);
            assert_eq!(value.is_nan(), fault == Fault::Nan);
            assert!(text.starts_with("log L is ") && text.contains("NonFinite::Reject"), "{text}");
        }
        (Fault::Error, EvaluationError::Likelihood { place, source: LikelihoodError::Failed { source, .. } }) => {
            assert_place(place, form, fault);
            assert_eq!(source.to_string(), "the disk is full");
            assert!(text.starts_with("the likelihood failed ") && text.contains("the disk is full"), "{text}");
        }
        (Fault::Panic, EvaluationError::Likelihood { place, source: LikelihoodError::Panicked { message, .. } }) => {
            assert_place(place, form, fault);
            assert_eq!(message, "the spectrograph is on fire");
            assert!(text.contains("it panicked: the spectrograph is on fire; return -inf"), "{text}");
        }
        (
            Fault::TooFew | Fault::TooMany,
            EvaluationError::Likelihood { place, source: LikelihoodError::WrongLength { expected, found } },
        ) => {
            assert_place(place, form, fault);
            assert_eq!(*expected, place.rows.len());
            assert_eq!(*found as i64 - *expected as i64, if fault == Fault::TooFew { -1 } else { 1 });
            assert!(text.contains("return one log L per row"), "{text}");
        }
        _ => panic!("{fault:?} {form:?}: {error:?}"),
    }
}

/// Every fault of a likelihood, in every form, in the first batch, after several batches and in the sampling phase.
#[test]
fn faults_of_the_likelihood_at_every_stage() {
    let prior = square();
    let mended = Likelihood::point(gauss);
    let whole_run = sample(&prior, &mended, small()).unwrap();
    let n_exploration = whole_run.n_like_exploration();
    assert!(n_exploration > 5 * N_BATCH && n_exploration + 20 < whole_run.n_like());
    // The point at which it fails, and how many whole batches came before.
    let stages = [(1, 0), (N_BATCH, 0), (450, 400), (n_exploration + 20, n_exploration)];
    for fault in FAULTS {
        for form in [Form::Point, Form::Batch, Form::Whole] {
            if form == Form::Point && matches!(fault, Fault::TooFew | Fault::TooMany) {
                continue;
            }
            for (at, n_before) in stages {
                let error = sample(&prior, &faulty(fault, at, form), small()).unwrap_err();
                assert_kind(&error, fault, form);
                assert_kept(&error, n_before);
                assert_eq!(error.result.samples().log_l(), &whole_run.samples().log_l()[..n_before]);
                assert_goes_on(error, &prior, &mended, LOG_Z);
            }
        }
    }
}

#[test]
fn faults_with_networks_too() {
    let prior = square();
    let sampler = || small().n_networks(2);
    let mended = Likelihood::point(gauss);
    let whole_run = sample(&prior, &mended, sampler()).unwrap();
    let n_exploration = whole_run.n_like_exploration();
    for at in [450, n_exploration + 20] {
        let error = sample(&prior, &faulty(Fault::Panic, at, Form::Batch), sampler()).unwrap_err();
        assert_kept(&error, if at == 450 { 400 } else { n_exploration });
        assert_goes_on(error, &prior, &mended, LOG_Z);
    }
}

#[test]
fn rejected_values_are_counted_and_told() {
    // NaN and +inf on the half of the square where the Gaussian has nothing: the answer does not change.
    for bad in [f64::NAN, f64::INFINITY] {
        let likelihood = Likelihood::point(move |theta: &[f64]| if theta[0] > 3.0 { bad } else { gauss(theta) })
            .non_finite(NonFinite::Reject);
        let result = sample(&square(), &likelihood, small()).unwrap();
        assert_right(&result, LOG_Z);
        let there = result.theta().rows().into_iter().map(|row| row[0] > 3.0);
        let expected: Vec<usize> = there.enumerate().filter(|(_, bad)| *bad).map(|(k, _)| k).collect();
        assert!(expected.len() > 10 && result.n_non_finite() == expected.len());
        assert!(expected.iter().all(|&k| result.samples().log_l()[k] == f64::NEG_INFINITY));
        let told = format!("{} values of log L were NaN or +inf", expected.len());
        assert!(result.warnings().iter().any(|w| w.contains(&told)), "{:?}", result.warnings());
        assert_eq!(result.to_json()["n_non_finite"], expected.len());
    }
}

#[test]
fn derived_values_that_do_not_fit() {
    // One value too many, in a closure of one point, and in one of many.
    let point = Likelihood::point_derived(["r"], |theta: &[f64], derived: &mut [f64]| {
        derived[1] = 0.0;
        gauss(theta)
    });
    let batch = Likelihood::batch_derived(["r"], |theta: ArrayView2<f64>, mut derived: ArrayViewMut2<f64>| {
        derived.assign(&Array2::zeros((theta.nrows(), 3)));
        vec![0.0; theta.nrows()]
    });
    for likelihood in [point, batch] {
        let error = sample(&square(), &likelihood, small()).unwrap_err();
        let panicked = |e: &EvaluationError| {
            matches!(e, EvaluationError::Likelihood { source: LikelihoodError::Panicked { .. }, .. })
        };
        assert!(matches!(&error.kind, RunErrorKind::Likelihood(e) if panicked(e)), "{error:?}");
        assert_kept(&error, 0);
    }
}

#[test]
fn a_twin_with_other_derived_values_than_the_text() {
    for (text, twin) in [(&["r"][..], &[][..]), (&[], &["r"]), (&["r"], &["s"]), (&["r", "s"], &["s", "r"])] {
        let twin = Likelihood::point_derived(twin.iter().copied(), |theta: &[f64], _: &mut [f64]| gauss(theta));
        let wgsl = "fn log_likelihood(theta: Theta) -> f32 { return 0.0; }";
        let likelihood = Likelihood::wgsl(wgsl).derived(text.iter().copied()).twin(twin).into();
        let error = sample(&square(), &likelihood, small()).unwrap_err();
        assert!(matches!(error.kind, RunErrorKind::Likelihood(EvaluationError::Data { .. })), "{error:?}");
        assert!(error.to_string().contains("the same names in the same order"), "{error}");
        assert_eq!(error.result.n_like(), 0);
    }
}

#[test]
fn derived_names_that_cannot_be_told_apart() {
    let prior = square().fixed("jitter", 1.0);
    for (names, at_fault, says) in [
        (vec!["r", "x"], "x", "a parameter has the same name"),
        (vec!["jitter"], "jitter", "a parameter has the same name"),
        (vec!["r", "s", "r"], "r", "another derived value has the same name"),
        (vec!["r", ""], "", "the name is empty"),
        (vec!["weight"], "weight", "samples.csv has a column of its own by that name"),
    ] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        let likelihood = Likelihood::point_derived(names, move |theta: &[f64], _: &mut [f64]| {
            counter.fetch_add(1, Ordering::SeqCst);
            gauss(&theta[..2])
        });
        let error = sample(&prior, &likelihood, small()).unwrap_err();
        assert!(matches!(&error.kind, RunErrorKind::DerivedName { name, .. } if name == at_fault), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("derived value '{at_fault}': {says}; ")), "{text}");
        assert_kept(&error, 0);
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        assert_goes_on(error, &prior, &Likelihood::point(|theta: &[f64]| gauss(&theta[..2])), LOG_Z);
    }
}

#[test]
fn parameters_named_like_a_column_of_the_weights() {
    for name in ["weight", "log_l"] {
        let prior = Prior::new().uniform("x", -5.0..5.0).uniform(name, -5.0..5.0);
        let error = sample(&prior, &Likelihood::point(gauss), small()).unwrap_err();
        assert!(matches!(&error.kind, RunErrorKind::ParameterName { name: named, .. } if named == name), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("parameter '{name}': ")) && text.contains("rename the parameter"), "{text}");
        assert_kept(&error, 0);
        assert_goes_on(error, &square(), &Likelihood::point(gauss), LOG_Z);
    }
}

#[test]
fn priors_that_cannot_be_sampled() {
    let wrong: [(&str, Prior, &str); 9] = [
        ("none", Prior::new(), "no sampled parameter (0 fixed or tied)"),
        ("fixed only", Prior::new().fixed("a", 1.0).tied("b", "a"), "no sampled parameter (2 fixed or tied)"),
        ("no width", square().uniform("z", 1.0..1.0), "'z' (uniform)"),
        ("reversed", square().uniform("z", 1.0..0.0), "'z' (uniform)"),
        ("not a number", square().uniform("z", f64::NAN..0.0), "'z' (uniform)"),
        ("no scale", square().normal("z", 0.0, 0.0), "'z' (normal)"),
        ("twice", square().uniform("x", 0.0..1.0), "'x' is declared twice"),
        ("no name", square().uniform("", 0.0..1.0), "parameter 2 (counted from 0) has an empty name"),
        ("tied to nothing", square().tied("z", "w"), "'w', which is not declared"),
    ];
    for (what, prior, says) in wrong {
        let error = sample(&prior, &Likelihood::point(gauss), small()).unwrap_err();
        assert!(matches!(error.kind, RunErrorKind::Prior(_)), "{what}: {error:?}");
        let text = error.to_string();
        assert!(
            text.starts_with("prior: ") && text.contains(says) && text.contains(';') | text.contains(':'),
            "{text}"
        );
        assert_kept(&error, 0);
        assert_goes_on(error, &square(), &Likelihood::point(gauss), LOG_Z);
    }
}

/// A prior hardly wider than one rounding step: a constant likelihood for all that a sampler can tell.
#[test]
fn a_prior_of_a_few_rounding_steps() {
    let prior = Prior::new().uniform("x", 1.0..1.0 + 4.0 * f64::EPSILON).uniform("y", -5.0..5.0);
    let result = sample(&prior, &Likelihood::point(|theta: &[f64]| gauss(&theta[1..])), small()).unwrap();
    assert_right(&result, -(10f64.ln()));
}

type Change = fn(NeuralBoundSampler) -> NeuralBoundSampler;

#[test]
fn impossible_options_are_named() {
    fn network(change: fn(&mut NetworkOptions)) -> NetworkOptions {
        let mut options = NetworkOptions::default();
        change(&mut options);
        options
    }
    let wrong: &[(&str, &str, Change)] = &[
        ("n_live", "0", |s| s.n_live(0)),
        ("n_live", "51", |s| s.n_live(51)),
        ("n_live", "1000000001", |s| s.n_live(1_000_000_001)),
        ("n_points_min", "3", |s| s.n_points_min(3)),
        ("n_points_min", "0", |s| s.n_points_min(0)),
        ("n_eff", "0", |s| s.n_eff(0.0)),
        ("n_eff", "NaN", |s| s.n_eff(f64::NAN)),
        ("n_eff", "-1", |s| s.n_eff(-1.0)),
        ("n_eff", "inf", |s| s.n_eff(f64::INFINITY)),
        ("n_eff", "2000000000000", |s| s.n_eff(2e12)),
        ("f_live", "0", |s| s.f_live(0.0)),
        ("f_live", "1", |s| s.f_live(1.0)),
        ("f_live", "1.5", |s| s.f_live(1.5)),
        ("f_live", "-0.1", |s| s.f_live(-0.1)),
        ("f_live", "NaN", |s| s.f_live(f64::NAN)),
        ("n_batch", "0", |s| s.n_batch(0)),
        ("n_batch", "10000001", |s| s.n_batch(10_000_001)),
        ("n_shell", "0", |s| s.n_shell(0)),
        ("n_shell", "1", |s| s.n_shell(1)),
        ("n_shell", "1000000001", |s| s.n_shell(1_000_000_001)),
        ("enlarge_per_dim", "0.999", |s| s.enlarge_per_dim(0.999)),
        ("enlarge_per_dim", "NaN", |s| s.enlarge_per_dim(f64::NAN)),
        ("enlarge_per_dim", "inf", |s| s.enlarge_per_dim(f64::INFINITY)),
        ("split_threshold", "1", |s| s.split_threshold(1.0)),
        ("split_threshold", "-2", |s| s.split_threshold(-2.0)),
        ("split_threshold", "NaN", |s| s.split_threshold(f64::NAN)),
        ("split_threshold", "inf", |s| s.split_threshold(f64::INFINITY)),
        ("n_update", "0", |s| s.n_update(0)),
        ("n_update", "1000000001", |s| s.n_update(1_000_000_001)),
        ("n_like_new_bound", "0", |s| s.n_like_new_bound(0)),
        ("network", "hidden_layer_sizes", |s| s.network(network(|o| o.hidden_layer_sizes = vec![10, 0]))),
        ("network", "batch_size", |s| s.network(network(|o| o.batch_size = 0))),
        ("network", "max_iter", |s| s.network(network(|o| o.max_iter = 0))),
        ("network", "learning_rate_init", |s| s.network(network(|o| o.learning_rate_init = f64::NAN))),
        ("network", "learning_rate_init", |s| s.network(network(|o| o.learning_rate_init = -0.1))),
        ("network", "epsilon", |s| s.network(network(|o| o.epsilon = 0.0))),
        ("network", "beta_1", |s| s.network(network(|o| o.beta_1 = 1.0))),
        ("network", "beta_2", |s| s.network(network(|o| o.beta_2 = -0.5))),
        ("network", "tol", |s| s.network(network(|o| o.tol = f64::NAN))),
    ];
    for (option, value, change) in wrong {
        let error = sample(&square(), &Likelihood::point(gauss), change(small().n_networks(1))).unwrap_err();
        let RunErrorKind::Sampler(SamplerError::Option { option: named, .. }) = &error.kind else {
            panic!("{option} = {value}: {error:?}")
        };
        let text = error.to_string();
        assert_eq!(named, option, "{text}");
        let starts = format!("sampler: option {option} = {}", if *option == "network" { "" } else { value });
        assert!(text.starts_with(&starts) && text.contains(value), "{text}");
        assert_kept(&error, 0);
        // The same sampler with that option put right.
        let mended = error.result.into_sampler().n_live(100).n_points_min(52).n_eff(100.0).f_live(0.1).n_batch(50);
        let mended = mended.n_shell(10).enlarge_per_dim(1.1).split_threshold(10.0).n_update(100).n_networks(0);
        assert_right(&sample(&square(), &Likelihood::point(gauss), mended.n_like_new_bound(1000)).unwrap(), LOG_Z);
    }
    // More dimensions need more live points.
    let wide = (0..60).fold(Prior::new(), |prior, k| prior.uniform(format!("x{k}"), -5.0..5.0));
    let error = sample(&wide, &Likelihood::point(gauss), small()).unwrap_err();
    assert!(error.to_string().contains("option n_live = 100: 60 dimensions need at least"), "{error}");
    // Without networks their options are of no account.
    let unused = small().network(network(|o| o.batch_size = 0));
    assert_right(&sample(&square(), &Likelihood::point(gauss), unused).unwrap(), LOG_Z);
}

/// Options whose use makes a run end neither at its targets nor with a refusal, but in a panic.
fn panics(options: &[(&'static str, Change)]) -> Vec<&'static str> {
    let run = |change: Change| {
        let (prior, likelihood) = (square(), Likelihood::point(gauss));
        match Run::new(&prior, &likelihood).backends(Backend::cpu(1)).n_like_max(3000).sample(change(small())) {
            Ok(result) => assert!(result.n_like() <= 3000),
            Err(error) => assert!(matches!(error.kind, RunErrorKind::Sampler(SamplerError::Option { .. }))),
        }
    };
    let panicked = |change: Change| std::panic::catch_unwind(move || run(change)).is_err();
    options.iter().filter(|(_, change)| panicked(*change)).map(|(option, _)| *option).collect()
}

/// Sizes that no machine has: the run may refuse them or end at its limit, but must not panic or run out of memory.
#[test]
fn absurdly_large_options() {
    let found = panics(&[
        ("n_points_min", |s| s.n_points_min(usize::MAX)),
        ("n_update", |s| s.n_update(usize::MAX)),
        ("n_like_new_bound", |s| s.n_like_new_bound(usize::MAX)),
        ("n_batch", |s| s.n_batch(usize::MAX)),
        ("n_eff", |s| s.n_eff(f64::MAX)),
        ("enlarge_per_dim", |s| s.enlarge_per_dim(1e300)),
        ("split_threshold", |s| s.split_threshold(f64::MAX)),
        ("f_live", |s| s.f_live(f64::MIN_POSITIVE)),
        ("n_live", |s| s.n_live(usize::MAX)),
        ("n_shell", |s| s.n_shell(usize::MAX)),
        ("n_eff", |s| s.n_eff(1e30)),
        // The largest that are taken.
        ("n_live", |s| s.n_live(1_000_000_000)),
        ("n_shell", |s| s.n_shell(1_000_000_000)),
        ("n_eff", |s| s.n_eff(1e12)),
    ]);
    assert!(found.is_empty(), "these panic: {found:?}");
}

#[test]
fn a_batch_larger_than_memory() {
    let error = sample(&square(), &Likelihood::point(gauss), small().n_batch(usize::MAX)).unwrap_err();
    assert!(error.to_string().contains("option n_batch = 18446744073709551615: must be at most"), "{error}");
}

#[test]
fn a_call_limit_of_zero() {
    let (prior, likelihood) = (square(), Likelihood::point(gauss));
    let error = Run::new(&prior, &likelihood).n_like_max(0).sample(small()).unwrap_err();
    assert!(matches!(error.kind, RunErrorKind::Option { option: "n_like_max", .. }));
    assert_eq!(error.to_string(), "option n_like_max = 0: no point could be evaluated; leave it out for no limit");
    assert_kept(&error, 0);
    assert_goes_on(error, &prior, &likelihood, LOG_Z);
}

#[test]
fn more_threads_than_there_can_be() {
    let (prior, likelihood) = (square(), Likelihood::point(gauss));
    for (backends, half) in [
        ((Backend::cpu(usize::MAX), Backend::cpu(1)), "likelihood"),
        ((Backend::cpu(1), Backend::cpu(100_000)), "sampler"),
    ] {
        let error = Run::new(&prior, &likelihood).backends(backends).sample(small()).unwrap_err();
        let RunErrorKind::Backend(BackendError::Threads { role, .. }) = &error.kind else { panic!("{error:?}") };
        assert_eq!(role, half);
        assert!(error.to_string().ends_with("ask for fewer with Backend::cpu(n)"), "{error}");
        assert_kept(&error, 0);
        assert_goes_on(error, &prior, &likelihood, LOG_Z);
    }
}

#[test]
fn a_constant_likelihood_is_exact_and_cheap() {
    for (level, n_dim) in [(0.0, 1), (-1234.5, 2), (1e8, 5)] {
        let prior = (0..n_dim).fold(Prior::new(), |prior, k| prior.uniform(format!("x{k}"), 0.0..1.0));
        let sampler = NeuralBoundSampler::default().n_live(200).n_eff(1000.0).seed(3);
        let result = sample(&prior, &Likelihood::point(move |_: &[f64]| level), sampler).unwrap();
        let e = result.evidence();
        assert_eq!(result.stopped(), StopReason::Converged);
        // Rounding grows with the size of log L itself.
        assert!((e.log_z - level).abs() < EXACT * f64::max(1.0, level), "{} {level}", e.log_z);
        assert!(e.log_z_error < EXACT * f64::max(1.0, level.abs()), "{}", e.log_z_error);
        assert!((e.n_eff / e.n_points as f64 - 1.0).abs() < 1e-6 && e.information < EXACT * f64::max(1.0, level.abs()));
        assert!(result.n_like() <= 2000, "{} calls", result.n_like());
    }
}

#[test]
fn a_likelihood_that_is_nowhere_above_zero() {
    let likelihood = Likelihood::point(|_: &[f64]| f64::NEG_INFINITY);
    let error = sample(&square(), &likelihood, small()).unwrap_err();
    let RunErrorKind::Sampler(SamplerError::NoFiniteLikelihood { n_infinite, n_points, .. }) = error.kind else {
        panic!("{error:?}")
    };
    assert_eq!((n_infinite, n_points), (error.result.n_like(), error.result.n_like()));
    // A thousand times n_live, and what comes before the next look.
    assert!((100_000..110_000).contains(&n_points), "{n_points} calls");
    let text = error.to_string();
    assert!(text.contains("log L is -inf for") && text.contains("check the likelihood"), "{text}");
    let e = error.result.evidence();
    assert_eq!((e.log_z, e.log_z_error), (f64::NEG_INFINITY, f64::INFINITY));
    assert!(error.result.posterior().rows().is_empty());
    assert!(error.result.to_json()["evidence"]["log_z"].is_null());
}

#[test]
fn a_likelihood_that_is_above_zero_on_a_thousandth_of_the_prior() {
    // A flat disc: log Z = ln(pi r^2).
    let disc = |r: f64, inside: f64, outside: f64| {
        Likelihood::point(
            move |u: &[f64]| {
                if (u[0] - 0.4).powi(2) + (u[1] - 0.3).powi(2) < r * r { inside } else { outside }
            },
        )
    };
    let prior = Prior::new().uniform("x", 0.0..1.0).uniform("y", 0.0..1.0);
    let r = 0.018;
    let log_v = (std::f64::consts::PI * r * r).ln();
    for n_networks in [0, 2] {
        let sampler = || small().n_networks(n_networks).n_eff(1000.0);
        let result = sample(&prior, &disc(r, 0.0, f64::NEG_INFINITY), sampler()).unwrap();
        assert_right(&result, log_v);
        // Nothing is found until enough points are inside: at most a few times n_points_min / V, and the rest.
        assert!(result.n_like() < 300_000, "{} calls", result.n_like());
        // A plateau at the top of a finite floor.
        let result = sample(&prior, &disc(0.1, 0.0, -20.0), sampler()).unwrap();
        let v = std::f64::consts::PI * 0.01;
        assert_right(&result, (v + (1.0 - v) * (-20f64).exp()).ln());
        // Two levels that both count.
        let result = sample(&prior, &disc(0.1, 3.0, 0.0), sampler()).unwrap();
        assert_right(&result, (v * 3f64.exp() + 1.0 - v).ln());
    }
}

#[test]
fn folders_that_cannot_be_written() {
    let result = sample(&square(), &Likelihood::point(gauss), small()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    for target in [file.clone(), file.join("below"), file.join("further/below")] {
        let error = result.save(&target).unwrap_err();
        assert!(error.path.starts_with(&file) && !error.reason.is_empty());
        let text = error.to_string();
        assert!(
            text.starts_with("cannot write ") && text.ends_with("choose a folder that can be written to"),
            "{text}"
        );
        assert!(text.contains(file.to_str().unwrap()), "{text}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    // A folder stands where a file should go: the error names it, no parts stay behind, the other file is not replaced by half.
    let out = folder.path().join("out");
    result.save(&out).unwrap();
    let before = std::fs::read(out.join("samples.csv")).unwrap();
    std::fs::remove_file(out.join("result.json")).unwrap();
    std::fs::create_dir(out.join("result.json")).unwrap();
    let error = result.save(&out).unwrap_err();
    assert_eq!(error.path, out.join("result.json"));
    assert_eq!(std::fs::read(out.join("samples.csv")).unwrap(), before);
    let mut left: Vec<String> =
        std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["result.json", "samples.csv"]);
}

#[test]
fn what_may_not_change_when_a_run_goes_on() {
    let changes: &[(&str, Change)] = &[
        ("n_live", |s| s.n_live(200)),
        ("n_batch", |s| s.n_batch(7)),
        ("seed", |s| s.seed(2)),
        ("n_networks", |s| s.n_networks(4)),
        ("enlarge_per_dim", |s| s.enlarge_per_dim(1.5)),
        ("n_update", |s| s.n_update(50)),
        ("split_threshold", |s| s.split_threshold(50.0)),
    ];
    let likelihood = Likelihood::point(gauss);
    let prior = square();
    let limited = || Run::new(&prior, &likelihood).n_like_max(1000).sample(small()).unwrap().into_sampler();
    let assert_changed = |error: &RunError<NeuralBoundSampler>, says: &str| {
        assert!(matches!(error.kind, RunErrorKind::Sampler(SamplerError::Changed { .. })), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(says) && text.contains("start a new sampler, or restore"), "{text}");
        assert_kept(error, 1000);
    };
    for (option, change) in changes {
        let error = sample(&prior, &likelihood, change(limited())).unwrap_err();
        assert_changed(&error, option);
        // Put back as it was, it goes on.
        let restored = error.result.into_sampler().n_live(100).n_batch(N_BATCH).seed(1).n_networks(0);
        let restored = restored.enlarge_per_dim(1.1).split_threshold(10.0);
        if *option != "n_update" {
            let result = sample(&prior, &likelihood, restored).unwrap();
            assert_right(&result, LOG_Z);
        }
    }
    let wider = square().uniform("z", 0.0..1.0);
    let periodic = square().mark_periodic("x");
    let derived = Likelihood::point_derived(["r"], |theta: &[f64], _: &mut [f64]| gauss(theta));
    for (prior, likelihood, says) in
        [(&wider, &likelihood, "n_dim"), (&periodic, &likelihood, "periodic"), (&prior, &derived, "n_derived")]
    {
        let error = sample(prior, likelihood, limited()).unwrap_err();
        assert_changed(&error, says);
        assert_goes_on(error, &square(), &Likelihood::point(gauss), LOG_Z);
    }
    // Targets may change at any time.
    let result = sample(&prior, &likelihood, limited().n_eff(800.0).f_live(0.02).n_shell(30)).unwrap();
    assert_right(&result, LOG_Z);
}

/// The ledger holds points of the unit cube: under another prior they would be other parameters, with the old log L.
#[test]
fn another_prior_of_the_same_dimension_is_refused() {
    let likelihood = Likelihood::point(gauss);
    let result = Run::new(&square(), &likelihood).n_like_max(1000).sample(small()).unwrap();
    let mut sampler = result.into_sampler();
    for (other, says) in [
        (Prior::new().uniform("x", 0.0..1.0).log_uniform("y", 1.0..2.0), "y: log_uniform("),
        (Prior::new().uniform("y", -5.0..5.0).uniform("x", -5.0..5.0), "(y: uniform("),
        (square().fixed("jitter", 1.0), "jitter: fixed(value=1.0)"),
    ] {
        let error = sample(&other, &likelihood, sampler).unwrap_err();
        assert!(matches!(error.kind, RunErrorKind::Sampler(SamplerError::Changed { .. })), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("already sampled with the prior (x: uniform(") && text.contains(says), "{text}");
        assert!(text.contains("restore the prior"), "{text}");
        sampler = error.result.into_sampler();
    }
    assert_right(&sample(&square(), &likelihood, sampler).unwrap(), LOG_Z);
}

#[test]
fn stopped_before_the_first_point() {
    let (prior, likelihood) = (square(), Likelihood::point(gauss));
    let timeout = Run::new(&prior, &likelihood).timeout(Duration::ZERO).sample(small()).unwrap();
    let observer = |_: &Progress| ControlFlow::Break(());
    let observed = Run::new(&prior, &likelihood).observer(observer).sample(small()).unwrap();
    for (result, reason) in [(timeout, StopReason::Timeout), (observed, StopReason::Observer)] {
        assert_eq!((result.stopped(), result.n_like()), (reason, 0));
        assert_eq!(result.evidence().log_z, f64::NEG_INFINITY);
        assert_eq!(result.warnings().len(), 1, "only why it ended: {:?}", result.warnings());
        assert!(result.to_string().contains("log Z = -inf") && result.posterior().rows().is_empty());
        let folder = tempfile::tempdir().unwrap();
        result.save(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("samples.csv")).unwrap(), "x,y,weight,log_l\n");
        assert_right(&sample(&prior, &likelihood, result.into_sampler()).unwrap(), LOG_Z);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum TransformFault {
    Panic,
    Nan,
    Infinity,
    Shape,
    Error,
}

/// The square as a transform of the user's own, which fails at the `at`-th row, once or from then on.
fn faulty_transform(fault: TransformFault, at: usize, for_good: bool) -> Prior {
    let rows = AtomicUsize::new(0);
    Prior::new().transform(["x", "y"], move |u: ArrayView2<f64>| {
        let before = rows.fetch_add(u.nrows(), Ordering::SeqCst);
        let mut theta = u.mapv(|u| 10.0 * u - 5.0);
        let now = before + u.nrows() >= at && (for_good || before < at);
        match fault {
            TransformFault::Panic if now => panic!("no such planet"),
            TransformFault::Nan if now => theta[[0, 1]] = f64::NAN,
            TransformFault::Infinity if now => theta[[0, 1]] = f64::INFINITY,
            TransformFault::Shape if now => return Ok(Array2::zeros((u.nrows() + 1, 2))),
            TransformFault::Error if now => return Err("no such planet"),
            _ => {}
        }
        Ok(theta)
    })
}

#[test]
fn faults_of_the_users_own_prior_transform() {
    use TransformFault::{Error, Infinity, Nan, Panic, Shape};
    let likelihood = Likelihood::point(gauss);
    let good = Prior::new().transform(["x", "y"], |u: ArrayView2<f64>| u.mapv(|u| 10.0 * u - 5.0));
    let n_exploration = sample(&good, &likelihood, small()).unwrap().n_like_exploration();
    for (fault, says) in [
        (Panic, "the transform of parameters x, y panicked: no such planet"),
        (Nan, "the transform of parameters x, y gave 'y' = NaN in row 0, at u = ["),
        (Infinity, "the transform of parameters x, y gave 'y' = inf in row 0, at u = ["),
        (Shape, "what the transform of parameters x, y returned has shape"),
        (Error, "the transform of parameters x, y failed: no such planet"),
    ] {
        for (at, n_before) in [(1, 0), (450, 400), (n_exploration + 1, n_exploration)] {
            let error = sample(&faulty_transform(fault, at, false), &likelihood, small()).unwrap_err();
            let RunErrorKind::Likelihood(EvaluationError::Transform { rows, source }) = &error.kind else {
                panic!("{fault:?}: {error:?}")
            };
            assert!(!rows.is_empty());
            let own = source.downcast_ref::<PriorError>();
            assert!(own.is_some_and(|e| e.to_string().starts_with(says)), "{fault:?}: {error}");
            let text = error.to_string();
            assert!(text.starts_with("the prior transform failed on rows") && text.contains(says), "{text}");
            assert_kept(&error, n_before);
            assert!(error.result.theta().iter().all(|x| x.abs() <= 5.0));
            assert_goes_on(error, &good, &likelihood, LOG_Z);
        }
        // A transform that stays broken cannot give the parameters of earlier points either, but the points are all there.
        let error = sample(&faulty_transform(fault, 450, true), &likelihood, small()).unwrap_err();
        assert_eq!((error.result.n_like(), error.result.samples().len()), (400, 400));
        assert!(error.result.evidence().log_z.is_finite());
        assert!(error.result.theta().iter().all(|x| x.is_nan()));
        assert!(error.result.to_string().contains("x ") && error.result.to_json()["n_like"] == 400);
        error.result.save(tempfile::tempdir().unwrap().path()).unwrap();
        assert_goes_on(error, &good, &likelihood, LOG_Z);
    }
}

/// An error part-way through the exploration must not bias the volumes of a run that goes on and keeps the exploration.
#[test]
fn volumes_hold_after_an_error_in_the_exploration() {
    let prior = square();
    let error = sample(&prior, &faulty(Fault::Error, 1, Form::Batch), small()).unwrap_err();
    let sampler = error.result.into_sampler().discard_exploration(false);
    let mended = Likelihood::point(gauss);
    // Only the unit cube is there yet: its volume is 1, whatever was asked for and not evaluated.
    let early = Run::new(&prior, &mended).n_like_max(150).sample(sampler).unwrap();
    assert!(early.evidence().shells[0].log_volume.abs() < 1e-12, "{}", early.evidence().shells[0].log_volume.exp());
}

/// What was asked for and not evaluated is asked for again: after an error the run goes on as if it had not been.
#[test]
fn an_error_in_the_exploration_leaves_no_trace() {
    let prior = square();
    let mended = Likelihood::point(gauss);
    let whole_run = sample(&prior, &mended, small().n_networks(1)).unwrap();
    assert!(whole_run.n_like_exploration() > 700);
    for at in [1, 450, 700] {
        let error = sample(&prior, &faulty(Fault::Error, at, Form::Batch), small().n_networks(1)).unwrap_err();
        let result = sample(&prior, &mended, error.result.into_sampler()).unwrap();
        assert_eq!(result.samples().u(), whole_run.samples().u());
        assert_eq!(result.evidence(), whole_run.evidence());
    }
}

#[test]
fn bad_input_ends_promptly() {
    // None of the refusals above may take long: they come before any sampling.
    let start = Instant::now();
    for _ in 0..20 {
        sample(&Prior::new(), &Likelihood::point(gauss), NeuralBoundSampler::default()).unwrap_err();
        sample(&square(), &Likelihood::point(gauss), NeuralBoundSampler::default().n_live(1)).unwrap_err();
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    // A sampler that never ran has nothing, and says so without trouble.
    let fresh = NeuralBoundSampler::default();
    assert_eq!((fresh.samples().len(), fresh.evidence().n_points, fresh.log_weights().len()), (0, 0, 0));
}

/// Numbers that overflow when they are squared, divided by a spread or taken to f32 end in an answer or in words.
#[test]
fn extreme_values_of_log_l_end_without_a_panic() {
    type LogL = fn(&[f64]) -> f64;
    let likelihoods: [(&str, Option<f64>, LogL); 5] = [
        ("a penalty of f64::MIN", Some(LOG_Z), |t| if t[0] * t[0] + t[1] * t[1] > 4.0 { f64::MIN } else { gauss(t) }),
        ("a penalty of -1e300", Some(LOG_Z), |t| if t[0] * t[0] + t[1] * t[1] > 4.0 { -1e300 } else { gauss(t) }),
        ("slopes of 1e300", None, |t| -1e300 * (t[0] * t[0] + t[1] * t[1])),
        ("slopes of 1e-300", None, |t| -1e-300 * (t[0] * t[0] + t[1] * t[1])),
        ("a needle", None, |t| -1e20 * ((t[0] - 1.0).powi(2) + (t[1] - 1.0).powi(2))),
    ];
    for (name, truth, log_l) in likelihoods {
        for n_networks in [0, 1, 2] {
            let sampler = small().n_networks(n_networks);
            let run = |sampler| {
                let likelihood = Likelihood::point(log_l);
                Run::new(&square(), &likelihood).backends(Backend::cpu(1)).n_like_max(30_000).sample(sampler)
            };
            match (run(sampler), truth) {
                (Ok(result), Some(truth)) => assert_right(&result, truth),
                (Ok(result), None) => {
                    assert!(!result.evidence().log_z.is_nan(), "{name}, {n_networks} networks");
                    // Going on, with the exploration kept, is no other matter.
                    let kept = run(result.into_sampler().n_eff(1000.0).discard_exploration(false));
                    assert!(kept.is_err() || !kept.unwrap().evidence().log_z.is_nan(), "{name}");
                }
                (Err(error), None) => assert!(!error.to_string().is_empty()),
                (Err(error), Some(_)) => panic!("{name}, {n_networks} networks: {error}"),
            }
        }
    }
}
