// A Gaussian of variance 1/4 that is one at its centre.
fn log_likelihood(theta: Theta) -> f32 {
    var sum: Sum;
    for (var i = 0u; i < N_DIM; i++) {
        sum_add(&sum, theta[i] * theta[i]);
    }
    return -2.0 * sum_value(sum);
}
