//! Every operation of SDXL by plain candle operations, for all devices and number formats.
//!
//! Written for what candle's CUDA backend does: operands of products are contiguous or transposed
//! as a whole; statistics, softmax and activations are computed in f32 whatever the format; no step
//! holds more than [`SCRATCH`] beside its input and its output, which exists twice while its parts
//! are joined, so that images of any size fit. One row or group is never split.
//! Nothing here is bound to an architecture.

use candle_core::{D, DType, Device, Result, Tensor};

use crate::cpu::{ConvGeometry, Pointwise, nearest_positions};

/// Bytes that an operation may take for what it only holds in between. Little in unit tests, so that
/// the checks of `probe` run every operation in uneven parts.
const SCRATCH: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };

/// Changes the number format. candle has no kernel between f16 and bf16: f32 lies between.
pub fn cast(tensor: &Tensor, dtype: DType) -> Result<Tensor> {
    match (tensor.dtype(), dtype) {
        (DType::F16, DType::BF16) | (DType::BF16, DType::F16) => {
            tensor.to_dtype(DType::F32)?.to_dtype(dtype)
        }
        _ => tensor.to_dtype(dtype),
    }
}

/// See [`super::Ops::linear`]; `weight` (m, n).
pub fn linear(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let mut dims = input.dims().to_vec();
    match dims.last_mut() {
        Some(last) if *last == inputs => *last = outputs,
        _ => candle_core::bail!("a linear layer of {inputs} inputs got {:?}", input.shape()),
    }
    let rows = input.elem_count() / inputs.max(1);
    let out = input
        .contiguous()?
        .reshape((rows, inputs))?
        .matmul(&weight.t()?)?;
    let out = match bias {
        Some(bias) => out.broadcast_add(bias)?,
        None => out,
    };
    out.reshape(dims)
}

/// See [`super::Ops::conv2d`]; `weight` (o, c·k·k).
pub fn conv2d(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    kernel: usize,
    geometry: ConvGeometry,
) -> Result<Tensor> {
    let (_, channels, height, width) = input.dims4()?;
    let (outputs, taps) = weight.dims2()?;
    let ConvGeometry {
        pad_before,
        pad_after,
        ..
    } = geometry;
    if taps != channels * kernel * kernel || height.min(width) + pad_before + pad_after < kernel {
        candle_core::bail!(
            "a convolution of {taps} taps of {kernel}×{kernel} got {:?}",
            input.shape()
        );
    }
    let out = if kernel == 1 && geometry == ConvGeometry::same(1) {
        pointwise_convolution(&input.contiguous()?, weight)?
    } else {
        let weight = weight.reshape((outputs, channels, kernel, kernel))?;
        in_bands(&input.contiguous()?, &weight, kernel, geometry)?
    };
    match bias {
        Some(bias) => out.broadcast_add(&bias.reshape((1, outputs, 1, 1))?),
        None => Ok(out),
    }
}

/// A 1×1 convolution is a product of the weights with each image.
fn pointwise_convolution(input: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = input.dims4()?;
    let outputs = weight.dim(0)?;
    let images = input.reshape((batch, channels, height * width))?;
    let out = (0..batch)
        .map(|at| weight.matmul(&images.get(at)?))
        .collect::<Result<Vec<_>>>()?;
    Tensor::stack(&out, 0)?.reshape((batch, outputs, height, width))
}

/// candle unfolds the whole input before it multiplies, which for the VAE at 1024² takes five
/// gigabytes: so it is given bands of output rows. (cuDNN needs no such thing.)
fn in_bands(
    input: &Tensor,
    weight: &Tensor,
    kernel: usize,
    geometry: ConvGeometry,
) -> Result<Tensor> {
    let (batch, channels, height, width) = input.dims4()?;
    let ConvGeometry {
        stride,
        pad_before,
        pad_after,
    } = geometry;
    let size = |n: usize| (n + pad_before + pad_after - kernel) / stride + 1;
    let (rows, columns) = (size(height), size(width));
    let row_bytes = batch * columns * channels * kernel * kernel * input.dtype().size_in_bytes();
    let band = (SCRATCH / row_bytes.max(1)).clamp(1, rows);
    let unfolds = !(cfg!(feature = "cudnn") && input.device().is_cuda());
    if pad_before == pad_after && (band == rows || !unfolds) {
        return convolve(input, weight, pad_before, stride);
    }
    let band = if unfolds { band } else { rows };
    let mut bands = Vec::with_capacity(rows.div_ceil(band));
    for first in (0..rows).step_by(band) {
        let last = (first + band).min(rows);
        // Rows of the padded input that this band sees, and what of them is padding.
        let (from, to) = (first * stride, (last - 1) * stride + kernel);
        let above = pad_before.saturating_sub(from);
        let below = to.saturating_sub(pad_before + height);
        let start = (from + above).saturating_sub(pad_before);
        let count = to - from - above - below;
        let seen = input
            .narrow(2, start, count)?
            .pad_with_zeros(2, above, below)?
            .pad_with_zeros(3, pad_before, pad_after)?
            .contiguous()?;
        bands.push(convolve(&seen, weight, 0, stride)?);
    }
    match bands.as_slice() {
        [one] => Ok(one.clone()),
        _ => Tensor::cat(&bands, 2),
    }
}

/// candle's own convolution. Its CPU backend has none in bf16 and sums f16 in f16: there, both are
/// widened, so that what is tested without a GPU is the arithmetic that a GPU does.
fn convolve(input: &Tensor, weight: &Tensor, padding: usize, stride: usize) -> Result<Tensor> {
    let dtype = input.dtype();
    if matches!(input.device(), Device::Cpu) && dtype != DType::F32 {
        let (input, weight) = (input.to_dtype(DType::F32)?, weight.to_dtype(DType::F32)?);
        return input
            .conv2d(&weight, padding, stride, 1, 1)?
            .to_dtype(dtype);
    }
    input.conv2d(weight, padding, stride, 1, 1)
}

/// See [`super::Ops::group_norm`].
pub fn group_norm(
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    activation: Option<Pointwise>,
) -> Result<Tensor> {
    let dims = input.dims();
    if dims.len() < 2 || groups == 0 || !dims[1].is_multiple_of(groups) {
        candle_core::bail!("{groups} groups do not fit {:?}", input.shape());
    }
    let (batch, channels) = (dims[0], dims[1]);
    let each = channels / groups;
    let area: usize = dims[2..].iter().product();
    let grouped = input.contiguous()?.reshape((batch, groups, each, area))?;
    // As many groups at a time as fit in f32, of which there are a few copies.
    let bytes = 4 * 4 * batch * each * area;
    let step = (SCRATCH / bytes.max(1)).clamp(1, groups);
    let mut parts = Vec::with_capacity(groups.div_ceil(step));
    for first in (0..groups).step_by(step) {
        let count = step.min(groups - first);
        let part = cast(&grouped.narrow(1, first, count)?.contiguous()?, DType::F32)?;
        // Means of equal parts have the whole's mean as theirs; shorter sums are more precise, and
        // there are more of them to run side by side.
        let mean = |x: &Tensor| x.mean_keepdim(3)?.mean_keepdim(2);
        let centred = part.broadcast_sub(&mean(&part)?)?;
        let deviation = (mean(&centred.sqr()?)? + eps)?.sqrt()?;
        let of_channels = |values: &Tensor| {
            values
                .narrow(0, first * each, count * each)?
                .reshape((1, count, each, 1))
        };
        let out = centred
            .broadcast_div(&deviation)?
            .broadcast_mul(&of_channels(weight)?)?
            .broadcast_add(&of_channels(bias)?)?;
        let out = match activation {
            Some(function) => precise_pointwise(&out, function)?,
            None => out,
        };
        parts.push(cast(&out, input.dtype())?);
    }
    let joined = match parts.as_slice() {
        [one] => one.clone(),
        _ => Tensor::cat(&parts, 1)?,
    };
    joined.reshape(dims)
}

/// See [`super::Ops::layer_norm`].
pub fn layer_norm(input: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = cast(&input.contiguous()?, DType::F32)?;
    let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    let out = centred
        .broadcast_div(&deviation)?
        .broadcast_mul(weight)?
        .broadcast_add(bias)?;
    cast(&out, input.dtype())
}

/// Softmax of the last axis, computed in f32.
pub fn softmax(input: &Tensor) -> Result<Tensor> {
    let wide = cast(&input.contiguous()?, DType::F32)?;
    cast(&candle_nn::ops::softmax_last_dim(&wide)?, input.dtype())
}

/// See [`super::Ops::attention`]. Queries go in chunks, so that the scores of all of them never
/// exist at once.
pub fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    heads: usize,
    causal: bool,
) -> Result<Tensor> {
    let (batch, queries, width) = query.dims3()?;
    let (key_batch, keys, key_width) = key.dims3()?;
    if key.shape() != value.shape()
        || (key_batch, key_width) != (batch, width)
        || keys == 0
        || heads == 0
        || !width.is_multiple_of(heads)
    {
        candle_core::bail!(
            "attention of {heads} heads got {:?}, {:?} and {:?}",
            query.shape(),
            key.shape(),
            value.shape()
        );
    }
    let dim = width / heads;
    // (b, n, h·d) → (b·h, n, d)
    let by_head = |x: &Tensor, rows: usize| {
        x.contiguous()?
            .reshape((batch, rows, heads, dim))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((batch * heads, rows, dim))
    };
    // Scaled before the product: in f16, scores would overflow sooner.
    let query = (by_head(query, queries)? * (1.0 / (dim as f64).sqrt()))?;
    let key = by_head(key, keys)?.transpose(1, 2)?;
    let value = by_head(value, keys)?;
    // Scores are there in the format that is computed in, in f32, and as weights.
    let row_bytes = batch * heads * keys * (4 + 4 + 2);
    let chunk = (SCRATCH / row_bytes.max(1)).clamp(1, queries.max(1));
    let mut parts = Vec::with_capacity(queries.div_ceil(chunk));
    for first in (0..queries).step_by(chunk) {
        let count = chunk.min(queries - first);
        let rows = query.narrow(1, first, count)?.contiguous()?;
        let scores = cast(&rows.matmul(&key)?, DType::F32)?;
        let scores = if causal {
            scores.broadcast_add(&causal_mask(first, count, keys, query.device())?)?
        } else {
            scores
        };
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        parts.push(cast(&weights, query.dtype())?.matmul(&value)?);
    }
    let joined = match parts.as_slice() {
        [one] => one.clone(),
        _ => Tensor::cat(&parts, 1)?,
    };
    joined
        .reshape((batch, heads, queries, dim))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((batch, queries, width))
}

/// 0 where a query sees a key, −∞ where that comes later: (count, keys), in f32.
fn causal_mask(first: usize, count: usize, keys: usize, device: &Device) -> Result<Tensor> {
    let mask: Vec<f32> = (first..first + count)
        .flat_map(|row| (0..keys).map(move |key| if key <= row { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    Tensor::from_vec(mask, (count, keys), device)
}

/// See [`super::Ops::activate`].
pub fn pointwise(input: &Tensor, function: Pointwise) -> Result<Tensor> {
    let wide = cast(&input.contiguous()?, DType::F32)?;
    cast(&precise_pointwise(&wide, function)?, input.dtype())
}

/// An activation of f32 values.
fn precise_pointwise(x: &Tensor, function: Pointwise) -> Result<Tensor> {
    match function {
        Pointwise::Silu => x.silu(),
        Pointwise::Gelu => x.gelu_erf(),
        Pointwise::GeluTanh => x.gelu(),
        // x σ(a x) = silu(a x) / a
        Pointwise::QuickGelu => (x * 1.702)?.silu()? / 1.702,
        // Not candle's relu, which turns NaN into 0.
        Pointwise::Relu => (x + x.abs()?)? * 0.5,
        // Beyond 30 the factor is 1 to the last bit, and eˣ would overflow.
        Pointwise::Mish => x * (x.minimum(30.0)?.exp()? + 1.0)?.log()?.tanh()?,
        Pointwise::Tanh => x.tanh(),
    }
}

/// See [`super::Ops::geglu`].
pub fn geglu(input: &Tensor) -> Result<Tensor> {
    let width = input.dim(D::Minus1)?;
    if !width.is_multiple_of(2) {
        candle_core::bail!("a gate of {:?} has no two halves", input.shape());
    }
    let half = |at: usize| {
        let half = input.narrow(D::Minus1, at * width / 2, width / 2)?;
        cast(&half.contiguous()?, DType::F32)
    };
    cast(&(half(0)? * half(1)?.gelu_erf()?)?, input.dtype())
}

/// See [`super::Ops::upsample_nearest`].
pub fn upsample_nearest(input: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (batch, channels, rows, columns) = input.dims4()?;
    let input = input.contiguous()?;
    // Twice the size, the usual case, is one copy.
    if (height, width) == (2 * rows, 2 * columns) {
        return input
            .reshape((batch, channels, rows, 1, columns, 1))?
            .broadcast_as((batch, channels, rows, 2, columns, 2))?
            .contiguous()?
            .reshape((batch, channels, height, width));
    }
    let positions = |output: usize, input_size: usize| {
        let positions: Vec<u32> = nearest_positions(output, input_size)
            .into_iter()
            .map(|at| at as u32)
            .collect();
        Tensor::from_vec(positions, output, input.device())
    };
    input
        .index_select(&positions(height, rows)?, 2)?
        .index_select(&positions(width, columns)?, 3)
}
