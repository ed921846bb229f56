//! The phase shift: periodic dimensions are turned so that the boundary of the cube lies in the emptiest place.

use ndarray::ArrayView2;

/// Moves the middle of the largest circular gap of the points to the boundary, per periodic dimension.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseShift {
    /// Dimension and the place that becomes its boundary.
    boundaries: Vec<(usize, f64)>,
}

/// `x` modulo 1 in `[0, 1)`; a tiny negative number rounds to 1, which is 0.
fn wrap(x: f64) -> f64 {
    let x = x.rem_euclid(1.0);
    if x < 1.0 { x } else { 0.0 }
}

impl PhaseShift {
    /// From `points` `[n_points, n_dim]` of the unit cube; names of dimensions that the points do not have are ignored.
    /// Cost: one sort per periodic dimension.
    pub fn new(points: ArrayView2<f64>, periodic: &[usize]) -> Self {
        let boundaries = periodic
            .iter()
            .filter(|&&dim| dim < points.ncols() && points.nrows() > 0)
            .map(|&dim| {
                let mut x: Vec<f64> = points.column(dim).iter().copied().collect();
                x.sort_by(f64::total_cmp);
                let n = x.len();
                // The gap across the boundary, then those between neighbours; the first of equal gaps wins.
                let (mut gap, mut middle) = (x[0] + 1.0 - x[n - 1], wrap(0.5 * (x[0] + 1.0 + x[n - 1])));
                for pair in x.windows(2) {
                    if pair[1] - pair[0] > gap {
                        (gap, middle) = (pair[1] - pair[0], 0.5 * (pair[0] + pair[1]));
                    }
                }
                (dim, middle)
            })
            .collect();
        Self { boundaries }
    }

    /// Dimension and the place that becomes its boundary.
    #[cfg(feature = "gpu")]
    pub(super) fn boundaries(&self) -> &[(usize, f64)] {
        &self.boundaries
    }

    /// Into the shifted cube, in place.
    #[inline]
    pub fn apply(&self, x: &mut [f64]) {
        for &(dim, boundary) in &self.boundaries {
            x[dim] = wrap(x[dim] - boundary);
        }
    }

    /// Back from the shifted cube, in place.
    #[inline]
    pub fn invert(&self, x: &mut [f64]) {
        for &(dim, boundary) in &self.boundaries {
            x[dim] = wrap(x[dim] + boundary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;
    use ndarray::Array2;

    #[test]
    fn a_cloud_across_the_boundary_comes_together() {
        let points = Array2::from_shape_fn((200, 2), |(i, j)| {
            let mut draw = Stream::new(21).at((2 * i + j) as u64);
            wrap(0.02 * draw.normal())
        });
        let shift = PhaseShift::new(points.view(), &[1]);
        let spread = |column: &dyn Fn(usize) -> f64| {
            let values: Vec<f64> = (0..200).map(column).collect();
            values.iter().copied().fold(0.0, f64::max) - values.iter().copied().fold(1.0, f64::min)
        };
        let moved: Vec<[f64; 2]> = points
            .rows()
            .into_iter()
            .map(|row| {
                let mut x = [row[0], row[1]];
                shift.apply(&mut x);
                let moved = x;
                shift.invert(&mut x);
                // The same place on the circle; the other dimension untouched.
                let off = (x[1] - row[1]).abs();
                assert!(off.min(1.0 - off) < 1e-15 && x[0] == row[0]);
                assert!((0.0..1.0).contains(&moved[1]) && (0.0..1.0).contains(&x[1]));
                moved
            })
            .collect();
        assert!(spread(&|i| moved[i][1]) < 0.2);
        assert!(spread(&|i| points[[i, 1]]) > 0.8);
        // Gap middle at the boundary: as far from the lowest to 0 as from the highest to 1.
        let low = moved.iter().map(|x| x[1]).fold(1.0, f64::min);
        let high = moved.iter().map(|x| x[1]).fold(0.0, f64::max);
        assert!((low - (1.0 - high)).abs() < 1e-12);
    }

    #[test]
    fn results_stay_in_the_half_open_interval() {
        let points = Array2::from_shape_vec((2, 1), vec![0.3, 0.3 + 1e-17]).unwrap();
        let shift = PhaseShift::new(points.view(), &[0]);
        for x in [0.0, 0.3, 0.8, 0.8 - 1e-17, 0.8 - 1e-16, 1.0 - f64::EPSILON / 2.0, f64::MIN_POSITIVE] {
            let mut value = [x];
            shift.apply(&mut value);
            assert!((0.0..1.0).contains(&value[0]));
            shift.invert(&mut value);
            assert!((0.0..1.0).contains(&value[0]));
        }
        assert_eq!(wrap(-1e-20), 0.0);
    }

    #[test]
    fn no_points_and_no_periodic_dimensions_do_nothing() {
        let none = Array2::<f64>::zeros((0, 2));
        assert_eq!(PhaseShift::new(none.view(), &[0]), PhaseShift { boundaries: vec![] });
        let some = Array2::<f64>::zeros((3, 2));
        assert_eq!(PhaseShift::new(some.view(), &[]), PhaseShift { boundaries: vec![] });
        assert_eq!(PhaseShift::new(some.view(), &[7]), PhaseShift { boundaries: vec![] });
        assert_eq!(PhaseShift::new(some.view(), &[1]), PhaseShift { boundaries: vec![(1, 0.5)] });
    }
}
