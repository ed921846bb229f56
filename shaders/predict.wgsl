// What each network says of each row: one invocation for both.

struct LpPrediction { first: u32, n_points: u32, zero: u32, padding: u32 }
@group(0) @binding(0) var<uniform> lp_prediction: LpPrediction;
@group(0) @binding(1) var<storage, read> lp_x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> lp_out: array<f32>;

@compute @workgroup_size(64)
fn lp_main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    lp_zero = lp_prediction.zero;
    let row = lp_prediction.first + group.x * 64u + local;
    if row < lp_prediction.n_points {
        var x: array<vec4<f32>, LP_NET_IN>;
        for (var k = 0u; k < LP_NET_IN; k++) {
            x[k] = lp_x[row * LP_NET_IN + k];
        }
        lp_out[group.y * lp_prediction.n_points + row] = lp_network(group.y * LP_NET_WEIGHTS, &x);
    }
}
