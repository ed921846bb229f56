//! Why a likelihood, or the evaluation of a batch around it, failed.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::ops::Range;

use crate::backend::DeviceError;
pub(super) use crate::backend::panic_message;

type BoxedError = Box<dyn Error + Send + Sync>;

/// Why a likelihood gave no values; rows count from the first row of the call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LikelihoodError {
    /// The user's code returned an error.
    #[error("{source}")]
    Failed {
        /// The row at fault, where it is known.
        row: Option<usize>,
        /// The user's own error.
        source: BoxedError,
    },
    /// The user's code panicked.
    #[error("it panicked: {message}; return -inf for a point that is impossible, or an Err to end the run")]
    Panicked {
        /// The row at fault, where it is known.
        row: Option<usize>,
        /// The message of the panic.
        message: String,
    },
    /// The user's code returned too few or too many values.
    #[error("it returned {found} values for {expected} points; return one log L per row of theta")]
    WrongLength {
        /// Rows of theta.
        expected: usize,
        /// Values returned.
        found: usize,
    },
}

impl LikelihoodError {
    /// The user's own error, or just a message. A `LikelihoodError` passes through unchanged.
    pub fn new(error: impl Into<BoxedError>) -> Self {
        match error.into().downcast::<Self>() {
            Ok(own) => *own,
            Err(source) => Self::Failed { row: None, source },
        }
    }

    /// As [`new`](Self::new), for a known row of the call (0 is its first).
    pub fn at_row(row: usize, error: impl Into<BoxedError>) -> Self {
        match Self::new(error) {
            Self::Failed { source, .. } => Self::Failed { row: Some(row), source },
            Self::Panicked { message, .. } => Self::Panicked { row: Some(row), message },
            other => other,
        }
    }

    /// The row at fault, where it is known.
    pub fn row(&self) -> Option<usize> {
        match self {
            Self::Failed { row, .. } | Self::Panicked { row, .. } => *row,
            Self::WrongLength { .. } => None,
        }
    }

    pub(super) fn panicked(row: Option<usize>, payload: &(dyn Any + Send)) -> Self {
        Self::Panicked { row, message: panic_message(payload) }
    }
}

impl From<String> for LikelihoodError {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for LikelihoodError {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

/// Why a batch could not be evaluated. The points of earlier batches are not touched by it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// The likelihood failed.
    #[error("the likelihood failed {place}: {source}")]
    Likelihood {
        /// The row, or the rows of the call, that failed.
        place: Place,
        /// What went wrong.
        source: LikelihoodError,
    },
    /// The likelihood gave NaN or +inf.
    #[error(
        "log L is {value} {place}; return -inf for a point that is impossible, or let such points be counted and \
         rejected with Likelihood::non_finite(NonFinite::Reject)"
    )]
    NonFinite {
        /// The first such row of the call.
        place: Place,
        /// NaN or +inf.
        value: f64,
    },
    /// A likelihood without a CPU form was asked to run there.
    #[error(
        "a WGSL likelihood runs on the CPU only by its twin, and this one has none; give it the same function in Rust with \
         .twin(Likelihood::point(..)), or use Backend::gpu()"
    )]
    NoTwin,
    /// A likelihood without a device form was asked to run there.
    #[error(
        "a Rust closure or type runs on the CPU only; write the likelihood as Likelihood::wgsl or Likelihood::tensor, \
         or give the likelihood half to the CPU: backends((Backend::cpu(0), Backend::gpu()))"
    )]
    HostOnly,
    /// WGSL that does not parse, does not validate, or holds no likelihood.
    #[error("the WGSL likelihood: {message}")]
    Wgsl {
        /// What is wrong, with the line it is in.
        message: String,
        /// Line and column of the user's text, both from 1, where they are known.
        place: Option<(usize, usize)>,
    },
    /// Data, constants or twin of a WGSL likelihood, or the maker of a tensor likelihood, that cannot be used.
    #[error("{what}: {problem}")]
    Data {
        /// Which data.
        what: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The device failed.
    #[error("{0}")]
    Device(#[from] DeviceError),
    /// The map from the unit cube to parameters failed.
    #[error("the prior transform failed on rows {} to {} of the batch: {source}", rows.start, rows.end.saturating_sub(1))]
    Transform {
        /// Rows of the batch.
        rows: Range<usize>,
        /// What the prior said; a row that it names counts from `rows.start`.
        source: BoxedError,
    },
}

/// Which rows of a batch are meant, and the parameters of the first of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Rows of the batch: one where the row at fault is known, else those of the call.
    pub rows: Range<usize>,
    /// Name and value of every parameter at the first of these rows.
    pub parameters: Vec<(String, f64)>,
}

/// A message names no more parameters than this; [`Place::parameters`] has them all.
const SHOWN: usize = 24;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.len() == 1 {
            write!(f, "at row {} of the batch", self.rows.start)?;
        } else {
            write!(f, "on rows {} to {} of the batch", self.rows.start, self.rows.end.saturating_sub(1))?;
        }
        let first = if self.rows.len() == 1 { "" } else { "the first has " };
        for (i, (name, value)) in self.parameters.iter().take(SHOWN).enumerate() {
            write!(f, "{}{name} = {value:?}", if i == 0 { format!(" ({first}") } else { ", ".to_owned() })?;
        }
        match self.parameters.len() {
            0 => Ok(()),
            n if n > SHOWN => write!(f, ", and {} more)", n - SHOWN),
            _ => f.write_str(")"),
        }
    }
}

#[cfg(feature = "gpu")]
impl From<crate::kernel::ShaderError> for EvaluationError {
    fn from(error: crate::kernel::ShaderError) -> Self {
        Self::Wgsl { message: error.to_string(), place: error.line_column() }
    }
}

#[cfg(feature = "gpu")]
impl From<crate::kernel::KernelError> for EvaluationError {
    fn from(error: crate::kernel::KernelError) -> Self {
        match error {
            crate::kernel::KernelError::Shader(error) => error.into(),
            crate::kernel::KernelError::Device(error) => error.into(),
        }
    }
}
