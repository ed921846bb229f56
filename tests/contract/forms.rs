//! Every form of likelihood and every prior, on each backend against one reference.

use livepoint::testing::log_likelihood_on;
use livepoint::{Backend, Likelihood, Prior};

use super::fixtures;

/// Every check of this file.
pub const CASES: &[super::Case<Backend>] = &[
    ("every_form_agrees_with_its_twin", every_form_agrees_with_its_twin),
    ("every_prior_is_mapped_as_on_the_host", every_prior_is_mapped_as_on_the_host),
    ("parameters_stay_inside_half_open_ranges", parameters_stay_inside_half_open_ranges),
    ("batches_of_any_size_give_the_same_values", batches_of_any_size_give_the_same_values),
    ("two_runs_of_a_batch_give_the_same_bits", two_runs_of_a_batch_give_the_same_bits),
    ("nan_of_a_kernel_names_the_point", nan_of_a_kernel_names_the_point),
];

/// A device may be off by this many roundings to f32, of the value or of the distribution's natural size. Log-normal and log-uniform
/// values carry the rounding of an exponent, others that of a quantile.
const ROUNDINGS: f64 = 8.0 * f32::EPSILON as f64;

/// log L and derived values by the CPU.
fn reference(prior: &Prior, likelihood: &Likelihood) -> (ndarray::Array1<f64>, ndarray::Array2<f64>) {
    log_likelihood_on(prior, likelihood, &Backend::cpu(1), fixtures::points(prior.n_dim()).view()).unwrap()
}

fn every_form_agrees_with_its_twin(backend: &Backend) {
    for fixtures::Fixture { name, prior, likelihood, tolerance: (absolute, relative) } in fixtures::all() {
        let (expected, expected_derived) = reference(&prior, &likelihood);
        let u = fixtures::points(prior.n_dim());
        let (found, derived) =
            log_likelihood_on(&prior, &likelihood, backend, u.view()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut worst = 0.0f64;
        let values = found.iter().zip(&expected).chain(derived.iter().zip(&expected_derived));
        for (k, (&found, &expected)) in values.enumerate() {
            if found != expected {
                let excess = (found - expected).abs() / (absolute + relative * expected.abs());
                worst = worst.max(excess);
                assert!(excess <= 1.0, "{name}, value {k}: {found} for {expected}, {excess:.2} times the tolerance");
            }
        }
        println!("{name}: {worst:.3} of the tolerance");
        assert!(expected.iter().any(|x| x.is_finite()));
    }
}

fn every_prior_is_mapped_as_on_the_host(backend: &Backend) {
    let (prior, likelihood) = fixtures::every_prior();
    let (_, expected) = reference(&prior, &likelihood);
    let u = fixtures::points(prior.n_dim());
    let (_, found) = log_likelihood_on(&prior, &likelihood, backend, u.view()).unwrap();
    for (k, name) in prior.names().iter().enumerate() {
        let scale = match name.as_str() {
            "normal" | "cauchy" | "student_t" => 3.0,
            _ => 0.0,
        };
        let mut worst = 0.0f64;
        for (row, (&found, &expected)) in found.column(k).iter().zip(expected.column(k)).enumerate() {
            // Values beyond f32 stand at its ends; below its normal numbers it may be flushed.
            let reach = |x: f64| x.clamp(f64::from(f32::MIN), f64::from(f32::MAX));
            let off =
                ((reach(found) - reach(expected)).abs() - 1e-36).max(0.0) / (scale + reach(expected).abs()).max(1e-300);
            worst = worst.max(off);
            assert!(off <= ROUNDINGS, "{name} at u = {:?}: {found:e} for {expected:e}", u.row(row)[0]);
        }
        println!("{name}: {worst:.1e}");
    }
}

fn parameters_stay_inside_half_open_ranges(backend: &Backend) {
    let (prior, likelihood) = fixtures::open_ends();
    let u = fixtures::points(3);
    let (_, theta) = log_likelihood_on(&prior, &likelihood, backend, u.view()).unwrap();
    // On the host an end may be met to the last bit of f64; a device must not round to it from far away.
    let open = matches!(backend, Backend::Cpu { .. });
    for row in theta.rows() {
        let [e, angle, p] = [row[0], row[1], row[2]];
        assert!((0.0..1.0).contains(&e) || open && e == 1.0, "{e}");
        assert!((0.0..std::f64::consts::TAU).contains(&angle) || open && angle == std::f64::consts::TAU, "{angle}");
        assert!((0.1..0.3).contains(&p) || open && p == 0.3, "{p}");
    }
}

fn batches_of_any_size_give_the_same_values(backend: &Backend) {
    let fixture = fixtures::all().swap_remove(0);
    let u = fixtures::points(3);
    let all = log_likelihood_on(&fixture.prior, &fixture.likelihood, backend, u.view()).unwrap().0;
    for n in [1, 2, 63, 64, 65, 1000] {
        let few =
            log_likelihood_on(&fixture.prior, &fixture.likelihood, backend, u.slice(ndarray::s![..n, ..])).unwrap().0;
        assert_eq!(few, all.slice(ndarray::s![..n]), "{n} rows");
    }
    let none =
        log_likelihood_on(&fixture.prior, &fixture.likelihood, backend, u.slice(ndarray::s![..0, ..])).unwrap().0;
    assert_eq!(none.len(), 0);
}

fn two_runs_of_a_batch_give_the_same_bits(backend: &Backend) {
    for fixture in fixtures::all() {
        let u = fixtures::points(fixture.prior.n_dim());
        let once = || log_likelihood_on(&fixture.prior, &fixture.likelihood, backend, u.view()).unwrap().0;
        assert_eq!(once(), once(), "{}", fixture.name);
    }
}

fn nan_of_a_kernel_names_the_point(backend: &Backend) {
    let prior = Prior::new().uniform("x", 0.0..1.0).fixed("c", 7.5);
    for (text, value) in [
        (
            "fn log_likelihood(theta: Theta) -> f32 { return log(0.5 - theta[0]) * 0.0 + sqrt(0.5 - theta[0]); }",
            f64::NAN,
        ),
        ("fn log_likelihood(theta: Theta) -> f32 { return select(0.0, -reject(), theta[0] > 0.5); }", f64::INFINITY),
        (
            "fn log_likelihood_term(theta: Theta, i: u32) -> f32 { return select(0.0, -reject(), theta[0] > 0.5 && i == 3u); }",
            f64::INFINITY,
        ),
        (
            "fn log_likelihood_term(theta: Theta, i: u32) -> f32 {
            let x = select(0.0, -reject(), theta[0] > 0.5 && i == 3u);
            return select(x, reject(), theta[0] > 0.5 && i == 70u);
        }",
            f64::NAN,
        ),
    ] {
        let twin = Likelihood::point(move |x: &[f64]| if x[0] > 0.5 { value } else { 0.0 });
        let mut likelihood = Likelihood::wgsl(text).twin(twin);
        if text.contains("term") {
            likelihood = likelihood.sum_over(100);
        }
        let u = ndarray::array![[0.25], [0.125], [0.75]];
        let error = log_likelihood_on(&prior, &likelihood, backend, u.view()).unwrap_err().to_string();
        for word in ["row 2", "x = 0.75", "c = 7.5", &format!("log L is {value}")] {
            assert!(error.contains(word), "{text}: no `{word}` in {error}");
        }
    }
}
