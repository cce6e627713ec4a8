//! The studio's form as typed, and its one way into a [`GenerationRequest`].

use super::{GenerationRequest, Settings};
use crate::components::{number_text, percent_encode};
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
}

impl GenerationForm {
    /// The names of its fields, on the wire and in errors.
    pub const FIELDS: [&'static str; 9] = [
        "prompt",
        "negative_prompt",
        "num_inference_steps",
        "guidance_scale",
        "width",
        "height",
        "seed",
        "scheduler",
        "model",
    ];

    /// What the form asks for. Ranges and the model's own limits are the server's to check.
    ///
    /// # Errors
    /// [`AppError::Invalid`] naming the field that is not a number or, for the prompt, is empty.
    pub fn parse(self) -> Result<GenerationRequest, AppError> {
        if self.prompt.trim().is_empty() {
            return Err(AppError::invalid("prompt", "Say what to draw."));
        }
        Ok(GenerationRequest {
            negative_prompt: text(self.negative_prompt),
            num_inference_steps: number(
                "num_inference_steps",
                &self.num_inference_steps,
                "Give a whole number of steps, 1 to 150.",
            )?,
            guidance_scale: number(
                "guidance_scale",
                &self.guidance_scale,
                "Give a number, e.g. 5 or 7.5.",
            )?
            .map(|scale: f64| {
                if scale.is_finite() {
                    Ok(scale)
                } else {
                    Err(AppError::invalid(
                        "guidance_scale",
                        "Give a number, e.g. 5 or 7.5.",
                    ))
                }
            })
            .transpose()?,
            width: number("width", &self.width, "Give the width in whole pixels.")?,
            height: number("height", &self.height, "Give the height in whole pixels.")?,
            seed: number(
                "seed",
                &self.seed,
                "Give a whole number from 0 to 18446744073709551615, or leave it empty for a random one.",
            )?,
            scheduler: text(self.scheduler),
            model: text(self.model),
            prompt: self.prompt,
            ..GenerationRequest::default()
        })
    }

    /// The form that makes an image with these settings again.
    pub fn from_settings(settings: &Settings) -> Self {
        Self {
            prompt: settings.prompt.clone(),
            negative_prompt: settings.negative_prompt.clone().unwrap_or_default(),
            num_inference_steps: settings.num_inference_steps.to_string(),
            guidance_scale: number_text(settings.guidance_scale),
            width: settings.width.to_string(),
            height: settings.height.to_string(),
            seed: settings.seed.to_string(),
            scheduler: settings.scheduler.clone().unwrap_or_default(),
            model: settings.model.clone(),
        }
    }

    /// The fields and their values, in the order of [`Self::FIELDS`].
    pub fn values(&self) -> [&str; 9] {
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
        let cases: [(&str, GenerationForm); 7] = [
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
        };
        let request = GenerationForm::from_settings(&settings)
            .parse()
            .expect("settings are valid");
        assert_eq!(request.seed, Some(u64::MAX));
        assert_eq!(request.guidance_scale, Some(7.5));
        assert_eq!((request.width, request.height), (Some(128), Some(96)));
        assert_eq!(request.negative_prompt.as_deref(), Some("blur"));
    }
}
