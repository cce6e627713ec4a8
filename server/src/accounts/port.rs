//! The port's part about accounts: each method one call of a rule.

use super::session::hash_secret;
use super::{AccountService, store};
use crate::db::now_ms;
use crate::error::ServerError;
use async_trait::async_trait;
use atelier_app::account::{
    Credentials, InvitationOffer, NewToken, Scope, SessionSummary, TokenSummary, TwoStepSetup,
    TwoStepState, Viewer,
};
use atelier_app::backend::{Accounts, Answer, Client, Entered, SignedIn};
use atelier_app::error::AppError;

#[async_trait]
impl Accounts for AccountService {
    async fn needs_setup(&self) -> Answer<bool> {
        // The last administrator always stays: without a code there was one at the start.
        if self.setup_code.is_none() {
            return Ok(false);
        }
        let has_admin = store::has_admin(&self.db)
            .await
            .map_err(ServerError::from)?;
        Ok(!has_admin)
    }

    async fn create_first_admin(
        &self,
        code: &str,
        credentials: Credentials,
        client: &Client,
    ) -> Answer<SignedIn> {
        Ok(self.first_admin(code, credentials, client).await?)
    }

    async fn invitation(&self, code: &str) -> Answer<InvitationOffer> {
        Ok(self.offer(code).await?)
    }

    async fn accept_invitation(
        &self,
        code: &str,
        credentials: Credentials,
        client: &Client,
    ) -> Answer<SignedIn> {
        Ok(self.join(code, credentials, client).await?)
    }

    async fn may_sign_up(&self) -> Answer<bool> {
        Ok(self.takes_sign_ups().await?)
    }

    async fn sign_up(&self, credentials: Credentials, client: &Client) -> Answer<()> {
        Ok(self.ask_for_account(credentials, client).await?)
    }

    async fn sign_in(&self, credentials: Credentials, client: &Client) -> Answer<Entered> {
        Ok(self.open_door(credentials, client).await?)
    }

    async fn enter_code(&self, code: &str, client: &Client) -> Answer<SignedIn> {
        Ok(self.enter(code, client).await?)
    }

    async fn reset_offer(&self, code: &str) -> Answer<String> {
        Ok(self.reset_name(code).await?)
    }

    async fn reset_password_by_link(
        &self,
        code: &str,
        password: &str,
        client: &Client,
    ) -> Answer<()> {
        Ok(self.reset_by_link(code, password, client).await?)
    }

    async fn outside_links(&self, viewer: &Viewer) -> Answer<u32> {
        Ok(self.outside_count(viewer).await?)
    }

    async fn unlink_outside(&self, viewer: &Viewer) -> Answer<()> {
        Ok(self.forget_outside(viewer).await?)
    }

    async fn revoke_other_sessions(&self, viewer: &Viewer, client: &Client) -> Answer<()> {
        let current = client.session.as_ref().map(|secret| hash_secret(&secret.0));
        let done = store::delete_other_sessions(&self.db, viewer.id, current.as_ref()).await;
        Ok(done.map_err(ServerError::from)?)
    }

    async fn two_step(&self, viewer: &Viewer) -> Answer<TwoStepState> {
        Ok(self.two_step_state(viewer.id).await?)
    }

    async fn begin_two_step(
        &self,
        viewer: &Viewer,
        password: &str,
        client: &Client,
    ) -> Answer<TwoStepSetup> {
        Ok(self.begin_setup(viewer, password, client).await?)
    }

    async fn confirm_two_step(
        &self,
        viewer: &Viewer,
        code: &str,
        client: &Client,
    ) -> Answer<Vec<String>> {
        Ok(self.confirm_setup(viewer, code, client).await?)
    }

    async fn renew_recovery_codes(
        &self,
        viewer: &Viewer,
        password: &str,
        client: &Client,
    ) -> Answer<Vec<String>> {
        Ok(self.renew_codes(viewer, password, client).await?)
    }

    async fn end_two_step(&self, viewer: &Viewer, password: &str, client: &Client) -> Answer<()> {
        Ok(self.end_own(viewer, password, client).await?)
    }

    async fn sign_out(&self, client: &Client) -> Answer<String> {
        Ok(self.end_session(client).await?)
    }

    async fn change_name(&self, viewer: &Viewer, name: &str) -> Answer<()> {
        Ok(self.rename(viewer, name).await?)
    }

    async fn change_password(
        &self,
        viewer: &Viewer,
        current: &str,
        new: &str,
        client: &Client,
    ) -> Answer<SignedIn> {
        Ok(self.new_password(viewer, current, new, client).await?)
    }

    async fn list_sessions(&self, viewer: &Viewer, client: &Client) -> Answer<Vec<SessionSummary>> {
        let current = client.session.as_ref().map(|secret| hash_secret(&secret.0));
        let sessions = store::list_sessions(&self.db, viewer.id, current.as_ref(), now_ms()).await;
        Ok(sessions.map_err(ServerError::from)?)
    }

    async fn revoke_session(&self, viewer: &Viewer, id: &str) -> Answer<()> {
        let found = store::delete_session_by_public_id(&self.db, viewer.id, id).await;
        if found.map_err(ServerError::from)? {
            Ok(())
        } else {
            Err(AppError::NotFound)
        }
    }

    async fn create_token(
        &self,
        viewer: &Viewer,
        name: &str,
        expires_in_days: Option<u32>,
        scopes: &[Scope],
    ) -> Answer<NewToken> {
        Ok(self
            .new_token(viewer, name, expires_in_days, scopes)
            .await?)
    }

    async fn list_tokens(&self, viewer: &Viewer) -> Answer<Vec<TokenSummary>> {
        let tokens = store::list_tokens(&self.db, viewer.id).await;
        Ok(tokens.map_err(ServerError::from)?)
    }

    async fn revoke_token(&self, viewer: &Viewer, id: i64) -> Answer<()> {
        let found = store::revoke_token(&self.db, viewer.id, id, now_ms()).await;
        if found.map_err(ServerError::from)? {
            Ok(())
        } else {
            Err(AppError::NotFound)
        }
    }
}
