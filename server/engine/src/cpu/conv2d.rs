//! Convolution in NCHW as a product of the weights, as they lie, with the input unfolded panel by
//! panel, so that nothing is transposed and nothing unfolded as a whole.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::gemm::{Bias, Operand, Patches, multiply};
use super::winograd::{self, Convolution};
use super::{profile, values};
use crate::weights::StoredMatrix;

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

struct Conv2d<'a> {
    weight: &'a StoredMatrix,
    kernel: usize,
    geometry: ConvGeometry,
}

/// Convolves `input` (b, c, h, w) with `weight` (o, c·k·k), k being `kernel`, and adds `bias` (o).
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d(
    input: &Tensor,
    weight: &StoredMatrix,
    bias: &Tensor,
    kernel: usize,
    geometry: ConvGeometry,
) -> Result<Tensor> {
    let op = Conv2d {
        weight,
        kernel,
        geometry,
    };
    input.contiguous()?.apply_op2_no_bwd(bias, &op)
}

/// One image as a convolution sees it.
struct Plane<'a> {
    values: &'a [f32],
    channels: usize,
    height: usize,
    width: usize,
    kernel: usize,
    out_width: usize,
    pixels: usize,
    geometry: ConvGeometry,
}

impl Patches for Plane<'_> {
    fn count(&self) -> usize {
        self.pixels
    }

    fn depth(&self) -> usize {
        self.channels * self.kernel * self.kernel
    }

    fn line(&self, k: usize, first: usize, out: &mut [f32]) {
        let (kernel, stride, before) =
            (self.kernel, self.geometry.stride, self.geometry.pad_before);
        let (channel, ky, kx) = (k / (kernel * kernel), k / kernel % kernel, k % kernel);
        let plane = &self.values[channel * self.height * self.width..][..self.height * self.width];
        let mut done = 0;
        while done < out.len() {
            let pixel = first + done;
            let (oy, ox) = (pixel / self.out_width, pixel % self.out_width);
            let run = (self.out_width - ox).min(out.len() - done);
            let target = &mut out[done..done + run];
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

impl Conv2d<'_> {
    /// Convolves one image as a product.
    fn direct(&self, plane: &Plane<'_>, bias: &[f32], out: &mut [f32]) {
        let pixels = plane.pixels;
        let pointwise = self.kernel == 1 && self.geometry == ConvGeometry::same(1);
        let patches = if pointwise {
            Operand::Columns {
                values: plane.values,
                count: pixels,
                depth: plane.channels,
                stride: pixels,
            }
        } else {
            Operand::Patches(plane)
        };
        let weights = Operand::Stored(self.weight);
        multiply(out, pixels, &weights, &patches, Bias::Rows(bias), true);
    }
}

impl CustomOp2 for Conv2d<'_> {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (input, bias) = (values(s1, l1)?, values(s2, l2)?);
        let (batch, channels, height, width) = l1.shape().dims4()?;
        let (outputs, taps) = (self.weight.rows(), self.weight.columns());
        let kernel = self.kernel;
        if taps != channels * kernel * kernel || bias.len() != outputs {
            candle_core::bail!(
                "a convolution of {taps} taps and {} biases got {:?}",
                bias.len(),
                l1.shape()
            );
        }
        let (Some(out_height), Some(out_width)) = (
            self.geometry.output(height, kernel),
            self.geometry.output(width, kernel),
        ) else {
            candle_core::bail!(
                "{:?} is smaller than a {kernel}×{kernel} kernel",
                l1.shape()
            );
        };
        let pixels = out_height * out_width;
        let mut out = vec![0.0; batch * outputs * pixels];
        let shape = || format!("{batch}×{channels} → {outputs}, {out_height}×{out_width}");
        let flops = 2.0 * (batch * outputs) as f64 * (taps * pixels) as f64;
        if kernel == 3
            && self.geometry.stride == 1
            && winograd::pays(channels, out_height, out_width)
        {
            let convolution = Convolution {
                input,
                batch,
                channels,
                height,
                width,
                weight: self.weight,
                bias,
                pad_before: self.geometry.pad_before,
                out_height,
                out_width,
            };
            profile::measured("conv2d 3×3 fast", shape, flops, || {
                convolution.run(&mut out)
            });
        } else {
            let name = if kernel == 1 { "conv2d 1×1" } else { "conv2d" };
            let image = channels * height * width;
            profile::measured(name, shape, flops, || {
                for (image, out) in input
                    .chunks_exact(image.max(1))
                    .zip(out.chunks_exact_mut((outputs * pixels).max(1)))
                {
                    let plane = Plane {
                        values: image,
                        channels,
                        height,
                        width,
                        kernel,
                        out_width,
                        pixels,
                        geometry: self.geometry,
                    };
                    self.direct(&plane, bias, out);
                }
            });
        }
        Ok((
            CpuStorage::F32(out),
            Shape::from((batch, outputs, out_height, out_width)),
        ))
    }
}
