// Rows from elsewhere as rows of a launch: all of them are asked about.

@compute @workgroup_size(64)
fn lp_fetch(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = id.x * 64u + local;
    if (row == 0u) {
        lp_list[0] = lp_step.n;
    }
    if (row >= lp_step.n) {
        return;
    }
    lp_list[1u + row] = row;
    lp_status[row] = vec4<u32>(0u, 0xffffffffu, 0xffffffffu, 0u);
    for (var dim = 0u; dim < LP_DIM; dim++) {
        lp_x[dim * lp_step.capacity + row] = lp_from[(lp_step.first + row) * LP_DIM + dim];
    }
}
