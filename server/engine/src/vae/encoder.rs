//! The encoding half of an autoencoder, which text-to-image does not run: only its tensors are
//! accounted for, so that a damaged or foreign file is noticed.

use super::attention::{EPS, MidBlock, resnet_style};
use super::config::VaeConfig;
use crate::EngineError;
use crate::nn::{Conv2d, GroupNorm};
use crate::unet::ResnetBlock;
use crate::weights::Weights;

/// Asks for every tensor of the encoder that `config` describes.
///
/// # Errors
/// If `config` contradicts itself.
pub fn account_for(weights: &Weights, config: &VaeConfig) -> Result<(), EngineError> {
    let style = resnet_style(config);
    let encoder = weights.at("encoder");
    let channels = &config.block_out_channels;
    Conv2d::load(&encoder.at("conv_in"), 3, channels[0], 3)?;
    let mut inputs = channels[0];
    for (at, &outputs) in channels.iter().enumerate() {
        let weights = encoder.at("down_blocks").at(at);
        for layer in 0..config.layers_per_block {
            let inputs = if layer == 0 { inputs } else { outputs };
            ResnetBlock::load(&weights.at("resnets").at(layer), inputs, outputs, &style)?;
        }
        if at + 1 < channels.len() {
            Conv2d::load(&weights.at("downsamplers.0.conv"), outputs, outputs, 3)?;
        }
        inputs = outputs;
    }
    MidBlock::load(&encoder.at("mid_block"), config)?;
    GroupNorm::load(
        &encoder.at("conv_norm_out"),
        inputs,
        config.norm_num_groups,
        EPS,
    )?;
    let latent = 2 * config.latent_channels;
    Conv2d::load(&encoder.at("conv_out"), inputs, latent, 3)?;
    if config.use_quant_conv {
        Conv2d::load(&weights.at("quant_conv"), latent, latent, 1)?;
    }
    Ok(())
}
