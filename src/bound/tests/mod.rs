//! Tests of the geometry: what they share (each statistical test has its saboteur, a biased variant that it must reject).

mod ellipsoid;
mod overlap;
mod union;

use ndarray::{Array2, ArrayView2};

use super::{Ellipsoid, UnionLimits, UnionOptions};
use crate::rng::{Draw, Stream};

/// Every statistical test rejects a correct program with this probability.
const ALPHA: f64 = 1e-3;

/// A saboteur must be rejected at least this clearly.
const SABOTEUR: f64 = 1e-6;

fn options(n_points_min: usize, cube_dims: bool) -> UnionOptions {
    UnionOptions { enlarge_per_dim: 1.1, n_points_min, cube_dims }
}

/// As far as it is worth it.
const LIMITS: UnionLimits =
    UnionLimits { log_v_points: f64::NEG_INFINITY, log_target: f64::NEG_INFINITY, max_members: 128 };

fn cloud(seed: u64, n: usize, n_dim: usize, mut point: impl FnMut(&mut Draw, usize, &mut [f64])) -> Array2<f64> {
    let mut points = Array2::zeros((n, n_dim));
    let mut x = vec![0.0; n_dim];
    for i in 0..n {
        point(&mut Stream::new(seed).at(i as u64), i, &mut x);
        points.row_mut(i).assign(&ArrayView2::from_shape((1, n_dim), &x).unwrap().row(0));
    }
    points
}

/// A correlated Gaussian around the middle of the cube.
fn gaussian(seed: u64, n: usize, n_dim: usize, width: f64) -> Array2<f64> {
    cloud(seed, n, n_dim, |draw, _, x| {
        let mut sum = 0.0;
        for v in x.iter_mut() {
            sum = 0.7 * sum + draw.normal();
            *v = 0.5 + width * sum;
        }
    })
}

fn all_inside(ellipsoid: &Ellipsoid, points: &Array2<f64>) -> bool {
    points.rows().into_iter().all(|row| ellipsoid.contains(row.to_vec().as_slice()))
}

/// The ellipsoid `centre + L z` from the ends of its axes, for which it is the one of minimum volume.
fn exact(centre: &[f64], columns: &[Vec<f64>]) -> Ellipsoid {
    let n_dim = centre.len();
    let points = Array2::from_shape_fn((2 * n_dim, n_dim), |(i, j)| {
        let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
        centre[j] + sign * columns[i / 2][j]
    });
    Ellipsoid::enclosing(points.view(), 1.0).unwrap()
}

fn ball(centre: &[f64], radius: f64) -> Ellipsoid {
    let n_dim = centre.len();
    let axis = |i: usize| (0..n_dim).map(|j| if i == j { radius } else { 0.0 }).collect();
    exact(centre, &(0..n_dim).map(axis).collect::<Vec<_>>())
}

/// Two-sided p value of a standard normal.
fn p_normal(z: f64) -> f64 {
    statrs::function::erf::erfc(z.abs() / std::f64::consts::SQRT_2)
}

/// Two-sided p value of two binomial fractions being the same.
fn p_fractions(a: usize, n_a: usize, b: usize, n_b: usize) -> f64 {
    let (p_a, p_b) = (a as f64 / n_a as f64, b as f64 / n_b as f64);
    let p = (a + b) as f64 / (n_a + n_b) as f64;
    p_normal((p_a - p_b) / (p * (1.0 - p) * (1.0 / n_a as f64 + 1.0 / n_b as f64)).sqrt())
}
