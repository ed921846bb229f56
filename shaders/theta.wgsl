// Entry point of the kernel that maps points of the unit cube to rows of theta in f32: one invocation for each point.

@compute @workgroup_size(64)
fn lp_main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    lp_zero = lp_batch.zero;
    let row = group.x * 64u + local;
    if row < lp_batch.n_points {
        var hi: Theta;
        var lo: Theta;
        lp_theta(row, &hi, &lo);
        for (var k = 0u; k < N_DIM; k++) {
            lp_out[row * N_DIM + k] = hi[k];
        }
    }
}
