//! One multi-layer perceptron: ReLU layers, a linear output, squared loss, Adam on shuffled minibatches.

use super::kernel::{self, AdamStep, Aligned, BLOCK, Features, Layer};
use super::options::{NetworkOptions, Schedule};
use super::simd::Isa;
use crate::rng::Stream;

/// Points that one pass of a prediction takes: few enough that the activations stay in the first-level cache.
pub(super) const PREDICT_ROWS: usize = 64;

/// What a network learns from, already in its own units.
#[derive(Debug, Clone, Copy)]
pub(super) struct TrainingSet<'a> {
    /// `[n_points, n_dim]`, row-major.
    pub(super) x: &'a [f32],
    pub(super) n_dim: usize,
    /// `[n_points]`, mean 0 and variance 1.
    pub(super) y: &'a [f32],
    /// Multiplies `x`.
    pub(super) scale: f32,
}

/// Weights of one network, one layer after the other.
#[derive(Debug, Clone)]
pub(super) struct Network {
    layers: Vec<Layer>,
    weights: Aligned,
    isa: Isa,
}

/// Activations of every layer for one batch of columns.
#[derive(Debug, Clone)]
pub(super) struct Workspace {
    /// One per layer, from the input to the output; all but the output end with a row of ones, which carries the bias.
    layers: Vec<Features>,
    /// Room for the widest of them, transposed.
    turned: Aligned,
}

impl Workspace {
    pub(super) fn new(network: &Network, n_columns: usize) -> Self {
        let inputs = network.layers.iter().map(|layer| {
            let mut features = Features::zeros(layer.n_in, n_columns);
            features.row_mut(layer.n_in - 1).fill(1.0);
            features
        });
        let layers = inputs.chain([Features::zeros(1, n_columns)]).collect();
        let turned =
            network.layers.iter().map(|layer| layer.stride).max().unwrap_or(0) * n_columns.next_multiple_of(BLOCK);
        Self { layers, turned: Aligned::zeros(turned) }
    }

    /// Puts point `point` into column `column`.
    #[inline]
    pub(super) fn load(&mut self, column: usize, point: &[f32], scale: f32) {
        for (k, &value) in point.iter().enumerate() {
            self.layers[0].row_mut(k)[column] = value * scale;
        }
    }
}

impl Network {
    /// Random weights: uniform within `sqrt(6 / (n_in + n_out))` (Glorot & Bengio 2010), biases included, as scikit-learn has it.
    pub(super) fn new(n_dim: usize, hidden: &[usize], stream: Stream, isa: Isa) -> Self {
        let mut layers: Vec<Layer> = Vec::with_capacity(hidden.len() + 1);
        let mut n_in = n_dim;
        for n_out in hidden.iter().copied().chain([1]) {
            layers.push(Layer::new(layers.last().map_or(0, Layer::end), n_out, n_in + 1));
            n_in = n_out;
        }
        let mut weights = Aligned::zeros(layers.last().map_or(0, Layer::end));
        let mut draw = stream.at(0);
        for layer in &layers {
            let bound = (6.0 / (layer.n_in - 1 + layer.n_out) as f64).sqrt();
            for unit in weights[layer.start..layer.end()].chunks_mut(layer.stride) {
                unit[..layer.n_in].fill_with(|| (bound * (2.0 * draw.uniform() - 1.0)) as f32);
            }
        }
        Self { layers, weights, isa }
    }

    /// Predictions for the first `n_columns` (a multiple of [`BLOCK`]) columns of the workspace.
    pub(super) fn forward<'a>(&self, space: &'a mut Workspace, n_columns: usize) -> &'a [f32] {
        let last = self.layers.len() - 1;
        for (k, &layer) in self.layers.iter().enumerate() {
            let (input, output) = space.layers.split_at_mut(k + 1);
            kernel::forward(self.isa, &self.weights, layer, &input[k], &mut output[0], n_columns, k < last);
        }
        &space.layers[last + 1].row(0)[..n_columns]
    }

    /// Gradient of the loss; the workspace holds the activations and, in its output row, the gradients with respect to the predictions.
    fn gradient(&self, space: &mut Workspace, gradient: &mut Aligned, n_columns: usize) {
        for (k, &layer) in self.layers.iter().enumerate().rev() {
            let (input, output) = space.layers.split_at_mut(k + 1);
            let (input, delta) = (&mut input[k], &output[0]);
            kernel::weight_gradient(self.isa, gradient, layer, delta, input, n_columns, &mut space.turned);
            if k > 0 {
                kernel::backward(self.isa, &self.weights, layer, delta, input, n_columns);
            }
        }
    }

    /// Half the mean squared error of one minibatch and its gradient.
    fn loss_and_gradient(
        &self,
        set: TrainingSet<'_>,
        points: &[u32],
        space: &mut Workspace,
        gradient: &mut Aligned,
    ) -> f64 {
        let n_columns = points.len().next_multiple_of(BLOCK);
        for (column, &point) in points.iter().enumerate() {
            let point = point as usize;
            space.load(column, &set.x[point * set.n_dim..(point + 1) * set.n_dim], set.scale);
        }
        self.forward(space, n_columns);
        let output = space.layers[self.layers.len()].row_mut(0);
        let weight = 1.0 / points.len() as f32;
        let mut loss = 0.0;
        for (value, &point) in output.iter_mut().zip(points) {
            let error = *value - set.y[point as usize];
            loss += f64::from(error * error);
            *value = error * weight;
        }
        // Columns that pad the batch take no part.
        output[points.len()..n_columns].fill(0.0);
        self.gradient(space, gradient, n_columns);
        0.5 * loss / points.len() as f64
    }

    /// Trains in place and returns the number of epochs done.
    pub(super) fn train(&mut self, set: TrainingSet<'_>, options: &NetworkOptions, stream: Stream) -> usize {
        let n_points = set.y.len();
        // Batches of equal size (to within one point) instead of a short last one.
        let n_batches = n_points.div_ceil(options.batch_size);
        let mut space = Workspace::new(self, n_points.div_ceil(n_batches));
        let mut gradient = Aligned::zeros(self.weights.len());
        let mut first = gradient.clone();
        let mut second = gradient.clone();
        let mut order: Vec<u32> = (0..n_points as u32).collect();
        let (beta_1, beta_2) = (options.beta_1, options.beta_2);
        let max_iter = options.max_iter.min(options.max_steps.div_ceil(n_batches));
        let n_steps = (max_iter * n_batches) as f64;
        let (mut power_1, mut power_2) = (1.0, 1.0);
        let mut done = 0.0;
        let (mut best, mut stalled) = (f64::INFINITY, 0);
        for epoch in 0..max_iter {
            stream.at(epoch as u64).shuffle(&mut order);
            let mut loss = 0.0;
            for batch in 0..n_batches {
                let points = &order[batch * n_points / n_batches..(batch + 1) * n_points / n_batches];
                loss += self.loss_and_gradient(set, points, &mut space, &mut gradient) * points.len() as f64;
                power_1 *= beta_1;
                power_2 *= beta_2;
                let left = 1.0 - done / n_steps;
                let scheduled = match options.learning_rate {
                    Schedule::Constant => 1.0,
                    Schedule::Linear => left,
                    Schedule::Cosine => 0.5 * (1.0 - (std::f64::consts::PI * left).cos()),
                };
                let rate = options.learning_rate_init * scheduled * (1.0 - power_2).sqrt() / (1.0 - power_1);
                let step = AdamStep {
                    rate: rate as f32,
                    beta_1: beta_1 as f32,
                    beta_2: beta_2 as f32,
                    epsilon: options.epsilon as f32,
                };
                kernel::adam_step(self.isa, step, &mut self.weights, &mut first, &mut second, &gradient);
                done += 1.0;
            }
            loss /= n_points as f64;
            // As in scikit-learn: an epoch that does not better the best loss by `tol` counts as stalled.
            stalled = if loss > best - options.tol { stalled + 1 } else { 0 };
            best = best.min(loss);
            if options.learning_rate == Schedule::Constant && stalled > options.n_iter_no_change {
                return epoch + 1;
            }
        }
        max_iter
    }

    /// The weights without the zeros between the rows.
    #[cfg(feature = "testing")]
    pub(super) fn dense_weights(&self) -> Vec<f32> {
        let rows = |layer: &Layer| self.weights[layer.start..layer.end()].chunks(layer.stride);
        self.layers.iter().flat_map(|layer| rows(layer).flat_map(|row| &row[..layer.n_in])).copied().collect()
    }

    pub(super) fn is_finite(&self) -> bool {
        self.weights.iter().all(|weight| weight.is_finite())
    }

    /// Whether the two have the same layers.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.layers == other.layers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loss in f64, written the plain way.
    fn loss(network: &Network, weights: &[f64], x: &[f32], n_dim: usize, y: &[f32]) -> f64 {
        let mut total = 0.0;
        let last = network.layers.len() - 1;
        for (point, &target) in x.chunks(n_dim).zip(y) {
            let mut layer_in: Vec<f64> = point.iter().map(|&value| f64::from(value)).collect();
            for (k, layer) in network.layers.iter().enumerate() {
                layer_in.push(1.0);
                let rows = weights[layer.start..layer.end()].chunks(layer.stride);
                let sums = rows.map(|row| row.iter().zip(&layer_in).map(|(w, v)| w * v).sum::<f64>());
                layer_in = sums.map(|sum| if k < last { sum.max(0.0) } else { sum }).collect();
            }
            total += 0.5 * (layer_in[0] - f64::from(target)).powi(2);
        }
        total / y.len() as f64
    }

    fn points(n: usize, n_dim: usize) -> (Vec<f32>, Vec<f32>) {
        let mut draw = Stream::new(3).at(0);
        let x: Vec<f32> = (0..n * n_dim).map(|_| draw.normal() as f32).collect();
        let y = (0..n).map(|_| draw.normal() as f32).collect();
        (x, y)
    }

    /// f32 sums of at most a hundred terms of order 1, against central differences in f64.
    const GRADIENT_TOLERANCE: f64 = 2e-5;

    #[test]
    fn gradient_agrees_with_finite_differences_on_every_instruction_set() {
        // Widths and numbers of points that leave a remainder in every tile, and none at all.
        for (n_dim, hidden, n) in
            [(1, vec![], 1), (3, vec![7], 19), (2, vec![13, 9, 5], 48), (5, vec![24, 12], 96), (4, vec![11, 6], 101)]
        {
            let (x, y) = points(n, n_dim);
            let set = TrainingSet { x: &x, n_dim, y: &y, scale: 1.0 };
            let order: Vec<u32> = (0..n as u32).collect();
            for isa in Isa::available() {
                let network = Network::new(n_dim, &hidden, Stream::new(5), isa);
                let mut space = Workspace::new(&network, n);
                let mut gradient = Aligned::zeros(network.weights.len());
                let value = network.loss_and_gradient(set, &order, &mut space, &mut gradient);
                let mut weights: Vec<f64> = network.weights.iter().map(|&w| f64::from(w)).collect();
                let exact = loss(&network, &weights, &x, n_dim, &y);
                assert!((value - exact).abs() < GRADIENT_TOLERANCE * exact, "{isa:?}: loss {value}, exact {exact}");
                for k in 0..weights.len() {
                    let (at, h) = (weights[k], 1e-7);
                    weights[k] = at + h;
                    let up = loss(&network, &weights, &x, n_dim, &y);
                    weights[k] = at - h;
                    let down = loss(&network, &weights, &x, n_dim, &y);
                    weights[k] = at;
                    let difference = (up - down) / (2.0 * h);
                    let found = f64::from(gradient[k]);
                    assert!(
                        (found - difference).abs() < GRADIENT_TOLERANCE,
                        "{isa:?} {hidden:?} weight {k}: gradient {found}, difference {difference}"
                    );
                }
            }
        }
    }

    /// One step of Adam with zero moments is `-rate` times the sign of the gradient.
    #[test]
    fn adam_first_step_and_dead_units() {
        for isa in Isa::available() {
            let mut weights = Aligned::zeros(16);
            let (mut first, mut second, mut gradient) = (weights.clone(), weights.clone(), weights.clone());
            gradient[0] = 3.0;
            gradient[1] = -0.02;
            let (beta_1, beta_2) = (0.9f32, 0.999f32);
            let rate = 0.1 * (1.0 - beta_2).sqrt() / (1.0 - beta_1);
            let step = AdamStep { rate, beta_1, beta_2, epsilon: 1e-8 };
            kernel::adam_step(isa, step, &mut weights, &mut first, &mut second, &gradient);
            assert!((weights[0] + 0.1).abs() < 1e-5 && (weights[1] - 0.1).abs() < 1e-5 && weights[2] == 0.0);
            gradient.fill(0.0);
            for _ in 0..3000 {
                kernel::adam_step(isa, step, &mut weights, &mut first, &mut second, &gradient);
            }
            assert!(first.iter().chain(second.iter()).all(|value| *value == 0.0 || value.is_normal()));
            assert!(weights.iter().all(|value| value.is_finite()));
        }
    }
}
