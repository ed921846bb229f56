//! The live points: which log L the next bound should enclose.

use crate::math::argsort;

/// The threshold of the next bound: the `n_live`-th highest log L, above a plateau where there is one.
///
/// Ties at the `n_live`-th place are a plateau: when at least `n_points_min` points lie strictly above it, the threshold is the
/// next distinct value, so that the bound leaves the plateau behind. Returns `None` when no point lies below the
/// threshold, since a bound around everything encloses nothing. Cost: one sort.
pub(crate) fn threshold(log_l: &[f64], n_live: usize, n_points_min: usize) -> Option<f64> {
    let n = log_l.len();
    // Too few points above -inf for any bound: known without sorting.
    let n_finite = log_l.iter().filter(|l| **l > f64::NEG_INFINITY).count();
    if n <= n_live || n_live == 0 || n_finite < n_points_min.min(n_live) {
        return None;
    }
    let order = argsort(log_l);
    let at = |k: usize| log_l[order[k]];
    let mut first = n - n_live;
    if at(first - 1) == at(first) || at(first) == f64::NEG_INFINITY {
        let above = (first..n).find(|&k| at(k) > at(first));
        match above {
            Some(above) if n - above >= n_points_min => first = above,
            _ if at(first) == f64::NEG_INFINITY => return None,
            _ => {}
        }
    }
    (at(0) < at(first)).then(|| at(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_values() {
        let log_l: Vec<f64> = (0..10).map(f64::from).collect();
        assert_eq!(threshold(&log_l, 3, 2), Some(7.0));
        assert_eq!(threshold(&log_l, 10, 2), None);
    }

    #[test]
    fn plateaus() {
        let none = f64::NEG_INFINITY;
        assert_eq!(threshold(&[1.0; 10], 3, 1), None);
        // The plateau is skipped when enough points lie above it, and kept when not.
        assert_eq!(threshold(&[none, none, none, none, 1.0, 2.0], 4, 2), Some(1.0));
        assert_eq!(threshold(&[none, none, none, none, 1.0, 2.0], 4, 3), None);
        assert_eq!(threshold(&[0.0, 1.0, 1.0, 1.0, 1.0, 2.0], 3, 2), Some(1.0));
        assert_eq!(threshold(&[none; 10], 3, 1), None);
    }
}
