//! The kernels that train an ensemble of small networks on the device and predict with it: weights never leave it.

mod texts;

use std::sync::Arc;
use std::time::Instant;

use bytemuck::Zeroable;

use super::bounds::Weights;
use super::evaluate::KernelError;
use super::network::{NETWORK_TILE, NetworkLayout, network_rows};
use super::self_test::self_test;
use super::source::Source;
use crate::backend::{DeviceError, Gpu};
use crate::rng::Stream;
#[cfg(feature = "testing")]
pub(crate) use texts::train_wgsl_texts;
use texts::{Prediction, Progress, Rows, Task, Texts, Training, iterations};

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
        let texts = Texts::new(layout, network_rows(&gpu))?;
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
        kernel.within_loop_limit("a network, in iterations of loops,", layout.iterations(network_rows(&kernel.gpu)))?;
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
        let most = self.gpu.limits.max_compute_workgroups_per_dimension as usize * NETWORK_TILE;
        let rows = self.row_s.map_or(FIRST_ROWS, |row_s| (DISPATCH_S / row_s) as usize);
        let rows = rows.next_multiple_of(NETWORK_TILE).clamp(NETWORK_TILE, most);
        let start = Instant::now();
        let predictor = self.predictor(what)?;
        for first in (0..n_points).step_by(rows) {
            let prediction = Prediction { first: first as u32, n_points: n_points as u32, zero: 0, padding: 0 };
            let groups = [rows.min(n_points - first).div_ceil(NETWORK_TILE), self.n_networks];
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
                if let Err(error) = Texts::new(&NetworkLayout::new(n_in, &hidden), 1) {
                    panic!("{n_in} {hidden:?}: {error}");
                }
            }
        }
    }
}
