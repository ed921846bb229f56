// Eighteen equal peaks on a chequered floor: (2 + cos(x1 / 2) cos(x2 / 2))^5, rearranged so that little is lost at the peaks, which reach 243.
fn log_likelihood(theta_hi: Theta, theta_lo: Theta) -> vec2<f32> {
    let x1 = vec2<f32>(theta_hi[0], theta_lo[0]);
    let x2 = vec2<f32>(theta_hi[1], theta_lo[1]);
    // cos a cos b = 1 - sin^2((a + b) / 2) - sin^2((a - b) / 2): what is missing from 3, and then from 3^5, is small at a peak.
    let below = sine_squared(df_add(x1, x2)) + sine_squared(df_sub(x1, x2));
    if (below > 1.0) {
        // On the floor the difference would cancel.
        let height = 3.0 - below;
        return df_from(height * height * height * height * height);
    }
    let missing = below * (405.0 - below * (270.0 - below * (90.0 - below * (15.0 - below))));
    return two_sum(243.0, -missing);
}

// sin^2(x / 4). A round orbit has the library's cosine and sine; those of WGSL promise three digits only.
fn sine_squared(x: vec2<f32>) -> f32 {
    let turn = true_anomaly(0.25 * x.x, 0.0);
    let sine = turn.y + 0.25 * x.y * turn.x;
    return sine * sine;
}
