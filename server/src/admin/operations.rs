//! The port's part about running the server: the queue as a whole, settings, backups.

use super::{AdminService, Rooms, only_admins, to_the_end};
use crate::audit::Actor;
use async_trait::async_trait;
use atelier_app::account::Viewer;
use atelier_app::admin::{
    BackupsReport, CancelWhich, MoveTo, QueueFilter, QueueHold, QueueReport, SettingKind,
    SettingName, SettingRow,
};
use atelier_app::backend::{Answer, Operations};
use atelier_app::error::AppError;
use atelier_app::studio::JobId;

/// Stops jobs of anybody, to the end.
pub(super) async fn cancel(rooms: &Rooms, viewer: &Viewer, which: CancelWhich) -> Answer<u32> {
    let (jobs, actor) = (rooms.jobs.clone(), Actor::from(viewer));
    to_the_end(async move { Ok(jobs.cancel_many(&actor, &which).await?) }).await
}

#[async_trait]
impl Operations for AdminService {
    async fn queue_report(&self, viewer: &Viewer, filter: QueueFilter) -> Answer<QueueReport> {
        only_admins(viewer)?;
        Ok(self.rooms.jobs.queue_report(&filter).await?)
    }

    async fn set_queue_hold(&self, viewer: &Viewer, hold: QueueHold, on: bool) -> Answer<()> {
        only_admins(viewer)?;
        let (jobs, actor) = (self.rooms.jobs.clone(), Actor::from(viewer));
        to_the_end(async move { Ok(jobs.set_hold(&actor, hold, on).await?) }).await
    }

    async fn cancel_jobs(&self, viewer: &Viewer, which: CancelWhich) -> Answer<u32> {
        only_admins(viewer)?;
        cancel(&self.rooms, viewer, which).await
    }

    async fn move_job(&self, viewer: &Viewer, id: &JobId, to: MoveTo) -> Answer<()> {
        only_admins(viewer)?;
        let (jobs, actor, id) = (self.rooms.jobs.clone(), Actor::from(viewer), id.clone());
        to_the_end(async move { Ok(jobs.move_job(&actor, &id, &to).await?) }).await
    }

    async fn settings(&self, viewer: &Viewer) -> Answer<Vec<SettingRow>> {
        only_admins(viewer)?;
        let mut rows = self.rooms.settings.rows().await?;
        // Which models there are, and which of them is the first, their own room knows.
        if let Some(row) = rows
            .iter_mut()
            .find(|row| row.name == SettingName::DefaultModel)
        {
            let (names, first, now) = self.rooms.models.default_choice().await?;
            row.kind = SettingKind::Choice(names);
            row.default = first;
            row.value = now;
        }
        Ok(rows)
    }

    async fn change_setting(
        &self,
        viewer: &Viewer,
        name: SettingName,
        value: Option<String>,
    ) -> Answer<()> {
        only_admins(viewer)?;
        let (rooms, actor) = (self.rooms.clone(), Actor::from(viewer));
        to_the_end(async move {
            // Refused first where the model is not there, heeded at once where it is.
            if name == SettingName::DefaultModel {
                let chosen = rooms.models.choose_default(value.as_deref());
                chosen.map_err(|error| match error {
                    // On the page it is this setting's field.
                    AppError::Invalid { message, .. } => AppError::invalid(name.as_str(), message),
                    other => other,
                })?;
            }
            rooms
                .settings
                .change(&actor, name, value.as_deref())
                .await?;
            Ok(())
        })
        .await
    }

    async fn backups(&self, viewer: &Viewer) -> Answer<BackupsReport> {
        only_admins(viewer)?;
        Ok(self.rooms.backups.report().await?)
    }

    async fn begin_backup(&self, viewer: &Viewer) -> Answer<()> {
        only_admins(viewer)?;
        Ok(self.rooms.backups.begin(&viewer.into())?)
    }

    async fn stop_backup(&self, viewer: &Viewer) -> Answer<()> {
        only_admins(viewer)?;
        Ok(self.rooms.backups.stop(&viewer.into()).await?)
    }

    async fn delete_backup(&self, viewer: &Viewer, name: &str) -> Answer<()> {
        only_admins(viewer)?;
        let (backups, actor) = (self.rooms.backups.clone(), Actor::from(viewer));
        let name = name.to_owned();
        to_the_end(async move { Ok(backups.delete(&actor, &name).await?) }).await
    }
}
