//! Why a run failed, with everything it had sampled until then.

use std::fmt;
use std::path::PathBuf;

use super::result::RunResult;
use crate::backend::BackendError;
use crate::likelihood::EvaluationError;
use crate::prior::PriorError;
use crate::sampler::SamplerError;

/// What went wrong in a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunErrorKind {
    /// The prior cannot be sampled.
    #[error("prior: {0}")]
    Prior(#[from] PriorError),
    /// A batch could not be evaluated: the likelihood or the prior transform failed, and the text says which.
    #[error("{0}")]
    Likelihood(#[from] EvaluationError),
    /// A parameter that cannot be told from another column.
    #[error("parameter '{name}': {problem}")]
    ParameterName {
        /// The name.
        name: String,
        /// What is wrong and what to do.
        problem: &'static str,
    },
    /// A derived value that cannot be told from another column.
    #[error("derived value '{name}': {problem}")]
    DerivedName {
        /// The name.
        name: String,
        /// What is wrong and what to do.
        problem: &'static str,
    },
    /// The sampler cannot go on.
    #[error("sampler: {0}")]
    Sampler(#[from] SamplerError),
    /// A backend could not be opened.
    #[error("backend: {0}")]
    Backend(#[from] BackendError),
    /// The f32 of the device is not good enough for the problem.
    #[error("{what}: {problem}")]
    Precision {
        /// The parameter, or what else it is about.
        what: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A limit that leaves nothing to do.
    #[error("option {option} = {value}: {problem}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what to do.
        problem: &'static str,
    },
}

/// A run that failed: why, and the result so far.
pub struct RunError<S> {
    /// What went wrong.
    pub kind: RunErrorKind,
    /// Everything sampled before; a run with its [`into_sampler`](RunResult::into_sampler) goes on from there.
    pub result: Box<RunResult<S>>,
}

impl<S> fmt::Debug for RunError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunError").field("kind", &self.kind).field("n_like", &self.result.n_like()).finish()
    }
}

impl<S> fmt::Display for RunError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        match self.result.n_like() {
            0 => Ok(()),
            n => write!(f, " (the {n} points evaluated before are in `result` of this error)"),
        }
    }
}

impl<S> std::error::Error for RunError<S> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.kind)
    }
}

/// Why a result could not be saved.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {reason}; choose a folder that can be written to", path = path.display())]
pub struct SaveError {
    /// The file or folder.
    pub path: PathBuf,
    /// The system's own words.
    pub reason: String,
}
