//! Normalisation: two passes over the data, so that a large mean does not eat the variance.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::pointwise::Pointwise;
use super::vectorised::vectorised;
use super::{profile, values};

/// Values that are looked at together: a quarter of the first cache.
const BLOCK: usize = 2048;

vectorised! {
    /// Mean and variance (population) of `values`: those of blocks that stay in the first cache,
    /// joined (Chan, Golub and LeVeque 1983), so that memory is read once.
    fn moments(values: &[f32]) -> (f32, f32) {
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for block in values.chunks(BLOCK) {
            let size = block.len() as f64;
            let middle = sum(block, |x| x) / size;
            let centre = middle as f32;
            // What rounding the centre loses is taken out again.
            let off = middle - f64::from(centre);
            let spread = sum(block, |x| (x - centre) * (x - centre)) - size * off * off;
            let apart = middle - mean;
            let total = count + size;
            mean += apart * size / total;
            squares += spread + apart * apart * count * size / total;
            count = total;
        }
        (mean as f32, (squares / count.max(1.0)) as f32)
    }

    /// `out = scale · x + shift`.
    fn scale_and_shift(input: &[f32], out: &mut [f32], scale: f32, shift: f32) {
        for (out, &x) in out.iter_mut().zip(input) {
            *out = x * scale + shift;
        }
    }

    /// `out = (x − mean) · inverse · weight + bias`.
    fn centre_and_scale(
        input: &[f32],
        out: &mut [f32],
        weight: &[f32],
        bias: &[f32],
        mean: f32,
        inverse: f32,
    ) {
        for (((out, &x), &weight), &bias) in out.iter_mut().zip(input).zip(weight).zip(bias) {
            *out = (x - mean) * inverse * weight + bias;
        }
    }
}

/// Sum of `f` over `values`: f32 lanes within short blocks, f64 across them.
#[inline(always)]
fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    const LANES: usize = 16;
    let mut total = 0.0;
    for block in values.chunks(64 * LANES) {
        let mut lanes = [0.0f32; LANES];
        let (whole, rest) = block.as_chunks::<LANES>();
        for chunk in whole {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += f(x);
            }
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        total += rest.iter().map(|&x| f64::from(f(x))).sum::<f64>();
    }
    total
}

struct GroupNorm {
    groups: usize,
    eps: f32,
    activation: Option<Pointwise>,
}

/// Group normalisation (arXiv:1803.08494) of `input` (b, c, …) with `weight` and `bias` (c),
/// followed by `activation`.
///
/// # Errors
/// If `groups` does not divide the channels.
pub fn group_norm(
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    activation: Option<Pointwise>,
) -> Result<Tensor> {
    let op = GroupNorm {
        groups,
        eps: eps as f32,
        activation,
    };
    input.contiguous()?.apply_op3_no_bwd(weight, bias, &op)
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
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
        let dims = l1.dims();
        if dims.len() < 2 || !dims[1].is_multiple_of(self.groups) || weight.len() != dims[1] {
            candle_core::bail!("{} groups do not fit {:?}", self.groups, l1.shape());
        }
        let per_group = dims[1] / self.groups;
        let area: usize = dims[2..].iter().product();
        let size = per_group * area;
        let mut out = vec![0.0; input.len()];
        let run = || {
            out.par_chunks_exact_mut(size.max(1))
                .zip(input.par_chunks_exact(size))
                .enumerate()
                .for_each(|(index, (out, input))| {
                    let first = index % self.groups * per_group;
                    let (mean, variance) = moments(input);
                    let inverse = 1.0 / (variance + self.eps).sqrt();
                    for (channel, (out, input)) in out
                        .chunks_exact_mut(area)
                        .zip(input.chunks_exact(area))
                        .enumerate()
                    {
                        let scale = inverse * weight[first + channel];
                        let shift = bias[first + channel] - scale * mean;
                        for (out, input) in out.chunks_mut(BLOCK).zip(input.chunks(BLOCK)) {
                            scale_and_shift(input, out, scale, shift);
                            if let Some(activation) = self.activation {
                                activation.apply(out);
                            }
                        }
                    }
                });
        };
        profile::measured("group_norm", || format!("{dims:?}"), 0.0, run);
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

struct LayerNorm {
    eps: f32,
}

/// Layer normalisation (arXiv:1607.06450) over the last axis.
///
/// # Errors
/// If `weight` and `bias` do not have the length of the last axis.
pub fn layer_norm(input: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let op = LayerNorm { eps: eps as f32 };
    input.contiguous()?.apply_op3_no_bwd(weight, bias, &op)
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
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
        let size = weight.len();
        if l1.dims().last() != Some(&size) || bias.len() != size || size == 0 {
            candle_core::bail!("a layer norm of {size} got {:?}", l1.shape());
        }
        let mut out = vec![0.0; input.len()];
        let run = || {
            out.par_chunks_exact_mut(size)
                .zip(input.par_chunks_exact(size))
                .for_each(|(out, input)| {
                    let (mean, variance) = moments(input);
                    let inverse = 1.0 / (variance + self.eps).sqrt();
                    centre_and_scale(input, out, weight, bias, mean, inverse);
                });
        };
        profile::measured("layer_norm", || format!("{:?}", l1.dims()), 0.0, run);
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::TorchGenerator;

    /// Several blocks, and a mean that is large beside the spread.
    #[test]
    fn moments_are_those_of_the_whole() {
        for (count, mean) in [
            (1, 3.0),
            (7, 0.0),
            (BLOCK + 1, 100.0),
            (5 * BLOCK - 3, 1000.0),
        ] {
            let values: Vec<f32> = TorchGenerator::new(2)
                .randn(count)
                .into_iter()
                .map(|x| x + mean)
                .collect();
            let exact = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count as f64;
            let spread = values
                .iter()
                .map(|&x| (f64::from(x) - exact).powi(2))
                .sum::<f64>()
                / count as f64;
            let (mean, variance) = moments(&values);
            assert!((f64::from(mean) - exact).abs() <= 1e-7 * exact.abs().max(1.0));
            assert!((f64::from(variance) - spread).abs() <= 1e-5 * spread.max(1e-3));
        }
    }

    #[test]
    fn undefined_values_stay_so() {
        let (mean, variance) = moments(&[1.0, f32::NAN, 2.0]);
        assert!(mean.is_nan() && variance.is_nan());
    }
}
