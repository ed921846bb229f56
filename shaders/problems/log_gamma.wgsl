// Two log-gamma peaks on the first axis, two Gaussian ones on the second; then N_SKEWED log-gamma axes, and Gaussian ones.
const LEFT: f32 = 1.0 / 3.0;
const RIGHT: f32 = 2.0 / 3.0;
const SCALE: f32 = 1.0 / 30.0;
const LN_30: f32 = 3.4011974;
const LN_HALF: f32 = -0.6931472;

fn log_likelihood(theta: Theta) -> f32 {
    var sum: Sum;
    sum_add(&sum, LN_HALF + log_add_exp(skewed(theta[0], LEFT), skewed(theta[0], RIGHT)));
    sum_add(&sum, LN_HALF + log_add_exp(normal_log_pdf(theta[1], LEFT, SCALE), normal_log_pdf(theta[1], RIGHT, SCALE)));
    for (var i = 2u; i < N_DIM; i++) {
        if (f32(i) < 2.0 + N_SKEWED) {
            sum_add(&sum, skewed(theta[i], RIGHT));
        } else {
            sum_add(&sum, normal_log_pdf(theta[i], RIGHT, SCALE));
        }
    }
    return sum_value(sum);
}

fn skewed(x: f32, at: f32) -> f32 {
    let z = (x - at) / SCALE;
    // The library's expm1 keeps its digits at any z; WGSL allows `exp` an error that grows with it.
    return z - (1.0 + expm1(z)) + LN_30;
}
