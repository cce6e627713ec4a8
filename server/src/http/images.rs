//! Image files: `/images/{id}.png` and `/images/{id}/thumbnail.jpg`, for their owner only.
//!
//! Whoever else asks gets the 404 that a missing image gets, signed in or not. The bytes never
//! change under their address, so a browser may keep them; only this browser, though: `private`.

use axum::extract::{Path, RawQuery, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use atelier_app::error::AppError;
use atelier_app::gallery::ImageId;

use super::problem::Problem;
use super::viewer::ApiViewer;
use crate::gallery::Rendition;
use crate::gallery::zip::file_name;
use crate::startup::Services;

/// A browser that shows the file by itself runs nothing in it and loads nothing for it.
const POLICY: &str = "default-src 'none'; sandbox";
const ROBOTS: HeaderName = HeaderName::from_static("x-robots-tag");
const KEPT: &str = "private, max-age=31536000, immutable";

/// `GET /images/{id}.png`; with `?download`, as a file to save.
pub(super) async fn original(
    viewer: Result<ApiViewer, Problem>,
    State(services): State<Services>,
    Path(file): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = file.strip_suffix(".png").ok_or(AppError::NotFound)?;
    serve(viewer, &services, id, Rendition::Original, query, &headers).await
}

/// `GET /images/{id}/thumbnail.jpg`.
pub(super) async fn thumbnail(
    viewer: Result<ApiViewer, Problem>,
    State(services): State<Services>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    serve(
        viewer,
        &services,
        &id,
        Rendition::Thumbnail,
        query,
        &headers,
    )
    .await
}

/// `GET /s/{secret}/image.png`: the image that a link leads to. No cache may keep it, so that a
/// revoked link is over at once.
pub(super) async fn shared(
    State(services): State<Services>,
    Path(secret): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let file = services.gallery.shared_file(&secret).await?;
    let mut response = file.bytes.into_response();
    let answer = response.headers_mut();
    answer.insert(CONTENT_TYPE, HeaderValue::from_static("image/png"));
    answer.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    answer.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.insert(ROBOTS, HeaderValue::from_static("noindex, nofollow"));
    if asks_for_download(query.as_deref()) {
        let name = format!("attachment; filename=\"{}\"", file.name);
        if let Ok(value) = HeaderValue::from_str(&name) {
            answer.insert(CONTENT_DISPOSITION, value);
        }
    }
    Ok(response)
}

async fn serve(
    viewer: Result<ApiViewer, Problem>,
    services: &Services,
    id: &str,
    rendition: Rendition,
    query: Option<String>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let viewer = match viewer {
        Ok(ApiViewer(viewer)) => viewer,
        // Somebody who is not signed in learns no more than somebody else who is.
        Err(problem) if problem.status() == StatusCode::UNAUTHORIZED => {
            return Err(AppError::NotFound.into());
        }
        Err(problem) => return Err(problem),
    };
    let gallery = &services.gallery;
    let found = gallery
        .find_file(&viewer, &ImageId(id.to_owned()), rendition)
        .await?;
    let (kind, mark) = match rendition {
        Rendition::Original => ("image/png", ""),
        Rendition::Thumbnail => ("image/jpeg", "-thumbnail"),
    };
    let etag = format!("\"{}{mark}\"", found.hash);

    let mut response = if is_known(headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let bytes = gallery.read_file(&viewer, &found, rendition).await?;
        let mut response = bytes.into_response();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    };
    let answer = response.headers_mut();
    answer.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    answer.insert(CACHE_CONTROL, HeaderValue::from_static(KEPT));
    // A hash in hex and quotes are always a header value.
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        answer.insert(ETAG, etag);
    }
    if rendition == Rendition::Original && asks_for_download(query.as_deref()) {
        let name = format!("attachment; filename=\"{}\"", file_name(&found.settings));
        if let Ok(value) = HeaderValue::from_str(&name) {
            answer.insert(CONTENT_DISPOSITION, value);
        }
    }
    Ok(response)
}

/// RFC 9110 §13.1.2: any of the listed tags, weak or not, or `*`.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

fn asks_for_download(query: Option<&str>) -> bool {
    query
        .unwrap_or_default()
        .split('&')
        .any(|pair| pair.split('=').next() == Some("download"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downloads_are_asked_for_by_name_only() {
        for (query, download) in [
            (None, false),
            (Some("download"), true),
            (Some("a=b&download=1"), true),
            (Some("downloads"), false),
            (Some("x=download"), false),
        ] {
            assert_eq!(asks_for_download(query), download, "{query:?}");
        }
    }

    #[test]
    fn a_tag_is_known_alone_in_a_list_or_weakened() {
        let known = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, value.parse().unwrap());
            is_known(&headers, "\"abc\"")
        };
        assert!(known("\"abc\"") && known("\"x\", W/\"abc\"") && known("*"));
        assert!(!known("\"abcd\"") && !known("abc"));
        assert!(!is_known(&HeaderMap::new(), "\"abc\""));
    }
}
