//! Runs every example on a device as a program, with small settings, and holds what it finds to what the CPU finds.
//!
//! Without an adapter these tests show as ignored; with LIVEPOINT_REQUIRE_GPU=1 they fail.

mod device;
mod programs;

use livepoint::testing::internals::Stream;
use livepoint::testing::log_likelihood_on;
use livepoint::{Backend, Likelihood, Prior};
use ndarray::{Array2, ArrayView2};
use programs::{RV_51PEG_TINY, SMALL, agree, log_z, run, stdout, value_and_error};
use rv_51peg_model::{Data, no_planet, noise, one_planet, orbit};
use serde_json::Value;

#[allow(dead_code)]
#[path = "../examples/rv_51peg/model.rs"]
mod rv_51peg_model;

/// A device for both halves, and for one of them.
const ON_A_DEVICE: [&[&str]; 3] = [
    &["--backend", "gpu:software"],
    &["--likelihood-backend", "gpu:software", "--sampler-backend", "cpu:2"],
    &["--likelihood-backend", "cpu:2", "--sampler-backend", "gpu:software"],
];

const TESTS: &[(&str, fn())] = &[
    ("hello_gaussian", || agree("hello_gaussian", &SMALL, &ON_A_DEVICE, log_z)),
    ("eight_schools", || agree("eight_schools", &SMALL, &ON_A_DEVICE, log_z)),
    ("wgsl_likelihood", || agree("wgsl_likelihood", &SMALL, &ON_A_DEVICE, log_z)),
    ("tensor_likelihood", || agree("tensor_likelihood", &SMALL, &ON_A_DEVICE, log_z)),
    ("problems", problems),
    ("rv_51peg", rv_51peg),
    ("rv_51peg_is_the_same_function", rv_51peg_is_the_same_function),
    ("calibrate", calibrate),
    ("gpu_report", gpu_report),
    ("gpu_report_writes_json", gpu_report_writes_json),
];

fn main() {
    let there = device::is_there();
    device::run(TESTS.iter().map(|&(name, test)| device::trial(name, there, test)).collect())
}

fn problems() {
    let record = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let read = |text: &str| {
        let record = record(text);
        (record["log_z"].as_f64().unwrap(), record["log_z_error"].as_f64().unwrap())
    };
    for problem in ["loggamma2", "plateau"] {
        agree("problems", &[&SMALL[..], &["--json", "--problem", problem]].concat(), &ON_A_DEVICE, read);
    }
    let options = ["--json", "--problem", "constant2", "--likelihood-backend", "gpu:software"];
    let record = record(&stdout("problems", &[&SMALL[..], &options].concat()));
    assert_eq!((&record["likelihood_backend"], &record["sampler_backend"]), (&"gpu:software".into(), &"cpu:2".into()));
    let (device, threads) = (record["likelihood_device"].as_str().unwrap(), &record["sampler_device"]);
    assert!(!device.contains("thread") && *threads == "2 threads", "{record}");
}

/// That it ends well: so few points find no planet. The function is compared point by point.
fn rv_51peg() {
    for backends in ON_A_DEVICE {
        let text = stdout("rv_51peg", &[&RV_51PEG_TINY[..], backends].concat());
        let (log_bayes, error) = value_and_error(&text, "ln Bayes factor:");
        assert!(log_bayes.is_finite() && error > 0.0 && text.contains("gpu:software"), "{backends:?}: {text}");
    }
}

/// The contract suite, as the report on a user's own card runs it.
fn gpu_report() {
    let text = stdout("gpu_report", &["--backend", "gpu:software", "--part", "contract"]);
    assert!(text.contains(" passed, 0 failed, ") && text.contains("gpu, WebGPU's default limits"), "{text}");
}

/// The same numbers for people and for programs: whole runs on four pairs, ceilings and what is reached of them.
fn gpu_report_writes_json() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--part", "end-to-end,ceilings", "--problem", "constant1", "--n-live", "200", "--n-eff", "200"];
    let out = ["--backend", "gpu:software", "--out", folder.path().to_str().unwrap()];
    let text = stdout("gpu_report", &[&options[..], &out].concat());
    let report: Value = serde_json::from_slice(&std::fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    for key in ["device", "kind", "api", "driver", "self_test", "version", "commit", "command", "date"] {
        assert!(report[key].is_string(), "{key}: {report:#}");
    }
    assert!(!report["command"].as_str().unwrap().contains("--out"), "{report:#}");

    let parts = &report["parts"];
    let runs = parts["end_to_end"]["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4, "{parts:#}");
    for run in runs {
        for key in ["start_s", "run_s", "steps", "n_like", "log_z", "log_z_truth", "log_z_error", "host_waits"] {
            assert!(run[key].is_number(), "{key}: {run:#}");
        }
        let on_a_device = run["pair"].as_array().unwrap().contains(&"gpu".into());
        assert_eq!(on_a_device, run["host_waits"].as_u64().unwrap() > 0, "{run:#}");
    }
    let ceilings = &parts["ceilings"];
    for key in ["memory_bytes_per_s", "operations_per_s", "launch_and_wait_s"] {
        assert!(ceilings[key].as_f64().unwrap() > 0.0, "{key}: {ceilings:#}");
    }
    for kernel in ceilings["kernels"].as_array().unwrap() {
        let of = |key: &str| kernel[key].as_f64().unwrap();
        assert!(
            of("per_s") > 0.0 && of("fraction_of_arithmetic") > 0.0 && of("fraction_of_memory") > 0.0,
            "{kernel:#}"
        );
        // The title, and a row for each: what the file has is what was printed.
        let name = kernel["kernel"].as_str().unwrap();
        let table = std::fs::read_to_string(folder.path().join("ceilings.md")).unwrap();
        assert!(table.contains(&format!("| {name} |")) && text.contains(&format!("| {name} |")), "{table}");
    }
}

fn calibrate() {
    for backends in ON_A_DEVICE {
        let options = ["--problems", "gauss1:2", "--n-live", "300", "--n-eff", "500"];
        let output = run("calibrate", &[&options[..], backends].concat());
        let table = String::from_utf8(output.stdout).unwrap();
        // Two runs may look biased; the exit status says what the table says.
        assert_eq!(output.status.code(), Some(i32::from(table.contains("FAIL"))), "{table}");
        assert!(table.contains("on gpu:software") && table.contains("| gauss1 | 2 |"), "{table}");
    }
}

/// The WGSL against the Rust, all over the prior and at the planet.
fn rv_51peg_is_the_same_function() {
    const N: usize = 2000;
    let random = |i: usize, j: usize| Stream::new(1).substream(j as u64).at(i as u64).uniform();
    let data = std::sync::Arc::new(Data::of_51_pegasi());
    let compare = |prior: &Prior, likelihood: &Likelihood, u: ArrayView2<f64>, relative: f64| {
        let on = |backend: Backend| log_likelihood_on(prior, likelihood, &backend, u).unwrap();
        let (expected, expected_derived) = on(Backend::cpu(2));
        let (found, derived) = on(device::options().into());
        let mut worst = 0.0f64;
        for (found, expected) in found.iter().zip(&expected) {
            assert!(found.is_finite(), "{found} against {expected}");
            worst = worst.max((found - expected).abs() / (1e-4 + relative * expected.abs()));
        }
        for (found, expected) in derived.iter().zip(&expected_derived) {
            assert!((found - expected).abs() <= 1e-5 * expected.abs(), "minimum mass {found} against {expected}");
        }
        println!(
            "largest difference: {worst:.2} of what is allowed, largest log L {:.1}",
            expected.iter().fold(f64::MIN, |a, b| a.max(*b))
        );
        assert!(worst <= 1.0, "{worst} times what is allowed");
    };

    compare(&noise(Prior::new()), &no_planet(&data), Array2::from_shape_fn((N, 4), |(i, j)| random(i, j)).view(), 1e-6);

    let (prior, likelihood) = (noise(orbit(4.2..4.26)), one_planet(&data));
    // Every anomaly is off by a rounding of f32 or two. A thin orbit magnifies that by 1 / (1 - e) and more, and next to the peak log L changes
    // by thousands per radian.
    compare(&prior, &likelihood, Array2::from_shape_fn((N, 9), |(i, j)| random(i, j)).view(), 4e-6);

    // Middle and half width of the region in u: the planet as other fits have it, about five errors to each side.
    let log_u = |x: f64, low: f64, high: f64| (x / low).ln() / (high / low).ln();
    let at = [
        (log_u(4.230_786, 4.2, 4.26), 5e-5 / 0.06),
        (56.5 / 200.0, 4.0 / 200.0),
        (0.05, 0.05),
        (0.5, 0.5),
        (5.5632 / std::f64::consts::TAU, 0.002),
        (0.5 + 0.25 / 200.0, 5.0 / 200.0),
        (log_u(9.4, 0.1, 100.0), 0.05),
        (0.5 + 12.9 / 200.0, 2.0 / 200.0),
        (log_u(0.65, 0.1, 100.0), 0.1),
    ];
    let near = Array2::from_shape_fn((N, 9), |(i, j)| at[j].0 + at[j].1 * (2.0 * random(i, j) - 1.0));
    compare(&prior, &likelihood, near.view(), 4e-6);
}
