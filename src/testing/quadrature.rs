//! Tests of the problems themselves: every true log Z against a quadrature that knows only `log_l` and the prior.

use std::f64::consts::{PI, TAU};

use super::problems::{Axis, Problem, all, problem};
use crate::math::log_sum_exp;
use crate::rng::Stream;

/// Nodes and weights that integrate a function of one parameter over its prior; the weights sum to one.
type Rule = Vec<(f64, f64)>;

/// Nodes and weights of the Gauss-Legendre rule on (-1, 1), by Newton's method on the Legendre polynomial.
fn gauss_legendre(order: usize) -> Rule {
    let n = order as f64;
    (0..order)
        .map(|i| {
            let mut x = (PI * (i as f64 + 0.75) / (n + 0.5)).cos();
            let mut slope = 1.0;
            for _ in 0..20 {
                let (mut p0, mut p1) = (1.0, x);
                for k in 2..=order {
                    let k = k as f64;
                    (p0, p1) = (p1, ((2.0 * k - 1.0) * x * p1 - (k - 1.0) * p0) / k);
                }
                slope = n * (x * p1 - p0) / (x * x - 1.0);
                x -= p1 / slope;
            }
            (x, 2.0 / ((1.0 - x * x) * slope * slope))
        })
        .collect()
}

/// The rule of `panels` equal panels on (low, high), weights summing to one.
fn panels(low: f64, high: f64, panels: usize) -> Rule {
    const ORDER: usize = 10;
    let rule = gauss_legendre(ORDER);
    let width = (high - low) / panels as f64;
    (0..panels)
        .flat_map(|p| {
            let middle = low + (p as f64 + 0.5) * width;
            rule.iter().map(move |&(x, w)| (middle + 0.5 * width * x, 0.5 * w / panels as f64))
        })
        .collect()
}

impl Axis {
    fn rule(self, n: usize) -> Rule {
        match self {
            Axis::Uniform(low, high) | Axis::Periodic(low, high) => panels(low, high, n),
            Axis::LogUniform(low, high) => {
                panels(low.ln(), high.ln(), n).into_iter().map(|(x, w)| (x.exp(), w)).collect()
            }
            Axis::Normal(mean, sd) => panels(-9.0, 9.0, n)
                .into_iter()
                .map(|(z, w)| (mean + sd * z, 18.0 * w * (-0.5 * z * z).exp() / TAU.sqrt()))
                .collect(),
            Axis::HalfCauchy(scale) => {
                panels(0.0, 1.0, n).into_iter().map(|(u, w)| (scale * (0.5 * PI * u).tan(), w)).collect()
            }
        }
    }
}

fn rules(problem: &Problem, n: usize) -> Vec<Rule> {
    problem.axes().into_iter().map(|axis| axis.rule(n)).collect()
}

fn log_integral(rule: &Rule, log_f: impl Fn(f64) -> f64) -> f64 {
    log_sum_exp(&rule.iter().map(|&(x, w)| w.ln() + log_f(x)).collect::<Vec<_>>())
}

/// Log Z of a problem of one or two dimensions on a full grid.
fn grid(problem: &Problem, n: usize) -> f64 {
    match rules(problem, n).as_slice() {
        [a] => log_integral(a, |x| problem.log_l(&[x])),
        [a, b] => log_integral(a, |x| log_integral(b, |y| problem.log_l(&[x, y]))),
        _ => panic!("a grid is for one or two dimensions"),
    }
}

/// Log of the integral over the axes from `from` on, where there log L is a sum of one term for each of them:
/// each axis is integrated with the others held at `base`.
fn separable(problem: &Problem, rules: &[Rule], base: &[f64], from: usize) -> f64 {
    let at_base = problem.log_l(base);
    (from..problem.n_dim).fold(at_base, |sum, i| {
        let mut x = base.to_vec();
        let line: Vec<f64> = rules[i]
            .iter()
            .map(|&(xi, w)| {
                x[i] = xi;
                w.ln() + problem.log_l(&x)
            })
            .collect();
        sum + log_sum_exp(&line) - at_base
    })
}

/// Independent pairs: the first pair on a grid, the others equal to it.
fn pairs(problem: &Problem, n: usize) -> f64 {
    let base = vec![0.5; problem.n_dim];
    let at_base = problem.log_l(&base);
    let rules = rules(problem, n);
    let one = log_integral(&rules[0], |a| {
        log_integral(&rules[1], |b| {
            let mut x = base.clone();
            (x[0], x[1]) = (a, b);
            problem.log_l(&x)
        })
    });
    at_base + (problem.n_dim / 2) as f64 * (one - at_base)
}

/// Rosenbrock's chain: integrate out the last axis again and again (a transfer matrix), with the two-dimensional problem as the link.
fn chain(n_dim: usize, n: usize) -> f64 {
    let link = problem("rosen2").unwrap();
    let rule = &rules(&link, n)[0];
    let kernel: Vec<f64> = rule
        .iter()
        .flat_map(|&(a, _)| rule.iter().map(move |&(b, _)| (a, b)))
        .map(|(a, b)| link.log_l(&[a, b]).exp())
        .collect();
    let mut f = vec![1.0; rule.len()];
    let mut log_scale = 0.0;
    for _ in 1..n_dim {
        let weighted: Vec<f64> = rule.iter().zip(&f).map(|((_, w), f)| w * f).collect();
        f = kernel.chunks_exact(rule.len()).map(|row| row.iter().zip(&weighted).map(|(k, w)| k * w).sum()).collect();
        let max = f.iter().copied().fold(0.0, f64::max);
        f.iter_mut().for_each(|f| *f /= max);
        log_scale += max.ln();
    }
    log_scale + rule.iter().zip(&f).map(|((_, w), f)| w * f).sum::<f64>().ln()
}

/// Two full shells: the radial integral about one centre, read along an axis on which the other shell is far.
fn radial(problem: &Problem) -> f64 {
    let d = problem.n_dim as i32;
    let area = match problem.n_dim {
        2 => TAU,
        5 => 8.0 * PI * PI / 3.0,
        _ => panic!("no area for {d} dimensions"),
    };
    let mut x = vec![0.0; problem.n_dim];
    x[0] = 3.5;
    let mut radial = 0.0;
    for (r, w) in panels(1.0, 3.0, 40) {
        x[1] = r;
        radial += 2.0 * w * r.powi(d - 1) * problem.log_l(&x).exp();
    }
    (2.0 * area * radial).ln() - f64::from(d) * 12f64.ln()
}

/// Importance sampling of the mixture from a wider one, written out again here. Returns log Z and its error.
fn mixture(problem: &Problem, draws: u64) -> (f64, f64) {
    let stream = Stream::new(5);
    let components = [(0.5, 0.13), (0.6, 0.013)];
    let weights: Vec<f64> = (0..draws)
        .map(|k| {
            let mut draw = stream.at(k);
            let (centre, sd) = components[usize::from(draw.uniform() < 0.5)];
            // Box and Muller, to lean on nothing of the library but uniform numbers.
            let x: Vec<f64> = (0..problem.n_dim)
                .map(|_| {
                    let r = (-2.0 * draw.uniform().ln()).sqrt();
                    centre + sd * r * (TAU * draw.uniform()).cos()
                })
                .collect();
            if x.iter().any(|x| !(0.0..1.0).contains(x)) {
                return 0.0;
            }
            let q: f64 = components
                .iter()
                .map(|(c, s)| {
                    0.5 * x.iter().map(|x| (-0.5 * ((x - c) / s).powi(2)).exp() / (s * TAU.sqrt())).product::<f64>()
                })
                .sum();
            problem.log_l(&x).exp() / q
        })
        .collect();
    let n = draws as f64;
    let mean = weights.iter().sum::<f64>() / n;
    let variance = weights.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / n;
    (mean.ln(), (variance / n).sqrt() / mean)
}

/// What the quadrature says, and how far it may be trusted.
fn by_quadrature(problem: &Problem) -> (f64, f64) {
    /// Smooth integrands on fine grids.
    const FINE: f64 = 1e-8;
    /// The grid is coarse against thin shells, or against the narrow end of a half-Cauchy prior.
    const COARSE: f64 = 1e-6;
    let middle = vec![0.5; problem.n_dim];
    match problem.name {
        "gauss1" | "constant1" | "constant2" => (grid(problem, 50), FINE),
        "corners" => (grid(problem, 50), FINE),
        "rosen2" => (grid(problem, 150), FINE),
        "eggbox2" => (grid(problem, 100), FINE),
        "shells2" => (grid(problem, 150), COARSE),
        "loggamma2" => (grid(problem, 60), FINE),
        "plateau" => (grid(problem, 50), FINE),
        "gauss3" | "gauss20" | "gauss30" | "constant5" => (separable(problem, &rules(problem, 50), &middle, 0), FINE),
        "conjugate" => (separable(problem, &rules(problem, 20), &middle, 0), FINE),
        "loggamma10" => (separable(problem, &rules(problem, 100), &middle, 0), FINE),
        "gauss10corr" => (pairs(problem, 100), FINE),
        "rosen10" => (chain(10, 200), FINE),
        "shells5" => (radial(problem), FINE),
        "funnel10" => {
            // Given v the other axes are alike, so one of them stands for all nine; the widths range from 0.01 to 90.
            let rules = rules(problem, 80);
            let fine = panels(-1.0, 1.0, 60);
            let given = |v: f64| {
                let width = (9.0 * (0.5 * v).exp()).min(30.0);
                let at_zero = problem.log_l(&[&[v], &[0.0; 9][..]].concat());
                let one = log_integral(&fine, |t| {
                    let mut x = [0.0; 10];
                    (x[0], x[1]) = (v, width * t);
                    problem.log_l(&x)
                });
                at_zero + 9.0 * (one + (width / 30.0).ln() - at_zero)
            };
            (log_integral(&rules[0], given), FINE)
        }
        "eight_schools" => {
            let axes = problem.axes();
            // A wide effect of a school makes its z narrow, so z needs many panels and mu and tau few.
            let (mu, tau) = (axes[0].rule(6), axes[1].rule(8));
            let rules: Vec<Rule> = axes.iter().map(|axis| axis.rule(40)).collect();
            let log_z = log_integral(&tau, |tau| {
                log_integral(&mu, |mu| {
                    let mut base = [0.0; 10];
                    (base[0], base[1]) = (mu, tau);
                    separable(problem, &rules, &base, 2)
                })
            });
            (log_z, COARSE)
        }
        "spikeslab5" => {
            let (log_z, error) = mixture(problem, 200_000);
            assert!(error < 4e-3, "importance sampling is too rough: {error}");
            (log_z, 4.0 * error)
        }
        other => panic!("no quadrature for problem {other}"),
    }
}

fn agree(log_z: f64, truth: f64, tolerance: f64) -> bool {
    (log_z - truth).abs() <= tolerance
}

#[test]
fn every_truth_agrees_with_a_quadrature_and_a_wrong_one_does_not() {
    for problem in all() {
        let (log_z, tolerance) = by_quadrature(&problem);
        let truth = problem.log_z_truth.unwrap();
        assert!(agree(log_z, truth, tolerance), "{}: quadrature {log_z:.12}, truth {truth:.12}", problem.name);
        for wrong in [truth + 3.0 * tolerance, truth - 3.0 * tolerance] {
            assert!(!agree(log_z, wrong, tolerance), "{}: the check accepts {wrong}", problem.name);
        }
    }
}

/// The saboteur on the other side: a likelihood that is off by a little while its listed truth stands.
#[test]
fn a_wrong_likelihood_is_caught() {
    for name in ["gauss1", "rosen2", "eggbox2", "plateau", "corners"] {
        let right = problem(name).unwrap();
        let truth = right.log_z_truth.unwrap();
        let scaled = right.clone();
        let axes = scaled.axes().into_iter().enumerate().map(|(i, axis)| (format!("x{i}"), axis)).collect();
        let wgsl = crate::Likelihood::wgsl("");
        let wrong = Problem::new(right.name, "saboteur", axes, move |x| scaled.log_l(x) + 1e-3, wgsl);
        let (log_z, tolerance) = by_quadrature(&wrong);
        assert!(!agree(log_z, truth, tolerance), "{name}: the check accepts a likelihood scaled by exp(0.001)");
    }
}

#[test]
fn names_are_unique_and_are_found() {
    let problems = all();
    let mut names: Vec<&str> = problems.iter().map(|problem| problem.name).collect();
    for name in &names {
        assert_eq!(problem(name).unwrap().name, *name);
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), problems.len());
    assert_eq!(problem("constant").unwrap().name, "constant2");
    assert!(problem("no-such-problem").is_none());
}

/// Values of an independent Python implementation at u_i = frac(a + i b), on uniform priors.
#[test]
fn densities_match_the_reference_implementation() {
    for (name, a, b, expected) in REFERENCE {
        let problem = problem(name).unwrap();
        let x: Vec<f64> = problem
            .axes()
            .iter()
            .enumerate()
            .map(|(i, axis)| {
                let Axis::Uniform(low, high) = *axis else { panic!("{name} has an axis that is not uniform") };
                low + (high - low) * ((a + b * i as f64) % 1.0)
            })
            .collect();
        let got = problem.log_l(&x);
        assert!((got - expected).abs() < 1e-10 * (1.0 + expected.abs()), "{name}: {got} against {expected}");
    }
}

const REFERENCE: [(&str, f64, f64, f64); 26] = [
    ("gauss3", 0.31, 0.27, -4.099060320632e+00),
    ("gauss3", 0.52, 0.013, 3.970689679368e+00),
    ("gauss10corr", 0.31, 0.27, -2.546335382267e+03),
    ("gauss10corr", 0.52, 0.013, 1.719077157902e+01),
    ("rosen2", 0.31, 0.27, -7.980200000000e+02),
    ("rosen2", 0.52, 0.013, -9.050000000000e+00),
    ("rosen10", 0.31, 0.27, -1.072706600000e+05),
    ("rosen10", 0.52, 0.013, -7.328605200000e+01),
    ("eggbox2", 0.31, 0.27, 2.174164967849e+01),
    ("eggbox2", 0.52, 0.013, 4.627284448125e+01),
    ("shells2", 0.31, 0.27, -8.632859515010e+00),
    ("shells2", 0.52, 0.013, -8.104446164165e+01),
    ("shells5", 0.31, 0.27, -1.022757359294e+03),
    ("shells5", 0.52, 0.013, -1.129824534320e+02),
    ("loggamma2", 0.31, 0.27, -7.934884254821e-02),
    ("loggamma2", 0.52, 0.013, -7.955115297480e+00),
    ("loggamma10", 0.31, 0.27, -3.904864355316e+02),
    ("loggamma10", 0.52, 0.013, -1.503849804746e+00),
    ("funnel10", 0.31, 0.27, -3.545362366884e+04),
    ("funnel10", 0.52, 0.013, -1.063087115091e+02),
    ("spikeslab5", 0.31, 0.27, -9.849914381613e+00),
    ("spikeslab5", 0.52, 0.013, 5.611585618387e+00),
    ("gauss20", 0.31, 0.27, -1.472135217622e+03),
    ("gauss20", 0.52, 0.013, -1.012598301896e+02),
    ("gauss30", 0.31, 0.27, -2.342542476805e+03),
    ("gauss30", 0.52, 0.013, -3.920572746954e+02),
];
