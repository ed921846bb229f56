//! The list of problems: name, prior, likelihood and true log Z of each.

use std::f64::consts::PI;
use std::fmt;
use std::sync::Arc;

use ndarray::ArrayView2;

use super::densities::{self, Gaussian, LN_TAU, log_add_exp, log_spaced_sigma};
use crate::{Likelihood, Prior, WgslLikelihood};

/// Log-likelihood of one point.
type LogL = Arc<dyn Fn(&[f64]) -> f64 + Send + Sync>;

/// The likelihood in a file of `shaders/problems/`.
macro_rules! shader {
    ($name:literal) => {
        crate::Likelihood::wgsl(include_str!(concat!("../../shaders/problems/", $name, ".wgsl")))
    };
}
pub(super) use shader;

/// The prior of one parameter, as far as the problems need it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Axis {
    Uniform(f64, f64),
    LogUniform(f64, f64),
    Periodic(f64, f64),
    Normal(f64, f64),
    HalfCauchy(f64),
}

/// A prior and a likelihood whose evidence is known without sampling.
#[derive(Clone)]
pub struct Problem {
    /// What [`problem`] finds it by.
    pub name: &'static str,
    /// Number of parameters, all of them sampled.
    pub n_dim: usize,
    /// True log Z.
    pub log_z_truth: Option<f64>,
    /// One standard deviation of `log_z_truth`: 0 for a formula, the accuracy of a quadrature, the error of a long run.
    pub log_z_truth_error: f64,
    /// One sentence.
    pub description: &'static str,
    axes: Vec<(String, Axis)>,
    log_l: LogL,
    wgsl: WgslLikelihood,
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Problem({}, n_dim {}, log Z {:?})", self.name, self.n_dim, self.log_z_truth)
    }
}

impl Problem {
    pub(super) fn new(
        name: &'static str,
        description: &'static str,
        axes: Vec<(String, Axis)>,
        log_l: impl Fn(&[f64]) -> f64 + Send + Sync + 'static,
        wgsl: WgslLikelihood,
    ) -> Self {
        let (n_dim, log_l) = (axes.len(), Arc::new(log_l));
        Self { name, n_dim, log_z_truth: None, log_z_truth_error: 0.0, description, axes, log_l, wgsl }
    }

    pub(super) fn with_truth(mut self, log_z: f64, error: f64) -> Self {
        self.log_z_truth = Some(log_z);
        self.log_z_truth_error = error;
        self
    }

    /// The prior: `n_dim` parameters, named `x1, x2, ...` where the problem gives them no better names.
    pub fn prior(&self) -> Prior {
        self.axes.iter().fold(Prior::new(), |prior, (name, axis)| match *axis {
            Axis::Uniform(low, high) => prior.uniform(name, low..high),
            Axis::LogUniform(low, high) => prior.log_uniform(name, low..high),
            Axis::Periodic(low, high) => prior.periodic(name, low..high),
            Axis::Normal(mean, sd) => prior.normal(name, mean, sd),
            Axis::HalfCauchy(scale) => prior.half_cauchy(name, scale),
        })
    }

    /// The likelihood: WGSL for a device, and its twin for the CPU, a batch function `[n_points, n_dim]` to `[n_points]`.
    pub fn likelihood(&self) -> Likelihood {
        let log_l = self.log_l.clone();
        let twin = Likelihood::batch(move |theta: ArrayView2<f64>| log_l_rows(&*log_l, theta));
        self.wgsl.clone().twin(twin).into()
    }

    /// Log-likelihood of one point `[n_dim]`.
    pub fn log_l(&self, x: &[f64]) -> f64 {
        (self.log_l)(x)
    }

    #[cfg(test)]
    pub(super) fn axes(&self) -> Vec<Axis> {
        self.axes.iter().map(|(_, axis)| *axis).collect()
    }
}

/// Log-likelihood of every row; rows that already lie one after the other are read in place.
fn log_l_rows(log_l: &dyn Fn(&[f64]) -> f64, theta: ArrayView2<f64>) -> Vec<f64> {
    match theta.as_slice() {
        Some(values) if theta.ncols() > 0 => values.chunks_exact(theta.ncols()).map(log_l).collect(),
        _ => theta.rows().into_iter().map(|row| log_l(&row.to_vec())).collect(),
    }
}

/// The problem of that name, or nothing. `constant` is `constant2`; `rv7` needs a file and has a function of its own, [`rv7`](super::rv7()).
pub fn problem(name: &str) -> Option<Problem> {
    let name = if name == "constant" { "constant2" } else { name };
    all().into_iter().find(|problem| problem.name == name)
}

/// Every problem that needs no data of others.
pub fn all() -> Vec<Problem> {
    vec![
        gauss1(),
        gauss("gauss3", "a round Gaussian, sigma 0.1", vec![0.1; 3], -1.719_909_924e-6),
        gauss10corr(),
        gauss("gauss20", "a Gaussian, sigma from 0.01 to 0.1", log_spaced_sigma(20), -5.900_874_111e-7),
        gauss("gauss30", "a Gaussian, sigma from 0.01 to 0.1", log_spaced_sigma(30), -6.400_609_419e-7),
        rosenbrock("rosen2", 2, -5.804_132_363_794),
        rosenbrock("rosen10", 10, -43.108_355_214_654),
        boxed("eggbox2", "18 equal peaks", 2, 0.0..10.0 * PI, densities::eggbox, shader!("eggbox"))
            .with_truth(235.855_940_332_254, 1e-9),
        shells("shells2", 2, -1.745_641_872_047),
        shells("shells5", 5, -5.673_601_236_200),
        log_gamma("loggamma2", 2, -2.270_073_784e-5),
        log_gamma("loggamma10", 10, -2.270_898_245e-5),
        funnel10(),
        spikeslab5(),
        plateau(),
        constant("constant1", 1),
        constant("constant2", 2),
        constant("constant5", 5),
        conjugate(),
        corners(),
        eight_schools(),
    ]
}

/// The same axis for every parameter, named `x1, x2, ...`.
fn same_axes(n_dim: usize, axis: Axis) -> Vec<(String, Axis)> {
    (1..=n_dim).map(|i| (format!("x{i}"), axis)).collect()
}

fn boxed(
    name: &'static str,
    description: &'static str,
    n_dim: usize,
    range: std::ops::Range<f64>,
    log_l: impl Fn(&[f64]) -> f64 + Send + Sync + 'static,
    wgsl: WgslLikelihood,
) -> Problem {
    Problem::new(name, description, same_axes(n_dim, Axis::Uniform(range.start, range.end)), log_l, wgsl)
}

fn cube(
    name: &'static str,
    description: &'static str,
    n_dim: usize,
    log_l: impl Fn(&[f64]) -> f64 + Send + Sync + 'static,
    wgsl: WgslLikelihood,
) -> Problem {
    boxed(name, description, n_dim, 0.0..1.0, log_l, wgsl)
}

fn gaussian(name: &'static str, description: &'static str, centre: f64, sigma: &[f64]) -> Problem {
    let gaussian = Gaussian::new(centre, sigma);
    let wgsl =
        shader!("gauss").data("sigma", sigma).constant("CENTRE", centre).constant("LOG_NORM", gaussian.log_norm());
    cube(name, description, sigma.len(), move |x| gaussian.log_l(x), wgsl)
}

fn gauss(name: &'static str, description: &'static str, sigma: Vec<f64>, log_z: f64) -> Problem {
    gaussian(name, description, 0.5, &sigma).with_truth(log_z, 0.0)
}

fn gauss1() -> Problem {
    gaussian("gauss1", "a narrow Gaussian in one dimension", 0.3, &[0.02]).with_truth(0.0, 0.0)
}

fn gauss10corr() -> Problem {
    use densities::{PAIR_RHO, PAIR_SIGMA, gauss_pairs};
    let wgsl = shader!("gauss_pairs")
        .constant("SIGMA", PAIR_SIGMA)
        .constant("RHO", PAIR_RHO)
        .constant("LOG_NORM", gauss_pairs(&[0.5; 10]));
    cube("gauss10corr", "five pairs of a Gaussian, sigma 0.05, correlation 0.95", 10, gauss_pairs, wgsl)
        .with_truth(0.0, 0.0)
}

fn rosenbrock(name: &'static str, n_dim: usize, log_z: f64) -> Problem {
    boxed(name, "a thin curved valley", n_dim, -5.0..5.0, densities::rosenbrock, shader!("rosenbrock"))
        .with_truth(log_z, 1e-9)
}

fn shells(name: &'static str, n_dim: usize, log_z: f64) -> Problem {
    use densities::{SHELL_CENTRE, SHELL_RADIUS, SHELL_WIDTH};
    let wgsl = shader!("shells")
        .constant("CENTRE", SHELL_CENTRE)
        .constant("RADIUS", SHELL_RADIUS)
        .constant("WIDTH", SHELL_WIDTH);
    boxed(name, "two thin shells", n_dim, -6.0..6.0, densities::shells, wgsl).with_truth(log_z, 1e-7)
}

fn log_gamma(name: &'static str, n_dim: usize, log_z: f64) -> Problem {
    let wgsl = shader!("log_gamma").constant("N_SKEWED", densities::n_skewed(n_dim) as f64);
    cube(name, "four skewed peaks with heavy tails", n_dim, densities::log_gamma, wgsl).with_truth(log_z, 0.0)
}

fn funnel10() -> Problem {
    let mut axes = same_axes(10, Axis::Uniform(-30.0, 30.0));
    axes[0] = ("v".to_owned(), Axis::Uniform(-9.0, 9.0));
    let wgsl = shader!("funnel").constant("LN_TAU", LN_TAU);
    Problem::new("funnel10", "Neal's funnel: the scale of nine axes is the tenth", axes, densities::funnel, wgsl)
        .with_truth(-39.773_070_794_622, 1e-9)
}

fn spikeslab5() -> Problem {
    let slab = Gaussian::new(0.5, &[0.1; 5]);
    let spike = Gaussian::new(0.6, &[0.01; 5]);
    let log_l = move |x: &[f64]| 0.5f64.ln() + log_add_exp(slab.log_l(x), spike.log_l(x));
    let description = "half the evidence in a spike with 1e-5 of the slab's volume";
    cube("spikeslab5", description, 5, log_l, shader!("spikeslab")).with_truth(-1.433_257_243e-6, 0.0)
}

fn plateau() -> Problem {
    let description = "L = x1 - 0.9 above 0.9, zero on nine tenths of the prior";
    cube("plateau", description, 2, densities::plateau, shader!("plateau")).with_truth(-5.298_317_366_548, 0.0)
}

fn constant(name: &'static str, n_dim: usize) -> Problem {
    cube(name, "L = 1: one plateau", n_dim, |_| 0.0, shader!("constant")).with_truth(0.0, 0.0)
}

fn conjugate() -> Problem {
    let axes = same_axes(10, Axis::Normal(0.0, 1.0));
    let description = "normal prior, normal likelihood of half its width";
    Problem::new("conjugate", description, axes, densities::conjugate, shader!("conjugate"))
        .with_truth(-8.047_189_562_171, 0.0)
}

fn corners() -> Problem {
    let axes = same_axes(2, Axis::Periodic(0.0, 1.0));
    let description = "one Gaussian cut into four by a periodic prior";
    Problem::new("corners", description, axes, densities::corners, shader!("corners")).with_truth(0.0, 0.0)
}

fn eight_schools() -> Problem {
    let mut axes = vec![("mu".to_owned(), Axis::Normal(0.0, 5.0)), ("tau".to_owned(), Axis::HalfCauchy(5.0))];
    axes.extend((1..=8).map(|i| (format!("z{i}"), Axis::Normal(0.0, 1.0))));
    let (effect, error): (Vec<f64>, Vec<f64>) = densities::SCHOOLS.into_iter().unzip();
    let wgsl = shader!("eight_schools").table("schools", [("effect", effect), ("error", error)]);
    Problem::new("eight_schools", "effects mu + tau z of eight schools", axes, densities::eight_schools, wgsl)
        .with_truth(-31.311_347_352_293, 1e-9)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Axis as Dimension, s};

    use super::*;

    #[test]
    fn rows_of_any_layout_give_the_same_log_l() {
        let log_l = |x: &[f64]| x[0] + 10.0 * x[1] + 100.0 * x[2];
        let wide = Array2::from_shape_fn((5, 6), |(i, j)| (i * 6 + j) as f64);
        let expected: Vec<f64> = wide.rows().into_iter().map(|row| log_l(&[row[0], row[2], row[4]])).collect();
        let strided = wide.slice(s![.., ..;2]);
        assert_eq!(log_l_rows(&log_l, strided), expected);
        assert_eq!(log_l_rows(&log_l, strided.to_owned().view()), expected);
        let columns = Array2::from_shape_vec((3, 5), strided.t().iter().copied().collect()).unwrap();
        assert_eq!(log_l_rows(&log_l, columns.t()), expected);
        assert!(log_l_rows(&log_l, wide.select(Dimension(0), &[]).view()).is_empty());
    }
}
