//! What a person may ask for, and the limits it is checked against before any work is done.

use std::path::PathBuf;
use std::sync::Arc;

use image::{GrayImage, RgbImage};

use crate::image::MAX_PIXELS;
use crate::model::{ModelKind, find_scheduler};
use crate::{EngineError, ModelDescription};

/// How a prompt's text is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptSyntax {
    /// As diffusers reads it, unless it holds a weight such as `(word:1.3)` or `[word]`, or `BREAK`:
    /// then as [`PromptSyntax::Weighted`].
    #[default]
    Auto,
    /// As diffusers reads it: every character is text, and what does not fit the context is cut off.
    Plain,
    /// With weights and `BREAK`, in as many chunks of 75 tokens as it takes.
    Weighted,
}

/// An image to start from, in place of pure noise.
#[derive(Clone, Debug, PartialEq)]
pub struct InputImage {
    /// The image, of any size.
    pub image: Arc<RgbImage>,
    /// How much of the schedule is run, above 0 and up to 1: 1 keeps next to nothing of the image,
    /// and nothing at all of what a mask shows white.
    pub strength: f64,
    /// Paint only where this is white; the same size as the image where only the masked region is
    /// worked on.
    pub mask: Option<Mask>,
}

impl InputImage {
    /// The strength that diffusers' SDXL pipelines take by default, with a mask and without.
    pub fn usual_strength(with_mask: bool) -> f64 {
        if with_mask { 0.9999 } else { 0.3 }
    }
}

/// Where to paint.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    /// White (255) is painted anew, black (0) is kept.
    pub image: Arc<GrayImage>,
    /// Radius of the blur of the mask's edge, in pixels of the mask; 0 leaves it sharp.
    pub blur: f32,
    /// Work on the masked region alone, enlarged to the asked size, with this many pixels of the
    /// image around it.
    pub only_masked_padding: Option<u32>,
}

/// What the refiner does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refine {
    /// Ensemble of experts (arXiv:2307.01952, §2.5): the base runs this share of the schedule, the
    /// refiner the rest. Above 0 and below 1; 0.8 is usual.
    Ensemble {
        /// The base's share.
        denoising_split: f64,
    },
    /// The base's finished latents are noised again and denoised by the refiner.
    ImageToImage {
        /// How much of the schedule the refiner runs, above 0 and up to 1; 0.3 is usual.
        strength: f64,
    },
}

impl Refine {
    /// The base's usual share of an ensemble.
    pub const USUAL_SPLIT: f64 = 0.8;
}

/// A LoRA and how much of it is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraChoice {
    /// Its safetensors file.
    pub path: PathBuf,
    /// What its difference is multiplied by; 1 is as trained, negative values turn it around.
    pub weight: f64,
}

/// Whether the VAE works in tiles with blended seams: slower, with less memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VaeTiling {
    /// Where the memory at hand does not hold the whole image.
    #[default]
    Auto,
    /// Always (images no larger than a tile have only one).
    On,
    /// Never.
    Off,
}

/// Everything that decides an image, besides the model itself.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateRequest {
    /// What the image should show; 1 to 10 000 characters. What does not fit the model's context
    /// (77 tokens for SDXL) is cut off as diffusers does, and reported in [`crate::Generation::notes`].
    pub prompt: String,
    /// What the image should not show. `None` and `Some("")` differ as in diffusers: `None` uses
    /// zeroed conditioning where the model says so (`force_zeros_for_empty_prompt`), an explicit
    /// empty text is encoded. Ignored when `guidance_scale` ≤ 1.
    pub negative_prompt: Option<String>,
    /// Width in pixels, a multiple of [`ModelDescription::size_multiple`].
    pub width: u32,
    /// Height in pixels, a multiple of [`ModelDescription::size_multiple`].
    pub height: u32,
    /// Number of denoising steps, 1 to 1000.
    pub num_inference_steps: u32,
    /// Classifier-free guidance (arXiv:2207.12598); 1 or less switches it off, and halves the work.
    pub guidance_scale: f64,
    /// Seed of the noise: the same numbers as `torch.Generator("cpu").manual_seed(seed)`.
    pub seed: u64,
    /// Scheduler to use in place of the model's own, by a name of [`crate::schedulers::names`] or of
    /// a diffusers class; `None` keeps the model's.
    pub scheduler: Option<String>,
    /// Whether [`crate::Progress::preview`] is filled after each step.
    pub previews: bool,
    /// How prompts are read.
    pub prompt_syntax: PromptSyntax,
    /// How many of the text encoders' last layers are left out beyond the one that SDXL always
    /// leaves out (diffusers' `clip_skip`).
    pub clip_skip: u32,
    /// How far guided predictions are brought back to the spread of unguided ones, 0 to 1
    /// (arXiv:2305.08891, §3.4).
    pub guidance_rescale: f64,
    /// An image to start from, or none.
    pub input: Option<InputImage>,
    /// What the refiner does, where one is loaded; `None` leaves it out.
    pub refine: Option<Refine>,
    /// Aesthetic score that the refiner is told to reach.
    pub aesthetic_score: f64,
    /// Aesthetic score that the refiner is guided away from.
    pub negative_aesthetic_score: f64,
    /// LoRAs, in no particular order.
    pub loras: Vec<LoraChoice>,
    /// Whether the VAE works in tiles.
    pub vae_tiling: VaeTiling,
}

impl Default for GenerateRequest {
    /// What SDXL's pipelines in diffusers take by default, at 1024 by 1024 pixels.
    fn default() -> Self {
        Self {
            prompt: String::new(),
            negative_prompt: None,
            width: 1024,
            height: 1024,
            num_inference_steps: 50,
            guidance_scale: 5.0,
            seed: 0,
            scheduler: None,
            previews: false,
            prompt_syntax: PromptSyntax::Auto,
            clip_skip: 0,
            guidance_rescale: 0.0,
            input: None,
            refine: None,
            aesthetic_score: 6.0,
            negative_aesthetic_score: 2.5,
            loras: Vec::new(),
            vae_tiling: VaeTiling::Auto,
        }
    }
}

impl GenerateRequest {
    /// Longest prompt accepted, in characters.
    pub const MAX_PROMPT_CHARS: usize = 10_000;
    /// Largest number of steps accepted.
    pub const MAX_STEPS: u32 = 1000;
    /// Most LoRAs accepted at once.
    pub const MAX_LORAS: usize = 32;
    /// Largest width or height accepted, in pixels.
    pub const MAX_SIZE: u32 = 4096;

    /// A request with the model's own defaults and an empty prompt: 50 steps and guidance 5.0, as
    /// diffusers' SDXL pipeline, or what suits a few-step model.
    pub fn for_model(model: &ModelDescription) -> Self {
        Self {
            width: model.default_width,
            height: model.default_height,
            num_inference_steps: model.defaults.num_inference_steps,
            guidance_scale: model.defaults.guidance_scale,
            ..Self::default()
        }
    }

    /// Checks the request against the model without doing any work.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] naming the first field that cannot be run.
    pub fn validate(&self, model: &ModelDescription) -> Result<(), EngineError> {
        check_text("prompt", &self.prompt)?;
        if self.prompt.trim().is_empty() {
            return Err(EngineError::invalid(
                "prompt",
                "is empty; say what the image should show",
            ));
        }
        if let Some(negative_prompt) = &self.negative_prompt {
            check_text("negative_prompt", negative_prompt)?;
        }
        check_size("width", self.width, model.size_multiple)?;
        check_size("height", self.height, model.size_multiple)?;
        if self.num_inference_steps == 0 || self.num_inference_steps > Self::MAX_STEPS {
            return Err(EngineError::invalid(
                "num_inference_steps",
                format!(
                    "is {}; give a number from 1 to {}",
                    self.num_inference_steps,
                    Self::MAX_STEPS
                ),
            ));
        }
        if !self.guidance_scale.is_finite() || !(0.0..=100.0).contains(&self.guidance_scale) {
            return Err(EngineError::invalid(
                "guidance_scale",
                format!(
                    "is {}; give a number from 0 to 100 (5 to 9 is usual, 1 switches guidance off)",
                    self.guidance_scale
                ),
            ));
        }
        if let Some(name) = &self.scheduler {
            find_scheduler(name)?;
        }
        self.validate_extras(model)
    }

    /// Checks what goes beyond plain text to image.
    fn validate_extras(&self, model: &ModelDescription) -> Result<(), EngineError> {
        check_number("guidance_rescale", self.guidance_rescale, 0.0..=1.0)?;
        check_number("aesthetic_score", self.aesthetic_score, 0.0..=10.0)?;
        let negative = self.negative_aesthetic_score;
        check_number("negative_aesthetic_score", negative, 0.0..=10.0)?;
        match &self.input {
            Some(input) => input.validate()?,
            None if model.kind == ModelKind::Refiner.name() => {
                return Err(EngineError::invalid(
                    "init_image",
                    "is missing: this model is an SDXL refiner, which starts from an image",
                ));
            }
            None => {}
        }
        let mask = self.input.as_ref().and_then(|input| input.mask.as_ref());
        if model.kind == ModelKind::Inpainting.name() && mask.is_none() {
            let (field, what) = match self.input {
                None => (
                    "init_image",
                    "is missing: this model paints into an image, where a mask is white",
                ),
                Some(_) => (
                    "mask",
                    "is missing: this model paints where a mask is white; a white one repaints all",
                ),
            };
            return Err(EngineError::invalid(field, what));
        }
        match self.refine {
            Some(Refine::Ensemble { denoising_split })
                if !(denoising_split > 0.0 && denoising_split < 1.0) =>
            {
                return Err(EngineError::invalid(
                    "denoising_split",
                    format!("is {denoising_split}; give a number between 0 and 1, such as 0.8"),
                ));
            }
            Some(Refine::ImageToImage { strength }) => {
                check_strength("refiner_strength", strength)?;
            }
            _ => {}
        }
        self.validate_loras()
    }

    fn validate_loras(&self) -> Result<(), EngineError> {
        if self.loras.len() > Self::MAX_LORAS {
            return Err(EngineError::invalid(
                "lora",
                format!(
                    "is given {} times; at most {} are accepted",
                    self.loras.len(),
                    Self::MAX_LORAS
                ),
            ));
        }
        for lora in &self.loras {
            if !lora.weight.is_finite() || lora.weight.abs() > 100.0 {
                return Err(EngineError::invalid(
                    "lora",
                    format!(
                        "has weight {} for {}; give a number from -100 to 100 (1 is as trained)",
                        lora.weight,
                        lora.path.display()
                    ),
                ));
            }
        }
        Ok(())
    }
}

impl InputImage {
    fn validate(&self) -> Result<(), EngineError> {
        check_strength("strength", self.strength)?;
        let size = self.image.dimensions();
        check_pixels("init_image", size)?;
        if let Some(mask) = &self.mask {
            check_pixels("mask", mask.image.dimensions())?;
            check_number("mask_blur", f64::from(mask.blur), 0.0..=1000.0)?;
            if mask.only_masked_padding.is_some() && mask.image.dimensions() != size {
                let (width, height) = mask.image.dimensions();
                return Err(EngineError::invalid(
                    "mask",
                    format!(
                        "is {width}×{height}, the image {}×{}; to work on the masked region alone they must be of one size",
                        size.0, size.1
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn check_strength(field: &'static str, strength: f64) -> Result<(), EngineError> {
    if strength > 0.0 && strength <= 1.0 {
        return Ok(());
    }
    Err(EngineError::invalid(
        field,
        format!("is {strength}; give a number above 0 and up to 1"),
    ))
}

fn check_number(
    field: &'static str,
    number: f64,
    range: std::ops::RangeInclusive<f64>,
) -> Result<(), EngineError> {
    if range.contains(&number) {
        return Ok(());
    }
    Err(EngineError::invalid(
        field,
        format!(
            "is {number}; give a number from {} to {}",
            range.start(),
            range.end()
        ),
    ))
}

fn check_pixels(field: &'static str, (width, height): (u32, u32)) -> Result<(), EngineError> {
    if width == 0 || height == 0 || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(EngineError::invalid(
            field,
            format!(
                "is {width}×{height}; give an image of 1 to {} million pixels",
                MAX_PIXELS / 1_000_000
            ),
        ));
    }
    Ok(())
}

fn check_text(field: &'static str, text: &str) -> Result<(), EngineError> {
    let count = text.chars().count();
    if count > GenerateRequest::MAX_PROMPT_CHARS {
        return Err(EngineError::invalid(
            field,
            format!(
                "has {count} characters; at most {} are accepted",
                GenerateRequest::MAX_PROMPT_CHARS
            ),
        ));
    }
    Ok(())
}

fn check_size(field: &'static str, size: u32, multiple: u32) -> Result<(), EngineError> {
    let multiple = multiple.max(1);
    if size == 0 || size > GenerateRequest::MAX_SIZE {
        return Err(EngineError::invalid(
            field,
            format!(
                "is {size}; give a multiple of {multiple} from {multiple} to {}",
                GenerateRequest::MAX_SIZE
            ),
        ));
    }
    if !size.is_multiple_of(multiple) {
        let below = (size / multiple * multiple).max(multiple);
        let above = size.div_ceil(multiple) * multiple;
        return Err(EngineError::invalid(
            field,
            format!(
                "is {size}, which is not divisible by {multiple}; the nearest sizes are {below} and {above}"
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelDescription {
        ModelDescription {
            kind: "stable-diffusion-xl-base".into(),
            default_width: 1024,
            default_height: 768,
            size_multiple: 8,
            parameters: None,
            stored_dtype: "f16".into(),
            scheduler: "Euler".into(),
            schedulers: crate::schedulers::names(),
            defaults: crate::schedulers::Defaults::default(),
            max_prompt_tokens: 77,
        }
    }

    fn request() -> GenerateRequest {
        GenerateRequest {
            prompt: "a cat".into(),
            ..GenerateRequest::for_model(&model())
        }
    }

    /// The field that is refused, and the message.
    fn refusal(change: impl FnOnce(&mut GenerateRequest)) -> (&'static str, String) {
        let mut request = request();
        change(&mut request);
        match request.validate(&model()) {
            Err(EngineError::InvalidRequest { field, message }) => (field, message),
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn defaults_are_the_models() {
        let request = request();
        assert_eq!((request.width, request.height), (1024, 768));
        request.validate(&model()).expect("can be run");
    }

    #[test]
    fn each_field_is_checked_by_name() {
        let (field, message) = refusal(|r| r.width = 1001);
        assert_eq!(field, "width");
        assert!(message.contains("1000 and 1008"), "{message}");
        assert_eq!(refusal(|r| r.height = 0).0, "height");
        assert_eq!(refusal(|r| r.height = 4104).0, "height");
        assert_eq!(
            refusal(|r| r.num_inference_steps = 0).0,
            "num_inference_steps"
        );
        assert_eq!(
            refusal(|r| r.num_inference_steps = 1001).0,
            "num_inference_steps"
        );
        for scale in [f64::NAN, f64::INFINITY, -1.0, 101.0] {
            assert_eq!(refusal(|r| r.guidance_scale = scale).0, "guidance_scale");
        }
        for prompt in ["", " \n\t "] {
            assert_eq!(refusal(|r| r.prompt = prompt.into()).0, "prompt");
        }
        let (field, message) = refusal(|r| r.scheduler = Some("Magic".into()));
        assert_eq!(field, "scheduler");
        assert!(
            message.contains("Magic") && message.contains("EulerDiscrete"),
            "{message}"
        );
    }

    #[test]
    fn long_prompts_are_counted_in_characters() {
        let mut longest = request();
        longest.prompt = "é".repeat(GenerateRequest::MAX_PROMPT_CHARS);
        longest.negative_prompt = Some(longest.prompt.clone());
        longest
            .validate(&model())
            .expect("exactly as long as accepted");
        let longer = "é".repeat(GenerateRequest::MAX_PROMPT_CHARS + 1);
        assert_eq!(refusal(|r| r.prompt = longer.clone()).0, "prompt");
        assert_eq!(
            refusal(|r| r.negative_prompt = Some(longer)).0,
            "negative_prompt"
        );
    }

    #[test]
    fn schedulers_go_by_all_their_names() {
        for name in [
            "DPMSolverMultistep",
            "DDIMScheduler",
            "EulerAncestralDiscrete",
            "DPM++ 2M Karras",
            "k_dpmpp_2m",
        ] {
            let mut request = request();
            request.scheduler = Some(name.into());
            request.validate(&model()).expect("known");
        }
    }
}
