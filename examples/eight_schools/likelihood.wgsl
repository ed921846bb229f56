// Eight schools in the non-centred form: theta is mu, tau, z_1 .. z_8, and the derived values are the schools' effects mu + tau z.
fn log_likelihood(theta: array<f32, N_DIM>, derived: ptr<function, Derived>) -> f32 {
    var sum: Sum;
    for (var j = 0u; j < N_SCHOOLS; j++) {
        let effect = theta[0] + theta[1] * theta[2u + j];
        (*derived)[j] = effect;
        sum_add(&sum, normal_log_pdf(schools[j].y, effect, schools[j].sigma));
    }
    return sum_value(sum);
}
