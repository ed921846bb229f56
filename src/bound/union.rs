//! The union of ellipsoids: split, trim, membership and uniform draws.

use ndarray::ArrayView2;

use super::mixture::Mixture;
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
    /// Points that a member is fitted to, at least.
    pub n_points_min: usize,
    /// Whether members may keep the full `[0, 1)` in some dimensions.
    pub cube_dims: bool,
}

/// Why a member is not split again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocked {
    No,
    /// Its parts would overlap something, which may become allowed.
    ByOverlap,
    /// Too few points, or its parts are not smaller.
    ForGood,
}

/// What a member was fitted to.
#[derive(Debug, Clone)]
struct Fitted {
    /// `[n_points, n_dim]`, rows one after the other.
    points: Vec<f64>,
    blocked: Blocked,
}

/// Several ellipsoids, of which at least one; sampled uniformly over their union.
#[derive(Debug, Clone)]
pub struct Union {
    n_dim: usize,
    options: UnionOptions,
    members: Vec<Ellipsoid>,
    fitted: Vec<Fitted>,
    /// Cumulated share of the members in the summed volume.
    cumulated: Vec<f64>,
    log_volume: f64,
}

impl Union {
    /// One member around `points` `[n_points, n_dim]`. Errors: those of [`Ellipsoid::enclosing`].
    pub fn enclosing(points: ArrayView2<f64>, options: &UnionOptions) -> Result<Self, BoundError> {
        let member = fit(points, options)?;
        let points = points.iter().copied().collect();
        let mut union = Self {
            n_dim: member.n_dim(),
            options: *options,
            members: vec![member],
            fitted: vec![Fitted { points, blocked: Blocked::No }],
            cumulated: Vec::new(),
            log_volume: 0.0,
        };
        union.weigh();
        Ok(union)
    }

    /// A union of given members and the points each stands for.
    #[cfg(test)]
    pub fn of(n_dim: usize, options: UnionOptions, members: Vec<(Ellipsoid, Vec<f64>)>) -> Self {
        let (members, points): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let fitted = points.into_iter().map(|points| Fitted { points, blocked: Blocked::No }).collect();
        let mut union = Self { n_dim, options, members, fitted, cumulated: Vec::new(), log_volume: 0.0 };
        union.weigh();
        union
    }

    /// Splits the largest member that can be split in two; `false` when none can.
    ///
    /// Two Gaussians are fitted in the frame of the member; a part with fewer than `n_points_min` points is topped up with the
    /// points of the other part that are likeliest in it. A member whose parts are not smaller in sum is blocked for good;
    /// without `allow_overlap` also one whose parts overlap each other or another member, until overlaps are allowed. So
    /// each member is tried at most twice in its life and each accepted split makes the summed volume smaller: splitting ends.
    /// Cost: one mixture and two fits of the points of the member, and one overlap test per member.
    pub fn split(&mut self, allow_overlap: bool, stream: Stream) -> bool {
        let mut attempt = 0;
        while let Some(i) = self.largest_splittable(allow_overlap) {
            match self.parts(i, stream.substream(attempt)) {
                None => self.fitted[i].blocked = Blocked::ForGood,
                Some(parts) if !allow_overlap && self.any_overlap(i, &parts) => {
                    self.fitted[i].blocked = Blocked::ByOverlap;
                }
                Some([(first, first_points), (second, second_points)]) => {
                    self.members[i] = first;
                    self.fitted[i] = Fitted { points: first_points, blocked: Blocked::No };
                    self.members.push(second);
                    self.fitted.push(Fitted { points: second_points, blocked: Blocked::No });
                    self.weigh();
                    return true;
                }
            }
            attempt += 1;
        }
        false
    }

    fn largest_splittable(&self, allow_overlap: bool) -> Option<usize> {
        (0..self.members.len())
            .filter(|&i| match self.fitted[i].blocked {
                Blocked::No => true,
                Blocked::ByOverlap => allow_overlap,
                Blocked::ForGood => false,
            })
            .max_by(|&a, &b| self.members[a].log_volume().total_cmp(&self.members[b].log_volume()).then(b.cmp(&a)))
    }

    /// The two parts of a member with their points, if they are smaller in sum.
    fn parts(&self, i: usize, stream: Stream) -> Option<[(Ellipsoid, Vec<f64>); 2]> {
        let (points, n_dim) = (&self.fitted[i].points, self.n_dim);
        let labels = self.labels(i, stream)?;
        let part = |which: bool| {
            let rows = points.chunks_exact(n_dim).zip(&labels).filter(|(_, label)| **label == which);
            let rows: Vec<f64> = rows.flat_map(|(row, _)| row).copied().collect();
            let view = ArrayView2::from_shape((rows.len() / n_dim, n_dim), &rows).ok()?;
            let member = fit(view, &self.options).ok()?;
            Some((member, rows))
        };
        let parts = [part(false)?, part(true)?];
        let sum = log_sum_exp(&[parts[0].0.log_volume(), parts[1].0.log_volume()]);
        (sum < self.members[i].log_volume()).then_some(parts)
    }

    /// Which of two parts each point of a member belongs to; both have at least `n_points_min` points.
    fn labels(&self, i: usize, stream: Stream) -> Option<Vec<bool>> {
        let (points, n_dim) = (&self.fitted[i].points, self.n_dim);
        let n = points.len() / n_dim;
        // Two points are the least that can be enclosed.
        let n_points_min = self.options.n_points_min.max(2);
        if n < 2 * n_points_min {
            return None;
        }
        let mut frame = vec![0.0; points.len()];
        for (z, x) in frame.chunks_exact_mut(n_dim).zip(points.chunks_exact(n_dim)) {
            self.members[i].to_frame(x, z);
        }
        let mixture = Mixture::fit(&frame, n_dim, stream)?;
        let mut delta = vec![0.0; n_dim];
        let densities: Vec<[f64; 2]> =
            frame.chunks_exact(n_dim).map(|z| [0, 1].map(|which| mixture.log_density(which, z, &mut delta))).collect();
        let mut labels: Vec<bool> = densities.iter().map(|[first, second]| second > first).collect();
        for which in [false, true] {
            let count = labels.iter().filter(|&&label| label == which).count();
            let mut others: Vec<usize> = (0..n).filter(|&p| labels[p] != which).collect();
            let density = |p: usize| densities[p][usize::from(which)];
            others.sort_by(|&a, &b| density(b).total_cmp(&density(a)).then(a.cmp(&b)));
            for &p in others.iter().take(n_points_min.saturating_sub(count)) {
                labels[p] = which;
            }
        }
        Some(labels)
    }

    /// Whether two parts of member `i` overlap each other or a member that stays.
    fn any_overlap(&self, i: usize, parts: &[(Ellipsoid, Vec<f64>); 2]) -> bool {
        let [(first, _), (second, _)] = parts;
        let mut others = self.members.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, member)| member);
        first.overlaps(second) || others.any(|other| first.overlaps(other) || second.overlaps(other))
    }

    /// Drops the least dense member (points per volume) if it is at least 1000 times less dense than the median of the
    /// others; says whether it did. The last member stays. Its points are no longer enclosed: check the recall of live points.
    pub fn trim(&mut self) -> bool {
        let log_density: Vec<f64> = self
            .members
            .iter()
            .zip(&self.fitted)
            .map(|(member, fitted)| ((fitted.points.len() / self.n_dim) as f64).ln() - member.log_volume())
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
        self.fitted.remove(lowest);
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
    pub fn log_volume(&self) -> f64 {
        self.log_volume
    }

    /// The members.
    pub fn members(&self) -> &[Ellipsoid] {
        &self.members
    }

    /// Points that member `i` was fitted to, `n_dim` coordinates each, one after the other.
    #[cfg(test)]
    pub fn points(&self, i: usize) -> &[f64] {
        &self.fitted[i].points
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

/// Fits one member.
fn fit(points: ArrayView2<f64>, options: &UnionOptions) -> Result<Ellipsoid, BoundError> {
    if options.cube_dims {
        Ellipsoid::enclosing_mixture(points, options.enlarge_per_dim)
    } else {
        Ellipsoid::enclosing(points, options.enlarge_per_dim)
    }
}
