//! A second opinion besides diffusers: candle-transformers' own VAE, whose arithmetic is SDXL's, on
//! the same files. (Its UNet and text encoders are not SDXL's: ARCHITECTURE.md.)

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::stable_diffusion::vae::{AutoEncoderKL, AutoEncoderKLConfig};
use serde_json::Value;

use crate::fixtures::{Numbers, load, model, read_json, relative_error};

/// Largest difference, as a fraction of the largest value.
const TOLERANCE: f32 = 1e-5;

fn stock_vae(name: &str) -> AutoEncoderKL {
    let folder = model(name).join("vae");
    let config = read_json(&folder.join("config.json"));
    let size = |key: &str| config[key].as_u64().expect("a number") as usize;
    let channels = config["block_out_channels"].as_array().expect("a list");
    let channels = channels.iter().filter_map(Value::as_u64);
    let weights = folder.join("diffusion_pytorch_model.safetensors");
    let tensors = candle_core::safetensors::load(weights, &Device::Cpu).expect("tensors");
    AutoEncoderKL::new(
        VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu),
        3,
        3,
        AutoEncoderKLConfig {
            block_out_channels: channels.map(|count| count as usize).collect(),
            layers_per_block: size("layers_per_block"),
            latent_channels: size("latent_channels"),
            norm_num_groups: size("norm_num_groups"),
            use_quant_conv: config["use_quant_conv"] == true,
            use_post_quant_conv: config["use_post_quant_conv"] == true,
        },
    )
    .expect("a VAE")
}

#[test]
fn candles_own_vae_decodes_to_the_same_pixels() {
    for name in ["tiny-base", "odd-two-levels"] {
        let numbers = Numbers::read(&format!("numbers/{name}.safetensors"));
        let latents: &Tensor = numbers.tensor("vae/latents");
        let want = stock_vae(name).decode(latents).expect("decoded");
        let got = load(&model(name)).vae().decode(latents).expect("decoded");
        let error = relative_error(name, &got, &want);
        println!("{name:20} {error:.1e}");
        assert!(error <= TOLERANCE, "{name}: {error}");
    }
}
