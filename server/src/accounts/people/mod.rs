//! What administrators do to people: roles, closing and opening sign-in. Each act is in the audit
//! log, written in the transaction that does it; nothing can leave the server without an
//! administrator who can sign in.

mod port; // what pages ask
pub(super) mod store; // SQL

pub use port::PeopleService;

use super::AccountService;
use super::names::canonical_name;
use super::store as users;
use crate::audit::{Actor, store as audit};
use crate::db::now_ms;
use crate::error::ServerError;
use atelier_app::account::{Role, UserId};
use atelier_app::error::AppError;
use store::Changed;

fn last_admin(field: &str) -> AppError {
    AppError::invalid(
        field,
        "This is the only administrator who can sign in. Make somebody else an administrator first.",
    )
}

/// The name of whom a change was made to, and what was before.
fn done(changed: Changed, field: &str) -> Result<(String, Role, bool), AppError> {
    match changed {
        Changed::Done {
            name,
            role,
            was_disabled,
        } => Ok((name, role, was_disabled)),
        Changed::LastAdmin => Err(last_admin(field)),
        Changed::Missing => Err(AppError::NotFound),
    }
}

impl AccountService {
    /// The user of a name, for the command line.
    ///
    /// # Errors
    /// [`AppError::Invalid`] on `name` when there is none.
    pub(crate) async fn id_of(&self, name: &str) -> Result<UserId, ServerError> {
        let found = users::user_by_name(&self.db, &canonical_name(name)).await?;
        Ok(found
            .map(|user| user.viewer.id)
            .ok_or_else(|| AppError::invalid("name", format!("There is no user {name:?}.")))?)
    }

    /// Gives a user another role and ends their sessions.
    ///
    /// # Errors
    /// [`AppError::NotFound`]; [`AppError::Invalid`] on `role` for the last administrator.
    pub(crate) async fn set_role(
        &self,
        actor: &Actor,
        id: UserId,
        new: Role,
    ) -> Result<(), ServerError> {
        let mut write = self.db.write().await?;
        let (name, old, _) = done(store::set_role(&mut write, id, new).await?, "role")?;
        if old != new {
            let detail = format!("{} → {}", old.as_str(), new.as_str());
            audit::insert(&mut write, actor, "user.role", &name, &detail, now_ms()).await?;
        }
        write.commit().await?;
        Ok(())
    }

    /// Closes or opens sign-in of a user; closing ends sessions and tokens at once.
    ///
    /// # Errors
    /// [`AppError::NotFound`]; [`AppError::Invalid`] on `id` for the last administrator.
    pub(crate) async fn set_disabled(
        &self,
        actor: &Actor,
        id: UserId,
        disabled: bool,
    ) -> Result<(), ServerError> {
        let now = now_ms();
        let mut write = self.db.write().await?;
        let (changed, act) = if disabled {
            (store::disable(&mut write, id, now).await?, "user.disable")
        } else {
            (store::enable(&mut write, id).await?, "user.enable")
        };
        let (name, _, was_disabled) = done(changed, "id")?;
        if was_disabled != disabled {
            audit::insert(&mut write, actor, act, &name, "", now).await?;
        }
        write.commit().await?;
        Ok(())
    }
}
