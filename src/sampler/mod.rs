//! Samplers: each proposes rows of the unit cube and is told their log L; none calls a likelihood.

pub mod neural_bound;

use serde::Serialize;

use crate::backend::{CpuPool, DeviceError, Machine};
use crate::batch::{Evaluated, Proposal};
use crate::bound::BoundError;
use crate::evidence::Evidence;
use crate::samples::Samples;

/// What a sampler needs to know of the problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Space {
    /// Dimensions of the unit cube.
    pub n_dim: usize,
    /// Derived values that come back with each log L.
    pub n_derived: usize,
    /// Dimensions of the unit cube whose ends are the same point.
    pub periodic: Vec<usize>,
    /// The prior in words. A run goes on only under the prior that it began with, for the ledger holds points of the unit cube;
    /// two priors are taken for the same when they read the same, and the code of a user's own transform cannot be read.
    pub prior: String,
}

/// Proposes batches and learns from them.
///
/// [`Run::sample`](crate::Run::sample) takes any. The ledger cannot be written from outside this crate yet, so neither can a sampler be.
pub trait Sampler {
    /// Checks the options against the problem, and gets ready on `machine`; called at the start of every run, also one that goes on.
    ///
    /// # Errors
    /// [`SamplerError::Option`] for options that cannot work, [`SamplerError::Changed`] when a run goes on with another problem or on
    /// another kind of machine, [`SamplerError::Device`].
    fn start(&mut self, space: &Space, machine: &Machine) -> Result<(), SamplerError>;

    /// The next batch, `u [n_points, n_dim]` with `n_points` from 1 to `max_points`; `None` when the targets are reached,
    /// or when the status says `stalled`.
    ///
    /// Works on `pool`; may train networks, which takes most of a sampler's time.
    ///
    /// # Errors
    /// [`SamplerError`]; the points so far are kept.
    fn propose(&mut self, pool: &CpuPool, max_points: usize) -> Result<Option<Proposal>, SamplerError>;

    /// Takes the answers to the leading rows of the last proposal, all of them unless the run was stopped.
    ///
    /// # Errors
    /// [`SamplerError`]; the points are in the ledger all the same.
    fn update(&mut self, evaluated: &Evaluated) -> Result<(), SamplerError>;

    /// Every evaluated point.
    fn samples(&self) -> &Samples;

    /// The evidence by the points and volumes so far. Cost: O(points).
    fn evidence(&self) -> Evidence;

    /// Logarithm of the posterior weight of every point of the ledger, `[n_points]`, -inf for those that do not count; not normalised.
    fn log_weights(&self) -> Vec<f64>;

    /// Where the sampler stands. Cost: O(points).
    fn status(&self) -> SamplerStatus;

    /// The options, for the record: a JSON object.
    fn settings(&self) -> serde_json::Value;

    /// What the user should know about the result.
    fn warnings(&self) -> Vec<String>;
}

/// Where a sampler stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SamplerStatus {
    /// What it is doing: `exploration` or `sampling` for [`NeuralBoundSampler`](crate::NeuralBoundSampler), and for any sampler
    /// `stalled` when no more points can be drawn, short of the targets.
    pub phase: &'static str,
    /// Evaluated points so far, those of earlier runs of the same sampler counted.
    pub n_like: usize,
    /// Of those, points evaluated before the bounds were frozen.
    pub n_like_exploration: usize,
    /// Bounds in use, the unit cube among them.
    pub n_bounds: usize,
    /// Share of the evidence that the live points still hold (exploration ends when it is small).
    pub f_live: f64,
    /// Natural logarithm of the evidence so far.
    pub log_z: f64,
    /// Its standard error.
    pub log_z_error: f64,
    /// Effective number of points so far.
    pub n_eff: f64,
    /// The number asked for.
    pub n_eff_target: f64,
    /// CPU seconds of training, summed over threads; on a device, seconds by the clock.
    pub train_s: f64,
    /// The device that draws and trains, in words; none on threads.
    pub device: Option<String>,
    /// Bytes that went to a device for training.
    pub train_bytes_uploaded: u64,
}

/// Why a sampler stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SamplerError {
    /// An option that cannot work.
    #[error("option {option} = {value}: {problem}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The sampler was asked to go on with another problem or other bounds.
    #[error(
        "this sampler has already sampled with {what} {was}, it cannot go on with {now}; start a new sampler, or restore {what}"
    )]
    Changed {
        /// What changed.
        what: &'static str,
        /// Its value so far.
        was: String,
        /// The new value.
        now: String,
    },
    /// Hardly any point has a likelihood above zero.
    #[error(
        "log L is -inf for {n_infinite} of {n_points} points drawn from the prior, and {needed} finite ones are needed to build a bound; \
         check the likelihood, or choose a prior closer to where it is above zero"
    )]
    NoFiniteLikelihood {
        /// Points with log L = -inf.
        n_infinite: usize,
        /// Points evaluated.
        n_points: usize,
        /// Finite points needed.
        needed: usize,
    },
    /// The device that the sampler runs on failed. What was evaluated is kept, but bounds that lay on a lost device are gone: start a new sampler.
    #[error("the sampler's device: {0}")]
    Device(#[from] DeviceError),
    /// A bound could not be built.
    #[error("bound {index}: {source}")]
    Bound {
        /// Index of the bound.
        index: usize,
        /// The reason.
        source: BoundError,
    },
}
