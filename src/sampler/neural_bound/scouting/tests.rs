//! Scouts of a round Gaussian: what is found where bounds cut, and where they do not.

use ndarray::Array1;

use super::*;
use crate::backend::Machine;
use crate::batch::Evaluated;
use crate::sampler::neural_bound::NeuralBoundSampler;
use crate::sampler::{Sampler, Space};

#[test]
fn a_systematic_sample_has_each_item_as_often_as_expected() {
    let items = (0..1000).map(|k| (k, if k < 500 { 0.1 } else { 0.3 }));
    let chosen = systematic(items);
    assert!((199..=200).contains(&chosen.len()));
    let light = chosen.iter().filter(|k| **k < 500).count();
    assert!((49..=50).contains(&light), "{light} of {}", chosen.len());
    // Once at most, however heavy.
    assert_eq!(systematic([(1, 5.0), (2, 0.5), (3, 0.5)].into_iter()), [1, 3]);
}

/// Sampler of a round Gaussian in two dimensions, on the sides of a periodic square or in its middle, at the end of the exploration.
fn explored(centre: f64) -> (NeuralBoundSampler, Machine) {
    let machine = Machine::threads(2).unwrap();
    let space = Space { n_dim: 2, n_derived: 0, periodic: vec![0, 1], prior: String::new() };
    let mut sampler = NeuralBoundSampler::default().n_live(500).n_networks(0).n_eff(1000.0).seed(3);
    sampler.start(&space, &machine).unwrap();
    while sampler.state.as_ref().is_some_and(|state| matches!(state.stage, Stage::Exploration(_))) {
        step(&mut sampler, machine.pool(), centre);
    }
    (sampler, machine)
}

fn log_l(u: &[f64], centre: f64) -> f64 {
    let square = |x: f64| (x - centre - (x - centre).round()).powi(2);
    -0.5 * u.iter().map(|x| square(*x)).sum::<f64>() / (0.03f64 * 0.03)
}

fn step(sampler: &mut NeuralBoundSampler, pool: &CpuPool, centre: f64) {
    let Some(proposal) = sampler.propose(pool, usize::MAX).unwrap() else { panic!("nothing is left to do") };
    let log_l: Array1<f64> = proposal.u.rows().into_iter().map(|u| log_l(&u.to_vec(), centre)).collect();
    let derived = Array2::zeros((log_l.len(), 0));
    sampler.update(&Evaluated { log_l, derived, likelihood_cpu_s: 0.0, n_non_finite: 0 }).unwrap();
}

/// Part of the posterior that lies outside of what is taken for inside, found by a patrol and its scouts.
fn lost_beyond(quantile: f64, centre: f64) -> f64 {
    let (mut sampler, machine) = explored(centre);
    let state = sampler.state.as_mut().unwrap();
    let (posterior, bulk) = state.posterior(0);
    // The volume where `exp(-r^2 / 2)` is the quantile, as if all bounds had cut there.
    let log_v_most = (-2.0 * quantile.ln() * std::f64::consts::PI * 0.03 * 0.03).ln();
    let cover = Cover { log_v_most, ..bulk.unwrap() };
    state.stage = Stage::Scouting(state.scouting(cover, posterior, Vec::new(), 0.0));
    loop {
        let state = sampler.state.as_mut().unwrap();
        if !state.scout(machine.pool(), 7).unwrap() {
            break;
        }
        step_scouts(state, centre);
    }
    let state = sampler.state.as_mut().unwrap();
    let Stage::Scouting(scouting) = &state.stage else { panic!("no scouts") };
    assert!(scouting.found.iter().all(|id| state.samples.shell(*id).is_none()));
    state.lost(machine.pool()).unwrap()
}

fn step_scouts(state: &mut State, centre: f64) {
    let pending = state.pending.take().unwrap();
    for row in pending.u.rows() {
        let row = row.to_vec();
        state.samples.push(
            &row,
            log_l(&row, centre),
            &[],
            f64::NAN,
            pending.place[0],
            crate::samples::Phase::Exploration,
        );
    }
    state.learn_from_scouts(pending.place.len());
}

/// The share is that of few steps over the border: its order is what counts.
#[test]
fn what_bounds_cut_off_is_found_and_its_share_is_told() {
    for centre in [0.5, 0.0] {
        for quantile in [0.3, 0.1] {
            let lost = lost_beyond(quantile, centre);
            assert!((quantile / 3.0..3.0 * quantile).contains(&lost), "{lost} of {quantile} at {centre}");
        }
    }
}

/// Bounds that follow the likelihood leave nothing to find, at next to no calls.
#[test]
fn good_bounds_are_patrolled_for_nothing() {
    let (mut sampler, machine) = explored(0.5);
    let state = sampler.state.as_mut().unwrap();
    let n = state.samples.len();
    state.n_rungs_patrolled = 0;
    state.patrol(machine.pool()).unwrap();
    while state.scout(machine.pool(), usize::MAX).unwrap() {
        step_scouts(state, 0.5);
    }
    let Stage::Scouting(scouting) = &state.stage else { panic!("no scouts") };
    assert!(scouting.found.is_empty());
    assert!(state.samples.len() - n < 20, "{} calls", state.samples.len() - n);
    while matches!(state.stage, Stage::Scouting(_)) {
        while state.scout(machine.pool(), usize::MAX).unwrap() {
            step_scouts(state, 0.5);
        }
        state.end_scouting(machine.pool()).unwrap();
    }
    assert!(matches!(state.stage, Stage::Sampling(_)));
}
