//! A likelihood opened on a machine: everything that can be refused is refused before the first batch.

use std::ops::Range;

use ndarray::{ArrayView2, ArrayViewMut2, s};

#[cfg(feature = "gpu")]
use super::device::OnDevice;
use super::evaluate::evaluate;
use super::{EvaluationError, Likelihood};
use crate::backend::{Machine, Traffic};
use crate::batch::{Evaluated, Proposal};
use crate::prior::Prior;

/// How a device holds numbers: what of them comes and goes as a pair of f32, 48 bits, and not as one, 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DevicePrecision {
    pub(crate) theta_pair: bool,
    pub(crate) value_pair: bool,
    /// Whether the likelihood is written in tensors, which have no pairs to change to.
    pub(crate) tensors: bool,
}

/// The likelihood half of a run.
pub(crate) struct Evaluator {
    prior: Prior,
    likelihood: Likelihood,
    machine: Machine,
    #[cfg(feature = "gpu")]
    device: Option<OnDevice>,
}

impl Evaluator {
    /// Makes the likelihood ready to run on `machine`: compiles shaders, uploads data.
    ///
    /// # Errors
    /// A likelihood that cannot run there, WGSL that does not validate, data that f32 cannot hold, a device that refuses.
    pub(crate) fn open(prior: &Prior, likelihood: &Likelihood, machine: Machine) -> Result<Self, EvaluationError> {
        likelihood.check_twin()?;
        #[cfg(feature = "gpu")]
        let device = match &machine {
            Machine::Gpu { gpu, .. } => Some(OnDevice::open(gpu, prior, likelihood)?),
            Machine::Cpu(_) => None,
        };
        if matches!(machine, Machine::Cpu(_)) {
            likelihood.open_host()?;
        }
        Ok(Self {
            prior: prior.clone(),
            likelihood: likelihood.clone(),
            machine,
            #[cfg(feature = "gpu")]
            device,
        })
    }

    /// Takes the points of the unit cube `u [n_points, n_dim]` to log L and derived values.
    ///
    /// # Errors
    /// [`EvaluationError`].
    pub(crate) fn evaluate(&self, u: ArrayView2<f64>) -> Result<Evaluated, EvaluationError> {
        #[cfg(feature = "gpu")]
        if let Some(device) = &self.device {
            return device.evaluate(&self.prior, &self.likelihood, u, None, self.machine.pool());
        }
        self.reference(u)
    }

    /// The same for some rows of a proposal, from the device that they lie on where that is the likelihood's.
    ///
    /// # Errors
    /// [`EvaluationError`].
    pub(crate) fn evaluate_rows(&self, proposal: &Proposal, rows: Range<usize>) -> Result<Evaluated, EvaluationError> {
        let u = proposal.u.slice(s![rows.clone(), ..]);
        #[cfg(feature = "gpu")]
        if let Some(device) = &self.device {
            let resident = proposal.device.as_ref().map(|resident| (resident, rows.start));
            return device.evaluate(&self.prior, &self.likelihood, u, resident, self.machine.pool());
        }
        self.evaluate(u)
    }

    /// What was to do with its device so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.machine.traffic()
    }

    /// The precision of a device, none on the CPU, where everything is f64.
    pub(crate) fn precision(&self) -> Option<DevicePrecision> {
        #[cfg(feature = "gpu")]
        if let Some(device) = &self.device {
            return Some(device.precision());
        }
        None
    }

    /// Whether [`reference`](Self::reference) can be asked.
    pub(crate) fn has_reference(&self) -> bool {
        self.likelihood.runs_on_cpu()
    }

    /// Threads that feed it.
    pub(crate) fn threads(&self) -> usize {
        self.machine.pool().threads()
    }

    /// Rows that the likelihood is called with where its values may depend on their number, else 1: who cuts a batch cuts it at multiples, so that the
    /// calls are those of the whole batch.
    pub(crate) fn rows_per_call(&self) -> usize {
        #[cfg(feature = "gpu")]
        if let Some(device) = &self.device {
            return device.rows_per_call();
        }
        #[cfg(feature = "tensor")]
        if let super::Split::Rows(rows) = self.likelihood.split {
            return rows;
        }
        1
    }

    /// Derived values of each point.
    pub(crate) fn n_derived(&self) -> usize {
        self.likelihood.derived_names.len()
    }

    /// The prior of the run.
    pub(crate) fn prior(&self) -> &Prior {
        &self.prior
    }

    /// What the user should know about the device.
    pub(crate) fn notes(&self) -> Vec<String> {
        #[cfg(feature = "gpu")]
        if let Machine::Gpu { gpu, .. } = &self.machine
            && let Some(traits) = gpu.traits.get()
        {
            let mut notes = Vec::new();
            if let Some(limit) = traits.loop_limit {
                notes.push(format!(
                    "likelihood: {} cuts the loops of an invocation short after {limit} iterations, in silence; do not trust a \
                     likelihood with more there",
                    gpu.name()
                ));
            }
            if !traits.exact_sums {
                notes.push(format!(
                    "likelihood: the compiler of {} simplifies sums that must be exact; the library's sums are plain ones there",
                    gpu.name()
                ));
            }
            if !traits.nan_by_bits {
                notes.push(format!("likelihood: on {} the functions is_nan and is_inf do not work", gpu.name()));
            }
            return notes;
        }
        Vec::new()
    }

    /// As [`evaluate`](Self::evaluate), by the form of the likelihood that runs on the CPU.
    ///
    /// # Errors
    /// [`EvaluationError`]; [`EvaluationError::NoTwin`] when there is no such form.
    pub(crate) fn reference(&self, u: ArrayView2<f64>) -> Result<Evaluated, EvaluationError> {
        self.likelihood.open_host()?;
        let transform = |u: ArrayView2<f64>, theta: ArrayViewMut2<f64>| self.prior.transform_batch(u, theta);
        evaluate(transform, &self.likelihood, u, self.prior.names(), self.machine.pool())
    }
}

impl Likelihood {
    /// Holds the twin of a WGSL likelihood to the names of the text.
    ///
    /// # Errors
    /// A twin with other derived values than the text.
    pub(super) fn check_twin(&self) -> Result<(), EvaluationError> {
        match &self.twin_names {
            Some(names) if *names != self.derived_names => Err(EvaluationError::Data {
                what: "the twin of the WGSL likelihood".to_owned(),
                problem: format!(
                    "it has the derived values {names:?} and the text {:?}; give both the same names in the same order",
                    self.derived_names
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Makes the form that runs on the CPU ready; cheap after the first time.
    fn open_host(&self) -> Result<(), EvaluationError> {
        #[cfg(feature = "tensor")]
        if let Some(tensor) = &self.tensor {
            return tensor.open_host();
        }
        self.host.as_ref().map_or(Err(EvaluationError::NoTwin), |_| Ok(()))
    }

    /// Whether it has a form for the CPU.
    pub(crate) fn runs_on_cpu(&self) -> bool {
        self.host.is_some()
    }

    /// Whether a device could run it, or why not in words.
    pub(crate) fn device_can(&self) -> Result<(), &'static str> {
        #[cfg(feature = "gpu")]
        if self.device.is_some() {
            return Ok(());
        }
        Err("the likelihood is a Rust function")
    }
}
