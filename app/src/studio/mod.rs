//! The studio: wire types and server functions for asking for an image and watching it appear.

mod advanced;
mod calls;
mod composer;
mod desk;
mod draft;
mod expect;
mod extras;
mod history;
mod lora_list;
mod mask;
mod presets;
mod prompt;
mod rail;
mod request;
#[cfg(feature = "hydrate")]
mod sending;
mod settings;
mod shapes;
mod shelf;
mod start_image;
mod studio_page;
mod styles_panel;

pub use calls::*;
pub use prompt::{PromptSyntax, PromptTokens, TokenCount};
pub use request::GenerationForm;
pub use settings::{
    GenerationRequest, ImageSource, InputFile, LORA_WEIGHT_LIMIT, LoraWeight, MAX_IMAGES, Settings,
};
pub use shelf::{
    ImportedStyles, LONGEST_SHELF_NAME, OwnPreset, OwnStyle, PastPrompt, Preset, Shelf, Style,
    built_in_styles, find_style, style_names, with_styles,
};
pub use studio_page::StudioPage;

use crate::gallery::ImageCard;
use serde::{Deserialize, Serialize};

/// A job's id: a UUIDv7 in text, so ids sort by time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub String);

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waiting for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// There is an image.
    Done,
    /// Given up; `error` says why.
    Failed,
    /// Stopped by its owner.
    Cancelled,
}

impl JobState {
    /// Whether nothing more will happen to it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// What the owner of a waiting job is told while an administrator holds the queue.
pub const PAUSED: &str = "The queue is paused by an administrator.";

/// A job as its owner sees it, in lists and in the live stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// Where it stands.
    pub state: JobState,
    /// What was asked for.
    pub settings: Settings,
    /// Jobs that go first, while queued (0 = next).
    pub position: Option<u32>,
    /// Why it does not start however long it waits, in words: [`PAUSED`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// What the worker does now: "loading model", "encoding prompt", "denoising", "decoding", "saving".
    pub phase: Option<String>,
    /// Finished denoising steps.
    pub step: u32,
    /// All denoising steps.
    pub steps: u32,
    /// Estimated seconds until the image is there, from measured speed.
    pub seconds_left: Option<f64>,
    /// The latent preview as a `data:image/…` address.
    pub preview: Option<String>,
    /// The result, once done.
    pub image_id: Option<String>,
    /// The result was there already: an earlier image with the same settings.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// Why it failed, in words for its owner.
    pub error: Option<String>,
    /// Which attempt runs or ran last (1 = first).
    pub attempt: u32,
    /// The rungs it went down because a device failed it; empty as a rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rungs: Vec<Rung>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub finished_at: Option<i64>,
}

/// What a job changed when a device failed it: one step down the ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Descent {
    /// The VAE works in tiles.
    TiledVae,
    /// Text encoders, UNet and VAE take turns in the device's memory.
    InTurn,
    /// Weights are kept in a smaller number format, e.g. `f16`.
    Storage(String),
    /// Another number format to compute in, e.g. `bf16`.
    Precision(String),
    /// Away from this device: to another one, and to the CPU in the end.
    Leave,
}

/// One rung of the ladder that a job went down, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// Unix milliseconds.
    pub at: i64,
    /// The device that failed, e.g. `cuda:0`.
    pub device: String,
    /// What happened, in words: "out of memory while decoding the image".
    pub fault: String,
    /// What was changed.
    pub descent: Descent,
    /// What was changed, in words: "decoded in tiles".
    pub done: String,
}

/// One message of the live stream `GET /api/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum LiveEvent {
    /// Sent first: every job of the viewer that is queued or running, oldest first.
    Snapshot {
        /// The jobs.
        jobs: Vec<JobView>,
    },
    /// One job changed.
    Job {
        /// The job as it is now.
        job: Box<JobView>,
    },
}

/// What to expect, shown before submitting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Seconds until a worker takes it; `None` while nothing is known of the device's speed.
    pub starts_in_s: Option<f64>,
    /// Seconds that all of the images take; `None` while nothing is known of the device's speed.
    pub takes_s: Option<f64>,
    /// How many images that is.
    #[serde(default)]
    pub num_images: u32,
    /// What the seconds are reckoned from where no such image was made here yet: the speed of
    /// another model, or the device's arithmetic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guessed_from: Option<String>,
    /// The queue is paused: nothing starts until an administrator lets it go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// On a CPU: what would make the image in a few steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faster: Option<Faster>,
}

/// A model or a LoRA that makes an image in a few steps, in place of what was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Faster {
    /// Its name.
    pub name: String,
    /// A LoRA, to be put on beside the model; else a model.
    pub is_lora: bool,
    /// Its denoising steps.
    pub num_inference_steps: u32,
    /// How many times as fast it is here.
    pub times: f64,
    /// Whether that is from images that both have made here, and not reckoned.
    pub measured: bool,
}

/// A model that can be asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// The name that requests use, e.g. `demo`.
    pub name: String,
    /// What it is: `stable-diffusion-xl-base`, `-inpainting` or `-refiner`.
    #[serde(default)]
    pub kind: String,
    /// A sentence for people.
    pub description: String,
    /// Pixels.
    pub default_width: u32,
    /// Pixels.
    pub default_height: u32,
    /// Steps used when a request names none.
    pub default_steps: u32,
    /// Guidance used when a request names none.
    pub default_guidance_scale: f64,
    /// Width and height must be multiples of this.
    pub size_multiple: u32,
    /// Largest width and height in pixels.
    pub max_side: u32,
    /// Schedulers that can be named.
    pub schedulers: Vec<String>,
    /// Whether it is the one used when a request names none.
    pub is_default: bool,
    /// Prompts that suit it, for empty states.
    pub example_prompts: Vec<String>,
    /// Settings from quick to careful.
    #[serde(default)]
    pub presets: Vec<Preset>,
    /// Whether it was distilled to need a few steps only.
    #[serde(default)]
    pub few_step: bool,
}

impl ModelSummary {
    /// Whether it finishes what another model has begun.
    pub fn is_refiner(&self) -> bool {
        self.kind.ends_with("-refiner")
    }
}

/// A LoRA or a VAE that can be named in a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AddOn {
    /// The name that requests use.
    pub name: String,
    /// The file's size.
    pub bytes: u64,
    /// Ranks of a LoRA's layers, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<u32>,
    /// The parts of a model that a LoRA acts on: `unet`, `text_encoder`, `text_encoder_2`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// Words that its author says call it up, and the commonest tags it was trained on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<String>,
    /// Why it cannot be used, where that is known already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The address of a picture of what it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// For one that makes models need a few steps only: settings from quick to careful.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presets: Vec<Preset>,
}

/// An image that was sent to the server to start from, or a mask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadSummary {
    /// The id that requests use.
    pub id: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// The file's size.
    pub bytes: u64,
    /// The file's SHA-256 in hex.
    pub sha256: String,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// The device in one line, for the badge every user sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceBadge {
    /// E.g. "CPU · 2 cores · f32".
    pub label: String,
    /// Whether this is a fallback (a GPU exists or was asked for but is not used).
    pub degraded: bool,
    /// Why, in a sentence, when it is.
    pub reason: Option<String>,
}

/// Everything the studio shows when it is opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudioData {
    /// The viewer's jobs: active ones, and those that ended without an image a moment ago.
    pub jobs: Vec<JobView>,
    /// The models that can be asked for, the default first; refiners too.
    pub models: Vec<ModelSummary>,
    /// The VAEs that can be asked for in place of a model's own.
    #[serde(default)]
    pub vaes: Vec<AddOn>,
    /// The device in one line.
    pub device: DeviceBadge,
    /// The viewer's latest images.
    pub recent: Vec<ImageCard>,
    /// The settings of the image to start again from, where one was named and exists.
    pub from: Option<Settings>,
    /// What the viewer keeps.
    #[serde(default)]
    pub shelf: Shelf,
}
