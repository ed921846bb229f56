//! The training of a bound's networks: lessons from the points around a cluster, thresholds from what networks say of points that they did not see.

use super::{Emulator, Live, Networks, NeuralBoundOptions, push_features};
use crate::backend::CpuPool;
#[cfg(feature = "gpu")]
use crate::bound::PhaseShift;
#[cfg(feature = "gpu")]
use crate::bound::device::DeviceNest;
use crate::bound::quadratic::Quadratic;
use crate::bound::{BoundError, Ellipsoid, Union};
use crate::math::argsort;
use crate::nn::{Ensemble, Lesson, NetworkError};
use crate::rng::Stream;

/// Live points that must be accepted in each cell of the outer union, as a fraction, judged by a network that did not see them. Those next
/// to the threshold may stay outside: nothing is lost by it, since the next threshold is higher. Taken over a whole cluster, the same
/// fraction could be all of a thin tail.
const RECALL: f64 = 0.98;

/// A cluster of fewer live points, in units of `n_points_min`, keeps its whole ellipsoid: networks would cut what they know too little of.
const LIVE_POINTS_MIN: usize = 2;

/// Where a likelihood jumps, no higher threshold comes that would forgive a cut: the accepted volume is grown by this fraction, times
/// dimensions over live points, beyond all of them. `n` points in a convex region leave a part of order `d/n` outside their hull.
const EDGE_MARGIN: f64 = 20.0;

/// Who trains.
pub(in crate::bound) enum Teacher<'a> {
    Threads(&'a CpuPool),
    #[cfg(feature = "gpu")]
    Device(&'a mut DeviceNest),
}

/// Networks that were trained, and what they say of the points that they were trained on, `[n_points]` each.
struct Taught {
    networks: Networks,
    /// The mean of all networks.
    prediction: Vec<f32>,
    /// The network that did not see the point.
    held_out: Vec<f32>,
}

/// What every network of a bound is trained on.
pub(super) struct Trainer<'a> {
    /// Every point, shifted, `[n_points, n_dim]`.
    pub(super) rows: &'a [f64],
    pub(super) n_dim: usize,
    pub(super) log_l: &'a [f64],
    pub(super) ids: &'a [usize],
    pub(super) live: Live,
    pub(super) outer: &'a Union,
    #[cfg(feature = "gpu")]
    pub(super) shift: &'a PhaseShift,
    pub(super) options: &'a NeuralBoundOptions,
    pub(super) teacher: Teacher<'a>,
}

impl Trainer<'_> {
    /// Trains on every point inside the ellipsoid; no emulator when all of them are live, so that there is nothing to tell apart, or few.
    pub(super) fn train(
        &mut self,
        ellipsoid: &Ellipsoid,
        from: Option<&Networks>,
        stream: Stream,
    ) -> Result<Option<Emulator>, BoundError> {
        let n_dim = self.n_dim;
        let mut z = vec![0.0; n_dim];
        let (mut frame, mut points) = (Vec::new(), Vec::new());
        for (point, row) in self.rows.chunks_exact(n_dim).enumerate() {
            if ellipsoid.contains(row) {
                ellipsoid.to_frame(row, &mut z);
                frame.extend_from_slice(&z);
                points.push(point);
            }
        }
        let l: Vec<f64> = points.iter().map(|&point| self.log_l[point]).collect();
        let threshold = self.live.threshold;
        let is_live = |k: &usize| l[*k] >= threshold;
        let n_live = (0..l.len()).filter(is_live).count();
        let enough = n_live >= LIVE_POINTS_MIN * self.options.union.n_points_min;
        if self.options.n_networks == 0 || n_live == l.len() || !enough {
            return Ok(None);
        }
        let score = scores(&l, self.live.threshold);
        let y: Vec<f32> = score.iter().map(|s| *s as f32).collect();
        let quadratic = Quadratic::fit(&frame, n_dim, &l, self.live.threshold);
        let ids: Vec<usize> = points.iter().map(|&point| self.ids[point]).collect();
        let Taught { networks, prediction, held_out } =
            self.teach(ellipsoid, quadratic.as_ref(), &frame, &y, &ids, from, stream)?;
        let mut cells: Vec<Vec<f32>> = vec![Vec::new(); self.outer.members().len()];
        for k in (0..l.len()).filter(is_live) {
            let row = &self.rows[points[k] * n_dim..(points[k] + 1) * n_dim];
            if let Some(cell) = self.outer.cell(row) {
                cells[cell].push(held_out[k]);
            }
        }
        let recalls = |predictions: &mut Vec<f32>, recall: f64| {
            predictions.sort_by(f32::total_cmp);
            predictions.get(((1.0 - recall) * predictions.len() as f64) as usize).copied().unwrap_or(f32::INFINITY)
        };
        let fitted = cubic_fit_at(&score, &prediction, 0.5 * (1.0 + 0.5 / n_live as f64)) as f32;
        let fitted = if fitted.is_nan() { recalls(&mut cells.concat(), RECALL) } else { fitted };
        let mut thresholds: Vec<f32> = cells.iter_mut().map(|cell| recalls(cell, RECALL).min(fitted)).collect();
        if self.live.at_edge {
            let all = recalls(&mut cells.concat(), 1.0).min(fitted);
            let grown = self.grown(
                ellipsoid,
                quadratic.as_ref(),
                &networks,
                all,
                edge_margin(n_dim, n_live),
                stream.substream(2),
            )?;
            thresholds.fill(grown);
        }
        Ok(Some(Emulator { quadratic, networks, careful: thresholds.clone(), thresholds, fitted }))
    }

    /// Trains on points of the frame `[n_points, n_dim]` with targets `y` `[n_points]`.
    #[allow(clippy::too_many_arguments)]
    fn teach(
        &mut self,
        ellipsoid: &Ellipsoid,
        quadratic: Option<&Quadratic>,
        frame: &[f64],
        y: &[f32],
        ids: &[usize],
        from: Option<&Networks>,
        stream: Stream,
    ) -> Result<Taught, BoundError> {
        let (n_dim, n_networks, network) = (self.n_dim, self.options.n_networks, &self.options.network);
        #[cfg(not(feature = "gpu"))]
        let _ = ellipsoid;
        match &mut self.teacher {
            Teacher::Threads(pool) => {
                let mut x = Vec::with_capacity(ids.len() * (n_dim + 1));
                frame.chunks_exact(n_dim).for_each(|z| push_features(&mut x, z, quadratic));
                let from = from.and_then(Networks::on_threads);
                let lesson = Lesson { x: &x, n_dim: n_dim + 1, y, ids };
                let train = |from| Ensemble::train(lesson, n_networks, network, from, stream, pool);
                let ensemble = match train(from) {
                    Err(NetworkError::Diverged { .. }) if from.is_some() => train(None),
                    trained => trained,
                };
                let ensemble = ensemble.map_err(BoundError::Network)?;
                let mut prediction = vec![0.0f32; ids.len()];
                ensemble.predict(&x, &mut prediction);
                let held_out = ensemble.held_out(&x, ids);
                Ok(Taught { networks: Networks::Threads(ensemble), prediction, held_out })
            }
            #[cfg(feature = "gpu")]
            Teacher::Device(device) => {
                let from = from.and_then(|from| match from {
                    Networks::Device(ensemble) => Some(ensemble),
                    Networks::Threads(_) => None,
                });
                let cluster = (ellipsoid, quadratic, self.shift);
                let (ensemble, prediction, held_out) = device.teach(cluster, y, ids, from, network, stream)?;
                Ok(Taught { networks: Networks::Device(ensemble), prediction, held_out })
            }
        }
    }

    /// The threshold at which the accepted part of the ellipsoid is `growth` times what it is at `threshold`.
    fn grown(
        &mut self,
        ellipsoid: &Ellipsoid,
        quadratic: Option<&Quadratic>,
        networks: &Networks,
        threshold: f32,
        growth: f64,
        stream: Stream,
    ) -> Result<f32, BoundError> {
        const N_DRAWS: usize = 2048;
        let (mut x, mut z) = (vec![0.0; self.n_dim], vec![0.0; self.n_dim]);
        let mut features = Vec::with_capacity(N_DRAWS * (self.n_dim + 1));
        let mut rows = Vec::with_capacity(N_DRAWS * self.n_dim);
        for k in 0..N_DRAWS {
            ellipsoid.draw(&mut stream.at(k as u64), &mut x);
            ellipsoid.to_frame(&x, &mut z);
            push_features(&mut features, &z, quadratic);
            rows.extend_from_slice(&x);
        }
        let mut score = vec![0.0; N_DRAWS];
        match networks {
            Networks::Threads(ensemble) => ensemble.predict(&features, &mut score),
            #[cfg(feature = "gpu")]
            Networks::Device(ensemble) => {
                if let Teacher::Device(device) = &mut self.teacher {
                    score = device.scores((ellipsoid, quadratic, self.shift), &rows, ensemble)?;
                }
            }
        }
        score.sort_by(|a, b| b.total_cmp(a));
        let accepted = score.iter().filter(|s| **s >= threshold).count();
        let last = score.len().saturating_sub(1);
        Ok(score.get(((accepted as f64 * growth) as usize).min(last)).map_or(threshold, |s| s.min(threshold)))
    }
}

/// Factor by which a region around `n_live` points is grown where the likelihood jumps.
pub(super) fn edge_margin(n_dim: usize, n_live: usize) -> f64 {
    1.0 + EDGE_MARGIN * n_dim as f64 / n_live as f64
}

/// Training targets: ranks scaled to [0, 1/2] below the threshold and to [1/2, 1] at and above it; ties share their mean rank.
fn scores(log_l: &[f64], threshold: f64) -> Vec<f64> {
    let order = argsort(log_l);
    let n_below = log_l.iter().filter(|l| **l < threshold).count();
    let n_live = log_l.len() - n_below;
    let mut score = vec![0.0; log_l.len()];
    let mut k = 0;
    while k < order.len() {
        let value = log_l[order[k]];
        let end = (k..order.len()).find(|&j| log_l[order[j]] != value).unwrap_or(order.len());
        let rank = 0.5 * (k + end) as f64;
        let s = if k < n_below {
            0.5 * rank / n_below as f64
        } else {
            0.5 * (1.0 + (rank - n_below as f64) / n_live as f64)
        };
        order[k..end].iter().for_each(|&j| score[j] = s);
        k = end;
    }
    score
}

/// Least-squares cubic of `y` against `x`, evaluated at `at`; NaN when the fit is singular.
fn cubic_fit_at(x: &[f64], y: &[f32], at: f64) -> f64 {
    // Powers of x - at: the fitted value is then the constant term, and the normal equations stay well scaled on [0, 1].
    let mut normal = nalgebra::Matrix4::<f64>::zeros();
    let mut right = nalgebra::Vector4::<f64>::zeros();
    for (&x, &y) in x.iter().zip(y) {
        let t = 2.0 * (x - at);
        let basis = nalgebra::Vector4::new(1.0, t, t * t, t * t * t);
        normal += basis * basis.transpose();
        right += basis * f64::from(y);
    }
    normal.cholesky().map_or(f64::NAN, |c| c.solve(&right)[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_split_at_the_threshold() {
        assert_eq!(scores(&[3.0, 1.0, 2.0, 4.0], 3.0), [0.625, 0.125, 0.375, 0.875]);
        // A plateau shares one score.
        assert_eq!(scores(&[0.0, 0.0, 1.0, 2.0], 1.0), [0.25, 0.25, 0.625, 0.875]);
    }

    #[test]
    fn cubic_fit_recovers_a_cubic() {
        let x: Vec<f64> = (0..50).map(|k| f64::from(k) / 49.0).collect();
        let y: Vec<f32> = x.iter().map(|x| (1.0 + x - 2.0 * x * x + x * x * x) as f32).collect();
        assert!((cubic_fit_at(&x, &y, 0.5) - 1.125).abs() < 1e-5);
        assert!(cubic_fit_at(&[0.5; 3], &[1.0; 3], 0.5).is_nan());
    }
}
