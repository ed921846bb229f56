//! The live points: which log L the next bound should enclose.

use crate::math::argsort;

/// What the next bound should enclose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Threshold {
    pub(crate) log_l: f64,
    /// The value before it was that of a plateau, which the bound leaves behind.
    pub(crate) plateau_skipped: bool,
}

/// Part of the volume above the threshold that the next threshold encloses. With `n_live (1/s - 1)` new points for each bound, a factor e of volume costs
/// `n_live (1/s - 1) / ln(1/s)` points: 1.44 `n_live` for a half, 1.22 for two thirds, at 1.7 times the bounds.
pub(crate) const SHARE: f64 = 2.0 / 3.0;

/// Large batches bring more points than are enough: the volume then falls faster, but by no more than this at once.
const SHARE_LEAST: f64 = 0.1;

/// The threshold of the next bound: the log L that [`SHARE`] of the volume above `current` lies above, or less where `n_points_enough` are a small part of the points there.
///
/// `weight` `[n_points]` is the prior volume that each point stands for, in any unit. At least `n_points_least` points lie at or above the
/// threshold, be it below `current`. Ties there are a plateau: when at least `n_points_min` points lie strictly above it, the
/// threshold is the next distinct value, so that the bound leaves the plateau behind. Returns `None` when no point lies below the
/// threshold, since a bound around everything encloses nothing. Cost: one sort.
pub(crate) fn threshold(
    log_l: &[f64],
    weight: &[f64],
    current: f64,
    n_points_enough: usize,
    n_points_least: usize,
    n_points_min: usize,
) -> Option<Threshold> {
    let n = log_l.len();
    // Too few points above -inf for any bound: known without sorting.
    let n_finite = log_l.iter().filter(|l| **l > f64::NEG_INFINITY).count();
    if n <= n_points_least || n_points_least == 0 || n_finite < n_points_min.min(n_points_least) {
        return None;
    }
    let order = argsort(log_l);
    let at = |k: usize| log_l[order[k]];
    let above = || log_l.iter().zip(weight).filter(|(l, w)| **l >= current && **w > 0.0);
    let n_above = above().count();
    let enough = n_points_enough as f64 / n_above.max(1) as f64;
    let share = if enough < 0.25 { enough.max(SHARE_LEAST) } else { SHARE };
    let volume = share * above().map(|(_, w)| w).sum::<f64>();
    let mut sum = 0.0;
    let inner = order.iter().rev().take_while(|k| {
        sum += weight[**k];
        sum <= volume
    });
    let mut first = n - inner.count().clamp(n_points_least, n - 1);
    let mut plateau_skipped = false;
    if at(first - 1) == at(first) || at(first) == f64::NEG_INFINITY {
        let above = (first..n).find(|&k| at(k) > at(first));
        match above {
            Some(above) if n - above >= n_points_min => {
                first = above;
                plateau_skipped = true;
            }
            _ if at(first) == f64::NEG_INFINITY => return None,
            _ => {}
        }
    }
    (at(0) < at(first)).then(|| Threshold { log_l: at(first), plateau_skipped })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points of equal weight and a threshold so far that all of them lie above.
    fn of(log_l: &[f64], n_points_least: usize, n_points_min: usize) -> Option<f64> {
        threshold(log_l, &vec![1.0; log_l.len()], f64::NEG_INFINITY, log_l.len(), n_points_least, n_points_min)
            .map(|t| t.log_l)
    }

    #[test]
    fn two_thirds_of_the_volume_lie_above() {
        let log_l: Vec<f64> = (0..10).map(f64::from).collect();
        assert_eq!(of(&log_l, 3, 2), Some(4.0));
        assert_eq!(of(&log_l, 7, 2), Some(3.0));
        assert_eq!(of(&log_l, 10, 2), None);
        // Heavy points count for more; those below the current threshold for nothing.
        let mut weight = vec![1.0; 10];
        weight[9] = 20.0;
        assert_eq!(threshold(&log_l, &weight, f64::NEG_INFINITY, 10, 1, 1).map(|t| t.log_l), Some(9.0));
        assert_eq!(threshold(&log_l, &[1.0; 10], 3.0, 10, 1, 1).map(|t| t.log_l), Some(6.0));
        // So many points are enough.
        assert_eq!(threshold(&log_l, &[1.0; 10], f64::NEG_INFINITY, 2, 1, 1).map(|t| t.log_l), Some(8.0));
        let many: Vec<f64> = (0..1000).map(f64::from).collect();
        assert_eq!(threshold(&many, &[1.0; 1000], f64::NEG_INFINITY, 2, 1, 1).map(|t| t.log_l), Some(900.0));
    }

    #[test]
    fn plateaus() {
        let none = f64::NEG_INFINITY;
        assert_eq!(of(&[1.0; 10], 3, 1), None);
        // The plateau is skipped when enough points lie above it, and kept when not.
        assert_eq!(of(&[none, none, none, none, 1.0, 2.0], 4, 2), Some(1.0));
        assert_eq!(of(&[none, none, none, none, 1.0, 2.0], 4, 3), None);
        assert_eq!(of(&[0.0, 1.0, 1.0, 1.0, 1.0, 2.0], 3, 2), Some(1.0));
        assert_eq!(of(&[none; 10], 3, 1), None);
    }
}
