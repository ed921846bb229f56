// Kepler's equation, and the true anomaly.

// One step of Halley's method.
fn lp_kepler_step(anomaly: f32, mean: f32, e: f32) -> f32 {
    let turn = lp_cos_sin(anomaly);
    let f = lp_opaque(anomaly - e * turn.y) - mean;
    let slope = 1.0 - e * turn.x;
    return anomaly - f * slope / (slope * slope - 0.5 * f * e * turn.y);
}

// The eccentric anomaly E in [-pi, pi] with E - e sin E = M (mod 2 pi), for e in [0, 0.99] and |M| < 1e6; error below 1e-6.
fn kepler(m: f32, e: f32) -> f32 {
    let mean = lp_remainder(m, vec2<f32>(6.28318548, -1.74845553e-7)).y;
    let x = abs(mean);
    // Markley's starter (1995): a cubic for E from a Pade form of the sine, good to 1e-3.
    let alpha = 7.65161 + 1.29900 * (3.14159265 - x) / (1.0 + e);
    let d = 3.0 * (1.0 - e) + alpha * e;
    let q = 2.0 * alpha * d * (1.0 - e) - x * x;
    let r = (3.0 * alpha * d * (d - (1.0 - e)) + x * x) * x;
    let w = lp_exp(0.666666667 * lp_log(r + sqrt(max(q * q * q + r * r, 0.0))));
    let start = (2.0 * r * w / (w * w + w * q + q * q) + x) / d;
    // The second step takes off the rounding of the starter.
    return sign(mean) * lp_kepler_step(lp_kepler_step(start, x, e), x, e);
}

// (cos nu, sin nu) of the true anomaly nu at eccentric anomaly E, for e in [0, 1); absolute error below 4e-7.
fn true_anomaly(eccentric: f32, e: f32) -> vec2<f32> {
    // By half angles: cos E - e would cancel near the periapsis.
    let half = lp_cos_sin(0.5 * eccentric);
    let c = (1.0 - e) * half.x * half.x;
    let s = (1.0 + e) * half.y * half.y;
    return vec2<f32>(c - s, 2.0 * sqrt((1.0 - e) * (1.0 + e)) * half.x * half.y) / (c + s);
}
