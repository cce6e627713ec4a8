//! The port's part about people: each method first refuses whoever is no administrator.

use super::super::AccountService;
use super::super::departure::Departures;
use crate::audit::{self, Actor, Audit};
use crate::db::now_ms;
use crate::error::ServerError;
use crate::gallery::GalleryService;
use crate::jobs::JobService;
use async_trait::async_trait;
use atelier_app::account::{Role, UserId, Viewer};
use atelier_app::admin::{
    AuditFilter, AuditPage, Leaving, LookPage, MadeLink, NewInvitation, PeopleData, PersonData,
    UserRow,
};
use atelier_app::backend::{Answer, Gallery as _, People};
use atelier_app::error::AppError;
use std::sync::Arc;

/// Images on one page of a look.
const LOOKED_AT: u32 = 50;

/// The accounts, as administrators see and change them.
pub struct PeopleService {
    accounts: Arc<AccountService>,
    audit: Audit,
    jobs: Arc<JobService>,
    gallery: Arc<GalleryService>,
    departures: Departures,
}

impl PeopleService {
    /// Joins what administrators of people need.
    pub fn new(
        accounts: Arc<AccountService>,
        audit: Audit,
        jobs: Arc<JobService>,
        gallery: Arc<GalleryService>,
        departures: Departures,
    ) -> Self {
        Self {
            accounts,
            audit,
            jobs,
            gallery,
            departures,
        }
    }

    /// The zips of who leaves.
    pub fn departures(&self) -> &Departures {
        &self.departures
    }

    /// Leave for an administrator to look into a user's images, which the setting may forbid; answers
    /// the user as the gallery knows them.
    ///
    /// # Errors
    /// [`AppError::Forbidden`], [`AppError::Refused`] where looks are not allowed, [`AppError::NotFound`].
    pub async fn may_look(&self, viewer: &Viewer, id: UserId) -> Answer<Viewer> {
        only_admins(viewer)?;
        if !self.accounts.allows_looks().await? {
            return Err(AppError::refused(
                "Looks into others' images are not allowed on this server. An administrator can allow them on the page about people; each look is then in the audit log.",
            ));
        }
        let row = self.row(id).await?;
        Ok(Viewer {
            id: row.id,
            name: row.name,
            role: row.role,
        })
    }

    /// Writes a look down. Of small pictures one look in five minutes is written: they come by the page.
    ///
    /// # Errors
    /// The database's; then nothing may be shown.
    pub async fn note_look(
        &self,
        viewer: &Viewer,
        owner: &Viewer,
        what: &str,
        is_small: bool,
    ) -> Answer<()> {
        if is_small && self.audit.looked_lately(viewer, &owner.name).await? {
            return Ok(());
        }
        Ok(self
            .audit
            .note(viewer, "image.look", &owner.name, what)
            .await?)
    }

    async fn row(&self, id: UserId) -> Result<UserRow, ServerError> {
        let users = self.accounts.users().await?;
        let found = users.into_iter().find(|user| user.id == id);
        Ok(found.ok_or(AppError::NotFound)?)
    }
}

fn only_admins(viewer: &Viewer) -> Answer<Actor> {
    if viewer.is_admin() {
        Ok(viewer.into())
    } else {
        Err(AppError::Forbidden)
    }
}

#[async_trait]
impl People for PeopleService {
    async fn people(&self, viewer: &Viewer) -> Answer<PeopleData> {
        only_admins(viewer)?;
        Ok(PeopleData {
            users: self.accounts.users().await?,
            waiting: self.accounts.waiting().await?,
            invitations: self.accounts.open_invitations().await?,
            self_sign_up: self.accounts.takes_sign_ups().await?,
            looks: self.accounts.allows_looks().await?,
        })
    }

    async fn person(&self, viewer: &Viewer, id: UserId) -> Answer<PersonData> {
        only_admins(viewer)?;
        let users = self.accounts.users().await?;
        let others = users
            .iter()
            .filter(|user| user.id != id)
            .map(|user| (user.id, user.name.clone()))
            .collect();
        let user = users.into_iter().find(|user| user.id == id);
        let user = user.ok_or(AppError::NotFound)?;
        let two_step = self.accounts.two_step_state(id).await?.on_since.is_some();
        let (sessions, tokens) = self.accounts.keys(id, now_ms()).await?;
        Ok(PersonData {
            user,
            sessions,
            tokens,
            two_step,
            looks: self.accounts.allows_looks().await?,
            others,
        })
    }

    async fn invite(&self, viewer: &Viewer, new: NewInvitation) -> Answer<MadeLink> {
        let actor = only_admins(viewer)?;
        Ok(self.accounts.invite(&actor, new).await?)
    }

    async fn revoke_invitation(&self, viewer: &Viewer, id: i64) -> Answer<()> {
        let actor = only_admins(viewer)?;
        Ok(self.accounts.revoke_invitation(&actor, id).await?)
    }

    async fn set_self_sign_up(&self, viewer: &Viewer, on: bool) -> Answer<()> {
        let actor = only_admins(viewer)?;
        Ok(self.accounts.set_self_sign_up(&actor, on).await?)
    }

    async fn answer_sign_up(
        &self,
        viewer: &Viewer,
        id: UserId,
        asked_at: i64,
        role: Option<Role>,
    ) -> Answer<()> {
        let actor = only_admins(viewer)?;
        let answered = self.accounts.answer_sign_up(&actor, id, asked_at, role);
        Ok(answered.await?)
    }

    async fn set_role(&self, viewer: &Viewer, id: UserId, role: Role) -> Answer<()> {
        let actor = only_admins(viewer)?;
        Ok(self.accounts.set_role(&actor, id, role).await?)
    }

    async fn make_reset_link(&self, viewer: &Viewer, id: UserId) -> Answer<MadeLink> {
        let actor = only_admins(viewer)?;
        Ok(self.accounts.make_reset_link(&actor, id).await?)
    }

    async fn end_two_step_of(&self, viewer: &Viewer, id: UserId) -> Answer<()> {
        let actor = only_admins(viewer)?;
        let name = self.row(id).await?.name;
        Ok(self.accounts.end_two_step_of(&actor, id, &name).await?)
    }

    async fn remove(&self, viewer: &Viewer, id: UserId, leaving: Leaving) -> Answer<()> {
        let actor = only_admins(viewer)?;
        if id == viewer.id {
            return Err(AppError::invalid(
                "id",
                "You cannot remove yourself; another administrator can.",
            ));
        }
        // Told through the queue's own door first: a worker that hears of it stops at its next step.
        let queue = self.jobs.admin_queue().await?;
        let name = self.row(id).await?.name;
        for job in queue
            .iter()
            .filter(|job| job.user == name && !job.state.is_final())
        {
            self.jobs.admin_cancel(&job.id).await?;
        }
        // Of its own, so that whoever closes the browser meanwhile leaves nothing half done.
        let (departures, accounts) = (self.departures.clone(), self.accounts.clone());
        let work = async move {
            let young = departures.remove(&accounts, &actor, id, leaving).await?;
            tokio::spawn(async move { departures.remove_late(young).await });
            Ok(())
        };
        let done = tokio::spawn(work)
            .await
            .map_err(|error| ServerError::broken(format!("removing a user ended early: {error}")));
        Ok(done.and_then(|done: Result<(), ServerError>| done)?)
    }

    async fn allow_looks(&self, viewer: &Viewer, on: bool) -> Answer<()> {
        let actor = only_admins(viewer)?;
        Ok(self.accounts.set_allows_looks(&actor, on).await?)
    }

    async fn look(&self, viewer: &Viewer, id: UserId, after: Option<&str>) -> Answer<LookPage> {
        let owner = self.may_look(viewer, id).await?;
        self.note_look(viewer, &owner, "the list of images", false)
            .await?;
        let images = self.gallery.list_images(&owner, after, LOOKED_AT).await?;
        Ok(LookPage {
            user: id,
            name: owner.name,
            images,
        })
    }

    async fn audit(&self, viewer: &Viewer, filter: AuditFilter) -> Answer<AuditPage> {
        only_admins(viewer)?;
        self.audit.page(&filter, audit::PAGE).await
    }
}
