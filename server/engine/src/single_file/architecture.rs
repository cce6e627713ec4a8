//! The configs of a single file: what its tensors' shapes tell, and for the rest the values that
//! SDXL was published with (stabilityai/stable-diffusion-xl-base-1.0 and -refiner-1.0).

use std::path::Path;

use serde_json::{Value, json};

use super::detect::{EncoderNames, Encoders, UNET, VAE};
use crate::EngineError;
use crate::weights::WeightFiles;

/// Width of every attention head in SDXL.
const HEAD: usize = 64;
/// Longest row of blocks or layers looked for.
const MAX_COUNT: usize = 64;

/// Tensors of one component by their names below its prefix.
struct Shapes<'a> {
    path: &'a Path,
    files: &'a WeightFiles,
    prefix: &'a str,
}

impl Shapes<'_> {
    fn find(&self, name: &str) -> Option<&[usize]> {
        let stored = self
            .files
            .tensors()
            .get(&format!("{}{name}", self.prefix))?;
        Some(&stored.shape)
    }

    fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The length of one axis of a tensor that must be there.
    fn axis(&self, name: &str, axis: usize) -> Result<usize, EngineError> {
        self.find(name)
            .and_then(|shape| shape.get(axis).copied())
            .ok_or_else(|| {
                EngineError::model(
                    self.path,
                    format!(
                        "lacks `{}{name}`, without which its architecture cannot be told",
                        self.prefix
                    ),
                )
            })
    }

    /// How many numbers from 0 on make `name` a tensor that is there.
    fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..MAX_COUNT).take_while(|&at| self.has(&name(at))).count()
    }

    fn heads(&self, width: usize, of: &str) -> Result<usize, EngineError> {
        if width > 0 && width.is_multiple_of(HEAD) {
            return Ok(width / HEAD);
        }
        Err(EngineError::model(
            self.path,
            format!(
                "has {of} of width {width}, which is no multiple of SDXL's {HEAD} per attention head; put the model's diffusers configs (model_index.json, unet/config.json, …) into a folder of the file's name without its ending"
            ),
        ))
    }
}

/// All configs of a whole model, by their paths in a diffusers folder.
///
/// # Errors
/// [`EngineError::Model`] naming the tensor without which the architecture cannot be told.
pub fn configs(
    path: &Path,
    files: &WeightFiles,
    encoders: Encoders,
) -> Result<Vec<(&'static str, Value)>, EngineError> {
    let shapes = |prefix| Shapes {
        path,
        files,
        prefix,
    };
    let mut configs = Vec::new();
    let mut projection = 0;
    for place in encoders.places() {
        let shapes = shapes(place.prefix);
        if place.component == "text_encoder" {
            configs.push(("text_encoder/config.json", clip_config(&shapes)?));
            continue;
        }
        let config = if place.names == EncoderNames::OpenClip {
            open_clip_config(&shapes)?
        } else {
            let mut config = clip_config(&shapes)?;
            config["projection_dim"] = json!(shapes.axis("text_model.text_projection", 1)?);
            config["hidden_act"] = json!("gelu");
            config
        };
        projection = config["projection_dim"].as_u64().unwrap_or(0) as usize;
        configs.push(("text_encoder_2/config.json", config));
    }
    let unet = unet_config(&shapes(UNET), projection, encoders)?;
    let inpainting = unet["in_channels"] == 9;
    configs.push(("unet/config.json", unet));
    configs.push(("vae/config.json", vae_config(&shapes(VAE))?));
    configs.push((
        "scheduler/scheduler_config.json",
        scheduler_config(path, files)?,
    ));
    configs.push(("model_index.json", index(encoders, inpainting)));
    Ok(configs)
}

fn index(encoders: Encoders, inpainting: bool) -> Value {
    let refiner = encoders.is_refiner();
    let class = match (refiner, inpainting) {
        (true, _) => "StableDiffusionXLImg2ImgPipeline",
        (false, true) => "StableDiffusionXLInpaintPipeline",
        (false, false) => "StableDiffusionXLPipeline",
    };
    let first = |class: &str| {
        if refiner {
            json!([null, null])
        } else {
            json!(["transformers", class])
        }
    };
    json!({
        "_class_name": class,
        "force_zeros_for_empty_prompt": !refiner,
        "requires_aesthetics_score": refiner,
        "text_encoder": first("CLIPTextModel"),
        "tokenizer": first("CLIPTokenizer"),
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    })
}

fn clip_config(shapes: &Shapes<'_>) -> Result<Value, EngineError> {
    let layer = |at| format!("text_model.encoder.layers.{at}.layer_norm1.weight");
    let width = shapes.axis("text_model.embeddings.token_embedding.weight", 1)?;
    Ok(json!({
        "vocab_size": shapes.axis("text_model.embeddings.token_embedding.weight", 0)?,
        "hidden_size": width,
        "intermediate_size": shapes.axis("text_model.encoder.layers.0.mlp.fc1.weight", 0)?,
        "projection_dim": width,
        "num_hidden_layers": shapes.count(layer),
        "num_attention_heads": shapes.heads(width, "a text encoder")?,
        "max_position_embeddings": shapes.axis("text_model.embeddings.position_embedding.weight", 0)?,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "eos_token_id": 2,
    }))
}

fn open_clip_config(shapes: &Shapes<'_>) -> Result<Value, EngineError> {
    let layer = |at| format!("transformer.resblocks.{at}.ln_1.weight");
    let width = shapes.axis("token_embedding.weight", 1)?;
    let projection = shapes.axis("text_projection", 1)?;
    Ok(json!({
        "vocab_size": shapes.axis("token_embedding.weight", 0)?,
        "hidden_size": width,
        "intermediate_size": shapes.axis("transformer.resblocks.0.mlp.c_fc.weight", 0)?,
        "projection_dim": projection,
        "num_hidden_layers": shapes.count(layer),
        "num_attention_heads": shapes.heads(width, "a text encoder")?,
        "max_position_embeddings": shapes.axis("positional_embedding", 0)?,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "eos_token_id": 2,
    }))
}

/// One resolution of a UNet.
#[derive(Default)]
struct Level {
    channels: usize,
    /// Depths of the transformers behind each resnet; empty where there are none.
    depths: Vec<usize>,
    layers: usize,
}

fn unet_config(
    shapes: &Shapes<'_>,
    projection: usize,
    encoders: Encoders,
) -> Result<Value, EngineError> {
    let depth =
        |place: &str| shapes.count(|at| format!("{place}.1.transformer_blocks.{at}.norm1.weight"));
    // 1. Down: a downsampling convolution ends a level.
    let mut levels = vec![Level::default()];
    for at in 1..MAX_COUNT {
        let place = format!("input_blocks.{at}");
        let level = levels.last_mut().expect("there is a first level");
        if shapes.has(&format!("{place}.0.op.weight")) {
            levels.push(Level::default());
        } else if shapes.has(&format!("{place}.0.in_layers.2.weight")) {
            level.channels = shapes.axis(&format!("{place}.0.in_layers.2.weight"), 0)?;
            level.layers += 1;
            if shapes.has(&format!("{place}.1.norm.weight")) {
                level.depths.push(depth(&place));
            }
        } else {
            break;
        }
    }
    // 2. Up: each level has one layer more.
    let mut up_depths = Vec::new();
    let mut at = 0;
    for level in levels.iter().rev() {
        let depths: Vec<usize> = (at..=at + level.layers)
            .map(|at| format!("output_blocks.{at}"))
            .filter(|place| shapes.has(&format!("{place}.1.norm.weight")))
            .map(|place| depth(&place))
            .collect();
        up_depths.push(depths);
        at += level.layers + 1;
    }
    // 3. Middle.
    let mid_depth = depth("middle_block");
    let mid_attention = shapes.has("middle_block.1.norm.weight");
    let even = |depths: &[usize]| depths.windows(2).all(|pair| pair[0] == pair[1]);
    let mirrored =
        levels.iter().rev().zip(&up_depths).all(|(level, up)| {
            even(&level.depths) && even(up) && level.depths.first() == up.first()
        });
    let last = levels.len() - 1;
    // Levels without transformers have a depth too: the last one's is the middle's.
    let down_depths: Vec<Value> = levels
        .iter()
        .enumerate()
        .map(|(at, level)| {
            let filler = if at == last { mid_depth.max(1) } else { 1 };
            match level.depths.first() {
                Some(depth) if mirrored => json!(depth),
                Some(_) => json!(level.depths),
                None => json!(filler),
            }
        })
        .collect();
    let reversed: Value = if mirrored {
        Value::Null
    } else {
        up_depths
            .iter()
            .map(|depths| {
                if depths.is_empty() {
                    json!(1)
                } else {
                    json!(depths)
                }
            })
            .collect()
    };
    let kinds = |with: &str, without: &str, has: &mut dyn Iterator<Item = bool>| -> Value {
        has.map(|attention| if attention { with } else { without })
            .collect()
    };
    let heads = levels
        .iter()
        .map(|level| shapes.heads(level.channels, "a UNet level"))
        .collect::<Result<Vec<_>, _>>()?;
    // 4. What the text and the sizes enter by.
    let attention = (1..MAX_COUNT)
        .map(|at| format!("input_blocks.{at}"))
        .chain(["middle_block".to_string()])
        .find(|place| shapes.has(&format!("{place}.1.norm.weight")))
        .unwrap_or_else(|| "input_blocks.4".to_string());
    let to_k = format!("{attention}.1.transformer_blocks.0.attn2.to_k.weight");
    let proj_in = format!("{attention}.1.proj_in.weight");
    let added = shapes.axis("label_emb.0.0.weight", 1)?;
    let numbers = if encoders.is_refiner() { 5 } else { 6 };
    let sizes = added.saturating_sub(projection);
    if sizes == 0 || sizes % numbers != 0 {
        return Err(EngineError::model(
            shapes.path,
            format!(
                "has `{}label_emb.0.0.weight` of {added} inputs, which are not the {projection} of the pooled text and {numbers} size embeddings",
                shapes.prefix
            ),
        ));
    }
    let mut config = json!({
        "_class_name": "UNet2DConditionModel",
        "sample_size": 128,
        "block_out_channels": levels.iter().map(|level| level.channels).collect::<Vec<_>>(),
        "layers_per_block": levels.iter().map(|level| level.layers).collect::<Vec<_>>(),
        "down_block_types": kinds(
            "CrossAttnDownBlock2D", "DownBlock2D",
            &mut levels.iter().map(|level| !level.depths.is_empty()),
        ),
        "up_block_types": kinds(
            "CrossAttnUpBlock2D", "UpBlock2D",
            &mut up_depths.iter().map(|depths| !depths.is_empty()),
        ),
        "mid_block_type": if mid_attention { "UNetMidBlock2DCrossAttn" } else { "UNetMidBlock2D" },
        "transformer_layers_per_block": down_depths,
        "reverse_transformer_layers_per_block": reversed,
        "attention_head_dim": heads,
        "cross_attention_dim": shapes.axis(&to_k, 1)?,
        "use_linear_projection": shapes.find(&proj_in).is_none_or(|shape| shape.len() == 2),
        "norm_num_groups": 32,
        "norm_eps": 1e-5,
        "time_embedding_dim": shapes.axis("time_embed.0.weight", 0)?,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": sizes / numbers,
        "projection_class_embeddings_input_dim": added,
    });
    for (key, value) in unet_ends(shapes.files, shapes.prefix, true)? {
        config[key] = value;
    }
    Ok(config)
}

/// What a UNet's first and last layers show: the channels it takes and gives, and whether it takes
/// the guidance scale. Keys of its config with their values.
///
/// # Errors
/// [`EngineError::Model`] if those layers are not there.
pub fn unet_ends(
    files: &WeightFiles,
    prefix: &str,
    latent_diffusion: bool,
) -> Result<Vec<(&'static str, Value)>, EngineError> {
    let shapes = Shapes {
        path: files.place(),
        files,
        prefix,
    };
    let (first, last, guidance) = if latent_diffusion {
        (
            "input_blocks.0.0.weight",
            "out.2.weight",
            "time_embed.cond_proj.weight",
        )
    } else {
        (
            "conv_in.weight",
            "conv_out.weight",
            "time_embedding.cond_proj.weight",
        )
    };
    let guidance = match shapes.has(guidance) {
        true => json!(shapes.axis(guidance, 1)?),
        false => Value::Null,
    };
    Ok(vec![
        ("in_channels", json!(shapes.axis(first, 1)?)),
        ("out_channels", json!(shapes.axis(last, 0)?)),
        ("time_cond_proj_dim", guidance),
    ])
}

fn vae_config(shapes: &Shapes<'_>) -> Result<Value, EngineError> {
    let block = |level: usize, at: usize| format!("encoder.down.{level}.block.{at}.conv1.weight");
    let levels = shapes.count(|level| block(level, 0));
    let channels = (0..levels)
        .map(|level| shapes.axis(&block(level, 0), 0))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(json!({
        "_class_name": "AutoencoderKL",
        "block_out_channels": channels,
        "down_block_types": vec!["DownEncoderBlock2D"; levels],
        "up_block_types": vec!["UpDecoderBlock2D"; levels],
        "layers_per_block": shapes.count(|at| block(0, at)),
        "latent_channels": shapes.axis("decoder.conv_in.weight", 1)?,
        "norm_num_groups": 32,
        "scaling_factor": 0.13025,
        "use_quant_conv": shapes.has("quant_conv.weight"),
        "use_post_quant_conv": shapes.has("post_quant_conv.weight"),
        "mid_block_add_attention": shapes.has("decoder.mid.attn_1.q.weight"),
        "force_upcast": true,
    }))
}

/// SDXL's scheduler, with what the file says about predictions: the marks that A1111 and ComfyUI
/// know (empty tensors `v_pred` and `ztsnr`), or the metadata of the model specification.
fn scheduler_config(path: &Path, files: &WeightFiles) -> Result<Value, EngineError> {
    let marked = |name: &str| files.tensors().contains_key(name);
    let spoken = files
        .metadata()
        .get("modelspec.prediction_type")
        .or_else(|| files.metadata().get("modelspec.predict_key"));
    let velocity = match spoken.map(|text| text.trim().to_lowercase()).as_deref() {
        Some("v" | "v_prediction" | "v-prediction" | "v_pred") => true,
        None | Some("" | "epsilon" | "eps") => false,
        Some(other) => {
            return Err(EngineError::model(
                path,
                format!(
                    "says `modelspec.prediction_type` is {other:?}; epsilon and v are supported"
                ),
            ));
        }
    };
    let zero_snr = marked("ztsnr");
    Ok(json!({
        "_class_name": "EulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": if velocity || marked("v_pred") { "v_prediction" } else { "epsilon" },
        "rescale_betas_zero_snr": zero_snr,
        "interpolation_type": "linear",
        "use_karras_sigmas": false,
        // With zero terminal SNR the first step must be the last of training (arXiv:2305.08891).
        "timestep_spacing": if zero_snr { "trailing" } else { "leading" },
        "steps_offset": 1,
        "clip_sample": false,
        "set_alpha_to_one": false,
        "skip_prk_steps": true,
    }))
}
