// Quantile functions of the priors in f32, for a coordinate that keeps the digits of both tails.
//
// The coordinate u comes as a signed tail probability, a df `t` (see double.wgsl): t = u up to 1/2, t = -(1 - u) above,
// with |t| in [1.2e-38, 1/2].

fn lp_df_less(a: vec2<f32>, b: vec2<f32>) -> bool {
    return a.x < b.x || (a.x == b.x && a.y < b.y);
}

// Uniform on [lo, hi], width = hi - lo.
fn lp_uniform(t: vec2<f32>, lo: vec2<f32>, hi: vec2<f32>, width: vec2<f32>) -> vec2<f32> {
    var end = lo;
    if (t.x < 0.0) {
        end = hi;
    }
    let x = df_add(end, df_mul(width, t));
    // Rounding may step over an end.
    if (lp_df_less(x, lo)) {
        return lo;
    }
    if (lp_df_less(hi, x)) {
        return hi;
    }
    return x;
}

// Uniform in log x on [lo, hi], log_ratio = log(hi / lo).
fn lp_log_uniform(t: vec2<f32>, lo: f32, hi: f32, log_ratio: vec2<f32>) -> f32 {
    let end = select(lo, hi, t.x < 0.0);
    return clamp(end * lp_exp_df(df_mul(log_ratio, t)), lo, hi);
}

fn lp_normal(t: vec2<f32>, mean: f32, sd: f32) -> f32 {
    return mean + sd * lp_ndtri(t);
}

fn lp_half_normal(t: vec2<f32>, sd: f32) -> f32 {
    // |z| < x has the probability u: x is the normal quantile of 1/2 + u/2.
    if (t.x > 0.0) {
        return sd * lp_ndtri_centre(0.5 * t.x);
    }
    return sd * lp_ndtri(0.5 * t);
}

fn lp_log_normal(t: vec2<f32>, mu: f32, sigma: f32) -> f32 {
    // The rounding of an exponent is a relative error of the result, so it stays a df.
    let exponent = df_add(two_prod(sigma, lp_ndtri(t)), df_from(mu));
    // Finite, as the quantiles on the CPU.
    return lp_exp_df(vec2<f32>(min(exponent.x, 88.72283), exponent.y));
}

fn lp_exponential(t: vec2<f32>, scale: f32) -> f32 {
    if (t.x > 0.0) {
        return -scale * log1p(-t.x);
    }
    return -scale * lp_log(-t.x);
}

// tan(pi p / 2) for p in [0, 1/2].
fn lp_tan_half_pi(p: f32) -> f32 {
    let turn = lp_cos_sin(1.57079633 * p);
    return turn.y / turn.x;
}

fn lp_cauchy(t: vec2<f32>, location: f32, scale: f32) -> f32 {
    let p = abs(t.x);
    let side = sign(t.x);
    if (p < 0.25) {
        return location - side * scale / lp_tan_half_pi(2.0 * p);
    }
    // From the median, whose neighbourhood has digits to keep.
    let q = lp_opaque(0.5 - p) - side * t.y;
    return location - side * scale * lp_tan_half_pi(2.0 * q);
}

fn lp_half_cauchy(t: vec2<f32>, scale: f32) -> f32 {
    if (t.x > 0.0) {
        return scale * lp_tan_half_pi(t.x);
    }
    return scale / lp_tan_half_pi(-t.x);
}
