//! The distributions of one parameter: their checks, and their quantiles with each tail computed from its own side.
//!
//! Largest relative error against 50-digit references for u from 1e-300 to 1 - 1e-15, over the parameter sets of
//! `tests/data/prior_quantiles.csv` (`tests/prior.rs` holds these numbers to it):
//!
//! | kind | error | kind | error | kind | error |
//! |---|---|---|---|---|---|
//! | uniform | 2.0e-16 | log_uniform | 2.8e-16 | exponential | 2.2e-16 |
//! | normal | 1.1e-15 | half_normal | 2.7e-16 | truncated_normal | 2.4e-14 |
//! | cauchy | 2.9e-16 | half_cauchy | 2.8e-16 | log_normal | 3.3e-14 |
//! | beta | 2.7e-13 | gamma | 1.0e-14 | student_t | 3.8e-14 |
//!
//! The larger ones belong to values far from 1 in size (an exponential, or a power with a shape of 0.01) and to distances from an edge
//! that lies some standard deviations from the mean.

use std::f64::consts::{FRAC_PI_2, SQRT_2};
use std::ops::Range;

use statrs::function::erf::{erf_inv, erfc_inv};

use super::incomplete::{Beta, Gamma, MAX_SHAPE, StudentT, cauchy};
use super::normal::{self, Edge, Truncated};

/// A distribution of one parameter: what a result file says of it, and its quantile.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Distribution {
    pub(crate) kind: &'static str,
    pub(crate) parameters: Vec<(&'static str, f64)>,
    quantile: Quantile,
}

/// A quantile function with everything that does not depend on u computed once.
#[derive(Debug, Clone, PartialEq)]
enum Quantile {
    Uniform { lo: f64, hi: f64 },
    LogUniform { lo: f64, hi: f64 },
    Normal { mean: f64, sd: f64 },
    TruncatedNormal { mean: f64, sd: f64, lo: f64, hi: f64, standard: Truncated },
    HalfNormal { sd: f64 },
    LogNormal { mu: f64, sigma: f64 },
    Exponential { scale: f64 },
    Cauchy { location: f64, scale: f64 },
    HalfCauchy { scale: f64 },
    Beta(Beta),
    Gamma { gamma: Gamma, scale: f64 },
    StudentT { student: StudentT, location: f64, scale: f64 },
}

/// What is wrong with the arguments of a distribution, and what to do.
type Checked = Result<Distribution, String>;

fn finite(name: &str, value: f64) -> Result<(), String> {
    if value.is_finite() { Ok(()) } else { Err(format!("{name} is {value}; give a finite number")) }
}

fn positive(name: &str, value: f64) -> Result<(), String> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(format!("{name} is {value}; give a finite number above zero"))
    }
}

fn range(Range { start, end }: &Range<f64>) -> Result<(), String> {
    if start.is_nan() || end.is_nan() {
        Err(format!("the range is {start}..{end}; give numbers for both ends"))
    } else if start == end {
        Err(format!("the range {start}..{end} has no width; use fixed() for a constant parameter"))
    } else if start > end {
        Err(format!("the range {start}..{end} is reversed; give the lower end first"))
    } else {
        Ok(())
    }
}

fn finite_range(interval: &Range<f64>) -> Result<(), String> {
    finite("the lower end", interval.start)?;
    finite("the upper end", interval.end)?;
    range(interval)
}

fn shape(name: &str, value: f64) -> Result<(), String> {
    positive(name, value)?;
    if value > MAX_SHAPE {
        return Err(format!(
            "{name} is {value}, above {MAX_SHAPE:e}; use a normal distribution of the same mean and sd"
        ));
    }
    Ok(())
}

impl Distribution {
    fn new<const N: usize>(kind: &'static str, parameters: [(&'static str, f64); N], quantile: Quantile) -> Checked {
        Ok(Self { kind, parameters: parameters.to_vec(), quantile })
    }

    pub(crate) fn uniform(interval: Range<f64>) -> Checked {
        finite_range(&interval)?;
        let Range { start: lo, end: hi } = interval;
        Self::new("uniform", [("lo", lo), ("hi", hi)], Quantile::Uniform { lo, hi })
    }

    pub(crate) fn log_uniform(interval: Range<f64>) -> Checked {
        positive("the lower end", interval.start)?;
        finite_range(&interval)?;
        let Range { start: lo, end: hi } = interval;
        Self::new("log_uniform", [("lo", lo), ("hi", hi)], Quantile::LogUniform { lo, hi })
    }

    pub(crate) fn normal(mean: f64, sd: f64) -> Checked {
        finite("mean", mean)?;
        positive("sd", sd)?;
        Self::new("normal", [("mean", mean), ("sd", sd)], Quantile::Normal { mean, sd })
    }

    pub(crate) fn truncated_normal(mean: f64, sd: f64, interval: Range<f64>) -> Checked {
        finite("mean", mean)?;
        positive("sd", sd)?;
        range(&interval)?;
        let Range { start: lo, end: hi } = interval;
        let standard = Truncated::new((lo - mean) / sd, (hi - mean) / sd).ok_or_else(|| {
            format!(
                "the range {lo}..{hi} holds no mass that f64 can resolve for mean {mean}, sd {sd}; move or widen it"
            )
        })?;
        Self::new(
            "truncated_normal",
            [("mean", mean), ("sd", sd), ("lo", lo), ("hi", hi)],
            Quantile::TruncatedNormal { mean, sd, lo, hi, standard },
        )
    }

    pub(crate) fn half_normal(sd: f64) -> Checked {
        positive("sd", sd)?;
        Self::new("half_normal", [("sd", sd)], Quantile::HalfNormal { sd })
    }

    pub(crate) fn log_normal(mu: f64, sigma: f64) -> Checked {
        finite("mu", mu)?;
        positive("sigma", sigma)?;
        Self::new("log_normal", [("mu", mu), ("sigma", sigma)], Quantile::LogNormal { mu, sigma })
    }

    pub(crate) fn exponential(scale: f64) -> Checked {
        positive("scale", scale)?;
        Self::new("exponential", [("scale", scale)], Quantile::Exponential { scale })
    }

    pub(crate) fn cauchy(location: f64, scale: f64) -> Checked {
        finite("location", location)?;
        positive("scale", scale)?;
        Self::new("cauchy", [("location", location), ("scale", scale)], Quantile::Cauchy { location, scale })
    }

    pub(crate) fn half_cauchy(scale: f64) -> Checked {
        positive("scale", scale)?;
        Self::new("half_cauchy", [("scale", scale)], Quantile::HalfCauchy { scale })
    }

    pub(crate) fn beta(alpha: f64, beta: f64) -> Checked {
        shape("alpha", alpha)?;
        shape("beta", beta)?;
        Self::new("beta", [("alpha", alpha), ("beta", beta)], Quantile::Beta(Beta::new(alpha, beta)))
    }

    pub(crate) fn gamma(shape_: f64, scale: f64) -> Checked {
        shape("shape", shape_)?;
        positive("scale", scale)?;
        Self::new("gamma", [("shape", shape_), ("scale", scale)], Quantile::Gamma { gamma: Gamma::new(shape_), scale })
    }

    pub(crate) fn student_t(nu: f64, location: f64, scale: f64) -> Checked {
        positive("nu", nu)?;
        finite("location", location)?;
        positive("scale", scale)?;
        let student = StudentT::new(nu);
        Self::new(
            "student_t",
            [("nu", nu), ("location", location), ("scale", scale)],
            Quantile::StudentT { student, location, scale },
        )
    }

    /// The value below which a fraction `u` of the distribution lies, for `u` in [0, 1].
    ///
    /// The ends of the unit interval stand for their nearest inner numbers, and values beyond the range of f64 for its largest
    /// number, so that the result is always finite.
    pub(crate) fn quantile(&self, u: f64) -> f64 {
        self.quantile.at(u.clamp(f64::MIN_POSITIVE, 1.0 - f64::EPSILON / 2.0)).clamp(f64::MIN, f64::MAX)
    }
}

impl Quantile {
    #[inline]
    fn at(&self, u: f64) -> f64 {
        // Exact for u >= 1/2, which is where the upper tail is worked from its own side.
        let v = 1.0 - u;
        match self {
            // From the end nearer zero, whose neighbourhood has digits to keep; monotone to the last bit.
            &Self::Uniform { lo, hi } => {
                let width = hi - lo;
                let x = match (width.is_finite(), lo.abs() <= hi.abs()) {
                    (true, true) => lo + u * width,
                    (true, false) => hi - v * width,
                    (false, _) => v * lo + u * hi,
                };
                x.clamp(lo, hi)
            }
            &Self::LogUniform { lo, hi } => {
                let ratio = hi / lo;
                let x = match (u < 0.5, ratio.is_finite()) {
                    (true, true) => lo * ratio.powf(u),
                    (true, false) => lo * lo.powf(-u) * hi.powf(u),
                    (false, true) => hi * ratio.powf(-v),
                    (false, false) => hi * hi.powf(-v) * lo.powf(v),
                };
                x.clamp(lo, hi)
            }
            &Self::Normal { mean, sd } => mean + sd * normal::quantile(u),
            Self::TruncatedNormal { mean, sd, lo, hi, standard } => {
                let (edge, distance) = standard.quantile(u);
                let origin = match edge {
                    Some(Edge::Low) => lo,
                    Some(Edge::High) => hi,
                    None => mean,
                };
                (origin + sd * distance).clamp(*lo, *hi)
            }
            &Self::HalfNormal { sd } => sd * SQRT_2 * if u < 0.5 { erf_inv(u) } else { erfc_inv(v) },
            &Self::LogNormal { mu, sigma } => (mu + sigma * normal::quantile(u)).exp(),
            &Self::Exponential { scale } => -scale * (-u).ln_1p(),
            &Self::Cauchy { location, scale } => location + scale * cauchy(u),
            &Self::HalfCauchy { scale } => {
                scale * if u < 0.5 { (FRAC_PI_2 * u).tan() } else { 1.0 / (FRAC_PI_2 * v).tan() }
            }
            Self::Beta(beta) => beta.quantile(u),
            Self::Gamma { gamma, scale } => scale * gamma.quantile(u),
            Self::StudentT { student, location, scale } => location + scale * student.quantile(u),
        }
    }
}
