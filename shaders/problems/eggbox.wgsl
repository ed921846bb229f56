// Eighteen equal peaks on a chequered floor. The fifth power magnifies what f32 loses of the angles: they come as pairs.
fn log_likelihood(theta_hi: Theta, theta_lo: Theta) -> f32 {
    let floor = 2.0 + cosine(theta_hi[0], theta_lo[0]) * cosine(theta_hi[1], theta_lo[1]);
    let square = floor * floor;
    return square * square * floor;
}

// cos((hi + lo) / 2). A round orbit has the library's cosine and sine; those of WGSL promise three digits only.
fn cosine(hi: f32, lo: f32) -> f32 {
    let turn = true_anomaly(0.5 * hi, 0.0);
    return turn.x - 0.5 * lo * turn.y;
}
