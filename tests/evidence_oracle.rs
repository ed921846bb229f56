//! Perfect nested sampling on analytic contours: every estimator and every term of the error of log Z against the truth.
//!
//! The likelihood is a function of the enclosed prior volume X alone, `L = exp(-X/A)`, so that shells with exactly known volumes can be
//! drawn from directly and the answers are closed forms. All tests use fixed seeds; the stated alpha is two-sided.

use livepoint::evidence::{Evidence, Fraction, ShellVolume, shell_evidence, shell_log_weights};
use livepoint::testing::internals::{Stream, log_sum_exp};
use proptest::prelude::*;

const A: f64 = 0.05;
/// Volumes of the nested bounds.
const BOUNDS: [f64; 5] = [1.0, 0.35, 0.12, 0.04, 0.012];
/// Acceptance of the union and of the networks of every bound but the unit cube.
const UNION: f64 = 0.7;
const NETWORK: f64 = 0.5;
/// Alpha = 1e-5 two-sided.
const Z_LIMIT: f64 = 4.42;

fn log_z_truth() -> f64 {
    (A * (1.0 - (-1.0 / A).exp())).ln()
}

/// Kullback-Leibler divergence of the posterior `exp(-X/A)/Z` from the prior.
fn information_truth() -> f64 {
    let z = log_z_truth().exp();
    let mean_x = (A * A - (-1.0 / A).exp() * (A + A * A)) / z;
    -mean_x / A - log_z_truth()
}

/// What a run leaves behind.
struct Drawn {
    volumes: Vec<ShellVolume>,
    log_l: Vec<f64>,
    shell: Vec<u32>,
}

impl Drawn {
    fn evidence(&self) -> Evidence {
        shell_evidence(&self.volumes, &self.log_l, &self.shell)
    }
}

/// Which parts of a run are random.
#[derive(Clone, Copy)]
struct Noise {
    /// Likelihood: `exp(-X/A)`, or the mean of its shell, so that nothing scatters.
    scatter: bool,
    /// The fractions are counted; otherwise they are exact.
    union: bool,
    network: bool,
    shell: bool,
}

const ALL: Noise = Noise { scatter: true, union: true, network: true, shell: true };
const NONE: Noise = Noise { scatter: false, union: false, network: false, shell: false };

/// Draws with a number of member draws per bound that is fixed beforehand, as the sampling phase does.
fn perfect(seed: u64, n_draws: u64, noise: Noise) -> Drawn {
    let stream = Stream::new(seed);
    let mut out = Drawn { volumes: Vec::new(), log_l: Vec::new(), shell: Vec::new() };
    for (i, &outer) in BOUNDS.iter().enumerate() {
        let inner = BOUNDS.get(i + 1).copied().unwrap_or(0.0);
        let p = (outer - inner) / outer;
        let (a, f) = if i == 0 { (1.0, 1.0) } else { (UNION, NETWORK) };
        let mean = A * ((-inner / A).exp() - (-outer / A).exp()) / (outer - inner);
        let mut volume = ShellVolume { log_v_members: (outer / (a * f)).ln(), ..ShellVolume::default() };
        for k in 0..n_draws {
            let mut draw = stream.substream(i as u64).at(k);
            let union = draw.uniform() < a || !noise.union;
            volume.union.add(1, union.into());
            if !union {
                continue;
            }
            let network = draw.uniform() < f || !noise.network;
            volume.network.add(1, network.into());
            if !network {
                continue;
            }
            let shell = draw.uniform() < p || !noise.shell;
            volume.shell.add(1, shell.into());
            if shell {
                let x = inner + (outer - inner) * draw.uniform();
                out.log_l.push(if noise.scatter { -x / A } else { mean.ln() });
                out.shell.push(i as u32);
            }
        }
        // What is not noise is known exactly: it goes into the analytic volume, and nothing is counted.
        for (counted, fraction, value) in [
            (noise.union, &mut volume.union, a),
            (noise.network, &mut volume.network, f),
            (noise.shell, &mut volume.shell, p),
        ] {
            if !counted {
                *fraction = Fraction::default();
                volume.log_v_members += value.ln();
            }
        }
        out.volumes.push(volume);
    }
    out
}

/// z scores of the mean of Z/Z_true and of the variance of the pulls over `n_runs` seeds.
fn judge(n_runs: u64, run: impl Fn(u64) -> (f64, f64)) -> (f64, f64) {
    let n = n_runs as f64;
    let runs: Vec<(f64, f64)> = (1..=n_runs).map(run).collect();
    let ratio: Vec<f64> = runs.iter().map(|(log_z, _)| (log_z - log_z_truth()).exp()).collect();
    let mean = ratio.iter().sum::<f64>() / n;
    let sd = (ratio.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let square: Vec<f64> = runs.iter().map(|(log_z, e)| ((log_z - log_z_truth()) / e).powi(2)).collect();
    let mean_square = square.iter().sum::<f64>() / n;
    let sd_square = (square.iter().map(|s| (s - mean_square).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    ((mean - 1.0) / (sd / n.sqrt()), (mean_square - 1.0) / (sd_square / n.sqrt()))
}

#[test]
fn evidence_is_unbiased_and_its_error_is_true() {
    let (bias, scatter) = judge(2000, |seed| {
        let e = perfect(seed, 2000, ALL).evidence();
        (e.log_z, e.log_z_error)
    });
    assert!(bias.abs() < Z_LIMIT, "mean of Z is {bias:.1} standard errors off");
    assert!(scatter.abs() < Z_LIMIT, "variance of the pulls is {scatter:.1} standard errors off 1");
}

/// Each term alone must predict the scatter that its own noise makes, and the other terms must be nothing.
#[test]
fn every_term_of_the_error_is_true_alone() {
    for (name, noise) in [
        ("scatter", Noise { scatter: true, ..NONE }),
        ("union", Noise { union: true, ..NONE }),
        ("network", Noise { network: true, ..NONE }),
        ("shell", Noise { shell: true, ..NONE }),
    ] {
        let (bias, scatter) = judge(1000, |seed| {
            let e = perfect(seed, 1000, noise).evidence();
            let t = e.error_terms;
            let alone = [("scatter", t.scatter), ("union", t.union), ("network", t.network), ("shell", t.shell)];
            let other: f64 = alone.iter().filter(|(n, _)| *n != name).map(|(_, v)| v).sum();
            // A constant likelihood still rounds: its scatter is at most of order 1e-16.
            assert!(other < 1e-12, "{name}: other terms hold {other:e}");
            (e.log_z, e.log_z_error)
        });
        assert!(bias.abs() < Z_LIMIT, "{name}: mean of Z is {bias:.1} standard errors off");
        assert!(scatter.abs() < Z_LIMIT, "{name}: variance of the pulls is {scatter:.1} standard errors off 1");
    }
}

/// Saboteurs: leaving any one term out must be noticed by the test above.
#[test]
fn leaving_a_term_out_is_rejected() {
    type Term = fn(&livepoint::evidence::ErrorTerms) -> f64;
    let terms: [(&str, Term); 4] =
        [("scatter", |t| t.scatter), ("union", |t| t.union), ("network", |t| t.network), ("shell", |t| t.shell)];
    // A term with a share s of the variance is missed by about s sqrt(n/2) standard errors. The smallest share is 0.12, that of the
    // union: 7.6 standard errors, three above the limit.
    const N_RUNS: u64 = 8000;
    let runs: Vec<Evidence> = (1..=N_RUNS).map(|seed| perfect(seed, 2000, ALL).evidence()).collect();
    for (name, term) in terms {
        let (_, scatter) = judge(N_RUNS, |seed| {
            let e = &runs[seed as usize - 1];
            (e.log_z, (e.error_terms.total() - term(&e.error_terms)).sqrt())
        });
        assert!(
            scatter > Z_LIMIT,
            "without {name} the variance of the pulls is only {scatter:.1} standard errors above 1"
        );
    }
}

/// Drawing until n points are kept and then using n/N is biased; a number of draws fixed beforehand, as in `perfect`, is not.
#[test]
fn inverse_sampling_is_rejected() {
    let stop_at = |seed: u64, corrected: bool| {
        let (n_kept, p) = (20u64, 0.3);
        let mut n = 0;
        let mut kept = 0;
        while kept < n_kept {
            kept += u64::from(Stream::new(seed).at(n).uniform() < p);
            n += 1;
        }
        if corrected { (n_kept - 1) as f64 / (n - 1) as f64 / p } else { n_kept as f64 / n as f64 / p }
    };
    let test = |corrected| {
        let values: Vec<f64> = (1..=4000).map(|seed| stop_at(seed, corrected)).collect();
        let mean = values.iter().sum::<f64>() / 4000.0;
        let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 3999.0).sqrt();
        (mean - 1.0) / (sd / 4000f64.sqrt())
    };
    assert!(test(false) > Z_LIMIT);
    assert!(test(true).abs() < Z_LIMIT);
}

#[test]
fn information_and_sizes_agree_with_closed_forms() {
    let drawn = perfect(1, 40_000, ALL);
    let e = drawn.evidence();
    // Five times the error of log Z bounds the error of the mean log L here.
    assert!(
        (e.information - information_truth()).abs() < 5.0 * e.log_z_error,
        "{} {}",
        e.information,
        information_truth()
    );
    let log_w = shell_log_weights(&drawn.volumes, &drawn.log_l, &drawn.shell);
    let log_z = log_sum_exp(&log_w);
    assert!((log_z - e.log_z).abs() < 1e-12);
    let w: Vec<f64> = log_w.iter().map(|w| (w - log_z).exp()).collect();
    let kish = 1.0 / w.iter().map(|w| w * w).sum::<f64>();
    assert!((kish / e.n_eff - 1.0).abs() < 1e-9);
    let max = w.iter().copied().fold(0.0, f64::max);
    assert!((max - e.max_weight_share).abs() < 1e-12);
    // Lange 2023, eq. 6: what N_eff per call would become if calls were shared out in proportion to Z_i sqrt(n_i / n_eff,i).
    assert!(e.efficiency <= 1.0 && e.efficiency >= e.n_eff / drawn.log_l.len() as f64);
}

#[test]
fn edges() {
    let none = shell_evidence(&[], &[], &[]);
    assert_eq!((none.log_z, none.n_eff), (f64::NEG_INFINITY, 0.0));
    let cube = [ShellVolume::default()];
    let infinite = shell_evidence(&cube, &[f64::NEG_INFINITY; 3], &[0; 3]);
    assert_eq!((infinite.log_z, infinite.shells[0].n_eff), (f64::NEG_INFINITY, 3.0));
    let constant = shell_evidence(&cube, &[-1234.5; 10], &[0; 10]);
    assert!(
        (constant.log_z + 1234.5).abs() < 1e-9 && constant.log_z_error < 1e-6 && (constant.n_eff - 10.0).abs() < 1e-9
    );
    let huge = shell_evidence(&cube, &[1e300, 1e300], &[0, 0]);
    assert_eq!(huge.log_z, 1e300);
    let extreme = shell_evidence(&cube, &[f64::MAX, -f64::MAX], &[0, 0]);
    assert_eq!((extreme.n_eff, extreme.max_weight_share), (1.0, 1.0));
    // An offset costs log Z and the information no more digits than the offset itself has lost.
    let near = shell_evidence(&cube, &[0.0, -1.0, -2.0], &[0; 3]);
    let far = shell_evidence(&cube, &[-1e12, -1e12 - 1.0, -1e12 - 2.0], &[0; 3]);
    assert!((near.information - far.information).abs() < 1e-3, "{} {}", near.information, far.information);
}

proptest! {
    /// A factor on L shifts log Z and nothing else; the order of the points is of no account; points of no shell do not count.
    #[test]
    fn invariants(
        points in prop::collection::vec((0u32..4, -50.0..50.0f64), 1..60),
        counts in prop::collection::vec((1u64..500, 1u64..500), 3),
        shift in -1e3..1e3f64,
    ) {
        let volumes: Vec<ShellVolume> = counts
            .iter()
            .map(|&(kept, more)| {
                let fraction = Fraction { drawn: kept + more, kept };
                ShellVolume { log_v_members: -1.0, union: fraction, network: fraction, shell: fraction }
            })
            .collect();
        let (shell, log_l): (Vec<u32>, Vec<f64>) = points.iter().copied().unzip();
        let e = shell_evidence(&volumes, &log_l, &shell);
        let shifted: Vec<f64> = log_l.iter().map(|l| l + shift).collect();
        let s = shell_evidence(&volumes, &shifted, &shell);
        let reversed: (Vec<u32>, Vec<f64>) = points.iter().rev().copied().unzip();
        let r = shell_evidence(&volumes, &reversed.1, &reversed.0);
        if e.log_z > f64::NEG_INFINITY {
            prop_assert!((s.log_z - e.log_z - shift).abs() < 1e-9);
            prop_assert!((s.log_z_error - e.log_z_error).abs() < 1e-6 * (1.0 + e.log_z_error));
            prop_assert!((r.log_z - e.log_z).abs() < 1e-9);
            let inside = shell.iter().filter(|s| **s < 3).count();
            prop_assert_eq!(e.n_points, inside);
            prop_assert!(e.n_eff <= inside as f64 * (1.0 + 1e-9) && e.n_eff >= 1.0 - 1e-9);
            prop_assert!(e.max_weight_share >= 1.0 / inside as f64 - 1e-9 && e.max_weight_share <= 1.0 + 1e-9);
            prop_assert!(e.information >= 0.0 && e.log_z_error.is_finite());
            let w = shell_log_weights(&volumes, &log_l, &shell);
            prop_assert!((log_sum_exp(&w) - e.log_z).abs() < 1e-9);
        } else {
            prop_assert!(shell.iter().all(|s| *s == 3));
        }
    }
}
