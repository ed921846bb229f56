//! Evidence from points that are uniform in disjoint shells whose volumes are known by counting (Lange 2023, eqs. 1-6).

use serde::Serialize;

use crate::math::log_sum_exp;

/// `kept` out of `drawn` independent draws passed a test.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Fraction {
    /// Draws that were tested.
    pub drawn: u64,
    /// Draws that passed.
    pub kept: u64,
}

impl Fraction {
    /// Adds the counts of more draws.
    pub fn add(&mut self, drawn: u64, kept: u64) {
        self.drawn += drawn;
        self.kept += kept;
    }

    /// `kept / drawn`; 1 when nothing was tested, which says that nothing needed to be.
    pub fn value(&self) -> f64 {
        if self.drawn == 0 { 1.0 } else { self.kept as f64 / self.drawn as f64 }
    }

    /// Binomial variance relative to the square of the value: `(1-p)/(p drawn)`; 0 when nothing was tested.
    pub fn relative_variance(&self) -> f64 {
        if self.drawn == 0 { 0.0 } else { (1.0 - self.value()) / self.kept as f64 }
    }

    fn sum(self, other: Self) -> Self {
        Self { drawn: self.drawn + other.drawn, kept: self.kept + other.kept }
    }
}

/// What is known of the prior volume of a shell: an analytic volume times three counted fractions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ShellVolume {
    /// Logarithm of the summed volume of the members of the union of the bound.
    pub log_v_members: f64,
    /// Draws from the members, kept when inside the unit cube and not rejected for overlap: a of M.
    pub union: Fraction,
    /// Draws from the union, kept when the networks accept them: f of K.
    pub network: Fraction,
    /// Draws from the bound, kept when no later bound contains them: p = n of N.
    pub shell: Fraction,
}

impl ShellVolume {
    /// Logarithm of the prior volume of the bound.
    pub fn log_bound(&self) -> f64 {
        self.log_v_members + self.union.value().ln() + self.network.value().ln()
    }

    /// Logarithm of the prior volume of the shell.
    pub fn log_shell(&self) -> f64 {
        self.log_bound() + self.shell.value().ln()
    }

    /// Variance of the volume relative to its square: the three fractions together.
    pub fn relative_variance(&self) -> f64 {
        [self.union, self.network, self.shell].iter().map(Fraction::relative_variance).sum()
    }

    /// The same volume with the draws of two phases counted together.
    pub fn merge(&self, other: &Self) -> Self {
        Self {
            log_v_members: self.log_v_members,
            union: self.union.sum(other.union),
            network: self.network.sum(other.network),
            shell: self.shell.sum(other.shell),
        }
    }
}

/// The parts of the variance of log Z.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ErrorTerms {
    /// Scatter of the likelihood among the points of a shell.
    pub scatter: f64,
    /// Fractions of the bounds that belong to their shells.
    pub shell: f64,
    /// Fractions of the unions that the networks accept.
    pub network: f64,
    /// Fractions of the members' volumes that are in the cube and counted once.
    pub union: f64,
}

impl ErrorTerms {
    /// `Var(log Z)`.
    pub fn total(&self) -> f64 {
        self.scatter + self.shell + self.network + self.union
    }

    /// The part that draws without likelihood calls can lower.
    pub fn volume(&self) -> f64 {
        self.shell + self.network + self.union
    }
}

/// One shell's part in the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ShellEvidence {
    /// Logarithm of the prior volume of the shell.
    pub log_volume: f64,
    /// Number of points in it.
    pub n_points: usize,
    /// `(sum L)^2 / sum L^2`, or the number of points when every L is 0.
    pub n_eff: f64,
    /// Logarithm of its evidence; -inf when it is empty or every L is 0.
    pub log_z: f64,
    /// The largest likelihood as a fraction of the sum over the shell.
    pub max_weight_share: f64,
}

impl ShellEvidence {
    /// The part of a shell that is made of disjoint regions, as if its points were uniform in it.
    pub(crate) fn of_regions(regions: impl Iterator<Item = Self> + Clone) -> Self {
        let sum = |part: fn(&Self) -> f64| log_sum_exp(&regions.clone().map(|r| part(&r)).collect::<Vec<_>>());
        let (log_volume, log_z) = (sum(|r| r.log_volume), sum(|r| r.log_z));
        let n_points = regions.clone().map(|r| r.n_points).sum();
        // (mean L)^2 / mean L^2 over the shell, from those of the regions.
        let log_square = sum(|r| {
            let empty = r.log_z == f64::NEG_INFINITY;
            if empty { r.log_z } else { 2.0 * r.log_z - r.log_volume + (r.n_points as f64 / r.n_eff).ln() }
        });
        let effective = if log_z > f64::NEG_INFINITY { (2.0 * log_z - log_volume - log_square).exp() } else { 1.0 };
        let share =
            |r: Self| if r.log_z > f64::NEG_INFINITY { (r.log_z - log_z).exp() * r.max_weight_share } else { 0.0 };
        let max_weight_share = regions.clone().map(share).fold(0.0, f64::max);
        Self { log_volume, n_points, n_eff: n_points as f64 * effective, log_z, max_weight_share }
    }
}

/// The evidence of a run, and how far to trust it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Evidence {
    /// Natural logarithm of the evidence.
    pub log_z: f64,
    /// Standard error of `log_z`: the square root of the sum of `error_terms`.
    pub log_z_error: f64,
    /// Information gained from prior to posterior (Kullback-Leibler divergence), in nats.
    pub information: f64,
    /// `(sum Z_i)^2 / sum(Z_i^2 / n_eff,i)`: effective number of points. For shells this equals Kish's effective
    /// sample size of the posterior weights.
    pub n_eff: f64,
    /// Asymptotic effective points per likelihood call in the sampling phase (Lange 2023, eq. 6).
    pub efficiency: f64,
    /// Share of the posterior weight that the heaviest point carries.
    pub max_weight_share: f64,
    /// Points that enter the estimate.
    pub n_points: usize,
    /// Whether points of the exploration were kept, which biases log Z (low, as a rule).
    pub exploration_kept: bool,
    /// The parts of `log_z_error` squared.
    pub error_terms: ErrorTerms,
    /// Shell by shell, the unit cube first; a point belongs to the last bound that holds it.
    pub shells: Vec<ShellEvidence>,
}

/// Logarithm of the unnormalised posterior weight `V_i L / n_i` of each point.
///
/// `shell[k]` is the shell of point `k`; indices outside `volumes` get -inf.
pub fn shell_log_weights(volumes: &[ShellVolume], log_l: &[f64], shell: &[u32]) -> Vec<f64> {
    let mut n = vec![0usize; volumes.len()];
    for &i in shell {
        if let Some(n) = n.get_mut(i as usize) {
            *n += 1;
        }
    }
    let offset: Vec<f64> = volumes.iter().zip(&n).map(|(v, &n)| v.log_shell() - (n as f64).ln()).collect();
    log_l.iter().zip(shell).map(|(l, &i)| offset.get(i as usize).map_or(f64::NEG_INFINITY, |o| o + l)).collect()
}

/// Evidence from points uniform in shells.
///
/// With `V_i` the volume of shell `i` and `n_i` its points, `Z = sum_i V_i mean_i(L)` and
/// `Var(log Z) = sum_i (Z_i/Z)^2 [1/n_eff,i - 1/n_i + (1-p_i)/n_i + (1-f_i)/(f_i K_i) + (1-a_i)/(a_i M_i)]`,
/// each fraction with its own number of draws (they may be more than the evaluated points). The scatter uses the unbiased variance.
///
/// `shell[k]` is the shell of point `k`; points with an index outside `volumes` are left out. Cost: O(points).
pub fn shell_evidence(volumes: &[ShellVolume], log_l: &[f64], shell: &[u32]) -> Evidence {
    let mut members: Vec<Vec<f64>> = vec![Vec::new(); volumes.len()];
    for (&l, &i) in log_l.iter().zip(shell) {
        if let Some(member) = members.get_mut(i as usize) {
            member.push(l);
        }
    }
    let shells: Vec<ShellEvidence> = volumes.iter().zip(&members).map(|(v, l)| one_shell(v.log_shell(), l)).collect();
    let log_z = log_sum_exp(&shells.iter().map(|s| s.log_z).collect::<Vec<_>>());
    let share = |s: &ShellEvidence| if s.log_z == f64::NEG_INFINITY { 0.0 } else { (s.log_z - log_z).exp() };

    let mut terms = ErrorTerms::default();
    let (mut inverse_n_eff, mut root_sum, mut max_weight_share, mut information) = (0.0, 0.0, 0.0f64, 0.0f64);
    for ((s, v), l) in shells.iter().zip(volumes).zip(&members) {
        let share = share(s);
        if share == 0.0 {
            continue;
        }
        let n = s.n_points as f64;
        let square = share * share;
        if s.n_points > 1 {
            terms.scatter += square * (1.0 / s.n_eff - 1.0 / n).max(0.0) * n / (n - 1.0);
        } else {
            // One point says nothing of the scatter: count it as wholly uncertain.
            terms.scatter += square;
        }
        terms.shell += square * v.shell.relative_variance();
        terms.network += square * v.network.relative_variance();
        terms.union += square * v.union.relative_variance();
        inverse_n_eff += square / s.n_eff;
        root_sum += share * (n / s.n_eff).sqrt();
        max_weight_share = max_weight_share.max(share * s.max_weight_share);
        // Differences to log Z, so that a large offset of log L costs no digits.
        let max = l.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let finite = || l.iter().filter(|l| **l > f64::NEG_INFINITY).map(|l| ((l - max).exp(), l - log_z));
        let (sum, weighted) = finite().fold((0.0, 0.0), |(sum, weighted), (w, gain)| (sum + w, weighted + w * gain));
        information += share * weighted / sum;
    }
    let some = log_z > f64::NEG_INFINITY;
    Evidence {
        log_z,
        log_z_error: if some { terms.total().sqrt() } else { f64::INFINITY },
        information: information.max(0.0),
        n_eff: if some { 1.0 / inverse_n_eff } else { 0.0 },
        efficiency: if some { 1.0 / (root_sum * root_sum) } else { 0.0 },
        max_weight_share,
        n_points: shells.iter().map(|s| s.n_points).sum(),
        exploration_kept: false,
        error_terms: terms,
        shells,
    }
}

fn one_shell(log_volume: f64, log_l: &[f64]) -> ShellEvidence {
    let n = log_l.len() as f64;
    let max = log_l.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        let log_z = f64::NEG_INFINITY;
        return ShellEvidence { log_volume, n_points: log_l.len(), n_eff: n, log_z, max_weight_share: 0.0 };
    }
    // Relative to the largest, both sums lie between 1 and n.
    let sum: f64 = log_l.iter().map(|l| (l - max).exp()).sum();
    let square_sum: f64 = log_l.iter().map(|l| (2.0 * (l - max)).exp()).sum();
    ShellEvidence {
        log_volume,
        n_points: log_l.len(),
        n_eff: sum * sum / square_sum,
        log_z: log_volume + max + (sum / n).ln(),
        max_weight_share: 1.0 / sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell cut into two regions of different density of points, against the moments of L over the whole.
    #[test]
    fn regions_make_up_their_shell() {
        let region = |log_volume: f64, l: &[f64]| one_shell(log_volume, &l.iter().map(|l| l.ln()).collect::<Vec<_>>());
        let (a, b) = (region(0.2f64.ln(), &[1.0, 3.0]), region(0.6f64.ln(), &[2.0; 6]));
        let shell = ShellEvidence::of_regions([a, b].into_iter());
        let mean = (0.2 * 2.0 + 0.6 * 2.0) / 0.8;
        let square = (0.2 * 5.0 + 0.6 * 4.0) / 0.8;
        assert_eq!(shell.n_points, 8);
        assert!((shell.log_volume - 0.8f64.ln()).abs() < 1e-12);
        assert!((shell.log_z - (0.8f64 * mean).ln()).abs() < 1e-12);
        assert!((shell.n_eff - 8.0 * mean * mean / square).abs() < 1e-9);
        // The heaviest point: three quarters of a quarter of the evidence.
        assert!((shell.max_weight_share - 0.1875).abs() < 1e-12);
        let empty = ShellEvidence::of_regions([one_shell(0.5f64.ln(), &[f64::NEG_INFINITY; 3])].into_iter());
        assert_eq!((empty.log_z, empty.n_eff, empty.max_weight_share), (f64::NEG_INFINITY, 3.0, 0.0));
        // A region without points and volume changes nothing.
        let with_empty = ShellEvidence::of_regions([a, b, one_shell(f64::NEG_INFINITY, &[])].into_iter());
        assert_eq!(with_empty, shell);
    }
}
