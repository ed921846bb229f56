//! The union of ellipsoids: cover, clusters, trim, membership and uniform draws.

use ndarray::{ArrayView2, Axis};

use super::tree::{Part, Tree, exchange};
use super::{BoundError, Ellipsoid};
use crate::math::log_sum_exp;
use crate::rng::{Draw, Stream};

/// A member goes when its points are this many times less dense than the median of the others.
const TRIM_DENSITY_RATIO: f64 = 1000.0;

/// How the members of a union are fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnionOptions {
    /// Factor on every semi-axis, at least 1.
    pub enlarge_per_dim: f64,
    /// Points that a member should be fitted to. In few dimensions a member may have fewer and is then larger in proportion.
    pub n_points_min: usize,
    /// Whether members may keep the full `[0, 1)` in some dimensions.
    pub cube_dims: bool,
}

/// How far members are split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnionLimits {
    /// Logarithm of the volume that the points stand for, enlargement included: no union of them is smaller. Members close to it are not
    /// split, which spares most of the cost where one member is the answer. `-inf` where it is not known.
    pub log_v_points: f64,
    /// Logarithm of the summed volume that is small enough.
    pub log_target: f64,
    /// Members at most.
    pub max_members: usize,
}

/// Several ellipsoids, of which at least one; sampled uniformly over their union.
#[derive(Debug, Clone)]
pub struct Union {
    members: Vec<Ellipsoid>,
    /// Points that each member was fitted to.
    n_points: Vec<usize>,
    /// Cumulated share of the members in the summed volume.
    cumulated: Vec<f64>,
    log_volume: f64,
}

impl Union {
    /// One member around `points` `[n_points, n_dim]`. Errors: those of [`Ellipsoid::enclosing`].
    pub fn enclosing(points: ArrayView2<f64>, options: &UnionOptions) -> Result<Self, BoundError> {
        Ok(Self::of(vec![(fit(points, options)?, points.nrows())]))
    }

    /// A union of given members and the number of points that each stands for.
    pub fn of(members: Vec<(Ellipsoid, usize)>) -> Self {
        let (members, n_points) = members.into_iter().unzip();
        let mut union = Self { members, n_points, cumulated: Vec::new(), log_volume: 0.0 };
        union.weigh();
        union
    }

    /// Members around `points` `[n_points, n_dim]`, as many as their summed volume needs to be at most `limits.log_target`. They may overlap.
    ///
    /// The sum is never above the volume of one member around all. One that is small enough costs only its fit; otherwise the
    /// tree of all splits is grown, see [`UnionLimits`].
    pub fn covering(
        points: ArrayView2<f64>,
        options: &UnionOptions,
        limits: &UnionLimits,
        stream: Stream,
    ) -> Result<Self, BoundError> {
        let whole = Self::enclosing(points, options)?;
        if whole.log_volume <= limits.log_target {
            return Ok(whole);
        }
        let tree = Tree::grow(points, options, limits.log_v_points, stream)?;
        let parts = tree.prune(limits.log_target, limits.max_members);
        Ok(Self::from_parts(exchange(parts, points, options)))
    }

    /// The clusters of `points` `[n_points, n_dim]`: one member around each, and no two overlap.
    ///
    /// The smallest parts that are worth having are joined where they overlap, then the ellipsoids around those joined, until
    /// none overlap. So a curved mode, which takes many parts, is one cluster. `limits.log_target` has no effect.
    /// Cost: one tree and an overlap test for each pair of parts.
    pub fn clusters(
        points: ArrayView2<f64>,
        options: &UnionOptions,
        limits: &UnionLimits,
        stream: Stream,
    ) -> Result<Self, BoundError> {
        let tree = Tree::grow(points, options, limits.log_v_points, stream)?;
        let parts = tree.prune(f64::NEG_INFINITY, limits.max_members);
        let mut parts = exchange(parts, points, options);
        loop {
            let n_before = parts.len();
            parts = join_overlapping(parts, points, options)?;
            if parts.len() == n_before {
                return Ok(Self::from_parts(parts));
            }
        }
    }

    fn from_parts(parts: Vec<Part>) -> Self {
        Self::of(parts.into_iter().map(|part| (part.ellipsoid, part.points.len())).collect())
    }

    /// Drops the least dense member (points per volume) if it is at least 1000 times less dense than the median of the
    /// others; says whether it did. The last member stays. Its points are no longer enclosed: check the recall of live points.
    pub fn trim(&mut self) -> bool {
        let log_density: Vec<f64> = self
            .members
            .iter()
            .zip(&self.n_points)
            .map(|(member, &n_points)| (n_points as f64).ln() - member.log_volume())
            .collect();
        let mut order = crate::math::argsort(&log_density);
        let lowest = order.remove(0);
        if order.is_empty() {
            return false;
        }
        let n = order.len();
        let median = 0.5 * (log_density[order[(n - 1) / 2]] + log_density[order[n / 2]]);
        if median - log_density[lowest] < TRIM_DENSITY_RATIO.ln() {
            return false;
        }
        self.members.remove(lowest);
        self.n_points.remove(lowest);
        self.weigh();
        true
    }

    /// Brings the shares of the members up to date.
    fn weigh(&mut self) {
        let log_volumes: Vec<f64> = self.members.iter().map(Ellipsoid::log_volume).collect();
        self.log_volume = log_sum_exp(&log_volumes);
        let mut sum = 0.0;
        self.cumulated.clear();
        for log_volume in log_volumes {
            sum += (log_volume - self.log_volume).exp();
            self.cumulated.push(sum);
        }
    }

    /// `log` of the summed volume of the members, overlaps and parts outside the cube included: the volume that draws start from.
    #[cfg(any(test, feature = "testing"))]
    pub fn log_volume(&self) -> f64 {
        self.log_volume
    }

    /// The members.
    pub fn members(&self) -> &[Ellipsoid] {
        &self.members
    }

    /// Cumulated share of the members in the summed volume.
    #[cfg(feature = "gpu")]
    pub(super) fn cumulated(&self) -> &[f64] {
        &self.cumulated
    }

    /// Number of points that each member was fitted to.
    #[cfg(test)]
    pub fn n_points(&self) -> &[usize] {
        &self.n_points
    }

    /// Whether `x` `[n_dim]`, a point of the unit cube, is inside any member.
    #[inline]
    pub fn contains(&self, x: &[f64]) -> bool {
        self.members.iter().any(|member| member.contains(x))
    }

    /// The cell of `x` `[n_dim]`: the first member that contains it. Cells are disjoint and make up the union.
    #[inline]
    pub fn cell(&self, x: &[f64]) -> Option<usize> {
        self.members.iter().position(|member| member.contains(x))
    }

    /// One trial: fills `x` `[n_dim]`; `true` accepts it, and accepted points are uniform in the union within the cube.
    ///
    /// A member is chosen by volume; the rest is [`draw_in`](Self::draw_in). The accepted share times the summed volume is the volume of
    /// the union within the cube.
    #[cfg(any(test, feature = "testing"))]
    pub fn draw(&self, draw: &mut Draw, x: &mut [f64]) -> bool {
        let member = self.pick(draw);
        self.draw_in(member, draw, x)
    }

    /// A member, by volume.
    pub fn pick(&self, draw: &mut Draw) -> usize {
        if self.members.len() == 1 {
            return 0;
        }
        let pick = draw.uniform();
        self.cumulated.partition_point(|&share| share < pick).min(self.members.len() - 1)
    }

    /// One trial in `member`: `true` accepts `x`, and accepted points are uniform in its cell: inside the cube and in no earlier member.
    pub fn draw_in(&self, member: usize, draw: &mut Draw, x: &mut [f64]) -> bool {
        self.members[member].draw(draw, x);
        x.iter().all(|x| (0.0..1.0).contains(x)) && !self.members[..member].iter().any(|earlier| earlier.contains(x))
    }
}

/// Joins the parts that overlap, directly or through others, into one each.
fn join_overlapping(
    parts: Vec<Part>,
    points: ArrayView2<f64>,
    options: &UnionOptions,
) -> Result<Vec<Part>, BoundError> {
    // The first part of the group that each belongs to.
    let mut group: Vec<usize> = (0..parts.len()).collect();
    for i in 1..parts.len() {
        for j in 0..i {
            if group[i] != group[j] && parts[i].ellipsoid.overlaps(&parts[j].ellipsoid) {
                let (low, high) = (group[i].min(group[j]), group[i].max(group[j]));
                group.iter_mut().filter(|g| **g == high).for_each(|g| *g = low);
            }
        }
    }
    let mut joined: Vec<(usize, Part)> = Vec::new();
    for (part, group) in parts.into_iter().zip(group) {
        match joined.iter_mut().find(|(first, _)| *first == group) {
            Some((_, whole)) => whole.points.extend(part.points),
            None => joined.push((group, part)),
        }
    }
    let refit = |mut part: Part| {
        // In the order of the cloud, each once, so that all points give the fit of all points.
        part.points.sort_unstable();
        part.points.dedup();
        let ellipsoid = fit(points.select(Axis(0), &part.points).view(), options)?;
        Ok(Part { ellipsoid, ..part })
    };
    joined.into_iter().map(|(_, part)| refit(part)).collect()
}

/// Fits one member. One with fewer than `n_points_min` points is made larger in proportion, for what they leave outside.
pub(super) fn fit(points: ArrayView2<f64>, options: &UnionOptions) -> Result<Ellipsoid, BoundError> {
    let lack = (options.n_points_min as f64 / points.nrows() as f64).max(1.0);
    let enlarge_per_dim = options.enlarge_per_dim * lack.powf(1.0 / points.ncols() as f64);
    if options.cube_dims {
        Ellipsoid::enclosing_mixture(points, enlarge_per_dim)
    } else {
        Ellipsoid::enclosing(points, enlarge_per_dim)
    }
}
