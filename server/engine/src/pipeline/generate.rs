//! From a request to an image, top to bottom: the steps of SDXL (arXiv:2307.01952) after diffusers'
//! `StableDiffusionXLPipeline` and its image-to-image and inpainting sisters. Text to image, image
//! to image, inpainting and the refiner are one loop; [`super::plan`] says which steps of which
//! model it runs.

use std::time::Instant;

use ::image::RgbImage;

use super::denoise::{Denoiser, Painting, conditioning, tensor};
use super::image_to_image::Source;
use super::plan::{Stage, Start, stages};
use super::preview::Previewer;
use super::{Control, Generation, Phase, Pipeline, Progress, Timings};
use crate::cpu::give_pages_back;
use crate::image::to_rgb;
use crate::model::ModelKind;
use crate::rng::TorchGenerator;
use crate::vae::tile_side;
use crate::{DeviceFault, DeviceId, EngineError, GenerateRequest, faults};

/// The observer, and what it is told.
pub(super) struct Observer<'a> {
    observe: &'a mut dyn FnMut(&Progress<'_>) -> Control,
    started: Instant,
    steps: u32,
    done: u32,
    /// The phase that was told last.
    phase: Phase,
    device: DeviceId,
}

impl Observer<'_> {
    fn tell(&mut self, phase: Phase, preview: Option<&RgbImage>) -> Result<(), EngineError> {
        self.phase = phase;
        let progress = Progress {
            phase,
            step: self.done,
            steps: self.steps,
            elapsed: self.started.elapsed(),
            preview,
        };
        match (self.observe)(&progress) {
            Control::Continue => Ok(()),
            Control::Cancel => Err(EngineError::Cancelled),
        }
    }

    /// A phase begins.
    fn begin(&mut self, phase: Phase) -> Result<(), EngineError> {
        self.tell(phase, None)?;
        if phase != Phase::Denoising {
            self.pass(phase)?;
        }
        Ok(())
    }

    /// A place where tests can have the device fail.
    fn pass(&self, phase: Phase) -> Result<(), EngineError> {
        if faults::simulating() {
            faults::pass_on(self.device, &phase.to_string())?;
        }
        Ok(())
    }

    /// A denoising step begins.
    pub fn begin_step(&self) -> Result<(), EngineError> {
        self.pass(Phase::Denoising)
    }

    /// An error with what was being done. On a GPU, numbers that are not finite are its fault until
    /// another device has said otherwise.
    fn placed(&self, error: EngineError) -> EngineError {
        match error {
            EngineError::Device(fault) => EngineError::Device(fault.during(self.phase)),
            EngineError::NonFinite { phase } if self.device.is_cuda() => EngineError::Device(
                DeviceFault::wrong_numbers(phase, "values that are not finite came back"),
            ),
            other => other,
        }
    }

    /// One more denoising step is done.
    pub fn step(&mut self, preview: Option<&RgbImage>) -> Result<(), EngineError> {
        self.done += 1;
        self.tell(Phase::Denoising, preview)
    }
}

pub(super) fn generate(
    pipeline: &Pipeline,
    request: &GenerateRequest,
    observe: &mut dyn FnMut(&Progress<'_>) -> Control,
) -> Result<Generation, EngineError> {
    let mut observer = Observer {
        observe,
        started: Instant::now(),
        steps: 0,
        done: 0,
        phase: Phase::TextEncoding,
        device: pipeline.ops.id(),
    };
    run(pipeline, request, &mut observer).map_err(|error| observer.placed(error))
}

fn run(
    pipeline: &Pipeline,
    request: &GenerateRequest,
    observer: &mut Observer<'_>,
) -> Result<Generation, EngineError> {
    let started = observer.started;
    let mut timings = Timings::default();

    // 1. Check the request, and set out which steps of which model it runs.
    request.validate(&pipeline.description)?;
    let mut stages = stages(pipeline, request)?;
    let mut notes = stage_notes(&stages);
    notes.extend(pipeline.shortage.clone());
    let steps: usize = stages.iter().map(|stage| stage.steps.len()).sum();
    observer.steps = u32::try_from(steps).unwrap_or(u32::MAX);

    // 2. Encode the prompts for each model, and join them with the sizes.
    observer.begin(Phase::TextEncoding)?;
    let mut conditionings = Vec::with_capacity(stages.len());
    let mut text_cached = true;
    for stage in &stages {
        let (conditioning, prompts) = conditioning(&stage.expert, request)?;
        conditionings.push(conditioning);
        text_cached &= prompts.cached;
        for remark in prompts.notes {
            if !notes.contains(&remark) {
                notes.push(remark);
            }
        }
    }
    // What is done is given back: the process holds the pages of one component at a time.
    for stage in &stages {
        stage.expert.text_encoders.release();
    }
    timings.text_encoding_s = started.elapsed().as_secs_f64();

    // 3. Bring image and mask to the size that is worked at. One generator draws all noise, in the
    //    order in which diffusers draws it when one is passed to every call.
    let mut generator = TorchGenerator::new(request.seed);
    let (width, height) = (request.width as usize, request.height as usize);
    let source = match &request.input {
        None => None,
        Some(input) => {
            observer.begin(Phase::ImageEncoding)?;
            notes.extend(source_notes(request, input.image.dimensions()));
            Some(Source::prepare(input, width, height, request.vae_tiling)?)
        }
    };

    // 4. Denoise, one model after the other: (channels, h / f, w / f) all the way.
    let factor = pipeline.vae.config().scale_factor();
    let shape = (
        pipeline.vae.config().latent_channels,
        height / factor,
        width / factor,
    );
    let mut previewer = match request.previews.then(|| pipeline.latent_to_rgb()) {
        Some(Ok(map)) => Some(Previewer::new(map, pipeline.tiny_decoder())),
        // A decoder that answers nonsense costs the previews; the image itself is looked at below.
        None | Some(Err(EngineError::NonFinite { .. })) => None,
        Some(Err(EngineError::Device(fault))) => {
            return Err(EngineError::Device(fault.during("fitting the previews")));
        }
        Some(Err(error)) => return Err(error),
    };
    let mut latents: Option<Vec<f32>> = None;
    for (stage, conditioning) in stages.iter_mut().zip(&conditionings) {
        let encoding = Instant::now();
        let entry = Entry {
            pipeline,
            stage,
            source: source.as_ref(),
            handed: latents,
        };
        let (start, painting) = entry.latents(shape, factor, &mut generator)?;
        pipeline.vae_encoder.release();
        timings.image_encoding_s += encoding.elapsed().as_secs_f64();
        let denoising = Instant::now();
        observer.device = stage.expert.unet.ops().id();
        observer.begin(Phase::Denoising)?;
        let mut denoiser = Denoiser {
            stage,
            conditioning,
            painting,
            shape,
            request,
            previewer: previewer.as_mut(),
        };
        let step_s = &mut timings.step_s;
        latents = Some(denoiser.run(start, &mut generator, observer, step_s)?);
        stage.expert.unet.release();
        give_pages_back();
        pipeline.release_loras();
        timings.stage_steps.push(stage.steps.len());
        timings.denoising_s += denoising.elapsed().as_secs_f64();
    }
    let latents = latents.unwrap_or_default();

    // 5. Decode: (1, channels, h / f, w / f) → (1, 3, h, w) → pixels.
    let decoding = Instant::now();
    let vae = pipeline.decoder_after(&stages);
    observer.device = vae.ops().id();
    observer.begin(Phase::Decoding)?;
    let tiles = tile_side(
        request.vae_tiling,
        vae.config(),
        vae.ops(),
        shape.1,
        shape.2,
    );
    let latents = tensor(latents, 1, shape)?;
    let mut image = to_rgb(&vae.decode_scaled_in_tiles(&latents, tiles)?)?;
    vae.release();
    give_pages_back();
    if vae.ops().id().is_cuda() && image.iter().all(|&value| value == 0) {
        let words = "every pixel of the image is black";
        return Err(EngineError::Device(DeviceFault::wrong_numbers("", words)));
    }

    // 6. Put it back, where only a region was worked on.
    if let (Some(masked), Some(input)) = (
        source.as_ref().and_then(|source| source.masked.as_ref()),
        &request.input,
    ) {
        image = masked.put_back(image, &input.image);
    }
    timings.decoding_s = decoding.elapsed().as_secs_f64();
    timings.total_s = started.elapsed().as_secs_f64();

    Ok(Generation {
        image,
        seed: request.seed,
        device: pipeline.ops.id().to_string(),
        dtype: pipeline.format(),
        scheduler: stages[0].scheduler_name.clone(),
        timings,
        text_cached,
        notes,
    })
}

/// What a stage begins with.
struct Entry<'a, 'b> {
    pipeline: &'a Pipeline,
    stage: &'a Stage<'b>,
    source: Option<&'a Source>,
    /// What the stage before left.
    handed: Option<Vec<f32>>,
}

impl Entry<'_, '_> {
    /// The latents to begin with, and what holds the painting in its place. Noise is drawn in
    /// diffusers' order: the image's latents, the noise, the masked image's latents.
    fn latents(
        self,
        shape: (usize, usize, usize),
        factor: usize,
        generator: &mut TorchGenerator,
    ) -> Result<(Vec<f32>, Option<Painting>), EngineError> {
        let (channels, rows, columns) = shape;
        let count = channels * rows * columns;
        let vae = &self.pipeline.vae_encoder;
        let start = self.stage.start;
        let masked = self.source.and_then(|source| source.masked.as_ref());
        let first = self.handed.is_none();
        // An inpainting UNet sees the masked image; others are held to the image step by step.
        let sees_mask = self.stage.expert.folder.kind == ModelKind::Inpainting;

        // 1. The clean latents, where anything is made of them.
        let original = match (self.handed, self.source) {
            (Some(handed), _) => handed,
            (None, Some(source)) if start == Start::Noised || !sees_mask => {
                source.latents(vae, generator)?
            }
            _ => Vec::new(),
        };

        // 2. The noise, and the two together.
        let noise = if start == Start::Handed && masked.is_none() {
            Vec::new()
        } else {
            generator.randn(count)
        };
        let scheduler = &self.stage.scheduler;
        let latents = match start {
            Start::Noise => {
                let sigma = scheduler.init_noise_sigma();
                noise.iter().map(|value| value * sigma).collect()
            }
            Start::Noised => scheduler.add_noise(self.stage.steps.start, &original, &noise),
            Start::Handed => original.clone(),
        };

        // 3. The mask.
        let painting = match (masked, self.source) {
            (Some(masked), Some(source)) => {
                let mask = masked.for_latents(factor);
                Some(if sees_mask {
                    let mut channels: Vec<f32> =
                        mask.iter().map(|&painted| f32::from(painted)).collect();
                    channels.extend(source.masked_latents(vae, generator)?);
                    Painting::Seen { channels }
                } else {
                    if first {
                        // diffusers samples the masked image's latents for these UNets too, and
                        // does nothing with them; later noise depends on it.
                        generator.randn(count);
                    }
                    Painting::Held {
                        mask,
                        original,
                        noise,
                    }
                })
            }
            _ => None,
        };
        Ok((latents, painting))
    }
}

/// What a person should know about stages that have nothing to do.
fn stage_notes(stages: &[Stage<'_>]) -> Vec<String> {
    let names = ["base model", "refiner"];
    stages
        .iter()
        .zip(names)
        .filter(|(stage, _)| stage.steps.is_empty())
        .map(|(_, name)| {
            format!(
                "the {name} had no step to run: with so few steps, the split leaves all of them to the other model"
            )
        })
        .collect()
}

/// What a person should know about how their image was fitted.
fn source_notes(request: &GenerateRequest, (width, height): (u32, u32)) -> Option<String> {
    let only_masked = request
        .input
        .as_ref()
        .and_then(|input| input.mask.as_ref())
        .is_some_and(|mask| mask.only_masked_padding.is_some());
    let (to_width, to_height) = (request.width, request.height);
    if only_masked || (width, height) == (to_width, to_height) {
        return None;
    }
    let (ratio, to_ratio) = (
        f64::from(width) / f64::from(height),
        f64::from(to_width) / f64::from(to_height),
    );
    let stretched = if (ratio / to_ratio - 1.0).abs() > 0.02 {
        ", which changes its proportions"
    } else {
        ""
    };
    Some(format!(
        "the input image was resized from {width}×{height} to {to_width}×{to_height}{stretched}"
    ))
}
