//! Server functions: what administrators ask. Each finds out who asks, then asks the port.
#![allow(
    missing_docs,
    reason = "the macro makes a public struct of each function; its fields are the arguments"
)]

#[cfg(feature = "ssr")]
use super::{DeviceChoice, NewFetch};
use super::{DevicesReport, ModelAct, ModelsReport, QueueRow, UserRow, VitalsReport};
#[cfg(feature = "ssr")]
use crate::account::Credentials;
use crate::account::{Role, UserId};
#[cfg(feature = "ssr")]
use crate::backend::{use_backend, use_viewer};
use crate::error::AppError;
use crate::studio::JobId;
use leptos::prelude::*;

/// Devices: what was found, tried, used, and why.
#[server(endpoint = "load_devices")]
pub async fn load_devices() -> Result<DevicesReport, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.admin.devices(&viewer).await
}

/// Runs the probe again; `device` empty = for every device.
#[server(endpoint = "test_devices_again")]
pub async fn test_devices_again(
    #[server(default)] device: String,
) -> Result<DevicesReport, AppError> {
    let viewer = use_viewer()?;
    let device = Some(device.as_str()).filter(|device| !device.is_empty());
    use_backend()?
        .admin
        .test_devices_again(&viewer, device)
        .await
}

/// Chooses devices, number format, where refiners run, and when idle models leave memory.
#[server(endpoint = "set_device_choice")]
pub async fn set_device_choice(
    device: String,
    precision: String,
    #[server(default)] refiner_device: String,
    idle_release_s: u32,
) -> Result<DevicesReport, AppError> {
    let viewer = use_viewer()?;
    let choice = DeviceChoice {
        device,
        precision,
        // "Where the base model runs" is sent as nothing.
        refiner_device: Some(refiner_device).filter(|device| !device.is_empty()),
        idle_release_s,
    };
    use_backend()?
        .admin
        .set_device_choice(&viewer, choice)
        .await
}

/// Memory, load, temperature and step times of the last seconds.
#[server(endpoint = "load_vitals")]
pub async fn load_vitals(span_s: u32) -> Result<VitalsReport, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.admin.vitals(&viewer, span_s).await
}

/// Models, and fetches of models.
#[server(endpoint = "load_models")]
pub async fn load_models() -> Result<ModelsReport, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.models.report(&viewer).await
}

/// Begins to fetch a model.
#[server(endpoint = "fetch_model")]
pub async fn fetch_model(
    model: String,
    #[server(default)] name: String,
    variant: String,
) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    let asked = NewFetch {
        model,
        name: Some(name),
        variant,
    };
    use_backend()?.models.fetch(&viewer, asked).await
}

/// Does something to a model or a fetch.
#[server(endpoint = "act_on_model")]
pub async fn act_on_model(name: String, act: ModelAct) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.models.act(&viewer, &name, act).await
}

/// Looks through the folder of models again.
#[server(endpoint = "look_for_models")]
pub async fn look_for_models() -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.models.look_again(&viewer).await
}

/// Everybody's jobs.
#[server(endpoint = "load_queue")]
pub async fn load_queue() -> Result<Vec<QueueRow>, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.admin.queue(&viewer).await
}

/// Stops anybody's job.
#[server(endpoint = "cancel_any_job")]
pub async fn cancel_any_job(id: JobId) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.admin.cancel_job(&viewer, &id).await
}

/// Everybody.
#[server(endpoint = "list_users")]
pub async fn list_users() -> Result<Vec<UserRow>, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.admin.list_users(&viewer).await
}

/// Makes a user with a first password.
#[server(endpoint = "create_user")]
pub async fn create_user(name: String, password: String, role: Role) -> Result<UserRow, AppError> {
    let viewer = use_viewer()?;
    use_backend()?
        .admin
        .create_user(&viewer, Credentials { name, password }, role)
        .await
}

/// Closes or opens a user's sign-in.
#[server(endpoint = "set_user_disabled")]
pub async fn set_user_disabled(id: UserId, disabled: bool) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?
        .admin
        .set_user_disabled(&viewer, id, disabled)
        .await
}
