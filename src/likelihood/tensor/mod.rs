//! Likelihoods as functions of burn's tensors: how they are built, and how they run on the CPU.

#[cfg(feature = "gpu")]
pub(super) mod device;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use ndarray::{ArrayView2, ArrayViewMut1, ArrayViewMut2};

use super::error::panic_message;
use super::{EvaluationError, Likelihood, LikelihoodError, Split, VectorizedLikelihood};

/// Rows of a call on the CPU: as many as keep burn busy, and always the same, so that nothing depends on the number of threads.
const HOST_ROWS: usize = 1024;

/// The user's function on one device: theta `[n_points, n_params]` to log L `[n_points]` and derived values `[n_points, n_derived]`.
type Function = Arc<dyn Fn(Tensor<2>) -> (Tensor<1>, Option<Tensor<2>>) + Send + Sync>;

impl Likelihood {
    /// A function of tensors: theta `[n_points, n_params]` to log L `[n_points]`, in operations of [burn](crate::burn) that take all points at once.
    ///
    /// The same function runs on a GPU in f32, over burn's wgpu backend, and on the CPU in f64, over burn's Flex backend, a thread for each
    /// piece of 1024 rows. So the CPU run is the f64 reference of the GPU run. (burn's number format is a setting of the whole program:
    /// where the program has made tensors on the Flex device before the first run, its own choice, f32 by default, stands.)
    ///
    /// theta holds every parameter of the prior in the order of declaration, fixed and tied ones too. On a GPU the function is called with at
    /// most 8192 rows, and with half as many again and again where its tensors, such as `[n_points, n_data]`, do not fit. Its first call compiles a kernel for
    /// each kind of operation, a tenth of a second or a few seconds in all. New tensors belong on `theta.device()`; data tensors that are made once are
    /// for [`tensor_on`](Self::tensor_on). A panic, such as burn's over shapes that do not match, ends the run with a typed error.
    ///
    /// ```
    /// use livepoint::Likelihood;
    /// use livepoint::burn::tensor::Tensor;
    ///
    /// let ball = Likelihood::tensor(|theta: Tensor<2>| theta.square().sum_dim(1).squeeze_dim::<1>(1) * -0.5);
    /// # let _ = ball;
    /// ```
    pub fn tensor<F>(function: F) -> Self
    where
        F: Fn(Tensor<2>) -> Tensor<1> + Send + Sync + 'static,
    {
        let function: Function = Arc::new(move |theta| (function(theta), None));
        TensorLikelihood::likelihood(Vec::new(), move |_| function.clone())
    }

    /// As [`tensor`](Self::tensor), for a function that holds tensors of its own, such as the data: `maker` gets the device that the run opened,
    /// makes them there, and returns the function. It is called once for the CPU, and once in every run on a GPU.
    ///
    /// ```
    /// use livepoint::Likelihood;
    /// use livepoint::burn::tensor::{Device, Tensor};
    ///
    /// let (x, y) = ([0.0, 1.0, 2.0], [1.1, 2.9, 5.2]);
    /// let line = Likelihood::tensor_on(move |device: &Device| {
    ///     let x = Tensor::<1>::from_data(x, device).unsqueeze::<2>(); // [1, n_data]
    ///     let y = Tensor::<1>::from_data(y, device).unsqueeze::<2>();
    ///     move |theta: Tensor<2>| {
    ///         let intercept = theta.clone().narrow(1, 0, 1); // [n_points, 1]
    ///         let slope = theta.narrow(1, 1, 1);
    ///         let residual = (y.clone() - intercept - slope * x.clone()) / 0.2; // [n_points, n_data]
    ///         residual.square().sum_dim(1).squeeze_dim::<1>(1) * -0.5
    ///     }
    /// });
    /// # let _ = line;
    /// ```
    pub fn tensor_on<M, F>(maker: M) -> Self
    where
        M: Fn(&Device) -> F + Send + Sync + 'static,
        F: Fn(Tensor<2>) -> Tensor<1> + Send + Sync + 'static,
    {
        TensorLikelihood::likelihood(Vec::new(), move |device| {
            let function = maker(device);
            Arc::new(move |theta| (function(theta), None))
        })
    }

    /// As [`tensor`](Self::tensor), with derived values: the function returns log L `[n_points]` and derived values `[n_points, n_derived]`.
    pub fn tensor_derived<F>(names: impl IntoIterator<Item = impl Into<String>>, function: F) -> Self
    where
        F: Fn(Tensor<2>) -> (Tensor<1>, Tensor<2>) + Send + Sync + 'static,
    {
        let function: Function = Arc::new(move |theta| with_derived(function(theta)));
        TensorLikelihood::likelihood(names.into_iter().map(Into::into).collect(), move |_| function.clone())
    }

    /// As [`tensor_on`](Self::tensor_on), with derived values as [`tensor_derived`](Self::tensor_derived) has them.
    pub fn tensor_derived_on<M, F>(names: impl IntoIterator<Item = impl Into<String>>, maker: M) -> Self
    where
        M: Fn(&Device) -> F + Send + Sync + 'static,
        F: Fn(Tensor<2>) -> (Tensor<1>, Tensor<2>) + Send + Sync + 'static,
    {
        TensorLikelihood::likelihood(names.into_iter().map(Into::into).collect(), move |device| {
            let function = maker(device);
            Arc::new(move |theta| with_derived(function(theta)))
        })
    }
}

fn with_derived((log_l, derived): (Tensor<1>, Tensor<2>)) -> (Tensor<1>, Option<Tensor<2>>) {
    (log_l, Some(derived))
}

/// A maker of the user's function, and the function it made for the CPU.
pub(super) struct TensorLikelihood {
    make: Box<dyn Fn(&Device) -> Function + Send + Sync>,
    names: Vec<String>,
    host: OnceLock<Result<Host, String>>,
}

/// The function on the CPU.
struct Host {
    function: Function,
    device: Device,
    dtype: DType,
}

impl TensorLikelihood {
    fn likelihood(names: Vec<String>, make: impl Fn(&Device) -> Function + Send + Sync + 'static) -> Likelihood {
        let form = Arc::new(Self { make: Box::new(make), names, host: OnceLock::new() });
        Likelihood {
            derived_names: form.names.as_slice().into(),
            twin_names: None,
            split: Split::Rows(HOST_ROWS),
            host: Some(form.clone()),
            #[cfg(feature = "gpu")]
            device: Some(super::device::DeviceForm::Tensor(form.clone())),
            tensor: Some(form),
            non_finite: super::NonFinite::default(),
        }
    }

    /// The function on a device.
    ///
    /// # Errors
    /// A panic of the user's maker, in words.
    fn make(&self, device: &Device) -> Result<Function, String> {
        catch_unwind(AssertUnwindSafe(|| (self.make)(device))).map_err(|payload| panic_message(payload.as_ref()))
    }

    /// Makes the function for the CPU, once. This must happen outside the pool: a thread that waits inside the maker could take up a piece of the batch,
    /// which would wait for the maker in turn.
    ///
    /// # Errors
    /// [`EvaluationError::Data`] when the maker panics.
    pub(super) fn open_host(&self) -> Result<(), EvaluationError> {
        self.host().map(drop).map_err(|text| not_made(&text))
    }

    fn host(&self) -> Result<&Host, String> {
        let open = || {
            let mut device = Device::flex();
            // An error says that the program uses the device already: then its own choice stands.
            let _ = device.configure(FloatDType::F64);
            let dtype = device.settings().float_dtype.into();
            Ok(Host { function: self.make(&device)?, device, dtype })
        };
        self.host.get_or_init(open).as_ref().map_err(Clone::clone)
    }
}

/// The error of a maker that panicked.
fn not_made(text: &str) -> EvaluationError {
    EvaluationError::Data {
        what: "the maker of the tensor likelihood".to_owned(),
        problem: format!("it panicked: {text}; it must return the function for any device, the CPU's too"),
    }
}

/// Calls the user's function for `n` points and holds what it returns to its shape.
fn call(
    function: &Function,
    theta: Tensor<2>,
    n_derived: usize,
) -> Result<(Tensor<1>, Option<Tensor<2>>), LikelihoodError> {
    let [n, _] = theta.dims();
    let (log_l, derived) = function(theta);
    let [found] = log_l.dims();
    if found != n {
        return Err(LikelihoodError::WrongLength { expected: n, found });
    }
    match derived.as_ref().map(Tensor::dims) {
        Some(shape) if shape != [n, n_derived] => Err(LikelihoodError::new(format!(
            "it returned derived values of shape {shape:?}; return [n_points, n_derived] = {:?}, a column for each name",
            [n, n_derived]
        ))),
        _ => Ok((log_l, derived)),
    }
}

impl VectorizedLikelihood for TensorLikelihood {
    fn log_likelihood(&self, theta: ArrayView2<f64>, log_l: ArrayViewMut1<f64>) -> Result<(), LikelihoodError> {
        let mut unused = ndarray::Array2::zeros((theta.nrows(), self.names.len()));
        self.log_likelihood_derived(theta, log_l, unused.view_mut())
    }

    fn derived_names(&self) -> &[String] {
        &self.names
    }

    fn log_likelihood_derived(
        &self,
        theta: ArrayView2<f64>,
        mut log_l: ArrayViewMut1<f64>,
        mut derived: ArrayViewMut2<f64>,
    ) -> Result<(), LikelihoodError> {
        let Host { function, device, dtype } = self.host()?;
        let values: Vec<f64> = theta.iter().copied().collect();
        let tensor = Tensor::<2>::from_data(TensorData::new(values, [theta.nrows(), theta.ncols()]), (device, *dtype));
        let (log_l_tensor, derived_tensor) = call(function, tensor, self.names.len())?;
        write(log_l_tensor, log_l.iter_mut())?;
        derived_tensor.map_or(Ok(()), |tensor| write(tensor, derived.iter_mut()))
    }
}

/// Writes the values of a tensor, row after row.
fn write<'a, const D: usize>(tensor: Tensor<D>, to: impl Iterator<Item = &'a mut f64>) -> Result<(), LikelihoodError> {
    let data = tensor.try_into_data().map_err(|error| error.to_string())?;
    to.zip(data.iter::<f64>()).for_each(|(to, from)| *to = from);
    Ok(())
}
