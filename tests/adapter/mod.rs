//! Whether tests that need a device can run here.

use livepoint::{GraphicsApi, list_gpus};

/// Whether `GpuOptions::default().software(true)` finds a device; says so where not, and fails if LIVEPOINT_REQUIRE_GPU=1 asks for one.
pub fn is_there() -> bool {
    let there = list_gpus().iter().any(|gpu| gpu.api != GraphicsApi::OpenGl);
    let required = cfg!(feature = "gpu") && std::env::var("LIVEPOINT_REQUIRE_GPU").is_ok_and(|value| value == "1");
    assert!(there || !required, "no adapter, and LIVEPOINT_REQUIRE_GPU=1");
    if !there {
        println!("no adapter: skipped");
    }
    there
}
