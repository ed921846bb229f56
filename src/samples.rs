//! The ledger: every evaluated point, written once.

use ndarray::{Array2, ArrayView2};

/// When in a run a point was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// While bounds were still being built.
    Exploration,
    /// After the bounds were frozen.
    Sampling,
}

/// A point that belongs to no shell: one that no later draw made use of, or where a scout went.
pub(crate) const NO_SHELL: u32 = u32::MAX;

/// Every point whose likelihood was evaluated; the index of a point is its id.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    n_dim: usize,
    n_derived: usize,
    u: Vec<f64>,
    derived: Vec<f64>,
    log_l: Vec<f64>,
    log_l_birth: Vec<f64>,
    /// When exploration opens again, what was sampled becomes part of it.
    phase: Vec<Phase>,
    /// A later bound takes points over from the shells it cuts into.
    shell: Vec<u32>,
    /// The cell of the shell's bound.
    cell: Vec<u32>,
}

/// Where a point lies: a shell, and the cell of its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) shell: u32,
    pub(crate) cell: u32,
}

impl Samples {
    pub(crate) fn new(n_dim: usize, n_derived: usize) -> Self {
        Self { n_dim, n_derived, ..Self::default() }
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.log_l.len()
    }

    /// Whether no point was evaluated yet.
    pub fn is_empty(&self) -> bool {
        self.log_l.is_empty()
    }

    /// Positions in the unit cube, `[n_points, n_dim]`: the sampled parameters only, see [`Prior::sampled_names`](crate::Prior::sampled_names).
    pub fn u(&self) -> ArrayView2<'_, f64> {
        rows(&self.u, self.len(), self.n_dim)
    }

    /// Derived values, `[n_points, n_derived]`; NaN where the likelihood gave none.
    pub fn derived(&self) -> ArrayView2<'_, f64> {
        rows(&self.derived, self.len(), self.n_derived)
    }

    /// Natural logarithm of the likelihood, `[n_points]`.
    pub fn log_l(&self) -> &[f64] {
        &self.log_l
    }

    /// The log L that each point was required to exceed (softly, for bounds) when it was drawn, `[n_points]`; -inf for points of the
    /// whole unit cube, NaN for those of scouts, whose place was chosen.
    pub fn log_l_birth(&self) -> &[f64] {
        &self.log_l_birth
    }

    /// When each point was drawn, `[n_points]`.
    pub fn phase(&self) -> &[Phase] {
        &self.phase
    }

    /// The shell of point `id`, counted from the unit cube (0) inwards; `None` for a point that no shell uses,
    /// and for an id that no point has.
    pub fn shell(&self, id: usize) -> Option<usize> {
        self.shell.get(id).filter(|&&shell| shell != NO_SHELL).map(|&shell| shell as usize)
    }

    pub(crate) fn row(&self, id: usize) -> &[f64] {
        &self.u[id * self.n_dim..(id + 1) * self.n_dim]
    }

    pub(crate) fn shells(&self) -> &[u32] {
        &self.shell
    }

    /// Where a point lies; `None` for one that no shell uses.
    pub(crate) fn place(&self, id: usize) -> Option<Place> {
        (self.shell[id] != NO_SHELL).then(|| Place { shell: self.shell[id], cell: self.cell[id] })
    }

    /// Moves a point; `None` takes it out of use.
    pub(crate) fn set_place(&mut self, id: usize, place: Option<Place>) {
        self.shell[id] = place.map_or(NO_SHELL, |place| place.shell);
        self.cell[id] = place.map_or(0, |place| place.cell);
    }

    /// Makes room for a shell in front of `at`.
    pub(crate) fn insert_shell(&mut self, at: usize) {
        self.shell.iter_mut().filter(|shell| **shell >= at as u32 && **shell != NO_SHELL).for_each(|shell| *shell += 1);
    }

    /// Counts every point so far as one of the exploration.
    pub(crate) fn reopen(&mut self) {
        self.phase.fill(Phase::Exploration);
    }

    /// Writes one evaluated point.
    pub(crate) fn push(
        &mut self,
        u: &[f64],
        log_l: f64,
        derived: &[f64],
        log_l_birth: f64,
        place: Place,
        phase: Phase,
    ) {
        debug_assert_eq!((u.len(), derived.len()), (self.n_dim, self.n_derived));
        self.u.extend_from_slice(u);
        self.derived.extend_from_slice(derived);
        self.log_l.push(log_l);
        self.log_l_birth.push(log_l_birth);
        self.shell.push(place.shell);
        self.cell.push(place.cell);
        self.phase.push(phase);
    }

    /// The rows of `ids`, `[ids.len(), n_dim]`.
    pub(crate) fn select(&self, ids: &[usize]) -> Array2<f64> {
        let mut out = Array2::zeros((ids.len(), self.n_dim));
        for (mut row, &id) in out.rows_mut().into_iter().zip(ids) {
            row.as_slice_mut().into_iter().for_each(|row| row.copy_from_slice(self.row(id)));
        }
        out
    }
}

fn rows(data: &[f64], n: usize, width: usize) -> ArrayView2<'_, f64> {
    // The lengths agree by construction of `push`.
    ArrayView2::from_shape((n, width), data).unwrap_or_else(|_| ndarray::aview2::<f64, 0>(&[]))
}
