//! The log-likelihoods of the problems: pure functions of one point.

use std::f64::consts::PI;

/// `ln(2 pi)`.
pub const LN_TAU: f64 = 1.837_877_066_409_345_3;

/// `ln(e^a + e^b)` without overflow; -inf when both are.
#[inline]
pub fn log_add_exp(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if high == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// A normalised Gaussian with one standard deviation for each axis.
#[derive(Debug, Clone)]
pub struct Gaussian {
    centre: f64,
    inverse_sigma: Vec<f64>,
    log_norm: f64,
}

impl Gaussian {
    pub fn new(centre: f64, sigma: &[f64]) -> Self {
        Self {
            centre,
            inverse_sigma: sigma.iter().map(|s| 1.0 / s).collect(),
            log_norm: -sigma.iter().map(|s| s.ln()).sum::<f64>() - 0.5 * sigma.len() as f64 * LN_TAU,
        }
    }

    /// log L at the centre.
    pub fn log_norm(&self) -> f64 {
        self.log_norm
    }

    #[inline]
    pub fn log_l(&self, x: &[f64]) -> f64 {
        let chi2: f64 =
            x.iter().zip(&self.inverse_sigma).map(|(x, inverse)| ((x - self.centre) * inverse).powi(2)).sum();
        self.log_norm - 0.5 * chi2
    }
}

/// Standard deviations spaced evenly in their logarithm from 0.01 to 0.1.
pub fn log_spaced_sigma(n_dim: usize) -> Vec<f64> {
    (0..n_dim).map(|i| 10f64.powf(-2.0 + i as f64 / (n_dim - 1) as f64)).collect()
}

/// Standard deviation of [`gauss_pairs`].
pub const PAIR_SIGMA: f64 = 0.05;
/// Correlation of [`gauss_pairs`].
pub const PAIR_RHO: f64 = 0.95;

/// Independent pairs (x0, x1), (x2, x3), ... of a normalised Gaussian about 0.5, standard deviation 0.05, correlation 0.95.
pub fn gauss_pairs(x: &[f64]) -> f64 {
    const SIGMA: f64 = PAIR_SIGMA;
    const RHO: f64 = PAIR_RHO;
    let scale = 1.0 / (1.0 - RHO * RHO);
    let mut chi2 = 0.0;
    for pair in x.chunks_exact(2) {
        let (a, b) = ((pair[0] - 0.5) / SIGMA, (pair[1] - 0.5) / SIGMA);
        chi2 += a * a - 2.0 * RHO * a * b + b * b;
    }
    let n = x.len() as f64;
    -n * SIGMA.ln() - 0.5 * n * LN_TAU - 0.25 * n * (1.0 - RHO * RHO).ln() - 0.5 * scale * chi2
}

/// Rosenbrock's curved valley, chained over neighbours.
pub fn rosenbrock(x: &[f64]) -> f64 {
    -x.windows(2).map(|w| 100.0 * (w[1] - w[0] * w[0]).powi(2) + (1.0 - w[0]).powi(2)).sum::<f64>()
}

/// Eighteen equal peaks on a chequered floor.
pub fn eggbox(x: &[f64]) -> f64 {
    (2.0 + (0.5 * x[0]).cos() * (0.5 * x[1]).cos()).powi(5)
}

/// Distance of the centres of [`shells`] from the origin.
pub const SHELL_CENTRE: f64 = 3.5;
/// Radius of [`shells`].
pub const SHELL_RADIUS: f64 = 2.0;
/// Thickness of [`shells`].
pub const SHELL_WIDTH: f64 = 0.1;

/// Two thin shells of radius 2 about +-3.5 on the first axis, each normalised across its thickness 0.1.
pub fn shells(x: &[f64]) -> f64 {
    let rest: f64 = x[1..].iter().map(|x| x * x).sum();
    let term = |centre: f64| {
        let r = ((x[0] - centre).powi(2) + rest).sqrt();
        -0.5 * ((r - SHELL_RADIUS) / SHELL_WIDTH).powi(2)
    };
    -0.5 * LN_TAU - SHELL_WIDTH.ln() + log_add_exp(term(SHELL_CENTRE), term(-SHELL_CENTRE))
}

/// Axes of [`log_gamma`] after the first two that are log-gamma.
pub fn n_skewed(n_dim: usize) -> usize {
    ((n_dim + 2) / 2).saturating_sub(2)
}

/// The mixture of Gaussians and log-gamma distributions of Feroz et al. (2019) and Lange (2023), scale 1/30.
///
/// The first axis holds two log-gamma peaks, the second two Gaussian ones; of the others the first
/// `(n_dim + 2) / 2 - 2` are log-gamma and the rest Gaussian, all at 2/3.
pub fn log_gamma(x: &[f64]) -> f64 {
    const SCALE: f64 = 1.0 / 30.0;
    let skewed = |x: f64, at: f64| {
        let z = (x - at) / SCALE;
        z - z.exp() - SCALE.ln()
    };
    let normal = |x: f64, at: f64| {
        let z = (x - at) / SCALE;
        -0.5 * z * z - 0.5 * LN_TAU - SCALE.ln()
    };
    let n_skewed = n_skewed(x.len());
    let (left, right) = (1.0 / 3.0, 2.0 / 3.0);
    let two = 2.0 * 0.5f64.ln()
        + log_add_exp(skewed(x[0], left), skewed(x[0], right))
        + log_add_exp(normal(x[1], left), normal(x[1], right));
    two + x[2..2 + n_skewed].iter().map(|&x| skewed(x, right)).sum::<f64>()
        + x[2 + n_skewed..].iter().map(|&x| normal(x, right)).sum::<f64>()
}

/// Neal's funnel: v ~ N(0, 3^2), then every other x ~ N(0, e^v).
pub fn funnel(x: &[f64]) -> f64 {
    let v = x[0];
    let k = (x.len() - 1) as f64;
    let sum: f64 = x[1..].iter().map(|x| x * x).sum();
    -0.5 * (v / 3.0).powi(2) - 3f64.ln() - 0.5 * (k + 1.0) * LN_TAU - 0.5 * k * v - 0.5 * sum * (-v).exp()
}

/// A ramp above x0 = 0.9 and likelihood zero below it.
pub fn plateau(x: &[f64]) -> f64 {
    if x[0] > 0.9 { (x[0] - 0.9).ln() } else { f64::NEG_INFINITY }
}

/// A Gaussian of variance 0.25 that is one at its centre.
pub fn conjugate(x: &[f64]) -> f64 {
    -2.0 * x.iter().map(|x| x * x).sum::<f64>()
}

/// A normalised Gaussian, standard deviation 0.05, on the corner of a unit square without walls.
pub fn corners(x: &[f64]) -> f64 {
    const SIGMA: f64 = 0.05;
    let chi2: f64 = x.iter().map(|&x| ((x - (x + 0.5).floor()) / SIGMA).powi(2)).sum();
    -0.5 * chi2 - x.len() as f64 * (0.5 * LN_TAU + SIGMA.ln())
}

/// Effects of coaching in eight schools and their standard errors (Rubin 1981).
pub const SCHOOLS: [(f64, f64); 8] =
    [(28.0, 15.0), (8.0, 10.0), (-3.0, 16.0), (7.0, 11.0), (-1.0, 9.0), (1.0, 11.0), (18.0, 10.0), (12.0, 18.0)];

/// The eight schools, `x = (mu, tau, z_1 .. z_8)` with the school's effect `mu + tau z_j`.
pub fn eight_schools(x: &[f64]) -> f64 {
    let (mu, tau) = (x[0], x[1]);
    SCHOOLS
        .iter()
        .zip(&x[2..])
        .map(|(&(y, sigma), z)| -0.5 * ((y - mu - tau * z) / sigma).powi(2) - 0.5 * (2.0 * PI * sigma * sigma).ln())
        .sum()
}
