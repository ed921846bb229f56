//! Evaluations a second by batch size of four likelihoods, on the CPU and on the best adapter of this computer: the table of `gpu_report`.

#[path = "../examples/gpu_report/rates.rs"]
mod rates;

use livepoint::GpuOptions;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `cargo test` runs benchmarks too, only to see that they start.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let (_, table, _) = rates::table(&GpuOptions::default().software(true))?;
    println!("{table}");
    Ok(())
}
