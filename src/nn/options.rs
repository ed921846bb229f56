//! Options of the networks, and what can be wrong with them or with what they are given.

/// How the learning rate goes from `learning_rate_init` over the steps of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls linearly to 0 over the training.
    Linear,
    /// It falls to 0 over the training along half a cosine.
    Cosine,
}

/// Size and training of the networks of one ensemble; names as in scikit-learn's `MLPRegressor`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct NetworkOptions {
    /// Units of each hidden layer; none makes the network a linear function. Default 100, 50, 20.
    pub hidden_layer_sizes: Vec<usize>,
    /// Learning rate of the first step. Default 0.02.
    pub learning_rate_init: f64,
    /// What becomes of the learning rate. Default [`Schedule::Linear`].
    pub learning_rate: Schedule,
    /// Points of a minibatch; an epoch is cut into the fewest batches of equal size that do not exceed it. Default 80.
    pub batch_size: usize,
    /// Most epochs. Default 20.
    pub max_iter: usize,
    /// Most steps, to within one epoch: with many points there are fewer epochs than `max_iter`, but at least 1. Default 1000.
    pub max_steps: usize,
    /// Most steps of networks that start from those of the bound before; 0: every bound's networks start from random weights. Never more than `max_steps`. Default 300.
    pub max_steps_warm: usize,
    /// Learning rate of their first step. Default 0.01.
    pub learning_rate_init_warm: f64,
    /// With a constant learning rate training stops after more than this many epochs in a row without a loss better by
    /// `tol`; a falling rate must fall to its end to be of use. Default 10.
    pub n_iter_no_change: usize,
    /// By how much a loss must be better to count, in units of the variance of the targets. Default 0.
    pub tol: f64,
    /// Adam's decay of the first moment. Default 0.9.
    pub beta_1: f64,
    /// Adam's decay of the second moment. Default 0.99.
    pub beta_2: f64,
    /// Adam's guard against division by 0: it divides by `sqrt(v + epsilon^2)`. Default 1e-8.
    pub epsilon: f64,
}

/// As sharp as the recipe of nautilus at a third of its steps' cost: measured in `benches/NOTES.md`.
impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            hidden_layer_sizes: vec![100, 50, 20],
            learning_rate_init: 2e-2,
            learning_rate: Schedule::Linear,
            batch_size: 80,
            max_iter: 20,
            max_steps: 1000,
            max_steps_warm: 300,
            learning_rate_init_warm: 1e-2,
            n_iter_no_change: 10,
            tol: 0.0,
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-8,
        }
    }
}

impl NetworkOptions {
    /// The recipe of nautilus 1.0: a constant rate, batches of 200, until ten epochs bring no better loss.
    pub fn nautilus() -> Self {
        Self {
            learning_rate_init: 1e-2,
            learning_rate: Schedule::Constant,
            batch_size: 200,
            max_iter: 10_000,
            max_steps: usize::MAX,
            max_steps_warm: 0,
            beta_2: 0.999,
            ..Self::default()
        }
    }

    /// The same for networks that go on from those of another ensemble.
    pub(crate) fn warm(&self) -> Self {
        Self {
            max_steps: self.max_steps_warm.clamp(1, self.max_steps),
            learning_rate_init: self.learning_rate_init_warm,
            ..self.clone()
        }
    }

    /// Refuses what no network can be trained with.
    ///
    /// # Errors
    /// [`NetworkError::Option`] names the first option that is out of range.
    pub fn validate(&self) -> Result<(), NetworkError> {
        let refuse = |name, value: String, want| Err(NetworkError::Option { name, value, want });
        if self.hidden_layer_sizes.contains(&0) {
            return refuse("hidden_layer_sizes", format!("{:?}", self.hidden_layer_sizes), "sizes of 1 or more");
        }
        for (name, value) in
            [("batch_size", self.batch_size), ("max_iter", self.max_iter), ("max_steps", self.max_steps)]
        {
            if value == 0 {
                return refuse(name, value.to_string(), "1 or more");
            }
        }
        for (name, value) in [
            ("learning_rate_init", self.learning_rate_init),
            ("learning_rate_init_warm", self.learning_rate_init_warm),
            ("epsilon", self.epsilon),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return refuse(name, value.to_string(), "a number above 0");
            }
        }
        for (name, value) in [("beta_1", self.beta_1), ("beta_2", self.beta_2)] {
            if !(0.0..1.0).contains(&value) {
                return refuse(name, value.to_string(), "a number in [0, 1)");
            }
        }
        if !(self.tol.is_finite() && self.tol >= 0.0) {
            return refuse("tol", self.tol.to_string(), "a number of 0 or more");
        }
        Ok(())
    }
}

/// Why an ensemble could not be trained.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// An option is out of range.
    #[error("network option {name} is {value}; give {want}")]
    Option {
        /// Its name.
        name: &'static str,
        /// What was given.
        value: String,
        /// What is accepted.
        want: &'static str,
    },
    /// Sizes that do not go together.
    #[error("{n_x} coordinates do not make {n_points} points in {n_dim} dimensions (all must be 1 or more)")]
    Shape {
        /// Length of `x`.
        n_x: usize,
        /// Coordinates of a point.
        n_dim: usize,
        /// Length of `y`.
        n_points: usize,
    },
    /// An input or target is not a number.
    #[error("{what} of training point {point} is not finite")]
    NotFinite {
        /// "a coordinate" or "the target".
        what: &'static str,
        /// Index of the point.
        point: usize,
    },
    /// The weights overflowed.
    #[error("network {network} diverged in training; lower learning_rate_init (it is {learning_rate_init})")]
    Diverged {
        /// Index in the ensemble.
        network: usize,
        /// The rate in use.
        learning_rate_init: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_names_the_option() {
        assert_eq!(NetworkOptions::default().validate(), Ok(()));
        assert_eq!(NetworkOptions::nautilus().validate(), Ok(()));
        type Spoil = fn(&mut NetworkOptions);
        let cases: [(&str, Spoil); 11] = [
            ("learning_rate_init_warm", |o| o.learning_rate_init_warm = 0.0),
            ("hidden_layer_sizes", |o| o.hidden_layer_sizes = vec![10, 0]),
            ("batch_size", |o| o.batch_size = 0),
            ("max_iter", |o| o.max_iter = 0),
            ("max_steps", |o| o.max_steps = 0),
            ("learning_rate_init", |o| o.learning_rate_init = 0.0),
            ("learning_rate_init", |o| o.learning_rate_init = f64::NAN),
            ("epsilon", |o| o.epsilon = -1.0),
            ("beta_1", |o| o.beta_1 = 1.0),
            ("beta_2", |o| o.beta_2 = f64::INFINITY),
            ("tol", |o| o.tol = -1e-3),
        ];
        for (name, spoil) in cases {
            let mut options = NetworkOptions::default();
            spoil(&mut options);
            let error = options.validate().unwrap_err();
            assert!(matches!(&error, NetworkError::Option { name: found, .. } if *found == name), "{error}");
            assert!(error.to_string().contains(name));
        }
    }
}
