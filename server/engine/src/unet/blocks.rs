//! The blocks that a UNet is stacked from.

use candle_core::{Result, Tensor};

use super::config::{BlockAttention, BlockConfig, MidBlockConfig, UnetConfig};
use super::resnet::{ResnetBlock, ResnetStyle};
use super::transformer::{TextKeys, Transformer};
use crate::EngineError;
use crate::cpu::ConvGeometry;
use crate::nn::{Conv2d, Ops};
use crate::weights::Weights;

/// Resnets, each with a transformer behind it or none.
struct Layers {
    resnets: Vec<ResnetBlock>,
    transformers: Vec<Transformer>,
}

impl Layers {
    /// Reads layers whose inputs have the given numbers of channels.
    fn load(
        weights: &Weights,
        inputs: &[usize],
        channels: usize,
        attention: Option<&BlockAttention>,
        style: &ResnetStyle,
        unet: &UnetConfig,
    ) -> std::result::Result<Self, EngineError> {
        let mut resnets = Vec::with_capacity(inputs.len());
        let mut transformers = Vec::new();
        for (at, &inputs) in inputs.iter().enumerate() {
            resnets.push(ResnetBlock::load(
                &weights.at("resnets").at(at),
                inputs,
                channels,
                style,
            )?);
            if let Some(attention) = attention {
                transformers.push(Transformer::load(
                    &weights.at("attentions").at(at),
                    channels,
                    attention.depths[at],
                    attention,
                    unet,
                )?);
            }
        }
        Ok(Self {
            resnets,
            transformers,
        })
    }

    fn text_keys(&self, text: &Tensor, out: &mut Vec<TextKeys>) -> Result<()> {
        self.transformers
            .iter()
            .try_for_each(|transformer| transformer.text_keys(text, out))
    }

    fn forward<'a>(
        &self,
        at: usize,
        hidden: &Tensor,
        time: &Tensor,
        text: &mut impl Iterator<Item = &'a TextKeys>,
    ) -> Result<Tensor> {
        let hidden = self.resnets[at].forward(hidden, Some(time))?;
        match self.transformers.get(at) {
            Some(transformer) => transformer.forward(&hidden, text),
            None => Ok(hidden),
        }
    }
}

/// How a UNet's resnets are made.
pub fn resnet_style(config: &UnetConfig) -> ResnetStyle {
    ResnetStyle {
        time_embed_dim: Some(config.time_embed_dim),
        time_scale_shift: config.time_scale_shift,
        groups: config.norm_num_groups,
        eps: config.norm_eps,
        activation: config.activation,
        output_scale_factor: 1.0,
    }
}

/// Layers on one resolution, then half of it.
pub struct DownBlock {
    layers: Layers,
    downsampler: Option<Conv2d>,
}

impl DownBlock {
    /// Reads a block that takes `inputs` channels.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn load(
        weights: &Weights,
        inputs: usize,
        block: &BlockConfig,
        downsample: bool,
        unet: &UnetConfig,
    ) -> std::result::Result<Self, EngineError> {
        let channels = block.channels;
        let mut layer_inputs = vec![channels; block.layers];
        layer_inputs[0] = inputs;
        let padding = unet.downsample_padding;
        let geometry = ConvGeometry {
            stride: 2,
            pad_before: padding,
            // Padding 0 means: one line of zeros below and right.
            pad_after: if padding == 0 { 1 } else { padding },
        };
        Ok(Self {
            layers: Layers::load(
                weights,
                &layer_inputs,
                channels,
                block.attention.as_ref(),
                &resnet_style(unet),
                unet,
            )?,
            downsampler: downsample
                .then(|| {
                    let weights = weights.at("downsamplers.0.conv");
                    Conv2d::load_with(&weights, channels, channels, 3, geometry)
                })
                .transpose()?,
        })
    }

    /// See [`Transformer::text_keys`].
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn text_keys(&self, text: &Tensor, out: &mut Vec<TextKeys>) -> Result<()> {
        self.layers.text_keys(text, out)
    }

    /// Pushes the output of every layer to `skips`; returns the last.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward<'a>(
        &self,
        mut hidden: Tensor,
        time: &Tensor,
        text: &mut impl Iterator<Item = &'a TextKeys>,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for at in 0..self.layers.resnets.len() {
            hidden = self.layers.forward(at, &hidden, time, text)?;
            skips.push(hidden.clone());
        }
        if let Some(downsampler) = &self.downsampler {
            hidden = downsampler.forward(&hidden)?;
            skips.push(hidden.clone());
        }
        Ok(hidden)
    }
}

/// The block at the lowest resolution.
pub struct MidBlock {
    layers: Layers,
    last: Option<ResnetBlock>,
}

impl MidBlock {
    /// Reads a block over `channels` channels.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn load(
        weights: &Weights,
        channels: usize,
        block: &MidBlockConfig,
        unet: &UnetConfig,
    ) -> std::result::Result<Self, EngineError> {
        let style = ResnetStyle {
            output_scale_factor: block.output_scale_factor,
            ..resnet_style(unet)
        };
        let attention = block.attention.as_ref();
        Ok(Self {
            layers: Layers::load(weights, &[channels], channels, attention, &style, unet)?,
            last: attention
                .map(|_| ResnetBlock::load(&weights.at("resnets.1"), channels, channels, &style))
                .transpose()?,
        })
    }

    /// See [`Transformer::text_keys`].
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn text_keys(&self, text: &Tensor, out: &mut Vec<TextKeys>) -> Result<()> {
        self.layers.text_keys(text, out)
    }

    /// (b, c, h, w) → the same.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward<'a>(
        &self,
        hidden: &Tensor,
        time: &Tensor,
        text: &mut impl Iterator<Item = &'a TextKeys>,
    ) -> Result<Tensor> {
        let hidden = self.layers.forward(0, hidden, time, text)?;
        match &self.last {
            Some(resnet) => resnet.forward(&hidden, Some(time)),
            None => Ok(hidden),
        }
    }
}

/// Layers that take the down blocks' outputs back in, then twice the resolution.
pub struct UpBlock {
    ops: Ops,
    layers: Layers,
    upsampler: Option<Conv2d>,
}

impl UpBlock {
    /// Reads a block that takes `previous` channels from below and the channels of `skips`, the
    /// last first, from the side.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn load(
        weights: &Weights,
        previous: usize,
        skips: &[usize],
        block: &BlockConfig,
        upsample: bool,
        unet: &UnetConfig,
    ) -> std::result::Result<Self, EngineError> {
        let channels = block.channels;
        let inputs: Vec<usize> = skips
            .iter()
            .enumerate()
            .map(|(at, skip)| skip + if at == 0 { previous } else { channels })
            .collect();
        Ok(Self {
            ops: weights.ops().clone(),
            layers: Layers::load(
                weights,
                &inputs,
                channels,
                block.attention.as_ref(),
                &resnet_style(unet),
                unet,
            )?,
            upsampler: upsample
                .then(|| Conv2d::load(&weights.at("upsamplers.0.conv"), channels, channels, 3))
                .transpose()?,
        })
    }

    /// See [`Transformer::text_keys`].
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn text_keys(&self, text: &Tensor, out: &mut Vec<TextKeys>) -> Result<()> {
        self.layers.text_keys(text, out)
    }

    /// Takes as many tensors off `skips` as there are layers. The result has the size of the next
    /// skip, which for odd sizes is not twice the current one.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward<'a>(
        &self,
        mut hidden: Tensor,
        time: &Tensor,
        text: &mut impl Iterator<Item = &'a TextKeys>,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for at in 0..self.layers.resnets.len() {
            let Some(skip) = skips.pop() else {
                candle_core::bail!("an up block found no output of the down blocks to take");
            };
            hidden = self.ops.cat(&[&hidden, &skip], 1)?;
            hidden = self.layers.forward(at, &hidden, time, text)?;
        }
        if let Some(upsampler) = &self.upsampler {
            let (_, _, height, width) = hidden.dims4()?;
            let (height, width) = match skips.last() {
                Some(skip) => (skip.dim(2)?, skip.dim(3)?),
                None => (2 * height, 2 * width),
            };
            let larger = self.ops.upsample_nearest(&hidden, height, width)?;
            hidden = upsampler.forward(&larger)?;
        }
        Ok(hidden)
    }
}
