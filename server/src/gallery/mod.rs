//! A user's own images: rows, content-addressed files, PNG metadata.

pub mod files; // originals and thumbnails on disk
pub mod metadata; // what a PNG says about itself

pub use files::{ImageHash, ImageStore};
pub use metadata::Facts;
