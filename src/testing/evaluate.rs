//! Batches through a likelihood on a machine, without a run around them.

use ndarray::{Array1, Array2, ArrayView2};

use crate::backend::Machine;
use crate::likelihood::Evaluator;
use crate::{Backend, Likelihood, Prior, RunErrorKind};

/// log L `[n_points]` and derived values `[n_points, n_derived]` at the points `u [n_points, n_dim]` of the unit cube, as a run with this
/// backend would get them.
///
/// # Errors
/// What a run would end with: a backend that cannot be opened, a likelihood that cannot run there or fails.
pub fn log_likelihood_on(
    prior: &Prior,
    likelihood: impl Into<Likelihood>,
    backend: &Backend,
    u: ArrayView2<f64>,
) -> Result<(Array1<f64>, Array2<f64>), RunErrorKind> {
    Session::open(prior, likelihood, backend)?.evaluate(u)
}

/// A likelihood that stays open for many batches, as it does for the length of a run.
pub struct Session(Evaluator);

impl Session {
    /// Opens the likelihood on the machine.
    ///
    /// # Errors
    /// As [`log_likelihood_on`].
    pub fn open(prior: &Prior, likelihood: impl Into<Likelihood>, backend: &Backend) -> Result<Self, RunErrorKind> {
        prior.validate()?;
        let likelihood = likelihood.into();
        let (machine, _) = Machine::open(backend, "likelihood", likelihood.device_can())?;
        Ok(Self(Evaluator::open(prior, &likelihood, machine)?))
    }

    /// log L `[n_points]` and derived values `[n_points, n_derived]` at `u [n_points, n_dim]`.
    ///
    /// # Errors
    /// As [`log_likelihood_on`].
    pub fn evaluate(&self, u: ArrayView2<f64>) -> Result<(Array1<f64>, Array2<f64>), RunErrorKind> {
        let evaluated = self.0.evaluate(u)?;
        Ok((evaluated.log_l, evaluated.derived))
    }
}
