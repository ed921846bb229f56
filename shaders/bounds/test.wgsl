// Which bounds hold the rows of a list: for each cluster of each bound one dispatch over the list, one invocation for each row, and where the cluster has
// networks one more over the rows that lie in it, which wait side by side for what the networks say (predict.wgsl).
//
// The status of a row: its cell in the bound that it was drawn from, or LP_NONE once it is out; the bound that holds it, and the cell there; its
// workgroup in the draw. While its own bound is asked, a row counts as out, and its cell stands in the third place; while another one is, the cell there.

// A row of the list; LP_NONE behind its end.
fn lp_listed(index: u32) -> u32 {
    if (index >= lp_list[0]) {
        return LP_NONE;
    }
    return lp_list[1u + index];
}

fn lp_load(row: u32) -> LpPoint {
    var x: LpPoint;
    for (var dim = 0u; dim < LP_DIM; dim++) {
        x[dim] = lp_x[dim * lp_step.capacity + row];
    }
    lp_shifted(&x, true);
    return x;
}

// Whether the cluster of this dispatch accepts x, a shifted point of a cell: at once where it has no networks, else the row waits.
fn lp_asked(x: ptr<function, LpPoint>, row: u32, cell: u32) -> bool {
    if (lp_step.cluster >= lp_bound[0].y) {
        return false;
    }
    var z: array<f32, LP_DIM>;
    let cluster = lp_bound[1].y + lp_step.cluster * LP_CLUSTER;
    if (!lp_in_ellipsoid(cluster, x, &z)) {
        return false;
    }
    if (lp_bound[cluster + LP_ELLIPSOID + 1u].z == 0u) {
        return true;
    }
    let features = lp_features(cluster, x, &z);
    // In any order: what is said of a row does not depend on its place.
    let place = atomicAdd(&lp_waits[4u * lp_step.waits + 3u], 1u);
    if (place % LP_NET_TILE == 0u) {
        atomicAdd(&lp_waits[4u * lp_step.waits], 1u);
    }
    lp_waiting[place] = vec4<u32>(row, cell, 0u, 0u);
    for (var k = 0u; k < LP_NET_IN; k++) {
        lp_waiting[(1u + k) * lp_step.capacity + place] = bitcast<vec4<u32>>(features[k]);
    }
    return false;
}

// Rows that were drawn from this bound must be accepted by it.
@compute @workgroup_size(64)
fn lp_test_own(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    lp_zero = lp_step.zero;
    let row = lp_listed(id.x * 64u + local);
    if (row == LP_NONE) {
        return;
    }
    let status = lp_status[row];
    let about = lp_groups[2u * status.w + 1u];
    let cell = select(status.z, status.x, lp_step.cluster == 0u);
    if (about.w != lp_step.bound || cell == LP_NONE) {
        return;
    }
    var x = lp_load(row);
    if (lp_asked(&x, row, cell)) {
        lp_status[row] = vec4<u32>(cell, LP_NONE, LP_NONE, status.w);
        atomicAdd(&lp_counts[about.z + 4u * cell + 2u], 1u);
    } else {
        lp_status[row] = vec4<u32>(LP_NONE, LP_NONE, cell, status.w);
    }
}

// Rows that no bound holds so far, and that were drawn from a bound outside of this one (ask 1) or from any other (ask 2), or were not drawn (ask 0).
@compute @workgroup_size(64)
fn lp_test_other(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    lp_zero = lp_step.zero;
    let row = lp_listed(id.x * 64u + local);
    if (row == LP_NONE) {
        return;
    }
    let status = lp_status[row];
    if (status.x == LP_NONE || status.y != LP_NONE) {
        return;
    }
    var counts = LP_NONE;
    if (lp_step.ask != 0u) {
        let about = lp_groups[2u * status.w + 1u];
        if (about.w == lp_step.bound || (about.w > lp_step.bound && lp_step.ask == 1u)) {
            return;
        }
        counts = about.z;
    }
    var x = lp_load(row);
    var cell = status.z;
    if (lp_step.cluster == 0u) {
        cell = 0u;
        if (lp_bound[0].w == 0u) {
            cell = lp_cell(&x);
        }
        lp_status[row].z = cell;
    }
    if (cell == LP_NONE || !(lp_bound[0].w == 1u || lp_asked(&x, row, cell))) {
        return;
    }
    lp_status[row].y = lp_step.bound;
    if (counts != LP_NONE) {
        atomicAdd(&lp_counts[counts + 4u * status.x + 3u], 1u);
    }
}
