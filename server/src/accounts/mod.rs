//! Users, passwords, sessions, tokens: the rules. SQL is in `store`, HTTP is elsewhere.

pub mod command; // `atelier user …`
pub mod departure; // when somebody leaves
mod failures; // the growing delay after wrong passwords
mod invitations; // links that let people in, and people who ask
mod names; // what people and tokens may be called
pub mod outside; // people whom a provider vouches for
mod password; // what is accepted; the bounded argon2 pool
pub mod people; // what administrators do to people
mod port; // what pages ask
mod resets; // links that set a password
pub(crate) mod session; // secrets and their cookie
mod setup; // the one-time code of an empty server
mod store; // SQL
mod tokens; // what API tokens look like
mod two_step; // the code after the password

use crate::audit::{Actor, store as audit};
use crate::config::ServeConfig;
use crate::db::{Db, now_ms};
use crate::error::{ServerError, is_unique_violation};
use atelier_app::account::{Credentials, NewToken, Role, Scope, TokenSummary, UserId, Viewer};
use atelier_app::admin::UserRow;
use atelier_app::backend::{Client, Entered, SignedIn};
use atelier_app::error::AppError;
use failures::Subjects;
use names::{canonical_name, parse_label, parse_name};
use password::{HashPool, Password, Verdict};
use session::{ABSOLUTE_MS, CookieStyle, DAY_MS, SecretHash, hash_secret};
use std::sync::Arc;
use store::NewSession;

/// Live tokens that one user may have.
const MOST_TOKENS: i64 = 50;
/// The longest life of a token that has an end, in days: ten years.
const LONGEST_TOKEN_DAYS: u32 = 3650;

/// Bytes from the operating system's generator, through `rand`.
fn random_bytes<const N: usize>() -> [u8; N] {
    rand::random()
}

/// Users, passwords, sessions, tokens.
pub struct AccountService {
    db: Db,
    pool: HashPool,
    cookie: CookieStyle,
    /// The hash of the one-time code; `None` when the server had an administrator at its start.
    setup_code: Option<SecretHash>,
}

impl AccountService {
    /// Opens the accounts. On a server without an administrator, also makes the one-time setup code
    /// and answers it.
    ///
    /// # Errors
    /// When the database does not answer, or this machine cannot hash.
    pub async fn open(
        db: Db,
        config: &ServeConfig,
    ) -> Result<(Arc<Self>, Option<String>), ServerError> {
        let code = (!store::has_admin(&db).await?).then(setup::new_code);
        let service = Self {
            pool: HashPool::new().await?,
            cookie: CookieStyle::new(config.is_https()),
            setup_code: code.as_deref().map(setup::hash_code),
            db,
        };
        Ok((Arc::new(service), code))
    }

    /// The accounts for `atelier user`: no setup code, no cookies.
    ///
    /// # Errors
    /// When this machine cannot hash.
    pub(crate) async fn for_command_line(db: Db) -> Result<Self, ServerError> {
        let pool = HashPool::new().await?;
        Ok(Self {
            db,
            pool,
            cookie: CookieStyle::new(false),
            setup_code: None,
        })
    }

    /// The name of the session cookie.
    pub fn cookie_name(&self) -> &'static str {
        self.cookie.name()
    }

    /// The name of the cookie between password and code.
    pub fn step_cookie_name(&self) -> &'static str {
        self.cookie.step_name()
    }

    /// Who a session cookie's secret belongs to, where the session is alive.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn viewer_of_session(&self, secret: &str) -> Result<Option<Viewer>, ServerError> {
        if !session::is_secret(secret) {
            return Ok(None);
        }
        let now = now_ms();
        let hash = hash_secret(secret);
        let Some(found) = store::session(&self.db, &hash, now).await? else {
            return Ok(None);
        };
        if found
            .last_seen_at
            .is_none_or(|seen| now - seen >= store::TOUCH_MS)
        {
            let touched = store::touch_session(&self.db, &hash, found.viewer.id, now).await;
            log_untouched(touched);
        }
        Ok(Some(found.viewer))
    }

    /// Who an API token belongs to, where it is alive.
    ///
    /// # Errors
    /// As [`AccountService::bearer_of_token`].
    pub async fn viewer_of_token(&self, token: &str) -> Result<Option<Viewer>, ServerError> {
        let bearer = self.bearer_of_token(token).await?;
        Ok(bearer.map(|(viewer, _)| viewer))
    }

    /// Who an API token belongs to, where it is alive, and what it opens. A token carries its owner's
    /// power to administrate only where that was chosen: what a script needs is making images.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn bearer_of_token(
        &self,
        token: &str,
    ) -> Result<Option<(Viewer, Vec<Scope>)>, ServerError> {
        let mut bearer = self.token_row(token).await?;
        if let Some((viewer, scopes)) = &mut bearer
            && viewer.role == Role::Admin
            && !scopes.contains(&Scope::Admin)
        {
            viewer.role = Role::Member;
        }
        Ok(bearer)
    }

    /// Whose token this is, with all that they may do, and its scopes: only for what changes nothing,
    /// such as the metrics that an administrator lets a program read.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn owner_of_token(
        &self,
        token: &str,
    ) -> Result<Option<(Viewer, Vec<Scope>)>, ServerError> {
        self.token_row(token).await
    }

    async fn token_row(&self, token: &str) -> Result<Option<(Viewer, Vec<Scope>)>, ServerError> {
        if !tokens::is_token(token) {
            return Ok(None);
        }
        let now = now_ms();
        let hash = hash_secret(token);
        let Some((found, scopes)) = store::token(&self.db, &hash, now).await? else {
            return Ok(None);
        };
        if found
            .last_seen_at
            .is_none_or(|seen| now - seen >= tokens::TOUCH_MS)
        {
            let touched = store::touch_token(&self.db, &hash, found.viewer.id, now).await;
            log_untouched(touched);
        }
        Ok(Some((found.viewer, scopes)))
    }

    /// Everybody, by name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn users(&self) -> Result<Vec<UserRow>, ServerError> {
        Ok(store::list_users(&self.db).await?)
    }

    /// Makes a user with a first password.
    ///
    /// # Errors
    /// [`AppError::Invalid`] on `name` or `password`.
    pub(crate) async fn add_user(
        &self,
        actor: &Actor,
        credentials: Credentials,
        role: Role,
    ) -> Result<UserRow, ServerError> {
        let name = parse_name(&credentials.name)?;
        let password = Password::chosen(&credentials.password, &name, "password")?;
        let hash = self.pool.hash(self.pool.place().await?, &password).await?;
        let now = now_ms();
        let mut write = self.db.write().await?;
        let id = store::insert_user(&mut write, &name, role, &hash, now)
            .await
            .map_err(|error| name_taken(error, &name))?;
        let detail = format!("as {}", role.as_str());
        audit::insert(&mut write, actor, "user.add", &name, &detail, now).await?;
        write.commit().await?;
        tracing::info!(user = id.0, role = role.as_str(), "a user was made");
        Ok(UserRow {
            id,
            name,
            role,
            created_at: now,
            last_seen_at: None,
            images: 0,
            bytes: 0,
            disabled: false,
        })
    }

    /// Live sessions and tokens of a user.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn keys(&self, id: UserId, now: i64) -> Result<(u32, u32), ServerError> {
        Ok(people::store::keys(&self.db, id, now).await?)
    }

    /// Sets a password without asking for the old one, and ends the user's sessions.
    ///
    /// # Errors
    /// [`AppError::Invalid`] on `name` or `password`.
    pub(crate) async fn reset_password(
        &self,
        actor: &Actor,
        name: &str,
        password: &str,
    ) -> Result<(), ServerError> {
        let user = store::user_by_name(&self.db, &canonical_name(name))
            .await?
            .ok_or_else(|| AppError::invalid("name", format!("There is no user {name:?}.")))?;
        let password = Password::chosen(password, &user.viewer.name, "password")?;
        let hash = self.pool.hash(self.pool.place().await?, &password).await?;
        let mut write = self.db.write().await?;
        store::set_password_hash(&mut write, user.viewer.id, &hash).await?;
        store::delete_sessions(&mut write, user.viewer.id).await?;
        let subject = &user.viewer.name;
        audit::insert(&mut write, actor, "user.password", subject, "", now_ms()).await?;
        write.commit().await?;
        Ok(())
    }

    /// Counts a try on a password or code before it is made.
    async fn reserve(
        &self,
        subjects: &Subjects,
        name: Option<&str>,
        client: &Client,
    ) -> Result<(), ServerError> {
        self.reserve_saying(subjects, name, client, "Too many wrong tries.")
            .await
    }

    /// As [`AccountService::reserve`], with other words for whoever is held up.
    async fn reserve_saying(
        &self,
        subjects: &Subjects,
        name: Option<&str>,
        client: &Client,
        words: &str,
    ) -> Result<(), ServerError> {
        let tried = store::reserve_try(&self.db, subjects, name, &client.address, now_ms()).await?;
        tried.map_err(|wait_ms| {
            let seconds = u32::try_from((wait_ms + 999) / 1000).unwrap_or(u32::MAX);
            AppError::TooMany {
                message: format!("{words} Try again in {seconds} s."),
                retry_after_s: seconds,
            }
            .into()
        })
    }

    async fn first_admin(
        &self,
        code: &str,
        credentials: Credentials,
        client: &Client,
    ) -> Result<SignedIn, ServerError> {
        let taken = || {
            AppError::invalid(
                "code",
                "This server has its administrator already. Sign in instead.",
            )
        };
        let Some(right_code) = &self.setup_code else {
            return Err(taken().into());
        };
        if store::has_admin(&self.db).await? {
            return Err(taken().into());
        }
        let subjects = Subjects::of_setup(&client.address);
        self.reserve(&subjects, None, client).await?;
        if !setup::is_same(&setup::hash_code(code), right_code) {
            return Err(AppError::invalid(
                "code",
                "This is not the setup code. The server prints it at each start, where it was started.",
            )
            .into());
        }
        // A right code was no guess, whatever is wrong with the rest of the form.
        let mut write = self.db.write().await?;
        store::forgive(&mut write, &subjects).await?;
        write.commit().await?;

        let name = parse_name(&credentials.name)?;
        let password = Password::chosen(&credentials.password, &name, "password")?;
        let hash = self.pool.hash(self.pool.place().await?, &password).await?;
        let now = now_ms();
        let mut write = self.db.write().await?;
        let id = store::insert_first_admin(&mut write, &name, &hash, now)
            .await
            .map_err(|error| name_taken(error, &name))?
            .ok_or_else(taken)?;
        let viewer = Viewer {
            id,
            name,
            role: Role::Admin,
        };
        let actor = Actor::from(&viewer);
        audit::insert(&mut write, &actor, "user.setup", &viewer.name, "", now).await?;
        let signed_in = self.open_session(&mut write, viewer, client, now).await?;
        write.commit().await?;
        tracing::info!(user = id.0, "the first administrator was made");
        Ok(signed_in)
    }

    /// Opens a session in a transaction of the caller's, and ends the one that asked.
    async fn open_session(
        &self,
        write: &mut crate::db::Write,
        viewer: Viewer,
        client: &Client,
        now: i64,
    ) -> Result<SignedIn, ServerError> {
        if let Some(old) = &client.session {
            store::delete_session(write, &hash_secret(&old.0)).await?;
        }
        let secret = session::new_secret();
        let lasts_ms = store::session_days(write)
            .await?
            .map_or(ABSOLUTE_MS, |days| i64::from(days) * DAY_MS);
        let new = NewSession {
            hash: &hash_secret(&secret),
            public_id: &hex::encode(random_bytes::<12>()),
            address: &client.address,
            user_agent: &client.user_agent,
            expires_at: now + lasts_ms,
        };
        if !store::insert_session(write, viewer.id, &new, now).await? {
            return Err(AppError::SignInRequired.into());
        }
        Ok(SignedIn {
            viewer,
            set_cookie: self.cookie.hand_out(&secret, lasts_ms),
        })
    }

    async fn open_door(
        &self,
        credentials: Credentials,
        client: &Client,
    ) -> Result<Entered, ServerError> {
        let wrong = || AppError::invalid("password", "The name or the password is wrong.");
        let name = canonical_name(&credentials.name);
        if name.is_empty() || name.chars().count() > 64 {
            return Err(wrong().into());
        }
        let Some(password) = Password::typed(&credentials.password) else {
            return Err(wrong().into());
        };
        // The place first: whoever floods this door is sent away before anything is written.
        let place = self.pool.place().await?;
        let subjects = Subjects::of_account(&name, &client.address);
        self.reserve(&subjects, Some(&name), client).await?;
        let user = store::user_by_name(&self.db, &name).await?;
        let stored = user.as_ref().map(|user| user.password_hash.as_str());
        let verdict = self.pool.verify(place, &password, stored).await?;
        let (Some(user), Verdict::Right | Verdict::RightButWeak) = (user, verdict) else {
            tracing::info!(address = client.address, "a sign-in failed");
            return Err(wrong().into());
        };
        if user.is_waiting {
            return Err(AppError::invalid(
                "name",
                "This account waits for an administrator of this server to let it in.",
            )
            .into());
        }
        if user.is_disabled {
            // Only whoever knows the password learns that the account exists.
            return Err(AppError::invalid(
                "name",
                "This account is closed. An administrator of this server can open it again.",
            )
            .into());
        }
        if verdict == Verdict::RightButWeak {
            let new = self.pool.hash(self.pool.place().await?, &password).await?;
            store::renew_password_hash(&self.db, user.viewer.id, &user.password_hash, &new).await?;
        }
        let needs_code = self.needs_code(user.viewer.id).await?;
        let now = now_ms();
        let mut write = self.db.write().await?;
        store::forgive(&mut write, &subjects).await?;
        store::sweep(&mut write, now).await?;
        let id = user.viewer.id;
        if needs_code {
            let set_cookie = self.owe_code(&mut write, id, now).await?;
            write.commit().await?;
            return Ok(Entered::CodeNeeded { set_cookie });
        }
        let signed_in = self
            .open_session(&mut write, user.viewer, client, now)
            .await?;
        write.commit().await?;
        tracing::info!(user = id.0, "signed in");
        Ok(Entered::In(signed_in))
    }

    /// Gives somebody another name. The audit log has both, for whoever looks for the old one.
    async fn rename(&self, viewer: &Viewer, name: &str) -> Result<(), ServerError> {
        let name = parse_name(name)?;
        if name == viewer.name {
            return Ok(());
        }
        let mut write = self.db.write().await?;
        store::set_name(&mut write, viewer.id, &name)
            .await
            .map_err(|error| name_taken(error, &name))?;
        let actor = Actor {
            id: Some(viewer.id),
            name: name.clone(),
        };
        let detail = format!("was {}", viewer.name);
        audit::insert(&mut write, &actor, "user.rename", &name, &detail, now_ms()).await?;
        write.commit().await?;
        Ok(())
    }

    async fn new_password(
        &self,
        viewer: &Viewer,
        current: &str,
        new: &str,
        client: &Client,
    ) -> Result<SignedIn, ServerError> {
        let wrong = || AppError::invalid("current", "This is not your password.");
        let chosen = Password::chosen(new, &viewer.name, "new")?;
        let current = Password::typed(current).ok_or_else(wrong)?;
        let place = self.pool.place().await?;
        let subjects = Subjects::of_account(&viewer.name, &client.address);
        self.reserve(&subjects, Some(&viewer.name), client).await?;
        let user = store::user_by_name(&self.db, &viewer.name)
            .await?
            .filter(|user| user.viewer.id == viewer.id)
            .ok_or(AppError::SignInRequired)?;
        if self
            .pool
            .verify(place, &current, Some(&user.password_hash))
            .await?
            == Verdict::Wrong
        {
            return Err(wrong().into());
        }
        let hash = self.pool.hash(self.pool.place().await?, &chosen).await?;
        let now = now_ms();
        let mut write = self.db.write().await?;
        store::forgive(&mut write, &subjects).await?;
        store::set_password_hash(&mut write, viewer.id, &hash).await?;
        store::delete_sessions(&mut write, viewer.id).await?;
        let signed_in = self
            .open_session(&mut write, user.viewer, client, now)
            .await?;
        write.commit().await?;
        tracing::info!(user = viewer.id.0, "a password was changed");
        Ok(signed_in)
    }

    async fn end_session(&self, client: &Client) -> Result<String, ServerError> {
        if let Some(secret) = &client.session {
            let mut write = self.db.write().await?;
            store::delete_session(&mut write, &hash_secret(&secret.0)).await?;
            write.commit().await?;
        }
        Ok(self.cookie.clear())
    }

    async fn new_token(
        &self,
        viewer: &Viewer,
        name: &str,
        expires_in_days: Option<u32>,
        scopes: &[Scope],
    ) -> Result<NewToken, ServerError> {
        let name = parse_label(name)?;
        let scopes = tokens::check_scopes(viewer, scopes)?;
        let now = now_ms();
        let expires_at = match expires_in_days {
            None => None,
            Some(days) if (1..=LONGEST_TOKEN_DAYS).contains(&days) => {
                Some(now + i64::from(days) * 24 * 60 * 60 * 1000)
            }
            Some(_) => {
                return Err(AppError::invalid(
                    "expires_in_days",
                    format!("Give a number of days from 1 to {LONGEST_TOKEN_DAYS}, or none for a token that never expires."),
                )
                .into());
            }
        };
        let secret = tokens::new_token();
        let prefix = tokens::shown_part(&secret);
        let row = store::NewTokenRow {
            name: &name,
            prefix: &prefix,
            hash: &hash_secret(&secret),
            scopes: &tokens::scope_words(&scopes),
            expires_at,
        };
        let id = store::insert_token(&self.db, viewer.id, &row, MOST_TOKENS, now)
            .await?
            .ok_or_else(|| {
                AppError::invalid(
                    "name",
                    format!("You have {MOST_TOKENS} tokens already; revoke one first."),
                )
            })?;
        tracing::info!(user = viewer.id.0, token = id, "an API token was made");
        let summary = TokenSummary {
            id,
            name,
            prefix,
            scopes,
            created_at: now,
            expires_at,
            last_used_at: None,
        };
        Ok(NewToken { summary, secret })
    }
}

/// "Last seen" is a courtesy: not being able to write it must not keep anybody out.
fn log_untouched(touched: Result<(), sqlx::Error>) {
    if let Err(error) = touched {
        tracing::warn!(%error, "cannot write down when a session or token was last used");
    }
}

fn name_taken(error: sqlx::Error, name: &str) -> ServerError {
    if is_unique_violation(&error) {
        return AppError::invalid("name", format!("There is a user {name:?} already.")).into();
    }
    error.into()
}
