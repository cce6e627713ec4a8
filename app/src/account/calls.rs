//! Server functions: accounts, sessions and tokens. Each finds out who asks, then asks the port.
#![allow(
    missing_docs,
    reason = "the macro makes a public struct of each function; its fields are the arguments"
)]

#[cfg(feature = "ssr")]
use super::Credentials;
use super::{AccountData, InvitationOffer, NewToken};
use crate::error::AppError;
use leptos::prelude::*;
#[cfg(feature = "ssr")]
use {
    crate::backend::{use_backend, use_client, use_viewer},
    crate::components::safe_path,
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
    let signed_in = use_backend()?
        .accounts
        .sign_in(credentials, &use_client())
        .await?;
    response::set_cookie(&signed_in.set_cookie)?;
    let next = safe_path(&next);
    response::redirect_plain_form(&next);
    Ok(next)
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
    let accounts = use_backend()?.accounts;
    Ok(AccountData {
        sessions: accounts.list_sessions(&viewer, &use_client()).await?,
        tokens: accounts.list_tokens(&viewer).await?,
    })
}

/// Signs one of the viewer's browsers out.
#[server(endpoint = "revoke_session")]
pub async fn revoke_session(id: String) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.accounts.revoke_session(&viewer, &id).await
}

/// Makes an API token. `expires_in_days` is a whole number; empty means never.
#[server(endpoint = "create_token")]
pub async fn create_token(
    name: String,
    #[server(default)] expires_in_days: String,
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
    use_backend()?
        .accounts
        .create_token(&viewer, name.trim(), days)
        .await
}

/// Ends one of the viewer's API tokens at once.
#[server(endpoint = "revoke_token")]
pub async fn revoke_token(id: i64) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.accounts.revoke_token(&viewer, id).await
}
