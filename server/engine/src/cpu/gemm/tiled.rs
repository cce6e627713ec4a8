//! Products by tile registers: the same blocks and panels as in [`super`], laid out for [`amx`].

use std::cell::RefCell;

use super::amx::{
    AHEAD, LEFT_PARTS, PART, SIDE, STEP, TILE, Tiles, WHOLE_LEFT_PARTS, available, split_columns,
    split_f16_row, split_i8_row, split_row,
};
use super::kernel::kernel;
use super::pack::Operand;
use super::{Bias, Output, pieces};
use crate::cpu::int8::scale_row;
use crate::cpu::pages::Pages;
use crate::weights::Format;

/// Most depth of a panel that has two parts: results are read and written again for every one.
const DEPTH: usize = 1280;
/// Rows of the left operand that are packed at once: the right one is packed again for each.
const ROWS: usize = 1024;
/// Columns of the right operand that are packed at once, for the second cache.
const COLUMNS: usize = SIDE * 2 * LEFT_PARTS * PART / AHEAD;
/// Depth that is packed row by row before the next: what is written then stays in the first cache.
const PACKED: usize = 4 * STEP;
/// Rows that are packed at once with an operand that is packed already.
const PACKED_ROWS: usize = 128;
/// Least depth that is worth the splitting.
const LEAST_DEPTH: usize = 64;

/// Room for what a thread multiplies at a time.
#[derive(Default)]
struct Panels {
    left: Pages,
    right: Pages,
    /// One strip of the right operand before it is turned around or split.
    strip: Pages,
    scratch: Vec<f32>,
}

thread_local! {
    static PANELS: RefCell<Panels> = RefCell::default();
}

/// Whether products of this depth go this way. That does not depend on the number of rows, since a
/// batch must give what each of its elements gives alone.
pub fn takes(depth: usize) -> bool {
    available() && depth >= LEAST_DEPTH
}

/// A product, the shapes of which have been checked.
pub struct Product<'a> {
    pub a: &'a Operand<'a>,
    pub b: &'a Operand<'a>,
    pub bias: Bias<'a>,
    pub output: Output,
}

impl Product<'_> {
    /// Computes a rectangle of the result: (first, count) of rows and of columns.
    ///
    /// # Panics
    /// If the machine has no tile registers.
    pub fn run(&self, rows: (usize, usize), columns: (usize, usize)) {
        let tiles = Tiles::begin().expect("`takes` has looked for the registers");
        let depth = self.a.depth();
        let most = DEPTH * 2 / self.right_parts();
        let piece = depth
            .div_ceil(depth.div_ceil(most).max(1))
            .next_multiple_of(STEP);
        PANELS.with_borrow_mut(|panels| {
            for rows in pieces(rows, ROWS) {
                for piece in pieces((0, depth), piece) {
                    self.panel(&tiles, panels, rows, columns, piece);
                }
            }
        });
    }

    /// Parts that the right operand needs.
    fn right_parts(&self) -> usize {
        match self.b {
            Operand::Stored(matrix) => match matrix.format() {
                Format::F32 => 3,
                Format::F16 | Format::BF16 => 2,
                Format::Int8 => 1,
            },
            _ => 3,
        }
    }

    /// And those of the left one.
    fn left_parts(&self) -> usize {
        match self.right_parts() {
            1 => WHOLE_LEFT_PARTS,
            _ => LEFT_PARTS,
        }
    }

    /// What sums over whole numbers are multiplied by in the end, one scale for each column.
    fn scales(&self) -> Option<&[f32]> {
        match self.b {
            Operand::Stored(matrix) => matrix.as_int8().map(|matrix| matrix.scales()),
            _ => None,
        }
    }

    /// Adds the products of depths `k..k + depth`; at `k = 0`, the result begins with the bias.
    fn panel(
        &self,
        tiles: &Tiles,
        panels: &mut Panels,
        rows: (usize, usize),
        columns: (usize, usize),
        (k, depth): (usize, usize),
    ) {
        let Panels {
            left,
            right,
            strip,
            scratch,
        } = panels;
        let steps = depth.div_ceil(STEP);
        let size = steps * self.left_parts() * PART;
        let right_size = steps * self.right_parts() * PART;
        // 1. Pack the rows of the left operand.
        let bars = rows.1.div_ceil(SIDE);
        let left = left.room::<u16>(bars * size);
        for (span, panel) in pieces(rows, SIDE).zip(left.chunks_exact_mut(size)) {
            pack_rows(self.a, span, (k, depth), self.left_parts(), panel, scratch);
        }
        let place = (k == 0, k + depth == self.a.depth());
        for columns in pieces(columns, COLUMNS) {
            // 2. Some strips of the right one.
            let right = right.room::<u16>(columns.1.div_ceil(SIDE) * right_size);
            for (span, panel) in pieces(columns, SIDE).zip(right.chunks_exact_mut(right_size)) {
                self.pack_right(span, (k, depth), panel, strip, scratch);
            }
            // 3. All rows with these strips; meanwhile the next rows are fetched.
            for (bar, down) in pieces(rows, SIDE).enumerate() {
                let this = &left[bar * size..][..size];
                let next = &left[(bar + 1) % bars * size..][..size];
                let strips = pieces(columns, SIDE).zip(right.chunks_exact(right_size));
                for (index, (across, right)) in strips.enumerate() {
                    let ahead = &next[index * size / (COLUMNS / SIDE)..];
                    self.square(tiles, (this, right), down, across, place, ahead);
                }
            }
        }
    }

    fn pack_right(
        &self,
        (first, count): (usize, usize),
        (k, depth): (usize, usize),
        panel: &mut [u16],
        strip: &mut Pages,
        scratch: &mut Vec<f32>,
    ) {
        if matches!(self.b, Operand::Columns { .. } | Operand::Patches(_)) {
            let lines = strip.room::<f32>(depth * SIDE);
            let span = (first, count);
            self.b
                .pack(kernel(), span, (k, depth), SIDE, lines, scratch);
            split_columns(lines, panel);
            return;
        }
        let rows = strip.room::<u16>(panel.len());
        let parts = self.right_parts();
        pack_rows(self.b, (first, count), (k, depth), parts, rows, scratch);
        const WORDS: usize = STEP / 2;
        for (rows, tile) in rows.chunks_exact(TILE).zip(panel.chunks_exact_mut(TILE)) {
            // SAFETY: both hold 16 rows of 16 words; the kernel is this machine's, and moves
            // words without looking at them.
            unsafe {
                let (from, to) = (rows.as_ptr().cast(), tile.as_mut_ptr().cast());
                (kernel().transpose)(from, WORDS, 16, WORDS, to);
            }
        }
    }

    /// One square of the result; whether it begins with these depths, and whether it ends with them.
    fn square(
        &self,
        tiles: &Tiles,
        (left, right): (&[u16], &[u16]),
        (top, height): (usize, usize),
        (first, width): (usize, usize),
        (begin, end): (bool, bool),
        ahead: &[u16],
    ) {
        let steps = left.len() / (self.left_parts() * PART);
        let parts = self.right_parts();
        let (left, right, ahead) = (left.as_ptr(), right.as_ptr(), ahead.as_ptr());
        // Sums over whole numbers get their bias when they get their scale.
        let bias = if parts == 1 { Bias::None } else { self.bias };
        // SAFETY: the panels hold `steps` steps of so many parts; the rest is the caller's promise.
        let multiply = |start, to: *mut f32, stride| unsafe {
            match parts {
                1 => tiles.multiply_whole(steps, (left, right), start, to, stride, ahead),
                _ => tiles.multiply(steps, left, (right, parts == 3), start, to, stride, ahead),
            }
        };
        let stride = self.output.stride;
        const ZEROS: [f32; SIDE] = [0.0; SIDE];
        // SAFETY: the rectangle lies in the output, as `multiply_with` asserts, and is this task's
        // alone.
        unsafe {
            let target = self.output.start.add(top * stride + first);
            if height == SIDE && width == SIDE {
                let mut lines;
                let start = match bias {
                    _ if !begin => (target.cast_const(), stride, 16),
                    Bias::None => (ZEROS.as_ptr(), 0, 0),
                    Bias::Columns(values) => (values[first..][..SIDE].as_ptr(), 0, 16),
                    Bias::Rows(values) => {
                        lines = [[0.0f32; 16]; SIDE];
                        for (line, &value) in lines.iter_mut().zip(&values[top..][..SIDE]) {
                            *line = [value; 16];
                        }
                        (lines.as_ptr().cast(), 16, 0)
                    }
                };
                multiply(start, target, stride);
            } else {
                // What is not whole goes through a square of its own.
                let mut square = [[0.0f32; SIDE]; SIDE];
                for (row, line) in square.iter_mut().take(height).enumerate() {
                    let line = &mut line[..width];
                    match bias {
                        _ if !begin => {
                            let from = target.add(row * stride);
                            std::ptr::copy_nonoverlapping(from, line.as_mut_ptr(), width);
                        }
                        Bias::None => break,
                        Bias::Columns(values) => line.copy_from_slice(&values[first..][..width]),
                        Bias::Rows(values) => line.fill(values[top + row]),
                    }
                }
                let result: *mut f32 = square.as_mut_ptr().cast();
                multiply((result.cast_const(), SIDE, 16), result, SIDE);
                for (row, line) in square.iter().take(height).enumerate() {
                    let to = target.add(row * stride);
                    std::ptr::copy_nonoverlapping(line.as_ptr(), to, width);
                }
            }
            if end && let Some(scales) = self.scales() {
                let mut biases = ZEROS;
                for row in 0..height {
                    match self.bias {
                        Bias::None => {}
                        Bias::Columns(values) => {
                            biases[..width].copy_from_slice(&values[first..][..width]);
                        }
                        Bias::Rows(values) => biases.fill(values[top + row]),
                    }
                    let line = std::slice::from_raw_parts_mut(target.add(row * stride), width);
                    scale_row(line, &scales[first..][..width], &biases);
                }
            }
        }
    }
}

/// A right operand packed whole.
pub struct PackedRight {
    panels: Vec<u16>,
    count: usize,
    depth: usize,
}

impl PackedRight {
    /// Packs `b`, which is not stored in half precision.
    pub fn new(b: &Operand<'_>) -> Self {
        let (count, depth) = (b.count(), b.depth());
        let product = Product {
            a: b,
            b,
            bias: Bias::None,
            output: Output {
                start: std::ptr::null_mut(),
                stride: 0,
            },
        };
        let size = depth.div_ceil(STEP) * product.right_parts() * PART;
        let mut panels = vec![0; count.div_ceil(SIDE) * size];
        PANELS.with_borrow_mut(|room| {
            for (span, panel) in pieces((0, count), SIDE).zip(panels.chunks_exact_mut(size)) {
                let (strip, scratch) = (&mut room.strip, &mut room.scratch);
                product.pack_right(span, (0, depth), panel, strip, scratch);
            }
        });
        Self {
            panels,
            count,
            depth,
        }
    }

    /// `out = a bᵀ`, or that added to it unless `begin`; the shapes have been checked.
    pub fn multiply(&self, a: &Operand<'_>, output: Output, begin: bool) {
        let product = Product {
            a,
            b: a,
            bias: Bias::None,
            output,
        };
        let tiles = Tiles::begin().expect("`takes` has looked for the registers");
        let steps = self.depth.div_ceil(STEP);
        let size = steps * LEFT_PARTS * PART;
        let strips = self
            .panels
            .chunks_exact(steps * product.right_parts() * PART);
        PANELS.with_borrow_mut(|Panels { left, scratch, .. }| {
            for block in pieces((0, a.count()), PACKED_ROWS) {
                let left = left.room::<u16>(block.1.div_ceil(SIDE) * size);
                for (span, panel) in pieces(block, SIDE).zip(left.chunks_exact_mut(size)) {
                    pack_rows(a, span, (0, self.depth), LEFT_PARTS, panel, scratch);
                }
                let mut next = strips.clone().skip(1);
                for (across, right) in pieces((0, self.count), SIDE).zip(strips.clone()) {
                    let next = next.next().unwrap_or(right);
                    let bars = pieces(block, SIDE).zip(left.chunks_exact(size));
                    for (index, (down, left)) in bars.enumerate() {
                        let ahead = &next[(index * steps * AHEAD / 2).min(next.len())..];
                        product.square(&tiles, (left, right), down, across, (begin, true), ahead);
                    }
                }
            }
        });
    }
}

/// Lays rows of an operand out as a left one's.
fn pack_rows(
    operand: &Operand<'_>,
    (first, count): (usize, usize),
    (k, depth): (usize, usize),
    parts: usize,
    panels: &mut [u16],
    scratch: &mut Vec<f32>,
) {
    if count < SIDE {
        panels.fill(0);
    }
    let groups = panels.chunks_mut(PACKED / STEP * parts * PART);
    for ((k, depth), panels) in pieces((k, depth), PACKED).zip(groups) {
        for row in 0..count {
            if parts == 1
                && let Operand::Stored(matrix) = operand
                && let Some(matrix) = matrix.as_int8()
            {
                // A row has zeros beyond its end.
                let whole = matrix.row(first + row, k, depth.next_multiple_of(STEP));
                split_i8_row(whole, row, panels);
                continue;
            }
            if let Operand::Stored(matrix) = operand
                && depth.is_multiple_of(STEP)
                && let Some(bytes) = matrix.f16_bytes(first + row, k, depth)
            {
                split_f16_row(bytes, row, parts, panels);
                continue;
            }
            with_row(operand, first + row, (k, depth), scratch, |values| {
                split_row(values, row, parts, panels);
            });
        }
    }
}

/// Gives values `k..k + depth` of one row to `work`.
fn with_row(
    operand: &Operand<'_>,
    row: usize,
    (k, depth): (usize, usize),
    scratch: &mut Vec<f32>,
    work: impl FnOnce(&[f32]),
) {
    match operand {
        Operand::Rows { values, stride, .. } => work(&values[row * stride + k..][..depth]),
        Operand::Stored(matrix) => {
            scratch.resize(depth.max(scratch.len()), 0.0);
            matrix.widen(row, k, &mut scratch[..depth]);
            work(&scratch[..depth]);
        }
        // `takes` and `pack_right` let no others come here.
        Operand::Columns { .. } | Operand::Patches(_) => unreachable!("not a matrix of rows"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::TorchGenerator;

    /// Vectors that lie in rows and in columns give the same panels.
    #[test]
    fn right_operands_are_laid_out_alike() {
        let mut generator = TorchGenerator::new(5);
        for (count, depth) in [(32, 64), (5, 40), (17, 129), (32, 1)] {
            let values = generator.randn(count * depth);
            let turned: Vec<f32> = (0..depth * count)
                .map(|at| values[at % count * depth + at / count])
                .collect();
            let rows = Operand::Rows {
                values: &values,
                count,
                depth,
                stride: depth,
            };
            let columns = Operand::Columns {
                values: &turned,
                count,
                depth,
                stride: count,
            };
            let mut room = Panels::default();
            let [by_rows, by_columns] = [&rows, &columns].map(|b| {
                let product = Product {
                    a: b,
                    b,
                    bias: Bias::None,
                    output: Output {
                        start: std::ptr::null_mut(),
                        stride: 0,
                    },
                };
                let mut panel = vec![u16::MAX; depth.div_ceil(STEP) * 3 * PART];
                let (strip, scratch) = (&mut room.strip, &mut room.scratch);
                product.pack_right((0, count), (0, depth), &mut panel, strip, scratch);
                panel
            });
            assert!(by_rows == by_columns, "{count} × {depth}");
            for (at, &value) in turned.iter().enumerate() {
                let (k, n) = (at / count, at % count);
                let place =
                    k / STEP * 3 * PART + n / 16 * TILE + k % STEP / 2 * STEP + n % 16 * 2 + k % 2;
                let part = |at: usize| f32::from_bits(u32::from(by_rows[at]) << 16);
                let sum = part(place) + part(place + PART) + part(place + 2 * PART);
                assert_eq!(sum, value);
            }
        }
    }

    /// Every number of half precision there is.
    #[test]
    fn stored_halves_are_split_as_any_number() {
        if !available() {
            eprintln!("not tested: this machine has no tile registers (AMX)");
            return;
        }
        let bytes: Vec<u8> = (0..=u16::MAX)
            .filter(|&bits| half::f16::from_bits(bits).is_finite())
            .flat_map(u16::to_le_bytes)
            .collect();
        let steps = bytes.len() / (2 * STEP);
        let bytes = &bytes[..2 * STEP * steps];
        let mut values = vec![0.0; STEP * steps];
        crate::cpu::widen_f16(bytes, &mut values);
        for (row, parts) in [(0, 2), (15, 3), (17, 2)] {
            let [mut got, mut want] = [(); 2].map(|()| vec![0; steps * parts * PART]);
            split_f16_row(bytes, row, parts, &mut got);
            split_row(&values, row, parts, &mut want);
            assert!(got == want);
        }
    }

    #[test]
    fn whole_numbers_are_one_part() {
        let values: Vec<i8> = (-127..=127).chain([0]).collect();
        let mut got = vec![u16::MAX; 8 * PART];
        split_i8_row(&values, 18, &mut got);
        for (k, &value) in values.iter().enumerate() {
            let place = k / STEP * PART + TILE + 2 * STEP + k % STEP;
            let number = f32::from_bits(u32::from(got[place]) << 16);
            assert_eq!(number, f32::from(value));
        }
    }

    #[test]
    fn two_parts_are_enough_for_half_precision() {
        for bits in 0..=u16::MAX {
            let value = half::f16::from_bits(bits).to_f32();
            if value.is_finite() {
                let [first, second, third] = super::super::amx::split(value).map(f32::from_bits);
                assert_eq!((first + second, third), (value, 0.0));
            }
        }
    }
}
