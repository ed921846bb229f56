// L = 1 everywhere.
fn log_likelihood(theta: Theta) -> f32 {
    return 0.0;
}
