//! What goes wrong with a device, each as a typed error that keeps the points so far.

use livepoint::testing::internals::{device_traits, lose_gpu, raw_device};
use livepoint::testing::log_likelihood_on;
use livepoint::{
    Backend, DeviceError, EvaluationError, GpuOptions, Likelihood, NeuralBoundSampler, Prior, Progress, Run, RunError,
    RunErrorKind, RunResult,
};

/// Every check of this file.
pub const CASES: &[super::Case<GpuOptions>] = &[
    ("bad_wgsl_is_told_in_the_users_lines", bad_wgsl_is_told_in_the_users_lines),
    ("bad_data_are_refused_by_name", bad_data_are_refused_by_name),
    ("a_twinless_likelihood_is_refused_on_the_cpu", a_twinless_likelihood_is_refused_on_the_cpu),
    ("a_closure_is_refused_on_a_device", a_closure_is_refused_on_a_device),
    ("more_than_the_device_allows_is_refused", more_than_the_device_allows_is_refused),
    ("a_loop_that_the_driver_cuts_short_is_refused", a_loop_that_the_driver_cuts_short_is_refused),
    ("a_twin_that_differs_is_refused", a_twin_that_differs_is_refused),
    ("a_posterior_beyond_f32_is_refused", a_posterior_beyond_f32_is_refused),
    ("f32_that_is_felt_is_warned_of", f32_that_is_felt_is_warned_of),
    ("an_error_outside_all_scopes_is_no_panic", an_error_outside_all_scopes_is_no_panic),
    ("a_lost_device_keeps_the_points", a_lost_device_keeps_the_points),
];

type Outcome = Result<RunResult, RunError<NeuralBoundSampler>>;

fn square() -> Prior {
    Prior::new().uniform("x", -5.0..5.0).uniform("y", -5.0..5.0)
}

const GAUSSIAN: &str = "fn log_likelihood(theta: array<f32, N_DIM>) -> f32 {
    return -50.0 * (theta[0] * theta[0] + theta[1] * theta[1]);
}";

fn gaussian(theta: &[f64]) -> f64 {
    -50.0 * (theta[0] * theta[0] + theta[1] * theta[1])
}

fn sampler() -> NeuralBoundSampler {
    NeuralBoundSampler::default().n_live(400).n_eff(500.0).seed(1)
}

/// A run that must fail.
fn failure(
    prior: &Prior,
    likelihood: impl Into<Likelihood>,
    backend: impl Into<livepoint::Backends>,
) -> RunError<NeuralBoundSampler> {
    let outcome: Outcome = Run::new(prior, likelihood).backends(backend).sample(sampler());
    outcome.expect_err("a run that fails")
}

fn pair(options: &GpuOptions) -> (Backend, Backend) {
    (options.clone().into(), Backend::cpu(1))
}

fn evaluation(error: &RunError<NeuralBoundSampler>) -> &EvaluationError {
    match &error.kind {
        RunErrorKind::Likelihood(error) => error,
        other => panic!("{other:?}"),
    }
}

fn bad_wgsl_is_told_in_the_users_lines(options: &GpuOptions) {
    for (text, expected, word) in [
        ("fn log_likelihood(theta: Theta) -> f32 {\n  return theta[0] +;\n}", Some((2, 20)), "line 2, column 20"),
        ("fn log_likelihood(theta: Theta) -> f32 {\n  return missing;\n}", Some((2, 10)), "missing"),
        ("fn log_likelihood(theta: Theta) -> f32 {\n  return theta;\n}", Some((1, 19)), "does not match"),
        ("fn log_likelihood(theta: Theta) -> f32 {\n  return f32(f64(theta[0]));\n}", None, "f64"),
        (
            "fn erf(x: f32) -> f32 { return x; }\nfn log_likelihood(theta: Theta) -> f32 { return 1.0; }",
            Some((1, 4)),
            "library",
        ),
        ("fn loglike(theta: Theta) -> f32 { return 1.0; }", None, "no function log_likelihood"),
        ("", None, "no function log_likelihood"),
    ] {
        let error = failure(&square(), Likelihood::wgsl(text), pair(options));
        assert_eq!(error.result.n_like(), 0);
        let EvaluationError::Wgsl { message, place } = evaluation(&error) else { panic!("{text}: {error}") };
        assert!(message.contains(word), "{text}: {message}");
        if expected.is_some() {
            assert_eq!(*place, expected, "{text}: {message}");
        }
    }
}

fn bad_data_are_refused_by_name(options: &GpuOptions) {
    let times: Vec<f64> = (0..100).map(|i| 2_453_000.5 + 0.731 * f64::from(i)).collect();
    let velocities = vec![1.5; 100];
    let likelihood = || Likelihood::wgsl(GAUSSIAN);
    let offset = |times: &[f64]| times.iter().map(|t| t - 2_453_036.0).collect::<Vec<f64>>();
    for (likelihood, words) in [
        (
            likelihood().table("rv", [("time", times.clone()), ("velocity", velocities.clone())]),
            vec!["column `time`", "table `rv`", "subtract an offset", "2453037"],
        ),
        (likelihood().data("time", &times), vec!["data `time`", "subtract an offset"]),
        (likelihood().constant("T0", 2_453_123.456), vec!["constant `T0`", "Julian date", "subtract an offset"]),
        (likelihood().data("a", vec![1.0]).constant("N_A", 1.0), vec!["`N_A`", "taken"]),
        (likelihood().data("x", vec![1.0, f64::NAN]), vec!["data `x`", "value 1 is NaN"]),
        (likelihood().data("x", vec![1e300]), vec!["data `x`", "1e300"]),
        (likelihood().data("x", Vec::new()), vec!["data `x`", "there are none"]),
        (likelihood().data("erf", vec![1.0]), vec!["`erf`", "taken"]),
        (likelihood().data("fn", vec![1.0]), vec!["`fn`"]),
        (likelihood().constant("two words", 1.0), vec!["`two words`"]),
        (likelihood().table("t", [("a", vec![1.0]), ("b", vec![1.0, 2.0])]), vec!["column `b`", "2 rows"]),
        (likelihood().interpolant("f", [0.0, 0.0], [1.0, 2.0]), vec!["interpolant `f`", "rise"]),
        (
            likelihood().covariance("c", &ndarray::array![[1.0, 2.0], [2.0, 1.0]]),
            vec!["covariance `c`", "positive definite"],
        ),
        (likelihood().sum_over(10), vec!["log_likelihood_term"]),
        (likelihood().derived(["d"]), vec!["derived: ptr<function"]),
    ] {
        let error = failure(&square(), likelihood, pair(options)).to_string();
        for word in words {
            assert!(error.contains(word), "no `{word}` in {error}");
        }
    }
    // With the offset taken off it is accepted, and so it is where the user says that it may be.
    for likelihood in [likelihood().data("time", offset(&times)), likelihood().data("time", &times).data_tolerance(0.1)]
    {
        let run = Run::new(&square(), likelihood).backends(pair(options)).n_like_max(200).sample(sampler());
        assert_eq!(run.expect("data that are accepted").n_like(), 200);
    }
    for prior in [
        Prior::new().fixed("t0", 2_453_000.3).uniform("x", -1.0..1.0).uniform("y", 0.0..1.0),
        Prior::new().normal("t0", 2_453_000.0, 1.0).uniform("y", 0.0..1.0),
    ] {
        // The text does not know a third parameter: its own error must not come first.
        let error = failure(&prior, likelihood(), pair(options)).to_string();
        assert!(error.contains("parameter `t0`"), "{error}");
    }
    let julian = Prior::new().uniform("t0", 2_453_000.0..2_453_010.0).uniform("y", 0.0..1.0);
    let error = failure(&julian, likelihood(), pair(options)).to_string();
    assert!(error.contains("parameter `t0`") && error.contains("subtract an offset"), "{error}");
}

fn a_twinless_likelihood_is_refused_on_the_cpu(_: &GpuOptions) {
    let error = failure(&square(), Likelihood::wgsl(GAUSSIAN), Backend::cpu(1));
    assert!(matches!(evaluation(&error), EvaluationError::NoTwin), "{error}");
    assert!(error.to_string().contains(".twin("), "{error}");
    assert_eq!(error.result.n_like(), 0);
}

fn a_closure_is_refused_on_a_device(options: &GpuOptions) {
    let error = failure(&square(), Likelihood::point(gaussian), pair(options));
    assert!(matches!(evaluation(&error), EvaluationError::HostOnly), "{error}");
    assert!(error.to_string().contains("Likelihood::wgsl"), "{error}");
}

fn more_than_the_device_allows_is_refused(options: &GpuOptions) {
    let options = options.clone().webgpu_limits(true);
    let many = (0..9).fold(Likelihood::wgsl(GAUSSIAN), |likelihood, k| likelihood.data(format!("d{k}"), vec![1.0]));
    // A binding of WebGPU's default limits holds 2^27 bytes.
    let large = Likelihood::wgsl(GAUSSIAN).data("large", vec![1.0; (1 << 25) + 1]);
    for (likelihood, word, expected) in [(many, "buffers", 8), (large, "data `large`", 1 << 27)] {
        let error = failure(&square(), likelihood, pair(&options));
        match evaluation(&error) {
            EvaluationError::Device(DeviceError::Limit { what, limit, needed, .. }) => {
                assert!(what.contains(word) && *limit == expected && needed > limit, "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}

fn a_loop_that_the_driver_cuts_short_is_refused(options: &GpuOptions) {
    const N: usize = 70_000;
    let text = "fn log_likelihood(theta: Theta) -> f32 {
        var sum: Sum;
        for (var i = 0u; i < N_DATA; i++) { sum_add(&sum, data[i] * theta[0]); }
        return -sum_value(sum) * sum_value(sum) - theta[1] * theta[1];
    }";
    let twin = |x: &[f64]| -(N as f64 * x[0]).powi(2) - x[1] * x[1];
    let likelihood = Likelihood::wgsl(text).data("data", vec![1.0; N]).twin(Likelihood::point(twin));
    let (_, traits) = device_traits(options).unwrap();
    let run = || Run::new(&square(), &likelihood).backends(pair(options)).n_like_max(100).sample(sampler());
    if traits.contains("cut after") {
        let error = run().unwrap_err().to_string();
        assert!(error.contains("a loop over `data`") && error.contains("sum_over"), "{error}");
    } else {
        // A driver that loops to the end agrees with the twin, or the run would be refused.
        assert_eq!(run().unwrap().n_like(), 100);
    }
}

fn a_twin_that_differs_is_refused(options: &GpuOptions) {
    for twin in [|x: &[f64]| gaussian(x) + 1.0, |x: &[f64]| 1.1 * gaussian(x), |x: &[f64]| gaussian(&[x[0], x[0]])] {
        let error = failure(&square(), Likelihood::wgsl(GAUSSIAN).twin(Likelihood::point(twin)), pair(options));
        let RunErrorKind::Precision { problem, .. } = &error.kind else { panic!("{error:?}") };
        assert!(problem.contains("x = ") && error.result.n_like() == 0, "{error}");
    }
    let unlike =
        Likelihood::wgsl(GAUSSIAN).twin(Likelihood::point_derived(["r"], |x: &[f64], _: &mut [f64]| gaussian(x)));
    let error = failure(&square(), unlike, pair(options)).to_string();
    assert!(error.contains("derived values"), "{error}");
}

fn a_posterior_beyond_f32_is_refused(options: &GpuOptions) {
    let prior = Prior::new().uniform("x", 0.0..1.0).uniform("y", 0.0..1.0);
    let text = "fn log_likelihood(theta: Theta) -> f32 {
        let x = (theta[0] - 0.7) / 2e-8;
        let y = (theta[1] - 0.3) / 0.1;
        return -0.5 * (x * x + y * y);
    }";
    let error = failure(&prior, Likelihood::wgsl(text), pair(options));
    let RunErrorKind::Precision { what, problem } = &error.kind else { panic!("{error:?}") };
    assert!(what.contains("`x`") && problem.contains("theta_hi, theta_lo"), "{error}");
    assert!(error.result.n_like() > 0);
}

fn f32_that_is_felt_is_warned_of(options: &GpuOptions) {
    let unit = Prior::new().uniform("x", 0.0..1.0).uniform("y", 0.0..1.0);
    let narrow = "fn log_likelihood(theta: Theta) -> f32 {
        let x = (theta[0] - 0.7) / 5e-6;
        let y = (theta[1] - 0.3) / 0.1;
        return -0.5 * (x * x + y * y);
    }";
    // Stands for a long sum whose rounding is another at every step.
    let noisy = "fn log_likelihood(theta: Theta) -> f32 {
        let x = (theta[0] - 0.7) / 0.1;
        let y = (theta[1] - 0.3) / 0.1;
        let noise = f32((bitcast<u32>(theta[0]) * 2654435761u) >> 8u) / 16777216.0;
        return -0.5 * (x * x + y * y) + 0.5 * noise;
    }";
    let large = GAUSSIAN.replace("return ", "return -1e6 ");
    // The two differ only where the posterior is, which the prior's draws hardly meet.
    let raised = GAUSSIAN.replace("return ", "return select(0.0, 0.2, abs(theta[0]) < 0.5 && abs(theta[1]) < 0.5) ");
    let raised = Likelihood::wgsl(raised).twin(Likelihood::point(gaussian));
    let good = Likelihood::wgsl(GAUSSIAN).twin(Likelihood::point(gaussian));
    for (prior, likelihood, words) in [
        (&unit, Likelihood::wgsl(narrow), vec!["parameter `x`: its posterior is only", "theta_hi, theta_lo"]),
        (&square(), Likelihood::wgsl(large), vec!["log L reaches 1.000e6", "vec2<f32>"]),
        (&unit, Likelihood::wgsl(noisy), vec!["log L: rounding makes it jump"]),
        (&square(), raised, vec!["f32 moves log Z", "-0.2000"]),
        (&square(), good, vec![]),
    ] {
        let result = Run::new(prior, likelihood).backends(pair(options)).sample(sampler()).unwrap();
        let warnings = result.warnings().join("; ");
        assert!(words.iter().all(|word| warnings.contains(word)), "{warnings}");
        assert_eq!(warnings.is_empty(), words.is_empty(), "{warnings}");
        assert!(!warnings.contains("parameter `y`"), "{warnings}");
    }
}

fn an_error_outside_all_scopes_is_no_panic(options: &GpuOptions) {
    // More than any device has, and nobody listens: as work of burn's may fail.
    let (device, _) = raw_device(options).unwrap();
    let _ = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("too large"),
        size: device.limits().max_buffer_size + 4,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    let u = ndarray::array![[0.5, 0.5]];
    let evaluate =
        || log_likelihood_on(&square(), Likelihood::wgsl(GAUSSIAN), &Backend::from(options.clone()), u.view());
    // The next to look hears of it, and the device lives.
    let error = evaluate().unwrap_err().to_string();
    assert!(error.contains("too large"), "{error}");
    assert_eq!(evaluate().unwrap().0[0], 0.0);
}

fn a_lost_device_keeps_the_points(options: &GpuOptions) {
    let prior = square();
    let likelihood = || Likelihood::wgsl(GAUSSIAN).twin(Likelihood::point(gaussian));
    let lose = |progress: &Progress| {
        if progress.status.n_like > 1000 {
            lose_gpu(options).unwrap();
        }
        std::ops::ControlFlow::Continue(())
    };
    let outcome: Outcome = Run::new(&prior, likelihood()).backends(pair(options)).observer(lose).sample(sampler());
    let error = outcome.expect_err("a lost device");
    assert!(matches!(evaluation(&error), EvaluationError::Device(DeviceError::Lost { .. })), "{error:?}");
    let n_like = error.result.n_like();
    assert!(n_like > 1000, "{n_like}");
    // A new run opens the device anew and goes on.
    let result = Run::new(&prior, likelihood()).backends(pair(options)).sample(error.result.into_sampler()).unwrap();
    let evidence = result.evidence();
    let truth = (std::f64::consts::TAU * 0.01 / 100.0).ln();
    assert!(result.n_like() > n_like);
    assert!((evidence.log_z - truth).abs() < 5.0 * evidence.log_z_error, "{evidence:?}");
}
