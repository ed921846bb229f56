//! Every shader that a device may get, validated and translated by naga to the language of each driver: needs no device.
#![cfg(feature = "gpu")]

#[allow(dead_code)]
#[path = "contract/fixtures.rs"]
mod fixtures;

use livepoint::testing::internals::{bounds_wgsl, composed_wgsl, generated, library, network_wgsl, self_test_wgsl};
use livepoint::{Likelihood, Prior, testing};

const PRIOR: &str = include_str!("../shaders/prior.wgsl");

fn translate(name: &str, text: &str) {
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(text)));
    let flags = naga::valid::ValidationFlags::all();
    let info = naga::valid::Validator::new(flags, naga::valid::Capabilities::default())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(text)));
    naga::back::spv::write_vec(&module, &info, &Default::default(), None)
        .unwrap_or_else(|e| panic!("{name}, SPIR-V: {e}"));
    naga::back::msl::write_string(&module, &info, &Default::default(), &Default::default())
        .unwrap_or_else(|e| panic!("{name}, MSL: {e}"));
    let mut hlsl = String::new();
    let (options, pipeline) = Default::default();
    naga::back::hlsl::Writer::new(&mut hlsl, &options, &pipeline)
        .write(&module, &info, None)
        .unwrap_or_else(|e| panic!("{name}, HLSL: {e}"));
}

fn translate_likelihood(name: &str, prior: &Prior, likelihood: impl Into<Likelihood>) {
    let text = composed_wgsl(prior, likelihood).unwrap_or_else(|e| panic!("{name}: {e}"));
    translate(name, &text.unwrap_or_else(|| panic!("{name} is not WGSL")));
}

#[test]
fn every_form_of_likelihood_is_translated() {
    for fixture in fixtures::all() {
        translate_likelihood(fixture.name, &fixture.prior, fixture.likelihood);
    }
    for (prior, likelihood) in [fixtures::every_prior(), fixtures::open_ends()] {
        translate_likelihood("priors", &prior, likelihood);
    }
}

#[test]
fn every_problem_is_translated() {
    for problem in testing::all() {
        translate_likelihood(problem.name, &problem.prior(), problem.likelihood());
    }
}

#[test]
fn the_prior_transform_of_tensor_likelihoods_is_translated() {
    let sum = Likelihood::tensor(|theta: livepoint::burn::tensor::Tensor<2>| theta.sum_dim(1).squeeze_dim::<1>(1));
    for (prior, _) in [fixtures::every_prior(), fixtures::open_ends()] {
        translate_likelihood("tensor", &prior, &sum);
    }
}

#[test]
fn the_kernels_of_bounds_are_translated() {
    for (n_dim, hidden, n_networks) in [(1, &[][..], 0), (3, &[100, 50, 20], 4), (4, &[7], 1), (30, &[100, 50, 20], 4)]
    {
        for rows in [1, 8] {
            for (name, text) in bounds_wgsl(n_dim, hidden, n_networks, rows).unwrap() {
                translate(&format!("{name}, {n_dim} dimensions, {rows} rows"), &text);
            }
        }
    }
}

#[test]
fn the_self_test_is_translated() {
    translate("self-test", &self_test_wgsl());
}

#[test]
fn the_kernels_of_networks_are_translated() {
    for hidden in [vec![], vec![1], vec![9, 4, 3], vec![100, 50, 20]] {
        for n_in in [1, 4, 31] {
            let texts = network_wgsl(n_in, &hidden, 2).unwrap_or_else(|e| panic!("{n_in} {hidden:?}: {e}"));
            for (name, text) in ["fresh weights", "training", "predictions"].into_iter().zip(&texts) {
                translate(&format!("{name} {n_in} {hidden:?}"), text);
            }
        }
    }
}

#[test]
fn the_kernels_of_the_report_are_translated() {
    translate("triad", include_str!("../examples/gpu_report/triad.wgsl"));
    translate("multiply-adds", include_str!("../examples/gpu_report/multiply_add.wgsl"));
}

#[test]
fn the_library_is_translated_whole() {
    let tables = generated::interpolant("model", 100, "table", "other") + &generated::covariance("noise", 7, "table");
    let buffers = "@group(0) @binding(0) var<storage, read> table: array<f32>;\n@group(0) @binding(1) var<storage, read> other: array<f32>;";
    let entry = "@compute @workgroup_size(1) fn f() { _ = model(1.0) + noise_chi2(array<f32, 7>()); }";
    translate("library", &format!("{}\n{PRIOR}\n{buffers}\n{tables}\n{entry}", library::text()));
}

#[test]
fn the_lists_of_names_are_those_of_the_library() {
    let module = naga::front::wgsl::parse_str(&library::text()).expect("valid WGSL");
    let public = |name: &&str| !name.starts_with("lp_");
    let sorted = |names: &mut dyn Iterator<Item = &'_ str>| {
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names
    };
    let functions = module.functions.iter().filter_map(|(_, function)| function.name.as_deref());
    assert_eq!(sorted(&mut functions.filter(public)), sorted(&mut library::FUNCTIONS.iter().copied()));
    let types = module.types.iter().filter_map(|(_, of)| of.name.as_deref());
    assert_eq!(sorted(&mut types.filter(public)), sorted(&mut library::TYPES.iter().copied()));
    let variables = module.global_variables.iter().filter_map(|(_, variable)| variable.name.as_deref());
    let constants = module.constants.iter().filter_map(|(_, constant)| constant.name.as_deref());
    assert_eq!(variables.chain(constants).filter(public).count(), 0);

    let prior = naga::front::wgsl::parse_str(&format!("{}\n{PRIOR}", library::text())).expect("valid WGSL");
    assert_eq!(
        prior.functions.iter().filter_map(|(_, f)| f.name.as_deref()).filter(public).count(),
        library::FUNCTIONS.len()
    );
}
