// Random weights (Glorot & Bengio 2010), the same as the host's of the same stream: one invocation for each vec4, by integers alone.

@group(0) @binding(0) var<storage, read> lp_keys: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> lp_weights: array<vec4<f32>>;

// A number in (-bound, bound) from the 53 upper bits of two words, for bound = `bound` 2^(exponent - 32), `bound` from 2^31 on; to one unit of the last place.
fn lp_symmetric(high: u32, low: u32, bound: u32, exponent: i32) -> f32 {
    // 2 u - 1 is symmetric: u's bits below 1/2, turned over, are those above. Its size in units of 2^-63, the middle of the draw's cell:
    let flip = select(0xffffffffu, 0u, (high >> 31u) == 1u);
    let upper = (high ^ flip) & 0x7fffffffu;
    let lower = ((low ^ flip) & 0xfffff800u) | 0x400u;
    let zeros = select(countLeadingZeros(upper), 32u + countLeadingZeros(lower), upper == 0u);
    // The 32 bits from the first 1 on.
    var top = lower << (zeros & 31u);
    if zeros < 32u {
        top = (upper << zeros) | (lower >> (32u - zeros));
    }
    var product = lp_wide_product(top, bound).x;
    var power = exponent - i32(zeros);
    if product < 0x80000000u {
        product = product << 1u;
        power -= 1;
    }
    // Rounding may carry into the exponent, as it should.
    let bits = (u32(power + 127) << 23u) + ((product & 0x7fffffffu) >> 8u) + ((product >> 7u) & 1u);
    return bitcast<f32>(bits | (flip & 0x80000000u));
}

@compute @workgroup_size(64)
fn lp_main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = group.x * 64u + local;
    if at >= LP_NET_WEIGHTS {
        return;
    }
    let layer = lp_layer_at(at);
    let row = (at - layer.start) / layer.width;
    let first = 4u * ((at - layer.start) % layer.width);
    var weights = vec4<f32>();
    for (var k = 0u; k < 4u; k++) {
        if first + k <= layer.n_in {
            let draw = layer.draws + row * (layer.n_in + 1u) + first + k;
            let words = lp_philox(vec4<u32>(draw / 2u, 0u, 0u, 0u), lp_keys[group.y]);
            let pair = select(words.xy, words.zw, draw % 2u == 1u);
            weights[k] = lp_symmetric(pair.x, pair.y, layer.bound, layer.exponent);
        }
    }
    lp_weights[group.y * LP_NET_WEIGHTS + at] = weights;
}
