//! Forms of a likelihood that run on a device, and how a batch gets there and back.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use ndarray::{Array1, Array2, ArrayView2, s};
use rayon::prelude::*;

use super::evaluate::check_values;
use super::evaluator::DevicePrecision;
use super::shader::is_date;
use super::tensor::TensorLikelihood;
use super::tensor::device::{Failure, TensorProgram};
use super::wgsl::WgslLikelihood;
use super::{EvaluationError, Likelihood, Place};
use crate::backend::{CpuPool, DeviceError, DeviceRows, Gpu};
use crate::batch::Evaluated;
#[cfg(feature = "testing")]
use crate::kernel::ThetaKernel;
use crate::kernel::{Column, EvaluateKernel, Signature, TransformPlan, pair, steps_across, tail_pair};
use crate::prior::Prior;

/// Fewest steps of f32 across the range of a uniform prior.
const LEAST_STEPS: f64 = 1e4;

/// How a likelihood was written for devices.
#[derive(Clone)]
pub(super) enum DeviceForm {
    /// WGSL.
    Wgsl(Arc<WgslLikelihood>),
    /// burn's tensors.
    Tensor(Arc<TensorLikelihood>),
}

/// A likelihood that is ready on a device.
pub(super) struct OnDevice {
    plan: TransformPlan,
    program: Program,
}

enum Program {
    Wgsl(EvaluateKernel),
    Tensor(TensorProgram),
}

impl OnDevice {
    /// Compiles and uploads.
    ///
    /// # Errors
    /// [`EvaluationError`]: no device form, WGSL that does not validate, data that f32 cannot hold, a device that refuses.
    pub(super) fn open(gpu: &Arc<Gpu>, prior: &Prior, likelihood: &Likelihood) -> Result<Self, EvaluationError> {
        match likelihood.device.as_ref().ok_or(EvaluationError::HostOnly)? {
            DeviceForm::Wgsl(form) => {
                let (options, signature) = form.prepare(prior.n_params())?;
                let plan = TransformPlan::new(prior.columns(), signature.theta_pair);
                if !signature.theta_pair {
                    check_ranges(prior, &plan, "or write the likelihood as log_likelihood(theta_hi, theta_lo)")?;
                }
                let kernel = EvaluateKernel::new(gpu.clone(), &options, &plan)?;
                Ok(Self { plan, program: Program::Wgsl(kernel) })
            }
            DeviceForm::Tensor(form) => {
                let plan = TransformPlan::new(prior.columns(), false);
                check_ranges(prior, &plan, "or use the CPU for the likelihood, where tensors are f64")?;
                let program = TensorProgram::open(gpu, form, &plan)?;
                Ok(Self { plan, program: Program::Tensor(program) })
            }
        }
    }

    /// What of the numbers is held in two parts.
    pub(super) fn precision(&self) -> DevicePrecision {
        match &self.program {
            Program::Wgsl(kernel) => {
                let Signature { theta_pair, value_pair, .. } = kernel.signature();
                DevicePrecision { theta_pair, value_pair, tensors: false }
            }
            Program::Tensor(_) => DevicePrecision { theta_pair: false, value_pair: false, tensors: true },
        }
    }

    /// As [`Evaluator::rows_per_call`](super::Evaluator::rows_per_call).
    pub(super) fn rows_per_call(&self) -> usize {
        match &self.program {
            Program::Wgsl(_) => 1,
            Program::Tensor(program) => program.rows(),
        }
    }

    /// Takes `u [n_points, n_dim]` through the device; `pool` packs the rows, unless they lie there already: `resident`, from its row `first` on.
    ///
    /// # Errors
    /// The device's, the prior's, and NaN or +inf where they are errors.
    pub(super) fn evaluate(
        &self,
        prior: &Prior,
        likelihood: &Likelihood,
        u: ArrayView2<f64>,
        resident: Option<(&DeviceRows, usize)>,
        pool: &CpuPool,
    ) -> Result<Evaluated, EvaluationError> {
        let start = Instant::now();
        let n_derived = likelihood.derived_names.len();
        let mut log_l = Array1::zeros(u.nrows());
        let mut derived = Array2::zeros((u.nrows(), n_derived));
        let mut failed = None;
        match &self.program {
            Program::Wgsl(kernel) => {
                let n_values = kernel.n_values();
                let fill = |rows: Range<usize>, input: &mut [[f32; 2]]| {
                    if let Err(error) = pack(prior, &self.plan, u.slice(s![rows.clone(), ..]), pool, input) {
                        failed.get_or_insert((rows, error));
                    }
                };
                let take = |rows: Range<usize>, output: &[f32]| {
                    let n = rows.len();
                    for (k, row) in rows.enumerate() {
                        let high = f64::from(output[k]);
                        // What is not finite is so in its high part; the low part is then without meaning.
                        log_l[row] =
                            if n_values == 2 && high.is_finite() { high + f64::from(output[n + k]) } else { high };
                        for j in 0..n_derived {
                            derived[[row, j]] = f64::from(output[(n_values + j) * n + k]);
                        }
                    }
                };
                // Columns that the host maps are packed there.
                let resident = resident.filter(|_| !self.plan.needs_host());
                let resident = resident.and_then(|(rows, first)| Some((rows.on(kernel.gpu())?, first, rows.len())));
                kernel.run(u.nrows(), resident, fill, take)?;
            }
            Program::Tensor(program) => {
                let mut input = Vec::new();
                let mut start = 0;
                while start < u.nrows() {
                    let rows = start..(start + program.rows()).min(u.nrows());
                    input.clear();
                    input.resize(rows.len() * self.plan.n_travelling(), [0.0; 2]);
                    pack(prior, &self.plan, u.slice(s![rows.clone(), ..]), pool, &mut input)
                        .map_err(|error| EvaluationError::Transform { rows: rows.clone(), source: error.into() })?;
                    let (log_l, derived) = (log_l.slice_mut(s![rows.clone()]), derived.slice_mut(s![rows.clone(), ..]));
                    match program.evaluate(&input, log_l, derived) {
                        Ok(()) => start = rows.end,
                        // A table of points and data may be too wide for all rows at once.
                        Err(Failure::Device(DeviceError::OutOfMemory { .. })) if program.halve(rows.len()) => {}
                        Err(Failure::Device(error)) => return Err(error.into()),
                        Err(Failure::Likelihood(source)) => {
                            return Err(EvaluationError::Likelihood { place: place(prior, u, rows), source });
                        }
                    }
                }
            }
        }
        if let Some((rows, error)) = failed {
            return Err(EvaluationError::Transform { rows, source: error.into() });
        }
        let likelihood_cpu_s = start.elapsed().as_secs_f64();
        let n_non_finite = check_values(log_l.view_mut(), likelihood.non_finite, |row| place(prior, u, row..row + 1))?;
        Ok(Evaluated { log_l, derived, likelihood_cpu_s, n_non_finite })
    }
}

/// The whole WGSL text that a device would get, checked, without a device; none for likelihoods in another form.
///
/// # Errors
/// As [`OnDevice::open`], as far as they need no device.
#[cfg(feature = "testing")]
pub(crate) fn composed(prior: &Prior, likelihood: &Likelihood) -> Result<Option<String>, EvaluationError> {
    likelihood.check_twin()?;
    let text = match &likelihood.device {
        None => return Ok(None),
        Some(DeviceForm::Wgsl(form)) => {
            let (options, signature) = form.prepare(prior.n_params())?;
            options.compose(&TransformPlan::new(prior.columns(), signature.theta_pair))?.0.text().to_owned()
        }
        Some(DeviceForm::Tensor(_)) => {
            ThetaKernel::compose(&TransformPlan::new(prior.columns(), false))?.text().to_owned()
        }
    };
    Ok(Some(text))
}

/// Evaluations a second of a WGSL likelihood over points that stay on the device, prior transform included: as many of `u` as take up to `launch_s` seconds, the
/// quickest of a few launches.
///
/// # Errors
/// As a run's; [`EvaluationError::HostOnly`] for a likelihood in another form.
#[cfg(feature = "testing")]
pub(crate) fn resident_rate(
    gpu: &Arc<Gpu>,
    prior: &Prior,
    likelihood: &Likelihood,
    u: ArrayView2<f64>,
    launch_s: f64,
) -> Result<f64, EvaluationError> {
    let device = OnDevice::open(gpu, prior, likelihood)?;
    let Program::Wgsl(kernel) = &device.program else { return Err(EvaluationError::HostOnly) };
    let pool = CpuPool::new(0, "benchmark")
        .map_err(|error| EvaluationError::Data { what: "the benchmark".to_owned(), problem: error.to_string() })?;
    let most = u.nrows().min(kernel.rows_max());
    let mut n = most.min(64);
    loop {
        let mut input = vec![[0.0; 2]; n * device.plan.n_travelling()];
        pack(prior, &device.plan, u.slice(s![..n, ..]), &pool, &mut input)
            .map_err(|error| EvaluationError::Transform { rows: 0..n, source: error.into() })?;
        let once = kernel.resident(n, &input, 1)?;
        if n == most || once > 0.5 * launch_s {
            let repeats = ((launch_s / once.max(1e-6)) as usize).clamp(1, 1000);
            let mut least = once;
            for _ in 0..5 {
                least = least.min(kernel.resident(n, &input, repeats)?);
            }
            return Ok(n as f64 / least);
        }
        // By four at a time at most: a small launch that was quick says little of large ones.
        n = ((n as f64 * (launch_s / once).clamp(1.5, 4.0)) as usize).min(most);
    }
}

/// Refuses ranges of the prior that f32 cannot walk, such as Julian dates; `otherwise` is what helps but an offset.
fn check_ranges(prior: &Prior, plan: &TransformPlan, otherwise: &str) -> Result<(), EvaluationError> {
    for (name, column) in prior.names().iter().zip(&plan.columns) {
        let (lo, hi) = match *column {
            Column::Uniform { lo, hi } | Column::LogUniform { lo, hi } => (lo, hi),
            // What holds nearly all of the prior.
            Column::Normal { mean, sd } => (mean - 3.0 * sd, mean + 3.0 * sd),
            Column::Cauchy { location, scale } => (location - 3.0 * scale, location + 3.0 * scale),
            Column::Fixed(value) if is_date(value) => (value, value),
            _ => continue,
        };
        if steps_across(lo, hi) < LEAST_STEPS {
            let problem = format!(
                "f32 has {:.0} steps between {lo} and {hi}; subtract an offset from the parameter, {otherwise}",
                steps_across(lo, hi)
            );
            return Err(EvaluationError::Data { what: format!("parameter `{name}`"), problem });
        }
    }
    Ok(())
}

/// Where rows lie, with the parameters of the first as the host has them.
fn place(prior: &Prior, u: ArrayView2<f64>, rows: Range<usize>) -> Place {
    let theta = prior.unit_to_theta(u.slice(s![rows.start..rows.start + 1, ..]));
    let values = theta.map(|theta| theta.row(0).to_vec()).unwrap_or_default();
    Place { rows, parameters: prior.names().iter().cloned().zip(values).collect() }
}

/// Writes what travels of the rows of `u`, column after column.
fn pack(
    prior: &Prior,
    plan: &TransformPlan,
    u: ArrayView2<f64>,
    pool: &CpuPool,
    out: &mut [[f32; 2]],
) -> Result<(), crate::prior::PriorError> {
    let n = u.nrows();
    let theta = if plan.needs_host() { Some(prior.unit_to_theta(u)?) } else { None };
    let mut dim = 0;
    let mut sources = Vec::new();
    for (k, column) in plan.columns.iter().enumerate() {
        if column.travels() {
            sources.push((k, dim, *column == Column::Host));
            dim += 1;
        }
    }
    pool.install(|| {
        out.par_chunks_mut(n.max(1)).zip(&sources).for_each(|(out, &(k, dim, on_host))| match &theta {
            Some(theta) if on_host => {
                out.iter_mut().zip(theta.column(k)).for_each(|(out, &x)| *out = pair(x));
            }
            _ => out.iter_mut().zip(u.column(dim)).for_each(|(out, &u)| *out = tail_pair(u)),
        });
    });
    Ok(())
}
