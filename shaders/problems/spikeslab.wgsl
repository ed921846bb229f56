// Half the evidence in a slab, half in a spike that fills little of it.
fn log_likelihood(theta: Theta) -> f32 {
    return log_add_exp(gaussian(theta, 0.5, 0.1), gaussian(theta, 0.6, 0.01)) - 0.6931472;
}

fn gaussian(theta: Theta, centre: f32, sigma: f32) -> f32 {
    var sum: Sum;
    for (var i = 0u; i < N_DIM; i++) {
        sum_add(&sum, normal_log_pdf(theta[i], centre, sigma));
    }
    return sum_value(sum);
}
