//! The gallery: wire types and server functions for a user's own history of images.

mod calls;
mod collections_page;
mod compare_page; // two images beside or over each other
mod gallery_page;
mod hanging; // what hangs on a wall, loaded or not
mod image_acts; // what can be done with one image
mod image_page;
mod import; // images that were made elsewhere
mod loader; // of what is looked at
mod outline; // the shapes of a hundred thousand images
mod places; // between all, favourites, collections and trash
mod press; // a touch that stays
mod query; // what is looked for, as an address and as a form
mod rows; // where each image goes
mod search_bar;
mod selection; // several images at once
mod share; // links for people without an account
mod shared_page; // what such a link leads to
mod sight; // what of a wall is in sight
mod trash_page;
mod undo; // what was just moved to the trash
mod wall; // the images in justified rows
mod way_back; // to where one was in the gallery

pub use calls::*;
pub use collections_page::CollectionsPage;
pub use compare_page::ComparePage;
pub use gallery_page::GalleryPage as GalleryIndexPage;
pub use image_page::ImagePage;
pub use outline::{MARK_EVERY, Mark, Outline, shape_letter};
pub use query::ImageQuery;
pub use shared_page::SharedPage;
pub use trash_page::TrashPage;
pub use undo::{UndoToast, provide_undo};
pub use way_back::{Footsteps, provide_way_back};

use crate::studio::{JobId, Rung, Settings};
use serde::{Deserialize, Serialize};

/// Images on one page of the gallery.
pub const PAGE_SIZE: u32 = 40;

/// Most images that can be asked for at once.
pub const MAX_PAGE: u32 = 100;

/// An image's id: a UUIDv7 in text, so ids sort by time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub String);

impl ImageId {
    /// Where the original PNG is served, to whoever can see the image.
    pub fn file_url(&self) -> String {
        format!("/images/{}.png", self.0)
    }

    /// Where the thumbnail is served, to whoever can see the image.
    pub fn thumbnail_url(&self) -> String {
        format!("/images/{}/thumbnail.jpg", self.0)
    }
}

/// An image as the grid shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Whether its owner marked it.
    #[serde(default)]
    pub favourite: bool,
    /// One to five stars of its owner; 0 is none.
    #[serde(default)]
    pub rating: u8,
}

/// One page of the gallery, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GalleryPage {
    /// The images.
    pub images: Vec<ImageCard>,
    /// The cursor of the next (older) page; `None` at the end.
    pub next: Option<String>,
    /// All images that were asked for, on whichever page.
    pub total: u64,
    /// Whether there are more than `total`: words are counted up to a limit.
    #[serde(default)]
    pub more: bool,
    /// Whether the viewer may change them; not those of somebody else's collection.
    #[serde(default)]
    pub mine: bool,
}

/// A value of a facet, and how many images have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FacetValue {
    /// As the query says it.
    pub value: String,
    /// How many of the images that were asked for have it.
    pub count: u64,
}

/// What the images that were asked for have in common. Each facet is counted as if it were not
/// asked for itself, so that another of its values can be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facets {
    /// Models by name.
    pub models: Vec<FacetValue>,
    /// `1024x768`
    pub sizes: Vec<FacetValue>,
    /// The schedulers that ran.
    pub schedulers: Vec<FacetValue>,
    /// Kinds of device; `imported` for images that were made elsewhere.
    pub devices: Vec<FacetValue>,
    /// `2026-11`, newest first.
    pub months: Vec<FacetValue>,
    /// Stars and more, from 5 to 1.
    pub ratings: Vec<FacetValue>,
    /// How many are marked.
    pub favourites: u64,
    /// Whether only the latest matches were counted.
    pub more: bool,
}

/// A collection's id: a UUIDv7 in text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CollectionId(pub String);

/// Images under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Its id.
    pub id: CollectionId,
    /// Its name, one of a kind among its owner's.
    pub name: String,
    /// Whether everybody who can sign in may look at it.
    pub shared: bool,
    /// Whether it is the viewer's own.
    pub mine: bool,
    /// Whose it is.
    pub owner: String,
    /// How many images are in it, those in the trash left out.
    pub images: u64,
    /// Its latest image.
    pub cover: Option<ImageCard>,
}

/// What can be done to several images at once. Only to the viewer's own: others are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageAct {
    /// Puts them into the trash.
    Trash,
    /// Takes them out of it.
    Restore,
    /// Deletes what lies in the trash, files and all.
    DeleteForGood,
    /// Marks them, or takes the mark off.
    Favourite(bool),
    /// Gives them stars; 0 takes them away.
    Rate(u8),
    /// Puts them into a collection of the viewer's.
    Collect(CollectionId),
    /// Takes them out of one.
    Uncollect(CollectionId),
}

/// What can be done to collections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectionAct {
    /// Makes one.
    Create {
        /// Its name.
        name: String,
        /// Whether everybody may look at it.
        #[serde(default)]
        shared: bool,
    },
    /// Changes one of the viewer's.
    Change {
        /// Which.
        id: CollectionId,
        /// Its name from now on.
        name: String,
        /// Whether everybody may look at it from now on.
        shared: bool,
    },
    /// Deletes one of the viewer's; the images stay.
    Delete {
        /// Which.
        id: CollectionId,
    },
    /// Brings a deleted one back, with what was in it.
    Restore {
        /// Which.
        id: CollectionId,
    },
}

/// A link by which anybody may look at one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareLink {
    /// What revoking names; it opens nothing.
    pub id: String,
    /// Whether prompt and settings are shown too.
    pub with_settings: bool,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub expires_at: i64,
}

/// A link that was just made. Its secret is not kept anywhere: it is told this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewShareLink {
    /// The link.
    pub link: ShareLink,
    /// Where it leads, on this server.
    pub path: String,
}

/// What somebody with a link sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SharedImage {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// `#rrggbb`
    pub dominant_colour: String,
    /// Unix milliseconds.
    pub expires_at: i64,
    /// What it was made with, where that is shared too.
    pub settings: Option<Settings>,
}

/// Longest time that a link may last, in days.
pub const MAX_SHARE_DAYS: u32 = 365;

/// A file that was brought in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedImage {
    /// The image that it is now.
    pub id: ImageId,
    /// Whether it was not there before.
    pub is_new: bool,
    /// The program that made it, as far as the file says.
    pub program: Option<String>,
}

/// What lies in the trash.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trash {
    /// What was put there last comes first.
    pub images: Vec<ImageCard>,
    /// The cursor of the next page; `None` at the end.
    pub next: Option<String>,
    /// How many lie there.
    pub total: u64,
    /// After how many days they go for good.
    pub days: u32,
}

/// Most images that something can be done to at once.
pub const MAX_SELECTED: usize = 5000;

/// Longest time that the trash may keep images, in days.
pub const MAX_TRASH_DAYS: u32 = 3650;

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
    /// Whether it is the viewer's own; otherwise it lies in a collection that is shared.
    #[serde(default)]
    pub mine: bool,
    /// Whose it is.
    #[serde(default)]
    pub owner: String,
    /// The program that made it, where it was brought here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_from: Option<String>,
    /// The image that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ImageCard>,
    /// Images that were made from it, the latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ImageCard>,
    /// The next newer image of the same viewer.
    pub newer: Option<ImageId>,
    /// The next older image of the same viewer.
    pub older: Option<ImageId>,
}
