// Neal's funnel: v ~ N(0, 3^2), then every other x ~ N(0, e^v).
fn log_likelihood(theta: Theta) -> f32 {
    let v = theta[0];
    // 1 + expm1 is good for v > 0 only, its reciprocal for v < 0; WGSL allows `exp` an error that grows with |v|.
    let grow = 1.0 + expm1(0.5 * abs(v));
    let inverse_sigma = select(1.0 / grow, grow, v < 0.0);
    var sum: Sum;
    sum_add(&sum, normal_log_pdf(v, 0.0, 3.0));
    for (var i = 1u; i < N_DIM; i++) {
        let z = theta[i] * inverse_sigma;
        sum_add(&sum, -0.5 * z * z);
        sum_add(&sum, -0.5 * (v + LN_TAU));
    }
    return sum_value(sum);
}
