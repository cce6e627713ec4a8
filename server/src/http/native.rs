//! The JSON API of our own: ask for an image and get it, look at jobs, stop them, list images.
//!
//! `POST /api/generate-image` answers with the finished image. A client that goes away stops
//! nothing: its image lands in its gallery.

use super::problem::{ApiJson, Problem};
use super::viewer::ApiViewer;
use crate::gallery::Rendition;
use crate::startup::Services;
use atelier_app::account::Viewer;
use atelier_app::backend::{Gallery as _, Jobs as _};
use atelier_app::error::AppError;
use atelier_app::gallery::{GalleryPage, ImageDetail, ImageId};
use atelier_app::studio::{GenerationRequest, JobId, JobState, JobView, ModelSummary};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use serde::{Deserialize, Serialize};

const JOB_ID: HeaderName = HeaderName::from_static("x-atelier-job-id");

/// A job with what a poller wants first.
#[derive(Serialize)]
pub(super) struct JobAnswer {
    /// 0 to 1; 1 once there is an image.
    progress: f64,
    #[serde(flatten)]
    job: JobView,
}

impl From<JobView> for JobAnswer {
    fn from(job: JobView) -> Self {
        let progress = match job.state {
            JobState::Done => 1.0,
            _ if job.steps == 0 => 0.0,
            // Decoding is still to come when the last step is done.
            _ => (f64::from(job.step) / f64::from(job.steps)).min(0.99),
        };
        Self { progress, job }
    }
}

/// The finished image in JSON.
#[derive(Serialize)]
struct ImageAnswer {
    /// The PNG in base64.
    image: String,
    format: &'static str,
    /// Where the file is served to its owner.
    url: String,
    seed: u64,
    #[serde(flatten)]
    detail: ImageDetail,
}

/// `POST /api/generate-image`.
pub(super) async fn generate_image(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    headers: HeaderMap,
    ApiJson(request): ApiJson<GenerationRequest>,
) -> Result<Response, Problem> {
    let key = match headers.get("idempotency-key") {
        Some(value) => Some(value.to_str().map_err(|_| {
            AppError::invalid(
                "Idempotency-Key",
                "Idempotency-Key must be plain ASCII text.",
            )
        })?),
        None => None,
    };
    let submitted = services.jobs.submit_once(&viewer, request, key).await?;
    if prefers_async(&headers) {
        let mut response = accepted(submitted.job);
        put(
            &mut response,
            HeaderName::from_static("preference-applied"),
            "respond-async",
        );
        return Ok(response);
    }
    let job = services
        .jobs
        .wait_until_ended(&viewer, &submitted.job.id)
        .await?;
    if !job.state.is_final() {
        // The server stops: the job goes on after the restart.
        return Ok(accepted(job));
    }
    let mut response = match job.state {
        JobState::Done => finished(&services, &viewer, &job, wants_json(&headers)).await?,
        JobState::Cancelled => {
            Problem::with_detail(StatusCode::CONFLICT, "The job was cancelled.").into_response()
        }
        _ => {
            let words = job
                .error
                .as_deref()
                .unwrap_or("The image could not be made.");
            Problem::with_detail(StatusCode::INTERNAL_SERVER_ERROR, words).into_response()
        }
    };
    put(&mut response, JOB_ID, &job.id.0);
    Ok(response)
}

/// 202: the job is on disk, and its image will be in the caller's gallery.
fn accepted(job: JobView) -> Response {
    let id = job.id.0.clone();
    let mut response = (StatusCode::ACCEPTED, Json(JobAnswer::from(job))).into_response();
    put(&mut response, LOCATION, &format!("/api/jobs/{id}"));
    put(&mut response, JOB_ID, &id);
    response
}

async fn finished(
    services: &Services,
    viewer: &Viewer,
    job: &JobView,
    as_json: bool,
) -> Result<Response, Problem> {
    // An image deleted between its making and this answer (or since the first answer to this
    // idempotency key) is gone.
    let id = ImageId(job.image_id.clone().ok_or(AppError::NotFound)?);
    let detail = services.gallery.image(viewer, &id).await?;
    let found = services.gallery.find_file(viewer, &id).await?;
    let png = services
        .gallery
        .read_file(viewer, &found, Rendition::Original)
        .await?;
    let facts = [
        ("x-atelier-image-id", id.0.clone()),
        ("x-atelier-seed", detail.settings.seed.to_string()),
        ("x-atelier-model", detail.settings.model.clone()),
        ("x-atelier-device", detail.device.clone()),
        ("x-atelier-dtype", detail.dtype.clone()),
        (
            "x-atelier-total-seconds",
            format!("{:.3}", detail.timings.total_s),
        ),
        ("server-timing", server_timing(&detail)),
    ];
    let mut response = if as_json {
        let image = base64::engine::general_purpose::STANDARD.encode(&png);
        let seed = detail.settings.seed;
        Json(ImageAnswer {
            image,
            format: "png",
            url: id.file_url(),
            seed,
            detail,
        })
        .into_response()
    } else {
        let mut response = png.into_response();
        put(&mut response, CONTENT_TYPE, "image/png");
        response
    };
    for (name, value) in facts {
        put(&mut response, HeaderName::from_static(name), &value);
    }
    Ok(response)
}

/// The phases as browsers and proxies read them (milliseconds).
fn server_timing(detail: &ImageDetail) -> String {
    let t = &detail.timings;
    [
        ("queue", t.queued_s),
        ("load", t.loading_s),
        ("text", t.text_encoding_s),
        ("denoise", t.denoising_s),
        ("decode", t.decoding_s),
    ]
    .map(|(name, seconds)| format!("{name};dur={:.1}", seconds * 1000.0))
    .join(", ")
}

/// Sets a header whose value may hold what a header cannot (a model's name): then it is left out.
fn put(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// RFC 7240: `Prefer: respond-async` among other preferences, in any letter case.
fn prefers_async(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|preference| preference.split(';').next().unwrap_or("").trim())
        .any(|preference| preference.eq_ignore_ascii_case("respond-async"))
}

/// Whether the client asked for JSON before any image type.
fn wants_json(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|kind| {
            kind.split(';')
                .next()
                .unwrap_or("")
                .trim()
                .to_ascii_lowercase()
        })
        .find(|kind| kind == "application/json" || kind.starts_with("image/"))
        .is_some_and(|kind| kind == "application/json")
}

/// `GET /api/jobs`: the caller's open jobs, and those that failed or were cancelled lately.
pub(super) async fn list_jobs(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
) -> Result<Json<Vec<JobAnswer>>, Problem> {
    let jobs = services.jobs.list_active(&viewer).await?;
    Ok(Json(jobs.into_iter().map(JobAnswer::from).collect()))
}

/// `GET /api/jobs/{id}`.
pub(super) async fn job(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<Json<JobAnswer>, Problem> {
    Ok(Json(services.jobs.job(&viewer, &JobId(id)).await?.into()))
}

/// `POST /api/jobs/{id}/cancel` and `DELETE /api/jobs/{id}`. A job that ended already is answered as it is.
pub(super) async fn cancel_job(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<Json<JobAnswer>, Problem> {
    Ok(Json(
        services.jobs.cancel(&viewer, &JobId(id)).await?.into(),
    ))
}

/// `GET /api/models`, the default first.
pub(super) async fn list_models(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
) -> Result<Json<Vec<ModelSummary>>, Problem> {
    Ok(Json(services.jobs.list_models(&viewer).await?))
}

/// The query of `GET /api/images`.
#[derive(Deserialize)]
pub(super) struct PageQuery {
    after: Option<String>,
    limit: Option<u32>,
}

/// `GET /api/images?after=CURSOR&limit=N`, newest first.
pub(super) async fn list_images(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Query(page): Query<PageQuery>,
) -> Result<Json<GalleryPage>, Problem> {
    const USUAL: u32 = 50;
    let limit = page.limit.unwrap_or(USUAL);
    Ok(Json(
        services
            .gallery
            .list_images(&viewer, page.after.as_deref(), limit)
            .await?,
    ))
}

/// `GET /api/images/{id}`: everything known about it.
pub(super) async fn image(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<Json<ImageDetail>, Problem> {
    Ok(Json(services.gallery.image(&viewer, &ImageId(id)).await?))
}

/// `DELETE /api/images/{id}`.
pub(super) async fn delete_image(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    services.gallery.delete_image(&viewer, &ImageId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn json_is_answered_only_when_it_was_asked_for_first() {
        assert!(wants_json(&headers("accept", "application/json")));
        assert!(wants_json(&headers(
            "accept",
            "application/json;q=0.9, image/png"
        )));
        assert!(!wants_json(&headers(
            "accept",
            "image/png, application/json"
        )));
        assert!(!wants_json(&headers("accept", "*/*")));
        assert!(!wants_json(&HeaderMap::new()));
    }

    #[test]
    fn respond_async_may_stand_among_other_preferences() {
        assert!(prefers_async(&headers("prefer", "respond-async")));
        assert!(prefers_async(&headers(
            "prefer",
            "handling=lenient, Respond-Async; x=1"
        )));
        assert!(!prefers_async(&headers("prefer", "wait=10")));
    }
}
