//! Text to image, after diffusers' `StableDiffusionXLPipeline`: the steps of SDXL
//! (arXiv:2307.01952) from top to bottom.

use std::time::Instant;

use ::image::RgbImage;
use candle_core::{Device, Tensor};

use super::preview::Previewer;
use super::{Control, Generation, Phase, Pipeline, Progress, PromptOptions, Timings};
use crate::image::{all_finite, to_rgb};
use crate::nn::text_adapters_key;
use crate::rng::TorchGenerator;
use crate::{EngineError, GenerateRequest};

/// The observer, and what it is told.
struct Observer<'a> {
    observe: &'a mut dyn FnMut(&Progress<'_>) -> Control,
    started: Instant,
    steps: u32,
}

impl Observer<'_> {
    fn tell(
        &mut self,
        phase: Phase,
        step: u32,
        preview: Option<&RgbImage>,
    ) -> Result<(), EngineError> {
        let progress = Progress {
            phase,
            step,
            steps: self.steps,
            elapsed: self.started.elapsed(),
            preview,
        };
        match (self.observe)(&progress) {
            Control::Continue => Ok(()),
            Control::Cancel => Err(EngineError::Cancelled),
        }
    }
}

pub(super) fn generate(
    pipeline: &Pipeline,
    request: &GenerateRequest,
    observe: &mut dyn FnMut(&Progress<'_>) -> Control,
) -> Result<Generation, EngineError> {
    let started = Instant::now();
    let mut timings = Timings::default();

    // 0. Check the request.
    request.validate(&pipeline.description)?;
    let unet = &pipeline.unet;
    let guidance_scale = request.guidance_scale;
    // Models that take the guidance scale as an input are run once per step.
    let guided = guidance_scale > 1.0 && unet.config().time_cond_proj_dim.is_none();
    let scheduler_config = pipeline
        .folder
        .scheduler_named(request.scheduler.as_deref())?;

    // 1. Set out the timesteps.
    let mut scheduler = scheduler_config.schedule(request.num_inference_steps as usize)?;
    let timesteps = scheduler.timesteps().to_vec();
    let mut observer = Observer {
        observe,
        started,
        steps: u32::try_from(timesteps.len()).unwrap_or(u32::MAX),
    };

    // 2. Encode the prompts: (1 or 2, chunks · 77, width) and (1 or 2, projection_dim).
    observer.tell(Phase::TextEncoding, 0, None)?;
    let negative_prompt = guided.then_some(request.negative_prompt.as_deref());
    let options = PromptOptions {
        syntax: request.prompt_syntax,
        clip_skip: request.clip_skip as usize,
        lora_key: text_adapters_key(),
    };
    let prompts = pipeline.encode_prompts(&request.prompt, negative_prompt, &options)?;
    for embeds in [&prompts.prompt_embeds, &prompts.pooled_prompt_embeds] {
        check_finite(embeds, Phase::TextEncoding)?;
    }

    // 3. Join them with the sizes: original, crop, target, each as height and width.
    let (height, width) = (request.height as f32, request.width as f32);
    let conditioning = unet.condition(
        &prompts.prompt_embeds,
        &prompts.pooled_prompt_embeds,
        [height, width, 0.0, 0.0, height, width],
        guidance_scale,
    )?;
    timings.text_encoding_s = started.elapsed().as_secs_f64();

    // 4. Draw the initial noise: (1, channels, h / f, w / f).
    let denoising = Instant::now();
    observer.tell(Phase::Denoising, 0, None)?;
    let factor = pipeline.vae.config().scale_factor();
    let channels = unet.config().in_channels;
    let (rows, columns) = (
        request.height as usize / factor,
        request.width as usize / factor,
    );
    let mut generator = TorchGenerator::new(request.seed);
    let mut latents = generator.randn(channels * rows * columns);
    for value in &mut latents {
        *value *= scheduler.init_noise_sigma();
    }
    let mut previewer = if request.previews {
        Some(Previewer::new(
            pipeline.latent_to_rgb()?,
            pipeline.tiny_decoder(),
        ))
    } else {
        None
    };

    // 5. Denoise.
    for (index, &timestep) in timesteps.iter().enumerate() {
        let step_started = Instant::now();
        // 5.1 Scale the sample; with guidance, once for each half.
        let mut input = latents.clone();
        scheduler.scale_model_input(index, &mut input);
        let batch = if guided { 2 } else { 1 };
        let input = input.repeat(batch);
        let input = Tensor::from_vec(input, (batch, channels, rows, columns), &Device::Cpu)?;
        // 5.2 Predict the noise.
        let noise = unet.forward(&input, timestep, &conditioning)?;
        let noise = noise.flatten_all()?.to_vec1::<f32>()?;
        // 5.3 Guide: away from the negative prompt, towards the prompt.
        let noise = if guided {
            let (uncond, text) = noise.split_at(latents.len());
            guide(uncond, text, guidance_scale as f32)
        } else {
            noise
        };
        // 5.4 Step to less noise.
        scheduler.step(index, &noise, &mut latents, &mut generator);
        if !all_finite(&latents) {
            return Err(EngineError::NonFinite {
                phase: Phase::Denoising,
            });
        }
        let took = step_started.elapsed();
        timings.step_s.push(took.as_secs_f64());
        let preview = previewer.as_mut().and_then(|previewer| {
            let clean = scheduler.predicted_original().unwrap_or(&latents);
            previewer.after_step(took, clean, rows, columns)
        });
        let done = u32::try_from(index + 1).unwrap_or(u32::MAX);
        observer.tell(Phase::Denoising, done, preview.as_ref())?;
    }
    timings.denoising_s = denoising.elapsed().as_secs_f64();

    // 6. Decode: (1, channels, h / f, w / f) → (1, 3, h, w) → pixels.
    let decoding = Instant::now();
    observer.tell(Phase::Decoding, observer.steps, None)?;
    let latents = Tensor::from_vec(latents, (1, channels, rows, columns), &Device::Cpu)?;
    let image = to_rgb(&pipeline.vae.decode_scaled(&latents)?)?;
    timings.decoding_s = decoding.elapsed().as_secs_f64();
    timings.total_s = started.elapsed().as_secs_f64();

    Ok(Generation {
        image,
        seed: request.seed,
        device: "cpu".to_string(),
        dtype: "f32".to_string(),
        scheduler: scheduler_config.kind.name().to_string(),
        timings,
        text_cached: prompts.cached,
        notes: prompts.notes,
    })
}

/// Classifier-free guidance (arXiv:2207.12598).
fn guide(uncond: &[f32], text: &[f32], scale: f32) -> Vec<f32> {
    uncond
        .iter()
        .zip(text)
        .map(|(uncond, text)| uncond + scale * (text - uncond))
        .collect()
}

fn check_finite(tensor: &Tensor, phase: Phase) -> Result<(), EngineError> {
    if all_finite(&tensor.flatten_all()?.to_vec1::<f32>()?) {
        Ok(())
    } else {
        Err(EngineError::NonFinite { phase })
    }
}
