//! Counter-based random streams: draw `k` of a stream is a pure function of `(seed, stream, k)`.
//!
//! The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). Because no state
//! is carried from one draw to the next, work may be cut into any pieces on any number of threads and still
//! gives the same bits.

use std::convert::Infallible;

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// One block of four 32-bit words from a 128-bit counter and a 64-bit key.
#[inline]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut c = counter;
    let mut k = key;
    for _ in 0..ROUNDS {
        let p0 = u64::from(MULTIPLIER[0]) * u64::from(c[0]);
        let p1 = u64::from(MULTIPLIER[1]) * u64::from(c[2]);
        c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
        k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
    }
    c
}

/// A family of independent draws, addressed by a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
}

/// Marks counters that derive keys, so that they never meet counters that make draws.
const DERIVE: u32 = 0xFFFF_FFFF;

impl Stream {
    /// The root stream of a run.
    pub fn new(seed: u64) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32] }
    }

    /// An independent stream named by `id`.
    pub fn substream(&self, id: u64) -> Self {
        let words = philox4x32_10([id as u32, (id >> 32) as u32, 0, DERIVE], self.key);
        Self { key: [words[0], words[1]] }
    }

    /// What names it to a generator on a device: the words of draw `index` are those of `key` and the counters `[0.., index, index >> 32, 0]`.
    #[cfg(feature = "gpu")]
    pub(crate) fn key(&self) -> [u32; 2] {
        self.key
    }

    /// The random words of draw `index`: as many as the draw asks for.
    #[inline]
    pub fn at(&self, index: u64) -> Draw {
        Draw { key: self.key, counter: [0, index as u32, (index >> 32) as u32, 0], words: [0; 4], used: 4, spare: None }
    }
}

/// The random words of one draw of a [`Stream`].
#[derive(Debug, Clone)]
pub struct Draw {
    key: [u32; 2],
    counter: [u32; 4],
    words: [u32; 4],
    used: usize,
    spare: Option<f64>,
}

impl Draw {
    /// The next 32 bits.
    #[inline]
    pub fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.words = philox4x32_10(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// Uniform on the open interval (0, 1): 53 bits, centred in their cells.
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        let high = u64::from(self.word()) << 32;
        let bits = (high | u64::from(self.word())) >> 11;
        // 2^-53; the largest value rounds to 1 - 2^-53, never to 1.
        ((bits as f64) + 0.5).min(9_007_199_254_740_991.0) * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Standard normal (Box and Muller 1958).
    #[inline]
    pub fn normal(&mut self) -> f64 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }

    /// Uniform integer below `n` (Lemire's multiply-shift on 64 bits; bias below `n` / 2^64).
    #[inline]
    pub fn below(&mut self, n: usize) -> usize {
        let high = u64::from(self.word()) << 32;
        let bits = high | u64::from(self.word());
        ((u128::from(bits) * n as u128) >> 64) as usize
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// Lets any distribution of the `rand` family draw from a stream.
impl rand::TryRng for Draw {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.word())
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from(self.word()) << 32 | u64::from(self.word()))
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(4) {
            chunk.copy_from_slice(&self.word().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution.
    #[test]
    fn philox_known_answers() {
        let max = u32::MAX;
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32_10([max; 4], [max; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    /// A change of these values changes every seeded result: call it breaking.
    #[test]
    fn stream_values_are_stable() {
        let mut draw = Stream::new(1).substream(2).at(3);
        let values = [draw.uniform(), draw.uniform(), draw.normal()];
        let again = Stream::new(1).substream(2).at(3).uniform();
        assert_eq!(values[0], again);
        assert_ne!(Stream::new(1).substream(3).at(3).uniform(), again);
        assert_ne!(Stream::new(2).substream(2).at(3).uniform(), again);
    }

    #[test]
    fn moments_of_uniform_and_normal() {
        let stream = Stream::new(7);
        let n = 200_000u64;
        let (mut mean, mut square, mut normal_square) = (0.0, 0.0, 0.0);
        for k in 0..n {
            let mut draw = stream.at(k);
            let u = draw.uniform();
            mean += u / n as f64;
            square += u * u / n as f64;
            normal_square += draw.normal().powi(2) / n as f64;
        }
        // Five standard errors of each moment.
        assert!((mean - 0.5).abs() < 5.0 * (1.0 / 12.0 / n as f64).sqrt());
        assert!((square - 1.0 / 3.0).abs() < 5.0 * (4.0 / 45.0 / n as f64).sqrt());
        assert!((normal_square - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt());
    }
}
