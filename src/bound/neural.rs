//! A neural bound: an outer union of ellipsoids, cut down by small networks that predict the rank of log L (Lange 2023, section 3).

mod training;

use std::ops::Range;

use ndarray::{Array2, ArrayView2};

#[cfg(feature = "gpu")]
use super::device::DeviceEnsemble;
use super::quadratic::Quadratic;
use super::{BoundError, Ellipsoid, PhaseShift, Union, UnionLimits, UnionOptions};
use crate::evidence::Fraction;
#[cfg(feature = "gpu")]
use crate::kernel::{BoundPlan, ClusterPlan, EmulatorPlan};
#[cfg(feature = "gpu")]
use crate::nn::Scaling;
use crate::nn::{Ensemble, NetworkOptions};
use crate::rng::Stream;
pub(super) use training::Teacher;
use training::{Trainer, edge_margin};

/// How bounds are built.
#[derive(Debug, Clone)]
pub(crate) struct NeuralBoundOptions {
    pub union: UnionOptions,
    /// Split the outer union while it is this many times larger than the live volume (and `enlarge_per_dim^n_dim`).
    pub split_threshold: f64,
    pub periodic: Vec<usize>,
    /// Networks per cluster; 0: ellipsoids only.
    pub n_networks: usize,
    pub network: NetworkOptions,
}

/// The points with log L at or above a threshold, which a bound is to enclose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Live {
    pub threshold: f64,
    /// They end where the likelihood jumps: a plateau was skipped, or they are the plateau at the top.
    pub at_edge: bool,
    /// Logarithm of the prior volume that they stand for.
    pub log_volume: f64,
}

/// What a bound is built from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cloud<'a> {
    /// `[n_points, n_dim]`
    pub u: ArrayView2<'a, f64>,
    /// `[n_points]`
    pub log_l: &'a [f64],
    /// Which point each is, `[n_points]`.
    pub ids: &'a [usize],
}

/// Outer unions are not split further than this many members: membership costs grow with their number.
const MAX_MEMBERS: usize = 128;

/// Networks go on from those of the bound before when their cluster is smaller or larger by no more than this factor.
const WARM_VOLUME: f64 = 4.0;

/// The surface enters the networks between minus and plus this, in units of the deviation of a coordinate.
const SURFACE_RANGE: f32 = 2.0;

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
}

#[derive(Debug)]
struct Emulator {
    quadratic: Option<Quadratic>,
    networks: Networks,
    /// Smallest prediction that is accepted in each cell of the outer union.
    thresholds: Vec<f32>,
    /// What they were before anything was given up.
    careful: Vec<f32>,
    /// The threshold of the cubic fit alone.
    fitted: f32,
}

/// The ensemble of a cluster, on the machine that trained it.
#[derive(Debug)]
enum Networks {
    Threads(Ensemble),
    #[cfg(feature = "gpu")]
    Device(DeviceEnsemble),
}

impl Networks {
    #[cfg(feature = "gpu")]
    fn scaling(&self) -> Scaling {
        match self {
            Self::Threads(ensemble) => ensemble.scaling(),
            Self::Device(ensemble) => ensemble.scaling,
        }
    }

    #[allow(clippy::unnecessary_wraps)] // without devices there is nothing else
    fn on_threads(&self) -> Option<&Ensemble> {
        match self {
            Self::Threads(ensemble) => Some(ensemble),
            #[cfg(feature = "gpu")]
            Self::Device(_) => None,
        }
    }

    fn train_s(&self) -> f64 {
        match self {
            Self::Threads(ensemble) => ensemble.cpu_seconds(),
            #[cfg(feature = "gpu")]
            Self::Device(ensemble) => ensemble.seconds,
        }
    }
}

/// Rows that passed, the cell each lies in, and how many were tried.
#[derive(Debug, Default)]
pub(crate) struct Drawn {
    /// `[n_kept, n_dim]`, row-major.
    pub rows: Vec<f64>,
    /// `[n_kept]`
    pub cells: Vec<u32>,
    /// For each cell: draws from its member, kept in the union.
    pub union: Vec<Fraction>,
    /// For each cell: kept in the union, accepted by the networks.
    pub network: Vec<Fraction>,
}

impl NeuralBound {
    /// Builds the bound of the live points.
    ///
    /// `cloud` has the points evaluated so far, live ones and others, and `before` is the bound that this one follows: its networks are where the new ones start.
    /// Cost: training dominates, `n_networks` per cluster.
    pub(super) fn enclosing(
        cloud: Cloud<'_>,
        live: Live,
        before: Option<&Self>,
        options: &NeuralBoundOptions,
        stream: Stream,
        teacher: Teacher<'_>,
    ) -> Result<Self, BoundError> {
        let Cloud { u, log_l, .. } = cloud;
        let n_dim = u.ncols();
        let ids: Vec<usize> = (0..log_l.len()).filter(|&k| log_l[k] >= live.threshold).collect();
        let shift = PhaseShift::new(u.select(ndarray::Axis(0), &ids).view(), &options.periodic);
        let mut points: Array2<f64> = u.to_owned();
        for mut row in points.rows_mut() {
            if let Some(row) = row.as_slice_mut() {
                shift.apply(row);
            }
        }
        let live_points = points.select(ndarray::Axis(0), &ids);
        let margin = if live.at_edge { edge_margin(n_dim, ids.len()).powf(1.0 / n_dim as f64) } else { 1.0 };
        let union = UnionOptions { enlarge_per_dim: options.union.enlarge_per_dim * margin, ..options.union };

        let enlargement = n_dim as f64 * union.enlarge_per_dim.ln();
        let excess = options.split_threshold.ln() + n_dim as f64 * options.union.enlarge_per_dim.ln();
        let limits = UnionLimits {
            log_v_points: live.log_volume + enlargement,
            log_target: live.log_volume + excess,
            max_members: MAX_MEMBERS,
        };
        let clustering = UnionOptions { cube_dims: false, ..union };
        let separate = Union::clusters(live_points.view(), &clustering, &limits, stream.substream(1))?;
        let covering = UnionOptions { cube_dims: true, ..union };
        let mut outer = Union::covering(live_points.view(), &covering, &limits, stream.substream(2))?;
        // Trimming may not take deep points away.
        let mut live_log_l: Vec<f64> = ids.iter().map(|&k| log_l[k]).collect();
        live_log_l.sort_by(f64::total_cmp);
        let deep = live_log_l[live_log_l.len() / 2];
        while outer.members().len() > 1 {
            let mut trimmed = outer.clone();
            let keeps = |outer: &Union, k: usize| live_points.row(k).as_slice().is_none_or(|row| outer.contains(row));
            if !trimmed.trim() || !(0..ids.len()).all(|k| log_l[ids[k]] < deep || keeps(&trimmed, k)) {
                break;
            }
            outer = trimmed;
        }

        let points = points.as_standard_layout();
        let rows = points.as_slice().unwrap_or(&[]);
        let mut trainer = Trainer {
            rows,
            n_dim,
            log_l,
            ids: cloud.ids,
            live,
            outer: &outer,
            #[cfg(feature = "gpu")]
            shift: &shift,
            options,
            teacher,
        };
        let mut clusters = Vec::with_capacity(separate.members().len());
        for (index, ellipsoid) in separate.members().iter().enumerate() {
            let from = before.and_then(|before| before.networks_near(ellipsoid, &shift));
            let emulator = trainer.train(ellipsoid, from, stream.substream(3).substream(index as u64))?;
            clusters.push(Cluster { ellipsoid: ellipsoid.clone(), emulator });
        }
        let train_s = clusters.iter().filter_map(|c| c.emulator.as_ref()).map(|e| e.networks.train_s()).sum();
        Ok(Self { shift, outer, clusters, n_dim, train_s })
    }

    /// The networks of the cluster that holds the centre of `ellipsoid`, a point shifted by `shift`, and is of its size.
    fn networks_near(&self, ellipsoid: &Ellipsoid, shift: &PhaseShift) -> Option<&Networks> {
        let mut centre = vec![0.0; self.n_dim];
        ellipsoid.centre(&mut centre);
        shift.invert(&mut centre);
        self.shift.apply(&mut centre);
        let cluster = self.clusters.iter().find(|cluster| cluster.ellipsoid.contains(&centre))?;
        let growth = ellipsoid.log_volume() - cluster.ellipsoid.log_volume();
        cluster.emulator.as_ref().map(|e| &e.networks).filter(|_| growth.abs() <= WARM_VOLUME.ln())
    }

    /// Gives up a part, from 0 to 1, of what was done for the recall in each cell; false when there was nothing to give up.
    pub fn relax(&mut self, part: f32) -> bool {
        let mut relaxed = false;
        for emulator in self.clusters.iter_mut().filter_map(|c| c.emulator.as_mut()) {
            for (threshold, careful) in emulator.thresholds.iter_mut().zip(&emulator.careful) {
                relaxed |= *careful < emulator.fitted;
                *threshold = careful + part * (emulator.fitted - careful).max(0.0);
            }
        }
        relaxed
    }

    /// Logarithm of the volume of each member of the outer union, before the counted fractions.
    pub fn log_v_members(&self) -> Vec<f64> {
        self.outer.members().iter().map(Ellipsoid::log_volume).collect()
    }

    pub fn train_s(&self) -> f64 {
        self.train_s
    }

    /// The bound as a device gets it.
    #[cfg(feature = "gpu")]
    pub fn plan(&self) -> BoundPlan {
        let cluster = |cluster: &Cluster| ClusterPlan {
            ellipsoid: cluster.ellipsoid.plan(),
            emulator: cluster.emulator.as_ref().map(|emulator| {
                let Scaling { mean, deviation } = emulator.networks.scaling();
                let surface = emulator.quadratic.as_ref().map(Quadratic::coefficients);
                EmulatorPlan { surface, mean, deviation, thresholds: emulator.thresholds.clone() }
            }),
        };
        BoundPlan {
            members: self.outer.members().iter().map(Ellipsoid::plan).collect(),
            shares: self.outer.cumulated().to_vec(),
            clusters: self.clusters.iter().map(cluster).collect(),
            shift: self.shift.boundaries().to_vec(),
            is_cube: false,
        }
    }

    /// The networks of all clusters that have any, where they lie on a device.
    #[cfg(feature = "gpu")]
    pub(super) fn device_ensembles(&mut self) -> impl Iterator<Item = &mut DeviceEnsemble> {
        self.clusters.iter_mut().filter_map(|c| c.emulator.as_mut()).filter_map(|e| match &mut e.networks {
            Networks::Device(ensemble) => Some(ensemble),
            Networks::Threads(_) => None,
        })
    }

    /// The draws of `range`, from the members by volume or all from one; kept are those in the cube, counted once and accepted by the networks.
    pub fn draw(&self, stream: &Stream, range: Range<u64>, cell: Option<usize>) -> Drawn {
        let d = self.n_dim;
        let none = vec![Fraction::default(); self.outer.members().len()];
        let (mut union, mut network) = (none.clone(), none);
        let mut rows = Vec::with_capacity((range.end - range.start) as usize * d);
        let mut cells = Vec::new();
        let mut x = vec![0.0; d];
        for index in range {
            let mut draw = stream.at(index);
            let cell = cell.unwrap_or_else(|| self.outer.pick(&mut draw));
            let inside = self.outer.draw_in(cell, &mut draw, &mut x);
            union[cell].add(1, inside.into());
            if inside {
                rows.extend_from_slice(&x);
                cells.push(cell as u32);
            }
        }
        let mut accepted = vec![false; cells.len()];
        self.in_clusters(&rows, &cells, &mut accepted);
        let mut kept = 0;
        for (k, accepted) in accepted.into_iter().enumerate() {
            network[cells[k] as usize].add(1, accepted.into());
            if accepted {
                rows.copy_within(k * d..(k + 1) * d, kept * d);
                self.shift.invert(&mut rows[kept * d..(kept + 1) * d]);
                cells[kept] = cells[k];
                kept += 1;
            }
        }
        rows.truncate(kept * d);
        cells.truncate(kept);
        Drawn { rows, cells, union, network }
    }

    /// The cell of each of `rows` `[n, n_dim]`; none for those outside the bound.
    pub fn locate(&self, rows: &[f64]) -> Vec<Option<u32>> {
        let d = self.n_dim;
        let mut found = vec![None; rows.len() / d];
        let (mut index, mut cells, mut candidates) = (Vec::new(), Vec::new(), Vec::new());
        let mut x = vec![0.0; d];
        for (k, row) in rows.chunks_exact(d).enumerate() {
            x.copy_from_slice(row);
            self.shift.apply(&mut x);
            if let Some(cell) = self.outer.cell(&x) {
                index.push(k);
                cells.push(cell as u32);
                candidates.extend_from_slice(&x);
            }
        }
        let mut accepted = vec![false; index.len()];
        self.in_clusters(&candidates, &cells, &mut accepted);
        for ((k, cell), _) in index.into_iter().zip(cells).zip(accepted).filter(|(_, accepted)| *accepted) {
            found[k] = Some(cell);
        }
        found
    }

    /// Which rows, already shifted and each in its cell, any cluster accepts.
    fn in_clusters(&self, rows: &[f64], cells: &[u32], accepted: &mut [bool]) {
        let d = self.n_dim;
        let mut z = vec![0.0; d];
        for cluster in &self.clusters {
            let (mut index, mut features) = (Vec::new(), Vec::new());
            for (k, row) in rows.chunks_exact(d).enumerate().filter(|(k, _)| !accepted[*k]) {
                if cluster.ellipsoid.contains(row) {
                    index.push(k);
                    if let Some(emulator) = &cluster.emulator {
                        cluster.ellipsoid.to_frame(row, &mut z);
                        push_features(&mut features, &z, emulator.quadratic.as_ref());
                    }
                }
            }
            match &cluster.emulator {
                None => index.into_iter().for_each(|k| accepted[k] = true),
                Some(emulator) => {
                    let mut score = vec![0.0f32; index.len()];
                    // Bounds of a device are asked there.
                    if let Some(ensemble) = emulator.networks.on_threads() {
                        ensemble.predict(&features, &mut score);
                    }
                    for (k, score) in index.into_iter().zip(score) {
                        accepted[k] = score >= emulator.thresholds[cells[k] as usize];
                    }
                }
            }
        }
    }
}

/// Appends what the networks see of a point `z` of the frame: its coordinates, and the surface there, held within bounds.
fn push_features(features: &mut Vec<f32>, z: &[f64], quadratic: Option<&Quadratic>) {
    let start = features.len();
    features.extend(z.iter().map(|z| *z as f32));
    // Its square must not overflow.
    let value = quadratic.map_or(0.0, |quadratic| quadratic.value(&features[start..])).clamp(-1e9, 1e9);
    let room = SURFACE_RANGE / (z.len() as f32 + 2.0).sqrt();
    features.push(room * value / (1.0 + value * value).sqrt());
}
