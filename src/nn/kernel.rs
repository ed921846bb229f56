//! The four kernels of a network (two matrix products, the gradient product, Adam) over rows of features.
//!
//! Activations are stored feature by feature, `[n_features, n_columns]`, one column per point: every product then walks
//! along contiguous columns, whatever the width of a layer. One element of a product is always the same chain of
//! operations over the summed index, in whichever lane or tile it falls, so a prediction does not depend on its neighbours.

use super::simd::{Isa, Portable, Simd};
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};

/// Columns are padded to a multiple of this: the widest vector there is.
pub(super) const BLOCK: usize = 16;

/// One cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; BLOCK]);

/// Floats that start on a cache line, zero at first; the length is rounded up to whole lines.
#[derive(Debug, Clone)]
pub(super) struct Aligned {
    lines: Vec<Line>,
}

impl Aligned {
    pub(super) fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; BLOCK]); len.div_ceil(BLOCK)] }
    }
}

impl std::ops::Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `Line` is `repr(C)` with the size of its array (64 bytes) and so without padding.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * BLOCK) }
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * BLOCK) }
    }
}

/// A matrix `[n_rows, n_columns]` of activations or their gradients, its rows `stride` floats apart.
#[derive(Debug, Clone)]
pub(super) struct Features {
    data: Aligned,
    n_rows: usize,
    stride: usize,
}

impl Features {
    /// Zeros with room for `n_columns`.
    pub(super) fn zeros(n_rows: usize, n_columns: usize) -> Self {
        // An odd number of lines: rows a power of two apart would all fall in the same few sets of the cache.
        let stride = (n_columns.div_ceil(BLOCK) | 1) * BLOCK;
        Self { data: Aligned::zeros(n_rows * stride), n_rows, stride }
    }

    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.stride..(row + 1) * self.stride]
    }

    pub(super) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.stride..(row + 1) * self.stride]
    }
}

/// What happens to a product before it is stored.
mod finish {
    pub(super) const NOTHING: u8 = 0;
    /// max(0, product)
    pub(super) const RELU: u8 = 1;
    /// The product where the place that it is stored to held a number above 0, else 0.
    pub(super) const GATE: u8 = 2;
}

/// Pointers of one product `out[i][c] = sum_k w(i, k) b[k][c]`, with `w(i, k) = w[i * w_row + k * w_step]`.
#[derive(Clone, Copy)]
struct Product {
    w: *const f32,
    w_row: usize,
    w_step: usize,
    n_sum: usize,
    b: *const f32,
    b_stride: usize,
    out: *mut f32,
    out_stride: usize,
}

/// A tile of `ROWS` rows by `COLUMNS` vectors.
#[inline(always)]
unsafe fn tile<S: Simd, const ROWS: usize, const COLUMNS: usize, const FINISH: u8>(
    p: Product,
    row: usize,
    column: usize,
) {
    // SAFETY: the caller's loops keep the tile inside the three matrices.
    unsafe {
        let zero = S::splat(0.0);
        let mut sums = [[zero; COLUMNS]; ROWS];
        let w = p.w.add(row * p.w_row);
        let b = p.b.add(column);
        for k in 0..p.n_sum {
            let mut right = [zero; COLUMNS];
            for (j, vector) in right.iter_mut().enumerate() {
                *vector = S::load(b.add(k * p.b_stride + j * S::LANES));
            }
            for (i, sum) in sums.iter_mut().enumerate() {
                let left = S::splat(*w.add(i * p.w_row + k * p.w_step));
                for j in 0..COLUMNS {
                    sum[j] = S::fma(left, right[j], sum[j]);
                }
            }
        }
        for (i, sum) in sums.iter().enumerate() {
            for (j, &value) in sum.iter().enumerate() {
                let to = p.out.add((row + i) * p.out_stride + column + j * S::LANES);
                let value = match FINISH {
                    finish::RELU => S::max(value, zero),
                    finish::GATE => S::where_positive(S::load(to), value),
                    _ => value,
                };
                S::store(to, value);
            }
        }
    }
}

/// All rows of `COLUMNS` vectors.
#[inline(always)]
unsafe fn panel<S: Simd, const COLUMNS: usize, const FINISH: u8>(p: Product, n_rows: usize, column: usize) {
    // SAFETY: rows stay below `n_rows`.
    unsafe {
        let mut row = 0;
        while row + 6 <= n_rows {
            tile::<S, 6, COLUMNS, FINISH>(p, row, column);
            row += 6;
        }
        match n_rows - row {
            1 => tile::<S, 1, COLUMNS, FINISH>(p, row, column),
            2 => tile::<S, 2, COLUMNS, FINISH>(p, row, column),
            3 => tile::<S, 3, COLUMNS, FINISH>(p, row, column),
            4 => tile::<S, 4, COLUMNS, FINISH>(p, row, column),
            5 => tile::<S, 5, COLUMNS, FINISH>(p, row, column),
            _ => (),
        }
    }
}

/// All columns; `n_columns` is a multiple of [`BLOCK`].
#[inline(always)]
unsafe fn product<S: Simd, const FINISH: u8>(p: Product, n_rows: usize, n_columns: usize) {
    // SAFETY: columns stay below `n_columns`.
    unsafe {
        let mut column = 0;
        if S::TILE_COLUMNS >= 4 {
            while column + 4 * S::LANES <= n_columns {
                panel::<S, 4, FINISH>(p, n_rows, column);
                column += 4 * S::LANES;
            }
        }
        while column + 2 * S::LANES <= n_columns {
            panel::<S, 2, FINISH>(p, n_rows, column);
            column += 2 * S::LANES;
        }
        if column < n_columns {
            panel::<S, 1, FINISH>(p, n_rows, column);
        }
    }
}

/// Pointers of the gradient product `out[i][j] = sum_c a[i][c] b[j][c]`.
#[derive(Clone, Copy)]
struct Outer {
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    b_stride: usize,
    out: *mut f32,
    n_out: usize,
}

/// A tile of `ROWS` by `COLUMNS` (at most 4) sums.
#[inline(always)]
unsafe fn outer_tile<S: Simd, const ROWS: usize, const COLUMNS: usize>(
    p: Outer,
    row: usize,
    column: usize,
    n_columns: usize,
) {
    // SAFETY: the caller's loops keep the tile inside the three matrices.
    unsafe {
        let zero = S::splat(0.0);
        let mut sums = [[zero; 4]; ROWS];
        let a = p.a.add(row * p.a_stride);
        let b = p.b.add(column * p.b_stride);
        let mut c = 0;
        while c < n_columns {
            let mut right = [zero; COLUMNS];
            for (j, vector) in right.iter_mut().enumerate() {
                *vector = S::load(b.add(j * p.b_stride + c));
            }
            for (i, sum) in sums.iter_mut().enumerate() {
                let left = S::load(a.add(i * p.a_stride + c));
                for j in 0..COLUMNS {
                    sum[j] = S::fma(left, right[j], sum[j]);
                }
            }
            c += S::LANES;
        }
        for (i, sum) in sums.iter().enumerate() {
            let totals = S::sum4(*sum);
            let to = p.out.add((row + i) * p.n_out + column);
            for (j, &total) in totals.iter().enumerate().take(COLUMNS) {
                *to.add(j) = total;
            }
        }
    }
}

#[inline(always)]
unsafe fn outer_rows<S: Simd, const ROWS: usize>(p: Outer, row: usize, n_columns: usize) {
    // SAFETY: columns of the tile stay below `n_out`.
    unsafe {
        let mut column = 0;
        while column + 4 <= p.n_out {
            outer_tile::<S, ROWS, 4>(p, row, column, n_columns);
            column += 4;
        }
        match p.n_out - column {
            1 => outer_tile::<S, ROWS, 1>(p, row, column, n_columns),
            2 => outer_tile::<S, ROWS, 2>(p, row, column, n_columns),
            3 => outer_tile::<S, ROWS, 3>(p, row, column, n_columns),
            _ => (),
        }
    }
}

#[inline(always)]
unsafe fn outer<S: Simd>(p: Outer, n_rows: usize, n_columns: usize) {
    // SAFETY: rows stay below `n_rows`.
    unsafe {
        let mut row = 0;
        if S::TILE_ROWS >= 6 {
            while row + 6 <= n_rows {
                outer_rows::<S, 6>(p, row, n_columns);
                row += 6;
            }
        }
        while row + 2 <= n_rows {
            outer_rows::<S, 2>(p, row, n_columns);
            row += 2;
        }
        if row < n_rows {
            outer_rows::<S, 1>(p, row, n_columns);
        }
    }
}

/// Constants of one Adam step (Kingma & Ba 2015, algorithm 1 with the bias corrections folded into `rate`).
#[derive(Debug, Clone, Copy)]
pub(super) struct AdamStep {
    pub(super) rate: f32,
    pub(super) beta_1: f32,
    pub(super) beta_2: f32,
    pub(super) epsilon: f32,
}

/// Far below any gradient that matters, far above f32's subnormal numbers, which cost a hundred cycles each.
const FLUSH: f32 = 1e-30;

#[inline(always)]
unsafe fn adam<S: Simd>(
    step: AdamStep,
    weights: *mut f32,
    first: *mut f32,
    second: *mut f32,
    gradient: *const f32,
    n: usize,
) {
    // SAFETY: `n` is a multiple of the block, which every vector divides, and below the length of all four.
    unsafe {
        let (beta_1, beta_2) = (S::splat(step.beta_1), S::splat(step.beta_2));
        let (rest_1, rest_2) = (S::splat(1.0 - step.beta_1), S::splat(1.0 - step.beta_2));
        let (rate, epsilon, flush) = (S::splat(step.rate), S::splat(step.epsilon), S::splat(FLUSH));
        let mut i = 0;
        while i < n {
            let g = S::load(gradient.add(i));
            let m = S::fma(beta_1, S::load(first.add(i)), S::mul(rest_1, g));
            // The moments of a dead unit decay: added and taken away, a tiny number turns what is tinier into 0.
            let m = S::sub(S::add(m, flush), flush);
            let v = S::fma(beta_2, S::load(second.add(i)), S::fma(S::mul(rest_2, g), g, flush));
            S::store(first.add(i), m);
            S::store(second.add(i), v);
            let change = S::div(S::mul(rate, m), S::add(S::sqrt(v), epsilon));
            S::store(weights.add(i), S::sub(S::load(weights.add(i)), change));
            i += S::LANES;
        }
    }
}

/// Compiles `$body` for every instruction set and runs the one that `$isa` names.
macro_rules! for_isa {
    ($isa:expr, $S:ident, ($($name:ident: $type:ty),*), $body:expr) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f")]
        unsafe fn avx512($($name: $type),*) {
            type $S = Avx512;
            // SAFETY: passed on from the caller.
            unsafe { $body }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2($($name: $type),*) {
            type $S = Avx2;
            // SAFETY: passed on from the caller.
            unsafe { $body }
        }
        unsafe fn portable($($name: $type),*) {
            type $S = Portable;
            // SAFETY: passed on from the caller.
            unsafe { $body }
        }
        // SAFETY: an `Isa` other than `Portable` is made only by detecting it; the callers check the sizes.
        unsafe {
            match $isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => avx512($($name),*),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2($($name),*),
                Isa::Portable => portable($($name),*),
            }
        }
    }};
}

/// `out[i][c] = sum_k w[i][k] input[k][c]` for the `n_out` rows of `w` `[n_out, n_in]`, through a ReLU if asked.
///
/// `input` has `n_in` rows (the last one holds ones: it carries the bias); rows of `out` beyond `n_out` are left alone.
pub(super) fn forward(
    isa: Isa,
    w: &[f32],
    n_out: usize,
    n_in: usize,
    input: &Features,
    out: &mut Features,
    n_columns: usize,
    relu: bool,
) {
    assert!(n_columns.is_multiple_of(BLOCK) && n_columns <= input.stride && n_columns <= out.stride);
    assert!(w.len() >= n_out * n_in && input.n_rows >= n_in && out.n_rows >= n_out);
    let p = Product {
        w: w.as_ptr(),
        w_row: n_in,
        w_step: 1,
        n_sum: n_in,
        b: input.data.as_ptr(),
        b_stride: input.stride,
        out: out.data.as_mut_ptr(),
        out_stride: out.stride,
    };
    if relu {
        for_isa!(isa, S, (p: Product, n_out: usize, n_columns: usize), product::<S, { finish::RELU }>(p, n_out, n_columns));
    } else {
        for_isa!(isa, S, (p: Product, n_out: usize, n_columns: usize), product::<S, { finish::NOTHING }>(p, n_out, n_columns));
    }
}

/// Overwrites the first `n_in - 1` rows of `activations` with the gradients there: `sum_i w[i][k] delta[i][c]` where the ReLU was open.
pub(super) fn backward(
    isa: Isa,
    w: &[f32],
    n_out: usize,
    n_in: usize,
    delta: &Features,
    activations: &mut Features,
    n_columns: usize,
) {
    assert!(n_columns.is_multiple_of(BLOCK) && n_columns <= delta.stride && n_columns <= activations.stride);
    assert!(w.len() >= n_out * n_in && delta.n_rows >= n_out && activations.n_rows >= n_in);
    let p = Product {
        w: w.as_ptr(),
        w_row: 1,
        w_step: n_in,
        n_sum: n_out,
        b: delta.data.as_ptr(),
        b_stride: delta.stride,
        out: activations.data.as_mut_ptr(),
        out_stride: activations.stride,
    };
    let n_rows = n_in - 1;
    for_isa!(isa, S, (p: Product, n_rows: usize, n_columns: usize), product::<S, { finish::GATE }>(p, n_rows, n_columns));
}

/// `gradient[i][k] = sum_c delta[i][c] input[k][c]`, `[n_out, n_in]`.
pub(super) fn weight_gradient(
    isa: Isa,
    gradient: &mut [f32],
    n_out: usize,
    n_in: usize,
    delta: &Features,
    input: &Features,
    n_columns: usize,
) {
    assert!(n_columns.is_multiple_of(BLOCK) && n_columns <= delta.stride && n_columns <= input.stride);
    assert!(gradient.len() >= n_out * n_in && delta.n_rows >= n_out && input.n_rows >= n_in);
    let p = Outer {
        a: delta.data.as_ptr(),
        a_stride: delta.stride,
        b: input.data.as_ptr(),
        b_stride: input.stride,
        out: gradient.as_mut_ptr(),
        n_out: n_in,
    };
    for_isa!(isa, S, (p: Outer, n_out: usize, n_columns: usize), outer::<S>(p, n_out, n_columns));
}

/// Moves `weights` one step; the moments and the gradient have the same length.
pub(super) fn adam_step(
    isa: Isa,
    step: AdamStep,
    weights: &mut Aligned,
    first: &mut Aligned,
    second: &mut Aligned,
    gradient: &Aligned,
) {
    let n = weights.len();
    assert!(first.len() == n && second.len() == n && gradient.len() == n);
    let (w, m, v, g) = (weights.as_mut_ptr(), first.as_mut_ptr(), second.as_mut_ptr(), gradient.as_ptr());
    for_isa!(
        isa,
        S,
        (step: AdamStep, w: *mut f32, m: *mut f32, v: *mut f32, g: *const f32, n: usize),
        adam::<S>(step, w, m, v, g, n)
    );
}
