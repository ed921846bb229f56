// Each point lies on the line with error SIGMA, or, with probability theta[2], is an outlier with error SIGMA_OUTLIER.
fn log_likelihood(theta: array<f32, N_DIM>, derived: ptr<function, Derived>) -> f32 {
    let intercept = theta[0];
    let slope = theta[1];
    let outliers = theta[2];
    (*derived)[0] = intercept + 10.0 * slope;
    var sum: Sum;
    for (var i = 0u; i < N_POINTS; i++) {
        let model = intercept + slope * points[i].x;
        let good = log1p(-outliers) + normal_log_pdf(points[i].y, model, SIGMA);
        let bad = log(outliers) + normal_log_pdf(points[i].y, model, SIGMA_OUTLIER);
        sum_add(&sum, log_add_exp(good, bad));
    }
    return sum_value(sum);
}
