// A Gaussian about CENTRE on every axis, with a standard deviation `sigma` for each; the host knows the logarithm of its norm.
fn log_likelihood(theta: Theta) -> f32 {
    var chi2: Sum;
    for (var i = 0u; i < N_DIM; i++) {
        let z = (theta[i] - CENTRE) / sigma[i];
        sum_add(&chi2, z * z);
    }
    return LOG_NORM - 0.5 * sum_value(chi2);
}
