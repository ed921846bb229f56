// What the networks of a cluster learn from: points of the ledger as they will see them.

// The place of x in the frame of an ellipsoid, also outside of it.
fn lp_frame(ellipsoid: u32, x: ptr<function, LpPoint>, z: ptr<function, array<f32, LP_DIM>>) {
    let k = lp_bound[ellipsoid].x;
    var delta: array<vec4<f32>, LP_DIM4>;
    for (var j = 0u; j < k; j++) {
        delta[j / 4u][j % 4u] = lp_difference((*x)[lp_dim(ellipsoid, j)], lp_centre(ellipsoid, j));
    }
    for (var i = 0u; i < k; i++) {
        let row = ellipsoid + LP_AT_INVERSE + i * LP_DIM4;
        var sum = 0.0;
        for (var q = 0u; q <= i / 4u; q++) {
            sum += dot(lp_real(row + q), delta[q]);
        }
        (*z)[i] = sum;
    }
}

@compute @workgroup_size(64)
fn lp_lesson(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    lp_zero = lp_step.zero;
    let row = id.x * 64u + local;
    if (row >= lp_step.n) {
        return;
    }
    let point = lp_numbers[row];
    var x: LpPoint;
    for (var dim = 0u; dim < LP_DIM; dim++) {
        x[dim] = lp_points[point * LP_DIM + dim];
    }
    lp_shifted(&x, true);
    var z: array<f32, LP_DIM>;
    let cluster = lp_bound[1].y;
    lp_frame(cluster, &x, &z);
    let features = lp_features(cluster, &x, &z);
    for (var k = 0u; k < LP_NET_IN; k++) {
        lp_to[row * LP_NET_IN + k] = features[k];
    }
}
