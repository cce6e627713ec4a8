//! A model folder as its configs describe it, before any weight is read.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::Config;
use crate::schedulers::{
    self, Defaults, NamedScheduler, SchedulerConfig, TimestepSpacing, few_step_defaults,
};
use crate::source::{ModelSource, Replacements};
use crate::text_encoder::TextEncoderConfig;
use crate::tokenizer::ClipTokenizer;
use crate::unet::UnetConfig;
use crate::vae::VaeConfig;
use crate::weights::WeightFiles;
use crate::{EngineError, GenerateRequest};

/// What a folder holds, read from its configs and the headers of its weight files.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelDescription {
    /// What kind of model it is: `stable-diffusion-xl-base`, `-refiner` (needs an image to start
    /// from) or `-inpainting` (needs an image and a mask); see [`ModelKind`].
    pub kind: String,
    /// Width in pixels that the model was trained for.
    pub default_width: u32,
    /// Height in pixels that the model was trained for.
    pub default_height: u32,
    /// Width and height must be multiples of this (8 for SDXL).
    pub size_multiple: u32,
    /// Number of weights in all components, where the weight files are at hand.
    pub parameters: Option<u64>,
    /// How the weights are stored: `f32`, `f16`, `bf16`, or several joined by `+`; `unknown` where
    /// the weight files are not at hand.
    pub stored_dtype: String,
    /// The scheduler that is used where a request names none, by a name that a request may give.
    pub scheduler: String,
    /// Schedulers that a request may name, as people know them ("DPM++ 2M Karras"). diffusers' class
    /// names are understood, too.
    pub schedulers: Vec<String>,
    /// What suits the model where a request says nothing.
    pub defaults: Defaults,
    /// Tokens of a prompt that the model sees, begin and end included (77 for SDXL).
    pub max_prompt_tokens: u32,
}

/// Reads a folder's configs, and of its weights the headers at most: a cheap check for listing
/// models and validating requests.
///
/// # Errors
/// [`EngineError::Model`] naming the file, and in it the key and value, that cannot be used.
pub fn inspect(folder: &Path) -> Result<ModelDescription, EngineError> {
    ModelFolder::read(folder)?.describe()
}

/// What a model does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// Makes images from noise.
    Base,
    /// Goes on from an image: its UNet takes an aesthetic score in place of a target size.
    Refiner,
    /// Paints into an image: its UNet sees the mask and the masked image beside the latents.
    Inpainting,
}

impl ModelKind {
    /// The name in [`ModelDescription::kind`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "stable-diffusion-xl-base",
            Self::Refiner => "stable-diffusion-xl-refiner",
            Self::Inpainting => "stable-diffusion-xl-inpainting",
        }
    }
}

/// The configs of a whole folder, checked against each other.
pub struct ModelFolder {
    pub path: PathBuf,
    source: ModelSource,
    pub kind: ModelKind,
    /// Whether the UNet is told an aesthetic score in place of a target size, as refiners are.
    pub takes_aesthetic_score: bool,
    pub force_zeros_for_empty_prompt: bool,
    /// One or two text encoders; the last has the projection.
    pub text_encoders: Vec<TextEncoderFolder>,
    pub unet: UnetConfig,
    pub vae: VaeConfig,
    pub scheduler: SchedulerConfig,
    /// What suits the model, told from its name and configs.
    pub defaults: Defaults,
    /// `scheduler_config.json`, to be read anew as the scheduler that a request names.
    scheduler_config: SchedulerFile,
}

/// A text encoder with its tokenizer.
pub struct TextEncoderFolder {
    pub name: &'static str,
    pub tokenizer: &'static str,
    pub config: TextEncoderConfig,
    pub with_projection: bool,
}

/// Stem of transformers' weight files.
pub const TRANSFORMERS_STEM: &str = "model";
/// Stem of diffusers' weight files.
pub const DIFFUSERS_STEM: &str = "diffusion_pytorch_model";

impl ModelFolder {
    /// Reads all configs of a diffusers folder or a single file.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming file, key and value of what cannot be used.
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        Self::read_with(path, Replacements::default())
    }

    /// As [`ModelFolder::read`], with another UNet or VAE in place of the model's own.
    ///
    /// # Errors
    /// As [`ModelFolder::read`].
    pub fn read_with(path: &Path, replacements: Replacements<'_>) -> Result<Self, EngineError> {
        let name = replacements.unet.map(model_name);
        let name = name.filter(|name| few_step_defaults(name).is_some());
        let name = name.unwrap_or_else(|| model_name(path));
        let source = ModelSource::open(path, replacements)?;
        let index = source.config("model_index.json")?;
        check_pipeline_class(&index)?;

        let mut text_encoders = Vec::new();
        for (name, tokenizer, class, with_projection) in [
            ("text_encoder", "tokenizer", "CLIPTextModel", false),
            (
                "text_encoder_2",
                "tokenizer_2",
                "CLIPTextModelWithProjection",
                true,
            ),
        ] {
            if component_class(&index, name)?.is_none() {
                if with_projection {
                    return Err(index.unsupported(name, "SDXL needs its second text encoder"));
                }
                if component_class(&index, tokenizer)?.is_some() {
                    return Err(
                        index.unsupported(name, "there is a tokenizer, but no text encoder for it")
                    );
                }
                continue;
            }
            expect_class(&index, name, &[class])?;
            expect_class(&index, tokenizer, &["CLIPTokenizer", "CLIPTokenizerFast"])?;
            text_encoders.push(TextEncoderFolder {
                name,
                tokenizer,
                config: TextEncoderConfig::read(&source.config(&format!("{name}/config.json"))?)?,
                with_projection,
            });
        }
        expect_class(&index, "unet", &["UNet2DConditionModel"])?;
        expect_class(&index, "vae", &["AutoencoderKL"])?;
        let scheduler_class = component_class(&index, "scheduler")?;
        let mut scheduler_config = source.config("scheduler/scheduler_config.json")?;
        if let Some(class) = scheduler_class {
            // As in diffusers, the index decides which class reads the config.
            scheduler_config.set("_class_name", Value::String(class));
        }
        let scheduler = SchedulerConfig::read(&scheduler_config)?;
        let unet = UnetConfig::read(&source.config("unet/config.json")?)?;
        let defaults = Defaults::of_model(&name, &scheduler, unet.time_cond_proj_dim.is_some());
        let mut folder = Self {
            path: path.to_path_buf(),
            kind: ModelKind::Base,
            takes_aesthetic_score: false,
            force_zeros_for_empty_prompt: index.flag("force_zeros_for_empty_prompt", true)?,
            text_encoders,
            unet,
            vae: VaeConfig::read(&source.config("vae/config.json")?)?,
            scheduler,
            defaults,
            scheduler_config: SchedulerFile::new(&scheduler_config),
            source,
        };
        folder.takes_aesthetic_score = folder.check_widths()?;
        folder.kind = if folder.unet.in_channels != folder.vae.latent_channels {
            ModelKind::Inpainting
        } else if folder.takes_aesthetic_score {
            ModelKind::Refiner
        } else {
            ModelKind::Base
        };
        Ok(folder)
    }

    /// The scheduler of a request: the one it names, with the folder's settings, or else that of
    /// its LoRAs or of the model. What a few-step LoRA or model was distilled with holds for any.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] if the settings do not fit that scheduler.
    pub fn scheduler_for(&self, request: &GenerateRequest) -> Result<SchedulerConfig, EngineError> {
        let of_lora = request
            .loras
            .iter()
            .filter(|lora| lora.weight != 0.0)
            .find_map(|lora| few_step_defaults(&file_name(&lora.path)));
        let defaults = of_lora.as_ref().unwrap_or(&self.defaults);
        self.scheduler_with(request.scheduler.as_deref(), defaults)
    }

    /// As [`ModelFolder::scheduler_for`], for a request without LoRAs.
    ///
    /// # Errors
    /// As there.
    pub fn scheduler_named(&self, name: Option<&str>) -> Result<SchedulerConfig, EngineError> {
        self.scheduler_with(name, &self.defaults)
    }

    fn scheduler_with(
        &self,
        name: Option<&str>,
        defaults: &Defaults,
    ) -> Result<SchedulerConfig, EngineError> {
        let mut config = self.scheduler_config.parse()?;
        let name = name.or(defaults.scheduler.as_deref());
        let kind = match name {
            Some(name) => {
                let named = find_scheduler(name)?;
                for (key, value) in named.overrides {
                    config.set(key, value);
                }
                named.kind
            }
            None => self.scheduler.kind,
        };
        if let Some(spacing) = defaults.timestep_spacing {
            let text = match spacing {
                TimestepSpacing::Linspace => "linspace",
                TimestepSpacing::Leading => "leading",
                TimestepSpacing::Trailing => "trailing",
            };
            config.set("timestep_spacing", Value::from(text));
        }
        let mut read = SchedulerConfig::read_as(&config, kind).map_err(|error| match name {
            Some(name) => EngineError::invalid(
                "scheduler",
                format!(
                    "`{}` cannot be used with this model: {error}",
                    name.escape_debug()
                ),
            ),
            None => error,
        })?;
        if let Some(prediction) = defaults.prediction_type {
            read.prediction_type = prediction;
        }
        read.consistency.single_step_from = defaults.single_step_from;
        Ok(read)
    }

    /// Checks that the components fit each other. Answers whether the UNet takes an aesthetic score.
    fn check_widths(&self) -> Result<bool, EngineError> {
        let unet_config = self.source.config_path("unet/config.json");
        let refuse = |message: String| Err(EngineError::model(&unet_config, message));
        let unet = &self.unet;
        let text: usize = self
            .text_encoders
            .iter()
            .map(|encoder| encoder.config.hidden_size)
            .sum();
        let (key, asked) = match unet.encoder_hid_dim {
            Some(dim) => ("encoder_hid_dim", dim),
            None => ("cross_attention_dim", unet.cross_attention_dim),
        };
        if text != asked {
            return refuse(format!(
                "`{key}` is {asked}, but the text encoders' `hidden_size` add up to {text}"
            ));
        }
        let pooled = self
            .text_encoders
            .last()
            .map_or(0, |encoder| encoder.config.projection_dim);
        // Base models are told six numbers, refiners five.
        let added = |numbers: usize| pooled + numbers * unet.addition_time_embed_dim;
        let takes_aesthetic_score = unet.projection_class_embeddings_input_dim == added(5);
        if !takes_aesthetic_score && unet.projection_class_embeddings_input_dim != added(6) {
            return refuse(format!(
                "`projection_class_embeddings_input_dim` is {}, but text_encoder_2's `projection_dim` ({pooled}) and 6 · `addition_time_embed_dim` ({}) make {}",
                unet.projection_class_embeddings_input_dim,
                unet.addition_time_embed_dim,
                added(6)
            ));
        }
        // An inpainting UNet sees latents, mask and masked latents.
        let latents = self.vae.latent_channels;
        if ![latents, 2 * latents + 1].contains(&unet.in_channels) || unet.out_channels != latents {
            return refuse(format!(
                "`in_channels` is {} and `out_channels` {}, but the vae's `latent_channels` are {latents}; `out_channels` must be as many, `in_channels` too or, for inpainting, {}",
                unet.in_channels,
                unet.out_channels,
                2 * latents + 1
            ));
        }
        Ok(takes_aesthetic_score)
    }

    /// Opens the tokenizers and checks that they fit their encoders.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming the tokenizer at fault.
    pub fn open_tokenizers(&self) -> Result<Vec<ClipTokenizer>, EngineError> {
        let mut tokenizers: Vec<ClipTokenizer> = Vec::new();
        for encoder in &self.text_encoders {
            let path = self.path.join(encoder.tokenizer);
            let tokenizer = self.source.tokenizer(encoder.tokenizer)?;
            let length = tokenizer.model_max_length();
            let positions = encoder.config.max_position_embeddings;
            if length > positions {
                return Err(EngineError::model(
                    path.join("tokenizer_config.json"),
                    format!(
                        "`model_max_length` is {length}, but {} has `max_position_embeddings` {positions}",
                        encoder.name
                    ),
                ));
            }
            if let Some(first) = tokenizers.first()
                && first.model_max_length() != length
            {
                return Err(EngineError::model(
                    path.join("tokenizer_config.json"),
                    format!(
                        "`model_max_length` is {length}, but the first tokenizer's is {}; they must be equal",
                        first.model_max_length()
                    ),
                ));
            }
            tokenizers.push(tokenizer);
        }
        Ok(tokenizers)
    }

    /// Sums the folder up.
    ///
    /// # Errors
    /// If weight files are there, but damaged.
    pub fn describe(&self) -> Result<ModelDescription, EngineError> {
        let factor = self.vae.scale_factor();
        let (height, width) = self.unet.sample_size;
        let mut parameters = Some(0);
        let mut dtypes: Vec<&str> = Vec::new();
        for (name, stem) in self.components() {
            // Without weights a folder can still be described; damaged ones are reported.
            match self.open_weights(name, stem) {
                Ok(files) => {
                    let summary = files.summary();
                    parameters = parameters.map(|sum| sum + summary.parameters);
                    for dtype in summary.dtypes {
                        if !dtypes.contains(&dtype) {
                            dtypes.push(dtype);
                        }
                    }
                }
                Err(EngineError::Model { path, .. }) if path == self.path.join(name) => {
                    parameters = None
                }
                Err(error) => return Err(error),
            }
        }
        let pixels = |latents: usize| u32::try_from(latents * factor).unwrap_or(u32::MAX);
        Ok(ModelDescription {
            kind: self.kind.name().to_string(),
            default_width: self.defaults.side.unwrap_or_else(|| pixels(width)),
            default_height: self.defaults.side.unwrap_or_else(|| pixels(height)),
            // diffusers asks for multiples of 8 whatever the VAE; a VAE with a larger factor
            // would give another size than asked for.
            size_multiple: pixels(1).max(8),
            parameters,
            stored_dtype: if dtypes.is_empty() {
                "unknown".to_string()
            } else {
                dtypes.join("+")
            },
            scheduler: self.scheduler_named(None)?.name(),
            schedulers: schedulers::names(),
            defaults: self.defaults.clone(),
            max_prompt_tokens: self
                .text_encoders
                .iter()
                .map(|encoder| encoder.config.max_position_embeddings)
                .min()
                .and_then(|tokens| u32::try_from(tokens).ok())
                .unwrap_or(77),
        })
    }

    /// Opens the weight files of one component.
    ///
    /// # Errors
    /// As [`WeightFiles::open`].
    pub fn open_weights(&self, name: &str, stem: &str) -> Result<WeightFiles, EngineError> {
        self.source.weights(name, stem)
    }

    /// Folder names of the components with weights, and the stems of their weight files.
    pub fn components(&self) -> Vec<(&'static str, &'static str)> {
        self.text_encoders
            .iter()
            .map(|encoder| (encoder.name, TRANSFORMERS_STEM))
            .chain([("unet", DIFFUSERS_STEM), ("vae", DIFFUSERS_STEM)])
            .collect()
    }
}

fn check_pipeline_class(index: &Config) -> Result<(), EngineError> {
    let class = index.text("_class_name", "")?;
    let what = match class.as_str() {
        "StableDiffusionXLPipeline"
        | "StableDiffusionXLImg2ImgPipeline"
        | "StableDiffusionXLInpaintPipeline" => return Ok(()),
        "StableDiffusionPipeline" => "it is a Stable Diffusion 1.x or 2.x folder",
        "StableDiffusion3Pipeline" => "it is a Stable Diffusion 3 folder",
        "FluxPipeline" => "it is a FLUX folder",
        _ => "it is another kind of model",
    };
    Err(index.unsupported(
        "_class_name",
        &format!("{what}; an SDXL model (StableDiffusionXLPipeline) is needed"),
    ))
}

/// The class of a component; `None` if the index says that there is none.
fn component_class(index: &Config, name: &str) -> Result<Option<String>, EngineError> {
    match index.get(name) {
        None => Ok(None),
        Some(Value::Array(pair)) => match pair.as_slice() {
            [_, Value::Null] => Ok(None),
            [_, Value::String(class)] => Ok(Some(class.clone())),
            _ => Err(index.unsupported(name, "give library and class")),
        },
        Some(_) => Err(index.unsupported(name, "give library and class")),
    }
}

fn expect_class(index: &Config, name: &str, classes: &[&str]) -> Result<(), EngineError> {
    match component_class(index, name)? {
        Some(class) if classes.contains(&class.as_str()) => Ok(()),
        _ => Err(index.unsupported(name, &format!("SDXL's is {}", classes[0]))),
    }
}

/// Finds the scheduler that a request names.
///
/// # Errors
/// [`EngineError::InvalidRequest`] listing those that exist.
pub fn find_scheduler(name: &str) -> Result<NamedScheduler, EngineError> {
    NamedScheduler::find(name).ok_or_else(|| {
        EngineError::invalid(
            "scheduler",
            format!(
                "`{}` is not known; choose one of {} (or as EulerDiscrete)",
                name.escape_debug(),
                schedulers::samplers()
            ),
        )
    })
}

/// A config file that can be parsed again and again. ([`Config`] itself cannot be shared between
/// threads.)
struct SchedulerFile {
    path: PathBuf,
    text: String,
}

impl SchedulerFile {
    fn new(config: &Config) -> Self {
        let values: serde_json::Map<String, Value> = config
            .entries()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        Self {
            path: config.path().to_path_buf(),
            text: Value::Object(values).to_string(),
        }
    }

    fn parse(&self) -> Result<Config, EngineError> {
        Config::parse(&self.path, &self.text)
    }
}

/// The last part of a path, as text.
fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// What a model is called: its folder's name, or for a snapshot in a Hugging Face cache
/// (`models--ORG--NAME/snapshots/HASH`) the name of its repository. A link counts by its own name if
/// that says something.
fn model_name(path: &Path) -> String {
    let given = file_name(path);
    if few_step_defaults(&given).is_some() {
        return given;
    }
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let is_snapshot = path.parent().map(file_name).as_deref() == Some("snapshots");
    if is_snapshot && let Some(repository) = path.ancestors().nth(2) {
        return file_name(repository);
    }
    file_name(&path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text_encoder::TextEncoder;
    use crate::unet::Unet;
    use crate::vae::VaeDecoder;
    use crate::weights::{Weights, survey};

    fn config(text: &str) -> Config {
        Config::parse(Path::new("config.json"), text).expect("valid JSON")
    }

    /// Number of weights that a component asks for.
    fn weights<T>(build: impl Fn(&Weights) -> Result<T, EngineError>) -> usize {
        let asked = survey(build).expect("a valid config");
        asked
            .values()
            .map(|shape| shape.iter().product::<usize>())
            .sum()
    }

    /// Numbers of weights as torch counts them in the published SDXL 1.0 base model.
    #[test]
    fn the_published_model_has_the_published_number_of_weights() {
        let unet = UnetConfig::read(&config(
            r#"{
                "sample_size": 128, "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256, "attention_head_dim": [5, 10, 20],
                "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048,
                "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
                "projection_class_embeddings_input_dim": 2816,
                "transformer_layers_per_block": [1, 2, 10],
                "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
                "use_linear_projection": true
            }"#,
        ))
        .expect("supported");
        assert_eq!(weights(|w| Unet::load(w, &unet)), 2_567_463_684);

        let clip_l = TextEncoderConfig::read(&config(
            r#"{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                "num_attention_heads": 12, "projection_dim": 768}"#,
        ))
        .expect("supported");
        assert_eq!(
            weights(|w| TextEncoder::load(w, "", &clip_l, false)),
            123_060_480
        );

        let clip_g = TextEncoderConfig::read(&config(
            r#"{"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
                "num_attention_heads": 20, "projection_dim": 1280, "hidden_act": "gelu"}"#,
        ))
        .expect("supported");
        assert_eq!(
            weights(|w| TextEncoder::load(w, "", &clip_g, true)),
            694_659_840
        );

        let vae = VaeConfig::read(&config(
            r#"{"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
                "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D",
                                     "DownEncoderBlock2D", "DownEncoderBlock2D"],
                "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D",
                                   "UpDecoderBlock2D", "UpDecoderBlock2D"],
                "scaling_factor": 0.13025}"#,
        ))
        .expect("supported");
        assert_eq!(weights(|w| VaeDecoder::load(w, &vae)), 83_653_863);
    }

    #[test]
    fn unsupported_values_name_key_and_value() {
        let base = r#""addition_embed_type": "text_time", "addition_time_embed_dim": 8,
                      "projection_class_embeddings_input_dim": 64"#;
        for (key, value) in [
            ("class_embed_type", "\"timestep\""),
            ("num_class_embeds", "10"),
            ("dual_cross_attention", "true"),
            ("attention_type", "\"gated\""),
            ("time_embedding_type", "\"fourier\""),
            ("resnet_time_scale_shift", "\"ada_group\""),
            ("mid_block_type", "\"UNetMidBlock2DSimpleCrossAttn\""),
            ("encoder_hid_dim_type", "\"image_proj\""),
            ("num_attention_heads", "8"),
            ("conv_in_kernel", "4"),
            ("act_fn", "\"tanhshrink\""),
            ("norm_num_groups", "null"),
            ("surprise", "1"),
        ] {
            let text = format!("{{{base}, \"{key}\": {value}}}");
            let error = UnetConfig::read(&config(&text)).expect_err(key).to_string();
            assert!(
                error.contains(&format!("`{key}` is {value}")),
                "{key}: {error}"
            );
        }
    }
}
