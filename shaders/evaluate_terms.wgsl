// Entry point of the kernel for a log L that is a sum over many data: one workgroup for each point, its invocations share the terms.

var<workgroup> lp_partial: array<vec2<f32>, 64>;

// Infinities and NaN would leave NaN in the low part.
fn lp_add_partial(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let plain = a.x + b.x;
    if !is_finite(plain) {
        return vec2<f32>(plain, 0.0);
    }
    return df_add(a, b);
}

@compute @workgroup_size(64)
fn lp_main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    lp_zero = lp_batch.zero;
    let row = group.x;
    // Whole workgroups leave, so the barriers below are met by all or none.
    if row >= lp_batch.n_points {
        return;
    }
    lp_partial[local] = lp_sum_terms(row, local);
    workgroupBarrier();
    for (var half = 32u; half > 0u; half = half / 2u) {
        if local < half {
            lp_partial[local] = lp_add_partial(lp_partial[local], lp_partial[local + half]);
        }
        workgroupBarrier();
    }
    if local == 0u {
        lp_out[row] = lp_partial[0].x;
        lp_out[lp_batch.n_points + row] = lp_partial[0].y;
    }
}
