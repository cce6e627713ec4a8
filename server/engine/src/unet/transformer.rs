//! The transformers between the resnets: image patches look at each other and at the text.

use candle_core::{Result, Tensor};

use super::config::{BlockAttention, UnetConfig};
use crate::EngineError;
use crate::nn::{Conv2d, GroupNorm, LayerNorm, Linear, Ops};
use crate::weights::Weights;

/// Keys and values of the text for one attention: they do not change from step to step.
pub struct TextKeys {
    key: Tensor,
    value: Tensor,
}

/// Multi-head attention with its projections.
struct Attention {
    ops: Ops,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
}

impl Attention {
    fn load(
        weights: &Weights,
        width: usize,
        inner: usize,
        context: usize,
        heads: usize,
    ) -> std::result::Result<Self, EngineError> {
        Ok(Self {
            ops: weights.ops().clone(),
            to_q: Linear::load_no_bias(&weights.at("to_q"), width, inner)?,
            to_k: Linear::load_no_bias(&weights.at("to_k"), context, inner)?,
            to_v: Linear::load_no_bias(&weights.at("to_v"), context, inner)?,
            to_out: Linear::load(&weights.at("to_out.0"), inner, width)?,
            heads,
        })
    }

    fn keys(&self, context: &Tensor) -> Result<TextKeys> {
        Ok(TextKeys {
            key: self.to_k.forward(context)?,
            value: self.to_v.forward(context)?,
        })
    }

    fn forward(&self, hidden: &Tensor, context: &TextKeys) -> Result<Tensor> {
        let query = self.to_q.forward(hidden)?;
        let seen = self
            .ops
            .attention(&query, &context.key, &context.value, self.heads, false)?;
        self.to_out.forward(&seen)
    }
}

/// Self-attention, cross-attention and a gated feed-forward layer, each behind a layer norm.
struct BasicBlock {
    ops: Ops,
    norm1: LayerNorm,
    attn1: Attention,
    only_cross_attention: bool,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff_in: Linear,
    ff_out: Linear,
}

const LAYER_NORM_EPS: f64 = 1e-5;
const FEED_FORWARD_FACTOR: usize = 4;

impl BasicBlock {
    fn load(
        weights: &Weights,
        width: usize,
        config: &BlockAttention,
    ) -> std::result::Result<Self, EngineError> {
        let heads = config.heads;
        let text = config.cross_attention_dim;
        let first_context = if config.only_cross_attention {
            text
        } else {
            width
        };
        let wide = width * FEED_FORWARD_FACTOR;
        Ok(Self {
            ops: weights.ops().clone(),
            norm1: LayerNorm::load(&weights.at("norm1"), width, LAYER_NORM_EPS)?,
            attn1: Attention::load(&weights.at("attn1"), width, width, first_context, heads)?,
            only_cross_attention: config.only_cross_attention,
            norm2: LayerNorm::load(&weights.at("norm2"), width, LAYER_NORM_EPS)?,
            attn2: Attention::load(&weights.at("attn2"), width, width, text, heads)?,
            norm3: LayerNorm::load(&weights.at("norm3"), width, LAYER_NORM_EPS)?,
            ff_in: Linear::load(&weights.at("ff.net.0.proj"), width, 2 * wide)?,
            ff_out: Linear::load(&weights.at("ff.net.2"), wide, width)?,
        })
    }

    fn text_keys(&self, text: &Tensor, out: &mut Vec<TextKeys>) -> Result<()> {
        if self.only_cross_attention {
            out.push(self.attn1.keys(text)?);
        }
        out.push(self.attn2.keys(text)?);
        Ok(())
    }

    /// (b, h·w, width) → the same.
    fn forward<'a>(
        &self,
        hidden: &Tensor,
        text: &mut impl Iterator<Item = &'a TextKeys>,
    ) -> Result<Tensor> {
        // 1. Self-attention (or the first of two cross-attentions).
        let normed = self.norm1.forward(hidden)?;
        let seen = if self.only_cross_attention {
            self.attn1.forward(&normed, next(text)?)?
        } else {
            self.attn1.forward(&normed, &self.attn1.keys(&normed)?)?
        };
        let hidden = self.ops.add(&seen, hidden)?;
        // 2. Cross-attention.
        let normed = self.norm2.forward(&hidden)?;
        let seen = self.attn2.forward(&normed, next(text)?)?;
        let hidden = self.ops.add(&seen, &hidden)?;
        // 3. Feed-forward with a GELU gate.
        let wide = self.ff_in.forward(&self.norm3.forward(&hidden)?)?;
        let out = self.ff_out.forward(&self.ops.geglu(&wide)?)?;
        self.ops.add(&out, &hidden)
    }
}

fn next<'a>(text: &mut impl Iterator<Item = &'a TextKeys>) -> Result<&'a TextKeys> {
    match text.next() {
        Some(keys) => Ok(keys),
        None => candle_core::bail!("the conditioning belongs to another UNet"),
    }
}

enum Projection {
    Linear(Linear),
    Conv(Conv2d),
}

/// Several basic blocks between a projection in and a projection out.
pub struct Transformer {
    ops: Ops,
    norm: GroupNorm,
    proj_in: Projection,
    blocks: Vec<BasicBlock>,
    proj_out: Projection,
}

const GROUP_NORM_EPS: f64 = 1e-6;

impl Transformer {
    /// Reads a transformer of `depth` layers over `channels` channels.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn load(
        weights: &Weights,
        channels: usize,
        depth: usize,
        attention: &BlockAttention,
        unet: &UnetConfig,
    ) -> std::result::Result<Self, EngineError> {
        // Heads that do not divide the channels lose the rest, as in diffusers.
        let width = channels / attention.heads * attention.heads;
        let projection = |name: &str, inputs, outputs| {
            let weights = weights.at(name);
            if unet.use_linear_projection {
                Linear::load(&weights, inputs, outputs).map(Projection::Linear)
            } else {
                Conv2d::load(&weights, inputs, outputs, 1).map(Projection::Conv)
            }
        };
        Ok(Self {
            ops: weights.ops().clone(),
            norm: GroupNorm::load(
                &weights.at("norm"),
                channels,
                unet.norm_num_groups,
                GROUP_NORM_EPS,
            )?,
            proj_in: projection("proj_in", channels, width)?,
            blocks: (0..depth)
                .map(|at| {
                    let weights = weights.at("transformer_blocks").at(at);
                    BasicBlock::load(&weights, width, attention)
                })
                .collect::<std::result::Result<_, _>>()?,
            proj_out: projection("proj_out", width, channels)?,
        })
    }

    /// Appends the keys and values that [`Transformer::forward`] will take, in its order.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn text_keys(&self, text: &Tensor, out: &mut Vec<TextKeys>) -> Result<()> {
        self.blocks
            .iter()
            .try_for_each(|block| block.text_keys(text, out))
    }

    /// (b, c, h, w) → the same.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward<'a>(
        &self,
        input: &Tensor,
        text: &mut impl Iterator<Item = &'a TextKeys>,
    ) -> Result<Tensor> {
        let (_, _, height, width) = input.dims4()?;
        let normed = self.norm.forward(input, None)?;
        // (b, c, h, w) → (b, h·w, width)
        let mut hidden = match &self.proj_in {
            Projection::Linear(linear) => linear.forward(&self.ops.channels_last(&normed)?)?,
            Projection::Conv(conv) => self.ops.channels_last(&conv.forward(&normed)?)?,
        };
        for block in &self.blocks {
            hidden = block.forward(&hidden, text)?;
        }
        // (b, h·w, width) → (b, c, h, w)
        let out = match &self.proj_out {
            Projection::Linear(linear) => {
                self.ops
                    .channels_first(&linear.forward(&hidden)?, height, width)?
            }
            Projection::Conv(conv) => {
                conv.forward(&self.ops.channels_first(&hidden, height, width)?)?
            }
        };
        self.ops.add(&out, input)
    }
}
