// Multiply-adds in registers: eight vec4 that do not wait for each other, 32 steps of each in a turn of the loop.

@group(0) @binding(0) var<storage, read_write> sums: array<vec4<f32>>;
// Factor and addend, which the compiler does not know.
@group(0) @binding(1) var<storage, read_write> known: array<vec4<f32>>;

const TURNS: u32 = 64u;

fn four(x: vec4<f32>, factor: vec4<f32>, addend: vec4<f32>) -> vec4<f32> {
    return fma(fma(fma(fma(x, factor, addend), factor, addend), factor, addend), factor, addend);
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let factor = known[0];
    let addend = known[1];
    var x0 = vec4<f32>(0.0);
    var x1 = vec4<f32>(1.0);
    var x2 = vec4<f32>(2.0);
    var x3 = vec4<f32>(3.0);
    var x4 = vec4<f32>(4.0);
    var x5 = vec4<f32>(5.0);
    var x6 = vec4<f32>(6.0);
    var x7 = vec4<f32>(7.0);
    for (var turn = 0u; turn < TURNS; turn++) {
        x0 = four(x0, factor, addend);
        x1 = four(x1, factor, addend);
        x2 = four(x2, factor, addend);
        x3 = four(x3, factor, addend);
        x4 = four(x4, factor, addend);
        x5 = four(x5, factor, addend);
        x6 = four(x6, factor, addend);
        x7 = four(x7, factor, addend);
    }
    sums[id.x] = x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7;
}
