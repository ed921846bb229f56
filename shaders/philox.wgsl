// The random words of streams, as the host makes them: Philox4x32-10 (Salmon et al. 2011).

// High and low word of a product of two words, by halves: WGSL has no 64-bit integers.
fn lp_wide_product(a: u32, b: u32) -> vec2<u32> {
    let a_low = a & 0xffffu;
    let a_high = a >> 16u;
    let b_low = b & 0xffffu;
    let b_high = b >> 16u;
    let cross = a_high * b_low + ((a_low * b_low) >> 16u);
    let rest = a_low * b_high + (cross & 0xffffu);
    return vec2<u32>(a_high * b_high + (cross >> 16u) + (rest >> 16u), a * b);
}

// One block of four words from a counter and a key.
fn lp_philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round++) {
        let p = lp_wide_product(0xd2511f53u, c.x);
        let q = lp_wide_product(0xcd9e8d57u, c.z);
        c = vec4<u32>(q.x ^ c.y ^ k.x, q.y, p.x ^ c.w ^ k.y, p.y);
        k += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}
