//! The problems that `benches/peers` gives to other samplers are those of this crate: log L at fixed points, and the truths.

use std::collections::BTreeMap;
use std::path::Path;

use livepoint::Backend;
use livepoint::testing::{log_likelihood_on, problem};
use ndarray::Array2;
use serde::Deserialize;

/// Largest `|difference| / (1 + |log L|)` that rounding may make.
const TOLERANCE: f64 = 1e-9;

/// One problem of `benches/peers/problems.json`.
#[derive(Deserialize)]
struct Peer {
    n_dim: usize,
    log_z: f64,
    /// Points of the unit cube.
    u: Vec<Vec<f64>>,
    /// Log-likelihood at each; nothing where the likelihood is zero.
    log_l: Vec<Option<f64>>,
}

fn peers() -> BTreeMap<String, Peer> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/problems.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Why two values differ, if they do; likelihood zero is -inf here and nothing there.
fn difference(ours: f64, theirs: Option<f64>) -> Option<String> {
    let theirs = theirs.unwrap_or(f64::NEG_INFINITY);
    let close = (ours - theirs).abs() <= TOLERANCE * (1.0 + theirs.abs());
    let same = ours == theirs || theirs.is_finite() && close;
    (!same).then(|| format!("{ours} here, {theirs} there"))
}

#[test]
fn the_problems_of_peers_are_ours() {
    let mut wrong = Vec::new();
    for (name, peer) in peers() {
        let problem = problem(&name).unwrap_or_else(|| panic!("there is no problem {name} here"));
        assert_eq!(problem.n_dim, peer.n_dim, "{name}");
        let truth = problem.log_z_truth.unwrap();
        wrong.extend(difference(truth, Some(peer.log_z)).map(|text| format!("{name}, log Z: {text}")));

        let flat: Vec<f64> = peer.u.concat();
        let u = Array2::from_shape_vec((peer.u.len(), peer.n_dim), flat).unwrap();
        let (log_l, _) = log_likelihood_on(&problem.prior(), problem.likelihood(), &Backend::cpu(1), u.view()).unwrap();
        assert_eq!(log_l.len(), peer.log_l.len(), "{name}");
        for (row, (&ours, &theirs)) in log_l.iter().zip(&peer.log_l).enumerate() {
            wrong.extend(difference(ours, theirs).map(|text| format!("{name}, point {row}: {text}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_difference_is_noticed() {
    assert!(difference(-5.0, Some(-5.0 + 1e-7)).is_some());
    assert!(difference(-5.0, None).is_some());
    assert!(difference(f64::NEG_INFINITY, Some(-5.0)).is_some());
    assert!(difference(f64::NEG_INFINITY, None).is_none());
    assert!(difference(-1e6, Some(-1e6 + 1e-5)).is_none());
}

#[test]
fn the_points_see_the_peaks() {
    for (name, peer) in peers() {
        let best = peer.log_l.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
        assert!(best > peer.log_z - 20.0, "{name}: log L {best} at the best point, log Z {}", peer.log_z);
    }
}
