//! Known answers for weights, moments, quantiles, resampling and the printed table.

use ndarray::array;

use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// One column with the given weights; the value of draw i is i.
fn ladder(weights: &[f64]) -> Posterior {
    let n = weights.len();
    let rows = Array2::from_shape_fn((n, 1), |(i, _)| i as f64);
    // Any normalisation is allowed.
    let log_weight = weights.iter().map(|weight| weight.ln() - 700.0).collect();
    Posterior::new(names(&["x"]), rows, log_weight, (0..n).map(|i| -(i as f64)).collect()).unwrap()
}

#[test]
fn weights_moments_and_quantiles() {
    let posterior = ladder(&[1.0, 2.0, 0.0, 1.0]);
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
    posterior.weights().iter().zip([0.25, 0.5, 0.0, 0.25]).for_each(|(&a, b)| near(a, b));
    near(posterior.weights().iter().sum(), 1.0);
    assert_eq!(posterior.log_weights()[2], f64::NEG_INFINITY);
    near(posterior.ess_kish(), 1.0 / (0.0625 + 0.25 + 0.0625));
    near(posterior.mean("x").unwrap(), 1.25);
    near(posterior.sd("x").unwrap(), (0.25 * 1.5625 + 0.5 * 0.0625 + 0.25 * 3.0625f64).sqrt());
    assert_eq!([0.0, 0.2, 0.5, 0.8, 1.0].map(|q| posterior.quantile("x", q).unwrap()), [0.0, 0.0, 1.0, 3.0, 3.0]);
    assert_eq!(posterior.column("x").unwrap().to_vec(), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!((posterior.log_l()[3], posterior.rows().dim()), (-3.0, (4, 1)));
    assert!(posterior.mean("y").is_none() && posterior.sd("y").is_none() && posterior.column("y").is_none());
    assert!(posterior.quantile("x", 1.5).is_none() && posterior.quantile("x", f64::NAN).is_none());
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let build = |names_: &[&str], log_weight: &[f64], log_l: &[f64]| {
        Posterior::new(names(names_), array![[1.0, 2.0], [3.0, 4.0]], log_weight.to_vec(), log_l.to_vec())
            .unwrap_err()
            .to_string()
    };
    let (zero, inf) = ([0.0, 0.0], f64::INFINITY);
    assert_eq!(build(&["a"], &zero, &zero), "names has 1 entries where 2 are needed; give one per column of the rows");
    assert!(build(&["a", "b"], &[0.0], &zero).contains("log_weight has 1"));
    assert!(build(&["a", "b"], &zero, &[0.0; 3]).contains("log_l has 3"));
    assert!(build(&["a", "a"], &zero, &zero).contains("two columns are named \"a\""));
    assert!(build(&["a", "b"], &[0.0, f64::NAN], &zero).contains("point 1 is NaN"));
    assert!(build(&["a", "b"], &[inf, 0.0], &zero).contains("point 0 is inf"));
    assert!(build(&["a", "b"], &[-inf, -inf], &zero).contains("none of the 2 points"));
    assert!(Posterior::new(vec![], Array2::zeros((0, 0)), vec![], vec![]).is_err());
}

const WEIGHTS: [f64; 6] = [0.05, 0.3, 0.0, 0.4, 0.15, 0.1];
const SEEDS: u64 = 2000;

/// A resampler: how many indices, and the seed.
type Resampler<'a> = &'a dyn Fn(usize, u64) -> Vec<usize>;

/// Whether each draw comes floor(n w) or ceil(n w) times.
fn counts_fit(resample: Resampler, n: usize) -> bool {
    (0..50).all(|seed| {
        let indices = resample(n, seed);
        indices.len() == n
            && WEIGHTS.iter().enumerate().all(|(i, weight)| {
                let count = indices.iter().filter(|&&index| index == i).count() as f64;
                (count - weight * n as f64).abs() < 1.0 && (*weight > 0.0 || count == 0.0)
            })
    })
}

/// Whether the first and the last of `n` indices are distributed as the weights over seeds: chi-square, 4 degrees of
/// freedom, each at alpha = 1e-4 (critical value 23.5).
fn ends_fit(resample: Resampler, n: usize) -> bool {
    [0, n - 1].into_iter().all(|position| {
        let mut counts = [0.0; WEIGHTS.len()];
        (0..SEEDS).for_each(|seed| counts[resample(n, seed)[position]] += 1.0);
        let chi_square: f64 = WEIGHTS
            .iter()
            .zip(counts)
            .filter(|(weight, count)| **weight > 0.0 || *count > 0.0)
            .map(|(weight, count)| (count - weight * SEEDS as f64).powi(2) / (weight * SEEDS as f64))
            .sum();
        chi_square < 23.5
    })
}

#[test]
fn resampling_follows_the_weights_and_saboteurs_do_not() {
    let posterior = ladder(&WEIGHTS);
    let honest = |n, seed| posterior.equal_weight_indices(n, seed);
    for n in [1, 2, 7, 1000] {
        assert!(counts_fit(&honest, n) && (n == 1000 || ends_fit(&honest, n)), "{n}");
    }
    let uniform = |n, seed| ladder(&[1.0; 6]).equal_weight_indices(n, seed);
    assert!(!counts_fit(&uniform, 1000) && !ends_fit(&uniform, 7));
    let shifted = |n, seed| honest(n, seed).into_iter().map(|i| (i + 1) % 6).collect::<Vec<_>>();
    assert!(!counts_fit(&shifted, 1000) && !ends_fit(&shifted, 7));
    // The same positions whatever the seed: right for many rows, biased for few.
    let fixed = |n, _| honest(n, 0);
    assert!(counts_fit(&fixed, 1000) && !ends_fit(&fixed, 1) && !ends_fit(&fixed, 7));
    let in_order = |n, seed| {
        let mut indices = honest(n, seed);
        indices.sort_unstable();
        indices
    };
    assert!(counts_fit(&in_order, 1000) && !ends_fit(&in_order, 7));
    // Independent draws (multinomial) scatter more than promised.
    let multinomial = |n: usize, seed: u64| (0..n as u64).flat_map(|k| honest(1, 1000 * seed + k)).collect::<Vec<_>>();
    assert!(!counts_fit(&multinomial, 1000) && ends_fit(&multinomial, 2));
}

#[test]
fn equal_weights_takes_whole_rows_and_repeats_for_a_seed() {
    let rows = array![[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]];
    let log_weight = vec![0.0, 0.5f64.ln(), f64::NEG_INFINITY];
    let posterior = Posterior::new(names(&["a", "b"]), rows, log_weight, vec![0.0; 3]).unwrap();
    let drawn = posterior.equal_weights(3000, 5);
    assert_eq!(drawn.dim(), (3000, 2));
    assert!(drawn.rows().into_iter().all(|row| row[1] == 10.0 * row[0]));
    assert!((drawn.column(0).mean().unwrap() - 4.0 / 3.0).abs() < 1e-3);
    assert_eq!(posterior.equal_weights(3000, 5), drawn);
    assert_ne!(posterior.equal_weights(3000, 6), drawn);
    assert_eq!(posterior.equal_weights(0, 5).dim(), (0, 2));
}

#[test]
fn derived_values_may_be_undefined() {
    let rows = array![[f64::NAN, f64::NAN], [2.0, f64::NAN], [4.0, f64::NAN], [f64::NAN, f64::NAN]];
    let log_weight = vec![0.0, 0.0, 0.0, f64::NEG_INFINITY];
    let posterior = Posterior::new(names(&["a", "b"]), rows, log_weight, vec![0.0; 4]).unwrap();
    assert!((posterior.mean("a").unwrap() - 3.0).abs() < 1e-12 && (posterior.sd("a").unwrap() - 1.0).abs() < 1e-12);
    assert!(posterior.mean("b").unwrap().is_nan() && posterior.quantile("b", 0.5).unwrap().is_nan());
    let text = posterior.summary().to_string();
    assert!(text.contains("(undefined for 33.33 % of the posterior)"), "{text}");
    assert!(text.contains("NaN ± NaN"), "{text}");
}

#[test]
fn the_summary_of_a_normal_posterior() {
    let n = 20_000;
    let rows = Array2::from_shape_fn((n, 2), |(i, j)| {
        let normal = Stream::new(2).at(i as u64).normal();
        if j == 0 { 4.23079 + 1.2e-5 * normal } else { 0.1 }
    });
    let posterior = Posterior::new(names(&["period", "jitter"]), rows, vec![0.0; n], vec![0.0; n]).unwrap();
    let summary = posterior.summary();
    let period = &summary.columns[0];
    // Five standard errors; those of the outer quantiles are 2.7 / sqrt(n).
    let error = 1.2e-5 / (n as f64).sqrt();
    assert!((period.mean - 4.23079).abs() < 5.0 * error);
    assert!((period.sd - 1.2e-5).abs() < 5.0 * error);
    assert!((period.median - 4.23079).abs() < 7.0 * error);
    let expected = [-0.994_458, 0.994_458, -1.959_964, 1.959_964];
    for (value, z) in period.interval_68.iter().chain(&period.interval_95).zip(expected) {
        assert!((value - (4.23079 + 1.2e-5 * z)).abs() < 14.0 * error, "{value} {z}");
    }
    assert_eq!((summary.columns[1].mean, summary.columns[1].sd), (0.1, 0.0));
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!((json["columns"][1]["name"].as_str(), json["n_points"].as_u64()), (Some("jitter"), Some(20_000)));
}

#[test]
fn the_table_prints_well() {
    let column = |name: &str, mean: f64, sd: f64| ColumnSummary {
        name: name.into(),
        mean,
        sd,
        median: mean,
        interval_68: [mean - sd, mean + sd],
        interval_95: [mean - 2.0 * sd, mean + 2.0 * sd],
        undefined: 0.0,
    };
    let columns = vec![
        column("period", 4.23079, 0.000012),
        column("σ_jit", 0.0512, 0.00996),
        column("offset", -33251.61, 12.3),
        column("t0", 2_455_555.123_456, 0.0021),
        column("amplitude", 2.0e-9, 3.1e-11),
        column("mass", 1.989e30, 1.2e28),
        column("zero", -0.0001, 0.5),
        column("jitter", 1.0, 0.0),
        column("tiny", 1e-30, 0.0),
    ];
    let text = Summary { n_points: 12345, ess: 10003.2, columns }.to_string();
    let expected = "\
12345 points, effective sample size 10003
                     mean ± sd          median                              68 %                              95 %
period     4.230790 ± 0.000012        4.230790              [4.230778, 4.230802]              [4.230766, 4.230814]
σ_jit            0.051 ± 0.010           0.051                    [0.041, 0.061]                    [0.031, 0.071]
offset             -33252 ± 12          -33252                  [-33264, -33239]                  [-33276, -33227]
t0      2455555.1235 ± 0.0021    2455555.1235      [2455555.1214, 2455555.1256]      [2455555.1193, 2455555.1277]
";
    println!("{text}");
    for line in expected.lines() {
        let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.lines().any(|own| squeeze(own) == squeeze(line)), "{line}\n{text}");
    }
    for line in [
        "amplitude (2.000 ± 0.031)e-9 2.000e-9 [1.969, 2.031]e-9 [1.938, 2.062]e-9",
        "mass (1.989 ± 0.012)e30 1.989e30 [1.977, 2.001]e30 [1.965, 2.013]e30",
        "zero 0.00 ± 0.50 0.00 [-0.50, 0.50] [-1.00, 1.00]",
        "jitter 1.0 (fixed)",
        "tiny 1e-30 (fixed)",
    ] {
        let squeezed = text.lines().map(|own| own.split_whitespace().collect::<Vec<_>>().join(" "));
        assert!(squeezed.clone().any(|own| own == line), "{line}\n{text}");
    }
    // Columns line up: the last cell of every full row ends in the same place.
    let widths: HashSet<usize> =
        text.lines().skip(1).filter(|line| !line.contains("fixed")).map(|line| line.chars().count()).collect();
    assert_eq!(widths.len(), 1, "{text}");
}
