// Draws from a bound: one invocation for each.

// The words of one draw of a stream, one after the other, as on the host.
struct LpDraw {
    key: vec2<u32>,
    counter: vec4<u32>,
    words: vec4<u32>,
    used: u32,
    spare: f32,
    has_spare: bool,
    // The last bits of the words, which no number uses.
    rest: u32,
}

fn lp_word(draw: ptr<function, LpDraw>) -> u32 {
    if ((*draw).used == 4u) {
        (*draw).words = lp_philox((*draw).counter, (*draw).key);
        (*draw).counter.x += 1u;
        (*draw).used = 0u;
    }
    (*draw).used += 1u;
    return (*draw).words[(*draw).used - 1u];
}

// 53 bits, as a coordinate.
fn lp_uniform_fixed(draw: ptr<function, LpDraw>) -> vec2<u32> {
    let high = lp_word(draw);
    let low = lp_word(draw);
    (*draw).rest = ((*draw).rest << 11u) ^ ((*draw).rest >> 21u) ^ (low & 0x7ffu);
    return vec2<u32>(high, low & 0xfffff800u);
}

// Above 0; it may round to 1.
fn lp_uniform_f32(draw: ptr<function, LpDraw>) -> f32 {
    return max(lp_fixed_to_f32(lp_uniform_fixed(draw)), 5.5511151231257827e-17);
}

fn lp_normal_draw(draw: ptr<function, LpDraw>) -> f32 {
    if ((*draw).has_spare) {
        (*draw).has_spare = false;
        return (*draw).spare;
    }
    let radius = sqrt(max(-2.0 * lp_log(lp_uniform_f32(draw)), 0.0));
    let turn = lp_cos_sin(6.2831853 * lp_uniform_f32(draw));
    (*draw).spare = radius * turn.y;
    (*draw).has_spare = true;
    return radius * turn.x;
}

// centre + offset in the unit cube; x.x tells whether it lies inside.
fn lp_moved(centre: vec2<u32>, offset: f32, dither: u32, moved: ptr<function, vec2<u32>>) -> bool {
    let size = abs(offset);
    if (!(size < 1.0)) {
        return false;
    }
    // Between two numbers of f32 all places are as likely.
    let ulp = max(i32(bitcast<u32>(size) >> 23u) - 127 - 23, -76);
    let step = lp_fixed_add(lp_fixed_from_f32(size), lp_fixed_from_f32(f32(dither & 0x7ffu) * lp_power_of_two(ulp - 11)));
    var out: vec2<u32>;
    var inside: bool;
    if (offset < 0.0) {
        out = lp_fixed_sub(centre, step);
        inside = lp_fixed_less(step, centre);
    } else {
        out = lp_fixed_add(centre, step);
        inside = !lp_fixed_less(out, centre);
    }
    out.y &= 0xfffff800u;
    *moved = out;
    return inside && (out.x | out.y) != 0u;
}

// A point of the member, which reaches a little beyond its border; whether it lies in the cube.
fn lp_draw_from(ellipsoid: u32, draw: ptr<function, LpDraw>, x: ptr<function, LpPoint>) -> bool {
    let k = lp_bound[ellipsoid].x;
    var inside = true;
    if (k > 0u) {
        var z: array<vec4<f32>, LP_DIM4>;
        var norm = 0.0;
        for (var j = 0u; j < k; j++) {
            let value = lp_normal_draw(draw);
            z[j / 4u][j % 4u] = value;
            norm += value * value;
        }
        let radius = lp_exp(lp_log(lp_uniform_f32(draw)) / f32(k)) / sqrt(norm);
        for (var i = 0u; i < k; i++) {
            let row = ellipsoid + LP_AT_FACTOR + i * LP_DIM4;
            var offset = 0.0;
            for (var q = 0u; q <= i / 4u; q++) {
                offset += dot(lp_real(row + q), z[q]);
            }
            let dither = ((*draw).rest ^ (i * 0x9E3779B9u)) >> 7u;
            var moved: vec2<u32>;
            inside = lp_moved(lp_centre(ellipsoid, i), offset * radius, dither, &moved) && inside;
            (*x)[lp_dim(ellipsoid, i)] = moved;
        }
    }
    for (var j = k; j < LP_DIM; j++) {
        let value = lp_uniform_fixed(draw);
        inside = inside && (value.x | value.y) != 0u;
        (*x)[lp_dim(ellipsoid, j)] = value;
    }
    return inside;
}

// Two vec4s for each workgroup: (key, first draw), (cell or LP_NONE, draws, counts, bound).
@compute @workgroup_size(64)
fn lp_draw(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    lp_zero = lp_step.zero;
    let group = lp_step.first + id.x;
    let row = group * 64u + local;
    let start = lp_groups[2u * group];
    let about = lp_groups[2u * group + 1u];
    lp_status[row] = vec4<u32>(LP_NONE, LP_NONE, LP_NONE, group);
    if (local >= about.y) {
        return;
    }
    let low = start.z + local;
    var draw: LpDraw;
    draw.key = start.xy;
    draw.counter = vec4<u32>(0u, low, start.w + select(0u, 1u, low < start.z), 0u);
    draw.used = 4u;
    var member = about.x;
    if (member == LP_NONE) {
        member = 0u;
        let n = lp_bound[0].x;
        if (n > 1u) {
            let pick = lp_uniform_f32(&draw);
            let shares = lp_bound[1].w;
            while (member < n - 1u && lp_real(shares + member / 4u)[member % 4u] < pick) {
                member++;
            }
        }
    }
    var x: LpPoint;
    let inside = lp_draw_from(lp_bound[1].x + member * LP_ELLIPSOID, &draw, &x);
    atomicAdd(&lp_counts[about.z + 4u * member], 1u);
    // The member's cell: the one test that all rows are told by says so, not the draw.
    if (!inside || lp_cell(&x) != member) {
        return;
    }
    atomicAdd(&lp_counts[about.z + 4u * member + 1u], 1u);
    lp_shifted(&x, false);
    for (var dim = 0u; dim < LP_DIM; dim++) {
        lp_x[dim * lp_step.capacity + row] = x[dim];
    }
    lp_status[row].x = member;
}
