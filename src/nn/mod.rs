//! The ensemble of small networks that emulates the rank of log L inside an ellipsoid.

mod kernel;
mod network;
mod options;
#[cfg(test)]
mod sharpness;
mod simd;

pub use options::{NetworkError, NetworkOptions, Schedule};

use network::{Network, PREDICT_ROWS, TrainingSet, Workspace};
use simd::Isa;

use crate::backend::CpuPool;
use crate::rng::Stream;

/// What an ensemble learns from.
#[derive(Debug, Clone, Copy)]
pub struct Lesson<'a> {
    /// `[n_points, n_dim]`, row-major, in the frame of an ellipsoid, `|x| <= 1`.
    pub x: &'a [f32],
    /// Coordinates of a point.
    pub n_dim: usize,
    /// Targets `[n_points]` of any scale.
    pub y: &'a [f32],
    /// Which point each is, `[n_points]`: a point keeps its number from lesson to lesson.
    pub ids: &'a [usize],
}

/// Targets are `mean + deviation` times what networks say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// Of the targets.
    pub mean: f32,
    /// Their standard deviation; 0 where they are all the same.
    pub deviation: f32,
}

impl Scaling {
    /// The targets `y` `[n_points]` with mean 0 and variance 1, and what brings them back.
    pub fn of(y: &[f32]) -> (Vec<f32>, Self) {
        let n_points = y.len() as f64;
        let mean = y.iter().map(|&value| f64::from(value)).sum::<f64>() / n_points;
        let variance = y.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / n_points;
        // Equal targets leave only rounding, nothing to divide by: then the prediction is their mean.
        let deviation = if variance > (f64::from(f32::EPSILON) * mean).powi(2) { variance.sqrt() } else { 0.0 };
        let divisor = if deviation > 0.0 { deviation } else { 1.0 };
        let targets = y.iter().map(|&value| ((f64::from(value) - mean) / divisor) as f32).collect();
        (targets, Self { mean: mean as f32, deviation: deviation as f32 })
    }
}

/// Networks trained from different random weights, each on all points but its own part; their mean is the prediction.
#[derive(Debug, Clone)]
pub struct Ensemble {
    networks: Vec<Network>,
    n_dim: usize,
    /// Multiplies coordinates, in training and prediction alike.
    scale: f32,
    scaling: Scaling,
    cpu_seconds: f64,
    #[cfg(test)]
    n_epochs: usize,
}

impl Ensemble {
    /// Trains `n_networks` networks, one task of the pool each; network `k` does not see the points with `id % n_networks = k`, unless it is alone.
    ///
    /// With `from`, an ensemble of the same shape, its weights are where the networks start, and `max_steps_warm` and `learning_rate_init_warm` hold.
    /// `x` is multiplied by `sqrt(n_dim + 2)`, so that a coordinate uniform in the ball has variance 1, and `y` is
    /// standardised for the training. The same stream gives the same bits for any number of threads.
    ///
    /// Cost: about `6 n_weights` floating-point operations per point, epoch and network.
    ///
    /// # Errors
    /// [`NetworkError`] for options out of range, shapes that do not fit, no points or networks, numbers that are not finite, and weights that overflow.
    pub fn train(
        lesson: Lesson<'_>,
        n_networks: usize,
        options: &NetworkOptions,
        from: Option<&Self>,
        stream: Stream,
        pool: &CpuPool,
    ) -> Result<Self, NetworkError> {
        let Lesson { x, n_dim, y, ids } = lesson;
        options.validate()?;
        if n_networks == 0 {
            return Err(NetworkError::Option { name: "n_networks", value: "0".to_owned(), want: "1 or more" });
        }
        let n_points = y.len();
        if n_dim == 0
            || n_points == 0
            || n_points > u32::MAX as usize
            || Some(x.len()) != n_points.checked_mul(n_dim)
            || ids.len() != n_points
        {
            return Err(NetworkError::Shape { n_x: x.len(), n_dim, n_points });
        }
        if let Some(k) = x.iter().position(|value| !value.is_finite()) {
            return Err(NetworkError::NotFinite { what: "a coordinate", point: k / n_dim });
        }
        if let Some(point) = y.iter().position(|value| !value.is_finite()) {
            return Err(NetworkError::NotFinite { what: "the target", point });
        }

        let (targets, Scaling { mean, deviation }) = Scaling::of(y);
        let scale = (n_dim as f32 + 2.0).sqrt();
        let isa = Isa::detect();
        let fresh = |k: u64| Network::new(n_dim, &options.hidden_layer_sizes, stream.substream(k).substream(0), isa);
        let from = from.filter(|from| {
            options.max_steps_warm > 0
                && from.networks.len() == n_networks
                && from.networks.iter().all(|network| network.is_like(&fresh(0)))
        });
        let warm = options.warm();
        let options = if from.is_some() { &warm } else { options };

        let trained = pool.map(n_networks, |k| {
            let clock = cpu_time::ThreadTime::try_now().ok();
            let stream = stream.substream(k as u64);
            let mut network = from.map_or_else(|| fresh(k as u64), |from| from.networks[k].clone());
            let (fold_x, fold_y) = without_fold(lesson, &targets, k, n_networks);
            let set = TrainingSet { x: &fold_x, n_dim, y: &fold_y, scale };
            let n_epochs = network.train(set, options, stream.substream(1));
            let seconds = clock.and_then(|clock| clock.try_elapsed().ok()).map_or(0.0, |time| time.as_secs_f64());
            (network, n_epochs, seconds)
        });

        let cpu_seconds = trained.iter().map(|(_, _, seconds)| seconds).sum();
        #[cfg(test)]
        let n_epochs = trained.iter().map(|(_, epochs, _)| epochs).sum();
        let networks: Vec<Network> = trained.into_iter().map(|(network, _, _)| network).collect();
        if let Some(network) = networks.iter().position(|network| !network.is_finite()) {
            return Err(NetworkError::Diverged { network, learning_rate_init: options.learning_rate_init });
        }
        Ok(Self {
            networks,
            n_dim,
            scale,
            scaling: Scaling { mean, deviation },
            cpu_seconds,
            #[cfg(test)]
            n_epochs,
        })
    }

    /// Writes the mean prediction for the rows of `x` `[n_points, n_dim]` to `out` `[n_points]`; of unequal lengths the shorter counts.
    ///
    /// Runs on the calling thread. A row's result depends on that row only, to the bit, so rows may be cut into any chunks;
    /// chunks that are multiples of 64 rows waste nothing.
    ///
    /// Cost: about `2 n_weights` floating-point operations per row and network.
    pub fn predict(&self, x: &[f32], out: &mut [f32]) {
        self.mean_of(&self.networks, x, out);
    }

    fn mean_of(&self, networks: &[Network], x: &[f32], out: &mut [f32]) {
        let Some(first) = networks.first() else { return };
        // All networks have the same shape, so one workspace does for all.
        let mut space = Workspace::new(first, PREDICT_ROWS);
        let weight = 1.0 / networks.len() as f32;
        for (rows, out) in x.chunks(PREDICT_ROWS * self.n_dim).zip(out.chunks_mut(PREDICT_ROWS)) {
            for (column, row) in rows.chunks_exact(self.n_dim).enumerate() {
                space.load(column, row, self.scale);
            }
            let n_columns = out.len().next_multiple_of(kernel::BLOCK);
            out.fill(0.0);
            for network in networks {
                for (sum, value) in out.iter_mut().zip(network.forward(&mut space, n_columns)) {
                    *sum += value;
                }
            }
            for sum in out {
                *sum = self.scaling.mean + self.scaling.deviation * weight * *sum;
            }
        }
    }

    /// What the network says of each of the training points that did not see it, `[n_points]`: how a fresh point would fare, or a
    /// little worse, since one network is blunter than their mean.
    pub fn held_out(&self, x: &[f32], ids: &[usize]) -> Vec<f32> {
        let n = self.networks.len();
        let mut out = vec![0.0; ids.len()];
        let mut all = out.clone();
        for (k, network) in self.networks.iter().enumerate() {
            self.mean_of(std::slice::from_ref(network), x, &mut all);
            out.iter_mut()
                .zip(&all)
                .zip(ids)
                .filter(|(_, id)| **id % n == k)
                .for_each(|((out, value), _)| *out = *value);
        }
        out
    }

    /// What brings predictions back to the targets.
    #[cfg(feature = "gpu")]
    pub fn scaling(&self) -> Scaling {
        self.scaling
    }

    /// Weights of each network, layer by layer and unit by unit: those of the inputs, then the bias.
    #[cfg(feature = "testing")]
    pub fn weights(&self) -> Vec<Vec<f32>> {
        self.networks.iter().map(Network::dense_weights).collect()
    }

    /// CPU seconds spent in training, summed over threads; 0 where the system has no clock for a thread.
    pub fn cpu_seconds(&self) -> f64 {
        self.cpu_seconds
    }

    /// Epochs of all networks together.
    #[cfg(test)]
    fn n_epochs(&self) -> usize {
        self.n_epochs
    }
}

/// The points with `id % n_folds != fold`; all of them where there is one fold only, or nothing else is left.
fn without_fold(lesson: Lesson<'_>, targets: &[f32], fold: usize, n_folds: usize) -> (Vec<f32>, Vec<f32>) {
    let others = || (0..targets.len()).filter(|i| lesson.ids[*i] % n_folds != fold);
    let kept: Vec<usize> = if others().next().is_none() { (0..targets.len()).collect() } else { others().collect() };
    let rows = kept.iter().flat_map(|i| &lesson.x[i * lesson.n_dim..(i + 1) * lesson.n_dim]).copied().collect();
    (rows, kept.iter().map(|i| targets[*i]).collect())
}

#[cfg(test)]
mod tests;
