//! Quantiles of the gamma and beta distributions: Halley's method on the logarithm of the smaller tail.
//!
//! In `y = ln x` (gamma) and `y = ln(x / (1 - x))` (beta) both densities are log-concave, so both tails are too
//! (Prekopa 1973) and Newton's method on `ln(tail)` converges from anywhere. The tails are the series and continued fractions of
//! Abramowitz and Stegun 6.5.29 and 6.5.31 and of DiDonato and Morris (1992), the densities Loader's (2000) saddle-point form.
//! One quantile costs about three evaluations of `10 + 9 sqrt(shape)` terms.

use std::f64::consts::{PI, TAU};

use super::normal;

/// Shapes above this are refused: the cost grows as the root of the shape, and the normal distribution serves as well.
pub(crate) const MAX_SHAPE: f64 = 1e8;
/// From here Stirling's series to the 11th inverse power is exact to f64.
const STIRLING_FROM: f64 = 15.0;
const MAX_TERMS: usize = 200_000;
const MAX_STEPS: usize = 200;
/// Halley's error after a step this long is its cube, below f64 even times the largest curvature (`MAX_SHAPE`).
const LAST_STEP: f64 = 1e-8;
/// Keeps a step taken from a flat place inside the exponent range.
const LONGEST_STEP: f64 = 30.0;

/// `zeta(k) - 1` from k = 2.
#[allow(clippy::excessive_precision)]
const ZETA_MINUS_1: [f64; 28] = [
    6.4493406684822644e-1,
    2.0205690315959429e-1,
    8.2323233711138192e-2,
    3.6927755143369926e-2,
    1.734306198444914e-2,
    8.3492773819228268e-3,
    4.0773561979443394e-3,
    2.0083928260822144e-3,
    9.9457512781808534e-4,
    4.9418860411946456e-4,
    2.460865533080483e-4,
    1.2271334757848915e-4,
    6.1248135058704829e-5,
    3.0588236307020494e-5,
    1.5282259408651872e-5,
    7.6371976378997623e-6,
    3.8172932649998399e-6,
    1.9082127165539389e-6,
    9.5396203387279611e-7,
    4.7693298678780646e-7,
    2.3845050272773299e-7,
    1.1921992596531107e-7,
    5.960818905125948e-8,
    2.980350351465228e-8,
    1.4901554828365041e-8,
    7.4507117898354295e-9,
    3.7253340247884571e-9,
    1.862659723513049e-9,
];
const EULER_GAMMA: f64 = 0.577_215_664_901_532_9;

/// `Gamma(1 + a)` as `exp(small) * product`, for `a` below about 100: both factors keep full relative accuracy.
fn gamma_1p_factors(a: f64) -> (f64, f64) {
    let f = a - a.round();
    let series = ZETA_MINUS_1.iter().enumerate().rev().fold(0.0, |sum, (i, z)| {
        let k = (i + 2) as f64;
        -f * sum + z / k
    });
    let small = -f.ln_1p() + f * (1.0 - EULER_GAMMA) + f * f * series;
    (small, (1..=a.round() as usize).map(|k| f + k as f64).product())
}

fn gamma_1p(a: f64) -> f64 {
    let (small, product) = gamma_1p_factors(a);
    small.exp() * product
}

fn ln_gamma_1p(a: f64) -> f64 {
    if a >= STIRLING_FROM {
        return (a + 0.5) * a.ln() - a + 0.5 * TAU.ln() + stirling(a);
    }
    let (small, product) = gamma_1p_factors(a);
    small + product.ln()
}

/// `ln Gamma(1 + a)` minus Stirling's `(a + 1/2) ln a - a + ln(2 pi) / 2`, for `a >= STIRLING_FROM`.
fn stirling(a: f64) -> f64 {
    let r = 1.0 / (a * a);
    const C: [f64; 6] = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360_360.0];
    C.iter().rev().fold(0.0, |sum, c| sum * r + c) / a
}

/// `ln(x^a e^-a / Gamma(1 + a))` with `excess = x - a` given without cancellation.
fn ln_power(a: f64, x: f64, excess: f64) -> f64 {
    if a < STIRLING_FROM {
        return a * x.ln() - a - ln_gamma_1p(a);
    }
    let r = excess / a;
    let ln_ratio = if r.abs() < 0.5 { r.ln_1p() } else { (x / a).ln() };
    a * ln_ratio - stirling(a) - 0.5 * (TAU * a).ln()
}

/// A tail at some point: its logarithm relative to the target, its hazard (density in y over tail), and the slope of the log density in y.
struct Tail {
    ln_ratio: f64,
    hazard: f64,
    slope: f64,
}

/// Steps `x` (positive, moved by factors `exp(dy)`) until `tail(x)` meets its target; `sign` is +1 for a lower tail, -1 for an upper one.
fn halley(mut x: f64, sign: f64, tail: impl Fn(f64) -> Tail) -> f64 {
    for _ in 0..MAX_STEPS {
        let Tail { ln_ratio, hazard, slope } = tail(x);
        let newton = -sign * ln_ratio / hazard;
        let bend = 1.0 + 0.5 * newton * (slope - sign * hazard);
        let step = (newton / bend.max(0.5)).clamp(-LONGEST_STEP, LONGEST_STEP);
        let next = (x * step.exp()).min(f64::MAX);
        if step.abs() <= LAST_STEP || next == 0.0 || !step.is_finite() {
            return next;
        }
        x = next;
    }
    x
}

/// `ln(front * factor / p)`, from logarithms where `front` leaves the range of f64.
fn ln_ratio(front: f64, ln_front: impl Fn() -> f64, factor: f64, p: f64) -> f64 {
    let direct = front * factor / p;
    if front.is_normal() && direct.is_normal() { direct.ln() } else { ln_front() + factor.ln() - p.ln() }
}

/// The gamma distribution with unit scale.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gamma {
    a: f64,
    gamma_1p: f64,
    ln_gamma_1p: f64,
}

impl Gamma {
    pub(crate) fn new(a: f64) -> Self {
        let gamma_1p = if a < STIRLING_FROM { gamma_1p(a) } else { f64::NAN };
        Self { a, gamma_1p, ln_gamma_1p: ln_gamma_1p(a) }
    }

    /// The logarithm of `x^a e^-x / Gamma(1 + a)`, which is the density in `ln x` over `a`.
    fn ln_front(&self, x: f64) -> f64 {
        ln_power(self.a, x, x - self.a) - (x - self.a)
    }

    /// That density itself; powers lose fewer digits than logarithms where they do not overflow.
    fn front(&self, x: f64) -> f64 {
        if self.a < STIRLING_FROM { x.powf(self.a) * (-x).exp() / self.gamma_1p } else { self.ln_front(x).exp() }
    }

    /// Lower tail over `front`.
    fn series(&self, x: f64) -> f64 {
        let (mut term, mut sum) = (1.0, 1.0);
        for k in 1..MAX_TERMS {
            term *= x / (self.a + k as f64);
            sum += term;
            if term <= 1e-17 * sum {
                break;
            }
        }
        sum
    }

    /// Upper tail over `a front`, by Lentz's method.
    fn fraction(&self, x: f64) -> f64 {
        let mut b = x + 1.0 - self.a;
        let mut c = 1e300;
        let mut d = 1.0 / b;
        let mut h = d;
        for k in 1..MAX_TERMS {
            let k = k as f64;
            let numerator = -k * (k - self.a);
            b += 2.0;
            d = 1.0 / (numerator * d + b);
            c = b + numerator / c;
            h *= c * d;
            if (c * d - 1.0).abs() <= 1e-16 {
                break;
            }
        }
        h
    }

    fn lower(&self, x: f64, p: f64) -> Tail {
        let series = self.series(x);
        let ln_ratio = ln_ratio(self.front(x), || self.ln_front(x), series, p);
        Tail { ln_ratio, hazard: self.a / series, slope: self.a - x }
    }

    fn upper(&self, x: f64, p: f64) -> Tail {
        let (a, front) = (self.a, self.front(x));
        let slope = a - x;
        if x >= a.max(1.0) {
            let fraction = self.fraction(x);
            return Tail {
                ln_ratio: ln_ratio(front, || self.ln_front(x), a * fraction, p),
                hazard: 1.0 / fraction,
                slope,
            };
        }
        let tail = if x < 1.0 && a < STIRLING_FROM {
            // One minus the lower tail, with the leading 1 - x^a / Gamma(1 + a) taken together.
            let (mut term, mut sum) = (1.0, 0.0);
            for k in 1..40 {
                term *= -x / f64::from(k);
                sum += a * term / (a + f64::from(k));
            }
            let ln_power = a * x.ln() - self.ln_gamma_1p;
            -ln_power.exp_m1() - ln_power.exp() * sum
        } else {
            1.0 - front * self.series(x)
        };
        Tail { ln_ratio: (tail / p).ln(), hazard: a * front / tail, slope }
    }

    /// Quantile at `u` in (0, 1).
    pub(crate) fn quantile(&self, u: f64) -> f64 {
        let a = self.a;
        let v = 1.0 - u;
        // P(x) <= x^a / Gamma(1 + a): a lower bound of the quantile, and nearly the quantile where it is small.
        let power = (u.ln() / a + self.ln_gamma_1p / a).exp();
        if power == 0.0 {
            return 0.0;
        }
        let start = if a < 1.0 && power < 0.5 {
            power
        } else {
            // Wilson and Hilferty (1931).
            let cube = 1.0 - 1.0 / (9.0 * a) + normal::quantile(u) / (3.0 * a.sqrt());
            if a < 1.0 { a - v.ln() } else { power.max(a * cube.powi(3)) }
        };
        if u <= 0.5 { halley(start, 1.0, |x| self.lower(x, u)) } else { halley(start, -1.0, |x| self.upper(x, v)) }
    }
}

/// The beta distribution, as odds `x / (1 - x)`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Beta {
    a: f64,
    b: f64,
    /// `Gamma(a + b) / (Gamma(1 + a) Gamma(1 + b))`, both shapes being small.
    norm: Option<f64>,
    /// `ln(n^n e^-n / Gamma(1 + n))` of the sum `n = a + b`, negated.
    ln_norm: f64,
}

impl Beta {
    pub(crate) fn new(a: f64, b: f64) -> Self {
        let n = a + b;
        let norm = (n < 2.0 * STIRLING_FROM).then(|| gamma_1p(n) / (n * gamma_1p(a) * gamma_1p(b)));
        Self { a, b, norm, ln_norm: -ln_power(n, n, 0.0) }
    }

    /// Logarithm of `x^a (1 - x)^b / B(a, b) / (a b)`.
    fn ln_front(&self, odds: f64) -> f64 {
        let Self { a, b, .. } = *self;
        let n = a + b;
        let excess = (b * odds - a) / (1.0 + odds);
        let (x, y) = (n * (odds / (1.0 + odds)), n / (1.0 + odds));
        ln_power(a, x, excess) + ln_power(b, y, -excess) + self.ln_norm - n.ln()
    }

    fn front(&self, odds: f64) -> f64 {
        match self.norm {
            Some(norm) => (odds / (1.0 + odds)).powf(self.a) * (1.0 + odds).recip().powf(self.b) * norm,
            None => self.ln_front(odds).exp(),
        }
    }

    /// Lower tail at `x = 1 - y` over `b front`, with `excess = a - (a + b) x` given without cancellation.
    ///
    /// DiDonato and Morris (1992, eq. 9), the even part of the continued fraction: the larger shape may be as large as it likes.
    fn fraction(a: f64, b: f64, x: f64, y: f64, excess: f64) -> f64 {
        let nonzero = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
        let (c, c1) = (1.0 + excess, 1.0 + 1.0 / a);
        let (mut p, mut s) = (1.0, a + 1.0);
        let (mut a0, mut b0, mut a1, mut b1) = (0.0, 1.0, 1.0, nonzero(c / c1));
        let mut ratio = a1 / b1;
        for k in 1..MAX_TERMS {
            let k = k as f64;
            let t = k / a;
            let w = k * (b - k) * x;
            let e = a / s;
            let alpha = p * (p + b / a) * e * e * (w * x);
            let beta = k + w / s + (1.0 + t) / (c1 + t + t) * (c + k * (y + 1.0));
            p = 1.0 + t;
            s += 2.0;
            let next_a = alpha * a0 + beta * a1;
            let next_b = nonzero(alpha * b0 + beta * b1);
            let before = ratio;
            ratio = next_a / next_b;
            if (ratio - before).abs() <= 1e-16 * ratio.abs() {
                break;
            }
            (a0, b0, a1, b1) = (a1 / next_b, b1 / next_b, ratio, 1.0);
        }
        a * ratio
    }

    fn lower(&self, odds: f64, p: f64) -> Tail {
        let Self { a, b, .. } = *self;
        let (x, y) = (odds / (1.0 + odds), 1.0 / (1.0 + odds));
        let front = self.front(odds);
        let slope = (a - b * odds) / (1.0 + odds);
        if x > (a + 1.0) / (a + b + 2.0) {
            let tail = 1.0 - a * front * Self::fraction(b, a, y, x, -slope);
            // Near the far end with little mass below, the difference has no digits left: the fraction converges there too, slowly.
            if tail > 0.1 {
                return Tail { ln_ratio: (tail / p).ln(), hazard: a * b * front / tail, slope };
            }
        }
        let fraction = Self::fraction(a, b, x, y, slope);
        Tail { ln_ratio: ln_ratio(front, || self.ln_front(odds), b * fraction, p), hazard: a / fraction, slope }
    }

    /// Logarithm of the odds where the lower tail is `p`, by its leading power: P ~ x^a / (a B(a, b)) where x is small.
    fn ln_power_odds(&self, p: f64) -> f64 {
        let Self { a, b, .. } = *self;
        let ln_ab = match self.norm {
            Some(norm) => -(norm * b).ln(),
            None => -(ln_power(a, a + b, b) + ln_power(b, a + b, a) + self.ln_norm + (b / (a + b)).ln()),
        };
        (p.ln() + ln_ab) / a
    }

    /// Odds at which the lower tail is `p`.
    fn solve(&self, p: f64) -> f64 {
        let Self { a, b, .. } = *self;
        let power = self.ln_power_odds(p).exp();
        if power == 0.0 {
            return 0.0;
        }
        let start = if a > 1.0 && b > 1.0 {
            // Abramowitz and Stegun 26.5.22.
            let z = -normal::quantile(p);
            let lambda = (z * z - 3.0) / 6.0;
            let (ra, rb) = (1.0 / (2.0 * a - 1.0), 1.0 / (2.0 * b - 1.0));
            let h = 2.0 / (ra + rb);
            let w = z * (lambda + h).max(0.0).sqrt() / h - (rb - ra) * (lambda + 5.0 / 6.0 - 2.0 / (3.0 * h));
            power.min(1.0).max(a / b * (-2.0 * w).exp())
        } else {
            power
        };
        halley(start.clamp(f64::MIN_POSITIVE, 1e300), 1.0, |odds| self.lower(odds, p))
    }

    /// Whether the point with lower tail `p` is so near zero that the leading power gives it to a tenth.
    fn is_near_zero(&self, p: f64) -> bool {
        self.ln_power_odds(p).exp() * self.b.max(1.0) < 0.1
    }

    /// Odds at which the lower tail is `u` and the upper one `v`, from the end that the point is near, else from the smaller tail.
    ///
    /// With small shapes more than half of the mass may lie next to one end, and the other tail then has no digits left.
    fn odds(&self, u: f64, v: f64) -> f64 {
        let mirrored = self.mirrored();
        if self.is_near_zero(u) || u <= v && !mirrored.is_near_zero(v) {
            self.solve(u)
        } else {
            1.0 / mirrored.solve(v)
        }
    }

    /// Square root of [`Self::odds`], also where the odds themselves leave the range of f64.
    fn root_odds(&self, u: f64, v: f64) -> f64 {
        let (low, high) = (self.ln_power_odds(u), self.mirrored().ln_power_odds(v));
        match (low < -600.0, high < -600.0) {
            (true, _) => (0.5 * low).exp(),
            (_, true) => (-0.5 * high).exp(),
            _ => self.odds(u, v).sqrt(),
        }
    }

    /// Quantile at `u` in (0, 1).
    pub(crate) fn quantile(&self, u: f64) -> f64 {
        1.0 / (1.0 + 1.0 / self.odds(u, 1.0 - u))
    }

    fn mirrored(&self) -> Self {
        Self { a: self.b, b: self.a, ..self.clone() }
    }
}

/// Student's t distribution with unit scale: `t^2 / nu` is the odds of a beta(1/2, nu/2) variable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StudentT {
    Cauchy,
    Two,
    General {
        root_nu: f64,
        beta: Beta,
    },
    /// So many degrees of freedom that f64 cannot tell it from the normal distribution.
    Normal,
}

impl StudentT {
    pub(crate) fn new(nu: f64) -> Self {
        match nu {
            1.0 => Self::Cauchy,
            2.0 => Self::Two,
            nu if nu > 1e19 => Self::Normal,
            nu => Self::General { root_nu: nu.sqrt(), beta: Beta::new(0.5, 0.5 * nu) },
        }
    }

    /// Quantile at `u` in (0, 1).
    pub(crate) fn quantile(&self, u: f64) -> f64 {
        let (p, sign) = if u <= 0.5 { (u, -1.0) } else { (1.0 - u, 1.0) };
        match self {
            Self::Cauchy => cauchy(u),
            Self::Two => sign * (1.0 - 2.0 * p) / (2.0 * p * (1.0 - p)).sqrt(),
            Self::Normal => normal::quantile(u),
            Self::General { .. } if p == 0.5 => 0.0,
            // |t| has both tails, 2 p, above it; what is below is exact from p = 1/4, where it is the smaller of the two.
            Self::General { root_nu, beta } => sign * root_nu * beta.root_odds(1.0 - 2.0 * p, 2.0 * p),
        }
    }
}

/// Standard Cauchy quantile: the tangent near the centre, its reciprocal in the tails.
pub(crate) fn cauchy(u: f64) -> f64 {
    if u < 0.25 {
        -1.0 / (PI * u).tan()
    } else if u <= 0.75 {
        (PI * (u - 0.5)).tan()
    } else {
        1.0 / (PI * (1.0 - u)).tan()
    }
}
