//! A user's own images: rows, content-addressed files, PNG metadata.

pub mod files; // originals and thumbnails on disk
pub mod metadata; // what a PNG says about itself

use crate::config::ServeConfig;
use crate::db::Db;
use crate::error::ServerError;
use async_trait::async_trait;
use atelier_app::account::Viewer;
use atelier_app::backend::{Answer, Gallery};
use atelier_app::error::AppError;
use atelier_app::gallery::{GalleryPage, ImageDetail, ImageId};
pub use files::{ImageHash, ImageStore};
pub use metadata::Facts;
use std::sync::Arc;

/// A user's own images.
pub struct GalleryService {}

impl GalleryService {
    /// Opens the images' folder.
    pub async fn open(_db: Db, _config: &ServeConfig) -> Result<Arc<Self>, ServerError> {
        Ok(Arc::new(Self {}))
    }
}

fn next() -> AppError {
    AppError::Unavailable {
        message: "The gallery lands next.".into(),
    }
}

#[async_trait]
impl Gallery for GalleryService {
    async fn list_images(&self, _: &Viewer, _: Option<&str>, _: u32) -> Answer<GalleryPage> {
        Err(next())
    }
    async fn image(&self, _: &Viewer, _: &ImageId) -> Answer<ImageDetail> {
        Err(next())
    }
    async fn delete_image(&self, _: &Viewer, _: &ImageId) -> Answer<()> {
        Err(next())
    }
}
