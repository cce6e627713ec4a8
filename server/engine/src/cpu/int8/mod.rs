//! Products of whole numbers (W8A8): weights in int8 with a scale for each output, and what they are
//! multiplied with rounded to int8 too, with a scale for each row, when it is needed. Sums are exact
//! (i32), so every kernel gives the same results to the bit.

mod kernel;
mod rows;
#[cfg(target_arch = "x86_64")]
mod tiles;

use std::cell::RefCell;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::gemm::{grid, pieces, turn_words};
use super::pages::{Lines, Pages};
use super::{profile, values};
use crate::weights::Int8Matrix;
use kernel::{Kernel, MAX_ROWS, MAX_WIDTH, kernel};
use rows::finish_row;
pub use rows::{quantise_row, scale_row, widen_i8};

/// Bytes that every kernel takes at a time from each row: rows are padded to that with zeros.
const STEP: usize = 64;
/// Longest rows whose sums surely fit 32 bits: 255 · 127 for each number.
const MOST_DEPTH: usize = 60_000;

/// Whether rows of this length can be computed so.
pub fn takes(depth: usize) -> bool {
    depth <= MOST_DEPTH
}

/// Rows in int8, each with its scale.
struct Rounded {
    values: Lines,
    scales: Vec<f32>,
    stride: usize,
}

impl Rounded {
    /// Rounds rows of `depth` numbers. With `offset` every number is 128 more, as an unsigned one.
    fn new(input: &[f32], depth: usize, padding: usize, offset: bool) -> Self {
        let rows = input.len() / depth;
        let stride = depth.next_multiple_of(STEP);
        let mut values = Lines::zeros(rows.next_multiple_of(padding) * stride / 4);
        let scales = values
            .as_mut_bytes()
            .par_chunks_exact_mut(stride)
            .zip(input.par_chunks_exact(depth))
            .map(|(out, row)| {
                let scale = quantise_row(row, &mut out[..depth]);
                if offset {
                    out.iter_mut().for_each(|value| *value ^= -128);
                }
                scale
            })
            .collect();
        Self {
            values,
            scales,
            stride,
        }
    }
}

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

thread_local! {
    /// Strips of weights, packed; and some rows of weights before that.
    static ROOM: RefCell<(Pages, Pages)> = RefCell::default();
}

/// `out[i, j] = biasⱼ + Σₖ a[i, k] b[j, k]`, rows of `a` rounded first. By all compute threads.
fn multiply(
    kernel: &Kernel,
    out: &mut [f32],
    input: &[f32],
    weights: &Int8Matrix,
    bias: Option<&[f32]>,
) {
    let (depth, columns) = (weights.columns(), weights.scales().len());
    if depth == 0 || columns == 0 || input.is_empty() {
        for row in out.chunks_exact_mut(columns.max(1)) {
            match bias {
                Some(bias) => row.copy_from_slice(bias),
                None => row.fill(0.0),
            }
        }
        return;
    }
    let rows = input.len() / depth;
    assert!(
        out.len() == rows * columns
            && input.len() == rows * depth
            && bias.is_none_or(|bias| bias.len() == columns)
            && takes(depth),
        "the shapes of a product do not fit each other"
    );
    let a = Rounded::new(input, depth, kernel.rows, kernel.offset);
    let zeros;
    let bias = match bias {
        Some(bias) => bias,
        None => {
            zeros = vec![0.0; columns];
            &zeros
        }
    };
    let product = Product {
        kernel,
        a: &a,
        weights,
        bias,
        output: Output {
            start: out.as_mut_ptr(),
            stride: columns,
        },
    };
    let threads = rayon::current_num_threads();
    if threads == 1 {
        product.run((0, rows), (0, columns));
        return;
    }
    let tile = (kernel.rows, kernel.width);
    let (down, across) = grid(tile, rows, columns, threads);
    let (height, width) = (
        rows.div_ceil(down).next_multiple_of(tile.0),
        columns.div_ceil(across).next_multiple_of(tile.1),
    );
    (0..down * across).into_par_iter().for_each(|index| {
        let (top, left) = (index / across * height, index % across * width);
        if top < rows && left < columns {
            product.run(
                (top, height.min(rows - top)),
                (left, width.min(columns - left)),
            );
        }
    });
}

struct Product<'a> {
    kernel: &'a Kernel,
    a: &'a Rounded,
    weights: &'a Int8Matrix,
    bias: &'a [f32],
    output: Output,
}

impl Product<'_> {
    /// Computes a rectangle of the result: (first, count) of rows and of columns.
    fn run(&self, rows: (usize, usize), columns: (usize, usize)) {
        let Kernel { width, block, .. } = *self.kernel;
        let stride = self.a.stride;
        let strip = width * stride;
        // Strips that are packed together stay in the second cache for all rows.
        let together = (block / strip).max(1) * width;
        ROOM.with_borrow_mut(|(packed, scratch)| {
            for columns in pieces(columns, together) {
                let packed = packed.room::<u32>(columns.1.div_ceil(width) * strip / 4);
                for (span, panel) in pieces(columns, width).zip(packed.chunks_exact_mut(strip / 4))
                {
                    self.pack(span, panel, scratch);
                }
                for down in pieces(rows, self.kernel.rows) {
                    for (across, panel) in
                        pieces(columns, width).zip(packed.chunks_exact(strip / 4))
                    {
                        self.tile(down, across, panel);
                    }
                }
            }
        });
    }

    /// Lays some rows of weights out side by side, four numbers of each at a time:
    /// `panel[k · width + j]` is numbers 4 k to 4 k + 3 of row j.
    fn pack(&self, (first, count): (usize, usize), panel: &mut [u32], scratch: &mut Pages) {
        let (width, words) = (self.kernel.width, self.a.stride / 4);
        let source = if count == width {
            // A row's end is padded as the rows of the other operand are.
            let last = self.weights.row(first + width - 1, 0, self.a.stride);
            assert_eq!(self.weights.stride(), self.a.stride);
            assert_eq!(last.len(), self.a.stride);
            self.weights
                .row(first, 0, self.a.stride)
                .as_ptr()
                .cast::<u32>()
        } else {
            let lines = scratch.room::<u32>(width * words);
            for (line, row) in lines.chunks_exact_mut(words).zip(0..width) {
                if row < count {
                    let bytes = self.weights.row(first + row, 0, self.a.stride);
                    for (word, four) in line.iter_mut().zip(bytes.as_chunks::<4>().0) {
                        *word = u32::from_le_bytes(four.map(|number| number as u8));
                    }
                } else {
                    line.fill(0);
                }
            }
            lines.as_ptr()
        };
        // SAFETY: `width` rows of `words` words lie at the source, one after the other, as just seen,
        // and there is room for as many.
        unsafe { turn_words(source, words, width, words, &mut panel[..width * words]) }
    }

    /// One tile of the result.
    fn tile(&self, (top, height): (usize, usize), (first, count): (usize, usize), panel: &[u32]) {
        let Kernel { rows, width, .. } = *self.kernel;
        let stride = self.a.stride;
        let mut sums = Sums([0; MAX_ROWS * MAX_WIDTH]);
        let a = &self.a.values.as_bytes()[top * stride..][..rows * stride];
        assert!(panel.len() == width * stride / 4);
        // SAFETY: the operands hold whole tiles, as the slices show, and the sums as well; the kernel is
        // one of this machine's.
        unsafe { (self.kernel.run)(stride / 4, a.as_ptr(), panel.as_ptr(), sums.0.as_mut_ptr()) };
        let offset = if self.kernel.offset { 128 } else { 0 };
        for (row, sums) in sums.0.chunks_exact(width).take(height).enumerate() {
            // SAFETY: the rectangle lies in the output, as `multiply` asserts, and is this task's alone.
            let out = unsafe {
                let start = self
                    .output
                    .start
                    .add((top + row) * self.output.stride + first);
                std::slice::from_raw_parts_mut(start, count)
            };
            finish_row(
                out,
                &sums[..count],
                offset,
                &self.weights.sums()[first..][..count],
                self.a.scales[top + row],
                &self.weights.scales()[first..][..count],
                &self.bias[first..][..count],
            );
        }
    }
}

/// Sums of a tile, at a cache line.
#[repr(align(64))]
struct Sums([i32; MAX_ROWS * MAX_WIDTH]);

struct Linear<'a> {
    weights: &'a Int8Matrix,
    bias: Option<&'a [f32]>,
}

/// Applies a linear layer to the last axis: `input` (…, n), `weights` (m, n), `bias` (m) → (…, m). Each
/// row of the input is rounded to int8.
///
/// # Errors
/// If the shapes do not fit.
pub fn linear_int8(input: &Tensor, weights: &Int8Matrix, bias: Option<&Tensor>) -> Result<Tensor> {
    let bias = bias.map(Tensor::to_vec1::<f32>).transpose()?;
    let op = Linear {
        weights,
        bias: bias.as_deref(),
    };
    input.contiguous()?.apply_op1_no_bwd(&op)
}

impl CustomOp1 for Linear<'_> {
    fn name(&self) -> &'static str {
        "linear w8a8"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = values(storage, layout)?;
        let (inputs, outputs) = (self.weights.columns(), self.weights.scales().len());
        let mut dims = layout.shape().dims().to_vec();
        match dims.last_mut() {
            Some(last) if *last == inputs => *last = outputs,
            _ => candle_core::bail!("a linear layer of {inputs} inputs got {:?}", layout.shape()),
        }
        if self.bias.is_some_and(|bias| bias.len() != outputs) {
            candle_core::bail!("a linear layer of {outputs} outputs has another number of biases");
        }
        let rows = input.len() / inputs.max(1);
        let mut out = vec![0.0; rows * outputs];
        profile::measured(
            "linear w8a8",
            || format!("{rows}×{inputs} → {outputs}"),
            2.0 * rows as f64 * inputs as f64 * outputs as f64,
            || multiply(kernel(), &mut out, input, self.weights, self.bias),
        );
        Ok((CpuStorage::F32(out), Shape::from(dims)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::TorchGenerator;
    use crate::weights::StoredMatrix;

    /// Every kernel, at sizes around the edges of tiles and steps, against sums of whole numbers made
    /// one by one: the same to the bit.
    #[test]
    fn products_are_right_at_every_edge() {
        let mut generator = TorchGenerator::new(12);
        for kernel in kernel::all() {
            for (rows, columns, depth) in [
                (1, 1, 1),
                (3, 5, 7),
                (4, 16, 64),
                (8, 48, 65),
                (33, 31, 128),
                (32, 32, 200),
                (65, 100, 640),
                (2, 200, 1281),
                (40, 17, 5120),
            ] {
                let a = generator.randn(rows * depth);
                let b = generator.randn(columns * depth);
                let bias = generator.randn(columns);
                let weights = StoredMatrix::from_values(&b, columns, depth)
                    .and_then(|matrix| matrix.rounded().ok())
                    .expect("a matrix");
                let weights = weights.as_int8().expect("in int8");
                let mut out = vec![f32::NAN; rows * columns];
                multiply(&kernel, &mut out, &a, weights, Some(&bias));
                let mut plain = vec![f32::NAN; rows * columns];
                multiply(&kernel, &mut plain, &a, weights, None);
                for i in 0..rows {
                    let mut whole = vec![0; depth];
                    let scale = quantise_row(&a[i * depth..][..depth], &mut whole);
                    for (j, bias) in bias.iter().enumerate() {
                        let pairs = whole.iter().zip(weights.row(j, 0, depth));
                        let sum: i32 = pairs.map(|(&x, &w)| i32::from(x) * i32::from(w)).sum();
                        let want = sum as f32 * (scale * weights.scales()[j]);
                        let place = i * columns + j;
                        let at = format!("{} {rows}×{columns}×{depth} at {i}, {j}", kernel.name);
                        assert_eq!(out[place], want + bias, "{at}");
                        assert_eq!(plain[place], want, "{at}");
                    }
                }
            }
        }
    }

    /// The largest numbers there are, of every sign: nothing runs over.
    #[test]
    fn extremes_do_not_run_over() {
        for kernel in kernel::all() {
            for (x, w) in [(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)] {
                let depth = 5120;
                let b = vec![w; 3 * depth];
                let weights = StoredMatrix::from_values(&b, 3, depth)
                    .and_then(|matrix| matrix.rounded().ok())
                    .expect("a matrix");
                let weights = weights.as_int8().expect("in int8");
                let mut out = vec![0.0; 6];
                multiply(&kernel, &mut out, &vec![x; 2 * depth], weights, None);
                for got in out {
                    let error = (got - x * w * depth as f32).abs();
                    assert!(error < 0.01, "{}: {got}", kernel.name);
                }
            }
        }
    }

    #[test]
    fn undefined_numbers_are_not_lost() {
        for kernel in kernel::all() {
            let weights = StoredMatrix::from_values(&[1.0; 140], 2, 70)
                .and_then(|matrix| matrix.rounded().ok())
                .expect("a matrix");
            let weights = weights.as_int8().expect("in int8");
            let mut a = vec![1.0; 140];
            a[73] = f32::INFINITY;
            let mut out = vec![0.0; 4];
            multiply(&kernel, &mut out, &a, weights, Some(&[1.0, 2.0]));
            assert!(out[..2].iter().all(|x| x.is_finite()), "{}", kernel.name);
            assert!(
                out[2..].iter().all(|x| x.is_nan()),
                "{}: {out:?}",
                kernel.name
            );
        }
    }

    #[test]
    fn nothing_times_nothing_is_the_bias() {
        let weights = StoredMatrix::from_values(&[], 2, 0)
            .and_then(|matrix| matrix.rounded().ok())
            .expect("a matrix");
        let weights = weights.as_int8().expect("in int8");
        let mut out = vec![9.0; 4];
        multiply(kernel(), &mut out, &[], weights, Some(&[1.0, 2.0]));
        assert_eq!(out, [1.0, 2.0, 1.0, 2.0]);
    }
}
