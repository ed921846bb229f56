//! The WGSL library: valid for every backend without a device, and its numbers against f64 on one.
use std::f64::consts::{FRAC_1_SQRT_2, PI, TAU};

use livepoint::Prior;
use livepoint::testing::internals::{generated, library};
use ndarray::ArrayView2;
use statrs::function::{erf as reference_erf, gamma::ln_gamma};

use super::reference;
use super::rig::{NO_TABLES, Rig, Tables};

const PRIOR: &str = include_str!("../../shaders/prior.wgsl");

/// Every check of this file.
pub const CASES: &[super::Case<Rig>] = &[
    ("nan_and_infinities_are_told_by_their_bits", nan_and_infinities_are_told_by_their_bits),
    ("error_free_transforms_are_exact", error_free_transforms_are_exact),
    ("double_floats_keep_44_bits", double_floats_keep_44_bits),
    ("special_functions_hold_their_relative_errors", special_functions_hold_their_relative_errors),
    ("special_functions_keep_their_limits", special_functions_keep_their_limits),
    ("the_normal_density_is_normalised", the_normal_density_is_normalised),
    ("compensated_sums_survive_cancellation", compensated_sums_survive_cancellation),
    ("a_sum_declared_in_a_loop_starts_empty", a_sum_declared_in_a_loop_starts_empty),
    ("pairwise_sums_lose_few_digits", pairwise_sums_lose_few_digits),
    ("sums_of_exponentials_are_right_in_any_order", sums_of_exponentials_are_right_in_any_order),
    ("kepler_s_equation_is_solved", kepler_s_equation_is_solved),
    ("quantiles_hold_in_both_tails", quantiles_hold_in_both_tails),
    ("a_generated_table_interpolates", a_generated_table_interpolates),
    ("a_generated_covariance_whitens", a_generated_covariance_whitens),
];

/// One rounding to f32.
const ROUNDING: f64 = f32::EPSILON as f64 / 2.0;
/// Functions: a handful of roundings, and divisions, which WGSL lets be 2.5 units off.
const FUNCTION: f64 = 6e-7;
/// erfc multiplies an exponential by two quotients.
const TAIL: f64 = 8e-7;
/// lgamma subtracts logarithms of like size around x = 1.5.
const LGAMMA: f64 = 1e-6;
/// Four low-order terms that are dropped or rounded at 2^-48.
const DOUBLE_FLOAT: f64 = 5.684e-14; // 2^-44
/// E is ill-conditioned in the rounding of E - e sin E by up to 1 / (1 - e cos E).
const ECCENTRIC_ANOMALY: f64 = 3e-6;
/// Quantiles: of the value's natural size.
const QUANTILE: f64 = 1e-6;
/// Uniform quantiles are double-floats.
const UNIFORM: f64 = 1e-13;
/// Solving with the factor is a sum of 24 rounded products per row, of like size.
const SOLVE: f64 = 5e-6;

fn run(rig: &Rig, body: &str, inputs: &[[f32; 4]], tables: Tables) -> Vec<[f32; 2]> {
    let text = format!("{}\n{PRIOR}\nfn f(x: vec4<f32>) -> vec2<f32> {{ {body} }}", library::text());
    rig.map(&text, inputs, tables)
}

/// Runs a function of one number.
fn run_unary(rig: &Rig, expression: &str, xs: &[f32]) -> Vec<f32> {
    let inputs: Vec<[f32; 4]> = xs.iter().map(|&x| [x, 0.0, 0.0, 0.0]).collect();
    let values = run(rig, &format!("return vec2<f32>({expression}, 0.0);"), &inputs, NO_TABLES);
    values.iter().map(|value| value[0]).collect()
}

/// Asserts that `error` stays below the tolerance; prints the worst for `--nocapture`.
fn assert_below(name: &str, tolerance: f64, errors: impl IntoIterator<Item = (String, f64)>) {
    let key = |error: f64| if error.is_nan() { f64::INFINITY } else { error };
    let (place, worst) = errors.into_iter().max_by(|a, b| key(a.1).total_cmp(&key(b.1))).expect("at least one case");
    println!("{name}: {worst:.2e} at {place}");
    assert!(worst <= tolerance, "{name}: error {worst:e} at {place}, above {tolerance:e}");
}

/// Holds a function of one number to its relative error.
fn assert_relative(rig: &Rig, expression: &str, tolerance: f64, xs: &[f32], expected: impl Fn(f64) -> f64) {
    let errors = xs.iter().zip(run_unary(rig, expression, xs)).map(|(&x, value)| {
        let expected = expected(x.into());
        (format!("{x:e}"), (f64::from(value) - expected).abs() / expected.abs().max(f64::MIN_POSITIVE))
    });
    assert_below(expression, tolerance, errors);
}

/// A fixed stream of numbers in [0, 1).
fn stream(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Numbers from `low` to `high`, evenly.
fn grid(low: f64, high: f64, n: usize) -> impl Iterator<Item = f64> {
    (0..n).map(move |i| low + (high - low) * i as f64 / (n - 1) as f64)
}

fn linear(low: f64, high: f64) -> Vec<f32> {
    grid(low, high, 20_000).map(|x| x as f32).collect()
}

/// Numbers from 10^`low` to 10^`high`, evenly in the logarithm.
fn logarithmic(low: f64, high: f64) -> Vec<f32> {
    grid(low, high, 20_000).map(|x| 10_f64.powf(x) as f32).collect()
}

/// A random number with a binary exponent in the range, of either sign.
fn wide(random: &mut impl FnMut() -> f64, exponents: std::ops::Range<f64>) -> f64 {
    let magnitude = (exponents.start + (exponents.end - exponents.start) * random()).exp2();
    if random() < 0.5 { -magnitude } else { magnitude }
}

/// The double-float of a number.
fn split(x: f64) -> [f32; 2] {
    let high = x as f32;
    [high, (x - f64::from(high)) as f32]
}

fn join(x: [f32; 2]) -> f64 {
    f64::from(x[0]) + f64::from(x[1])
}

fn nan_and_infinities_are_told_by_their_bits(rig: &Rig) {
    let class = |x: f32| {
        if x.is_nan() {
            1.0
        } else if x.is_infinite() {
            2.0
        } else {
            4.0
        }
    };
    let xs: Vec<f32> =
        [0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0x7fff_ffff, 0x7f80_0000, 0xff80_0000, 0x7f7f_ffff, 0, 1]
            .map(f32::from_bits)
            .to_vec();
    let told = "select(0.0, 1.0, is_nan(x.x)) + select(0.0, 2.0, is_inf(x.x)) + select(0.0, 4.0, is_finite(x.x))";
    let expected: Vec<f32> = xs.iter().copied().map(class).collect();
    assert_eq!(run_unary(rig, told, &xs), expected);

    // Values that arise in the shader, where a compiler could assume them away.
    let xs = [f32::MAX, 1.0, f32::NEG_INFINITY];
    assert_eq!(run_unary(rig, "select(0.0, 1.0, is_inf(x.x * 2.0))", &xs), [1.0, 0.0, 1.0]);
    let sums = [[f32::INFINITY, f32::NEG_INFINITY, 0.0, 0.0], [f32::INFINITY, 1.0, 0.0, 0.0]];
    let told = run(rig, "return vec2<f32>(select(0.0, 1.0, is_nan(x.x + x.y)), 0.0);", &sums, NO_TABLES);
    assert_eq!(told, [[1.0, 0.0], [0.0, 0.0]]);
    assert_eq!(run_unary(rig, "reject()", &[0.0]), [f32::NEG_INFINITY]);
}

fn error_free_transforms_are_exact(rig: &Rig) {
    let mut random = stream(1);
    let sums: Vec<[f32; 4]> = (0..1 << 16)
        .map(|i| {
            // Half of the pairs within the reach of each other's digits.
            let a = wide(&mut random, -70.0..120.0);
            let b = if i % 2 == 0 { wide(&mut random, -70.0..120.0) } else { a * wide(&mut random, -30.0..1.0) };
            [a as f32, b as f32, 0.0, 0.0]
        })
        .collect();
    for ([a, b, ..], [s, e]) in sums.iter().zip(run(rig, "return two_sum(x.x, x.y);", &sums, NO_TABLES)) {
        let seen = (a + b) - a;
        let lost = (a - ((a + b) - seen)) + (b - seen);
        assert_eq!([s, e], [a + b, lost], "two_sum({a:e}, {b:e})");
    }

    let products: Vec<[f32; 4]> = (0..1 << 16)
        .map(|_| {
            let a = wide(&mut random, -100.0..120.0);
            [a as f32, (wide(&mut random, -76.0..126.0) / a) as f32, 0.0, 0.0]
        })
        // Halves of smaller factors are subnormal, which a device may flush to zero.
        .filter(|[_, b, ..]| (-101.0..127.0).contains(&b.abs().log2()))
        .collect();
    assert!(products.len() > 1 << 15);
    for ([a, b, ..], [p, e]) in products.iter().zip(run(rig, "return two_prod(x.x, x.y);", &products, NO_TABLES)) {
        let lost = (f64::from(*a) * f64::from(*b) - f64::from(a * b)) as f32;
        assert_eq!([p, e], [a * b, lost], "two_prod({a:e}, {b:e})");
    }
}

fn double_floats_keep_44_bits(rig: &Rig) {
    let mut random = stream(2);
    let pairs: Vec<[f32; 4]> = (0..1 << 16)
        .map(|i| {
            let a = wide(&mut random, -30.0..50.0);
            // A third cancel in sums and differences.
            let b =
                if i % 3 == 0 { a * (1.0 + wide(&mut random, -40.0..-1.0)) } else { wide(&mut random, -20.0..50.0) };
            let ([a, a_low], [b, b_low]) = (split(a), split(b));
            [a, a_low, b, b_low]
        })
        .collect();
    type Operation = fn(f64, f64) -> f64;
    let operations: [(&str, Operation); 7] = [
        ("df_add(x.xy, x.zw)", |a, b| a + b),
        ("df_sub(x.xy, x.zw)", |a, b| a - b),
        ("df_mul(x.xy, x.zw)", |a, b| a * b),
        ("df_div(x.xy, x.zw)", |a, b| a / b),
        ("df_scale(x.xy, x.z)", |a, b| a * f64::from(b as f32)),
        ("df_sqrt(x.xy * sign(x.x))", |a, _| a.abs().sqrt()),
        ("df_from(x.x)", |a, _| f64::from(a as f32)),
    ];
    let error = |value: f64, expected: f64| (value - expected).abs() / expected.abs().max(f64::MIN_POSITIVE);
    for (expression, operation) in operations {
        let values = run(rig, &format!("return {expression};"), &pairs, NO_TABLES);
        let errors = pairs.iter().zip(&values).map(|(&[a, a_low, b, b_low], &value)| {
            (format!("{a:e}, {b:e}"), error(join(value), operation(join([a, a_low]), join([b, b_low]))))
        });
        assert_below(expression, DOUBLE_FLOAT, errors);
    }
    // The tolerance rejects plain f32.
    let plain = run(rig, "return vec2<f32>(x.x * x.z, 0.0);", &pairs, NO_TABLES);
    assert!(pairs.iter().zip(plain).any(|(x, p)| error(join(p), f64::from(x[0]) * f64::from(x[2])) > DOUBLE_FLOAT));
}

fn special_functions_hold_their_relative_errors(rig: &Rig) {
    let both_signs = |xs: Vec<f32>| -> Vec<f32> { xs.iter().flat_map(|&x| [x, -x]).collect() };
    assert_relative(rig, "lp_log(x.x)", FUNCTION, &logarithmic(-37.9, 38.5), f64::ln);
    assert_relative(rig, "lp_log(x.x)", FUNCTION, &linear(0.5, 2.0), f64::ln);
    assert_relative(rig, "lp_exp(x.x)", FUNCTION, &linear(-87.3, 88.7), f64::exp);
    assert_relative(rig, "log1p(x.x)", FUNCTION, &logarithmic(-37.9, 38.5), f64::ln_1p);
    assert_relative(rig, "log1p(x.x)", FUNCTION, &linear(-0.99999994, 1.0), f64::ln_1p);
    assert_relative(rig, "expm1(x.x)", FUNCTION, &both_signs(logarithmic(-37.9, 1.94)), f64::exp_m1);
    assert_relative(rig, "erf(x.x)", FUNCTION, &both_signs(logarithmic(-37.5, 1.0)), reference_erf::erf);
    assert_relative(rig, "erfc(x.x)", TAIL, &linear(-6.0, 9.19), reference_erf::erfc);
    assert_relative(rig, "lgamma(x.x)", LGAMMA, &logarithmic(-37.9, 36.0), ln_gamma);
    assert_relative(rig, "lgamma(x.x)", LGAMMA, &linear(0.3, 12.0), ln_gamma);
    let ndtri = |p: f64| quantiles(&Prior::new().normal("x", 0.0, 1.0), &[p])[0];
    assert_relative(rig, "ndtri(x.x)", FUNCTION, &logarithmic(-37.9, -0.302), ndtri);
    assert_relative(rig, "ndtri(x.x)", FUNCTION, &linear(1e-3, 0.9999999), ndtri);

    // The tolerance rejects 1 - erf(x), which has no digits left at 4.
    let naive = run_unary(rig, "1.0 - erf(x.x)", &[4.0])[0];
    assert!((f64::from(naive) / reference_erf::erfc(4.0) - 1.0).abs() > TAIL);
}

fn special_functions_keep_their_limits(rig: &Rig) {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for (function, cases) in [
        ("lp_log", vec![(0.0, -inf), (1.0, 0.0), (inf, inf), (-1.0, nan), (nan, nan)]),
        ("lp_exp", vec![(0.0, 1.0), (89.0, inf), (-104.0, 0.0), (inf, inf), (-inf, 0.0), (nan, nan)]),
        ("log1p", vec![(0.0, 0.0), (-1.0, -inf), (-1.5, nan), (inf, inf), (nan, nan)]),
        ("expm1", vec![(0.0, 0.0), (-inf, -1.0), (inf, inf), (nan, nan)]),
        ("erf", vec![(0.0, 0.0), (inf, 1.0), (-inf, -1.0), (nan, nan)]),
        ("erfc", vec![(0.0, 1.0), (inf, 0.0), (-inf, 2.0), (nan, nan)]),
        ("lgamma", vec![(1.0, 0.0), (2.0, 0.0), (0.0, nan), (-1.0, nan), (inf, inf), (nan, nan)]),
        ("ndtri", vec![(0.5, 0.0), (0.0, -inf), (1.0, inf), (-0.1, nan), (1.1, nan), (nan, nan)]),
    ] {
        let (xs, expected): (Vec<f32>, Vec<f32>) = cases.into_iter().unzip();
        let values = run_unary(rig, &format!("{function}(x.x)"), &xs);
        for ((x, value), expected) in xs.iter().zip(values).zip(expected) {
            assert!(value == expected || value.is_nan() && expected.is_nan(), "{function}({x}) = {value}");
        }
    }
}

fn the_normal_density_is_normalised(rig: &Rig) {
    let mut random = stream(3);
    let inputs: Vec<[f32; 4]> = (0..10_000)
        .map(|_| [20.0 * random() - 10.0, random(), 10_f64.powf(6.0 * random() - 3.0), 0.0].map(|x| x as f32))
        .collect();
    let values = run(rig, "return vec2<f32>(normal_log_pdf(x.x, x.y, x.z), 0.0);", &inputs, NO_TABLES);
    let errors = inputs.iter().zip(values).map(|(x, [value, _])| {
        let [x, mean, sd, _] = x.map(f64::from);
        let expected = -0.5 * ((x - mean) / sd).powi(2) - (sd * TAU.sqrt()).ln();
        (format!("{x}, {mean}, {sd}"), (f64::from(value) - expected).abs() / (1.0 + expected.abs()))
    });
    assert_below("normal_log_pdf", FUNCTION, errors);
}

/// The body that streams `table` from x.x on, x.y values long, through a struct of the library.
fn streaming(of: &str, add: &str, value: &str) -> String {
    format!(
        "var sum: {of};
        for (var i = u32(x.x); i < u32(x.x + x.y); i++) {{ {add}(&sum, table[i]); }}
        return {value};"
    )
}

const NAIVE: &str = "var sum = 0.0;
    for (var i = u32(x.x); i < u32(x.x + x.y); i++) { sum += table[i]; }
    return vec2<f32>(sum, 0.0);";

fn compensated_sums_survive_cancellation(rig: &Rig) {
    // Integers of up to 2^40 that cancel to about 2^20; integers make the expected sum exact.
    let mut random = stream(4);
    let mut terms: Vec<f32> = (0..5_000).map(|_| wide(&mut random, 0.0..40.0).round() as f32).collect();
    terms.extend(terms.clone().iter().map(|term| -term));
    terms.extend((0..1_000).map(|_| (random() * 2048.0).round() as f32));
    for i in (1..terms.len()).rev() {
        terms.swap(i, (random() * (i + 1) as f64) as usize);
    }
    let exact = terms.iter().map(|&term| term as i64).sum::<i64>() as f64;
    let size: f64 = terms.iter().map(|&term| f64::from(term.abs())).sum();
    let n = terms.len() as f64;
    let all = [[0.0, n as f32, 0.0, 0.0]];
    let tables: Tables = [&terms, &[0.0]];

    let body = streaming("Sum", "sum_add", "vec2<f32>(sum_value(sum), 0.0)");
    // The roundings of the low part are of either sign: n of them, where the bound has n^2.
    let second_order = n * ROUNDING.powi(2) * size;
    let tolerance = ROUNDING * exact.abs() + second_order;
    let error = |body: &str| (join(run(rig, body, &all, tables)[0]) - exact).abs();
    assert_below("sum_value", tolerance, [(exact.to_string(), error(&body))]);
    assert!(error(NAIVE) > tolerance, "a naive sum passes: the test has no power");
    let pair = error(&streaming("Sum", "sum_add", "sum_pair(sum)"));
    assert_below("sum_pair", second_order, [(exact.to_string(), pair)]);
}

fn a_sum_declared_in_a_loop_starts_empty(rig: &Rig) {
    let body = "var last = vec2<f32>();
        for (var i = 0u; i < 3u; i++) {
            var sum: Sum;
            var exponentials: LogSumExp;
            sum_add(&sum, x.x);
            log_sum_exp_add(&exponentials, x.x);
            last = vec2<f32>(sum_value(sum), log_sum_exp_value(exponentials));
        }
        return last;";
    assert_eq!(run(rig, body, &[[2.5, 0.0, 0.0, 0.0]], NO_TABLES), [[2.5, 2.5]]);
}

fn pairwise_sums_lose_few_digits(rig: &Rig) {
    // Mesa's software device ends the loops of an invocation after 65,535 iterations in all; a term takes about three.
    let terms = vec![0.1_f32; 20_000];
    let tables: Tables = [&terms, &[0.0]];
    let inputs = [0, 1, 2, 3, 1023, 1024, 19_999, 20_000].map(|n| [0.0, n as f32, 0.0, 0.0]);
    let pairwise = streaming("PairwiseSum", "pairwise_add", "vec2<f32>(pairwise_value(sum), 0.0)");
    let errors = |body: &str| -> Vec<(String, f64)> {
        let values = run(rig, body, &inputs, tables);
        let error = |(x, value): (&[f32; 4], [f32; 2])| {
            let expected = f64::from(x[1]) * f64::from(0.1_f32);
            // In units of what log2(n) roundings leave.
            let tolerance = f64::from(x[1]).max(2.0).log2() * ROUNDING * expected;
            (x[1].to_string(), (join(value) - expected).abs() / tolerance.max(f64::MIN_POSITIVE))
        };
        inputs.iter().zip(values).map(error).collect()
    };
    assert_below("pairwise_value", 1.0, errors(&pairwise));
    assert!(errors(NAIVE).iter().any(|(_, error)| *error > 1.0), "a naive sum passes: the test has no power");
}

fn sums_of_exponentials_are_right_in_any_order(rig: &Rig) {
    let inf = f32::NEG_INFINITY;
    let mut random = stream(5);
    let mut scattered: Vec<f32> = (0..3_000).map(|_| (-300.0 * random()) as f32).collect();
    scattered[7] = inf;
    let mut ascending = scattered.clone();
    ascending.sort_by(f32::total_cmp);
    let slow: Vec<f32> = (0..20_000).map(|i| 1e-4 * i as f32).collect();
    let cases: [&[f32]; 9] =
        [&[], &[inf; 3], &[inf, -1e30, inf], &[-5.0], &[-1e5; 100], &[inf, 3.0, 2.0], &scattered, &ascending, &slow];
    let terms = cases.concat();
    let starts = cases.iter().scan(0, |end, case| Some(std::mem::replace(end, *end + case.len())));
    let inputs: Vec<[f32; 4]> = starts.zip(cases).map(|(i, c)| [i as f32, c.len() as f32, 0.0, 0.0]).collect();
    let body = streaming("LogSumExp", "log_sum_exp_add", "vec2<f32>(log_sum_exp_value(sum), 0.0)");
    let values = run(rig, &body, &inputs, [&terms, &[0.0]]);
    let error = |terms: &[f32], value: f32| {
        let max = terms.iter().copied().fold(inf, f32::max);
        let scaled: f64 = terms.iter().map(|&x| (f64::from(x) - f64::from(max)).exp()).sum();
        let expected = if max == inf { f64::NEG_INFINITY } else { f64::from(max) + scaled.ln() };
        if f64::from(value) == expected { 0.0 } else { (f64::from(value) - expected).abs() / (1.0 + expected.abs()) }
    };
    let errors = cases.iter().zip(&values).enumerate().map(|(i, (case, value))| (i.to_string(), error(case, value[0])));
    assert_below("log_sum_exp", FUNCTION, errors);

    let pairs: Vec<[f32; 4]> = [[inf, inf], [inf, 2.0], [2.0, inf], [-1e30, 1e30], [-700.0, -700.0]]
        .into_iter()
        .chain((0..10_000).map(|_| [(40.0 * random()) as f32, (40.0 * random()) as f32]))
        .map(|[a, b]| [a, b, 0.0, 0.0])
        .collect();
    let values = run(rig, "return vec2<f32>(log_add_exp(x.x, x.y), 0.0);", &pairs, NO_TABLES);
    let errors = pairs.iter().zip(values).map(|(pair, value)| (format!("{pair:?}"), error(&pair[..2], value[0])));
    assert_below("log_add_exp", FUNCTION, errors);
    assert!(run_unary(rig, "log_add_exp(x.x, 1.0)", &[f32::NAN])[0].is_nan());
}

/// E in [-pi, pi] by bisection: E - e sin E rises.
fn eccentric_anomaly(mean: f64, e: f64) -> f64 {
    let mean = mean - TAU * (mean / TAU).round();
    let (mut low, mut high) = (-PI, PI);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if middle - e * middle.sin() < mean { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

fn kepler_s_equation_is_solved(rig: &Rig) {
    let eccentricities: Vec<f64> = grid(0.0, 0.99, 100).collect();
    let anomalies: Vec<f64> = grid(-PI, PI, 1001)
        .chain(grid(-30.0, 1.0, 200).map(f64::exp))
        .chain(grid(-1e4, 1e4, 100))
        .chain([1e5, -1e5])
        .collect();
    let inputs: Vec<[f32; 4]> =
        eccentricities.iter().flat_map(|&e| anomalies.iter().map(move |&m| [m as f32, e as f32, 0.0, 0.0])).collect();
    let values = run(rig, "return vec2<f32>(kepler(x.x, x.y), 0.0);", &inputs, NO_TABLES);
    let errors = inputs.iter().zip(&values).map(|(&[m, e, ..], &[value, _])| {
        let difference = f64::from(value) - eccentric_anomaly(m.into(), e.into());
        // The two ends of the circle are one.
        (format!("{m:e}, {e}"), (difference - TAU * (difference / TAU).round()).abs())
    });
    assert_below("kepler", ECCENTRIC_ANOMALY, errors);

    let inputs: Vec<[f32; 4]> = inputs.iter().zip(values).map(|(x, [value, _])| [value, x[1], 0.0, 0.0]).collect();
    let values = run(rig, "return true_anomaly(x.x, x.y);", &inputs, NO_TABLES);
    let errors = inputs.iter().zip(values).map(|(&[anomaly, e, ..], value)| {
        let (anomaly, e) = (f64::from(anomaly), f64::from(e));
        let (cos, sin) = (anomaly.cos() - e, (1.0 - e * e).sqrt() * anomaly.sin());
        let distance = 1.0 - e * anomaly.cos();
        let error = (f64::from(value[0]) - cos / distance).abs().max((f64::from(value[1]) - sin / distance).abs());
        (format!("{anomaly:e}, {e}"), error)
    });
    assert_below("true_anomaly", FUNCTION, errors);
}

fn quantiles(prior: &Prior, u: &[f64]) -> Vec<f64> {
    let u = ArrayView2::from_shape((u.len(), 1), u).expect("one column");
    prior.unit_to_theta(u).expect("a valid prior").column(0).to_vec()
}

/// Coordinates of both tails and the middle, as the shader sees them: u, and the signed tail probability.
fn coordinates() -> Vec<(f64, [f32; 2])> {
    let small = grid(-30.0, FRAC_1_SQRT_2.log10() * 2.0, 4_000).map(|x| 10_f64.powf(x));
    let large = grid(-15.0, FRAC_1_SQRT_2.log10() * 2.0, 4_000).map(|x| 1.0 - 10_f64.powf(x));
    small
        .chain(large)
        .chain(grid(0.001, 0.999, 4_000))
        .chain([0.5, 0.5 - 1e-12, 0.5 + 1e-12])
        .map(|u| {
            let t = if u <= 0.5 { split(u) } else { split(-(1.0 - u)) };
            (if join(t) > 0.0 { join(t) } else { 1.0 + join(t) }, t)
        })
        .collect()
}

/// Holds a quantile to its error in units of the size that the test gives it.
fn assert_quantile(rig: &Rig, call: &str, tolerance: f64, prior: &Prior, size: impl Fn(f64) -> f64) {
    let coordinates = coordinates();
    let inputs: Vec<[f32; 4]> = coordinates.iter().map(|(_, t)| [t[0], t[1], 0.0, 0.0]).collect();
    let values = run(rig, &format!("return {call};"), &inputs, NO_TABLES);
    let u: Vec<f64> = coordinates.iter().map(|(u, _)| *u).collect();
    let expected = quantiles(prior, &u);
    let errors = u.iter().zip(values).zip(expected).map(|((u, value), expected)| {
        let error = (join(value) - expected).abs() / size(expected).max(f32::MIN_POSITIVE.into());
        (format!("{u:e}"), error)
    });
    assert_below(call, tolerance, errors);
}

fn quantiles_hold_in_both_tails(rig: &Rig) {
    let df = |x: f64| format!("vec2<f32>({:?}, {:?})", split(x)[0], split(x)[1]);
    // Parameters as the shader has them.
    let exact = |x: f64| join(split(x));
    for (lo, hi) in [(-5.0, 5.0), (0.0, 1.0), (-1e-3, 1e6), (2459000.123, 2459001.5), (0.1, 0.30000000001)] {
        let (lo, hi) = (exact(lo), exact(hi));
        let call = format!("lp_uniform(x.xy, {}, {}, {})", df(lo), df(hi), df(hi - lo));
        let largest = lo.abs().max(hi.abs());
        assert_quantile(rig, &call, UNIFORM, &Prior::new().uniform("x", lo..hi), |_| largest);
    }
    for (lo, hi) in [(1e-3_f32, 1e3_f32), (1e-37, 1e38), (1.0, 1.5)] {
        let ratio = (f64::from(hi) / f64::from(lo)).ln();
        let call = format!("vec2<f32>(lp_log_uniform(x.xy, {lo:?}, {hi:?}, {}), 0.0)", df(ratio));
        assert_quantile(rig, &call, QUANTILE, &Prior::new().log_uniform("x", lo.into()..hi.into()), f64::abs);
    }

    let scalar = |name: &str, a: f32, b: f32| format!("vec2<f32>({name}(x.xy, {a:?}, {b:?}), 0.0)");
    let (mean, sd) = (0.75_f32, 3.5_f32);
    let (m, s) = (f64::from(mean), f64::from(sd));
    let prior = Prior::new().normal("x", m, s);
    assert_quantile(rig, &scalar("lp_normal", mean, sd), QUANTILE, &prior, |x| x.abs().max((x - m).abs()));
    let centred = Prior::new().normal("x", 0.0, s);
    assert_quantile(rig, &scalar("lp_normal", 0.0, sd), QUANTILE, &centred, f64::abs);
    // The tolerance rejects a coordinate of f32 alone, which has no digits at the median.
    let text = format!("return vec2<f32>(lp_normal(vec2<f32>(x.x, 0.0), 0.0, {sd:?}), 0.0);");
    let [high, low] = split(0.5 - 1e-10);
    let plain = join(run(rig, &text, &[[high, low, 0.0, 0.0]], NO_TABLES)[0]);
    let expected = quantiles(&centred, &[0.5 - 1e-10])[0];
    assert!((plain / expected - 1.0).abs() > QUANTILE);
    let prior = Prior::new().cauchy("x", m, s);
    assert_quantile(rig, &scalar("lp_cauchy", mean, sd), QUANTILE, &prior, |x| x.abs().max((x - m).abs()));
    assert_quantile(rig, &scalar("lp_cauchy", 0.0, sd), QUANTILE, &Prior::new().cauchy("x", 0.0, s), f64::abs);
    for (mu, sigma) in [(0.75_f32, 0.5_f32), (-40.0, 2.0), (0.0, 5.0)] {
        // The exponent's own error, beside a rounding of it that the double-float avoids.
        let (mu_, sigma_) = (f64::from(mu), f64::from(sigma));
        let size = |x: f64| x * (1.0 + 0.3 * (x.ln() - mu_).abs());
        let prior = Prior::new().log_normal("x", mu_, sigma_);
        assert_quantile(rig, &scalar("lp_log_normal", mu, sigma), QUANTILE, &prior, size);
    }

    let scalar = |name: &str, scale: f32| format!("vec2<f32>({name}(x.xy, {scale:?}), 0.0)");
    assert_quantile(rig, &scalar("lp_half_normal", sd), QUANTILE, &Prior::new().half_normal("x", s), f64::abs);
    assert_quantile(rig, &scalar("lp_exponential", sd), QUANTILE, &Prior::new().exponential("x", s), f64::abs);
    assert_quantile(rig, &scalar("lp_half_cauchy", sd), QUANTILE, &Prior::new().half_cauchy("x", s), f64::abs);
}

fn a_generated_table_interpolates(rig: &Rig) {
    let mut random = stream(6);
    for n in [1, 2, 3, 4, 5, 17, 1000] {
        let mut xs: Vec<f32> = (0..n).map(|_| (10.0 * random()) as f32).collect();
        xs.sort_by(f32::total_cmp);
        let ys: Vec<f32> = (0..n).map(|_| random() as f32).collect();
        let inputs: Vec<f32> = linear(-1.0, 11.0).into_iter().chain(xs.clone()).collect();
        let inputs: Vec<[f32; 4]> = inputs.into_iter().chain([f32::NAN]).map(|x| [x, 0.0, 0.0, 0.0]).collect();
        let model = generated::interpolant("model", n, "table", "other");
        let text = format!(
            "{}\n{model}\nfn f(x: vec4<f32>) -> vec2<f32> {{ return vec2<f32>(model(x.x), 0.0); }}",
            library::text()
        );
        let values = rig.map(&text, &inputs, [&xs, &ys]);
        let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
        let (xs, ys) = (wide(&xs), wide(&ys));
        let errors = inputs.iter().zip(values).map(|(&[x, ..], [value, _])| {
            let expected = reference::interpolant(&xs, &ys, x.into());
            let error = (f64::from(value) - expected).abs();
            (x.to_string(), if expected.is_nan() && value.is_nan() { 0.0 } else { error })
        });
        assert_below(&format!("interpolant of {n}"), FUNCTION, errors);
    }
}

/// The rows of the Cholesky factor of a covariance, packed, with the reciprocals of its diagonal.
fn factor(n: usize, covariance: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut packed: Vec<f64> = Vec::new();
    let at = |i: usize, j: usize| i * (i + 1) / 2 + j;
    for i in 0..n {
        for j in 0..=i {
            let rest = covariance(i, j) - (0..j).map(|k| packed[at(i, k)] * packed[at(j, k)]).sum::<f64>();
            packed.push(if i == j { rest.sqrt().recip() } else { rest * packed[at(j, j)] });
        }
    }
    packed
}

fn a_generated_covariance_whitens(rig: &Rig) {
    const N: usize = 24;
    let nugget = |i, j| if i == j { 0.1 } else { 0.0 };
    let packed = factor(N, |i, j| (-0.3 * (i as f64 - j as f64).abs()).exp() + nugget(i, j));
    let packed: Vec<f32> = packed.iter().map(|&l| l as f32).collect();
    let mut random = stream(7);
    let residuals: Vec<f32> = (0..200 * N).map(|_| (random() - 0.5) as f32).collect();
    let noise = generated::covariance("noise", N, "table");
    let text = format!(
        "{}\n{noise}\nfn f(x: vec4<f32>) -> vec2<f32> {{
            var r: array<f32, {N}>;
            for (var i = 0u; i < {N}u; i++) {{ r[i] = other[u32(x.x) * {N}u + i]; }}
            var y = noise_solve(r);
            return vec2<f32>(noise_chi2(r), y[u32(x.y)]);
        }}",
        library::text()
    );
    let inputs: Vec<[f32; 4]> = (0..200).map(|i| [i as f32, (i % N) as f32, 0.0, 0.0]).collect();
    let values = rig.map(&text, &inputs, [&packed, &residuals]);

    let packed: Vec<f64> = packed.iter().copied().map(f64::from).collect();
    let errors = inputs.iter().zip(values).enumerate().map(|(i, (input, [chi2, y]))| {
        let r: Vec<f64> = residuals[i * N..][..N].iter().copied().map(f64::from).collect();
        let expected = reference::covariance_chi2(&packed, &r);
        let component = reference::covariance_solve(&packed, &r)[input[1] as usize];
        let error = (f64::from(chi2) / expected - 1.0).abs();
        (i.to_string(), error.max((f64::from(y) - component).abs() / expected.sqrt()))
    });
    assert_below("covariance", SOLVE, errors);
}
