//! The administrator's corner: wire types, server functions and pages for devices, models, the queue,
//! users, settings and backups.

mod admin_page;
mod backup_report;
mod backups_page;
mod calls;
mod device_report;
mod devices;
mod model_report;
mod models;
mod models_page;
mod operations;
mod people;
mod queue;
mod queue_page;
mod queue_report;
mod setting_report;
mod settings_page;
mod vitals;

pub use admin_page::AdminPage;
pub use backup_report::*;
pub use backups_page::BackupsPage;
pub use calls::*;
pub use device_report::*;
pub use model_report::*;
pub use models_page::ModelsPage;
pub use operations::*;
pub use people::*;
pub use queue_page::QueuePage;
pub use queue_report::*;
pub use setting_report::*;
pub use settings_page::SettingsPage;
pub use vitals::*;

use crate::account::{Role, UserId};
use crate::studio::{JobId, JobState};
use serde::{Deserialize, Serialize};

/// A job as the admin sees it: whose and how long, never the prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueRow {
    /// Its id.
    pub id: JobId,
    /// Its owner's name.
    pub user: String,
    /// Where it stands.
    pub state: JobState,
    /// The model's name.
    pub model: String,
    /// "1024×1024".
    pub size: String,
    /// Finished steps.
    pub step: u32,
    /// All steps.
    pub steps: u32,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub started_at: Option<i64>,
    /// Which attempt (1 = first; 0 = none yet).
    pub attempt: u32,
}

/// A user as the admin sees them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserRow {
    /// Row id.
    pub id: UserId,
    /// The sign-in name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds; never signed in when absent.
    pub last_seen_at: Option<i64>,
    /// How many images they keep.
    pub images: u64,
    /// Bytes of those images.
    pub bytes: u64,
    /// Whether sign-in is closed to them.
    pub disabled: bool,
}
