//! What is fetched about people: one's own account, one's own images as a zip, and for administrators
//! the audit log as a file and, where a setting allows it, others' images.

use super::gallery::send_archive;
use super::problem::Problem;
use super::viewer::ApiViewer;
use crate::accounts::departure::Departures;
use crate::audit::{CSV_HEAD, csv};
use crate::gallery::Rendition;
use crate::gallery::zip::length;
use crate::startup::Services;
use atelier_app::account::{UserId, Viewer};
use atelier_app::admin::AuditFilter;
use atelier_app::error::AppError;
use atelier_app::gallery::ImageId;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::stream;

/// Rows that are read at a time.
const CHUNK: u32 = 500;

/// `GET /api/admin/audit.csv?actor=…&act=…&text=…`: every act that passes the filter, newest first,
/// read piece by piece however long it is.
pub(super) async fn audit_csv(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Query(filter): Query<AuditFilter>,
) -> Result<Response, Problem> {
    if !viewer.is_admin() {
        return Err(AppError::Forbidden.into());
    }
    let audit = services.audit.clone();
    // The first page before the answer begins: a filter that is none gets its own status.
    let first = audit.page(&filter, CHUNK).await?;
    let rest = stream::try_unfold(Some((first, filter, true)), move |state| {
        let audit = audit.clone();
        async move {
            let Some((page, filter, is_first)) = state else {
                return Ok::<_, AppError>(None);
            };
            let head = if is_first { CSV_HEAD } else { "" };
            let text = format!("{head}{}", csv(&page));
            let next = match page.next {
                None => None,
                Some(before) => {
                    let filter = AuditFilter {
                        before: Some(before),
                        ..filter
                    };
                    let page = audit.page(&filter, CHUNK).await?;
                    Some((page, filter, false))
                }
            };
            Ok(Some((text, next)))
        }
    });
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8"),
        (CONTENT_DISPOSITION, "attachment; filename=\"audit.csv\""),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(rest)).into_response())
}

/// `GET /api/account`: who one is.
pub(super) async fn account(ApiViewer(viewer): ApiViewer) -> Json<Viewer> {
    Json(viewer)
}

/// `GET /api/account/export.zip`: everything of the caller's.
pub(super) async fn own_export(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
) -> Result<Response, Problem> {
    zip(services.people.departures(), viewer.id, "atelier.zip").await
}

/// `GET /api/admin/users/{id}/export.zip`: everything of a user's, which is a look into their images.
pub(super) async fn export(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let people = &services.people;
    let owner = people.may_look(&viewer, UserId(id)).await?;
    people
        .note_look(&viewer, &owner, "everything, as a zip", false)
        .await?;
    zip(people.departures(), owner.id, &format!("user-{id}.zip")).await
}

/// `GET /api/admin/users/{id}/images/{image}/{file}`: `original.png` or `thumbnail.jpg` of another's
/// image.
pub(super) async fn looked_at(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path((id, image, file)): Path<(i64, String, String)>,
) -> Result<Response, Problem> {
    let (rendition, kind) = match file.as_str() {
        "original.png" => (Rendition::Original, "image/png"),
        "thumbnail.jpg" => (Rendition::Thumbnail, "image/jpeg"),
        _ => return Err(AppError::NotFound.into()),
    };
    let people = &services.people;
    let owner = people.may_look(&viewer, UserId(id)).await?;
    let gallery = &services.gallery;
    let found = gallery
        .find_file(&owner, &ImageId(image.clone()), rendition)
        .await?;
    let small = rendition == Rendition::Thumbnail;
    people
        .note_look(&viewer, &owner, &format!("image {image}"), small)
        .await?;
    let bytes = gallery.read_file(&owner, &found, rendition).await?;
    // Not kept by the browser: the next look is to be seen here too.
    Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], bytes).into_response())
}

async fn zip(departures: &Departures, user: UserId, name: &str) -> Result<Response, Problem> {
    let entries = departures.entries_of(user).await?;
    let length = length(&entries);
    let mut response = send_archive(departures.writer(entries), length, name);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
