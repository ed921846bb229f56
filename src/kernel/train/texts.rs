//! The texts of the kernels that train, and what each dispatch is told.

use std::fmt::Write;
use std::mem::offset_of;

use super::GROUP;
use crate::kernel::network::{Layer, NetworkLayout};
use crate::kernel::source::{ShaderError, Source};
use crate::kernel::{layout, library};

/// The twin of `LpTraining` in the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Training {
    pub(super) first: u32,
    pub(super) n_steps: u32,
    pub(super) schedule: u32,
    pub(super) patience: u32,
    pub(super) rate: f32,
    pub(super) tol: f32,
    pub(super) beta_1: f32,
    pub(super) beta_2: f32,
    pub(super) log_beta_1: f32,
    pub(super) log_beta_2: f32,
    pub(super) guard: f32,
    /// Always 0, which the compiler cannot know.
    pub(super) zero: u32,
}

/// The twin of `LpTask` in the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Task {
    pub(super) key: [u32; 2],
    pub(super) fold_start: u32,
    pub(super) fold_size: u32,
    pub(super) n_points: u32,
    pub(super) side: u32,
    pub(super) n_batches: u32,
    pub(super) n_steps: u32,
    pub(super) columns: u32,
    pub(super) slab: u32,
    pub(super) padding: [u32; 2],
}

/// The twin of `LpPrediction` in the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Prediction {
    pub(super) first: u32,
    pub(super) n_points: u32,
    pub(super) zero: u32,
    pub(super) padding: u32,
}

/// The twin of `LpProgress` in the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Progress {
    pub(super) loss: f32,
    pub(super) best: f32,
    pub(super) stalled: u32,
    pub(super) stopped: u32,
}

/// The three kernels of one shape of network, as text.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    pub(super) fresh: Source,
    pub(super) train: Source,
    pub(super) predict: Source,
}

/// Where the activations of a layer lie: first rows of its inputs and of the gradients with respect to its outputs, and how many rows there are in all.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) inputs: Vec<usize>,
    pub(super) gradients: Vec<usize>,
    pub(super) n_rows: usize,
}

impl Rows {
    pub(super) fn new(layers: &[Layer]) -> Self {
        let mut n_rows = 0;
        let mut take = |rows: usize| {
            n_rows += rows;
            n_rows - rows
        };
        let inputs = layers.iter().map(|layer| take(4 * layer.width())).collect();
        // Tiles of gradients are eight units high.
        let gradients = layers.iter().map(|layer| take(layer.n_out.next_multiple_of(8))).collect();
        Self { inputs, gradients, n_rows }
    }
}

/// Tiles of the gradients of a layer's weights: 8 units by 4 inputs.
fn tiles(layer: &Layer) -> usize {
    layer.n_out.div_ceil(8) * layer.width()
}

impl Texts {
    pub(super) fn new(layout: &NetworkLayout, rows: usize) -> Result<Self, ShaderError> {
        let source = || Source::default().part(&library::text());
        let texts = Self {
            fresh: source()
                .part(include_str!("../../../shaders/philox.wgsl"))
                .part(&fresh_wgsl(layout))
                .part(include_str!("../../../shaders/fresh.wgsl")),
            train: source()
                .part(include_str!("../../../shaders/philox.wgsl"))
                .part(include_str!("../../../shaders/shuffle.wgsl"))
                .part(&train_wgsl(layout))
                .part(include_str!("../../../shaders/train.wgsl")),
            predict: source()
                .part("@group(0) @binding(3) var<storage, read> lp_weights: array<vec4<f32>>;")
                .part(&layout.wgsl("lp_weights", rows))
                .part(include_str!("../../../shaders/predict.wgsl")),
        };
        texts.fresh.check()?;
        let (train, _) = texts.train.check()?;
        let (predict, _) = texts.predict.check()?;
        let word = |name, offset| (name, offset, 4);
        let training = [
            word("first", offset_of!(Training, first)),
            word("n_steps", offset_of!(Training, n_steps)),
            word("schedule", offset_of!(Training, schedule)),
            word("patience", offset_of!(Training, patience)),
            word("rate", offset_of!(Training, rate)),
            word("tol", offset_of!(Training, tol)),
            word("beta_1", offset_of!(Training, beta_1)),
            word("beta_2", offset_of!(Training, beta_2)),
            word("log_beta_1", offset_of!(Training, log_beta_1)),
            word("log_beta_2", offset_of!(Training, log_beta_2)),
            word("guard", offset_of!(Training, guard)),
            word("zero", offset_of!(Training, zero)),
        ];
        let task = [
            ("key", offset_of!(Task, key), 8),
            word("fold_start", offset_of!(Task, fold_start)),
            word("fold_size", offset_of!(Task, fold_size)),
            word("n_points", offset_of!(Task, n_points)),
            word("side", offset_of!(Task, side)),
            word("n_batches", offset_of!(Task, n_batches)),
            word("n_steps", offset_of!(Task, n_steps)),
            word("columns", offset_of!(Task, columns)),
            word("slab", offset_of!(Task, slab)),
            word("padding_0", offset_of!(Task, padding)),
            word("padding_1", offset_of!(Task, padding) + 4),
        ];
        let progress = [
            word("loss", offset_of!(Progress, loss)),
            word("best", offset_of!(Progress, best)),
            word("stalled", offset_of!(Progress, stalled)),
            word("stopped", offset_of!(Progress, stopped)),
        ];
        let prediction = [
            word("first", offset_of!(Prediction, first)),
            word("n_points", offset_of!(Prediction, n_points)),
            word("zero", offset_of!(Prediction, zero)),
            word("padding", offset_of!(Prediction, padding)),
        ];
        layout::check(&train, "LpTraining", size_of::<Training>(), &training).map_err(ShaderError::new)?;
        layout::check(&train, "LpTask", size_of::<Task>(), &task).map_err(ShaderError::new)?;
        layout::check(&train, "LpProgress", size_of::<Progress>(), &progress).map_err(ShaderError::new)?;
        layout::check(&predict, "LpPrediction", size_of::<Prediction>(), &prediction).map_err(ShaderError::new)?;
        Ok(texts)
    }
}

/// The texts of the kernels that make fresh weights, train and predict, checked.
///
/// # Errors
/// A text that does not validate, which is our fault.
#[cfg(feature = "testing")]
pub(crate) fn train_wgsl_texts(layout: &NetworkLayout, rows: usize) -> Result<[String; 3], ShaderError> {
    let Texts { fresh, train, predict } = Texts::new(layout, rows)?;
    Ok([fresh, train, predict].map(|source| source.text().to_owned()))
}

/// `name` as a function of a place, that gives the layer which the place lies in.
fn layer_finder(name: &str, starts: impl Iterator<Item = usize>) -> String {
    let mut text = format!("fn {name}(at: u32) -> LpLayer {{\n    var layer = LP_LAYER_0;\n");
    for (k, start) in starts.enumerate().skip(1) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    if at >= {start}u {{ layer = LP_LAYER_{k}; }}");
    }
    text + "    return layer;\n}\n"
}

/// What the kernel of fresh weights knows of the layers. A weight is uniform within `sqrt(6 / (n_in + n_out))`, biases included.
fn fresh_wgsl(layout: &NetworkLayout) -> String {
    let mut text = format!(
        "const LP_NET_WEIGHTS: u32 = {}u;\n\
         // `draws`: how many weights come before; the bound is `bound` 2^(exponent - 32).\n\
         struct LpLayer {{ start: u32, n_in: u32, width: u32, draws: u32, bound: u32, exponent: i32 }}\n",
        layout.n_weights() / 4
    );
    let mut draws = 0;
    for (k, layer) in layout.layers().iter().enumerate() {
        let bound = (6.0 / (layer.n_in + layer.n_out) as f64).sqrt();
        let exponent = bound.log2().floor() as i32 + 1;
        let mantissa = (bound * 2f64.powi(32 - exponent)).round() as u32;
        let _ = writeln!(
            text,
            "const LP_LAYER_{k} = LpLayer({}u, {}u, {}u, {draws}u, {mantissa}u, {exponent});",
            layer.start,
            layer.n_in,
            layer.width()
        );
        draws += layer.n_out * (layer.n_in + 1);
    }
    text + &layer_finder("lp_layer_at", layout.layers().iter().map(|layer| layer.start))
}

/// What the kernel that trains knows of the layers: sizes as constants, and the order of a step.
fn train_wgsl(layout: &NetworkLayout) -> String {
    let layers = layout.layers();
    let last = layers.len() - 1;
    let rows = Rows::new(layers);
    let starts: Vec<usize> = layers
        .iter()
        .scan(0, |sum, layer| {
            *sum += tiles(layer);
            Some(*sum - tiles(layer))
        })
        .collect();
    let mut text = format!(
        "const LP_NET_IN: u32 = {}u;\nconst LP_NET_WEIGHTS: u32 = {}u;\nconst LP_TILES: u32 = {}u;\n\
         // Weights from vec4 `start` on, `width` for a unit; rows of its inputs and of the gradients with respect to its outputs; first tile of its weights' gradients.\n\
         struct LpLayer {{ start: u32, n_in: u32, n_out: u32, width: u32, input: u32, gradient: u32, tile: u32 }}\n",
        layout.stride_in() / 4,
        layout.n_weights() / 4,
        starts[last] + tiles(&layers[last]),
    );
    for (k, layer) in layers.iter().enumerate() {
        let _ = writeln!(
            text,
            "const LP_LAYER_{k} = LpLayer({}u, {}u, {}u, {}u, {}u, {}u, {}u);",
            layer.start,
            layer.n_in,
            layer.n_out,
            layer.width(),
            rows.inputs[k],
            rows.gradients[k],
            starts[k]
        );
    }
    let _ = writeln!(text, "const LP_OUTPUT = LP_LAYER_{last};");
    text += &layer_finder("lp_layer_of", starts.iter().copied());

    text += "// The rows that no unit writes: ones that carry the biases, zeros behind them and behind the gradients.\nfn lp_pad(column: u32) {\n";
    for (k, layer) in layers.iter().enumerate() {
        let ones = if k > 0 { layer.n_in..4 * layer.width() } else { 0..0 };
        for row in ones {
            let value = if row == layer.n_in { "1.0" } else { "0.0" };
            let _ = writeln!(text, "    lp_rows[lp_place({}u, column)] = vec4<f32>({value});", rows.inputs[k] + row);
        }
        for row in layer.n_out..layer.n_out.next_multiple_of(4) {
            let _ = writeln!(text, "    lp_rows[lp_place({}u, column)] = vec4<f32>();", rows.gradients[k] + row);
        }
    }
    text += "}\n// Forward and backward through the layers.\nfn lp_layers(step: u32, local: u32) {\n";
    for (k, input) in rows.inputs.iter().enumerate().skip(1) {
        let _ = writeln!(text, "    lp_forward(LP_LAYER_{}, {input}u, local);\n    storageBarrier();", k - 1);
    }
    text += "    lp_answer(LP_OUTPUT, step, local);\n    storageBarrier();\n";
    for k in (1..layers.len()).rev() {
        let to = rows.gradients[k - 1];
        let _ = writeln!(text, "    lp_backward(LP_LAYER_{k}, {to}u, local);\n    storageBarrier();");
    }
    text + "}\n"
}

/// Iterations of all loops of one invocation in one step with so many columns.
pub(super) fn iterations(layout: &NetworkLayout, columns: usize) -> usize {
    let layers = layout.layers();
    let half = columns / 2;
    let chunks = columns.div_ceil(GROUP / 4);
    // The walk of the shuffle: hardly ever more than two cells.
    let load = chunks * (1 + 10 + 2 * 5) + (columns * layout.stride_in() / 4).div_ceil(GROUP) + chunks;
    let hidden = &layers[..layers.len() - 1];
    let forward: usize =
        hidden.iter().map(|layer| (layer.n_out.div_ceil(4) * half).div_ceil(GROUP) * (layer.width() + 1)).sum();
    let answer = layers.last().map_or(0, |layer| columns.div_ceil(GROUP) * (layer.width() + 1));
    let backward: usize = layers
        .iter()
        .skip(1)
        .map(|layer| (layer.n_in.div_ceil(4) * half).div_ceil(GROUP) * (layer.n_out.div_ceil(4) + 1))
        .sum();
    let learn = layers.iter().map(tiles).sum::<usize>().div_ceil(GROUP) * (columns + 1);
    // The loop over the steps, and the loss of a batch.
    1 + load + forward + answer + backward + learn + columns
}
