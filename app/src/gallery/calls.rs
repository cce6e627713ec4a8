//! Server functions: a user's own images. Each finds out who asks, then asks the port.
#![allow(
    missing_docs,
    reason = "the macro makes a public struct of each function; its fields are the arguments"
)]

use super::{GalleryPage, ImageDetail, ImageId};
use crate::error::AppError;
use leptos::prelude::*;
#[cfg(feature = "ssr")]
use {
    super::PAGE_SIZE,
    crate::backend::{use_backend, use_viewer},
    crate::response,
};

/// One page of the viewer's images, newest first. An empty `after` is the first page; a `limit` of
/// zero is the usual page size.
#[server(endpoint = "list_images")]
pub async fn list_images(
    #[server(default)] after: String,
    #[server(default)] limit: u32,
) -> Result<GalleryPage, AppError> {
    let viewer = use_viewer()?;
    let after = Some(after.as_str()).filter(|after| !after.is_empty());
    let limit = match limit {
        0 => PAGE_SIZE,
        limit => limit.min(PAGE_SIZE),
    };
    use_backend()?
        .gallery
        .list_images(&viewer, after, limit)
        .await
}

/// One of the viewer's images with everything known about it.
#[server(endpoint = "get_image")]
pub async fn get_image(id: ImageId) -> Result<ImageDetail, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.gallery.image(&viewer, &id).await
}

/// Deletes one of the viewer's images.
#[server(endpoint = "delete_image")]
pub async fn delete_image(id: String) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?
        .gallery
        .delete_image(&viewer, &ImageId(id))
        .await?;
    response::redirect_plain_form("/gallery");
    Ok(())
}
