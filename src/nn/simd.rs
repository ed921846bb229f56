//! Vector instructions for the network kernels: one trait, three instruction sets, chosen once at run time.
//!
//! Every kernel is written once over [`Simd`] and compiled for each set. Results are the same bits on one machine
//! for ever; machines with different instruction sets may differ in the last bits (a fused multiply-add rounds once).

/// The instruction sets that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The widest set that this machine has.
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// Every set that this machine has, widest first.
    #[cfg(test)]
    pub(super) fn available() -> Vec<Self> {
        let mut sets = vec![Self::detect()];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && sets[0] != Self::Avx2 {
            sets.push(Self::Avx2);
        }
        if sets[0] != Self::Portable {
            sets.push(Self::Portable);
        }
        sets
    }
}

/// Arithmetic on one vector of f32.
///
/// # Safety
/// Methods may only run where the instruction set is present; `load` and `store` touch `LANES` floats at the pointer.
pub(super) trait Simd: Copy {
    /// The vector.
    type V: Copy;
    /// Floats in a vector; divides [`super::kernel::BLOCK`].
    const LANES: usize;
    /// Vectors side by side in a tile of a matrix product: as many as the registers hold.
    const TILE_COLUMNS: usize;

    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, value: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// 1 / sqrt(a) to a part in a thousand or better.
    unsafe fn reciprocal_sqrt(a: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// a b + c
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `value` where `gate` is above 0, else 0.
    unsafe fn where_positive(gate: Self::V, value: Self::V) -> Self::V;
    /// Four columns of `LANES` rows that are `stride` floats apart, a vector for each column.
    unsafe fn columns4(from: *const f32, stride: usize) -> [Self::V; 4];
}

/// Four lanes in plain Rust: SSE2 on any x86-64, NEON on aarch64.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Simd for Portable {
    type V = [f32; 4];
    const LANES: usize = 4;
    const TILE_COLUMNS: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 4] {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 4] {
        // SAFETY: the caller vouches for four floats; arrays of f32 need no more alignment than f32.
        unsafe { *from.cast::<[f32; 4]>() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: [f32; 4]) {
        // SAFETY: as in `load`.
        unsafe { *to.cast::<[f32; 4]>() = value }
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn reciprocal_sqrt(a: [f32; 4]) -> [f32; 4] {
        a.map(|value| 1.0 / value.sqrt())
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        // Without the instruction `mul_add` is a library call, a hundred times slower.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
        } else {
            std::array::from_fn(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    unsafe fn where_positive(gate: [f32; 4], value: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if gate[i] > 0.0 { value[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn columns4(from: *const f32, stride: usize) -> [[f32; 4]; 4] {
        // SAFETY: the caller vouches for four floats in each of four rows.
        let r: [[f32; 4]; 4] = std::array::from_fn(|k| unsafe { *from.add(k * stride).cast() });
        std::array::from_fn(|i| [r[0][i], r[1][i], r[2][i], r[3][i]])
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    // SAFETY of this module: each method is one intrinsic (or a few) of the set that the trait's contract requires.
    #![allow(unsafe_op_in_unsafe_fn)]

    use std::arch::x86_64::*;

    use super::Simd;

    /// Eight lanes.
    #[derive(Clone, Copy)]
    pub(in crate::nn) struct Avx2;

    impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;
        const TILE_COLUMNS: usize = 2;

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m256 {
            _mm256_set1_ps(value)
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            _mm256_loadu_ps(from)
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, value: __m256) {
            _mm256_storeu_ps(to, value);
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            _mm256_add_ps(a, b)
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            _mm256_mul_ps(a, b)
        }
        #[inline(always)]
        unsafe fn reciprocal_sqrt(a: __m256) -> __m256 {
            _mm256_rsqrt_ps(a)
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            _mm256_max_ps(a, b)
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            _mm256_fmadd_ps(a, b, c)
        }
        #[inline(always)]
        unsafe fn where_positive(gate: __m256, value: __m256) -> __m256 {
            _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(gate, _mm256_setzero_ps()), value)
        }
        #[inline(always)]
        unsafe fn columns4(from: *const f32, stride: usize) -> [__m256; 4] {
            let mut r = [_mm256_setzero_ps(); 4];
            for (k, v) in r.iter_mut().enumerate() {
                *v = _mm256_loadu2_m128(from.add((k + 4) * stride), from.add(k * stride));
            }
            // The usual turn of four by four, in each quarter or half of the vectors at once.
            let (a, b) = (_mm256_unpacklo_ps(r[0], r[1]), _mm256_unpackhi_ps(r[0], r[1]));
            let (c, d) = (_mm256_unpacklo_ps(r[2], r[3]), _mm256_unpackhi_ps(r[2], r[3]));
            [
                _mm256_shuffle_ps::<0b01_00_01_00>(a, c),
                _mm256_shuffle_ps::<0b11_10_11_10>(a, c),
                _mm256_shuffle_ps::<0b01_00_01_00>(b, d),
                _mm256_shuffle_ps::<0b11_10_11_10>(b, d),
            ]
        }
    }

    /// Sixteen lanes.
    #[derive(Clone, Copy)]
    pub(in crate::nn) struct Avx512;

    impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;
        const TILE_COLUMNS: usize = 4;

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m512 {
            _mm512_set1_ps(value)
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            _mm512_loadu_ps(from)
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, value: __m512) {
            _mm512_storeu_ps(to, value);
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            _mm512_add_ps(a, b)
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            _mm512_mul_ps(a, b)
        }
        #[inline(always)]
        unsafe fn reciprocal_sqrt(a: __m512) -> __m512 {
            _mm512_rsqrt14_ps(a)
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            _mm512_max_ps(a, b)
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            _mm512_fmadd_ps(a, b, c)
        }
        #[inline(always)]
        unsafe fn where_positive(gate: __m512, value: __m512) -> __m512 {
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps()), value)
        }
        #[inline(always)]
        unsafe fn columns4(from: *const f32, stride: usize) -> [__m512; 4] {
            let mut r = [_mm512_setzero_ps(); 4];
            for (k, v) in r.iter_mut().enumerate() {
                // Rows k, k + 4, k + 8, k + 12, a quarter each.
                let first = _mm512_castps128_ps512(_mm_loadu_ps(from.add(k * stride)));
                let second = _mm_loadu_ps(from.add((k + 4) * stride));
                let third = _mm_loadu_ps(from.add((k + 8) * stride));
                let fourth = _mm_loadu_ps(from.add((k + 12) * stride));
                let half = _mm512_mask_broadcast_f32x4(first, 0x00F0, second);
                let most = _mm512_mask_broadcast_f32x4(half, 0x0F00, third);
                *v = _mm512_mask_broadcast_f32x4(most, 0xF000, fourth);
            }
            // As for eight lanes.
            let (a, b) = (_mm512_unpacklo_ps(r[0], r[1]), _mm512_unpackhi_ps(r[0], r[1]));
            let (c, d) = (_mm512_unpacklo_ps(r[2], r[3]), _mm512_unpackhi_ps(r[2], r[3]));
            [
                _mm512_shuffle_ps::<0b01_00_01_00>(a, c),
                _mm512_shuffle_ps::<0b11_10_11_10>(a, c),
                _mm512_shuffle_ps::<0b01_00_01_00>(b, d),
                _mm512_shuffle_ps::<0b11_10_11_10>(b, d),
            ]
        }
    }
}
