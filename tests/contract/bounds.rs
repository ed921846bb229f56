//! Bounds: draws and membership of a backend against the meaning of the words, and a device's against the CPU's.

use livepoint::testing::internals::{Stream, TestAsk, TestDraws, TestNest};
use livepoint::{Backend, GpuOptions};
use ndarray::Array2;

/// Checks of every backend.
pub const ON_BACKENDS: &[super::Case<Backend>] = &[
    ("draws_fill_an_ellipsoid_evenly", draws_fill_an_ellipsoid_evenly),
    ("what_was_drawn_is_found_again", what_was_drawn_is_found_again),
    ("shells_part_the_cube", |backend| shells_part_the_cube(nest(backend, 3, 2))),
    ("a_bound_between_others_takes_from_those_in_front", a_bound_between_others_takes_from_those_in_front),
    ("live_points_stay_inside", live_points_stay_inside),
    ("a_cloud_across_a_periodic_boundary_is_one", a_cloud_across_a_periodic_boundary_is_one),
    ("a_narrow_peak_keeps_its_digits", a_narrow_peak_keeps_its_digits),
];

/// Checks of a device against the CPU.
pub const ON_DEVICES: &[super::Case<GpuOptions>] = &[
    ("the_same_words_give_the_same_draws", the_same_words_give_the_same_draws),
    ("membership_is_the_cpu_s", membership_is_the_cpu_s),
    ("the_same_stream_gives_the_same_bits", the_same_stream_gives_the_same_bits),
    ("rows_wait_on_the_device_until_newer_ones_come", rows_wait_on_the_device_until_newer_ones_come),
    ("lessons_and_weights_stay_on_the_device", lessons_and_weights_stay_on_the_device),
    ("a_draw_is_one_wait_and_brings_what_was_kept", a_draw_is_one_wait_and_brings_what_was_kept),
];

/// Uniform points of the cube around `centre`, of width `width`, and log L of a correlated Gaussian of that width.
fn cloud(n: usize, n_dim: usize, centre: f64, width: f64) -> (Array2<f64>, Vec<f64>) {
    let stream = Stream::new(11);
    let u = Array2::from_shape_fn((n, n_dim), |(i, j)| {
        let mut draw = stream.at((i * n_dim + j) as u64);
        (centre + width * (draw.uniform() - 0.5)).rem_euclid(1.0)
    });
    let log_l = u.rows().into_iter().map(|row| log_l(&row.to_vec(), centre, width)).collect();
    (u, log_l)
}

fn log_l(u: &[f64], centre: f64, width: f64) -> f64 {
    let x: Vec<f64> = u.iter().map(|u| (u - centre - (u - centre).round()) / width).collect();
    let chi2: f64 = x.iter().map(|x| x * x).sum::<f64>() + 3.0 * (x[0] + x[x.len() - 1]).powi(2);
    -0.5 * chi2 / 0.04
}

fn quantile(log_l: &[f64], share: f64) -> f64 {
    let mut sorted = log_l.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((1.0 - share) * sorted.len() as f64) as usize]
}

/// A nest of two bounds, around a third and a tenth of the points.
fn nest(backend: &Backend, n_dim: usize, n_networks: usize) -> TestNest {
    let mut nest = TestNest::new(backend, n_dim, n_networks, vec![]).unwrap();
    let (u, log_l) = cloud(4000, n_dim, 0.5, 1.0);
    nest.learn(u.view(), &log_l).unwrap();
    for (k, share) in [0.33f64, 0.1].into_iter().enumerate() {
        nest.enclose(quantile(&log_l, share), share.ln(), Stream::new(20 + k as u64)).unwrap();
    }
    nest
}

fn draw(nest: &mut TestNest, bound: usize, n: u64, ask: TestAsk) -> TestDraws {
    nest.draw(bound, None, Stream::new(3), 0..n, ask).unwrap()
}

/// Difference of two fractions in units of its standard deviation.
fn z(a: u64, n_a: u64, b: u64, n_b: u64) -> f64 {
    let p = (a + b) as f64 / (n_a + n_b) as f64;
    let variance = p * (1.0 - p) * (1.0 / n_a as f64 + 1.0 / n_b as f64);
    (a as f64 / n_a as f64 - b as f64 / n_b as f64) / variance.sqrt().max(1e-12)
}

/// Five standard deviations, for a few dozen comparisons.
const MOST: f64 = 5.0;

/// Cut by planes through the cube's centre, which is the ellipsoid's too to within its fit, halves hold the same numbers; and as many lie in the inner half of
/// the volume as outside of it. Saboteur: a radius without its root.
fn draws_fill_an_ellipsoid_evenly(backend: &Backend) {
    for n_dim in [1, 2, 5] {
        let mut nest = TestNest::new(backend, n_dim, 0, vec![]).unwrap();
        let (u, log_l) = cloud(2000, n_dim, 0.5, 1e-3);
        nest.learn(u.view(), &log_l).unwrap();
        nest.enclose(quantile(&log_l, 0.5), 0.5f64.ln() + n_dim as f64 * 1e-3f64.ln(), Stream::new(1)).unwrap();
        let n = 20_000;
        let first = draw(&mut nest, 1, n, TestAsk::Rows);
        // The mean and spread of each coordinate, against another stream's.
        let other = nest.draw(1, None, Stream::new(77), 0..n, TestAsk::Rows).unwrap();
        for dim in 0..n_dim {
            let column = |draws: &TestDraws| -> Vec<f64> {
                draws.rows.chunks(n_dim).map(|row| (row[dim] - 0.5) / 1e-3).collect()
            };
            let (a, b) = (column(&first), column(&other));
            let moment = |v: &[f64], p: i32| v.iter().map(|x| x.powi(p)).sum::<f64>() / v.len() as f64;
            for p in [1, 2] {
                let spread = (moment(&a, 2 * p) - moment(&a, p).powi(2)).sqrt();
                let off = (moment(&a, p) - moment(&b, p)) / (spread * (2.0 / a.len() as f64).sqrt());
                assert!(off.abs() < MOST, "{n_dim} dimensions, moment {p} of {dim}: {off}");
            }
        }
        // The volume, by draws from the cube that hold a tenth of it.
        let (inside, all) = (first.counts[1], first.counts[0]);
        assert!(inside as f64 > 0.5 * all as f64, "{inside} of {all}");
    }
}

fn what_was_drawn_is_found_again(backend: &Backend) {
    for n_networks in [0, 2] {
        let mut nest = nest(backend, 3, n_networks);
        for bound in [1, 2] {
            let draws = draw(&mut nest, bound, 4000, TestAsk::Rows);
            assert!(draws.cells.len() > 300, "{} rows", draws.cells.len());
            assert_eq!(draws.counts[2], draws.cells.len() as u64);
            let found = nest.locate(&draws.rows, bound..bound + 1).unwrap();
            let agree = found.iter().zip(&draws.cells).filter(|(f, c)| **f == Some((bound, **c as usize))).count();
            // A row on a border may be told otherwise by an ulp on the CPU; on a device it is told by the same test.
            assert!(agree + 2 >= found.len(), "bound {bound}: {agree} of {}", found.len());
        }
    }
}

/// What a shell's draws say of its volume agrees with how many points of the cube lie in it, and a row of the shell lies in no later bound.
fn shells_part_the_cube(mut nest: TestNest) {
    let n = 40_000;
    let cube = draw(&mut nest, 0, n, TestAsk::Rows);
    let n_bounds = nest.len();
    let places = nest.locate(&cube.rows, 0..n_bounds).unwrap();
    for bound in 1..n_bounds {
        let draws = draw(&mut nest, bound, n, TestAsk::Shell);
        let later = nest.locate(&draws.rows, bound + 1..n_bounds).unwrap();
        assert!(later.iter().all(Option::is_none), "a row of shell {bound} lies in a later bound");
        assert_eq!(draws.counts[3], draws.cells.len() as u64);
        let volume = draws.log_volume.exp() * draws.counts[3] as f64 / draws.counts[0] as f64;
        let in_shell = places.iter().filter(|place| place.is_some_and(|(b, _)| b == bound)).count() as f64;
        let expected = volume * places.len() as f64;
        let error = (expected + expected * expected / draws.counts[3] as f64).sqrt();
        assert!(expected > 100.0, "shell {bound} is next to nothing");
        assert!((in_shell - expected).abs() < MOST * error, "shell {bound}: {in_shell} points, {expected} expected");
        let tagged = draw(&mut nest, bound, 2000, TestAsk::Holder);
        let outside = nest.locate(&tagged.rows, 0..bound).unwrap();
        let inside = nest.locate(&tagged.rows, bound + 1..n_bounds).unwrap();
        let others: Vec<_> = inside.into_iter().zip(outside).map(|(inside, outside)| inside.or(outside)).collect();
        assert_eq!(tagged.holders, others, "what else holds the rows of bound {bound}");
    }
}

/// A bound of other points, which overlaps two that were there, is put between them: it takes from the cube and the first, and nothing from the second.
fn a_bound_between_others_takes_from_those_in_front(backend: &Backend) {
    let mut nest = nest(backend, 3, 2);
    let cube = draw(&mut nest, 0, 20_000, TestAsk::Rows);
    let before = nest.locate(&cube.rows, 0..3).unwrap();
    let (u, log_l) = cloud(4000, 3, 0.3, 0.6);
    let log_l: Vec<f64> = log_l.into_iter().map(|l| l + 1e3).collect();
    nest.learn(u.view(), &log_l).unwrap();
    nest.enclose(quantile(&log_l, 0.5), 0.5f64.ln() + 3.0 * 0.6f64.ln(), Stream::new(31)).unwrap();
    nest.move_innermost_to(2);
    let after = nest.locate(&cube.rows, 0..4).unwrap();
    let mut taken = [0; 3];
    for (before, after) in before.into_iter().zip(after) {
        let (before, after) = (before.map_or(0, |place| place.0), after.map_or(0, |place| place.0));
        match (before, after) {
            (2, after) => assert_eq!(after, 3, "the second has lost a row"),
            (before, 2) => taken[before] += 1,
            (before, after) => assert_eq!(before, after),
        }
    }
    assert!(taken[0] > 100 && taken[1] > 100, "{taken:?}");
    shells_part_the_cube(nest);
}

fn live_points_stay_inside(backend: &Backend) {
    let mut nest = nest(backend, 4, 4);
    let (u, log_l) = cloud(4000, 4, 0.5, 1.0);
    for (bound, share) in [(1, 0.33), (2, 0.1)] {
        let threshold = quantile(&log_l, share);
        let live: Vec<f64> = u
            .rows()
            .into_iter()
            .zip(&log_l)
            .filter(|(_, l)| **l >= threshold)
            .flat_map(|(row, _)| row.to_vec())
            .collect();
        let found = nest.locate(&live, bound..bound + 1).unwrap();
        let kept = found.iter().flatten().count() as f64 / found.len() as f64;
        assert!(kept > 0.95, "bound {bound} holds {kept} of its live points");
        // And not much else: networks were trained.
        let draws = draw(&mut nest, bound, 20_000, TestAsk::Rows);
        let rows = draws.rows.chunks(4).map(|row| self::log_l(row, 0.5, 1.0));
        let (n, above) = (draws.cells.len(), rows.filter(|l| *l >= threshold).count());
        assert!(above as f64 > 0.5 * n as f64, "bound {bound}: {above} of {n} draws are above the threshold");
    }
}

fn a_cloud_across_a_periodic_boundary_is_one(backend: &Backend) {
    let mut nest = TestNest::new(backend, 2, 2, vec![0, 1]).unwrap();
    let (u, log_l) = cloud(3000, 2, 0.0, 0.5);
    nest.learn(u.view(), &log_l).unwrap();
    let threshold = quantile(&log_l, 0.3);
    nest.enclose(threshold, (0.3f64 * 0.25).ln(), Stream::new(2)).unwrap();
    let draws = draw(&mut nest, 1, 8000, TestAsk::Rows);
    assert!(draws.log_volume < 0.2f64.ln(), "log volume {}", draws.log_volume);
    assert!(draws.rows.iter().all(|x| (0.0..1.0).contains(x)));
    let side = |low: bool| draws.rows.chunks(2).filter(|row| (row[0] < 0.5) == low).count() as u64;
    let n = draws.cells.len() as u64;
    assert!(z(side(true), n, side(false), n).abs() < MOST, "{} and {} of {n}", side(true), side(false));
    let above = draws.rows.chunks(2).filter(|row| self::log_l(row, 0.0, 0.5) >= threshold).count();
    assert!(above as f64 > 0.5 * n as f64, "{above} of {n}");
}

/// A peak of width 1e-9 far from where numbers are dense: plain f32 has no two numbers in it.
fn a_narrow_peak_keeps_its_digits(backend: &Backend) {
    let (centre, width) = (0.7, 1e-9);
    let mut nest = TestNest::new(backend, 2, 2, vec![]).unwrap();
    let (u, log_l) = cloud(3000, 2, centre, width);
    nest.learn(u.view(), &log_l).unwrap();
    let threshold = quantile(&log_l, 0.3);
    nest.enclose(threshold, 0.3f64.ln() + 2.0 * width.ln(), Stream::new(2)).unwrap();
    let draws = draw(&mut nest, 1, 8000, TestAsk::Rows);
    let n = draws.cells.len();
    let above = draws.rows.chunks(2).filter(|row| self::log_l(row, centre, width) >= threshold).count();
    assert!(n > 1000 && above as f64 > 0.5 * n as f64, "{above} of {n}");
    let mut first: Vec<u64> = draws.rows.chunks(2).map(|row| row[0].to_bits()).collect();
    first.sort_unstable();
    first.dedup();
    assert!(first.len() as f64 > 0.99 * n as f64, "{} places for {n} draws", first.len());
}

fn the_same_words_give_the_same_draws(options: &GpuOptions) {
    let device = Backend::from(options.clone());
    for n_dim in [1, 3, 6] {
        let [mut cpu, mut gpu] = [&Backend::cpu(2), &device].map(|backend| nest(backend, n_dim, 0));
        for bound in [0, 1, 2] {
            let [a, b] = [&mut cpu, &mut gpu].map(|nest| draw(nest, bound, 3000, TestAsk::Rows));
            // Members reach a little farther on the device: a draw at the border may be in on one of the two alone.
            let scale = 1.0 + 3e-4 * n_dim as f64;
            assert!((a.log_volume - b.log_volume).abs() < scale.ln(), "{} {}", a.log_volume, b.log_volume);
            // In order, but for a few that one of the two has alone.
            let (mut close, mut next) = (0, 0);
            let others: Vec<(&[f64], &u32)> = b.rows.chunks(n_dim).zip(&b.cells).collect();
            for (row, cell) in a.rows.chunks(n_dim).zip(&a.cells) {
                let is_same = |(other, of): &(&[f64], &u32)| {
                    *of == cell && row.iter().zip(*other).all(|(x, y)| (x - y).abs() < 1e-3)
                };
                if let Some(ahead) = others[next..].iter().take(10).position(is_same) {
                    (close, next) = (close + 1, next + ahead + 1);
                }
            }
            let n = a.cells.len();
            assert!(close as f64 > 0.97 * n as f64, "bound {bound} of {n_dim}: {close} of {n} draws are the same");
            assert_eq!(a.counts[0], b.counts[0]);
            assert!(a.counts[1].abs_diff(b.counts[1]) <= 3 + a.counts[0] / 200, "{:?} {:?}", a.counts, b.counts);
        }
    }
}

/// Ellipsoids alone are the same on both, so membership differs at borders only, by rounding.
fn membership_is_the_cpu_s(options: &GpuOptions) {
    let device = Backend::from(options.clone());
    for n_dim in [1, 3, 6] {
        let [mut cpu, mut gpu] = [&Backend::cpu(2), &device].map(|backend| nest(backend, n_dim, 0));
        let rows = draw(&mut cpu, 0, 5000, TestAsk::Rows).rows;
        let more = draw(&mut cpu, 1, 5000, TestAsk::Rows).rows;
        for rows in [rows, more] {
            let [a, b] = [&mut cpu, &mut gpu].map(|nest| nest.locate(&rows, 0..3).unwrap());
            let differ = a.iter().zip(&b).filter(|(a, b)| a != b).count();
            assert!(differ <= 2, "{n_dim} dimensions: {differ} of {} rows", a.len());
            let inside = a.iter().filter(|place| place.is_some_and(|(bound, _)| bound > 0)).count();
            assert!(inside > 200, "{inside} rows lie in a bound: nothing was tried");
        }
    }
}

fn the_same_stream_gives_the_same_bits(options: &GpuOptions) {
    let backend = Backend::from(options.clone());
    let bits = |nest: &mut TestNest, cuts: &[u64]| -> Vec<u64> {
        let mut rows = Vec::new();
        for cut in cuts.windows(2) {
            let draws = nest.draw(2, None, Stream::new(3), cut[0]..cut[1], TestAsk::Shell).unwrap();
            rows.extend(draws.rows.iter().map(|x| x.to_bits()));
        }
        rows
    };
    let [mut first, mut second] = [(); 2].map(|()| nest(&backend, 3, 2));
    let whole = bits(&mut first, &[0, 20_000]);
    assert!(whole.len() > 3000);
    assert_eq!(whole, bits(&mut second, &[0, 1, 63, 64, 1000, 20_000]), "cuts or networks differ");
}

fn rows_wait_on_the_device_until_newer_ones_come(options: &GpuOptions) {
    let mut nest = TestNest::new(&Backend::from(options.clone()), 2, 0, vec![]).unwrap();
    let draws = draw(&mut nest, 0, 1000, TestAsk::Rows);
    assert!(nest.are_there(&draws, 2).unwrap());
    for _ in 0..3 {
        draw(&mut nest, 0, 50_000, TestAsk::Rows);
    }
    assert!(!nest.are_there(&draws, 2).unwrap(), "their place was taken");
}

/// A lesson of 4000 points in four dimensions is 128 kB, four networks are 150 kB: had either made a trip through the host, it would show.
fn lessons_and_weights_stay_on_the_device(options: &GpuOptions) {
    // The number and the target of a point go up; what describes the bound, and the options of each dispatch, are the rest.
    const UP: u64 = 8;
    const REST: u64 = 40_000;
    // What each of four networks says of a point comes back.
    const BACK: u64 = 16;
    let mut nest = TestNest::new(&Backend::from(options.clone()), 4, 4, vec![]).unwrap();
    let (u, log_l) = cloud(4000, 4, 0.5, 1.0);
    nest.learn(u.view(), &log_l).unwrap();
    for (k, share) in [0.33f64, 0.2].into_iter().enumerate() {
        let before = nest.traffic();
        nest.enclose(quantile(&log_l, share), share.ln(), Stream::new(k as u64)).unwrap();
        let [dispatches, waits, uploaded, train, back] = std::array::from_fn(|i| nest.traffic()[i] - before[i]);
        assert!(train > UP * 1000 && train <= UP * 4000 + REST, "{train} bytes up for training");
        assert!(uploaded <= UP * 4000 + 2 * REST, "{uploaded} bytes up");
        assert!(back <= BACK * 4000 + 4096, "{back} bytes back");
        // Eight dispatches wait for each other at most; the lesson, the predictions and the bound itself come on top.
        assert!(dispatches > 3 && waits <= dispatches / 2 + 3, "{dispatches} dispatches, {waits} waits");
    }
}

fn a_draw_is_one_wait_and_brings_what_was_kept(options: &GpuOptions) {
    // A launch takes as many, however slow the device is.
    const DRAWS: u64 = 1000;
    let mut nest = nest(&Backend::from(options.clone()), 3, 2);
    // The first ones find out how much of it stays.
    for _ in 0..10 {
        draw(&mut nest, 1, DRAWS, TestAsk::Shell);
    }
    let before = nest.traffic();
    let n: u64 = (0..10).map(|_| draw(&mut nest, 1, DRAWS, TestAsk::Shell).cells.len() as u64).sum();
    let [_, waits, uploaded, _, back] = std::array::from_fn(|i| nest.traffic()[i] - before[i]);
    assert_eq!(waits, 10, "waits of ten draws");
    // Per row that is kept, a position (24 bytes) and what it is (16), with room for a fifth more.
    assert!(back <= 2 * 40 * n + 10 * 8192, "{back} bytes back for {n} rows");
    assert!(uploaded <= 10 * 16_384, "{uploaded} bytes up for ten draws");
}
