//! The ensemble of networks that is trained on the device, held to the one of the CPU.

use livepoint::testing::internals::{
    CpuPool, DeviceNetworks, Ensemble, Lesson, PHILOX, SHUFFLE, Stream, device_traits, library,
};
use livepoint::{DeviceError, GpuOptions, NetworkOptions, Schedule};

use super::rig::{NO_TABLES, Rig};

/// Every check of this file.
pub const CASES: &[super::Case<GpuOptions>] = &[
    ("philox_known_answers", philox_known_answers),
    ("the_shuffle_is_a_permutation_and_a_fair_one", the_shuffle_is_a_permutation_and_a_fair_one),
    ("fresh_weights_are_those_of_the_cpu", fresh_weights_are_those_of_the_cpu),
    ("the_same_weights_predict_the_same", the_same_weights_predict_the_same),
    ("whole_batches_train_as_on_the_cpu", whole_batches_train_as_on_the_cpu),
    ("minibatches_train_as_sharply_as_on_the_cpu", minibatches_train_as_sharply_as_on_the_cpu),
    ("a_constant_rate_stops_when_nothing_gets_better", a_constant_rate_stops_when_nothing_gets_better),
    ("a_warm_start_goes_on", a_warm_start_goes_on),
    ("a_network_does_not_see_its_fold", a_network_does_not_see_its_fold),
    ("odd_sizes_train_and_stay_finite", odd_sizes_train_and_stay_finite),
    ("what_is_not_finite_predicts_nan", what_is_not_finite_predicts_nan),
    ("the_same_bits_however_steps_are_cut", the_same_bits_however_steps_are_cut),
    ("a_batch_that_loops_cannot_hold_is_refused", a_batch_that_loops_cannot_hold_is_refused),
];

/// Words as pairs of halves: every f32 between 0 and 2^16 goes through any device unchanged.
fn words(rig: &Rig, text: &str, inputs: &[[f32; 4]]) -> Vec<u32> {
    let text = format!(
        "{}\n{PHILOX}\n{SHUFFLE}\n{text}\nfn f(x: vec4<f32>) -> vec2<f32> {{ let word = g(vec4<u32>(x)); return vec2<f32>(f32(word >> 16u), f32(word & 0xffffu)); }}",
        library::text()
    );
    rig.map(&text, inputs, NO_TABLES).iter().map(|&[high, low]| ((high as u32) << 16) | low as u32).collect()
}

/// Known answers of the Random123 distribution.
fn philox_known_answers(options: &GpuOptions) {
    let text = "
        fn counter(k: u32) -> vec4<u32> {
            if k == 0u { return vec4<u32>(); }
            if k == 1u { return vec4<u32>(0xffffffffu); }
            return vec4<u32>(0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u);
        }
        fn key(k: u32) -> vec2<u32> {
            if k == 0u { return vec2<u32>(); }
            if k == 1u { return vec2<u32>(0xffffffffu); }
            return vec2<u32>(0xa4093822u, 0x299f31d0u);
        }
        fn g(x: vec4<u32>) -> u32 { return lp_philox(counter(x.x), key(x.x))[x.y]; }";
    let inputs: Vec<[f32; 4]> = (0..12).map(|k| [(k / 4) as f32, (k % 4) as f32, 0.0, 0.0]).collect();
    let expected = [
        [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
        [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
    ];
    assert_eq!(words(&Rig::new(options), text, &inputs), expected.concat());
}

/// Chi-square of counts against equal ones.
fn chi_square(counts: &[u32]) -> f64 {
    let mean = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    counts.iter().map(|&count| (f64::from(count) - mean).powi(2) / mean).sum()
}

fn the_shuffle_is_a_permutation_and_a_fair_one(options: &GpuOptions) {
    let rig = Rig::new(options);
    let text = "fn g(x: vec4<u32>) -> u32 {
        return lp_shuffled(x.x, x.y, x.z, lp_philox(vec4<u32>(0u, x.w, 0u, 0u), vec2<u32>(1u, 2u)));
    }";
    let input = |place: usize, n: usize, epoch: usize| [place, n, n.isqrt(), epoch].map(|k| k as f32);
    for n in [1, 2, 3, 5, 8, 24, 80, 81, 1000, 4001] {
        let inputs: Vec<_> = (0..2 * n).map(|k| input(k % n, n, k / n)).collect();
        let orders = words(&rig, text, &inputs);
        for order in orders.chunks(n) {
            let mut sorted = order.to_vec();
            sorted.sort_unstable();
            assert!(sorted.iter().copied().eq(0..n as u32), "{n}: {order:?}");
        }
        assert!(n < 24 || orders[..n] != orders[n..], "{n}: every epoch has the same order");
    }

    // What comes at each place, and which two come first, over 4000 epochs. Alpha 1e-6 each; Wilson and Hilferty's quantile.
    const N: usize = 10;
    const EPOCHS: usize = 4000;
    let limit = |degrees: f64| degrees * (1.0 - 2.0 / (9.0 * degrees) + 4.753 * (2.0 / (9.0 * degrees)).sqrt()).powi(3);
    let tables = |orders: &[u32]| {
        let (mut places, mut pairs) = (vec![0; N * N], vec![0; N * N]);
        for order in orders.chunks(N) {
            order.iter().enumerate().for_each(|(place, &k)| places[place * N + k as usize] += 1);
            pairs[order[0] as usize * N + order[1] as usize] += 1;
        }
        assert!((0..N).all(|k| pairs[k * N + k] == 0));
        pairs.retain(|&count| count > 0);
        (chi_square(&places), if pairs.len() == N * (N - 1) { chi_square(&pairs) } else { f64::INFINITY })
    };
    let inputs: Vec<_> = (0..N * EPOCHS).map(|k| input(k % N, N, k / N)).collect();
    let orders = words(&rig, text, &inputs);
    let (places, pairs) = tables(&orders);
    assert!(places < limit(81.0), "places: chi-square {places} of 81 degrees");
    assert!(pairs < limit(89.0), "pairs: chi-square {pairs} of 89 degrees");
    // Saboteur: turned around by a random number, everything comes everywhere, but always in the same order.
    let turned: Vec<u32> = (0..N * EPOCHS).map(|k| (orders[k / N * N] + (k % N) as u32) % N as u32).collect();
    assert!(tables(&turned).1 > limit(89.0), "the saboteur was not noticed");
}

fn pool() -> CpuPool {
    CpuPool::new(2, "networks").unwrap()
}

/// Points uniform in the unit ball `[n, n_dim]`.
fn ball(n: usize, n_dim: usize, seed: u64) -> Vec<f32> {
    let stream = Stream::new(seed);
    let point = |k: u64| {
        let mut draw = stream.at(k);
        let direction: Vec<f64> = (0..n_dim).map(|_| draw.normal()).collect();
        let norm = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
        let radius = draw.uniform().powf(1.0 / n_dim as f64);
        direction.into_iter().map(move |v| (v / norm * radius) as f32)
    };
    (0..n as u64).flat_map(point).collect()
}

fn bumpy(x: &[f32], n_dim: usize) -> Vec<f32> {
    x.chunks(n_dim).map(|z| 3.0 + z.iter().map(|v| v * v).sum::<f32>() + (2.0 * z[0]).sin()).collect()
}

/// Mean and standard deviation of targets, which the ensemble of the CPU takes off by itself.
fn moments(y: &[f32]) -> (f64, f64) {
    let mean = y.iter().map(|&v| f64::from(v)).sum::<f64>() / y.len() as f64;
    let variance = y.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / y.len() as f64;
    (mean, variance.sqrt())
}

/// Points and targets as networks have them: the units of `Ensemble::train`.
fn standardised(x: &[f32], n_dim: usize, y: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let scale = (n_dim as f32 + 2.0).sqrt();
    let (mean, deviation) = moments(y);
    (x.iter().map(|v| v * scale).collect(), y.iter().map(|&v| ((f64::from(v) - mean) / deviation) as f32).collect())
}

/// Dense weights of a network of the CPU, laid out as on the device: rows padded to a multiple of four.
fn padded(dense: &[f32], n_in: usize, hidden: &[usize]) -> Vec<f32> {
    let (mut out, mut rest, mut n_in) = (Vec::new(), dense, n_in);
    for n_out in hidden.iter().copied().chain([1]) {
        for _ in 0..n_out {
            let (row, others) = rest.split_at(n_in + 1);
            out.extend_from_slice(row);
            out.resize(out.len().next_multiple_of(4), 0.0);
            rest = others;
        }
        n_in = n_out;
    }
    assert!(rest.is_empty());
    out
}

fn train_on_cpu(
    x: &[f32],
    n_dim: usize,
    y: &[f32],
    n_networks: usize,
    options: &NetworkOptions,
    stream: Stream,
) -> Ensemble {
    let ids: Vec<usize> = (0..y.len()).collect();
    Ensemble::train(Lesson { x, n_dim, y, ids: &ids }, n_networks, options, None, stream, &pool()).unwrap()
}

/// Networks on the device with the lesson in their own units.
fn networks(
    options: &GpuOptions,
    x: &[f32],
    n_dim: usize,
    y: &[f32],
    n_networks: usize,
    hidden: &[usize],
) -> DeviceNetworks {
    let mut networks = DeviceNetworks::new(options, n_dim, hidden, n_networks).unwrap();
    let (x, y) = standardised(x, n_dim, y);
    networks.teach(&x, &y).unwrap();
    networks
}

/// Mean of the networks for each row.
fn mean_of(predictions: &[f32], n_networks: usize) -> Vec<f32> {
    let n = predictions.len() / n_networks;
    (0..n).map(|i| (0..n_networks).map(|k| predictions[k * n + i]).sum::<f32>() / n_networks as f32).collect()
}

/// Share of the variance of `truth` that `found` leaves unexplained.
fn unexplained(truth: &[f32], found: &[f32]) -> f64 {
    let (_, deviation) = moments(truth);
    let error: f64 = truth.iter().zip(found).map(|(t, f)| f64::from(t - f).powi(2)).sum();
    error / truth.len() as f64 / deviation.powi(2)
}

const SHAPES: [(usize, &[usize]); 5] = [(4, &[100, 50, 20]), (1, &[7]), (31, &[13, 9, 6]), (3, &[]), (7, &[8, 4])];

fn fresh_weights_are_those_of_the_cpu(options: &GpuOptions) {
    for (n_dim, hidden) in SHAPES {
        for seed in [5, u64::MAX] {
            let (x, n_networks) = (ball(20, n_dim, 1), 3);
            let y = bumpy(&x, n_dim);
            // A rate that rounds to 0 leaves the weights as they were.
            let network_options = NetworkOptions {
                hidden_layer_sizes: hidden.to_vec(),
                learning_rate_init: 1e-300,
                max_iter: 1,
                ..NetworkOptions::default()
            };
            let cpu = train_on_cpu(&x, n_dim, &y, n_networks, &network_options, Stream::new(seed));
            let expected: Vec<f32> = cpu.weights().iter().flat_map(|dense| padded(dense, n_dim, hidden)).collect();
            let mut device = DeviceNetworks::new(options, n_dim, hidden, n_networks).unwrap();
            device.start_fresh(Stream::new(seed)).unwrap();
            let found = device.weights().unwrap();
            assert_eq!(found.len(), expected.len());
            assert_eq!(found.len(), n_networks * device.n_weights());
            let mut same = 0;
            for (k, (a, b)) in found.iter().zip(&expected).enumerate() {
                let apart = (i64::from(a.to_bits()) - i64::from(b.to_bits())).abs();
                assert!(apart <= 1, "{n_dim} {hidden:?} weight {k}: {a} and {b}");
                same += usize::from(apart == 0);
            }
            assert!(same > found.len() * 9 / 10, "{n_dim} {hidden:?}: only {same} of {}", found.len());
        }
    }
}

/// Sums of at most a hundred products of order 1 in another order, in units of the deviation of the targets.
const PREDICTION: f32 = 2e-5;

fn the_same_weights_predict_the_same(options: &GpuOptions) {
    for (n_dim, hidden) in SHAPES {
        let (x, n_networks) = (ball(777, n_dim, 1), 4);
        let y = bumpy(&x, n_dim);
        let network_options =
            NetworkOptions { hidden_layer_sizes: hidden.to_vec(), max_iter: 5, ..NetworkOptions::default() };
        let cpu = train_on_cpu(&x, n_dim, &y, n_networks, &network_options, Stream::new(3));
        let mut expected = vec![0.0; y.len()];
        cpu.predict(&x, &mut expected);
        let weights: Vec<f32> = cpu.weights().iter().flat_map(|dense| padded(dense, n_dim, hidden)).collect();
        let mut device = networks(options, &x, n_dim, &y, n_networks, hidden);
        device.set_weights(&weights);
        let (mean, deviation) = moments(&y);
        let before = device.spent();
        let found = mean_of(&device.predict().unwrap(), n_networks);
        let after = device.spent();
        assert_eq!(after[3] - before[3], 1, "more than one wait");
        assert_eq!(after[2] - before[2], 4 * 4 * 777, "bytes read");
        for (found, expected) in found.iter().zip(&expected) {
            let error = (mean + deviation * f64::from(*found) - f64::from(*expected)) / deviation;
            assert!(error.abs() < f64::from(PREDICTION), "{n_dim} {hidden:?}: {error}");
        }
        // A second time the rows are cut in other pieces.
        assert_eq!(found, mean_of(&device.predict().unwrap(), n_networks));
    }
}

/// Five steps from the same weights with all points in each, so that the order of the points tells in the rounding only.
///
/// The steps of the CPU are good to 3e-4 of themselves, since it has the reciprocal root from an estimate: 5 steps x 0.02 x 3e-4 = 3e-5 for a weight. Where a gradient is 0 but for
/// rounding its sign is a matter of luck, and so is the way that the weight goes: a few weights may be far off, and predictions feel them.
fn whole_batches_train_as_on_the_cpu(options: &GpuOptions) {
    let (n, base) = (203, NetworkOptions { batch_size: 1000, max_iter: 5, ..NetworkOptions::default() });
    let cosine = NetworkOptions { learning_rate: Schedule::Cosine, beta_1: 0.5, beta_2: 0.9999, ..base.clone() };
    let constant = NetworkOptions { learning_rate: Schedule::Constant, epsilon: 0.05, beta_1: 0.0, ..base.clone() };
    let cases = SHAPES.into_iter().map(|shape| (shape, &base)).chain([(SHAPES[2], &cosine), (SHAPES[2], &constant)]);
    for (seed, ((n_dim, hidden), recipe)) in (0..).zip(cases) {
        let x = ball(n, n_dim, 1);
        let y = bumpy(&x, n_dim);
        let recipe = NetworkOptions { hidden_layer_sizes: hidden.to_vec(), ..recipe.clone() };
        let stream = Stream::new(seed);
        let cpu = padded(&train_on_cpu(&x, n_dim, &y, 1, &recipe, stream).weights()[0], n_dim, hidden);
        let mut device = networks(options, &x, n_dim, &y, 1, hidden);
        device.start_fresh(stream).unwrap();
        let fresh = device.weights().unwrap();
        device.train(&[0, n as u32], &recipe, stream).unwrap();
        let (weights, predicted) = (device.weights().unwrap(), device.predict().unwrap());
        device.set_weights(&cpu);
        let expected = device.predict().unwrap();

        let difference = |(a, b): (&f32, &f32)| f64::from((a - b).abs());
        let mut apart: Vec<f64> = weights.iter().zip(&cpu).map(difference).collect();
        apart.sort_by(f64::total_cmp);
        let most = apart[apart.len() * 97 / 100];
        let moved = weights.iter().zip(&fresh).map(difference).fold(0.0, f64::max);
        let worst = predicted.iter().zip(&expected).map(difference).fold(0.0, f64::max);
        assert!(moved > 0.03, "{n_dim} {hidden:?}: no weight has moved by more than {moved}");
        assert!(most < 3e-5, "{n_dim} {hidden:?}: three in a hundred weights are off by {most}");
        assert!(worst < 5e-4, "{n_dim} {hidden:?}: a prediction is off by {worst}");
    }
}

fn minibatches_train_as_sharply_as_on_the_cpu(options: &GpuOptions) {
    let (n, n_dim, n_networks) = (3000, 3, 4);
    let x = ball(n, n_dim, 1);
    let y = bumpy(&x, n_dim);
    let network_options = NetworkOptions { max_steps: 400, ..NetworkOptions::default() };
    let fresh = ball(1000, n_dim, 3);
    let truth = bumpy(&fresh, n_dim);
    let cpu = train_on_cpu(&x, n_dim, &y, n_networks, &network_options, Stream::new(2));
    let mut found = vec![0.0; truth.len()];
    cpu.predict(&fresh, &mut found);
    let on_cpu = unexplained(&truth, &found);

    let mut device = networks(options, &x, n_dim, &y, n_networks, &network_options.hidden_layer_sizes);
    device.start_fresh(Stream::new(2)).unwrap();
    let folds = device.even_folds();
    let before = device.spent();
    device.train(&folds, &network_options, Stream::new(2)).unwrap();
    let after = device.spent();
    let (mean, deviation) = moments(&y);
    let scale = (n_dim as f32 + 2.0).sqrt();
    let scaled: Vec<f32> = fresh.iter().map(|v| v * scale).collect();
    let targets: Vec<f32> = truth.iter().map(|&v| ((f64::from(v) - mean) / deviation) as f32).collect();
    device.teach(&scaled, &targets).unwrap();
    let on_device = unexplained(&targets, &mean_of(&device.predict().unwrap(), n_networks));
    // The two shuffle differently. Measured 1e-3; a linear fit leaves 0.3.
    assert!(on_device < 0.01 && on_device < 2.0 * on_cpu, "unexplained: device {on_device}, CPU {on_cpu}");
    let [dispatches, uploaded, read, waits] = std::array::from_fn(|k| after[k] - before[k]);
    // 48 bytes for each network's task and for the options of each dispatch, of which a slow device has more.
    let most = 48 * (n_networks as u64 + dispatches);
    assert!(dispatches > 0 && waits <= dispatches && uploaded <= most && read == 0, "{before:?} {after:?}");
}

/// Targets of pure noise and a rate that does not fall: the loss stalls long before 10,000 epochs are over.
fn a_constant_rate_stops_when_nothing_gets_better(options: &GpuOptions) {
    let (n, n_dim, n_networks) = (64, 2, 2);
    let x = ball(n, n_dim, 1);
    let mut draw = Stream::new(8).at(0);
    let y: Vec<f32> = (0..n).map(|_| draw.normal() as f32).collect();
    let network_options = NetworkOptions {
        hidden_layer_sizes: vec![],
        batch_size: 16,
        max_iter: 4000,
        max_steps: usize::MAX,
        learning_rate: Schedule::Constant,
        n_iter_no_change: 4,
        ..NetworkOptions::default()
    };
    let trained = |steps: usize, max_iter: usize| {
        let mut device = networks(options, &x, n_dim, &y, n_networks, &[]);
        device.set_steps_per_dispatch(steps);
        device.start_fresh(Stream::new(2)).unwrap();
        let folds = device.even_folds();
        let before = device.spent();
        device.train(&folds, &NetworkOptions { max_iter, ..network_options.clone() }, Stream::new(2)).unwrap();
        (device.spent()[0] - before[0], device.weights().unwrap())
    };
    let (dispatches, weights) = trained(20, 4000);
    // Two batches for each of the two networks' 32 points.
    assert!(dispatches < 4000 * 2 / 20 / 4, "{dispatches} dispatches: it did not stop");
    // It stopped where it should have however the steps were cut, and went on until then.
    assert_eq!(trained(7, 4000).1, weights);
    assert_ne!(trained(20, 3).1, weights);
}

fn a_warm_start_goes_on(options: &GpuOptions) {
    let (n, n_dim, n_networks) = (2000, 3, 2);
    let x = ball(n, n_dim, 1);
    let y = bumpy(&x, n_dim);
    let hidden = [30, 10];
    let long = NetworkOptions { hidden_layer_sizes: hidden.to_vec(), max_steps: 400, ..NetworkOptions::default() };
    let short = NetworkOptions { max_steps: 40, learning_rate_init: long.learning_rate_init_warm, ..long.clone() };
    let (_, targets) = standardised(&x, n_dim, &y);
    let train = |options_: &NetworkOptions, from: Option<&DeviceNetworks>| {
        let mut device = networks(options, &x, n_dim, &y, n_networks, &hidden);
        match from {
            Some(other) => {
                device.start_from(other).unwrap();
                assert_eq!(device.weights().unwrap(), other.weights().unwrap());
            }
            None => device.start_fresh(Stream::new(5)).unwrap(),
        }
        let folds = device.even_folds();
        device.train(&folds, options_, Stream::new(5)).unwrap();
        let left = unexplained(&targets, &mean_of(&device.predict().unwrap(), n_networks));
        (device, left)
    };
    let (first, before) = train(&long, None);
    let (_, cold) = train(&short, None);
    let (_, warm) = train(&short, Some(&first));
    assert!(warm < 0.5 * cold, "warm {warm}, before {before}, cold {cold}");
}

/// Targets of pure noise: a network may learn those that it saw, and tells nothing of those that it did not.
fn a_network_does_not_see_its_fold(options: &GpuOptions) {
    let (n, n_dim) = (200, 5);
    let x = ball(n, n_dim, 1);
    let mut draw = Stream::new(8).at(0);
    let y: Vec<f32> = (0..n).map(|_| draw.normal() as f32).collect();
    let network_options =
        NetworkOptions { hidden_layer_sizes: vec![30, 10], max_iter: 200, ..NetworkOptions::default() };
    let (_, targets) = standardised(&x, n_dim, &y);
    let correlation = |n_networks: usize, held_out: bool| {
        let mut device = networks(options, &x, n_dim, &y, n_networks, &network_options.hidden_layer_sizes);
        device.start_fresh(Stream::new(1)).unwrap();
        let folds = device.even_folds();
        device.train(&folds, &network_options, Stream::new(1)).unwrap();
        let all = device.predict().unwrap();
        let fold_of = |i: usize| folds.iter().rposition(|&start| start as usize <= i).unwrap();
        let out: Vec<f32> =
            if held_out { (0..n).map(|i| all[fold_of(i) * n + i]).collect() } else { mean_of(&all, n_networks) };
        let product: f32 = out.iter().zip(&targets).map(|(a, b)| a * b).sum();
        let square = |v: &[f32]| v.iter().map(|v| v * v).sum::<f32>();
        product / (square(&out) * square(&targets)).sqrt()
    };
    let (seen, unseen) = (correlation(4, false), correlation(4, true));
    assert!(seen > 0.7, "correlation {seen} with targets that most networks saw");
    assert!(unseen.abs() < 0.3, "correlation {unseen} with targets not seen");
    // A network that is alone has seen everything.
    assert!(correlation(1, true) > 0.7);
}

fn odd_sizes_train_and_stay_finite(options: &GpuOptions) {
    let hidden: [&[usize]; 5] = [&[], &[1], &[4], &[9, 5, 3], &[17, 8, 2, 11]];
    for (n, n_dim, n_networks, hidden) in [
        (1, 1, 1, hidden[4]),
        (1, 31, 3, hidden[0]),
        (2, 2, 2, hidden[1]),
        (79, 4, 1, hidden[2]),
        (81, 1, 4, hidden[3]),
        (300, 31, 2, hidden[4]),
    ] {
        let x = ball(n, n_dim, 1);
        let y: Vec<f32> = if n > 1 { bumpy(&x, n_dim) } else { vec![0.7] };
        let network_options = NetworkOptions { hidden_layer_sizes: hidden.to_vec(), ..NetworkOptions::default() };
        let mut device = DeviceNetworks::new(options, n_dim, hidden, n_networks).unwrap();
        device.teach(&x, &y).unwrap();
        device.start_fresh(Stream::new(1)).unwrap();
        let fresh = device.weights().unwrap();
        // The last network leaves out everything where there is one point only, and so nothing.
        let folds = device.even_folds();
        device.train(&folds, &network_options, Stream::new(1)).unwrap();
        let (found, weights) = (device.predict().unwrap(), device.weights().unwrap());
        assert_eq!(found.len(), n * n_networks);
        assert!(found.iter().chain(&weights).all(|value| value.is_finite()), "{n} {n_dim} {hidden:?}: {found:?}");
        // Every network has moved, and the zeros between its rows have not.
        let n_weights = device.n_weights();
        for (before, after) in fresh.chunks(n_weights).zip(weights.chunks(n_weights)) {
            assert_ne!(before, after, "{n} {n_dim} {hidden:?}");
        }
        let mut start = 0;
        let mut n_in = n_dim;
        for n_out in hidden.iter().copied().chain([1]) {
            let stride = (n_in + 1).next_multiple_of(4);
            for network in weights.chunks(n_weights) {
                let mut rows = network[start..start + n_out * stride].chunks(stride);
                assert!(rows.all(|row| row[n_in + 1..].iter().all(|&weight| weight == 0.0)), "{n_dim} {hidden:?}");
            }
            start += n_out * stride;
            n_in = n_out;
        }
    }
}

fn what_is_not_finite_predicts_nan(options: &GpuOptions) {
    let (n, n_dim) = (100, 3);
    let x = ball(n, n_dim, 1);
    let y = bumpy(&x, n_dim);
    let mut device = networks(options, &x, n_dim, &y, 1, &[10, 5]);
    device.start_fresh(Stream::new(1)).unwrap();
    let mut spoilt = x.clone();
    for (k, value) in [(0, f32::NAN), (4, -f32::NAN), (8, f32::INFINITY)] {
        spoilt[k] = value;
    }
    device.teach(&spoilt, &y).unwrap();
    let found = device.predict().unwrap();
    assert!(found[..3].iter().all(|value| value.is_nan()), "{:?}", &found[..3]);
    assert!(found[3..].iter().all(|value| value.is_finite()));
    // Trained on them, or with a wild rate, it comes to its end.
    let train_options = NetworkOptions { hidden_layer_sizes: vec![10, 5], max_iter: 3, ..NetworkOptions::default() };
    device.train(&[0, n as u32], &train_options, Stream::new(1)).unwrap();
    device.start_fresh(Stream::new(1)).unwrap();
    device.teach(&x, &y).unwrap();
    let wild = NetworkOptions { learning_rate_init: 1e30, ..train_options.clone() };
    device.train(&[0, n as u32], &wild, Stream::new(1)).unwrap();
    assert!(device.predict().unwrap().iter().any(|value| !value.is_finite()), "it diverged, and nobody can tell");
    // Nothing of that stays behind.
    let again = |device: &mut DeviceNetworks| {
        device.start_fresh(Stream::new(1)).unwrap();
        device.train(&[0, n as u32], &train_options, Stream::new(1)).unwrap();
        device.weights().unwrap()
    };
    let mut other = DeviceNetworks::new(options, n_dim, &[10, 5], 1).unwrap();
    other.teach(&x, &y).unwrap();
    assert_eq!(again(&mut device), again(&mut other));
}

/// The second recipe has many more steps than a driver that counts the iterations of loops would let one dispatch have.
fn the_same_bits_however_steps_are_cut(options: &GpuOptions) {
    let default = NetworkOptions { max_iter: 3, ..NetworkOptions::default() };
    let long = NetworkOptions {
        hidden_layer_sizes: vec![9],
        max_iter: 1500,
        max_steps: usize::MAX,
        learning_rate_init: 1e-3,
        ..NetworkOptions::default()
    };
    for (n, n_networks, recipe, cuts) in [(500, 3, &default, [1, 5, 1000]), (100, 1, &long, [50, 333, 100_000])] {
        let n_dim = 3;
        let x = ball(n, n_dim, 1);
        let y = bumpy(&x, n_dim);
        let trained = |steps: Option<usize>, seed: u64| {
            let mut device = networks(options, &x, n_dim, &y, n_networks, &recipe.hidden_layer_sizes);
            if let Some(steps) = steps {
                device.set_steps_per_dispatch(steps);
            }
            device.start_fresh(Stream::new(7)).unwrap();
            let folds = device.even_folds();
            device.train(&folds, recipe, Stream::new(seed)).unwrap();
            device.weights().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let whole = trained(None, 7);
        for steps in cuts {
            assert!(trained(Some(steps), 7) == whole, "{steps} steps per dispatch");
        }
        assert!(trained(None, 8) != whole, "another stream, the same order");
    }
}

fn a_batch_that_loops_cannot_hold_is_refused(options: &GpuOptions) {
    let (_, traits) = device_traits(options).unwrap();
    let n = 200_000;
    let mut device = DeviceNetworks::new(options, 1, &[], 1).unwrap();
    device.teach(&vec![0.5; n], &vec![1.0; n]).unwrap();
    device.start_fresh(Stream::new(1)).unwrap();
    let whole = NetworkOptions { batch_size: n, max_iter: 1, hidden_layer_sizes: vec![], ..NetworkOptions::default() };
    let trained = device.train(&[0, n as u32], &whole, Stream::new(1));
    if traits.contains("cut after") {
        assert!(matches!(&trained, Err(DeviceError::Limit { what, .. }) if what.contains("batch")), "{trained:?}");
    } else {
        assert_eq!(trained, Ok(()));
    }
}
