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
use crate::db::{Write, now_ms};
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

/// A change that was made.
struct Done {
    /// Whom it was made to.
    name: String,
    role_before: Role,
    was_disabled: bool,
    /// The notes of invitations that ended with it.
    revoked: Vec<String>,
}

fn done(changed: Changed, field: &str) -> Result<Done, AppError> {
    match changed {
        Changed::Done {
            name,
            role,
            was_disabled,
            revoked,
        } => Ok(Done {
            name,
            role_before: role,
            was_disabled,
            revoked,
        }),
        Changed::LastAdmin => Err(last_admin(field)),
        Changed::Missing => Err(AppError::NotFound),
    }
}

/// Writes the invitations down that ended with a change, before the change itself.
async fn note_revoked(
    write: &mut Write,
    actor: &Actor,
    done: &Done,
    now: i64,
) -> Result<(), ServerError> {
    let detail = format!("made by {}, who administrates no longer", done.name);
    for note in &done.revoked {
        audit::insert(write, actor, "invitation.revoke", note, &detail, now).await?;
    }
    Ok(())
}

impl AccountService {
    /// The user of a name, for the command line.
    ///
    /// # Errors
    /// [`AppError::Invalid`] on `name` when there is none, or they wait to be let in.
    pub(crate) async fn id_of(&self, name: &str) -> Result<UserId, ServerError> {
        let found = users::user_by_name(&self.db, &canonical_name(name))
            .await?
            .ok_or_else(|| AppError::invalid("name", format!("There is no user {name:?}.")))?;
        if found.is_waiting {
            return Err(AppError::invalid(
                "name",
                format!("{name} waits to be let in; answer on the page People."),
            )
            .into());
        }
        Ok(found.viewer.id)
    }

    /// Whether administrators may look into others' images.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn allows_looks(&self) -> Result<bool, ServerError> {
        let value = store::setting(&self.db, store::LOOKS).await?;
        Ok(value.is_some_and(|value| value == "allowed"))
    }

    /// Allows it or forbids it.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn set_allows_looks(
        &self,
        actor: &Actor,
        on: bool,
    ) -> Result<(), ServerError> {
        let now = now_ms();
        let value = if on { "allowed" } else { "forbidden" };
        let mut write = self.db.write().await?;
        store::set_setting(&mut write, store::LOOKS, value, now).await?;
        audit::insert(
            &mut write,
            actor,
            "setting.change",
            store::LOOKS,
            value,
            now,
        )
        .await?;
        write.commit().await?;
        Ok(())
    }

    /// Gives a user another role and ends their sessions; with the power to administrate go their
    /// open invitations.
    ///
    /// # Errors
    /// [`AppError::NotFound`]; [`AppError::Invalid`] on `role` for the last administrator.
    pub(crate) async fn set_role(
        &self,
        actor: &Actor,
        id: UserId,
        new: Role,
    ) -> Result<(), ServerError> {
        let now = now_ms();
        let mut write = self.db.write().await?;
        let done = done(store::set_role(&mut write, id, new, now).await?, "role")?;
        note_revoked(&mut write, actor, &done, now).await?;
        let old = done.role_before;
        if old != new {
            let detail = format!("{} → {}", old.as_str(), new.as_str());
            audit::insert(&mut write, actor, "user.role", &done.name, &detail, now).await?;
        }
        write.commit().await?;
        Ok(())
    }

    /// Closes or opens sign-in of a user; closing ends sessions, tokens and open
    /// invitations at once.
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
        let done = done(changed, "id")?;
        note_revoked(&mut write, actor, &done, now).await?;
        if done.was_disabled != disabled {
            audit::insert(&mut write, actor, act, &done.name, "", now).await?;
        }
        write.commit().await?;
        Ok(())
    }
}
