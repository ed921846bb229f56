// Velocities of a star that one planet pulls: theta is period, k, e, omega and phase, then offset and jitter of ELODIE and of HARPS.
//
// The data span 3000 periods and pin the period to one part in 400,000, so an f32 cannot hold the phase: parameters and times come as pairs
// of f32, whose sum is the number, and revolutions are counted in such pairs (the df_ functions of the library).

// 1 / (2 pi) as a pair.
const PER_TURN: vec2<f32> = vec2<f32>(0.15915494, 6.4206383e-9);
const TURN: f32 = 6.2831855;

fn log_likelihood(theta_hi: Theta, theta_lo: Theta, derived: ptr<function, Derived>) -> vec2<f32> {
    let k = theta_hi[1];
    let e = theta_hi[2];
    // (cos omega, sin omega): an angle is its own true anomaly where e is 0. WGSL promises three digits of `cos`, the library seven.
    let omega = true_anomaly(theta_hi[3], 0.0);
    (*derived)[0] = MASS_OF_UNIT_PULL * k * sqrt((1.0 - e) * (1.0 + e)) * pow(theta_hi[0], 1.0 / 3.0);

    let rate = df_div(df_from(1.0), vec2<f32>(theta_hi[0], theta_lo[0]));
    let mean_anomaly = df_sub(vec2<f32>(theta_hi[4], theta_lo[4]), vec2<f32>(theta_hi[3], theta_lo[3]));
    let start = df_mul(mean_anomaly, PER_TURN);
    var sum: Sum;
    for (var i = 0u; i < N_VELOCITIES; i++) {
        let row = velocities[i];
        let turns = df_add(df_mul(vec2<f32>(row.time, row.time_rest), rate), start);
        // Whole revolutions are taken off while the digits are there; what is left fits one f32.
        let fraction = df_sub(turns, df_from(round(turns.x))).x;
        let nu = true_anomaly(kepler(TURN * fraction, e), e);
        let noise = 5u + 2u * u32(row.instrument);
        let model = theta_hi[noise] + k * (nu.x * omega.x - nu.y * omega.y + e * omega.x);
        let jitter = theta_hi[noise + 1u];
        sum_add(&sum, normal_log_pdf(row.velocity, model, sqrt(row.variance + jitter * jitter)));
    }
    return sum_pair(sum);
}
