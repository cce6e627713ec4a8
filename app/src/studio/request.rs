//! The studio's form as typed, and its one way into a [`GenerationRequest`].

use super::{GenerationRequest, ImageSource, InputFile, LoraWeight, PromptSyntax, Settings};
use crate::components::percent_encode;
use crate::error::AppError;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// The form's fields as text. An empty field takes the model's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationForm {
    /// What to draw.
    pub prompt: String,
    /// What to keep out.
    pub negative_prompt: String,
    /// Denoising steps.
    pub num_inference_steps: String,
    /// Classifier-free guidance.
    pub guidance_scale: String,
    /// Pixels.
    pub width: String,
    /// Pixels.
    pub height: String,
    /// Random when empty.
    pub seed: String,
    /// The model's own when empty.
    pub scheduler: String,
    /// The server's default when empty.
    pub model: String,
    /// Images per run; one when empty.
    pub num_images: String,
    /// No refiner when empty.
    pub refiner: String,
    /// The base model's share of the schedule.
    pub denoising_split: String,
    /// In place of a split: how much of the schedule the refiner runs on the finished image.
    pub refiner_strength: String,
    /// The score that the refiner is told to reach.
    pub aesthetic_score: String,
    /// The score that the refiner is guided away from.
    pub negative_aesthetic_score: String,
    /// An upload's id, or `image:` and the id of an image of the gallery.
    pub init_image: String,
    /// How much of the schedule is run on the image to start from.
    pub strength: String,
    /// As `init_image`.
    pub mask: String,
    /// Pixels.
    pub mask_blur: String,
    /// Pixels around the masked region, where that alone is worked on.
    pub only_masked_padding: String,
    /// `name:weight` separated by commas.
    pub loras: String,
    /// The model's own when empty.
    pub vae: String,
    /// Decided by the prompt when empty.
    pub prompt_syntax: String,
    /// Layers.
    pub clip_skip: String,
    /// 0 to 1.
    pub guidance_rescale: String,
    /// Decided by the memory at hand when empty.
    pub vae_tiling: String,
    /// Names of styles, one on each line.
    pub styles: String,
}

impl GenerationForm {
    /// The names of its fields, on the wire and in errors.
    pub const FIELDS: [&'static str; 27] = [
        "prompt",
        "negative_prompt",
        "num_inference_steps",
        "guidance_scale",
        "width",
        "height",
        "seed",
        "scheduler",
        "model",
        "num_images",
        "refiner",
        "denoising_split",
        "refiner_strength",
        "aesthetic_score",
        "negative_aesthetic_score",
        "init_image",
        "strength",
        "mask",
        "mask_blur",
        "only_masked_padding",
        "loras",
        "vae",
        "prompt_syntax",
        "clip_skip",
        "guidance_rescale",
        "vae_tiling",
        "styles",
    ];

    /// What a preset keeps: how an image is made, not what it shows.
    pub const PRESET_FIELDS: [&'static str; 15] = [
        "num_inference_steps",
        "guidance_scale",
        "scheduler",
        "width",
        "height",
        "refiner",
        "denoising_split",
        "refiner_strength",
        "aesthetic_score",
        "negative_aesthetic_score",
        "loras",
        "vae",
        "clip_skip",
        "guidance_rescale",
        "vae_tiling",
    ];

    /// What a preset of this form keeps.
    pub fn preset_part(&self) -> Self {
        Self::from_lookup(|name| {
            Self::PRESET_FIELDS
                .contains(&name)
                .then(|| self.get(name))
                .flatten()
                .map(|value| value.trim().to_owned())
        })
    }

    /// The same form with what a preset keeps in place of its own.
    pub fn with_preset(&self, preset: &Self) -> Self {
        self.with(|name| {
            Self::PRESET_FIELDS
                .contains(&name)
                .then(|| preset.get(name))
                .flatten()
        })
    }

    /// What the form asks for. Ranges and the model's own limits are the server's to check.
    ///
    /// # Errors
    /// [`AppError::Invalid`] naming the field that is not a number or, for the prompt, is empty.
    pub fn parse(self) -> Result<GenerationRequest, AppError> {
        if self.prompt.trim().is_empty() {
            return Err(AppError::invalid("prompt", "Say what to draw."));
        }
        // What a folded control still holds means nothing without what it belongs to.
        let refines = !self.refiner.trim().is_empty();
        let starts = !self.init_image.trim().is_empty();
        let masks = starts && !self.mask.trim().is_empty();
        let share = "Give a number from 0 to 1.";
        let pixels = "Give a whole number of pixels.";
        Ok(GenerationRequest {
            negative_prompt: text(self.negative_prompt),
            num_inference_steps: number(
                "num_inference_steps",
                &self.num_inference_steps,
                "Give a whole number of steps, 1 to 150.",
            )?,
            guidance_scale: finite(
                "guidance_scale",
                &self.guidance_scale,
                "Give a number, e.g. 5 or 7.5.",
            )?,
            width: number("width", &self.width, "Give the width in whole pixels.")?,
            height: number("height", &self.height, "Give the height in whole pixels.")?,
            seed: number(
                "seed",
                &self.seed,
                "Give a whole number from 0 to 18446744073709551615, or leave it empty for a random one.",
            )?,
            scheduler: text(self.scheduler),
            model: text(self.model),
            num_images: number(
                "num_images",
                &self.num_images,
                "Give a whole number of images, 1 to 16.",
            )?,
            use_cache: None,
            refiner: text(self.refiner),
            denoising_split: finite("denoising_split", &self.denoising_split, share)?
                .filter(|_| refines),
            refiner_strength: finite("refiner_strength", &self.refiner_strength, share)?
                .filter(|_| refines),
            aesthetic_score: finite(
                "aesthetic_score",
                &self.aesthetic_score,
                "Give a number from 0 to 10.",
            )?
            .filter(|_| refines),
            negative_aesthetic_score: finite(
                "negative_aesthetic_score",
                &self.negative_aesthetic_score,
                "Give a number from 0 to 10.",
            )?
            .filter(|_| refines),
            init_image: ImageSource::from_text(&self.init_image),
            strength: finite("strength", &self.strength, share)?.filter(|_| starts),
            mask: ImageSource::from_text(&self.mask).filter(|_| starts),
            mask_blur: finite("mask_blur", &self.mask_blur, "Give a number of pixels.")?
                .filter(|_| masks),
            only_masked_padding: number("only_masked_padding", &self.only_masked_padding, pixels)?
                .filter(|_| masks),
            loras: loras(&self.loras)?,
            vae: text(self.vae),
            prompt_syntax: syntax(&self.prompt_syntax)?,
            clip_skip: number(
                "clip_skip",
                &self.clip_skip,
                "Give a whole number of layers; 0 leaves none out.",
            )?
            .unwrap_or(0),
            guidance_rescale: finite("guidance_rescale", &self.guidance_rescale, share)?,
            vae_tiling: text(self.vae_tiling),
            prompt: self.prompt,
        })
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<String> {
        let at = Self::FIELDS.iter().position(|field| *field == name)?;
        Some(self.values()[at].to_owned())
    }

    /// The same with the fields that `look` knows in place of its own.
    pub fn with(&self, look: impl Fn(&str) -> Option<String>) -> Self {
        Self::from_lookup(|name| look(name).or_else(|| self.get(name)))
    }

    /// The form that makes an image with these settings again.
    pub fn from_settings(settings: &Settings) -> Self {
        Self {
            prompt: settings.prompt.clone(),
            negative_prompt: settings.negative_prompt.clone().unwrap_or_default(),
            num_inference_steps: settings.num_inference_steps.to_string(),
            guidance_scale: settings.guidance_scale.to_string(),
            width: settings.width.to_string(),
            height: settings.height.to_string(),
            seed: settings.seed.to_string(),
            scheduler: settings.scheduler.clone().unwrap_or_default(),
            model: settings.model.clone(),
            num_images: String::new(),
            refiner: settings.refiner.clone().unwrap_or_default(),
            denoising_split: optional(settings.denoising_split),
            refiner_strength: optional(settings.refiner_strength),
            aesthetic_score: optional(settings.aesthetic_score),
            negative_aesthetic_score: optional(settings.negative_aesthetic_score),
            init_image: upload(settings.init_image.as_ref()),
            strength: optional(settings.strength),
            mask: upload(settings.mask.as_ref()),
            mask_blur: optional(settings.mask_blur),
            only_masked_padding: shown(settings.only_masked_padding),
            loras: lora_text(&settings.loras),
            vae: settings.vae.clone().unwrap_or_default(),
            prompt_syntax: match settings.prompt_syntax {
                PromptSyntax::Auto => "",
                PromptSyntax::Plain => "plain",
                PromptSyntax::Weighted => "weighted",
            }
            .to_owned(),
            clip_skip: shown(Some(settings.clip_skip).filter(|layers| *layers > 0)),
            guidance_rescale: optional(settings.guidance_rescale),
            vae_tiling: settings.vae_tiling.clone().unwrap_or_default(),
            // The prompt has their words already.
            styles: String::new(),
        }
    }

    /// The fields and their values, in the order of [`Self::FIELDS`].
    pub fn values(&self) -> [&str; 27] {
        [
            &self.prompt,
            &self.negative_prompt,
            &self.num_inference_steps,
            &self.guidance_scale,
            &self.width,
            &self.height,
            &self.seed,
            &self.scheduler,
            &self.model,
            &self.num_images,
            &self.refiner,
            &self.denoising_split,
            &self.refiner_strength,
            &self.aesthetic_score,
            &self.negative_aesthetic_score,
            &self.init_image,
            &self.strength,
            &self.mask,
            &self.mask_blur,
            &self.only_masked_padding,
            &self.loras,
            &self.vae,
            &self.prompt_syntax,
            &self.clip_skip,
            &self.guidance_rescale,
            &self.vae_tiling,
            &self.styles,
        ]
    }

    /// The same form from a lookup by field name; absent fields are empty.
    pub fn from_lookup(mut lookup: impl FnMut(&str) -> Option<String>) -> Self {
        let mut get = |name: &str| lookup(name).unwrap_or_default();
        Self {
            prompt: get("prompt"),
            negative_prompt: get("negative_prompt"),
            num_inference_steps: get("num_inference_steps"),
            guidance_scale: get("guidance_scale"),
            width: get("width"),
            height: get("height"),
            seed: get("seed"),
            scheduler: get("scheduler"),
            model: get("model"),
            num_images: get("num_images"),
            refiner: get("refiner"),
            denoising_split: get("denoising_split"),
            refiner_strength: get("refiner_strength"),
            aesthetic_score: get("aesthetic_score"),
            negative_aesthetic_score: get("negative_aesthetic_score"),
            init_image: get("init_image"),
            strength: get("strength"),
            mask: get("mask"),
            mask_blur: get("mask_blur"),
            only_masked_padding: get("only_masked_padding"),
            loras: get("loras"),
            vae: get("vae"),
            prompt_syntax: get("prompt_syntax"),
            clip_skip: get("clip_skip"),
            guidance_rescale: get("guidance_rescale"),
            vae_tiling: get("vae_tiling"),
            styles: get("styles"),
        }
    }

    /// The form as a query string, so that a page can be opened with it filled in.
    pub fn to_query(&self) -> String {
        Self::FIELDS
            .iter()
            .zip(self.values())
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={}", percent_encode(value)))
            .collect::<Vec<_>>()
            .join("&")
    }
}

fn text(value: String) -> Option<String> {
    Some(value).filter(|value| !value.trim().is_empty())
}

fn number<T: FromStr>(field: &str, value: &str, advice: &str) -> Result<Option<T>, AppError> {
    match value.trim() {
        "" => Ok(None),
        // A decimal comma is what half of the world types.
        value => value
            .replace(',', ".")
            .parse()
            .map(Some)
            .map_err(|_| AppError::invalid(field, advice)),
    }
}

fn finite(field: &str, value: &str, advice: &str) -> Result<Option<f64>, AppError> {
    match number::<f64>(field, value, advice)? {
        Some(number) if !number.is_finite() => Err(AppError::invalid(field, advice)),
        number => Ok(number),
    }
}

/// `ink:0.8, paper` as a list; a name without a weight counts 1.
pub(super) fn loras(text: &str) -> Result<Vec<LoraWeight>, AppError> {
    let mut list = Vec::new();
    for part in text.split([',', '\n']).map(str::trim) {
        if part.is_empty() {
            continue;
        }
        let (name, weight) = match part.rsplit_once(':') {
            None => (part, Some(1.0)),
            Some((name, weight)) => (name.trim(), weight.trim().parse().ok()),
        };
        match weight.filter(|weight: &f64| weight.is_finite() && !name.is_empty()) {
            Some(weight) => list.push(LoraWeight {
                name: name.to_owned(),
                weight,
            }),
            None => {
                return Err(AppError::invalid(
                    "loras",
                    "Write each LoRA as name:weight, e.g. ink:0.8, with commas between them.",
                ));
            }
        }
    }
    Ok(list)
}

/// The list as [`loras`] reads it.
pub(super) fn lora_text(list: &[LoraWeight]) -> String {
    list.iter()
        .map(|lora| format!("{}:{}", lora.name, lora.weight))
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) fn syntax(text: &str) -> Result<PromptSyntax, AppError> {
    match text.trim() {
        "" | "auto" => Ok(PromptSyntax::Auto),
        "plain" => Ok(PromptSyntax::Plain),
        "weighted" => Ok(PromptSyntax::Weighted),
        _ => Err(AppError::invalid(
            "prompt_syntax",
            "Choose auto, plain or weighted.",
        )),
    }
}

fn optional(number: Option<f64>) -> String {
    // Every digit counts: the form must make the same image again.
    number.map(|number| number.to_string()).unwrap_or_default()
}

fn shown(number: Option<u32>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

fn upload(file: Option<&InputFile>) -> String {
    file.map(|file| file.upload_id.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(change: impl FnOnce(&mut GenerationForm)) -> GenerationForm {
        let mut form = GenerationForm {
            prompt: "a red circle".into(),
            ..GenerationForm::default()
        };
        change(&mut form);
        form
    }

    #[test]
    fn empty_fields_take_the_models_defaults() {
        let request = form(|_| {}).parse().expect("a prompt is enough");
        assert_eq!(
            request,
            GenerationRequest {
                prompt: "a red circle".into(),
                ..GenerationRequest::default()
            }
        );
    }

    #[test]
    fn each_bad_field_is_named() {
        let cases: [(&str, GenerationForm); 12] = [
            ("prompt", form(|f| f.prompt = " \n".into())),
            (
                "num_inference_steps",
                form(|f| f.num_inference_steps = "-1".into()),
            ),
            ("guidance_scale", form(|f| f.guidance_scale = "NaN".into())),
            ("guidance_scale", form(|f| f.guidance_scale = "much".into())),
            ("width", form(|f| f.width = "12.5".into())),
            ("height", form(|f| f.height = "tall".into())),
            ("seed", form(|f| f.seed = "18446744073709551616".into())),
            ("num_images", form(|f| f.num_images = "two".into())),
            ("strength", form(|f| f.strength = "inf".into())),
            ("loras", form(|f| f.loras = "ink:much".into())),
            ("loras", form(|f| f.loras = "ink, :1".into())),
            ("clip_skip", form(|f| f.clip_skip = "-1".into())),
        ];
        for (field, form) in cases {
            let error = form.clone().parse().expect_err("must be refused");
            assert_eq!(error.field(), Some(field), "{form:?}");
        }
    }

    #[test]
    fn a_decimal_comma_is_understood() {
        let request = form(|f| f.guidance_scale = "7,5".into())
            .parse()
            .expect("a number");
        assert_eq!(request.guidance_scale, Some(7.5));
    }

    #[test]
    fn settings_go_through_the_form_unchanged() {
        let settings = Settings {
            prompt: "a star & a \"moon\"".into(),
            negative_prompt: Some("blur".into()),
            num_inference_steps: 12,
            guidance_scale: 7.5,
            width: 128,
            height: 96,
            seed: u64::MAX,
            scheduler: Some("euler".into()),
            model: "demo".into(),
            refiner: Some("demo-refiner".into()),
            denoising_split: Some(0.75),
            init_image: Some(InputFile {
                upload_id: "0198c5a2-0000-7000-8000-000000000000".into(),
                ..InputFile::default()
            }),
            strength: Some(0.35),
            loras: vec![
                LoraWeight {
                    name: "ink: fine".into(),
                    weight: -0.125,
                },
                LoraWeight {
                    name: "paper".into(),
                    weight: 1.0,
                },
            ],
            prompt_syntax: PromptSyntax::Plain,
            clip_skip: 1,
            vae_tiling: Some("on".into()),
            ..Settings::default()
        };
        let request = GenerationForm::from_settings(&settings)
            .parse()
            .expect("settings are valid");
        assert_eq!(request.seed, Some(u64::MAX));
        assert_eq!(request.guidance_scale, Some(7.5));
        assert_eq!((request.width, request.height), (Some(128), Some(96)));
        assert_eq!(request.negative_prompt.as_deref(), Some("blur"));
        let by_form = serde_json::to_value(&request).expect("JSON");
        let mut by_record: GenerationRequest =
            serde_json::from_value(serde_json::to_value(&settings).expect("JSON"))
                .expect("settings read as a request");
        by_record.seed = request.seed;
        assert_eq!(by_form, serde_json::to_value(&by_record).expect("JSON"));
    }
}
