// A ramp above x1 = 0.9 and likelihood zero below it. In pairs, so that the ramp begins where it does in f64.
const START: vec2<f32> = vec2<f32>(0.9, 2.3841858e-8);

fn log_likelihood(theta_hi: Theta, theta_lo: Theta) -> f32 {
    let above = df_sub(vec2<f32>(theta_hi[0], theta_lo[0]), START).x;
    if (above <= 0.0) {
        return reject();
    }
    return log(above);
}
