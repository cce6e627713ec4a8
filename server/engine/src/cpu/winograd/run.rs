//! Tiles that go through the transforms together: where they lie in the images, and what of them
//! lies beyond the edges.

use super::transform::{MAX_LANES, POINTS, TILE, WINDOW};
use super::{Output, Plan};

/// As many tiles as a vector has lanes, or fewer.
pub struct Run<'a> {
    plan: &'a Plan<'a>,
    first: usize,
    count: usize,
    /// Whether all lanes are used, side by side in one row of tiles.
    together: bool,
}

impl<'a> Run<'a> {
    /// Tiles `first..end`.
    pub fn new(plan: &'a Plan<'a>, first: usize, end: usize) -> Self {
        let count = end.saturating_sub(first);
        let together =
            count == plan.kernel.lanes && first / plan.across == (first + count - 1) / plan.across;
        Self {
            plan,
            first,
            count,
            together,
        }
    }

    /// Image, row and column of output pixel (0, 0) of tile `lane`.
    fn place(&self, lane: usize) -> (usize, usize, usize) {
        let (tile, across) = (self.first + lane, self.plan.across);
        let (image, tile) = (tile / self.plan.per_image, tile % self.plan.per_image);
        (image, tile / across * TILE, tile % across * TILE)
    }

    /// Transforms these tiles of one channel.
    ///
    /// # Safety
    /// `target` has room for a vector at each point, `step` apart.
    pub unsafe fn input(&self, channel: usize, target: *mut f32, step: usize) {
        let from = self.plan.convolution;
        let lanes = self.plan.kernel.lanes;
        let transforms = self.plan.transforms;
        let (height, width) = (from.height, from.width);
        let plane = |image: usize| {
            &from.input[(image * from.channels + channel) * height * width..][..height * width]
        };
        if !self.together {
            let mut window = [0.0f32; POINTS * MAX_LANES];
            for lane in 0..self.count {
                let (image, y, x) = self.place(lane);
                let plane = plane(image);
                for row in 0..WINDOW {
                    let mut values = [0.0; WINDOW];
                    self.padded(plane, y + row, x, &mut values);
                    for (column, value) in values.into_iter().enumerate() {
                        window[(row * WINDOW + column) * lanes + lane] = value;
                    }
                }
            }
            // SAFETY: the window holds 36 vectors; the rest is the caller's promise.
            unsafe { (transforms.input_gathered)(window.as_ptr(), target, step) };
            return;
        }
        let (image, y, x) = self.place(0);
        let (plane, columns) = (plane(image), TILE * lanes + 2);
        let before = from.pad_before;
        if y >= before
            && x >= before
            && y - before + WINDOW <= height
            && x - before + columns <= width
        {
            let source = &plane[(y - before) * width + x - before..];
            assert!((WINDOW - 1) * width + columns <= source.len());
            // SAFETY: six rows lie at the source, as just asserted; the rest is the caller's promise.
            unsafe { (transforms.input_run)(source.as_ptr(), width, target, step) };
            return;
        }
        const LINE: usize = TILE * MAX_LANES + 2;
        let mut window = [0.0f32; WINDOW * LINE];
        for (row, line) in window.chunks_exact_mut(LINE).enumerate() {
            self.padded(plane, y + row, x, &mut line[..columns]);
        }
        // SAFETY: the window holds six rows; the rest is the caller's promise.
        unsafe { (transforms.input_run)(window.as_ptr(), LINE, target, step) };
    }

    /// Values of one row of the padded input, `y` and `x` counted from the padding's corner.
    fn padded(&self, plane: &[f32], y: usize, x: usize, out: &mut [f32]) {
        let from = self.plan.convolution;
        let row = y.wrapping_sub(from.pad_before);
        if row >= from.height {
            out.fill(0.0);
            return;
        }
        let source = &plane[row * from.width..][..from.width];
        let low = from.pad_before.saturating_sub(x).min(out.len());
        let high = (from.width + from.pad_before)
            .saturating_sub(x)
            .clamp(low, out.len());
        out[..low].fill(0.0);
        if low < high {
            let start = x + low - from.pad_before;
            out[low..high].copy_from_slice(&source[start..start + high - low]);
        }
        out[high..].fill(0.0);
    }

    /// Writes these tiles of one output.
    ///
    /// # Safety
    /// 36 vectors lie at the source, `step` apart, and no other thread writes these pixels.
    pub unsafe fn output(&self, source: *const f32, step: usize, number: usize, output: Output) {
        let to = self.plan.convolution;
        let lanes = self.plan.kernel.lanes;
        let (height, width) = (to.out_height, to.out_width);
        let bias = to.bias[number];
        let plane = |image: usize| (image * to.weight.rows() + number) * height * width;
        let run = self.plan.transforms.output_run;
        let (image, y, x) = self.place(0);
        if self.together && y + TILE <= height && x + TILE * lanes <= width {
            // SAFETY: the pixels lie in the plane, as just seen, and the plane in the output, as
            // `run_with` asserts; the rest is the caller's promise.
            unsafe {
                let target = output.0.add(plane(image) + y * width + x);
                run(source, step, bias, target, width);
            }
            return;
        }
        let mut pixels = [0.0f32; TILE * TILE * MAX_LANES];
        let stride = TILE * lanes;
        // SAFETY: there is room for four rows; the rest is the caller's promise.
        unsafe { run(source, step, bias, pixels.as_mut_ptr(), stride) };
        for lane in 0..self.count {
            let (image, y, x) = self.place(lane);
            let columns = TILE.min(width - x);
            for row in 0..TILE.min(height - y) {
                let values = &pixels[row * stride + lane * TILE..][..columns];
                // SAFETY: as above.
                unsafe {
                    let target = output.0.add(plane(image) + (y + row) * width + x);
                    std::ptr::copy_nonoverlapping(values.as_ptr(), target, columns);
                }
            }
        }
    }
}
