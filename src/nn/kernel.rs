//! The kernels of a network (three matrix products, a transposition, Adam) over rows of features.
//!
//! Activations are stored feature by feature, `[n_features, n_columns]`, one column per point: every product then walks
//! along contiguous columns, whatever the width of a layer. One element of a product is always the same chain of
//! operations over the summed index, in whichever lane or tile it falls, so a prediction does not depend on its neighbours.

#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Isa, Portable, Simd};

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
    /// Zeros with room for `n_columns`; rows of zeros pad their number to a multiple of [`BLOCK`].
    pub(super) fn zeros(n_rows: usize, n_columns: usize) -> Self {
        // An odd number of lines: rows a power of two apart would all fall in the same few sets of the cache.
        let stride = (n_columns.div_ceil(BLOCK) | 1) * BLOCK;
        Self { data: Aligned::zeros(n_rows.next_multiple_of(BLOCK) * stride), n_rows, stride }
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
        if S::TILE_COLUMNS >= 3 {
            while column + 3 * S::LANES <= n_columns {
                panel::<S, 3, FINISH>(p, n_rows, column);
                column += 3 * S::LANES;
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

/// Turns `[n_rows, n_columns]` into `[n_columns, n_rows]`, rows `to_stride` apart.
#[inline(always)]
unsafe fn transpose<S: Simd>(
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
    n_rows: usize,
    n_columns: usize,
) {
    // SAFETY: rows and columns stay below the numbers that the caller checked; both are multiples of the block.
    unsafe {
        let mut row = 0;
        while row < n_rows {
            let mut column = 0;
            while column < n_columns {
                let turned = S::columns4(from.add(row * from_stride + column), from_stride);
                for (k, &values) in turned.iter().enumerate() {
                    S::store(to.add((column + k) * to_stride + row), values);
                }
                column += 4;
            }
            row += S::LANES;
        }
    }
}

/// Constants of one Adam step (Kingma & Ba 2015, algorithm 1 with the bias corrections folded into `rate`, and
/// `sqrt(v + epsilon^2)` for `sqrt(v) + epsilon`: one instruction gives its reciprocal to a part in a thousand, plenty for a step).
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
        let (rate, guard, flush) = (S::splat(-step.rate), S::splat(step.epsilon * step.epsilon), S::splat(FLUSH));
        let mut i = 0;
        while i < n {
            let g = S::load(gradient.add(i));
            let m = S::fma(beta_1, S::load(first.add(i)), S::mul(rest_1, g));
            // The moments of a dead unit decay: added and taken away, a tiny number turns what is tinier into 0.
            let m = S::add(S::add(m, flush), S::splat(-FLUSH));
            let v = S::fma(beta_2, S::load(second.add(i)), S::fma(S::mul(rest_2, g), g, flush));
            S::store(first.add(i), m);
            S::store(second.add(i), v);
            let change = S::mul(S::mul(rate, m), S::reciprocal_sqrt(S::add(v, guard)));
            S::store(weights.add(i), S::add(S::load(weights.add(i)), change));
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

/// Where the weights of one layer lie: `[n_out, n_in]` from `start` on, rows `stride` floats apart, zeros between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) start: usize,
    pub(super) n_out: usize,
    /// Inputs of a unit; the last one is always 1, so that its weight is the bias.
    pub(super) n_in: usize,
    pub(super) stride: usize,
}

impl Layer {
    pub(super) fn new(start: usize, n_out: usize, n_in: usize) -> Self {
        Self { start, n_out, n_in, stride: n_in.next_multiple_of(BLOCK) }
    }

    pub(super) fn end(&self) -> usize {
        self.start + self.n_out * self.stride
    }
}

/// `out[i][c] = sum_k w[i][k] input[k][c]`, through a ReLU if asked; rows of `out` beyond the units are left alone.
pub(super) fn forward(
    isa: Isa,
    weights: &[f32],
    layer: Layer,
    input: &Features,
    out: &mut Features,
    n_columns: usize,
    relu: bool,
) {
    assert!(n_columns.is_multiple_of(BLOCK) && n_columns <= input.stride && n_columns <= out.stride);
    assert!(weights.len() >= layer.end() && input.n_rows >= layer.n_in && out.n_rows >= layer.n_out);
    let p = Product {
        w: weights[layer.start..].as_ptr(),
        w_row: layer.stride,
        w_step: 1,
        n_sum: layer.n_in,
        b: input.data.as_ptr(),
        b_stride: input.stride,
        out: out.data.as_mut_ptr(),
        out_stride: out.stride,
    };
    let n_out = layer.n_out;
    if relu {
        for_isa!(isa, S, (p: Product, n_out: usize, n_columns: usize), product::<S, { finish::RELU }>(p, n_out, n_columns));
    } else {
        for_isa!(isa, S, (p: Product, n_out: usize, n_columns: usize), product::<S, { finish::NOTHING }>(p, n_out, n_columns));
    }
}

/// Overwrites the activations of a layer's inputs (not the row of ones) with the gradients there:
/// `sum_i w[i][k] delta[i][c]` where the ReLU was open, else 0.
pub(super) fn backward(
    isa: Isa,
    weights: &[f32],
    layer: Layer,
    delta: &Features,
    activations: &mut Features,
    n_columns: usize,
) {
    assert!(n_columns.is_multiple_of(BLOCK) && n_columns <= delta.stride && n_columns <= activations.stride);
    assert!(weights.len() >= layer.end() && delta.n_rows >= layer.n_out && activations.n_rows >= layer.n_in);
    let p = Product {
        w: weights[layer.start..].as_ptr(),
        w_row: 1,
        w_step: layer.stride,
        n_sum: layer.n_out,
        b: delta.data.as_ptr(),
        b_stride: delta.stride,
        out: activations.data.as_mut_ptr(),
        out_stride: activations.stride,
    };
    let n_rows = layer.n_in - 1;
    for_isa!(isa, S, (p: Product, n_rows: usize, n_columns: usize), product::<S, { finish::GATE }>(p, n_rows, n_columns));
}

/// `gradient[i][k] = sum_c delta[i][c] input[k][c]`, laid out as the weights are; `turned` is room for the transposed input.
pub(super) fn weight_gradient(
    isa: Isa,
    gradient: &mut [f32],
    layer: Layer,
    delta: &Features,
    input: &Features,
    n_columns: usize,
    turned: &mut Aligned,
) {
    let n_rows = layer.stride;
    assert!(n_columns.is_multiple_of(BLOCK) && n_columns <= delta.stride && n_columns <= input.stride);
    assert!(gradient.len() >= layer.end() && delta.n_rows >= layer.n_out);
    // The input's rows are padded to the block too, with zeros: so the gradients between the rows of weights are 0.
    assert!(input.data.len() >= n_rows * input.stride && turned.len() >= n_columns * n_rows);
    let (from, from_stride, to) = (input.data.as_ptr(), input.stride, turned.as_mut_ptr());
    for_isa!(
        isa,
        S,
        (from: *const f32, from_stride: usize, to: *mut f32, n_rows: usize, n_columns: usize),
        transpose::<S>(from, from_stride, to, n_rows, n_rows, n_columns)
    );
    let p = Product {
        w: delta.data.as_ptr(),
        w_row: delta.stride,
        w_step: 1,
        n_sum: n_columns,
        b: turned.as_ptr(),
        b_stride: n_rows,
        out: gradient[layer.start..].as_mut_ptr(),
        out_stride: n_rows,
    };
    let n_out = layer.n_out;
    for_isa!(isa, S, (p: Product, n_out: usize, n_rows: usize), product::<S, { finish::NOTHING }>(p, n_out, n_rows));
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
