//! The durable queue: limits, fairness, the supervisor and the worker process.

use crate::config::ServeConfig;
use crate::db::Db;
use crate::devices::Devices;
use crate::error::ServerError;
use crate::gallery::GalleryService;
use crate::models::Models;
use crate::startup::Shutdown;
use async_trait::async_trait;
use atelier_app::account::Viewer;
use atelier_app::admin::QueueRow;
use atelier_app::backend::{Answer, Jobs};
use atelier_app::error::AppError;
use atelier_app::studio::{DeviceBadge, Estimate, GenerationRequest, JobId, JobView, ModelSummary};
use std::sync::Arc;
use std::time::Duration;

pub mod worker;

/// The queue and its worker.
pub struct JobService {
    devices: Arc<Devices>,
}

impl JobService {
    /// Takes up the queue where it was left and starts the supervisor.
    pub async fn start(
        _db: Db,
        _config: Arc<ServeConfig>,
        devices: Arc<Devices>,
        _models: Arc<Models>,
        _gallery: Arc<GalleryService>,
        _shutdown: Shutdown,
    ) -> Result<Arc<Self>, ServerError> {
        Ok(Arc::new(Self { devices }))
    }

    /// Lets the running job finish within `grace`, or puts it back, and ends the worker.
    pub async fn stop(&self, _grace: Duration) {}

    /// Everybody's queued and running jobs, and the last twenty that ended. For administrators.
    pub async fn admin_queue(&self) -> Answer<Vec<QueueRow>> {
        Err(next())
    }

    /// Stops anybody's job. For administrators.
    pub async fn admin_cancel(&self, _id: &JobId) -> Answer<()> {
        Err(next())
    }

    /// The worker process in words: "starting", "idle", "working", "restarting (crashed: …)".
    pub fn worker_state(&self) -> String {
        "starting".into()
    }

    /// Measured seconds per denoising step of the latest images, oldest first.
    pub async fn step_times(&self) -> Answer<Vec<f64>> {
        Ok(Vec::new())
    }
}

fn next() -> AppError {
    AppError::Unavailable {
        message: "The queue lands next.".into(),
    }
}

#[async_trait]
impl Jobs for JobService {
    async fn submit(&self, _: &Viewer, _: GenerationRequest) -> Answer<JobView> {
        Err(next())
    }
    async fn list_active(&self, _: &Viewer) -> Answer<Vec<JobView>> {
        Err(next())
    }
    async fn job(&self, _: &Viewer, _: &JobId) -> Answer<JobView> {
        Err(next())
    }
    async fn cancel(&self, _: &Viewer, _: &JobId) -> Answer<JobView> {
        Err(next())
    }
    async fn estimate(&self, _: &Viewer, _: GenerationRequest) -> Answer<Estimate> {
        Err(next())
    }
    async fn list_models(&self, _: &Viewer) -> Answer<Vec<ModelSummary>> {
        Err(next())
    }
    async fn device_badge(&self, _: &Viewer) -> Answer<DeviceBadge> {
        Ok(self.devices.badge())
    }
}
