// Pairs of axes of a Gaussian about 0.5, standard deviation SIGMA, correlation RHO within a pair.
fn log_likelihood(theta: Theta) -> f32 {
    var chi2: Sum;
    for (var i = 0u; i < N_DIM; i += 2u) {
        let a = (theta[i] - 0.5) / SIGMA;
        let b = (theta[i + 1u] - 0.5) / SIGMA;
        // Two squares: a^2 - 2 RHO a b + b^2 would cancel along the ridge.
        let across = a - RHO * b;
        sum_add(&chi2, across * across / ((1.0 - RHO) * (1.0 + RHO)));
        sum_add(&chi2, b * b);
    }
    return LOG_NORM - 0.5 * sum_value(chi2);
}
