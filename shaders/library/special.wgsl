// Special functions in f32, from polynomials of our own: the builtin exp, log and sin may lose digits on some devices.
//
// WGSL allows `log` an absolute error of 5e-7 near 1, `exp` a relative error of |x| 1e-7, `sin` an absolute one of 5e-4.
// The errors below were measured where division is rounded correctly; one that is 2.5 units off, as WGSL allows, adds 3e-7.

fn lp_is_subnormal_or_zero(x: f32) -> bool {
    return lp_magnitude_bits(x) < 0x00800000u;
}

// The natural logarithm, -inf at 0 and NaN below; relative error below 1e-7 everywhere, also near 1.
fn lp_log(x: f32) -> f32 {
    if (lp_is_subnormal_or_zero(x)) {
        // A subnormal number is an integer times 2^-149; arithmetic on it may flush it to zero.
        let integer = lp_magnitude_bits(x);
        if (integer == 0u) {
            return reject();
        }
        return log(f32(integer)) - 103.278929;
    }
    if (!is_finite(x) || x < 0.0) {
        return select(lp_nan(), x, is_nan(x) || x > 0.0);
    }
    // x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)).
    let bits = bitcast<u32>(x) + 0x004afb0du;
    let k = f32(i32(bits >> 23u) - 127);
    let f = bitcast<f32>((bits & 0x007fffffu) + 0x3f3504f3u) - 1.0;
    // log(1 + f) = f - f^2/2 + s (f^2/2 + r(s)), s = f / (2 + f): the atanh series.
    let s = f / (2.0 + f);
    let z = s * s;
    let r = z * (0.66666663 + z * (0.40000972 + z * (0.28498787 + z * 0.24279079)));
    let h = 0.5 * f * f;
    // ln 2 in two parts, the first of few enough bits that k times it is exact.
    return k * 0.693138123 + lp_opaque(f - (h - (s * (h + r) + k * 9.05800061e-6)));
}

// e^r - 1 for |r| <= 0.35; relative error below 1e-7.
fn lp_expm1_core(r: f32) -> f32 {
    let p = 8.3334519073e-3 + r * (1.3981999507e-3 + r * 1.9875691500e-4);
    return r + r * r * (5.0000001201e-1 + r * (1.6666665459e-1 + r * (4.1665795894e-2 + r * p)));
}

// 2^k for k in [-126, 127].
fn lp_power_of_two(k: i32) -> f32 {
    return bitcast<f32>(u32(k + 127) << 23u);
}

// e^(x.x + x.y) for |x.y| < 1e-3; relative error below 2e-7, +inf above 88.72, 0 below -103.9.
fn lp_exp_df(x: vec2<f32>) -> f32 {
    if (is_nan(x.x)) {
        return x.x;
    }
    if (x.x > 88.722839) {
        return lp_infinity();
    }
    if (x.x < -103.9) {
        return 0.0;
    }
    let k = floor(x.x * 1.44269504 + 0.5);
    let r = lp_opaque(x.x - k * 0.693359375) + k * 2.12194440e-4 + x.y;
    // Two factors, as 2^k alone may lie beyond the range of f32.
    let half = i32(k) >> 1u;
    let e = 1.0 + lp_expm1_core(r);
    return lp_opaque(e * lp_power_of_two(half)) * lp_power_of_two(i32(k) - half);
}

fn lp_exp(x: f32) -> f32 {
    return lp_exp_df(vec2<f32>(x, 0.0));
}

// log(1 + x) for x >= -1; relative error below 2e-7, also for tiny x.
fn log1p(x: f32) -> f32 {
    if (!is_finite(x) || x <= -1.0) {
        return lp_log(1.0 + x);
    }
    let s = two_sum(1.0, x);
    return lp_log(s.x) + s.y / s.x;
}

// e^x - 1; relative error below 4e-7, also for tiny x.
fn expm1(x: f32) -> f32 {
    if (abs(x) <= 0.35) {
        return lp_expm1_core(x);
    }
    return lp_exp(x) - 1.0;
}

// erf(x) / x for |x| <= 1.
fn lp_erf_ratio(x: f32) -> f32 {
    let z = x * x;
    let p = -0.026854212 + z * (0.00518908742 + z * (-0.000801686429 + z * 7.87587506e-5));
    return 1.12837917 + z * (-0.376126267 + z * (0.112835947 + z * p));
}

// erfc(x) for x >= 0.5; relative error below 3e-7 down to the underflow at x = 9.19.
fn lp_erfc_tail(x: f32) -> f32 {
    if (x > 10.06) {
        return 0.0;
    }
    // e^(x^2) erfc(x) (1 + 2x) is a tame function of t.
    let t = (x - 2.0) / (x + 2.0);
    let p = -0.0542265255 + t * (-0.00794766706 + t * (0.00872519385 + t * (0.000949260608 - t * 0.00135433727)));
    let tame = 1.27697837 + t * (-0.092763571 + t * (-0.166029703 + t * (0.16404235 + t * p)));
    return lp_exp_df(-two_prod(x, x)) * (tame / (1.0 + 2.0 * x));
}

// The error function; relative error below 2e-7.
fn erf(x: f32) -> f32 {
    if (abs(x) < 1.0) {
        return x * lp_erf_ratio(x);
    }
    if (is_nan(x)) {
        return x;
    }
    return sign(x) * (1.0 - lp_erfc_tail(abs(x)));
}

// 1 - erf(x); relative error below 3e-7 down to the underflow at x = 9.19.
fn erfc(x: f32) -> f32 {
    if (x < 0.5) {
        return 1.0 - erf(x);
    }
    if (is_nan(x)) {
        return x;
    }
    return lp_erfc_tail(x);
}

// lgamma(2 + z) for |z| <= 1/2; relative error below 2e-7, its zero at z = 0 included.
fn lp_lgamma_core(z: f32) -> f32 {
    let p = -0.00738592061 + z * (0.0028788683 + z * (-0.00118748685 + z * (0.000570252264 - z * 0.00025055744)));
    return z * (0.422784335 + z * (0.322467018 + z * (-0.0673522941 + z * (0.0205816255 + z * p))));
}

// log Gamma(x) for x > 0, NaN elsewhere; relative error below 5e-7, near the zeros at 1 and 2 too.
fn lgamma(x: f32) -> f32 {
    if (!(x > 0.0)) {
        return lp_nan();
    }
    if (is_inf(x)) {
        return x;
    }
    // Gamma(1 + y) = y Gamma(y) leads to the core's interval.
    if (x < 0.5) {
        return lp_lgamma_core(x) - lp_log(x) - log1p(x);
    }
    if (x < 1.5) {
        return lp_lgamma_core(x - 1.0) - lp_log(x);
    }
    if (x < 2.5) {
        return lp_lgamma_core(x - 2.0);
    }
    if (x < 3.5) {
        return lp_lgamma_core(x - 3.0) + lp_log(x - 1.0);
    }
    // Stirling's series.
    let z = 1.0 / x;
    let y = z * z;
    let series = z * (0.0833333333 - y * (0.00277777778 - y * (0.000793650794 - y * 0.000595238095)));
    return (x - 0.5) * (lp_log(x) - 1.0) + (0.418938533 + series);
}

// The standard normal quantile of 1/2 + q, |q| <= 0.425; relative error below 4e-7.
fn lp_ndtri_centre(q: f32) -> f32 {
    // Wichura's PPND7 (AS 241).
    let r = 0.180625 - q * q;
    let numerator = 3.3871327179 + r * (50.434271938 + r * (159.29113202 + r * 59.109374720));
    return q * (numerator / (1.0 + r * (17.895169469 + r * (78.757757664 + r * 67.187563600))));
}

// Minus the standard normal quantile of p, p <= 0.075; relative error below 3e-7.
fn lp_ndtri_tail(p: f32) -> f32 {
    // The leading term of the tail, less a tame function of t that is small beside it.
    let w = sqrt(-2.0 * lp_log(p));
    let t = (w - 4.0) / (w + 4.0);
    let c = 0.169737988 + t * (-0.14100726 + t * (0.10845017 + t * (-0.10091232 + t * (0.0763046645 - t * 0.0378376041))));
    return w - (0.598807339 + t * (-0.747169649 + t * (0.342689442 + t * (-0.26067968 + t * c))));
}

// The standard normal quantile of a signed tail probability (see prior.wgsl): p if t > 0, 1 - |t| if t < 0.
fn lp_ndtri(t: vec2<f32>) -> f32 {
    let p = abs(t.x);
    // |t| without its low part would lose the digits of values near the median.
    let q = lp_opaque(0.5 - p) - sign(t.x) * t.y;
    let z = select(-lp_ndtri_tail(min(p, 0.075)), -lp_ndtri_centre(q), p > 0.075);
    return sign(t.x) * z;
}

// The standard normal quantile of p in (0, 1), infinite at its ends, NaN outside; relative error below 4e-7.
fn ndtri(p: f32) -> f32 {
    if (!(p >= 0.0 && p <= 1.0)) {
        return lp_nan();
    }
    if (p == 0.0 || p == 1.0) {
        return select(lp_infinity(), reject(), p == 0.0);
    }
    return lp_ndtri(vec2<f32>(select(-(1.0 - p), p, p <= 0.5), 0.0));
}

// log of the normal density at x, with its normalisation; absolute error below 4e-7 (1 + |value|), NaN unless sd > 0.
fn normal_log_pdf(x: f32, mean: f32, sd: f32) -> f32 {
    let z = (x - mean) / sd;
    return -0.5 * z * z - (lp_log(sd) + 0.918938533);
}

// (k, x - k period) with the integer k nearest to x / period, for |k| < 2^22; the period comes as a df.
fn lp_remainder(x: f32, period: vec2<f32>) -> vec2<f32> {
    let k = floor(x / period.x + 0.5);
    let p = two_prod(k, period.x);
    return vec2<f32>(k, lp_opaque(lp_opaque(x - p.x) - p.y) - k * period.y);
}

// (cos x, sin x) for |x| < 1e6; absolute error below 2e-7, that of the sine near 0 relative.
fn lp_cos_sin(x: f32) -> vec2<f32> {
    let reduced = lp_remainder(x, vec2<f32>(1.57079637, -4.37113883e-8));
    let r = reduced.y;
    let z = r * r;
    let s = r + r * z * (-0.16666654611 + z * (8.3321608736e-3 - z * 1.9515295891e-4));
    let c = 1.0 - 0.5 * z + z * z * (0.04166664568 + z * (-1.38873162549e-3 + z * 2.44331571181e-5));
    switch i32(reduced.x) & 3 {
        case 0: { return vec2<f32>(c, s); }
        case 1: { return vec2<f32>(-s, c); }
        case 2: { return vec2<f32>(-c, -s); }
        default: { return vec2<f32>(s, -c); }
    }
}
