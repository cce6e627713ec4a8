//! The admin page: wire types and server functions for devices, models, the queue and users.

mod admin_page;
mod calls;
mod devices;
mod model_report;
mod models;
mod queue;
mod users;

pub use admin_page::AdminPage;
pub use calls::*;
pub use model_report::*;

use crate::account::{Role, UserId};
use crate::studio::{JobId, JobState};
use serde::{Deserialize, Serialize};

/// One capability check of the device probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// E.g. "conv2d 3×3".
    pub name: String,
    /// The data type it ran in.
    pub dtype: String,
    /// Whether the numbers were right.
    pub ok: bool,
    /// The largest error against the reference, where it ran.
    pub max_error: Option<f64>,
    /// The error allowed.
    pub tolerance: f64,
    /// Seconds it took.
    pub seconds: f64,
    /// The driver's or library's own words, where it failed.
    pub error: Option<String>,
}

/// One device that was found, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// "cpu" or "cuda:0".
    pub id: String,
    /// E.g. "AMD EPYC 7B13" or "NVIDIA GeForce RTX 5090".
    pub name: String,
    /// Facts in order, e.g. ("cores", "2"), ("memory", "24 GiB"), ("compute capability", "12.0").
    pub facts: Vec<(String, String)>,
    /// Whether images can be made on it.
    pub usable: bool,
    /// Whether images are made on it now.
    pub in_use: bool,
    /// Why it is or isn't used, in a plain sentence.
    pub reason: String,
    /// What to do about it, where something can be done.
    pub remedy: Option<String>,
    /// Every check that was run on it.
    pub checks: Vec<CheckReport>,
}

/// What the device page shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DevicesReport {
    /// The decision in one plain sentence, e.g. "Running on the CPU, because no NVIDIA driver was found."
    pub decision: String,
    /// Whether this is a fallback.
    pub degraded: bool,
    /// Since when the decision stands, Unix milliseconds.
    pub since: i64,
    /// When the probe last ran, Unix milliseconds.
    pub probed_at: i64,
    /// The devices, the one in use first.
    pub devices: Vec<DeviceReport>,
    /// The worker process: "starting", "idle", "working", "restarting (crashed: …)".
    pub worker: String,
    /// Measured seconds per denoising step of the latest images, oldest first, for the plot.
    pub step_times: Vec<f64>,
}

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
