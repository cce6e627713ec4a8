//! The way back for whoever forgot a password: a link that an administrator makes, good for a day
//! and once. The second step of sign-in, where there is one, stays asked for.

mod store; // SQL

use super::AccountService;
use super::failures::Subjects;
use super::password::Password;
use super::session::{hash_secret, is_secret, new_secret};
use super::store as users;
use crate::audit::{Actor, store as audit};
use crate::db::now_ms;
use crate::error::ServerError;
use atelier_app::account::UserId;
use atelier_app::admin::MadeLink;
use atelier_app::backend::Client;
use atelier_app::error::AppError;

/// How long a link is good.
const GOOD_MS: i64 = 24 * 60 * 60 * 1000;

fn no_such_link() -> AppError {
    AppError::invalid(
        "code",
        "This link has ended: it was used, replaced or is too old. Ask an administrator for a new one.",
    )
}

impl AccountService {
    /// Makes a link; an earlier one of the same user ends.
    ///
    /// # Errors
    /// [`AppError::NotFound`] when there is no such user, or their sign-in is closed.
    pub(crate) async fn make_reset_link(
        &self,
        actor: &Actor,
        id: UserId,
    ) -> Result<MadeLink, ServerError> {
        let secret = new_secret();
        let now = now_ms();
        let expires_at = now + GOOD_MS;
        let mut write = self.db.write().await?;
        let name = store::insert(&mut write, id, &hash_secret(&secret), now, expires_at)
            .await?
            .ok_or(AppError::NotFound)?;
        audit::insert(&mut write, actor, "user.reset", &name, "", now).await?;
        write.commit().await?;
        Ok(MadeLink {
            path: format!("/reset/{secret}"),
            expires_at,
        })
    }

    /// Whose password a link sets.
    pub(super) async fn reset_name(&self, code: &str) -> Result<String, ServerError> {
        if !is_secret(code) {
            return Err(no_such_link().into());
        }
        Ok(store::find(&self.db, &hash_secret(code), now_ms())
            .await?
            .map(|(_, name)| name)
            .ok_or_else(no_such_link)?)
    }

    /// Sets the password, ends the user's sessions, and takes the delays of wrong tries away.
    pub(super) async fn reset_by_link(
        &self,
        code: &str,
        password: &str,
        client: &Client,
    ) -> Result<(), ServerError> {
        let name = self.reset_name(code).await?;
        let password = Password::chosen(password, &name, "password")?;
        let hash = self.pool.hash(self.pool.place().await?, &password).await?;
        let mut write = self.db.write().await?;
        let (id, name) = store::take(&mut write, &hash_secret(code), now_ms())
            .await?
            .ok_or_else(no_such_link)?;
        users::set_password_hash(&mut write, id, &hash).await?;
        users::delete_sessions(&mut write, id).await?;
        users::forgive(&mut write, &Subjects::of_account(&name, &client.address)).await?;
        write.commit().await?;
        tracing::info!(user = id.0, "a password was set by a link");
        Ok(())
    }
}
