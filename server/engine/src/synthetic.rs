//! Full-size SDXL folders with random weights: for measuring time and memory where the published
//! weights are not at hand. Their pictures mean nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use half::f16;
use serde_json::{Value, json};

use crate::EngineError;
use crate::config::Config;
use crate::text_encoder::{TextEncoder, TextEncoderConfig};
use crate::tokenizer::{CLIP_MERGES, clip_vocabulary};
use crate::unet::{Unet, UnetConfig};
use crate::vae::{VaeConfig, VaeDecoder};
use crate::weights::{Weights, survey};

/// Which of SDXL's two models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyntheticModel {
    /// The base: two text encoders and a UNet of 2.6 billion weights.
    Base,
    /// The refiner: the larger text encoder and a UNet of 2.3 billion weights.
    Refiner,
}

/// Writes a diffusers folder in f16: about 7 GB for the base, 6 GB for the refiner. `on_component`
/// is told each component's name before it is written.
///
/// # Errors
/// [`EngineError::Model`] naming what could not be written.
pub fn write_model(
    folder: &Path,
    model: SyntheticModel,
    seed: u64,
    on_component: &mut dyn FnMut(&str),
) -> Result<(), EngineError> {
    let mut random = Random(seed | 1);
    let base = model == SyntheticModel::Base;
    make_folder(folder)?;
    write_json(&folder.join("model_index.json"), &model_index(model))?;
    write_json(
        &folder.join("scheduler/scheduler_config.json"),
        &scheduler(),
    )?;
    let encoders = [
        ("text_encoder", "tokenizer", clip_l(), false),
        ("text_encoder_2", "tokenizer_2", clip_g(), true),
    ];
    for (name, tokenizer, config, projects) in encoders {
        if !base && !projects {
            continue;
        }
        on_component(name);
        write_tokenizer(&folder.join(tokenizer), projects)?;
        let config = component(folder, name, &config)?;
        let parsed = TextEncoderConfig::read(&config)?;
        let tensors =
            survey(|weights| TextEncoder::load(weights, "text_model", &parsed, projects))?;
        write_weights(folder, name, "model", &tensors, &mut random)?;
    }
    on_component("unet");
    let config = component(folder, "unet", &unet(model))?;
    let parsed = UnetConfig::read(&config)?;
    let tensors = survey(|weights| Unet::load(weights, &parsed))?;
    write_weights(folder, "unet", DIFFUSERS_STEM, &tensors, &mut random)?;
    on_component("vae");
    let config = component(folder, "vae", &vae())?;
    let parsed = VaeConfig::read(&config)?;
    let tensors = survey(|weights: &Weights| VaeDecoder::load(weights, &parsed))?;
    write_weights(folder, "vae", DIFFUSERS_STEM, &tensors, &mut random)
}

const DIFFUSERS_STEM: &str = crate::model::DIFFUSERS_STEM;

/// Writes a component's config and reads it back.
fn component(folder: &Path, name: &str, config: &Value) -> Result<Config, EngineError> {
    let path = folder.join(name).join("config.json");
    write_json(&path, config)?;
    Config::read(&path)
}

/// Writes CLIP's tokenizer. The second one of SDXL pads with `!`.
fn write_tokenizer(folder: &Path, second: bool) -> Result<(), EngineError> {
    let (vocabulary, _) = clip_vocabulary();
    write_json(&folder.join("vocab.json"), &json!(vocabulary))?;
    let merges = folder.join("merges.txt");
    fs::write(&merges, CLIP_MERGES).map_err(|error| cannot_write(&merges, &error))?;
    let config = json!({
        "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": true,
        "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>", "pad_token": if second { "!" } else { "<|endoftext|>" },
    });
    write_json(&folder.join("tokenizer_config.json"), &config)
}

fn model_index(model: SyntheticModel) -> Value {
    let mut index = json!({
        "_class_name": "StableDiffusionXLPipeline",
        "force_zeros_for_empty_prompt": true,
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    });
    if model == SyntheticModel::Refiner {
        index["_class_name"] = json!("StableDiffusionXLImg2ImgPipeline");
        index["force_zeros_for_empty_prompt"] = json!(false);
        index["requires_aesthetics_score"] = json!(true);
        index["text_encoder"] = json!([null, null]);
        index["tokenizer"] = json!([null, null]);
    }
    index
}

fn scheduler() -> Value {
    json!({
        "_class_name": "EulerDiscreteScheduler",
        "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "clip_sample": false, "interpolation_type": "linear", "num_train_timesteps": 1000,
        "prediction_type": "epsilon", "set_alpha_to_one": false, "skip_prk_steps": true,
        "steps_offset": 1, "timestep_spacing": "leading", "use_karras_sigmas": false,
    })
}

fn clip_l() -> Value {
    json!({
        "architectures": ["CLIPTextModel"], "hidden_act": "quick_gelu", "hidden_size": 768,
        "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "projection_dim": 768, "max_position_embeddings": 77, "vocab_size": 49408,
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "layer_norm_eps": 1e-5,
    })
}

fn clip_g() -> Value {
    json!({
        "architectures": ["CLIPTextModelWithProjection"], "hidden_act": "gelu",
        "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
        "num_attention_heads": 20, "projection_dim": 1280, "max_position_embeddings": 77,
        "vocab_size": 49408, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
        "layer_norm_eps": 1e-5,
    })
}

fn unet(model: SyntheticModel) -> Value {
    let mut config = json!({
        "_class_name": "UNet2DConditionModel", "act_fn": "silu", "sample_size": 128,
        "in_channels": 4, "out_channels": 4, "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256, "layers_per_block": 2, "use_linear_projection": true,
        "norm_num_groups": 32, "norm_eps": 1e-5,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [320, 640, 1280], "attention_head_dim": [5, 10, 20],
        "transformer_layers_per_block": [1, 2, 10], "cross_attention_dim": 2048,
        "projection_class_embeddings_input_dim": 2816,
    });
    if model == SyntheticModel::Refiner {
        let attention = ["CrossAttnDownBlock2D", "CrossAttnUpBlock2D"];
        config["down_block_types"] =
            json!(["DownBlock2D", attention[0], attention[0], "DownBlock2D"]);
        config["up_block_types"] = json!(["UpBlock2D", attention[1], attention[1], "UpBlock2D"]);
        config["block_out_channels"] = json!([384, 768, 1536, 1536]);
        config["attention_head_dim"] = json!([6, 12, 24, 24]);
        config["transformer_layers_per_block"] = json!(4);
        config["cross_attention_dim"] = json!(1280);
        config["projection_class_embeddings_input_dim"] = json!(2560);
    }
    config
}

fn vae() -> Value {
    json!({
        "_class_name": "AutoencoderKL", "act_fn": "silu", "sample_size": 1024,
        "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 4,
        "down_block_types": vec!["DownEncoderBlock2D"; 4],
        "up_block_types": vec!["UpDecoderBlock2D"; 4],
        "norm_num_groups": 32, "scaling_factor": 0.13025, "force_upcast": true,
    })
}

/// A small generator (xorshift, Marsaglia 2003): billions of numbers that need not be good ones.
struct Random(u64);

impl Random {
    /// Uniform on −1…1.
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 * (2.0 / 16_777_216.0) - 1.0
    }
}

/// Writes a component's safetensors file.
fn write_weights(
    folder: &Path,
    name: &str,
    stem: &str,
    tensors: &BTreeMap<String, Vec<usize>>,
    random: &mut Random,
) -> Result<(), EngineError> {
    let path = folder.join(name).join(format!("{stem}.safetensors"));
    let failed = |error: std::io::Error| cannot_write(&path, &error);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(failed)?);
    write_tensors(&mut file, tensors, random).map_err(failed)?;
    file.flush().map_err(failed)
}

/// A safetensors file with random weights in f16, in memory.
pub(crate) fn random_safetensors(tensors: &BTreeMap<String, Vec<usize>>, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_tensors(&mut bytes, tensors, &mut Random(seed | 1))
        .expect("memory takes what is written");
    bytes
}

/// Writes safetensors tensor by tensor: no component needs to fit the memory.
fn write_tensors(
    file: &mut impl Write,
    tensors: &BTreeMap<String, Vec<usize>>,
    random: &mut Random,
) -> std::io::Result<()> {
    let mut header = serde_json::Map::new();
    let mut end = 0usize;
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        header.insert(
            name.clone(),
            json!({"dtype": "F16", "shape": shape, "data_offsets": [start, end]}),
        );
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for (name, shape) in tensors {
        let count: usize = shape.iter().product();
        // Norms keep what passes them, layers keep its size.
        let (centre, spread) = match shape.as_slice() {
            [_] if name.ends_with("weight") => (1.0, 0.1),
            [_] => (0.0, 0.02),
            [_, rest @ ..] => (0.0, 1.0 / (rest.iter().product::<usize>() as f32).sqrt()),
            [] => (0.0, 0.0),
        };
        for _ in 0..count {
            let value = f16::from_f32(centre + spread * random.next());
            file.write_all(&value.to_le_bytes())?;
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), EngineError> {
    fs::create_dir_all(path).map_err(|error| cannot_write(path, &error))
}

fn write_json(path: &Path, value: &Value) -> Result<(), EngineError> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    fs::write(path, format!("{value:#}\n")).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::model(path, format!("cannot be written: {error}"))
}
