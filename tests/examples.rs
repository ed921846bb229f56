//! Runs every example as a program, with small settings, and reads what it prints.

mod adapter;

use std::path::PathBuf;
use std::process::{Command, Output};

use livepoint::{DeviceKind, GraphicsApi, list_gpus};

// `cargo test` builds the examples but runs no tests inside them; included here, their tests run with all others.
#[allow(dead_code)]
#[path = "../examples/common/mod.rs"]
mod common;
#[cfg(feature = "testing")]
#[allow(dead_code)]
#[path = "../examples/rv_51peg/model.rs"]
mod rv_51peg_model;

/// Largest |log Z - truth| in reported errors. The seeds are fixed, so this can only fail when the code changes; an honest
/// error is exceeded so far once in two million.
const MAX_PULL: f64 = 5.0;

/// Settings that take a second or so.
const SMALL: [&str; 8] = ["--n-live", "400", "--n-eff", "500", "--threads", "2", "--seed", "1"];

/// The example's program: examples lie beside the folder of the test programs.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let path = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is not there; run `cargo test`, or `cargo build --examples` first", path.display());
    path
}

fn run(name: &str, args: &[&str]) -> Output {
    Command::new(program(name)).args(args).env_remove("LIVEPOINT_RV7_DATA").output().unwrap()
}

/// Standard output of a run that must succeed.
fn stdout(name: &str, args: &[&str]) -> String {
    let output = run(name, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?} ended with {}: {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a run that the command line must stop, with exit status 2 and nothing on standard output.
fn refusal(name: &str, args: &[&str]) -> String {
    let output = run(name, args);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{name} {args:?}: {errors}");
    assert!(output.stdout.is_empty(), "{name} {args:?} prints {:?}", String::from_utf8_lossy(&output.stdout));
    assert!(!errors.contains("panicked"), "{errors}");
    errors
}

/// The first two numbers after `label`: a value and its error.
fn value_and_error(text: &str, label: &str) -> (f64, f64) {
    let start = text.find(label).unwrap_or_else(|| panic!("no `{label}` in:\n{text}")) + label.len();
    let mut numbers = text[start..]
        .split(|c: char| c.is_whitespace() || c == ',' || c == ';' || c == '±')
        .filter_map(|word| word.parse::<f64>().ok());
    let mut next = || numbers.next().unwrap_or_else(|| panic!("no two numbers after `{label}` in:\n{text}"));
    (next(), next())
}

fn assert_close(what: &str, log_z: f64, error: f64, truth: f64) {
    assert!(error > 0.0 && error < 1.0, "{what}: reported error {error}");
    let pull = (log_z - truth) / error;
    assert!(pull.abs() < MAX_PULL, "{what}: log Z {log_z} +- {error}, truth {truth}: {pull:.1} errors");
}

#[test]
fn hello_gaussian_finds_log_z() {
    let (log_z, error) = value_and_error(&stdout("hello_gaussian", &SMALL), "log Z");
    assert_close("hello_gaussian", log_z, error, 0.0);
}

#[test]
fn eight_schools_finds_log_z() {
    let text = stdout("eight_schools", &SMALL);
    let summary = text.lines().last().unwrap();
    let (log_z, error) = value_and_error(summary, "log Z");
    assert_close("eight_schools", log_z, error, -31.3113);
    assert!(summary.contains("by quadrature -31.3113"), "{summary}");
    assert!(text.contains("theta8"), "derived values are missing:\n{text}");
}

#[cfg(feature = "testing")]
mod with_testing {
    use serde_json::Value;

    use super::*;

    fn json_lines(args: &[&str]) -> Vec<Value> {
        let text = stdout("problems", &[&SMALL[..6], &["--json"], args].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    #[test]
    fn rv_51peg_finds_the_planet() {
        let out = tempfile::tempdir().unwrap();
        let folder = out.path().to_str().unwrap();
        // The full range of periods needs far more live points than a test should use.
        let text = stdout(
            "rv_51peg",
            &[&SMALL[..], &["--period-min", "4.2", "--period-max", "4.26", "--out", folder]].concat(),
        );
        let (log_bayes, error) = value_and_error(&text, "ln Bayes factor:");
        assert!(log_bayes > 100.0 && error < 1.0, "ln Bayes factor {log_bayes} +- {error}");
        let (period, _) = value_and_error(&text, "period");
        assert!((period - 4.2308).abs() < 2e-3, "period {period}:\n{text}");
        assert!(text.contains("minimum_mass"), "{text}");
        for model in ["no_planet", "one_planet"] {
            assert!(out.path().join(model).read_dir().unwrap().next().is_some(), "no files of {model}");
        }
    }

    #[test]
    fn rv_51peg_runs_on_all_backends() {
        // A window about the period that so few live points can search.
        let options =
            ["--n-live", "200", "--n-eff", "300", "--seed", "1", "--period-min", "4.23", "--period-max", "4.2316"];
        agree_on_all_backends("rv_51peg", &options, |text| value_and_error(text, "ln Bayes factor:"));
    }

    #[test]
    fn problems_runs_on_all_backends() {
        let read = |text: &str| {
            let record: Value = serde_json::from_str(text).unwrap();
            (record["log_z"].as_f64().unwrap(), record["log_z_error"].as_f64().unwrap())
        };
        for problem in ["loggamma2", "plateau"] {
            agree_on_all_backends("problems", &[&SMALL[..], &["--json", "--problem", problem]].concat(), read);
        }
    }

    #[test]
    fn calibrate_runs_on_a_device() {
        if !adapter::is_there() {
            return;
        }
        let options = ["--problems", "gauss1:2", "--n-live", "300", "--n-eff", "500", "--backend", "gpu:software"];
        let output = run("calibrate", &options);
        let table = String::from_utf8(output.stdout).unwrap();
        // Two runs may look biased; the exit status says what the table says.
        assert_eq!(output.status.code(), Some(i32::from(table.contains("FAIL"))), "{table}");
        assert!(table.contains("likelihood on gpu:software") && table.contains("| gauss1 | 2 |"), "{table}");
    }

    /// The WGSL against the Rust, all over the prior and at the planet.
    #[test]
    fn rv_51peg_is_the_same_function_on_a_device() {
        use livepoint::testing::internals::Stream;
        use livepoint::testing::log_likelihood_on;
        use livepoint::{Backend, GpuOptions, Likelihood, Prior};
        use ndarray::{Array2, ArrayView2};
        use rv_51peg_model::{Data, no_planet, noise, one_planet, orbit};

        if !adapter::is_there() {
            return;
        }
        const N: usize = 2000;
        let random = |i: usize, j: usize| Stream::new(1).substream(j as u64).at(i as u64).uniform();
        let data = std::sync::Arc::new(Data::of_51_pegasi());
        let compare = |prior: &Prior, likelihood: &Likelihood, u: ArrayView2<f64>, relative: f64| {
            let on = |backend: Backend| log_likelihood_on(prior, likelihood, &backend, u).unwrap();
            let (expected, expected_derived) = on(Backend::cpu(2));
            let (found, derived) = on(GpuOptions::default().software(true).into());
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

        compare(
            &noise(Prior::new()),
            &no_planet(&data),
            Array2::from_shape_fn((N, 4), |(i, j)| random(i, j)).view(),
            1e-6,
        );

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

    #[test]
    fn a_record_has_every_key_and_a_good_answer() {
        const NUMBERS: [&str; 17] = [
            "threads",
            "seed",
            "n_dim",
            "n_like",
            "n_like_exploration",
            "n_eff",
            "ess_kish",
            "log_z",
            "log_z_error",
            "log_z_truth",
            "log_z_truth_error",
            "max_weight_share",
            "wall_s",
            "cpu_s",
            "likelihood_s",
            "train_s",
            "peak_rss_mib",
        ];
        let out = tempfile::tempdir().unwrap();
        let folder = out.path().to_str().unwrap();
        let records =
            json_lines(&["--problem", "gauss3", "--seed", "3", "--likelihood-backend", "cpu:1", "--out", folder]);
        let [record] = &records[..] else { panic!("{} lines", records.len()) };
        let number = |key: &str| record[key].as_f64().unwrap_or_else(|| panic!("{key} is not a number in {record}"));
        for key in NUMBERS {
            assert!(number(key).is_finite(), "{key}");
        }
        for (key, text) in [
            ("problem", "gauss3"),
            ("sampler", "neural-bound"),
            ("likelihood_backend", "cpu:1"),
            ("sampler_backend", "cpu:2"),
        ] {
            assert_eq!(record[key], text);
        }
        assert_eq!((number("seed"), number("n_dim"), number("threads")), (3.0, 3.0, 1.0));
        assert_close("gauss3", number("log_z"), number("log_z_error"), number("log_z_truth"));
        assert!(number("n_eff") >= 500.0 && number("n_like") > number("n_like_exploration"), "{record}");
        assert_eq!(record["stopped"], "converged");
        assert!(record["warnings"].is_array(), "{record}");
        assert!(number("cpu_s") > 0.0 && number("peak_rss_mib") > 1.0, "{record}");
        assert!(number("max_weight_share") > 0.0 && number("max_weight_share") < 0.1, "{record}");
        assert!(out.path().read_dir().unwrap().next().is_some(), "--out is empty");
    }

    #[test]
    fn the_same_seed_gives_the_same_answer_for_any_threads() {
        let log_z =
            |threads: &str| json_lines(&["--problem", "corners", "--backend", threads])[0]["log_z"].as_f64().unwrap();
        assert_eq!(log_z("cpu:1").to_bits(), log_z("cpu:3").to_bits());
    }

    #[test]
    fn seeds_end_with_a_calibration() {
        let lines = json_lines(&["--problem", "gauss1", "--seeds", "1..4"]);
        assert_eq!(lines.len(), 5);
        let seeds: Vec<u64> = lines[..4].iter().map(|line| line["seed"].as_u64().unwrap()).collect();
        assert_eq!(seeds, [1, 2, 3, 4]);
        let calibration = &lines[4]["calibration"];
        assert_eq!(calibration["n_runs"], 4);
        for key in ["mean_bias", "mean_bias_error", "median_error"] {
            assert!(calibration[key].as_f64().is_some(), "{key} in {calibration}");
        }
        for key in ["mean", "p_mean", "variance", "p_variance"] {
            assert!(calibration["pulls"][key].as_f64().is_some(), "pulls.{key} in {calibration}");
        }
    }

    #[test]
    fn calibrate_writes_its_table_and_its_records() {
        let out = tempfile::tempdir().unwrap();
        let (table, records) = (out.path().join("table.md"), out.path().join("records.jsonl"));
        let (files, small) =
            ([table.to_str().unwrap(), records.to_str().unwrap()], ["--n-live", "300", "--n-eff", "500"]);
        let calibrate = |jobs: &str| {
            let options = ["--problems", "gauss1:3,constant2:2", "--threads", "1", "--jobs", jobs];
            let output =
                run("calibrate", &[&small[..], &options, &["--markdown", files[0], "--jsonl", files[1]]].concat());
            assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
            let table = std::fs::read_to_string(&table).unwrap();
            // Three runs may look biased; the exit status says what the table says.
            assert_eq!(output.status.code(), Some(i32::from(table.contains("FAIL"))), "{table}");
            let mut records: Vec<Value> = std::fs::read_to_string(&records)
                .unwrap()
                .lines()
                .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
                .collect();
            records.sort_by_key(|record| (record["problem"].to_string(), record["seed"].as_u64()));
            (table, records)
        };
        let (table, records) = calibrate("1");
        for text in [
            "command: `cargo calibrate --n-live 300",
            "machine: ",
            "\"n_live\":300",
            "Seeds 1 to R",
            "**Family verdict**",
        ] {
            assert!(table.contains(text), "no `{text}` in:\n{table}");
        }
        let seeds: Vec<u64> = records.iter().map(|record| record["seed"].as_u64().unwrap()).collect();
        assert_eq!(seeds, [1, 2, 1, 2, 3]);
        let log_z = |records: &[Value]| records.iter().map(|r| r["log_z"].as_f64().unwrap()).collect::<Vec<f64>>();
        let gauss1 = log_z(&records[2..]);
        let bias = format!("| gauss1 | 3 | {:+.5} ± ", gauss1.iter().sum::<f64>() / 3.0);
        assert!(table.contains(&bias), "no `{bias}` in:\n{table}");
        assert!(
            table.lines().any(|line| line.starts_with("| constant2 | 2 ") && line.ends_with("| pass |")),
            "{table}"
        );
        assert_eq!(log_z(&calibrate("3").1), log_z(&records), "jobs change the result");
    }

    #[test]
    fn calibrate_refuses_what_it_cannot_run() {
        for (args, reason) in [
            (["--problems", "no-such:3"], "there is no problem `no-such`"),
            (["--problems", "gauss3"], "as in gauss3:100"),
            (["--problems", "gauss3:1"], "fewer than two seeds"),
            (["--jobs", "0"], "0 is not in 1..=65535"),
            (["--markdown", "no/such/folder/table.md"], "cannot write the file no/such/folder/table.md"),
        ] {
            let message = refusal("calibrate", &args);
            assert!(message.contains(reason), "{args:?}: {message}");
        }
    }

    #[test]
    fn a_readable_run_names_the_truth() {
        let text = stdout("problems", &[&SMALL[..], &["--problem", "plateau"]].concat());
        let (_, error) = value_and_error(&text, "log Z - truth:");
        assert!(error.is_finite(), "{text}");
    }

    #[test]
    fn the_list_names_every_problem() {
        let text = stdout("problems", &["--list"]);
        for problem in livepoint::testing::all() {
            assert!(text.lines().any(|line| line.starts_with(problem.name)), "{} is missing", problem.name);
        }
        assert!(text.contains("rv7"));
    }

    #[test]
    fn problems_refuses_what_it_cannot_run() {
        for (args, reason) in [
            (&["--problem", "no-such"][..], "there is no problem `no-such`"),
            (&["--problem", "rv7"], "pip install radvel"),
            (&["--problem", "rv7", "--data", "no/such/file"], "no/such/file"),
            (&["--problem", "gauss3", "--seeds", "5"], "expected A..B"),
            (&["--problem", "gauss3", "--seeds", "5..5"], "at least two seeds"),
            (&["--problem", "gauss3", "--seed", "1", "--seeds", "1..2"], "cannot be used with"),
            (&["--problem", "gauss3", "--sampler", "magic"], "neural-bound"),
            (&[], "--problem"),
        ] {
            let message = refusal("problems", args);
            assert!(message.contains(reason), "{args:?}: {message}");
        }
        let message = refusal("rv_51peg", &["--period-min", "5", "--period-max", "4"]);
        assert!(message.contains("not a range"), "{message}");
    }
}

/// Pairs of backends: a device for both halves or for one, and the device where there is one.
const ON_A_DEVICE: [&[&str]; 3] = [
    &["--backend", "gpu:software"],
    &["--likelihood-backend", "gpu:software", "--sampler-backend", "cpu:2"],
    &["--likelihood-backend", "cpu:2", "--sampler-backend", "gpu:software"],
];

/// Runs an example on the CPU and by the backends that can be had here, and holds what `read` finds in their outputs together.
fn agree_on_all_backends(name: &str, options: &[&str], read: impl Fn(&str) -> (f64, f64)) {
    let run = |backends: &[&str]| read(&stdout(name, &[options, backends].concat()));
    let (log_z, error) = run(&["--backend", "cpu:2"]);
    let devices: &[&[&str]] = if adapter::is_there() { &ON_A_DEVICE } else { &[] };
    for backends in [&["--backend", "auto"][..]].iter().chain(devices) {
        let (other, other_error) = run(backends);
        assert!(error < 1.0 && other_error < 1.0, "{name} {backends:?}: errors {error} and {other_error}");
        let pull = (other - log_z) / error.hypot(other_error);
        assert!(pull.abs() < MAX_PULL, "{name} {backends:?}: {other} against {log_z} on the CPU, {pull:.1} errors");
    }
}

fn log_z(text: &str) -> (f64, f64) {
    value_and_error(text, "log Z")
}

#[test]
fn hello_gaussian_runs_on_all_backends() {
    agree_on_all_backends("hello_gaussian", &SMALL, log_z);
}

#[test]
fn eight_schools_runs_on_all_backends() {
    agree_on_all_backends("eight_schools", &SMALL, log_z);
}

#[test]
fn wgsl_likelihood_runs_on_all_backends() {
    agree_on_all_backends("wgsl_likelihood", &SMALL, log_z);
}

#[test]
fn a_gpu_that_is_not_there_ends_the_run_with_a_way_out() {
    let hardware = list_gpus().iter().any(|gpu| gpu.kind != DeviceKind::Software && gpu.api != GraphicsApi::OpenGl);
    for option in ["--backend", "--likelihood-backend", "--sampler-backend"] {
        for backend in ["gpu:no such card", "gpu:99", "gpu"].into_iter().take(if hardware { 2 } else { 3 }) {
            let output = run("hello_gaussian", &[&SMALL[..], &[option, backend]].concat());
            let message = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{option} {backend}: {message}");
            assert!(message.contains("use Backend::cpu(n)") && !message.contains("panicked"), "{message}");
        }
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_refused_before_the_run() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let folder = file.path().join("below-a-file");
    let message = refusal("hello_gaussian", &["--out", folder.to_str().unwrap()]);
    assert!(message.contains("cannot make the folder") && message.contains("below-a-file"), "{message}");
}
