//! What the text, the data and the constants of a WGSL likelihood become on a device.

use std::collections::HashSet;

use nalgebra::DMatrix;

use super::EvaluationError;
use super::wgsl::{Item, Kind, WgslLikelihood};
use crate::kernel::{BufferData, EvaluateOptions, Signature, generated, is_name, literal};

/// Spread of a column, relative to its largest value, below which it counts as constant.
const CONSTANT: f64 = 1e-12;

/// A tolerance of data from here on says that the user knows of dates.
const DATE_TOLERANCE: f64 = 1e-5;

/// Largest covariance matrix: its residuals are an array of every invocation.
const MOST_ROWS: usize = 128;

impl WgslLikelihood {
    /// The kernel's options for `n_params` parameters, and the form of the likelihood.
    ///
    /// # Errors
    /// Data that f32 cannot hold, names that WGSL does not take, text that does not validate.
    pub(super) fn prepare(&self, n_params: usize) -> Result<(EvaluateOptions, Signature), EvaluationError> {
        let mut options = EvaluateOptions {
            user: self.text.clone(),
            declarations: String::new(),
            buffers: Vec::new(),
            n_derived: self.derived.len(),
            n_terms: self.n_terms,
        };
        if self.n_terms == Some(0) {
            return Err(data("sum_over(0)", "a sum of no terms is no likelihood; give the number of data"));
        }
        let mut taken = HashSet::new();
        for item in &self.items {
            for name in item.names() {
                if !taken.insert(name.clone()) || !is_name(&name) {
                    let problem = "it is taken: by something before it, by the library, or by WGSL itself; choose another word of letters, \
                                   digits and underscores that does not begin with lp_";
                    return Err(data(&format!("name `{name}` (of `{}`)", item.name), problem));
                }
            }
            self.add(item, &mut options)?;
        }
        let signature = options.signature(n_params)?;
        Ok((options, signature))
    }

    fn add(&self, Item { name, kind }: &Item, options: &mut EvaluateOptions) -> Result<(), EvaluationError> {
        let capitals = name.to_uppercase();
        match kind {
            Kind::Constant(value) => {
                let value = self.narrow(&format!("constant `{name}`"), &[*value])?[0];
                options.declarations += &format!("const {name}: f32 = {};\n", literal(value));
            }
            Kind::Data(rows) => {
                let what = format!("data `{name}`");
                if rows.values.is_empty() || rows.width == 0 {
                    return Err(data(&what, "there are none; leave it out, or give at least one number"));
                }
                let values = if rows.width == 1 {
                    self.narrow(&what, &rows.values)?
                } else {
                    for k in 0..rows.width {
                        let column: Vec<f64> = rows.values.iter().skip(k).step_by(rows.width).copied().collect();
                        self.narrow(&format!("column {k} of {what}"), &column)?;
                    }
                    rows.values.iter().map(|&x| x as f32).collect()
                };
                let element = if rows.width == 1 { "f32".to_owned() } else { format!("array<f32, {}>", rows.width) };
                let before = format!("const N_{capitals}: u32 = {}u;", rows.values.len() / rows.width);
                let rows = rows.values.len() / rows.width;
                options.buffers.push(BufferData { name: name.clone(), before, element, values, rows });
            }
            Kind::Table(columns) => self.add_table(name, columns, options)?,
            Kind::Interpolant { x, y } => {
                let what = format!("interpolant `{name}`");
                if x.len() != y.len() || x.len() < 2 {
                    let problem = format!(
                        "{} x and {} y; give two or more of each, as many of one as of the other",
                        x.len(),
                        y.len()
                    );
                    return Err(data(&what, &problem));
                }
                if !x.windows(2).all(|pair| (pair[0] as f32) < pair[1] as f32) {
                    return Err(data(
                        &what,
                        "x must rise from point to point, also after rounding to f32; sort and thin it",
                    ));
                }
                let buffers = [("x", x), ("y", y)].map(|(axis, values)| (format!("lp_{name}_{axis}"), axis, values));
                for (buffer, axis, values) in buffers {
                    let values = self.narrow(&format!("{axis} of {what}"), values)?;
                    options.buffers.push(BufferData {
                        name: buffer,
                        before: String::new(),
                        element: "f32".into(),
                        values,
                        rows: 0,
                    });
                }
                options.declarations +=
                    &generated::interpolant(name, x.len(), &format!("lp_{name}_x"), &format!("lp_{name}_y"));
            }
            Kind::Covariance(matrix) => {
                let what = format!("covariance `{name}`");
                let n = matrix.nrows();
                if n == 0 || n != matrix.ncols() || n > MOST_ROWS {
                    let problem =
                        format!("it is {} by {}; give a square one of 1 to {MOST_ROWS} rows", n, matrix.ncols());
                    return Err(data(&what, &problem));
                }
                let square = DMatrix::from_row_iterator(n, n, matrix.iter().copied());
                let symmetric = (&square - square.transpose()).amax() <= 1e-9 * square.amax();
                let Some(factor) = square.cholesky().filter(|_| symmetric) else {
                    return Err(data(
                        &what,
                        "it is not symmetric and positive definite; check it, or add a small value to its diagonal",
                    ));
                };
                let factor = factor.l();
                let log_det: f64 = factor.diagonal().iter().map(|x| 2.0 * x.ln()).sum();
                let packed: Vec<f32> = (0..n)
                    .flat_map(|i| (0..=i).map(move |j| (i, j)))
                    .map(|(i, j)| if i == j { 1.0 / factor[(i, i)] } else { factor[(i, j)] } as f32)
                    .collect();
                if !packed.iter().all(|x| x.is_finite()) || !log_det.is_finite() {
                    return Err(data(&what, "its factor leaves the range of f32; change the unit of the data"));
                }
                let buffer = format!("lp_{name}_factor");
                options.declarations += &format!("const {capitals}_LOG_DET: f32 = {};\n", literal(log_det as f32));
                options.declarations += &generated::covariance(name, n, &buffer);
                options.buffers.push(BufferData {
                    name: buffer,
                    before: String::new(),
                    element: "f32".into(),
                    values: packed,
                    rows: 0,
                });
            }
        }
        Ok(())
    }

    fn add_table(
        &self,
        name: &str,
        columns: &[(String, Vec<f64>)],
        options: &mut EvaluateOptions,
    ) -> Result<(), EvaluationError> {
        let what = format!("table `{name}`");
        let n_rows = columns.first().map_or(0, |(_, values)| values.len());
        if n_rows == 0 {
            return Err(data(&what, "it has no rows; give at least one"));
        }
        let mut narrow = Vec::new();
        for (column, values) in columns {
            if !is_name(column) {
                return Err(data(
                    &format!("column `{column}` of {what}"),
                    "WGSL does not take the name; choose another",
                ));
            }
            if values.len() != n_rows {
                let problem = format!(
                    "{} rows, but the first column has {n_rows}; give all columns the same length",
                    values.len()
                );
                return Err(data(&format!("column `{column}` of {what}"), &problem));
            }
            narrow.push(self.narrow(&format!("column `{column}` of {what}"), values)?);
        }
        let fields: Vec<String> = columns.iter().map(|(column, _)| format!("{column}: f32")).collect();
        let before = format!(
            "struct lp_row_{name} {{ {} }}\nconst N_{}: u32 = {n_rows}u;",
            fields.join(", "),
            name.to_uppercase()
        );
        let values = (0..n_rows).flat_map(|row| narrow.iter().map(move |column| column[row])).collect();
        options.buffers.push(BufferData {
            name: name.to_owned(),
            before,
            element: format!("lp_row_{name}"),
            values,
            rows: n_rows,
        });
        Ok(())
    }

    /// The values in f32, if that leaves enough of them.
    fn narrow(&self, what: &str, values: &[f64]) -> Result<Vec<f32>, EvaluationError> {
        if let Some(k) = values.iter().position(|x| x.is_nan() || x.abs() > f64::from(f32::MAX)) {
            let problem =
                format!("value {k} is {:?}, which f32 cannot hold; leave it out or change its unit", values[k]);
            return Err(data(what, &problem));
        }
        let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), &x| (low.min(x), high.max(x)));
        if low == high && is_date(low) && self.tolerance < DATE_TOLERANCE {
            return Err(data(
                what,
                &format!(
                    "{low:?} reads as a Julian date, and f32 moves it by {:.1} minutes; subtract an offset from all times, or allow it with \
                     .data_tolerance(..)",
                    1440.0 * (low - f64::from(low as f32)).abs()
                ),
            ));
        }
        let (spread, largest) = (high - low, low.abs().max(high.abs()));
        let error = values.iter().map(|&x| (x - f64::from(x as f32)).abs()).fold(0.0, f64::max);
        if spread > CONSTANT * largest && error > self.tolerance * spread {
            let problem = format!(
                "f32 moves its values by up to {error:.1e}, which is {:.1e} of their spread {spread:.6}; subtract an offset, such as {:?}, from \
                 the column (and in the model), or allow it with .data_tolerance(..)",
                error / spread,
                (0.5 * (low + high)).round()
            );
            return Err(data(what, &problem));
        }
        Ok(values.iter().map(|&x| x as f32).collect())
    }
}

/// Whether a number looks like a Julian date (of 1858 to 2405) that f32 cannot hold. Alone, without others to compare it with, a date is the
/// one number of science whose leading digits mean nothing.
pub(super) fn is_date(x: f64) -> bool {
    (2.4e6..2.6e6).contains(&x) && f64::from(x as f32) != x
}

fn data(what: &str, problem: &str) -> EvaluationError {
    EvaluationError::Data { what: what.to_owned(), problem: problem.to_owned() }
}
