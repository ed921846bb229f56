//! A slow likelihood on the CPU and the sampler on a device, which draws the next rows while the likelihood is at work.
//!
//! The likelihood sleeps for a while with each batch, as a simulator in another program would; what the two halves take by the clock adds up to
//! more than the whole run where they work at the same time.

mod common;

use std::time::Duration;

use clap::Parser;
use livepoint::{Likelihood, Prior, ProgressLine, Run};
use ndarray::ArrayView2;

/// Run a likelihood that sleeps beside a sampler on another machine
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: common::CommonArgs,
    /// Milliseconds that each batch takes
    #[arg(long, value_name = "MS", default_value_t = 20)]
    sleep: u64,
}

fn main() -> Result<(), common::Failure> {
    let args = Args::parse();
    let args = Args { common: args.common.prepared(), ..args };
    let pause = Duration::from_millis(args.sleep);

    let prior = Prior::new().uniform("x", -5.0..5.0).uniform("y", -5.0..5.0);
    let likelihood = Likelihood::batch(move |theta: ArrayView2<f64>| {
        std::thread::sleep(pause);
        let log_l = |x: f64, y: f64| -100.0 * (y - x * x).powi(2) - (1.0 - x).powi(2);
        theta.rows().into_iter().map(|row| log_l(row[0], row[1])).collect::<Vec<f64>>()
    });

    let result = Run::new(&prior, likelihood)
        .backends(args.common.backends())
        .observer(ProgressLine::new())
        .sample(args.common.sampler())?;
    args.common.report(&result, "")?;
    let (timing, used) = (result.timing(), result.device_use());
    println!(
        "by the clock: likelihood {:.1} s, proposing {:.1} s, together {:.1} s; training on {}",
        timing.likelihood_wall_s, timing.sampler_wall_s, timing.wall_s, used.train_device
    );
    println!(
        "devices: {} kernels, {} waits, {:.1} MB up ({:.2} MB for training), {:.1} MB back",
        used.dispatches,
        used.host_waits,
        1e-6 * used.bytes_uploaded as f64,
        1e-6 * used.train_bytes_uploaded as f64,
        1e-6 * used.bytes_read_back as f64
    );
    Ok(())
}
