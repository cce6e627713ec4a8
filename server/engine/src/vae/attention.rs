//! The middle block: attention over all positions between two resnets.

use candle_core::{Result, Tensor};

use super::config::VaeConfig;
use crate::EngineError;
use crate::nn::{GroupNorm, Linear, Ops};
use crate::unet::{ResnetBlock, ResnetStyle};
use crate::weights::Weights;

/// Epsilon of all of the VAE's norms.
pub const EPS: f64 = 1e-6;

/// How the VAE's resnets are made: no time embedding.
pub fn resnet_style(config: &VaeConfig) -> ResnetStyle {
    ResnetStyle {
        time_embed_dim: None,
        time_scale_shift: false,
        groups: config.norm_num_groups,
        eps: EPS,
        activation: config.activation,
        output_scale_factor: 1.0,
    }
}

/// Single-head attention over all positions.
struct SpatialAttention {
    ops: Ops,
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl SpatialAttention {
    fn load(
        weights: &Weights,
        channels: usize,
        groups: usize,
    ) -> std::result::Result<Self, EngineError> {
        let linear =
            |name, old_name| Linear::load_renamed(weights, name, old_name, channels, channels);
        Ok(Self {
            ops: weights.ops().clone(),
            group_norm: GroupNorm::load(&weights.at("group_norm"), channels, groups, EPS)?,
            to_q: linear("to_q", "query")?,
            to_k: linear("to_k", "key")?,
            to_v: linear("to_v", "value")?,
            to_out: linear("to_out.0", "proj_attn")?,
        })
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = input.dims4()?;
        // (b, c, h, w) → (b, h·w, c); queries go in tiles, so that memory grows with h·w only.
        let hidden = self
            .ops
            .channels_last(&self.group_norm.forward(input, None)?)?;
        let seen = self.ops.attention(
            &self.to_q.forward(&hidden)?,
            &self.to_k.forward(&hidden)?,
            &self.to_v.forward(&hidden)?,
            1,
            false,
        )?;
        let out = self
            .ops
            .channels_first(&self.to_out.forward(&seen)?, height, width)?;
        self.ops.add(&out, input)
    }
}

/// Resnet, attention, resnet at the resolution of the latents.
pub struct MidBlock {
    first: ResnetBlock,
    attention: Option<SpatialAttention>,
    last: ResnetBlock,
}

impl MidBlock {
    /// Reads a middle block.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn load(weights: &Weights, config: &VaeConfig) -> std::result::Result<Self, EngineError> {
        let channels = config.block_out_channels[config.block_out_channels.len() - 1];
        let style = resnet_style(config);
        Ok(Self {
            first: ResnetBlock::load(&weights.at("resnets.0"), channels, channels, &style)?,
            attention: config
                .mid_block_add_attention
                .then(|| {
                    let weights = weights.at("attentions.0");
                    SpatialAttention::load(&weights, channels, config.norm_num_groups)
                })
                .transpose()?,
            last: ResnetBlock::load(&weights.at("resnets.1"), channels, channels, &style)?,
        })
    }

    /// (b, c, h, w) → the same.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let mut hidden = self.first.forward(input, None)?;
        if let Some(attention) = &self.attention {
            hidden = attention.forward(&hidden)?;
        }
        self.last.forward(&hidden, None)
    }
}
