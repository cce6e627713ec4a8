//! The port's part about models.

use super::{AdminService, only_admins, to_the_end};
use async_trait::async_trait;
use atelier_app::account::{Role, Viewer};
use atelier_app::admin::{ModelAct, ModelsReport, NewFetch};
use atelier_app::backend::{Answer, Models};
use atelier_app::error::AppError;

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
impl Models for AdminService {
    async fn report(&self, viewer: &Viewer) -> Answer<ModelsReport> {
        only_admins(viewer)?;
        self.rooms.models.report().await
    }

    async fn fetch(&self, viewer: &Viewer, asked: NewFetch) -> Answer<()> {
        only_admins(viewer)?;
        let (rooms, viewer) = (self.rooms.clone(), viewer.clone());
        to_the_end(async move {
            let model = asked.model.clone();
            rooms.models.begin_fetch(asked)?;
            Ok(rooms.audit.note(&viewer, "model.fetch", &model, "").await?)
        })
        .await
    }

    async fn act(&self, viewer: &Viewer, name: &str, act: ModelAct) -> Answer<()> {
        only_admins(viewer)?;
        let (rooms, viewer, name) = (self.rooms.clone(), viewer.clone(), name.to_owned());
        to_the_end(async move {
            let models = &rooms.models;
            match act {
                ModelAct::Resume => models.resume_fetch(&name)?,
                ModelAct::Stop => models.stop_fetch(&name)?,
                ModelAct::Discard => models.discard_fetch(&name).await?,
                ModelAct::Check => models.begin_check(&name, false)?,
                ModelAct::Repair => models.begin_check(&name, true)?,
                ModelAct::MakeDefault => models.set_default(&name).await?,
                ModelAct::Remove => {
                    // Whoever waits for an image from it would wait in vain.
                    if rooms.jobs.needs_model(&name).await? {
                        return Err(AppError::Unavailable {
                            message: format!(
                                "Images with {name} are being made or wait in the queue; remove it when they are done."
                            ),
                        });
                    }
                    models.remove(&name).await?;
                }
            }
            Ok(rooms.audit.note(&viewer, act_word(act), &name, "").await?)
        })
        .await
    }

    async fn look_again(&self, viewer: &Viewer) -> Answer<()> {
        only_admins(viewer)?;
        let (rooms, viewer) = (self.rooms.clone(), viewer.clone());
        to_the_end(async move {
            rooms.models.rescan().await;
            Ok(rooms.audit.note(&viewer, "model.look", "", "").await?)
        })
        .await
    }

    async fn set_access(&self, viewer: &Viewer, name: &str, least: Role) -> Answer<()> {
        only_admins(viewer)?;
        Ok(self
            .rooms
            .models
            .set_access(&viewer.into(), name, least)
            .await?)
    }
}
