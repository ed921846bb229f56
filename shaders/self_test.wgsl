// Tries what likelihoods rely on and compilers are known to break: exact sums, NaN by bits, loops that run to their end.

struct LpSelfTest { zero: u32, n_pairs: u32, n_loops: u32, padding: u32 }
@group(0) @binding(0) var<uniform> lp_test: LpSelfTest;
@group(0) @binding(1) var<storage, read> lp_pairs: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> lp_found: array<vec4<f32>>;

@compute @workgroup_size(64)
fn lp_main(@builtin(global_invocation_id) id: vec3<u32>) {
    lp_zero = lp_test.zero;
    if id.x < lp_test.n_pairs {
        let pair = lp_pairs[id.x];
        lp_found[id.x] = vec4<f32>(two_sum(pair.x, pair.y), two_prod(pair.x, pair.y));
    }
    if id.x == 0u {
        var loops = 0u;
        var word = 1u;
        for (var i = 0u; i < lp_test.n_loops; i++) {
            word = word * 1664525u + 1013904223u;
            loops++;
        }
        // The word keeps the loop from being reasoned away.
        let known = f32(is_nan(lp_nan())) + 2.0 * f32(is_inf(-reject())) + 4.0 * f32(!is_nan(1.0) && !is_inf(1.0));
        lp_found[lp_test.n_pairs] = vec4<f32>(known, f32(loops), f32(word & 1u), 0.0);
    }
}
