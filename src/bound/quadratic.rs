//! A quadratic surface through log L by weighted least squares: what a network would otherwise have to learn of a nearly Gaussian peak.

/// Coefficients that a full surface may have per point that it is fitted to; with fewer points it loses its mixed terms.
const POINTS_PER_COEFFICIENT: usize = 4;

/// Share of the mean diagonal that is added to the normal equations, so that directions without points stay flat.
const RIDGE: f64 = 1e-9;

/// `y(z) = c_0 + sum c_i z_i + sum_{i <= j} c_ij z_i z_j`, where y is log L above the threshold in units of its spread among the live points.
#[derive(Debug, Clone)]
pub(super) struct Quadratic {
    n_dim: usize,
    mixed: bool,
    coefficients: Vec<f32>,
}

impl Quadratic {
    /// Fits the surface to `log_l` `[n_points]` at `z` `[n_points, n_dim]`, row-major.
    ///
    /// Points far below `threshold` count less, so that no residual of theirs outweighs the live points; where log L is -inf they do not count.
    /// `None` where the live points tie, are too few, or the equations cannot be solved. Cost: at most `8 p` points of `p^2 / 2` products for `p` coefficients.
    pub fn fit(z: &[f64], n_dim: usize, log_l: &[f64], threshold: f64) -> Option<Self> {
        let mut live: Vec<f64> = log_l.iter().copied().filter(|l| *l >= threshold).collect();
        if live.is_empty() {
            return None;
        }
        let middle = live.len() / 2;
        let spread = *live.select_nth_unstable_by(middle, f64::total_cmp).1 - threshold;
        if !(spread > 0.0 && spread.is_finite()) {
            return None;
        }
        let counts = |l: f64| ((l - threshold) / spread).is_finite();
        let n_finite = log_l.iter().filter(|l| counts(**l)).count();
        let mixed = n_finite >= POINTS_PER_COEFFICIENT * n_coefficients(n_dim, true);
        let p = n_coefficients(n_dim, mixed);
        if n_finite < POINTS_PER_COEFFICIENT * p {
            return None;
        }
        // More points than this make the surface no better, and the cost is theirs.
        let step = (n_finite / (POINTS_PER_COEFFICIENT * p)).max(1);
        let finite = z.chunks_exact(n_dim).zip(log_l).filter(|(_, l)| counts(**l)).step_by(step);
        let mut normal = vec![0.0; p * p];
        let mut right = vec![0.0; p];
        let mut design = Vec::with_capacity(BLOCK * p);
        for (z, l) in finite {
            let y = (l - threshold) / spread;
            let weight = 1.0 / (1.0 + y.min(0.0).powi(2)).sqrt();
            let start = design.len();
            terms(z, mixed, |term| design.push(weight * term));
            right.iter_mut().zip(&design[start..]).for_each(|(sum, term)| *sum += weight * y * term);
            if design.len() == BLOCK * p {
                add_products(&mut normal, &design, p);
                design.clear();
            }
        }
        design.resize(BLOCK * p, 0.0);
        add_products(&mut normal, &design, p);
        let mut normal = nalgebra::DMatrix::from_vec(p, p, normal);
        normal.fill_lower_triangle_with_upper_triangle();
        let ridge = RIDGE * normal.trace() / p as f64;
        for k in 0..p {
            normal[(k, k)] += ridge;
        }
        let solved = normal.cholesky()?.solve(&nalgebra::DVector::from_vec(right));
        let coefficients: Vec<f32> = solved.iter().map(|c| *c as f32).collect();
        coefficients.iter().all(|c| c.is_finite()).then_some(Self { n_dim, mixed, coefficients })
    }

    /// Its coefficients in the order of its terms, and whether mixed ones are among them.
    #[cfg(feature = "gpu")]
    pub fn coefficients(&self) -> (Vec<f32>, bool) {
        (self.coefficients.clone(), self.mixed)
    }

    /// The surface at `z` `[n_dim]`.
    pub fn value(&self, z: &[f32]) -> f32 {
        debug_assert_eq!(z.len(), self.n_dim);
        let mut coefficients = self.coefficients.iter();
        let mut sum = 0.0;
        terms(z, self.mixed, |term| sum += coefficients.next().copied().unwrap_or(0.0) * term);
        sum
    }
}

/// Points whose products are added in one pass.
const BLOCK: usize = 4;

/// Adds the products of the terms of [`BLOCK`] points, `[BLOCK, p]`, to the upper triangle of `normal` `[p, p]`, column-major.
fn add_products(normal: &mut [f64], block: &[f64], p: usize) {
    let (a, rest) = block.split_at(p);
    let (b, rest) = rest.split_at(p);
    let (c, d) = rest.split_at(p);
    for (j, column) in normal.chunks_exact_mut(p).enumerate() {
        let at = [a[j], b[j], c[j], d[j]];
        let terms = a.iter().zip(b).zip(c).zip(d);
        for (sum, (((a, b), c), d)) in column[..=j].iter_mut().zip(terms) {
            *sum += at[0] * a + at[1] * b + at[2] * c + at[3] * d;
        }
    }
}

fn n_coefficients(n_dim: usize, mixed: bool) -> usize {
    1 + 2 * n_dim + if mixed { n_dim * (n_dim - 1) / 2 } else { 0 }
}

#[inline]
fn terms<T: Copy + std::ops::Mul<Output = T> + From<u8>>(z: &[T], mixed: bool, mut term: impl FnMut(T)) {
    term(T::from(1));
    for (i, &a) in z.iter().enumerate() {
        term(a);
        term(a * a);
        if mixed {
            z[..i].iter().for_each(|&b| term(a * b));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    fn points(n: usize, n_dim: usize) -> Vec<f64> {
        let mut draw = Stream::new(9).at(0);
        (0..n * n_dim).map(|_| 2.0 * draw.uniform() - 1.0).collect()
    }

    /// f32 terms of order one, times the scale of the surface.
    const TOLERANCE: f64 = 1e-4;

    #[test]
    fn a_quadratic_is_found_again_whatever_lies_far_below() {
        let n_dim = 3;
        let log_l = |z: &[f64]| 2.0 - (z[0] - 0.2).powi(2) - 3.0 * z[1] * z[1] + z[0] * z[2] - 0.5 * z[2] * z[2];
        let z = points(400, n_dim);
        let mut values: Vec<f64> = z.chunks(n_dim).map(log_l).collect();
        // No likelihood at all, which tells nothing of the surface.
        values[7] = f64::NEG_INFINITY;
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let threshold = sorted[200];
        let surface = Quadratic::fit(&z, n_dim, &values, threshold).unwrap();
        assert!(surface.mixed);
        let spread = sorted[300] - threshold;
        for z in points(20, n_dim).chunks(n_dim) {
            let at: Vec<f32> = z.iter().map(|z| *z as f32).collect();
            let expected = (log_l(z) - threshold) / spread;
            assert!((f64::from(surface.value(&at)) - expected).abs() < TOLERANCE * (1.0 + expected.abs()));
        }
    }

    #[test]
    fn few_points_give_no_mixed_terms_and_fewer_none_at_all() {
        let n_dim = 4;
        let fit = |n: usize| {
            let z = points(n, n_dim);
            let values: Vec<f64> = z.chunks(n_dim).map(|z| -z.iter().map(|z| z * z).sum::<f64>()).collect();
            Quadratic::fit(&z, n_dim, &values, -1.0)
        };
        assert!(fit(POINTS_PER_COEFFICIENT * n_coefficients(n_dim, true)).unwrap().mixed);
        assert!(!fit(POINTS_PER_COEFFICIENT * n_coefficients(n_dim, true) - 1).unwrap().mixed);
        assert!(fit(POINTS_PER_COEFFICIENT * n_coefficients(n_dim, false) - 1).is_none());
    }

    #[test]
    fn live_points_that_tie_give_no_surface() {
        let z = points(100, 1);
        let values: Vec<f64> = z.iter().map(|z| if *z > 0.0 { 1.0 } else { 0.0 }).collect();
        assert!(Quadratic::fit(&z, 1, &values, 1.0).is_none());
        assert!(Quadratic::fit(&z, 1, &values, 2.0).is_none());
    }
}
