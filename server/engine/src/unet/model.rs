//! The whole UNet.

use candle_core::{Result, Tensor};

use super::blocks::{DownBlock, MidBlock, UpBlock};
use super::config::UnetConfig;
use super::embeddings::{TimestepEmbedding, guidance_scale_embedding, sinusoidal_embedding};
use super::transformer::TextKeys;
use crate::EngineError;
use crate::nn::{Conv2d, GroupNorm, Linear, Ops};
use crate::weights::{Residency, Weights};

/// The UNet of an SDXL model.
pub struct Unet {
    ops: Ops,
    config: UnetConfig,
    residency: Residency,
    conv_in: Conv2d,
    time_embedding: TimestepEmbedding,
    add_embedding: TimestepEmbedding,
    encoder_hid_proj: Option<Linear>,
    down_blocks: Vec<DownBlock>,
    mid_block: Option<MidBlock>,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

/// What stays the same over all steps of a generation, made ready for one UNet.
pub struct Conditioning {
    /// Pooled text and sizes: (b, `time_embed_dim`).
    added: Tensor,
    /// Embedding of the guidance scale: (1, `time_cond_proj_dim`).
    guidance: Option<Tensor>,
    /// Keys and values of the text, in the order in which the blocks take them.
    text: Vec<TextKeys>,
    batch: usize,
}

impl Unet {
    /// Reads the UNet that `config` describes.
    ///
    /// # Errors
    /// If its tensors cannot be read.
    pub fn load(weights: &Weights, config: &UnetConfig) -> std::result::Result<Self, EngineError> {
        let activation = config.activation;
        let time_dim = config.time_embed_dim;
        let count = config.down_blocks.len();
        let first = config.down_blocks[0].channels;

        let mut down_blocks = Vec::with_capacity(count);
        // Channels of everything the down blocks hand to the side.
        let mut skips = vec![first];
        let mut channels = first;
        for (at, block) in config.down_blocks.iter().enumerate() {
            let downsample = at + 1 < count;
            let weights = weights.at("down_blocks").at(at);
            down_blocks.push(DownBlock::load(
                &weights, channels, block, downsample, config,
            )?);
            channels = block.channels;
            skips.extend(vec![channels; block.layers + usize::from(downsample)]);
        }
        let mid_block = config
            .mid_block
            .as_ref()
            .map(|block| MidBlock::load(&weights.at("mid_block"), channels, block, config))
            .transpose()?;
        let mut up_blocks = Vec::with_capacity(count);
        for (at, block) in config.up_blocks.iter().enumerate() {
            let taken: Vec<usize> = (0..block.layers).filter_map(|_| skips.pop()).collect();
            let weights = weights.at("up_blocks").at(at);
            up_blocks.push(UpBlock::load(
                &weights,
                channels,
                &taken,
                block,
                at + 1 < count,
                config,
            )?);
            channels = block.channels;
        }

        Ok(Self {
            conv_in: Conv2d::load(
                &weights.at("conv_in").in_full(),
                config.in_channels,
                first,
                config.conv_in_kernel,
            )?,
            time_embedding: TimestepEmbedding::load(
                &weights.at("time_embedding").in_full(),
                first,
                time_dim,
                activation,
                config.timestep_post_activation,
                config.time_cond_proj_dim,
            )?,
            add_embedding: TimestepEmbedding::load(
                &weights.at("add_embedding").in_full(),
                config.projection_class_embeddings_input_dim,
                time_dim,
                // diffusers leaves this one at its default, whatever `act_fn` says.
                crate::nn::Activation::SILU,
                None,
                None,
            )?,
            encoder_hid_proj: config
                .encoder_hid_dim
                .map(|dim| {
                    let weights = weights.at("encoder_hid_proj");
                    Linear::load(&weights, dim, config.cross_attention_dim)
                })
                .transpose()?,
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out: GroupNorm::load(
                &weights.at("conv_norm_out"),
                first,
                config.norm_num_groups,
                config.norm_eps,
            )?,
            conv_out: Conv2d::load(
                &weights.at("conv_out").in_full(),
                first,
                config.out_channels,
                config.conv_out_kernel,
            )?,
            residency: weights.residency(),
            ops: weights.ops().clone(),
            config: config.clone(),
        })
    }

    /// Copies the weights to the device, where it holds the whole model.
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

    /// Gives the device's memory back where components have it in turn.
    pub fn end_turn(&self) {
        self.residency.end_turn();
    }

    /// Gives the weights' memory back until they are needed again.
    pub fn release(&self) {
        self.residency.release();
    }

    /// The architecture.
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// Prepares what does not change from step to step.
    ///
    /// * `prompt_embeds` (b, tokens, width): the text.
    /// * `pooled` (b, `projection_dim`): the text in one vector.
    /// * `time_ids`: one row for each of the batch. Base: original height and width, crop top and
    ///   left, target height and width. Refiner: the aesthetic score in place of the target.
    /// * `guidance_scale`: for models distilled to take it; others ignore it.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn condition(
        &self,
        prompt_embeds: &Tensor,
        pooled: &Tensor,
        time_ids: &[Vec<f32>],
        guidance_scale: f64,
    ) -> Result<Conditioning> {
        let (batch, _, _) = prompt_embeds.dims3()?;
        // Sizes: 6 (5) numbers each → (b·6, dim) → (b, 6·dim), beside the pooled text.
        let sizes = sinusoidal_embedding(
            &time_ids.concat(),
            self.config.addition_time_embed_dim,
            self.config.flip_sin_to_cos,
            self.config.freq_shift,
        )?
        .reshape((batch, ()))?;
        let added = self.ops.take(&Tensor::cat(&[pooled, &sizes], 1)?)?;
        let added = self.add_embedding.forward(&added, None)?;
        let guidance = self
            .config
            .time_cond_proj_dim
            .map(|dim| {
                self.ops
                    .take(&guidance_scale_embedding(guidance_scale, dim)?)
            })
            .transpose()?;
        let prompt_embeds = self.ops.take(prompt_embeds)?;
        let context = match &self.encoder_hid_proj {
            Some(projection) => projection.forward(&prompt_embeds)?,
            None => prompt_embeds,
        };
        let mut text = Vec::new();
        for block in &self.down_blocks {
            block.text_keys(&context, &mut text)?;
        }
        if let Some(block) = &self.mid_block {
            block.text_keys(&context, &mut text)?;
        }
        for block in &self.up_blocks {
            block.text_keys(&context, &mut text)?;
        }
        Ok(Conditioning {
            added,
            guidance,
            text,
            batch,
        })
    }

    /// Predicts the noise in `sample` (b, `in_channels`, h, w) at `timestep`, which may be
    /// fractional: (b, `out_channels`, h, w).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(
        &self,
        sample: &Tensor,
        timestep: f32,
        conditioning: &Conditioning,
    ) -> Result<Tensor> {
        self.forward_observed(sample, timestep, conditioning, &mut |_, _| {})
    }

    /// As [`Unet::forward`]; `observe` sees what each part gives, by diffusers' name of the part.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward_observed(
        &self,
        sample: &Tensor,
        timestep: f32,
        conditioning: &Conditioning,
        observe: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        if sample.dim(0)? != conditioning.batch {
            candle_core::bail!("sample and conditioning differ in batch");
        }
        // 0. Onto the device; centre.
        let mut sample = self.ops.take(sample)?;
        if self.config.center_input_sample {
            sample = self.ops.affine(&sample, 2.0, -1.0)?;
        }

        // 1. Time, plus the added conditioning: (b, time_embed_dim).
        let time = sinusoidal_embedding(
            &[timestep],
            self.config.down_blocks[0].channels,
            self.config.flip_sin_to_cos,
            self.config.freq_shift,
        )?;
        let time = self
            .time_embedding
            .forward(&self.ops.take(&time)?, conditioning.guidance.as_ref())?;
        observe("time_embedding", &time);
        observe("add_embedding", &conditioning.added);
        let mut time = conditioning.added.broadcast_add(&time)?;
        if let Some(activation) = self.config.time_embedding_activation {
            time = activation.forward(&self.ops, &time)?;
        }
        // Every resnet applies its activation to the same embedding: do it once.
        let time = self.config.activation.forward(&self.ops, &time)?;

        // 2. In: (b, 4, h, w) → (b, c, h, w).
        let mut hidden = self.conv_in.forward(&sample)?;
        observe("conv_in", &hidden);

        // 3. Down, keeping each output.
        let mut text = conditioning.text.iter();
        let mut skips = vec![hidden.clone()];
        for (at, block) in self.down_blocks.iter().enumerate() {
            hidden = block.forward(hidden, &time, &mut text, &mut skips)?;
            observe(&format!("down_blocks.{at}"), &hidden);
        }
        // 4. Middle.
        if let Some(block) = &self.mid_block {
            hidden = block.forward(&hidden, &time, &mut text)?;
            observe("mid_block", &hidden);
        }
        // 5. Up, taking them back.
        for (at, block) in self.up_blocks.iter().enumerate() {
            hidden = block.forward(hidden, &time, &mut text, &mut skips)?;
            observe(&format!("up_blocks.{at}"), &hidden);
        }
        // 6. Out: (b, c, h, w) → (b, 4, h, w), on the host again.
        let hidden = self
            .conv_norm_out
            .forward(&hidden, Some(self.config.activation))?;
        self.ops.give(&self.conv_out.forward(&hidden)?)
    }
}
