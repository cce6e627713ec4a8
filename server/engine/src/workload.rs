//! Parts of a generation to run again and again: what benchmarks measure.

use candle_core::{Device, Tensor};

use crate::pipeline::PromptOptions;
use crate::pipeline::{Control, Pipeline};
use crate::unet::Conditioning;
use crate::{EngineError, GenerateRequest};

/// A part of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// One forward pass of the UNet.
    Unet,
    /// Decoding latents to pixels.
    Vae,
    /// All text encoders on one prompt.
    TextEncoders,
    /// A whole image.
    Image {
        /// Its denoising steps.
        steps: u32,
    },
}

/// A part with the inputs that it runs on.
pub struct Workload<'a> {
    pipeline: &'a Pipeline,
    inputs: Inputs,
}

enum Inputs {
    Unet(Tensor, Box<Conditioning>),
    Vae(Tensor),
    /// Token sequences for each encoder.
    TextEncoders(Vec<Vec<Vec<u32>>>),
    Image(Box<GenerateRequest>),
}

const PROMPT: &str = "a photograph of an astronaut riding a horse";
/// Somewhere in the middle of the schedule; the time of a pass does not depend on it.
const TIMESTEP: f32 = 500.0;

impl<'a> Workload<'a> {
    /// Prepares `part` for images of `size` × `size` pixels. A `batch` of 2 is what guidance
    /// computes.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] if the model does not make images of that size.
    pub fn new(
        pipeline: &'a Pipeline,
        part: Part,
        size: u32,
        batch: usize,
    ) -> Result<Self, EngineError> {
        let description = pipeline.description();
        let mut request = GenerateRequest {
            prompt: PROMPT.into(),
            width: size,
            height: size,
            guidance_scale: if batch > 1 { 5.0 } else { 1.0 },
            ..GenerateRequest::for_model(description)
        };
        if let Part::Image { steps } = part {
            request.num_inference_steps = steps;
        }
        request.validate(description)?;
        let side = size as usize / pipeline.vae().config().scale_factor();
        let noise =
            |channels: usize| Tensor::randn(0f32, 1.0, (batch, channels, side, side), &Device::Cpu);
        let inputs = match part {
            Part::Unet => {
                let unet = pipeline.unet();
                let negative = (batch > 1).then_some(None);
                let prompts =
                    pipeline.encode_prompts(PROMPT, negative, &PromptOptions::default())?;
                let pixels = size as f32;
                let mut sizes = vec![pixels, pixels, 0.0, 0.0, pixels, pixels];
                // A refiner takes an aesthetic score in place of the target's two sides.
                if description.kind.contains("refiner") {
                    sizes.splice(4.., [6.0]);
                }
                let time_ids = vec![sizes; batch];
                let conditioning = unet.condition(
                    &prompts.prompt_embeds,
                    &prompts.pooled_prompt_embeds,
                    &time_ids,
                    request.guidance_scale,
                )?;
                Inputs::Unet(noise(unet.config().in_channels)?, Box::new(conditioning))
            }
            Part::Vae => Inputs::Vae(noise(pipeline.vae().config().latent_channels)?),
            Part::TextEncoders => Inputs::TextEncoders(
                pipeline
                    .encoders()
                    .iter()
                    .map(|encoder| Ok(vec![encoder.tokenizer.encode(PROMPT)?.ids; batch]))
                    .collect::<Result<_, EngineError>>()?,
            ),
            Part::Image { .. } => Inputs::Image(Box::new(request)),
        };
        Ok(Self { pipeline, inputs })
    }

    /// Runs the part once.
    ///
    /// # Errors
    /// Whatever the part reports.
    pub fn run(&self) -> Result<(), EngineError> {
        match &self.inputs {
            Inputs::Unet(sample, conditioning) => {
                let unet = self.pipeline.unet();
                unet.forward(sample, TIMESTEP, conditioning)?;
            }
            Inputs::Vae(latents) => {
                self.pipeline.vae().decode_scaled(latents)?;
            }
            Inputs::TextEncoders(tokens) => {
                for (encoder, tokens) in self.pipeline.encoders().iter().zip(tokens) {
                    encoder.text_encoder.encode(tokens, 0)?;
                }
            }
            Inputs::Image(request) => {
                self.pipeline
                    .generate(request, &mut |_| Control::Continue)?;
            }
        }
        Ok(())
    }
}
