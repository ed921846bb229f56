//! The library of WGSL functions that a user's likelihood may call: its texts, and the names it takes.

/// Name and text of each file, a file after those it calls.
pub const FILES: &[(&str, &str)] = &[
    ("numbers.wgsl", include_str!("../../shaders/library/numbers.wgsl")),
    ("double.wgsl", include_str!("../../shaders/library/double.wgsl")),
    ("special.wgsl", include_str!("../../shaders/library/special.wgsl")),
    ("sums.wgsl", include_str!("../../shaders/library/sums.wgsl")),
    ("kepler.wgsl", include_str!("../../shaders/library/kepler.wgsl")),
];

/// The public functions; every other name of the library, but for [`TYPES`], starts with `lp_`.
#[rustfmt::skip] // one line a file
pub const FUNCTIONS: &[&str] = &[
    "is_nan", "is_inf", "is_finite", "reject",
    "two_sum", "two_prod", "df_from", "df_add", "df_sub", "df_mul", "df_scale", "df_div", "df_sqrt",
    "log1p", "expm1", "erf", "erfc", "lgamma", "ndtri", "normal_log_pdf",
    "sum_add", "sum_value", "sum_pair", "pairwise_add", "pairwise_value", "log_sum_exp_add", "log_sum_exp_value", "log_add_exp",
    "kepler", "true_anomaly",
];

/// The public structs.
pub const TYPES: &[&str] = &["Sum", "PairwiseSum", "LogSumExp"];

/// The whole library as one text; the entry point must set `lp_zero` from a uniform that holds 0 before it calls anything.
pub fn text() -> String {
    FILES.iter().map(|(_, text)| *text).collect::<Vec<_>>().join("\n")
}
