//! The prior: named parameters, their distributions, and the map from the unit cube to parameter values.
//!
//! Every distribution is sampled through its quantile function: a point of the open unit cube, uniform there, is mapped column by
//! column to a draw of the prior.

mod block;
mod describe;
#[cfg(feature = "gpu")]
mod device;
mod distribution;
mod error;
mod incomplete;
mod normal;

use std::collections::HashSet;
use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use block::Block;
pub use block::BlockOutput;
pub use describe::ParameterDescription;
use distribution::Distribution;
pub use error::PriorError;

/// How a parameter gets its value.
#[derive(Debug, Clone)]
enum Source {
    Distribution(Distribution),
    /// Column of a user's block, by the block's place in `Prior::blocks`.
    Block {
        block: usize,
        column: usize,
    },
    Fixed(f64),
    Tied(String),
    /// Stands for a parameter whose numbers were refused: it keeps its place and its column.
    Refused {
        kind: &'static str,
    },
}

impl Source {
    fn is_sampled(&self) -> bool {
        !matches!(self, Self::Fixed(_) | Self::Tied(_))
    }
}

/// The prior of a run: parameters in order of declaration, each with a distribution, a constant or a tie.
///
/// The builder methods never fail: what is wrong is kept and reported by [`Prior::validate`], which a run calls first.
///
/// ```
/// use livepoint::Prior;
/// # use ndarray::array;
/// let prior = Prior::new().uniform("x", -5.0..5.0).log_uniform("period", 1.0..100.0).fixed("jitter", 1.0);
/// assert_eq!((prior.n_dim(), prior.n_params()), (2, 3));
/// let theta = prior.unit_to_theta(array![[0.5, 0.5]].view())?;
/// assert_eq!(theta, array![[0.0, 10.0, 1.0]]);
/// # Ok::<(), livepoint::PriorError>(())
/// ```
#[derive(Clone, Default)]
pub struct Prior {
    names: Vec<String>,
    sources: Vec<Source>,
    periodic: HashSet<String>,
    blocks: Vec<Block>,
    problems: Vec<PriorError>,
}

/// Distributions of single parameters; each takes one dimension of the unit cube.
impl Prior {
    /// A prior without parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uniform on `range`.
    pub fn uniform(self, name: impl Into<String>, range: Range<f64>) -> Self {
        self.distribution(name, "uniform", Distribution::uniform(range))
    }

    /// Uniform on `range` with its two ends joined, such as a phase on `0.0..TAU`.
    ///
    /// Periodic parameters are plain uniform ones to the likelihood; samplers may shift them so that no mode is cut.
    pub fn periodic(self, name: impl Into<String>, range: Range<f64>) -> Self {
        let name = name.into();
        self.mark_periodic(name.clone()).distribution(name, "periodic", Distribution::uniform(range))
    }

    /// Uniform in the logarithm, density proportional to 1/x, on `range` above zero.
    pub fn log_uniform(self, name: impl Into<String>, range: Range<f64>) -> Self {
        self.distribution(name, "log_uniform", Distribution::log_uniform(range))
    }

    /// Normal with `mean` and standard deviation `sd`.
    pub fn normal(self, name: impl Into<String>, mean: f64, sd: f64) -> Self {
        self.distribution(name, "normal", Distribution::normal(mean, sd))
    }

    /// Normal with `mean` and standard deviation `sd` (both before truncation) restricted to `range`, of which either end may be infinite.
    pub fn truncated_normal(self, name: impl Into<String>, mean: f64, sd: f64, range: Range<f64>) -> Self {
        self.distribution(name, "truncated_normal", Distribution::truncated_normal(mean, sd, range))
    }

    /// Absolute value of a normal variable with mean zero and standard deviation `sd`.
    pub fn half_normal(self, name: impl Into<String>, sd: f64) -> Self {
        self.distribution(name, "half_normal", Distribution::half_normal(sd))
    }

    /// Exponential of a normal variable with mean `mu` and standard deviation `sigma`, both in units of the logarithm.
    pub fn log_normal(self, name: impl Into<String>, mu: f64, sigma: f64) -> Self {
        self.distribution(name, "log_normal", Distribution::log_normal(mu, sigma))
    }

    /// Exponential with mean `scale`: density `exp(-x / scale) / scale` on x > 0.
    ///
    /// The argument is the mean, as in scipy (`scale`) and bilby (`mu`), not the rate; for a rate give `1.0 / rate`.
    pub fn exponential(self, name: impl Into<String>, scale: f64) -> Self {
        self.distribution(name, "exponential", Distribution::exponential(scale))
    }

    /// Cauchy with median `location` and half width at half maximum `scale`.
    pub fn cauchy(self, name: impl Into<String>, location: f64, scale: f64) -> Self {
        self.distribution(name, "cauchy", Distribution::cauchy(location, scale))
    }

    /// Absolute value of a Cauchy variable with median zero and half width `scale`.
    pub fn half_cauchy(self, name: impl Into<String>, scale: f64) -> Self {
        self.distribution(name, "half_cauchy", Distribution::half_cauchy(scale))
    }

    /// Beta on (0, 1): density proportional to `x^(alpha - 1) (1 - x)^(beta - 1)`, both shapes up to 1e8.
    pub fn beta(self, name: impl Into<String>, alpha: f64, beta: f64) -> Self {
        self.distribution(name, "beta", Distribution::beta(alpha, beta))
    }

    /// Gamma on x > 0: density proportional to `x^(shape - 1) exp(-x / scale)`, mean `shape * scale`, shape up to 1e8.
    pub fn gamma(self, name: impl Into<String>, shape: f64, scale: f64) -> Self {
        self.distribution(name, "gamma", Distribution::gamma(shape, scale))
    }

    /// Student's t with `nu` degrees of freedom (any positive number), shifted by `location` and stretched by `scale`.
    pub fn student_t(self, name: impl Into<String>, nu: f64, location: f64, scale: f64) -> Self {
        self.distribution(name, "student_t", Distribution::student_t(nu, location, scale))
    }

    fn distribution(self, name: impl Into<String>, kind: &'static str, made: Result<Distribution, String>) -> Self {
        let name = name.into();
        match made {
            Ok(distribution) => self.push(name, Source::Distribution(distribution)),
            Err(problem) => {
                let refused = PriorError::BadParameter { name: name.clone(), kind, problem };
                self.push(name, Source::Refused { kind }).refuse(refused)
            }
        }
    }

    fn refuse(mut self, problem: PriorError) -> Self {
        self.problems.push(problem);
        self
    }

    fn push(mut self, name: String, source: Source) -> Self {
        if name.is_empty() {
            self.problems.push(PriorError::EmptyName { position: self.names.len() });
        } else if self.names.contains(&name) {
            self.problems.push(PriorError::DuplicateName { name: name.clone() });
        }
        self.names.push(name);
        self.sources.push(source);
        self
    }
}

/// Constants, ties and the user's own transforms.
impl Prior {
    /// A constant: a column of theta that takes no dimension of the unit cube.
    pub fn fixed(self, name: impl Into<String>, value: f64) -> Self {
        let name = name.into();
        if value.is_finite() {
            return self.push(name, Source::Fixed(value));
        }
        let problem = format!("the value is {value}; give a finite number");
        let refused = PriorError::BadParameter { name: name.clone(), kind: "fixed", problem };
        self.push(name, Source::Fixed(value)).refuse(refused)
    }

    /// The same value as parameter `target`, which may be declared before or after; takes no dimension of the unit cube.
    pub fn tied(self, name: impl Into<String>, target: impl Into<String>) -> Self {
        self.push(name.into(), Source::Tied(target.into()))
    }

    /// The user's own map of the unit cube for a block of parameters: dependent, joint and unusual priors.
    ///
    /// `transform` gets the block's columns of u, `[n_points, k]` with k the number of names, and returns their values in the same
    /// shape, either as `Array2<f64>` or as `Result<Array2<f64>, E>` for any `E: Display`. It must treat every row by itself, since a
    /// batch is cut into pieces. A panic, a wrong shape and values that are not finite become a [`PriorError`].
    ///
    /// ```
    /// use livepoint::Prior;
    /// use ndarray::{Array2, ArrayView2};
    /// // b is uniform between a and 1.
    /// let prior = Prior::new().transform(["a", "b"], |u: ArrayView2<f64>| -> Array2<f64> {
    ///     let mut theta = u.to_owned();
    ///     for mut row in theta.rows_mut() {
    ///         row[1] = row[0] + (1.0 - row[0]) * row[1];
    ///     }
    ///     theta
    /// });
    /// assert_eq!(prior.n_dim(), 2);
    /// ```
    pub fn transform<N, F, O>(mut self, names: N, transform: F) -> Self
    where
        N: IntoIterator<Item: Into<String>>,
        F: Fn(ArrayView2<'_, f64>) -> O + Send + Sync + 'static,
        O: BlockOutput,
    {
        let block = self.blocks.len();
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        self.blocks.push(Block::new(names.clone(), transform));
        for (column, name) in names.into_iter().enumerate() {
            self = self.push(name, Source::Block { block, column });
        }
        self
    }

    /// Marks a sampled parameter periodic: the two ends of its unit-cube coordinate are the same place.
    ///
    /// For parameters of a [`Prior::transform`] block; [`Prior::periodic`] says the same of a uniform one.
    pub fn mark_periodic(mut self, name: impl Into<String>) -> Self {
        self.periodic.insert(name.into());
        self
    }
}

/// Questions about the parameters.
impl Prior {
    /// Number of sampled parameters: the columns of u.
    pub fn n_dim(&self) -> usize {
        self.sources.iter().filter(|source| source.is_sampled()).count()
    }

    /// Number of all parameters, fixed and tied ones too: the columns of theta.
    pub fn n_params(&self) -> usize {
        self.names.len()
    }

    /// Names of all parameters in order of declaration: the columns of theta.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Names of the sampled parameters: the columns of u.
    pub fn sampled_names(&self) -> Vec<&str> {
        self.sampled().map(|(name, _)| name).collect()
    }

    /// Column of theta that holds parameter `name`; none if there is no such parameter.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// Columns of u whose two ends are the same place.
    pub fn periodic_dims(&self) -> Vec<usize> {
        self.sampled().enumerate().filter(|(_, (name, _))| self.periodic.contains(*name)).map(|(dim, _)| dim).collect()
    }

    fn sampled(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.names.iter().map(String::as_str).zip(&self.sources).filter(|(_, source)| source.is_sampled())
    }

    /// Reports the first thing wrong with the prior, if any.
    ///
    /// # Errors
    ///
    /// Empty or repeated names, numbers that describe no distribution (reversed or infinite ranges, scales that are not positive), ties to
    /// unknown parameters or in a circle, periodic marks on parameters that are not sampled, nothing to sample.
    pub fn validate(&self) -> Result<(), PriorError> {
        if let Some(problem) = self.problems.first() {
            return Err(problem.clone());
        }
        for column in 0..self.n_params() {
            self.resolve(column)?;
        }
        let mut marked: Vec<&String> = self.periodic.iter().collect();
        marked.sort();
        for name in marked {
            let column = self.index(name).ok_or_else(|| self.unknown("mark_periodic", name))?;
            if !self.sources[column].is_sampled() {
                let problem = "is fixed or tied and cannot be periodic; mark the parameter that it follows".into();
                return Err(PriorError::BadParameter { name: name.clone(), kind: "mark_periodic", problem });
            }
        }
        if self.n_dim() == 0 {
            return Err(PriorError::NothingToSample { n_params: self.n_params() });
        }
        Ok(())
    }

    fn unknown(&self, name: &str, target: &str) -> PriorError {
        PriorError::UnknownParameter { name: name.into(), target: target.into(), known: self.names.join(", ") }
    }

    /// The column whose value `column` takes: itself unless it is tied.
    fn resolve(&self, column: usize) -> Result<usize, PriorError> {
        let mut at = column;
        let mut chain = vec![column];
        while let Source::Tied(target) = &self.sources[at] {
            at = self.index(target).ok_or_else(|| self.unknown(&self.names[at], target))?;
            chain.push(at);
            if chain.len() > self.n_params() + 1 || at == column {
                let chain: Vec<&str> = chain.iter().map(|&c| self.names[c].as_str()).collect();
                return Err(PriorError::CircularTie { name: self.names[column].clone(), chain: chain.join(" -> ") });
            }
        }
        Ok(at)
    }
}

/// The map from the unit cube.
impl Prior {
    /// Maps points of the unit cube, `[n_points, n_dim]`, to parameter values, `[n_points, n_params]`.
    ///
    /// # Errors
    ///
    /// As [`Prior::transform_batch`].
    pub fn unit_to_theta(&self, u: ArrayView2<'_, f64>) -> Result<Array2<f64>, PriorError> {
        let mut theta = Array2::zeros((u.nrows(), self.n_params()));
        self.transform_batch(u, theta.view_mut())?;
        Ok(theta)
    }

    /// Maps points of the unit cube into `theta`: `u [n_points, n_dim]` to `theta [n_points, n_params]`.
    ///
    /// Every row is mapped by itself, so a batch may be cut anywhere and still gives the same bits. A coordinate of exactly 0 or 1 stands
    /// for the nearest number inside, and values beyond the range of f64 for its largest number: distributions give finite values only.
    /// Cost: one quantile for each row and sampled parameter.
    ///
    /// # Errors
    ///
    /// What [`Prior::validate`] reports, wrong shapes, coordinates outside [0, 1], and failures of the user's own transforms. The
    /// contents of `theta` are then unspecified.
    pub fn transform_batch(&self, u: ArrayView2<'_, f64>, mut theta: ArrayViewMut2<'_, f64>) -> Result<(), PriorError> {
        self.validate()?;
        expect_shape("u", u.dim(), (u.nrows(), self.n_dim()))?;
        expect_shape("theta", theta.dim(), (u.nrows(), self.n_params()))?;
        for (dim, (name, _)) in self.sampled().enumerate() {
            if let Some((row, &value)) = u.column(dim).indexed_iter().find(|(_, u)| !(0.0..=1.0).contains(*u)) {
                return Err(PriorError::OutsideCube { name: name.into(), row, value });
            }
        }
        let mut dim = 0;
        for (column, source) in self.sources.iter().enumerate() {
            match source {
                Source::Distribution(distribution) => {
                    theta
                        .column_mut(column)
                        .zip_mut_with(&u.column(dim), |theta, &u| *theta = distribution.quantile(u));
                }
                Source::Block { block, column: 0 } => {
                    let block = &self.blocks[*block];
                    let width = block.names().len();
                    let values = block.apply(u.slice(s![.., dim..dim + width]))?;
                    theta.slice_mut(s![.., column..column + width]).assign(&values);
                }
                Source::Fixed(value) => theta.column_mut(column).fill(*value),
                Source::Block { .. } | Source::Tied(_) | Source::Refused { .. } => {}
            }
            dim += usize::from(source.is_sampled());
        }
        for column in 0..self.n_params() {
            let origin = self.resolve(column)?;
            if origin != column {
                let (mut to, from) = theta.multi_slice_mut((s![.., column], s![.., origin]));
                to.assign(&from);
            }
        }
        Ok(())
    }
}

fn expect_shape(what: &str, found: (usize, usize), expected: (usize, usize)) -> Result<(), PriorError> {
    if found == expected { Ok(()) } else { Err(PriorError::Shape { what: what.into(), found, expected }) }
}
