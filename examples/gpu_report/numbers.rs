//! log Z with the likelihood on the device minus log Z with it on the CPU, over many seeds.

use std::error::Error;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use livepoint::testing::problem;
use livepoint::{Backend, Backends, GpuOptions, Likelihood, NeuralBoundSampler, Prior, Run, RunErrorKind};
use serde_json::json;

use crate::section::Section;

/// Largest mean difference in its standard errors.
const MAX_MEAN: f64 = 3.0;

struct Row {
    name: &'static str,
    why: &'static str,
    prior: Prior,
    likelihood: Likelihood,
    /// Whether f32 cannot do it, so that every run must be refused.
    beyond_f32: bool,
}

/// The table of the wanted rows, of all where none is named.
pub fn section(options: &GpuOptions, wanted: &[String], n_seeds: u64, jobs: usize) -> Result<Section, Box<dyn Error>> {
    let mut text = format!(
        "# log Z with the likelihood on the device minus log Z on the CPU, {n_seeds} seeds\n\n\
         Sampler on the CPU, default settings. The two runs of a seed part at the first rounding, so a difference has the variance of both. A row \
         passes when the mean difference is within {MAX_MEAN} standard errors of 0, or when the run is refused, with the reason.\n\n\
         | problem | what it tries | mean difference | standard error | in errors | error of one log Z | warnings on the device | verdict |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    let (mut all_pass, mut json_rows) = (true, Vec::new());
    for row in rows().into_iter().filter(|row| wanted.is_empty() || wanted.iter().any(|name| name == row.name)) {
        let device: Backends = (Backend::from(options.clone()), Backend::cpu(1)).into();
        let (name, why) = (row.name, row.why);
        match difference(&row, &device, n_seeds, jobs)? {
            Ok(found) => {
                let pass = !row.beyond_f32 && found.mean.abs() <= MAX_MEAN * found.standard_error;
                all_pass &= pass;
                let Found { mean, standard_error, error, warned } = found;
                writeln!(
                    text,
                    "| {name} | {why} | {mean:+.4} | {standard_error:.4} | {:+.2} | {error:.4} | {warned} of {n_seeds} runs | {} |",
                    mean / standard_error,
                    if pass { "pass" } else { "**fail**" }
                )?;
                json_rows.push(json!({
                    "problem": name, "mean_difference": mean, "standard_error": standard_error, "log_z_error": error, "n_warned": warned,
                    "passed": pass,
                }));
            }
            Err(refused) => {
                let pass = row.beyond_f32 && refused.starts_with("all");
                all_pass &= pass;
                let verdict = if row.beyond_f32 { "refused" } else { "**refused**" };
                writeln!(text, "| {name} | {why} | | | | | | {verdict}: {refused} |")?;
                json_rows.push(json!({ "problem": name, "refused": refused, "passed": pass }));
            }
        }
    }
    let json = json!({ "n_seeds": n_seeds, "rows": json_rows });
    Ok(Section { markdown: text, json, passed: all_pass })
}

struct Found {
    mean: f64,
    standard_error: f64,
    /// Of one log Z.
    error: f64,
    /// Runs with a warning.
    warned: usize,
}

/// One result on the CPU and one on the device, or the reason why the device refused.
type Pair = Result<(f64, f64, f64, bool), String>;

fn difference(
    row: &Row,
    device: &Backends,
    n_seeds: u64,
    jobs: usize,
) -> Result<Result<Found, String>, Box<dyn Error>> {
    let one = |seed: u64| -> Result<Pair, String> {
        let run = |backends: Backends| {
            Run::new(&row.prior, &row.likelihood).backends(backends).sample(NeuralBoundSampler::default().seed(seed))
        };
        let on_device = match run(device.clone()) {
            Ok(result) => result,
            Err(error) => {
                return match &error.kind {
                    RunErrorKind::Precision { .. } => Ok(Err(error.kind.to_string())),
                    _ => Err(format!("{}, seed {seed}: {error}", row.name)),
                };
            }
        };
        let on_cpu = run(Backend::cpu(1).into()).map_err(|error| format!("{}, seed {seed}: {error}", row.name))?;
        let evidence = on_device.evidence();
        let warned = !on_device.warnings().is_empty();
        let said = on_device.warnings().join("; ");
        eprintln!("{}, seed {seed}: {:+.4} {said}", row.name, evidence.log_z - on_cpu.evidence().log_z);
        Ok(Ok((evidence.log_z, on_cpu.evidence().log_z, evidence.log_z_error, warned)))
    };
    let (next, outcomes) = (AtomicUsize::new(1), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if seed > n_seeds {
                        break;
                    }
                    let outcome = one(seed);
                    outcomes.lock().unwrap().push(outcome);
                }
            });
        }
    });
    let outcomes: Vec<Pair> = outcomes.into_inner()?.into_iter().collect::<Result<_, String>>()?;
    if let Some(Err(refused)) = outcomes.iter().find(|outcome| outcome.is_err()) {
        let n = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        let runs = if n as u64 == n_seeds { format!("all {n_seeds} runs") } else { format!("{n} of {n_seeds} runs") };
        return Ok(Err(format!("{runs}: {refused}")));
    }
    let pairs: Vec<_> = outcomes.into_iter().flatten().collect();
    let n = pairs.len() as f64;
    let differences: Vec<f64> = pairs.iter().map(|(device, cpu, ..)| device - cpu).collect();
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    Ok(Ok(Found {
        mean,
        standard_error: (variance / n).sqrt(),
        error: pairs.iter().map(|(.., error, _)| error).sum::<f64>() / n,
        warned: pairs.iter().filter(|(.., warned)| *warned).count(),
    }))
}

fn rows() -> Vec<Row> {
    let known = |name: &'static str, why: &'static str| {
        let problem = problem(name).expect("a known problem");
        Row { name, why, prior: problem.prior(), likelihood: problem.likelihood(), beyond_f32: false }
    };
    vec![
        known("gauss3", "the plain case"),
        known("gauss10corr", "ten dimensions, correlated"),
        known("rosen2", "a thin curved valley"),
        known("eggbox2", "18 peaks of log L up to 243"),
        known("plateau", "ties on nine tenths of the prior"),
        million(),
        narrow(1e-5, false),
        narrow(1e-7, true),
        narrow(1e-7, false),
    ]
}

/// A straight line through 2000 points whose errors are so small that log L is near a million.
fn million() -> Row {
    const N: usize = 2000;
    let x: Vec<f64> = (0..N).map(|i| i as f64 / N as f64).collect();
    // Scatter that the model cannot follow: 31 errors on average, so that the sum of squares is two million.
    let y: Vec<f64> = x.iter().enumerate().map(|(i, x)| 0.3 + 0.4 * x + 0.447 * (7.31 * i as f64).sin()).collect();
    let text = "fn log_likelihood_term(theta: Theta, i: u32) -> f32 {
        let residual = (points[i].y - theta[0] - theta[1] * points[i].x) * 100.0;
        return -0.5 * residual * residual;
    }";
    let likelihood = Likelihood::wgsl(text).sum_over(N).table("points", [("x", &x), ("y", &y)]).twin(
        Likelihood::point(move |theta: &[f64]| {
            x.iter().zip(&y).map(|(x, y)| -0.5 * ((y - theta[0] - theta[1] * x) * 100.0).powi(2)).sum::<f64>()
        }),
    );
    Row {
        name: "million",
        why: "log L near -1e6, as a sum of 2000 terms",
        prior: Prior::new().uniform("a", 0.0..1.0).uniform("b", 0.0..1.0),
        likelihood: likelihood.into(),
        beyond_f32: false,
    }
}

/// A Gaussian of this width in each of two dimensions of the unit square, its parameters in one or in two parts.
fn narrow(sigma: f64, pairs: bool) -> Row {
    const CENTRE: [f64; 2] = [0.3, 0.7];
    let plain = "fn log_likelihood(theta: Theta) -> f32 {
        let x = (theta[0] - 0.3) / SIGMA;
        let y = (theta[1] - 0.7) / SIGMA;
        return -0.5 * (x * x + y * y);
    }";
    let in_two_parts = "fn log_likelihood(theta_hi: Theta, theta_lo: Theta) -> f32 {
        let x = df_sub(vec2(theta_hi[0], theta_lo[0]), CENTRE_X).x / SIGMA;
        let y = df_sub(vec2(theta_hi[1], theta_lo[1]), CENTRE_Y).x / SIGMA;
        return -0.5 * (x * x + y * y);
    }";
    let parts = |x: f64| (x as f32, (x - f64::from(x as f32)) as f32);
    let centre = |name: &str, x: f64| format!("const {name} = vec2<f32>({:?}f, {:?}f);\n", parts(x).0, parts(x).1);
    let text = match pairs {
        true => centre("CENTRE_X", CENTRE[0]) + &centre("CENTRE_Y", CENTRE[1]) + in_two_parts,
        false => plain.to_owned(),
    };
    let likelihood = Likelihood::wgsl(text).constant("SIGMA", sigma).twin(Likelihood::point(move |theta: &[f64]| {
        -0.5 * theta.iter().zip(CENTRE).map(|(x, centre)| ((x - centre) / sigma).powi(2)).sum::<f64>()
    }));
    let (name, why) = match (sigma < 1e-6, pairs) {
        (false, _) => ("narrow 1e-5", "a posterior 1e-5 of the prior's width in each dimension"),
        (true, true) => ("narrow 1e-7, in pairs", "1e-7 of the prior's width, theta in two parts"),
        (true, false) => ("narrow 1e-7", "the same in plain f32, which cannot hold it"),
    };
    let prior = Prior::new().uniform("x", 0.0..1.0).uniform("y", 0.0..1.0);
    Row { name, why, prior, likelihood: likelihood.into(), beyond_f32: sigma < 1e-6 && !pairs }
}
