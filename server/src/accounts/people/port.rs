//! The port's part about people: each method first refuses whoever is no administrator.

use super::super::AccountService;
use crate::audit::{self, Actor, Audit};
use crate::db::now_ms;
use crate::error::ServerError;
use async_trait::async_trait;
use atelier_app::account::{Role, UserId, Viewer};
use atelier_app::admin::{
    AuditFilter, AuditPage, MadeLink, NewInvitation, PeopleData, PersonData, UserRow,
};
use atelier_app::backend::{Answer, People};
use atelier_app::error::AppError;
use std::sync::Arc;

/// The accounts, as administrators see and change them.
pub struct PeopleService {
    accounts: Arc<AccountService>,
    audit: Audit,
}

impl PeopleService {
    /// Joins what administrators of people need.
    pub fn new(accounts: Arc<AccountService>, audit: Audit) -> Self {
        Self { accounts, audit }
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
        })
    }

    async fn person(&self, viewer: &Viewer, id: UserId) -> Answer<PersonData> {
        only_admins(viewer)?;
        let user = self.row(id).await?;
        let two_step = self.accounts.two_step_state(id).await?.on_since.is_some();
        let (sessions, tokens) = self.accounts.keys(id, now_ms()).await?;
        Ok(PersonData {
            user,
            sessions,
            tokens,
            two_step,
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

    async fn audit(&self, viewer: &Viewer, filter: AuditFilter) -> Answer<AuditPage> {
        only_admins(viewer)?;
        self.audit.page(&filter, audit::PAGE).await
    }
}
