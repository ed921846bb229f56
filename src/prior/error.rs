//! What can be wrong with a prior, or with the user's part of it during a run.

/// Why a prior cannot be used, or why a transform of points failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PriorError {
    /// A parameter has an empty name.
    #[error("parameter {position} (counted from 0) has an empty name; name every parameter")]
    EmptyName {
        /// Position in the order of declaration.
        position: usize,
    },
    /// Two parameters share one name.
    #[error("parameter '{name}' is declared twice; give each parameter a name of its own")]
    DuplicateName {
        /// The name in question.
        name: String,
    },
    /// The numbers of a distribution describe none.
    #[error("parameter '{name}' ({kind}): {problem}")]
    BadParameter {
        /// The parameter.
        name: String,
        /// The distribution or role that was asked for.
        kind: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A parameter is tied to, or marked periodic by, a name that is not declared.
    #[error("'{name}' refers to parameter '{target}', which is not declared; names are: {known}")]
    UnknownParameter {
        /// Who refers.
        name: String,
        /// The name that was not found.
        target: String,
        /// The declared names.
        known: String,
    },
    /// Tied parameters lead back to themselves.
    #[error("parameter '{name}' is tied to itself: {chain}; tie it to a parameter that has a value of its own")]
    CircularTie {
        /// The parameter.
        name: String,
        /// The ties followed, as `a -> b -> a`.
        chain: String,
    },
    /// Nothing is left to sample.
    #[error("the prior has no sampled parameter ({n_params} fixed or tied); give at least one a distribution")]
    NothingToSample {
        /// Number of parameters declared.
        n_params: usize,
    },
    /// An array has the wrong shape.
    #[error("{what} has shape [{}, {}], expected [{}, {}]", .found.0, .found.1, .expected.0, .expected.1)]
    Shape {
        /// Which array, naming the parameters of the block where a user's transform returned it.
        what: String,
        /// Rows and columns found.
        found: (usize, usize),
        /// Rows and columns needed.
        expected: (usize, usize),
    },
    /// A coordinate of the unit cube lies outside it.
    #[error("u = {value} of parameter '{name}' in row {row} is outside the unit interval [0, 1]")]
    OutsideCube {
        /// The parameter.
        name: String,
        /// Row of the batch.
        row: usize,
        /// The coordinate.
        value: f64,
    },
    /// A user's transform returned an error.
    #[error("the transform of parameters {names} failed: {reason}")]
    TransformFailed {
        /// Parameters of the block.
        names: String,
        /// The transform's own words.
        reason: String,
    },
    /// A user's transform panicked.
    #[error("the transform of parameters {names} panicked: {reason}; return a Result to report errors")]
    TransformPanicked {
        /// Parameters of the block.
        names: String,
        /// Message of the panic.
        reason: String,
    },
    /// A user's transform returned NaN or an infinity.
    #[error(
        "the transform of parameters {names} gave '{name}' = {value} in row {row}, at u = {u:?}; map every point of the unit cube to finite values"
    )]
    TransformNotFinite {
        /// Parameters of the block.
        names: String,
        /// The parameter with the value.
        name: String,
        /// The value.
        value: f64,
        /// Row of the batch.
        row: usize,
        /// The block's coordinates of the unit cube in that row.
        u: Vec<f64>,
    },
}
