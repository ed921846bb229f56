//! Whole runs: two problems with known log Z, small settings, one thread.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use livepoint::testing::{Problem, problem};
use livepoint::{Backend, NeuralBoundSampler, Run, RunResult, StopReason};

const N_LIVE: usize = 500;
const N_EFF: f64 = 2000.0;

/// Largest |log Z - truth| in reported errors; the seed is fixed, so only a change of the code can exceed it.
const MAX_PULL: f64 = 5.0;

fn run(problem: &Problem) -> RunResult {
    let (prior, likelihood) = (problem.prior(), problem.likelihood());
    let sampler = NeuralBoundSampler::default().n_live(N_LIVE).n_eff(N_EFF).seed(1);
    Run::new(&prior, &likelihood).backends(Backend::cpu(1)).sample(sampler).expect("a run without errors")
}

/// That the run found what it should, before its time is worth anything.
fn check(problem: &Problem, result: &RunResult) {
    let (evidence, truth) = (result.evidence(), problem.log_z_truth.expect("a truth"));
    let pull = (evidence.log_z - truth) / evidence.log_z_error;
    assert_eq!(result.stopped(), StopReason::Converged);
    assert!(evidence.n_eff >= N_EFF && pull.abs() < MAX_PULL, "{}: pull {pull}\n{result}", problem.name);
}

fn end_to_end(c: &mut Criterion) {
    let mut group = c.benchmark_group("run with 500 live points to N_eff 2000, one thread");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(1));
    for name in ["gauss3", "rosen2"] {
        let problem = problem(name).expect("a known problem");
        check(&problem, &run(&problem));
        group.bench_function(name, |b| b.iter(|| black_box(run(&problem))));
    }
    group.finish();
}

criterion_group!(benches, end_to_end);
criterion_main!(benches);
