//! The mixture of two Gaussians with full covariances that splits a cloud of points in two (expectation maximisation).

use super::triangular::Lower;
use crate::rng::{Draw, Stream};

/// Rounds of k-means per start: it only has to find the rough partition.
const K_MEANS_ROUNDS: usize = 10;
/// Rounds of expectation maximisation before the starts are compared.
const SHORT_ROUNDS: usize = 4;
/// Rounds of the best start.
const LONG_ROUNDS: usize = 100;
/// The best start ends when the mean log likelihood per point gains less than this in a round.
const LOG_LIKELIHOOD_GAIN: f64 = 1e-3;
/// Points per dimension that the starts see, beside [`START_POINTS`]: enough for a covariance.
const START_POINTS_PER_DIM: usize = 10;
/// Points that the starts see at least.
const START_POINTS: usize = 500;
/// Variance added to each dimension; the points fill the unit ball, so it is far below any split worth making.
const VARIANCE_FLOOR: f64 = 1e-9;
/// A component that weighs less than this many points is not a cluster.
const LIGHTEST_COMPONENT: f64 = 2.0;

/// How much work a mixture is worth.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Starts from different k-means partitions.
    pub starts: u64,
    /// Points that the best start sees, if the starts do not see more: it bounds the cost.
    pub max_points: usize,
}

/// One Gaussian of the mixture.
#[derive(Debug, Clone)]
struct Component {
    mean: Vec<f64>,
    /// Inverse of the Cholesky factor of the covariance.
    whiten: Lower,
    /// `log` of weight over root of determinant; the power of `2 pi` is the same for both.
    log_norm: f64,
}

/// Two Gaussians.
#[derive(Debug, Clone)]
pub struct Mixture {
    components: [Component; 2],
}

impl Mixture {
    /// Fits `points` `[n, n_dim]`, rows one after the other, the best of several starts; `None` when every start collapses.
    ///
    /// Cost: at most `100 * 2 * n_dim^2` products for each of the points it sees, usually a fifth of that.
    pub fn fit(points: &[f64], n_dim: usize, effort: Effort, stream: Stream) -> Option<Self> {
        let start_points = START_POINTS.max(START_POINTS_PER_DIM * n_dim);
        let sample = subsample(points, n_dim, effort.max_points.max(start_points), &mut stream.at(effort.starts));
        let few = subsample(&sample, n_dim, start_points, &mut stream.at(effort.starts + 1));
        let mut partitions: Vec<Vec<bool>> = Vec::new();
        let mut best: Option<(f64, Self)> = None;
        for start in 0..effort.starts {
            let partition = k_means(&few, n_dim, &mut stream.at(start));
            // The same partition leads to the same mixture.
            if partitions.contains(&partition) {
                continue;
            }
            let mut shares: Vec<f64> = partition.iter().map(|&second| if second { 1.0 } else { 0.0 }).collect();
            partitions.push(partition);
            let fitted = Self::maximise(&few, n_dim, &shares)
                .and_then(|mixture| mixture.climb(&few, n_dim, &mut shares, SHORT_ROUNDS, f64::NEG_INFINITY));
            if let Some((log_l, mixture)) = fitted
                && best.as_ref().is_none_or(|(highest, _)| log_l > *highest)
            {
                best = Some((log_l, mixture));
            }
        }
        let (_, mixture) = best?;
        let mut shares = vec![0.0; sample.len() / n_dim];
        let climbed = mixture.clone().climb(&sample, n_dim, &mut shares, LONG_ROUNDS, LOG_LIKELIHOOD_GAIN);
        // More points can only be better, but where they are not the start is good enough.
        Some(climbed.map_or(mixture, |(_, climbed)| climbed))
    }

    /// Log density of `x` under component `which`, its weight included, up to a constant of the mixture.
    pub fn log_density(&self, which: usize, x: &[f64], delta: &mut [f64]) -> f64 {
        let component = &self.components[which];
        for ((delta, x), mean) in delta.iter_mut().zip(x).zip(&component.mean) {
            *delta = x - mean;
        }
        component.log_norm - 0.5 * component.whiten.norm_squared(delta)
    }

    /// Rounds of expectation and maximisation; returns the mean log likelihood of the last expectation and the mixture after it.
    fn climb(
        mut self,
        points: &[f64],
        n_dim: usize,
        shares: &mut [f64],
        rounds: usize,
        gain: f64,
    ) -> Option<(f64, Self)> {
        let mut log_l = f64::NEG_INFINITY;
        for _ in 0..rounds {
            let next = self.expect(points, n_dim, shares);
            self = Self::maximise(points, n_dim, shares)?;
            let gained = next - log_l;
            log_l = next;
            if gained < gain {
                break;
            }
        }
        Some((log_l, self))
    }

    /// Share of the second component in each point; returns the mean log likelihood.
    fn expect(&self, points: &[f64], n_dim: usize, shares: &mut [f64]) -> f64 {
        let mut delta = vec![0.0; n_dim];
        let mut sum = 0.0;
        for (share, x) in shares.iter_mut().zip(points.chunks_exact(n_dim)) {
            let first = self.log_density(0, x, &mut delta);
            let second = self.log_density(1, x, &mut delta);
            let (low, high) = if first < second { (first, second) } else { (second, first) };
            sum += high + (low - high).exp().ln_1p();
            *share = 1.0 / (1.0 + (first - second).exp());
        }
        sum / shares.len().max(1) as f64
    }

    /// The mixture of greatest likelihood for given shares; `None` when a component has too few points.
    fn maximise(points: &[f64], n_dim: usize, shares: &[f64]) -> Option<Self> {
        let first = Component::maximise(points, n_dim, shares.iter().map(|s| 1.0 - s))?;
        let second = Component::maximise(points, n_dim, shares.iter().copied())?;
        Some(Self { components: [first, second] })
    }
}

impl Component {
    fn maximise(points: &[f64], n_dim: usize, shares: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        /// Points that belong to the other component cost nothing.
        const NO_SHARE: f64 = 1e-10;
        let n = points.len() / n_dim;
        let weighted = || shares.clone().zip(points.chunks_exact(n_dim)).filter(|(share, _)| *share > NO_SHARE);
        let total: f64 = weighted().map(|(share, _)| share).sum();
        if total.is_nan() || total < LIGHTEST_COMPONENT {
            return None;
        }
        let mut mean = vec![0.0; n_dim];
        for (share, x) in weighted() {
            mean.iter_mut().zip(x).for_each(|(m, x)| *m += share / total * x);
        }
        let mut covariance = Lower::zeros(n_dim);
        let mut delta = vec![0.0; n_dim];
        for (share, x) in weighted() {
            for ((delta, x), mean) in delta.iter_mut().zip(x).zip(&mean) {
                *delta = x - mean;
            }
            covariance.add_outer(share / total, &delta);
        }
        (0..n_dim).for_each(|j| covariance.add_diagonal(j, VARIANCE_FLOOR));
        let factor = covariance.cholesky()?;
        let log_norm = (total / n as f64).ln() - factor.log_diagonal();
        Some(Self { mean, whiten: factor.inverse(), log_norm })
    }
}

/// At most `count` of the points, drawn without replacement.
fn subsample(points: &[f64], n_dim: usize, count: usize, draw: &mut Draw) -> Vec<f64> {
    let n = points.len() / n_dim;
    if n <= count {
        return points.to_vec();
    }
    let mut order: Vec<usize> = (0..n).collect();
    // The first `count` places of a shuffle.
    for i in 0..count {
        order.swap(i, i + draw.below(n - i));
    }
    order[..count].iter().flat_map(|&i| &points[i * n_dim..(i + 1) * n_dim]).copied().collect()
}

fn distance_squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Two clusters by k-means from a k-means++ start (Arthur & Vassilvitskii 2007); the first point is in the first.
fn k_means(points: &[f64], n_dim: usize, draw: &mut Draw) -> Vec<bool> {
    let n = points.len() / n_dim;
    let point = |i: usize| &points[i * n_dim..(i + 1) * n_dim];
    let mut first = point(draw.below(n)).to_vec();
    let distances: Vec<f64> = (0..n).map(|i| distance_squared(point(i), &first)).collect();
    let mut rest = draw.uniform() * distances.iter().sum::<f64>();
    let second = distances.iter().position(|d| {
        rest -= d;
        rest <= 0.0
    });
    let mut second = point(second.unwrap_or(n - 1)).to_vec();
    let mut labels = vec![false; n];
    for round in 0..K_MEANS_ROUNDS {
        let mut changed = round == 0;
        for (i, label) in labels.iter_mut().enumerate() {
            let new = distance_squared(point(i), &second) < distance_squared(point(i), &first);
            changed |= new != *label;
            *label = new;
        }
        if !changed {
            break;
        }
        for (centre, which) in [(&mut first, false), (&mut second, true)] {
            let count = labels.iter().filter(|&&label| label == which).count();
            if count > 0 {
                centre.iter_mut().for_each(|c| *c = 0.0);
                for (i, _) in labels.iter().enumerate().filter(|(_, label)| **label == which) {
                    centre.iter_mut().zip(point(i)).for_each(|(c, x)| *c += x / count as f64);
                }
            }
        }
    }
    let flip = labels[0];
    labels.iter_mut().for_each(|label| *label ^= flip);
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const EFFORT: Effort = Effort { starts: 10, max_points: 5000 };

    /// Two Gaussians of the given width, `offset` apart in the first dimension; a third of the points in the second.
    fn two_clouds(n: usize, n_dim: usize, offset: f64, width: f64) -> Vec<f64> {
        (0..n)
            .flat_map(|i| {
                let mut draw = Stream::new(31).at(i as u64);
                let second = i % 3 == 2;
                (0..n_dim)
                    .map(|j| width * draw.normal() + if second && j == 0 { offset } else { 0.0 })
                    .collect::<Vec<f64>>()
            })
            .collect()
    }

    fn right_share(points: &[f64], n_dim: usize) -> f64 {
        let mixture = Mixture::fit(points, n_dim, EFFORT, Stream::new(32)).unwrap();
        let mut delta = vec![0.0; n_dim];
        let n = points.len() / n_dim;
        let right = (0..n)
            .filter(|&i| {
                let x = &points[i * n_dim..(i + 1) * n_dim];
                let second = mixture.log_density(1, x, &mut delta) > mixture.log_density(0, x, &mut delta);
                second == (i % 3 == 2)
            })
            .count() as f64
            / n as f64;
        right.max(1.0 - right)
    }

    #[test]
    fn separated_clouds_are_told_apart() {
        for n_dim in [1, 2, 10] {
            assert_eq!(right_share(&two_clouds(600, n_dim, 1.0, 0.05), n_dim), 1.0, "{n_dim} dimensions");
        }
        // Far narrower than their distance, and more points than are sampled.
        assert_eq!(right_share(&two_clouds(8000, 3, 1.0, 1e-6), 3), 1.0);
    }

    /// Saboteur: clouds at the same place cannot be told apart.
    #[test]
    fn the_same_place_cannot_be_told_apart() {
        assert!(right_share(&two_clouds(600, 2, 0.0, 0.1), 2) < 0.9);
    }

    #[test]
    fn same_points_have_no_mixture_or_a_finite_one() {
        let points = vec![0.25; 300];
        if let Some(mixture) = Mixture::fit(&points, 3, EFFORT, Stream::new(33)) {
            assert!(mixture.log_density(0, &[0.25; 3], &mut [0.0; 3]).is_finite());
        }
        assert!(Mixture::fit(&[0.5], 1, EFFORT, Stream::new(33)).is_none());
    }

    #[test]
    fn the_same_stream_gives_the_same_fit() {
        let points = two_clouds(700, 4, 0.3, 0.1);
        let density = || {
            let mixture = Mixture::fit(&points, 4, EFFORT, Stream::new(5)).unwrap();
            mixture.log_density(0, &[0.1; 4], &mut [0.0; 4])
        };
        assert_eq!(density().to_bits(), density().to_bits());
    }
}
