//! The [`VectorizedLikelihood`] trait, the [`Likelihood`] value a user builds from closures or from a type of their own.

mod closure;
#[cfg(feature = "gpu")]
mod device;
mod error;
mod evaluate;
mod evaluator;
#[cfg(feature = "gpu")]
mod shader;
#[cfg(feature = "tensor")]
mod tensor;
#[cfg(test)]
mod tests;
mod wgsl;

use std::fmt;
use std::sync::Arc;

use ndarray::{ArrayView2, ArrayViewMut1, ArrayViewMut2};

pub use closure::{IntoLogL, IntoPointLogL};
#[cfg(all(feature = "gpu", feature = "testing"))]
pub(crate) use device::{composed, resident_rate};
pub use error::{EvaluationError, LikelihoodError, Place};
pub(crate) use evaluator::{DevicePrecision, Evaluator};
pub use wgsl::{WgslData, WgslLikelihood};

/// A likelihood that takes many points at once.
///
/// Implement this for a type of your own where a closure is not enough, and hand it to [`Likelihood::new`].
/// Calls may come from several threads at the same time. A panic does not end the program: it ends the run with a typed error.
pub trait VectorizedLikelihood: Send + Sync {
    /// Writes the natural logarithm of the likelihood of every row.
    ///
    /// # Shapes
    /// `theta` is `[n_points, n_params]`, row-major and contiguous: every parameter of the prior in the order of declaration,
    /// fixed and tied ones too. `log_l` is `[n_points]` and comes filled with NaN, so a row that is left out is noticed.
    /// -inf is legal and says that the point is impossible; what NaN and +inf mean is set by [`Likelihood::non_finite`].
    ///
    /// # Errors
    /// Any error ends the run; the points of earlier batches are kept. [`LikelihoodError::at_row`] says which row was at fault.
    fn log_likelihood(&self, theta: ArrayView2<f64>, log_l: ArrayViewMut1<f64>) -> Result<(), LikelihoodError>;

    /// Names of the derived values, `[n_derived]`; none by default. Read once, when the [`Likelihood`] is built.
    fn derived_names(&self) -> &[String] {
        &[]
    }

    /// As [`log_likelihood`](Self::log_likelihood), and writes the derived values of every row too.
    ///
    /// Called instead of it when there are derived names. `derived` is `[n_points, n_derived]` and comes filled with NaN,
    /// which is a legal value. The default writes none.
    ///
    /// # Errors
    /// As for [`log_likelihood`](Self::log_likelihood).
    fn log_likelihood_derived(
        &self,
        theta: ArrayView2<f64>,
        log_l: ArrayViewMut1<f64>,
        derived: ArrayViewMut2<f64>,
    ) -> Result<(), LikelihoodError> {
        let _ = derived;
        self.log_likelihood(theta, log_l)
    }

    /// Whether a batch may be cut into one consecutive piece of rows per thread (the default); if not, it comes in one call.
    ///
    /// Say false where the code spreads the work itself, or where one large call is much cheaper than several small ones.
    fn split_batches(&self) -> bool {
        true
    }
}

/// What to do with a point whose log L is NaN or +inf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NonFinite {
    /// End the run with an error that names the point and its parameters.
    #[default]
    Error,
    /// Count the point and treat its log L as -inf.
    Reject,
}

/// How a batch is spread over the threads of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Split {
    /// One consecutive piece of rows per thread.
    PerThread,
    /// Several pieces per thread, so that points of unequal cost even out.
    Fine,
    /// Pieces of this many rows for any number of threads, for code whose values may depend on how many rows it gets.
    #[cfg(feature = "tensor")]
    Rows(usize),
    /// The whole batch in one call.
    Whole,
}

/// A likelihood as a run takes it: a function or a type of the user's, and how to call it.
///
/// ```
/// use livepoint::Likelihood;
/// use ndarray::{ArrayView2, Axis};
///
/// let batch = Likelihood::batch(|theta: ArrayView2<f64>| theta.map_axis(Axis(1), |x| -0.5 * x.dot(&x)));
/// let point = Likelihood::point(|theta: &[f64]| -0.5 * theta.iter().map(|x| x * x).sum::<f64>());
/// let radius = Likelihood::point_derived(["radius"], |theta: &[f64], derived: &mut [f64]| {
///     derived[0] = theta.iter().map(|x| x * x).sum::<f64>().sqrt();
///     -0.5 * derived[0].powi(2)
/// });
/// # let _ = (batch, point);
/// assert_eq!(radius.derived_names(), ["radius"]);
/// ```
///
/// Cloning is cheap and shares the function.
#[derive(Clone)]
pub struct Likelihood {
    /// What runs on the CPU; none for WGSL without a twin.
    host: Option<Arc<dyn VectorizedLikelihood>>,
    /// What runs on a device; none for closures.
    #[cfg(feature = "gpu")]
    device: Option<device::DeviceForm>,
    /// What must be made ready before `host` is called on a pool; none but for tensors.
    #[cfg(feature = "tensor")]
    tensor: Option<Arc<tensor::TensorLikelihood>>,
    derived_names: Arc<[String]>,
    /// Derived values of the twin; none but for WGSL with a twin.
    twin_names: Option<Arc<[String]>>,
    split: Split,
    non_finite: NonFinite,
}

impl Likelihood {
    /// A likelihood of the user's own type.
    pub fn new(likelihood: impl VectorizedLikelihood + 'static) -> Self {
        Self {
            derived_names: likelihood.derived_names().into(),
            twin_names: None,
            split: if likelihood.split_batches() { Split::PerThread } else { Split::Whole },
            host: Some(Arc::new(likelihood)),
            #[cfg(feature = "gpu")]
            device: None,
            #[cfg(feature = "tensor")]
            tensor: None,
            non_finite: NonFinite::default(),
        }
    }

    /// A function of many points: `theta [n_points, n_params]` to `n_points` values of log L.
    ///
    /// It may return a `Vec<f64>`, an `Array1<f64>`, or a `Result` of either with any error. Each thread calls it with a
    /// consecutive piece of the batch; see [`whole_batches`](Self::whole_batches).
    pub fn batch<F, R>(function: F) -> Self
    where
        F: Fn(ArrayView2<'_, f64>) -> R + Send + Sync + 'static,
        R: IntoLogL + 'static,
    {
        Self::new(closure::Batch(function))
    }

    /// A function of one point: `theta [n_params]` to log L, an `f64` or a `Result<f64, _>` with any error.
    ///
    /// The points of a batch are spread over the threads in small pieces, so that they may differ in cost.
    pub fn point<F, R>(function: F) -> Self
    where
        F: Fn(&[f64]) -> R + Send + Sync + 'static,
        R: IntoPointLogL + 'static,
    {
        Self { split: Split::Fine, ..Self::new(closure::Point(function)) }
    }

    /// As [`batch`](Self::batch), with derived values: the function also fills `derived [n_points, n_derived]`.
    ///
    /// `derived` comes filled with NaN, which is a legal derived value.
    pub fn batch_derived<F, R>(names: impl IntoIterator<Item = impl Into<String>>, function: F) -> Self
    where
        F: Fn(ArrayView2<'_, f64>, ArrayViewMut2<'_, f64>) -> R + Send + Sync + 'static,
        R: IntoLogL + 'static,
    {
        let names = names.into_iter().map(Into::into).collect();
        Self::new(closure::BatchDerived { names, function })
    }

    /// As [`point`](Self::point), with derived values: the function also fills `derived [n_derived]`.
    ///
    /// `derived` comes filled with NaN, which is a legal derived value.
    pub fn point_derived<F, R>(names: impl IntoIterator<Item = impl Into<String>>, function: F) -> Self
    where
        F: Fn(&[f64], &mut [f64]) -> R + Send + Sync + 'static,
        R: IntoPointLogL + 'static,
    {
        let names = names.into_iter().map(Into::into).collect();
        Self { split: Split::Fine, ..Self::new(closure::PointDerived { names, function }) }
    }

    /// A likelihood in WGSL, the shading language of WebGPU: one function `log_likelihood(theta)`, which runs on any vendor's GPU.
    ///
    /// The library adds entry point, indexing, bounds and the prior transform. See [`WgslLikelihood`] for data, constants, derived values
    /// and the CPU twin.
    pub fn wgsl(text: impl Into<String>) -> WgslLikelihood {
        WgslLikelihood::new(text.into())
    }

    /// Gives each batch to the function in one call instead of one piece per thread.
    ///
    /// The call is made on a thread of the likelihood pool, so `rayon` inside it uses that pool and its number of threads.
    /// A function of one point then runs through the whole batch on one thread.
    pub fn whole_batches(mut self) -> Self {
        self.split = Split::Whole;
        self
    }

    /// What to do with NaN and +inf; by default they are an error.
    pub fn non_finite(mut self, choice: NonFinite) -> Self {
        self.non_finite = choice;
        self
    }

    /// Names of the derived values, `[n_derived]`.
    pub fn derived_names(&self) -> &[String] {
        &self.derived_names
    }
}

/// Cheap: both share the function.
impl From<&Likelihood> for Likelihood {
    fn from(likelihood: &Likelihood) -> Self {
        likelihood.clone()
    }
}

impl<T: VectorizedLikelihood + 'static> From<T> for Likelihood {
    fn from(likelihood: T) -> Self {
        Self::new(likelihood)
    }
}

impl fmt::Debug for Likelihood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Likelihood")
            .field("derived_names", &self.derived_names)
            .field("split", &self.split)
            .field("non_finite", &self.non_finite)
            .finish_non_exhaustive()
    }
}
