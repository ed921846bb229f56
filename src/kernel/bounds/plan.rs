//! Bounds as a device gets them: plain numbers, and how they are laid out for the shaders.

/// A number of the unit cube in fixed point: 64 bits, of which the last eleven of a position are zero.
pub(crate) fn fixed(x: f64) -> u64 {
    // 2^64 x is exact, and the conversion saturates.
    (x * 18_446_744_073_709_551_616.0) as u64
}

/// A position on the grid of the device, which 53 bits hold.
pub(crate) fn to_position(x: f64) -> u64 {
    fixed(x) & !0x7ff
}

/// The number that a position stands for, exactly.
pub(crate) fn from_position(position: u64) -> f64 {
    (position >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

pub(super) fn words(fixed: u64) -> [u32; 2] {
    [(fixed >> 32) as u32, fixed as u32]
}

/// An ellipsoid over some dimensions times the full range over the others.
#[derive(Debug, Clone)]
pub(crate) struct EllipsoidPlan {
    /// The dimensions of the ellipsoid, `k` of them, ascending; then those of the cube.
    pub dims: Vec<usize>,
    pub k: usize,
    /// `[k]`
    pub centre: Vec<f64>,
    /// Half-widths of the box around it, `[k]`.
    pub half_widths: Vec<f64>,
    /// Lower triangles, row after row: to the frame, in which the ellipsoid is the unit ball, and back.
    pub inverse: Vec<f64>,
    pub factor: Vec<f64>,
}

/// The networks of a cluster and what surrounds them.
#[derive(Debug, Clone)]
pub(crate) struct EmulatorPlan {
    /// Coefficients of the surface, if there is one, and whether mixed terms are among them.
    pub surface: Option<(Vec<f32>, bool)>,
    pub mean: f32,
    pub deviation: f32,
    /// For each cell.
    pub thresholds: Vec<f32>,
}

/// A region around one mode.
#[derive(Debug, Clone)]
pub(crate) struct ClusterPlan {
    pub ellipsoid: EllipsoidPlan,
    pub emulator: Option<EmulatorPlan>,
}

/// A bound as the device gets it.
#[derive(Debug, Clone)]
pub(crate) struct BoundPlan {
    pub members: Vec<EllipsoidPlan>,
    /// Cumulated shares of the members.
    pub shares: Vec<f64>,
    pub clusters: Vec<ClusterPlan>,
    /// Dimension and place of each boundary that was moved.
    pub shift: Vec<(usize, f64)>,
    /// The unit cube: one member over no dimension, which no network cuts.
    pub is_cube: bool,
}

impl EllipsoidPlan {
    /// By how much the device may be wrong about the size of a place in the frame: a few units of f32, times what cancels in the sums.
    pub(crate) fn uncertainty(&self) -> f64 {
        let mut start = 0;
        let row = |i: usize| {
            let row = &self.inverse[start..=start + i];
            start += i + 1;
            row.iter().zip(&self.half_widths).map(|(a, w)| (a * w).powi(2)).sum::<f64>().sqrt()
        };
        let worst = (0..self.k).map(row).fold(1.0, f64::max);
        8.0 * f64::from(f32::EPSILON) * worst * (self.k as f64).sqrt()
    }
}

/// Where things lie in the text of a bound, in vec4.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) n_dim: usize,
    pub(super) dim4: usize,
}

impl Shape {
    pub(super) fn new(n_dim: usize) -> Self {
        Self { n_dim, dim4: n_dim.div_ceil(4) }
    }

    pub(super) fn ellipsoid(self) -> usize {
        1 + 2 * self.dim4 + self.n_dim.div_ceil(2) + 2 * self.n_dim * self.dim4
    }

    pub(super) fn cluster(self) -> usize {
        self.ellipsoid() + 2
    }

    /// Iterations of all loops of an invocation that asks a bound, or its networks, roughly: some drivers cut it off beyond a number of them.
    pub(super) fn iterations(self, n_members: usize, n_networks: usize, network: usize) -> usize {
        let triangle: usize = (0..self.n_dim).map(|i| i / 4 + 2).sum();
        let contains = self.n_dim + triangle;
        let surface = self.n_dim * (self.n_dim + 3) / 2;
        let asks = (n_members + 1) * contains + 4 * self.n_dim + surface;
        asks.max(2 * self.n_dim + n_networks * (network + 1))
    }

    fn push_ellipsoid(self, out: &mut Vec<[u32; 4]>, plan: &EllipsoidPlan) {
        let Self { n_dim, dim4 } = self;
        out.push([plan.k as u32, 0, 0, 0]);
        push_padded(out, plan.dims.iter().map(|d| *d as u32), dim4);
        push_padded(out, plan.centre.iter().flat_map(|c| words(fixed(*c))), n_dim.div_ceil(2));
        // A box that rounding made smaller would cut the ellipsoid.
        let half_width = |w: &f64| (*w as f32 * (1.0 + 4.0 * f32::EPSILON)).to_bits();
        push_padded(out, plan.half_widths.iter().map(half_width), dim4);
        for triangle in [&plan.inverse, &plan.factor] {
            let mut start = 0;
            for i in 0..n_dim {
                let row = if i < plan.k { &triangle[start..=start + i] } else { &[] };
                start += row.len();
                push_padded(out, row.iter().map(|a| (*a as f32).to_bits()), dim4);
            }
        }
    }
}

/// The values, four to a vec4, and zeros up to `n` vec4.
fn push_padded(out: &mut Vec<[u32; 4]>, values: impl Iterator<Item = u32>, n: usize) {
    let values: Vec<u32> = values.collect();
    let end = out.len() + n.max(values.len().div_ceil(4));
    out.extend(values.chunks(4).map(|chunk| std::array::from_fn(|k| chunk.get(k).copied().unwrap_or(0))));
    out.resize(end, [0; 4]);
}

/// The text of a bound: numbers only.
pub(super) fn pack(shape: Shape, plan: &BoundPlan, network: usize, n_networks: usize) -> Vec<[u32; 4]> {
    const HEADER: usize = 2;
    let members_at = HEADER;
    let clusters_at = members_at + plan.members.len() * shape.ellipsoid();
    let shift_at = clusters_at + plan.clusters.len() * shape.cluster();
    let shares_at = shift_at + plan.shift.len();
    let mut out = vec![
        [plan.members.len() as u32, plan.clusters.len() as u32, plan.shift.len() as u32, u32::from(plan.is_cube)],
        [members_at as u32, clusters_at as u32, shift_at as u32, shares_at as u32],
    ];
    plan.members.iter().for_each(|member| shape.push_ellipsoid(&mut out, member));
    // What clusters point to lies behind everything else.
    let mut behind = Vec::new();
    let behind_at = shares_at + plan.shares.len().div_ceil(4);
    let mut weights_at = 0;
    for ClusterPlan { ellipsoid, emulator } in &plan.clusters {
        shape.push_ellipsoid(&mut out, ellipsoid);
        let Some(emulator) = emulator else {
            out.extend([[0; 4]; 2]);
            continue;
        };
        let surface_at = behind_at + behind.len();
        let kind = match &emulator.surface {
            None => 0,
            Some((_, mixed)) => 1 + u32::from(*mixed),
        };
        let coefficients = emulator.surface.iter().flat_map(|(coefficients, _)| coefficients);
        push_padded(&mut behind, coefficients.map(|c| c.to_bits()), 0);
        let thresholds_at = behind_at + behind.len();
        push_padded(&mut behind, emulator.thresholds.iter().map(|t| t.to_bits()), 0);
        out.push([kind, surface_at as u32, weights_at as u32, thresholds_at as u32]);
        out.push([emulator.mean.to_bits(), emulator.deviation.to_bits(), u32::from(n_networks > 0), 0]);
        weights_at += network * n_networks;
    }
    for &(dim, place) in &plan.shift {
        let [hi, lo] = words(to_position(place));
        out.push([dim as u32, hi, lo, 0]);
    }
    push_padded(&mut out, plan.shares.iter().map(|s| (*s as f32).to_bits()), 0);
    out.extend(behind);
    out
}
