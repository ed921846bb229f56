//! Tests of the geometry as a whole: containment, volumes, uniform draws, overlap, splits; each statistical one with its saboteur.

use std::time::Instant;

use ndarray::{Array2, ArrayView2};

use super::ellipsoid::log_ball_volume;
use super::triangular::Lower;
use super::{BoundError, Ellipsoid, PhaseShift, Union, UnionOptions};
use crate::math::ks_uniform;
use crate::rng::{Draw, Stream};

/// Every statistical test rejects a correct program with this probability.
const ALPHA: f64 = 1e-3;
/// A saboteur must be rejected at least this clearly.
const SABOTEUR: f64 = 1e-6;

fn options(n_points_min: usize, cube_dims: bool) -> UnionOptions {
    UnionOptions { enlarge_per_dim: 1.1, n_points_min, cube_dims }
}

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

#[test]
#[ignore = "prints timings"]
fn timings() {
    for (n, n_dim) in [(2000, 2), (2000, 10), (2000, 30), (20000, 10), (100_000, 10)] {
        let points = gaussian(1, n, n_dim, 0.02);
        let start = Instant::now();
        let ellipsoid = Ellipsoid::enclosing(points.view(), 1.1).unwrap();
        let fit = start.elapsed();
        let start = Instant::now();
        let mixture = Ellipsoid::enclosing_mixture(points.view(), 1.1).unwrap();
        let fit_mixture = start.elapsed();
        let mut union = Union::enclosing(points.view(), &options(n_dim + 50, false)).unwrap();
        let start = Instant::now();
        let split = union.split(true, Stream::new(2));
        let split_time = start.elapsed();
        let start = Instant::now();
        let mut x = vec![0.0; n_dim];
        let mut sum = 0.0;
        for k in 0..100_000 {
            ellipsoid.draw(&mut Stream::new(3).at(k), &mut x);
            sum += x[0];
        }
        let draw = start.elapsed() / 100_000;
        let start = Instant::now();
        let mut inside = 0;
        for _ in 0..100_000 {
            x[0] += 1e-9;
            inside += usize::from(ellipsoid.contains(&x));
        }
        let contains = start.elapsed() / 100_000;
        println!(
            "n {n} d {n_dim}: fit {fit:?} (log v {:.4}), mixture {fit_mixture:?} ({} cube dims), split {split} {split_time:?}, draw {draw:?}, contains {contains:?} ({inside} {sum:.1})",
            ellipsoid.log_volume(),
            mixture.cube_dims().len(),
        );
    }
}
