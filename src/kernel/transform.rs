//! The prior transform as the device does it: a plan for each column of theta, its WGSL text, and the coordinates that travel.

use std::fmt::Write;

/// Smallest tail probability that travels: the smallest normal f32, well below what f64 coordinates of the cube reach in practice.
const SMALLEST: f64 = f32::MIN_POSITIVE as f64;

/// How one column of theta is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Column {
    /// Mapped by the host in f64: its value travels.
    Host,
    /// A constant.
    Fixed(f64),
    /// The value of an earlier or later column.
    Tied(usize),
    Uniform {
        lo: f64,
        hi: f64,
    },
    LogUniform {
        lo: f64,
        hi: f64,
    },
    Normal {
        mean: f64,
        sd: f64,
    },
    HalfNormal {
        sd: f64,
    },
    LogNormal {
        mu: f64,
        sigma: f64,
    },
    Exponential {
        scale: f64,
    },
    Cauchy {
        location: f64,
        scale: f64,
    },
    HalfCauchy {
        scale: f64,
    },
}

impl Column {
    /// Whether the device makes all 48 bits of a pair of it.
    fn is_exact(self) -> bool {
        matches!(self, Self::Host | Self::Fixed(_) | Self::Tied(_) | Self::Uniform { .. })
    }

    /// Whether a value of it travels.
    pub(crate) fn travels(self) -> bool {
        !matches!(self, Self::Fixed(_) | Self::Tied(_))
    }
}

/// How every column of theta is made, `[n_params]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TransformPlan {
    pub(crate) columns: Vec<Column>,
    /// Both parts of theta are used.
    pairs: bool,
}

impl TransformPlan {
    /// With `pairs`, columns that the device would make in f32 only are left to the host.
    pub(crate) fn new(columns: Vec<Column>, pairs: bool) -> Self {
        let exact = |column: Column| if pairs && !column.is_exact() { Column::Host } else { column };
        Self { columns: columns.into_iter().map(exact).collect(), pairs }
    }

    /// Columns whose values travel.
    pub(crate) fn n_travelling(&self) -> usize {
        self.columns.iter().filter(|column| column.travels()).count()
    }

    /// Whether the host maps any column.
    pub(crate) fn needs_host(&self) -> bool {
        self.columns.contains(&Column::Host)
    }

    /// `fn lp_theta(row, hi, lo)`, which reads `lp_in`, column after column of `lp_batch.stride` pairs, from row `lp_batch.first` on.
    pub(crate) fn wgsl(&self) -> String {
        let mut text =
            "fn lp_theta(row: u32, hi: ptr<function, Theta>, lo: ptr<function, Theta>) {\n    var x: vec2<f32>;\n"
                .to_owned();
        let mut input = 0;
        for (k, column) in self.columns.iter().enumerate() {
            let t = format!("lp_in[{input}u * lp_batch.stride + lp_batch.first + row]");
            let one = |call: String| format!("vec2<f32>({call}, 0.0)");
            let value = match *column {
                Column::Host => t,
                Column::Fixed(value) => literal_pair(value),
                Column::Tied(_) => continue,
                Column::Uniform { lo, hi } => {
                    let ends = [lo, hi].map(|end| pair(end).map(f64::from).iter().sum::<f64>());
                    let width = literal_pair(ends[1] - ends[0]);
                    let x = format!("lp_uniform({t}, {}, {}, {width})", literal_pair(lo), literal_pair(hi));
                    if self.pairs { x } else { one(inside(&format!("{x}.x"), lo, hi)) }
                }
                Column::LogUniform { lo, hi } => {
                    let ends = [lo as f32, hi as f32];
                    let log_ratio = literal_pair((f64::from(ends[1]) / f64::from(ends[0])).ln());
                    let [low, high] = ends.map(literal);
                    one(inside(&format!("lp_log_uniform({t}, {low}, {high}, {log_ratio})"), lo, hi))
                }
                Column::Normal { mean, sd } => one(call("lp_normal", &t, &[mean, sd])),
                Column::HalfNormal { sd } => one(call("lp_half_normal", &t, &[sd])),
                Column::LogNormal { mu, sigma } => one(call("lp_log_normal", &t, &[mu, sigma])),
                Column::Exponential { scale } => one(call("lp_exponential", &t, &[scale])),
                Column::Cauchy { location, scale } => one(call("lp_cauchy", &t, &[location, scale])),
                Column::HalfCauchy { scale } => one(call("lp_half_cauchy", &t, &[scale])),
            };
            input += usize::from(column.travels());
            // Writing to a String cannot fail.
            let _ = writeln!(text, "    x = {value};\n    (*hi)[{k}] = x.x;\n    (*lo)[{k}] = x.y;");
        }
        for (k, column) in self.columns.iter().enumerate() {
            if let Column::Tied(origin) = column {
                let _ = writeln!(text, "    (*hi)[{k}] = (*hi)[{origin}];\n    (*lo)[{k}] = (*lo)[{origin}];");
            }
        }
        text + "}\n"
    }
}

/// `x` held inside the half-open range in f32: rounding must not reach an end where the likelihood has none, such as an eccentricity of 1.
fn inside(x: &str, lo: f64, hi: f64) -> String {
    let (mut low, mut high) = (lo as f32, hi as f32);
    if f64::from(low) < lo {
        low = low.next_up();
    }
    if f64::from(high) >= hi {
        high = high.next_down();
    }
    format!("clamp({x}, {}, {})", literal(low), literal(high.max(low)))
}

fn call(function: &str, t: &str, arguments: &[f64]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|&x| literal(x as f32)).collect();
    format!("{function}({t}, {})", arguments.join(", "))
}

/// Steps of f32 across a range at its end that is farther from zero.
pub(crate) fn steps_across(lo: f64, hi: f64) -> f64 {
    let far = lo.abs().max(hi.abs()) as f32;
    (hi - lo) / f64::from(far.next_up() - far)
}

/// A finite f32 as WGSL writes it, to the last bit.
pub(crate) fn literal(x: f32) -> String {
    if x == 0.0 || x.is_normal() { format!("{x:?}f") } else { format!("bitcast<f32>({}u)", x.to_bits()) }
}

fn literal_pair(x: f64) -> String {
    let [hi, lo] = pair(x);
    format!("vec2<f32>({}, {})", literal(hi), literal(lo))
}

/// A value as the sum of two f32: 48 bits of it; the ends of f32 for what lies beyond them.
pub(crate) fn pair(x: f64) -> [f32; 2] {
    let hi = x.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
    let lo = (x - f64::from(hi)) as f32;
    [hi, if hi.abs() < f32::MAX { lo } else { 0.0 }]
}

/// A coordinate of the unit cube as it travels: the probability of the nearer tail, negative for the upper one, as a pair.
///
/// Both tails keep their digits that way, which u itself would lose near 1.
pub(crate) fn tail_pair(u: f64) -> [f32; 2] {
    // 1 - u is exact for u above 1/2.
    pair(if u <= 0.5 { u.max(SMALLEST) } else { -(1.0 - u).max(SMALLEST) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_hold_48_bits_and_saturate() {
        for x in [0.1, -1.0 / 3.0, 2_453_000.123_456, 1e-30, 0.0] {
            let [hi, lo] = pair(x);
            assert!((f64::from(hi) + f64::from(lo) - x).abs() <= x.abs() * 2f64.powi(-47), "{x}");
        }
        assert_eq!(pair(1e300), [f32::MAX, 0.0]);
        assert_eq!(pair(-1e300), [f32::MIN, 0.0]);
    }

    #[test]
    fn tails_keep_their_side_and_their_digits() {
        for u in [0.0, 1e-300, 1e-20, 0.3, 0.5, 0.7, 1.0 - 1e-15, 1.0] {
            let [hi, lo] = tail_pair(u);
            let t = f64::from(hi) + f64::from(lo);
            assert!(t.abs() >= SMALLEST && t.abs() <= 0.5 && (t > 0.0) == (u <= 0.5), "{u}: {t}");
            let tail = if u <= 0.5 { u } else { 1.0 - u };
            assert!((t.abs() - tail).abs() <= SMALLEST.max(tail * 2f64.powi(-47)), "{u}: {t}");
        }
    }
}
