//! The three transforms of F(4×4, 3×3), for many tiles at a time, one in each lane of a vector.
//!
//! The points are 0, ±1/√2, ±√2 and ∞: with those the numbers that cancel each other are smaller
//! than with the usual whole ones, which matters in f32 (Barabasz et al. 2020, arXiv:1803.10986).

use super::lanes::Lanes;
use crate::cpu::gemm::kernel::{Kernel, MAX_ROWS};

/// Products per tile.
pub const POINTS: usize = 36;
/// Side of a tile of the input.
pub const WINDOW: usize = 6;
/// Side of a tile of the output.
pub const TILE: usize = 4;
/// Most lanes that a vector has.
pub const MAX_LANES: usize = 16;

const SQRT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
const SQRT_TWO: f32 = std::f32::consts::SQRT_2;

/// Row `y` of what is kept column by column.
#[inline(always)]
fn across<V: Copy, const ROWS: usize, const COLUMNS: usize>(
    columns: &[[V; ROWS]; COLUMNS],
    y: usize,
) -> [V; COLUMNS] {
    std::array::from_fn(|x| columns[x][y])
}

/// Bᵀd along one axis.
#[inline(always)]
unsafe fn input_axis<V: Lanes>(d: [V; 6]) -> [V; 6] {
    // SAFETY: the caller's promise: the machine has the vector's instructions.
    unsafe {
        let (five_halves, two, half) = (V::splat(2.5), V::splat(2.0), V::splat(0.5));
        let (large, small) = (V::splat(SQRT_TWO), V::splat(SQRT_HALF));
        let even = d[4].sub(two.mul(d[2]));
        let odd = small.mul(d[3]).sub(large.mul(d[1]));
        let other_even = d[4].sub(half.mul(d[2]));
        let other_odd = large.mul(d[3]).sub(small.mul(d[1]));
        [
            d[0].sub(five_halves.mul(d[2])).add(d[4]),
            even.add(odd),
            even.sub(odd),
            other_even.add(other_odd),
            other_even.sub(other_odd),
            d[1].sub(five_halves.mul(d[3])).add(d[5]),
        ]
    }
}

/// Aᵀm along one axis.
#[inline(always)]
unsafe fn output_axis<V: Lanes>(m: [V; 6]) -> [V; 4] {
    // SAFETY: as above.
    unsafe {
        let (sum, difference) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (other_sum, other_difference) = (m[3].add(m[4]), m[3].sub(m[4]));
        let scaled =
            |small: f32, large: f32, a: V, b: V| V::splat(small).mul(a).add(V::splat(large).mul(b));
        [
            m[0].add(sum).add(other_sum),
            scaled(SQRT_HALF, SQRT_TWO, difference, other_difference),
            scaled(0.5, 2.0, sum, other_sum),
            scaled(
                0.5 * SQRT_HALF,
                2.0 * SQRT_TWO,
                difference,
                other_difference,
            )
            .add(m[5]),
        ]
    }
}

/// G g along one axis.
#[inline(always)]
unsafe fn weight_axis<V: Lanes>([a, b, c]: [V; 3]) -> [V; 6] {
    // SAFETY: as above.
    unsafe {
        let (third, sixth) = (V::splat(1.0 / 3.0), V::splat(1.0 / 6.0));
        let end = third.mul(c);
        let even = V::splat(-2.0 / 3.0).mul(a).sub(end);
        let odd = V::splat(-SQRT_TWO / 3.0).mul(b);
        let other_even = sixth.mul(a).add(end);
        let other_odd = V::splat(SQRT_TWO / 6.0).mul(b);
        [
            a,
            even.add(odd),
            even.sub(odd),
            other_even.add(other_odd),
            other_even.sub(other_odd),
            c,
        ]
    }
}

/// Input of `COUNT` tiles, row after row and in each row column after column: `load(y, x)` gives
/// values (y, x) of all tiles. The transformed ones go to `target`, `step` apart.
#[inline(always)]
unsafe fn input_tiles<V: Lanes>(row: impl Fn(usize) -> [V; WINDOW], target: *mut f32, step: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut columns = [[V::splat(0.0); WINDOW]; WINDOW];
        for y in 0..WINDOW {
            for (column, value) in columns.iter_mut().zip(row(y)) {
                column[y] = value;
            }
        }
        for column in &mut columns {
            *column = input_axis(*column);
        }
        for y in 0..WINDOW {
            for (x, value) in input_axis(across(&columns, y)).into_iter().enumerate() {
                value.store(target.add((y * WINDOW + x) * step));
            }
        }
    }
}

/// Tiles side by side: six rows of `4 · COUNT + 2` values, `stride` apart.
#[inline(always)]
unsafe fn input_run<V: Lanes>(source: *const f32, stride: usize, target: *mut f32, step: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        input_tiles::<V>(
            |y| {
                let line = source.add(y * stride);
                let load = |quarter: usize| V::load(line.add(quarter * V::COUNT));
                let [a, b, c, d] = V::part([load(0), load(1), load(2), load(3)]);
                let next = line.add(4 * V::COUNT);
                [a, b, c, d, a.shift(*next), b.shift(*next.add(1))]
            },
            target,
            step,
        );
    }
}

/// Tiles from anywhere: value (y, x) of tile i at `(6 y + x) · COUNT + i`.
#[inline(always)]
unsafe fn input_gathered<V: Lanes>(source: *const f32, target: *mut f32, step: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        input_tiles::<V>(
            |y| std::array::from_fn(|x| V::load(source.add((y * WINDOW + x) * V::COUNT))),
            target,
            step,
        );
    }
}

/// `COUNT` tiles side by side: 36 vectors `step` apart become four rows of `4 · COUNT` values,
/// `stride` apart.
#[inline(always)]
unsafe fn output_run<V: Lanes>(
    source: *const f32,
    step: usize,
    bias: f32,
    target: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut columns = [[V::splat(0.0); TILE]; WINDOW];
        for (x, column) in columns.iter_mut().enumerate() {
            let values = std::array::from_fn(|y| V::load(source.add((y * WINDOW + x) * step)));
            *column = output_axis(values);
        }
        let bias = V::splat(bias);
        for y in 0..TILE {
            let line = output_axis(across(&columns, y));
            let line = V::join(line.map(|value| value.add(bias)));
            for (quarter, value) in line.into_iter().enumerate() {
                value.store(target.add(y * stride + quarter * V::COUNT));
            }
        }
    }
}

/// Weights of `COUNT` outputs, tap after tap and channel after channel, become `POINTS` panels of
/// (channels, COUNT), `step` apart.
#[inline(always)]
unsafe fn weight_panels<V: Lanes>(
    taps: *const f32,
    channels: usize,
    panels: *mut f32,
    step: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for channel in 0..channels {
            let tap = |at: usize| V::load(taps.add((channel * 9 + at) * V::COUNT));
            let columns: [[V; WINDOW]; 3] =
                std::array::from_fn(|x| weight_axis([tap(x), tap(3 + x), tap(6 + x)]));
            for y in 0..WINDOW {
                let line = weight_axis(across(&columns, y));
                for (x, value) in line.into_iter().enumerate() {
                    value.store(panels.add((y * WINDOW + x) * step + channel * V::COUNT));
                }
            }
        }
    }
}

/// The transforms for one kind of machine.
pub struct Transforms {
    /// See [`input_run`].
    ///
    /// # Safety
    /// The machine has the kernel's instructions; six rows of `4 · lanes + 2` values lie at the
    /// source, and the target has room for 36 vectors.
    pub input_run: unsafe fn(*const f32, usize, *mut f32, usize),
    /// See [`input_gathered`].
    ///
    /// # Safety
    /// As above, with 36 vectors at the source.
    pub input_gathered: unsafe fn(*const f32, *mut f32, usize),
    /// See [`output_run`].
    ///
    /// # Safety
    /// As above, with 36 vectors at the source and room for four rows at the target.
    pub output_run: unsafe fn(*const f32, usize, f32, *mut f32, usize),
    /// See [`weight_panels`]; `COUNT` is the kernel's number of rows.
    ///
    /// # Safety
    /// The machine has the kernel's instructions; nine taps for each row and channel lie at the
    /// source, and there is room for the panels.
    pub weights: unsafe fn(*const f32, usize, *mut f32, usize),
}

/// Compiles the transforms for the instructions of one kernel.
macro_rules! compiled {
    ($name:ident, $vector:ty, $bar:ty $(, #[$feature:meta])?) => {
        mod $name {
            use super::*;
            /// The transforms for this kind of machine.
            pub const TRANSFORMS: Transforms =
                Transforms { input_run, input_gathered, output_run, weights };

            // SAFETY, of all four: the promises are passed on.
            $(#[$feature])?
            unsafe fn input_run(source: *const f32, stride: usize, target: *mut f32, step: usize) {
                unsafe { super::input_run::<$vector>(source, stride, target, step) }
            }
            $(#[$feature])?
            unsafe fn input_gathered(source: *const f32, target: *mut f32, step: usize) {
                unsafe { super::input_gathered::<$vector>(source, target, step) }
            }
            $(#[$feature])?
            unsafe fn output_run(
                source: *const f32,
                step: usize,
                bias: f32,
                target: *mut f32,
                stride: usize,
            ) {
                unsafe { super::output_run::<$vector>(source, step, bias, target, stride) }
            }
            $(#[$feature])?
            unsafe fn weights(taps: *const f32, channels: usize, panels: *mut f32, step: usize) {
                unsafe { super::weight_panels::<$bar>(taps, channels, panels, step) }
            }
        }
    };
}

compiled!(portable, [f32; 4], [f32; 4]);
#[cfg(target_arch = "x86_64")]
compiled!(avx2, std::arch::x86_64::__m256, [f32; 4], #[target_feature(enable = "avx2")]);
#[cfg(target_arch = "x86_64")]
compiled!(avx512, std::arch::x86_64::__m512, std::arch::x86_64::__m256, #[target_feature(enable = "avx512f,avx2")]);

/// The transforms that go with a kernel: its lanes, its rows, its instructions.
pub fn transforms(kernel: &Kernel) -> &'static Transforms {
    const { assert!(MAX_ROWS == 8) }
    match (kernel.lanes, kernel.rows) {
        #[cfg(target_arch = "x86_64")]
        (16, 8) => &avx512::TRANSFORMS,
        #[cfg(target_arch = "x86_64")]
        (8, 4) => &avx2::TRANSFORMS,
        _ => &portable::TRANSFORMS,
    }
}
