//! People whom an OpenID Connect provider vouches for: known by its word for them, never by a name,
//! which there is anybody's to choose.

mod store; // SQL

use super::AccountService;
use super::names::canonical_name;
use super::password::Password;
use super::session::new_secret;
use super::store as users;
use crate::audit::{Actor, store as audit};
use crate::db::now_ms;
use crate::error::{ServerError, is_unique_violation};
use atelier_app::account::{Role, UserId, Viewer, outside_words};
use atelier_app::backend::{Client, SignedIn};
use atelier_app::error::AppError;

/// Names that are tried for a newcomer before giving up: "ada", "ada 2", …
const MOST_NAMES: u32 = 50;

/// Who somebody is at a provider.
pub struct Identity<'a> {
    /// The provider.
    pub issuer: &'a str,
    /// Its word for them.
    pub subject: &'a str,
    /// What they would like to be called.
    pub name: Option<&'a str>,
}

/// What a provider's word opens.
pub enum Arrival {
    /// The door.
    In(SignedIn),
    /// The second step, for those who switched it on here.
    CodeNeeded {
        /// The value of the `Set-Cookie` header to answer with.
        set_cookie: String,
    },
    /// Nothing: somebody who is signed in is known by the provider from now on.
    Linked,
}

/// A refusal by its code, which is what travels to the page that has the words.
pub(crate) fn refused(code: &'static str) -> AppError {
    AppError::invalid(code, outside_words(code))
}

impl AccountService {
    /// Lets somebody in whom a provider vouches for; a stranger becomes a user where `newcomers` says
    /// as what.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for strangers otherwise, and for closed accounts.
    pub(crate) async fn enter_from_outside(
        &self,
        identity: &Identity<'_>,
        newcomers: Option<Role>,
        client: &Client,
    ) -> Result<Arrival, ServerError> {
        let known = store::find(&self.db, identity.issuer, identity.subject).await?;
        let id = match (known, newcomers) {
            (Some((_, true)), _) => {
                return Err(refused("closed").into());
            }
            (Some((id, false)), _) => id,
            (None, Some(role)) => self.newcomer(identity, role).await?,
            (None, None) => {
                return Err(refused("unknown").into());
            }
        };
        let needs_code = self.needs_code(id).await?;
        let now = now_ms();
        let mut write = self.db.write().await?;
        if needs_code {
            let set_cookie = self.owe_code(&mut write, id, now).await?;
            write.commit().await?;
            return Ok(Arrival::CodeNeeded { set_cookie });
        }
        let viewer = users::viewer_by_id(&mut write, id)
            .await?
            .ok_or(AppError::SignInRequired)?;
        let signed_in = self.open_session(&mut write, viewer, client, now).await?;
        write.commit().await?;
        tracing::info!(user = id.0, "signed in through a provider");
        Ok(Arrival::In(signed_in))
    }

    /// Makes a user of somebody whom nobody here knows. Their password is one that nobody knows either.
    async fn newcomer(&self, identity: &Identity<'_>, role: Role) -> Result<UserId, ServerError> {
        let wanted: String = canonical_name(identity.name.unwrap_or("guest"))
            .chars()
            .filter(|c| !c.is_control())
            .take(56)
            .collect();
        let wanted = if wanted.trim().is_empty() {
            "guest".to_owned()
        } else {
            wanted.trim().to_owned()
        };
        let secret = new_secret();
        let password = Password::chosen(&secret, &wanted, "password")?;
        let hash = self.pool.hash(self.pool.place().await?, &password).await?;
        for number in 1..=MOST_NAMES {
            let name = match number {
                1 => wanted.clone(),
                number => format!("{wanted} {number}"),
            };
            let Ok(name) = super::names::parse_name(&name) else {
                break;
            };
            let now = now_ms();
            let mut write = self.db.write().await?;
            let id = match users::insert_user(&mut write, &name, role, &hash, now).await {
                Ok(id) => id,
                Err(error) if is_unique_violation(&error) => continue,
                Err(error) => return Err(error.into()),
            };
            store::insert(&mut write, identity.issuer, identity.subject, id, now).await?;
            let viewer = Viewer { id, name, role };
            let detail = format!("as {}, through {}", role.as_str(), identity.issuer);
            audit::insert(
                &mut write,
                &Actor::from(&viewer),
                "user.join",
                &viewer.name,
                &detail,
                now,
            )
            .await?;
            write.commit().await?;
            return Ok(id);
        }
        Err(refused("name").into())
    }

    /// Makes somebody who is signed in known by a provider.
    ///
    /// # Errors
    /// [`AppError::Invalid`] when somebody else is.
    pub(crate) async fn link_outside(
        &self,
        viewer: &Viewer,
        identity: &Identity<'_>,
    ) -> Result<(), ServerError> {
        let now = now_ms();
        let mut write = self.db.write().await?;
        let (issuer, subject) = (identity.issuer, identity.subject);
        match store::insert(&mut write, issuer, subject, viewer.id, now).await {
            Ok(()) => {}
            Err(error) if is_unique_violation(&error) => {
                drop(write);
                let owner = store::find(&self.db, issuer, subject).await?;
                if owner.is_some_and(|(id, _)| id == viewer.id) {
                    return Ok(());
                }
                return Err(refused("taken").into());
            }
            Err(error) => return Err(error.into()),
        }
        write.commit().await?;
        tracing::info!(user = viewer.id.0, "a user is known by a provider now");
        Ok(())
    }

    /// How many providers know a user.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn outside_count(&self, viewer: &Viewer) -> Result<u32, ServerError> {
        Ok(store::count(&self.db, viewer.id).await?)
    }

    /// Makes a user unknown to every provider.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn forget_outside(&self, viewer: &Viewer) -> Result<(), ServerError> {
        Ok(store::delete(&self.db, viewer.id).await?)
    }
}
