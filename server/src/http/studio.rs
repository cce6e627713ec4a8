//! What people keep for the studio, in JSON: presets, styles, used prompts; estimates; and LoRAs'
//! pictures.

use super::problem::Problem;
use super::viewer::ApiViewer;
use crate::startup::Services;
use atelier_app::backend::{Jobs as _, Studio as _};
use atelier_app::error::AppError;
use atelier_app::studio::{
    Estimate, GenerationForm, GenerationRequest, ImportedStyles, OwnPreset, OwnStyle, PastPrompt,
    Style,
};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

/// A preset as somebody wants it.
#[derive(Deserialize)]
pub(super) struct WantedPreset {
    name: String,
    settings: GenerationForm,
}

/// What prompts are looked for.
#[derive(Deserialize)]
pub(super) struct Words {
    #[serde(default)]
    q: String,
}

/// `GET /api/presets`, by name.
pub(super) async fn presets(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
) -> Result<Json<Vec<OwnPreset>>, Problem> {
    Ok(Json(services.studio.shelf(&viewer).await?.presets))
}

/// `POST /api/presets`: `{"name": "…", "settings": {"model": "…", "num_inference_steps": "8"}}`.
pub(super) async fn create_preset(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    body: Bytes,
) -> Result<(StatusCode, Json<OwnPreset>), Problem> {
    let kept = save_preset(&services, &viewer, String::new(), &body).await?;
    Ok((StatusCode::CREATED, Json(kept)))
}

/// `PUT /api/presets/{id}`: the same body.
pub(super) async fn change_preset(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<OwnPreset>, Problem> {
    Ok(Json(save_preset(&services, &viewer, id, &body).await?))
}

async fn save_preset(
    services: &Services,
    viewer: &atelier_app::account::Viewer,
    id: String,
    body: &[u8],
) -> Result<OwnPreset, Problem> {
    let WantedPreset { name, settings } = super::gallery::read(body, "preset")?;
    let preset = OwnPreset { id, name, settings };
    Ok(services.studio.save_preset(viewer, preset).await?)
}

/// `DELETE /api/presets/{id}`.
pub(super) async fn delete_preset(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    services.studio.delete_preset(&viewer, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/styles`, by name: one's own.
pub(super) async fn styles(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
) -> Result<Json<Vec<OwnStyle>>, Problem> {
    Ok(Json(services.studio.shelf(&viewer).await?.styles))
}

/// `POST /api/styles`: `{"name": "…", "prompt": "… {prompt} …", "negative_prompt": "…"}`.
pub(super) async fn create_style(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    body: Bytes,
) -> Result<(StatusCode, Json<OwnStyle>), Problem> {
    let style: Style = super::gallery::read(&body, "style")?;
    let id = String::new();
    let kept = services
        .studio
        .save_style(&viewer, OwnStyle { id, style })
        .await?;
    Ok((StatusCode::CREATED, Json(kept)))
}

/// `PUT /api/styles/{id}`: the same body.
pub(super) async fn change_style(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<OwnStyle>, Problem> {
    let style: Style = super::gallery::read(&body, "style")?;
    let kept = services
        .studio
        .save_style(&viewer, OwnStyle { id, style })
        .await?;
    Ok(Json(kept))
}

/// `DELETE /api/styles/{id}`.
pub(super) async fn delete_style(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    services.studio.delete_style(&viewer, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/styles/import`: a `styles.csv` of A1111's is the body.
pub(super) async fn import_styles(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    body: Bytes,
) -> Result<Json<ImportedStyles>, Problem> {
    let text = std::str::from_utf8(&body)
        .map_err(|_| AppError::invalid("styles", "This file is no text in UTF-8."))?;
    Ok(Json(services.studio.import_styles(&viewer, text).await?))
}

/// `GET /api/prompts?q=WORDS`: the caller's latest prompts, each once.
pub(super) async fn prompts(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Query(words): Query<Words>,
) -> Result<Json<Vec<PastPrompt>>, Problem> {
    Ok(Json(services.studio.past_prompts(&viewer, &words.q).await?))
}

/// `POST /api/estimate`: the body of `POST /api/generate-image`; when that would start, and how long
/// it would take.
pub(super) async fn estimate(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    body: Bytes,
) -> Result<Json<Estimate>, Problem> {
    let request: GenerationRequest = super::gallery::read(&body, "request")?;
    Ok(Json(services.jobs.estimate(&viewer, request).await?))
}

/// `GET /api/loras/{name}/preview`: the picture beside a LoRA, as a small JPEG.
pub(super) async fn lora_preview(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let preview = services.studio.lora_preview(&viewer, &name).await?;
    let etag = format!("\"{}\"", preview.mark);
    let mut response = if super::images::is_known(&headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        preview.jpeg.into_response()
    };
    let answer = response.headers_mut();
    answer.insert(CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    answer.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Its address changes with the file (`?v=`).
    let kept = HeaderValue::from_static("private, max-age=86400");
    answer.insert(CACHE_CONTROL, kept);
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        answer.insert(ETAG, etag);
    }
    Ok(response)
}
