//! 3×3 convolutions with a quarter of the multiplications: F(4×4, 3×3) by Winograd's method (Lavin
//! and Gray 2016, arXiv:1509.09308). Tiles of 6×6 input values become 36 points; at each point a
//! matrix product over the channels; 36 products become 4×4 output values.
//!
//! Tiles are taken in slabs and outputs in groups, so that what is transformed at a time has a
//! bounded size; weights are transformed as they are needed, which costs little beside what many
//! tiles make of them, and takes no memory that stays.

mod lanes;
mod run;
mod transform;

use std::cell::RefCell;

use rayon::prelude::*;

use super::gemm::kernel::{Kernel, MAX_COLUMNS, MAX_ROWS, Start, VECTORS, kernel, prefetch};
use super::pages::Pages;
use crate::weights::StoredMatrix;
use run::Run;
use transform::{POINTS, TILE, Transforms, transforms};

/// Channels that a product takes at once: a strip of tiles then stays in the first cache.
const DEPTH: usize = 128;
/// Strips of tiles that a task multiplies with the same weights.
const STRIPS: usize = 4;
/// Outputs of a task.
const OUTPUTS: usize = 128;
/// Values between the panels of one point and the next, without which all of them would compete for
/// the same lines of the first cache.
const GAP: usize = 16;
/// Most values that the transformed tiles of a slab, and the weights of a group, have.
const WORKSPACE: usize = 12 << 20;

/// A convolution of stride 1 and what it works on.
pub struct Convolution<'a> {
    /// Images, (batch, channels, height, width).
    pub input: &'a [f32],
    /// Number of images.
    pub batch: usize,
    /// Channels of the input.
    pub channels: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// (outputs, channels · 3 · 3).
    pub weight: &'a StoredMatrix,
    /// One for each output.
    pub bias: &'a [f32],
    /// Zeros before the first row and column.
    pub pad_before: usize,
    /// Rows of the output.
    pub out_height: usize,
    /// Columns of the output.
    pub out_width: usize,
}

/// Whether the method pays: there must be enough channels to be worth transforming tiles back, and
/// enough tiles to be worth transforming weights. Few outputs do no harm: the input is transformed
/// for less than it is unfolded. Says nothing of the batch, since n images must be what each is
/// alone.
pub fn pays(channels: usize, out_height: usize, out_width: usize) -> bool {
    channels >= 32 && out_height.div_ceil(TILE) * out_width.div_ceil(TILE) >= 64
}

thread_local! {
    /// Transformed tiles and weights of the thread that convolves, kept as the panels of `gemm` are.
    static WORKSPACES: RefCell<[Pages; 2]> = const { RefCell::new([Pages::new(), Pages::new()]) };
    /// Products of a task.
    static PRODUCTS: RefCell<Pages> = const { RefCell::new(Pages::new()) };
}

impl Convolution<'_> {
    /// Writes the result, (batch, outputs, out_height, out_width).
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn run(&self, out: &mut [f32]) {
        self.run_with(kernel(), WORKSPACE, out);
    }

    fn run_with(&self, kernel: &Kernel, workspace: usize, out: &mut [f32]) {
        let outputs = self.weight.rows();
        assert!(
            self.input.len() >= self.batch * self.channels * self.height * self.width
                && self.weight.columns() == self.channels * 9
                && self.bias.len() >= outputs
                && out.len() >= self.batch * outputs * self.out_height * self.out_width
                && self.out_height <= self.height + 2 * self.pad_before
                && self.out_width <= self.width + 2 * self.pad_before,
            "a convolution reaches beyond its values"
        );
        if out.is_empty() {
            return;
        }
        let across = self.out_width.div_ceil(TILE);
        let down = self.out_height.div_ceil(TILE);
        let plan = Plan {
            convolution: self,
            kernel,
            transforms: transforms(kernel),
            across,
            per_image: across * down,
            tiles: across * down * self.batch,
        };
        // Taken out, not borrowed: this thread may come by here again while it waits for others.
        let [mut tiles, mut weights] = WORKSPACES.take();
        plan.run(
            &mut tiles,
            &mut weights,
            workspace,
            Output(out.as_mut_ptr()),
        );
        WORKSPACES.set([tiles, weights]);
    }
}

/// Where the result goes.
#[derive(Clone, Copy)]
struct Output(*mut f32);
// SAFETY: every task writes to planes and tiles of its own.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// A convolution as tiles.
struct Plan<'a> {
    convolution: &'a Convolution<'a>,
    kernel: &'a Kernel,
    transforms: &'a Transforms,
    /// Tiles in a row.
    across: usize,
    per_image: usize,
    /// In all images.
    tiles: usize,
}

/// Some strips of tiles: first tile and their number.
#[derive(Clone, Copy, PartialEq)]
struct Slab {
    first: usize,
    count: usize,
}

impl Plan<'_> {
    fn strip(&self) -> usize {
        self.kernel.lanes * VECTORS
    }

    fn run(&self, tiles: &mut Pages, weights: &mut Pages, workspace: usize, output: Output) {
        let (channels, outputs) = (self.convolution.channels, self.convolution.weight.rows());
        let rows = self.kernel.rows;
        let (per_strip, per_bar) = (block(channels, self.strip()), block(channels, rows));
        let strips = (workspace / per_strip.max(1)).max(1);
        let bars = (workspace / per_bar.max(1)).max(1);
        let mut ready = None;
        for (first_output, group) in pieces(outputs, bars * rows) {
            let weights = weights.room(group.div_ceil(rows) * per_bar);
            self.transform_weights(first_output, group, weights);
            for (first, count) in pieces(self.tiles, strips * self.strip()) {
                let slab = Slab { first, count };
                let tiles = tiles.room(count.div_ceil(self.strip()) * per_strip);
                if ready != Some(slab) {
                    self.transform_tiles(slab, tiles);
                    ready = Some(slab);
                }
                self.multiply(slab, (first_output, group), tiles, weights, output);
            }
        }
    }

    /// Weights of `group` outputs: bar after bar, in each piece after piece of the channels, in
    /// each point after point the (channels, rows) panel that the kernel takes.
    fn transform_weights(&self, first_output: usize, group: usize, weights: &mut [f32]) {
        let (channels, rows) = (self.convolution.channels, self.kernel.rows);
        let matrix = self.convolution.weight;
        let bars = group.div_ceil(rows);
        let pieces_of = parts(weights, bars, channels, |_| rows);
        pieces_of.into_par_iter().for_each_init(
            Vec::new,
            |scratch: &mut Vec<f32>, (bar, (channel, depth), panels)| {
                let taps = 9 * depth;
                scratch.resize(2 * rows * taps, 0.0);
                let (lines, turned) = scratch.split_at_mut(rows * taps);
                for (row, line) in lines.chunks_exact_mut(taps).enumerate() {
                    if bar * rows + row < group {
                        matrix.widen(first_output + bar * rows + row, 9 * channel, line);
                    } else {
                        line.fill(0.0);
                    }
                }
                let step = depth * rows + GAP;
                assert!(turned.len() == rows * taps && POINTS * step <= panels.len());
                // SAFETY: both halves hold `rows` lines of `taps` values, and there is room for the
                // panels, as just asserted; the kernel and its transforms are this machine's.
                unsafe {
                    let (from, to) = (lines.as_ptr(), turned.as_mut_ptr());
                    (self.kernel.transpose)(from, taps, rows, taps, to);
                    (self.transforms.weights)(turned.as_ptr(), depth, panels.as_mut_ptr(), step);
                }
            },
        );
    }

    /// Tiles of a slab: strip after strip, in each piece after piece of the channels, in each point
    /// after point the (channels, width) panel that the kernel takes.
    fn transform_tiles(&self, slab: Slab, tiles: &mut [f32]) {
        let (channels, strip) = (self.convolution.channels, self.strip());
        let padded = slab.count.next_multiple_of(self.kernel.lanes);
        let pieces_of = parts(tiles, padded.div_ceil(strip), channels, |index| {
            strip.min(padded - index * strip)
        });
        pieces_of
            .into_par_iter()
            .for_each(|(index, (first_channel, depth), panels)| {
                let first = slab.first + index * strip;
                let width = strip.min(padded - index * strip);
                let end = slab.first + slab.count;
                let step = depth * width + GAP;
                let runs: Vec<(usize, Run<'_>)> = (0..width)
                    .step_by(self.kernel.lanes)
                    .map(|lane| {
                        let first = first + lane;
                        (
                            lane,
                            Run::new(self, first, end.min(first + self.kernel.lanes)),
                        )
                    })
                    .collect();
                for channel in 0..depth {
                    for (lane, run) in &runs {
                        let at = channel * width + lane;
                        assert!((POINTS - 1) * step + at + self.kernel.lanes <= panels.len());
                        // SAFETY: as just asserted, a vector at `at` of every point lies in the panels.
                        unsafe {
                            run.input(first_channel + channel, panels.as_mut_ptr().add(at), step)
                        }
                    }
                }
            });
    }

    /// All products of a slab with a group of outputs, and what they become.
    fn multiply(
        &self,
        slab: Slab,
        (first_output, group): (usize, usize),
        tiles: &[f32],
        weights: &[f32],
        output: Output,
    ) {
        let rows = self.kernel.rows;
        let strips = slab.count.div_ceil(self.strip());
        let bars = group.div_ceil(rows);
        // Fewer strips and outputs to a task where there are more threads than tasks.
        let threads = rayon::current_num_threads();
        let (mut most_strips, mut most_bars) = (STRIPS, OUTPUTS.div_ceil(rows));
        while strips.div_ceil(most_strips) * bars.div_ceil(most_bars) < 2 * threads
            && (most_strips > 1 || most_bars > 2)
        {
            if most_strips > 1 && most_strips * self.strip() > most_bars * rows {
                most_strips = most_strips.div_ceil(2);
            } else if most_bars > 2 {
                most_bars = most_bars.div_ceil(2);
            } else {
                most_strips = most_strips.div_ceil(2);
            }
        }
        let tasks: Vec<_> = pieces(strips, most_strips)
            .flat_map(|strips| pieces(bars, most_bars).map(move |bars| (strips, bars)))
            .collect();
        tasks.into_par_iter().for_each(|(strips, bars)| {
            PRODUCTS.with_borrow_mut(|products| {
                let task = Task {
                    plan: self,
                    slab,
                    strips,
                    bars,
                    outputs: first_output..first_output + group,
                };
                let products = products.room(POINTS * task.step());
                task.products(tiles, weights, products);
                task.outputs(products, output);
            });
        });
    }
}

/// A point, a piece of the channels (first, count), and which strip of the task's.
type Step = (usize, (usize, usize), usize);

/// Some strips of a slab with some bars of outputs, both (first, count).
struct Task<'a> {
    plan: &'a Plan<'a>,
    slab: Slab,
    strips: (usize, usize),
    bars: (usize, usize),
    outputs: std::ops::Range<usize>,
}

impl Task<'_> {
    /// Tiles from one row of products to the next, padded to whole vectors.
    fn stride(&self) -> usize {
        let strip = self.plan.strip();
        let padded = self.slab.count.next_multiple_of(self.plan.kernel.lanes);
        (padded - self.strips.0 * strip).min(self.strips.1 * strip)
    }

    /// Values from the products of one point to those of the next.
    fn step(&self) -> usize {
        self.bars.1 * self.plan.kernel.rows * self.stride() + GAP
    }

    /// (points, bars · rows, stride) of products.
    fn products(&self, tiles: &[f32], weights: &[f32], products: &mut [f32]) {
        let kernel = self.plan.kernel;
        let channels = self.plan.convolution.channels;
        let (rows, strip, stride) = (kernel.rows, self.plan.strip(), self.stride());
        let (per_strip, per_bar) = (block(channels, strip), block(channels, rows));
        let zeros = ([0.0f32; MAX_ROWS], [0.0f32; MAX_COLUMNS]);
        let width = |index: usize| strip.min(stride - index * strip);
        let right = |(point, (channel, depth), index): Step| {
            let width = width(index);
            let block = &tiles[(self.strips.0 + index) * per_strip + before(channel, width)..];
            &block[point * (depth * width + GAP)..][..depth * width]
        };
        let left = |(point, (channel, depth), _): Step, bar: usize| {
            let block = &weights[(self.bars.0 + bar) * per_bar + before(channel, rows)..];
            &block[point * (depth * rows + GAP)..][..depth * rows]
        };
        let mut steps = (0..POINTS)
            .flat_map(|point| pieces(channels, DEPTH).map(move |piece| (point, piece)))
            .flat_map(|(point, piece)| (0..self.strips.1).map(move |index| (point, piece, index)))
            .peekable();
        while let Some(step) = steps.next() {
            let (point, (channel, depth), index) = step;
            let start = match channel {
                0 => Start::Bias(zeros.0.as_ptr(), zeros.1.as_ptr()),
                _ => Start::Output,
            };
            let panel = right(step);
            // What comes next is fetched bit by bit, while there is something to compute.
            let next = steps.peek().copied();
            let next_panel = next.map_or(&[][..], right);
            let share = next_panel.len().div_ceil(self.bars.1).next_multiple_of(16);
            let mut ahead = next_panel.chunks(share.max(1));
            for bar in 0..self.bars.1 {
                prefetch(ahead.next().unwrap_or_default());
                if let Some(next) = next.filter(|next| next.2 == 0) {
                    prefetch(left(next, bar));
                }
                let at = point * self.step() + bar * rows * stride + index * strip;
                let target = &mut products[at..][..(rows - 1) * stride + width(index)];
                // SAFETY: the panels hold `rows` and `width` values for each depth, the target a
                // whole tile, as the slices show; the kernel is this machine's.
                unsafe {
                    (kernel.run[width(index) / kernel.lanes - 1])(
                        depth,
                        left(step, bar).as_ptr(),
                        panel.as_ptr(),
                        target.as_mut_ptr(),
                        stride,
                        start,
                    );
                }
            }
        }
    }

    /// Products → output.
    fn outputs(&self, products: &[f32], output: Output) {
        let (kernel, strip, stride) = (self.plan.kernel, self.plan.strip(), self.stride());
        let step = self.step();
        let end = self.slab.first + self.slab.count;
        let first = self.slab.first + self.strips.0 * strip;
        for lane in (0..stride).step_by(kernel.lanes) {
            let run = Run::new(
                self.plan,
                first + lane,
                end.min(first + lane + kernel.lanes),
            );
            for row in 0..self.bars.1 * kernel.rows {
                let number = self.outputs.start + self.bars.0 * kernel.rows + row;
                if number >= self.outputs.end {
                    break;
                }
                let source = &products[row * stride + lane..][..(POINTS - 1) * step + kernel.lanes];
                // SAFETY: 36 vectors `step` apart lie at the source, as the slice shows. The planes
                // of these outputs and the pixels of these tiles are this task's alone.
                unsafe { run.output(source.as_ptr(), step, number, output) }
            }
        }
    }
}

/// Values of all panels of a block that is `width` wide.
fn block(channels: usize, width: usize) -> usize {
    POINTS * (channels * width + channels.div_ceil(DEPTH) * GAP)
}

/// Values of those before the piece that begins with `channel`.
fn before(channel: usize, width: usize) -> usize {
    POINTS * (channel * width + channel / DEPTH * GAP)
}

/// Cuts panels into those of each of `count` blocks and each piece of the channels: (block, (first
/// channel, depth), panels). `width` says how wide a block is.
fn parts(
    mut panels: &mut [f32],
    count: usize,
    channels: usize,
    width: impl Fn(usize) -> usize,
) -> Vec<(usize, (usize, usize), &mut [f32])> {
    let mut parts = Vec::new();
    for index in 0..count {
        for (channel, depth) in pieces(channels, DEPTH) {
            let (part, rest) = panels.split_at_mut(POINTS * (depth * width(index) + GAP));
            parts.push((index, (channel, depth), part));
            panels = rest;
        }
    }
    parts
}

/// Cuts `count` into pieces of `size` and what is left over: (first, count).
fn pieces(count: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count)
        .step_by(size.max(1))
        .map(move |at| (at, size.min(count - at)))
}

#[cfg(test)]
mod tests;
