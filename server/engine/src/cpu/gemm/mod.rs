//! Matrix products: packed panels that stay in cache (Goto and van de Geijn 2008), with operands
//! that may be weights in any stored format or the unfolded input of a convolution. Nothing is
//! widened or unfolded as a whole.

#[cfg(target_arch = "x86_64")]
pub(super) mod amx;
pub(super) mod kernel;
mod pack;
mod packed;
#[cfg(target_arch = "x86_64")]
mod tiled;

use std::cell::RefCell;
use std::time::Instant;

use rayon::prelude::*;

use super::pages::Pages;
use kernel::{Kernel, MAX_COLUMNS, MAX_ROWS, Start, VECTORS, kernel};
pub use pack::{Operand, Patches};
pub use packed::{Packed, multiply_packed};

/// What is added to a product.
#[derive(Clone, Copy)]
pub enum Bias<'a> {
    /// Nothing.
    None,
    /// One value for each row of the result.
    Rows(&'a [f32]),
    /// One value for each column of the result.
    Columns(&'a [f32]),
}

/// Depth of a panel: a panel of the right operand, one tile wide, stays in the first cache.
const DEPTH: usize = 256;
/// Rows of the left operand that are packed at once, for the second cache.
const ROWS: usize = 128;
/// Columns of the right operand that are packed at once.
const COLUMNS: usize = 1008;

/// Where the result goes.
#[derive(Clone, Copy)]
struct Output {
    start: *mut f32,
    stride: usize,
}
// SAFETY: every task writes to a rectangle of its own.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// Room for what a thread multiplies at a time: kept, since memory that is touched for the first
/// time costs more than what it is used for.
#[derive(Default)]
struct Panels {
    left: Pages,
    right: Pages,
    /// Rows before they are turned around.
    scratch: Vec<f32>,
}

thread_local! {
    static PANELS: RefCell<Panels> = RefCell::default();
}

/// `out[i, j] = bias + Σₖ a[i, k] b[j, k]`: rows of `out` are `stride` apart. With `parallel`, all
/// compute threads take part; calls from inside a parallel loop do not want that.
///
/// # Panics
/// If the shapes do not fit each other, or `out`.
pub fn multiply(
    out: &mut [f32],
    stride: usize,
    a: &Operand<'_>,
    b: &Operand<'_>,
    bias: Bias<'_>,
    parallel: bool,
) {
    multiply_with(best_unit(a), out, stride, a, b, bias, parallel);
}

/// What does the arithmetic of a product.
#[derive(Clone, Copy)]
enum Unit<'a> {
    /// The tile registers.
    #[cfg(target_arch = "x86_64")]
    Tiles,
    /// Vectors.
    Vectors(&'a Kernel),
}

/// What this machine multiplies fastest with. It depends on the left operand's depth and kind only.
fn best_unit(a: &Operand<'_>) -> Unit<'static> {
    #[cfg(target_arch = "x86_64")]
    if matches!(a, Operand::Rows { .. } | Operand::Stored(_)) && tiled::takes(a.depth()) {
        return Unit::Tiles;
    }
    let _ = a;
    Unit::Vectors(kernel())
}

fn multiply_with(
    unit: Unit<'_>,
    out: &mut [f32],
    stride: usize,
    a: &Operand<'_>,
    b: &Operand<'_>,
    bias: Bias<'_>,
    parallel: bool,
) {
    let (rows, columns, depth) = (a.count(), b.count(), a.depth());
    assert_eq!(
        depth,
        b.depth(),
        "the vectors of a product differ in length"
    );
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(
        (rows - 1) * stride + columns <= out.len() && columns <= stride,
        "a product reaches beyond its output"
    );
    assert!(
        a.is_sound() && b.is_sound(),
        "an operand reaches beyond its values"
    );
    match bias {
        Bias::None => {}
        Bias::Rows(values) => assert!(values.len() >= rows, "too few biases"),
        Bias::Columns(values) => assert!(values.len() >= columns, "too few biases"),
    }
    let output = Output {
        start: out.as_mut_ptr(),
        stride,
    };
    let work = |rows: (usize, usize), columns: (usize, usize)| match unit {
        #[cfg(target_arch = "x86_64")]
        Unit::Tiles => tiled::Product { a, b, bias, output }.run(rows, columns),
        Unit::Vectors(kernel) => Task {
            kernel,
            a,
            b,
            bias,
            depth,
            output,
        }
        .run(rows, columns),
    };
    let threads = if parallel {
        rayon::current_num_threads()
    } else {
        1
    };
    if threads == 1 {
        work((0, rows), (0, columns));
        return;
    }
    let tile = match unit {
        #[cfg(target_arch = "x86_64")]
        Unit::Tiles => (amx::SIDE, amx::SIDE),
        Unit::Vectors(kernel) => (kernel.rows, kernel.lanes * VECTORS),
    };
    let (down, across) = grid(tile, rows, columns, threads);
    let (height, width) = (
        rows.div_ceil(down).next_multiple_of(tile.0),
        columns.div_ceil(across).next_multiple_of(tile.1),
    );
    (0..down * across).into_par_iter().for_each(|index| {
        let (top, left) = (index / across * height, index % across * width);
        if top < rows && left < columns {
            work(
                (top, height.min(rows - top)),
                (left, width.min(columns - left)),
            );
        }
    });
}

/// Number of tasks down and across: some for each thread, since cores are rarely equally free, and
/// shaped so that as little as possible is packed twice.
pub(super) fn grid(
    tile: (usize, usize),
    rows: usize,
    columns: usize,
    threads: usize,
) -> (usize, usize) {
    let most = (rows.div_ceil(tile.0), columns.div_ceil(tile.1));
    let wanted = (3 * threads).min(most.0 * most.1);
    let mut best = (1, 1);
    let mut least = usize::MAX;
    for down in 1..=wanted.min(most.0) {
        let across = wanted.div_ceil(down).min(most.1);
        if down * across < wanted {
            continue;
        }
        // values packed in all: each row once per task across, each column once per task down
        let packed = rows * across + columns * down;
        if packed < least {
            (best, least) = ((down, across), packed);
        }
    }
    best
}

struct Task<'a> {
    kernel: &'a Kernel,
    a: &'a Operand<'a>,
    b: &'a Operand<'a>,
    bias: Bias<'a>,
    depth: usize,
    output: Output,
}

impl Task<'_> {
    /// Computes a rectangle of the result: (first, count) of rows and of columns.
    fn run(&self, rows: (usize, usize), columns: (usize, usize)) {
        PANELS.with_borrow_mut(|panels| {
            for (left, width) in pieces(columns, COLUMNS) {
                if self.depth == 0 {
                    self.panel(panels, rows, (left, width), (0, 0));
                }
                for (k, depth) in pieces((0, self.depth), DEPTH) {
                    self.panel(panels, rows, (left, width), (k, depth));
                }
            }
        });
    }

    /// Adds the products of depths `k..k + depth`; at `k = 0`, the result begins with the bias.
    fn panel(
        &self,
        panels: &mut Panels,
        rows: (usize, usize),
        columns: (usize, usize),
        (k, depth): (usize, usize),
    ) {
        let kernel = self.kernel;
        // 1. Pack the right operand, one strip per tile.
        let strips = strips(kernel, columns);
        let packed: usize = strips.iter().map(|(_, _, width)| width * depth).sum();
        let Panels {
            left,
            right,
            scratch,
        } = panels;
        let right_panel = right.room(packed);
        let mut at = 0;
        for &(first, count, width) in &strips {
            let panel = &mut right_panel[at..at + width * depth];
            self.b
                .pack(kernel, (first, count), (k, depth), width, panel, scratch);
            at += width * depth;
        }
        // 2. Blocks of rows of the left one, and with each of them all strips.
        for block in pieces(rows, ROWS) {
            let steps = (k, depth);
            self.block(block, &strips, right_panel, k == 0, steps, left, scratch);
        }
    }

    /// Packs a block of rows and multiplies it with all strips of `right_panel`.
    #[expect(
        clippy::too_many_arguments,
        reason = "the state of the innermost loops"
    )]
    fn block(
        &self,
        rows: (usize, usize),
        strips: &[(usize, usize, usize)],
        right_panel: &[f32],
        begin: bool,
        (k, depth): (usize, usize),
        left_panel: &mut Pages,
        scratch: &mut Vec<f32>,
    ) {
        let kernel = self.kernel;
        let bars: Vec<(usize, usize)> = pieces(rows, kernel.rows).collect();
        let bar = kernel.rows * depth;
        let left_panel = left_panel.room(bars.len() * bar);
        for (index, &span) in bars.iter().enumerate() {
            let panel = &mut left_panel[index * bar..][..bar];
            self.a
                .pack(kernel, span, (k, depth), kernel.rows, panel, scratch);
        }
        let mut at = 0;
        for &(first, count, width) in strips {
            let right = &right_panel[at..at + width * depth];
            at += width * depth;
            for (index, &span) in bars.iter().enumerate() {
                let left = &left_panel[index * bar..][..bar];
                self.tile(left, right, span, (first, count, width), begin, depth);
            }
        }
    }

    /// One tile.
    fn tile(
        &self,
        left: &[f32],
        right: &[f32],
        (top, height): (usize, usize),
        (first, count, width): (usize, usize, usize),
        begin: bool,
        depth: usize,
    ) {
        let kernel = self.kernel;
        let run = kernel.run[width / kernel.lanes - 1];
        let (mut row_bias, mut column_bias) = ([0.0f32; MAX_ROWS], [0.0f32; MAX_COLUMNS]);
        if begin {
            match self.bias {
                Bias::None => {}
                Bias::Rows(values) => row_bias[..height].copy_from_slice(&values[top..][..height]),
                Bias::Columns(values) => {
                    column_bias[..count].copy_from_slice(&values[first..][..count]);
                }
            }
        }
        let bias = Start::Bias(row_bias.as_ptr(), column_bias.as_ptr());
        // SAFETY: the panels hold `kernel.rows` and `width` values per depth; the rectangle lies
        // in the output, as `multiply_with` asserts, and is this task's alone. A tile that is not
        // whole goes through `edge`, from which only its part is copied.
        unsafe {
            let target = self.output.start.add(top * self.output.stride + first);
            if height == kernel.rows && count == width {
                let start = if begin { bias } else { Start::Output };
                run(
                    depth,
                    left.as_ptr(),
                    right.as_ptr(),
                    target,
                    self.output.stride,
                    start,
                );
                return;
            }
            let mut edge = [0.0f32; MAX_ROWS * MAX_COLUMNS];
            run(
                depth,
                left.as_ptr(),
                right.as_ptr(),
                edge.as_mut_ptr(),
                width,
                bias,
            );
            for (row, edge) in edge.chunks_exact(width).take(height).enumerate() {
                for (column, &value) in edge[..count].iter().enumerate() {
                    let target = target.add(row * self.output.stride + column);
                    *target = if begin { value } else { *target + value };
                }
            }
        }
    }
}

/// Most floating-point operations per second that all compute threads together reach, a
/// multiplication and its addition counted as two: whole tiles out of the first cache, nothing
/// else. The best of several rounds that take `seconds` in all.
pub fn fma_peak(seconds: f64) -> f64 {
    const DEPTH: usize = 64;
    const ROUNDS: usize = 20_000;
    let kernel = kernel();
    let threads = rayon::current_num_threads();
    let columns = kernel.lanes * VECTORS;
    let per_round = (2 * DEPTH * kernel.rows * columns * ROUNDS * threads) as f64;
    let started = Instant::now();
    let mut best = 0.0f64;
    while started.elapsed().as_secs_f64() < seconds || best == 0.0 {
        let round = Instant::now();
        rayon::broadcast(|_| {
            let a = vec![1.0f32; DEPTH * kernel.rows];
            let b = vec![1.0f32; DEPTH * columns];
            let mut c = [0.0f32; MAX_ROWS * MAX_COLUMNS];
            for _ in 0..ROUNDS {
                // SAFETY: all three hold whole tiles.
                unsafe {
                    kernel.run[VECTORS - 1](
                        DEPTH,
                        a.as_ptr(),
                        b.as_ptr(),
                        c.as_mut_ptr(),
                        columns,
                        Start::Output,
                    );
                }
            }
            std::hint::black_box(c);
        });
        best = best.max(per_round / round.elapsed().as_secs_f64());
    }
    best
}

/// `out[k · width + i] = source[i · stride + k]` for `i < width`, `k < depth`: words, whatever they are.
///
/// # Safety
/// `width` rows of `depth` words lie at the source, `stride` apart.
///
/// # Panics
/// If there is no room for as many.
pub(super) unsafe fn turn_words(
    source: *const u32,
    stride: usize,
    width: usize,
    depth: usize,
    out: &mut [u32],
) {
    assert!(out.len() >= width * depth, "no room for all words");
    // SAFETY: the caller's promise; the kernel is this machine's, and moves words without looking at
    // them.
    unsafe {
        (kernel().transpose)(source.cast(), stride, width, depth, out.as_mut_ptr().cast());
    }
}

/// Strips of columns, one tile wide: first, count, and the width they are packed with.
fn strips(kernel: &Kernel, columns: (usize, usize)) -> Vec<(usize, usize, usize)> {
    pieces(columns, kernel.lanes * VECTORS)
        .map(|(first, count)| (first, count, count.next_multiple_of(kernel.lanes)))
        .collect()
}

/// Cuts (first, count) into pieces of `size` and what is left over.
pub(super) fn pieces(
    (first, count): (usize, usize),
    size: usize,
) -> impl Iterator<Item = (usize, usize)> {
    (0..count)
        .step_by(size.max(1))
        .map(move |at| (first + at, size.min(count - at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::TorchGenerator;
    use crate::weights::StoredMatrix;

    /// Everything that this machine multiplies with: name, unit, and error of a single product of
    /// two normal numbers, at most.
    fn units(kernels: &[Kernel]) -> Vec<(&'static str, Unit<'_>, f64)> {
        let mut units: Vec<_> = kernels
            .iter()
            .map(|kernel| (kernel.name, Unit::Vectors(kernel), 4e-6))
            .collect();
        #[cfg(target_arch = "x86_64")]
        if amx::available() {
            units.push(("amx", Unit::Tiles, 4e-6));
        } else {
            eprintln!("not tested: this machine has no tile registers (AMX)");
        }
        units
    }

    /// Whatever is undefined stays so.
    #[test]
    fn undefined_numbers_are_not_lost() {
        let kernels = kernel::all();
        for (name, unit, _) in units(&kernels) {
            for bits in [0x7fc0_0000, 0x7f80_0000, 0xffff_ffff, 0x7fff_e000] {
                let bad = f32::from_bits(bits);
                let depth = 70;
                let mut a = vec![1.0; 2 * depth];
                a[depth + 3] = bad;
                let rows = |values| Operand::Rows {
                    values,
                    count: 2,
                    depth,
                    stride: depth,
                };
                let b = vec![0.5; 2 * depth];
                let mut out = [0.0; 4];
                multiply_with(unit, &mut out, 2, &rows(&a), &rows(&b), Bias::None, false);
                assert_eq!(out[..2], [35.0; 2], "{name}");
                assert!(out[2..].iter().all(|x| !x.is_finite()), "{name}: {out:?}");
            }
        }
    }

    /// Every kernel, with sizes around the edges of tiles and panels, against sums in f64; the right
    /// operand once as weights in f16, once as columns of f32.
    #[test]
    fn products_are_right_at_every_edge() {
        let mut generator = TorchGenerator::new(1);
        let kernels = kernel::all();
        for (name, unit, digits) in units(&kernels) {
            for (rows, columns, depth) in [
                (1, 1, 1),
                (4, 24, 7),
                (8, 48, 256),
                (9, 49, 257),
                (3, 17, 600),
                (130, 33, 31),
                (17, 1100, 5),
                (65, 290, 2600),
                (1100, 40, 70),
            ] {
                let a = generator.randn(rows * depth);
                let b: Vec<f32> = generator
                    .randn(columns * depth)
                    .into_iter()
                    .map(|value| half::f16::from_f32(value).to_f32())
                    .collect();
                let bias = generator.randn(columns);
                let stored = StoredMatrix::from_values(&b, columns, depth).expect("a matrix");
                let stored = stored.halved();
                let rows_of_a = Operand::Rows {
                    values: &a,
                    count: rows,
                    depth,
                    stride: depth,
                };
                let stride = columns + 3;
                let mut out = vec![f32::NAN; rows * stride];
                multiply_with(
                    unit,
                    &mut out,
                    stride,
                    &rows_of_a,
                    &Operand::Stored(&stored),
                    Bias::Columns(&bias),
                    true,
                );
                // The same b, column-wise, and a bias per row.
                let turned: Vec<f32> = (0..depth * columns)
                    .map(|at| b[at % columns * depth + at / columns])
                    .collect();
                let row_bias = &bias[..1].repeat(rows);
                let mut other = vec![0.0; rows * columns];
                multiply_with(
                    unit,
                    &mut other,
                    columns,
                    &rows_of_a,
                    &Operand::Columns {
                        values: &turned,
                        count: columns,
                        depth,
                        stride: columns,
                    },
                    Bias::Rows(row_bias),
                    false,
                );
                for i in 0..rows {
                    for j in 0..columns {
                        let sum: f64 = (0..depth)
                            .map(|k| f64::from(a[i * depth + k]) * f64::from(b[j * depth + k]))
                            .sum();
                        let tolerance = digits * (depth as f64).sqrt();
                        for (got, bias) in [
                            (out[i * stride + j], bias[j]),
                            (other[i * columns + j], bias[0]),
                        ] {
                            let error = (f64::from(got) - sum - f64::from(bias)).abs();
                            assert!(
                                error <= tolerance,
                                "{} {rows}×{columns}×{depth} at {i}, {j}: off by {error}",
                                name
                            );
                        }
                    }
                    let between = &out[i * stride + columns..(i + 1) * stride];
                    assert!(between.iter().all(|value| value.is_nan()), "gaps are kept");
                }
            }
        }
    }

    /// Weights in int8, at the edges of tiles and panels, against sums in f64 over the same rounded
    /// weights; the bias of columns and of rows, and none.
    #[test]
    fn products_with_whole_numbers_are_right_at_every_edge() {
        let mut generator = TorchGenerator::new(11);
        let kernels = kernel::all();
        for (name, unit, _) in units(&kernels) {
            for (rows, columns, depth) in [
                (1, 1, 1),
                (4, 24, 7),
                (33, 49, 257),
                (3, 17, 600),
                (70, 65, 64),
                (17, 300, 96),
                (31, 33, 5200),
            ] {
                let a = generator.randn(rows * depth);
                let b = generator.randn(columns * depth);
                let bias = generator.randn(rows.max(columns));
                let stored = StoredMatrix::from_values(&b, columns, depth).expect("a matrix");
                let stored = stored.rounded().expect("memory");
                let mut b = vec![0.0; columns * depth];
                for (row, values) in b.chunks_exact_mut(depth).enumerate() {
                    stored.widen(row, 0, values);
                }
                let rows_of_a = Operand::Rows {
                    values: &a,
                    count: rows,
                    depth,
                    stride: depth,
                };
                let stride = columns + 2;
                for added in [Bias::None, Bias::Columns(&bias), Bias::Rows(&bias)] {
                    let mut out = vec![f32::NAN; rows * stride];
                    let b_rows = Operand::Stored(&stored);
                    multiply_with(unit, &mut out, stride, &rows_of_a, &b_rows, added, true);
                    for (at, &got) in out.iter().enumerate() {
                        let (i, j) = (at / stride, at % stride);
                        if j >= columns {
                            assert!(got.is_nan(), "gaps are kept");
                            continue;
                        }
                        let sum: f64 = (0..depth)
                            .map(|k| f64::from(a[i * depth + k]) * f64::from(b[j * depth + k]))
                            .sum();
                        let more = match added {
                            Bias::None => 0.0,
                            Bias::Columns(values) => values[j],
                            Bias::Rows(values) => values[i],
                        };
                        let error = (f64::from(got) - sum - f64::from(more)).abs();
                        // On tiles the left operand has sixteen digits.
                        let tolerance = 3e-5 * (depth as f64).sqrt();
                        assert!(
                            error <= tolerance,
                            "{name} {rows}×{columns}×{depth} at {i}, {j}: off by {error}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_times_nothing_is_the_bias() {
        let empty = Operand::Rows {
            values: &[],
            count: 2,
            depth: 0,
            stride: 0,
        };
        let mut out = vec![f32::NAN; 4];
        multiply(
            &mut out,
            2,
            &empty,
            &empty,
            Bias::Columns(&[1.0, 2.0]),
            false,
        );
        assert_eq!(out, [1.0, 2.0, 1.0, 2.0]);
    }

    #[test]
    fn tasks_cover_all_threads() {
        for (rows, columns) in [(2048, 1280), (1, 1280), (320, 4096), (77, 640), (3, 5)] {
            for threads in [2, 3, 8, 64] {
                let tile = (8, 48);
                let (down, across) = grid(tile, rows, columns, threads);
                let tiles = rows.div_ceil(tile.0) * columns.div_ceil(tile.1);
                assert!(
                    down * across >= threads.min(tiles),
                    "{rows} {columns} {threads}"
                );
            }
        }
    }
}
