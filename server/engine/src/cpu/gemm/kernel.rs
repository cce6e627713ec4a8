//! The innermost loop of all products: a tile of the result in registers, one depth after the
//! other (Goto and van de Geijn 2008), with the widest instructions that the machine has.
//!
//! A tile is `rows` × `VECTORS · lanes`; its operands come packed, that many values per depth,
//! aligned to nothing. At the right edge of a product tiles are one or two vectors wide, so that
//! little is computed in vain.

use std::sync::OnceLock;

/// Vectors across a whole tile.
pub const VECTORS: usize = 3;
/// Most rows and columns that a tile of any kernel has.
pub const MAX_ROWS: usize = 8;
/// See [`MAX_ROWS`].
pub const MAX_COLUMNS: usize = VECTORS * 16;

/// What a tile starts from.
#[derive(Clone, Copy)]
pub enum Start {
    /// What is in the output already.
    Output,
    /// One value per row and one per column, each `rows` and `columns` long.
    Bias(*const f32, *const f32),
}

/// `c[i, j] = start + Σₖ a[k, i] b[k, j]`, rows of `c` being `stride` apart.
type Run =
    unsafe fn(depth: usize, a: *const f32, b: *const f32, c: *mut f32, stride: usize, start: Start);

/// `out[k · width + i] = source[i · stride + k]` for `i < width`, `k < depth`.
type Transpose =
    unsafe fn(source: *const f32, stride: usize, width: usize, depth: usize, out: *mut f32);

/// A kernel for one kind of machine.
pub struct Kernel {
    /// Its name, for failures of tests.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "tests name the kernel at fault")
    )]
    pub name: &'static str,
    /// Rows of its tile.
    pub rows: usize,
    /// Values of one vector; a whole tile has [`VECTORS`] times as many columns.
    pub lanes: usize,
    /// Computes a tile that is one, two or three vectors wide.
    ///
    /// # Safety
    /// `a`, `b` and `c` must hold whole tiles; the machine must have the kernel's instructions,
    /// which [`kernel`] has made sure of.
    pub run: [Run; VECTORS],
    /// Packs rows.
    ///
    /// # Safety
    /// As for `run`; `source` holds `width` rows of `depth` values.
    pub transpose: Transpose,
}

const PORTABLE: Kernel = Kernel {
    name: "portable",
    rows: 4,
    lanes: 4,
    run: [portable::run::<4>, portable::run::<8>, portable::run::<12>],
    transpose: portable::transpose,
};

/// The best kernel of this machine.
pub fn kernel() -> &'static Kernel {
    static BEST: OnceLock<Kernel> = OnceLock::new();
    BEST.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            use crate::cpu::isa::{Isa, allows};
            let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx2");
            if wide && allows(Isa::Avx512) {
                return x86::AVX512;
            }
            let fused = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if fused && allows(Isa::Avx2) {
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
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            all.push(x86::AVX2);
        }
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx2") {
            all.push(x86::AVX512);
        }
    }
    all
}

/// Asks for the memory of `values` to be brought into the second cache, without waiting for it.
#[inline(always)]
pub fn prefetch(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint, which reads nothing; every machine of this architecture has it.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

mod portable {
    use super::Start;

    const ROWS: usize = 4;

    /// Plain loops, which compilers turn into what vectors there are.
    pub unsafe fn run<const COLUMNS: usize>(
        depth: usize,
        a: *const f32,
        b: *const f32,
        c: *mut f32,
        stride: usize,
        start: Start,
    ) {
        let mut sums = [[0.0f32; COLUMNS]; ROWS];
        // SAFETY: the caller's promise: whole tiles.
        unsafe {
            let a = std::slice::from_raw_parts(a, depth * ROWS);
            let b = std::slice::from_raw_parts(b, depth * COLUMNS);
            for (a, b) in a
                .as_chunks::<ROWS>()
                .0
                .iter()
                .zip(b.as_chunks::<COLUMNS>().0)
            {
                for (sums, a) in sums.iter_mut().zip(a) {
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum += a * b;
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (j, sum) in sums.iter().enumerate() {
                    let c = c.add(i * stride + j);
                    *c = sum
                        + match start {
                            Start::Output => *c,
                            Start::Bias(row, column) => *row.add(i) + *column.add(j),
                        };
                }
            }
        }
    }

    /// Plain loops in small blocks.
    pub unsafe fn transpose(
        source: *const f32,
        stride: usize,
        width: usize,
        depth: usize,
        out: *mut f32,
    ) {
        for i in 0..width {
            for k in 0..depth {
                // SAFETY: the caller's promise.
                unsafe { *out.add(k * width + i) = *source.add(i * stride + k) };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Kernel, Start};

    pub const AVX2: Kernel = Kernel {
        name: "avx2",
        rows: 4,
        lanes: 8,
        run: [run_avx2::<1>, run_avx2::<2>, run_avx2::<3>],
        transpose: transpose_avx2,
    };

    pub const AVX512: Kernel = Kernel {
        name: "avx512",
        rows: 8,
        lanes: 16,
        run: [run_avx512::<1>, run_avx512::<2>, run_avx512::<3>],
        transpose: transpose_avx2,
    };

    #[target_feature(enable = "avx2,fma")]
    unsafe fn run_avx2<const V: usize>(
        depth: usize,
        a: *const f32,
        b: *const f32,
        c: *mut f32,
        stride: usize,
        start: Start,
    ) {
        const ROWS: usize = 4;
        let mut sums = [[_mm256_setzero_ps(); V]; ROWS];
        // SAFETY: the caller's promise: whole tiles.
        unsafe {
            fetch_tile::<ROWS>(c, stride, 8 * V);
            for k in 0..depth {
                let (a, b) = (a.add(k * ROWS), b.add(k * 8 * V));
                let mut line = [_mm256_setzero_ps(); V];
                for (v, line) in line.iter_mut().enumerate() {
                    // As below; and what is asked for here keeps the compiler from loading more
                    // than there are registers for, which cost a third.
                    let ahead = b.wrapping_add(16 * 8 * V + 8 * v);
                    _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    *line = _mm256_loadu_ps(b.add(8 * v));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let value = _mm256_broadcast_ss(&*a.add(i));
                    for (sum, line) in sums.iter_mut().zip(line) {
                        *sum = _mm256_fmadd_ps(value, line, *sum);
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    let c = c.add(i * stride + 8 * v);
                    let start = match start {
                        Start::Output => _mm256_loadu_ps(c),
                        Start::Bias(row, column) => _mm256_add_ps(
                            _mm256_broadcast_ss(&*row.add(i)),
                            _mm256_loadu_ps(column.add(8 * v)),
                        ),
                    };
                    _mm256_storeu_ps(c, _mm256_add_ps(start, sum));
                }
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn run_avx512<const V: usize>(
        depth: usize,
        a: *const f32,
        b: *const f32,
        c: *mut f32,
        stride: usize,
        start: Start,
    ) {
        const ROWS: usize = 8;
        let mut sums = [[_mm512_setzero_ps(); V]; ROWS];
        // SAFETY: the caller's promise: whole tiles.
        unsafe {
            fetch_tile::<ROWS>(c, stride, 16 * V);
            for k in 0..depth {
                let (a, b) = (a.add(k * ROWS), b.add(k * 16 * V));
                let mut line = [_mm512_setzero_ps(); V];
                for (v, line) in line.iter_mut().enumerate() {
                    // A strip that only just fits the first cache is not always still there.
                    let ahead = b.wrapping_add(8 * 16 * V + 16 * v);
                    _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    *line = _mm512_loadu_ps(b.add(16 * v));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let value = _mm512_set1_ps(*a.add(i));
                    for (sum, line) in sums.iter_mut().zip(line) {
                        *sum = _mm512_fmadd_ps(value, line, *sum);
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    let c = c.add(i * stride + 16 * v);
                    let start = match start {
                        Start::Output => _mm512_loadu_ps(c),
                        Start::Bias(row, column) => _mm512_add_ps(
                            _mm512_set1_ps(*row.add(i)),
                            _mm512_loadu_ps(column.add(16 * v)),
                        ),
                    };
                    _mm512_storeu_ps(c, _mm512_add_ps(start, sum));
                }
            }
        }
    }

    /// Has a tile of the output brought near while it is computed, whatever it starts from.
    #[inline(always)]
    unsafe fn fetch_tile<const ROWS: usize>(c: *const f32, stride: usize, width: usize) {
        for i in 0..ROWS {
            // SAFETY: the caller's tile; and prefetching reads nothing.
            unsafe {
                let row = c.add(i * stride);
                for at in (0..width).step_by(16) {
                    _mm_prefetch::<_MM_HINT_T0>(row.add(at).cast());
                }
                _mm_prefetch::<_MM_HINT_T0>(row.add(width - 1).cast());
            }
        }
    }

    /// Blocks of 8 × 8 and 4 × 4 through registers; what is left over one by one.
    #[target_feature(enable = "avx2")]
    unsafe fn transpose_avx2(
        source: *const f32,
        stride: usize,
        width: usize,
        depth: usize,
        out: *mut f32,
    ) {
        let (blocks, whole) = (width / 8 * 8, depth / 8 * 8);
        // SAFETY: the caller's promise.
        unsafe {
            for i in (0..blocks).step_by(8) {
                for k in (0..whole).step_by(8) {
                    let row = |n: usize| _mm256_loadu_ps(source.add((i + n) * stride + k));
                    let r = [
                        row(0),
                        row(1),
                        row(2),
                        row(3),
                        row(4),
                        row(5),
                        row(6),
                        row(7),
                    ];
                    for (n, line) in transposed(r).into_iter().enumerate() {
                        _mm256_storeu_ps(out.add((k + n) * width + i), line);
                    }
                }
            }
            let mut fours = blocks;
            let whole_fours = depth / 4 * 4;
            if width - blocks >= 4 {
                for k in (0..whole_fours).step_by(4) {
                    let row = |n: usize| _mm_loadu_ps(source.add((blocks + n) * stride + k));
                    let (mut a, mut b, mut c, mut d) = (row(0), row(1), row(2), row(3));
                    _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
                    for (n, line) in [a, b, c, d].into_iter().enumerate() {
                        _mm_storeu_ps(out.add((k + n) * width + blocks), line);
                    }
                }
                fours += 4;
            }
            for i in 0..width {
                let first = if i < blocks {
                    whole
                } else if i < fours {
                    whole_fours
                } else {
                    0
                };
                for k in first..depth {
                    *out.add(k * width + i) = *source.add(i * stride + k);
                }
            }
        }
    }

    /// Rows become columns.
    #[target_feature(enable = "avx2")]
    fn transposed(r: [__m256; 8]) -> [__m256; 8] {
        let low = |n: usize| _mm256_unpacklo_ps(r[n], r[n + 1]);
        let high = |n: usize| _mm256_unpackhi_ps(r[n], r[n + 1]);
        // pairs of rows, interleaved
        let (p0, p1, p2, p3) = (low(0), high(0), low(2), high(2));
        let (p4, p5, p6, p7) = (low(4), high(4), low(6), high(6));
        // fours of rows
        const LOW: i32 = 0b01_00_01_00;
        const HIGH: i32 = 0b11_10_11_10;
        let q0 = _mm256_shuffle_ps::<LOW>(p0, p2);
        let q1 = _mm256_shuffle_ps::<HIGH>(p0, p2);
        let q2 = _mm256_shuffle_ps::<LOW>(p1, p3);
        let q3 = _mm256_shuffle_ps::<HIGH>(p1, p3);
        let q4 = _mm256_shuffle_ps::<LOW>(p4, p6);
        let q5 = _mm256_shuffle_ps::<HIGH>(p4, p6);
        let q6 = _mm256_shuffle_ps::<LOW>(p5, p7);
        let q7 = _mm256_shuffle_ps::<HIGH>(p5, p7);
        // all eight
        [
            _mm256_permute2f128_ps::<0x20>(q0, q4),
            _mm256_permute2f128_ps::<0x20>(q1, q5),
            _mm256_permute2f128_ps::<0x20>(q2, q6),
            _mm256_permute2f128_ps::<0x20>(q3, q7),
            _mm256_permute2f128_ps::<0x31>(q0, q4),
            _mm256_permute2f128_ps::<0x31>(q1, q5),
            _mm256_permute2f128_ps::<0x31>(q2, q6),
            _mm256_permute2f128_ps::<0x31>(q3, q7),
        ]
    }
}
