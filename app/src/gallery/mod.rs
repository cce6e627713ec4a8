//! The gallery: wire types and server functions for a user's own history of images.

mod calls;
mod gallery_page;
mod image_page;

pub use calls::*;
pub use gallery_page::GalleryPage as GalleryIndexPage;
pub use image_page::ImagePage;

use crate::studio::{JobId, Rung, Settings};
use serde::{Deserialize, Serialize};

/// Images on one page of the gallery, and the most that can be asked for at once.
pub const PAGE_SIZE: u32 = 40;

/// An image's id: a UUIDv7 in text, so ids sort by time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub String);

impl ImageId {
    /// Where the original PNG is served (owner only).
    pub fn file_url(&self) -> String {
        format!("/images/{}.png", self.0)
    }

    /// Where the thumbnail is served (owner only).
    pub fn thumbnail_url(&self) -> String {
        format!("/images/{}/thumbnail.jpg", self.0)
    }
}

/// An image as the grid shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageCard {
    /// Its id.
    pub id: ImageId,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// `#rrggbb`, shown until the file arrives.
    pub dominant_colour: String,
    /// What was asked for.
    pub prompt: String,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// One page of the gallery, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GalleryPage {
    /// The images.
    pub images: Vec<ImageCard>,
    /// The cursor of the next (older) page; `None` at the end.
    pub next: Option<String>,
    /// All images of the viewer.
    pub total: u64,
}

/// How long each part took, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseTimings {
    /// Waiting in the queue.
    pub queued_s: f64,
    /// Loading the model; 0 when it was there already.
    pub loading_s: f64,
    /// Both text encoders.
    pub text_encoding_s: f64,
    /// All denoising steps together.
    pub denoising_s: f64,
    /// The VAE.
    pub decoding_s: f64,
    /// From taking the job to the stored file.
    pub total_s: f64,
}

/// Everything known about one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageDetail {
    /// What the grid shows.
    pub card: ImageCard,
    /// Everything needed to make it again.
    pub settings: Settings,
    /// The scheduler that really ran, e.g. "euler".
    pub scheduler: String,
    /// The device that made it, e.g. "cpu".
    pub device: String,
    /// The arithmetic's data type, e.g. "f32".
    pub dtype: String,
    /// Why not the GPU, where there was a reason.
    pub fallback_reason: Option<String>,
    /// The rungs its job went down because a device failed it; empty as a rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rungs: Vec<Rung>,
    /// How long each part took.
    pub timings: PhaseTimings,
    /// Remarks of the engine (e.g. which words were cut).
    pub notes: Vec<String>,
    /// The file's size in bytes.
    pub bytes: u64,
    /// The file's SHA-256 in hex.
    pub sha256: String,
    /// The job that made it.
    pub job_id: JobId,
    /// The next newer image of the same viewer.
    pub newer: Option<ImageId>,
    /// The next older image of the same viewer.
    pub older: Option<ImageId>,
}
