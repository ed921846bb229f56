// What the networks of a cluster say of the rows that wait for it: one workgroup for LP_NET_TILE rows, LP_NET_ROWS of them for each of its invocations.
//
// Before this text stand LP_ELLIPSOID and LP_CLUSTER (vec4s of both in the text of a bound), LP_N_NETWORKS, the bindings, and the
// text of `fn lp_network`.

const LP_NONE: u32 = 0xffffffffu;

fn lp_accept(row: u32, cell: u32) {
    let status = lp_status[row];
    let counts = lp_groups[2u * status.w + 1u].z;
    if (lp_step.ask == 3u) {
        lp_status[row] = vec4<u32>(cell, LP_NONE, LP_NONE, status.w);
        atomicAdd(&lp_counts[counts + 4u * cell + 2u], 1u);
        return;
    }
    lp_status[row].y = lp_step.bound;
    if (lp_step.ask != 0u) {
        atomicAdd(&lp_counts[counts + 4u * status.x + 3u], 1u);
    }
}

@compute @workgroup_size(LP_NET_GROUP)
fn lp_predict(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    lp_zero = lp_step.zero;
    let n = lp_waits[lp_step.waits].w;
    var x: array<vec4<f32>, LP_NET_IN * LP_NET_ROWS>;
    for (var r = 0u; r < LP_NET_ROWS; r++) {
        // The last row again and again behind the end: all go together.
        let place = min(id.x * LP_NET_TILE + LP_NET_GROUP * r + local, max(n, 1u) - 1u);
        for (var k = 0u; k < LP_NET_IN; k++) {
            x[r * LP_NET_IN + k] = bitcast<vec4<f32>>(lp_waiting[(1u + k) * lp_step.capacity + place]);
        }
    }
    let cluster = lp_bound[1].y + lp_step.cluster * LP_CLUSTER + LP_ELLIPSOID;
    let about = lp_bound[cluster];
    var sums: array<f32, LP_NET_ROWS>;
    for (var network = 0u; network < LP_N_NETWORKS; network++) {
        var said: array<f32, LP_NET_ROWS>;
        lp_network(about.z + network * LP_NET_WEIGHTS, local, &x, &said);
        for (var r = 0u; r < LP_NET_ROWS; r++) {
            sums[r] += said[r];
        }
    }
    let scaling = bitcast<vec4<f32>>(lp_bound[cluster + 1u]);
    for (var r = 0u; r < LP_NET_ROWS; r++) {
        let place = id.x * LP_NET_TILE + LP_NET_GROUP * r + local;
        if (place < n) {
            let row = lp_waiting[place];
            let score = scaling.x + scaling.y * (sums[r] / f32(max(LP_N_NETWORKS, 1u)));
            let threshold = bitcast<vec4<f32>>(lp_bound[about.w + row.y / 4u])[row.y % 4u];
            if (score >= threshold) {
                lp_accept(row.x, row.y);
            }
        }
    }
}
