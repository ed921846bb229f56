//! What the generated functions compute, in f64.

/// Linear interpolation at `x` in the ascending `xs`; constant beyond the ends, NaN at NaN.
pub fn interpolant(xs: &[f64], ys: &[f64], x: f64) -> f64 {
    let last = xs.len() - 1;
    if x.is_nan() {
        x
    } else if x <= xs[0] {
        ys[0]
    } else if x >= xs[last] {
        ys[last]
    } else {
        let high = xs.partition_point(|&knot| knot <= x);
        let low = high - 1;
        ys[low] + (x - xs[low]) / (xs[high] - xs[low]) * (ys[high] - ys[low])
    }
}

/// The y with L y = r, for L packed as `covariance` has it.
pub fn covariance_solve(factor: &[f64], r: &[f64]) -> Vec<f64> {
    let mut y: Vec<f64> = Vec::with_capacity(r.len());
    for (i, r) in r.iter().enumerate() {
        let row = &factor[i * (i + 1) / 2..][..=i];
        let dot: f64 = row.iter().zip(&y).map(|(l, y)| l * y).sum();
        y.push((r - dot) * row[i]);
    }
    y
}

/// r^T C^-1 r for C = L L^T.
pub fn covariance_chi2(factor: &[f64], r: &[f64]) -> f64 {
    covariance_solve(factor, r).iter().map(|y| y * y).sum()
}
