//! The contract suite: the same checks on the CPU, on a device, and on it under WebGPU's default limits.
//!
//! Without an adapter the checks of devices show as ignored; with LIVEPOINT_REQUIRE_GPU=1 they fail.

#[path = "contract/mod.rs"]
mod contract;
mod device;

use libtest_mimic::Trial;
use livepoint::Backend;

fn main() {
    let mut trials: Vec<Trial> = contract::on_backend(&Backend::cpu(3))
        .into_iter()
        .map(|check| device::trial(&format!("cpu::{}", check.name), true, check.run))
        .collect();
    let there = device::is_there();
    for (name, options) in [("gpu", device::options()), ("gpu_webgpu_limits", device::options().webgpu_limits(true))] {
        for check in contract::on_device(&options) {
            trials.push(device::trial(&format!("{name}::{}", check.name), there, check.run));
        }
    }
    device::run(trials)
}
