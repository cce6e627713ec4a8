//! `POST /api/generate-image` answers with the finished image, or with several in JSON. A client
//! that goes away stops nothing: its images land in its gallery.

use super::native::JobAnswer;
use super::problem::{ApiJson, Problem};
use super::viewer::ApiViewer;
use crate::gallery::Rendition;
use crate::startup::Services;
use atelier_app::account::Viewer;
use atelier_app::backend::Gallery as _;
use atelier_app::error::AppError;
use atelier_app::gallery::{ImageDetail, ImageId};
use atelier_app::studio::{GenerationRequest, JobState, JobView};
use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use serde::Serialize;

const JOB_ID: HeaderName = HeaderName::from_static("x-atelier-job-id");
const CACHE: HeaderName = HeaderName::from_static("x-atelier-cache");

/// A finished image in JSON.
#[derive(Serialize)]
struct ImageAnswer {
    /// The PNG in base64.
    image: String,
    format: &'static str,
    /// Where the file is served to its owner.
    url: String,
    seed: u64,
    /// It was there already.
    cached: bool,
    #[serde(flatten)]
    detail: ImageDetail,
}

/// Several images in JSON, in the order of their seeds.
#[derive(Serialize)]
struct ImagesAnswer {
    images: Vec<ImageAnswer>,
}

/// A finished image and its file.
struct Finished {
    id: ImageId,
    detail: ImageDetail,
    png: Vec<u8>,
    cached: bool,
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
    let several = request.num_images.is_some_and(|count| count > 1);
    let asynchronous = prefers_async(&headers);
    if several && !asynchronous && !takes_json(&headers) {
        return Err(AppError::invalid(
            "num_images",
            "num_images is more than 1, which is answered in JSON; accept application/json",
        )
        .into());
    }
    let submitted = services.jobs.submit_all(&viewer, request, key).await?;
    // The same idempotency key may stand for several although this request asks for one.
    let several = submitted.jobs.len() > 1;
    if asynchronous {
        let mut response = accepted(submitted.jobs);
        put(
            &mut response,
            HeaderName::from_static("preference-applied"),
            "respond-async",
        );
        return Ok(response);
    }
    let mut jobs = Vec::with_capacity(submitted.jobs.len());
    for job in &submitted.jobs {
        jobs.push(services.jobs.wait_until_ended(&viewer, &job.id).await?);
    }
    if jobs.iter().any(|job| !job.state.is_final()) {
        // The server stops: the jobs go on after the restart.
        return Ok(accepted(jobs));
    }
    let ids = listed(jobs.iter().map(|job| job.id.0.as_str()));
    let unmade = jobs.iter().position(|job| job.state != JobState::Done);
    let mut response = match unmade {
        Some(place) => failed(&jobs, place),
        None => {
            let mut images = Vec::with_capacity(jobs.len());
            for job in &jobs {
                images.push(finished(&services, &viewer, job).await?);
            }
            answer(images, several || wants_json(&headers), several)
        }
    };
    put(&mut response, JOB_ID, &ids);
    Ok(response)
}

/// Why there is no image; of several, which one.
fn failed(jobs: &[JobView], place: usize) -> Response {
    let job = &jobs[place];
    let (status, words) = match job.state {
        JobState::Cancelled => (
            StatusCode::CONFLICT,
            job.error.as_deref().unwrap_or("The job was cancelled."),
        ),
        _ => (
            StatusCode::INTERNAL_SERVER_ERROR,
            job.error
                .as_deref()
                .unwrap_or("The image could not be made."),
        ),
    };
    if jobs.len() == 1 {
        return Problem::with_detail(status, words).into_response();
    }
    let words = format!("Image {} of {}: {words}", place + 1, jobs.len());
    Problem::with_detail(status, &words).into_response()
}

/// 202: the jobs are on disk, and their images will be in the caller's gallery.
fn accepted(mut jobs: Vec<JobView>) -> Response {
    let ids = listed(jobs.iter().map(|job| job.id.0.as_str()));
    let (body, location) = if jobs.len() == 1 {
        let location = format!("/api/jobs/{ids}");
        let job = JobAnswer::from(jobs.swap_remove(0));
        (Json(job).into_response(), location)
    } else {
        let jobs: Vec<JobAnswer> = jobs.into_iter().map(JobAnswer::from).collect();
        let body = Json(serde_json::json!({ "jobs": jobs })).into_response();
        (body, "/api/jobs".to_owned())
    };
    let mut response = (StatusCode::ACCEPTED, body).into_response();
    put(&mut response, LOCATION, &location);
    put(&mut response, JOB_ID, &ids);
    response
}

async fn finished(
    services: &Services,
    viewer: &Viewer,
    job: &JobView,
) -> Result<Finished, Problem> {
    // An image deleted between its making and this answer (or since the first answer to this
    // idempotency key) is gone.
    let id = ImageId(job.image_id.clone().ok_or(AppError::NotFound)?);
    let detail = services.gallery.image(viewer, &id).await?;
    let found = services
        .gallery
        .find_file(viewer, &id, Rendition::Original)
        .await?;
    let png = services
        .gallery
        .read_file(viewer, &found, Rendition::Original)
        .await?;
    Ok(Finished {
        id,
        detail,
        png,
        cached: job.cached,
    })
}

fn answer(images: Vec<Finished>, as_json: bool, several: bool) -> Response {
    let of_all = |pick: &dyn Fn(&Finished) -> String| {
        let all: Vec<String> = images.iter().map(pick).collect();
        listed(all.iter().map(String::as_str))
    };
    let cached = images.iter().filter(|image| image.cached).count();
    let mut facts = vec![
        (
            HeaderName::from_static("x-atelier-image-id"),
            of_all(&|image| image.id.0.clone()),
        ),
        (
            HeaderName::from_static("x-atelier-seed"),
            of_all(&|image| image.detail.settings.seed.to_string()),
        ),
        (
            CACHE,
            match cached {
                0 => "miss",
                all if all == images.len() => "hit",
                _ => "partial",
            }
            .to_owned(),
        ),
    ];
    if let [image] = images.as_slice() {
        let detail = &image.detail;
        facts.extend([
            (
                HeaderName::from_static("x-atelier-model"),
                detail.settings.model.clone(),
            ),
            (
                HeaderName::from_static("x-atelier-device"),
                detail.device.clone(),
            ),
            (
                HeaderName::from_static("x-atelier-dtype"),
                detail.dtype.clone(),
            ),
            (
                HeaderName::from_static("x-atelier-total-seconds"),
                format!("{:.3}", detail.timings.total_s),
            ),
            (
                HeaderName::from_static("server-timing"),
                server_timing(detail),
            ),
        ]);
    }
    let mut response = if as_json {
        let mut answers: Vec<ImageAnswer> = images.into_iter().map(ImageAnswer::from).collect();
        if several {
            Json(ImagesAnswer { images: answers }).into_response()
        } else {
            Json(answers.swap_remove(0)).into_response()
        }
    } else {
        let png = images.into_iter().next().map(|image| image.png);
        let mut response = png.unwrap_or_default().into_response();
        put(&mut response, CONTENT_TYPE, "image/png");
        response
    };
    for (name, value) in facts {
        put(&mut response, name, &value);
    }
    response
}

impl From<Finished> for ImageAnswer {
    fn from(image: Finished) -> Self {
        Self {
            image: base64::engine::general_purpose::STANDARD.encode(&image.png),
            format: "png",
            url: image.id.file_url(),
            seed: image.detail.settings.seed,
            cached: image.cached,
            detail: image.detail,
        }
    }
}

fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(", ")
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

/// Whether an answer in JSON is acceptable at all.
fn takes_json(headers: &HeaderMap) -> bool {
    let mut kinds = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|kind| {
            let kind = kind.split(';').next().unwrap_or("");
            kind.trim().to_ascii_lowercase()
        })
        .filter(|kind| !kind.is_empty())
        .peekable();
    kinds.peek().is_none()
        || kinds.any(|kind| ["application/json", "application/*", "*/*"].contains(&kind.as_str()))
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
    fn json_can_be_ruled_out() {
        for takes in ["*/*", "image/png, application/json;q=0.1", "application/*"] {
            assert!(takes_json(&headers("accept", takes)), "{takes}");
        }
        assert!(takes_json(&HeaderMap::new()));
        assert!(!takes_json(&headers("accept", "image/png")));
        assert!(!takes_json(&headers("accept", "image/*, text/html")));
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
