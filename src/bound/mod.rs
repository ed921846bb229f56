//! Bounds: regions of the unit cube that hold the points above a likelihood threshold and can be sampled uniformly.

#[cfg(feature = "gpu")]
mod device;
mod ellipsoid;
mod khachiyan;
mod mixture;
mod nest;
mod neural;
mod phase_shift;
mod quadratic;
mod tree;
mod triangular;
mod union;

#[cfg(all(feature = "gpu", feature = "testing"))]
pub(crate) use device::train_options;
pub use ellipsoid::Ellipsoid;
pub(crate) use nest::{Answer, Ask, CHUNK, Nest, Request};
use neural::Drawn;
pub(crate) use neural::{Cloud, Live, NeuralBound, NeuralBoundOptions};
pub use phase_shift::PhaseShift;
pub use union::{Union, UnionLimits, UnionOptions};

/// Why no bound could be put around a set of points.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BoundError {
    /// There is nothing to enclose.
    #[error("no bound around {n_points} points in {n_dim} dimensions: give at least two points and one dimension")]
    Empty {
        /// Rows given.
        n_points: usize,
        /// Columns given.
        n_dim: usize,
    },
    /// A coordinate is NaN or infinite.
    #[error("point {point} has coordinate {value} in dimension {dim}: only finite coordinates can be enclosed")]
    NotFinite {
        /// Row of the point.
        point: usize,
        /// Column of the coordinate.
        dim: usize,
        /// The coordinate.
        value: f64,
    },
    /// All points are the same to within rounding.
    #[error(
        "all {n_points} points coincide to within rounding, so a bound around them has no volume: stop refining here"
    )]
    NoSpread {
        /// Rows given.
        n_points: usize,
    },
    /// The linear algebra met a matrix that is not positive definite in spite of its floor.
    #[error(
        "the shape of {n_points} points in {n_dim} dimensions could not be factored: are coordinates far outside the unit cube?"
    )]
    Shape {
        /// Rows given.
        n_points: usize,
        /// Columns given.
        n_dim: usize,
    },
    /// The device that trains failed.
    #[error("{0}")]
    Device(#[from] crate::backend::DeviceError),
    /// The networks could not be trained.
    #[error("networks: {0}")]
    Network(crate::nn::NetworkError),
}

#[cfg(test)]
mod tests;
