//! How people come in: by a link that an administrator makes, or, where that is switched on, by
//! asking for an account and waiting until an administrator says yes.

mod store; // SQL

use super::failures::Subjects;
use super::names::{canonical_name, parse_name};
use super::password::Password;
use super::people::store as choices;
use super::session::{hash_secret, is_secret, new_secret};
use super::store as users;
use super::{AccountService, name_taken};
use crate::audit::{Actor, store as audit};
use crate::db::now_ms;
use crate::error::ServerError;
use atelier_app::account::{Credentials, InvitationOffer, Role, UserId, Viewer};
use atelier_app::admin::{InvitationRow, MadeLink, NewInvitation, SignUpRow};
use atelier_app::backend::{Client, SignedIn};
use atelier_app::error::AppError;
use store::Inserted;

/// The longest life of an invitation, in days.
const LONGEST_DAYS: u32 = 365;
/// The most people that one link lets in.
const MOST_USES: u32 = 1000;
/// Open invitations that there may be.
const MOST_OPEN: i64 = 200;
/// People who may wait for an answer at a time: whoever floods the form floods no database.
const MOST_WAITING: i64 = 100;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// A request that nobody answers for so long is forgotten.
const WAITING_MS: i64 = 30 * DAY_MS;

/// What a dead link says, whatever it died of.
fn no_such_invitation() -> AppError {
    AppError::invalid(
        "code",
        "This invitation has ended: it was used up, revoked or is too old. Ask for a new one.",
    )
}

impl AccountService {
    /// Makes a link; the answer is the only time its secret is seen.
    ///
    /// # Errors
    /// [`AppError::Invalid`] on `days`, `uses` or `note`; [`AppError::Forbidden`] when the actor
    /// administrates no longer.
    pub(crate) async fn invite(
        &self,
        actor: &Actor,
        new: NewInvitation,
    ) -> Result<MadeLink, ServerError> {
        if !(1..=LONGEST_DAYS).contains(&new.days) {
            return Err(AppError::invalid(
                "days",
                format!("Give a number of days from 1 to {LONGEST_DAYS}."),
            )
            .into());
        }
        if !(1..=MOST_USES).contains(&new.uses) {
            return Err(AppError::invalid(
                "uses",
                format!("Give a number of people from 1 to {MOST_USES}."),
            )
            .into());
        }
        let note = canonical_name(&new.note);
        if note.chars().count() > 64 || note.chars().any(char::is_control) {
            return Err(
                AppError::invalid("note", "Use at most 64 characters that can be seen.").into(),
            );
        }
        let secret = new_secret();
        let now = now_ms();
        let expires_at = now + i64::from(new.days) * DAY_MS;
        let row = store::NewRow {
            hash: &hash_secret(&secret),
            role: new.role,
            note: &note,
            made_by: actor.id,
            expires_at,
            max_uses: new.uses,
        };
        let mut write = self.db.write().await?;
        match store::insert(&mut write, &row, MOST_OPEN, now).await? {
            Inserted::Done => {}
            Inserted::NotAllowed => return Err(AppError::Forbidden.into()),
            Inserted::TooMany => {
                return Err(AppError::invalid(
                    "note",
                    format!("There are {MOST_OPEN} open invitations already; revoke some first."),
                )
                .into());
            }
        }
        let detail = format!(
            "as {}, for {} days, {} use(s)",
            new.role.as_str(),
            new.days,
            new.uses
        );
        audit::insert(&mut write, actor, "invitation.make", &note, &detail, now).await?;
        write.commit().await?;
        Ok(MadeLink {
            path: format!("/join/{secret}"),
            expires_at,
        })
    }

    /// Invitations that still let somebody in, newest first.
    pub(crate) async fn open_invitations(&self) -> Result<Vec<InvitationRow>, ServerError> {
        Ok(store::list_open(&self.db, now_ms()).await?)
    }

    /// Ends a link.
    ///
    /// # Errors
    /// [`AppError::NotFound`] when it is not open.
    pub(crate) async fn revoke_invitation(
        &self,
        actor: &Actor,
        id: i64,
    ) -> Result<(), ServerError> {
        let now = now_ms();
        let mut write = self.db.write().await?;
        let note = store::revoke(&mut write, id, now)
            .await?
            .ok_or(AppError::NotFound)?;
        audit::insert(&mut write, actor, "invitation.revoke", &note, "", now).await?;
        write.commit().await?;
        Ok(())
    }

    /// What a link offers, for the page behind it.
    pub(super) async fn offer(&self, code: &str) -> Result<InvitationOffer, ServerError> {
        if !is_secret(code) {
            return Err(no_such_invitation().into());
        }
        Ok(store::offer(&self.db, &hash_secret(code), now_ms())
            .await?
            .ok_or_else(no_such_invitation)?)
    }

    /// Makes the account that a link offers, and signs it in.
    pub(super) async fn join(
        &self,
        code: &str,
        credentials: Credentials,
        client: &Client,
    ) -> Result<SignedIn, ServerError> {
        // A look first, so that a dead link costs no hash.
        self.offer(code).await?;
        let name = parse_name(&credentials.name)?;
        let password = Password::chosen(&credentials.password, &name, "password")?;
        let hash = self.pool.hash(self.pool.place().await?, &password).await?;
        let now = now_ms();
        let mut write = self.db.write().await?;
        let role = store::use_up(&mut write, &hash_secret(code), now)
            .await?
            .ok_or_else(no_such_invitation)?;
        let id = users::insert_user(&mut write, &name, role, &hash, now)
            .await
            .map_err(|error| name_taken(error, &name))?;
        let viewer = Viewer { id, name, role };
        let actor = Actor::from(&viewer);
        let detail = format!("as {}", role.as_str());
        audit::insert(&mut write, &actor, "user.join", &viewer.name, &detail, now).await?;
        let signed_in = self.open_session(&mut write, viewer, client, now).await?;
        write.commit().await?;
        tracing::info!(user = id.0, "somebody came in by an invitation");
        Ok(signed_in)
    }

    /// Whether people may ask for an account.
    pub(crate) async fn takes_sign_ups(&self) -> Result<bool, ServerError> {
        Ok(choices::setting(&self.db, choices::SELF_SIGN_UP)
            .await?
            .is_some_and(|value| value == "approval"))
    }

    /// Opens or closes the form for asking.
    pub(crate) async fn set_self_sign_up(
        &self,
        actor: &Actor,
        on: bool,
    ) -> Result<(), ServerError> {
        let now = now_ms();
        let mut write = self.db.write().await?;
        let value = if on { "approval" } else { "off" };
        choices::set_setting(&mut write, choices::SELF_SIGN_UP, value, now).await?;
        audit::insert(
            &mut write,
            actor,
            "setting.change",
            choices::SELF_SIGN_UP,
            value,
            now,
        )
        .await?;
        write.commit().await?;
        Ok(())
    }

    /// Writes down that somebody wants an account.
    pub(super) async fn ask_for_account(
        &self,
        credentials: Credentials,
        client: &Client,
    ) -> Result<(), ServerError> {
        if !self.takes_sign_ups().await? {
            return Err(AppError::invalid(
                "name",
                "This server takes no requests for accounts. An administrator can invite you.",
            )
            .into());
        }
        let name = parse_name(&credentials.name)?;
        let password = Password::chosen(&credentials.password, &name, "password")?;
        let place = self.pool.place().await?;
        // Every request with a name and a password that would do counts, and nothing takes it off the
        // count: one address cannot fill the list.
        let subjects = Subjects::of_sign_up(&client.address);
        self.reserve_saying(
            &subjects,
            None,
            client,
            "There were many requests for accounts from where you are.",
        )
        .await?;
        let hash = self.pool.hash(place, &password).await?;
        let now = now_ms();
        let mut write = self.db.write().await?;
        store::forget_waiting(&mut write, now - WAITING_MS).await?;
        if store::count_waiting(&mut write).await? >= MOST_WAITING {
            return Err(AppError::Unavailable {
                message:
                    "Many people wait for an answer already. Tell an administrator of this server."
                        .into(),
            }
            .into());
        }
        let id = users::insert_user(&mut write, &name, Role::Member, &hash, now)
            .await
            .map_err(|error| name_taken(error, &name))?;
        store::make_wait(&mut write, id, now).await?;
        write.commit().await?;
        tracing::info!(user = id.0, "somebody asks for an account");
        Ok(())
    }

    /// Who waits for an answer, longest first.
    pub(crate) async fn waiting(&self) -> Result<Vec<SignUpRow>, ServerError> {
        Ok(store::list_waiting(&self.db).await?)
    }

    /// Lets somebody in who waits since `asked_at` (Unix milliseconds), or forgets them.
    ///
    /// # Errors
    /// [`AppError::NotFound`] when nobody of that id waits since then.
    pub(crate) async fn answer_sign_up(
        &self,
        actor: &Actor,
        id: UserId,
        asked_at: i64,
        role: Option<Role>,
    ) -> Result<(), ServerError> {
        let now = now_ms();
        let mut write = self.db.write().await?;
        let (name, act, detail) = match role {
            Some(role) => (
                store::admit(&mut write, id, asked_at, role).await?,
                "user.admit",
                role.as_str(),
            ),
            None => (
                store::refuse(&mut write, id, asked_at).await?,
                "user.refuse",
                "",
            ),
        };
        let name = name.ok_or(AppError::NotFound)?;
        audit::insert(&mut write, actor, act, &name, detail, now).await?;
        write.commit().await?;
        Ok(())
    }
}
