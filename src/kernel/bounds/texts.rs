//! The texts of the kernels of bounds, and what each dispatch is told.

use std::mem::offset_of;

use super::plan::Shape;
use crate::kernel::network::{NETWORK_TILE, NetworkLayout};
use crate::kernel::source::{ShaderError, Source};
use crate::kernel::{layout, library};

/// What a dispatch is told; the twin of `LpStep` in the shaders.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Step {
    pub(super) zero: u32,
    pub(super) first: u32,
    pub(super) n: u32,
    pub(super) bound: u32,
    pub(super) ask: u32,
    pub(super) capacity: u32,
    pub(super) n_groups: u32,
    pub(super) slot: u32,
    pub(super) ring: u32,
    pub(super) cluster: u32,
    pub(super) waits: u32,
    pub(super) padding: u32,
}

impl Step {
    fn check(module: &naga::Module) -> Result<(), ShaderError> {
        let field = |name, offset| (name, offset, 4);
        let fields = [
            field("zero", offset_of!(Self, zero)),
            field("first", offset_of!(Self, first)),
            field("n", offset_of!(Self, n)),
            field("bound", offset_of!(Self, bound)),
            field("ask", offset_of!(Self, ask)),
            field("capacity", offset_of!(Self, capacity)),
            field("n_groups", offset_of!(Self, n_groups)),
            field("slot", offset_of!(Self, slot)),
            field("ring", offset_of!(Self, ring)),
            field("cluster", offset_of!(Self, cluster)),
            field("waits", offset_of!(Self, waits)),
            field("padding", offset_of!(Self, padding)),
        ];
        layout::check(module, "LpStep", size_of::<Self>(), &fields).map_err(ShaderError::new)
    }
}

const STEP: &str = "struct LpStep { zero: u32, first: u32, n: u32, bound: u32, ask: u32, capacity: u32, n_groups: u32, slot: u32, ring: u32, cluster: u32, waits: u32, padding: u32 }\n\
                    @group(0) @binding(0) var<uniform> lp_step: LpStep;\n";

/// Texts of the three kinds of kernels.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) bounds: Source,
    pub(super) predict: Source,
    pub(super) rows: Source,
    pub(super) gather: Source,
    pub(super) fetch: Source,
    pub(super) lesson: Source,
}

impl Texts {
    pub(super) fn compose(
        n_dim: usize,
        networks: &NetworkLayout,
        n_networks: usize,
        rows: usize,
    ) -> Result<Self, ShaderError> {
        let shape = Shape::new(n_dim);
        let constants = format!(
            "const LP_DIM: u32 = {n_dim}u;\nconst LP_DIM4: u32 = {}u;\nconst LP_ELLIPSOID: u32 = {}u;\nconst LP_CLUSTER: u32 = {}u;\n\
             const LP_N_NETWORKS: u32 = {n_networks}u;\n",
            shape.dim4,
            shape.ellipsoid(),
            shape.cluster(),
        );
        let sees = format!(
            "const LP_NET_IN: u32 = {}u;\nconst LP_NET_TILE: u32 = {NETWORK_TILE}u;\n",
            networks.stride_in() / 4
        );
        let scratch = "@group(0) @binding(1) var<storage, read> lp_groups: array<vec4<u32>>;\n\
                       @group(0) @binding(2) var<storage, read_write> lp_x: array<vec2<u32>>;\n\
                       @group(0) @binding(3) var<storage, read_write> lp_status: array<vec4<u32>>;\n\
                       @group(0) @binding(4) var<storage, read_write> lp_counts: array<atomic<u32>>;\n\
                       @group(0) @binding(5) var<storage, read_write> lp_list: array<u32>;\n\
                       @group(0) @binding(6) var<storage, read_write> lp_waiting: array<vec4<u32>>;\n\
                       @group(0) @binding(7) var<storage, read_write> lp_waits: array<atomic<u32>>;\n\
                       @group(1) @binding(0) var<storage, read> lp_bound: array<vec4<u32>>;\n";
        let predict = "@group(0) @binding(1) var<storage, read> lp_groups: array<vec4<u32>>;\n\
                       @group(0) @binding(2) var<storage, read_write> lp_status: array<vec4<u32>>;\n\
                       @group(0) @binding(3) var<storage, read_write> lp_counts: array<atomic<u32>>;\n\
                       @group(0) @binding(4) var<storage, read> lp_waiting: array<vec4<u32>>;\n\
                       @group(0) @binding(5) var<storage, read> lp_waits: array<vec4<u32>>;\n\
                       @group(1) @binding(0) var<storage, read> lp_bound: array<vec4<u32>>;\n\
                       @group(2) @binding(0) var<storage, read> lp_weights: array<vec4<f32>>;\n";
        let dense = "@group(0) @binding(1) var<storage, read_write> lp_status: array<vec4<u32>>;\n\
                    @group(0) @binding(2) var<storage, read_write> lp_list: array<u32>;\n\
                    @group(0) @binding(3) var<storage, read_write> lp_totals: array<u32>;\n\
                    @group(0) @binding(4) var<storage, read_write> lp_x: array<vec2<u32>>;\n\
                    @group(0) @binding(5) var<storage, read_write> lp_meta: array<vec4<u32>>;\n\
                    @group(0) @binding(6) var<storage, read_write> lp_out: array<vec2<u32>>;\n\
                    @group(0) @binding(7) var<storage, read_write> lp_ring: array<vec2<u32>>;\n";
        let gather = "@group(0) @binding(1) var<storage, read> lp_numbers: array<u32>;\n\
                      @group(0) @binding(2) var<storage, read> lp_from: array<vec2<u32>>;\n\
                      @group(0) @binding(3) var<storage, read_write> lp_to: array<vec2<u32>>;\n\
                      @group(0) @binding(4) var<storage, read_write> lp_tails: array<vec2<f32>>;\n";
        let fetch = "@group(0) @binding(1) var<storage, read> lp_from: array<vec2<u32>>;\n\
                     @group(0) @binding(2) var<storage, read_write> lp_x: array<vec2<u32>>;\n\
                     @group(0) @binding(3) var<storage, read_write> lp_status: array<vec4<u32>>;\n\
                     @group(0) @binding(4) var<storage, read_write> lp_list: array<u32>;\n";
        let bounds = Source::default()
            .part(&library::text())
            .part(include_str!("../../../shaders/philox.wgsl"))
            .part(&constants)
            .part(STEP)
            .part(scratch)
            .part(&sees)
            .part(include_str!("../../../shaders/bounds/geometry.wgsl"))
            .part(include_str!("../../../shaders/bounds/draw.wgsl"))
            .part(include_str!("../../../shaders/bounds/test.wgsl"));
        let predict = Source::default()
            .part(&library::text())
            .part(&constants)
            .part(STEP)
            .part(predict)
            .part(&networks.wgsl("lp_weights", rows))
            .part(include_str!("../../../shaders/bounds/predict.wgsl"));
        let rows = Source::default()
            .part(&constants)
            .part(STEP)
            .part(dense)
            .part(include_str!("../../../shaders/bounds/rows.wgsl"));
        let gather = Source::default()
            .part(&library::text())
            .part(&constants)
            .part(STEP)
            .part(gather)
            .part(include_str!("../../../shaders/bounds/gather.wgsl"));
        let fetch = Source::default()
            .part(&constants)
            .part(STEP)
            .part(fetch)
            .part(include_str!("../../../shaders/bounds/fetch.wgsl"));
        let lesson_bindings = "@group(0) @binding(1) var<storage, read> lp_numbers: array<u32>;\n\
                               @group(0) @binding(2) var<storage, read> lp_points: array<vec2<u32>>;\n\
                               @group(0) @binding(3) var<storage, read_write> lp_to: array<vec4<f32>>;\n\
                               @group(1) @binding(0) var<storage, read> lp_bound: array<vec4<u32>>;\n";
        let lesson = Source::default()
            .part(&library::text())
            .part(&constants)
            .part(STEP)
            .part(lesson_bindings)
            .part(&sees)
            .part(include_str!("../../../shaders/bounds/geometry.wgsl"))
            .part(include_str!("../../../shaders/bounds/lesson.wgsl"));
        for source in [&bounds, &predict, &rows, &gather, &fetch, &lesson] {
            Step::check(&source.check()?.0)?;
        }
        Ok(Self { bounds, predict, rows, gather, fetch, lesson })
    }
}

/// The composed texts, checked, by name.
///
/// # Errors
/// Texts that do not validate, which is our fault.
#[cfg(feature = "testing")]
pub(crate) fn bounds_wgsl(
    n_dim: usize,
    hidden: &[usize],
    n_networks: usize,
    rows: usize,
) -> Result<Vec<(&'static str, String)>, ShaderError> {
    let texts = Texts::compose(n_dim, &NetworkLayout::new(n_dim + 1, hidden), n_networks, rows)?;
    let Texts { bounds, predict, rows, gather, fetch, lesson } = texts;
    let named = [
        ("bounds", bounds),
        ("predictions", predict),
        ("rows", rows),
        ("gather", gather),
        ("fetch", fetch),
        ("lesson", lesson),
    ];
    Ok(named.map(|(name, source)| (name, source.text().to_owned())).into())
}
