//! The fused kernel of a WGSL likelihood: prior transform and log L of a batch in one dispatch.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::batch::{self, Batch, OWN_BINDINGS, WORKGROUP};
use super::library;
use super::self_test::self_test;
use super::source::{ShaderError, Signature, Source, reflect};
use super::transform::TransformPlan;
use crate::backend::{DeviceError, Gpu};

/// A chunk grows while it takes less than this, so that no watchdog of a desktop bites and progress is heard.
const CHUNK_S: f64 = 0.1;

/// Rows of the first chunk, before anything is known of their cost.
const FIRST_ROWS: usize = 1024;

/// A NaN that no computation makes: the mark of a row that was not written.
const BLANK: u32 = 0x7fab_cdef;

/// A named read-only buffer of the user's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BufferData {
    pub(crate) name: String,
    /// WGSL that comes before the buffer: the struct of its elements.
    pub(crate) before: String,
    /// WGSL type of an element.
    pub(crate) element: String,
    pub(crate) values: Vec<f32>,
    /// Elements that a likelihood may loop over.
    pub(crate) rows: usize,
}

/// What a kernel is made of.
#[derive(Debug, Clone)]
pub(crate) struct EvaluateOptions {
    pub(crate) user: String,
    /// WGSL after the buffers and before the user's text: constants, functions over buffers.
    pub(crate) declarations: String,
    pub(crate) buffers: Vec<BufferData>,
    pub(crate) n_derived: usize,
    pub(crate) n_terms: Option<usize>,
}

impl EvaluateOptions {
    /// Everything before the entry point, checked, and the form of the likelihood.
    fn base(&self, n_params: usize) -> Result<(Source, Signature), ShaderError> {
        let mut head = batch::header(n_params) + &format!("const N_DERIVED: u32 = {}u;\n", self.n_derived);
        if self.n_derived > 0 {
            head += "alias Derived = array<f32, N_DERIVED>;\n";
        }
        if let Some(n_terms) = self.n_terms {
            head += &format!("const N_TERMS: u32 = {n_terms}u;\n");
        }
        for (k, BufferData { name, before, element, .. }) in self.buffers.iter().enumerate() {
            let binding = OWN_BINDINGS + k;
            head += &format!("{before}\n@group(0) @binding({binding}) var<storage, read> {name}: array<{element}>;\n");
        }
        let source =
            Source::default().part(&library::text()).part(&head).part(&self.declarations).user_part(&self.user);
        let (module, _) = source.check()?;
        let signature = reflect(&module, n_params, self.n_derived)?;
        match (signature.term, self.n_terms) {
            (true, None) => {
                Err(ShaderError::new("log_likelihood_term is there, but not how many terms: say so with .sum_over(n)"))
            }
            (false, Some(n)) => Err(ShaderError::new(format!(
                ".sum_over({n}) wants fn log_likelihood_term(theta: array<f32, N_DIM>, i: u32) -> f32 in place of log_likelihood"
            ))),
            _ => Ok((source, signature)),
        }
    }

    /// The form of the likelihood for `n_params` parameters.
    ///
    /// # Errors
    /// Text that does not parse or validate, or has no likelihood in it.
    pub(crate) fn signature(&self, n_params: usize) -> Result<Signature, ShaderError> {
        self.base(n_params).map(|(_, signature)| signature)
    }

    /// The whole text, checked.
    ///
    /// # Errors
    /// As [`signature`](Self::signature).
    pub(crate) fn compose(&self, plan: &TransformPlan) -> Result<(Source, Signature), ShaderError> {
        let (source, signature) = self.base(plan.columns.len())?;
        let theta = "var hi: Theta;\n    var lo: Theta;\n    lp_theta(row, &hi, &lo);\n";
        let arguments = if signature.theta_pair { "hi, lo" } else { "hi" };
        let glue = if signature.term {
            format!(
                "fn lp_sum_terms(row: u32, first: u32) -> vec2<f32> {{\n    {theta}    var sum: Sum;\n\
                 \x20   for (var i = first; i < N_TERMS; i += {WORKGROUP}u) {{\n\
                 \x20       sum_add(&sum, log_likelihood_term({arguments}, i));\n    }}\n    return sum_pair(sum);\n}}\n"
            )
        } else {
            let (derive, derived) = match signature.derived {
                Some(of) => (format!("var derived: {of};\n"), ", &derived"),
                None => (String::new(), ""),
            };
            let (first, second) =
                if signature.value_pair { (".x", "lp_out[lp_batch.n_points + row] = log_l.y;\n") } else { ("", "") };
            let n_values = n_values(signature);
            let keep: String = (0..self.n_derived)
                .map(|k| format!("    lp_out[{}u * lp_batch.n_points + row] = derived[{k}];\n", n_values + k))
                .collect();
            format!(
                "fn lp_evaluate(row: u32) {{\n    {theta}    {derive}    let log_l = log_likelihood({arguments}{derived});\n\
                 \x20   lp_out[row] = log_l{first};\n    {second}{keep}}}\n"
            )
        };
        let entry = if signature.term {
            include_str!("../../shaders/evaluate_terms.wgsl")
        } else {
            include_str!("../../shaders/evaluate.wgsl")
        };
        let source = source.part(include_str!("../../shaders/prior.wgsl")).part(&plan.wgsl()).part(&glue).part(entry);
        let (module, _) = source.check()?;
        Batch::check(&module)?;
        Ok((source, signature))
    }
}

/// Values of log L that come back for each point.
fn n_values(signature: Signature) -> usize {
    if signature.value_pair { 2 } else { 1 }
}

/// A kernel on its device, with its data and the buffers that it uses again and again.
pub(crate) struct EvaluateKernel {
    gpu: Arc<Gpu>,
    pipeline: wgpu::ComputePipeline,
    data: Vec<wgpu::Buffer>,
    batch: wgpu::Buffer,
    signature: Signature,
    n_in: usize,
    n_out: usize,
    #[cfg(feature = "testing")]
    rows_max: usize,
    state: Mutex<State>,
}

/// What changes from batch to batch.
struct State {
    buffers: Option<Buffers>,
    /// Rows of the next chunk, and the most there may be.
    rows: usize,
    rows_max: usize,
}

/// Where the rows of a batch come from.
#[derive(Clone, Copy)]
enum Input<'a> {
    /// Packed on the host.
    Packed(&'a [[f32; 2]]),
    /// They lie on the device, `stride` rows of them, and those from `first` on are meant.
    Resident { buffer: &'a wgpu::Buffer, first: usize, stride: usize },
}

/// Room for `rows` points.
struct Buffers {
    rows: usize,
    input: wgpu::Buffer,
    output: wgpu::Buffer,
    /// What the output holds before each chunk: a row that the device left out is noticed, and not taken for a value.
    blank: wgpu::Buffer,
    staging: wgpu::Buffer,
    group: wgpu::BindGroup,
}

/// Why a kernel could not be made.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum KernelError {
    #[error("{0}")]
    Shader(#[from] ShaderError),
    #[error("{0}")]
    Device(#[from] DeviceError),
}

impl EvaluateKernel {
    /// Compiles the kernel and uploads its data. Cost: tens of milliseconds, more on some drivers.
    ///
    /// # Errors
    /// Text that does not validate, data over the device's limits, a driver that refuses the kernel.
    pub(crate) fn new(gpu: Arc<Gpu>, options: &EvaluateOptions, plan: &TransformPlan) -> Result<Self, KernelError> {
        let (source, signature) = options.compose(plan)?;
        let traits = self_test(&gpu)?;
        if (signature.theta_pair || signature.value_pair) && !traits.exact_sums {
            return Err(KernelError::Device(DeviceError::Driver {
                adapter: gpu.name(),
                reason:
                    "its compiler simplifies sums that must be exact, so values in two parts cannot be had here; use a \
                         likelihood in plain f32, or another device"
                        .to_owned(),
            }));
        }
        // A loop over data names their number.
        let looped = |buffer: &&BufferData| options.user.contains(&format!("N_{}", buffer.name.to_uppercase()));
        let longest = options.buffers.iter().filter(looped).max_by_key(|buffer| buffer.rows);
        if let (false, Some(limit), Some(buffer)) = (signature.term, traits.loop_limit, longest)
            && buffer.rows > limit as usize
        {
            return Err(KernelError::Device(DeviceError::Limit {
                adapter: gpu.name(),
                what: format!("a loop over `{}`, in iterations,", buffer.name),
                needed: buffer.rows as u64,
                limit: u64::from(limit),
                advice: "it cuts longer ones short in silence: write the sum as log_likelihood_term with .sum_over(n)",
            }));
        }
        let storage_limit = gpu.limits.max_storage_buffers_per_shader_stage as usize;
        let n_storage = OWN_BINDINGS - 1 + options.buffers.len();
        if n_storage > storage_limit {
            return Err(KernelError::Device(DeviceError::Limit {
                adapter: gpu.name(),
                what: "the likelihood, in buffers (two of them for points and results),".to_owned(),
                needed: n_storage as u64,
                limit: storage_limit as u64,
                advice: "put columns of one length into one .table",
            }));
        }
        let pipeline = batch::pipeline(&gpu, "the WGSL likelihood", &source, options.buffers.len())?;
        let mut data = Vec::new();
        for BufferData { name, values, .. } in &options.buffers {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
            let buffer = gpu.buffer(&format!("data `{name}`"), 4 * values.len() as u64, usage)?;
            gpu.scoped(name, 0, |_| gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(values)))?;
            data.push(buffer);
        }
        let batch = Batch::buffer(&gpu)?;

        let n_in = plan.n_travelling();
        let n_out = n_values(signature) + options.n_derived;
        let limits = &gpu.limits;
        let storage = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size) as usize;
        let groups = limits.max_compute_workgroups_per_dimension as usize;
        let rows_max = if signature.term { groups } else { groups * WORKGROUP };
        let rows_max = rows_max.min(storage / (8 * n_in.max(1))).min(storage / (4 * n_out)).max(1);
        let state = Mutex::new(State { buffers: None, rows: FIRST_ROWS.min(rows_max), rows_max });
        let kernel = Self {
            gpu,
            pipeline,
            data,
            batch,
            signature,
            n_in,
            n_out,
            #[cfg(feature = "testing")]
            rows_max,
            state,
        };
        // No points: the driver compiles, and what follows is timed without it.
        let buffers = kernel.room(1)?;
        let commands = kernel.commands(&buffers, 0, Input::Packed(&[]))?;
        kernel.gpu.submit_first("the WGSL likelihood", commands)?;
        Ok(kernel)
    }

    /// The device.
    pub(crate) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The form of the likelihood.
    pub(crate) fn signature(&self) -> Signature {
        self.signature
    }

    /// Values of log L that come back for each point, before the derived values.
    pub(crate) fn n_values(&self) -> usize {
        n_values(self.signature)
    }

    /// Takes `n_points` points through the kernel: those of `resident` from row `first` on, a buffer of `stride` rows on the device, column after column; else `fill(rows,
    /// input)` writes the travelling values of some rows in that order. `take(rows, output)` gets their results: log L (one value or two), then derived values.
    ///
    /// # Errors
    /// [`DeviceError`] of the first chunk that failed; the results of the chunks before it were taken.
    pub(crate) fn run(
        &self,
        n_points: usize,
        resident: Option<(&wgpu::Buffer, usize, usize)>,
        mut fill: impl FnMut(std::ops::Range<usize>, &mut [[f32; 2]]),
        mut take: impl FnMut(std::ops::Range<usize>, &[f32]),
    ) -> Result<(), DeviceError> {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut input = Vec::new();
        let mut start = 0;
        while start < n_points {
            let n = state.rows.min(n_points - start);
            let source = match resident {
                Some((buffer, first, stride)) => Input::Resident { buffer, first: first + start, stride },
                None => {
                    input.clear();
                    input.resize(n * self.n_in, [0.0; 2]);
                    fill(start..start + n, &mut input);
                    Input::Packed(&input)
                }
            };
            let before = Instant::now();
            let output = match self.chunk(state, n, source) {
                // A card that others use too may have no room for what it could hold.
                Err(DeviceError::OutOfMemory { .. }) if n > 1 => {
                    state.rows = n / 2;
                    state.rows_max = n / 2;
                    continue;
                }
                output => output?,
            };
            let seconds = before.elapsed().as_secs_f64();
            take(start..start + n, &output);
            start += n;
            // By at most four at a time: the first chunks of a device are slower than the next.
            let possible = (n as f64 * (CHUNK_S / seconds.max(1e-6)).min(4.0)) as usize;
            if n == state.rows || possible < state.rows {
                state.rows = possible.clamp(1, state.rows_max);
            }
        }
        Ok(())
    }

    fn chunk(&self, state: &mut State, n: usize, input: Input<'_>) -> Result<Vec<f32>, DeviceError> {
        let buffers = match state.buffers.take() {
            Some(buffers) if buffers.rows >= n => buffers,
            _ => self.room(n.next_power_of_two().min(state.rows_max))?,
        };
        let commands = self.commands(&buffers, n, input)?;
        let bytes = (4 * n * self.n_out) as u64;
        let output: Vec<f32> =
            bytemuck::pod_collect_to_vec(&self.gpu.fetch("the WGSL likelihood", commands, &buffers.staging, bytes)?);
        state.buffers = Some(buffers);
        match output[..n].iter().position(|value| value.to_bits() == BLANK) {
            Some(row) => Err(DeviceError::Driver {
                adapter: self.gpu.name(),
                reason: format!("row {row} of a batch of {n} came back untouched: the kernel did not run to its end"),
            }),
            None => Ok(output),
        }
    }

    /// Seconds for each of `repeats` dispatches over the same `n` points, which stay on the device: what the device can do where nothing
    /// travels.
    ///
    /// # Errors
    /// As [`run`](Self::run); `n` may be at most [`rows_max`](Self::rows_max).
    #[cfg(feature = "testing")]
    pub(crate) fn resident(&self, n: usize, input: &[[f32; 2]], repeats: usize) -> Result<f64, DeviceError> {
        let buffers = self.room(n)?;
        let first = self.commands(&buffers, n, Input::Packed(input))?;
        self.gpu.submit("a benchmark", first)?;
        let groups = if self.signature.term { n } else { n.div_ceil(WORKGROUP) }.max(1) as u32;
        let commands = self.gpu.scoped("a benchmark", 0, |device| {
            let mut commands = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for _ in 0..repeats {
                let mut pass = commands.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                pass.set_pipeline(&self.pipeline);
                pass.set_bind_group(0, &buffers.group, &[]);
                pass.dispatch_workgroups(groups, 1, 1);
            }
            commands
        })?;
        let start = Instant::now();
        self.gpu.submit("a benchmark", commands)?;
        Ok(start.elapsed().as_secs_f64() / repeats as f64)
    }

    /// The most points of one dispatch.
    #[cfg(feature = "testing")]
    pub(crate) fn rows_max(&self) -> usize {
        self.rows_max
    }

    /// Uploads `n` points and records what takes them to results on the host's side.
    fn commands(&self, buffers: &Buffers, n: usize, input: Input<'_>) -> Result<wgpu::CommandEncoder, DeviceError> {
        let bytes = (4 * n * self.n_out) as u64;
        let (batch, group) = match input {
            Input::Packed(rows) => {
                self.gpu.upload(&buffers.input, 0, bytemuck::cast_slice(rows))?;
                (Batch::new(n), buffers.group.clone())
            }
            Input::Resident { buffer, first, stride } => {
                (Batch::part(first, n, stride), self.group(buffer, &buffers.output)?)
            }
        };
        self.gpu.count_dispatches(1);
        self.gpu.scoped("a batch", bytes, |device| {
            self.gpu.queue.write_buffer(&self.batch, 0, bytemuck::bytes_of(&batch));
            let mut commands = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            commands.copy_buffer_to_buffer(&buffers.blank, 0, &buffers.output, 0, bytes);
            {
                let mut pass = commands.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                pass.set_pipeline(&self.pipeline);
                pass.set_bind_group(0, &group, &[]);
                let groups = if self.signature.term { n } else { n.div_ceil(WORKGROUP) }.max(1);
                pass.dispatch_workgroups(groups as u32, 1, 1);
            }
            commands.copy_buffer_to_buffer(&buffers.output, 0, &buffers.staging, 0, bytes);
            commands
        })
    }

    /// Buffers for `rows` points.
    fn room(&self, rows: usize) -> Result<Buffers, DeviceError> {
        use wgpu::BufferUsages as Usage;
        let gpu = &self.gpu;
        let (bytes_in, bytes_out) = (8 * rows * self.n_in, 4 * rows * self.n_out);
        let input = gpu.buffer("the points of a batch", bytes_in.max(8) as u64, Usage::STORAGE | Usage::COPY_DST)?;
        let output =
            gpu.buffer("the results of a batch", bytes_out as u64, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)?;
        let blank = gpu.buffer("blank results", bytes_out as u64, Usage::COPY_SRC | Usage::COPY_DST)?;
        let words = vec![BLANK; rows * self.n_out];
        gpu.scoped("blank results", 0, |_| gpu.queue.write_buffer(&blank, 0, bytemuck::cast_slice(&words)))?;
        let staging = gpu.buffer("the results on the host", bytes_out as u64, Usage::MAP_READ | Usage::COPY_DST)?;
        let group = self.group(&input, &output)?;
        Ok(Buffers { rows, input, output, blank, staging, group })
    }

    fn group(&self, input: &wgpu::Buffer, output: &wgpu::Buffer) -> Result<wgpu::BindGroup, DeviceError> {
        let buffers = [&self.batch, input, output].into_iter().chain(&self.data);
        let entries: Vec<_> = buffers
            .enumerate()
            .map(|(k, buffer)| wgpu::BindGroupEntry { binding: k as u32, resource: buffer.as_entire_binding() })
            .collect();
        self.gpu.scoped("the bindings", 0, |device| {
            let layout = self.pipeline.get_bind_group_layout(0);
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries })
        })
    }
}
