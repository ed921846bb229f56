// Streaming sums that keep their digits: compensated, pairwise, and of exponentials. A `var` of each starts empty.

// A compensated sum (Neumaier): high + low is the sum.
struct Sum {
    high: f32,
    low: f32,
}

// Adds x, any number; an infinity stays.
fn sum_add(sum: ptr<function, Sum>, x: f32) {
    let s = two_sum((*sum).high, x);
    (*sum).high = s.x;
    (*sum).low += s.y;
}

// The sum; error below one rounding, plus (n 6e-8)^2 of the sum of |x|.
fn sum_value(sum: Sum) -> f32 {
    // Past an infinity the low part is NaN.
    return select(sum.high, sum.high + sum.low, is_finite(sum.high));
}

// The sum as a df (see double.wgsl): its rounding to f32, and what that lost.
fn sum_pair(sum: Sum) -> vec2<f32> {
    if (!is_finite(sum.high)) {
        return vec2<f32>(sum.high, 0.0);
    }
    return two_sum(sum.high, sum.low);
}

// A pairwise sum: partial i holds the sum of a run of 2^i terms, or 0.
struct PairwiseSum {
    partial: array<f32, 24>,
    count: u32,
}

// Adds x, any number; an infinity stays. Two additions and a short loop, on average.
fn pairwise_add(sum: ptr<function, PairwiseSum>, x: f32) {
    // A binary counter: each set bit carries into the next.
    var carry = x;
    var i = 0u;
    while (i < 23u && (((*sum).count >> i) & 1u) == 1u) {
        carry += (*sum).partial[i];
        (*sum).partial[i] = 0.0;
        i++;
    }
    (*sum).partial[i] += carry;
    (*sum).count++;
}

// The sum; error below log2(n) 6e-8 of the sum of |x|, for up to 2^24 terms (plain summing beyond). Slower than `Sum`.
fn pairwise_value(sum: PairwiseSum) -> f32 {
    var copy = sum;
    var value = 0.0;
    for (var i = 0u; i < 24u; i++) {
        value += copy.partial[i];
    }
    return value;
}

// A sum of exponentials in logarithms: e^shift (scaled.high + scaled.low).
struct LogSumExp {
    scaled: Sum,
    shift: f32,
    count: u32,
}

// Adds e^x; x may be -inf, and NaN stays.
fn log_sum_exp_add(sum: ptr<function, LogSumExp>, x: f32) {
    if (lp_is_reject(x)) {
        return;
    }
    var scaled = (*sum).scaled;
    if ((*sum).count == 0u) {
        (*sum).shift = x;
    } else if (x > (*sum).shift + 1.0) {
        // Only for a rise by more than 1: each change of the shift costs a rounding of the whole sum.
        let factor = lp_exp((*sum).shift - x);
        scaled = Sum(scaled.high * factor, scaled.low * factor);
        (*sum).shift = x;
    }
    sum_add(&scaled, lp_exp(x - (*sum).shift));
    (*sum).scaled = scaled;
    (*sum).count++;
}

// log(sum of e^x), -inf for an empty sum; absolute error below 2e-7, beside the rounding of the result.
fn log_sum_exp_value(sum: LogSumExp) -> f32 {
    if (sum.count == 0u) {
        return reject();
    }
    return sum.shift + lp_log(sum_value(sum.scaled));
}

// log(e^a + e^b), either or both -inf, NaN stays; absolute error below 2e-7, beside the rounding of the result.
fn log_add_exp(a: f32, b: f32) -> f32 {
    if (lp_is_reject(a)) {
        return b;
    }
    if (lp_is_reject(b)) {
        return a;
    }
    return max(a, b) + log1p(lp_exp(-abs(a - b)));
}
