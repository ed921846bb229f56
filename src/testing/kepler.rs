//! Kepler's equation and the line-of-sight velocity of a star that one planet pulls.

use std::f64::consts::{PI, TAU};

/// Largest eccentricity for which [`Orbit`] promises its accuracy.
pub const MAX_ECCENTRICITY: f64 = 0.99;

/// One Keplerian orbit, with everything that does not depend on time worked out beforehand.
#[derive(Debug, Clone, Copy)]
pub struct Orbit {
    k: f64,
    e: f64,
    root: f64,
    sin_omega: f64,
    cos_omega: f64,
}

impl Orbit {
    /// An orbit of semi-amplitude `k`, eccentricity `0 <= e <= MAX_ECCENTRICITY` and argument of periastron `omega` \[rad\].
    #[inline]
    pub fn new(k: f64, e: f64, omega: f64) -> Self {
        let (sin_omega, cos_omega) = omega.sin_cos();
        Self { k, e, root: (1.0 - e * e).sqrt(), sin_omega, cos_omega }
    }

    /// Velocity along the line of sight at a mean anomaly \[rad, any revolution\], in the unit of `k`:
    /// `k (cos(nu + omega) + e cos(omega))` with the true anomaly `nu`.
    #[inline]
    pub fn velocity(&self, mean_anomaly: f64) -> f64 {
        let (sin_e, cos_e) = eccentric_anomaly(mean_anomaly, self.e);
        let r = 1.0 - self.e * cos_e;
        let cos_nu = (cos_e - self.e) / r;
        let sin_nu = self.root * sin_e / r;
        self.k * (cos_nu * self.cos_omega - sin_nu * self.sin_omega + self.e * self.cos_omega)
    }
}

/// `(sin E, cos E)` of the eccentric anomaly that solves `E - e sin E = M`.
///
/// Markley's solver (1995, Celestial Mechanics 63, 101): the root of a cubic, then one correction of fifth order. There is no loop, so every
/// call costs the same, and the sine and cosine of the corrected angle come from a series because the correction is small.
#[inline]
pub fn eccentric_anomaly(mean_anomaly: f64, e: f64) -> (f64, f64) {
    let m = mean_anomaly - TAU * (mean_anomaly / TAU + 0.5).floor();
    let alpha = (3.0 * PI * PI + 1.6 * PI * (PI - m.abs()) / (1.0 + e)) / (PI * PI - 6.0);
    let d = 3.0 * (1.0 - e) + alpha * e;
    let q = 2.0 * alpha * d * (1.0 - e) - m * m;
    let r = (3.0 * alpha * d * (d - 1.0 + e) + m * m) * m;
    let w = (r.abs() + (q * q * q + r * r).sqrt()).cbrt();
    let w = w * w;
    let start = (2.0 * r * w / (w * w + w * q + q * q) + m) / d;

    let (sin, cos) = start.sin_cos();
    let f0 = start - e * sin - m;
    let f1 = 1.0 - e * cos;
    let f2 = e * sin;
    let f3 = e * cos;
    let third = -f0 / (f1 - 0.5 * f0 * f2 / f1);
    let fourth = -f0 / (f1 + 0.5 * third * (f2 + third * f3 / 3.0));
    let delta = -f0 / (f1 + fourth * (0.5 * f2 + fourth * (f3 / 6.0 - fourth * f2 / 24.0)));

    let d2 = delta * delta;
    let sin_delta = delta * (1.0 - d2 / 6.0 * (1.0 - d2 / 20.0));
    let cos_delta = 1.0 - d2 / 2.0 * (1.0 - d2 / 12.0 * (1.0 - d2 / 30.0));
    (sin * cos_delta + cos * sin_delta, cos * cos_delta - sin * sin_delta)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bisection: slow, and beyond doubt. E - M never exceeds e.
    fn bisect(m: f64, e: f64) -> f64 {
        let (mut low, mut high) = (m - 1.0, m + 1.0);
        for _ in 0..80 {
            let mid = 0.5 * (low + high);
            if mid - e * mid.sin() < m { low = mid } else { high = mid }
        }
        0.5 * (low + high)
    }

    #[test]
    fn solves_keplers_equation_everywhere() {
        for e in [0.0, 1e-6, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, MAX_ECCENTRICITY] {
            for i in -400..=400 {
                let m = f64::from(i) * 0.05;
                let (sin, cos) = eccentric_anomaly(m, e);
                let exact = bisect(m, e);
                // Near periastron of a thin orbit E loses digits by 1 / (1 - e), in the bisection too.
                let tolerance = 4e-15 * (1.0 + m.abs()) / (1.0 - e);
                assert!((sin - exact.sin()).abs() < tolerance, "M {m} e {e}: sin {sin} against {}", exact.sin());
                assert!((cos - exact.cos()).abs() < tolerance, "M {m} e {e}: cos {cos} against {}", exact.cos());
            }
        }
    }

    /// The planet's path by a fourth-order Runge-Kutta integration of Newton's law, unit semi-major axis and period tau:
    /// it knows nothing of anomalies.
    #[test]
    fn velocity_follows_newtons_law() {
        let (k, e, omega) = (12.0, 0.6_f64, 1.1_f64);
        let acceleration = |x: f64, y: f64| {
            let r3 = (x * x + y * y).powf(1.5);
            (-x / r3, -y / r3)
        };
        let derivative = |s: [f64; 4]| {
            let (ax, ay) = acceleration(s[0], s[1]);
            [s[2], s[3], ax, ay]
        };
        let add = |s: [f64; 4], d: [f64; 4], h: f64| std::array::from_fn(|i| s[i] + h * d[i]);
        let steps = 20_000;
        let h = TAU / f64::from(steps);
        let mut state = [1.0 - e, 0.0, 0.0, ((1.0 + e) / (1.0 - e)).sqrt()];
        let orbit = Orbit::new(k, e, omega);
        for step in 0..steps {
            if step % 500 == 0 {
                let along = state[2] * omega.sin() + state[3] * omega.cos();
                let expected = k * (1.0 - e * e).sqrt() * along;
                let got = orbit.velocity(h * f64::from(step));
                assert!((got - expected).abs() < 1e-8, "step {step}: {got} against {expected}");
            }
            let k1 = derivative(state);
            let k2 = derivative(add(state, k1, 0.5 * h));
            let k3 = derivative(add(state, k2, 0.5 * h));
            let k4 = derivative(add(state, k3, h));
            state = std::array::from_fn(|i| state[i] + h / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]));
        }
    }
}
