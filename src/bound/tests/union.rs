//! Tests of unions: uniform draws over overlaps, volumes, covers, clusters, trimming, timings.

use std::time::Instant;

use ndarray::Array2;

use super::{ALPHA, LIMITS, SABOTEUR, ball, cloud, exact, gaussian, options, p_fractions, p_normal};
use crate::bound::{Ellipsoid, PhaseShift, Union, UnionLimits};
use crate::rng::Stream;

/// Draws against points of the cube: the share of a region and the volume.
#[test]
fn draws_are_uniform_in_an_overlapping_union_clipped_by_the_cube() {
    let slanted = exact(&[0.1, 0.4], &[vec![0.25, 0.25], vec![-0.05, 0.05]]);
    let members = vec![ball(&[0.3, 0.5], 0.2), slanted, ball(&[0.35, 0.45], 0.15)];
    let union = Union::of(members.into_iter().map(|m| (m, 0)).collect());
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

fn encloses(union: &Union, points: &Array2<f64>) -> bool {
    points.rows().into_iter().all(|row| union.contains(&row.to_vec()))
}

fn none_overlap(union: &Union) -> bool {
    let members = union.members();
    (0..members.len()).all(|i| members[..i].iter().all(|other| !members[i].overlaps(other)))
}

#[test]
fn far_clusters_are_told_apart() {
    for n_dim in [1, 2, 10] {
        let width = 0.02 / (n_dim as f64).sqrt();
        let points = cloud(48, 900, n_dim, |draw, i, x| {
            let centre = if i % 3 == 0 { 0.25 } else { 0.75 };
            x.iter_mut().for_each(|v| *v = centre + width * draw.normal());
        });
        let options = options(n_dim + 50, false);
        let whole = Union::enclosing(points.view(), &options).unwrap();
        let clusters = Union::clusters(points.view(), &options, &LIMITS, Stream::new(49)).unwrap();
        let mut sizes = clusters.n_points().to_vec();
        sizes.sort_unstable();
        assert_eq!(sizes, [300, 600], "{n_dim} dimensions");
        assert!(clusters.log_volume() < whole.log_volume() && none_overlap(&clusters));
        assert!(encloses(&clusters, &points));
    }
}

/// A part that is too small shares points or is made larger; in many dimensions it only shares.
#[test]
fn a_small_part_shares_points_or_is_made_larger() {
    for n_dim in [2, 8] {
        let points = cloud(51, 300, n_dim, |draw, i, x| {
            let centre = if i < 20 { 0.2 } else { 0.8 };
            x.iter_mut().for_each(|v| *v = centre + 0.01 * draw.normal());
        });
        let cover = |n_points_min| {
            Union::covering(points.view(), &options(n_points_min, false), &LIMITS, Stream::new(52)).unwrap()
        };
        let union = cover(50);
        assert!(encloses(&union, &points));
        if n_dim == 2 {
            let alone = union.n_points().iter().position(|&n| n == 20).unwrap();
            let small = points.slice(ndarray::s![..20, ..]);
            let bare = Ellipsoid::enclosing(small, 1.1).unwrap().log_volume();
            assert!((union.members()[alone].log_volume() - bare - 2.5f64.ln()).abs() < 1e-6);
        } else {
            assert!(union.n_points().iter().all(|&n| n >= 50), "{:?}", union.n_points());
            assert_eq!(cover(151).members().len(), 1);
        }
    }
}

/// Eighteen modes as of a chess board, on which each first split is as large as the whole.
fn egg_box(n_per_mode: usize) -> Array2<f64> {
    cloud(53, 18 * n_per_mode, 2, |draw, i, x| {
        let (row, column) = (i % 18 / 3, i % 3);
        x[0] = (1.0 + 2.0 * column as f64 + (row % 2) as f64) / 7.5;
        x[1] = (1.0 + row as f64) / 7.5;
        x.iter_mut().for_each(|v| *v += 0.012 * draw.normal());
    })
}

#[test]
fn an_egg_box_splits_into_its_modes() {
    for n_per_mode in [30, 55, 200] {
        let points = egg_box(n_per_mode);
        for seed in 54..64 {
            let start = Instant::now();
            let apart = Union::clusters(points.view(), &options(52, false), &LIMITS, Stream::new(seed)).unwrap();
            let cover = Union::covering(points.view(), &options(52, true), &LIMITS, Stream::new(seed)).unwrap();
            let (n_apart, n_cover) = (apart.members().len(), cover.members().len());
            println!(
                "egg box, {n_per_mode} per mode: {n_apart} clusters, {n_cover} members, volume {:.4}, {:?}",
                cover.log_volume().exp(),
                start.elapsed()
            );
            assert!((13..=18).contains(&n_apart) && (15..=40).contains(&n_cover));
            assert!(none_overlap(&apart) && encloses(&apart, &points) && encloses(&cover, &points));
            // Eighteen discs of about three widths, enlarged, and some that hold two.
            let lack = (52.0 / n_per_mode as f64).max(1.0);
            assert!(cover.log_volume().exp() < 1.5 * lack * 18.0 * std::f64::consts::PI * (0.04f64).powi(2));
        }
    }
}

/// More members, less volume; none where the target is met, or where the points fill what encloses them.
#[test]
fn volumes_never_grow_and_end_at_the_target() {
    let (points, options) = (egg_box(55), options(52, true));
    let cover = |limits: UnionLimits| Union::covering(points.view(), &options, &limits, Stream::new(54)).unwrap();
    let mut last = f64::INFINITY;
    for max_members in 1..=24 {
        let union = cover(UnionLimits { max_members, ..LIMITS });
        assert!(union.members().len() <= max_members && union.log_volume() <= last);
        last = union.log_volume();
    }
    let whole = cover(UnionLimits { max_members: 1, ..LIMITS }).log_volume();
    let log_target = 0.5 * (whole + last);
    let to_target = cover(UnionLimits { log_target, ..LIMITS });
    assert!(to_target.log_volume() <= log_target && to_target.log_volume() > last);
    assert_eq!(cover(UnionLimits { log_target: whole, ..LIMITS }).members().len(), 1);
    assert_eq!(cover(UnionLimits { log_v_points: whole, ..LIMITS }).members().len(), 1);
}

/// Also without knowing the volume: noise makes no parts.
#[test]
fn a_filled_ellipsoid_stays_one_member() {
    for (n, n_dim) in [(1000, 2), (2000, 5), (2000, 10), (1000, 20), (1000, 30)] {
        let slanted = Ellipsoid::enclosing(gaussian(57, 500, n_dim, 0.02).view(), 1.0).unwrap();
        let points = cloud(58, n, n_dim, |draw, _, x| slanted.draw(draw, x));
        let start = Instant::now();
        for union in [Union::covering, Union::clusters] {
            let union = union(points.view(), &options(n_dim + 50, false), &LIMITS, Stream::new(59)).unwrap();
            assert_eq!(union.members().len(), 1, "{n_dim} dimensions");
        }
        println!("{n} points, {n_dim} dimensions: two trees in {:?}", start.elapsed());
    }
}

#[test]
fn a_ring_is_several_members_and_one_cluster() {
    let points = cloud(60, 2000, 2, |draw, _, x| {
        let (angle, radius) = (std::f64::consts::TAU * draw.uniform(), 0.3 + 0.003 * draw.normal());
        (x[0], x[1]) = (0.5 + radius * angle.cos(), 0.5 + radius * angle.sin());
    });
    let cover = Union::covering(points.view(), &options(52, false), &LIMITS, Stream::new(61)).unwrap();
    let clusters = Union::clusters(points.view(), &options(52, false), &LIMITS, Stream::new(61)).unwrap();
    assert!(cover.members().len() > 5 && encloses(&cover, &points));
    assert!(cover.log_volume() < clusters.log_volume() - 1.0);
    assert_eq!(clusters.n_points(), [2000]);
    let whole = Union::enclosing(points.view(), &options(52, false)).unwrap();
    assert_eq!(clusters.log_volume().to_bits(), whole.log_volume().to_bits());
}

/// A cluster around another is one with it.
#[test]
fn a_ring_around_a_disc_is_one_cluster_with_it() {
    let points = cloud(62, 1500, 2, |draw, i, x| {
        let (angle, noise) = (std::f64::consts::TAU * draw.uniform(), 0.003 * draw.normal());
        let radius = if i % 3 == 0 { 0.02 * draw.uniform() } else { 0.3 + noise };
        (x[0], x[1]) = (0.5 + radius * angle.cos(), 0.5 + radius * angle.sin());
    });
    let clusters = Union::clusters(points.view(), &options(52, false), &LIMITS, Stream::new(63)).unwrap();
    assert_eq!(clusters.n_points(), [1500]);
}

#[test]
fn a_sparse_member_is_trimmed_and_the_last_one_stays() {
    let member = |centre: f64, radius: f64, n: usize| (ball(&[centre, centre], radius), n);
    let dense = || vec![member(0.2, 0.01, 100), member(0.4, 0.02, 100), member(0.6, 0.01, 50)];
    let mut parts = dense();
    parts.insert(1, member(0.5, 0.4, 60));
    let mut union = Union::of(parts);
    assert!(union.trim());
    assert_eq!(union.members().len(), 3);
    assert!(!union.contains(&[0.5, 0.7]) && union.contains(&[0.2, 0.2]) && union.contains(&[0.6, 0.6]));
    assert!(!union.trim());
    let mut draws = (0..1000).map(|k| {
        let mut x = [0.0; 2];
        union.draw(&mut Stream::new(56).at(k), &mut x) && union.contains(&x)
    });
    assert!(draws.all(|accepted| accepted));
    let mut single = Union::of(vec![member(0.5, 0.4, 1)]);
    assert!(!single.trim() && single.members().len() == 1);
}

#[test]
fn the_same_stream_gives_the_same_union() {
    let points = gaussian(77, 500, 3, 0.05);
    let shift = PhaseShift::new(points.view(), &[0]);
    let draws = || {
        let union = Union::covering(points.view(), &options(53, true), &LIMITS, Stream::new(78)).unwrap();
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
        let options = options(n_dim + 50, flat > 0);
        let cover = timed(&mut || _ = Union::covering(points.view(), &options, &LIMITS, Stream::new(2)));
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
            "n {n} d {n_dim} flat {flat}: fit {fit:?}, with cube dims {mixture:?}, cover {cover:?}, \
             draw {:?}, contains {:?} ({inside}, {sum:.0})",
            draw / 100_000,
            contains / 100_000
        );
    }
    let parts = (0..25).map(|i| (ball(&[0.1 + 0.2 * (i % 5) as f64, 0.1 + 0.2 * (i / 5) as f64], 0.05), 0));
    let union = Union::of(parts.collect());
    let (mut x, mut accepted, mut inside) = ([0.0; 2], 0, 0);
    let start = Instant::now();
    (0..100_000).for_each(|k| accepted += usize::from(union.draw(&mut Stream::new(4).at(k), &mut x)));
    let draw = start.elapsed() / 100_000;
    let start = Instant::now();
    (0..100_000).for_each(|k| inside += usize::from(union.contains(&[1e-5 * f64::from(k), 0.3])));
    println!("25 members: draw {draw:?}, contains {:?} ({accepted}, {inside})", start.elapsed() / 100_000);
}
