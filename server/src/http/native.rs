//! The JSON API of our own: look at jobs, stop them, list models. Images are in `gallery.rs`.

use super::problem::Problem;
use super::viewer::ApiViewer;
use crate::startup::Services;
use atelier_app::account::QuotaReport;
use atelier_app::backend::{Jobs as _, Usage as _};
use atelier_app::studio::{AddOn, JobId, JobState, JobView, ModelSummary};
use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;

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

/// `GET /api/quota`: what the caller may have in a day and a month, and has had.
pub(super) async fn quota(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
) -> Result<Json<QuotaReport>, Problem> {
    Ok(Json(services.usage.quota(&viewer).await?))
}

/// `GET /api/models`, the default first.
pub(super) async fn list_models(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
) -> Result<Json<Vec<ModelSummary>>, Problem> {
    Ok(Json(services.jobs.list_models(&viewer).await?))
}

/// `GET /api/loras`, by name.
pub(super) async fn list_loras(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
) -> Result<Json<Vec<AddOn>>, Problem> {
    Ok(Json(services.jobs.list_loras(&viewer).await?))
}

/// `GET /api/vaes`, by name.
pub(super) async fn list_vaes(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
) -> Result<Json<Vec<AddOn>>, Problem> {
    Ok(Json(services.jobs.list_vaes(&viewer).await?))
}
