//! A tensor likelihood on a device: our own pass makes theta in burn's memory, the user's function takes it from there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{ArrayViewMut1, ArrayViewMut2};

use super::{Function, TensorLikelihood, call, not_made};
use crate::backend::{DeviceError, Gpu};
use crate::kernel::{ThetaKernel, TransformPlan};
use crate::likelihood::{EvaluationError, LikelihoodError};

/// Rows of a call at most: enough to fill a device, and a number that does not depend on the clock.
const DEVICE_ROWS: usize = 8192;

/// Names the work in messages.
const WHAT: &str = "the tensor likelihood";

/// The function on its device, and the pass in front of it.
pub(in crate::likelihood) struct TensorProgram {
    gpu: Arc<Gpu>,
    kernel: ThetaKernel,
    function: Function,
    n_params: usize,
    n_derived: usize,
    /// Rows of the next call.
    rows: AtomicUsize,
}

/// Why a call gave no values.
pub(in crate::likelihood) enum Failure {
    Device(DeviceError),
    Likelihood(LikelihoodError),
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

impl TensorProgram {
    /// Compiles the pass and lets the maker make the function.
    ///
    /// # Errors
    /// [`EvaluationError`]: a device that refuses, a maker that panics.
    pub(in crate::likelihood) fn open(
        gpu: &Arc<Gpu>,
        likelihood: &TensorLikelihood,
        plan: &TransformPlan,
    ) -> Result<Self, EvaluationError> {
        let kernel = ThetaKernel::new(gpu.clone(), plan, DEVICE_ROWS)?;
        let device = gpu.burn()?;
        let function = likelihood.make(&device);
        // What the maker died of may have been the device.
        gpu.usable()?;
        let function = function.map_err(|text| gpu.no_room(WHAT, &text).map_or_else(|| not_made(&text), Into::into))?;
        let rows = AtomicUsize::new(kernel.rows());
        let (n_params, n_derived) = (plan.columns.len(), likelihood.names.len());
        Ok(Self { gpu: gpu.clone(), kernel, function, n_params, n_derived, rows })
    }

    /// Rows of the next call at most.
    pub(in crate::likelihood) fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    /// Asks for half the rows after a call of `n` that found no room; false when there is nothing left to halve.
    pub(in crate::likelihood) fn halve(&self, n: usize) -> bool {
        self.rows.store((n / 2).max(1), Ordering::Relaxed);
        n > 1
    }

    /// Takes the points through the device; `input` holds the values that travel, column after column.
    ///
    /// # Errors
    /// [`Failure`]; `log_l [n_points]` and `derived [n_points, n_derived]` are then without meaning.
    pub(in crate::likelihood) fn evaluate(
        &self,
        input: &[[f32; 2]],
        mut log_l: ArrayViewMut1<f64>,
        mut derived: ArrayViewMut2<f64>,
    ) -> Result<(), Failure> {
        let n = log_l.len();
        let theta = self.gpu.tensor([n, self.n_params], |theta| self.kernel.run(n, input, theta))?;
        let outcome = catch_unwind(AssertUnwindSafe(|| call(&self.function, theta, self.n_derived)))
            .unwrap_or_else(|payload| Err(LikelihoodError::panicked(None, payload.as_ref())));
        // burn panics in the user's function when it is the device that fails.
        self.gpu.usable()?;
        let (log_l_tensor, derived_tensor) = outcome.map_err(|error| match &error {
            LikelihoodError::Panicked { message, .. } => {
                self.gpu.no_room(WHAT, message).map_or(Failure::Likelihood(error), Failure::Device)
            }
            _ => Failure::Likelihood(error),
        })?;
        self.gpu.finish(WHAT)?;
        let values = self.gpu.values(WHAT, log_l_tensor)?;
        log_l.iter_mut().zip(values).for_each(|(to, from)| *to = from);
        if let Some(tensor) = derived_tensor {
            let values = self.gpu.values(WHAT, tensor)?;
            derived.iter_mut().zip(values).for_each(|(to, from)| *to = from);
        }
        Ok(())
    }
}
