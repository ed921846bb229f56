//! Numerics that every room uses: log-sum-exp, ranks, Kolmogorov-Smirnov, quantiles of weighted samples (all f64).

/// `log(sum(exp(x)))` without overflow; -inf for an empty slice or when every term is -inf.
pub fn log_sum_exp(x: &[f64]) -> f64 {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !max.is_finite() {
        return max;
    }
    max + x.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
}

/// Indices that sort by `(value, index)` ascending: the one order used for ties everywhere.
pub fn argsort(x: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]).then(a.cmp(&b)));
    order
}

/// Quantiles of a weighted sample: the smallest value whose cumulated weight reaches `q` of the total.
pub fn weighted_quantiles(values: &[f64], weights: &[f64], q: &[f64]) -> Vec<f64> {
    let order = argsort(values);
    let total: f64 = weights.iter().sum();
    q.iter()
        .map(|&q| {
            let mut sum = 0.0;
            for &i in &order {
                sum += weights[i];
                if sum >= q * total && weights[i] > 0.0 {
                    return values[i];
                }
            }
            order.last().map_or(f64::NAN, |&i| values[i])
        })
        .collect()
}

/// One-sample Kolmogorov-Smirnov test against the uniform distribution on (0, 1).
///
/// Returns the statistic and its p value (Kolmogorov's series with Stephens' correction for small samples).
#[cfg(any(test, feature = "testing"))]
pub fn ks_uniform(sample: &[f64]) -> (f64, f64) {
    let n = sample.len() as f64;
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let statistic =
        sorted.iter().enumerate().map(|(i, &x)| (x - i as f64 / n).max((i + 1) as f64 / n - x)).fold(0.0, f64::max);
    let root = n.sqrt();
    let t = (root + 0.12 + 0.11 / root) * statistic;
    let p: f64 = (1..=100)
        .map(|k| {
            let k = f64::from(k);
            2.0 * (-1.0f64).powf(k - 1.0) * (-2.0 * k * k * t * t).exp()
        })
        .sum();
    (statistic, if t < 0.2 { 1.0 } else { p.clamp(0.0, 1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_sum_exp_edges() {
        assert_eq!(log_sum_exp(&[]), f64::NEG_INFINITY);
        assert_eq!(log_sum_exp(&[f64::NEG_INFINITY; 3]), f64::NEG_INFINITY);
        assert!((log_sum_exp(&[1000.0, 1000.0]) - (1000.0 + 2f64.ln())).abs() < 1e-12);
    }

    #[test]
    fn ks_accepts_uniform_and_rejects_squares() {
        let uniform: Vec<f64> = (0..1000).map(|k| crate::rng::Stream::new(3).at(k).uniform()).collect();
        assert!(ks_uniform(&uniform).1 > 1e-3);
        let squares: Vec<f64> = uniform.iter().map(|u| u * u).collect();
        assert!(ks_uniform(&squares).1 < 1e-6);
    }
}
