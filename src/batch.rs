//! What crosses between the two halves of a run: rows of the unit cube out, log L and derived values back.

use ndarray::{Array1, Array2};

/// Points a sampler wants evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// Points of the unit cube, `[n_points, n_dim]`; columns are the sampled parameters only.
    pub u: Array2<f64>,
}

/// What the likelihood half sends back for a [`Proposal`], row for row.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// log L of each row, `[n_points]`: finite or -inf, never NaN or +inf.
    pub log_l: Array1<f64>,
    /// Derived values of each row, `[n_points, n_derived]`; NaN where the likelihood gave none.
    pub derived: Array2<f64>,
    /// CPU seconds inside the likelihood, summed over threads; the prior transform is not in it.
    pub likelihood_cpu_s: f64,
    /// Points whose log L was NaN or +inf and, by the user's choice, was replaced by -inf.
    pub n_non_finite: usize,
}
