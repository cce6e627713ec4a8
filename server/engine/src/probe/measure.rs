//! How fast a device is at what SDXL is made of.

use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Result, Tensor};

use crate::config::Config;
use crate::nn::{Ops, Weight};
use crate::synthetic::random_safetensors;
use crate::unet::{Unet, UnetConfig};
use crate::weights::{StoredMatrix, WeightFiles, load_component, survey};
use crate::{ComputeDtype, DeviceFault, DeviceId, EngineError, Residence};

/// What a device does per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    /// Products and sums of a matrix product as SDXL has them, in 10⁹ per second.
    pub matmul_gflops: f64,
    /// Bytes read and written by a copy, in 10⁹ per second.
    pub memory_gbs: f64,
    /// One step of a small UNet (51 million weights) with all parts of SDXL's, batch 1 at 256², in
    /// seconds.
    pub unet_step_s: f64,
}

/// Least time that something is measured for, in seconds.
const LEAST: f64 = 0.1;
/// Most runs for that: each waits with its result until the device has come to it.
const MOST: f64 = 2000.0;

/// Measures a device in a number format.
///
/// # Errors
/// [`DeviceFault`] if it cannot be opened or fails.
pub fn measure_device(
    device: DeviceId,
    dtype: ComputeDtype,
) -> std::result::Result<Measurement, DeviceFault> {
    let ops = Ops::open(device, dtype, None, Residence::Whole)?;
    let measured = |what: &str, result: Result<f64>| {
        result.map_err(|error| DeviceFault::from(error).during(format!("measuring {what}")))
    };
    Ok(Measurement {
        matmul_gflops: measured("matrix products", matmul_gflops(&ops))?,
        memory_gbs: measured("memory", memory_gbs(&ops))?,
        unet_step_s: unet_step_s(&ops)?,
    })
}

/// Seconds that `run` takes, after one run that is not counted: the first one compiles kernels. As
/// many follow each other as take a while, since waiting for a GPU can take longer than its work.
fn seconds(ops: &Ops, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut timed = |times: u32| {
        let started = Instant::now();
        for _ in 0..times {
            run()?;
        }
        ops.synchronise()?;
        Ok::<_, candle_core::Error>(started.elapsed().as_secs_f64() / f64::from(times))
    };
    timed(1)?;
    let once = timed(1)?;
    if once >= LEAST {
        return Ok(once);
    }
    timed((LEAST / once.max(1e-9)).min(MOST) as u32 + 1)
}

/// The feed-forward layers' product: (2048, 1280) with (1280, 1280).
fn matmul_gflops(ops: &Ops) -> Result<f64> {
    let (rows, width) = (2048, 1280);
    let input = ops.take(&Tensor::full(0.5f32, (rows, width), &Device::Cpu)?)?;
    let Some(stored) = StoredMatrix::from_values(&vec![0.25; width * width], width, width) else {
        candle_core::bail!("a square is no matrix");
    };
    let weight = Weight::new(stored, ops);
    let took = seconds(ops, || ops.linear(&input, &weight, None).map(|_| ()))?;
    Ok(2.0 * (rows * width * width) as f64 / took / 1e9)
}

/// A copy of 64 MiB.
fn memory_gbs(ops: &Ops) -> Result<f64> {
    let count = (64 << 20) / ops.dtype().bytes();
    let input = ops.take(&Tensor::zeros(
        count,
        candle_core::DType::F32,
        &Device::Cpu,
    )?)?;
    let took = seconds(ops, || input.copy().map(|_| ()))?;
    Ok(2.0 * (64 << 20) as f64 / took / 1e9)
}

/// SDXL's base UNet at a fifth of its width, with two of its ten deepest layers.
const SMALL_UNET: &str = r#"{
    "_class_name": "UNet2DConditionModel", "sample_size": 32, "act_fn": "silu",
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "attention_head_dim": [1, 2, 4], "block_out_channels": [64, 128, 256],
    "cross_attention_dim": 2048, "layers_per_block": 2, "norm_num_groups": 32,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "projection_class_embeddings_input_dim": 2816, "transformer_layers_per_block": [1, 2, 2],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "use_linear_projection": true
}"#;

fn unet_step_s(ops: &Ops) -> std::result::Result<f64, DeviceFault> {
    step(ops).map_err(|error| {
        let fault = match error {
            EngineError::Device(fault) => fault,
            other => DeviceFault::from_words(&other.to_string()),
        };
        fault.during("measuring a step of a UNet")
    })
}

fn step(ops: &Ops) -> std::result::Result<f64, EngineError> {
    let path = Path::new("small UNet");
    let config = UnetConfig::read(&Config::parse(path, SMALL_UNET)?)?;
    let tensors = survey(|weights| Unet::load(weights, &config))?;
    let files = WeightFiles::from_bytes(path, random_safetensors(&tensors, 1))?;
    let unet = load_component(files, "", ops, |weights| Unet::load(weights, &config))?;
    unet.fill()?;
    let text = Tensor::full(0.5f32, (1, 77, config.cross_attention_dim), &Device::Cpu)?;
    let pooled = Tensor::full(0.5f32, (1, 1280), &Device::Cpu)?;
    let sizes = vec![vec![256.0, 256.0, 0.0, 0.0, 256.0, 256.0]];
    let conditioning = unet.condition(&text, &pooled, &sizes, 1.0)?;
    let sample = Tensor::full(0.5f32, (1, config.in_channels, 32, 32), &Device::Cpu)?;
    let mut last = None;
    let took = seconds(ops, || {
        last = Some(unet.forward(&sample, 500.0, &conditioning)?);
        Ok(())
    })?;
    let values = last.map_or(Ok(Vec::new()), |noise| {
        noise.flatten_all()?.to_vec1::<f32>()
    })?;
    if values.is_empty() || !crate::image::all_finite(&values) {
        return Err(EngineError::Device(DeviceFault::wrong_numbers(
            "",
            "the noise that the UNet predicts is not finite",
        )));
    }
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_unet_is_as_large_as_its_words_say() {
        let config = Config::parse(Path::new("small UNet"), SMALL_UNET).expect("valid JSON");
        let config = UnetConfig::read(&config).expect("supported");
        let tensors = survey(|weights| Unet::load(weights, &config)).expect("built");
        let count: usize = tensors
            .values()
            .map(|shape| shape.iter().product::<usize>())
            .sum();
        assert_eq!(count / 1_000_000, 50, "{count}");
    }

    #[test]
    fn this_cpu_is_measured() {
        for dtype in [ComputeDtype::F32, ComputeDtype::Bf16] {
            let measured = measure_device(DeviceId::Cpu, dtype).expect("a measurement");
            println!("{dtype}: {measured:?}");
            assert!(measured.matmul_gflops > 0.1);
            assert!(measured.memory_gbs > 0.01);
            assert!(measured.unet_step_s > 0.0 && measured.unet_step_s.is_finite());
        }
    }
}
