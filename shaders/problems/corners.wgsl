// A Gaussian of standard deviation 0.05 on the corner of a unit square without walls.
fn log_likelihood(theta: Theta) -> f32 {
    var log_l = 0.0;
    for (var i = 0u; i < N_DIM; i++) {
        log_l += normal_log_pdf(theta[i] - floor(theta[i] + 0.5), 0.0, 0.05);
    }
    return log_l;
}
