//! The parts that a run spends its time in, one thread each: networks, bounds, prior, evidence. Each is checked, then timed.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use livepoint::evidence::{Fraction, ShellVolume, shell_evidence};
use livepoint::testing::internals::{CpuPool, Ellipsoid, Ensemble, Lesson, Stream, Union, UnionLimits, UnionOptions};
use livepoint::{NetworkOptions, Prior};
use ndarray::{Array2, ArrayView2};

/// Points that networks are trained on.
const N_TRAIN: usize = 4000;
/// Rows of a prediction, of a prior transform and points of an evidence.
const N_ROWS: usize = 100_000;
/// Draws from a union and membership tests.
const N_DRAWS: usize = 10_000;
/// Points that an ellipsoid encloses.
const N_ENCLOSED: usize = 2000;
/// Networks of an ensemble: the sampler's default.
const N_NETWORKS: usize = 4;
/// Largest mean square error of a trained ensemble, in units of the variance of its smooth target.
const MAX_LOSS: f64 = 0.05;

/// Points uniform in the unit ball `[n, n_dim]` and a smooth, slightly bent target.
fn in_the_ball(n: usize, n_dim: usize, stream: Stream) -> (Vec<f32>, Vec<f32>) {
    let mut x = Vec::with_capacity(n * n_dim);
    for k in 0..n {
        let mut draw = stream.at(k as u64);
        let direction: Vec<f64> = (0..n_dim).map(|_| draw.normal()).collect();
        let norm = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
        let radius = draw.uniform().powf(1.0 / n_dim as f64);
        x.extend(direction.iter().map(|v| (v * radius / norm) as f32));
    }
    let y = x.chunks(n_dim).map(|row| row.iter().map(|v| v * v).sum::<f32>() + 0.3 * row[0]).collect();
    (x, y)
}

/// Mean square error of a prediction over the variance of the target.
fn relative_loss(prediction: &[f32], y: &[f32]) -> f64 {
    let mean = y.iter().map(|&v| f64::from(v)).sum::<f64>() / y.len() as f64;
    let variance: f64 = y.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum();
    prediction.iter().zip(y).map(|(&p, &v)| f64::from(p - v).powi(2)).sum::<f64>() / variance
}

fn networks(c: &mut Criterion) {
    let pool = CpuPool::new(1, "bench").expect("a pool");
    let options = NetworkOptions::default();
    for n_dim in [3, 10] {
        let (x, y) = in_the_ball(N_TRAIN, n_dim, Stream::new(1));
        let ids: Vec<usize> = (0..y.len()).collect();
        let lesson = Lesson { x: &x, n_dim, y: &y, ids: &ids };
        let train = || Ensemble::train(lesson, N_NETWORKS, &options, None, Stream::new(2), &pool).expect("training");
        let ensemble = train();
        let (rows, truth) = in_the_ball(N_ROWS, n_dim, Stream::new(3));
        let mut out = vec![f32::NAN; N_ROWS];
        ensemble.predict(&rows, &mut out);
        let loss = relative_loss(&out, &truth);
        assert!(loss < MAX_LOSS, "loss {loss} in {n_dim} dimensions");

        let mut group = c.benchmark_group("networks, train an ensemble of four on 4000 points");
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(1));
        group.bench_function(BenchmarkId::from_parameter(format!("{n_dim} dims")), |b| {
            b.iter_batched(|| (), |()| train(), BatchSize::PerIteration);
        });
        group.finish();

        let mut group = c.benchmark_group("networks, predict 100000 rows");
        group.sample_size(10).throughput(Throughput::Elements(N_ROWS as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{n_dim} dims")), |b| {
            b.iter(|| ensemble.predict(black_box(&rows), &mut out))
        });
        group.finish();
    }
}

/// A union of `n_members` over as many clusters that lie apart: on a lattice in two axes, anywhere in the others.
fn union_of(n_members: usize, n_dim: usize) -> Union {
    const PER_CLUSTER: usize = 200;
    const RADIUS: f64 = 0.05;
    let mut points = Array2::zeros((n_members * PER_CLUSTER, n_dim));
    for (k, mut row) in points.rows_mut().into_iter().enumerate() {
        let cluster = k / PER_CLUSTER;
        let mut place = Stream::new(4).at(cluster as u64);
        let mut draw = Stream::new(5).at(k as u64);
        let z: Vec<f64> = (0..n_dim).map(|_| draw.normal()).collect();
        let norm = z.iter().map(|v| v * v).sum::<f64>().sqrt();
        let radius = RADIUS * draw.uniform().powf(1.0 / n_dim as f64);
        for (axis, (x, z)) in row.iter_mut().zip(z).enumerate() {
            let centre = match axis {
                0 => 0.1 + 0.2 * (cluster % 5) as f64,
                1 => 0.1 + 0.2 * (cluster / 5) as f64,
                _ => 0.1 + 0.8 * place.uniform(),
            };
            *x = centre + z * radius / norm;
        }
    }
    let options = UnionOptions { enlarge_per_dim: 1.1, n_points_min: n_dim + 50, cube_dims: false };
    let limits = UnionLimits { log_v_points: f64::NEG_INFINITY, log_target: f64::NEG_INFINITY, max_members: n_members };
    let union = Union::covering(points.view(), &options, &limits, Stream::new(6)).expect("a union");
    assert_eq!(union.members().len(), n_members, "members in {n_dim} dimensions");
    assert!(points.rows().into_iter().all(|row| union.contains(row.as_slice().expect("a row"))));
    union
}

/// Trials `0..N_DRAWS`: accepted points, one after the other.
fn draws(union: &Union, n_dim: usize, out: &mut Vec<f64>) {
    let stream = Stream::new(7);
    let mut x = vec![0.0; n_dim];
    out.clear();
    for k in 0..N_DRAWS as u64 {
        if union.draw(&mut stream.at(k), &mut x) {
            out.extend_from_slice(&x);
        }
    }
}

fn unions(c: &mut Criterion) {
    for n_dim in [2, 10] {
        for n_members in [1, 4, 20] {
            let union = union_of(n_members, n_dim);
            let mut rows = Vec::with_capacity(N_DRAWS * n_dim);
            draws(&union, n_dim, &mut rows);
            assert!(rows.len() > N_DRAWS * n_dim / 10, "{} of {N_DRAWS} draws", rows.len() / n_dim);
            assert!(rows.chunks(n_dim).all(|row| union.contains(row) && row.iter().all(|x| (0.0..1.0).contains(x))));
            let n_inside = (rows.len() / n_dim).min(N_DRAWS / 2);

            let id = || BenchmarkId::from_parameter(format!("{n_members} in {n_dim} dims"));
            let mut group = c.benchmark_group("union, 10000 draws, members");
            group.sample_size(20).throughput(Throughput::Elements(N_DRAWS as u64));
            group.bench_function(id(), |b| {
                let mut out = Vec::with_capacity(N_DRAWS * n_dim);
                b.iter(|| draws(&union, n_dim, black_box(&mut out)));
            });
            group.finish();

            // Half of the rows from the union, half from the cube.
            rows.truncate(n_inside * n_dim);
            let mut draw = Stream::new(8).at(0);
            rows.extend((0..(N_DRAWS - n_inside) * n_dim).map(|_| draw.uniform()));
            let count = |rows: &[f64]| rows.chunks_exact(n_dim).filter(|row| union.contains(row)).count();
            assert!(count(&rows) >= n_inside);
            let mut group = c.benchmark_group("union, 10000 membership tests, half inside, members");
            group.sample_size(20).throughput(Throughput::Elements(N_DRAWS as u64));
            group.bench_function(id(), |b| b.iter(|| count(black_box(&rows))));
            group.finish();
        }
    }
}

fn ellipsoids(c: &mut Criterion) {
    type Fit = fn(ArrayView2<f64>, f64) -> Result<Ellipsoid, livepoint::BoundError>;
    for n_dim in [2, 10, 30] {
        let mut draw = Stream::new(8).at(0);
        let points = Array2::from_shape_simple_fn((N_ENCLOSED, n_dim), || 0.5 + 0.05 * draw.normal());
        let mut group = c.benchmark_group("ellipsoid around 2000 points");
        group.sample_size(10);
        for (name, fit) in
            [("full", Ellipsoid::enclosing as Fit), ("with cube dimensions", Ellipsoid::enclosing_mixture)]
        {
            let ellipsoid = fit(points.view(), 1.1).expect("an ellipsoid");
            assert!(points.rows().into_iter().all(|row| ellipsoid.contains(row.as_slice().expect("a row"))));
            assert!(ellipsoid.log_volume().is_finite());
            group.bench_function(BenchmarkId::new(name, format!("{n_dim} dims")), |b| {
                b.iter(|| fit(black_box(points.view()), 1.1))
            });
        }
        group.finish();
    }
}

fn priors(c: &mut Criterion) {
    let mut draw = Stream::new(9).at(0);
    let u = Array2::from_shape_simple_fn((N_ROWS, 1), || draw.uniform());
    let mut order: Vec<usize> = (0..N_ROWS).collect();
    order.sort_by(|&a, &b| u[[a, 0]].total_cmp(&u[[b, 0]]));
    let mut theta = Array2::zeros((N_ROWS, 1));
    let mut group = c.benchmark_group("prior, 100000 quantiles");
    group.sample_size(20).throughput(Throughput::Elements(N_ROWS as u64));
    for (name, prior) in [
        ("uniform", Prior::new().uniform("x", -5.0..5.0)),
        ("log_uniform", Prior::new().log_uniform("x", 0.01..100.0)),
        ("normal", Prior::new().normal("x", 1.0, 2.0)),
        ("truncated_normal", Prior::new().truncated_normal("x", 0.0, 1.0, -1.0..f64::INFINITY)),
        ("half_normal", Prior::new().half_normal("x", 2.0)),
        ("log_normal", Prior::new().log_normal("x", 0.0, 1.0)),
        ("exponential", Prior::new().exponential("x", 2.0)),
        ("cauchy", Prior::new().cauchy("x", 0.0, 1.0)),
        ("half_cauchy", Prior::new().half_cauchy("x", 5.0)),
        ("beta", Prior::new().beta("x", 2.0, 5.0)),
        ("gamma", Prior::new().gamma("x", 2.5, 1.0)),
        ("student_t", Prior::new().student_t("x", 3.5, 0.0, 1.0)),
    ] {
        prior.transform_batch(u.view(), theta.view_mut()).expect("a transform");
        assert!(theta.iter().all(|x| x.is_finite()), "{name}");
        assert!(order.windows(2).all(|pair| theta[[pair[0], 0]] <= theta[[pair[1], 0]]), "{name} is not monotone");
        group.bench_function(name, |b| b.iter(|| prior.transform_batch(black_box(u.view()), theta.view_mut())));
    }
    group.finish();
}

fn evidence(c: &mut Criterion) {
    const N_SHELLS: usize = 30;
    // Shells whose volumes fall by half and whose likelihoods rise: a run of a Gaussian looks like that.
    let volumes: Vec<ShellVolume> = (0..N_SHELLS)
        .map(|i| ShellVolume {
            log_v_members: -0.7 * i as f64,
            union: Fraction { drawn: 10_000, kept: 8000 },
            network: Fraction { drawn: 8000, kept: 4000 },
            shell: Fraction { drawn: 4000, kept: 2000 },
        })
        .collect();
    let shell: Vec<u32> = (0..N_ROWS).map(|k| (k * N_SHELLS / N_ROWS) as u32).collect();
    let mut draw = Stream::new(10).at(0);
    let log_l: Vec<f64> = shell.iter().map(|&i| -20.0 + 0.7 * f64::from(i) + draw.normal()).collect();

    let found = shell_evidence(&volumes, &log_l, &shell);
    let (mut sum, mut n) = (vec![0.0; N_SHELLS], vec![0.0; N_SHELLS]);
    for (&i, log_l) in shell.iter().zip(&log_l) {
        sum[i as usize] += log_l.exp();
        n[i as usize] += 1.0;
    }
    let z: f64 = (0..N_SHELLS).map(|i| volumes[i].log_shell().exp() * sum[i] / n[i]).sum();
    assert!((found.log_z - z.ln()).abs() < 1e-9 && found.log_z_error > 0.0 && found.log_z_error < 1.0, "{found:?}");

    let mut group = c.benchmark_group("evidence of 30 shells");
    group.sample_size(20).throughput(Throughput::Elements(N_ROWS as u64));
    group.bench_function("100000 points", |b| b.iter(|| shell_evidence(&volumes, black_box(&log_l), &shell)));
    group.finish();
}

criterion_group!(benches, networks, unions, ellipsoids, priors, evidence);
criterion_main!(benches);
