//! `vae/config.json`.

use crate::config::Config;
use crate::nn::Activation;
use crate::{ComputeDtype, EngineError};

/// The architecture of an autoencoder.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    /// Channels of each resolution, from pixels to latents.
    pub block_out_channels: Vec<usize>,
    /// Resnets per resolution in the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Groups of the group norms.
    pub norm_num_groups: usize,
    /// The activation of the resnets.
    pub activation: Activation,
    /// What latents are multiplied by on their way to the UNet.
    pub scaling_factor: f64,
    /// Mean and standard deviation of each latent channel, where the model has them.
    pub latents_mean_std: Option<(Vec<f32>, Vec<f32>)>,
    /// Whether a 1×1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a 1×1 convolution comes before the decoder.
    pub use_post_quant_conv: bool,
    /// Whether the middle blocks have attention.
    pub mid_block_add_attention: bool,
    /// Whether it overflows in f16 and is then computed in f32.
    pub force_upcast: bool,
    /// Side of the images that the model was trained on, in pixels: the side of tiles.
    pub sample_size: usize,
}

impl VaeConfig {
    /// Pixels per latent pixel, along each axis.
    pub fn scale_factor(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }

    /// What the VAE is computed in where all else is in `dtype`.
    pub fn compute_dtype(&self, dtype: ComputeDtype) -> ComputeDtype {
        match dtype {
            ComputeDtype::F16 if self.force_upcast => ComputeDtype::F32,
            _ => dtype,
        }
    }

    /// Reads `vae/config.json`.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming file, key and value of what is not supported.
    pub fn read(config: &Config) -> Result<Self, EngineError> {
        config.expect_class("AutoencoderKL")?;
        let block_out_channels = config.sizes("block_out_channels", &[64])?;
        let count = block_out_channels.len();
        for (key, kind) in [
            ("down_block_types", "DownEncoderBlock2D"),
            ("up_block_types", "UpDecoderBlock2D"),
        ] {
            let types = config.texts(key, &[kind])?;
            if types.len() != count || types.iter().any(|name| name != kind) {
                return Err(config.unsupported(
                    key,
                    &format!("use {kind} for each of the {count} `block_out_channels`"),
                ));
            }
        }
        if count > 7 {
            return Err(config.unsupported("block_out_channels", "use at most 7 resolutions"));
        }
        for key in ["in_channels", "out_channels"] {
            if config.size(key, 3)? != 3 {
                return Err(config.unsupported(key, "images have 3 channels"));
            }
        }
        let latent_channels = config.size("latent_channels", 4)?;
        let statistics = |key: &str| -> Result<Option<Vec<f32>>, EngineError> {
            let Some(values) = config.optional_numbers(key)? else {
                return Ok(None);
            };
            if values.len() != latent_channels {
                return Err(config.unsupported(
                    key,
                    &format!("give one number for each of the {latent_channels} latent channels"),
                ));
            }
            Ok(Some(values.into_iter().map(|value| value as f32).collect()))
        };
        // As in diffusers' SDXL pipelines, they count only together.
        let latents_mean_std = match (statistics("latents_mean")?, statistics("latents_std")?) {
            (Some(mean), Some(std)) => Some((mean, std)),
            _ => None,
        };
        let scaling_factor = config.number("scaling_factor", 0.18215)?;
        if scaling_factor == 0.0 {
            return Err(config.unsupported("scaling_factor", "latents are divided by it"));
        }
        let read = Self {
            latent_channels,
            latents_mean_std,
            scaling_factor,
            layers_per_block: config.layers("layers_per_block", 1)?,
            norm_num_groups: config.size("norm_num_groups", 32)?,
            activation: Activation::from_diffusers(config, "act_fn")?.unwrap_or(Activation::SILU),
            use_quant_conv: config.flag("use_quant_conv", true)?,
            use_post_quant_conv: config.flag("use_post_quant_conv", true)?,
            mid_block_add_attention: config.flag("mid_block_add_attention", true)?,
            force_upcast: config.flag("force_upcast", true)?,
            sample_size: match config.get("sample_size") {
                Some(serde_json::Value::Array(_)) => config
                    .sizes("sample_size", &[])?
                    .first()
                    .copied()
                    .unwrap_or(32),
                _ => config.size("sample_size", 32)?,
            },
            block_out_channels,
        };
        config.ignore(&[
            // Known to diffusers, but not applied by its SDXL pipelines.
            "shift_factor",
        ]);
        config.finish()?;
        Ok(read)
    }
}
