//! Images that people send to start from: `POST /api/uploads` with the file as the body, and the
//! file again under `GET /api/uploads/{id}`, for its owner only.

use super::problem::Problem;
use super::viewer::ApiViewer;
use crate::startup::Services;
use crate::uploads::MOST_BYTES;
use atelier_app::error::AppError;
use atelier_app::studio::UploadSummary;
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

/// `POST /api/uploads`: the file is the body, or the first part of a form with a file name.
pub(super) async fn upload(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let file = sent_file(&headers, body).await?;
    let added = services.uploads.add(&viewer, "file", file).await?;
    Ok((StatusCode::CREATED, Json(added)).into_response())
}

/// The bytes of the file that a body is, or that its form holds.
pub(super) async fn sent_file(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Problem> {
    let too_large = || Problem::too_large("/api/uploads");
    // A form has lines around the file.
    let bytes = to_bytes(body, MOST_BYTES + 64 * 1024)
        .await
        .map_err(|_| too_large())?;
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("");
    let file = match boundary(kind) {
        None => bytes.to_vec(),
        Some(boundary) => first_file(&bytes, &boundary)
            .ok_or_else(|| AppError::invalid("file", "The form holds no file."))?
            .to_vec(),
    };
    if file.len() > MOST_BYTES {
        return Err(too_large());
    }
    Ok(file)
}

/// `GET /api/uploads`, newest first.
pub(super) async fn list(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
) -> Result<Json<Vec<UploadSummary>>, Problem> {
    Ok(Json(services.uploads.list(&viewer).await?))
}

/// `GET /api/uploads/{id}`: the file as it was sent.
pub(super) async fn file(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let file = services.uploads.file(&viewer, &id).await?;
    let mut response = file.bytes.into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, file.media_type),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
        (CACHE_CONTROL, "private, max-age=31536000, immutable"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// The boundary of a form's parts (RFC 2046, 5.1.1), where the body is a form.
fn boundary(kind: &str) -> Option<String> {
    let mut parts = kind.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (name.trim().eq_ignore_ascii_case("boundary") && !value.is_empty())
            .then(|| value.to_owned())
    })
}

/// The bytes of a form's first part that has a file name (RFC 7578).
fn first_file<'a>(body: &'a [u8], boundary: &str) -> Option<&'a [u8]> {
    let mark = format!("--{boundary}");
    let mut rest = &body[find(body, mark.as_bytes())?..];
    loop {
        rest = rest.strip_prefix(mark.as_bytes())?;
        if rest.starts_with(b"--") {
            return None;
        }
        let head_end = find(rest, b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&rest[..head_end]).to_ascii_lowercase();
        let content = &rest[head_end + 4..];
        let end = find(content, format!("\r\n{mark}").as_bytes())?;
        if head.contains("filename=") || head.contains("filename*=") {
            return Some(&content[..end]);
        }
        rest = &content[end + 2..];
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| *byte == first) {
        let at = from + at;
        if text[at..].starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forms_first_file_is_found_whole() {
        let kind = "multipart/form-data; boundary=\"xY\"";
        let boundary = boundary(kind).expect("a form");
        let form = b"--xY\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nwords\r\n--xY\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"p.png\"\r\nContent-Type: image/png\r\n\r\n\
            \r\n--x\0\r\n\r\n--xY--\r\n";
        assert_eq!(first_file(form, &boundary), Some(&b"\r\n--x\0\r\n"[..]));
        assert_eq!(first_file(b"--xY--\r\n", "xY"), None);
        assert_eq!(first_file(b"--xY\r\nfilename=\r\n\r\nno end", "xY"), None);
        assert_eq!(super::boundary("image/png"), None);
    }
}
