//! The kernels that train an ensemble of small networks on the device and predict with it: weights never leave it.

use std::fmt::Write;
use std::mem::offset_of;
use std::sync::Arc;
use std::time::Instant;

use bytemuck::Zeroable;

use super::bounds::Weights;
use super::evaluate::KernelError;
use super::layout;
use super::library;
use super::network::{Layer, NetworkLayout};
use super::self_test::self_test;
use super::source::{ShaderError, Source};
use crate::backend::{DeviceError, Gpu};
use crate::rng::Stream;

/// Invocations of a workgroup that trains; of the others.
const GROUP: usize = 256;
const SMALL_GROUP: usize = 64;

/// A dispatch takes no longer than this, so that no watchdog of a desktop bites.
const DISPATCH_S: f64 = 0.1;

/// Dispatches that are handed over before the host looks at the clock again.
const QUEUED: usize = 8;

/// Steps, and rows, of the first dispatch, before anything is known of their cost.
const FIRST_STEPS: usize = 4;
const FIRST_ROWS: usize = 256;

/// What becomes of the learning rate over the steps of a training, as in `nn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrainSchedule {
    Constant,
    Linear,
    Cosine,
}

/// How networks are trained; the names and meanings are those of `NetworkOptions`, which has checked them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TrainOptions {
    pub(crate) learning_rate_init: f64,
    pub(crate) learning_rate: TrainSchedule,
    pub(crate) batch_size: usize,
    pub(crate) max_iter: usize,
    pub(crate) max_steps: usize,
    pub(crate) n_iter_no_change: usize,
    pub(crate) tol: f64,
    pub(crate) beta_1: f64,
    pub(crate) beta_2: f64,
    pub(crate) epsilon: f64,
}

/// The twin of `LpTraining` in the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Training {
    first: u32,
    n_steps: u32,
    schedule: u32,
    patience: u32,
    rate: f32,
    tol: f32,
    beta_1: f32,
    beta_2: f32,
    log_beta_1: f32,
    log_beta_2: f32,
    guard: f32,
    /// Always 0, which the compiler cannot know.
    zero: u32,
}

/// The twin of `LpTask` in the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Task {
    key: [u32; 2],
    fold_start: u32,
    fold_size: u32,
    n_points: u32,
    side: u32,
    n_batches: u32,
    n_steps: u32,
    columns: u32,
    slab: u32,
    padding: [u32; 2],
}

/// The twin of `LpPrediction` in the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Prediction {
    first: u32,
    n_points: u32,
    zero: u32,
    padding: u32,
}

/// The twin of `LpProgress` in the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Progress {
    loss: f32,
    best: f32,
    stalled: u32,
    stopped: u32,
}

/// The three kernels of one shape of network, as text.
#[derive(Debug, Clone)]
struct Texts {
    fresh: Source,
    train: Source,
    predict: Source,
}

/// Where the activations of a layer lie: first rows of its inputs and of the gradients with respect to its outputs, and how many rows there are in all.
#[derive(Debug, Clone)]
struct Rows {
    inputs: Vec<usize>,
    gradients: Vec<usize>,
    n_rows: usize,
}

impl Rows {
    fn new(layers: &[Layer]) -> Self {
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
    fn new(layout: &NetworkLayout) -> Result<Self, ShaderError> {
        let source = || Source::default().part(&library::text());
        let texts = Self {
            fresh: source()
                .part(include_str!("../../shaders/philox.wgsl"))
                .part(&fresh_wgsl(layout))
                .part(include_str!("../../shaders/fresh.wgsl")),
            train: source()
                .part(include_str!("../../shaders/philox.wgsl"))
                .part(include_str!("../../shaders/shuffle.wgsl"))
                .part(&train_wgsl(layout))
                .part(include_str!("../../shaders/train.wgsl")),
            predict: source()
                .part("@group(0) @binding(3) var<storage, read> lp_weights: array<vec4<f32>>;")
                .part(&layout.wgsl("lp_weights"))
                .part(include_str!("../../shaders/predict.wgsl")),
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
pub(crate) fn train_wgsl_texts(layout: &NetworkLayout) -> Result<[String; 3], ShaderError> {
    let Texts { fresh, train, predict } = Texts::new(layout)?;
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
fn iterations(layout: &NetworkLayout, columns: usize) -> usize {
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

/// A buffer that grows by powers of two; what it held is lost then.
struct Growing {
    what: &'static str,
    usage: wgpu::BufferUsages,
    buffer: wgpu::Buffer,
}

impl Growing {
    fn new(gpu: &Gpu, what: &'static str, usage: wgpu::BufferUsages) -> Result<Self, DeviceError> {
        Ok(Self { what, usage, buffer: gpu.buffer(what, 256, usage)? })
    }

    fn hold(&mut self, gpu: &Gpu, bytes: u64) -> Result<(), DeviceError> {
        if self.buffer.size() < bytes {
            let limit = gpu.limits.max_buffer_size.min(gpu.limits.max_storage_buffer_binding_size) & !3;
            self.buffer = gpu.buffer(self.what, bytes.next_power_of_two().min(limit).max(bytes), self.usage)?;
        }
        Ok(())
    }
}

/// What a step was found to take, with so many columns in the batch.
struct Pace {
    columns: usize,
    step_s: f64,
}

impl Pace {
    /// Seconds of a step with so many columns, rather too many: fewer columns may take as long.
    fn step_s(&self, columns: usize) -> f64 {
        self.step_s * (columns as f64 / self.columns as f64).max(1.0)
    }
}

/// An ensemble of networks on the device, the kernels that make, train and use it, and the points that it learns from.
pub(crate) struct TrainKernel {
    gpu: Arc<Gpu>,
    layout: NetworkLayout,
    n_networks: usize,
    fresh: wgpu::ComputePipeline,
    train: wgpu::ComputePipeline,
    predict: wgpu::ComputePipeline,
    weights: wgpu::Buffer,
    moments: wgpu::Buffer,
    keys: wgpu::Buffer,
    tasks: wgpu::Buffer,
    progress: wgpu::Buffer,
    progress_host: wgpu::Buffer,
    training: wgpu::Buffer,
    prediction: wgpu::Buffer,
    x: Growing,
    y: Growing,
    rows: Growing,
    out: Growing,
    out_host: Growing,
    /// Iterations of loops that an invocation is trusted with.
    loop_limit: Option<usize>,
    pace: Option<Pace>,
    /// Seconds of a row of a prediction, where they are known.
    row_s: Option<f64>,
    /// What tests set to show that it does not matter.
    steps_per_dispatch: Option<usize>,
}

impl TrainKernel {
    /// Compiles the kernels for `n_networks` networks (1 or more) of one shape; `start_fresh` or `start_from` gives them their weights. Cost: tenths of a second,
    /// more on some drivers.
    ///
    /// # Errors
    /// A driver that refuses a kernel, no room for the weights.
    pub(crate) fn new(gpu: Arc<Gpu>, layout: &NetworkLayout, n_networks: usize) -> Result<Self, KernelError> {
        use wgpu::BufferUsages as Usage;
        let traits = self_test(&gpu)?;
        let texts = Texts::new(layout)?;
        let weights = (4 * layout.n_weights() * n_networks) as u64;
        let all = Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC;
        let progress = (size_of::<Progress>() * n_networks) as u64;
        let mut kernel = Self {
            layout: layout.clone(),
            n_networks,
            fresh: pipeline(&gpu, "fresh networks", &texts.fresh)?,
            train: pipeline(&gpu, "the training of networks", &texts.train)?,
            predict: pipeline(&gpu, "predictions of networks", &texts.predict)?,
            weights: gpu.buffer("weights", weights, all)?,
            moments: gpu.buffer("moments of the weights", 2 * weights, all)?,
            keys: gpu.buffer("keys of networks", (8 * n_networks) as u64, all)?,
            tasks: gpu.buffer("tasks of networks", (size_of::<Task>() * n_networks) as u64, all)?,
            progress: gpu.buffer("progress of networks", progress, all)?,
            progress_host: gpu.buffer(
                "progress of networks on the host",
                progress,
                Usage::MAP_READ | Usage::COPY_DST,
            )?,
            training: gpu.buffer(
                "options of a training",
                size_of::<Training>() as u64,
                Usage::UNIFORM | Usage::COPY_DST,
            )?,
            prediction: gpu.buffer("a prediction", size_of::<Prediction>() as u64, Usage::UNIFORM | Usage::COPY_DST)?,
            x: Growing::new(&gpu, "points of a lesson", all)?,
            y: Growing::new(&gpu, "targets of a lesson", all)?,
            rows: Growing::new(&gpu, "activations", all)?,
            out: Growing::new(&gpu, "predictions", all)?,
            out_host: Growing::new(&gpu, "predictions on the host", Usage::MAP_READ | Usage::COPY_DST)?,
            loop_limit: traits.loop_limit.map(|limit| limit as usize / 2),
            pace: None,
            row_s: None,
            steps_per_dispatch: None,
            gpu,
        };
        kernel.within_loop_limit("a network, in iterations of loops,", layout.iterations())?;
        // No steps and no points: the driver compiles, and what follows is timed without it.
        let what = "the first use of networks";
        let training = Training::zeroed();
        kernel.trainer(what)?.dispatch(bytemuck::bytes_of(&training), [n_networks, 1])?;
        let prediction = Prediction::zeroed();
        kernel.predictor(what)?.dispatch(bytemuck::bytes_of(&prediction), [1, n_networks])?;
        kernel.start_fresh(Stream::new(0))?;
        kernel.gpu.submit_first(what, kernel.encoder(what)?)?;
        Ok(kernel)
    }

    /// Room for a lesson of `n_points` points: `x [n_points, stride_in]`, row-major, a row `n_in` coordinates, a 1, and zeros; and `y [n_points]`.
    /// Where there is not enough room yet, all that was there is lost.
    ///
    /// # Errors
    /// No room.
    pub(crate) fn lesson(&mut self, n_points: usize) -> Result<(&wgpu::Buffer, &wgpu::Buffer), DeviceError> {
        self.x.hold(&self.gpu, (4 * n_points * self.layout.stride_in()) as u64)?;
        self.y.hold(&self.gpu, (4 * n_points) as u64)?;
        Ok((&self.x.buffer, &self.y.buffer))
    }

    /// Works through another handle of the same device.
    pub(crate) fn set_gpu(&mut self, gpu: Arc<Gpu>) {
        self.gpu = gpu;
    }

    /// Weights `[n_networks, n_weights]`, each network as [`NetworkLayout`] says.
    pub(crate) fn weights(&self) -> &wgpu::Buffer {
        &self.weights
    }

    /// Cuts trainings into dispatches of so many steps, in place of as many as are quick enough.
    #[cfg(feature = "testing")]
    pub(crate) fn set_steps_per_dispatch(&mut self, steps: usize) {
        self.steps_per_dispatch = Some(steps.max(1));
    }

    /// Gives each network random weights, network `k` those of `stream.substream(k).substream(0)`, which are the same on the CPU. Not waited for.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub(crate) fn start_fresh(&mut self, stream: Stream) -> Result<(), DeviceError> {
        let keys: Vec<[u32; 2]> = (0..self.n_networks as u64).map(|k| stream.substream(k).substream(0).key()).collect();
        let groups = [(self.layout.n_weights() / 4).div_ceil(SMALL_GROUP), self.n_networks];
        Launch::new(&self.gpu, "fresh networks", &self.fresh, &self.keys, &[&self.weights])?
            .dispatch(bytemuck::cast_slice(&keys), groups)
    }

    /// Gives the networks the weights `[n_networks, n_weights]` that lie in another buffer on the same device. Not waited for.
    ///
    /// # Errors
    /// [`DeviceError`], also for a buffer that is too short or not `COPY_SRC`.
    pub(crate) fn start_from(&mut self, Weights { buffer, offset }: &Weights) -> Result<(), DeviceError> {
        self.hand_over("weights of other networks", |commands| {
            commands.copy_buffer_to_buffer(buffer, *offset, &self.weights, 0, self.weights.size());
        })
    }

    /// Uploads the targets `[n_points]` of a lesson that there is room for.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub(crate) fn set_targets(&self, y: &[f32]) -> Result<(), DeviceError> {
        self.gpu.upload(&self.y.buffer, 0, bytemuck::cast_slice(y))
    }

    /// Trains all networks on the first `n_points` points of the lesson and waits for them; network `k` does not see the points from `folds[k]` to
    /// `folds[k + 1]`, unless it is alone or nothing else is left. It shuffles by `stream.substream(k).substream(1)`. The same stream gives the same bits
    /// on one device, however the steps are cut into dispatches.
    ///
    /// What a network predicts whose weights overflowed is not finite.
    ///
    /// Cost: about `6 n_weights` floating-point operations per point, epoch and network, on one workgroup for each network; a wait for eight dispatches.
    ///
    /// # Errors
    /// [`DeviceError`], also for a batch that is too large for one step.
    pub(crate) fn train(
        &mut self,
        n_points: usize,
        folds: &[u32],
        options: &TrainOptions,
        stream: Stream,
    ) -> Result<(), DeviceError> {
        let what = "the training of networks";
        if n_points == 0 {
            return Ok(());
        }
        let tasks = self.tasks_of(n_points, folds, options, stream);
        let columns = tasks.iter().map(|task| task.columns as usize).max().unwrap_or(0);
        let n_steps = tasks.iter().map(|task| task.n_steps as usize).max().unwrap_or(0);
        let iterations = iterations(&self.layout, columns);
        self.within_loop_limit("a batch, in iterations of loops,", iterations)?;
        let steps_max = self.loop_limit.map_or(usize::MAX, |limit| limit / iterations).max(1);
        let slabs = 16 * columns * Rows::new(self.layout.layers()).n_rows * self.n_networks;
        self.rows.hold(&self.gpu, slabs as u64)?;
        self.gpu.upload(&self.tasks, 0, bytemuck::cast_slice(&tasks))?;
        self.hand_over(what, |commands| {
            // Adam starts anew.
            commands.clear_buffer(&self.moments, 0, None);
            commands.clear_buffer(&self.progress, 0, None);
        })?;

        let log = |beta: f64| beta.ln().max(-1e4) as f32;
        let mut training = Training {
            first: 0,
            n_steps: 0,
            schedule: options.learning_rate as u32,
            patience: options.n_iter_no_change.min(u32::MAX as usize) as u32,
            rate: options.learning_rate_init as f32,
            tol: options.tol as f32,
            beta_1: options.beta_1 as f32,
            beta_2: options.beta_2 as f32,
            log_beta_1: log(options.beta_1),
            log_beta_2: log(options.beta_2),
            guard: (options.epsilon * options.epsilon) as f32,
            zero: 0,
        };
        let trainer = self.trainer(what)?;
        let mut done = 0;
        while done < n_steps {
            // Nothing is known of the pace at first: a few steps and a look at the clock.
            let (steps, queued) = match (self.steps_per_dispatch, &self.pace) {
                (Some(steps), _) => (steps, QUEUED),
                (None, None) => (FIRST_STEPS, 1),
                (None, Some(pace)) => ((DISPATCH_S / pace.step_s(columns)) as usize, QUEUED),
            };
            let steps = steps.clamp(1, steps_max).min(n_steps - done);
            let queued = queued.min((n_steps - done).div_ceil(steps));
            let (start, before) = (Instant::now(), done);
            for _ in 0..queued {
                training.first = done as u32;
                training.n_steps = steps.min(n_steps - done) as u32;
                done += training.n_steps as usize;
                trainer.dispatch(bytemuck::bytes_of(&training), [self.n_networks, 1])?;
            }
            self.gpu.submit(what, self.encoder(what)?)?;
            let step_s = start.elapsed().as_secs_f64() / (done - before) as f64;
            // By at most four at a time: the first dispatches of a device are slower than the next.
            let least = self.pace.as_ref().map_or(1e-9, |pace| pace.step_s(columns) / 4.0);
            self.pace = Some(Pace { columns, step_s: step_s.max(least) });
            if options.learning_rate == TrainSchedule::Constant && done < n_steps && self.all_stopped()? {
                break;
            }
        }
        Ok(())
    }

    /// What each network says of the first `n_points` rows of the lesson, `[n_networks, n_points]`: NaN for a row that is not finite. Waits for all work
    /// that was handed over before.
    ///
    /// Cost: about `2 n_weights` floating-point operations per row and network; one wait.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub(crate) fn predict(&mut self, n_points: usize) -> Result<Vec<f32>, DeviceError> {
        let what = "predictions of networks";
        if n_points == 0 {
            return Ok(Vec::new());
        }
        let bytes = (4 * n_points * self.n_networks) as u64;
        self.out.hold(&self.gpu, bytes)?;
        self.out_host.hold(&self.gpu, bytes)?;
        let most = self.gpu.limits.max_compute_workgroups_per_dimension as usize * SMALL_GROUP;
        let rows = self.row_s.map_or(FIRST_ROWS, |row_s| (DISPATCH_S / row_s) as usize);
        let rows = rows.next_multiple_of(SMALL_GROUP).clamp(SMALL_GROUP, most);
        let start = Instant::now();
        let predictor = self.predictor(what)?;
        for first in (0..n_points).step_by(rows) {
            let prediction = Prediction { first: first as u32, n_points: n_points as u32, zero: 0, padding: 0 };
            let groups = [rows.min(n_points - first).div_ceil(SMALL_GROUP), self.n_networks];
            predictor.dispatch(bytemuck::bytes_of(&prediction), groups)?;
        }
        let mut commands = self.encoder(what)?;
        commands.copy_buffer_to_buffer(&self.out.buffer, 0, &self.out_host.buffer, 0, bytes);
        let values = self.gpu.fetch(what, commands, &self.out_host.buffer, bytes)?;
        self.row_s = Some((start.elapsed().as_secs_f64() / n_points as f64).max(1e-12));
        Ok(bytemuck::pod_collect_to_vec(&values))
    }

    /// What each network is told of its training.
    fn tasks_of(&self, n_points: usize, folds: &[u32], options: &TrainOptions, stream: Stream) -> Vec<Task> {
        let n_rows = Rows::new(self.layout.layers()).n_rows;
        let mut slab = 0;
        (0..self.n_networks)
            .map(|k| {
                let (start, end) = match folds.get(k..k + 2) {
                    Some(&[start, end]) if self.n_networks > 1 => (start as usize, end as usize),
                    _ => (0, 0),
                };
                let fold = end.min(n_points).saturating_sub(start);
                let fold = if fold == n_points { 0 } else { fold };
                let n = n_points - fold;
                let n_batches = n.div_ceil(options.batch_size.max(1));
                let max_iter = options.max_iter.min(options.max_steps.div_ceil(n_batches));
                let columns = 2 * n.div_ceil(n_batches).div_ceil(8);
                let task = Task {
                    key: stream.substream(k as u64).substream(1).key(),
                    fold_start: start as u32,
                    fold_size: fold as u32,
                    n_points: n as u32,
                    side: n.isqrt() as u32,
                    n_batches: n_batches as u32,
                    n_steps: max_iter.saturating_mul(n_batches).min(i32::MAX as usize) as u32,
                    columns: columns as u32,
                    slab: slab as u32,
                    padding: [0; 2],
                };
                slab += columns * n_rows;
                task
            })
            .collect()
    }

    /// Whether every network has stopped before its time.
    fn all_stopped(&mut self) -> Result<bool, DeviceError> {
        let what = "the progress of networks";
        let bytes = self.progress_host.size();
        let mut commands = self.encoder(what)?;
        commands.copy_buffer_to_buffer(&self.progress, 0, &self.progress_host, 0, bytes);
        let read = self.gpu.fetch(what, commands, &self.progress_host, bytes)?;
        let progress: Vec<Progress> = bytemuck::pod_collect_to_vec(&read);
        Ok(progress.iter().all(|progress| progress.stopped != 0))
    }

    fn within_loop_limit(&self, what: &str, needed: usize) -> Result<(), DeviceError> {
        match self.loop_limit {
            Some(limit) if needed > limit => Err(DeviceError::Limit {
                adapter: self.gpu.name(),
                what: what.to_owned(),
                needed: needed as u64,
                limit: limit as u64,
                advice: "it cuts longer loops short in silence: use smaller batches, or smaller networks",
            }),
            _ => Ok(()),
        }
    }

    fn trainer(&self, what: &'static str) -> Result<Launch, DeviceError> {
        let buffers = [
            &self.tasks,
            &self.x.buffer,
            &self.y.buffer,
            &self.weights,
            &self.moments,
            &self.rows.buffer,
            &self.progress,
        ];
        Launch::new(&self.gpu, what, &self.train, &self.training, &buffers)
    }

    fn predictor(&self, what: &'static str) -> Result<Launch, DeviceError> {
        let buffers = [&self.x.buffer, &self.out.buffer, &self.weights];
        Launch::new(&self.gpu, what, &self.predict, &self.prediction, &buffers)
    }

    /// Commands with nothing in them yet: waiting for them is waiting for all before.
    fn encoder(&self, what: &str) -> Result<wgpu::CommandEncoder, DeviceError> {
        self.gpu.scoped(what, 0, |device| device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()))
    }

    /// Hands over a task that is no dispatch, without waiting for it.
    fn hand_over(&self, what: &str, task: impl FnOnce(&mut wgpu::CommandEncoder)) -> Result<(), DeviceError> {
        self.gpu.scoped(what, 0, |device| {
            let mut commands = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            task(&mut commands);
            self.gpu.queue.submit([commands.finish()]);
        })
    }
}

/// A kernel with its buffers, ready to be dispatched again and again.
struct Launch {
    gpu: Arc<Gpu>,
    what: &'static str,
    pipeline: wgpu::ComputePipeline,
    /// What it is told before each dispatch.
    told: wgpu::Buffer,
    group: wgpu::BindGroup,
}

impl Launch {
    /// Binds the buffers in the order of the bindings.
    fn new(
        gpu: &Arc<Gpu>,
        what: &'static str,
        pipeline: &wgpu::ComputePipeline,
        told: &wgpu::Buffer,
        others: &[&wgpu::Buffer],
    ) -> Result<Self, DeviceError> {
        let entries: Vec<_> = std::iter::once(told)
            .chain(others.iter().copied())
            .zip(0..)
            .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let group = gpu.scoped(what, 0, |device| {
            let layout = pipeline.get_bind_group_layout(0);
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries })
        })?;
        Ok(Self { gpu: gpu.clone(), what, pipeline: pipeline.clone(), told: told.clone(), group })
    }

    /// Hands over one dispatch without waiting for it. Uploads wait their turn among the dispatches.
    fn dispatch(&self, told: &[u8], [x, y]: [usize; 2]) -> Result<(), DeviceError> {
        self.gpu.upload(&self.told, 0, told)?;
        self.gpu.count_dispatches(1);
        self.gpu.scoped(self.what, 0, |device| {
            let mut commands = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            {
                let mut pass = commands.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                pass.set_pipeline(&self.pipeline);
                pass.set_bind_group(0, &self.group, &[]);
                pass.dispatch_workgroups(x as u32, y as u32, 1);
            }
            self.gpu.queue.submit([commands.finish()]);
        })
    }
}

/// The pipeline of a checked text, with the bindings that it names.
fn pipeline(gpu: &Gpu, what: &str, source: &Source) -> Result<wgpu::ComputePipeline, DeviceError> {
    gpu.scoped(what, 0, |device| {
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(what),
            source: wgpu::ShaderSource::Wgsl(source.text().into()),
        });
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(what),
            layout: None,
            module: &module,
            entry_point: Some("lp_main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was learned of large batches must not make dispatches of small ones long, whose steps may take as long.
    #[test]
    fn the_pace_is_never_taken_for_better_than_it_was() {
        let pace = Pace { columns: 20, step_s: 1e-3 };
        assert_eq!([2, 20, 40].map(|columns| pace.step_s(columns)), [1e-3, 1e-3, 2e-3]);
    }

    #[test]
    fn the_texts_are_valid_for_every_shape() {
        for hidden in [vec![], vec![1], vec![3, 9, 4], vec![100, 50, 20]] {
            for n_in in [1, 4, 31] {
                if let Err(error) = Texts::new(&NetworkLayout::new(n_in, &hidden)) {
                    panic!("{n_in} {hidden:?}: {error}");
                }
            }
        }
    }
}
