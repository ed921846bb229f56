//! The most that the device can do, by two kernels that do nothing else, and what part of it our kernels reach.

use std::error::Error;
use std::fmt::Write;

use livepoint::testing::internals::{DeviceKernel, Stream, TestAsk};
use livepoint::testing::problem;
use livepoint::{Backend, GpuOptions, NetworkOptions};
use ndarray::Array2;
use serde_json::json;

use crate::section::Section;
use crate::{rates, sampler};

/// A launch grows until it takes half of this to all of it: far from what any watchdog minds.
const LAUNCH_S: f64 = 0.05;

/// Launches of which the quickest counts.
const LAUNCHES: usize = 10;

/// Invocations of a workgroup in both kernels.
const GROUP: usize = 256;

/// The most workgroups that every device takes in one dimension.
const GROUPS_MAX: usize = 65_535;

/// Operations of one invocation of `multiply_add.wgsl`: turns, chains, steps of each, lanes, and two for a multiply-add.
const STEPS: usize = 64 * 4;
const OPERATIONS: f64 = (STEPS * 8 * 4 * 2) as f64;

/// Operations that map a uniform parameter in pairs of f32 (`lp_uniform` in prior.wgsl), and that a term of a sum over data takes to be added (`sum_add`).
const UNIFORM: f64 = 38.0;
const SUM_ADD: f64 = 7.0;

/// Points of the evaluations that are timed.
const POINTS: usize = 1_000_000;

/// One of our kernels: how often a second it does its work, and what that is.
struct Kernel {
    name: &'static str,
    unit: &'static str,
    per_s: f64,
    operations: f64,
    bytes: f64,
}

/// The table of ceilings and that of fractions.
pub fn section(options: &GpuOptions, n_live: usize) -> Result<Section, Box<dyn Error>> {
    let Memory { bytes_per_s, mib } = memory(options)?;
    let Arithmetic { operations_per_s, wait_s } = arithmetic(options)?;
    let mut text = format!(
        "# Ceilings of the device, and what is reached of them\n\n\
         The quickest of {LAUNCHES} launches, each as large as {LAUNCH_S} s allow, the wait of the host included.\n\n\
         | ceiling | measured | by |\n|---|---|---|\n\
         | memory | {:.2} GB/s | a[i] = b[i] + 0.5 c[i] over three buffers of {mib:.0} MiB |\n\
         | f32 arithmetic | {:.2} GFLOP/s | 32 chains of multiply-adds in the registers of each invocation; a multiply-add is two operations |\n\
         | one launch and its wait | {:.1} us | one workgroup of the same |\n\n",
        bytes_per_s / 1e9,
        operations_per_s / 1e9,
        1e6 * wait_s
    );
    text += "Operations and bytes are those that the shape of a kernel asks for: each input read once, each output written once; what caches serve again (data of a \
             likelihood, the record and the weights of a bound) is not counted, nor are random numbers, logarithms, indices and tests. In pairs of f32 every single operation counts.\n\n\
             - Evaluation: points stay on the device. 10-D Gaussian: 38 operations for the prior of each parameter, 4 for its term; 8 bytes in for each parameter, 4 out. 1e5 data \
             points: 6 for a term, 7 to add it in a compensated sum.\n\
             - Draws: from the innermost bound of gauss10corr as the sampler asks for them, so with the host's half and the rows that come back. Triangular products n(n+1) to draw \
             and to test a place, 2 for each weight of the four networks for a draw that lies in its cell. Membership: rows that are inside, sent up and located.\n\
             - Training: from random weights in 10 dimensions. For each weight, point and epoch 2 forward, 2 for its gradient, 2 backward but in the first layer; weights and both moments read \
             and written in each step (24 bytes a weight), activations and their gradients written once and read twice.\n\n\
             | kernel | a second | operations each | bytes each | of arithmetic | of memory |\n|---|---|---|---|---|---|\n";
    let mut json_kernels = Vec::new();
    for Kernel { name, unit, per_s, operations, bytes } in kernels(options, n_live)? {
        let (of_arithmetic, of_memory) = (per_s * operations / operations_per_s, per_s * bytes / bytes_per_s);
        writeln!(
            text,
            "| {name} | {per_s:.2e} {unit} | {operations:.3e} | {bytes:.3e} | {:.2} % | {:.2} % |",
            100.0 * of_arithmetic,
            100.0 * of_memory
        )?;
        json_kernels.push(json!({
            "kernel": name, "unit": unit, "per_s": per_s, "operations": operations, "bytes": bytes,
            "fraction_of_arithmetic": of_arithmetic, "fraction_of_memory": of_memory,
        }));
    }
    let json = json!({
        "memory_bytes_per_s": bytes_per_s, "operations_per_s": operations_per_s, "launch_and_wait_s": wait_s, "kernels": json_kernels,
    });
    Ok(Section { markdown: text, json, passed: true })
}

struct Memory {
    bytes_per_s: f64,
    /// Of each buffer, as far as a launch goes.
    mib: f64,
}

fn memory(options: &GpuOptions) -> Result<Memory, Box<dyn Error>> {
    // What one dimension of workgroups covers is 256 MiB: more than caches hold, three times.
    let n_groups = (DeviceKernel::longest(options)? / (4 * GROUP)).min(GROUPS_MAX);
    let n = 4 * GROUP * n_groups;
    let kernel = DeviceKernel::new(options, include_str!("triad.wgsl"), &[n, n, n])?;
    kernel.write(1, &[1.0, 2.0, 3.0, 4.0])?;
    kernel.write(2, &[4.0, 6.0, 8.0, 10.0])?;
    let (n_groups, seconds) = quickest(&kernel, n_groups as u32)?;
    let found = kernel.read(0, 4)?;
    if found != [3.0, 5.0, 7.0, 9.0] {
        return Err(format!("the triad gives {found:?}").into());
    }
    let bytes = 16.0 * GROUP as f64 * f64::from(n_groups);
    Ok(Memory { bytes_per_s: 3.0 * bytes / seconds, mib: bytes / f64::from(1 << 20) })
}

struct Arithmetic {
    operations_per_s: f64,
    /// Of a launch that does next to nothing.
    wait_s: f64,
}

fn arithmetic(options: &GpuOptions) -> Result<Arithmetic, Box<dyn Error>> {
    let n_groups = (DeviceKernel::longest(options)? / (4 * GROUP)).min(GROUPS_MAX);
    let kernel = DeviceKernel::new(options, include_str!("multiply_add.wgsl"), &[4 * GROUP * n_groups, 8])?;
    kernel.write(1, &[1.0; 8])?;
    let mut waits = (0..101).map(|_| kernel.launch(1)).collect::<Result<Vec<_>, _>>()?;
    waits.sort_by(f64::total_cmp);
    let (n_groups, seconds) = quickest(&kernel, n_groups as u32)?;
    let (found, expected) = (kernel.read(0, 4)?, (8 * STEPS + 28) as f32);
    if found != [expected; 4] {
        return Err(format!("sums of multiply-adds are {found:?}, not {expected}: loops were cut").into());
    }
    let operations = OPERATIONS * GROUP as f64 * f64::from(n_groups);
    Ok(Arithmetic { operations_per_s: operations / seconds, wait_s: waits[50] })
}

/// Workgroups of a launch of at most `most` that takes up to [`LAUNCH_S`], and its least time.
fn quickest(kernel: &DeviceKernel, most: u32) -> Result<(u32, f64), Box<dyn Error>> {
    let mut n_groups = 1;
    let mut seconds = kernel.launch(n_groups)?;
    while n_groups < most && seconds < 0.5 * LAUNCH_S {
        // By four at a time at most: a small launch that was quick says little of large ones.
        let growth = (LAUNCH_S / seconds).clamp(1.5, 4.0);
        n_groups = ((f64::from(n_groups) * growth).ceil() as u32).min(most);
        // Twice, since other programs may have come between.
        seconds = kernel.launch(n_groups)?.min(kernel.launch(n_groups)?);
    }
    for _ in 0..LAUNCHES {
        seconds = seconds.min(kernel.launch(n_groups)?);
    }
    Ok((n_groups, seconds))
}

fn kernels(options: &GpuOptions, n_live: usize) -> Result<Vec<Kernel>, Box<dyn Error>> {
    const D: usize = 10;
    let d = D as f64;
    let mut kernels = Vec::new();
    for (row, operations, bytes) in [
        (rates::gaussian(), d * (UNIFORM + 4.0), 8.0 * d + 4.0),
        (rates::many_data(), rates::N_DATA as f64 * (6.0 + SUM_ADD), 8.0 * 2.0 + 8.0),
    ] {
        let u = Array2::from_shape_fn((POINTS, row.prior.n_dim()), |(i, j)| {
            Stream::new(3).substream(j as u64).at(i as u64).uniform()
        });
        let per_s = rates::resident(&row, options, u.view())?;
        kernels.push(Kernel { name: row.name, unit: "evaluations", per_s, operations, bytes });
    }

    let network = NetworkOptions::default();
    let layers = layers(D, &network);
    let n_weights: f64 = layers.iter().map(|(n_in, n_out)| ((n_in + 1) * n_out) as f64).sum();
    let (triangle, n_networks) = (d * (d + 1.0), sampler::N_NETWORKS as f64);
    // The place in the cluster's frame, its norm, the quadratic surface, the networks.
    let accept = triangle + 2.0 * d + 3.0 * 0.5 * d * (d + 3.0) + n_networks * 2.0 * n_weights;
    // A position and the state of the row.
    let row_bytes = 8.0 * d + 16.0;
    let device = Backend::from(options.clone());
    let problem = problem("gauss10corr").ok_or("there is no problem `gauss10corr`")?;
    let mut nest = sampler::Path::explore(&problem, n_live)?.nest(&device)?;
    let innermost = sampler::N_BOUNDS;
    let drawn = sampler::draws(&mut nest, innermost..innermost + 1, TestAsk::Rows)?;
    let kept = drawn.proposals_per_s / drawn.draws_per_s;
    kernels.push(Kernel {
        name: "draws from a bound, 10 dims",
        unit: "draws",
        per_s: drawn.draws_per_s,
        operations: 2.0 * triangle + 2.0 * d + drawn.in_cell * accept,
        // Written, read by the test; the rows that are kept go to the host's memory and to the ring.
        bytes: (1.0 + drawn.in_cell) * row_bytes + kept * (row_bytes + 8.0 * d),
    });
    kernels.push(Kernel {
        name: "membership in a bound, 10 dims",
        unit: "rows",
        per_s: sampler::membership(&mut nest, innermost)?,
        operations: triangle + 2.0 * d + accept,
        // Uploaded, taken apart, tested.
        bytes: 3.0 * row_bytes,
    });

    let [fresh, _] = sampler::train(&device, D, n_live)?;
    // A network leaves out every fourth point.
    let n = (2 * n_live * (sampler::N_NETWORKS - 1) / sampler::N_NETWORKS) as f64;
    let n_batches = (n / network.batch_size as f64).ceil();
    let epochs = (network.max_iter as f64).min((network.max_steps as f64 / n_batches).ceil());
    let first = layers.first().map_or(0.0, |(n_in, n_out)| ((n_in + 1) * n_out) as f64);
    let activations: f64 = layers.iter().map(|(n_in, n_out)| (n_in + n_out) as f64).sum();
    kernels.push(Kernel {
        name: "training of an ensemble, 10 dims",
        unit: "ensembles",
        per_s: 1.0 / fresh.train_s,
        operations: n_networks * n * epochs * (6.0 * n_weights - 2.0 * first),
        bytes: n_networks * epochs * (n_batches * 24.0 * n_weights + n * 12.0 * activations),
    });
    Ok(kernels)
}

/// Inputs and units of each layer; the surface is one more input.
fn layers(n_dim: usize, network: &NetworkOptions) -> Vec<(usize, usize)> {
    let sizes: Vec<usize> =
        [n_dim + 1].into_iter().chain(network.hidden_layer_sizes.iter().copied()).chain([1]).collect();
    sizes.windows(2).map(|pair| (pair[0], pair[1])).collect()
}
