//! Evaluations a second by batch size of four likelihoods, on the CPU and on the best adapter of this computer: the table of `gpu_report`.

#[path = "../examples/gpu_report/rates.rs"]
mod rates;
#[allow(dead_code)]
#[path = "../examples/gpu_report/section.rs"]
mod section;

use livepoint::GpuOptions;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `cargo test` runs benchmarks too, only to see that they start.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    println!("{}", rates::section(&GpuOptions::default().software(true))?.markdown);
    Ok(())
}
