//! Quantiles of the normal distribution, whole and truncated: the truncated one in log space, from the edge it lies near.

use std::f64::consts::{SQRT_2, TAU};

use statrs::function::erf::erfc_inv;

/// Standard normal quantile at `u` in (0, 1), each tail from its own side.
pub(crate) fn quantile(u: f64) -> f64 {
    if u <= 0.5 { -SQRT_2 * erfc_inv(2.0 * u) } else { SQRT_2 * erfc_inv(2.0 * (1.0 - u)) }
}

/// Below this the series of [`centre`] is short and its complement keeps its digits, above it the continued fraction is short.
const SERIES_BELOW: f64 = 1.2;

/// `(Phi(x) - 1/2) / phi(x)` for `0 <= x`: the sum of `x^(2k+1) / (2k+1)!!`, all terms positive.
fn centre(x: f64) -> f64 {
    let (mut term, mut sum, mut k) = (x, x, 1.0);
    while term > 1e-17 * sum {
        k += 2.0;
        term *= x * x / k;
        sum += term;
    }
    sum
}

/// `1 / phi(z)`.
fn inverse_density(z: f64) -> f64 {
    TAU.sqrt() * (0.5 * z * z).exp()
}

/// `Phi(z) / phi(z)`: the Mills ratio of the lower tail, for `z` at most about 1.
///
/// statrs' `erfc` is not used: its error reaches 1e-10 from 0.5 on (version 0.19).
fn mills(z: f64) -> f64 {
    let x = -z;
    if x < SERIES_BELOW {
        return 0.5 * inverse_density(x) - x.signum() * centre(x.abs());
    }
    // Laplace's continued fraction x + 1/(x + 2/(x + 3/...)); its error falls as exp(-2 x sqrt(depth)).
    let depth = (10.0 + 400.0 / (x * x)) as usize;
    1.0 / (1..depth).rev().fold(x, |tail, k| x + k as f64 / tail)
}

/// `Phi(x) - 1/2` for `0 <= x`.
fn mass_from_zero(x: f64) -> f64 {
    if x < SERIES_BELOW { centre(x) / inverse_density(x) } else { 0.5 - mills(-x) / inverse_density(x) }
}

/// Below this change of `ln Phi` the power series is used: its last term is then under 1e-16 of the sum.
const SERIES_LIMIT: f64 = 1e-2;
const SERIES_TERMS: usize = 9;

/// The `d` with `ln Phi(z + d) = ln Phi(z) + t`, accurate relative to `d` itself, for `z <= 0`.
///
/// With `q = Phi/phi`, `dz/dt = q` and `dq/dt = q + z q^2`: near the edge their power series keeps the digits that
/// a difference of two quantiles would lose.
fn step_in_log_cdf(z: f64, t: f64) -> f64 {
    let q = mills(z);
    if t.abs() < SERIES_LIMIT {
        let (mut zs, mut qs) = ([0.0; SERIES_TERMS + 1], [0.0; SERIES_TERMS + 1]);
        (zs[0], qs[0]) = (z, q);
        for n in 0..SERIES_TERMS {
            let mut product = 0.0;
            for i in 0..=n {
                let square: f64 = (0..=n - i).map(|j| qs[j] * qs[n - i - j]).sum();
                product += zs[i] * square;
            }
            zs[n + 1] = qs[n] / (n + 1) as f64;
            qs[n + 1] = (qs[n] + product) / (n + 1) as f64;
        }
        return t * zs[1..].iter().rev().fold(0.0, |sum, c| sum * t + c);
    }
    // Where Phi is in range its own quantile starts Newton next to the root. Elsewhere the start lies left of the root, from
    // where Newton climbs without overshoot, ln Phi being concave.
    let target = q / inverse_density(z) * t.exp();
    let mut d = if target.is_normal() {
        quantile(target) - z
    } else if t > 0.0 {
        t * q
    } else {
        2.0 * t / ((z * z - 2.0 * t).sqrt() - z)
    };
    for _ in 0..60 {
        let here = mills(z + d);
        let change = (here / q).ln() - d * (z + 0.5 * d);
        let step = (t - change) * here;
        d += step;
        if step.abs() <= 1e-9 * d.abs() {
            break;
        }
    }
    d
}

/// The fall of `ln Phi` from `z` to `z - width`, for a narrow width, by inverting [`step_in_log_cdf`].
fn fall_over(z: f64, width: f64) -> f64 {
    let slope = mills(z);
    let mut fall = width / slope;
    for _ in 0..12 {
        // Contracts by the relative change of the slope, itself below SERIES_LIMIT.
        fall += (width + step_in_log_cdf(z, -fall)) / slope;
    }
    fall
}

/// Standard deviations from the mean beyond which a distance inside the tail is lost next to the edge itself.
const FARTHEST: f64 = 1e7;

/// A standard normal restricted to `[alpha, beta]` (either may be infinite).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Truncated {
    alpha: f64,
    beta: f64,
    /// True when the interval was mirrored so that `|alpha| >= |beta|`.
    mirrored: bool,
    mass: Mass,
}

#[derive(Debug, Clone, PartialEq)]
enum Mass {
    /// The interval holds the centre: probability inside, and outside on either side.
    Centre { inside: f64, below: f64, above: f64 },
    /// The interval lies in the lower tail: `Phi(alpha) / Phi(beta)` and one minus that.
    Tail { ratio: f64, rest: f64 },
}

impl Truncated {
    /// Prepares the interval; `None` when it holds no mass that f64 can tell from an edge.
    pub(crate) fn new(alpha: f64, beta: f64) -> Option<Self> {
        let mirrored = alpha + beta > 0.0;
        let (alpha, beta) = if mirrored { (-beta, -alpha) } else { (alpha, beta) };
        if alpha >= beta || beta < -FARTHEST {
            return None;
        }
        let mass = if beta > 0.0 {
            let outside = |x: f64| if x.is_infinite() { 0.0 } else { mills(-x) / inverse_density(x) };
            Mass::Centre {
                inside: mass_from_zero(-alpha) + mass_from_zero(beta),
                below: outside(-alpha),
                above: outside(beta),
            }
        } else {
            let width = beta - alpha;
            let change = if alpha == f64::NEG_INFINITY {
                f64::INFINITY
            } else if width < 0.5 * SERIES_LIMIT * mills(beta) {
                fall_over(beta, width)
            } else {
                width * (0.5 * width - beta) - (mills(alpha) / mills(beta)).ln()
            };
            Mass::Tail { ratio: (-change).exp(), rest: -(-change).exp_m1() }
        };
        Some(Self { alpha, beta, mirrored, mass })
    }

    /// Quantile at `u`, as an edge of the interval and the signed distance from it; from the mean where the edge is `None`.
    pub(crate) fn quantile(&self, u: f64) -> (Option<Edge>, f64) {
        let (low, high) = if self.mirrored { (1.0 - u, u) } else { (u, 1.0 - u) };
        let (edge, distance) = match self.mass {
            Mass::Centre { inside, below, above } => {
                if low <= 0.5 {
                    from_below(self.alpha, below, low * inside)
                } else {
                    let (edge, distance) = from_below(-self.beta, above, high * inside);
                    (edge.map(Edge::other), -distance)
                }
            }
            Mass::Tail { ratio, rest } => {
                let climb = low * rest / ratio;
                if low <= 0.5 && climb < 1.0 {
                    (Some(Edge::Low), step_in_log_cdf(self.alpha, climb.ln_1p()))
                } else {
                    let fall = if high < 0.5 { (-high * rest).ln_1p() } else { (low + high * ratio).ln() };
                    (Some(Edge::High), step_in_log_cdf(self.beta, fall))
                }
            }
        };
        if self.mirrored { (edge.map(Edge::other), -distance) } else { (edge, distance) }
    }
}

/// The edge of an interval that a distance counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    Low,
    High,
}

impl Edge {
    fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

/// The point above `edge < 0` with `mass` between, given the mass `below` the edge.
fn from_below(edge: f64, below: f64, mass: f64) -> (Option<Edge>, f64) {
    if mass < below {
        (Some(Edge::Low), step_in_log_cdf(edge, (mass / below).ln_1p()))
    } else {
        (None, quantile(below + mass))
    }
}
