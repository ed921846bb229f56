//! The posterior: weighted draws, equal-weight draws and a summary table.

use std::collections::HashSet;
use std::fmt;

use ndarray::{Array2, ArrayView1, Axis};
use serde::Serialize;

use crate::math::{log_sum_exp, weighted_quantiles};
use crate::rng::Stream;

/// The substream of a seed that resampling draws from.
const RESAMPLE: u64 = 0x706f_7374;

/// Why a posterior could not be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PosteriorError {
    /// Parts of different length.
    #[error("{what} has {found} entries where {expected} are needed; give one per {per} of the rows")]
    Length {
        /// Which part.
        what: &'static str,
        /// What it should match.
        per: &'static str,
        /// Entries needed.
        expected: usize,
        /// Entries given.
        found: usize,
    },
    /// Two columns of the same name.
    #[error("two columns are named \"{name}\"; rename the parameter or the derived value")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A weight that is no weight.
    #[error("the log weight of point {row} is {value}; it must be finite or -inf")]
    Weight {
        /// Index of the point.
        row: usize,
        /// Its log weight.
        value: f64,
    },
    /// Nothing to draw from.
    #[error("none of the {n_points} points has any weight; check that log L is above -inf somewhere in the prior")]
    Empty {
        /// Number of points.
        n_points: usize,
    },
}

/// Weighted draws from the posterior.
#[derive(Debug, Clone, PartialEq)]
pub struct Posterior {
    names: Vec<String>,
    rows: Array2<f64>,
    log_weight: Vec<f64>,
    log_l: Vec<f64>,
}

impl Posterior {
    /// Puts draws together.
    ///
    /// # Shapes
    /// `names [n_columns]`: parameters, then derived values. `rows [n_points, n_columns]`, `log_weight [n_points]` with any
    /// normalisation (it is normalised here), `log_l [n_points]`.
    ///
    /// # Errors
    /// Parts of different length, a name used twice, a weight of NaN or +inf, no point with weight.
    pub fn new(
        names: Vec<String>,
        rows: Array2<f64>,
        mut log_weight: Vec<f64>,
        log_l: Vec<f64>,
    ) -> Result<Self, PosteriorError> {
        let (n_points, n_columns) = rows.dim();
        for (what, per, found, expected) in [
            ("names", "column", names.len(), n_columns),
            ("log_weight", "row", log_weight.len(), n_points),
            ("log_l", "row", log_l.len(), n_points),
        ] {
            if found != expected {
                return Err(PosteriorError::Length { what, per, expected, found });
            }
        }
        let mut seen = HashSet::new();
        if let Some(name) = names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(PosteriorError::Duplicate { name: name.clone() });
        }
        if let Some(row) = log_weight.iter().position(|&value| value.is_nan() || value == f64::INFINITY) {
            return Err(PosteriorError::Weight { row, value: log_weight[row] });
        }
        let total = log_sum_exp(&log_weight);
        if total == f64::NEG_INFINITY {
            return Err(PosteriorError::Empty { n_points });
        }
        log_weight.iter_mut().for_each(|value| *value -= total);
        Ok(Self { names, rows, log_weight, log_l })
    }

    /// A posterior without draws.
    pub(crate) fn empty(names: Vec<String>) -> Self {
        let rows = Array2::zeros((0, names.len()));
        Self { names, rows, log_weight: Vec::new(), log_l: Vec::new() }
    }

    /// Names of the columns, `[n_columns]`: parameters in the order of declaration, then derived values.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The draws, `[n_points, n_columns]`.
    pub fn rows(&self) -> &Array2<f64> {
        &self.rows
    }

    /// Weights of the draws, `[n_points]`, with sum 1. Computed anew by each call.
    pub fn weights(&self) -> Vec<f64> {
        self.log_weight.iter().map(|value| value.exp()).collect()
    }

    /// Natural logarithms of the weights, `[n_points]`; -inf for a draw without weight.
    pub fn log_weights(&self) -> &[f64] {
        &self.log_weight
    }

    /// log L of the draws, `[n_points]`.
    pub fn log_l(&self) -> &[f64] {
        &self.log_l
    }

    /// The values of one column, `[n_points]`; none if there is no such name.
    pub fn column(&self, name: &str) -> Option<ArrayView1<'_, f64>> {
        Some(self.rows.column(self.names.iter().position(|own| own == name)?))
    }

    /// Kish's effective sample size, `(sum w)^2 / sum w^2`. Means nothing for a posterior without rows.
    pub fn ess_kish(&self) -> f64 {
        if self.log_weight.is_empty() {
            return 0.0;
        }
        // The sum of weights is 1.
        1.0 / self.log_weight.iter().map(|value| (2.0 * value).exp()).sum::<f64>()
    }

    /// Rows with equal weights, `[n, n_columns]`, any number of them, in random order.
    ///
    /// Systematic resampling with replacement (Kitagawa 1996): a draw of weight w comes floor(n w) or ceil(n w) times, n w times
    /// on average over seeds, so more rows than [`ess_kish`](Self::ess_kish) repeat draws and add no information.
    /// The same seed gives the same rows; a posterior without draws gives none.
    pub fn equal_weights(&self, n: usize, seed: u64) -> Array2<f64> {
        self.rows.select(Axis(0), &self.equal_weight_indices(n, seed))
    }

    /// Which draws [`equal_weights`](Self::equal_weights) takes, `[n]`: indices into rows, weights and log L.
    pub fn equal_weight_indices(&self, n: usize, seed: u64) -> Vec<usize> {
        let weights = self.weights();
        if weights.is_empty() {
            return Vec::new();
        }
        let total: f64 = weights.iter().sum();
        let mut draw = Stream::new(seed).substream(RESAMPLE).at(0);
        let offset = draw.uniform();
        let mut indices = Vec::with_capacity(n);
        let (mut sum, mut last) = (0.0, 0);
        for (i, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            (sum, last) = (sum + weight, i);
            while indices.len() < n && (indices.len() as f64 + offset) * total < sum * n as f64 {
                indices.push(i);
            }
        }
        // Rounding may leave the last position a hair above the total.
        indices.resize(n, last);
        // Systematic resampling yields them in the order of the draws; readers of a file expect none.
        draw.shuffle(&mut indices);
        indices
    }

    /// Weighted mean of a column; draws where it is NaN do not count. None if there is no such name.
    pub fn mean(&self, name: &str) -> Option<f64> {
        Some(self.values(self.column(name)?).moments().0)
    }

    /// Weighted standard deviation of a column (the posterior's, not the error of its mean), as for [`mean`](Self::mean).
    pub fn sd(&self, name: &str) -> Option<f64> {
        Some(self.values(self.column(name)?).moments().1)
    }

    /// The smallest value of a column with at least `q` of the weight at or below it, as for [`mean`](Self::mean).
    ///
    /// None also if `q` is outside 0 to 1. Sorts the column.
    pub fn quantile(&self, name: &str, q: f64) -> Option<f64> {
        let values = self.values(self.column(name)?);
        (0.0..=1.0).contains(&q).then(|| values.quantiles(&[q])[0])
    }

    /// Mean, standard deviation, median and central intervals of every column. Sorts every column.
    pub fn summary(&self) -> Summary {
        // Central intervals of 68 % and 95 %.
        const QUANTILES: [f64; 5] = [0.5, 0.16, 0.84, 0.025, 0.975];
        let columns = self.names.iter().zip(self.rows.columns()).map(|(name, column)| {
            let values = self.values(column);
            let ((mean, sd), q) = (values.moments(), values.quantiles(&QUANTILES));
            ColumnSummary {
                name: name.clone(),
                mean,
                sd,
                median: q[0],
                interval_68: [q[1], q[2]],
                interval_95: [q[3], q[4]],
                undefined: values.undefined,
            }
        });
        Summary { n_points: self.rows.nrows(), ess: self.ess_kish(), columns: columns.collect() }
    }

    /// The values of a column that count: those with weight that are not NaN.
    fn values(&self, column: ArrayView1<f64>) -> Values {
        let mut values = Values { value: Vec::new(), weight: Vec::new(), undefined: 0.0 };
        for (&value, weight) in column.iter().zip(self.weights()) {
            if value.is_nan() {
                values.undefined += weight;
            } else if weight > 0.0 {
                values.value.push(value);
                values.weight.push(weight);
            }
        }
        values
    }
}

/// Weighted values without NaN and without zero weights.
struct Values {
    value: Vec<f64>,
    weight: Vec<f64>,
    undefined: f64,
}

impl Values {
    /// Mean and standard deviation; NaN if there is no value.
    fn moments(&self) -> (f64, f64) {
        let Some(&origin) = self.value.first() else { return (f64::NAN, f64::NAN) };
        let total: f64 = self.weight.iter().sum();
        let average = |f: &dyn Fn(f64) -> f64| {
            self.value.iter().zip(&self.weight).map(|(&value, weight)| weight * f(value)).sum::<f64>() / total
        };
        // Relative to one of the values: a constant column has exactly that mean and no deviation.
        let mean = origin + average(&|value| value - origin);
        (mean, average(&|value| (value - mean).powi(2)).sqrt())
    }

    fn quantiles(&self, q: &[f64]) -> Vec<f64> {
        weighted_quantiles(&self.value, &self.weight, q)
    }
}

/// What a posterior says about each column; prints as an aligned table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Number of draws.
    pub n_points: usize,
    /// Kish's effective sample size.
    pub ess: f64,
    /// One entry per column.
    pub columns: Vec<ColumnSummary>,
}

/// What a posterior says about one column.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ColumnSummary {
    /// Name of the parameter or derived value.
    pub name: String,
    /// Mean.
    pub mean: f64,
    /// Standard deviation; 0 for a fixed parameter.
    pub sd: f64,
    /// Median.
    pub median: f64,
    /// Central 68 % interval: the 16 % and 84 % quantiles.
    pub interval_68: [f64; 2],
    /// Central 95 % interval: the 2.5 % and 97.5 % quantiles.
    pub interval_95: [f64; 2],
    /// Posterior weight of the draws where the value is NaN; they count in nothing else.
    pub undefined: f64,
}

/// How the numbers of one column are written: all with the same decimals, and a common power of ten where they are
/// very large or very small.
struct Digits {
    decimals: usize,
    power: i32,
}

/// Most decimals that a number is printed with: f64 has no more.
const MAX_DECIMALS: i32 = 16;

impl Digits {
    /// Two significant digits of `sd`, and the other numbers to the same place.
    fn new(mean: f64, sd: f64) -> Self {
        let size = exponent(mean.abs().max(sd));
        let power = if (-4..7).contains(&size) { 0 } else { size };
        Self { decimals: (1 - exponent(sd) + power).clamp(0, MAX_DECIMALS) as usize, power }
    }

    fn number(&self, value: f64) -> String {
        let text = format!("{:.*}", self.decimals, value / 10f64.powi(self.power));
        // Minus zero is a rounding remnant.
        match text.strip_prefix('-') {
            Some(rest) if rest.bytes().all(|byte| matches!(byte, b'0' | b'.')) => rest.to_owned(),
            _ => text,
        }
    }

    fn with_power(&self, text: String) -> String {
        if self.power == 0 { text } else { format!("{text}e{}", self.power) }
    }

    fn interval(&self, [low, high]: [f64; 2]) -> String {
        self.with_power(format!("[{}, {}]", self.number(low), self.number(high)))
    }
}

/// Decimal exponent of a positive number after rounding to two significant digits; 0 for anything else.
fn exponent(value: f64) -> i32 {
    format!("{value:.1e}").split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0)
}

impl ColumnSummary {
    /// The cells of the table: mean and deviation, median, intervals.
    fn cells(&self) -> [String; 4] {
        if self.sd.is_nan() || self.sd.is_infinite() || self.mean.is_infinite() {
            let plain = |value: f64| format!("{value:.6}");
            let interval = |[low, high]: [f64; 2]| format!("[{}, {}]", plain(low), plain(high));
            return [
                format!("{} ± {}", plain(self.mean), plain(self.sd)),
                plain(self.median),
                interval(self.interval_68),
                interval(self.interval_95),
            ];
        }
        if self.sd == 0.0 {
            return [format!("{:?} (fixed)", self.mean), String::new(), String::new(), String::new()];
        }
        let digits = Digits::new(self.mean, self.sd);
        let both = format!("{} ± {}", digits.number(self.mean), digits.number(self.sd));
        [
            if digits.power == 0 { both } else { digits.with_power(format!("({both})")) },
            digits.with_power(digits.number(self.median)),
            digits.interval(self.interval_68),
            digits.interval(self.interval_95),
        ]
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} points, effective sample size {:.0}", self.n_points, self.ess)?;
        let mut table = vec![["", "mean ± sd", "median", "68 %", "95 %"].map(str::to_owned)];
        table.extend(self.columns.iter().map(|column| {
            let [mean, median, narrow, wide] = column.cells();
            [column.name.clone(), mean, median, narrow, wide]
        }));
        let width = |cell: usize| table.iter().map(|row| row[cell].chars().count()).max().unwrap_or(0);
        let widths = [0, 1, 2, 3, 4].map(width);
        for (i, row) in table.iter().enumerate() {
            let mut line = format!("{:<1$}", row[0], widths[0]);
            for (cell, width) in row.iter().zip(widths).skip(1) {
                line += &format!("  {cell:>width$}");
            }
            if let Some(column) = i.checked_sub(1).and_then(|i| self.columns.get(i)).filter(|c| c.undefined > 0.0) {
                line += &format!("  (undefined for {:.2} % of the posterior)", 100.0 * column.undefined);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
