//! From pixels to latents.

use candle_core::{Result, Tensor};

use super::attention::{EPS, MidBlock, resnet_style};
use super::config::VaeConfig;
use super::tiling::{Tiles, in_tiles};
use crate::EngineError;
use crate::cpu::ConvGeometry;
use crate::nn::{Activation, Conv2d, GroupNorm, Ops};
use crate::rng::TorchGenerator;
use crate::unet::ResnetBlock;
use crate::weights::{Residency, Weights};

/// The encoding half of an autoencoder.
pub struct VaeEncoder {
    ops: Ops,
    residency: Residency,
    config: VaeConfig,
    conv_in: Conv2d,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    quant_conv: Option<Conv2d>,
}

struct DownBlock {
    resnets: Vec<ResnetBlock>,
    downsampler: Option<Conv2d>,
}

/// Halves the size; diffusers pads below and to the right only.
const DOWNSAMPLE: ConvGeometry = ConvGeometry {
    stride: 2,
    pad_before: 0,
    pad_after: 1,
};

impl VaeEncoder {
    /// Reads the encoder that `config` describes.
    ///
    /// # Errors
    /// If its tensors cannot be read.
    pub fn load(weights: &Weights, config: &VaeConfig) -> std::result::Result<Self, EngineError> {
        let style = resnet_style(config);
        let encoder = weights.at("encoder");
        let channels = &config.block_out_channels;
        let mut down_blocks = Vec::with_capacity(channels.len());
        let mut inputs = channels[0];
        for (at, &outputs) in channels.iter().enumerate() {
            let weights = encoder.at("down_blocks").at(at);
            let resnets = (0..config.layers_per_block)
                .map(|layer| {
                    let inputs = if layer == 0 { inputs } else { outputs };
                    ResnetBlock::load(&weights.at("resnets").at(layer), inputs, outputs, &style)
                })
                .collect::<std::result::Result<_, _>>()?;
            let downsampler = (at + 1 < channels.len())
                .then(|| {
                    let weights = weights.at("downsamplers.0.conv");
                    Conv2d::load_with(&weights, outputs, outputs, 3, DOWNSAMPLE)
                })
                .transpose()?;
            down_blocks.push(DownBlock {
                resnets,
                downsampler,
            });
            inputs = outputs;
        }
        let moments = 2 * config.latent_channels;
        Ok(Self {
            conv_in: Conv2d::load(&encoder.at("conv_in"), 3, channels[0], 3)?,
            down_blocks,
            mid_block: MidBlock::load(&encoder.at("mid_block"), config)?,
            conv_norm_out: GroupNorm::load(
                &encoder.at("conv_norm_out"),
                inputs,
                config.norm_num_groups,
                EPS,
            )?,
            conv_out: Conv2d::load(&encoder.at("conv_out"), inputs, moments, 3)?,
            quant_conv: config
                .use_quant_conv
                .then(|| Conv2d::load(&weights.at("quant_conv"), moments, moments, 1))
                .transpose()?,
            residency: weights.residency(),
            ops: weights.ops().clone(),
            config: config.clone(),
        })
    }

    /// What computes it.
    pub fn ops(&self) -> &Ops {
        &self.ops
    }

    /// Gives the weights' memory back until they are needed again.
    pub fn release(&self) {
        self.residency.release();
    }

    /// The architecture.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Pixels of −1…1 (b, 3, h, w) → means and log variances (b, 2·c, h/f, w/f) of the latents.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn encode(&self, pixels: &Tensor) -> Result<Tensor> {
        let mut hidden = self.conv_in.forward(&self.ops.take(pixels)?)?;
        for block in &self.down_blocks {
            for resnet in &block.resnets {
                hidden = resnet.forward(&hidden, None)?;
            }
            if let Some(downsampler) = &block.downsampler {
                hidden = downsampler.forward(&hidden)?;
            }
        }
        let hidden = self.mid_block.forward(&hidden)?;
        // diffusers fixes this activation, whatever `act_fn` says.
        let hidden = self
            .conv_norm_out
            .forward(&hidden, Some(Activation::SILU))?;
        let moments = self.conv_out.forward(&hidden)?;
        let moments = match &self.quant_conv {
            Some(conv) => conv.forward(&moments)?,
            None => moments,
        };
        self.ops.give(&moments)
    }

    /// As [`VaeEncoder::encode`], in tiles of `side` latent pixels (see [`super::tile_side`]) if
    /// there is more than one of them.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn encode_in_tiles(&self, pixels: &Tensor, side: Option<usize>) -> Result<Tensor> {
        let (_, _, height, width) = pixels.dims4()?;
        let tiles = side.map(|side| Tiles::to_encode(side, &self.config));
        match tiles.filter(|tiles| tiles.divide(height, width)) {
            Some(tiles) => in_tiles(pixels, tiles, |tile| self.encode(tile)),
            None => self.encode(pixels),
        }
    }

    /// Pixels of −1…1 (1, 3, h, w) → one sample of their latents, c · h/f · w/f numbers, not yet
    /// scaled for the UNet, in tiles as by [`VaeEncoder::encode_in_tiles`]. Its noise is the
    /// generator's next.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn sample(
        &self,
        pixels: &Tensor,
        side: Option<usize>,
        generator: &mut TorchGenerator,
    ) -> Result<Vec<f32>> {
        let moments = self
            .encode_in_tiles(pixels, side)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let (means, log_variances) = moments.split_at(moments.len() / 2);
        let noise = generator.randn(means.len());
        Ok(means
            .iter()
            .zip(log_variances)
            .zip(noise)
            .map(|((mean, log_variance), noise)| {
                mean + (0.5 * log_variance.clamp(-30.0, 20.0)).exp() * noise
            })
            .collect())
    }
}
