// What each network says of each row: one workgroup for LP_NET_TILE rows, LP_NET_ROWS of them for each of its invocations.

struct LpPrediction { first: u32, n_points: u32, zero: u32, padding: u32 }
@group(0) @binding(0) var<uniform> lp_prediction: LpPrediction;
@group(0) @binding(1) var<storage, read> lp_x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> lp_out: array<f32>;

@compute @workgroup_size(LP_NET_GROUP)
fn lp_main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    lp_zero = lp_prediction.zero;
    let first = lp_prediction.first + group.x * LP_NET_TILE + local;
    var x: array<vec4<f32>, LP_NET_IN * LP_NET_ROWS>;
    for (var r = 0u; r < LP_NET_ROWS; r++) {
        // The last row again and again behind the end: all go together.
        let row = min(first + LP_NET_GROUP * r, max(lp_prediction.n_points, 1u) - 1u);
        for (var k = 0u; k < LP_NET_IN; k++) {
            x[r * LP_NET_IN + k] = lp_x[row * LP_NET_IN + k];
        }
    }
    var said: array<f32, LP_NET_ROWS>;
    lp_network(group.y * LP_NET_WEIGHTS, local, &x, &said);
    for (var r = 0u; r < LP_NET_ROWS; r++) {
        let row = first + LP_NET_GROUP * r;
        if row < lp_prediction.n_points {
            lp_out[group.y * lp_prediction.n_points + row] = said[r];
        }
    }
}
