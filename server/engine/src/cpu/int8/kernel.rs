//! The innermost loops of products of whole numbers, with the widest instructions that the machine has.
//! Operands come in words of four numbers: a tile's rows one after the other, its columns packed.

use std::sync::OnceLock;

/// Most rows and columns that a tile of any kernel has.
pub const MAX_ROWS: usize = 32;
/// See [`MAX_ROWS`].
pub const MAX_WIDTH: usize = 48;

/// `sums[i · width + j] = Σₖ a[i, k] b[j, k]`, for whole tiles: `words` words of four numbers, rows of `a`
/// one after the other, word k of column j of `b` at `k · width + j`.
type Run = unsafe fn(words: usize, a: *const i8, b: *const u32, sums: *mut i32);

/// A kernel for one kind of machine.
#[derive(Clone, Copy)]
pub struct Kernel {
    /// Its name, for failures of tests.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "tests name the kernel at fault")
    )]
    pub name: &'static str,
    /// Rows of its tile.
    pub rows: usize,
    /// Columns of its tile.
    pub width: usize,
    /// Bytes of packed columns that its second cache keeps.
    pub block: usize,
    /// Whether it takes the rows' numbers 128 larger, as unsigned ones.
    pub offset: bool,
    /// Computes a tile.
    ///
    /// # Safety
    /// The operands and the sums must hold whole tiles, `words` must be a multiple of 16, and the
    /// machine must have the kernel's instructions, which [`kernel`] has made sure of.
    pub run: Run,
}

const PORTABLE: Kernel = Kernel {
    name: "portable",
    rows: 4,
    width: 8,
    block: 128 << 10,
    offset: false,
    run: portable,
};

/// The best kernel of this machine.
pub fn kernel() -> &'static Kernel {
    static BEST: OnceLock<Kernel> = OnceLock::new();
    BEST.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            use crate::cpu::isa::{Isa, allows};
            if allows(Isa::Amx) && super::tiles::available() {
                return super::tiles::KERNEL;
            }
            if allows(Isa::Avx512) && x86::has_avx512() {
                return x86::AVX512;
            }
            // It came after 512-bit vectors, for machines that have none.
            if allows(Isa::Avx512) && x86::has_avx_vnni() {
                return x86::AVX_VNNI;
            }
            if allows(Isa::Avx2) && is_x86_feature_detected!("avx2") {
                return x86::AVX2;
            }
        }
        PORTABLE
    })
}

/// All kernels that this machine can run, for tests.
#[cfg(test)]
pub fn all() -> Vec<Kernel> {
    let mut all = vec![PORTABLE];
    #[cfg(target_arch = "x86_64")]
    for (has, kernel) in [
        (is_x86_feature_detected!("avx2"), x86::AVX2),
        (x86::has_avx_vnni(), x86::AVX_VNNI),
        (x86::has_avx512(), x86::AVX512),
        (super::tiles::available(), super::tiles::KERNEL),
    ] {
        if has {
            all.push(kernel);
        } else {
            eprintln!("not tested: this machine has no {}", kernel.name);
        }
    }
    all
}

/// Plain loops: what all others are held to.
unsafe fn portable(words: usize, a: *const i8, b: *const u32, sums: *mut i32) {
    let (rows, width) = (PORTABLE.rows, PORTABLE.width);
    // SAFETY: the caller's promise: whole tiles.
    let (a, b, sums) = unsafe {
        (
            std::slice::from_raw_parts(a, rows * 4 * words),
            std::slice::from_raw_parts(b, words * width),
            std::slice::from_raw_parts_mut(sums, rows * width),
        )
    };
    for (a, sums) in a.chunks_exact(4 * words).zip(sums.chunks_exact_mut(width)) {
        sums.fill(0);
        for (a, b) in a.as_chunks::<4>().0.iter().zip(b.chunks_exact(width)) {
            for (sum, word) in sums.iter_mut().zip(b) {
                for (&x, w) in a.iter().zip(word.to_le_bytes()) {
                    *sum += i32::from(x) * i32::from(w as i8);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Kernel;

    pub const AVX2: Kernel = Kernel {
        name: "avx2",
        rows: 4,
        width: 16,
        block: 192 << 10,
        offset: false,
        run: run_avx2,
    };

    pub const AVX_VNNI: Kernel = Kernel {
        name: "avx-vnni",
        rows: 4,
        width: 24,
        block: 384 << 10,
        offset: true,
        run: run_avx_vnni,
    };

    pub const AVX512: Kernel = Kernel {
        name: "avx512-vnni",
        rows: 8,
        width: 48,
        block: 512 << 10,
        offset: true,
        run: run_avx512,
    };

    pub fn has_avx512() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni")
    }

    pub fn has_avx_vnni() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni")
    }

    /// Four numbers of a row.
    ///
    /// # Safety
    /// They lie there.
    #[inline(always)]
    unsafe fn word(a: *const i8) -> i32 {
        // SAFETY: the caller's promise.
        unsafe { a.cast::<i32>().read_unaligned() }
    }

    /// Products of eight bits are made of an unsigned number and a signed one, in pairs that fill 16
    /// bits with a sign: |a| ≤ 127 and ±b ≤ 127 give 2 · 127² at most, which fits.
    #[target_feature(enable = "avx2")]
    unsafe fn run_avx2(words: usize, a: *const i8, b: *const u32, sums: *mut i32) {
        const ROWS: usize = 4;
        const VECTORS: usize = 2;
        let ones = _mm256_set1_epi16(1);
        let mut all = [[_mm256_setzero_si256(); VECTORS]; ROWS];
        // SAFETY: the caller's promise: whole tiles.
        unsafe {
            for k in 0..words {
                let line: [__m256i; VECTORS] = std::array::from_fn(|v| {
                    _mm256_loadu_si256(b.add((k * VECTORS + v) * 8).cast())
                });
                for (i, all) in all.iter_mut().enumerate() {
                    let x = _mm256_set1_epi32(word(a.add(4 * (i * words + k))));
                    let size = _mm256_abs_epi8(x);
                    for (sum, line) in all.iter_mut().zip(line) {
                        let pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(line, x));
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
            for (i, all) in all.iter().enumerate() {
                for (v, &sum) in all.iter().enumerate() {
                    _mm256_storeu_si256(sums.add((i * VECTORS + v) * 8).cast(), sum);
                }
            }
        }
    }

    #[target_feature(enable = "avx2,avxvnni")]
    unsafe fn run_avx_vnni(words: usize, a: *const i8, b: *const u32, sums: *mut i32) {
        const ROWS: usize = 4;
        const VECTORS: usize = 3;
        let mut all = [[_mm256_setzero_si256(); VECTORS]; ROWS];
        // SAFETY: the caller's promise: whole tiles.
        unsafe {
            for k in 0..words {
                let line: [__m256i; VECTORS] = std::array::from_fn(|v| {
                    _mm256_loadu_si256(b.add((k * VECTORS + v) * 8).cast())
                });
                for (i, all) in all.iter_mut().enumerate() {
                    let x = _mm256_set1_epi32(word(a.add(4 * (i * words + k))));
                    for (sum, line) in all.iter_mut().zip(line) {
                        *sum = _mm256_dpbusd_avx_epi32(*sum, x, line);
                    }
                }
            }
            for (i, all) in all.iter().enumerate() {
                for (v, &sum) in all.iter().enumerate() {
                    _mm256_storeu_si256(sums.add((i * VECTORS + v) * 8).cast(), sum);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn run_avx512(words: usize, a: *const i8, b: *const u32, sums: *mut i32) {
        const ROWS: usize = 8;
        const VECTORS: usize = 3;
        let mut all = [[_mm512_setzero_si512(); VECTORS]; ROWS];
        // SAFETY: the caller's promise: whole tiles.
        unsafe {
            for k in 0..words {
                let line: [__m512i; VECTORS] = std::array::from_fn(|v| {
                    _mm512_loadu_si512(b.add((k * VECTORS + v) * 16).cast())
                });
                for (i, all) in all.iter_mut().enumerate() {
                    let x = _mm512_set1_epi32(word(a.add(4 * (i * words + k))));
                    for (sum, line) in all.iter_mut().zip(line) {
                        *sum = _mm512_dpbusd_epi32(*sum, x, line);
                    }
                }
            }
            for (i, all) in all.iter().enumerate() {
                for (v, &sum) in all.iter().enumerate() {
                    _mm512_storeu_si512(sums.add((i * VECTORS + v) * 16).cast(), sum);
                }
            }
        }
    }
}
