//! The builder of likelihoods in WGSL: text, data, constants, derived values and the CPU twin.

#[cfg(feature = "gpu")]
use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayView2};

use super::{Likelihood, NonFinite, Split};

/// A likelihood in WGSL, made by [`Likelihood::wgsl`].
///
/// The text holds one function, `fn log_likelihood(theta: array<f32, N_DIM>) -> f32`, and whatever helpers it needs. The library calls it for every
/// point of a batch, one invocation for each, and fuses the prior transform in front. `N_DIM` is the length of theta: every parameter of the
/// prior in the order of declaration, fixed and tied ones too; `Theta` is short for `array<f32, N_DIM>`. Other forms:
///
/// | function | for |
/// |---|---|
/// | `.. -> vec2<f32>` | log L as the sum of two parts, where it is so large (above 1e4) that the spacing of f32 is felt |
/// | `log_likelihood(theta_hi: Theta, theta_lo: Theta) -> ..` | posteriors that f32 cannot resolve: theta is the sum of the two, to 48 bits |
/// | `.., derived: ptr<function, Derived>)` | derived values, named by [`derived`](Self::derived): `(*derived)[0] = ..` |
/// | `log_likelihood_term(theta: Theta, i: u32) -> f32` | a sum over many data, one workgroup for each point: see [`sum_over`](Self::sum_over) |
///
/// The functions of the library (`reject()` for an impossible point, `log1p`, `erf`, `lgamma`, `kepler`, sums, ..) are listed in `shaders/README.md`.
/// All numbers are f32; f64 is refused, since drivers accept it and compute garbage. NaN must be told by `is_nan`, not by `x != x`.
///
/// ```
/// use livepoint::Likelihood;
///
/// let x = [0.0, 1.0, 2.0];
/// let y = [1.1, 2.9, 5.2];
/// let line = Likelihood::wgsl(
///     "fn log_likelihood(theta: array<f32, N_DIM>) -> f32 {
///         var chi2 = 0.0;
///         for (var i = 0u; i < N_POINTS; i++) {
///             let residual = (points[i].y - theta[0] - theta[1] * points[i].x) / SIGMA;
///             chi2 += residual * residual;
///         }
///         return -0.5 * chi2;
///     }",
/// )
/// .table("points", [("x", x), ("y", y)])
/// .constant("SIGMA", 0.2)
/// .twin(Likelihood::point(move |theta: &[f64]| {
///     -0.5 * x.iter().zip(y).map(|(x, y)| ((y - theta[0] - theta[1] * x) / 0.2).powi(2)).sum::<f64>()
/// }));
/// ```
///
/// The builder never fails; what is wrong is reported when a run begins, before the first draw.
#[derive(Clone)]
#[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "only a device reads the text and the data"))]
pub struct WgslLikelihood {
    pub(super) text: String,
    pub(super) items: Vec<Item>,
    pub(super) derived: Vec<String>,
    pub(super) n_terms: Option<usize>,
    pub(super) tolerance: f64,
    pub(super) twin: Option<Likelihood>,
    non_finite: NonFinite,
}

/// Something the text may name.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "only a device reads it"))]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) kind: Kind,
}

#[cfg(feature = "gpu")]
impl Item {
    /// Every name that the text gets by it.
    pub(super) fn names(&self) -> Vec<String> {
        let (name, capitals) = (&self.name, self.name.to_uppercase());
        match &self.kind {
            Kind::Data(_) | Kind::Table(_) => vec![name.clone(), format!("N_{capitals}")],
            Kind::Constant(_) | Kind::Interpolant { .. } => vec![name.clone()],
            Kind::Covariance(_) => vec![format!("{name}_chi2"), format!("{name}_solve"), format!("{capitals}_LOG_DET")],
        }
    }
}

#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "only a device reads it"))]
pub(super) enum Kind {
    Data(WgslData),
    Table(Vec<(String, Vec<f64>)>),
    Constant(f64),
    Interpolant { x: Vec<f64>, y: Vec<f64> },
    Covariance(Array2<f64>),
}

/// Numbers for [`WgslLikelihood::data`]: a list, or rows of equal length.
#[derive(Debug, Clone, PartialEq)]
pub struct WgslData {
    pub(super) values: Vec<f64>,
    /// Numbers in a row, for a list 1.
    pub(super) width: usize,
}

impl From<Vec<f64>> for WgslData {
    fn from(values: Vec<f64>) -> Self {
        Self { values, width: 1 }
    }
}

impl From<&[f64]> for WgslData {
    fn from(values: &[f64]) -> Self {
        values.to_vec().into()
    }
}

impl<const N: usize> From<&[f64; N]> for WgslData {
    fn from(values: &[f64; N]) -> Self {
        values.to_vec().into()
    }
}

impl From<&Vec<f64>> for WgslData {
    fn from(values: &Vec<f64>) -> Self {
        values.clone().into()
    }
}

impl From<&Array1<f64>> for WgslData {
    fn from(values: &Array1<f64>) -> Self {
        values.to_vec().into()
    }
}

impl<const N: usize> From<&[[f64; N]]> for WgslData {
    fn from(rows: &[[f64; N]]) -> Self {
        Self { values: rows.concat(), width: N }
    }
}

impl<const N: usize> From<&Vec<[f64; N]>> for WgslData {
    fn from(rows: &Vec<[f64; N]>) -> Self {
        rows.as_slice().into()
    }
}

impl From<&Array2<f64>> for WgslData {
    fn from(rows: &Array2<f64>) -> Self {
        Self { values: rows.iter().copied().collect(), width: rows.ncols() }
    }
}

impl WgslLikelihood {
    pub(super) fn new(text: String) -> Self {
        Self {
            text,
            items: Vec::new(),
            derived: Vec::new(),
            n_terms: None,
            tolerance: 1e-6,
            twin: None,
            non_finite: NonFinite::default(),
        }
    }

    fn item(mut self, name: impl Into<String>, kind: Kind) -> Self {
        self.items.push(Item { name: name.into(), kind });
        self
    }

    /// Read-only numbers: `name[i]`, or `name[i][k]` for rows; `N_NAME` (the name in capitals) is how many there are.
    pub fn data(self, name: impl Into<String>, values: impl Into<WgslData>) -> Self {
        self.item(name, Kind::Data(values.into()))
    }

    /// Read-only columns of equal length: `name[i].column`; `N_NAME` (the name in capitals) is the number of rows.
    pub fn table<C: Into<String>, V: AsRef<[f64]>>(
        self,
        name: impl Into<String>,
        columns: impl IntoIterator<Item = (C, V)>,
    ) -> Self {
        let columns = columns.into_iter().map(|(column, values)| (column.into(), values.as_ref().to_vec())).collect();
        self.item(name, Kind::Table(columns))
    }

    /// A constant.
    pub fn constant(self, name: impl Into<String>, value: f64) -> Self {
        self.item(name, Kind::Constant(value))
    }

    /// A function `name(x: f32) -> f32` that interpolates linearly between the points `(x, y)`, x rising; constant beyond the ends.
    pub fn interpolant(self, name: impl Into<String>, x: impl AsRef<[f64]>, y: impl AsRef<[f64]>) -> Self {
        self.item(name, Kind::Interpolant { x: x.as_ref().to_vec(), y: y.as_ref().to_vec() })
    }

    /// A covariance matrix `[n, n]`: `name_chi2(r: array<f32, n>) -> f32` is r^T C^-1 r, `name_solve(r)` is L^-1 r with C = L L^T, and
    /// `NAME_LOG_DET` is ln det C. The factor is made here in f64.
    pub fn covariance<'a>(self, name: impl Into<String>, matrix: impl Into<ArrayView2<'a, f64>>) -> Self {
        self.item(name, Kind::Covariance(matrix.into().to_owned()))
    }

    /// log L is the sum of `log_likelihood_term(theta, i)` over i from 0 to `n_terms` (known to the text as `N_TERMS`).
    ///
    /// A workgroup shares the terms of a point: for thousands of data this is what keeps a device busy. The sum is compensated and comes back
    /// in two parts, so that it is as good as its terms. Derived values cannot be had in this form.
    pub fn sum_over(mut self, n_terms: usize) -> Self {
        self.n_terms = Some(n_terms);
        self
    }

    /// Names of the derived values, in the order in which the text writes them. What it does not write is 0.
    pub fn derived(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.derived = names.into_iter().map(Into::into).collect();
        self
    }

    /// The same function in Rust: it runs where there is no GPU, and is the f64 reference that the f32 values are checked against.
    ///
    /// Any likelihood that runs on the CPU will do; with derived values it must name the same.
    pub fn twin(mut self, twin: impl Into<Likelihood>) -> Self {
        self.twin = Some(twin.into());
        self
    }

    /// The largest error, relative to the spread of a column of data, that f32 may make in it; 1e-6 by default.
    ///
    /// Times as Julian dates lose minutes in f32: such a column is refused, and an offset taken off it is the cure.
    pub fn data_tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// What to do with NaN and +inf; by default they are an error.
    pub fn non_finite(mut self, choice: NonFinite) -> Self {
        self.non_finite = choice;
        self
    }
}

impl From<WgslLikelihood> for Likelihood {
    fn from(wgsl: WgslLikelihood) -> Self {
        Self {
            host: wgsl.twin.as_ref().and_then(|twin| twin.host.clone()),
            derived_names: wgsl.derived.as_slice().into(),
            twin_names: wgsl.twin.as_ref().map(|twin| twin.derived_names.clone()),
            split: wgsl.twin.as_ref().map_or(Split::PerThread, |twin| twin.split),
            non_finite: wgsl.non_finite,
            #[cfg(feature = "tensor")]
            tensor: wgsl.twin.as_ref().and_then(|twin| twin.tensor.clone()),
            #[cfg(feature = "gpu")]
            device: Some(super::device::DeviceForm::Wgsl(Arc::new(wgsl))),
        }
    }
}

impl From<&WgslLikelihood> for Likelihood {
    fn from(wgsl: &WgslLikelihood) -> Self {
        wgsl.clone().into()
    }
}
