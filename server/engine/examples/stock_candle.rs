//! The same forward pass by candle-transformers as it is published, for `make bench-peers`:
//! `stock_candle unet|vae FOLDER SIZE REPEAT` prints a JSON object with the seconds of each run.
//!
//! Its UNet leaves SDXL's added conditioning out, which costs next to nothing, so that the time
//! stands for the same work.

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use candle_transformers::models::stable_diffusion::StableDiffusionConfig;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [part, folder, size, repeat] = words.as_slice() else {
        candle_core::bail!("usage: stock_candle unet|vae FOLDER SIZE REPEAT");
    };
    let number = |text: &str| text.parse::<usize>().map_err(candle_core::Error::wrap);
    let (side, repeat) = (number(size)? / 8, number(repeat)?);
    let (device, dtype) = (Device::Cpu, DType::F32);
    let config = StableDiffusionConfig::sdxl(None, None, None);
    let began = Instant::now();
    let forward: Box<dyn Fn() -> Result<Tensor>> = match part.as_str() {
        "unet" => {
            let file = weights(Path::new(folder), "unet");
            let unet = config.build_unet(file, &device, 4, false, dtype)?;
            let sample = Tensor::randn(0f32, 1., (1, 4, side, side), &device)?;
            let text = Tensor::randn(0f32, 1., (1, 77, 2048), &device)?;
            Box::new(move || unet.forward(&sample, 500.0, &text))
        }
        "vae" => {
            let vae = config.build_vae(weights(Path::new(folder), "vae"), &device, dtype)?;
            let latents = Tensor::randn(0f32, 1., (1, 4, side, side), &device)?;
            Box::new(move || vae.decode(&latents))
        }
        other => candle_core::bail!("{other} is neither unet nor vae"),
    };
    let load_s = began.elapsed().as_secs_f64();
    // One run to warm up, which is not counted.
    forward()?;
    let mut seconds = Vec::new();
    for _ in 0..repeat {
        let began = Instant::now();
        forward()?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    println!("{{\"load_s\": {load_s:.3}, \"seconds\": {seconds:?}}}");
    Ok(())
}

/// The component's file, half precision or full.
fn weights(folder: &Path, part: &str) -> PathBuf {
    let names = ["diffusion_pytorch_model.fp16", "diffusion_pytorch_model"];
    let paths = names.map(|name| folder.join(part).join(format!("{name}.safetensors")));
    paths
        .iter()
        .find(|path| path.exists())
        .unwrap_or(&paths[1])
        .clone()
}
