//! Vectors of f32 for the transforms of [`super`]: the same few operations on 4, 8 and 16 lanes.
//!
//! The functions are unsafe because the machine must have the instructions of the vector; whoever
//! calls them is compiled for these and runs only where they are.

/// A vector of f32.
///
/// # Safety
/// All functions need the machine to have the vector's instructions; `load` and `store` need
/// [`Lanes::COUNT`] values behind the pointer.
pub trait Lanes: Copy {
    /// Number of values.
    const COUNT: usize;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn splat(value: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// `4 · COUNT` consecutive values → those at `4 i`, at `4 i + 1`, `4 i + 2` and `4 i + 3`.
    unsafe fn part(consecutive: [Self; 4]) -> [Self; 4];
    /// Undoes [`Lanes::part`].
    unsafe fn join(parts: [Self; 4]) -> [Self; 4];
    /// Every value moves to the lane before its own; `next` takes the last one.
    unsafe fn shift(self, next: f32) -> Self;
}

/// Four values, for every machine; also what the others are compared with.
impl Lanes for [f32; 4] {
    const COUNT: usize = 4;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise; arrays are aligned as their values.
        unsafe { from.cast::<Self>().read() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<Self>().write(self) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; 4]
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] - other[lane])
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] * other[lane])
    }

    #[inline(always)]
    unsafe fn part(consecutive: [Self; 4]) -> [Self; 4] {
        std::array::from_fn(|part| std::array::from_fn(|lane| consecutive[lane][part]))
    }

    #[inline(always)]
    unsafe fn join(parts: [Self; 4]) -> [Self; 4] {
        std::array::from_fn(|at| std::array::from_fn(|part| parts[part][at]))
    }

    #[inline(always)]
    unsafe fn shift(self, next: f32) -> Self {
        [self[1], self[2], self[3], next]
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    // SAFETY, of all blocks below: the trait's promise, which is that the machine has the
    // instructions, and that pointers have a vector's values behind them.

    impl Lanes for __m256 {
        const COUNT: usize = 8;

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see above.
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see above.
            unsafe { _mm256_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: see above.
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm256_add_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm256_sub_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm256_mul_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn part([a, b, c, d]: [Self; 4]) -> [Self; 4] {
            // SAFETY: see above. Fours 0 and 4, 1 and 5, … side by side, then turned around.
            unsafe {
                turned([
                    _mm256_permute2f128_ps::<0x20>(a, c),
                    _mm256_permute2f128_ps::<0x31>(a, c),
                    _mm256_permute2f128_ps::<0x20>(b, d),
                    _mm256_permute2f128_ps::<0x31>(b, d),
                ])
            }
        }

        #[inline(always)]
        unsafe fn join(parts: [Self; 4]) -> [Self; 4] {
            // SAFETY: see above.
            unsafe {
                let [a, b, c, d] = turned(parts);
                [
                    _mm256_permute2f128_ps::<0x20>(a, b),
                    _mm256_permute2f128_ps::<0x20>(c, d),
                    _mm256_permute2f128_ps::<0x31>(a, b),
                    _mm256_permute2f128_ps::<0x31>(c, d),
                ]
            }
        }

        #[inline(always)]
        unsafe fn shift(self, next: f32) -> Self {
            // SAFETY: see above.
            unsafe {
                let order = _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 0);
                let moved = _mm256_permutevar8x32_ps(self, order);
                _mm256_blend_ps::<0x80>(moved, _mm256_set1_ps(next))
            }
        }
    }

    /// 4 × 4 values in each half become columns.
    #[inline(always)]
    unsafe fn turned([a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
        // SAFETY: see above.
        unsafe {
            let (low_ab, high_ab) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (low_cd, high_cd) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            [
                _mm256_shuffle_ps::<0x44>(low_ab, low_cd),
                _mm256_shuffle_ps::<0xee>(low_ab, low_cd),
                _mm256_shuffle_ps::<0x44>(high_ab, high_cd),
                _mm256_shuffle_ps::<0xee>(high_ab, high_cd),
            ]
        }
    }

    impl Lanes for __m512 {
        const COUNT: usize = 16;

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see above.
            unsafe { _mm512_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_add_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_sub_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_mul_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn part([a, b, c, d]: [Self; 4]) -> [Self; 4] {
            // SAFETY: see above. Eight values of one part and eight of the next in each vector,
            // then halves of equal parts joined.
            unsafe {
                let first =
                    _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
                let second = _mm512_add_epi32(first, _mm512_set1_epi32(2));
                let (p01, q01) = (
                    _mm512_permutex2var_ps(a, first, b),
                    _mm512_permutex2var_ps(c, first, d),
                );
                let (p23, q23) = (
                    _mm512_permutex2var_ps(a, second, b),
                    _mm512_permutex2var_ps(c, second, d),
                );
                [
                    _mm512_shuffle_f32x4::<0x44>(p01, q01),
                    _mm512_shuffle_f32x4::<0xee>(p01, q01),
                    _mm512_shuffle_f32x4::<0x44>(p23, q23),
                    _mm512_shuffle_f32x4::<0xee>(p23, q23),
                ]
            }
        }

        #[inline(always)]
        unsafe fn join([a, b, c, d]: [Self; 4]) -> [Self; 4] {
            // SAFETY: see above.
            unsafe {
                let low =
                    _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
                let high = _mm512_add_epi32(low, _mm512_set1_epi32(4));
                let (p, q) = (
                    _mm512_shuffle_f32x4::<0x44>(a, b),
                    _mm512_shuffle_f32x4::<0x44>(c, d),
                );
                let (r, s) = (
                    _mm512_shuffle_f32x4::<0xee>(a, b),
                    _mm512_shuffle_f32x4::<0xee>(c, d),
                );
                [
                    _mm512_permutex2var_ps(p, low, q),
                    _mm512_permutex2var_ps(p, high, q),
                    _mm512_permutex2var_ps(r, low, s),
                    _mm512_permutex2var_ps(r, high, s),
                ]
            }
        }

        #[inline(always)]
        unsafe fn shift(self, next: f32) -> Self {
            // SAFETY: see above.
            unsafe {
                let next = _mm512_castps_si512(_mm512_set1_ps(next));
                let moved = _mm512_alignr_epi32::<1>(next, _mm512_castps_si512(self));
                _mm512_castsi512_ps(moved)
            }
        }
    }
}
