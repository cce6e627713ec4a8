//! Server functions: a user's own images. Each finds out who asks, then asks the port.
#![allow(
    missing_docs,
    reason = "the macro makes a public struct of each function; its fields are the arguments"
)]

use super::{
    Collection, Facets, GalleryPage, ImageDetail, ImageId, ImageQuery, NewShareLink, Outline,
    ShareLink, SharedImage, Trash,
};
use crate::error::AppError;
use leptos::prelude::*;
use serde::{Deserialize, Serialize};
#[cfg(feature = "ssr")]
use {
    super::{CollectionAct, CollectionId, ImageAct, PAGE_SIZE},
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
    find_page(ImageQuery::default(), after, limit).await
}

/// As [`list_images`], of those that a query asks for.
#[server(endpoint = "find_images")]
pub async fn find_images(
    #[server(default)] query: ImageQuery,
    #[server(default)] after: String,
    #[server(default)] limit: u32,
) -> Result<GalleryPage, AppError> {
    find_page(query, after, limit).await
}

#[cfg(feature = "ssr")]
async fn find_page(query: ImageQuery, after: String, limit: u32) -> Result<GalleryPage, AppError> {
    let viewer = use_viewer()?;
    let after = Some(after.as_str()).filter(|after| !after.is_empty());
    let limit = match limit {
        0 => PAGE_SIZE,
        limit => limit.min(super::MAX_PAGE),
    };
    use_backend()?
        .gallery
        .find_images(&viewer, &query, after, limit)
        .await
}

/// Everything that the gallery's page shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GalleryData {
    /// What was asked for.
    pub query: ImageQuery,
    /// The images.
    pub page: GalleryPage,
    /// What could be asked for besides.
    pub facets: Facets,
    /// The viewer's collections, and those that others share.
    pub collections: Vec<Collection>,
    /// Whether the page is not the first one.
    pub is_older: bool,
    /// The shapes of all images, where they were asked for and more than the page has.
    #[serde(default)]
    pub outline: Option<Outline>,
}

/// A page of the gallery with everything around it; with `outline`, also with the shapes of what
/// follows.
#[server(endpoint = "load_gallery")]
pub async fn load_gallery(
    #[server(default)] query: ImageQuery,
    #[server(default)] after: String,
    #[server(default)] outline: bool,
) -> Result<GalleryData, AppError> {
    let viewer = use_viewer()?;
    let gallery = use_backend()?.gallery;
    let query = query.tidy();
    let is_older = !after.is_empty();
    let cursor = Some(after.as_str()).filter(|after| !after.is_empty());
    let page = gallery
        .find_images(&viewer, &query, cursor, PAGE_SIZE)
        .await?;
    Ok(GalleryData {
        outline: match outline && page.next.is_some() {
            true => Some(gallery.outline(&viewer, &query, cursor).await?),
            false => None,
        },
        page,
        facets: gallery.facets(&viewer, &query).await?,
        collections: gallery.collections(&viewer).await?,
        query,
        is_older,
    })
}

/// The shapes of the images that a query asks for, after a cursor.
#[server(endpoint = "outline_images")]
pub async fn outline_images(
    #[server(default)] query: ImageQuery,
    #[server(default)] after: String,
) -> Result<Outline, AppError> {
    let viewer = use_viewer()?;
    let after = Some(after.as_str()).filter(|after| !after.is_empty());
    use_backend()?.gallery.outline(&viewer, &query, after).await
}

/// The ids of the images that a query asks for, after a cursor: so many.
#[server(endpoint = "pick_images")]
pub async fn pick_images(
    #[server(default)] query: ImageQuery,
    #[server(default)] after: String,
    #[server(default)] limit: u32,
) -> Result<Vec<ImageId>, AppError> {
    let viewer = use_viewer()?;
    let after = Some(after.as_str()).filter(|after| !after.is_empty());
    use_backend()?
        .gallery
        .image_ids(&viewer, &query, after, limit)
        .await
}

/// One of the viewer's images with everything known about it.
#[server(endpoint = "get_image")]
pub async fn get_image(id: ImageId) -> Result<ImageDetail, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.gallery.image(&viewer, &id).await
}

/// Puts one of the viewer's images into the trash.
#[server(endpoint = "delete_image")]
pub async fn delete_image(id: String) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?
        .gallery
        .delete_image(&viewer, &ImageId(id))
        .await?;
    response::redirect_plain_form("/gallery?trashed=1");
    Ok(())
}

#[cfg(feature = "ssr")]
async fn act(ids: Vec<String>, act: ImageAct, back: &str) -> Result<u32, AppError> {
    let viewer = use_viewer()?;
    let ids: Vec<ImageId> = ids.into_iter().map(ImageId).collect();
    let changed = use_backend()?.gallery.act(&viewer, &ids, act).await?;
    response::redirect_plain_form(back);
    Ok(changed)
}

/// Puts several of the viewer's images into the trash; answers how many.
#[server(endpoint = "trash_images")]
pub async fn trash_images(#[server(default)] ids: Vec<String>) -> Result<u32, AppError> {
    let back = format!("/gallery?trashed={}", ids.len());
    act(ids, ImageAct::Trash, &back).await
}

/// Takes images out of the trash; answers how many.
#[server(endpoint = "restore_images")]
pub async fn restore_images(#[server(default)] ids: Vec<String>) -> Result<u32, AppError> {
    act(ids, ImageAct::Restore, "/trash").await
}

/// Deletes images that lie in the trash, files and all; answers how many.
#[server(endpoint = "delete_for_good")]
pub async fn delete_for_good(#[server(default)] ids: Vec<String>) -> Result<u32, AppError> {
    act(ids, ImageAct::DeleteForGood, "/trash").await
}

/// Marks images as favourites, or takes the mark off; answers how many.
#[server(endpoint = "set_favourite")]
pub async fn set_favourite(
    #[server(default)] ids: Vec<String>,
    #[server(default)] favourite: bool,
) -> Result<u32, AppError> {
    let back = one_or_all(&ids);
    act(ids, ImageAct::Favourite(favourite), &back).await
}

/// Gives images stars, 1 to 5, or takes them away with 0; answers how many.
#[server(endpoint = "rate_images")]
pub async fn rate_images(
    #[server(default)] ids: Vec<String>,
    #[server(default)] rating: u8,
) -> Result<u32, AppError> {
    let back = one_or_all(&ids);
    act(ids, ImageAct::Rate(rating), &back).await
}

/// Puts images into one of the viewer's collections; answers how many are new in it.
#[server(endpoint = "collect_images")]
pub async fn collect_images(
    #[server(default)] ids: Vec<String>,
    #[server(default)] collection: String,
) -> Result<u32, AppError> {
    let back = one_or_all(&ids);
    act(ids, ImageAct::Collect(CollectionId(collection)), &back).await
}

/// Takes images out of one of the viewer's collections; answers how many.
#[server(endpoint = "uncollect_images")]
pub async fn uncollect_images(
    #[server(default)] ids: Vec<String>,
    #[server(default)] collection: String,
) -> Result<u32, AppError> {
    let back = ImageQuery {
        collection: collection.clone(),
        ..ImageQuery::default()
    }
    .address(None);
    act(ids, ImageAct::Uncollect(CollectionId(collection)), &back).await
}

/// Where a plain form goes back to: the image's page if it was about one image.
#[cfg(feature = "ssr")]
fn one_or_all(ids: &[String]) -> String {
    match ids {
        [id] => format!("/gallery/{}", crate::components::percent_encode(id)),
        _ => "/gallery".into(),
    }
}

/// What lies in the viewer's trash. An empty `after` is the first page.
#[server(endpoint = "load_trash")]
pub async fn load_trash(#[server(default)] after: String) -> Result<Trash, AppError> {
    let viewer = use_viewer()?;
    let after = Some(after.as_str()).filter(|after| !after.is_empty());
    use_backend()?
        .gallery
        .trash(&viewer, after, super::MAX_PAGE)
        .await
}

/// Deletes everything in the viewer's trash; answers how many images.
#[server(endpoint = "empty_trash")]
pub async fn empty_trash() -> Result<u32, AppError> {
    let viewer = use_viewer()?;
    let gone = use_backend()?.gallery.empty_trash(&viewer).await?;
    response::redirect_plain_form("/trash");
    Ok(gone)
}

/// Sets after how many days images in anybody's trash go for good (administrators).
#[server(endpoint = "set_trash_days")]
pub async fn set_trash_days(#[server(default)] days: String) -> Result<u32, AppError> {
    let viewer = use_viewer()?;
    let days = days.trim().parse().map_err(|_| {
        AppError::invalid(
            "days",
            format!(
                "Give a whole number of days, 1 to {}.",
                super::MAX_TRASH_DAYS
            ),
        )
    })?;
    use_backend()?.gallery.set_trash_days(&viewer, days).await?;
    response::redirect_plain_form("/trash");
    Ok(days)
}

/// The viewer's collections, and those that others share.
#[server(endpoint = "list_collections")]
pub async fn list_collections() -> Result<Vec<Collection>, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.gallery.collections(&viewer).await
}

/// Makes a collection.
#[server(endpoint = "create_collection")]
pub async fn create_collection(
    #[server(default)] name: String,
    #[server(default)] shared: bool,
) -> Result<Collection, AppError> {
    change(CollectionAct::Create { name, shared })
        .await?
        .ok_or(AppError::NotFound)
}

/// Renames a collection of the viewer's, and shares it or stops sharing it.
#[server(endpoint = "change_collection")]
pub async fn change_collection(
    id: String,
    #[server(default)] name: String,
    #[server(default)] shared: bool,
) -> Result<Collection, AppError> {
    let id = CollectionId(id);
    change(CollectionAct::Change { id, name, shared })
        .await?
        .ok_or(AppError::NotFound)
}

/// Deletes a collection of the viewer's; its images stay.
#[server(endpoint = "delete_collection")]
pub async fn delete_collection(id: String) -> Result<(), AppError> {
    let back = format!(
        "/collections?deleted={}",
        crate::components::percent_encode(&id)
    );
    let id = CollectionId(id);
    change_and_go(CollectionAct::Delete { id }, &back)
        .await
        .map(|_| ())
}

/// Brings a deleted collection of the viewer's back, with what was in it.
#[server(endpoint = "restore_collection")]
pub async fn restore_collection(id: String) -> Result<Collection, AppError> {
    let id = CollectionId(id);
    change(CollectionAct::Restore { id })
        .await?
        .ok_or(AppError::NotFound)
}

#[cfg(feature = "ssr")]
async fn change(act: CollectionAct) -> Result<Option<Collection>, AppError> {
    change_and_go(act, "/collections").await
}

#[cfg(feature = "ssr")]
async fn change_and_go(act: CollectionAct, back: &str) -> Result<Option<Collection>, AppError> {
    let viewer = use_viewer()?;
    let changed = use_backend()?
        .gallery
        .change_collection(&viewer, act)
        .await?;
    response::redirect_plain_form(back);
    Ok(changed)
}

/// The open links to one of the viewer's images.
#[server(endpoint = "list_share_links")]
pub async fn list_share_links(id: ImageId) -> Result<Vec<ShareLink>, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.gallery.share_links(&viewer, &id).await
}

/// Makes a link by which anybody may look at one of the viewer's images.
#[server(endpoint = "create_share_link")]
pub async fn create_share_link(
    id: ImageId,
    days: u32,
    #[server(default)] with_settings: bool,
) -> Result<NewShareLink, AppError> {
    let viewer = use_viewer()?;
    use_backend()?
        .gallery
        .create_share_link(&viewer, &id, days, with_settings)
        .await
}

/// Ends a link of the viewer's.
#[server(endpoint = "revoke_share_link")]
pub async fn revoke_share_link(id: String) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.gallery.revoke_share_link(&viewer, &id).await
}

/// What a link leads to; nobody need be signed in.
#[server(endpoint = "open_share_link")]
pub async fn open_share_link(secret: String) -> Result<SharedImage, AppError> {
    let opened = use_backend()?.gallery.open_share_link(&secret).await;
    if matches!(opened, Err(AppError::NotFound)) {
        response::set_status(404);
    }
    opened
}
