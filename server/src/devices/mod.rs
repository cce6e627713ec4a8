//! Hardware: what the probe found, and what follows from it.

use crate::config::ServeConfig;
use crate::db::Db;
use crate::error::ServerError;
use atelier_app::admin::DevicesReport;
use atelier_app::backend::Answer;
use atelier_app::error::AppError;
use atelier_app::studio::DeviceBadge;
use std::sync::Arc;

pub mod probe;

/// The devices and the decision about them.
pub struct Devices {}

impl Devices {
    /// Runs the probe and decides.
    pub async fn start(_db: Db, _config: Arc<ServeConfig>) -> Result<Arc<Self>, ServerError> {
        Ok(Arc::new(Self {}))
    }

    /// The decision in one sentence.
    pub fn decision(&self) -> String {
        "Running on the CPU.".into()
    }

    /// The device in one line.
    pub fn badge(&self) -> DeviceBadge {
        DeviceBadge {
            label: "CPU".into(),
            degraded: false,
            reason: None,
        }
    }

    /// Everything known; `worker` and `step_times` are left for the queue to fill in.
    pub async fn report(&self) -> Answer<DevicesReport> {
        Err(AppError::Unavailable {
            message: "The probe lands next.".into(),
        })
    }

    /// Probes again.
    pub async fn test_again(&self) -> Answer<DevicesReport> {
        self.report().await
    }
}
