//! Evaluations a second by batch size, of four likelihoods, on the CPU and on a device.

use std::error::Error;
use std::f64::consts::TAU;
use std::fmt::Write;
use std::time::Instant;

use livepoint::testing::internals::{Stream, resident_rate};
use livepoint::testing::{Session, kepler::Orbit};
use livepoint::{Backend, GpuOptions, Likelihood, Prior};
use ndarray::{Array2, ArrayView2, s};
use serde_json::json;

use crate::section::Section;

/// Time spent on each number.
const SECONDS: f64 = 0.3;

/// A launch over points that stay on the device takes no longer.
const LAUNCH_S: f64 = 0.05;

/// Of the likelihood that is a sum over many.
pub const N_DATA: usize = 100_000;

const BATCHES: [usize; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];

pub struct Row {
    pub name: &'static str,
    pub prior: Prior,
    likelihood: Likelihood,
}

/// The table; it has nothing that could fail but the check of each likelihood against its twin.
pub fn section(options: &GpuOptions) -> Result<Section, Box<dyn Error>> {
    let mut text = format!(
        "# Evaluations a second by batch size\n\n\
         Whole batches as a run sends them: points of the cube on the host, prior transform, log L, back on the host; the median of {SECONDS} s of \
         batches. `resident` leaves points and results on the device: prior transform and log L alone, as many points of a million as take {LAUNCH_S} s in one \
         launch. The CPU runs the twin, f64, on all its threads. Each likelihood is compared with its twin first.\n\n\
         | likelihood | machine |{} resident |\n|---|---|{}---|\n",
        BATCHES.map(|n| format!(" {n} |")).concat(),
        "---|".repeat(BATCHES.len())
    );
    let mut json_rows = Vec::new();
    for row in rows() {
        let Row { name, prior, likelihood } = &row;
        let stream = Stream::new(3);
        let u = Array2::from_shape_fn((BATCHES[BATCHES.len() - 1], prior.n_dim()), |(i, j)| {
            stream.substream(j as u64).at(i as u64).uniform()
        });
        let device = Backend::from(options.clone());
        check(name, prior, likelihood, &device, &u)?;
        for (machine, backend) in [("CPU", Backend::cpu(0)), ("device", device)] {
            let session = Session::open(prior, likelihood, &backend)?;
            write!(text, "| {name} | {machine} |")?;
            let (mut slow, mut batches) = (false, Vec::new());
            for n in BATCHES {
                // Ten seconds for one batch tell nothing new.
                let rate = if slow { None } else { Some(rate(&session, &u, n)?) };
                slow |= rate.is_some_and(|rate| 10.0 * n as f64 / rate > 10.0);
                write!(text, " {} |", rate.map_or("-".to_owned(), |rate| format!("{rate:.2e}")))?;
                batches.push(json!({ "batch_size": n, "evaluations_per_s": rate }));
            }
            let resident = if machine == "CPU" { None } else { Some(resident(&row, options, u.view())?) };
            writeln!(text, " {} |", resident.map_or(String::new(), |rate| format!("{rate:.2e}")))?;
            json_rows.push(json!({
                "likelihood": name, "machine": machine, "batches": batches, "resident_evaluations_per_s": resident,
            }));
        }
    }
    Ok(Section { markdown: text, json: json!({ "rows": json_rows }), passed: true })
}

/// Evaluations a second of points that stay on the device.
pub fn resident(row: &Row, options: &GpuOptions, u: ArrayView2<f64>) -> Result<f64, Box<dyn Error>> {
    Ok(resident_rate(&row.prior, &row.likelihood, options, u, LAUNCH_S)?)
}

/// Median over batches of `n` points.
fn rate(session: &Session, u: &Array2<f64>, n: usize) -> Result<f64, Box<dyn Error>> {
    let batch = u.slice(s![..n, ..]);
    session.evaluate(batch)?;
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 3 || start.elapsed().as_secs_f64() < SECONDS {
        let before = Instant::now();
        session.evaluate(batch)?;
        times.push(before.elapsed().as_secs_f64());
        if start.elapsed().as_secs_f64() > 10.0 {
            break;
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(n as f64 / times[times.len() / 2])
}

fn check(
    name: &str,
    prior: &Prior,
    likelihood: &Likelihood,
    device: &Backend,
    u: &Array2<f64>,
) -> Result<(), Box<dyn Error>> {
    let few = u.slice(s![..100, ..]);
    let (found, _) = livepoint::testing::log_likelihood_on(prior, likelihood, device, few)?;
    let (expected, _) = livepoint::testing::log_likelihood_on(prior, likelihood, &Backend::cpu(1), few)?;
    let close =
        |found: f64, expected: f64| found == expected || (found - expected).abs() <= 1e-3 + 1e-4 * expected.abs();
    match found.iter().zip(&expected).find(|(found, expected)| !close(**found, **expected)) {
        Some((found, expected)) => Err(format!("{name}: {found} on the device, {expected} on the CPU").into()),
        None => Ok(()),
    }
}

fn rows() -> Vec<Row> {
    vec![gaussian(), keplerian(), covariance(), many_data()]
}

pub fn gaussian() -> Row {
    let text = "fn log_likelihood(theta: array<f32, N_DIM>) -> f32 {
        var chi2 = 0.0;
        for (var k = 0u; k < N_DIM; k++) {
            let z = (theta[k] - 0.5) * 10.0;
            chi2 += z * z;
        }
        return -0.5 * chi2;
    }";
    let twin = |x: &[f64]| -0.5 * x.iter().map(|x| ((x - 0.5) * 10.0).powi(2)).sum::<f64>();
    Row {
        name: "10-D Gaussian",
        prior: (0..10).fold(Prior::new(), |prior, k| prior.uniform(format!("x{k}"), 0.0..1.0)),
        likelihood: Likelihood::wgsl(text).twin(Likelihood::point(twin)).into(),
    }
}

fn keplerian() -> Row {
    let time: Vec<f64> = (0..150).map(|i| 300.0 * (0.618 * f64::from(i)).fract() - 150.0).collect();
    let velocity: Vec<f64> = time.iter().map(|t| 10.0 * (TAU * t / 42.0).sin()).collect();
    let text = "fn log_likelihood(theta: array<f32, N_DIM>) -> f32 {
        let omega = vec2(cos(theta[3]), sin(theta[3]));
        var chi2: Sum;
        for (var i = 0u; i < N_RV; i++) {
            let nu = true_anomaly(kepler(6.2831855 * rv[i].time / theta[0] + theta[4], theta[2]), theta[2]);
            let model = theta[1] * (nu.x * omega.x - nu.y * omega.y + theta[2] * omega.x);
            let residual = (rv[i].velocity - model) / 2.0;
            sum_add(&chi2, residual * residual);
        }
        return -0.5 * sum_value(chi2);
    }";
    let table = [("time", time.clone()), ("velocity", velocity.clone())];
    let twin = Likelihood::point(move |x: &[f64]| {
        let orbit = Orbit::new(x[1], x[2], x[3]);
        let model = |t: f64| orbit.velocity(TAU * t / x[0] + x[4]);
        -0.5 * time.iter().zip(&velocity).map(|(&t, v)| ((v - model(t)) / 2.0).powi(2)).sum::<f64>()
    });
    Row {
        name: "150-point Keplerian",
        prior: Prior::new()
            .log_uniform("period", 30.0..60.0)
            .uniform("k", 0.0..20.0)
            .uniform("e", 0.0..0.9)
            .periodic("omega", 0.0..TAU)
            .periodic("phase", 0.0..TAU),
        likelihood: Likelihood::wgsl(text).table("rv", table).twin(twin).into(),
    }
}

fn covariance() -> Row {
    const N: usize = 40;
    let matrix = Array2::from_shape_fn((N, N), |(i, j)| {
        (-0.02 * (i as f64 - j as f64).powi(2)).exp() + if i == j { 0.1 } else { 0.0 }
    });
    let data: Vec<f64> = (0..N).map(|i| (0.3 * i as f64).cos()).collect();
    let text = "fn log_likelihood(theta: array<f32, N_DIM>) -> f32 {
        var r: array<f32, 40>;
        for (var i = 0u; i < 40u; i++) {
            let x = f32(i) * 0.1;
            r[i] = data[i] - theta[0] - x * (theta[1] + x * theta[2]);
        }
        return -0.5 * (noise_chi2(r) + NOISE_LOG_DET);
    }";
    let factor =
        nalgebra::DMatrix::from_row_iterator(N, N, matrix.iter().copied()).cholesky().expect("positive definite");
    let values = data.clone();
    let twin = Likelihood::point(move |theta: &[f64]| {
        let r = nalgebra::DVector::from_fn(N, |i, _| {
            let x = 0.1 * i as f64;
            values[i] - theta[0] - x * (theta[1] + x * theta[2])
        });
        -0.5 * (r.dot(&factor.solve(&r)) + factor.ln_determinant())
    });
    Row {
        name: "40 x 40 covariance",
        prior: Prior::new().normal("a", 0.0, 1.0).normal("b", 0.0, 1.0).normal("c", 0.0, 1.0),
        likelihood: Likelihood::wgsl(text).data("data", &data).covariance("noise", &matrix).twin(twin).into(),
    }
}

pub fn many_data() -> Row {
    const N: usize = N_DATA;
    let x: Vec<f64> = (0..N).map(|i| i as f64 / N as f64).collect();
    let y: Vec<f64> = x.iter().map(|x| 0.5 + x + 0.1 * (1e4 * x).sin()).collect();
    let text = "fn log_likelihood_term(theta: Theta, i: u32) -> f32 {
        let residual = (points[i].y - theta[0] - theta[1] * points[i].x) / 0.1;
        return -0.5 * residual * residual;
    }";
    let table = [("x", x.clone()), ("y", y.clone())];
    let twin = Likelihood::point(move |theta: &[f64]| {
        x.iter().zip(&y).map(|(x, y)| -0.5 * ((y - theta[0] - theta[1] * x) / 0.1).powi(2)).sum::<f64>()
    });
    Row {
        name: "1e5 data points",
        prior: Prior::new().uniform("a", 0.0..1.0).uniform("b", 0.0..2.0),
        likelihood: Likelihood::wgsl(text).sum_over(N).table("points", table).twin(twin).into(),
    }
}
