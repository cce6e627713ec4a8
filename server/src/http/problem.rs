//! Errors on the wire: RFC 9457 problem details. The mapping from `AppError` to HTTP is here and
//! nowhere else.

use atelier_app::error::AppError;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError};
use serde::de::DeserializeOwned;
use std::error::Error;
use tower_http::timeout::TimeoutError;

const PROBLEM_JSON: &str = "application/problem+json";

/// What a client should wait before it asks a server again that is starting, stopping or full.
const UNAVAILABLE_RETRY_S: u32 = 5;

/// The status of each class of answer.
pub fn status_of(error: &AppError) -> StatusCode {
    match error {
        AppError::SignInRequired => StatusCode::UNAUTHORIZED,
        AppError::Forbidden | AppError::Refused { .. } => StatusCode::FORBIDDEN,
        AppError::NotFound => StatusCode::NOT_FOUND,
        AppError::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        AppError::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        AppError::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        AppError::Transport(_) => StatusCode::BAD_REQUEST,
        AppError::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// When trying again makes sense, in seconds, where the class of answer says so.
pub fn retry_after_s(error: &AppError) -> Option<u32> {
    match error {
        AppError::TooMany { retry_after_s, .. } => Some(*retry_after_s),
        AppError::Unavailable { .. } => Some(UNAVAILABLE_RETRY_S),
        _ => None,
    }
}

/// An error that answers as `application/problem+json`. Handlers of the JSON API return it.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    field: Option<String>,
    reference: Option<String>,
    retry_after_s: Option<u32>,
    /// The scopes that a token lacks, with a space between.
    lacks: Option<String>,
}

impl Problem {
    /// The status it answers with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// A problem that is HTTP's own (wrong method, body too large, …).
    pub fn of_status(status: StatusCode) -> Self {
        let detail = match status {
            StatusCode::FORBIDDEN => "This request came from another site and was refused.",
            StatusCode::METHOD_NOT_ALLOWED => {
                "This address does not answer to this method; see the Allow header."
            }
            StatusCode::PAYLOAD_TOO_LARGE => "The body is larger than this address takes.",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "Send the body as application/json.",
            StatusCode::REQUEST_TIMEOUT => "The body did not arrive in time.",
            other => other
                .canonical_reason()
                .unwrap_or("The request was refused."),
        };
        Self {
            status,
            detail: detail.into(),
            field: None,
            reference: None,
            retry_after_s: None,
            lacks: None,
        }
    }
}

impl Problem {
    /// A body that is too large for a path.
    pub fn too_large(path: &str) -> Self {
        let words = match path {
            "/api/uploads" | "/api/images/import" => {
                "The file is larger than 32 MiB, which is the limit."
            }
            "/api/generate-image" => {
                "The body is too large: an image may have 32 MiB; send it to /api/uploads first, as it is."
            }
            _ => "The body is larger than 1 MiB, which is the limit.",
        };
        Self::with_detail(StatusCode::PAYLOAD_TOO_LARGE, words)
    }

    /// A token that does not open what is asked for; one of these scopes would.
    pub fn of_scope(detail: &str, scopes: &str) -> Self {
        Self {
            lacks: Some(scopes.into()),
            ..Self::with_detail(StatusCode::FORBIDDEN, detail)
        }
    }

    /// A problem with words of its own.
    pub fn with_detail(status: StatusCode, detail: &str) -> Self {
        Self {
            detail: detail.into(),
            ..Self::of_status(status)
        }
    }
}

impl From<AppError> for Problem {
    fn from(error: AppError) -> Self {
        let status = status_of(&error);
        let detail = match &error {
            AppError::SignInRequired => {
                "Send an API token as `Authorization: Bearer atl_…`; this one is missing, wrong, \
                 expired or revoked."
                    .to_owned()
            }
            AppError::Forbidden => "Your role does not allow this.".to_owned(),
            other => other.to_string(),
        };
        let retry_after_s = retry_after_s(&error);
        let (field, reference) = match error {
            AppError::Invalid { field, .. } => (Some(field), None),
            AppError::Internal { reference } => (None, Some(reference)),
            _ => (None, None),
        };
        Self {
            status,
            detail,
            field,
            reference,
            retry_after_s,
            lacks: None,
        }
    }
}

impl From<crate::error::ServerError> for Problem {
    fn from(error: crate::error::ServerError) -> Self {
        Self::from(AppError::from(error))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(field) = self.field {
            body["field"] = field.into();
        }
        if let Some(reference) = self.reference {
            body["reference"] = reference.into();
        }
        if let Some(seconds) = self.retry_after_s {
            body["retry_after_s"] = seconds.into();
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // RFC 6750, §3.1.
        let challenge = self
            .lacks
            .map(|scopes| format!("Bearer error=\"insufficient_scope\", scope=\"{scopes}\""));
        if let Some(Ok(challenge)) = challenge.map(HeaderValue::try_from) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Gives errors that axum and the layers made themselves (405, 413, 403 for a foreign origin, …)
/// the shape that clients of the JSON API expect.
pub(super) async fn shape_api_errors(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let is_api = path.starts_with("/api/");
    let response = next.run(request).await;
    let status = response.status();
    let shaped = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(PROBLEM_JSON.as_bytes()));
    if !is_api || shaped || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let mut plain = match status {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(&path),
        other => Problem::of_status(other),
    }
    .into_response();
    for name in [ALLOW, RETRY_AFTER] {
        if let Some(value) = response.headers().get(&name) {
            plain.headers_mut().insert(name, value.clone());
        }
    }
    plain
}

/// A JSON body. Anything unreadable is a 422 that names the field, or `body` where the text is not
/// JSON at all.
pub struct ApiJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for ApiJson<T> {
    type Rejection = Response;

    async fn from_request(request: Request<Body>, _state: &S) -> Result<Self, Response> {
        let is_json = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .map(|kind| {
                kind.split(';')
                    .next()
                    .unwrap_or("")
                    .trim()
                    .to_ascii_lowercase()
            })
            .is_some_and(|kind| kind == "application/json" || kind.ends_with("+json"));
        if !is_json {
            return Err(Problem::of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE).into_response());
        }
        let path = request.uri().path().to_owned();
        let bytes = read(request.into_body(), &path)
            .await
            .map_err(IntoResponse::into_response)?;
        parse_json(&bytes)
            .map(Self)
            .map_err(|error| Problem::from(error).into_response())
    }
}

/// Reads a body to its end. The layers that limit its size and its time end it with an error of
/// theirs, wrapped by those around them.
async fn read(body: Body, path: &str) -> Result<Bytes, Problem> {
    let error = match body.collect().await {
        Ok(body) => return Ok(body.to_bytes()),
        Err(error) => error,
    };
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    let mut status = StatusCode::BAD_REQUEST;
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            status = StatusCode::PAYLOAD_TOO_LARGE;
        } else if error.is::<TimeoutError>() {
            status = StatusCode::REQUEST_TIMEOUT;
        }
        cause = error.source();
    }
    Err(match status {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(path),
        other => Problem::of_status(other),
    })
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, AppError> {
    // serde would take an array for a list of the fields.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(AppError::invalid("body", "The body must be a JSON object."));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.inner();
        match cause.classify() {
            serde_json::error::Category::Data if path != "." => {
                AppError::invalid(path, plain_words(cause))
            }
            serde_json::error::Category::Data => AppError::invalid("body", plain_words(cause)),
            // serde_json calls these bad syntax, but it is one field that cannot be used.
            _ if path != "." && is_about_one_value(cause) => {
                AppError::invalid(path, plain_words(cause))
            }
            _ => AppError::invalid("body", format!("The body is not valid JSON: {cause}.")),
        }
    })?;
    deserializer.end().map_err(|error| {
        AppError::invalid("body", format!("The body is not valid JSON: {error}."))
    })?;
    Ok(value)
}

/// A number beyond a double's range, or half of a surrogate pair in a string.
fn is_about_one_value(error: &serde_json::Error) -> bool {
    let words = error.to_string();
    [
        "number out of range",
        "lone leading surrogate",
        "unexpected end of hex escape",
    ]
    .iter()
    .any(|start| words.starts_with(start))
}

/// What serde says about a value, without Rust's names for numbers and without a place in the
/// text: the field is named beside it.
fn plain_words(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let words = words
        .rsplit_once(" at line ")
        .map_or(words.as_str(), |(words, _)| words);
    let mut plain = words.to_owned();
    for (rust, word) in [
        ("u32", "a whole number"),
        ("u64", "a whole number"),
        ("f64", "a number"),
    ] {
        plain = plain.replace(&format!("expected {rust}"), &format!("expected {word}"));
    }
    format!("This cannot be used: {plain}.")
}
