//! The velocities of 51 Pegasi, priors and likelihoods: at most one planet, two instruments.

use std::f64::consts::TAU;
use std::sync::Arc;

use livepoint::testing::kepler::Orbit;
use livepoint::{Likelihood, Prior, WgslLikelihood};
use ndarray::{ArrayView2, ArrayViewMut2};

/// Times are counted from here, in f64, before anything else is done with them. At this epoch, which the precise HARPS season dominates,
/// the errors of period and phase are nearly uncorrelated. \[BJD\]
const REFERENCE_EPOCH: f64 = 2_456_300.0;

/// Mass of 51 Pegasi in solar masses (Martins et al. 2015, A&A 576, A134, who take it from Santos et al. 2013).
const STELLAR_MASS: f64 = 1.04;

/// Semi-amplitude that a planet of one Jupiter mass on a circular orbit of one year gives a star of one solar mass, seen edge on
/// (Lovis & Fischer 2010, in "Exoplanets", eq. 14). \[m/s\]
const JUPITER_YEAR_AMPLITUDE: f64 = 28.4329;

const DAYS_PER_YEAR: f64 = 365.25;

/// Prior of the orbit: a period over the asked range, semi-amplitudes up to those of a few Jupiter masses, eccentricities that
/// favour round orbits, and angles that have no walls.
pub fn orbit(period: std::ops::Range<f64>) -> Prior {
    Prior::new()
        .log_uniform("period", period)
        .uniform("k", 0.0..200.0)
        .truncated_normal("e", 0.0, 0.3, 0.0..0.95)
        .periodic("omega", 0.0..TAU)
        .periodic("phase", 0.0..TAU)
}

/// Adds what both models share: each instrument's offset from its median velocity and the noise that its errors leave out.
pub fn noise(prior: Prior) -> Prior {
    prior
        .uniform("offset_elodie", -100.0..100.0)
        .log_uniform("jitter_elodie", 0.1..100.0)
        .uniform("offset_harps", -100.0..100.0)
        .log_uniform("jitter_harps", 0.1..100.0)
}

/// The likelihood of [`noise`] alone.
pub fn no_planet(data: &Arc<Data>) -> Likelihood {
    let twin = data.clone();
    data.on_device(include_str!("no_planet.wgsl"))
        .twin(Likelihood::batch(move |theta: ArrayView2<f64>| -> Vec<f64> {
            theta.rows().into_iter().map(|x| twin.log_l(None, [x[0], x[1], x[2], x[3]])).collect()
        }))
        .into()
}

/// The likelihood of [`orbit`] and [`noise`], with the planet's minimum mass in Jupiter masses as derived value.
pub fn one_planet(data: &Arc<Data>) -> Likelihood {
    let (twin, names) = (data.clone(), ["minimum_mass"]);
    let of_unit_pull = Planet { period: 1.0, k: 1.0, e: 0.0, omega: 0.0, phase: 0.0 };
    data.on_device(include_str!("one_planet.wgsl"))
        .constant("MASS_OF_UNIT_PULL", of_unit_pull.minimum_mass())
        .derived(names)
        .twin(Likelihood::batch_derived(
            names,
            move |theta: ArrayView2<f64>, mut derived: ArrayViewMut2<f64>| -> Vec<f64> {
                theta
                    .rows()
                    .into_iter()
                    .zip(derived.rows_mut())
                    .map(|(x, mut derived)| {
                        let planet = Planet { period: x[0], k: x[1], e: x[2], omega: x[3], phase: x[4] };
                        derived[0] = planet.minimum_mass();
                        twin.log_l(Some(planet), [x[5], x[6], x[7], x[8]])
                    })
                    .collect()
            },
        ))
        .into()
}

/// One measurement: days since the epoch, m/s about the instrument's median, and the square of the error.
struct Velocity {
    time: f64,
    velocity: f64,
    variance: f64,
}

/// The measurements of one spectrograph.
struct Instrument(Vec<Velocity>);

/// What one planet does to the star.
#[derive(Debug, Clone, Copy)]
pub struct Planet {
    /// Period \[d\].
    pub period: f64,
    /// Semi-amplitude \[m/s\].
    pub k: f64,
    pub e: f64,
    /// Argument of periastron.
    pub omega: f64,
    /// Mean anomaly at the epoch plus `omega`: known well even when the orbit is round and the two alone are not.
    pub phase: f64,
}

impl Planet {
    /// Velocity of the star \[m/s\] `time` days after the epoch.
    #[cfg(test)]
    fn velocity(&self, time: f64) -> f64 {
        Orbit::new(self.k, self.e, self.omega).velocity(TAU * time / self.period + self.phase - self.omega)
    }

    /// Minimum mass `m sin i` in Jupiter masses, for a planet much lighter than its star.
    pub fn minimum_mass(&self) -> f64 {
        self.k / JUPITER_YEAR_AMPLITUDE
            * (1.0 - self.e * self.e).sqrt()
            * STELLAR_MASS.powf(2.0 / 3.0)
            * (self.period / DAYS_PER_YEAR).cbrt()
    }
}

/// Both instruments.
pub struct Data {
    elodie: Instrument,
    harps: Instrument,
}

impl Data {
    /// The data that come with the example.
    pub fn of_51_pegasi() -> Self {
        Self {
            elodie: Instrument::parse(include_str!("../data/51peg_elodie.dat")),
            harps: Instrument::parse(include_str!("../data/51peg_harps.dat")),
        }
    }

    /// A likelihood in WGSL with both instruments in one table. A time is the nearest f32 and the rest: one f32 is up to 20 s off.
    fn on_device(&self, text: &str) -> WgslLikelihood {
        let rows = || self.elodie.0.iter().map(|row| (0.0, row)).chain(self.harps.0.iter().map(|row| (1.0, row)));
        let column = |value: fn((f64, &Velocity)) -> f64| rows().map(value).collect::<Vec<f64>>();
        Likelihood::wgsl(text).table(
            "velocities",
            [
                ("instrument", column(|(instrument, _)| instrument)),
                ("time", column(|(_, row)| f64::from(row.time as f32))),
                ("time_rest", column(|(_, row)| row.time - f64::from(row.time as f32))),
                ("velocity", column(|(_, row)| row.velocity)),
                ("variance", column(|(_, row)| row.variance)),
            ],
        )
    }

    /// Log-likelihood; `noise` holds offset and jitter of ELODIE, then of HARPS \[m/s\].
    pub fn log_l(&self, planet: Option<Planet>, noise: [f64; 4]) -> f64 {
        self.elodie.log_l(planet, noise[0], noise[1]) + self.harps.log_l(planet, noise[2], noise[3])
    }
}

impl Instrument {
    /// Reads `time velocity error` lines; the text is part of the program, so a bad line is a mistake of ours.
    fn parse(text: &str) -> Self {
        let mut rows: Vec<Velocity> = text
            .lines()
            .map(|line| {
                let numbers: Vec<f64> = line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
                let [time, velocity, error] = numbers[..] else { panic!("expected three numbers in `{line}`") };
                Velocity { time: time - REFERENCE_EPOCH, velocity, variance: error * error }
            })
            .collect();
        let mut sorted: Vec<f64> = rows.iter().map(|row| row.velocity).collect();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        rows.iter_mut().for_each(|row| row.velocity -= median);
        Self(rows)
    }

    /// Independent Gaussian errors, the jitter added in quadrature.
    fn log_l(&self, planet: Option<Planet>, offset: f64, jitter: f64) -> f64 {
        let star = planet.map(|planet| {
            let orbit = Orbit::new(planet.k, planet.e, planet.omega);
            let (rate, start) = (TAU / planet.period, planet.phase - planet.omega);
            move |time: f64| orbit.velocity(rate * time + start)
        });
        let sum: f64 = self
            .0
            .iter()
            .map(|row| {
                let variance = row.variance + jitter * jitter;
                let model = offset + star.as_ref().map_or(0.0, |velocity| velocity(row.time));
                (row.velocity - model).powi(2) / variance + (TAU * variance).ln()
            })
            .sum();
        -0.5 * sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEST_PHASE: f64 = 5.5635;
    const PLANET: Planet = Planet { period: 4.230_786, k: 57.0, e: 0.3, omega: 0.8, phase: 2.5 };

    #[test]
    fn data_are_centred_and_complete() {
        let data = Data::of_51_pegasi();
        assert_eq!((data.elodie.0.len(), data.harps.0.len()), (153, 91));
        for row in data.elodie.0.iter().chain(&data.harps.0) {
            assert!(row.time.abs() < 7000.0 && row.velocity.abs() < 150.0 && row.variance > 0.0);
        }
    }

    /// Kepler's equation by bisection and the true anomaly by its half-angle formula.
    #[test]
    fn velocity_matches_a_brute_force_orbit() {
        let Planet { period, k, e, omega, phase } = PLANET;
        for i in 0..200 {
            let time = -6000.0 + 31.7 * f64::from(i);
            let mean_anomaly = TAU * time / period + phase - omega;
            let (mut low, mut high) = (mean_anomaly - 1.0, mean_anomaly + 1.0);
            for _ in 0..60 {
                let middle = 0.5 * (low + high);
                if middle - e * middle.sin() < mean_anomaly { low = middle } else { high = middle }
            }
            let nu = 2.0 * (((1.0 + e) / (1.0 - e)).sqrt() * (0.5 * low).tan()).atan();
            let expected = k * ((nu + omega).cos() + e * omega.cos());
            assert!((PLANET.velocity(time) - expected).abs() < 1e-8, "time {time}");
        }
    }

    #[test]
    fn log_likelihood_is_a_sum_of_normal_densities() {
        use statrs::distribution::{Continuous, Normal};
        let data = Data::of_51_pegasi();
        let (offset, jitter) = (3.0, 5.0);
        let expected: f64 = data
            .harps
            .0
            .iter()
            .map(|row| {
                let normal = Normal::new(offset + PLANET.velocity(row.time), (row.variance + jitter * jitter).sqrt());
                normal.unwrap().ln_pdf(row.velocity)
            })
            .sum();
        let got = data.harps.log_l(Some(PLANET), offset, jitter);
        assert!((got - expected).abs() < 1e-9 * expected.abs(), "{got} against {expected}");
    }

    #[test]
    fn no_planet_is_a_planet_that_does_not_pull() {
        let data = Data::of_51_pegasi();
        let noise = [1.0, 10.0, -2.0, 2.0];
        let still = Planet { k: 0.0, ..PLANET };
        assert!((data.log_l(Some(still), noise) - data.log_l(None, noise)).abs() < 1e-9);
    }

    /// A least-squares fit elsewhere puts the planet here; half a cycle off it must be far worse than no planet.
    #[test]
    fn the_planet_is_where_it_was_found() {
        let data = Data::of_51_pegasi();
        let noise = [0.3, 8.5, 13.0, 1.2];
        let found = Planet { period: 4.230_786_6, k: 56.95, e: 0.0, omega: 0.0, phase: BEST_PHASE };
        let without = data.log_l(None, [0.0, 41.0, 5.0, 17.0]);
        assert!(data.log_l(Some(found), noise) > without + 300.0);
        assert!(data.log_l(Some(Planet { phase: BEST_PHASE + 0.5 * TAU, ..found }), noise) < without - 300.0);
        assert!((found.minimum_mass() - 0.46).abs() < 0.01, "{}", found.minimum_mass());
    }
}
