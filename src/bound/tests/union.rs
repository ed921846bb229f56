//! Tests of unions: uniform draws over overlaps, volumes, splits, trimming, timings.

use std::time::Instant;

use super::{ALPHA, SABOTEUR, ball, cloud, exact, gaussian, options, p_fractions, p_normal};
use crate::bound::{Ellipsoid, PhaseShift, Union};
use crate::rng::Stream;

/// Draws against points of the cube: the share of a region and the volume.
#[test]
fn draws_are_uniform_in_an_overlapping_union_clipped_by_the_cube() {
    let slanted = exact(&[0.1, 0.4], &[vec![0.25, 0.25], vec![-0.05, 0.05]]);
    let members = vec![ball(&[0.3, 0.5], 0.2), slanted, ball(&[0.35, 0.45], 0.15)];
    let union = Union::of(2, options(4, false), members.into_iter().map(|m| (m, vec![])).collect());
    let (n_cube, n_draws) = (400_000u64, 400_000u64);
    // By how many members hold a point, and a region that is cut by none of them in particular.
    type Region<'a> = &'a dyn Fn(&[f64; 2]) -> bool;
    let regions: [Region; 4] = [
        &|x| union.members().iter().filter(|m| m.contains(x)).count() == 1,
        &|x| union.members().iter().filter(|m| m.contains(x)).count() == 3,
        &|x| x[0] < 0.2,
        &|x| x[0] + x[1] > 0.8,
    ];
    let brute: Vec<[f64; 2]> = (0..n_cube)
        .map(|k| {
            let mut draw = Stream::new(45).at(k);
            [draw.uniform(), draw.uniform()]
        })
        .filter(|x| union.contains(x))
        .collect();
    let (mut drawn, mut ignoring) = (vec![], vec![]);
    for k in 0..n_draws {
        let mut x = [0.0; 2];
        if union.draw(&mut Stream::new(46).at(k), &mut x) {
            assert!(union.contains(&x));
            drawn.push(x);
        }
        // Saboteur: the multiplicity ignored.
        if x.iter().all(|x| (0.0..1.0).contains(x)) {
            ignoring.push(x);
        }
    }
    let count = |points: &[[f64; 2]], region: Region| points.iter().filter(|x| region(x)).count();
    let p = |points: &[[f64; 2]], region| {
        p_fractions(count(points, region), points.len(), count(&brute, region), brute.len())
    };
    for (i, region) in regions.iter().enumerate() {
        assert!(p(&drawn, region) > ALPHA, "region {i}: {}", p(&drawn, region));
    }
    assert!(p(&ignoring, regions[0]) < SABOTEUR && p(&ignoring, regions[1]) < SABOTEUR);
    // The volume that the accepted share gives against that of the cube.
    let volume = |accepted: usize| {
        let (v, a) = (union.log_volume().exp(), accepted as f64 / n_draws as f64);
        let b = brute.len() as f64 / n_cube as f64;
        let error = (v * v * a * (1.0 - a) / n_draws as f64 + b * (1.0 - b) / n_cube as f64).sqrt();
        p_normal((v * a - b) / error)
    };
    assert!(volume(drawn.len()) > ALPHA, "p = {}", volume(drawn.len()));
    assert!(volume(ignoring.len()) < SABOTEUR);
}

#[test]
fn a_split_finds_separated_clusters() {
    for n_dim in [1, 2, 10] {
        let width = 0.02 / (n_dim as f64).sqrt();
        let points = cloud(48, 900, n_dim, |draw, i, x| {
            let centre = if i % 3 == 0 { 0.25 } else { 0.75 };
            x.iter_mut().for_each(|v| *v = centre + width * draw.normal());
        });
        let mut union = Union::enclosing(points.view(), &options(n_dim + 50, false)).unwrap();
        let before = union.log_volume();
        assert!(union.split(false, Stream::new(49)));
        assert_eq!(union.members().len(), 2);
        assert!(union.log_volume() < before && !union.members()[0].overlaps(&union.members()[1]));
        let sizes = [union.points(0).len() / n_dim, union.points(1).len() / n_dim];
        assert_eq!((sizes[0].min(sizes[1]), sizes[0].max(sizes[1])), (300, 600));
        assert!(points.rows().into_iter().all(|row| union.contains(&row.to_vec())));
        while union.split(false, Stream::new(50)) {}
        for (i, a) in union.members().iter().enumerate() {
            assert!(union.members()[..i].iter().all(|b| !a.overlaps(b)));
        }
    }
}

/// A small cluster is topped up; with too few points for two there is no split.
#[test]
fn a_part_keeps_the_least_number_of_points() {
    let points = cloud(51, 300, 2, |draw, i, x| {
        let centre = if i < 20 { 0.2 } else { 0.8 };
        x.iter_mut().for_each(|v| *v = centre + 0.01 * draw.normal());
    });
    let mut union = Union::enclosing(points.view(), &options(52, false)).unwrap();
    while union.split(true, Stream::new(52)) {}
    assert!((0..union.members().len()).all(|i| union.points(i).len() >= 2 * 52));
    let mut whole = Union::enclosing(points.view(), &options(151, false)).unwrap();
    assert!(!whole.split(true, Stream::new(52)));
}

/// Sixteen modes, the problem on which splitting must not stall.
#[test]
fn splits_never_grow_and_end_on_an_egg_box() {
    let points = cloud(53, 3200, 2, |draw, i, x| {
        let (row, column) = (i % 4, i / 4 % 4);
        x[0] = 0.125 + 0.25 * row as f64 + 0.01 * draw.normal();
        x[1] = 0.125 + 0.25 * column as f64 + 0.01 * draw.normal();
    });
    let start = Instant::now();
    let mut union = Union::enclosing(points.view(), &options(52, true)).unwrap();
    let mut volume = union.log_volume();
    let mut splits = 0;
    while union.split(true, Stream::new(54).substream(splits)) {
        assert!(union.log_volume() < volume);
        volume = union.log_volume();
        assert!(points.rows().into_iter().all(|row| union.contains(&row.to_vec())));
        splits += 1;
    }
    println!("egg box: {} members, volume {:.4}, {:?}", union.members().len(), volume.exp(), start.elapsed());
    assert!((16..=61).contains(&union.members().len()));
    // Sixteen discs of about 3.5 widths, enlarged.
    assert!(volume.exp() < 16.0 * std::f64::consts::PI * (0.045f64).powi(2));
    assert!(!union.split(true, Stream::new(55)));
    // Without overlap every mode ends up by itself.
    let mut apart = Union::enclosing(points.view(), &options(52, false)).unwrap();
    (0..100).for_each(|k| _ = apart.split(false, Stream::new(54).substream(k)));
    assert_eq!(apart.members().len(), 16);
    assert!((0..union.members().len()).map(|i| union.points(i).len()).sum::<usize>() == 2 * 3200);
}

#[test]
fn a_sparse_member_is_trimmed_and_the_last_one_stays() {
    let member = |centre: f64, radius: f64, n: usize| (ball(&[centre, centre], radius), vec![centre; 2 * n]);
    let dense = || vec![member(0.2, 0.01, 100), member(0.4, 0.02, 100), member(0.6, 0.01, 50)];
    let mut parts = dense();
    parts.insert(1, member(0.5, 0.4, 60));
    let mut union = Union::of(2, options(50, false), parts);
    assert!(union.trim());
    assert_eq!(union.members().len(), 3);
    assert!(!union.contains(&[0.5, 0.7]) && union.contains(&[0.2, 0.2]) && union.contains(&[0.6, 0.6]));
    assert!(!union.trim());
    let mut draws = (0..1000).map(|k| {
        let mut x = [0.0; 2];
        union.draw(&mut Stream::new(56).at(k), &mut x) && union.contains(&x)
    });
    assert!(draws.all(|accepted| accepted));
    let mut single = Union::of(2, options(50, false), vec![member(0.5, 0.4, 1)]);
    assert!(!single.trim() && single.members().len() == 1);
}

#[test]
fn the_same_stream_gives_the_same_union() {
    let points = gaussian(77, 500, 3, 0.05);
    let shift = PhaseShift::new(points.view(), &[0]);
    let draws = || {
        let mut union = Union::enclosing(points.view(), &options(53, true)).unwrap();
        while union.split(true, Stream::new(78)) {}
        let mut x = vec![0.0; 3];
        (0..100)
            .map(|k| {
                let accepted = union.draw(&mut Stream::new(79).at(k), &mut x);
                shift.invert(&mut x);
                (accepted, x.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(draws(), draws());
}

/// Run alone: `cargo test --lib timings -- --ignored --nocapture`.
#[test]
#[ignore = "prints timings"]
fn timings() {
    for (n, n_dim, flat) in
        [(2000, 2, 0), (2000, 10, 0), (2000, 10, 6), (2000, 30, 0), (2000, 30, 25), (20_000, 10, 0), (100_000, 10, 0)]
    {
        let mut points = gaussian(1, n, n_dim, 0.02);
        points.indexed_iter_mut().filter(|((_, j), _)| *j < flat).for_each(|((i, j), x)| {
            *x = Stream::new(2).at((i * n_dim + j) as u64).uniform();
        });
        let timed = |task: &mut dyn FnMut()| {
            let start = Instant::now();
            task();
            start.elapsed()
        };
        let ellipsoid = Ellipsoid::enclosing(points.view(), 1.1).unwrap();
        let fit = timed(&mut || _ = Ellipsoid::enclosing(points.view(), 1.1));
        let mixture = timed(&mut || _ = Ellipsoid::enclosing_mixture(points.view(), 1.1));
        let mut union = Union::enclosing(points.view(), &options(n_dim + 50, flat > 0)).unwrap();
        let split = timed(&mut || _ = union.split(true, Stream::new(2)));
        let (mut x, mut sum, mut inside) = (vec![0.0; n_dim], 0.0, 0);
        let draw = timed(&mut || {
            for k in 0..100_000 {
                ellipsoid.draw(&mut Stream::new(3).at(k), &mut x);
                sum += x[0];
            }
        });
        let contains = timed(&mut || {
            for k in 0..100_000 {
                x[0] = 0.5 + 1e-9 * f64::from(k);
                inside += usize::from(ellipsoid.contains(&x));
            }
        });
        println!(
            "n {n} d {n_dim} flat {flat}: fit {fit:?}, with cube dims {mixture:?}, split {split:?}, \
             draw {:?}, contains {:?} ({inside}, {sum:.0})",
            draw / 100_000,
            contains / 100_000
        );
    }
    let parts = (0..25).map(|i| (ball(&[0.1 + 0.2 * (i % 5) as f64, 0.1 + 0.2 * (i / 5) as f64], 0.05), vec![]));
    let union = Union::of(2, options(52, false), parts.collect());
    let (mut x, mut accepted, mut inside) = ([0.0; 2], 0, 0);
    let start = Instant::now();
    (0..100_000).for_each(|k| accepted += usize::from(union.draw(&mut Stream::new(4).at(k), &mut x)));
    let draw = start.elapsed() / 100_000;
    let start = Instant::now();
    (0..100_000).for_each(|k| inside += usize::from(union.contains(&[1e-5 * f64::from(k), 0.3])));
    println!("25 members: draw {draw:?}, contains {:?} ({accepted}, {inside})", start.elapsed() / 100_000);
}
