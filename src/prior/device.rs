//! How a device makes each column of theta.

use super::distribution::Distribution;
use super::{Prior, Source};
use crate::kernel::Column;

/// Sizes of numbers whose products and quotients stay well inside f32.
const F32_RANGE: std::ops::Range<f64> = 1e-15..1e15;

impl Prior {
    /// The plan of every column of theta, `[n_params]`; columns without a short f32 form are left to the host.
    ///
    /// A prior that [`validate`](Prior::validate) refuses has no plan; ties of it that lead nowhere are left to the host.
    pub(crate) fn columns(&self) -> Vec<Column> {
        let column = |(k, source): (usize, &Source)| match source {
            Source::Distribution(distribution) => of(distribution),
            Source::Fixed(value) => Column::Fixed(*value),
            Source::Tied(_) => self.resolve(k).map_or(Column::Host, Column::Tied),
            Source::Block { .. } | Source::Refused { .. } => Column::Host,
        };
        self.sources.iter().enumerate().map(column).collect()
    }
}

fn of(distribution: &Distribution) -> Column {
    let values: Vec<f64> = distribution.parameters.iter().map(|(_, value)| *value).collect();
    if values.iter().any(|value| *value != 0.0 && !F32_RANGE.contains(&value.abs())) {
        return Column::Host;
    }
    match (distribution.kind, &values[..]) {
        ("uniform", &[lo, hi]) => Column::Uniform { lo, hi },
        ("log_uniform", &[lo, hi]) => Column::LogUniform { lo, hi },
        ("normal", &[mean, sd]) => Column::Normal { mean, sd },
        ("half_normal", &[sd]) => Column::HalfNormal { sd },
        ("log_normal", &[mu, sigma]) => Column::LogNormal { mu, sigma },
        ("exponential", &[scale]) => Column::Exponential { scale },
        ("cauchy", &[location, scale]) => Column::Cauchy { location, scale },
        ("half_cauchy", &[scale]) => Column::HalfCauchy { scale },
        _ => Column::Host,
    }
}
