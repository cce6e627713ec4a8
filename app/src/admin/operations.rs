//! Server functions: running the server. Each finds out who asks, then asks the port.
#![allow(
    missing_docs,
    reason = "the macro makes a public struct of each function; its fields are the arguments"
)]

use super::{BackupsReport, QueueFilter, QueueHold, QueueReport, SettingName, SettingRow};
#[cfg(feature = "ssr")]
use super::{CancelWhich, MoveTo};
use crate::account::Role;
#[cfg(feature = "ssr")]
use crate::account::UserId;
#[cfg(feature = "ssr")]
use crate::backend::{use_backend, use_viewer};
use crate::error::AppError;
use crate::studio::JobId;
use leptos::prelude::*;

/// The queue as a whole, with the jobs that a filter lets through.
#[server(endpoint = "load_queue_report")]
pub async fn load_queue_report(
    #[server(default)] filter: QueueFilter,
) -> Result<QueueReport, AppError> {
    let viewer = use_viewer()?;
    use_backend()?
        .operations
        .queue_report(&viewer, filter)
        .await
}

/// Pauses the queue or closes it to new jobs, or takes that back.
#[server(endpoint = "set_queue_hold")]
pub async fn set_queue_hold(hold: QueueHold, on: bool) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?
        .operations
        .set_queue_hold(&viewer, hold, on)
        .await
}

/// Stops the jobs named, or all of one user; with `waiting`, everything that waits.
#[server(endpoint = "cancel_jobs")]
pub async fn cancel_jobs(
    #[server(default)] ids: Vec<JobId>,
    #[server(default)] user: Option<i64>,
    #[server(default)] waiting: bool,
) -> Result<u32, AppError> {
    let viewer = use_viewer()?;
    let which = match (user, waiting) {
        (Some(user), _) => CancelWhich::OfUser(UserId(user)),
        (None, true) => CancelWhich::Waiting,
        (None, false) => CancelWhich::Jobs(ids),
    };
    use_backend()?.operations.cancel_jobs(&viewer, which).await
}

/// Gives a waiting job another place: `front`, `up`, `down`, `end`, `fair`, or `before` another.
#[server(endpoint = "move_job")]
pub async fn move_job(
    id: JobId,
    to: String,
    #[server(default)] before: String,
) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    let to = match to.as_str() {
        "front" => MoveTo::Front,
        "up" => MoveTo::Up,
        "down" => MoveTo::Down,
        "end" => MoveTo::End,
        "fair" => MoveTo::Fair,
        "before" => MoveTo::Before(JobId(before)),
        _ => {
            return Err(AppError::invalid(
                "to",
                "Choose one of: front, up, down, end, fair, before.",
            ));
        }
    };
    use_backend()?.operations.move_job(&viewer, &id, to).await
}

/// Everything that can be set while the server runs.
#[server(endpoint = "load_settings")]
pub async fn load_settings() -> Result<Vec<SettingRow>, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.operations.settings(&viewer).await
}

/// Sets something.
#[server(endpoint = "change_setting")]
pub async fn change_setting(
    name: SettingName,
    #[server(default)] value: String,
) -> Result<SettingName, AppError> {
    let viewer = use_viewer()?;
    use_backend()?
        .operations
        .change_setting(&viewer, name, Some(value))
        .await?;
    Ok(name)
}

/// Sets something back to what holds when nobody chose.
#[server(endpoint = "reset_setting")]
pub async fn reset_setting(name: SettingName) -> Result<SettingName, AppError> {
    let viewer = use_viewer()?;
    use_backend()?
        .operations
        .change_setting(&viewer, name, None)
        .await?;
    Ok(name)
}

/// Sets the least role that may see and use a model.
#[server(endpoint = "set_model_access")]
pub async fn set_model_access(name: String, role: Role) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.models.set_access(&viewer, &name, role).await
}

/// The backups that lie here, and the one that is being made.
#[server(endpoint = "load_backups")]
pub async fn load_backups() -> Result<BackupsReport, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.operations.backups(&viewer).await
}

/// Begins to make a backup.
#[server(endpoint = "begin_backup")]
pub async fn begin_backup() -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.operations.begin_backup(&viewer).await
}

/// Stops making it.
#[server(endpoint = "stop_backup")]
pub async fn stop_backup() -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.operations.stop_backup(&viewer).await
}

/// Deletes a backup.
#[server(endpoint = "delete_backup")]
pub async fn delete_backup(name: String) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?
        .operations
        .delete_backup(&viewer, &name)
        .await
}
