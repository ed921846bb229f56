//! The minimum-volume ellipsoid around points, by the algorithm of Khachiyan with the away steps of Todd and Yildirim.
//!
//! Lift `q = (w, 1)`, `m = d + 1`; choose weights `u` that maximise `det V`, `V = sum u q q^T`. At the optimum every
//! `g = q^T V^-1 q` is at most `m`. A step moves weight to the point of largest `g` or from the weighted point of smallest
//! `g` (Todd & Yildirim 2007, "On Khachiyan's algorithm for the computation of minimum-volume enclosing ellipsoids").
//! Only a working set of points takes part in the steps: a full pass over all points opens each round.

use super::triangular::{Lower, dot};

/// The log volume ends within this of the minimum (by duality, see [`minimum_volume`]): far below one enlargement factor.
const LOG_VOLUME_TOLERANCE: f64 = 0.05;
/// Steps of a round aim lower, so that points outside its working set do not make rounds endless.
const ROUND_SHARE: f64 = 0.5;
/// Rounds. Five to ten are usual; the result encloses all points after scaling whether or not this ends the loop.
const MAX_ROUNDS: usize = 100;
/// Points of large `g` that enter the working set in a round, in multiples of `m`.
const ENTERING_PER_DIM: usize = 2;
/// Points that share the weight at the start, in multiples of `m`.
const STARTING_PER_DIM: usize = 4;
/// Steps in one round, in multiples of `m`, before `V` is formed anew and loses its rounding errors.
const STEPS_PER_DIM: usize = 40;
/// A step that would shrink `det V` to this share removes a point that the rank of `V` hangs on.
const SMALLEST_DETERMINANT_SHARE: f64 = 1e-9;

/// Centre and shape: `w = centre + sqrt(k) * factor * z`, `|z| <= 1`, up to a scale that the caller sets.
pub struct Shape {
    /// Centre `[k]`.
    pub centre: Vec<f64>,
    /// Cholesky factor of the weighted covariance `[k, k]`.
    pub factor: Lower,
}

/// Shape of the minimum-volume ellipsoid around `points` `[n, k]`, rows one after the other, roughly white.
///
/// `ridge` `[k, k]` is added to the weighted covariance so that flat sets have a shape. With `g <= 1 + k (1 + e)` for all
/// points the volume after scaling is at most `(1 + e)^(k/2)` times the minimum. `None` when `V` cannot be factored.
/// Cost: `O(n k^2)` per round plus `O(k^2 * working set / k)` per step.
pub fn minimum_volume(points: &[f64], k: usize, ridge: &Lower) -> Option<Shape> {
    minimum_volume_to(points, k, ridge, LOG_VOLUME_TOLERANCE)
}

/// As [`minimum_volume`] with its own tolerance of the log volume.
pub fn minimum_volume_to(points: &[f64], k: usize, ridge: &Lower, tolerance: f64) -> Option<Shape> {
    let n = points.len() / k;
    let m = k + 1;
    let g_stop = 1.0 + k as f64 * (2.0 * tolerance / k as f64).exp();
    let g_round = 1.0 + k as f64 * (2.0 * ROUND_SHARE * tolerance / k as f64).exp();
    let mut lifted = Vec::with_capacity(n * m);
    for point in points.chunks_exact(k) {
        lifted.extend_from_slice(point);
        lifted.push(1.0);
    }
    // The farthest points of a white cloud are where the weight ends up: start on them.
    let radii: Vec<f64> = points.chunks_exact(k).map(|w| dot(w, w)).collect();
    let mut working = largest(&radii, STARTING_PER_DIM * m);
    let mut weights = vec![1.0 / working.len() as f64; working.len()];
    let mut g = vec![0.0; n];
    for _ in 0..MAX_ROUNDS {
        let inverse = moment(&lifted, m, &working, &weights, ridge).cholesky()?.inverse();
        for (g, q) in g.iter_mut().zip(lifted.chunks_exact(m)) {
            *g = inverse.norm_squared(q);
        }
        if g.iter().copied().fold(0.0, f64::max) <= g_stop {
            break;
        }
        enter(&mut working, &mut weights, &g, m);
        exchange(&lifted, m, &working, &mut weights, &inverse, &g, g_round);
    }
    let mut centre = vec![0.0; k];
    for (&i, &u) in working.iter().zip(&weights) {
        for (c, w) in centre.iter_mut().zip(&points[i * k..(i + 1) * k]) {
            *c += u * w;
        }
    }
    let mut covariance = ridge.clone();
    let mut delta = vec![0.0; k];
    for (&i, &u) in working.iter().zip(&weights) {
        for j in 0..k {
            delta[j] = points[i * k + j] - centre[j];
        }
        covariance.add_outer(u, &delta);
    }
    Some(Shape { centre, factor: covariance.cholesky()? })
}

/// Indices of the `count` largest values, ties by index.
fn largest(values: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    if count < order.len() {
        order.select_nth_unstable_by(count, |&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        order.truncate(count);
    }
    order.sort_unstable();
    order
}

/// `V = sum u q q^T` with the ridge on its first `m - 1` dimensions.
fn moment(lifted: &[f64], m: usize, working: &[usize], weights: &[f64], ridge: &Lower) -> Lower {
    let mut v = Lower::zeros(m);
    for (&i, &u) in working.iter().zip(weights) {
        v.add_outer(u, &lifted[i * m..(i + 1) * m]);
    }
    v.add_leading(ridge);
    v
}

/// Drops points without weight from the working set and lets in those of largest `g`.
fn enter(working: &mut Vec<usize>, weights: &mut Vec<f64>, g: &[f64], m: usize) {
    let mut weight_of = vec![0.0; g.len()];
    for (&i, &u) in working.iter().zip(weights.iter()) {
        weight_of[i] = u;
    }
    let violation: Vec<f64> = g.iter().map(|&g| if g > m as f64 { g } else { 0.0 }).collect();
    let mut entering = vec![false; g.len()];
    for i in largest(&violation, ENTERING_PER_DIM * m) {
        entering[i] = violation[i] > 0.0;
    }
    working.clear();
    working.extend((0..g.len()).filter(|&i| weight_of[i] > 0.0 || entering[i]));
    weights.clear();
    weights.extend(working.iter().map(|&i| weight_of[i]));
}

/// Moves weight within the working set until no `g` in it is above `g_round`.
fn exchange(
    lifted: &[f64],
    m: usize,
    working: &[usize],
    weights: &mut [f64],
    inverse: &Lower,
    g_all: &[f64],
    g_round: f64,
) {
    let dim = m as f64;
    let q: Vec<f64> = working.iter().flat_map(|&i| &lifted[i * m..(i + 1) * m]).copied().collect();
    let mut g: Vec<f64> = working.iter().map(|&i| g_all[i]).collect();
    let precision = inverse.transposed_gram();
    let mut precision: Vec<f64> = (0..m * m).map(|e| precision.symmetric(e / m, e % m)).collect();
    let mut h = vec![0.0; m];
    for _ in 0..STEPS_PER_DIM * m {
        let (mut top, mut bottom) = (0, None);
        for i in 0..g.len() {
            if g[i] > g[top] {
                top = i;
            }
            if weights[i] > 0.0 && bottom.is_none_or(|b: usize| g[i] < g[b]) {
                bottom = Some(i);
            }
        }
        if g[top] <= g_round {
            return;
        }
        let away = bottom.filter(|&b| dim - g[b] > g[top] - dim);
        let i = away.unwrap_or(top);
        let optimum = (g[i] - dim) / (dim * (g[i] - 1.0));
        // An away step takes at most the weight that the point has.
        let removal = -weights[i] / (1.0 - weights[i]);
        let (step, removed) = match away {
            Some(_) if g[i] <= 1.0 || optimum <= removal => (removal, true),
            _ => (optimum, false),
        };
        let determinant = 1.0 + step * (g[i] - 1.0);
        if determinant < SMALLEST_DETERMINANT_SHARE || !step.is_finite() {
            return;
        }
        let shrink = 1.0 / (1.0 - step);
        weights.iter_mut().for_each(|u| *u *= 1.0 - step);
        weights[i] = if removed { 0.0 } else { weights[i] + step };
        let point = &q[i * m..(i + 1) * m];
        for (h, row) in h.iter_mut().zip(precision.chunks_exact(m)) {
            *h = dot(row, point);
        }
        // Sherman and Morrison.
        let share = step / determinant;
        for (g, q) in g.iter_mut().zip(q.chunks_exact(m)) {
            let s = dot(q, &h);
            *g = (*g - share * s * s) * shrink;
        }
        for (row, &left) in precision.chunks_exact_mut(m).zip(&h) {
            let left = share * left;
            for (entry, right) in row.iter_mut().zip(&h) {
                *entry = (*entry - left * right) * shrink;
            }
        }
    }
}
