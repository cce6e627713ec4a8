//! The second step of sign-in: a code from an app, or a recovery code from paper. A code works once;
//! tries are counted like those of passwords; what is needed to switch it on or off is the password.

mod code; // RFC 6238
mod store; // SQL

use super::AccountService;
use super::failures::Subjects;
use super::password::{Password, Verdict};
use super::session::{SecretHash, hash_secret, is_secret, new_secret};
use super::store as users;
use crate::audit::{Actor, store as audit};
use crate::db::{Write, now_ms};
use crate::error::ServerError;
use atelier_app::account::{QrPicture, TwoStepSetup, TwoStepState, UserId, Viewer};
use atelier_app::backend::{Client, SignedIn};
use atelier_app::error::AppError;

/// How long one may look for one's telephone after the password.
pub(super) const STEP_MS: i64 = 5 * 60 * 1000;
/// Recovery codes handed out at a time.
const RECOVERY_CODES: usize = 10;

fn wrong_code() -> AppError {
    AppError::invalid(
        "code",
        "This code is wrong or was used already. Wait for the next one in your app, or use a recovery code.",
    )
}

/// A code from an app or from paper, as typed.
enum Typed {
    Step(i64),
    Recovery(SecretHash),
}

impl AccountService {
    /// Whether the second step is on, and how many recovery codes are left.
    pub(crate) async fn two_step_state(&self, user: UserId) -> Result<TwoStepState, ServerError> {
        Ok(store::state(&self.db, user).await?)
    }

    /// Whether a sign-in of this user needs a code.
    pub(super) async fn needs_code(&self, user: UserId) -> Result<bool, ServerError> {
        Ok(store::find(&self.db, user)
            .await?
            .is_some_and(|stored| stored.confirmed))
    }

    /// Checks the viewer's own password, counting the try.
    async fn check_own_password(
        &self,
        viewer: &Viewer,
        password: &str,
        client: &Client,
    ) -> Result<(), ServerError> {
        let wrong = || AppError::invalid("password", "This is not your password.");
        let typed = Password::typed(password).ok_or_else(wrong)?;
        let place = self.pool.place().await?;
        let subjects = Subjects::of_account(&viewer.name, &client.address);
        self.reserve(&subjects, Some(&viewer.name), client).await?;
        let user = users::user_by_name(&self.db, &viewer.name)
            .await?
            .filter(|user| user.viewer.id == viewer.id)
            .ok_or(AppError::SignInRequired)?;
        let hash = Some(user.password_hash.as_str());
        if self.pool.verify(place, &typed, hash).await? == Verdict::Wrong {
            return Err(wrong().into());
        }
        let mut write = self.db.write().await?;
        users::forgive(&mut write, &subjects).await?;
        write.commit().await?;
        Ok(())
    }

    /// Makes a secret, to be confirmed with a first code.
    pub(super) async fn begin_setup(
        &self,
        viewer: &Viewer,
        password: &str,
        client: &Client,
    ) -> Result<TwoStepSetup, ServerError> {
        self.check_own_password(viewer, password, client).await?;
        let secret = code::new_secret();
        let mut write = self.db.write().await?;
        if !store::begin(&mut write, viewer.id, &secret).await? {
            return Err(AppError::invalid(
                "password",
                "Two-step sign-in is on already. Switch it off first to set up another app.",
            )
            .into());
        }
        write.commit().await?;
        let text = code::base32(&secret);
        let label = percent_encode(&viewer.name);
        let uri = format!(
            "otpauth://totp/Atelier:{label}?secret={text}&issuer=Atelier&digits=6&period=30"
        );
        Ok(TwoStepSetup {
            picture: picture(&uri)?,
            secret: text,
            uri,
        })
    }

    /// Switches the second step on with a first code, and answers the recovery codes.
    pub(super) async fn confirm_setup(
        &self,
        viewer: &Viewer,
        typed: &str,
        client: &Client,
    ) -> Result<Vec<String>, ServerError> {
        let subjects = Subjects::of_two_step(&viewer.name, &client.address);
        self.reserve(&subjects, Some(&viewer.name), client).await?;
        let now = now_ms();
        let stored = store::find(&self.db, viewer.id)
            .await?
            .filter(|stored| !stored.confirmed)
            .ok_or_else(|| AppError::invalid("code", "Begin the set-up again."))?;
        let step = code::parse(typed)
            .and_then(|typed| code::matching_step(&stored.secret, typed, now))
            .ok_or_else(wrong_code)?;
        let mut write = self.db.write().await?;
        if !store::confirm(&mut write, viewer.id, &stored.secret, step, now).await? {
            return Err(AppError::invalid("code", "Begin the set-up again.").into());
        }
        users::forgive(&mut write, &subjects).await?;
        let codes = new_codes(&mut write, viewer.id).await?;
        write.commit().await?;
        tracing::info!(user = viewer.id.0, "two-step sign-in was switched on");
        Ok(codes)
    }

    /// Puts new recovery codes in the place of the old ones.
    pub(super) async fn renew_codes(
        &self,
        viewer: &Viewer,
        password: &str,
        client: &Client,
    ) -> Result<Vec<String>, ServerError> {
        self.check_own_password(viewer, password, client).await?;
        if !self.needs_code(viewer.id).await? {
            return Err(AppError::invalid("password", "Two-step sign-in is off.").into());
        }
        let mut write = self.db.write().await?;
        let codes = new_codes(&mut write, viewer.id).await?;
        write.commit().await?;
        Ok(codes)
    }

    /// Switches the viewer's own second step off.
    pub(super) async fn end_own(
        &self,
        viewer: &Viewer,
        password: &str,
        client: &Client,
    ) -> Result<(), ServerError> {
        self.check_own_password(viewer, password, client).await?;
        let mut write = self.db.write().await?;
        store::end(&mut write, viewer.id).await?;
        write.commit().await?;
        tracing::info!(user = viewer.id.0, "two-step sign-in was switched off");
        Ok(())
    }

    /// Switches somebody's second step off, for whoever lost app and paper.
    ///
    /// # Errors
    /// [`AppError::Invalid`] on `id` when it is not on.
    pub(crate) async fn end_two_step_of(
        &self,
        actor: &Actor,
        id: UserId,
        name: &str,
    ) -> Result<(), ServerError> {
        let mut write = self.db.write().await?;
        if !store::end(&mut write, id).await? {
            return Err(AppError::invalid(
                "id",
                format!("{name} signs in with the password alone already."),
            )
            .into());
        }
        audit::insert(&mut write, actor, "user.two-step-off", name, "", now_ms()).await?;
        write.commit().await?;
        Ok(())
    }

    /// Notes that the password was right; answers the cookie that says so.
    pub(super) async fn owe_code(
        &self,
        write: &mut Write,
        user: UserId,
        now: i64,
    ) -> Result<String, ServerError> {
        let secret = new_secret();
        store::insert_sign_in(write, &hash_secret(&secret), user, now + STEP_MS, now).await?;
        Ok(self.cookie.hand_out_step(&secret))
    }

    /// The second step: opens the session that the password alone did not.
    pub(super) async fn enter(
        &self,
        typed: &str,
        client: &Client,
    ) -> Result<SignedIn, ServerError> {
        let too_late = || {
            AppError::invalid(
                "code",
                "The password was given too long ago. Sign in again from the start.",
            )
        };
        let now = now_ms();
        let owed = client
            .step
            .as_ref()
            .filter(|secret| is_secret(&secret.0))
            .map(|secret| hash_secret(&secret.0))
            .ok_or_else(too_late)?;
        let (id, name) = store::find_sign_in(&self.db, &owed, now)
            .await?
            .ok_or_else(too_late)?;
        let subjects = Subjects::of_two_step(&name, &client.address);
        self.reserve(&subjects, Some(&name), client).await?;
        let stored = store::find(&self.db, id)
            .await?
            .filter(|stored| stored.confirmed)
            .ok_or_else(too_late)?;
        let typed = match (code::parse(typed), code::tidy_recovery_code(typed)) {
            (Some(digits), _) => code::matching_step(&stored.secret, digits, now).map(Typed::Step),
            (None, Some(text)) => Some(Typed::Recovery(hash_secret(&text))),
            (None, None) => None,
        };
        let typed = typed.ok_or_else(wrong_code)?;
        let mut write = self.db.write().await?;
        let right = match &typed {
            Typed::Step(step) => store::take_step(&mut write, id, *step).await?,
            Typed::Recovery(hash) => store::take_recovery_code(&mut write, id, hash, now).await?,
        };
        if !right || !store::take_sign_in(&mut write, &owed).await? {
            return Err(wrong_code().into());
        }
        users::forgive(&mut write, &subjects).await?;
        let viewer = users::viewer_by_id(&mut write, id)
            .await?
            .ok_or_else(too_late)?;
        let signed_in = self.open_session(&mut write, viewer, client, now).await?;
        write.commit().await?;
        tracing::info!(user = id.0, "signed in, in two steps");
        Ok(signed_in)
    }
}

async fn new_codes(write: &mut Write, user: UserId) -> Result<Vec<String>, ServerError> {
    let codes: Vec<String> = (0..RECOVERY_CODES)
        .map(|_| code::new_recovery_code())
        .collect();
    let hashes: Vec<SecretHash> = codes
        .iter()
        .map(|code| hash_secret(&code.replace('-', "")))
        .collect();
    store::replace_recovery_codes(write, user, &hashes).await?;
    Ok(codes)
}

/// The QR code of a text as one SVG path of unit squares, with the four quiet ones around it that
/// ISO/IEC 18004 asks for.
fn picture(text: &str) -> Result<QrPicture, ServerError> {
    const QUIET: usize = 4;
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::M)
        .map_err(|error| ServerError::broken(format!("a QR code: {error}")))?;
    let width = code.width();
    let mut path = String::new();
    for (at, colour) in code.to_colors().into_iter().enumerate() {
        if colour == qrcode::Color::Dark {
            let (x, y) = (at % width + QUIET, at / width + QUIET);
            path.push_str(&format!("M{x} {y}h1v1h-1z"));
        }
    }
    Ok(QrPicture {
        size: u32::try_from(width + 2 * QUIET).unwrap_or(u32::MAX),
        path,
    })
}

fn percent_encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}
