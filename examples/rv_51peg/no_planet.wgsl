// Velocities of a star without a planet: theta is offset and jitter of ELODIE, then of HARPS.
fn log_likelihood(theta: array<f32, N_DIM>) -> vec2<f32> {
    var sum: Sum;
    for (var i = 0u; i < N_VELOCITIES; i++) {
        let row = velocities[i];
        let noise = 2u * u32(row.instrument);
        let jitter = theta[noise + 1u];
        sum_add(&sum, normal_log_pdf(row.velocity, theta[noise], sqrt(row.variance + jitter * jitter)));
    }
    return sum_pair(sum);
}
