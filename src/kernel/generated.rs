//! WGSL written for one named piece of data, as the language has neither generics nor storage pointers as arguments.

/// Text of `fn NAME(x: f32) -> f32`: linear interpolation in a table, constant beyond its ends, NaN at NaN.
///
/// The buffers are storage variables of type `array<f32>` that hold `n >= 1` values, those of `xs_buffer` ascending. It
/// calls the library's `is_nan`; the contract suite holds it to its f64 reference.
pub fn interpolant(name: &str, n: usize, xs_buffer: &str, ys_buffer: &str) -> String {
    let last = n.saturating_sub(1);
    // Each step leaves at most half of the intervals, rounded up.
    let steps = last.next_power_of_two().ilog2();
    format!(
        "// Linear interpolation in {xs_buffer}, {ys_buffer}; constant beyond the ends.
fn {name}(x: f32) -> f32 {{
    if (is_nan(x)) {{
        return x;
    }}
    if (x <= {xs_buffer}[0]) {{
        return {ys_buffer}[0];
    }}
    if (x >= {xs_buffer}[{last}]) {{
        return {ys_buffer}[{last}];
    }}
    var low = 0u;
    var high = {last}u;
    for (var step = 0u; step < {steps}u; step++) {{
        let middle = (low + high) / 2u;
        if ({xs_buffer}[middle] <= x) {{
            low = middle;
        }} else {{
            high = middle;
        }}
    }}
    let weight = (x - {xs_buffer}[low]) / ({xs_buffer}[high] - {xs_buffer}[low]);
    return {ys_buffer}[low] + weight * ({ys_buffer}[high] - {ys_buffer}[low]);
}}
"
    )
}

/// Text of `fn NAME_solve(r: array<f32, n>) -> array<f32, n>`, the y with L y = r, and of `fn NAME_chi2(r) -> f32`, |y|^2,
/// where the covariance is L L^T.
///
/// The buffer is a storage variable of type `array<f32>` that holds the rows of L up to the diagonal, one after the other,
/// with the reciprocals of the diagonal in its place: n (n + 1) / 2 values, n >= 1. Cost: n^2 / 2 multiplications. The sum of
/// squares is compensated by the library's `Sum`; [`reference::covariance_solve`] and [`reference::covariance_chi2`] are
/// what they compute.
pub fn covariance(name: &str, n: usize, factor_buffer: &str) -> String {
    format!(
        "// Solves L y = r by forward substitution; {factor_buffer} holds L, row by row.
fn {name}_solve(r: array<f32, {n}>) -> array<f32, {n}> {{
    var y = r;
    var k = 0u;
    for (var i = 0u; i < {n}u; i++) {{
        var rest = y[i];
        for (var j = 0u; j < i; j++) {{
            rest -= {factor_buffer}[k] * y[j];
            k++;
        }}
        y[i] = rest * {factor_buffer}[k];
        k++;
    }}
    return y;
}}

// r^T C^-1 r for C = L L^T.
fn {name}_chi2(r: array<f32, {n}>) -> f32 {{
    var y = {name}_solve(r);
    var sum: Sum;
    for (var i = 0u; i < {n}u; i++) {{
        sum_add(&sum, y[i] * y[i]);
    }}
    return sum_value(sum);
}}
"
    )
}
