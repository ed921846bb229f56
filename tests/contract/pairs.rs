//! The four pairs of a CPU and a device: they agree, and what goes between host and device is what must.

use std::time::Duration;

use livepoint::testing::internals::share_a_device;
use livepoint::{Backend, Backends, GpuOptions, Likelihood, NeuralBoundSampler, Prior, Run, RunResult, list_gpus};

/// Every check of this file.
pub const CASES: &[super::Case<GpuOptions>] = &[
    ("all_pairs_agree", all_pairs_agree),
    ("the_result_names_the_machines", the_result_names_the_machines),
    ("a_step_on_the_device_is_two_waits", a_step_on_the_device_is_two_waits),
    ("bounds_of_a_device_stay_there", bounds_of_a_device_stay_there),
    ("runs_share_one_device_however_it_is_named", runs_share_one_device_however_it_is_named),
];

fn run(backends: impl Into<Backends>) -> RunResult {
    let prior = Prior::new().uniform("x", -5.0..5.0).normal("y", 0.0, 2.0);
    let likelihood = Likelihood::wgsl(
        "fn log_likelihood(theta: Theta, derived: ptr<function, Derived>) -> f32 {
            (*derived)[0] = theta[0] + theta[1];
            return -2.0 * (theta[0] * theta[0] + theta[1] * theta[1]);
        }",
    )
    .derived(["sum"])
    .twin(Likelihood::point_derived(["sum"], |x: &[f64], derived: &mut [f64]| {
        derived[0] = x[0] + x[1];
        -2.0 * (x[0] * x[0] + x[1] * x[1])
    }));
    let sampler = NeuralBoundSampler::default().n_live(500).n_eff(2000.0).seed(5);
    Run::new(&prior, likelihood).backends(backends).sample(sampler).unwrap()
}

fn all_pairs_agree(options: &GpuOptions) {
    let gpu = || Backend::from(options.clone());
    let cpu = || Backend::cpu(1);
    let [cpu_cpu, cpu_gpu, gpu_cpu, gpu_gpu] =
        [(cpu(), cpu()), (cpu(), gpu()), (gpu(), cpu()), (gpu(), gpu())].map(run);
    let truth = 0.5 * ((std::f64::consts::PI / 200.0).ln() - 17f64.ln());
    let all = [&cpu_cpu, &cpu_gpu, &gpu_cpu, &gpu_gpu];
    for evidence in all.map(RunResult::evidence) {
        assert!((evidence.log_z - truth).abs() < 5.0 * evidence.log_z_error, "{evidence:?}");
    }
    // The first points are drawn from the whole cube with the same random words, whichever machine draws: they differ by rounding alone.
    for other in &all[1..] {
        let first = all[0].samples().u().into_iter().zip(other.samples().u()).take(200);
        assert!(first.into_iter().all(|(a, b)| (a - b).abs() < 1e-15));
    }
    let (sum, error) = (gpu_gpu.posterior().mean("sum").unwrap(), gpu_gpu.posterior().sd("sum").unwrap());
    assert!(sum.abs() < 5.0 * error / 2000f64.sqrt(), "{sum} +- {error}");
}

fn the_result_names_the_machines(options: &GpuOptions) {
    let result = run(Backend::from(options.clone()));
    let device = result.likelihood_device().unwrap();
    assert!(list_gpus().iter().any(|gpu| gpu.to_string() == device), "{device}");
    assert_eq!(result.sampler_device().unwrap(), device);
    assert_eq!(result.device_use().train_device, device);
    let text = result.to_string();
    assert!(text.contains(device), "{text}");
    assert_eq!(result.to_json()["likelihood_device"], device);
}

fn runs_share_one_device_however_it_is_named(options: &GpuOptions) {
    let same = |a: &GpuOptions, b: &GpuOptions| share_a_device(a, b).unwrap();
    let best = &list_gpus()[0];
    let again = options.clone().name(&best.name).api(best.api).timeout(Duration::from_secs(7));
    assert!(same(options, &again));
    assert!(same(&again.clone().index(best.index), &again));
    assert!(!same(&options.clone().webgpu_limits(true), &options.clone().webgpu_limits(false)));
}

/// With ellipsoids alone, so that no training adds to it: a step draws, evaluates and brings back what enters the ledger.
fn a_step_on_the_device_is_two_waits(options: &GpuOptions) {
    const N_BATCH: usize = 100;
    let prior = Prior::new().uniform("x", -5.0..5.0).uniform("y", -5.0..5.0).uniform("z", -5.0..5.0);
    let likelihood = Likelihood::wgsl("fn log_likelihood(theta: Theta) -> f32 { return -dot(vec3<f32>(theta[0], theta[1], theta[2]), vec3<f32>(theta[0], theta[1], theta[2])); }")
        .twin(Likelihood::point(|x: &[f64]| -x.iter().map(|x| x * x).sum::<f64>()));
    let sampler = NeuralBoundSampler::default().n_live(500).n_networks(0).n_batch(N_BATCH).n_eff(2000.0).seed(5);
    let gpu = Backend::from(options.clone());
    let result = Run::new(&prior, likelihood).backends((gpu.clone(), gpu)).sample(sampler).unwrap();
    let steps = result.n_like().div_ceil(N_BATCH) as u64;
    let bounds = result.evidence().shells.len() as u64;
    let used = result.device_use();
    // A bound is measured, asked about all points and drawn from anew; opening and the volumes at the end come on top.
    assert!(used.host_waits <= 2 * steps + 12 * bounds + 200, "{used:?}, {steps} steps, {bounds} bounds");
    // Of each point its position, what it is and log L come back, and a little more than is used.
    assert!(used.bytes_read_back <= 200 * result.n_like() as u64 + 40_000 * bounds + 2_000_000, "{used:?}");
}

fn bounds_of_a_device_stay_there(options: &GpuOptions) {
    let prior = Prior::new().uniform("x", -5.0..5.0).uniform("y", -5.0..5.0);
    let gauss = || Likelihood::point(|x: &[f64]| -x.iter().map(|x| x * x).sum::<f64>());
    let on = |backend: Backend| (Backend::cpu(1), backend);
    let sampler = NeuralBoundSampler::default().n_live(300).n_networks(1).n_eff(500.0).seed(5);
    let gpu = Backend::from(options.clone());
    let result = Run::new(&prior, gauss()).backends(on(gpu.clone())).sample(sampler).unwrap();
    let log_z = result.evidence().log_z;
    let further = || result_sampler(&prior, &gauss(), on(gpu.clone()));
    let error = Run::new(&prior, gauss()).backends(on(Backend::cpu(1))).sample(further().n_eff(1000.0)).unwrap_err();
    assert!(error.to_string().contains("cannot go on"), "{error}");
    let more = Run::new(&prior, gauss()).backends(on(gpu)).sample(result.into_sampler().n_eff(1000.0)).unwrap();
    assert!(more.evidence().n_eff >= 1000.0 && (more.evidence().log_z - log_z).abs() < 0.3);
}

fn result_sampler(prior: &Prior, likelihood: &Likelihood, backends: (Backend, Backend)) -> NeuralBoundSampler {
    let sampler = NeuralBoundSampler::default().n_live(300).n_networks(1).n_eff(500.0).seed(6);
    Run::new(prior, likelihood.clone()).backends(backends).sample(sampler).unwrap().into_sampler()
}
