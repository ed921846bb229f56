// Velocities of a star that one planet pulls: theta = (period, k, e, omega, mean anomaly, offset, jitter).

// 1 / (2 pi) as a df.
const PER_TURN: vec2<f32> = vec2<f32>(0.15915494, 6.4206383e-9);
const TURN: f32 = 6.2831855;

fn log_likelihood(theta_hi: Theta, theta_lo: Theta) -> vec2<f32> {
    let k = theta_hi[1];
    let e = theta_hi[2];
    // (cos omega, sin omega): an angle is its own true anomaly where e is 0.
    let omega = true_anomaly(theta_hi[3], 0.0);
    let offset = theta_hi[5];
    let jitter = theta_hi[6];

    // Revolutions are counted in pairs of f32: one f32 loses the digits of a phase among hundreds of them.
    let rate = df_div(df_from(1.0), vec2<f32>(theta_hi[0], theta_lo[0]));
    let start = df_mul(vec2<f32>(theta_hi[4], theta_lo[4]), PER_TURN);
    var sum: Sum;
    for (var i = 0u; i < N_VELOCITIES; i++) {
        let row = velocities[i];
        let turns = df_add(df_mul(vec2<f32>(row.time, row.time_rest), rate), start);
        let fraction = df_sub(turns, df_from(round(turns.x))).x;
        let nu = true_anomaly(kepler(TURN * fraction, e), e);
        let model = offset + k * (nu.x * omega.x - nu.y * omega.y + e * omega.x);
        sum_add(&sum, normal_log_pdf(row.velocity, model, sqrt(row.variance + jitter * jitter)));
    }
    return sum_pair(sum);
}
