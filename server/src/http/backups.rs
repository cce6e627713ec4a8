//! A backup as a file, for administrators: it may be large, so parts of it can be asked for.

use super::problem::Problem;
use super::viewer::ApiViewer;
use crate::startup::Services;
use atelier_app::error::AppError;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, RANGE};
use axum::http::{HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use tower::ServiceExt;
use tower_http::services::ServeFile;

/// `GET /api/admin/backups/{name}`: the archive, sent while it is read.
pub(super) async fn download(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    if !viewer.is_admin() {
        return Err(AppError::Forbidden.into());
    }
    let path = services.backups.path(&name)?;
    // Everything of everybody is in it: who takes it away is written down before it goes, once and
    // not for each part of it.
    if *request.method() == Method::GET && !request.headers().contains_key(RANGE) {
        let actor = (&viewer).into();
        services.backups.note_download(&actor, &name).await?;
    }
    let mut response = match ServeFile::new(path).oneshot(request).await {
        Ok(found) => found.into_response(),
        Err(never) => match never {},
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}
