//! HD 164922: measured radial velocities, one planet, seven parameters.

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

use super::densities::LN_TAU;
use super::kepler::Orbit;
use super::problems::{Axis, Problem, shader};
use crate::WgslLikelihood;

/// How to get the data of [`rv7`], in one sentence.
pub const RV7_HELP: &str = "the velocities of HD 164922 come with the Python package radvel 1.6.7 (MIT): after `pip install radvel==1.6.7` \
                            they lie in radvel_example_data/164922_fixed.txt under Python's sys.prefix";

/// Why the data of [`rv7`] could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Rv7Error {
    /// The file could not be read.
    #[error("cannot read the radial velocities of problem rv7 from {}: {reason}; {RV7_HELP}", .path.display())]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// The system's own words.
        reason: std::io::Error,
    },
    /// A line of the file is not `time velocity error telescope ...`.
    #[error("{}, line {line}: expected `time velocity error telescope`, found `{found}`; {RV7_HELP}", .path.display())]
    Parse {
        /// The file asked for.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What stands there.
        found: String,
    },
    /// The file holds no rows of the telescope `j` (HIRES after its upgrade).
    #[error("{} holds no velocity of telescope `j` (HIRES); {RV7_HELP}", .path.display())]
    Empty {
        /// The file asked for.
        path: PathBuf,
    },
}

/// Problem `rv7`, from a copy of the data file, which this crate does not carry (see [`RV7_HELP`]).
///
/// The evidence was computed by importance sampling. Both angles have walls at 0 and tau, as the reference had: a small cluster of
/// the posterior is cut in two by one of them.
pub fn rv7(path: impl AsRef<Path>) -> Result<Problem, Rv7Error> {
    let velocities = Velocities::read(path.as_ref())?;
    let axes = vec![
        ("period", Axis::LogUniform(20.0, 5000.0)),
        ("k", Axis::Uniform(0.0, 30.0)),
        ("e", Axis::Uniform(0.0, 0.9)),
        ("omega", Axis::Uniform(0.0, TAU)),
        ("mean_anomaly", Axis::Uniform(0.0, TAU)),
        ("offset", Axis::Uniform(-20.0, 20.0)),
        ("jitter", Axis::LogUniform(0.1, 20.0)),
    ];
    let axes = axes.into_iter().map(|(name, axis)| (name.to_owned(), axis)).collect();
    let (description, wgsl) = ("HD 164922 HIRES velocities: one Keplerian, offset and jitter", velocities.wgsl());
    Ok(Problem::new("rv7", description, axes, move |x| velocities.log_l(x), wgsl).with_truth(-748.4165, 0.0015))
}

/// Velocities about their median, at times about their mean.
struct Velocities {
    rows: Vec<Row>,
}

struct Row {
    time: f64,
    velocity: f64,
    variance: f64,
}

impl Velocities {
    fn read(path: &Path) -> Result<Self, Rv7Error> {
        let text = std::fs::read_to_string(path).map_err(|reason| Rv7Error::Read { path: path.to_owned(), reason })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Rv7Error> {
        let mut rows = Vec::new();
        for (index, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |i: usize| words.get(i).and_then(|word| word.parse::<f64>().ok());
            let (Some(time), Some(velocity), Some(error), Some(&telescope)) =
                (number(0), number(1), number(2), words.get(3))
            else {
                return Err(Rv7Error::Parse { path: path.to_owned(), line: index + 1, found: line.to_owned() });
            };
            if telescope == "j" {
                rows.push(Row { time, velocity, variance: error * error });
            }
        }
        if rows.is_empty() {
            return Err(Rv7Error::Empty { path: path.to_owned() });
        }
        let mean = rows.iter().map(|row| row.time).sum::<f64>() / rows.len() as f64;
        let mut sorted: Vec<f64> = rows.iter().map(|row| row.velocity).collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { 0.5 * (sorted[middle - 1] + sorted[middle]) };
        for row in &mut rows {
            row.time -= mean;
            row.velocity -= median;
        }
        Ok(Self { rows })
    }

    /// [`log_l`](Self::log_l) for a device. Times come as the nearest f32 and the rest: one alone is ten seconds off.
    fn wgsl(&self) -> WgslLikelihood {
        let column = |value: fn(&Row) -> f64| self.rows.iter().map(value).collect::<Vec<f64>>();
        shader!("rv7").table(
            "velocities",
            [
                ("time", column(|row| f64::from(row.time as f32))),
                ("time_rest", column(|row| row.time - f64::from(row.time as f32))),
                ("velocity", column(|row| row.velocity)),
                ("variance", column(|row| row.variance)),
            ],
        )
    }

    /// `x = (period [d], k [m/s], e, omega, mean anomaly at the mean time, offset [m/s], jitter [m/s])`.
    fn log_l(&self, x: &[f64]) -> f64 {
        // The logarithm of a product of 16 variances is cheaper than 16 logarithms and far from overflow.
        const GROUP: usize = 16;
        let &[period, k, e, omega, mean_anomaly, offset, jitter] = x else { return f64::NAN };
        let orbit = Orbit::new(k, e, omega);
        let rate = TAU / period;
        let jitter2 = jitter * jitter;
        let (mut chi2, mut log_det) = (0.0, 0.0);
        for group in self.rows.chunks(GROUP) {
            let mut product = 1.0;
            for row in group {
                let variance = row.variance + jitter2;
                let residual = row.velocity - offset - orbit.velocity(rate * row.time + mean_anomaly);
                chi2 += residual * residual / variance;
                product *= variance;
            }
            log_det += product.ln();
        }
        -0.5 * (chi2 + log_det + self.rows.len() as f64 * LN_TAU)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "time mnvel errvel tel svalue\n2450275.97 10.9 1.14 k x\n2453000.25 3.5 1.2 j x\n2453100.75 -7.25 0.9 j x\n\
                        2454000.5 1.0 1.6 j x\n2455123.125 5.75 2.1 j x\n";

    const REFERENCE: [([f64; 7], f64); 3] = [
        ([25.5, 3.25, 0.1, 1.0, 2.0, -1.5, 0.5], -45.41901434780658),
        ([1200.0, 7.5, 0.85, 4.5, 5.75, 3.0, 2.5], -28.49879599709751),
        ([77.7, 22.0, 0.0, 0.25, 3.5, 0.5, 11.0], -17.79499837686957),
    ];

    #[test]
    fn matches_the_reference_implementation() {
        let data = Velocities::parse(TEXT, Path::new("text")).unwrap();
        // Values of an independent Python implementation (Halley's iteration) on the same four rows.
        for (x, expected) in REFERENCE {
            let got = data.log_l(&x);
            assert!((got - expected).abs() < 1e-9, "{got} against {expected}");
        }
    }

    #[test]
    fn bad_files_are_named() {
        let path = Path::new("somewhere.txt");
        let message = |text: &str| Velocities::parse(text, path).err().unwrap().to_string();
        assert!(message("header\n1 2 3 j\n1 2 x j\n").contains("somewhere.txt, line 3"));
        assert!(message("header\n1 2 3 k\n").contains("no velocity of telescope `j`"));
        let missing = rv7("no/such/file").err().unwrap().to_string();
        assert!(missing.contains("no/such/file") && missing.contains("pip install radvel"), "{missing}");
    }
}
