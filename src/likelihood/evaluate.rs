//! Guarded evaluation of one batch on a thread pool: prior transform and likelihood, fused chunk by chunk.

use std::cell::Cell;
use std::error::Error;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cpu_time::ThreadTime;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, s};
use rayon::prelude::*;

use super::error::panic_message;
use super::{EvaluationError, Likelihood, LikelihoodError, NonFinite, Place, Split, VectorizedLikelihood};
use crate::backend::CpuPool;
use crate::batch::Evaluated;

/// Pieces per thread for a point likelihood: enough that one slow point does not leave the other threads idle for long,
/// few enough that the cost of a piece (a system call or two for its CPU time) is not felt.
const PIECES_PER_THREAD: usize = 8;

/// Transforms the rows of `u` to parameters and takes their log L, on the threads of `pool`.
///
/// `transform` maps `u [n_rows, n_dim]` to `theta [n_rows, n_params]` and is called with consecutive pieces of the batch;
/// `names` are those of the parameters, `[n_params]`. The values do not depend on the number of threads as long as
/// transform and likelihood treat rows one by one.
///
/// CPU seconds are those of the pool's threads. A batch that is cut counts the threads that called the likelihood, a whole
/// batch counts every thread of the pool; threads that user code starts itself are never seen.
///
/// # Errors
/// The first failing piece in row order: an error or panic of the transform or of the likelihood, a wrong number of values, or,
/// with [`NonFinite::Error`], NaN or +inf. No panic of user code leaves this function.
pub fn evaluate<E: Into<Box<dyn Error + Send + Sync>>>(
    transform: impl Fn(ArrayView2<f64>, ArrayViewMut2<f64>) -> Result<(), E> + Sync,
    likelihood: &Likelihood,
    u: ArrayView2<f64>,
    names: &[String],
    pool: &CpuPool,
) -> Result<Evaluated, EvaluationError> {
    let n_points = u.nrows();
    let per_thread = n_points.div_ceil(pool.threads());
    let host = likelihood.host.as_deref().ok_or(EvaluationError::NoTwin)?;
    let job = Job { transform: &transform, likelihood, host, u, names };
    let pieces = match likelihood.split {
        _ if n_points == 0 => Vec::new(),
        Split::PerThread => pool.map_chunks(n_points, per_thread, |rows| job.piece(rows)),
        Split::Fine => pool.map_chunks(n_points, per_thread.div_ceil(PIECES_PER_THREAD), |rows| job.piece(rows)),
        #[cfg(feature = "tensor")]
        Split::Rows(rows) => pool.map_chunks(n_points, rows, |rows| job.piece(rows)),
        Split::Whole => vec![pool.install(|| job.whole(per_thread))],
    };

    let mut all = Evaluated {
        log_l: Array1::zeros(n_points),
        derived: Array2::zeros((n_points, likelihood.derived_names.len())),
        likelihood_cpu_s: 0.0,
        n_non_finite: 0,
    };
    let mut start = 0;
    for piece in pieces {
        let piece = piece?;
        let rows = start..start + piece.log_l.len();
        start = rows.end;
        all.log_l.slice_mut(s![rows.clone()]).assign(&piece.log_l);
        all.derived.slice_mut(s![rows, ..]).assign(&piece.derived);
        all.likelihood_cpu_s += piece.likelihood_cpu_s;
        all.n_non_finite += piece.n_non_finite;
    }
    Ok(all)
}

/// One batch to evaluate.
struct Job<'a, T> {
    transform: &'a T,
    likelihood: &'a Likelihood,
    host: &'a dyn VectorizedLikelihood,
    u: ArrayView2<'a, f64>,
    names: &'a [String],
}

impl<E: Into<Box<dyn Error + Send + Sync>>, T: Fn(ArrayView2<f64>, ArrayViewMut2<f64>) -> Result<(), E> + Sync>
    Job<'_, T>
{
    /// Transform and likelihood of some rows, on this thread.
    fn piece(&self, rows: Range<usize>) -> Result<Evaluated, EvaluationError> {
        let mut theta = Array2::zeros((rows.len(), self.names.len()));
        // The transform is timed for its side effect: if this thread works here on behalf of a likelihood that waits
        // further down its stack, that likelihood must not be charged for it.
        exclusive_cpu(|| self.transform(rows.clone(), theta.view_mut())).0?;
        self.likelihood(rows, &theta, false)
    }

    /// The transform in pieces of `chunk` rows over the pool, then one call of the likelihood; runs inside the pool.
    fn whole(&self, chunk: usize) -> Result<Evaluated, EvaluationError> {
        let n_points = self.u.nrows();
        let mut theta = Array2::zeros((n_points, self.names.len()));
        let pieces: Vec<_> = theta.axis_chunks_iter_mut(Axis(0), chunk).enumerate().collect();
        let outcomes: Vec<_> = pieces
            .into_par_iter()
            .map(|(i, theta)| self.transform(i * chunk..i * chunk + theta.nrows(), theta))
            .collect();
        outcomes.into_iter().collect::<Result<(), _>>()?;
        self.likelihood(0..n_points, &theta, true)
    }

    fn transform(&self, rows: Range<usize>, theta: ArrayViewMut2<f64>) -> Result<(), EvaluationError> {
        let u = self.u.slice(s![rows.clone(), ..]);
        let source = match catch_unwind(AssertUnwindSafe(|| (self.transform)(u, theta))) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.into(),
            Err(payload) => format!("it panicked: {}", panic_message(payload.as_ref())).into(),
        };
        Err(EvaluationError::Transform { rows, source })
    }

    /// One guarded call of the likelihood, timed on this thread or on the whole pool, and the check of what it gave.
    fn likelihood(
        &self,
        rows: Range<usize>,
        theta: &Array2<f64>,
        whole_pool: bool,
    ) -> Result<Evaluated, EvaluationError> {
        let inner = self.host;
        let n_derived = self.likelihood.derived_names.len();
        // NaN marks what the likelihood does not write.
        let mut log_l = Array1::from_elem(rows.len(), f64::NAN);
        let mut derived = Array2::from_elem((rows.len(), n_derived), f64::NAN);
        let call = || {
            catch_unwind(AssertUnwindSafe(|| match n_derived {
                0 => inner.log_likelihood(theta.view(), log_l.view_mut()),
                _ => inner.log_likelihood_derived(theta.view(), log_l.view_mut(), derived.view_mut()),
            }))
            .unwrap_or_else(|payload| Err(LikelihoodError::panicked(None, payload.as_ref())))
        };
        let (outcome, likelihood_cpu_s) = if whole_pool { pool_cpu(call) } else { exclusive_cpu(call) };
        let place = |row: Option<usize>| {
            let row = row.filter(|&row| row < rows.len());
            let values = theta.row(row.unwrap_or(0));
            Place {
                rows: row.map_or(rows.clone(), |row| rows.start + row..rows.start + row + 1),
                parameters: self.names.iter().cloned().zip(values.iter().copied()).collect(),
            }
        };
        outcome.map_err(|source| EvaluationError::Likelihood { place: place(source.row()), source })?;

        let n_non_finite = check_values(log_l.view_mut(), self.likelihood.non_finite, |row| place(Some(row)))?;
        Ok(Evaluated { log_l, derived, likelihood_cpu_s, n_non_finite })
    }
}

/// Holds log L to what it may be, and returns how many values were taken as -inf; `place` says where a row lies.
pub(super) fn check_values(
    log_l: ArrayViewMut1<f64>,
    non_finite: NonFinite,
    place: impl Fn(usize) -> Place,
) -> Result<usize, EvaluationError> {
    let mut n_non_finite = 0;
    for (row, value) in log_l.into_iter().enumerate() {
        if value.is_nan() || *value == f64::INFINITY {
            if non_finite == NonFinite::Error {
                return Err(EvaluationError::NonFinite { place: place(row), value: *value });
            }
            n_non_finite += 1;
            *value = f64::NEG_INFINITY;
        }
    }
    Ok(n_non_finite)
}

/// CPU seconds this thread has used; 0 where the system does not tell.
fn thread_cpu() -> f64 {
    ThreadTime::try_now().map_or(0.0, |time| time.as_duration().as_secs_f64())
}

thread_local! {
    /// CPU seconds of tasks that finished on this thread inside the task that is being timed.
    static INNER: Cell<f64> = const { Cell::new(0.0) };
}

/// CPU seconds of `task` on this thread, without those of other tasks timed inside it.
///
/// User code that waits for rayon makes its thread steal another piece of the batch meanwhile; that piece counts itself.
pub(super) fn exclusive_cpu<T>(task: impl FnOnce() -> T) -> (T, f64) {
    let outer = INNER.replace(0.0);
    let start = thread_cpu();
    let result = task();
    let total = (thread_cpu() - start).max(0.0);
    let inner = INNER.replace(outer + total);
    (result, (total - inner).max(0.0))
}

/// CPU seconds of `task` summed over every thread of the pool that this thread belongs to.
fn pool_cpu<T>(task: impl FnOnce() -> T) -> (T, f64) {
    let all = || rayon::broadcast(|_| thread_cpu()).into_iter().sum::<f64>();
    let start = all();
    let result = task();
    (result, (all() - start).max(0.0))
}
