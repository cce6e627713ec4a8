//! What a person asks for, and what that came to: the words that the API, the queue, the gallery
//! and the PNG's own chunk all use. Whatever was written by an earlier version is still read.

use super::prompt::{PromptSyntax, is_zero};
use serde::{Deserialize, Deserializer, Serialize};

/// Most images that one request may ask for.
pub const MAX_IMAGES: u32 = 16;

/// Largest weight of a LoRA, either way.
pub const LORA_WEIGHT_LIMIT: f64 = 100.0;

/// What a person asks for. Absent fields take the model's defaults; the same shape is the body of
/// `POST /api/generate-image`, where unknown fields are ignored. [`Settings`] in JSON read as one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationRequest {
    /// What to draw; 1 to 10 000 characters. `<lora:NAME:WEIGHT>` in it asks for a LoRA.
    pub prompt: String,
    /// What to keep out. Absent differs from empty: absent means zeroed conditioning in SDXL.
    pub negative_prompt: Option<String>,
    /// Denoising steps, 1 to 150 (the model's default when absent).
    pub num_inference_steps: Option<u32>,
    /// Classifier-free guidance; 1.0 or less turns it off.
    pub guidance_scale: Option<f64>,
    /// Pixels; a multiple of 8.
    pub width: Option<u32>,
    /// Pixels; a multiple of 8.
    pub height: Option<u32>,
    /// Random when absent. The same seed gives the same image.
    pub seed: Option<u64>,
    /// A scheduler's name; the model's own when absent.
    pub scheduler: Option<String>,
    /// A model's name; the server's default when absent.
    pub model: Option<String>,
    /// How many images, 1 to [`MAX_IMAGES`]; each has the seed after the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_images: Option<u32>,
    /// Whether an earlier image of the same settings will do; it will, unless this says `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_cache: Option<bool>,
    /// A refiner's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refiner: Option<String>,
    /// The base model's share of the schedule, between 0 and 1; the refiner does the rest. 0.8 when
    /// a refiner is named and `refiner_strength` is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denoising_split: Option<f64>,
    /// In place of a split: how much of the schedule the refiner runs on the finished image, above
    /// 0 and up to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refiner_strength: Option<f64>,
    /// The score that the refiner is told to reach, 0 to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aesthetic_score: Option<f64>,
    /// The score that the refiner is guided away from, 0 to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_aesthetic_score: Option<f64>,
    /// An image to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_image: Option<ImageSource>,
    /// How much of the schedule is run on it, above 0 and up to 1; 0.3 when absent, with a mask
    /// 0.9999.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// Paint only where this is white.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<ImageSource>,
    /// Radius of the blur of the mask's edge in pixels; 0 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_blur: Option<f64>,
    /// Work on the masked region alone, with this many pixels around it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_masked_padding: Option<u32>,
    /// LoRAs by name.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "list_or_null"
    )]
    pub loras: Vec<LoraWeight>,
    /// The name of a VAE, or of a model whose VAE to use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vae: Option<String>,
    /// How the prompts are read.
    #[serde(skip_serializing_if = "PromptSyntax::is_auto")]
    pub prompt_syntax: PromptSyntax,
    /// Last layers of the text encoders to leave out, besides the one that SDXL leaves out.
    #[serde(skip_serializing_if = "is_zero")]
    pub clip_skip: u32,
    /// How far guided predictions are brought back to the spread of unguided ones, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_rescale: Option<f64>,
    /// `auto` (when absent), `on` or `off`; `true` and `false` read as `on` and `off`.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "word_or_switch"
    )]
    pub vae_tiling: Option<String>,
}

/// A request after defaults and the seed were filled in: everything needed to make the image again.
/// What has no effect on the image is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// What to draw.
    pub prompt: String,
    /// What to keep out, if given.
    pub negative_prompt: Option<String>,
    /// Denoising steps.
    pub num_inference_steps: u32,
    /// Classifier-free guidance.
    pub guidance_scale: f64,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// The seed that was used.
    pub seed: u64,
    /// The scheduler asked for; `None` is the model's own.
    pub scheduler: Option<String>,
    /// The model's name.
    pub model: String,
    /// The refiner's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refiner: Option<String>,
    /// The base model's share of the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denoising_split: Option<f64>,
    /// How much of the schedule the refiner runs on the finished image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refiner_strength: Option<f64>,
    /// The score that the refiner is told to reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aesthetic_score: Option<f64>,
    /// The score that the refiner is guided away from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_aesthetic_score: Option<f64>,
    /// The image that was started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_image: Option<InputFile>,
    /// How much of the schedule was run on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// Where to paint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<InputFile>,
    /// Radius of the blur of the mask's edge in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_blur: Option<f64>,
    /// Pixels around the masked region, where that alone is worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_masked_padding: Option<u32>,
    /// LoRAs by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<LoraWeight>,
    /// The VAE in place of the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vae: Option<String>,
    /// How the prompts are read.
    #[serde(default, skip_serializing_if = "PromptSyntax::is_auto")]
    pub prompt_syntax: PromptSyntax,
    /// Last layers of the text encoders to leave out, besides the one that SDXL leaves out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub clip_skip: u32,
    /// How far guided predictions are brought back to the spread of unguided ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance_rescale: Option<f64>,
    /// `on` or `off`; `None` decides by the memory at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vae_tiling: Option<String>,
}

impl Settings {
    /// The stored files that the image is made from.
    pub fn input_files(&self) -> impl Iterator<Item = &InputFile> {
        self.init_image.iter().chain(&self.mask)
    }
}

/// A LoRA's name and how much of it is applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraWeight {
    /// The name that the server lists.
    pub name: String,
    /// 1 is as trained; negative values turn it around.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

/// A stored file: the id of an upload, and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// The upload's id; empty for a file that a command line named.
    pub upload_id: String,
    /// The file's SHA-256 in hex.
    pub sha256: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ImageSource {
    /// The file itself in base64, with or without `data:image/…;base64,` before it.
    Inline(String),
    /// Something that was uploaded before.
    Upload {
        /// Its id.
        upload_id: String,
    },
    /// An image of one's own gallery.
    Gallery {
        /// Its id.
        image_id: String,
    },
}

impl ImageSource {
    /// What a field of text means: an upload's id, or `image:` before the id of an image of the
    /// gallery, or a file in base64. Nothing for an empty one.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        if let Some(id) = text.strip_prefix("image:") {
            return Some(Self::Gallery {
                image_id: id.to_owned(),
            });
        }
        // No file in base64 is as short as an id, or has its dashes.
        if text.len() <= 64 && text.contains('-') {
            return Some(Self::Upload {
                upload_id: text.to_owned(),
            });
        }
        Some(Self::Inline(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for ImageSource {
    /// By hand, so that a mistake is told in words that help.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Shape {
            Text(String),
            Named {
                upload_id: Option<String>,
                image_id: Option<String>,
            },
            Other(serde::de::IgnoredAny),
        }
        const WANTED: &str =
            "expected an image: base64 text, {\"image_id\": \"…\"} or {\"upload_id\": \"…\"}";
        match Shape::deserialize(deserializer)? {
            Shape::Text(text) => Self::from_text(&text)
                .ok_or_else(|| serde::de::Error::custom(format!("empty text; {WANTED}"))),
            Shape::Named {
                upload_id: Some(upload_id),
                image_id: None,
            } => Ok(Self::Upload { upload_id }),
            Shape::Named {
                upload_id: None,
                image_id: Some(image_id),
            } => Ok(Self::Gallery { image_id }),
            Shape::Named { .. } | Shape::Other(_) => Err(serde::de::Error::custom(WANTED)),
        }
    }
}

/// `null` where a list is expected means an empty one.
fn list_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<LoraWeight>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A word, or a switch that means `on` or `off`.
fn word_or_switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Shape {
        Switch(bool),
        Word(String),
        Other(serde::de::IgnoredAny),
    }
    match Option::<Shape>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Shape::Switch(on)) => Ok(Some(if on { "on" } else { "off" }.to_owned())),
        Some(Shape::Word(word)) => Ok(Some(word)),
        Some(Shape::Other(_)) => Err(serde::de::Error::custom(
            "expected \"auto\", \"on\" or \"off\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_versions_wrote_is_still_read() {
        let old = r#"{"prompt":"a","negative_prompt":null,"num_inference_steps":4,"guidance_scale":5.0,
            "width":64,"height":64,"seed":7,"scheduler":null,"model":"demo"}"#;
        let settings: Settings = serde_json::from_str(old).expect("an old row");
        assert_eq!(settings.refiner, None);
        assert!(settings.loras.is_empty());
        let again = serde_json::to_string(&settings).expect("JSON");
        assert!(
            !again.contains("refiner") && !again.contains("loras"),
            "{again}"
        );
    }

    #[test]
    fn settings_read_as_a_request() {
        let settings = Settings {
            prompt: "a".into(),
            model: "demo".into(),
            seed: u64::MAX,
            refiner: Some("demo-refiner".into()),
            denoising_split: Some(0.75),
            loras: vec![LoraWeight {
                name: "ink".into(),
                weight: -0.5,
            }],
            init_image: Some(InputFile {
                upload_id: "u-1".into(),
                sha256: "00".into(),
                width: 3,
                height: 4,
            }),
            ..Settings::default()
        };
        let text = serde_json::to_string(&settings).expect("JSON");
        let request: GenerationRequest = serde_json::from_str(&text).expect("a request");
        assert_eq!(request.seed, Some(u64::MAX));
        assert_eq!(request.refiner.as_deref(), Some("demo-refiner"));
        assert_eq!(request.loras, settings.loras);
        assert_eq!(
            request.init_image,
            Some(ImageSource::Upload {
                upload_id: "u-1".into()
            })
        );
    }

    #[test]
    fn images_come_from_three_places_and_nowhere_else() {
        let read = |text: &str| serde_json::from_str::<ImageSource>(text);
        assert_eq!(
            read(r#""iVBORw0KGgo=""#).ok(),
            Some(ImageSource::Inline("iVBORw0KGgo=".into()))
        );
        assert_eq!(
            read(r#"{"image_id":"x","more":1}"#).ok(),
            Some(ImageSource::Gallery {
                image_id: "x".into()
            })
        );
        assert_eq!(
            read(r#""0198c5a2-0000-7000-8000-000000000000""#).ok(),
            Some(ImageSource::Upload {
                upload_id: "0198c5a2-0000-7000-8000-000000000000".into()
            })
        );
        for bad in ["7", "[]", "{}", r#"" ""#, r#"{"image_id":1}"#, "true"] {
            let error = read(bad).expect_err(bad).to_string();
            assert!(error.contains("expected an image"), "{error}");
        }
    }

    #[test]
    fn switches_and_nulls_are_understood() {
        let read = |text: &str| serde_json::from_str::<GenerationRequest>(text);
        let request = read(r#"{"vae_tiling":true,"loras":null,"init_image":null}"#).expect("fine");
        assert_eq!(request.vae_tiling.as_deref(), Some("on"));
        assert!(request.loras.is_empty() && request.init_image.is_none());
        let lora = read(r#"{"loras":[{"name":"ink"}]}"#).expect("fine").loras;
        assert_eq!(lora[0].weight, 1.0);
        assert!(read(r#"{"vae_tiling":3}"#).is_err());
    }
}
