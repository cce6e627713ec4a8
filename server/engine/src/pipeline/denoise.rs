//! One stage of denoising: a model takes the noise away step by step.

use std::time::Instant;

use candle_core::{Device, Tensor};

use super::generate::Observer;
use super::plan::Stage;
use super::preview::Previewer;
use super::{Expert, Phase, PromptEmbeds, PromptOptions};
use crate::image::all_finite;
use crate::nn::text_adapters_key;
use crate::rng::TorchGenerator;
use crate::unet::Conditioning;
use crate::{EngineError, GenerateRequest};

/// What keeps inpainting to its place.
pub(super) enum Painting {
    /// The UNet sees mask and masked image as further channels.
    Seen {
        /// The mask and the masked image's latents: (1 + channels) · h · w.
        channels: Vec<f32>,
    },
    /// After each step, what is not painted is set back to the image with the noise of that step.
    Held {
        /// Whether each latent pixel is painted: h · w.
        mask: Vec<bool>,
        /// The image's latents.
        original: Vec<f32>,
        /// The noise that is added to them.
        noise: Vec<f32>,
    },
}

/// Whether a model is run twice per step, with and without the prompt. Models that take the
/// guidance scale as an input are run once.
fn is_guided(expert: &Expert<'_>, request: &GenerateRequest) -> bool {
    request.guidance_scale > 1.0 && expert.unet.config().time_cond_proj_dim.is_none()
}

/// Encodes the prompts for one model and joins them with the sizes.
///
/// # Errors
/// If a prompt cannot be encoded.
pub(super) fn conditioning(
    expert: &Expert<'_>,
    request: &GenerateRequest,
) -> Result<(Conditioning, PromptEmbeds), EngineError> {
    // (1 or 2, chunks · 77, width) and (1 or 2, projection_dim)
    let guided = is_guided(expert, request);
    let negative_prompt = guided.then_some(request.negative_prompt.as_deref());
    let options = PromptOptions {
        syntax: request.prompt_syntax,
        clip_skip: request.clip_skip as usize,
        lora_key: text_adapters_key(),
    };
    let encoders = expert.text_encoders;
    let prompts = encoders.encode(&request.prompt, negative_prompt, &options)?;
    // Original size, crop, and target size or aesthetic score; sizes as height and width.
    let (height, width) = (request.height as f32, request.width as f32);
    let row = |score: f64| {
        let mut row = vec![height, width, 0.0, 0.0];
        if expert.folder.takes_aesthetic_score {
            row.push(score as f32);
        } else {
            row.extend([height, width]);
        }
        row
    };
    let mut time_ids = vec![row(request.aesthetic_score)];
    if guided {
        time_ids.insert(0, row(request.negative_aesthetic_score));
    }
    let conditioning = expert.unet.condition(
        &prompts.prompt_embeds,
        &prompts.pooled_prompt_embeds,
        &time_ids,
        request.guidance_scale,
    )?;
    // The text's keys and values are all that these weights are for.
    expert.unet.end_turn();
    Ok((conditioning, prompts))
}

/// Everything that does not change during a stage.
pub(super) struct Denoiser<'a, 'b> {
    pub stage: &'a mut Stage<'b>,
    pub conditioning: &'a Conditioning,
    pub painting: Option<Painting>,
    /// Channels, rows and columns of the latents.
    pub shape: (usize, usize, usize),
    pub request: &'a GenerateRequest,
    pub previewer: Option<&'a mut Previewer<'b>>,
}

impl Denoiser<'_, '_> {
    /// Runs the stage's steps on `latents` and answers what they became.
    ///
    /// # Errors
    /// [`EngineError::NonFinite`] if they overflow, [`EngineError::Cancelled`] if that is wished.
    pub fn run(
        &mut self,
        mut latents: Vec<f32>,
        generator: &mut TorchGenerator,
        observer: &mut Observer<'_>,
        step_s: &mut Vec<f64>,
    ) -> Result<Vec<f32>, EngineError> {
        let (_, rows, columns) = self.shape;
        for index in self.stage.steps.clone() {
            let started = Instant::now();
            observer.begin_step()?;
            let noise = self.predict(index, &latents)?;
            // Step to less noise.
            let scheduler = &mut self.stage.scheduler;
            scheduler.step(index, &noise, &mut latents, generator);
            self.hold(index, &mut latents);
            if !all_finite(&latents) {
                return Err(EngineError::NonFinite {
                    phase: Phase::Denoising,
                });
            }
            let took = started.elapsed();
            step_s.push(took.as_secs_f64());
            let preview = self.previewer.as_mut().and_then(|previewer| {
                let clean = self.stage.scheduler.predicted_original();
                previewer.after_step(took, clean.unwrap_or(&latents), rows, columns)
            });
            observer.step(preview.as_ref())?;
        }
        Ok(latents)
    }

    /// The noise that the model sees in the latents, guided.
    fn predict(&self, index: usize, latents: &[f32]) -> Result<Vec<f32>, EngineError> {
        let expert = &self.stage.expert;
        let guided = is_guided(expert, self.request);
        let batch = if guided { 2 } else { 1 };
        // 1. Scale the sample and add what an inpainting model sees; the same for both halves.
        let mut input = latents.to_vec();
        self.stage.scheduler.scale_model_input(index, &mut input);
        let (mut channels, rows, columns) = self.shape;
        if let Some(Painting::Seen { channels: seen }) = &self.painting {
            input.extend_from_slice(seen);
            channels += seen.len() / (rows * columns);
        }
        let input = tensor(input.repeat(batch), batch, (channels, rows, columns))?;
        // 2. Predict the noise.
        let timestep = self.stage.scheduler.timesteps()[index];
        let noise = expert.unet.forward(&input, timestep, self.conditioning)?;
        let noise = noise.flatten_all()?.to_vec1::<f32>()?;
        if !guided {
            return Ok(noise);
        }
        // 3. Guide: away from the negative prompt, towards the prompt.
        let (uncond, text) = noise.split_at(latents.len());
        let guided = guide(uncond, text, self.request.guidance_scale as f32);
        let rescale = self.request.guidance_rescale;
        Ok(if rescale > 0.0 {
            rescaled(guided, text, rescale)
        } else {
            guided
        })
    }

    /// Sets what is not painted back to the image, with the noise that the next step expects.
    fn hold(&self, index: usize, latents: &mut [f32]) {
        let Some(Painting::Held {
            mask,
            original,
            noise,
        }) = &self.painting
        else {
            return;
        };
        let next = index + 1;
        let noised;
        let original = if next < self.stage.steps.end {
            noised = self.stage.scheduler.add_noise(next, original, noise);
            &noised
        } else {
            original
        };
        for (latents, original) in latents
            .chunks_mut(mask.len())
            .zip(original.chunks(mask.len()))
        {
            for ((latent, original), painted) in latents.iter_mut().zip(original).zip(mask) {
                if !painted {
                    *latent = *original;
                }
            }
        }
    }
}

/// Latents, once for each of a batch: (batch, channels, rows, columns).
///
/// # Errors
/// If they are not as many as the shape asks for.
pub(super) fn tensor(
    latents: Vec<f32>,
    batch: usize,
    (channels, rows, columns): (usize, usize, usize),
) -> candle_core::Result<Tensor> {
    Tensor::from_vec(latents, (batch, channels, rows, columns), &Device::Cpu)
}

/// Classifier-free guidance (arXiv:2207.12598).
fn guide(uncond: &[f32], text: &[f32], scale: f32) -> Vec<f32> {
    uncond
        .iter()
        .zip(text)
        .map(|(uncond, text)| uncond + scale * (text - uncond))
        .collect()
}

/// Brings guided noise back to the spread of unguided noise, by a share of `rescale`
/// (arXiv:2305.08891, §3.4).
fn rescaled(mut guided: Vec<f32>, text: &[f32], rescale: f64) -> Vec<f32> {
    let ratio = standard_deviation(text) / standard_deviation(&guided);
    let (share, rest) = (rescale as f32, (1.0 - rescale) as f32);
    for value in &mut guided {
        *value = share * (*value * ratio) + rest * *value;
    }
    guided
}

/// With n − 1, as torch's `std`.
fn standard_deviation(values: &[f32]) -> f32 {
    let count = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let squares: f64 = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
    (squares / (count - 1.0)).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rescaling_restores_the_spread() {
        let text: Vec<f32> = (0..100).map(|i| (i as f32 * 0.7).sin()).collect();
        let wide: Vec<f32> = text.iter().map(|x| x * 3.0).collect();
        let full = rescaled(wide.clone(), &text, 1.0);
        for (got, want) in full.iter().zip(&text) {
            assert!((got - want).abs() < 1e-5);
        }
        let half = rescaled(wide.clone(), &text, 0.5);
        assert!((half[1] - 2.0 * text[1]).abs() < 1e-5);
        assert!((standard_deviation(&[1.0, 2.0, 3.0, 4.0]) - 1.290_994_4).abs() < 1e-6);
    }
}
