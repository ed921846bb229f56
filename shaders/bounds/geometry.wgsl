// Bounds on the device: positions, ellipsoids, and whether a bound holds a position.
//
// A coordinate of the unit cube is a fixed-point number of 64 bits, of which the last eleven are zero: x = hi 2^-32 + lo 2^-64. It is the
// f64 of the host to the last bit, differences are exact before they become f32, and what is periodic wraps by itself.
//
// Before this text stand LP_DIM, LP_DIM4 (a quarter of it, rounded up), LP_ELLIPSOID (vec4s of an ellipsoid), LP_CLUSTER (of a cluster), LP_NET_IN (of what
// a network sees), LP_NET_TILE (rows of a workgroup that asks networks), and the bindings.

alias LpPoint = array<vec2<u32>, LP_DIM>;

const LP_NONE: u32 = 0xffffffffu;

fn lp_fixed_less(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x < b.x || (a.x == b.x && a.y < b.y);
}

fn lp_fixed_add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let lo = a.y + b.y;
    return vec2<u32>(a.x + b.x + select(0u, 1u, lo < a.y), lo);
}

fn lp_fixed_sub(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x - select(0u, 1u, a.y < b.y), a.y - b.y);
}

fn lp_fixed_to_f32(a: vec2<u32>) -> f32 {
    return f32(a.x) * 2.3283064365386963e-10 + f32(a.y) * 5.421010862427522e-20;
}

// a in [0, 1), whose bits all have a place.
fn lp_fixed_from_f32(a: f32) -> vec2<u32> {
    let scaled = a * 4294967296.0;
    let hi = floor(scaled);
    return vec2<u32>(u32(hi), u32((scaled - hi) * 4294967296.0));
}

// a - b as a number between -1 and 1; relative error below 2^-23.
fn lp_difference(a: vec2<u32>, b: vec2<u32>) -> f32 {
    if (lp_fixed_less(a, b)) {
        return -lp_fixed_to_f32(lp_fixed_sub(b, a));
    }
    return lp_fixed_to_f32(lp_fixed_sub(a, b));
}

fn lp_real(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(lp_bound[at]);
}

// An ellipsoid over k of the dimensions times the full range over the others. Its record: (k, 0, 0, 0); its dimensions, those of the
// cube behind them; centre, two coordinates in each vec4; half-widths of the box around it; rows of the inverse, then rows of the factor, LP_DIM4 each.
const LP_AT_DIMS: u32 = 1u;
const LP_AT_CENTRE: u32 = LP_AT_DIMS + LP_DIM4;
const LP_AT_BOX: u32 = LP_AT_CENTRE + (LP_DIM + 1u) / 2u;
const LP_AT_INVERSE: u32 = LP_AT_BOX + LP_DIM4;
const LP_AT_FACTOR: u32 = LP_AT_INVERSE + LP_DIM * LP_DIM4;

fn lp_dim(ellipsoid: u32, j: u32) -> u32 {
    return lp_bound[ellipsoid + LP_AT_DIMS + j / 4u][j % 4u];
}

fn lp_centre(ellipsoid: u32, j: u32) -> vec2<u32> {
    let both = lp_bound[ellipsoid + LP_AT_CENTRE + j / 2u];
    return select(both.xy, both.zw, j % 2u == 1u);
}

// Whether x lies in the ellipsoid; z becomes its place in the frame, |z| <= 1 inside, as far as that was needed.
fn lp_in_ellipsoid(ellipsoid: u32, x: ptr<function, LpPoint>, z: ptr<function, array<f32, LP_DIM>>) -> bool {
    let k = lp_bound[ellipsoid].x;
    var delta: array<vec4<f32>, LP_DIM4>;
    for (var j = 0u; j < k; j++) {
        let value = lp_difference((*x)[lp_dim(ellipsoid, j)], lp_centre(ellipsoid, j));
        if (abs(value) > lp_real(ellipsoid + LP_AT_BOX + j / 4u)[j % 4u]) {
            return false;
        }
        delta[j / 4u][j % 4u] = value;
    }
    var norm = 0.0;
    for (var i = 0u; i < k; i++) {
        let row = ellipsoid + LP_AT_INVERSE + i * LP_DIM4;
        var sum = 0.0;
        for (var q = 0u; q <= i / 4u; q++) {
            sum += dot(lp_real(row + q), delta[q]);
        }
        norm += sum * sum;
        if (norm > 1.0) {
            return false;
        }
        (*z)[i] = sum;
    }
    return true;
}

// The bound: (members, clusters, periodic dimensions, whether it is the cube), then where in it they begin, and the cumulated shares of the members.

fn lp_shifted(x: ptr<function, LpPoint>, forth: bool) {
    let at = lp_bound[1].z;
    for (var k = 0u; k < lp_bound[0].z; k++) {
        let shift = lp_bound[at + k];
        let dim = shift.x;
        if (forth) {
            (*x)[dim] = lp_fixed_sub((*x)[dim], shift.yz);
        } else {
            (*x)[dim] = lp_fixed_add((*x)[dim], shift.yz);
        }
    }
}

// The first member that holds x, a shifted point; LP_NONE where none does.
fn lp_cell(x: ptr<function, LpPoint>) -> u32 {
    var z: array<f32, LP_DIM>;
    let at = lp_bound[1].x;
    for (var member = 0u; member < lp_bound[0].x; member++) {
        if (lp_in_ellipsoid(at + member * LP_ELLIPSOID, x, &z)) {
            return member;
        }
    }
    return LP_NONE;
}

// The quadratic surface of an emulator at a place z of the frame; kind 1 has squares, 2 all products.
fn lp_surface(at: u32, kind: u32, z: ptr<function, array<f32, LP_DIM>>) -> f32 {
    var term = 0u;
    var sum = lp_real(at)[0];
    for (var i = 0u; i < LP_DIM; i++) {
        let a = (*z)[i];
        sum += lp_real(at + (term + 1u) / 4u)[(term + 1u) % 4u] * a;
        sum += lp_real(at + (term + 2u) / 4u)[(term + 2u) % 4u] * a * a;
        term += 2u;
        if (kind == 2u) {
            for (var j = 0u; j < i; j++) {
                term += 1u;
                sum += lp_real(at + term / 4u)[term % 4u] * a * (*z)[j];
            }
        }
    }
    return sum;
}

// What the networks see of x: its place in the frame, the surface there held within bounds, and 1.
// `cluster`: its ellipsoid, then (surface kind, surface, weights, thresholds), then (mean, deviation, has networks, 0).
fn lp_features(cluster: u32, x: ptr<function, LpPoint>, z: ptr<function, array<f32, LP_DIM>>) -> array<vec4<f32>, LP_NET_IN> {
    let k = lp_bound[cluster].x;
    // The places of the ellipsoid go to their dimensions; these ascend, so from the last one down nothing is lost.
    for (var j = k; j > 0u; j--) {
        (*z)[lp_dim(cluster, j - 1u)] = (*z)[j - 1u];
    }
    for (var j = k; j < LP_DIM; j++) {
        let dim = lp_dim(cluster, j);
        (*z)[dim] = 2.0 * lp_fixed_to_f32((*x)[dim]) - 1.0;
    }
    let about = lp_bound[cluster + LP_ELLIPSOID];
    var value = 0.0;
    if (about.x > 0u) {
        value = clamp(lp_surface(about.y, about.x, z), -1e9, 1e9);
    }
    let scale = sqrt(f32(LP_DIM) + 3.0);
    var features: array<vec4<f32>, LP_NET_IN>;
    for (var dim = 0u; dim < LP_DIM; dim++) {
        features[dim / 4u][dim % 4u] = scale * (*z)[dim];
    }
    let room = 2.0 / sqrt(f32(LP_DIM) + 2.0);
    features[LP_DIM / 4u][LP_DIM % 4u] = scale * room * value / sqrt(1.0 + value * value);
    features[(LP_DIM + 1u) / 4u][(LP_DIM + 1u) % 4u] = 1.0;
    return features;
}
