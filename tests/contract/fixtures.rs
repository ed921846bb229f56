//! One small likelihood for each form that WGSL may take, each with its twin, and a prior with every kind of parameter.

use livepoint::{Likelihood, Prior};
use ndarray::{Array2, ArrayView2, array};

/// A likelihood on a device against its twin.
pub struct Fixture {
    pub name: &'static str,
    pub prior: Prior,
    pub likelihood: Likelihood,
    /// Largest difference from the twin, absolute and relative.
    pub tolerance: (f64, f64),
}

/// Plain f32: a handful of roundings of values of order one to a hundred.
const PLAIN: (f64, f64) = (2e-5, 2e-6);
/// Values in two parts, of terms that are themselves plain f32.
const TERMS: (f64, f64) = (1e-4, 3e-7);
/// Parameters and values in two parts: 44 bits of everything.
const PAIRS: (f64, f64) = (1e-6, 1e-11);

fn unit(n: usize) -> Prior {
    (0..n).fold(Prior::new(), |prior, k| prior.uniform(format!("x{k}"), 0.0..1.0))
}

/// Every parameter's value is a derived value: the transform itself can be looked at.
pub fn every_prior() -> (Prior, Likelihood) {
    let prior = Prior::new()
        .uniform("uniform", -3.0..5.0)
        .periodic("periodic", 0.0..std::f64::consts::TAU)
        .log_uniform("log_uniform", 1e-3..1e4)
        .normal("normal", 3.0, 2.0)
        .fixed("fixed", 0.125)
        .truncated_normal("truncated_normal", 0.0, 0.3, 0.0..0.95)
        .half_normal("half_normal", 2.0)
        .log_normal("log_normal", 0.5, 0.75)
        .exponential("exponential", 4.0)
        .tied("tied", "gamma")
        .cauchy("cauchy", -1.0, 2.0)
        .half_cauchy("half_cauchy", 5.0)
        .beta("beta", 2.0, 5.0)
        .gamma("gamma", 3.0, 0.5)
        .student_t("student_t", 4.0, 1.0, 2.0)
        .transform(["a", "b"], |u: ArrayView2<f64>| {
            let mut theta = u.to_owned();
            theta.rows_mut().into_iter().for_each(|mut row| row[1] = row[0] + (1.0 - row[0]) * row[1]);
            theta
        });
    let names: Vec<String> = prior.names().iter().map(|name| format!("{name}_seen")).collect();
    let text = "fn log_likelihood(theta: array<f32, N_DIM>, derived: ptr<function, Derived>) -> f32 {
        *derived = theta;
        return 0.0;
    }";
    let copy = |theta: &[f64], derived: &mut [f64]| {
        derived.copy_from_slice(theta);
        0.0
    };
    let likelihood = Likelihood::wgsl(text).derived(names.clone()).twin(Likelihood::point_derived(names, copy));
    (prior, likelihood.into())
}

fn covariance() -> Array2<f64> {
    Array2::from_shape_fn((12, 12), |(i, j)| {
        (-0.1 * (i as f64 - j as f64).powi(2)).exp() + if i == j { 0.1 } else { 0.0 }
    })
}

/// All fixtures.
pub fn all() -> Vec<Fixture> {
    let numbers: Vec<f64> = (0..5000).map(|i| (0.37 * i as f64).sin()).collect();
    let table = [[0.0, 1.0], [1.0, 3.0], [2.5, -1.0]];
    let (knots, heights) = ([-2.0, 0.0, 0.5, 3.0], [1.0, 2.0, -1.0, 4.0]);
    let interpolate = move |x: f64| {
        let k = knots.partition_point(|&knot| knot <= x);
        match k {
            0 => heights[0],
            4 => heights[3],
            _ => heights[k - 1] + (x - knots[k - 1]) / (knots[k] - knots[k - 1]) * (heights[k] - heights[k - 1]),
        }
    };
    vec![
        Fixture {
            name: "one f32",
            prior: unit(3),
            likelihood: Likelihood::wgsl(
                "fn log_likelihood(theta: array<f32, N_DIM>) -> f32 {
                    return -theta[0] * theta[0] - cos(theta[1]) + 10.0 * theta[2];
                }",
            )
            .twin(Likelihood::point(|x: &[f64]| -x[0] * x[0] - x[1].cos() + 10.0 * x[2]))
            .into(),
            tolerance: PLAIN,
        },
        Fixture {
            name: "value in two parts",
            prior: unit(2),
            likelihood: Likelihood::wgsl(
                "fn log_likelihood(theta: Theta) -> vec2<f32> { return df_add(df_from(-1e6), two_prod(theta[0], theta[1])); }",
            )
            .twin(Likelihood::point(|x: &[f64]| -1e6 + x[0] * x[1]))
            .into(),
            // Rounding of theta to f32.
            tolerance: (1e-6, 0.0),
        },
        Fixture {
            name: "parameters in two parts",
            prior: Prior::new().uniform("x", 1e6..1.001e6).normal("y", 0.3, 1e-4).fixed("c", 0.1),
            likelihood: Likelihood::wgsl(
                "fn log_likelihood(hi: Theta, lo: Theta) -> vec2<f32> {
                    let x = vec2(hi[0], lo[0]);
                    let y = vec2(hi[1], lo[1]);
                    return df_add(df_mul(x, y), vec2(hi[2], lo[2]));
                }",
            )
            .twin(Likelihood::point(|x: &[f64]| x[0] * x[1] + x[2]))
            .into(),
            tolerance: PAIRS,
        },
        Fixture {
            name: "derived values",
            prior: unit(2).fixed("c", 2.0).tied("same", "x0"),
            likelihood: Likelihood::wgsl(
                "fn log_likelihood(theta: array<f32, N_DIM>, derived: ptr<function, array<f32, N_DERIVED>>) -> f32 {
                    (*derived)[0] = theta[0] + theta[1];
                    (*derived)[1] = theta[2] * theta[3];
                    return -(*derived)[0];
                }",
            )
            .derived(["sum", "product"])
            .twin(Likelihood::point_derived(["sum", "product"], |x: &[f64], derived: &mut [f64]| {
                derived[0] = x[0] + x[1];
                derived[1] = x[2] * x[3];
                -derived[0]
            }))
            .into(),
            tolerance: PLAIN,
        },
        Fixture {
            name: "data, table, constant",
            prior: unit(2),
            likelihood: Likelihood::wgsl(
                "fn log_likelihood(theta: Theta) -> f32 {
                    var sum: Sum;
                    for (var i = 0u; i < N_NUMBERS; i++) { sum_add(&sum, numbers[i] * theta[0]); }
                    for (var i = 0u; i < N_ROWS; i++) { sum_add(&sum, rows[i].a * rows[i].b * theta[1] + pairs[i][1]); }
                    return sum_value(sum) * SCALE;
                }",
            )
            .data("numbers", &numbers)
            .data("pairs", table.as_slice())
            .table("rows", [("a", vec![1.0, 2.0, 3.0]), ("b", vec![-1.0, 0.5, 0.25])])
            .constant("SCALE", 0.1)
            .twin({
                let numbers = numbers.clone();
                Likelihood::point(move |x: &[f64]| {
                    let pairs: f64 = table.iter().map(|row| row[1]).sum();
                    0.1 * (numbers.iter().sum::<f64>() * x[0] + (-1.0 + 1.0 + 0.75) * x[1] + pairs)
                })
            })
            .into(),
            tolerance: (1e-4, 1e-6),
        },
        Fixture {
            name: "sum over terms",
            prior: unit(2),
            likelihood: Likelihood::wgsl(
                "fn log_likelihood_term(theta: Theta, i: u32) -> f32 {
                    let residual = (numbers[i] - theta[0] - theta[1]) * 20.0;
                    return -0.5 * residual * residual;
                }",
            )
            .data("numbers", &numbers)
            .sum_over(numbers.len())
            .twin(Likelihood::point(move |x: &[f64]| {
                numbers.iter().map(|y| -0.5 * ((y - x[0] - x[1]) * 20.0).powi(2)).sum::<f64>()
            }))
            .into(),
            tolerance: TERMS,
        },
        Fixture {
            name: "interpolant",
            prior: Prior::new().uniform("x", -4.0..5.0),
            likelihood: Likelihood::wgsl("fn log_likelihood(theta: Theta) -> f32 { return curve(theta[0]); }")
                .interpolant("curve", knots, heights)
                .twin(Likelihood::point(move |x: &[f64]| interpolate(x[0])))
                .into(),
            tolerance: PLAIN,
        },
        Fixture {
            name: "covariance",
            prior: Prior::new().normal("x", 0.0, 1.0),
            likelihood: Likelihood::wgsl(
                "fn log_likelihood(theta: Theta) -> f32 {
                    var r: array<f32, 12>;
                    for (var i = 0u; i < 12u; i++) { r[i] = theta[0] + f32(i) * 0.1; }
                    return -0.5 * (noise_chi2(r) + NOISE_LOG_DET);
                }",
            )
            .covariance("noise", &covariance())
            .twin({
                let factor = nalgebra::DMatrix::from_row_iterator(12, 12, covariance()).cholesky().unwrap();
                Likelihood::point(move |x: &[f64]| {
                    let r = nalgebra::DVector::from_fn(12, |i, _| x[0] + 0.1 * i as f64);
                    -0.5 * (r.dot(&factor.solve(&r)) + factor.ln_determinant())
                })
            })
            .into(),
            tolerance: (5e-5, 2e-6),
        },
        Fixture {
            name: "impossible points",
            prior: unit(1),
            likelihood: Likelihood::wgsl(
                "fn log_likelihood(theta: Theta) -> vec2<f32> {
                    if theta[0] < 0.5 { return vec2(reject(), reject()); }
                    return vec2(theta[0], 0.0);
                }",
            )
            .twin(Likelihood::point(|x: &[f64]| if x[0] < 0.5 { f64::NEG_INFINITY } else { x[0] }))
            .into(),
            tolerance: PLAIN,
        },
        Fixture {
            name: "impossible terms",
            prior: unit(1),
            likelihood: Likelihood::wgsl(
                "fn log_likelihood_term(theta: Theta, i: u32) -> f32 {
                    if i == 77u && theta[0] < 0.5 { return reject(); }
                    return theta[0];
                }",
            )
            .sum_over(100)
            .twin(Likelihood::point(|x: &[f64]| if x[0] < 0.5 { f64::NEG_INFINITY } else { 100.0 * x[0] }))
            .into(),
            tolerance: (1e-5, 1e-6),
        },
        Fixture {
            name: "batch twin",
            prior: unit(1),
            likelihood: Likelihood::wgsl("fn log_likelihood(theta: Theta) -> f32 { return log1p(theta[0]) + erf(theta[0]); }")
                .twin(Likelihood::batch(|x: ArrayView2<f64>| {
                    x.column(0).iter().map(|x| x.ln_1p() + statrs::function::erf::erf(*x)).collect::<Vec<f64>>()
                }))
                .into(),
            tolerance: PLAIN,
        },
    ]
}

/// A prior whose bounds lie where f32 rounds outwards, and a likelihood that is NaN there.
pub fn open_ends() -> (Prior, Likelihood) {
    let prior =
        Prior::new().uniform("e", 0.0..1.0).periodic("angle", 0.0..std::f64::consts::TAU).log_uniform("p", 0.1..0.3);
    let text =
        "fn log_likelihood(theta: Theta, derived: ptr<function, Derived>) -> f32 { *derived = theta; return 0.0; }";
    let names = ["e_seen", "angle_seen", "p_seen"];
    let copy = |theta: &[f64], derived: &mut [f64]| {
        derived.copy_from_slice(theta);
        0.0
    };
    (prior, Likelihood::wgsl(text).derived(names).twin(Likelihood::point_derived(names, copy)).into())
}

/// Points of the cube: a lattice, both ends, and both tails.
pub fn points(n_dim: usize) -> Array2<f64> {
    let tails = array![1e-36, 1e-20, 1e-12, 1e-6, 0.25, 0.5, 0.75, 1.0 - 1e-6, 1.0 - 1e-12, 1.0 - f64::EPSILON / 2.0];
    let n = 3000 + tails.len();
    Array2::from_shape_fn((n, n_dim), |(i, j)| match tails.get(i) {
        Some(&u) => u,
        // The fractional parts of multiples of irrational numbers fill the cube.
        None => ((i as f64 + 0.5) * ((j as f64 + 2.0) * 0.6180339887498949).fract()).fract().clamp(1e-9, 1.0 - 1e-9),
    })
}
