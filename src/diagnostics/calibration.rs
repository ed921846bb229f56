//! Calibration: whether the errors that many runs report for log Z are as large as the errors they make.

use std::fmt;

use serde::Serialize;
use statrs::distribution::{ChiSquared, ContinuousCDF, Normal};

use crate::math::argsort;

/// Reported errors below this mean that the problem has no variance (a constant likelihood): only rounding is left,
/// a few hundred operations at 2^-53 each, and log Z is held to the same absolute figure.
pub const EXACT: f64 = 1e-9;

/// Largest |mean bias| in units of the median reported error. A test on the pulls alone would let pass any bias
/// that few runs cannot see.
pub const MAX_RELATIVE_BIAS: f64 = 0.3;

/// Why runs could not be judged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// A variance needs two runs.
    #[error("calibration needs at least 2 runs, got {found}; run more seeds")]
    TooFew {
        /// Runs given.
        found: usize,
    },
    /// The two slices differ in length.
    #[error("{log_z} values of log Z but {error} errors; give one of each per run")]
    Lengths {
        /// Values of log Z.
        log_z: usize,
        /// Errors.
        error: usize,
    },
    /// A value that no run may report.
    #[error("run {run} reports log Z = {log_z} +- {error}; both must be finite and the error not negative")]
    Value {
        /// Index of the run.
        run: usize,
        /// Its log Z.
        log_z: f64,
        /// Its error.
        error: f64,
    },
    /// The truth is not finite.
    #[error("the true log Z is {truth}; it must be finite")]
    Truth {
        /// The value given.
        truth: f64,
    },
}

/// How R runs of one problem with different seeds compare with the known log Z.
///
/// `pull = (log Z - truth) / reported error`. If the errors are honest, the pulls are standard normal: their mean is
/// N(0, 1/R), which a z-test checks, and `(R - 1)` times their variance is chi-square with `R - 1` degrees of freedom.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Calibration {
    /// Number of runs, R.
    pub n_runs: usize,
    /// The true log Z.
    pub truth: f64,
    /// Mean of log Z - truth.
    pub mean_bias: f64,
    /// Standard error of `mean_bias`, from the scatter of the runs.
    pub mean_bias_error: f64,
    /// Largest |log Z - truth|.
    pub max_abs_bias: f64,
    /// Median of the reported errors.
    pub median_error: f64,
    /// |mean bias| / median error; absent for a problem without variance.
    pub relative_bias: Option<f64>,
    /// Tests of the pulls; absent for a problem without variance, which is held to `max_abs_bias` < [`EXACT`] instead.
    pub pulls: Option<Pulls>,
}

/// Tests of the pulls of a [`Calibration`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Pulls {
    /// Mean of the pulls: 0 if log Z is unbiased.
    pub mean: f64,
    /// Two-sided p value of the mean (z-test, unit variance).
    pub p_mean: f64,
    /// Variance of the pulls about their mean: 1 if errors are honest, more if they are too small.
    pub variance: f64,
    /// Two-sided p value of the variance (chi-square, R - 1 degrees of freedom).
    pub p_variance: f64,
}

impl Calibration {
    /// Compares runs (`log_z [n_runs]`, `error [n_runs]`, one value each per run) with the true log Z.
    ///
    /// If every error is below [`EXACT`], the problem is taken to have no variance. If only some errors are zero, a run that
    /// is off the truth by anything has an infinite pull, and both p values are 0.
    ///
    /// # Errors
    /// Fewer than two runs, slices of different length, values that are not finite, a negative error.
    pub fn from_runs(log_z: &[f64], error: &[f64], truth: f64) -> Result<Self, CalibrationError> {
        if log_z.len() != error.len() {
            return Err(CalibrationError::Lengths { log_z: log_z.len(), error: error.len() });
        }
        if log_z.len() < 2 {
            return Err(CalibrationError::TooFew { found: log_z.len() });
        }
        if !truth.is_finite() {
            return Err(CalibrationError::Truth { truth });
        }
        if let Some(run) = (0..log_z.len()).find(|&k| !log_z[k].is_finite() || !error[k].is_finite() || error[k] < 0.0)
        {
            return Err(CalibrationError::Value { run, log_z: log_z[run], error: error[run] });
        }
        let bias: Vec<f64> = log_z.iter().map(|value| value - truth).collect();
        let (mean_bias, variance) = mean_and_variance(&bias);
        let median_error = median(error);
        let has_variance = error.iter().any(|&error| error >= EXACT);
        Ok(Self {
            n_runs: log_z.len(),
            truth,
            mean_bias,
            mean_bias_error: (variance / log_z.len() as f64).sqrt(),
            max_abs_bias: bias.iter().fold(0.0, |max, bias| bias.abs().max(max)),
            median_error,
            relative_bias: has_variance.then_some(mean_bias.abs() / median_error),
            pulls: has_variance.then(|| Pulls::new(&bias, error)),
        })
    }

    /// The header of the table whose rows [`Display`](fmt::Display) prints.
    pub fn header() -> String {
        format!(
            "{:>5} {:>10} {:>9} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "runs", "bias", "s.e.", "error", "|b|/err", "pull", "p", "var", "p"
        )
    }
}

impl Pulls {
    fn new(bias: &[f64], error: &[f64]) -> Self {
        let pulls: Vec<f64> =
            bias.iter().zip(error).map(|(&bias, &error)| if bias == 0.0 { 0.0 } else { bias / error }).collect();
        let n = pulls.len() as f64;
        let (mean, variance) = mean_and_variance(&pulls);
        if !(mean.is_finite() && variance.is_finite()) {
            return Self { mean, p_mean: 0.0, variance: f64::INFINITY, p_variance: 0.0 };
        }
        let chi_square = (n - 1.0) * variance;
        // R >= 2 was checked, so the degrees of freedom are positive and the distribution exists.
        let p_variance = ChiSquared::new(n - 1.0)
            .map_or(f64::NAN, |law| (2.0 * law.cdf(chi_square).min(law.sf(chi_square))).clamp(0.0, 1.0));
        Self { mean, p_mean: 2.0 * Normal::standard().sf(mean.abs() * n.sqrt()), variance, p_variance }
    }
}

/// Whether each problem of a table is calibrated: `[n_problems]`, true for a pass.
///
/// Every p value of the table, of means and of variances alike, goes into one Holm correction at family level `alpha`. A problem
/// passes if neither of its tests rejects and its relative bias is below [`MAX_RELATIVE_BIAS`]; a problem without
/// variance, if every run is within [`EXACT`] of the truth.
pub fn accept(table: &[Calibration], alpha: f64) -> Vec<bool> {
    let p: Vec<f64> =
        table.iter().filter_map(|row| row.pulls.as_ref()).flat_map(|pulls| [pulls.p_mean, pulls.p_variance]).collect();
    let rejected = holm(&p, alpha);
    let mut pairs = rejected.chunks(2);
    table
        .iter()
        .map(|row| match (&row.pulls, row.relative_bias) {
            (Some(_), Some(bias)) => {
                let tests = pairs.next().is_some_and(|pair| !pair.contains(&true));
                tests && bias < MAX_RELATIVE_BIAS
            }
            _ => row.max_abs_bias < EXACT,
        })
        .collect()
}

/// Which hypotheses are rejected at family level `alpha`: the step-down procedure of Holm (1979).
///
/// `p [n_tests]` gives `[n_tests]`, true for rejected. A NaN counts as rejected: a test that could not be made must not pass.
pub fn holm(p: &[f64], alpha: f64) -> Vec<bool> {
    let p: Vec<f64> = p.iter().map(|&p| if p.is_nan() { 0.0 } else { p }).collect();
    let mut rejected = vec![false; p.len()];
    for (rank, i) in argsort(&p).into_iter().enumerate() {
        if p[i] > alpha / (p.len() - rank) as f64 {
            break;
        }
        rejected[i] = true;
    }
    rejected
}

/// Mean, and variance with R - 1 in the denominator.
fn mean_and_variance(x: &[f64]) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0))
}

/// Median; the mean of the middle two for an even number.
fn median(x: &[f64]) -> f64 {
    let order = argsort(x);
    0.5 * (x[order[(x.len() - 1) / 2]] + x[order[x.len() / 2]])
}

/// One row of the table under [`Calibration::header`]; nothing but blanks stand where a test does not apply.
impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(relative_bias), Some(pulls)) = (self.relative_bias, &self.pulls) {
            write!(
                f,
                "{:>5} {:>+10.5} {:>9.5} {:>10.5} {:>8.3} {:>+8.3} {:>8.1e} {:>8.3} {:>8.1e}",
                self.n_runs,
                self.mean_bias,
                self.mean_bias_error,
                self.median_error,
                relative_bias,
                pulls.mean,
                pulls.p_mean,
                pulls.variance,
                pulls.p_variance
            )
        } else {
            write!(
                f,
                "{:>5} {:>+10.1e} {:>9.1e} {:>10.1e} {:>44}",
                self.n_runs, self.mean_bias, self.mean_bias_error, self.median_error, ""
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    /// Family level of every test here, as for the real table.
    const ALPHA: f64 = 0.01;

    /// `R` runs whose true error varies by 20 % from run to run; they report it times `report`, and log Z is off by `bias` of it.
    fn runs(n_runs: usize, seed: u64, bias: f64, report: f64) -> Calibration {
        let truth = -43.1;
        let (log_z, error): (Vec<f64>, Vec<f64>) = (0..n_runs as u64)
            .map(|run| {
                let mut draw = Stream::new(seed).at(run);
                let sigma = 0.02 * (0.9 + 0.2 * draw.uniform());
                (truth + sigma * (bias + draw.normal()), sigma * report)
            })
            .unzip();
        Calibration::from_runs(&log_z, &error, truth).unwrap()
    }

    #[test]
    fn honest_runs_are_accepted_and_p_values_are_uniform() {
        let table: Vec<Calibration> = (1..=40).map(|seed| runs(100, seed, 0.0, 1.0)).collect();
        assert!(accept(&table, ALPHA).iter().all(|&accepted| accepted));
        for p in [|pulls: &Pulls| pulls.p_mean, |pulls: &Pulls| pulls.p_variance] {
            let p: Vec<f64> = (1000..2000).map(|seed| p(runs(20, seed, 0.0, 1.0).pulls.as_ref().unwrap())).collect();
            assert!(crate::math::ks_uniform(&p).1 > 1e-3);
        }
    }

    #[test]
    fn saboteurs_are_rejected() {
        // Power, not luck: every one of ten seeds of each saboteur must be caught, within a table of honest problems.
        for seed in 1..=10 {
            let honest = (100..110).map(|seed| runs(100, seed, 0.0, 1.0));
            let saboteurs = [
                ("errors 1.5 times too small", runs(100, seed, 0.0, 1.0 / 1.5)),
                ("errors 1.5 times too large", runs(100, seed, 0.0, 1.5)),
                ("off by half an error", runs(100, seed, 0.5, 1.0)),
                ("off by half an error, but with errors doubled", runs(100, seed, 0.5, 2.0)),
            ];
            let table: Vec<Calibration> = saboteurs.iter().map(|(_, runs)| runs.clone()).chain(honest).collect();
            let accepted = accept(&table, ALPHA);
            for ((name, runs), accepted) in saboteurs.iter().zip(&accepted) {
                assert!(!accepted, "seed {seed}, {name}: {runs}");
            }
            assert!(accepted[saboteurs.len()..].iter().all(|&accepted| accepted));
        }
    }

    #[test]
    fn known_answers() {
        let table = Calibration::from_runs(&[1.1, 1.3, 0.9, 1.3], &[0.1, 0.2, 0.1, 0.2], 1.0).unwrap();
        let pulls = table.pulls.as_ref().unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(table.mean_bias, 0.15);
        near(table.mean_bias_error, (0.11f64 / 3.0 / 4.0).sqrt());
        near(table.median_error, 0.15);
        near(table.relative_bias.unwrap(), 1.0);
        near(table.max_abs_bias, 0.3);
        // Pulls 1, 1.5, -1, 1.5.
        near(pulls.mean, 0.75);
        near(pulls.variance, 4.25 / 3.0);
        // 2 (1 - Phi(1.5)), and 2 P(chi2_3 > 4.25), P = erfc(sqrt(x/2)) + sqrt(2x/pi) exp(-x/2).
        near(pulls.p_mean, 0.133_614_402_537_716_3);
        near(pulls.p_variance, 2.0 * 0.235_703_369_926_532_5);
    }

    #[test]
    fn a_problem_without_variance_is_held_to_an_absolute_error() {
        let judge = |log_z: f64, error: f64| {
            let row = Calibration::from_runs(&[0.0, log_z], &[0.0, error], 0.0).unwrap();
            (accept(&[runs(50, 1, 0.0, 1.0), row.clone(), runs(50, 1, 3.0, 1.0)], ALPHA), row)
        };
        assert_eq!(judge(1e-13, 1e-12).0, [true, true, false]);
        assert_eq!(judge(1e-8, 1e-12).0, [true, false, false]);
        let (accepted, row) = judge(0.0, 0.1);
        assert!(row.pulls.is_some() && accepted[0]);
        // An error of zero on a problem that has variance.
        let row = Calibration::from_runs(&[0.01, 0.02, 0.0], &[0.0, 0.1, 0.1], 0.0).unwrap();
        assert_eq!(row.pulls.as_ref().unwrap().p_mean, 0.0);
        assert_eq!(accept(&[row], ALPHA), [false]);
    }

    #[test]
    fn holm_known_answers() {
        // 0.01 <= 0.05/4, 0.0134 <= 0.05/3, 0.03 > 0.05/2: stops, though 0.04 < 0.05.
        assert_eq!(holm(&[0.03, 0.01, 0.04, 0.0134], 0.05), [false, true, false, true]);
        assert_eq!(holm(&[], 0.05), Vec::<bool>::new());
        assert_eq!(holm(&[f64::NAN, 0.5], 0.05), [true, false]);
    }

    #[test]
    fn what_cannot_be_judged_is_an_error() {
        let text =
            |log_z: &[f64], error: &[f64], truth| Calibration::from_runs(log_z, error, truth).unwrap_err().to_string();
        assert!(text(&[1.0], &[1.0], 0.0).contains("at least 2 runs, got 1"));
        assert!(text(&[1.0, 2.0], &[1.0], 0.0).contains("2 values of log Z but 1 errors"));
        assert!(text(&[1.0, f64::NAN], &[1.0, 1.0], 0.0).contains("run 1 reports log Z = NaN"));
        assert!(text(&[1.0, 2.0], &[-1.0, 1.0], 0.0).contains("run 0 reports"));
        assert!(text(&[1.0, 2.0], &[1.0, 1.0], f64::NAN).contains("must be finite"));
    }

    #[test]
    fn rows_have_the_width_of_the_header() {
        let constant = Calibration::from_runs(&[0.0, 1e-15], &[0.0, 0.0], 0.0).unwrap();
        for row in [runs(40, 1, 0.0, 1.0), constant] {
            assert_eq!(row.to_string().len(), Calibration::header().len(), "{row}");
        }
    }
}
