//! Tests that need a device: which one they take, and how they show when there is none.

use livepoint::{GpuOptions, GraphicsApi, list_gpus};

/// The best adapter, a software one where there is no other.
pub fn options() -> GpuOptions {
    GpuOptions::default().software(true)
}

/// Whether [`options`] find an adapter, or it is an error that they do not.
pub fn is_there() -> bool {
    // Without the feature there is nothing that could be required.
    let required = cfg!(feature = "gpu") && std::env::var("LIVEPOINT_REQUIRE_GPU").is_ok_and(|value| value == "1");
    required || list_gpus().iter().any(|gpu| gpu.api != GraphicsApi::OpenGl)
}

/// A test; one that cannot run shows as ignored.
pub fn trial(name: &str, can_run: bool, test: impl FnOnce() + Send + 'static) -> libtest_mimic::Trial {
    libtest_mimic::Trial::test(name, move || {
        test();
        Ok(())
    })
    .with_ignored_flag(!can_run)
}

/// Runs the tests one after the other, since they share the device, and ends the program.
pub fn run(trials: Vec<libtest_mimic::Trial>) -> ! {
    let mut arguments = libtest_mimic::Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    libtest_mimic::run(&arguments, trials).exit()
}
