//! Server functions: accounts, sessions and tokens. Each finds out who asks, then asks the port.
#![allow(
    missing_docs,
    reason = "the macro makes a public struct of each function; its fields are the arguments"
)]

use super::{AccountData, InvitationOffer, NewToken, OutsideState, TwoStepSetup};
#[cfg(feature = "ssr")]
use super::{Credentials, Scope};
use crate::error::AppError;
use leptos::prelude::*;
#[cfg(feature = "ssr")]
use {
    crate::backend::{Entered, use_backend, use_client, use_viewer},
    crate::components::{percent_encode, safe_path},
    crate::response,
};

/// Whether the server is empty and waits for its first administrator.
#[server(endpoint = "needs_setup")]
pub async fn needs_setup() -> Result<bool, AppError> {
    use_backend()?.accounts.needs_setup().await
}

/// Opens a session; answers the page to go on to.
#[server(endpoint = "sign_in")]
pub async fn sign_in(
    name: String,
    password: String,
    #[server(default)] next: String,
) -> Result<String, AppError> {
    let credentials = Credentials { name, password };
    let entered = use_backend()?
        .accounts
        .sign_in(credentials, &use_client())
        .await?;
    let next = safe_path(&next);
    let next = match entered {
        Entered::In(signed_in) => {
            response::set_cookie(&signed_in.set_cookie)?;
            next
        }
        Entered::CodeNeeded { set_cookie } => {
            response::set_cookie(&set_cookie)?;
            format!("/sign-in/code?next={}", percent_encode(&next))
        }
    };
    response::redirect_plain_form(&next);
    Ok(next)
}

/// The second step of signing in; answers the page to go on to.
#[server(endpoint = "enter_code")]
pub async fn enter_code(code: String, #[server(default)] next: String) -> Result<String, AppError> {
    let signed_in = use_backend()?
        .accounts
        .enter_code(&code, &use_client())
        .await?;
    response::set_cookie(&signed_in.set_cookie)?;
    let next = safe_path(&next);
    response::redirect_plain_form(&next);
    Ok(next)
}

/// Whose password the link behind a code sets.
#[server(endpoint = "load_reset")]
pub async fn load_reset(code: String) -> Result<String, AppError> {
    use_backend()?.accounts.reset_offer(&code).await
}

/// Sets a password by a link; answers the page to go on to.
#[server(endpoint = "reset_by_link")]
pub async fn reset_by_link(code: String, password: String) -> Result<String, AppError> {
    use_backend()?
        .accounts
        .reset_password_by_link(&code, &password, &use_client())
        .await?;
    response::redirect_plain_form("/sign-in?reset");
    Ok("/sign-in?reset".into())
}

/// Makes the first administrator of an empty server and signs them in.
#[server(endpoint = "create_first_admin")]
pub async fn create_first_admin(
    code: String,
    name: String,
    password: String,
) -> Result<String, AppError> {
    let credentials = Credentials { name, password };
    let signed_in = use_backend()?
        .accounts
        .create_first_admin(code.trim(), credentials, &use_client())
        .await?;
    response::set_cookie(&signed_in.set_cookie)?;
    response::redirect_plain_form("/");
    Ok("/".into())
}

/// What the invitation behind a link offers.
#[server(endpoint = "load_invitation")]
pub async fn load_invitation(code: String) -> Result<InvitationOffer, AppError> {
    use_backend()?.accounts.invitation(&code).await
}

/// Makes the account that an invitation offers, and signs it in.
#[server(endpoint = "accept_invitation")]
pub async fn accept_invitation(
    code: String,
    name: String,
    password: String,
) -> Result<String, AppError> {
    let credentials = Credentials { name, password };
    let signed_in = use_backend()?
        .accounts
        .accept_invitation(&code, credentials, &use_client())
        .await?;
    response::set_cookie(&signed_in.set_cookie)?;
    response::redirect_plain_form("/");
    Ok("/".into())
}

/// The provider that people may sign in through, for the door.
#[server(endpoint = "load_outside")]
pub async fn load_outside() -> Result<OutsideState, AppError> {
    Ok(OutsideState {
        name: use_backend()?.outside,
        links: 0,
    })
}

/// Makes the viewer unknown to the provider.
#[server(endpoint = "unlink_outside")]
pub async fn unlink_outside() -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.accounts.unlink_outside(&viewer).await
}

/// Whether people may ask for an account.
#[server(endpoint = "may_sign_up")]
pub async fn may_sign_up() -> Result<bool, AppError> {
    use_backend()?.accounts.may_sign_up().await
}

/// Asks for an account; answers the page that says so.
#[server(endpoint = "sign_up")]
pub async fn sign_up(name: String, password: String) -> Result<String, AppError> {
    let credentials = Credentials { name, password };
    use_backend()?
        .accounts
        .sign_up(credentials, &use_client())
        .await?;
    response::redirect_plain_form("/sign-up?asked");
    Ok("/sign-up?asked".into())
}

/// Ends the asking session.
#[server(endpoint = "sign_out")]
pub async fn sign_out() -> Result<(), AppError> {
    let cookie = use_backend()?.accounts.sign_out(&use_client()).await?;
    response::set_cookie(&cookie)?;
    leptos_axum::redirect("/sign-in", false);
    Ok(())
}

/// Changes the viewer's password; every other browser is signed out.
#[server(endpoint = "change_password")]
pub async fn change_password(current: String, new: String) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    let signed_in = use_backend()?
        .accounts
        .change_password(&viewer, &current, &new, &use_client())
        .await?;
    response::set_cookie(&signed_in.set_cookie)?;
    response::redirect_plain_form("/account?changed=password");
    Ok(())
}

/// What the account page shows.
#[server(endpoint = "load_account")]
pub async fn load_account() -> Result<AccountData, AppError> {
    let viewer = use_viewer()?;
    let backend = use_backend()?;
    let accounts = backend.accounts;
    Ok(AccountData {
        outside: OutsideState {
            name: backend.outside.clone(),
            links: accounts.outside_links(&viewer).await?,
        },
        sessions: accounts.list_sessions(&viewer, &use_client()).await?,
        tokens: accounts.list_tokens(&viewer).await?,
        two_step: accounts.two_step(&viewer).await?,
    })
}

/// Gives the viewer another sign-in name; answers the page to go on to.
#[server(endpoint = "change_name")]
pub async fn change_name(name: String) -> Result<String, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.accounts.change_name(&viewer, &name).await?;
    response::redirect_plain_form("/account");
    Ok("/account".into())
}

/// Signs one of the viewer's browsers out.
#[server(endpoint = "revoke_session")]
pub async fn revoke_session(id: String) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.accounts.revoke_session(&viewer, &id).await
}

/// Signs every browser of the viewer's out but the one that asks.
#[server(endpoint = "revoke_other_sessions")]
pub async fn revoke_other_sessions() -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?
        .accounts
        .revoke_other_sessions(&viewer, &use_client())
        .await
}

/// Makes a secret for an authenticator app.
#[server(endpoint = "begin_two_step")]
pub async fn begin_two_step(password: String) -> Result<TwoStepSetup, AppError> {
    let viewer = use_viewer()?;
    use_backend()?
        .accounts
        .begin_two_step(&viewer, &password, &use_client())
        .await
}

/// Switches the second step on; answers the recovery codes.
#[server(endpoint = "confirm_two_step")]
pub async fn confirm_two_step(code: String) -> Result<Vec<String>, AppError> {
    let viewer = use_viewer()?;
    use_backend()?
        .accounts
        .confirm_two_step(&viewer, &code, &use_client())
        .await
}

/// Puts new recovery codes in the place of the old ones.
#[server(endpoint = "renew_recovery_codes")]
pub async fn renew_recovery_codes(password: String) -> Result<Vec<String>, AppError> {
    let viewer = use_viewer()?;
    use_backend()?
        .accounts
        .renew_recovery_codes(&viewer, &password, &use_client())
        .await
}

/// Switches the second step off.
#[server(endpoint = "end_two_step")]
pub async fn end_two_step(password: String) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?
        .accounts
        .end_two_step(&viewer, &password, &use_client())
        .await
}

/// Makes an API token. `expires_in_days` is a whole number; empty means never. `scoped` says that the
/// boxes of scopes were there to tick; without it the token opens the usual.
#[server(endpoint = "create_token")]
pub async fn create_token(
    name: String,
    #[server(default)] expires_in_days: String,
    #[server(default)] scoped: bool,
    #[server(default)] generate: bool,
    #[server(default)] read: bool,
    #[server(default)] manage: bool,
    #[server(default)] admin: bool,
) -> Result<NewToken, AppError> {
    let viewer = use_viewer()?;
    let days = match expires_in_days.trim() {
        "" => None,
        days => Some(days.parse::<u32>().ok().filter(|days| *days > 0).ok_or_else(|| {
            AppError::invalid(
                "expires_in_days",
                "Give a whole number of days, or leave it empty for a token that never expires.",
            )
        })?),
    };
    let scopes: Vec<Scope> = if scoped {
        [
            (generate, Scope::Generate),
            (read, Scope::Read),
            (manage, Scope::Manage),
            (admin, Scope::Admin),
        ]
        .into_iter()
        .filter_map(|(ticked, scope)| ticked.then_some(scope))
        .collect()
    } else {
        Scope::USUAL.to_vec()
    };
    use_backend()?
        .accounts
        .create_token(&viewer, name.trim(), days, &scopes)
        .await
}

/// Ends one of the viewer's API tokens at once.
#[server(endpoint = "revoke_token")]
pub async fn revoke_token(id: i64) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.accounts.revoke_token(&viewer, id).await
}
