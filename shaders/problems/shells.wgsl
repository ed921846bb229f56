// Two thin shells about +-CENTRE on the first axis, each normalised across its thickness.
fn log_likelihood(theta: Theta) -> f32 {
    return log_add_exp(shell(theta, CENTRE), shell(theta, -CENTRE));
}

fn shell(theta: Theta, centre: f32) -> f32 {
    var square = (theta[0] - centre) * (theta[0] - centre);
    for (var i = 1u; i < N_DIM; i++) {
        square += theta[i] * theta[i];
    }
    return normal_log_pdf(sqrt(square), RADIUS, WIDTH);
}
