//! What administrators may ask. Each method first refuses anybody else.
//!
//! What changes something is in the audit log. An act and its note run in a task of their own: a
//! browser that goes away in between leaves no act that nobody wrote down.

mod models; // the port's part about models
mod operations; // the queue as a whole, settings, backups

use crate::accounts::AccountService;
use crate::audit::Audit;
use crate::backup::Backups;
use crate::devices::Devices;
use crate::devices::vitals::Vitals;
use crate::error::ServerError;
use crate::jobs::JobService;
use crate::models::service::ModelService;
use crate::settings::RunTime;
use async_trait::async_trait;
use atelier_app::account::{Credentials, Role, UserId, Viewer};
use atelier_app::admin::{
    CancelWhich, DeviceChoice, DevicesReport, QueueRow, UserRow, VitalsReport,
};
use atelier_app::backend::{Admin, Answer};
use atelier_app::error::AppError;
use atelier_app::studio::JobId;
use std::sync::Arc;

/// The rooms that administrators look into. Cheap to clone.
#[derive(Clone)]
pub struct Rooms {
    /// Users.
    pub accounts: Arc<AccountService>,
    /// Hardware.
    pub devices: Arc<Devices>,
    /// The queue.
    pub jobs: Arc<JobService>,
    /// Weights on disk.
    pub models: Arc<ModelService>,
    /// What administrators did.
    pub audit: Audit,
    /// Load, memory and temperature.
    pub vitals: Arc<Vitals>,
    /// What can be set while the server runs.
    pub settings: Arc<RunTime>,
    /// Copies of everything.
    pub backups: Arc<Backups>,
}

/// The port's administrative parts.
pub struct AdminService {
    rooms: Rooms,
}

impl AdminService {
    /// Joins the rooms.
    pub fn new(rooms: Rooms) -> Self {
        Self { rooms }
    }
}

impl Rooms {
    /// The devices as their room knows them, with what only the queue knows filled in.
    async fn with_worker(&self, mut report: DevicesReport) -> Answer<DevicesReport> {
        report.worker = self.jobs.worker_state();
        report.workers = self.jobs.workers();
        report.step_times = self.jobs.step_times().await?;
        Ok(report)
    }
}

fn only_admins(viewer: &Viewer) -> Answer<()> {
    if viewer.is_admin() {
        Ok(())
    } else {
        Err(AppError::Forbidden)
    }
}

/// Runs an act and its note to their end, whoever goes on waiting for the answer.
async fn to_the_end<T: Send + 'static>(
    act: impl Future<Output = Answer<T>> + Send + 'static,
) -> Answer<T> {
    let ended = tokio::spawn(act).await;
    ended.map_err(|error| {
        ServerError::broken(format!("an administrator's act ended early: {error}"))
    })?
}

#[async_trait]
impl Admin for AdminService {
    async fn devices(&self, viewer: &Viewer) -> Answer<DevicesReport> {
        only_admins(viewer)?;
        let report = self.rooms.devices.report().await?;
        self.rooms.with_worker(report).await
    }

    async fn test_devices_again(
        &self,
        viewer: &Viewer,
        device: Option<&str>,
    ) -> Answer<DevicesReport> {
        only_admins(viewer)?;
        let (rooms, viewer) = (self.rooms.clone(), viewer.clone());
        let device = device.map(str::to_owned);
        to_the_end(async move {
            let report = rooms.devices.test_again(device.as_deref()).await?;
            let subject = device.unwrap_or_default();
            rooms
                .audit
                .note(&viewer, "devices.test", &subject, &report.decision)
                .await?;
            rooms.with_worker(report).await
        })
        .await
    }

    async fn set_device_choice(
        &self,
        viewer: &Viewer,
        choice: DeviceChoice,
    ) -> Answer<DevicesReport> {
        only_admins(viewer)?;
        let (rooms, viewer) = (self.rooms.clone(), viewer.clone());
        to_the_end(async move {
            let device = choice.device.clone();
            let report = rooms.devices.choose(choice).await?;
            rooms
                .audit
                .note(&viewer, "devices.choose", &device, &report.decision)
                .await?;
            rooms.with_worker(report).await
        })
        .await
    }

    async fn vitals(&self, viewer: &Viewer, span_s: u32) -> Answer<VitalsReport> {
        only_admins(viewer)?;
        let devices = self.rooms.devices.devices();
        let step_times = self.rooms.jobs.step_times_by_device().await?;
        Ok(self.rooms.vitals.report(span_s, &devices, &step_times))
    }

    async fn queue(&self, viewer: &Viewer) -> Answer<Vec<QueueRow>> {
        only_admins(viewer)?;
        self.rooms.jobs.admin_queue().await
    }

    async fn cancel_job(&self, viewer: &Viewer, id: &JobId) -> Answer<()> {
        only_admins(viewer)?;
        let which = CancelWhich::Jobs(vec![id.clone()]);
        let stopped = operations::cancel(&self.rooms, viewer, which).await?;
        if stopped == 0 && !self.rooms.jobs.is_there(id).await? {
            return Err(AppError::NotFound);
        }
        Ok(())
    }

    async fn list_users(&self, viewer: &Viewer) -> Answer<Vec<UserRow>> {
        only_admins(viewer)?;
        Ok(self.rooms.accounts.users().await?)
    }

    async fn create_user(
        &self,
        viewer: &Viewer,
        credentials: Credentials,
        role: Role,
    ) -> Answer<UserRow> {
        only_admins(viewer)?;
        Ok(self
            .rooms
            .accounts
            .add_user(&viewer.into(), credentials, role)
            .await?)
    }

    async fn set_user_disabled(&self, viewer: &Viewer, id: UserId, disabled: bool) -> Answer<()> {
        only_admins(viewer)?;
        if disabled && id == viewer.id {
            return Err(AppError::invalid(
                "id",
                "You cannot close your own account; another administrator can.",
            ));
        }
        Ok(self
            .rooms
            .accounts
            .set_disabled(&viewer.into(), id, disabled)
            .await?)
    }
}
