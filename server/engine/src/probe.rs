//! Whether a device computes rightly: every kind of operation that SDXL uses, run on the device
//! and compared with plain scalar arithmetic in f64.
//!
//! Drivers and kernels fail at the first use of an operation, or worse, return wrong numbers and
//! call it success. So each kind is tried, on sizes with ragged edges, before a device is trusted.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use crate::cpu::{self, ConvGeometry, Pointwise};
use crate::rng::TorchGenerator;
use crate::weights::StoredMatrix;
use crate::{ComputeDtype, DeviceFault, DeviceId, FaultKind};

/// How one kind of operation fared.
#[derive(Clone, Debug, PartialEq)]
pub struct OpCheck {
    /// The operation.
    pub name: &'static str,
    /// Largest difference from the reference, relative to the larger of 1 and the reference.
    pub max_error: f64,
    /// Largest difference that is still right.
    pub tolerance: f64,
    /// Whether it ran and is right.
    pub ok: bool,
    /// How long it took on the device.
    pub seconds: f64,
    /// Why it did not run, in the driver's words.
    pub error: Option<String>,
    /// What kind of failure that was.
    pub fault: Option<FaultKind>,
}

/// An operation's result on the device, and what it should be.
struct Outcome {
    got: Tensor,
    want: Vec<f64>,
    seconds: f64,
}

type Check = fn(&mut Inputs) -> candle_core::Result<Outcome>;

const CHECKS: &[(&str, f64, Check)] = &[
    ("cast f16", 0.0, cast_f16),
    ("cast bf16", 0.0, cast_bf16),
    ("affine", 1e-6, affine),
    ("silu", 2e-6, silu),
    ("gelu", 2e-6, gelu),
    ("quick_gelu", 2e-6, quick_gelu),
    ("geglu", 2e-6, geglu),
    ("linear", 1e-5, linear),
    ("conv2d 3x3", 1e-5, conv_3x3),
    ("conv2d 1x1", 1e-5, conv_1x1),
    ("conv2d 3x3 stride 2", 1e-5, conv_strided),
    ("group_norm", 1e-5, group_norm),
    ("layer_norm", 1e-5, layer_norm),
    ("attention", 1e-5, attention),
    ("attention causal", 1e-5, attention_causal),
    ("upsample nearest", 0.0, upsample),
    ("channels last", 0.0, channels_last),
];

/// What a device does per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    /// Products and sums of a matrix product as SDXL has them, in 10⁹ per second.
    pub matmul_gflops: f64,
    /// Bytes read and written by a copy, in 10⁹ per second.
    pub memory_gbs: f64,
    /// One step of a small UNet with all parts of SDXL's, in seconds.
    pub unet_step_s: f64,
}

/// Measures a device in a number format.
///
/// # Errors
/// [`DeviceFault`] if it cannot be opened or fails.
pub fn measure_device(device: DeviceId, dtype: ComputeDtype) -> Result<Measurement, DeviceFault> {
    Err(not_yet(device, dtype))
}

fn not_yet(device: DeviceId, dtype: ComputeDtype) -> DeviceFault {
    DeviceFault {
        kind: FaultKind::Other,
        during: format!("opening {device}"),
        words: format!("computing on {device} in {dtype} is not built in yet"),
    }
}

/// Runs every kind of operation that SDXL uses on a device, in a number format. A device that
/// cannot be opened fails the only check, "open".
pub fn check_device_ops(device: DeviceId, dtype: ComputeDtype) -> Vec<OpCheck> {
    if (device, dtype) != (DeviceId::Cpu, ComputeDtype::F32) {
        let fault = not_yet(device, dtype);
        return vec![OpCheck {
            name: "open",
            max_error: f64::INFINITY,
            tolerance: 0.0,
            ok: false,
            seconds: 0.0,
            error: Some(fault.words),
            fault: Some(fault.kind),
        }];
    }
    CHECKS
        .iter()
        .map(|&(name, tolerance, check)| {
            let mut inputs = Inputs(TorchGenerator::new(name.len() as u64));
            match check(&mut inputs).and_then(|outcome| Ok((worst(&outcome)?, outcome.seconds))) {
                Ok((max_error, seconds)) => OpCheck {
                    name,
                    max_error,
                    tolerance,
                    ok: max_error <= tolerance,
                    seconds,
                    error: None,
                    fault: None,
                },
                Err(error) => OpCheck {
                    name,
                    max_error: f64::INFINITY,
                    tolerance,
                    ok: false,
                    seconds: 0.0,
                    error: Some(
                        error
                            .to_string()
                            .lines()
                            .next()
                            .unwrap_or_default()
                            .to_string(),
                    ),
                    fault: Some(FaultKind::Other),
                },
            }
        })
        .collect()
}

fn worst(outcome: &Outcome) -> candle_core::Result<f64> {
    let got = outcome.got.flatten_all()?.to_vec1::<f32>()?;
    if got.len() != outcome.want.len() {
        candle_core::bail!("{} values came back, not {}", got.len(), outcome.want.len());
    }
    Ok(got
        .iter()
        .zip(&outcome.want)
        .map(|(&got, &want)| {
            let error = (f64::from(got) - want).abs() / want.abs().max(1.0);
            // Not f64::max, which passes over NaN.
            if error.is_nan() { f64::INFINITY } else { error }
        })
        .fold(0.0, f64::max))
}

/// Draws the numbers that operations are tried on.
struct Inputs(TorchGenerator);

/// A tensor and its values.
struct Values {
    tensor: Tensor,
    list: Vec<f64>,
}

impl Inputs {
    fn draw(&mut self, shape: &[usize]) -> candle_core::Result<Values> {
        let list = self.0.randn(shape.iter().product());
        Ok(Values {
            tensor: Tensor::from_slice(&list, shape, &Device::Cpu)?,
            list: list.into_iter().map(f64::from).collect(),
        })
    }
}

fn timed(
    want: Vec<f64>,
    run: impl FnOnce() -> candle_core::Result<Tensor>,
) -> candle_core::Result<Outcome> {
    let started = Instant::now();
    let got = run()?;
    Ok(Outcome {
        got,
        want,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn cast(inputs: &mut Inputs, dtype: DType, narrow: fn(f64) -> f64) -> candle_core::Result<Outcome> {
    let x = inputs.draw(&[1003])?;
    let narrowed = x.tensor.to_dtype(dtype)?;
    timed(x.list.into_iter().map(narrow).collect(), || {
        narrowed.to_dtype(DType::F32)
    })
}

fn cast_f16(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    cast(inputs, DType::F16, |x| {
        half::f16::from_f32(x as f32).to_f64()
    })
}

fn cast_bf16(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    cast(inputs, DType::BF16, |x| {
        half::bf16::from_f32(x as f32).to_f64()
    })
}

fn affine(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    let x = inputs.draw(&[1003])?;
    timed(x.list.iter().map(|x| x * 0.5 + 0.25).collect(), || {
        x.tensor.affine(0.5, 0.25)
    })
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn exact_gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + candle_core::cpu::erf::erf_f64(x / std::f64::consts::SQRT_2))
}

fn activation(
    inputs: &mut Inputs,
    function: Pointwise,
    reference: fn(f64) -> f64,
) -> candle_core::Result<Outcome> {
    let x = inputs.draw(&[7, 143])?;
    timed(x.list.into_iter().map(reference).collect(), || {
        cpu::pointwise(&x.tensor, function)
    })
}

fn silu(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    activation(inputs, Pointwise::Silu, |x| x * sigmoid(x))
}

fn gelu(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    activation(inputs, Pointwise::Gelu, exact_gelu)
}

fn quick_gelu(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    activation(inputs, Pointwise::QuickGelu, |x| x * sigmoid(1.702 * x))
}

fn geglu(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    const HALF: usize = 37;
    let x = inputs.draw(&[5, 2 * HALF])?;
    let want = x
        .list
        .chunks(2 * HALF)
        .flat_map(|row| (0..HALF).map(|i| row[i] * exact_gelu(row[HALF + i])))
        .collect();
    timed(want, || cpu::geglu(&x.tensor))
}

fn linear(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    let (rows, n, m) = (77, 65, 130);
    let x = inputs.draw(&[rows, n])?;
    let (w, b) = (inputs.draw(&[m, n])?, inputs.draw(&[m])?);
    let want = (0..rows * m)
        .map(|at| {
            let (row, column) = (at / m, at % m);
            let dot: f64 = (0..n)
                .map(|i| x.list[row * n + i] * w.list[column * n + i])
                .sum();
            dot + b.list[column]
        })
        .collect();
    let weight = StoredMatrix::from_tensor(&w.tensor)?;
    timed(want, || cpu::linear(&x.tensor, &weight, Some(&b.tensor)))
}

fn convolution(
    inputs: &mut Inputs,
    kernel: usize,
    geometry: ConvGeometry,
) -> candle_core::Result<Outcome> {
    let (batch, channels, height, width, outputs) = (2, 5, 13, 11, 9);
    let x = inputs.draw(&[batch, channels, height, width])?;
    let w = inputs.draw(&[outputs, channels, kernel, kernel])?;
    let b = inputs.draw(&[outputs])?;
    let size =
        |n: usize| (n + geometry.pad_before + geometry.pad_after - kernel) / geometry.stride + 1;
    let (out_height, out_width) = (size(height), size(width));
    let pixel = |n: usize, c: usize, y: usize, x_at: usize| -> f64 {
        let y = y.wrapping_sub(geometry.pad_before);
        let x_at = x_at.wrapping_sub(geometry.pad_before);
        if y < height && x_at < width {
            x.list[((n * channels + c) * height + y) * width + x_at]
        } else {
            0.0
        }
    };
    let mut want = Vec::new();
    for n in 0..batch {
        for o in 0..outputs {
            for y in 0..out_height {
                for x_at in 0..out_width {
                    let mut sum = b.list[o];
                    for (tap, weight) in w.list[o * channels * kernel * kernel..]
                        [..channels * kernel * kernel]
                        .iter()
                        .enumerate()
                    {
                        let (c, ky, kx) =
                            (tap / (kernel * kernel), tap / kernel % kernel, tap % kernel);
                        sum += weight
                            * pixel(n, c, y * geometry.stride + ky, x_at * geometry.stride + kx);
                    }
                    want.push(sum);
                }
            }
        }
    }
    let weight = StoredMatrix::from_tensor(&w.tensor)?;
    timed(want, || {
        cpu::conv2d(&x.tensor, &weight, &b.tensor, kernel, geometry)
    })
}

fn conv_3x3(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    convolution(inputs, 3, ConvGeometry::same(3))
}

fn conv_1x1(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    convolution(inputs, 1, ConvGeometry::same(1))
}

fn conv_strided(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    let geometry = ConvGeometry {
        stride: 2,
        pad_before: 1,
        pad_after: 1,
    };
    convolution(inputs, 3, geometry)
}

fn normalised(values: &[f64], eps: f64) -> impl Iterator<Item = f64> + '_ {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    values
        .iter()
        .map(move |x| (x - mean) / (variance + eps).sqrt())
}

fn group_norm(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    let (batch, channels, side, groups) = (2, 12, 7, 4);
    let area = side * side;
    let x = inputs.draw(&[batch, channels, side, side])?;
    let (w, b) = (inputs.draw(&[channels])?, inputs.draw(&[channels])?);
    let want = x
        .list
        .chunks(channels / groups * area)
        .flat_map(|group| normalised(group, 1e-5))
        .enumerate()
        .map(|(at, x)| {
            let channel = at / area % channels;
            x * w.list[channel] + b.list[channel]
        })
        .collect();
    timed(want, || {
        cpu::group_norm(&x.tensor, &w.tensor, &b.tensor, groups, 1e-5, None)
    })
}

fn layer_norm(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    const SIZE: usize = 83;
    let x = inputs.draw(&[3, 5, SIZE])?;
    let (w, b) = (inputs.draw(&[SIZE])?, inputs.draw(&[SIZE])?);
    let want = x
        .list
        .chunks(SIZE)
        .flat_map(|row| normalised(row, 1e-5))
        .enumerate()
        .map(|(at, x)| x * w.list[at % SIZE] + b.list[at % SIZE])
        .collect();
    timed(want, || {
        cpu::layer_norm(&x.tensor, &w.tensor, &b.tensor, 1e-5)
    })
}

fn attend(
    inputs: &mut Inputs,
    queries: usize,
    keys: usize,
    causal: bool,
) -> candle_core::Result<Outcome> {
    let (batch, heads, dim) = (2, 3, 20);
    let width = heads * dim;
    let q = inputs.draw(&[batch, queries, width])?;
    let k = inputs.draw(&[batch, keys, width])?;
    let v = inputs.draw(&[batch, keys, width])?;
    let mut want = vec![0.0; q.list.len()];
    for element in 0..batch {
        for head in 0..heads {
            let at = |row: usize, length: usize, i: usize| {
                (element * length + row) * width + head * dim + i
            };
            for row in 0..queries {
                let seen = if causal { row + 1 } else { keys };
                let weights: Vec<f64> = (0..seen)
                    .map(|key| {
                        let dot: f64 = (0..dim)
                            .map(|i| q.list[at(row, queries, i)] * k.list[at(key, keys, i)])
                            .sum();
                        (dot / (dim as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                for i in 0..dim {
                    want[at(row, queries, i)] = weights
                        .iter()
                        .enumerate()
                        .map(|(key, weight)| weight / total * v.list[at(key, keys, i)])
                        .sum();
                }
            }
        }
    }
    timed(want, || {
        cpu::attention(&q.tensor, &k.tensor, &v.tensor, heads, causal)
    })
}

fn attention(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    attend(inputs, 147, 77, false)
}

fn attention_causal(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    attend(inputs, 77, 77, true)
}

fn upsample(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    let (planes, height, width) = (6, 5, 7);
    let (out_height, out_width) = (9, 14);
    let x = inputs.draw(&[2, 3, height, width])?;
    let want = (0..planes * out_height * out_width)
        .map(|at| {
            let (plane, y, x_at) = (
                at / (out_height * out_width),
                at / out_width % out_height,
                at % out_width,
            );
            x.list[(plane * height + y * height / out_height) * width + x_at * width / out_width]
        })
        .collect();
    timed(want, || {
        cpu::upsample_nearest(&x.tensor, out_height, out_width)
    })
}

fn channels_last(inputs: &mut Inputs) -> candle_core::Result<Outcome> {
    let (batch, channels, area) = (2, 19, 35);
    let x = inputs.draw(&[batch, channels, 5, 7])?;
    let want = (0..batch * area * channels)
        .map(|at| {
            let (element, pixel, channel) =
                (at / (area * channels), at / channels % area, at % channels);
            x.list[(element * channels + channel) * area + pixel]
        })
        .collect();
    timed(want, || cpu::channels_last(&x.tensor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_cpu_computes_rightly() {
        for check in check_device_ops(DeviceId::Cpu, ComputeDtype::F32) {
            assert!(check.ok, "{check:?}");
        }
    }

    #[test]
    fn a_wrong_or_undefined_result_is_noticed() {
        let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu);
        for (got, want) in [
            ([1.0, 2.5], vec![1.0, 2.0]),
            ([1.0, f32::NAN], vec![1.0, 2.0]),
        ] {
            let outcome = Outcome {
                got: tensor(&got).expect("a tensor"),
                want,
                seconds: 0.0,
            };
            assert!(worst(&outcome).expect("comparable") > 0.1);
        }
    }
}
