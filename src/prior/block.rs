//! A user's own transform of several parameters, held so that neither its panics nor its values can hurt a run.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ndarray::{Array2, ArrayView2};

use super::{PriorError, expect_shape};

/// What a transform may return: the values `[n_points, k]`, or a `Result` with them.
pub trait BlockOutput {
    /// The values, or what went wrong in words.
    fn into_values(self) -> Result<Array2<f64>, String>;
}

impl BlockOutput for Array2<f64> {
    fn into_values(self) -> Result<Array2<f64>, String> {
        Ok(self)
    }
}

impl<E: Display> BlockOutput for Result<Array2<f64>, E> {
    fn into_values(self) -> Result<Array2<f64>, String> {
        self.map_err(|error| error.to_string())
    }
}

type Transform = dyn Fn(ArrayView2<'_, f64>) -> Result<Array2<f64>, String> + Send + Sync;

/// Parameters that one user's transform gives their values.
#[derive(Clone)]
pub(super) struct Block {
    names: Vec<String>,
    transform: Arc<Transform>,
}

impl Block {
    pub(super) fn new<F, O>(names: Vec<String>, transform: F) -> Self
    where
        F: Fn(ArrayView2<'_, f64>) -> O + Send + Sync + 'static,
        O: BlockOutput,
    {
        Self { names, transform: Arc::new(move |u| transform(u).into_values()) }
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The values of the block, `[n_points, k]`, all finite.
    pub(super) fn apply(&self, u: ArrayView2<'_, f64>) -> Result<Array2<f64>, PriorError> {
        let names = self.names.join(", ");
        // Nothing of ours is borrowed mutably inside, so no half-made state outlives a panic.
        let returned = catch_unwind(AssertUnwindSafe(|| (self.transform)(u))).map_err(|payload| {
            let reason = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".into());
            PriorError::TransformPanicked { names: names.clone(), reason }
        })?;
        let values = returned.map_err(|reason| PriorError::TransformFailed { names: names.clone(), reason })?;
        expect_shape(&format!("what the transform of parameters {names} returned"), values.dim(), u.dim())?;
        if let Some(((row, column), &value)) = values.indexed_iter().find(|(_, value)| !value.is_finite()) {
            let (name, u) = (self.names[column].clone(), u.row(row).to_vec());
            return Err(PriorError::TransformNotFinite { names, name, value, row, u });
        }
        Ok(values)
    }
}
