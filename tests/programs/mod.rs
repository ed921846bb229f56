//! Starts the examples as programs and reads what they print.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::path::PathBuf;
use std::process::{Command, Output};

/// Largest |log Z - truth| in reported errors. The seeds are fixed, so this can only fail when the code changes; an honest
/// error is exceeded so far once in two million.
pub const MAX_PULL: f64 = 5.0;

/// Settings that take a second or so.
pub const SMALL: [&str; 8] = ["--n-live", "400", "--n-eff", "500", "--threads", "2", "--seed", "1"];

/// Settings that take `rv_51peg` a few seconds: nearly the fewest live points that nine dimensions may have, and too few for a good answer.
pub const RV_51PEG_TINY: [&str; 10] =
    ["--n-live", "110", "--n-eff", "50", "--seed", "1", "--period-min", "4.23", "--period-max", "4.2316"];

/// The example's program: examples lie beside the folder of the test programs.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let path = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is not there; run `cargo test`, or `cargo build --examples` first", path.display());
    path
}

pub fn run(name: &str, args: &[&str]) -> Output {
    Command::new(program(name)).args(args).env_remove("LIVEPOINT_RV7_DATA").output().unwrap()
}

/// Standard output of a run that must succeed.
pub fn stdout(name: &str, args: &[&str]) -> String {
    let output = run(name, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?} ended with {}: {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a run that the command line must stop, with exit status 2 and nothing on standard output.
pub fn refusal(name: &str, args: &[&str]) -> String {
    let output = run(name, args);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{name} {args:?}: {errors}");
    assert!(output.stdout.is_empty(), "{name} {args:?} prints {:?}", String::from_utf8_lossy(&output.stdout));
    assert!(!errors.contains("panicked"), "{errors}");
    errors
}

/// The first two numbers after `label`: a value and its error.
pub fn value_and_error(text: &str, label: &str) -> (f64, f64) {
    let start = text.find(label).unwrap_or_else(|| panic!("no `{label}` in:\n{text}")) + label.len();
    let mut numbers = text[start..]
        .split(|c: char| c.is_whitespace() || c == ',' || c == ';' || c == '±')
        .filter_map(|word| word.parse::<f64>().ok());
    let mut next = || numbers.next().unwrap_or_else(|| panic!("no two numbers after `{label}` in:\n{text}"));
    (next(), next())
}

/// log Z and its error.
pub fn log_z(text: &str) -> (f64, f64) {
    value_and_error(text, "log Z")
}

/// Runs an example on the CPU and by each of `backends`, and holds what `read` finds in their outputs together.
pub fn agree(name: &str, options: &[&str], backends: &[&[&str]], read: impl Fn(&str) -> (f64, f64)) {
    let run = |backends: &[&str]| read(&stdout(name, &[options, backends].concat()));
    let (log_z, error) = run(&["--backend", "cpu:2"]);
    for backends in backends {
        let (other, other_error) = run(backends);
        assert!(error < 1.0 && other_error < 1.0, "{name} {backends:?}: errors {error} and {other_error}");
        let pull = (other - log_z) / error.hypot(other_error);
        assert!(pull.abs() < MAX_PULL, "{name} {backends:?}: {other} against {log_z} on the CPU, {pull:.1} errors");
    }
}
