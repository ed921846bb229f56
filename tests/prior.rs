//! The prior against 50-digit references, its properties over many parameters, and every way to build it wrong.

use std::f64::consts::TAU;

use livepoint::{ParameterDescription, Prior, PriorError};
use ndarray::{Array2, ArrayView2, array, s};

/// Prior with the one parameter "x" of the given kind.
fn prior_of(kind: &str, p: &[f64]) -> Prior {
    let prior = Prior::new();
    match kind {
        "uniform" => prior.uniform("x", p[0]..p[1]),
        "log_uniform" => prior.log_uniform("x", p[0]..p[1]),
        "normal" => prior.normal("x", p[0], p[1]),
        "truncated_normal" => prior.truncated_normal("x", p[0], p[1], p[2]..p[3]),
        "half_normal" => prior.half_normal("x", p[0]),
        "log_normal" => prior.log_normal("x", p[0], p[1]),
        "exponential" => prior.exponential("x", p[0]),
        "cauchy" => prior.cauchy("x", p[0], p[1]),
        "half_cauchy" => prior.half_cauchy("x", p[0]),
        "beta" => prior.beta("x", p[0], p[1]),
        "gamma" => prior.gamma("x", p[0], p[1]),
        "student_t" => prior.student_t("x", p[0], p[1], p[2]),
        other => panic!("no such kind: {other}"),
    }
}

fn quantiles(prior: &Prior, u: &[f64]) -> Vec<f64> {
    let u = ArrayView2::from_shape((u.len(), 1), u).expect("one column");
    prior.unit_to_theta(u).expect("a valid prior").column(0).to_vec()
}

struct Reference {
    kind: String,
    parameters: Vec<f64>,
    u: f64,
    quantile: f64,
}

fn references() -> Vec<Reference> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/prior_quantiles.csv");
    let mut reader = csv::Reader::from_path(path).expect("the committed reference file");
    let number = |text: &str| text.parse::<f64>().expect("a number");
    let rows = reader.records().map(|row| {
        let row = row.expect("a row");
        Reference {
            kind: row[0].to_owned(),
            parameters: (1..5).filter(|&i| !row[i].is_empty()).map(|i| number(&row[i])).collect(),
            u: number(&row[5]),
            quantile: number(&row[6]),
        }
    });
    rows.collect()
}

/// Relative error; values beyond the range of f64 count as its largest, those below its normal range are compared to that.
fn relative_error(value: f64, expected: f64) -> f64 {
    let expected = expected.clamp(f64::MIN, f64::MAX);
    (value / 4.0 - expected / 4.0).abs() / (expected.abs() / 4.0).max(f64::MIN_POSITIVE)
}

/// Largest relative error allowed to each kind: about twice what was measured, for other systems' elementary functions.
///
/// Where a quantile is an exponential or a small-shape power, its relative error is that of its logarithm times its size (up to
/// 690 at u = 1e-300): log_normal, gamma, beta, student_t.
const TOLERANCES: [(&str, f64); 12] = [
    ("uniform", 4e-16),
    ("log_uniform", 6e-16),
    ("normal", 2e-15),
    ("truncated_normal", 5e-14),
    ("half_normal", 6e-16),
    ("log_normal", 7e-14),
    ("exponential", 5e-16),
    ("cauchy", 6e-16),
    ("half_cauchy", 6e-16),
    ("beta", 6e-13),
    ("gamma", 2e-14),
    ("student_t", 8e-14),
];

fn worst_error(kind: &str, make: impl Fn(&[f64]) -> Prior) -> f64 {
    let errors = references().into_iter().filter(|r| r.kind == kind).map(|r| {
        let value = quantiles(&make(&r.parameters), &[r.u])[0];
        let error = relative_error(value, r.quantile);
        assert!(!error.is_nan(), "{kind} {:?} at u = {:e}: {value}", r.parameters, r.u);
        error
    });
    errors.fold(-1.0, f64::max)
}

#[test]
fn quantiles_match_references() {
    for (kind, tolerance) in TOLERANCES {
        let worst = worst_error(kind, |p| prior_of(kind, p));
        println!("{kind}: {worst:.1e}");
        assert!((0.0..=tolerance).contains(&worst), "{kind}: relative error {worst:e}, allowed {tolerance:e}");
    }
    assert_eq!(references().iter().filter(|r| TOLERANCES.iter().all(|(kind, _)| *kind != r.kind)).count(), 0);
}

/// Saboteurs: parameters wrong by one part in 1e12, or tails computed the naive way, must fail the same check.
#[test]
fn references_reject_saboteurs() {
    for (kind, tolerance) in TOLERANCES {
        let last_wrong = |p: &[f64]| {
            let mut p = p.to_vec();
            *p.iter_mut().rfind(|p| p.is_finite() && **p != 0.0).expect("a number") *= 1.0 + 1e-12;
            prior_of(kind, &p)
        };
        assert!(worst_error(kind, last_wrong) > tolerance, "{kind} with a wrong parameter went unseen");
    }
    let naive_upper_tail = |r: &Reference| 250.0 * -(1.0 - r.u).ln();
    let naive = references().into_iter().filter(|r| r.kind == "exponential" && r.parameters == [250.0]);
    assert!(naive.map(|r| relative_error(naive_upper_tail(&r), r.quantile)).fold(0.0, f64::max) > 1e-2);
}

/// A grid of u with neighbours far enough apart that rounding cannot swap their quantiles.
fn grid() -> Vec<f64> {
    let mut u: Vec<f64> = vec![0.0, 1e-300, 1e-200, 1e-100, 1e-50, 1e-30, 1e-20, 1e-12, 1e-8, 1e-5, 1e-3];
    u.extend((1..200).map(|k| f64::from(k) / 200.0));
    u.extend([1e-3, 1e-5, 1e-8, 1e-12, 1e-15, 0.0].map(|v| 1.0 - v));
    u
}

fn check_monotone(kind: &str, p: &[f64], support: (f64, f64)) {
    let x = quantiles(&prior_of(kind, p), &grid());
    for (i, &x) in x.iter().enumerate() {
        assert!(x.is_finite() && support.0 <= x && x <= support.1, "{kind} {p:?}: {x:e} at u = {:e}", grid()[i]);
    }
    for (i, pair) in x.windows(2).enumerate() {
        assert!(pair[0] <= pair[1], "{kind} {p:?}: {pair:?} from u = {:e}", grid()[i]);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..Default::default() })]

    #[test]
    fn quantiles_are_monotone_finite_and_inside(
        location in -1e3..1e3f64, ln_scale in -12.0..12.0f64, ln_a in -9.0..11.0f64, ln_b in -9.0..11.0f64,
        edge in -50.0..50.0f64, ln_width in -25.0..5.0f64, open in proptest::bool::ANY,
    ) {
        const ALL: (f64, f64) = (f64::MIN, f64::MAX);
        const POSITIVE: (f64, f64) = (0.0, f64::MAX);
        let (scale, a, b) = (ln_scale.exp(), ln_a.exp(), ln_b.exp());
        check_monotone("uniform", &[location, location + scale], (location, location + scale));
        check_monotone("log_uniform", &[scale, scale * (1.0 + a)], (scale, scale * (1.0 + a)));
        check_monotone("normal", &[location, scale], ALL);
        check_monotone("half_normal", &[scale], POSITIVE);
        check_monotone("log_normal", &[0.01 * location, 0.1 * scale], POSITIVE);
        check_monotone("exponential", &[scale], POSITIVE);
        check_monotone("cauchy", &[location, scale], ALL);
        check_monotone("half_cauchy", &[scale], POSITIVE);
        check_monotone("beta", &[a, b], (0.0, 1.0));
        check_monotone("gamma", &[a, scale], POSITIVE);
        check_monotone("student_t", &[a, location, scale], ALL);
        let lo = edge;
        let hi = if open { f64::INFINITY } else { edge + ln_width.exp() };
        check_monotone("truncated_normal", &[0.0, 1.0, lo, hi], (lo, hi));
        check_monotone("truncated_normal", &[0.0, 1.0, -hi, -lo], (-hi, -lo));
    }
}

#[test]
fn columns_of_u_and_theta() {
    let prior = Prior::new()
        .tied("first", "x")
        .fixed("f", 3.0)
        .uniform("x", 0.0..10.0)
        .transform(["tau", "theta"], |u: ArrayView2<f64>| &u + 1.0)
        .mark_periodic("theta")
        .tied("last", "first")
        .periodic("phase", 0.0..TAU);
    assert_eq!(prior.validate(), Ok(()));
    assert_eq!((prior.n_dim(), prior.n_params()), (4, 7));
    assert_eq!(prior.names(), ["first", "f", "x", "tau", "theta", "last", "phase"]);
    assert_eq!(prior.sampled_names(), ["x", "tau", "theta", "phase"]);
    assert_eq!(prior.periodic_dims(), [2, 3]);
    assert_eq!((prior.index("theta"), prior.index("none")), (Some(4), None));
    let u = array![[0.5, 0.25, 0.75, 0.5], [0.0, 0.5, 1.0, 1.0]];
    let theta = prior.unit_to_theta(u.view()).unwrap();
    assert_eq!(theta.row(0).to_vec(), [5.0, 3.0, 5.0, 1.25, 1.75, 5.0, TAU / 2.0]);
    // Cut anywhere, the same bits.
    for row in 0..2 {
        let alone = prior.unit_to_theta(u.slice(s![row..=row, ..])).unwrap();
        assert_eq!(alone.row(0), theta.row(row));
    }
    assert_eq!(prior.unit_to_theta(Array2::zeros((0, 4)).view()).unwrap().dim(), (0, 7));
}

#[test]
fn descriptions_survive_json() {
    let prior = Prior::new().truncated_normal("x", 1.0, 2.0, 0.0..f64::INFINITY).tied("y", "x").periodic("p", 0.0..1.0);
    let json = serde_json::to_string(&prior.describe()).unwrap();
    let back: Vec<ParameterDescription> = serde_json::from_str(&json).unwrap();
    assert_eq!(back, prior.describe());
    assert_eq!(
        prior.to_string(),
        "x: truncated_normal(hi=\"inf\", lo=0.0, mean=1.0, sd=2.0)\ny: tied(to=\"x\")\np: uniform(hi=1.0, lo=0.0), periodic"
    );
    assert!(format!("{prior:?}").contains("truncated_normal"));
}

#[test]
fn wrong_priors_are_refused_by_name() {
    let nan = f64::NAN;
    let inf = f64::INFINITY;
    let good = || Prior::new().uniform("x", 0.0..1.0);
    let cases: Vec<(Prior, &str)> = vec![
        (Prior::new(), "no sampled parameter"),
        (Prior::new().fixed("a", 1.0), "no sampled parameter (1 fixed or tied)"),
        (good().normal("x", 0.0, 1.0), "'x' is declared twice"),
        (good().normal("", 0.0, 1.0), "parameter 1 (counted from 0) has an empty name"),
        (Prior::new().uniform("w", 2.0..2.0), "'w' (uniform): the range 2..2 has no width"),
        (Prior::new().uniform("w", 3.0..2.0), "'w' (uniform): the range 3..2 is reversed"),
        (Prior::new().uniform("w", 0.0..inf), "'w' (uniform): the upper end is inf"),
        (Prior::new().periodic("w", nan..1.0), "'w' (periodic): the lower end is NaN"),
        (Prior::new().log_uniform("w", 0.0..1.0), "'w' (log_uniform): the lower end is 0"),
        (Prior::new().log_uniform("w", 1.0..1.0), "has no width"),
        (Prior::new().normal("w", nan, 1.0), "'w' (normal): mean is NaN"),
        (Prior::new().normal("w", 0.0, 0.0), "'w' (normal): sd is 0"),
        (Prior::new().half_normal("w", -1.0), "sd is -1"),
        (Prior::new().log_normal("w", 0.0, inf), "sigma is inf"),
        (Prior::new().exponential("w", 0.0), "scale is 0"),
        (Prior::new().cauchy("w", inf, 1.0), "location is inf"),
        (Prior::new().half_cauchy("w", nan), "scale is NaN"),
        (Prior::new().beta("w", 0.0, 1.0), "alpha is 0"),
        (Prior::new().beta("w", 1.0, 1e9), "beta is 1000000000, above 1e8"),
        (Prior::new().gamma("w", -1.0, 1.0), "shape is -1"),
        (Prior::new().student_t("w", nan, 0.0, 1.0), "nu is NaN"),
        (Prior::new().truncated_normal("w", 0.0, 1.0, 2.0..1.0), "is reversed"),
        (Prior::new().truncated_normal("w", 0.0, 1.0, 1e9..inf), "holds no mass"),
        (Prior::new().truncated_normal("w", 0.0, 1.0, inf..inf), "no width"),
        (good().fixed("w", nan), "'w' (fixed): the value is NaN"),
        (good().tied("w", "nobody"), "'w' refers to parameter 'nobody', which is not declared"),
        (good().tied("w", "w"), "'w' is tied to itself: w -> w"),
        (good().tied("a", "b").tied("b", "c").tied("c", "b"), "'a' is tied to itself"),
        (good().fixed("f", 1.0).mark_periodic("f"), "'f' (mark_periodic)"),
        (good().mark_periodic("nobody"), "'nobody', which is not declared"),
    ];
    for (prior, words) in cases {
        let error = prior.validate().expect_err(words);
        assert!(error.to_string().contains(words), "'{error}' does not say '{words}'");
        let u = Array2::from_elem((1, prior.n_dim()), 0.5);
        assert_eq!(prior.unit_to_theta(u.view()), Err(error));
    }
}

#[test]
fn failures_of_a_transform_are_errors() {
    let two = |u: ArrayView2<f64>| -> Result<Array2<f64>, String> {
        match u[[0, 0]] {
            0.25 => panic!("struck"),
            0.5 => Err("no root found".into()),
            0.75 => Ok(Array2::zeros((1, 1))),
            _ => Ok(u.mapv(|u| if u == 1.0 { f64::NAN } else { u })),
        }
    };
    let prior = Prior::new().uniform("x", 0.0..1.0).transform(["a", "b"], two);
    let outcome = |a: f64| prior.unit_to_theta(array![[0.5, a, 0.125], [0.5, 0.125, 1.0]].view()).unwrap_err();
    assert!(
        matches!(outcome(0.25), PriorError::TransformPanicked { names, reason } if names == "a, b" && reason == "struck")
    );
    assert!(matches!(outcome(0.5), PriorError::TransformFailed { reason, .. } if reason == "no root found"));
    assert!(matches!(outcome(0.75), PriorError::Shape { found: (1, 1), expected: (2, 2), .. }));
    let PriorError::TransformNotFinite { name, row, u, value, .. } = outcome(0.1) else { panic!("not refused") };
    assert_eq!((name.as_str(), row, u), ("b", 1, vec![0.125, 1.0]));
    assert!(value.is_nan());
}

#[test]
fn wrong_points_are_errors() {
    let prior = Prior::new().uniform("x", 0.0..1.0).normal("y", 0.0, 1.0);
    assert!(matches!(
        prior.unit_to_theta(array![[0.5]].view()),
        Err(PriorError::Shape { found: (1, 1), expected: (1, 2), .. })
    ));
    let short = prior.transform_batch(array![[0.5, 0.5]].view(), Array2::zeros((2, 2)).view_mut());
    assert!(matches!(short, Err(PriorError::Shape { found: (2, 2), expected: (1, 2), .. })));
    for bad in [-0.1, 1.1, f64::NAN] {
        let outcome = prior.unit_to_theta(array![[0.5, 0.5], [0.5, bad]].view());
        assert!(matches!(outcome, Err(PriorError::OutsideCube { name, row: 1, .. }) if name == "y"));
    }
}

#[test]
fn priors_travel_between_threads() {
    fn travels<T: Send + Sync + Clone>(_: &T) {}
    travels(&Prior::new().transform(["a"], |u: ArrayView2<f64>| u.to_owned()));
}
