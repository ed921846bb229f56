//! The tree of splits: a cloud of points halved down to the smallest parts, then pruned to those that are worth having.
//!
//! Growing first and pruning afterwards is the order of CART (Breiman et al. 1984). Where many modes lie on a lattice, the first
//! halves together are as large as the whole and only the parts of their parts are smaller: a rule that looks one split ahead stops there.

use std::collections::VecDeque;

use ndarray::{ArrayView2, Axis};

use super::mixture::{Effort, Mixture};
use super::union::fit;
use super::{BoundError, Ellipsoid, UnionOptions};
use crate::math::{argsort, log_sum_exp};
use crate::rng::Stream;

/// A split counts when it takes at least this share off the volume: less is noise of the points.
const GAIN: f64 = 0.05;
/// A part within this factor of the volume that its points stand for is not split: there is nothing to gain.
const TIGHT: f64 = 1.2;
/// A tree is grown until this many times all points, for each level of a balanced tree, went into mixtures.
/// Even halves take 1; one mode peeled off after the other takes more, and is cut short.
const WORK: usize = 3;
/// With fewer points than this many times those that hold an ellipsoid in place, halves that do not pay are not split further: theirs would pay less.
const HOPEFUL: usize = 3;
/// A point this many semi-axes from the centre of another part may belong to it.
const REACH: f64 = 1.5;
/// The mixture of all points: its partition is good to a per cent.
const ROOT_EFFORT: Effort = Effort { starts: 10, max_points: 5000 };
/// The mixtures of parts: there are many of them, and what one misses the next may find.
const EFFORT: Effort = Effort { starts: 3, max_points: 500 };

/// A part of the points with what encloses it.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub ellipsoid: Ellipsoid,
    /// Rows of the cloud.
    pub points: Vec<usize>,
}

#[derive(Debug)]
struct Node {
    part: Part,
    /// Places of the two halves in the tree, behind their whole.
    halves: Option<[usize; 2]>,
    /// Logarithm of the volume that the part is judged by.
    log_whole: f64,
    /// Logarithm of the smallest such volume, summed, that its parts come to.
    log_best: f64,
}

/// All splits of a cloud.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// Splits `points` `[n_points, n_dim]` as far as they go.
    ///
    /// Two Gaussians are fitted in the frame of a part. A half with fewer than `n_points_min` points either shares the points of the
    /// other half that are likeliest in it (taken away, they would be missing there), or stands alone, larger by what it lacks; the
    /// smaller is taken. Growth ends at parts with too few points for two, and at those that are hardly larger than their share of
    /// `log_v_points`, the logarithm of the volume that all points stand for, enlargement included.
    /// Errors: those of [`Ellipsoid::enclosing`] for all points; a part without a fit stays whole.
    /// Cost: mixtures and fits of `n log n` points together.
    pub fn grow(
        points: ArrayView2<f64>,
        options: &UnionOptions,
        log_v_points: f64,
        stream: Stream,
    ) -> Result<Self, BoundError> {
        let n = points.nrows();
        let root = Part { ellipsoid: fit(points, options)?, points: (0..n).collect() };
        let n_min = fewest_points(options, points.ncols());
        let mut work = WORK * n * (n / n_min).max(1).ilog2() as usize;
        let mut tree = Self { nodes: vec![Node::new(root, points.ncols())] };
        let mut next = VecDeque::from([0]);
        while let Some(i) = next.pop_front() {
            let part = &tree.nodes[i].part;
            let share = (part.points.len() as f64 / n as f64).ln();
            if part.points.len() < 2 * n_min
                || part.points.len() > work
                || part.ellipsoid.log_volume() <= log_v_points + share + TIGHT.ln()
            {
                continue;
            }
            work -= part.points.len();
            let effort = if i == 0 { ROOT_EFFORT } else { EFFORT };
            if let Some(halves) = halve(part, points, options, effort, stream.substream(i as u64)) {
                let first = tree.nodes.len();
                let few = part.points.len() < HOPEFUL * contacts(points.ncols());
                tree.nodes[i].halves = Some([first, first + 1]);
                tree.nodes.extend(halves.map(|half| Node::new(half, points.ncols())));
                let sum = log_sum_exp(&[tree.nodes[first].log_whole, tree.nodes[first + 1].log_whole]);
                if !few || sum < tree.nodes[i].log_whole {
                    next.extend([first, first + 1]);
                }
            }
        }
        for i in (0..tree.nodes.len()).rev() {
            if let Some([first, second]) = tree.nodes[i].halves {
                let sum = log_sum_exp(&[tree.nodes[first].log_best, tree.nodes[second].log_best]);
                if sum < tree.nodes[i].log_best + (1.0 - GAIN).ln() {
                    tree.nodes[i].log_best = sum;
                }
            }
        }
        Ok(tree)
    }

    /// The parts after pruning: starting from the whole, the largest that is worth it is split, until the sum of their volumes is at
    /// most `log_target`, or there are `max_parts`.
    ///
    /// On the way to smaller parts the sum may grow; the parts returned are those of the smallest sum met.
    pub fn prune(&self, log_target: f64, max_parts: usize) -> Vec<Part> {
        let log_v = |i: usize| self.nodes[i].part.ellipsoid.log_volume();
        let sum = |parts: &[usize]| log_sum_exp(&parts.iter().map(|&i| log_v(i)).collect::<Vec<f64>>());
        let mut parts = vec![0];
        let mut best = (log_v(0), parts.clone());
        while best.0 > log_target && parts.len() < max_parts {
            let worth = |k: &usize| self.nodes[parts[*k]].log_best < self.nodes[parts[*k]].log_whole;
            let largest = (0..parts.len()).filter(worth).max_by(|&a, &b| log_v(parts[a]).total_cmp(&log_v(parts[b])));
            let Some((k, [first, second])) = largest.and_then(|k| Some((k, self.nodes[parts[k]].halves?))) else {
                break;
            };
            parts[k] = first;
            parts.push(second);
            let log_v_parts = sum(&parts);
            if log_v_parts < best.0 {
                best = (log_v_parts, parts.clone());
            }
        }
        best.1.into_iter().map(|i| self.nodes[i].part.clone()).collect()
    }
}

impl Node {
    /// A part is judged as if it were larger by what noise gains: the points of a ball, halved down to the smallest parts, lie in
    /// ellipsoids that are far smaller in sum, since few points in many dimensions leave most of their region outside.
    fn new(part: Part, n_dim: usize) -> Self {
        let noise = contacts(n_dim) as f64 / part.points.len() as f64;
        let log_whole = part.ellipsoid.log_volume() + noise;
        Self { part, halves: None, log_whole, log_best: log_whole }
    }
}

/// Twice the number of points that hold an ellipsoid of minimum volume in place, at most.
///
/// With `s` such points among `n`, the next point is outside with probability `s / n`. The factor of two is for halves that were
/// chosen by the same points: with it, a ball stays whole in any number of dimensions.
fn contacts(n_dim: usize) -> usize {
    n_dim * (n_dim + 3)
}

/// Moves points between parts where that makes the two smaller in sum; a part without points goes.
///
/// A split may cut a slice off a mode, and a slice too small to stand alone stays with a part far away, which then spans both.
/// From the largest part on, what lies within [`REACH`] of another part is offered to it.
/// Cost: one distance for each point and part, and two fits for each pair in reach.
pub(super) fn exchange(mut parts: Vec<Part>, points: ArrayView2<f64>, options: &UnionOptions) -> Vec<Part> {
    let n_dim = points.ncols();
    let log_v = |part: &Part| part.ellipsoid.log_volume();
    let fewest = fewest_points(options, n_dim);
    let refit = |rows: Vec<usize>| {
        let ellipsoid = fit(points.select(Axis(0), &rows).view(), options).ok()?;
        Some(Part { ellipsoid, points: rows })
    };
    parts.sort_by(|a, b| log_v(b).total_cmp(&log_v(a)));
    let (mut x, mut z) = (vec![0.0; n_dim], vec![0.0; n_dim]);
    let mut from = 0;
    while from < parts.len() {
        let mut to = 0;
        while from < parts.len() && to < parts.len() {
            let (giver, taker) = (&parts[from], &parts[to]);
            let (given, kept): (Vec<usize>, Vec<usize>) = giver.points.iter().partition(|&&row| {
                x.iter_mut().zip(points.row(row)).for_each(|(x, value)| *x = *value);
                taker.ellipsoid.to_frame(&x, &mut z);
                to != from && z.iter().map(|z| z * z).sum::<f64>() <= REACH * REACH
            });
            let mut together = [taker.points.as_slice(), &given].concat();
            together.sort_unstable();
            together.dedup();
            to += 1;
            if given.is_empty() || (!kept.is_empty() && kept.len() < fewest) {
                continue;
            }
            let limit = log_sum_exp(&[log_v(giver), log_v(taker)]) + (1.0 - GAIN).ln();
            let Some(taken) = refit(together).filter(|taken| log_v(taken) < limit) else { continue };
            if kept.is_empty() {
                parts[to - 1] = taken;
                parts.remove(from);
                to = 0;
            } else if let Some(left) = refit(kept)
                && log_sum_exp(&[log_v(&left), log_v(&taken)]) < limit
            {
                parts[to - 1] = taken;
                parts[from] = left;
            }
        }
        from += 1;
    }
    parts
}

/// Points that a part needs to stand alone: with as many, about half of the region is enclosed. Two are the least that can be enclosed.
fn fewest_points(options: &UnionOptions, n_dim: usize) -> usize {
    options.n_points_min.min(contacts(n_dim)).max(2)
}

/// Two halves of a part, each with its fit.
fn halve(
    part: &Part,
    points: ArrayView2<f64>,
    options: &UnionOptions,
    effort: Effort,
    stream: Stream,
) -> Option<[Part; 2]> {
    let n_dim = points.ncols();
    let mut frame = vec![0.0; part.points.len() * n_dim];
    let mut x = vec![0.0; n_dim];
    for (z, &row) in frame.chunks_exact_mut(n_dim).zip(&part.points) {
        x.iter_mut().zip(points.row(row)).for_each(|(x, value)| *x = *value);
        part.ellipsoid.to_frame(&x, z);
    }
    let mixture = Mixture::fit(&frame, n_dim, effort, stream)?;
    let mut delta = vec![0.0; n_dim];
    // How much likelier each point is in the second half.
    let odds: Vec<f64> = frame
        .chunks_exact(n_dim)
        .map(|z| mixture.log_density(1, z, &mut delta) - mixture.log_density(0, z, &mut delta))
        .collect();
    let mut density =
        |which: usize, k: usize| mixture.log_density(which, &frame[k * n_dim..(k + 1) * n_dim], &mut delta);
    let enclosed = |own: Vec<usize>| {
        let rows: Vec<usize> = own.into_iter().map(|k| part.points[k]).collect();
        let ellipsoid = fit(points.select(Axis(0), &rows).view(), options).ok()?;
        Some(Part { ellipsoid, points: rows })
    };
    let mut half = |which: usize| {
        let is_own = |k: &usize| (odds[*k] > 0.0) == (which == 1);
        let (own, others): (Vec<usize>, Vec<usize>) = (0..odds.len()).partition(is_own);
        let n_lent = options.n_points_min.saturating_sub(own.len());
        let alone = if own.len() >= fewest_points(options, n_dim) { enclosed(own.clone()) } else { None };
        if n_lent == 0 || own.is_empty() || odds.len() < 2 * options.n_points_min {
            return alone;
        }
        let nearness: Vec<f64> = others.iter().map(|&k| -density(which, k)).collect();
        let lent = argsort(&nearness).into_iter().take(n_lent).map(|k| others[k]);
        let mut together: Vec<usize> = own.into_iter().chain(lent).collect();
        together.sort_unstable();
        let log_v = |part: &Part| part.ellipsoid.log_volume();
        alone.into_iter().chain(enclosed(together)).min_by(|a, b| log_v(a).total_cmp(&log_v(b)))
    };
    Some([half(0)?, half(1)?])
}
