//! Packed lower-triangular matrices: factor, invert, multiply, and the norm in which membership tests spend their time.

/// A lower-triangular matrix, or the lower half of a symmetric one; row `i` holds its `i + 1` entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Lower {
    n: usize,
    values: Vec<f64>,
}

/// Dot product over the shorter length in four lanes, so that the compiler may use vector registers.
#[inline]
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len().min(b.len());
    let (a_blocks, a_rest) = a[..n].as_chunks::<4>();
    let (b_blocks, b_rest) = b[..n].as_chunks::<4>();
    let mut lanes = [0.0; 4];
    for (p, q) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..4 {
            lanes[lane] += p[lane] * q[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(p, q)| p * q).sum();
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + rest
}

impl Lower {
    /// The zero matrix.
    pub fn zeros(n: usize) -> Self {
        Self { n, values: vec![0.0; n * (n + 1) / 2] }
    }

    /// All entries, row after row.
    #[cfg(feature = "gpu")]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Entries of row `i`, the diagonal last.
    #[inline]
    pub fn row(&self, i: usize) -> &[f64] {
        let start = i * (i + 1) / 2;
        &self.values[start..=start + i]
    }

    #[inline]
    fn row_mut(&mut self, i: usize) -> &mut [f64] {
        let start = i * (i + 1) / 2;
        &mut self.values[start..=start + i]
    }

    /// Entry of a symmetric matrix, of which this is the lower half.
    #[inline]
    pub fn symmetric(&self, i: usize, j: usize) -> f64 {
        self.row(i.max(j))[i.min(j)]
    }

    /// Sets entry `(i, j)`, `j <= i`.
    pub fn set(&mut self, i: usize, j: usize, value: f64) {
        self.row_mut(i)[j] = value;
    }

    /// Adds to the diagonal entry `i`.
    pub fn add_diagonal(&mut self, i: usize, value: f64) {
        self.row_mut(i)[i] += value;
    }

    /// Adds `weight * x x^T`.
    #[inline]
    pub fn add_outer(&mut self, weight: f64, x: &[f64]) {
        let mut start = 0;
        for i in 0..self.n {
            let scaled = weight * x[i];
            for (entry, value) in self.values[start..=start + i].iter_mut().zip(x) {
                *entry += scaled * value;
            }
            start += i + 1;
        }
    }

    /// Adds a matrix that may be smaller to the leading block.
    pub fn add_leading(&mut self, other: &Self) {
        for (entry, value) in self.values.iter_mut().zip(&other.values) {
            *entry += value;
        }
    }

    /// Multiplies every entry.
    pub fn scale(&mut self, factor: f64) {
        self.values.iter_mut().for_each(|v| *v *= factor);
    }

    /// Multiplies row `i` by `factors[i]`.
    pub fn scale_rows(&mut self, factors: &[f64]) {
        for (i, &factor) in factors.iter().enumerate().take(self.n) {
            self.row_mut(i).iter_mut().for_each(|v| *v *= factor);
        }
    }

    /// Multiplies column `j` by `factors[j]`.
    pub fn scale_columns(&mut self, factors: &[f64]) {
        for i in 0..self.n {
            self.row_mut(i).iter_mut().zip(factors).for_each(|(v, factor)| *v *= factor);
        }
    }

    /// Cholesky factor of the symmetric matrix of which this is the lower half; `None` unless positive definite.
    pub fn cholesky(&self) -> Option<Self> {
        let mut factor = Self::zeros(self.n);
        for i in 0..self.n {
            for j in 0..=i {
                let rest = self.row(i)[j] - dot(&factor.row(i)[..j], &factor.row(j)[..j]);
                let value = if i == j { rest.sqrt() } else { rest / factor.row(j)[j] };
                // A negative or NaN pivot shows up as a NaN root, a zero one as an infinite inverse.
                if i == j && !(value > 0.0 && value.is_finite()) {
                    return None;
                }
                factor.row_mut(i)[j] = value;
            }
        }
        Some(factor)
    }

    /// Inverse of the triangular matrix.
    pub fn inverse(&self) -> Self {
        let mut inverse = Self::zeros(self.n);
        for i in 0..self.n {
            let pivot = 1.0 / self.row(i)[i];
            for j in 0..i {
                let sum: f64 = (j..i).map(|k| self.row(i)[k] * inverse.row(k)[j]).sum();
                inverse.row_mut(i)[j] = -sum * pivot;
            }
            inverse.row_mut(i)[i] = pivot;
        }
        inverse
    }

    /// Product of two triangular matrices.
    pub fn product(&self, right: &Self) -> Self {
        let mut product = Self::zeros(self.n);
        for i in 0..self.n {
            for k in 0..=i {
                let left = self.row(i)[k];
                let (start, end) = (i * (i + 1) / 2, i * (i + 1) / 2 + k);
                for (entry, value) in product.values[start..=end].iter_mut().zip(right.row(k)) {
                    *entry += left * value;
                }
            }
        }
        product
    }

    /// Lower half of `A A^T`.
    pub fn gram(&self) -> Self {
        let mut gram = Self::zeros(self.n);
        for i in 0..self.n {
            for j in 0..=i {
                gram.row_mut(i)[j] = dot(self.row(i), self.row(j));
            }
        }
        gram
    }

    /// Lower half of `A^T A`.
    pub fn transposed_gram(&self) -> Self {
        let mut gram = Self::zeros(self.n);
        for i in 0..self.n {
            gram.add_outer_leading(self.row(i));
        }
        gram
    }

    /// Adds `x x^T` to the leading block.
    fn add_outer_leading(&mut self, x: &[f64]) {
        for (i, &scale) in x.iter().enumerate() {
            for (entry, value) in self.row_mut(i).iter_mut().zip(x) {
                *entry += scale * value;
            }
        }
    }

    /// Sum of the logarithms of the diagonal.
    pub fn log_diagonal(&self) -> f64 {
        (0..self.n).map(|i| self.row(i)[i].ln()).sum()
    }

    /// `z = A x`.
    #[inline]
    pub fn apply(&self, x: &[f64], z: &mut [f64]) {
        for (i, z) in z.iter_mut().enumerate().take(self.n) {
            *z = dot(self.row(i), x);
        }
    }

    /// `x <- A x`, from the last row up because a row needs only the entries before it.
    #[inline]
    pub fn apply_in_place(&self, x: &mut [f64]) {
        for i in (0..self.n).rev() {
            x[i] = dot(self.row(i), x);
        }
    }

    /// `|A x|^2`.
    #[inline]
    pub fn norm_squared(&self, x: &[f64]) -> f64 {
        let mut sum = 0.0;
        let mut start = 0;
        for i in 0..self.n {
            let z = dot(&self.values[start..=start + i], x);
            sum += z * z;
            start += i + 1;
        }
        sum
    }

    /// Whether `|A x|^2 <= limit`, summed as [`Lower::norm_squared`] sums; stops at the first row that decides it.
    #[inline]
    pub fn maps_into_ball(&self, x: &[f64], limit: f64) -> bool {
        let mut sum = 0.0;
        let mut start = 0;
        for i in 0..self.n {
            let z = dot(&self.values[start..=start + i], x);
            sum += z * z;
            if sum > limit {
                return false;
            }
            start += i + 1;
        }
        // A NaN coordinate is never inside.
        sum <= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn factor_inverse_and_products_agree() {
        let n = 7;
        let mut matrix = Lower::zeros(n);
        for k in 0..20 {
            let mut draw = Stream::new(11).at(k);
            let x: Vec<f64> = (0..n).map(|_| draw.normal()).collect();
            matrix.add_outer(1.0, &x);
        }
        let factor = matrix.cholesky().unwrap();
        let gram = factor.gram();
        let inverse = factor.inverse();
        let identity = factor.product(&inverse);
        for i in 0..n {
            for j in 0..=i {
                assert!((gram.row(i)[j] - matrix.row(i)[j]).abs() < 1e-10);
                assert!((identity.row(i)[j] - f64::from(i == j)).abs() < 1e-10);
            }
        }
        let x = [1.0, -2.0, 0.5, 3.0, 0.1, -0.7, 2.0];
        let mut z = x;
        factor.apply_in_place(&mut z);
        let mut back = [0.0; 7];
        inverse.apply(&z, &mut back);
        assert!(x.iter().zip(back).all(|(a, b)| (a - b).abs() < 1e-10));
        // x^T (A^-T A^-1) x = |A^-1 x|^2
        let precision = inverse.transposed_gram();
        let quadratic: f64 = (0..n)
            .flat_map(|i| (0..n).map(move |j| (i, j)))
            .map(|(i, j)| x[i] * precision.symmetric(i, j) * x[j])
            .sum();
        assert!((quadratic - inverse.norm_squared(&x)).abs() < 1e-9 * quadratic);
    }

    #[test]
    fn indefinite_matrices_have_no_factor() {
        let mut matrix = Lower::zeros(2);
        matrix.add_outer(1.0, &[1.0, 1.0]);
        matrix.add_diagonal(1, -1e-3);
        assert_eq!(matrix.cholesky(), None);
        matrix.add_diagonal(1, f64::NAN);
        assert_eq!(matrix.cholesky(), None);
    }
}
