//! From latents to pixels.

use candle_core::{Result, Tensor};

use super::attention::{EPS, MidBlock, resnet_style};
use super::config::VaeConfig;
use super::encoder::VaeEncoder;
use super::tiling::{Tiles, in_tiles};
use crate::nn::{Activation, Conv2d, GroupNorm, Ops};
use crate::unet::ResnetBlock;
use crate::weights::{Residency, Weights};
use crate::{EngineError, faults};

/// The decoding half of an autoencoder.
pub struct VaeDecoder {
    ops: Ops,
    config: VaeConfig,
    residency: Residency,
    post_quant_conv: Option<Conv2d>,
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

struct UpBlock {
    resnets: Vec<ResnetBlock>,
    upsampler: Option<Conv2d>,
}

impl VaeDecoder {
    /// Reads the decoder that `config` describes. The encoder's tensors are accounted for, but not
    /// read.
    ///
    /// # Errors
    /// If its tensors cannot be read.
    pub fn load(weights: &Weights, config: &VaeConfig) -> std::result::Result<Self, EngineError> {
        if weights.is_checking() {
            VaeEncoder::load(weights, config)?;
        }
        let latent = config.latent_channels;
        let channels: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let style = resnet_style(config);
        let decoder = weights.at("decoder");
        let mut up_blocks = Vec::with_capacity(channels.len());
        let mut inputs = channels[0];
        for (at, &outputs) in channels.iter().enumerate() {
            let weights = decoder.at("up_blocks").at(at);
            let resnets = (0..=config.layers_per_block)
                .map(|layer| {
                    let inputs = if layer == 0 { inputs } else { outputs };
                    ResnetBlock::load(&weights.at("resnets").at(layer), inputs, outputs, &style)
                })
                .collect::<std::result::Result<_, _>>()?;
            let upsampler = (at + 1 < channels.len())
                .then(|| Conv2d::load(&weights.at("upsamplers.0.conv"), outputs, outputs, 3))
                .transpose()?;
            up_blocks.push(UpBlock { resnets, upsampler });
            inputs = outputs;
        }
        Ok(Self {
            post_quant_conv: config
                .use_post_quant_conv
                .then(|| Conv2d::load(&weights.at("post_quant_conv"), latent, latent, 1))
                .transpose()?,
            conv_in: Conv2d::load(&decoder.at("conv_in"), latent, channels[0], 3)?,
            mid_block: MidBlock::load(&decoder.at("mid_block"), config)?,
            up_blocks,
            conv_norm_out: GroupNorm::load(
                &decoder.at("conv_norm_out"),
                inputs,
                config.norm_num_groups,
                EPS,
            )?,
            conv_out: Conv2d::load(&decoder.at("conv_out"), inputs, 3, 3)?,
            residency: weights.residency(),
            ops: weights.ops().clone(),
            config: config.clone(),
        })
    }

    /// Copies the weights to the device, where it holds the whole model: also those of the encoder
    /// that was loaded with it.
    ///
    /// # Errors
    /// If the device has no room for them.
    pub fn fill(&self) -> Result<()> {
        self.residency.fill()
    }

    /// What computes it.
    pub fn ops(&self) -> &Ops {
        &self.ops
    }

    /// Gives the weights' memory back until they are needed again: also that of the encoder that was
    /// loaded with it.
    pub fn release(&self) {
        self.residency.release();
    }

    /// The architecture.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Latents as the UNet knows them (b, c, h, w) → pixels about −1…1 (b, 3, h·f, w·f), f being
    /// the scale factor.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn decode_scaled(&self, latents: &Tensor) -> Result<Tensor> {
        self.decode(&self.unscaled(latents)?)
    }

    /// Latents as the UNet knows them → as the decoder does.
    fn unscaled(&self, latents: &Tensor) -> Result<Tensor> {
        let scaling_factor = self.config.scaling_factor;
        match &self.config.latents_mean_std {
            Some((mean, std)) => {
                let shape = (1, mean.len(), 1, 1);
                let mean = Tensor::from_slice(mean, shape, latents.device())?;
                let std = Tensor::from_slice(std, shape, latents.device())?;
                (latents.broadcast_mul(&std)? / scaling_factor)?.broadcast_add(&mean)
            }
            None => latents / scaling_factor,
        }
    }

    /// As [`VaeDecoder::decode_scaled`], in tiles of `side` latent pixels (see
    /// [`super::tile_side`]) if there is more than one of them.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn decode_scaled_in_tiles(&self, latents: &Tensor, side: Option<usize>) -> Result<Tensor> {
        let (_, _, height, width) = latents.dims4()?;
        let tiles = side.map(|side| Tiles::to_decode(side, &self.config));
        match tiles.filter(|tiles| tiles.divide(height, width)) {
            Some(tiles) => in_tiles(&self.unscaled(latents)?, tiles, |tile| {
                faults::pass_on(self.ops.id(), "decoding tile")?;
                self.decode(tile)
            }),
            None => {
                faults::pass_on(self.ops.id(), "decoding whole")?;
                self.decode_scaled(latents)
            }
        }
    }

    /// Latents (b, c, h, w) → pixels about −1…1 (b, 3, h·f, w·f).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let latents = self.ops.take(latents)?;
        let latents = match &self.post_quant_conv {
            Some(conv) => conv.forward(&latents)?,
            None => latents,
        };
        let mut hidden = self.mid_block.forward(&self.conv_in.forward(&latents)?)?;
        for block in &self.up_blocks {
            for resnet in &block.resnets {
                hidden = resnet.forward(&hidden, None)?;
            }
            if let Some(upsampler) = &block.upsampler {
                let (_, _, height, width) = hidden.dims4()?;
                let larger = self.ops.upsample_nearest(&hidden, 2 * height, 2 * width)?;
                hidden = upsampler.forward(&larger)?;
            }
        }
        // diffusers fixes this activation, whatever `act_fn` says.
        let hidden = self
            .conv_norm_out
            .forward(&hidden, Some(Activation::SILU))?;
        faults::operation(self.ops.id(), "pixels", || {
            self.ops.give(&self.conv_out.forward(&hidden)?)
        })
    }
}
