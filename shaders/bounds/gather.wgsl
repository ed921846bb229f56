// Rows that lie somewhere on the device, taken to where they are worked on.

const LP_NONE: u32 = 0xffffffffu;

// The two parts of the tail probability of a coordinate, negative for the upper half, as they travel to a likelihood. Each is exact: the leading 24 bits and the
// next.
fn lp_tail(x: vec2<u32>) -> vec2<f32> {
    var v = x;
    var side = 1.0;
    if (x.x > 0x80000000u || (x.x == 0x80000000u && x.y > 0u)) {
        side = -1.0;
        let low = 0u - x.y;
        v = vec2<u32>(select(~x.x, 0u - x.x, x.y == 0u), low);
    }
    var shift = countLeadingZeros(v.x);
    if (v.x == 0u) {
        shift = 32u + countLeadingZeros(v.y);
    }
    // Normalised: the leading bit first.
    if (shift >= 32u) {
        v = vec2<u32>(v.y, 0u);
    }
    let bits = shift % 32u;
    if (bits > 0u) {
        v = vec2<u32>((v.x << bits) | (v.y >> (32u - bits)), v.y << bits);
    }
    let high = f32(v.x >> 8u);
    let low = f32(((v.x & 0xffu) << 16u) | (v.y >> 16u));
    let scale = side * lp_power_of_two(-24 - i32(shift));
    return vec2<f32>(high * scale, low * scale * 5.9604644775390625e-8);
}

// Rows of the ring to a batch: as they travel, one coordinate after the other, and as positions, one row after the other.
@compute @workgroup_size(64)
fn lp_gather(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    lp_zero = lp_step.zero;
    let row = id.x * 64u + local;
    if (row >= lp_step.n) {
        return;
    }
    let slot = lp_numbers[row];
    for (var dim = 0u; dim < LP_DIM; dim++) {
        let x = lp_from[slot * LP_DIM + dim];
        lp_to[row * LP_DIM + dim] = x;
        lp_tails[dim * lp_step.n + row] = lp_tail(x);
    }
}
