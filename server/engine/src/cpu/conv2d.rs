//! Convolution in NCHW: tiles of output pixels, each unfolded into an L2-sized scratch and
//! multiplied by the weights as they lie, so that nothing is transposed.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::gemm::{Matrix, multiply, multiply_at};
use super::{threads, values};

/// Stride and zero padding of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Step between outputs, on both axes.
    pub stride: usize,
    /// Zeros before the first row and column.
    pub pad_before: usize,
    /// Zeros after the last row and column.
    pub pad_after: usize,
}

impl ConvGeometry {
    /// Stride 1 and the padding that keeps the size, for odd kernels.
    pub fn same(kernel: usize) -> Self {
        Self {
            stride: 1,
            pad_before: kernel / 2,
            pad_after: kernel / 2,
        }
    }

    fn output(&self, input: usize, kernel: usize) -> Option<usize> {
        (input + self.pad_before + self.pad_after)
            .checked_sub(kernel)
            .map(|room| room / self.stride + 1)
    }
}

/// Values of the scratch that a tile is unfolded into: 1 MiB.
const SCRATCH: usize = 1 << 18;

struct Conv2d(ConvGeometry);

/// Convolves `input` (b, c, h, w) with `weight` (o, c, k, k) and adds `bias` (o).
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d(
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    geometry: ConvGeometry,
) -> Result<Tensor> {
    input
        .contiguous()?
        .apply_op3_no_bwd(weight, bias, &Conv2d(geometry))
}

/// The output's address, for tiles written in parallel.
#[derive(Clone, Copy)]
struct Output(*mut f32);
// SAFETY: every task writes to pixels of its own tile only.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    /// # Safety
    /// `offset` must lie within the output.
    unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(offset) }
    }
}

/// One image as a convolution sees it.
struct Plane<'a> {
    values: &'a [f32],
    channels: usize,
    height: usize,
    width: usize,
    kernel: (usize, usize),
    out_width: usize,
    geometry: ConvGeometry,
}

impl Plane<'_> {
    /// Unfolds output pixels `first..first + count` into `scratch` (c·kh·kw, count).
    fn unfold(&self, first: usize, count: usize, scratch: &mut [f32]) {
        let (kh, kw) = self.kernel;
        let stride = self.geometry.stride;
        let before = self.geometry.pad_before;
        for (row, line) in scratch.chunks_exact_mut(count).enumerate() {
            let (channel, ky, kx) = (row / (kh * kw), row / kw % kh, row % kw);
            debug_assert!(channel < self.channels);
            let plane =
                &self.values[channel * self.height * self.width..][..self.height * self.width];
            let mut done = 0;
            while done < count {
                let pixel = first + done;
                let (oy, ox) = (pixel / self.out_width, pixel % self.out_width);
                let run = (self.out_width - ox).min(count - done);
                let target = &mut line[done..done + run];
                done += run;
                let y = (oy * stride + ky).wrapping_sub(before);
                if y >= self.height {
                    target.fill(0.0);
                    continue;
                }
                let source = &plane[y * self.width..][..self.width];
                if stride == 1 {
                    // x = ox + kx - before, inside of 0..width for outputs `low..high` of the run
                    let start = ox + kx;
                    let low = before.saturating_sub(start).min(run);
                    let high = (self.width + before).saturating_sub(start).clamp(low, run);
                    target[..low].fill(0.0);
                    if low < high {
                        target[low..high]
                            .copy_from_slice(&source[start + low - before..start + high - before]);
                    }
                    target[high..].fill(0.0);
                } else {
                    for (step, value) in target.iter_mut().enumerate() {
                        let x = ((ox + step) * stride + kx).wrapping_sub(before);
                        *value = source.get(x).copied().unwrap_or(0.0);
                    }
                }
            }
        }
    }
}

impl CustomOp3 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (input, weight, bias) = (values(s1, l1)?, values(s2, l2)?, values(s3, l3)?);
        let (batch, channels, height, width) = l1.shape().dims4()?;
        let (outputs, inputs, kh, kw) = l2.shape().dims4()?;
        if inputs != channels || bias.len() != outputs {
            candle_core::bail!(
                "a convolution of {inputs} channels and {} biases got {:?}",
                bias.len(),
                l1.shape()
            );
        }
        let (Some(out_height), Some(out_width)) =
            (self.0.output(height, kh), self.0.output(width, kw))
        else {
            candle_core::bail!("{:?} is smaller than a {kh}×{kw} kernel", l1.shape());
        };
        let pixels = out_height * out_width;
        let taps = channels * kh * kw;
        let mut out = Vec::with_capacity(batch * outputs * pixels);
        for _ in 0..batch {
            for &bias in bias {
                out.resize(out.len() + pixels, bias);
            }
        }
        let weights = Matrix::new(weight, outputs, taps);

        let pointwise = kh == 1 && kw == 1 && self.0 == ConvGeometry::same(1);
        if pointwise {
            for (image, out) in input
                .chunks_exact(channels * pixels)
                .zip(out.chunks_exact_mut(outputs * pixels))
            {
                let image = Matrix::new(image, channels, pixels);
                multiply(out, pixels, true, weights, image, 1.0, threads());
            }
        } else {
            // Tiles large enough to be worth packing the weights again, small enough for the
            // cache, and enough of them for all threads.
            let wanted = (batch * pixels).div_ceil(2 * threads());
            let tile = (SCRATCH / taps).min(wanted).clamp(32, 1024).min(pixels);
            let tiles = pixels.div_ceil(tile);
            let output = Output(out.as_mut_ptr());
            (0..batch * tiles).into_par_iter().for_each_init(
                || vec![0.0; taps * tile],
                |scratch, index| {
                    let (image, first) = (index / tiles, index % tiles * tile);
                    let count = tile.min(pixels - first);
                    let plane = Plane {
                        values: &input[image * channels * height * width..],
                        channels,
                        height,
                        width,
                        kernel: (kh, kw),
                        out_width,
                        geometry: self.0,
                    };
                    let scratch = &mut scratch[..taps * count];
                    plane.unfold(first, count, scratch);
                    // SAFETY: image < batch and first < pixels, and the product covers pixels
                    // first..first + count of each of the `outputs` planes of this image: inside
                    // of `out`, and no other tile's.
                    unsafe {
                        multiply_at(
                            output.at(image * outputs * pixels + first),
                            pixels,
                            true,
                            weights,
                            Matrix::new(scratch, taps, count),
                            1.0,
                            1,
                        );
                    }
                },
            );
        }
        Ok((
            CpuStorage::F32(out),
            Shape::from((batch, outputs, out_height, out_width)),
        ))
    }
}
