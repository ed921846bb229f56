//! A device that hangs and one that runs out of memory: each in a program of its own, under a time limit, on a software adapter only.

mod device;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use livepoint::{
    Backend, DeviceError, DeviceKind, EvaluationError, Likelihood, NeuralBoundSampler, Prior, Run, RunErrorKind,
    list_gpus,
};

/// Names the scenario that this program plays when it is started as its own child.
const SCENARIO: &str = "LIVEPOINT_TEST_SCENARIO";

const SCENARIOS: &[(&str, fn())] = &[("hang", hang), ("out_of_memory", out_of_memory)];

/// A child that has not ended by then is killed, and the test fails.
const LIMIT: Duration = Duration::from_secs(60);

fn main() {
    if let Ok(name) = std::env::var(SCENARIO) {
        let (_, play) = SCENARIOS.iter().find(|(known, _)| *known == name).expect("a scenario");
        return play();
    }
    // On hardware a hung kernel would take the desktop with it.
    let software = list_gpus().first().is_some_and(|gpu| gpu.kind == DeviceKind::Software);
    let can_run = device::is_there() && (software || list_gpus().is_empty());
    device::run(SCENARIOS.iter().map(|&(name, _)| device::trial(name, can_run, move || child(name))).collect())
}

/// Plays a scenario in a child and waits for it to end well.
fn child(name: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(SCENARIO, name)
        .stdout(Stdio::null())
        .spawn()
        .expect("a child");
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{name} ended with {status}");
            return;
        }
        if start.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("{name} did not end within {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A kernel that loops for longer than the time limit near the peak, which the first points do not meet.
fn hang() {
    // llvmpipe ends loops after 65,535 iterations: the body is made long instead.
    let body = "y = lgamma(1.5 + fract(y));\n".repeat(60);
    let text = format!(
        "fn log_likelihood_term(theta: Theta, i: u32) -> f32 {{
            var y = theta[0] + f32(i);
            if abs(theta[0]) < 1e-3 {{
                for (var i = 0u; i < 60000u; i++) {{ {body} }}
            }}
            return -2e4 * theta[0] * theta[0] + 1e-20 * y;
        }}"
    );
    let prior = Prior::new().uniform("x", -1.0..1.0);
    let options = device::options().timeout(Duration::from_millis(300));
    let error = Run::new(&prior, Likelihood::wgsl(text).sum_over(64))
        .backends((Backend::from(options), Backend::cpu(1)))
        .sample(NeuralBoundSampler::default().n_live(2000).seed(1))
        .expect_err("a device that hangs");
    assert!(
        matches!(&error.kind, RunErrorKind::Likelihood(EvaluationError::Device(DeviceError::Hung { .. }))),
        "{error:?}"
    );
    assert!(error.to_string().contains("loop that does not end"), "{error}");
    assert!(error.result.n_like() > 0, "nothing was kept");
}

/// Less address space than the data need: the driver refuses the buffer.
fn out_of_memory() {
    let prior = Prior::new().uniform("x", -1.0..1.0);
    let text = "fn log_likelihood(theta: Theta) -> f32 { return -theta[0] * theta[0] + 1e-30 * large[0]; }";
    let run = |likelihood: livepoint::WgslLikelihood| {
        Run::new(&prior, likelihood)
            .backends((Backend::from(device::options()), Backend::cpu(1)))
            .n_like_max(100)
            .sample(NeuralBoundSampler::default())
    };
    // Opens the device while there is room for it.
    run(Likelihood::wgsl(text).data("large", vec![1.0])).expect("a small run");
    let large = vec![1.0; 30 << 20];
    let likelihood = Likelihood::wgsl(text).data("large", large);
    // What the host needs for the data in f32, 120 MiB, and not the device's 120 MiB.
    let used: u64 = std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').next().unwrap().parse().unwrap();
    let limit = libc::rlimit { rlim_cur: used * 4096 + (200 << 20), rlim_max: libc::RLIM_INFINITY };
    // SAFETY: setrlimit reads one struct and changes nothing in memory.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    let error = run(likelihood).expect_err("a device without room");
    assert!(
        matches!(&error.kind, RunErrorKind::Likelihood(EvaluationError::Device(DeviceError::OutOfMemory { .. }))),
        "{error:?}"
    );
    assert!(error.to_string().contains("data `large`"), "{error}");
}
