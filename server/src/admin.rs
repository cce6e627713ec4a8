//! What administrators may ask. Each method first refuses anybody else.

use crate::accounts::AccountService;
use crate::audit::Audit;
use crate::devices::Devices;
use crate::devices::vitals::Vitals;
use crate::jobs::JobService;
use crate::models::service::ModelService;
use async_trait::async_trait;
use atelier_app::account::{Credentials, Role, UserId, Viewer};
use atelier_app::admin::{
    DeviceChoice, DevicesReport, ModelAct, ModelsReport, NewFetch, QueueRow, UserRow, VitalsReport,
};
use atelier_app::backend::{Admin, Answer, Models};
use atelier_app::error::AppError;
use atelier_app::studio::JobId;
use std::sync::Arc;

/// The port's admin part: users by the accounts, devices and the queue by their own rooms.
pub struct AdminService {
    accounts: Arc<AccountService>,
    devices: Arc<Devices>,
    jobs: Arc<JobService>,
    models: Arc<ModelService>,
    audit: Audit,
    vitals: Arc<Vitals>,
}

impl AdminService {
    /// Joins the rooms that administrators look into.
    pub fn new(
        accounts: Arc<AccountService>,
        devices: Arc<Devices>,
        jobs: Arc<JobService>,
        models: Arc<ModelService>,
        audit: Audit,
        vitals: Arc<Vitals>,
    ) -> Self {
        Self {
            accounts,
            devices,
            jobs,
            models,
            audit,
            vitals,
        }
    }

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

/// The word that the audit log has for an act.
fn act_word(act: ModelAct) -> &'static str {
    match act {
        ModelAct::Resume => "model.resume",
        ModelAct::Stop => "model.stop",
        ModelAct::Discard => "model.discard",
        ModelAct::Check => "model.check",
        ModelAct::Repair => "model.repair",
        ModelAct::MakeDefault => "model.default",
        ModelAct::Remove => "model.remove",
    }
}

#[async_trait]
impl Admin for AdminService {
    async fn devices(&self, viewer: &Viewer) -> Answer<DevicesReport> {
        only_admins(viewer)?;
        self.with_worker(self.devices.report().await?).await
    }

    async fn test_devices_again(
        &self,
        viewer: &Viewer,
        device: Option<&str>,
    ) -> Answer<DevicesReport> {
        only_admins(viewer)?;
        let report = self.devices.test_again(device).await?;
        self.audit
            .note(
                viewer,
                "devices.test",
                device.unwrap_or_default(),
                &report.decision,
            )
            .await?;
        self.with_worker(report).await
    }

    async fn set_device_choice(
        &self,
        viewer: &Viewer,
        choice: DeviceChoice,
    ) -> Answer<DevicesReport> {
        only_admins(viewer)?;
        let device = choice.device.clone();
        let report = self.devices.choose(choice).await?;
        self.audit
            .note(viewer, "devices.choose", &device, &report.decision)
            .await?;
        self.with_worker(report).await
    }

    async fn vitals(&self, viewer: &Viewer, span_s: u32) -> Answer<VitalsReport> {
        only_admins(viewer)?;
        let devices = self.devices.devices();
        let step_times = self.jobs.step_times_by_device().await?;
        Ok(self.vitals.report(span_s, &devices, &step_times))
    }

    async fn queue(&self, viewer: &Viewer) -> Answer<Vec<QueueRow>> {
        only_admins(viewer)?;
        self.jobs.admin_queue().await
    }

    async fn cancel_job(&self, viewer: &Viewer, id: &JobId) -> Answer<()> {
        only_admins(viewer)?;
        self.jobs.admin_cancel(id).await?;
        self.audit.note(viewer, "queue.cancel", &id.0, "").await?;
        Ok(())
    }

    async fn list_users(&self, viewer: &Viewer) -> Answer<Vec<UserRow>> {
        only_admins(viewer)?;
        Ok(self.accounts.users().await?)
    }

    async fn create_user(
        &self,
        viewer: &Viewer,
        credentials: Credentials,
        role: Role,
    ) -> Answer<UserRow> {
        only_admins(viewer)?;
        Ok(self
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
            .accounts
            .set_disabled(&viewer.into(), id, disabled)
            .await?)
    }
}

#[async_trait]
impl Models for AdminService {
    async fn report(&self, viewer: &Viewer) -> Answer<ModelsReport> {
        only_admins(viewer)?;
        self.models.report().await
    }

    async fn fetch(&self, viewer: &Viewer, asked: NewFetch) -> Answer<()> {
        only_admins(viewer)?;
        let model = asked.model.clone();
        self.models.begin_fetch(asked)?;
        self.audit.note(viewer, "model.fetch", &model, "").await?;
        Ok(())
    }

    async fn act(&self, viewer: &Viewer, name: &str, act: ModelAct) -> Answer<()> {
        only_admins(viewer)?;
        let word = act_word(act);
        match act {
            ModelAct::Resume => self.models.resume_fetch(name)?,
            ModelAct::Stop => self.models.stop_fetch(name)?,
            ModelAct::Discard => self.models.discard_fetch(name).await?,
            ModelAct::Check => self.models.begin_check(name, false)?,
            ModelAct::Repair => self.models.begin_check(name, true)?,
            ModelAct::MakeDefault => self.models.set_default(name).await?,
            ModelAct::Remove => {
                // Whoever waits for an image from it would wait in vain.
                if self.jobs.needs_model(name).await? {
                    return Err(AppError::Unavailable {
                        message: format!(
                            "Images with {name} are being made or wait in the queue; remove it when they are done."
                        ),
                    });
                }
                self.models.remove(name).await?;
            }
        }
        self.audit.note(viewer, word, name, "").await?;
        Ok(())
    }

    async fn look_again(&self, viewer: &Viewer) -> Answer<()> {
        only_admins(viewer)?;
        self.models.rescan().await;
        self.audit.note(viewer, "model.look", "", "").await?;
        Ok(())
    }
}
