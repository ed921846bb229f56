// Which bounds hold the rows of a list: one dispatch for each bound, one invocation for each row.
//
// The status of a row: its cell in the bound that it was drawn from, or LP_NONE once it is out; the bound that holds it, and the cell there; its
// workgroup in the draw.

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

// Rows that were drawn from this bound must be accepted by its networks.
@compute @workgroup_size(64)
fn lp_test_own(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    lp_zero = lp_step.zero;
    let row = lp_listed(id.x * 64u + local);
    if (row == LP_NONE) {
        return;
    }
    let status = lp_status[row];
    let about = lp_groups[2u * status.w + 1u];
    if (about.w != lp_step.bound) {
        return;
    }
    var x = lp_load(row);
    if (lp_accepted(&x, status.x)) {
        atomicAdd(&lp_counts[about.z + 4u * status.x + 2u], 1u);
    } else {
        lp_status[row].x = LP_NONE;
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
    var cell = 0u;
    if (lp_bound[0].w == 0u) {
        cell = lp_cell(&x);
        if (cell == LP_NONE || !lp_accepted(&x, cell)) {
            return;
        }
    }
    lp_status[row].y = lp_step.bound;
    lp_status[row].z = cell;
    if (counts != LP_NONE) {
        atomicAdd(&lp_counts[counts + 4u * status.x + 3u], 1u);
    }
}
