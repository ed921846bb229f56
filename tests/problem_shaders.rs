//! Every problem's WGSL on a device against its twin in f64: all over the prior, and at the peak.
//!
//! Without an adapter they show as ignored; with LIVEPOINT_REQUIRE_GPU=1 they fail.

mod device;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use livepoint::Backend;
use livepoint::testing::internals::Stream;
use livepoint::testing::{Problem, all, log_likelihood_on, problem, rv7};
use ndarray::{Array1, Array2, s};

/// Points of the prior, and points near the peak.
const N_POINTS: usize = 2000;

/// The peak is sought from this many draws of the prior ..
const N_DRAWS: usize = 100_000;

/// .. of which the best are kept ..
const N_BEST: usize = 100;

/// .. and scattered again and again.
const ROUNDS: u64 = 50;

/// Largest |device - twin| allowed, absolute and relative to |log L|.
fn tolerance(problem: &str) -> (f64, f64) {
    match problem {
        // Far from the peaks log L is -e^z: an f32 in z, which goes up to 20, is 1e-6 and more of it.
        "loggamma2" | "loggamma10" => (1e-4, 5e-6),
        _ => (1e-4, 1e-6),
    }
}

fn uniform(seed: u64, n_points: usize, n_dim: usize) -> Array2<f64> {
    Array2::from_shape_fn((n_points, n_dim), |(i, j)| Stream::new(seed).substream(j as u64).at(i as u64).uniform())
}

/// log L of the twin.
fn twin(problem: &Problem, u: &Array2<f64>) -> Array1<f64> {
    log_likelihood_on(&problem.prior(), problem.likelihood(), &Backend::cpu(2), u.view()).unwrap().0
}

/// Points that climbed to the peak, or to one of them: the best ones, and others at all distances from them.
fn near_the_peak(problem: &Problem) -> Array2<f64> {
    let mut u = uniform(2, N_DRAWS, problem.n_dim);
    for round in 0..ROUNDS {
        let log_l = twin(problem, &u);
        let mut order: Vec<usize> = (0..u.nrows()).collect();
        order.sort_by(|&a, &b| log_l[b].total_cmp(&log_l[a]));
        let steps = uniform(3 + round, N_POINTS, problem.n_dim);
        u = Array2::from_shape_fn((N_POINTS, problem.n_dim), |(i, j)| {
            // The best stay as they are: nothing gained is lost.
            let scale = if i < N_BEST { 0.0 } else { 0.2 * 1e-4f64.powf(i as f64 / N_POINTS as f64) };
            (u[[order[i % N_BEST], j]] + scale * (steps[[i, j]] - 0.5)).clamp(1e-9, 1.0 - 1e-9)
        });
    }
    u
}

/// The largest difference at the points `u`, as it is and in tolerances; says in `wrong` where it is too large.
fn compare(problem: &Problem, u: &Array2<f64>, backend: &Backend, wrong: &mut String) -> (f64, f64) {
    let expected = twin(problem, u);
    let (found, _) = log_likelihood_on(&problem.prior(), problem.likelihood(), backend, u.view()).unwrap();
    let (absolute, relative) = tolerance(problem.name);
    let mut worst = (0.0f64, 0.0f64);
    for (row, (&found, &expected)) in found.iter().zip(&expected).enumerate() {
        // Impossible points must be so on both.
        let error = if found == expected { 0.0 } else { (found - expected).abs() };
        let in_tolerances = error / (absolute + relative * expected.abs());
        worst = (worst.0.max(error), worst.1.max(in_tolerances));
        if (in_tolerances.is_nan() || in_tolerances > 1.0) && wrong.len() < 2000 {
            let theta = problem.prior().unit_to_theta(u.slice(s![row..=row, ..])).unwrap();
            let _ = writeln!(wrong, "{}: {found} against {expected} at {theta}", problem.name);
        }
    }
    worst
}

fn main() {
    let there = device::is_there();
    let mut trials = Vec::new();
    for name in all().into_iter().map(|problem| problem.name) {
        trials.push(device::trial(name, there, move || agrees_with_its_twin(&problem(name).unwrap())));
    }
    trials.push(device::trial("rv7", there, || {
        let folder = tempfile::tempdir().unwrap();
        // The measured velocities where they are at hand.
        let path = std::env::var_os("LIVEPOINT_RV7_DATA").map_or_else(|| velocities(folder.path()), PathBuf::from);
        agrees_with_its_twin(&rv7(path).unwrap());
    }));
    device::run(trials)
}

fn agrees_with_its_twin(problem: &Problem) {
    let backend = device::options().into();
    let mut wrong = String::new();
    let (wide, peak) = (uniform(1, N_POINTS, problem.n_dim), near_the_peak(problem));
    let best = twin(problem, &peak).fold(f64::NEG_INFINITY, |best, x| best.max(*x));
    let [wide, peak] = [wide, peak].map(|u| compare(problem, &u, &backend, &mut wrong));
    println!(
        "largest |device - twin|, and in tolerances: prior {:.1e} {:.1e}, peak {:.1e} {:.1e}; largest log L {best:.1}",
        wide.0, wide.1, peak.0, peak.1
    );
    assert!(wrong.is_empty(), "{wrong}");
}

/// A file of made-up velocities: those that `rv7` is meant for are not ours to carry.
fn velocities(folder: &Path) -> PathBuf {
    let mut text = "time mnvel errvel tel\n".to_owned();
    for i in 0..200 {
        let time = 2_450_300.123 + 33.7 * f64::from(i) + 5.0 * f64::from(i).sin();
        let velocity = 7.0 * (time / 191.0).cos() + 0.3 * f64::from(i * 7919 % 13);
        let _ = writeln!(text, "{time:.5} {velocity:.2} {:.2} j", 0.8 + 0.1 * f64::from(i % 7));
    }
    let path = folder.join("velocities.txt");
    std::fs::write(&path, text).unwrap();
    path
}
