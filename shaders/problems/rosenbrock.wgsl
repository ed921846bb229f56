// Rosenbrock's valley, chained over neighbours. The valley is steep and far from 0: the parabola is followed in pairs of f32.
fn log_likelihood(theta_hi: Theta, theta_lo: Theta) -> f32 {
    var sum: Sum;
    for (var i = 0u; i + 1u < N_DIM; i++) {
        let here = vec2<f32>(theta_hi[i], theta_lo[i]);
        let next = vec2<f32>(theta_hi[i + 1u], theta_lo[i + 1u]);
        let across = df_sub(next, df_mul(here, here)).x;
        let along = df_sub(df_from(1.0), here).x;
        sum_add(&sum, 100.0 * across * across);
        sum_add(&sum, along * along);
    }
    return -sum_value(sum);
}
