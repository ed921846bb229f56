//! Time of the networks: training per network, prediction of an ensemble.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use livepoint::NetworkOptions;
use livepoint::testing::internals::{CpuPool, Ensemble, Lesson, Stream};

const N_TRAIN: usize = 4000;
const N_PREDICT: usize = 100_000;

/// Points in the cube around the ball and a smooth target: the time does not depend on either.
fn points(n: usize, n_dim: usize) -> (Vec<f32>, Vec<f32>) {
    let mut draw = Stream::new(1).at(0);
    let x: Vec<f32> = (0..n * n_dim).map(|_| (2.0 * draw.uniform() - 1.0) as f32).collect();
    let y = x.chunks(n_dim).map(|row| row.iter().map(|v| v * v).sum()).collect();
    (x, y)
}

fn networks(c: &mut Criterion) {
    let Ok(pool) = CpuPool::new(1, "bench") else { return };
    // Nautilus' recipe takes some 55 epochs of ranks that are hard to learn; this target would let it stop sooner.
    let nautilus = NetworkOptions { max_iter: 55, n_iter_no_change: usize::MAX, ..NetworkOptions::nautilus() };
    let recipes = [("default", NetworkOptions::default()), ("nautilus, 55 epochs", nautilus)];
    for n_dim in [3, 10] {
        let (x, y) = points(N_TRAIN, n_dim);
        let ids: Vec<usize> = (0..y.len()).collect();
        let lesson = Lesson { x: &x, n_dim, y: &y, ids: &ids };
        let mut group = c.benchmark_group("nn/train one network");
        group.sample_size(10);
        for (name, options) in &recipes {
            group.bench_function(BenchmarkId::new(*name, n_dim), |b| {
                // CPU seconds of the training thread: other work on the machine counts for less.
                b.iter_custom(|times| {
                    let train = |_| Ensemble::train(lesson, 1, options, None, Stream::new(1), &pool);
                    let seconds =
                        (0..times).map(train).map(|ensemble| black_box(ensemble).map_or(0.0, |e| e.cpu_seconds()));
                    Duration::from_secs_f64(seconds.sum())
                });
            });
        }
        group.finish();

        let options = NetworkOptions { max_iter: 1, ..NetworkOptions::default() };
        let Ok(ensemble) = Ensemble::train(lesson, 4, &options, None, Stream::new(1), &pool) else { return };
        let (rows, mut out) = points(N_PREDICT, n_dim);
        let mut group = c.benchmark_group("nn/predict 100000 rows with four networks, one thread");
        group.sample_size(20).throughput(Throughput::Elements(N_PREDICT as u64));
        group.bench_function(BenchmarkId::from_parameter(n_dim), |b| {
            b.iter(|| ensemble.predict(black_box(&rows), &mut out));
        });
        group.finish();
    }
}

criterion_group!(benches, networks);
criterion_main!(benches);
