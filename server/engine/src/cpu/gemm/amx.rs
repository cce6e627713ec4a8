//! Products on the tile registers of recent Xeons (AMX): sixteen rows of sixteen sums at a time, of
//! bf16 numbers, accumulated in f32.
//!
//! bf16 has a third of an f32's digits, so a number is split into three that add up to it exactly:
//! the nearest bf16, the nearest to what that leaves, and the rest. Two are enough for weights in
//! f16 and bf16. Of the products of parts, those are left out that an f32 sum would lose anyway. So
//! the result is as exact as the f32 units', with a multiple of their speed.

use std::arch::asm;
use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::sync::OnceLock;

use crate::cpu::isa::{Isa, allows};

/// Rows, or columns, that one call of [`multiply`] covers: two tiles.
pub const SIDE: usize = 32;
/// Depth of a tile: numbers of bf16 in a row of it.
pub const STEP: usize = 32;
/// Numbers in a tile.
pub const TILE: usize = 16 * STEP;
/// Numbers of one part that [`SIDE`] vectors take per [`STEP`]: two tiles.
pub const PART: usize = 2 * TILE;
/// Parts of the left operand.
pub const LEFT_PARTS: usize = 3;
/// Parts of the left operand, where the right one is whole numbers: what rounding to those has cost is
/// a hundred times what a third part would add.
pub const WHOLE_LEFT_PARTS: usize = 2;
/// Bytes that a step fetches ahead: an eighth of the left operand's.
pub const AHEAD: usize = 2 * LEFT_PARTS * PART / 8;

/// Whether this machine has the tile registers, the operating system lets this process use them,
/// and the loops around them find the vector instructions they are written for.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        cfg!(target_os = "linux")
            && allows(Isa::Amx)
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx2")
            && has_bf16_tiles()
            && permitted()
    })
}

/// CPUID leaf 7: AMX-BF16 and AMX-TILE; and that the system saves the registers (XCR0).
fn has_bf16_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    #[target_feature(enable = "xsave")]
    fn enabled_state() -> u64 {
        // SAFETY: register 0 exists where XGETBV does.
        unsafe { _xgetbv(0) }
    }
    const BF16: u32 = 1 << 22;
    const TILES: u32 = 1 << 24;
    const OSXSAVE: u32 = 1 << 27;
    const TILE_STATE: u64 = 0b11 << 17;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    features & BF16 != 0
        && features & TILES != 0
        // SAFETY: OSXSAVE says that the instruction is there and may be used.
        && unsafe { enabled_state() } & TILE_STATE == TILE_STATE
}

/// Asks Linux for the registers, which are large and so are given only on request, to a process
/// and all threads that it starts later or has.
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: the system call changes nothing in this process' memory; the registers that any
    // system call destroys are named. Other systems have been ruled out.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// The tile registers, set up on this thread until dropped: not to be sent to another.
pub struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// Sets all eight up as 16 rows of 64 bytes; `None` if the machine has none.
    pub fn begin() -> Option<Self> {
        #[repr(align(64))]
        struct Shape([u8; 64]);
        if !available() {
            return None;
        }
        let mut shape = Shape([0; 64]);
        shape.0[0] = 1;
        for register in 0..8 {
            shape.0[16 + 2 * register] = 64;
            shape.0[48 + register] = 16;
        }
        // SAFETY: the registers are there and permitted; the shape is one that the manual allows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) shape.0.as_ptr(), options(nostack, readonly)) };
        Some(Self(PhantomData))
    }

    /// `out[i, j] = start[i, j] + Σₖ a[i, k] b[j, k]` for 32 × 32 results: panels of `steps` steps.
    /// Rows of `out` are `stride` values apart. `start` gives the first row, the values from one
    /// row to the next, and from column 0 to column 16: 0 repeats them. `ahead` is memory that will
    /// be wanted soon; [`AHEAD`] bytes of it are fetched in each step.
    ///
    /// # Safety
    /// `a` holds `steps` times [`LEFT_PARTS`] parts and `b` two, or three if `exact`, as
    /// [`split_row`] and [`split_columns`] lay them out; the others hold 32 rows.
    #[expect(clippy::too_many_arguments, reason = "the innermost loop")]
    pub unsafe fn multiply(
        &self,
        steps: usize,
        a: *const u16,
        (b, exact): (*const u16, bool),
        start: (*const f32, usize, usize),
        out: *mut f32,
        stride: usize,
        ahead: *const u16,
    ) {
        for row in 0..SIDE {
            // SAFETY: the caller's output; and prefetching reads nothing.
            unsafe {
                let row = out.add(row * stride);
                _mm_prefetch::<_MM_HINT_T0>(row.cast());
                _mm_prefetch::<_MM_HINT_T0>(row.add(SIDE - 1).cast());
            }
        }
        let (first, down, across) = start;
        // SAFETY: the caller's promise; all tiles are 16 rows of 64 bytes. One block, since nothing
        // says what tile registers hold from one to the next.
        unsafe {
            asm!(
                "tileloadd tmm0, [{first} + {down} * 1]",
                "lea {row}, [{first} + {across} * 1]",
                "tileloadd tmm1, [{row} + {down} * 1]",
                "tileloadd tmm2, [{bottom} + {down} * 1]",
                "lea {row}, [{bottom} + {across} * 1]",
                "tileloadd tmm3, [{row} + {down} * 1]",
                "mov {row:e}, 64",
                "test {steps}, {steps}",
                "jz 4f",
                "2:",
                // a₃ b₁
                "tileloadd tmm4, [{a} + {row} * 1 + 4096]",
                "tileloadd tmm6, [{b} + {row} * 1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "prefetcht1 [{ahead}]",
                "prefetcht1 [{ahead} + 64]",
                "tileloadd tmm7, [{b} + {row} * 1 + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "prefetcht1 [{ahead} + 128]",
                "prefetcht1 [{ahead} + 192]",
                "tileloadd tmm5, [{a} + {row} * 1 + 5120]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                // a₂ b₁
                "tileloadd tmm4, [{a} + {row} * 1 + 2048]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "prefetcht1 [{ahead} + 256]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "prefetcht1 [{ahead} + 320]",
                "tileloadd tmm5, [{a} + {row} * 1 + 3072]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                // a₂ b₂
                "tileloadd tmm6, [{b} + {row} * 1 + 2048]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "prefetcht1 [{ahead} + 384]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "prefetcht1 [{ahead} + 448]",
                "tileloadd tmm7, [{b} + {row} * 1 + 3072]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                // a₁ b₂
                "tileloadd tmm4, [{a} + {row} * 1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "prefetcht1 [{ahead} + 512]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "prefetcht1 [{ahead} + 576]",
                "tileloadd tmm5, [{a} + {row} * 1 + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                // a₁ b₁
                "tileloadd tmm6, [{b} + {row} * 1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "prefetcht1 [{ahead} + 640]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "prefetcht1 [{ahead} + 704]",
                "tileloadd tmm7, [{b} + {row} * 1 + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                // a₁ b₃
                "test {exact}, {exact}",
                "jz 3f",
                "tileloadd tmm6, [{b} + {row} * 1 + 4096]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{b} + {row} * 1 + 5120]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {b}, 2048",
                "3:",
                "add {a}, 6144",
                "add {b}, 4096",
                "add {ahead}, 768",
                "dec {steps}",
                "jnz 2b",
                "4:",
                "tilestored [{out} + {stride} * 1], tmm0",
                "tilestored [{out} + {stride} * 1 + 64], tmm1",
                "mov {row}, {stride}",
                "shl {row}, 4",
                "add {out}, {row}",
                "tilestored [{out} + {stride} * 1], tmm2",
                "tilestored [{out} + {stride} * 1 + 64], tmm3",
                first = in(reg) first,
                bottom = in(reg) first.add(16 * down),
                down = in(reg) 4 * down,
                across = in(reg) 4 * across,
                steps = inout(reg) steps => _,
                a = inout(reg) a => _,
                b = inout(reg) b => _,
                exact = in(reg) usize::from(exact),
                ahead = inout(reg) ahead => _,
                out = inout(reg) out => _,
                stride = in(reg) 4 * stride,
                row = out(reg) _,
                options(nostack),
            );
        }
    }
}

impl Tiles {
    /// As [`Tiles::multiply`], for a right operand of whole numbers that are a bf16 each: one part, and
    /// two parts of the left one, which hold sixteen digits of its numbers.
    ///
    /// # Safety
    /// As for [`Tiles::multiply`]; `a` holds `steps` times [`WHOLE_LEFT_PARTS`] parts and `b` one.
    pub unsafe fn multiply_whole(
        &self,
        steps: usize,
        (a, b): (*const u16, *const u16),
        start: (*const f32, usize, usize),
        out: *mut f32,
        stride: usize,
        ahead: *const u16,
    ) {
        let (first, down, across) = start;
        // SAFETY: as in `multiply`.
        unsafe {
            asm!(
                "tileloadd tmm0, [{first} + {down} * 1]",
                "lea {row}, [{first} + {across} * 1]",
                "tileloadd tmm1, [{row} + {down} * 1]",
                "tileloadd tmm2, [{bottom} + {down} * 1]",
                "lea {row}, [{bottom} + {across} * 1]",
                "tileloadd tmm3, [{row} + {down} * 1]",
                "mov {row:e}, 64",
                "test {steps}, {steps}",
                "jz 4f",
                "2:",
                // a₂ b
                "tileloadd tmm4, [{a} + {row} * 1 + 2048]",
                "tileloadd tmm6, [{b} + {row} * 1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "prefetcht1 [{ahead}]",
                "prefetcht1 [{ahead} + 64]",
                "tileloadd tmm7, [{b} + {row} * 1 + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "prefetcht1 [{ahead} + 128]",
                "prefetcht1 [{ahead} + 192]",
                "tileloadd tmm5, [{a} + {row} * 1 + 3072]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                // a₁ b
                "tileloadd tmm4, [{a} + {row} * 1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "prefetcht1 [{ahead} + 256]",
                "prefetcht1 [{ahead} + 320]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "prefetcht1 [{ahead} + 384]",
                "prefetcht1 [{ahead} + 448]",
                "tileloadd tmm5, [{a} + {row} * 1 + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 4096",
                "add {b}, 2048",
                "add {ahead}, 512",
                "dec {steps}",
                "jnz 2b",
                "4:",
                "tilestored [{out} + {stride} * 1], tmm0",
                "tilestored [{out} + {stride} * 1 + 64], tmm1",
                "mov {row}, {stride}",
                "shl {row}, 4",
                "add {out}, {row}",
                "tilestored [{out} + {stride} * 1], tmm2",
                "tilestored [{out} + {stride} * 1 + 64], tmm3",
                first = in(reg) first,
                bottom = in(reg) first.add(16 * down),
                down = in(reg) 4 * down,
                across = in(reg) 4 * across,
                steps = inout(reg) steps => _,
                a = inout(reg) a => _,
                b = inout(reg) b => _,
                ahead = inout(reg) ahead => _,
                out = inout(reg) out => _,
                stride = in(reg) 4 * stride,
                row = out(reg) _,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the registers exist, since they were set up.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// `x` as three numbers of bf16, in the upper halves of words, that add up to it. Of NaN and
/// infinity, at least one is a NaN.
#[inline(always)]
pub fn split(x: f32) -> [u32; 3] {
    let first = round(x);
    let rest = x - f32::from_bits(first);
    let second = round(rest);
    [first, second, round(rest - f32::from_bits(second))]
}

/// The nearest bf16, ties to even, with zeros below.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let sum = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // The sum of a NaN with many bits set runs over into zero.
    (if x.is_nan() { bits } else { sum }) & 0xffff_0000
}

/// Defines a function whose loops are compiled for the vectors that come with tile registers; the
/// body is also what machines without them would run.
macro_rules! wide {
    ($(#[$meta:meta])* $name:ident($($argument:ident: $type:ty),*) $body:block) => {
        $(#[$meta])*
        pub fn $name($($argument: $type),*) {
            #[inline(always)]
            fn plain($($argument: $type),*) $body
            #[target_feature(enable = "avx512f")]
            fn wide($($argument: $type),*) {
                plain($($argument),*);
            }
            if available() {
                // SAFETY: the machine has these instructions.
                unsafe { wide($($argument),*) }
            } else {
                plain($($argument),*);
            }
        }
    };
}

wide! {
    /// Lays `values`, the numbers of one vector, out as a left operand's row `row` of [`SIDE`]: for
    /// each step two tiles of first parts, two of second ones, and so on for as many `parts` as are
    /// wanted. What the last step lacks becomes zero.
    split_row(values: &[f32], row: usize, parts: usize, panels: &mut [u16]) {
        let at = row / 16 * TILE + row % 16 * STEP;
        for (values, panel) in values.chunks(STEP).zip(panels.chunks_exact_mut(parts * PART)) {
            let mut whole = [0.0f32; STEP];
            let values: &[f32; STEP] = match values.try_into() {
                Ok(values) => values,
                Err(_) => {
                    whole[..values.len()].copy_from_slice(values);
                    &whole
                }
            };
            let mut split_values = [[0u16; STEP]; 3];
            let [first, second, third] = &mut split_values;
            for (index, &value) in values.iter().enumerate() {
                let parts = split(value);
                first[index] = (parts[0] >> 16) as u16;
                second[index] = (parts[1] >> 16) as u16;
                third[index] = (parts[2] >> 16) as u16;
            }
            for (part, values) in panel.chunks_exact_mut(PART).zip(&split_values) {
                part[at..at + STEP].copy_from_slice(values);
            }
        }
    }
}

/// As [`split_row`], for whole steps of f16 numbers as they lie in a file: a third part is zero.
///
/// # Panics
/// If the machine has no tile registers.
pub fn split_f16_row(bytes: &[u8], row: usize, parts: usize, panels: &mut [u16]) {
    /// The upper halves of 32 words.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn halves(low: __m512i, high: __m512i) -> [__m256i; 2] {
        [low, high].map(|words| _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(words)))
    }

    #[target_feature(enable = "avx512f")]
    fn wide(bytes: &[u8], row: usize, count: usize, panels: &mut [u16]) {
        let at = row / 16 * TILE + row % 16 * STEP;
        let (half, one) = (_mm512_set1_epi32(0x7fff), _mm512_set1_epi32(1));
        let above = _mm512_set1_epi32(-0x1_0000);
        let steps = bytes.as_chunks::<{ 2 * STEP }>().0.iter();
        for (bytes, panel) in steps.zip(panels.chunks_exact_mut(count * PART)) {
            // SAFETY: 32 bytes lie at each half.
            let words =
                [0, STEP].map(|at| unsafe { _mm256_loadu_si256(bytes[at..].as_ptr().cast()) });
            let values = words.map(|words| _mm512_cvtph_ps(words));
            let nearest = values.map(|value| {
                // As in `round`.
                let bits = _mm512_castps_si512(value);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), one);
                let bits = _mm512_add_epi32(bits, _mm512_add_epi32(half, odd));
                _mm512_and_si512(bits, above)
            });
            // Eleven digits less eight: what is left needs no rounding.
            let rest = [0, 1].map(|at| {
                _mm512_castps_si512(_mm512_sub_ps(values[at], _mm512_castsi512_ps(nearest[at])))
            });
            let parts = [
                halves(nearest[0], nearest[1]),
                halves(rest[0], rest[1]),
                [_mm256_setzero_si256(); 2],
            ];
            for (part, halves) in panel.chunks_exact_mut(PART).zip(parts) {
                let target = &mut part[at..at + STEP];
                for (target, half) in target.chunks_exact_mut(16).zip(halves) {
                    // SAFETY: there is room for 16 numbers.
                    unsafe { _mm256_storeu_si256(target.as_mut_ptr().cast(), half) };
                }
            }
        }
    }

    assert!(available(), "this machine has other instructions");
    // SAFETY: the machine has these instructions.
    unsafe { wide(bytes, row, parts, panels) }
}

wide! {
    /// As [`split_row`], for whole steps of whole numbers, which are a bf16 each: one part.
    split_i8_row(values: &[i8], row: usize, panels: &mut [u16]) {
        let at = row / 16 * TILE + row % 16 * STEP;
        let steps = values.as_chunks::<STEP>().0.iter();
        for (values, panel) in steps.zip(panels.chunks_exact_mut(PART)) {
            for (out, &value) in panel[at..at + STEP].iter_mut().zip(values) {
                *out = (f32::from(value).to_bits() >> 16) as u16;
            }
        }
    }
}

wide! {
    /// Lays `values` (depth, [`SIDE`]) out as a right operand's panels of three parts: in each tile
    /// of a step, two neighbouring depths lie side by side. What the last step lacks becomes zero.
    split_columns(values: &[f32], panels: &mut [u16]) {
        let zeros = [0.0f32; SIDE];
        let panels = panels.chunks_exact_mut(3 * PART);
        for (step, panel) in values.chunks(STEP * SIDE).zip(panels) {
            let lines = step.as_chunks::<SIDE>().0;
            for pair in 0..STEP / 2 {
                let low = lines.get(2 * pair).unwrap_or(&zeros);
                let high = lines.get(2 * pair + 1).unwrap_or(&zeros);
                for (half, (low, high)) in low.chunks(16).zip(high.chunks(16)).enumerate() {
                    let mut words = [[0u32; 16]; 3];
                    let [first, second, third] = &mut words;
                    for (lane, (&low, &high)) in low.iter().zip(high).enumerate() {
                        let (low, high) = (split(low), split(high));
                        first[lane] = low[0] >> 16 | high[0];
                        second[lane] = low[1] >> 16 | high[1];
                        third[lane] = low[2] >> 16 | high[2];
                    }
                    let at = half * TILE + pair * STEP;
                    for (part, words) in panel.chunks_exact_mut(PART).zip(&words) {
                        let target = part[at..at + STEP].as_chunks_mut::<2>().0;
                        for (target, word) in target.iter_mut().zip(words) {
                            *target = [*word as u16, (word >> 16) as u16];
                        }
                    }
                }
            }
        }
    }
}
