//! The gallery in JSON: pages, facets, the trash, collections, and several files as one.

use super::problem::Problem;
use super::viewer::ApiViewer;
use crate::gallery::zip;
use crate::startup::Services;
use atelier_app::backend::Gallery as _;
use atelier_app::error::AppError;
use atelier_app::gallery::{
    Collection, CollectionAct, CollectionId, Facets, GalleryPage, ImageAct, ImageDetail, ImageId,
    ImageQuery, NewShareLink, ShareLink, Trash,
};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_stream::wrappers::ReceiverStream;

/// Images on a page where no number is asked for.
const USUAL: u32 = 50;

/// Where in a list, and how much of it.
#[derive(Deserialize)]
pub(super) struct Place {
    after: Option<String>,
    limit: Option<u32>,
}

/// `GET /api/images?q=…&after=CURSOR&limit=N`, newest first.
pub(super) async fn find_images(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Query(query): Query<ImageQuery>,
    Query(place): Query<Place>,
) -> Result<Json<GalleryPage>, Problem> {
    let (after, limit) = (place.after.as_deref(), place.limit.unwrap_or(USUAL));
    let page = services
        .gallery
        .find_images(&viewer, &query, after, limit)
        .await?;
    Ok(Json(page))
}

/// `GET /api/images/facets?q=…`: what those images have in common.
pub(super) async fn facets(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Query(query): Query<ImageQuery>,
) -> Result<Json<Facets>, Problem> {
    Ok(Json(services.gallery.facets(&viewer, &query).await?))
}

/// `GET /api/images/{id}`: everything known about it.
pub(super) async fn image(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<Json<ImageDetail>, Problem> {
    Ok(Json(services.gallery.image(&viewer, &ImageId(id)).await?))
}

/// `DELETE /api/images/{id}`: into the trash.
pub(super) async fn delete_image(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    services.gallery.delete_image(&viewer, &ImageId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/images/import`: a PNG that was made elsewhere is the body, or the first file of a form.
/// A browser without wasm is sent on to the image.
pub(super) async fn import(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let file = super::uploads::sent_file(&headers, body).await?;
    let imported = services.gallery.import(&viewer, file).await?;
    let wants_page = headers
        .get(ACCEPT)
        .and_then(|kinds| kinds.to_str().ok())
        .is_some_and(|kinds| kinds.contains("text/html"));
    if wants_page {
        let address = format!("/gallery/{}", imported.id.0);
        return Ok(Redirect::to(&address).into_response());
    }
    let status = match imported.is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok((status, Json(imported)).into_response())
}

/// What is to be done to which images.
#[derive(Deserialize)]
pub(super) struct Acted {
    ids: Vec<ImageId>,
    act: ImageAct,
}

/// `POST /api/images/act`: `{"ids": […], "act": "trash"}`. Answers to how many it was done.
pub(super) async fn act(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    body: Bytes,
) -> Result<Json<serde_json::Value>, Problem> {
    let Acted { ids, act } = read(&body, "act")?;
    let changed = services.gallery.act(&viewer, &ids, act).await?;
    Ok(Json(serde_json::json!({ "changed": changed })))
}

/// `GET /api/trash`, what was thrown away last comes first.
pub(super) async fn trash(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Query(place): Query<Place>,
) -> Result<Json<Trash>, Problem> {
    let (after, limit) = (place.after.as_deref(), place.limit.unwrap_or(USUAL));
    Ok(Json(services.gallery.trash(&viewer, after, limit).await?))
}

/// `DELETE /api/trash`: everything in it goes for good.
pub(super) async fn empty_trash(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
) -> Result<Json<serde_json::Value>, Problem> {
    let gone = services.gallery.empty_trash(&viewer).await?;
    Ok(Json(serde_json::json!({ "deleted": gone })))
}

/// `GET /api/collections`: one's own by name, then those that others share.
pub(super) async fn collections(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
) -> Result<Json<Vec<Collection>>, Problem> {
    Ok(Json(services.gallery.collections(&viewer).await?))
}

/// A collection as somebody wants it.
#[derive(Deserialize)]
pub(super) struct Wanted {
    name: String,
    #[serde(default)]
    shared: bool,
}

/// `POST /api/collections`: `{"name": "…", "shared": false}`.
pub(super) async fn create_collection(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    body: Bytes,
) -> Result<(StatusCode, Json<Collection>), Problem> {
    let Wanted { name, shared } = read(&body, "name")?;
    let act = CollectionAct::Create { name, shared };
    let made = services.gallery.change_collection(&viewer, act).await?;
    Ok((StatusCode::CREATED, Json(made.ok_or(AppError::NotFound)?)))
}

/// `PUT /api/collections/{id}`: the same body.
pub(super) async fn change_collection(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Collection>, Problem> {
    let Wanted { name, shared } = read(&body, "name")?;
    let id = CollectionId(id);
    let act = CollectionAct::Change { id, name, shared };
    let changed = services.gallery.change_collection(&viewer, act).await?;
    Ok(Json(changed.ok_or(AppError::NotFound)?))
}

/// `DELETE /api/collections/{id}`: the images stay.
pub(super) async fn delete_collection(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let act = CollectionAct::Delete {
        id: CollectionId(id),
    };
    services.gallery.change_collection(&viewer, act).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How long a link lasts, and what it shows.
#[derive(Deserialize)]
pub(super) struct WantedLink {
    days: u32,
    #[serde(default)]
    with_settings: bool,
}

/// `GET /api/images/{id}/shares`: its open links, without their secrets.
pub(super) async fn share_links(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<Json<Vec<ShareLink>>, Problem> {
    let links = services.gallery.share_links(&viewer, &ImageId(id)).await?;
    Ok(Json(links))
}

/// `POST /api/images/{id}/shares`: `{"days": 7, "with_settings": false}`.
pub(super) async fn create_share_link(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<NewShareLink>), Problem> {
    let WantedLink {
        days,
        with_settings,
    } = read(&body, "days")?;
    let made = services
        .gallery
        .create_share_link(&viewer, &ImageId(id), days, with_settings)
        .await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// `DELETE /api/shares/{id}`: ends a link at once.
pub(super) async fn revoke_share_link(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    services.gallery.revoke_share_link(&viewer, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A body in JSON; what is wrong with it names a field of it.
pub(super) fn read<T: DeserializeOwned>(body: &[u8], field: &str) -> Result<T, AppError> {
    serde_json::from_slice(body)
        .map_err(|error| AppError::invalid(field, format!("The body cannot be used: {error}")))
}

#[derive(Deserialize)]
struct Ids {
    ids: Vec<ImageId>,
}

/// `POST /api/images/zip`: the originals of `ids` as one archive, sent while it is written. The body
/// is JSON, or a form of our own pages with `ids[]`.
pub(super) async fn zip(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let is_form = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    let ids = if is_form {
        url::form_urlencoded::parse(&body)
            .filter(|(name, _)| name.split('[').next() == Some("ids"))
            .map(|(_, id)| ImageId(id.into_owned()))
            .collect()
    } else {
        read::<Ids>(&body, "ids")?.ids
    };
    let entries = services.gallery.find_files(&viewer, &ids).await?;
    let name = format!("atelier-{}-images.zip", entries.len());
    let length = zip::length(&entries);
    let writer = zip::Writer::new(services.gallery.shared_files(), entries);
    Ok(send_archive(writer, length, &name))
}

/// An archive of so many bytes, sent while it is written.
pub(super) fn send_archive(mut writer: zip::Writer, length: u64, name: &str) -> Response {
    // Two entries ahead of a slow reader, no more: that is all the memory an archive takes.
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    tokio::spawn(async move {
        loop {
            // A slow reader holds no thread.
            let step = tokio::task::spawn_blocking(move || {
                let piece = writer.next_piece();
                (writer, piece)
            });
            let Ok((back, Some(piece))) = step.await else {
                break;
            };
            writer = back;
            let piece = piece.map(Bytes::from).map_err(|error| {
                tracing::error!(%error, "an archive could not be finished");
                std::io::Error::other("the archive could not be finished")
            });
            let is_last = piece.is_err();
            if sender.send(piece).await.is_err() || is_last {
                break;
            }
        }
    });
    let mut response = Body::from_stream(ReceiverStream::new(receiver)).into_response();
    let answer = response.headers_mut();
    answer.insert(CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    answer.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        answer.insert(CONTENT_DISPOSITION, name);
    }
    response
}
