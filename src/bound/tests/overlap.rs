//! Tests of the overlap of two ellipsoids: known cases, a search for a shared point, cube dimensions.

use super::{ball, cloud, exact};
use crate::bound::Ellipsoid;
use crate::rng::Stream;

#[test]
fn overlap_of_known_cases() {
    for epsilon in [1e-3, 1e-6, -1e-6, -1e-3] {
        let (a, b) = (ball(&[0.2, 0.5, 0.5], 0.1), ball(&[0.5 - epsilon, 0.5, 0.5], 0.2));
        assert_eq!((a.overlaps(&b), b.overlaps(&a)), (epsilon > 0.0, epsilon > 0.0), "{epsilon}");
    }
    // Nested, concentric and not, and the same.
    let (large, small) = (ball(&[0.5, 0.5], 0.3), ball(&[0.6, 0.55], 0.01));
    assert!(large.overlaps(&small) && small.overlaps(&large) && small.overlaps(&small));
    assert!(large.overlaps(&ball(&[0.5, 0.5], 1e-7)));
    // Two parallel needles whose boxes overlap but which do not.
    let needle = |x: f64| exact(&[x, 0.5], &[vec![0.3, 0.3], vec![1e-4, -1e-4]]);
    assert!(!needle(0.5).overlaps(&needle(0.51)));
    assert!(needle(0.5).overlaps(&needle(0.5002)));
    // In one dimension.
    assert!(ball(&[0.3], 0.1).overlaps(&ball(&[0.45], 0.1)) && !ball(&[0.3], 0.1).overlaps(&ball(&[0.6], 0.1)));
    // Far smaller than a coordinate.
    assert!(!ball(&[0.3, 0.3], 1e-8).overlaps(&ball(&[0.3 + 2.1e-8, 0.3], 1e-8)));
    assert!(ball(&[0.3, 0.3], 1e-8).overlaps(&ball(&[0.3 + 1.9e-8, 0.3], 1e-8)));
}

/// The nearest point of the first ellipsoid in the frame of the second, by projected gradient steps.
/// Of the random shapes those nearer to touching than the search can tell are left out.
#[test]
fn overlap_agrees_with_a_search() {
    let (mut overlapping, mut apart) = (0, 0);
    for case in 0..400 {
        let n_dim = 2 + case % 3;
        let mut draw = Stream::new(47).at(case as u64);
        let mut random = |spread: f64| -> Vec<f64> { (0..n_dim).map(|_| spread * draw.normal()).collect() };
        let columns =
            |random: &mut dyn FnMut(f64) -> Vec<f64>| (0..n_dim).map(|i| random(0.05 / (1 + 2 * i) as f64)).collect();
        let (c1, m1): (Vec<f64>, Vec<Vec<f64>>) = (random(0.03), columns(&mut random));
        let (c2, m2): (Vec<f64>, Vec<Vec<f64>>) = (random(0.03), columns(&mut random));
        let (first, second) = (exact(&c1, &m1), exact(&c2, &m2));
        // |A z + b|^2 with x = c1 + M1 z, seen in the frame of the second: columns of A by differences, which are exact.
        let frame = |x: &[f64]| {
            let mut z = vec![0.0; n_dim];
            second.to_frame(x, &mut z);
            z
        };
        let b = frame(&c1);
        let a: Vec<Vec<f64>> = m1
            .iter()
            .map(|column| {
                let x: Vec<f64> = c1.iter().zip(column).map(|(c, m)| c + m).collect();
                frame(&x).iter().zip(&b).map(|(p, b)| p - b).collect()
            })
            .collect();
        let lipschitz: f64 = a.iter().flatten().map(|v| v * v).sum();
        let mut z = vec![0.0; n_dim];
        let value = |z: &[f64]| -> Vec<f64> {
            (0..n_dim).map(|i| b[i] + (0..n_dim).map(|j| a[j][i] * z[j]).sum::<f64>()).collect()
        };
        // With momentum (Nesterov 1983), for needles.
        let mut ahead = z.clone();
        for step in 0..20_000 {
            let r = value(&ahead);
            let before = z.clone();
            for j in 0..n_dim {
                z[j] = ahead[j] - (0..n_dim).map(|i| a[j][i] * r[i]).sum::<f64>() / lipschitz;
            }
            let norm = z.iter().map(|v| v * v).sum::<f64>().sqrt().max(1.0);
            z.iter_mut().for_each(|v| *v /= norm);
            for j in 0..n_dim {
                ahead[j] = z[j] + step as f64 / (step + 3) as f64 * (z[j] - before[j]);
            }
        }
        let nearest = value(&z).iter().map(|v| v * v).sum::<f64>().sqrt();
        if (nearest - 1.0).abs() < 0.02 {
            continue;
        }
        assert_eq!(first.overlaps(&second), nearest < 1.0, "case {case}: {nearest}");
        assert_eq!(second.overlaps(&first), nearest < 1.0, "case {case}: {nearest}");
        if nearest < 1.0 { overlapping += 1 } else { apart += 1 }
    }
    assert!(overlapping > 50 && apart > 50, "{overlapping} {apart}");
}

#[test]
fn mixtures_overlap_where_their_shared_dimensions_do() {
    let slab = |axis: usize, centre: f64| {
        let points = cloud(62, 400, 3, |draw, _, x| {
            for (j, v) in x.iter_mut().enumerate() {
                *v = if j == axis { centre + 0.01 * draw.normal() } else { draw.uniform() };
            }
        });
        Ellipsoid::enclosing_mixture(points.view(), 1.1).unwrap()
    };
    assert_eq!(slab(0, 0.3).cube_dims(), [1, 2]);
    assert!(slab(0, 0.3).overlaps(&slab(1, 0.3)));
    assert!(!slab(0, 0.3).overlaps(&slab(0, 0.6)) && slab(0, 0.3).overlaps(&slab(0, 0.31)));
    // Against a plain ball: only the projection on the shared dimension counts.
    assert!(slab(1, 0.3).overlaps(&ball(&[0.5, 0.35, 0.5], 0.1)));
    assert!(!ball(&[0.5, 0.55, 0.5], 0.1).overlaps(&slab(1, 0.3)));
}
