//! What a person may ask for, and the limits it is checked against before any work is done.

use crate::model::find_scheduler;
use crate::{EngineError, ModelDescription};

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
    /// Scheduler to use in place of the folder's own; `None` keeps the folder's.
    pub scheduler: Option<String>,
    /// Whether [`crate::Progress::preview`] is filled after each step.
    pub previews: bool,
}

impl GenerateRequest {
    /// Longest prompt accepted, in characters.
    pub const MAX_PROMPT_CHARS: usize = 10_000;
    /// Largest number of steps accepted.
    pub const MAX_STEPS: u32 = 1000;
    /// Largest width or height accepted, in pixels.
    pub const MAX_SIZE: u32 = 4096;

    /// A request with the model's own defaults and an empty prompt: 50 steps and guidance 5.0, as
    /// diffusers' SDXL pipeline.
    pub fn for_model(model: &ModelDescription) -> Self {
        Self {
            prompt: String::new(),
            negative_prompt: None,
            width: model.default_width,
            height: model.default_height,
            num_inference_steps: 50,
            guidance_scale: 5.0,
            seed: 0,
            scheduler: None,
            previews: false,
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
        Ok(())
    }
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
            scheduler: "EulerDiscrete".into(),
            schedulers: crate::schedulers::names(),
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
    fn schedulers_go_by_short_and_by_full_name() {
        for name in [
            "DPMSolverMultistep",
            "DDIMScheduler",
            "EulerAncestralDiscrete",
        ] {
            let mut request = request();
            request.scheduler = Some(name.into());
            request.validate(&model()).expect("known");
        }
    }
}
