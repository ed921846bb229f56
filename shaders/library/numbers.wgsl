// Tests and values of f32 that a compiler may not reason away: NaN, the infinities, and a zero it cannot see through.

// Zero at run time. The entry point sets it from a uniform that the host fills with 0, before anything else is called.
//
// Shader compilers may assume that no NaN and no infinity occurs, and may reassociate: a value whose bits went through
// `^ lp_zero` is, to them, an unknown number.
var<private> lp_zero: u32;

fn lp_opaque(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) ^ lp_zero);
}

fn lp_magnitude_bits(x: f32) -> u32 {
    return (bitcast<u32>(x) ^ lp_zero) & 0x7fffffffu;
}

// True for NaN, tested by its bits (`x != x` may be compiled to `false`).
fn is_nan(x: f32) -> bool {
    return lp_magnitude_bits(x) > 0x7f800000u;
}

// True for both infinities, tested by their bits.
fn is_inf(x: f32) -> bool {
    return lp_magnitude_bits(x) == 0x7f800000u;
}

// True for all but NaN and the infinities, tested by their bits.
fn is_finite(x: f32) -> bool {
    return lp_magnitude_bits(x) < 0x7f800000u;
}

// Minus infinity: the log-likelihood of an impossible point. (WGSL has no literal for it.)
fn reject() -> f32 {
    return bitcast<f32>(0xff800000u ^ lp_zero);
}

fn lp_infinity() -> f32 {
    return bitcast<f32>(0x7f800000u ^ lp_zero);
}

fn lp_nan() -> f32 {
    return bitcast<f32>(0x7fc00000u ^ lp_zero);
}

// Minus infinity by its bits.
fn lp_is_reject(x: f32) -> bool {
    return (bitcast<u32>(x) ^ lp_zero) == 0xff800000u;
}
