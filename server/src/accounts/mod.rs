//! Users, passwords, sessions, tokens.

use crate::config::ServeConfig;
use crate::db::Db;
use crate::error::ServerError;
use async_trait::async_trait;
use atelier_app::account::{Credentials, NewToken, SessionSummary, TokenSummary, Viewer};
use atelier_app::backend::{Accounts, Answer, Client, SignedIn};
use atelier_app::error::AppError;
use std::sync::Arc;

pub mod command;

/// Users, passwords, sessions, tokens.
pub struct AccountService {}

impl AccountService {
    /// Opens the accounts; on an empty server, makes the one-time setup code.
    pub async fn open(
        _db: Db,
        _config: &ServeConfig,
    ) -> Result<(Arc<Self>, Option<String>), ServerError> {
        Ok((Arc::new(Self {}), None))
    }

    /// Who a session cookie's secret belongs to, where the session is alive.
    pub async fn viewer_of_session(&self, _secret: &str) -> Result<Option<Viewer>, ServerError> {
        Ok(None)
    }

    /// Who an API token belongs to, where it is alive.
    pub async fn viewer_of_token(&self, _secret: &str) -> Result<Option<Viewer>, ServerError> {
        Ok(None)
    }

    /// The name of the session cookie.
    pub fn cookie_name(&self) -> &'static str {
        "sid"
    }
}

fn next() -> AppError {
    AppError::Unavailable {
        message: "Accounts land next.".into(),
    }
}

#[async_trait]
impl Accounts for AccountService {
    async fn needs_setup(&self) -> Answer<bool> {
        Ok(true)
    }
    async fn create_first_admin(&self, _: &str, _: Credentials, _: &Client) -> Answer<SignedIn> {
        Err(next())
    }
    async fn sign_in(&self, _: Credentials, _: &Client) -> Answer<SignedIn> {
        Err(next())
    }
    async fn sign_out(&self, _: &Client) -> Answer<String> {
        Err(next())
    }
    async fn change_password(&self, _: &Viewer, _: &str, _: &str, _: &Client) -> Answer<SignedIn> {
        Err(next())
    }
    async fn list_sessions(&self, _: &Viewer, _: &Client) -> Answer<Vec<SessionSummary>> {
        Err(next())
    }
    async fn revoke_session(&self, _: &Viewer, _: &str) -> Answer<()> {
        Err(next())
    }
    async fn create_token(&self, _: &Viewer, _: &str, _: Option<u32>) -> Answer<NewToken> {
        Err(next())
    }
    async fn list_tokens(&self, _: &Viewer) -> Answer<Vec<TokenSummary>> {
        Err(next())
    }
    async fn revoke_token(&self, _: &Viewer, _: i64) -> Answer<()> {
        Err(next())
    }
}
