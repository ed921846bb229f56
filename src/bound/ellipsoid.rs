//! The ellipsoid: fit, membership, uniform draws and overlap, with some dimensions left at the full `[0, 1)` if that is smaller.

use nalgebra::DMatrix;
use ndarray::ArrayView2;

use super::BoundError;
use super::khachiyan::minimum_volume;
use super::triangular::{Lower, dot};
use crate::rng::Draw;

/// Every coordinate is taken to be known to within this: about 50 roundings of a number near 1. No semi-axis is shorter.
const COORDINATE_NOISE: f64 = 1e-14;
/// Ridge of a correlation matrix: above its rounding errors for any number of dimensions in use, below any real ridge that
/// the second whitening (that of the fit) could not resolve.
const CORRELATION_RIDGE: f64 = 1e-13;
/// Relative room of the axis-aligned box, so that rounding does not cut the ellipsoid in it.
const BOX_ROOM: f64 = 1e-9;
/// Dimensions up to which a membership test keeps its scratch on the stack.
const SMALL_STACK: usize = 16;
/// As [`SMALL_STACK`], second step; beyond it a test allocates, which is then small beside its `k^2 / 2` products.
const LARGE_STACK: usize = 64;
/// A dimension whose freeing is predicted to change the log volume by less than this is decided by a real fit.
const PREDICTION_ERROR: f64 = 0.75;
/// Halvings of the section of `(0, 1)` in which the overlap function has its maximum.
const OVERLAP_BISECTIONS: usize = 60;

/// An ellipsoid over some dimensions times the full `[0, 1)` over the others (the cube dimensions, often none).
///
/// In its dimensions `x = centre + L z` with `|z| <= 1` inside.
#[derive(Debug, Clone)]
pub struct Ellipsoid {
    /// Dimensions of the ellipsoid, ascending; `k` of them.
    dims: Vec<usize>,
    /// Dimensions of the cube, ascending.
    cube_dims: Vec<usize>,
    centre: Vec<f64>,
    factor: Lower,
    /// Inverse of the factor up to a scale: inside means `|inverse (x - centre)|^2 <= limit`. The scale stays apart because
    /// rounding it into the entries would move the surface of a very flat ellipsoid past the points on it.
    inverse: Lower,
    limit: f64,
    /// Half-widths of the axis-aligned box around the ellipsoid.
    half_widths: Vec<f64>,
    log_volume: f64,
}

/// `log` of the volume of the unit ball.
pub fn log_ball_volume(n_dim: usize) -> f64 {
    let start = if n_dim.is_multiple_of(2) { 0.0 } else { 2f64.ln() };
    (0..=n_dim)
        .filter(|&d| d >= 2 && d % 2 == n_dim % 2)
        .fold(start, |log_v, d| log_v + (std::f64::consts::TAU / d as f64).ln())
}

impl Ellipsoid {
    /// The ellipsoid of minimum volume around `points` `[n_points, n_dim]`, semi-axes multiplied by `enlarge_per_dim`.
    ///
    /// The volume before the enlargement is within 0.5 % of the minimum. Sets that are flat in some direction get a
    /// thickness of the rounding error of coordinates. Errors: no points, coordinates that are not finite, all points equal.
    /// Cost: about ten passes of `n_points * n_dim^2`.
    pub fn enclosing(points: ArrayView2<f64>, enlarge_per_dim: f64) -> Result<Self, BoundError> {
        check(points)?;
        Self::fit(points, (0..points.ncols()).collect(), enlarge_per_dim)
    }

    /// As [`Ellipsoid::enclosing`], but dimensions are given up for the full `[0, 1)`, one after the other, while the
    /// volume falls.
    ///
    /// The order and the likely number of dimensions come from the covariance of the full fit: freeing dimension `j`
    /// multiplies `det P` by `(P^-1)_jj`. The result is then fitted for real, and close calls are decided by further fits.
    /// The volume is never above that of [`Ellipsoid::enclosing`]. Cost: usually two to four such fits.
    pub fn enclosing_mixture(points: ArrayView2<f64>, enlarge_per_dim: f64) -> Result<Self, BoundError> {
        let mut best = Self::enclosing(points, enlarge_per_dim)?;
        let mut order = best.predicted_cube_dims(f64::INFINITY).0;
        while !order.is_empty() {
            if let Some(smaller) = best.without(&order, points, enlarge_per_dim) {
                best = smaller;
                break;
            }
            order.truncate(order.len() / 2);
        }
        // What the prediction was too careful about.
        while let (next, Some(change)) = best.predicted_cube_dims(0.0)
            && change < PREDICTION_ERROR
            && let Some(smaller) = best.without(&next, points, enlarge_per_dim)
        {
            best = smaller;
        }
        Ok(best)
    }

    /// The fit without the given dimensions, if its volume is smaller.
    fn without(&self, freed: &[usize], points: ArrayView2<f64>, enlarge_per_dim: f64) -> Option<Self> {
        let dims = self.dims.iter().copied().filter(|d| !freed.contains(d)).collect();
        Self::fit(points, dims, enlarge_per_dim).ok().filter(|fit| fit.log_volume < self.log_volume)
    }

    /// Dimensions to free in the order of their gain.
    ///
    /// With `limit` infinite: all whose predicted change of the log volume is negative. With `limit` 0: the next one
    /// only, with its change. The shape of the minimum-volume ellipsoid is `k` times the covariance of its weights, so a
    /// fit in fewer dimensions is predicted to be smaller than the projection by the factor `(k - 1) / k` in semi-axes squared.
    fn predicted_cube_dims(&self, limit: f64) -> (Vec<usize>, Option<f64>) {
        let full = self.dims.len() as f64;
        let mut left: Vec<usize> = (0..self.dims.len()).collect();
        let precision = self.inverse.transposed_gram();
        let k = left.len();
        let mut q: Vec<f64> = (0..k * k).map(|e| precision.symmetric(e / k, e % k) / self.limit).collect();
        let log_v = |k: usize| {
            let shape = if k == 0 { 0.0 } else { 0.5 * k as f64 * (k as f64 / full).ln() };
            log_ball_volume(k) + shape
        };
        let mut freed = Vec::new();
        while let Some(&first) = left.first() {
            let j = left.iter().copied().fold(first, |a, b| if q[b * k + b] < q[a * k + a] { b } else { a });
            let change = log_v(left.len() - 1) - log_v(left.len()) + 0.5 * q[j * k + j].ln();
            if limit == 0.0 {
                return (vec![self.dims[j]], Some(change));
            }
            if change >= 0.0 || change.is_nan() {
                break;
            }
            freed.push(self.dims[j]);
            left.retain(|&i| i != j);
            // The inverse of the block that is left.
            for &a in &left {
                for &b in &left {
                    q[a * k + b] -= q[a * k + j] * q[j * k + b] / q[j * k + j];
                }
            }
        }
        (freed, None)
    }

    /// Fits in the given dimensions; the points are checked.
    fn fit(points: ArrayView2<f64>, dims: Vec<usize>, enlarge_per_dim: f64) -> Result<Self, BoundError> {
        let (n, n_dim, k) = (points.nrows(), points.ncols(), dims.len());
        let cube_dims = (0..n_dim).filter(|d| !dims.contains(d)).collect();
        let broken = BoundError::Shape { n_points: n, n_dim: k };
        let mut fit = Self {
            cube_dims,
            centre: vec![0.0; k],
            factor: Lower::zeros(k),
            inverse: Lower::zeros(k),
            limit: 1.0,
            half_widths: vec![0.0; k],
            log_volume: 0.0,
            dims,
        };
        if k == 0 {
            return Ok(fit);
        }
        // Relative to a point of the set first: a narrow cloud keeps its digits.
        let anchor: Vec<f64> = fit.dims.iter().map(|&d| points[[0, d]]).collect();
        let mut rows = Vec::with_capacity(n * k);
        for point in points.rows() {
            rows.extend(fit.dims.iter().zip(&anchor).map(|(&d, a)| point[d] - a));
        }
        let mut mean = vec![0.0; k];
        for row in rows.chunks_exact(k) {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n as f64);
        }
        for row in rows.chunks_exact_mut(k) {
            row.iter_mut().zip(&mean).for_each(|(v, m)| *v -= m);
        }
        // Each dimension to unit spread, then white.
        let mut covariance = Lower::zeros(k);
        for row in rows.chunks_exact(k) {
            covariance.add_outer(1.0 / n as f64, row);
        }
        let spread: Vec<f64> = (0..k).map(|j| covariance.row(j)[j].sqrt().max(COORDINATE_NOISE)).collect();
        let unit: Vec<f64> = spread.iter().map(|s| 1.0 / s).collect();
        covariance.scale_rows(&unit);
        covariance.scale_columns(&unit);
        for (j, unit) in unit.iter().enumerate() {
            covariance.add_diagonal(j, CORRELATION_RIDGE + (COORDINATE_NOISE * unit).powi(2));
        }
        let mut whiten = covariance.cholesky().ok_or(broken.clone())?;
        let mut unwhiten = whiten.clone();
        whiten = whiten.inverse();
        unwhiten.scale_rows(&spread);
        whiten.scale_columns(&unit);
        let mut white = vec![0.0; n * k];
        for (w, row) in white.chunks_exact_mut(k).zip(rows.chunks_exact(k)) {
            whiten.apply(row, w);
        }
        // The noise of the coordinates as it looks in the white frame.
        let mut ridge = whiten.clone();
        ridge.scale(COORDINATE_NOISE);
        let mut ridge = ridge.gram();
        for j in 0..k {
            ridge.add_diagonal(j, CORRELATION_RIDGE);
        }
        let mut shape = minimum_volume(&white, k, &ridge).ok_or(broken.clone())?;
        unwhiten.apply_in_place(&mut shape.centre);
        for j in 0..k {
            fit.centre[j] = anchor[j] + (mean[j] + shape.centre[j]);
        }
        fit.factor = unwhiten.product(&shape.factor);
        fit.inverse = shape.factor.inverse().product(&whiten);
        // The farthest point goes to the surface, measured as membership will measure it.
        let mut delta = vec![0.0; k];
        let mut reach = vec![0.0f64; k];
        let mut farthest = 0.0f64;
        for point in points.rows() {
            for j in 0..k {
                delta[j] = point[fit.dims[j]] - fit.centre[j];
                reach[j] = reach[j].max(delta[j].abs());
            }
            farthest = farthest.max(fit.inverse.norm_squared(&delta));
        }
        fit.limit = farthest * enlarge_per_dim * enlarge_per_dim;
        let scale = fit.limit.sqrt();
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(broken);
        }
        fit.factor.scale(scale);
        for (j, reach) in reach.into_iter().enumerate() {
            let row = fit.factor.row(j);
            fit.half_widths[j] = dot(row, row).sqrt().max(reach) * (1.0 + BOX_ROOM);
        }
        fit.log_volume = log_ball_volume(k) + fit.factor.log_diagonal();
        if fit.log_volume.is_finite() { Ok(fit) } else { Err(broken) }
    }

    /// The dimensions that keep the full `[0, 1)`.
    #[cfg(test)]
    pub fn cube_dims(&self) -> &[usize] {
        &self.cube_dims
    }

    /// The ellipsoid as a device gets it.
    #[cfg(feature = "gpu")]
    pub(super) fn plan(&self) -> crate::kernel::EllipsoidPlan {
        let unit = 1.0 / self.limit.sqrt();
        crate::kernel::EllipsoidPlan {
            dims: self.dims.iter().chain(&self.cube_dims).copied().collect(),
            k: self.dims.len(),
            centre: self.centre.clone(),
            half_widths: self.half_widths.clone(),
            inverse: self.inverse.values().iter().map(|v| v * unit).collect(),
            factor: self.factor.values().to_vec(),
        }
    }

    /// `log` of the volume, parts outside the unit cube included.
    pub fn log_volume(&self) -> f64 {
        self.log_volume
    }

    /// Writes the centre to `x` `[n_dim]`.
    pub fn centre(&self, x: &mut [f64]) {
        x.fill(0.5);
        self.dims.iter().zip(&self.centre).for_each(|(&dim, value)| x[dim] = *value);
    }

    /// Whether `x` `[n_dim]`, a point of the unit cube, is inside. Cost: at most `n_dim^2 / 2` products, no allocation.
    #[inline]
    pub fn contains(&self, x: &[f64]) -> bool {
        match self.dims.len() {
            k if k <= SMALL_STACK => self.contains_with(x, &mut [0.0; SMALL_STACK]),
            k if k <= LARGE_STACK => self.contains_with(x, &mut [0.0; LARGE_STACK]),
            k => self.contains_with(x, &mut vec![0.0; k]),
        }
    }

    #[inline]
    fn contains_with(&self, x: &[f64], delta: &mut [f64]) -> bool {
        for (j, &dim) in self.dims.iter().enumerate() {
            let value = x[dim] - self.centre[j];
            // The box around the ellipsoid tells most points of other members apart.
            if value.abs() > self.half_widths[j] {
                return false;
            }
            delta[j] = value;
        }
        self.inverse.maps_into_ball(delta, self.limit)
    }

    /// Coordinates `z` `[n_dim]` of `x` `[n_dim]`: `|z| <= 1` inside over the dimensions of the ellipsoid, `2 x - 1` over those of the cube.
    pub fn to_frame(&self, x: &[f64], z: &mut [f64]) {
        for (j, &dim) in self.dims.iter().enumerate() {
            z[j] = x[dim] - self.centre[j];
        }
        let z_ellipsoid = &mut z[..self.dims.len()];
        self.inverse.apply_in_place(z_ellipsoid);
        let unit = 1.0 / self.limit.sqrt();
        z_ellipsoid.iter_mut().for_each(|z| *z *= unit);
        self.spread_out(z);
        for &dim in &self.cube_dims {
            z[dim] = 2.0 * x[dim] - 1.0;
        }
    }

    /// Moves the first `k` entries to the dimensions of the ellipsoid; these ascend, so from the last one down nothing is lost.
    #[inline]
    fn spread_out(&self, values: &mut [f64]) {
        for (j, &dim) in self.dims.iter().enumerate().rev() {
            values[dim] = values[j];
        }
    }

    /// Fills `x` `[n_dim]` with a point uniform in the ellipsoid; it may lie outside the unit cube.
    pub fn draw(&self, draw: &mut Draw, x: &mut [f64]) {
        let k = self.dims.len();
        if k > 0 {
            let z = &mut x[..k];
            z.iter_mut().for_each(|z| *z = draw.normal());
            let radius = draw.uniform().powf(1.0 / k as f64) / dot(z, z).sqrt();
            z.iter_mut().for_each(|z| *z *= radius);
            self.factor.apply_in_place(z);
            z.iter_mut().zip(&self.centre).for_each(|(z, c)| *z += c);
            self.spread_out(x);
        }
        for &dim in &self.cube_dims {
            x[dim] = draw.uniform();
        }
    }

    /// Whether two ellipsoids share a volume; touching is not overlap.
    ///
    /// With `P = L L^T`, `d` the difference of the centres: they overlap when the maximum over `s` in (0, 1) of
    /// `d^T [P1 / (1 - s) + P2 / s]^-1 d` is below 1 (Gilitschenski & Hanebeck 2012). A cube dimension of either imposes nothing
    /// on the other (the walls of the cube are ignored, so an overlap outside them counts). Cost: one eigenvalue problem.
    pub fn overlaps(&self, other: &Self) -> bool {
        let shared: Vec<usize> = self.dims.iter().copied().filter(|d| other.dims.contains(d)).collect();
        let place = |ellipsoid: &Self, dim: usize| ellipsoid.dims.iter().position(|&d| d == dim).unwrap_or(0);
        let places: Vec<(usize, usize)> = shared.iter().map(|&d| (place(self, d), place(other, d))).collect();
        let delta: Vec<f64> = places.iter().map(|&(a, b)| self.centre[a] - other.centre[b]).collect();
        if places.iter().zip(&delta).any(|(&(a, b), d)| d.abs() > self.half_widths[a] + other.half_widths[b]) {
            return false;
        }
        if shared.is_empty() {
            return true;
        }
        // Without a factor (rounding) the safe answer is that they overlap.
        let (Some(first), Some(second)) = (self.projected(&shared), other.projected(&shared)) else { return true };
        overlap_in_frame(&first, &second, &delta)
    }

    /// Factor of the projection on some of its dimensions.
    fn projected(&self, dims: &[usize]) -> Option<Lower> {
        if dims.len() == self.dims.len() {
            return Some(self.factor.clone());
        }
        let rows: Vec<&[f64]> =
            self.dims.iter().enumerate().filter(|(_, d)| dims.contains(d)).map(|(j, _)| self.factor.row(j)).collect();
        // Rows in units of their own length, so that a narrow dimension keeps its digits.
        let lengths: Vec<f64> = rows.iter().map(|row| dot(row, row).sqrt()).collect();
        let mut gram = Lower::zeros(dims.len());
        for i in 0..rows.len() {
            for j in 0..=i {
                gram.set(i, j, dot(rows[i], rows[j]) / (lengths[i] * lengths[j]));
            }
        }
        let mut factor = gram.cholesky()?;
        factor.scale_rows(&lengths);
        Some(factor)
    }
}

/// The overlap test in the frame of the first ellipsoid, where it is the unit ball.
fn overlap_in_frame(first: &Lower, second: &Lower, delta: &[f64]) -> bool {
    let k = delta.len();
    let inverse = first.inverse();
    let mut centre = vec![0.0; k];
    inverse.apply(delta, &mut centre);
    let shape = inverse.product(second).gram();
    let eigen = DMatrix::from_fn(k, k, |i, j| shape.symmetric(i, j)).symmetric_eigen();
    let terms: Vec<(f64, f64)> = eigen
        .eigenvalues
        .iter()
        .zip(eigen.eigenvectors.column_iter())
        .map(|(&lambda, axis)| (lambda.max(0.0), axis.iter().zip(&centre).map(|(a, c)| a * c).sum::<f64>().powi(2)))
        .collect();
    // K(s) = sum v^2 s (1 - s) / (s + (1 - s) lambda) is concave: follow its slope to the maximum.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..OVERLAP_BISECTIONS {
        let s = 0.5 * (low + high);
        let (mut value, mut slope) = (0.0, 0.0);
        for &(lambda, v2) in &terms {
            let t = s + (1.0 - s) * lambda;
            value += v2 * s * (1.0 - s) / t;
            slope += v2 * (lambda * (1.0 - s).powi(2) - s * s) / (t * t);
        }
        if value >= 1.0 {
            return false;
        }
        if slope > 0.0 {
            low = s;
        } else {
            high = s;
        }
    }
    true
}

/// Points that can be enclosed.
fn check(points: ArrayView2<f64>) -> Result<(), BoundError> {
    let (n_points, n_dim) = points.dim();
    if n_points < 2 || n_dim == 0 {
        return Err(BoundError::Empty { n_points, n_dim });
    }
    if let Some(((point, dim), &value)) = points.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(BoundError::NotFinite { point, dim, value });
    }
    let first = points.row(0);
    if points.rows().into_iter().all(|row| row.iter().zip(first).all(|(a, b)| (a - b).abs() < COORDINATE_NOISE)) {
        return Err(BoundError::NoSpread { n_points });
    }
    Ok(())
}
