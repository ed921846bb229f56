//! Nested sampling for vectorised likelihoods: the Bayesian evidence with an honest error, and posterior samples.
//!
//! A prior maps the unit cube to parameters, a likelihood takes whole batches of them, a sampler proposes and learns, and a
//! run carries batches between the two:
//!
//! ```
//! use livepoint::{Backend, Likelihood, NeuralBoundSampler, Prior, Run};
//! use ndarray::ArrayView2;
//!
//! // A normalised Gaussian of width 0.1 in two dimensions: log Z = -2 ln 10 on the square of side 10.
//! let prior = Prior::new().uniform("x", -5.0..5.0).uniform("y", -5.0..5.0);
//! let likelihood = Likelihood::batch(|theta: ArrayView2<f64>| {
//!     let log_l = |row: ndarray::ArrayView1<f64>| -50.0 * row.dot(&row) - (std::f64::consts::TAU * 0.01).ln();
//!     theta.rows().into_iter().map(log_l).collect::<Vec<f64>>()
//! });
//! let result = Run::new(&prior, &likelihood)
//!     .backends((Backend::cpu(2), Backend::cpu(1))) // (likelihood, sampler)
//!     .sample(NeuralBoundSampler::default().n_live(500).n_eff(1000.0).seed(1))?;
//! let evidence = result.evidence();
//! assert!((evidence.log_z + 4.605).abs() < 5.0 * evidence.log_z_error);
//! println!("{result}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A closure runs on the CPU. A likelihood in tensor operations (`Likelihood::tensor`) or in WGSL ([`Likelihood::wgsl`]) runs on a GPU too, with the
//! prior transform: say [`Backend::gpu()`], or [`Backend::auto()`] for a GPU where there is one. The neural-bound sampler draws, tests and trains there too.
//!
//! Features: `gpu` (default) for devices, `tensor` for tensor likelihoods, which `gpu` brings; without both nothing of wgpu, naga or burn is built.
#![warn(missing_docs)]
// No panic reaches a user: what cannot fail is written so that it cannot, and all else is a typed error.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented
    )
)]

mod backend;
mod batch;
mod bound;
pub mod diagnostics;
pub mod evidence;
#[cfg(feature = "gpu")]
mod kernel;
mod likelihood;
mod live_points;
mod math;
mod nn;
mod posterior;
mod prior;
mod rng;
mod run;
mod sampler;
mod samples;
#[cfg(feature = "testing")]
pub mod testing;

/// Arrays of the interface: use this one to have the same version.
pub use ndarray;

/// Tensors of [`Likelihood::tensor`](crate::Likelihood::tensor): use this one to have the same version.
#[cfg(feature = "tensor")]
pub use burn;

pub use backend::{
    Backend, BackendError, Backends, CpuPool, DeviceError, DeviceKind, GpuInfo, GpuOptions, GraphicsApi, Machine,
    PowerPreference, list_gpus,
};
pub use batch::{Evaluated, Proposal};
pub use bound::BoundError;
pub use evidence::Evidence;
pub use likelihood::{
    EvaluationError, IntoLogL, IntoPointLogL, Likelihood, LikelihoodError, NonFinite, Place, VectorizedLikelihood,
    WgslData, WgslLikelihood,
};
pub use nn::{NetworkError, NetworkOptions, Schedule};
pub use posterior::{ColumnSummary, Posterior, PosteriorError, Summary};
pub use prior::{BlockOutput, ParameterDescription, Prior, PriorError};
pub use run::{
    DeviceUse, Observer, Progress, ProgressLine, Run, RunError, RunErrorKind, RunResult, SaveError, StopReason, Timing,
};
pub use sampler::neural_bound::NeuralBoundSampler;
pub use sampler::{Sampler, SamplerError, SamplerStatus, Space};
pub use samples::{Phase, Samples};

/// Compiles and runs the Rust code of the README, which is for the default features; no part of the crate.
#[cfg(all(doctest, feature = "gpu"))]
#[doc = include_str!("../README.md")]
struct Readme;
