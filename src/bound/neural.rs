//! A neural bound: an outer union of ellipsoids, cut down by small networks that predict the rank of log L (Lange 2023, section 3).

use std::ops::Range;

use ndarray::{Array2, ArrayView2};

use super::{BoundError, Ellipsoid, PhaseShift, Union, UnionOptions};
use crate::backend::CpuPool;
use crate::evidence::Fraction;
use crate::math::argsort;
use crate::nn::{Ensemble, NetworkOptions};
use crate::rng::Stream;

/// How bounds are built; the names are those of nautilus.
#[derive(Debug, Clone)]
pub(crate) struct NeuralBoundOptions {
    pub n_live: usize,
    pub union: UnionOptions,
    /// Split the outer union while it is this many times larger than the live volume (and `enlarge_per_dim^n_dim`).
    pub split_threshold: f64,
    pub periodic: Vec<usize>,
    /// Networks per cluster; 0: ellipsoids only.
    pub n_networks: usize,
    pub network: NetworkOptions,
}

/// Live points that a cluster's networks must accept, as a fraction. The cubic fit leaves some of those next to the threshold
/// outside by design, and nothing is lost by it: the next threshold is higher.
const RECALL_FLOOR: f64 = 0.8;

/// Live points with at least this score, the upper half of them, are deep: they will be live again in the next bound. A thin
/// tail may hold a handful of them now and much of the evidence later on, so that losing them loses it.
const DEEP_SCORE: f64 = 0.75;

/// Growth of the accepted volume that a lower threshold may cost to keep every deep point; what is still outside gets patches.
const DEEP_GROWTH: f64 = 1.2;

/// Points score exactly this when all live points tie: rounding must not decide.
const SCORE_ROUNDING: f64 = 1e-9;

/// Where a likelihood jumps, no higher threshold comes that would forgive a cut: the accepted volume is grown by this fraction, times
/// dimensions over live points, beyond all of them. `n` points in a convex region leave a part of order `d/n` outside their hull.
const EDGE_MARGIN: f64 = 20.0;

/// Outer unions are not split further than this many members: membership costs grow with their number.
const MAX_MEMBERS: usize = 128;

#[derive(Debug)]
pub(crate) struct NeuralBound {
    shift: PhaseShift,
    outer: Union,
    clusters: Vec<Cluster>,
    n_dim: usize,
    /// CPU seconds of training, summed over threads.
    train_s: f64,
}

#[derive(Debug)]
struct Cluster {
    ellipsoid: Ellipsoid,
    emulator: Option<Emulator>,
    /// Put over deep points that the networks of another cluster do not accept.
    patch: bool,
}

#[derive(Debug)]
struct Emulator {
    ensemble: Ensemble,
    threshold: f32,
    /// The threshold as it would be if deep points did not matter.
    lenient: f32,
}

/// Rows that passed and how many were tried.
#[derive(Debug, Default)]
pub(crate) struct Drawn {
    /// `[n_kept, n_dim]`, row-major.
    pub rows: Vec<f64>,
    pub union: Fraction,
    pub network: Fraction,
}

impl NeuralBound {
    /// Builds the bound of the points with log L at or above `threshold`.
    ///
    /// `u` `[n_points, n_dim]` are all points evaluated so far, `log_v_live` the logarithm of the prior volume that the points above the threshold stand for.
    /// Cost: training dominates, `n_networks` per cluster.
    pub fn enclosing(
        u: ArrayView2<f64>,
        log_l: &[f64],
        threshold: f64,
        log_v_live: f64,
        options: &NeuralBoundOptions,
        stream: Stream,
        pool: &CpuPool,
    ) -> Result<Self, BoundError> {
        let n_dim = u.ncols();
        let live: Vec<usize> = (0..log_l.len()).filter(|&k| log_l[k] >= threshold).collect();
        let shift = PhaseShift::new(u.select(ndarray::Axis(0), &live).view(), &options.periodic);
        let mut points: Array2<f64> = u.to_owned();
        for mut row in points.rows_mut() {
            if let Some(row) = row.as_slice_mut() {
                shift.apply(row);
            }
        }
        let live_points = points.select(ndarray::Axis(0), &live);

        let mut live_log_l: Vec<f64> = live.iter().map(|&k| log_l[k]).collect();
        live_log_l.sort_by(f64::total_cmp);
        // Fewer live points than asked for: a plateau was skipped. All of them tied: this is the plateau at the top.
        let at_edge = live.len() < options.n_live || live_log_l.last() == Some(&threshold);
        let margin = if at_edge { edge_margin(n_dim, live.len()).powf(1.0 / n_dim as f64) } else { 1.0 };
        let union = UnionOptions { enlarge_per_dim: options.union.enlarge_per_dim * margin, ..options.union };

        let mut separate = Union::enclosing(live_points.view(), &UnionOptions { cube_dims: false, ..union })?;
        for round in 0.. {
            if separate.members().len() >= MAX_MEMBERS || !separate.split(false, stream.substream(1).substream(round)) {
                break;
            }
        }

        let mut outer = Union::enclosing(live_points.view(), &UnionOptions { cube_dims: true, ..union })?;
        let excess = options.split_threshold.ln() + n_dim as f64 * options.union.enlarge_per_dim.ln();
        for round in 0.. {
            if outer.log_volume() - log_v_live <= excess
                || outer.members().len() >= MAX_MEMBERS
                || !outer.split(true, stream.substream(2).substream(round))
            {
                break;
            }
        }
        // Trimming may not take deep points away.
        let deep = live_log_l[live_log_l.len() / 2];
        while outer.members().len() > 1 {
            let mut trimmed = outer.clone();
            let keeps = |outer: &Union, k: usize| live_points.row(k).as_slice().is_none_or(|row| outer.contains(row));
            if !trimmed.trim() || !(0..live.len()).all(|k| log_l[live[k]] < deep || keeps(&trimmed, k)) {
                break;
            }
            outer = trimmed;
        }

        let points = points.as_standard_layout();
        let rows = points.as_slice().unwrap_or(&[]);
        let trainer = Trainer { rows, n_dim, log_l, threshold, at_edge, options, pool };
        let mut clusters = Vec::with_capacity(separate.members().len());
        for (index, ellipsoid) in separate.members().iter().enumerate() {
            let stream = stream.substream(3).substream(index as u64);
            let (emulator, missed) = trainer.train(ellipsoid, stream, &[])?;
            clusters.push(Cluster { ellipsoid: ellipsoid.clone(), emulator, patch: false });
            if !missed.is_empty() {
                clusters.extend(trainer.patches(ellipsoid, &missed, stream.substream(1))?);
            }
        }
        let train_s = clusters.iter().filter_map(|c| c.emulator.as_ref()).map(|e| e.ensemble.cpu_seconds()).sum();
        Ok(Self { shift, outer, clusters, n_dim, train_s })
    }

    /// Gives up what was done to keep every deep point; false when there was nothing to give up.
    pub fn relax(&mut self) -> bool {
        let n_clusters = self.clusters.len();
        self.clusters.retain(|c| !c.patch);
        let mut relaxed = self.clusters.len() < n_clusters;
        for emulator in self.clusters.iter_mut().filter_map(|c| c.emulator.as_mut()) {
            relaxed |= emulator.threshold < emulator.lenient;
            emulator.threshold = emulator.lenient;
        }
        relaxed
    }

    /// Logarithm of the summed volume of the members of the outer union, before the counted fractions.
    pub fn log_v_members(&self) -> f64 {
        self.outer.log_volume()
    }

    pub fn train_s(&self) -> f64 {
        self.train_s
    }

    /// The draws of `range` from the members, those kept that are in the cube, counted once and accepted by the networks.
    pub fn draw(&self, stream: &Stream, range: Range<u64>) -> Drawn {
        let d = self.n_dim;
        let drawn = range.end - range.start;
        let mut rows = Vec::with_capacity(drawn as usize * d);
        let mut x = vec![0.0; d];
        for index in range {
            if self.outer.draw(&mut stream.at(index), &mut x) {
                rows.extend_from_slice(&x);
            }
        }
        let in_union = (rows.len() / d) as u64;
        let mut accepted = vec![false; in_union as usize];
        self.in_clusters(&rows, &mut accepted);
        let mut kept = 0;
        for (k, _) in accepted.iter().enumerate().filter(|(_, a)| **a) {
            rows.copy_within(k * d..(k + 1) * d, kept * d);
            self.shift.invert(&mut rows[kept * d..(kept + 1) * d]);
            kept += 1;
        }
        rows.truncate(kept * d);
        Drawn {
            rows,
            union: Fraction { drawn, kept: in_union },
            network: Fraction { drawn: in_union, kept: kept as u64 },
        }
    }

    /// Membership of `rows` `[n, n_dim]`.
    pub fn contains(&self, rows: &[f64]) -> Vec<bool> {
        let d = self.n_dim;
        let mut inside = vec![false; rows.len() / d];
        let (mut index, mut candidates) = (Vec::new(), Vec::new());
        let mut x = vec![0.0; d];
        for (k, row) in rows.chunks_exact(d).enumerate() {
            x.copy_from_slice(row);
            self.shift.apply(&mut x);
            if self.outer.contains(&x) {
                index.push(k);
                candidates.extend_from_slice(&x);
            }
        }
        let mut accepted = vec![false; index.len()];
        self.in_clusters(&candidates, &mut accepted);
        for (k, accepted) in index.into_iter().zip(accepted) {
            inside[k] = accepted;
        }
        inside
    }

    /// Which rows, already shifted, any cluster accepts.
    fn in_clusters(&self, rows: &[f64], accepted: &mut [bool]) {
        let d = self.n_dim;
        let mut z = vec![0.0; d];
        for cluster in &self.clusters {
            let (mut index, mut frame) = (Vec::new(), Vec::new());
            for (k, row) in rows.chunks_exact(d).enumerate().filter(|(k, _)| !accepted[*k]) {
                if cluster.ellipsoid.contains(row) {
                    match &cluster.emulator {
                        None => index.push(k),
                        Some(_) => {
                            cluster.ellipsoid.to_frame(row, &mut z);
                            index.push(k);
                            frame.extend(z.iter().map(|z| *z as f32));
                        }
                    }
                }
            }
            match &cluster.emulator {
                None => index.into_iter().for_each(|k| accepted[k] = true),
                Some(emulator) => {
                    let mut score = vec![0.0f32; index.len()];
                    emulator.ensemble.predict(&frame, &mut score);
                    for (k, score) in index.into_iter().zip(score) {
                        accepted[k] = score >= emulator.threshold;
                    }
                }
            }
        }
    }
}

/// What every network of a bound is trained on.
struct Trainer<'a> {
    /// Every point, shifted, `[n_points, n_dim]`.
    rows: &'a [f64],
    n_dim: usize,
    log_l: &'a [f64],
    threshold: f64,
    /// The live points end where the likelihood jumps.
    at_edge: bool,
    options: &'a NeuralBoundOptions,
    pool: &'a CpuPool,
}

impl Trainer<'_> {
    fn row(&self, point: usize) -> &[f64] {
        &self.rows[point * self.n_dim..(point + 1) * self.n_dim]
    }

    /// Trains on every point inside the ellipsoid; no emulator when all of them are live, so that there is nothing to tell apart.
    ///
    /// The threshold is low enough to accept `keep`. Returns the deep points that are left outside, too.
    fn train(
        &self,
        ellipsoid: &Ellipsoid,
        stream: Stream,
        keep: &[usize],
    ) -> Result<(Option<Emulator>, Vec<usize>), BoundError> {
        let mut z = vec![0.0; self.n_dim];
        let (mut x, mut points) = (Vec::new(), Vec::new());
        for (point, row) in self.rows.chunks_exact(self.n_dim).enumerate() {
            if ellipsoid.contains(row) {
                ellipsoid.to_frame(row, &mut z);
                x.extend(z.iter().map(|z| *z as f32));
                points.push(point);
            }
        }
        let l: Vec<f64> = points.iter().map(|&point| self.log_l[point]).collect();
        let n_live = l.iter().filter(|l| **l >= self.threshold).count();
        if self.options.n_networks == 0 || n_live == l.len() || n_live == 0 {
            return Ok((None, Vec::new()));
        }
        let score = scores(&l, self.threshold);
        let y: Vec<f32> = score.iter().map(|s| *s as f32).collect();
        let (n_networks, network) = (self.options.n_networks, &self.options.network);
        let ensemble =
            Ensemble::train(&x, self.n_dim, &y, n_networks, network, stream, self.pool).map_err(BoundError::Network)?;
        let mut prediction = vec![0.0f32; l.len()];
        ensemble.predict(&x, &mut prediction);

        let fitted = cubic_fit_at(&score, &prediction, 0.5 * (1.0 + 0.5 / n_live as f64)) as f32;
        let mut live: Vec<f32> =
            prediction.iter().zip(&l).filter(|(_, l)| **l >= self.threshold).map(|(p, _)| *p).collect();
        live.sort_by(f32::total_cmp);
        let floor = live[((1.0 - RECALL_FLOOR) * live.len() as f64) as usize];
        let lenient = if fitted.is_nan() { floor } else { fitted.min(floor) };

        let lowest = |wanted: &dyn Fn(usize) -> bool| {
            (0..points.len()).filter(|&k| wanted(k)).map(|k| prediction[k]).fold(f32::INFINITY, f32::min)
        };
        let mut threshold = lenient.min(lowest(&|k| keep.contains(&points[k])));
        let is_deep = |k: usize| score[k] >= DEEP_SCORE - SCORE_ROUNDING;
        let deepest = lowest(&is_deep);
        if self.at_edge {
            let growth = edge_margin(self.n_dim, n_live);
            let all = threshold.min(lowest(&|k| l[k] >= self.threshold));
            threshold = self.grown(ellipsoid, &ensemble, all, growth, stream.substream(2));
        } else if keep.is_empty() && deepest < threshold {
            threshold = deepest.max(self.grown(ellipsoid, &ensemble, threshold, DEEP_GROWTH, stream.substream(2)));
        }
        let missed = (0..points.len()).filter(|&k| is_deep(k) && prediction[k] < threshold).map(|k| points[k]);
        let missed = missed.collect();
        Ok((Some(Emulator { ensemble, threshold, lenient }), missed))
    }

    /// The threshold at which the accepted part of the ellipsoid is `growth` times what it is at `threshold`.
    fn grown(&self, ellipsoid: &Ellipsoid, ensemble: &Ensemble, threshold: f32, growth: f64, stream: Stream) -> f32 {
        const N_DRAWS: usize = 2048;
        let (mut x, mut z) = (vec![0.0; self.n_dim], vec![0.0; self.n_dim]);
        let mut frame = Vec::with_capacity(N_DRAWS * self.n_dim);
        for k in 0..N_DRAWS {
            ellipsoid.draw(&mut stream.at(k as u64), &mut x);
            ellipsoid.to_frame(&x, &mut z);
            frame.extend(z.iter().map(|z| *z as f32));
        }
        let mut score = vec![0.0; N_DRAWS];
        ensemble.predict(&frame, &mut score);
        score.sort_by(|a, b| b.total_cmp(a));
        let accepted = score.iter().filter(|s| **s >= threshold).count();
        score[((accepted as f64 * growth) as usize).min(N_DRAWS - 1)].min(threshold)
    }

    /// Small clusters over `missed`, deep points that the networks of `ellipsoid` do not accept, with networks of their own.
    fn patches(&self, ellipsoid: &Ellipsoid, missed: &[usize], stream: Stream) -> Result<Vec<Cluster>, BoundError> {
        const N_PATCHES_MAX: usize = 8;
        let live =
            (0..self.log_l.len()).filter(|&k| self.log_l[k] >= self.threshold && ellipsoid.contains(self.row(k)));
        let frame = |point: usize| {
            let mut z = vec![0.0; self.n_dim];
            ellipsoid.to_frame(self.row(point), &mut z);
            z
        };
        let centres: Vec<Vec<f64>> = missed.iter().map(|&point| frame(point)).collect();
        // Topped up with the live points next to them, so that an ellipsoid can be fitted.
        let distance = |point: usize| {
            let z = frame(point);
            let square = |c: &Vec<f64>| c.iter().zip(&z).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
            centres.iter().map(square).fold(f64::INFINITY, f64::min)
        };
        let mut near: Vec<(f64, usize)> = live.map(|point| (distance(point), point)).collect();
        near.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        near.truncate(missed.len().max(self.options.union.n_points_min));
        let rows: Vec<f64> = near.iter().flat_map(|&(_, point)| self.row(point)).copied().collect();
        let points = ArrayView2::from_shape((near.len(), self.n_dim), &rows)
            .map_err(|_| BoundError::Empty { n_points: near.len(), n_dim: self.n_dim })?;
        let mut union = Union::enclosing(points, &UnionOptions { cube_dims: false, ..self.options.union })?;
        for round in 0.. {
            if union.members().len() >= N_PATCHES_MAX || !union.split(false, stream.substream(round)) {
                break;
            }
        }
        let train = |(index, member): (usize, &Ellipsoid)| {
            let keep: Vec<usize> = missed.iter().copied().filter(|&point| member.contains(self.row(point))).collect();
            if keep.is_empty() {
                return Ok(None);
            }
            let (emulator, _) = self.train(member, stream.substream(N_PATCHES_MAX as u64 + index as u64), &keep)?;
            Ok(Some(Cluster { ellipsoid: member.clone(), emulator, patch: true }))
        };
        union.members().iter().enumerate().filter_map(|m| train(m).transpose()).collect()
    }
}

/// Factor by which a region around `n_live` points is grown where the likelihood jumps.
fn edge_margin(n_dim: usize, n_live: usize) -> f64 {
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
