//! What crosses between the two halves of a run: rows of the unit cube out, log L and derived values back.

use ndarray::{Array1, Array2};

#[cfg(feature = "gpu")]
use crate::backend::DeviceRows;

/// Points a sampler wants evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// Points of the unit cube, `[n_points, n_dim]`; columns are the sampled parameters only.
    pub u: Array2<f64>,
    /// The same rows on the sampler's device, where they lie there.
    #[cfg(feature = "gpu")]
    pub(crate) device: Option<DeviceRows>,
}

impl Proposal {
    /// Rows that lie on the host.
    pub(crate) fn new(u: Array2<f64>) -> Self {
        Self {
            u,
            #[cfg(feature = "gpu")]
            device: None,
        }
    }
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

impl Evaluated {
    /// No points yet, `n_derived` derived values each.
    pub(crate) fn empty(n_derived: usize) -> Self {
        Self { log_l: Array1::zeros(0), derived: Array2::zeros((0, n_derived)), likelihood_cpu_s: 0.0, n_non_finite: 0 }
    }

    /// Adds the rows of `more` behind these.
    pub(crate) fn append(&mut self, more: Self) {
        // The number of derived values is the same in every part of a batch.
        self.log_l = ndarray::concatenate![ndarray::Axis(0), self.log_l, more.log_l];
        self.derived = ndarray::concatenate![ndarray::Axis(0), self.derived, more.derived];
        self.likelihood_cpu_s += more.likelihood_cpu_s;
        self.n_non_finite += more.n_non_finite;
    }

    /// Number of points.
    pub(crate) fn len(&self) -> usize {
        self.log_l.len()
    }
}
