//! Adapters that make a [`VectorizedLikelihood`] of a closure, and the types such closures may return.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut1, ArrayViewMut2};

use super::{LikelihoodError, VectorizedLikelihood};

/// What a likelihood of many points may return: `Vec<f64>`, `Array1<f64>`, or a `Result` of either.
///
/// The error may be any error type, a `String` or a `&str`.
pub trait IntoLogL {
    /// log L of every row, `[n_points]`.
    ///
    /// # Errors
    /// The error that the closure returned.
    fn into_log_l(self) -> Result<Array1<f64>, LikelihoodError>;
}

impl IntoLogL for Array1<f64> {
    fn into_log_l(self) -> Result<Array1<f64>, LikelihoodError> {
        Ok(self)
    }
}

impl IntoLogL for Vec<f64> {
    fn into_log_l(self) -> Result<Array1<f64>, LikelihoodError> {
        Ok(self.into())
    }
}

impl<T: IntoLogL, E: Into<Box<dyn Error + Send + Sync>>> IntoLogL for Result<T, E> {
    fn into_log_l(self) -> Result<Array1<f64>, LikelihoodError> {
        self.map_err(LikelihoodError::new)?.into_log_l()
    }
}

/// What a likelihood of one point may return: `f64` or a `Result` of it, with any error type, a `String` or a `&str`.
pub trait IntoPointLogL {
    /// log L of the point.
    ///
    /// # Errors
    /// The error that the closure returned.
    fn into_point_log_l(self) -> Result<f64, LikelihoodError>;
}

impl IntoPointLogL for f64 {
    fn into_point_log_l(self) -> Result<f64, LikelihoodError> {
        Ok(self)
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> IntoPointLogL for Result<f64, E> {
    fn into_point_log_l(self) -> Result<f64, LikelihoodError> {
        self.map_err(LikelihoodError::new)
    }
}

/// A function of many points.
pub(super) struct Batch<F>(pub F);

impl<F, R> VectorizedLikelihood for Batch<F>
where
    F: Fn(ArrayView2<'_, f64>) -> R + Send + Sync,
    R: IntoLogL,
{
    fn log_likelihood(&self, theta: ArrayView2<f64>, log_l: ArrayViewMut1<f64>) -> Result<(), LikelihoodError> {
        store((self.0)(theta).into_log_l()?, log_l)
    }
}

/// A function of many points that gives derived values too.
pub(super) struct BatchDerived<F> {
    pub names: Vec<String>,
    pub function: F,
}

impl<F, R> VectorizedLikelihood for BatchDerived<F>
where
    F: Fn(ArrayView2<'_, f64>, ArrayViewMut2<'_, f64>) -> R + Send + Sync,
    R: IntoLogL,
{
    fn log_likelihood(&self, theta: ArrayView2<f64>, log_l: ArrayViewMut1<f64>) -> Result<(), LikelihoodError> {
        let mut unused = Array2::from_elem((theta.nrows(), self.names.len()), f64::NAN);
        self.log_likelihood_derived(theta, log_l, unused.view_mut())
    }

    fn derived_names(&self) -> &[String] {
        &self.names
    }

    fn log_likelihood_derived(
        &self,
        theta: ArrayView2<f64>,
        log_l: ArrayViewMut1<f64>,
        derived: ArrayViewMut2<f64>,
    ) -> Result<(), LikelihoodError> {
        store((self.function)(theta, derived).into_log_l()?, log_l)
    }
}

/// A function of one point.
pub(super) struct Point<F>(pub F);

impl<F, R> VectorizedLikelihood for Point<F>
where
    F: Fn(&[f64]) -> R + Send + Sync,
    R: IntoPointLogL,
{
    fn log_likelihood(&self, theta: ArrayView2<f64>, log_l: ArrayViewMut1<f64>) -> Result<(), LikelihoodError> {
        each_row(theta, log_l, |_, point| (self.0)(point).into_point_log_l())
    }
}

/// A function of one point that gives derived values too.
pub(super) struct PointDerived<F> {
    pub names: Vec<String>,
    pub function: F,
}

impl<F, R> VectorizedLikelihood for PointDerived<F>
where
    F: Fn(&[f64], &mut [f64]) -> R + Send + Sync,
    R: IntoPointLogL,
{
    fn log_likelihood(&self, theta: ArrayView2<f64>, log_l: ArrayViewMut1<f64>) -> Result<(), LikelihoodError> {
        let mut unused = Array2::from_elem((theta.nrows(), self.names.len()), f64::NAN);
        self.log_likelihood_derived(theta, log_l, unused.view_mut())
    }

    fn derived_names(&self) -> &[String] {
        &self.names
    }

    fn log_likelihood_derived(
        &self,
        theta: ArrayView2<f64>,
        log_l: ArrayViewMut1<f64>,
        mut derived: ArrayViewMut2<f64>,
    ) -> Result<(), LikelihoodError> {
        // A slice of its own, because a caller's view need not be contiguous.
        let mut values = vec![f64::NAN; self.names.len()];
        each_row(theta, log_l, |row, point| {
            values.fill(f64::NAN);
            let log_l = (self.function)(point, &mut values).into_point_log_l()?;
            derived.row_mut(row).iter_mut().zip(&values).for_each(|(to, &from)| *to = from);
            Ok(log_l)
        })
    }
}

/// Checks the length of what a batch function returned and writes it.
fn store(values: Array1<f64>, mut log_l: ArrayViewMut1<f64>) -> Result<(), LikelihoodError> {
    if values.len() != log_l.len() {
        return Err(LikelihoodError::WrongLength { expected: log_l.len(), found: values.len() });
    }
    log_l.assign(&values);
    Ok(())
}

/// Runs a point function over the rows; an error or a panic carries the row it happened at.
fn each_row(
    theta: ArrayView2<f64>,
    mut log_l: ArrayViewMut1<f64>,
    mut function: impl FnMut(usize, &[f64]) -> Result<f64, LikelihoodError>,
) -> Result<(), LikelihoodError> {
    let mut current = 0;
    // One guard around the loop, not one per row: `current` tells which row it was.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for (row, (point, value)) in theta.rows().into_iter().zip(log_l.iter_mut()).enumerate() {
            current = row;
            *value = match point.as_slice() {
                Some(point) => function(row, point),
                None => function(row, &point.to_vec()),
            }
            .map_err(|error| LikelihoodError::at_row(row, error))?;
        }
        Ok(())
    }));
    outcome.unwrap_or_else(|payload| Err(LikelihoodError::panicked(Some(current), payload.as_ref())))
}
