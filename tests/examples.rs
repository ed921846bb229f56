//! Runs every example on the CPU as a program, with small settings, and reads what it prints.

mod programs;

use livepoint::{DeviceKind, GraphicsApi, list_gpus};
use programs::{MAX_PULL, RV_51PEG_TINY, SMALL, agree, log_z, refusal, run, stdout, value_and_error};

// `cargo test` builds the examples but runs no tests inside them; included here, their tests run with all others.
#[allow(dead_code)]
#[path = "../examples/common/mod.rs"]
mod common;

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
            ("likelihood_device", "1 thread"),
            ("sampler_device", "2 threads"),
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
    fn a_record_names_the_machines_that_ran() {
        let record = &json_lines(&["--problem", "constant2", "--backend", "auto"])[0];
        let hardware = list_gpus().iter().any(|gpu| gpu.kind != DeviceKind::Software && gpu.api != GraphicsApi::OpenGl);
        for half in ["likelihood", "sampler"] {
            assert_eq!(record[format!("{half}_backend")], if hardware { "gpu" } else { "cpu" }, "{record}");
            let device = record[format!("{half}_device")].as_str().unwrap();
            assert_eq!(device.contains("thread"), !hardware, "{record}");
        }
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
        let calibrate_with = |jobs: &str, more: &[&str]| {
            let options = ["--problems", "gauss1:3,constant2:2", "--threads", "1", "--jobs", jobs];
            let files = ["--markdown", files[0], "--jsonl", files[1]];
            let output = run("calibrate", &[&small[..], &options, &files, more].concat());
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
        let calibrate = |jobs: &str| calibrate_with(jobs, &[]);
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

        // As if the program had been killed while it wrote its third record.
        let text = std::fs::read_to_string(out.path().join("records.jsonl")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let cut = format!("{}\n{}\n{}", lines[0], lines[1], &lines[2][..40]);
        std::fs::write(out.path().join("records.jsonl"), cut).unwrap();
        let (_, resumed) = calibrate_with("1", &["--resume"]);
        assert_eq!(log_z(&resumed), log_z(&records));
        let text = std::fs::read_to_string(out.path().join("records.jsonl")).unwrap();
        assert_eq!(text.lines().take(2).collect::<Vec<_>>(), lines[..2], "known runs were made again");
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

/// The GPU where there is one of hardware, else the CPU.
#[test]
fn auto_finds_what_the_cpu_finds() {
    let mut names = vec!["hello_gaussian", "eight_schools", "wgsl_likelihood"];
    if cfg!(feature = "tensor") {
        names.push("tensor_likelihood");
    }
    for name in names {
        agree(name, &SMALL, &[&["--backend", "auto"]], log_z);
    }
    let text = stdout("rv_51peg", &[&RV_51PEG_TINY[..], &["--backend", "auto"]].concat());
    assert!(value_and_error(&text, "ln Bayes factor:").0.is_finite(), "{text}");
    let options = ["--problems", "constant2:2", "--n-live", "300", "--n-eff", "500", "--backend", "auto"];
    let output = run("calibrate", &options);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
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
