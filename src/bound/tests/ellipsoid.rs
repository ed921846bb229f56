//! Tests of one ellipsoid: containment, least volume, uniform draws, cube dimensions, degenerate points.

use ndarray::Array2;

use super::{ALPHA, LIMITS, SABOTEUR, all_inside, cloud, gaussian, options};
use crate::bound::ellipsoid::log_ball_volume;
use crate::bound::triangular::Lower;
use crate::bound::{BoundError, Ellipsoid, Union};
use crate::math::ks_uniform;
use crate::rng::Stream;

#[test]
fn all_points_are_inside() {
    for (n_dim, width) in [(1, 0.1), (2, 0.02), (5, 1e-7), (10, 0.02), (10, 1e-12), (30, 0.01), (70, 0.001)] {
        let points = gaussian(41, 400, n_dim, width);
        for enlarge in [1.0, 1.1] {
            let fits = [
                Ellipsoid::enclosing(points.view(), enlarge).unwrap(),
                Ellipsoid::enclosing_mixture(points.view(), enlarge).unwrap(),
            ];
            for fit in fits {
                assert!(all_inside(&fit, &points), "{n_dim} dimensions, width {width}");
            }
        }
        // No room to spare: a tenth smaller loses a point.
        let fit = Ellipsoid::enclosing(points.view(), 0.9).unwrap();
        assert!(!all_inside(&fit, &points));
    }
}

/// Lower bound of the log volume of any ellipsoid around the points, by duality, from many rounds of the multiplicative
/// algorithm (Titterington 1976): for any weights, that of `k` times the weighted covariance.
fn least_log_volume(points: &Array2<f64>, rounds: usize) -> f64 {
    let (n, k) = points.dim();
    let mut weights = vec![1.0 / n as f64; n];
    let mut delta = vec![0.0; k];
    let mut log_v = f64::NEG_INFINITY;
    for _ in 0..rounds {
        let centre: Vec<f64> =
            (0..k).map(|j| weights.iter().zip(points.column(j)).map(|(u, x)| u * x).sum::<f64>()).collect();
        let mut covariance = Lower::zeros(k);
        for (u, x) in weights.iter().zip(points.rows()) {
            (0..k).for_each(|j| delta[j] = x[j] - centre[j]);
            covariance.add_outer(*u, &delta);
        }
        let factor = covariance.cholesky().unwrap();
        log_v = log_v.max(log_ball_volume(k) + 0.5 * k as f64 * (k as f64).ln() + factor.log_diagonal());
        let inverse = factor.inverse();
        for (u, x) in weights.iter_mut().zip(points.rows()) {
            (0..k).for_each(|j| delta[j] = x[j] - centre[j]);
            *u *= (1.0 + inverse.norm_squared(&delta)) / (k + 1) as f64;
        }
    }
    log_v
}

#[test]
fn volume_is_within_five_per_cent_of_the_minimum() {
    for (n, n_dim) in [(100, 1), (300, 2), (500, 5), (500, 10), (200, 15)] {
        let points = gaussian(42, n, n_dim, 0.05);
        let least = least_log_volume(&points, 4000);
        let above = Ellipsoid::enclosing(points.view(), 1.0).unwrap().log_volume() - least;
        assert!((-1e-6..0.05).contains(&above), "{n_dim} dimensions: {above}");
        // The enlargement is exactly what it says.
        let larger = Ellipsoid::enclosing(points.view(), 1.1).unwrap().log_volume() - least;
        assert!((larger - above - n_dim as f64 * 1.1f64.ln()).abs() < 1e-9);
        // Saboteur: the covariance ellipsoid through the farthest point is not of minimum volume.
        if n_dim > 1 {
            let once = least_log_volume(&points, 1);
            let mean = points.mean_axis(ndarray::Axis(0)).unwrap();
            let mut covariance = Lower::zeros(n_dim);
            for x in points.rows() {
                covariance.add_outer(1.0 / n as f64, (&x - &mean).as_slice().unwrap());
            }
            let inverse = covariance.cholesky().unwrap().inverse();
            let farthest = points.rows().into_iter().map(|x| inverse.norm_squared((&x - &mean).as_slice().unwrap()));
            let farthest = farthest.fold(0.0, f64::max);
            assert!(once + 0.5 * n_dim as f64 * (farthest / n_dim as f64).ln() - least > 0.01);
        }
    }
}

#[test]
fn the_corners_of_a_box_lie_on_a_ball() {
    let n_dim = 4;
    let points = Array2::from_shape_fn((1 << n_dim, n_dim), |(i, j)| if i >> j & 1 == 1 { 0.75 } else { 0.25 });
    let fit = Ellipsoid::enclosing(points.view(), 1.0).unwrap();
    let ball = log_ball_volume(n_dim) + n_dim as f64 * (0.25 * 2.0f64).ln();
    assert!((fit.log_volume() - ball).abs() < 0.01);
    assert!((log_ball_volume(3) - (4.0 * std::f64::consts::PI / 3.0).ln()).abs() < 1e-14);
    assert_eq!((log_ball_volume(0), log_ball_volume(1)), (0.0, 2f64.ln()));
}

#[test]
fn draws_are_uniform_in_an_ellipsoid() {
    let n = 20_000u64;
    for width in [0.05, 1e-7] {
        let points = gaussian(43, 200, 3, width);
        let fit = Ellipsoid::enclosing(points.view(), 1.1).unwrap();
        let (mut radius, mut polar, mut azimuth, mut sabotaged) = (vec![], vec![], vec![], vec![]);
        for k in 0..n {
            let (mut x, mut z) = ([0.0; 3], [0.0; 3]);
            fit.draw(&mut Stream::new(44).at(k), &mut x);
            assert!(fit.contains(&x));
            fit.to_frame(&x, &mut z);
            let r = z.iter().map(|z| z * z).sum::<f64>().sqrt();
            radius.push(r.powi(3));
            // A coordinate of a point on the sphere is uniform in three dimensions (Archimedes).
            polar.push(0.5 + 0.5 * z[0] / r);
            azimuth.push(0.5 + z[1].atan2(z[2]) / std::f64::consts::TAU);
            // Saboteur: the exponent of two dimensions in three.
            sabotaged.push(r.powi(3).powf(1.05));
        }
        for sample in [radius, polar, azimuth] {
            assert!(ks_uniform(&sample).1 > ALPHA);
        }
        assert!(ks_uniform(&sabotaged).1 < SABOTEUR);
    }
}

#[test]
fn flat_dimensions_keep_the_cube() {
    // Dimensions 1 and 4 are narrow; 0, 2, 3, 5 are flat.
    let points = cloud(57, 800, 6, |draw, _, x| {
        for (j, v) in x.iter_mut().enumerate() {
            *v = if j == 1 || j == 4 { 0.5 + 0.01 * draw.normal() } else { draw.uniform() };
        }
    });
    let plain = Ellipsoid::enclosing(points.view(), 1.1).unwrap();
    let mixture = Ellipsoid::enclosing_mixture(points.view(), 1.1).unwrap();
    assert_eq!(mixture.cube_dims(), [0, 2, 3, 5]);
    assert!(mixture.log_volume() < plain.log_volume() - 1.0 && all_inside(&mixture, &points));
    // Uniform in the flat dimensions and in the frame of the others.
    let (mut radius, mut flat) = (vec![], vec![]);
    for k in 0..5000 {
        let (mut x, mut z) = ([0.0; 6], [0.0; 6]);
        mixture.draw(&mut Stream::new(58).at(k), &mut x);
        assert!(mixture.contains(&x));
        mixture.to_frame(&x, &mut z);
        radius.push(z[1] * z[1] + z[4] * z[4]);
        flat.push(0.5 * (z[3] + 1.0));
        assert_eq!(z[0], 2.0 * x[0] - 1.0);
    }
    assert!(ks_uniform(&radius).1 > ALPHA && ks_uniform(&flat).1 > ALPHA);
    // Saboteur: the radius as if there were three dimensions.
    assert!(ks_uniform(&radius.iter().map(|r| r.powf(1.5)).collect::<Vec<_>>()).1 < SABOTEUR);
    // The cube itself, a narrow cloud, and a ridge whose marginals are flat but which is not.
    let cube = cloud(59, 500, 3, |draw, _, x| x.iter_mut().for_each(|v| *v = draw.uniform()));
    let all = Ellipsoid::enclosing_mixture(cube.view(), 1.1).unwrap();
    assert_eq!((all.cube_dims(), all.log_volume()), (&[0, 1, 2][..], 0.0));
    assert!(all.contains(&[0.1, 0.99, 0.5]) && all.overlaps(&all));
    let narrow = gaussian(60, 500, 8, 0.01);
    assert!(Ellipsoid::enclosing_mixture(narrow.view(), 1.1).unwrap().cube_dims().is_empty());
    let ridge = cloud(61, 500, 3, |draw, _, x| {
        let u = draw.uniform();
        x.copy_from_slice(&[u, draw.uniform(), (u + 0.001 * draw.normal()).clamp(0.0, 1.0)]);
    });
    assert_eq!(Ellipsoid::enclosing_mixture(ridge.view(), 1.1).unwrap().cube_dims(), [1]);
}

#[test]
fn one_dimension_is_an_interval() {
    let points = cloud(63, 100, 1, |draw, _, x| x[0] = 0.2 + 0.3 * draw.uniform());
    let (low, high) = points.iter().fold((1.0f64, 0.0f64), |(l, h), &x| (l.min(x), h.max(x)));
    let fit = Ellipsoid::enclosing(points.view(), 1.0).unwrap();
    assert!((fit.log_volume().exp() / (high - low) - 1.0).abs() < 0.06);
    assert!(
        fit.contains(&[low]) && fit.contains(&[high]) && !fit.contains(&[low - 0.02]) && !fit.contains(&[high + 0.02])
    );
    let mut sample = vec![];
    for k in 0..5000 {
        let mut x = [0.0];
        fit.draw(&mut Stream::new(64).at(k), &mut x);
        sample.push((x[0] - low) / (high - low));
    }
    // The interval is up to 0.6 % longer than the points; the sample is too small to see it.
    assert!(ks_uniform(&sample.iter().map(|x| x.clamp(0.0, 1.0)).collect::<Vec<_>>()).1 > ALPHA);
    assert!(ks_uniform(&sample.iter().map(|x| x.clamp(0.0, 1.0).powf(1.2)).collect::<Vec<_>>()).1 < SABOTEUR);
}

#[test]
fn degenerate_points_give_a_finite_ellipsoid_or_an_error() {
    let same = Array2::from_elem((50, 3), 0.3);
    assert_eq!(Ellipsoid::enclosing(same.view(), 1.1).unwrap_err(), BoundError::NoSpread { n_points: 50 });
    assert!(matches!(Union::enclosing(same.view(), &options(5, true)), Err(BoundError::NoSpread { .. })));
    for (n, d) in [(0, 3), (1, 3), (5, 0)] {
        let few = Array2::from_elem((n, d), 0.1);
        assert_eq!(Ellipsoid::enclosing(few.view(), 1.1).unwrap_err(), BoundError::Empty { n_points: n, n_dim: d });
    }
    let mut broken = gaussian(65, 10, 2, 0.1);
    broken[[3, 1]] = f64::NAN;
    assert!(matches!(Ellipsoid::enclosing(broken.view(), 1.1), Err(BoundError::NotFinite { point: 3, dim: 1, .. })));

    let line = cloud(66, 100, 4, |draw, _, x| {
        let t = draw.uniform();
        x.copy_from_slice(&[t, 0.5 * t, 1.0 - t, 0.1 + 0.3 * t]);
    });
    let plane = cloud(67, 200, 3, |draw, _, x| {
        let (a, b) = (draw.uniform(), draw.uniform());
        x.copy_from_slice(&[a, b, 0.3 * a + 0.4 * b]);
    });
    let constant = cloud(68, 100, 3, |draw, _, x| x.copy_from_slice(&[draw.uniform(), 0.7, draw.uniform()]));
    let few = gaussian(69, 4, 10, 0.1);
    let two = gaussian(69, 2, 5, 0.1);
    let twice = cloud(70, 100, 3, |_, i, x| {
        let mut draw = Stream::new(71).at(i as u64 / 50);
        x.iter_mut().for_each(|v| *v = draw.uniform());
    });
    let scales = cloud(72, 200, 3, |draw, _, x| {
        x.copy_from_slice(&[draw.uniform(), 0.5 + 1e-12 * draw.normal(), 0.3 + 1e-6 * draw.normal()]);
    });
    let tiny = cloud(73, 200, 3, |draw, _, x| x.iter_mut().for_each(|v| *v = 1e-14 * (1.0 + draw.uniform())));
    for (name, points) in [
        ("line", line),
        ("plane", plane),
        ("constant", constant),
        ("few", few),
        ("two", two),
        ("twice", twice),
        ("scales", scales),
        ("tiny", tiny),
    ] {
        let n_dim = points.ncols();
        for enlarge in [1.0, 1.1] {
            for fit in
                [Ellipsoid::enclosing(points.view(), enlarge), Ellipsoid::enclosing_mixture(points.view(), enlarge)]
            {
                match fit {
                    Ok(fit) => {
                        assert!(fit.log_volume().is_finite(), "{name}");
                        assert!(all_inside(&fit, &points), "{name}");
                        let mut x = vec![0.0; n_dim];
                        fit.draw(&mut Stream::new(74).at(0), &mut x);
                        assert!(x.iter().all(|x| x.is_finite()), "{name}");
                        assert!(fit.overlaps(&fit), "{name}");
                    }
                    Err(BoundError::NoSpread { .. }) => assert_eq!(name, "tiny"),
                    Err(error) => panic!("{name}: {error}"),
                }
            }
        }
        let unions = [Union::covering, Union::clusters]
            .map(|union| union(points.view(), &options(2, false), &LIMITS, Stream::new(75)));
        for union in unions.into_iter().flatten() {
            assert!(union.log_volume().is_finite(), "{name}");
            assert!(points.rows().into_iter().all(|row| union.contains(&row.to_vec())), "{name}");
        }
    }
}

/// The volume of a cloud does not depend on the scale of its dimensions.
#[test]
fn narrow_clouds_keep_their_digits() {
    let wide = gaussian(76, 500, 5, 0.02);
    let reference = Ellipsoid::enclosing(wide.view(), 1.1).unwrap().log_volume();
    for (scale, tolerance) in [(1e-5, 1e-6), (1e-9, 1e-3)] {
        let narrow = wide.mapv(|x| 0.6 + scale * (x - 0.5));
        let log_v = Ellipsoid::enclosing(narrow.view(), 1.1).unwrap().log_volume();
        assert!((log_v - reference - 5.0 * f64::ln(scale)).abs() < tolerance);
    }
    let mut one = wide.clone();
    one.column_mut(2).mapv_inplace(|x| 0.5 + 1e-9 * (x - 0.5));
    let log_v = Ellipsoid::enclosing(one.view(), 1.1).unwrap().log_volume();
    assert!((log_v - reference - f64::ln(1e-9)).abs() < 1e-3);
}
