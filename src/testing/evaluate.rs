//! One batch through a likelihood on a machine, without a run around it.

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
    prior.validate()?;
    let likelihood = likelihood.into();
    let (machine, _) = Machine::open(backend, "likelihood", likelihood.device_can())?;
    let evaluated = Evaluator::open(prior, &likelihood, &machine)?.evaluate(u)?;
    Ok((evaluated.log_l, evaluated.derived))
}
