// Eight schools: theta = (mu, tau, z_1 .. z_8), the effect of a school mu + tau z.
fn log_likelihood(theta: Theta) -> f32 {
    var sum: Sum;
    for (var j = 0u; j < N_SCHOOLS; j++) {
        sum_add(&sum, normal_log_pdf(schools[j].effect, theta[0] + theta[1] * theta[2u + j], schools[j].error));
    }
    return sum_value(sum);
}
