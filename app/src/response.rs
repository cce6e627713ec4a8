//! What a server function may say about the HTTP answer: a cookie, a status, a way on.
//!
//! Every form of ours works in two ways. With wasm running, `ActionForm` sends it and gets the
//! value back; without, the browser posts it itself and must be redirected. The two differ in the
//! `Accept` header only.

use crate::error::AppError;
use http::header::{ACCEPT, SET_COOKIE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use leptos::prelude::use_context;
use leptos_axum::ResponseOptions;

/// Adds a `Set-Cookie` header to the answer.
pub fn set_cookie(value: &str) -> Result<(), AppError> {
    let header = HeaderValue::from_str(value).map_err(|_| AppError::Internal {
        reference: "set-cookie".into(),
    })?;
    if let Some(options) = use_context::<ResponseOptions>() {
        options.append_header(SET_COOKIE, header);
    }
    Ok(())
}

/// Sets the status of the page being rendered.
pub fn set_status(status: u16) {
    if let (Some(options), Ok(status)) = (
        use_context::<ResponseOptions>(),
        StatusCode::from_u16(status),
    ) {
        options.set_status(status);
    }
}

/// Tells search engines to leave the page alone, whatever they find in it.
pub fn forbid_indexing() {
    if let Some(options) = use_context::<ResponseOptions>() {
        options.insert_header(
            HeaderName::from_static("x-robots-tag"),
            HeaderValue::from_static("noindex, nofollow"),
        );
    }
}

/// Whether the browser itself posted the form (no wasm), so that it waits for a page.
pub fn is_plain_form_post() -> bool {
    use_context::<Parts>().is_some_and(|parts| {
        parts
            .headers
            .get(ACCEPT)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.contains("text/html"))
    })
}

/// Sends a plain form post on to `path`; with wasm running the page decides for itself.
pub fn redirect_plain_form(path: &str) {
    if is_plain_form_post() {
        leptos_axum::redirect(path, false);
    }
}
