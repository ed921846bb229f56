// Error-free transforms of f32, and arithmetic on unevaluated sums of two f32 ("df": high part in x, low part in y).
//
// A df carries about 48 bits. Results hold for finite numbers, while no partial product falls below 2^-126: some
// devices flush those to zero. Every intermediate goes through `lp_opaque`, as a compiler may otherwise simplify
// (a + b) - a to b, or fuse a product into a sum.

// (s, e) with s = fl(a + b) and s + e = a + b exactly, for sums below 2^127.
fn two_sum(a: f32, b: f32) -> vec2<f32> {
    // The arguments too: a product in the caller, fused into one of the sums, would be two different numbers.
    let x = lp_opaque(a);
    let y = lp_opaque(b);
    let s = lp_opaque(x + y);
    let y_seen = lp_opaque(s - x);
    let x_seen = lp_opaque(s - y_seen);
    let x_lost = lp_opaque(x - x_seen);
    let y_lost = lp_opaque(y - y_seen);
    return vec2<f32>(s, lp_opaque(x_lost + y_lost));
}

// As `two_sum`, for |a| >= |b| or a = 0.
fn lp_quick_two_sum(a: f32, b: f32) -> vec2<f32> {
    let x = lp_opaque(a);
    let y = lp_opaque(b);
    let s = lp_opaque(x + y);
    let y_seen = lp_opaque(s - x);
    return vec2<f32>(s, lp_opaque(y - y_seen));
}

// The leading 12 bits of `a`, and the rest: products of two such halves are exact.
fn lp_split(a: f32) -> vec2<f32> {
    // Cut by bits: unlike the multiplication of Dekker's split, this cannot overflow or be optimised.
    let high = bitcast<f32>((bitcast<u32>(a) & 0xfffff000u) ^ lp_zero);
    return vec2<f32>(high, lp_opaque(a - high));
}

// (p, e) with p = fl(a b) and p + e = a b exactly, for |a| and |b| from 2^-102, |a b| from 2^-78 to 2^127; below that
// e may be cut short.
fn two_prod(a: f32, b: f32) -> vec2<f32> {
    let x = lp_opaque(a);
    let y = lp_opaque(b);
    let p = lp_opaque(x * y);
    let u = lp_split(x);
    let v = lp_split(y);
    // Each line is exact, so a fused multiply-add in it changes nothing.
    let e1 = lp_opaque(u.x * v.x - p);
    let e2 = lp_opaque(u.x * v.y + e1);
    let e3 = lp_opaque(u.y * v.x + e2);
    return vec2<f32>(p, lp_opaque(u.y * v.y + e3));
}

// `a` as a df; exact.
fn df_from(a: f32) -> vec2<f32> {
    return vec2<f32>(a, 0.0);
}

// a + b; relative error below 2^-46, cancellation included.
fn df_add(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let high = two_sum(a.x, b.x);
    let low = two_sum(a.y, b.y);
    let sum = lp_quick_two_sum(high.x, high.y + low.x);
    return lp_quick_two_sum(sum.x, sum.y + low.y);
}

// a - b; relative error below 2^-46, cancellation included.
fn df_sub(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    return df_add(a, -b);
}

// a b; relative error below 2^-44.
fn df_mul(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let p = two_prod(a.x, b.x);
    return lp_quick_two_sum(p.x, p.y + lp_opaque(a.x * b.y + a.y * b.x));
}

// a b for a plain factor; relative error below 2^-44.
fn df_scale(a: vec2<f32>, b: f32) -> vec2<f32> {
    let p = two_prod(a.x, b);
    return lp_quick_two_sum(p.x, p.y + lp_opaque(a.y * b));
}

// a / b; relative error below 2^-44.
fn df_div(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    // Three digits of the quotient, each from what the ones before left over: a device's `/` may be units off.
    let q1 = lp_opaque(a.x / b.x);
    let r1 = df_sub(a, df_scale(b, q1));
    let q2 = lp_opaque(r1.x / b.x);
    let r2 = df_sub(r1, df_scale(b, q2));
    return df_add(lp_quick_two_sum(q1, q2), df_from(r2.x / b.x));
}

// The square root, 0 for a <= 0; relative error below 2^-44.
fn df_sqrt(a: vec2<f32>) -> vec2<f32> {
    if (a.x <= 0.0) {
        return vec2<f32>();
    }
    // Two Newton steps, as a device's `sqrt` may be units off.
    let s = lp_opaque(sqrt(a.x));
    let s1 = lp_quick_two_sum(s, df_sub(a, two_prod(s, s)).x / (2.0 * s));
    return df_add(s1, df_from(df_sub(a, df_mul(s1, s1)).x / (2.0 * s)));
}
