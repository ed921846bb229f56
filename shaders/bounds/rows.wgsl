// Rows of a launch made dense, in order; what is left of them goes to the host and to the ring; and from the ring to a batch.

const LP_NONE: u32 = 0xffffffffu;

// Whether an item stays. Mode 0: rows that are not out, all of the launch; 1: rows of the list that are not out; 2: those that no bound holds, either.
fn lp_stays(item: u32) -> bool {
    if (lp_step.ask == 0u) {
        return item < lp_step.n && lp_status[item].x != LP_NONE;
    }
    if (item >= lp_list[0]) {
        return false;
    }
    let status = lp_status[lp_list[1u + item]];
    return status.x != LP_NONE && (lp_step.ask == 1u || status.y == LP_NONE);
}

var<workgroup> lp_sums: array<u32, 256>;

// Inclusive sums over a workgroup.
fn lp_scanned(value: u32, local: u32) -> u32 {
    lp_sums[local] = value;
    workgroupBarrier();
    for (var stride = 1u; stride < 256u; stride *= 2u) {
        var before = 0u;
        if (local >= stride) {
            before = lp_sums[local - stride];
        }
        workgroupBarrier();
        lp_sums[local] += before;
        workgroupBarrier();
    }
    return lp_sums[local];
}

@compute @workgroup_size(256)
fn lp_count(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let sum = lp_scanned(select(0u, 1u, lp_stays(id.x * 256u + local)), local);
    if (local == 255u) {
        lp_totals[id.x] = sum;
    }
}

// One workgroup: the totals become places to begin at; the last is the number of all.
@compute @workgroup_size(256)
fn lp_scan(@builtin(local_invocation_index) local: u32) {
    let n = lp_step.n_groups;
    let each = (n + 255u) / 256u;
    var sum = 0u;
    for (var k = local * each; k < min((local + 1u) * each, n); k++) {
        sum += lp_totals[k];
    }
    var before = lp_scanned(sum, local) - sum;
    for (var k = local * each; k < min((local + 1u) * each, n); k++) {
        let total = lp_totals[k];
        lp_totals[k] = before;
        before += total;
    }
    if (local == 255u) {
        lp_totals[n] = before;
    }
}

fn lp_place(item: u32, group: u32, local: u32) -> u32 {
    let stays = lp_stays(item);
    let place = lp_totals[group] + lp_scanned(select(0u, 1u, stays), local) - 1u;
    return select(LP_NONE, place, stays);
}

@compute @workgroup_size(256)
fn lp_scatter(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let item = id.x * 256u + local;
    let place = lp_place(item, id.x, local);
    if (place != LP_NONE) {
        lp_list[1u + place] = item;
    }
    if (item == 0u) {
        lp_list[0] = lp_totals[lp_step.n_groups];
    }
}

@compute @workgroup_size(256)
fn lp_emit(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let item = id.x * 256u + local;
    let place = lp_place(item, id.x, local);
    if (place == LP_NONE) {
        return;
    }
    let row = lp_list[1u + item];
    lp_meta[place] = lp_status[row];
    let slot = (lp_step.slot + place) % lp_step.ring;
    for (var dim = 0u; dim < LP_DIM; dim++) {
        let x = lp_x[dim * lp_step.capacity + row];
        lp_out[place * LP_DIM + dim] = x;
        lp_ring[slot * LP_DIM + dim] = x;
    }
}
