//! Observers: they see how a run stands, and may end it.

use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;

use crate::sampler::SamplerStatus;

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Progress {
    /// Where the sampler stands: phase, calls, bounds, log Z and its error, effective points.
    #[serde(flatten)]
    pub status: SamplerStatus,
    /// Time since this run began, earlier runs of the same sampler not counted.
    pub elapsed: Duration,
    /// Likelihood calls of this run, in points, per second since it began.
    pub calls_per_s: f64,
    /// Time to the target at the present pace, where it can be told (in the sampling phase).
    pub time_left: Option<Duration>,
}

/// Told of the progress of a run, about ten times a second and whenever the phase changes.
pub trait Observer {
    /// Returns `ControlFlow::Break(())` to end the run here; what was sampled so far is returned.
    fn progress(&mut self, progress: &Progress) -> ControlFlow<()>;

    /// Called once, when the run has ended for whatever reason.
    fn finished(&mut self, _progress: &Progress) {}
}

/// A closure is an observer; its argument needs its type: `|progress: &Progress| ..`.
impl<F: FnMut(&Progress) -> ControlFlow<()>> Observer for F {
    fn progress(&mut self, progress: &Progress) -> ControlFlow<()> {
        self(progress)
    }
}
