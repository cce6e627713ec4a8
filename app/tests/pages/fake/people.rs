//! The people of the house: accounts, sign-in, invitations.

use super::*;

#[async_trait]
impl Accounts for House {
    async fn needs_setup(&self) -> Answer<bool> {
        Ok(self.is_empty)
    }

    async fn create_first_admin(
        &self,
        code: &str,
        credentials: Credentials,
        _: &Client,
    ) -> Answer<SignedIn> {
        if code != "open-sesame" {
            return Err(AppError::invalid("code", "That is not the setup code."));
        }
        self.note(format!("first admin {}", credentials.name));
        Ok(signed_in(viewer(Role::Admin)))
    }

    async fn invitation(&self, code: &str) -> Answer<InvitationOffer> {
        if code != "open-sesame" {
            return Err(AppError::invalid("code", "This invitation has ended."));
        }
        Ok(InvitationOffer {
            role: Role::Member,
            expires_at: 1_795_538_049_000,
            made_by: Some(self.prompt.clone()),
        })
    }

    async fn accept_invitation(
        &self,
        code: &str,
        credentials: Credentials,
        _: &Client,
    ) -> Answer<SignedIn> {
        self.invitation(code).await?;
        if credentials.name == "ada" {
            return Err(AppError::invalid("name", "That name is taken."));
        }
        self.note(format!("join {}", credentials.name));
        Ok(signed_in(viewer(Role::Member)))
    }

    async fn may_sign_up(&self) -> Answer<bool> {
        Ok(true)
    }

    async fn sign_up(&self, credentials: Credentials, _: &Client) -> Answer<()> {
        self.note(format!("sign up {}", credentials.name));
        Ok(())
    }

    async fn enter_code(&self, code: &str, _: &Client) -> Answer<SignedIn> {
        if code != "123456" {
            return Err(AppError::invalid("code", "This code is wrong."));
        }
        self.note("second step".into());
        Ok(signed_in(viewer(Role::Member)))
    }

    async fn reset_offer(&self, code: &str) -> Answer<String> {
        if code != "open-sesame" {
            return Err(AppError::invalid("code", "This link has ended."));
        }
        Ok(self.prompt.clone())
    }

    async fn reset_password_by_link(&self, code: &str, _: &str, _: &Client) -> Answer<()> {
        self.reset_offer(code).await?;
        self.note("reset".into());
        Ok(())
    }

    async fn outside_links(&self, _: &Viewer) -> Answer<u32> {
        Ok(1)
    }

    async fn unlink_outside(&self, _: &Viewer) -> Answer<()> {
        self.note("unlink".into());
        Ok(())
    }

    async fn revoke_other_sessions(&self, _: &Viewer, _: &Client) -> Answer<()> {
        self.note("revoke others".into());
        Ok(())
    }

    async fn two_step(&self, _: &Viewer) -> Answer<TwoStepState> {
        Ok(TwoStepState {
            on_since: self.two_step.then_some(1_795_538_049_000),
            recovery_codes_left: 9,
        })
    }

    async fn begin_two_step(&self, _: &Viewer, _: &str, _: &Client) -> Answer<TwoStepSetup> {
        Err(AppError::invalid("password", "This is not your password."))
    }

    async fn confirm_two_step(&self, _: &Viewer, _: &str, _: &Client) -> Answer<Vec<String>> {
        Err(AppError::invalid("code", "This code is wrong."))
    }

    async fn renew_recovery_codes(&self, _: &Viewer, _: &str, _: &Client) -> Answer<Vec<String>> {
        Err(AppError::invalid("password", "This is not your password."))
    }

    async fn end_two_step(&self, _: &Viewer, _: &str, _: &Client) -> Answer<()> {
        self.note("two-step off".into());
        Ok(())
    }

    async fn sign_in(&self, credentials: Credentials, _: &Client) -> Answer<Entered> {
        if credentials.password != "right" {
            return Err(AppError::invalid("password", "Name or password is wrong."));
        }
        self.note(format!("sign in {}", credentials.name));
        if self.two_step {
            return Ok(Entered::CodeNeeded {
                set_cookie: "step=secret; Path=/; HttpOnly; SameSite=Lax".into(),
            });
        }
        Ok(Entered::In(signed_in(viewer(Role::Member))))
    }

    async fn sign_out(&self, _: &Client) -> Answer<String> {
        self.note("sign out".into());
        Ok("sid=; Max-Age=0; Path=/".into())
    }

    async fn change_name(&self, _: &Viewer, name: &str) -> Answer<()> {
        if name == "bob" {
            return Err(AppError::invalid("name", "That name is taken."));
        }
        self.note(format!("name {name}"));
        Ok(())
    }

    async fn change_password(
        &self,
        viewer: &Viewer,
        current: &str,
        new: &str,
        _: &Client,
    ) -> Answer<SignedIn> {
        if current != "right" {
            return Err(AppError::invalid("current", "That is not your password."));
        }
        self.note(format!("password {new}"));
        Ok(signed_in(viewer.clone()))
    }

    async fn list_sessions(&self, _: &Viewer, _: &Client) -> Answer<Vec<SessionSummary>> {
        let session = |id: &str, current| SessionSummary {
            id: id.into(),
            created_at: 1_795_538_049_000,
            last_seen_at: 1_795_538_049_000,
            user_agent: self.prompt.clone(),
            address: "192.0.2.7".into(),
            current,
        };
        Ok(vec![session("one", true), session("two", false)])
    }

    async fn revoke_session(&self, _: &Viewer, id: &str) -> Answer<()> {
        self.note(format!("revoke session {id}"));
        Ok(())
    }

    async fn create_token(
        &self,
        _: &Viewer,
        _: &str,
        _: Option<u32>,
        _: &[Scope],
    ) -> Answer<NewToken> {
        Err(AppError::Forbidden)
    }

    async fn list_tokens(&self, _: &Viewer) -> Answer<Vec<TokenSummary>> {
        Ok(vec![TokenSummary {
            id: 5,
            name: self.prompt.clone(),
            prefix: "atl_abcd".into(),
            scopes: Scope::USUAL.to_vec(),
            created_at: 1_795_538_049_000,
            expires_at: None,
            last_used_at: None,
        }])
    }

    async fn revoke_token(&self, _: &Viewer, id: i64) -> Answer<()> {
        self.note(format!("revoke token {id}"));
        Ok(())
    }
}

#[async_trait]
impl People for House {
    async fn people(&self, viewer: &Viewer) -> Answer<PeopleData> {
        Ok(PeopleData {
            users: self.list_users(viewer).await?,
            waiting: vec![SignUpRow {
                id: UserId(7),
                name: self.prompt.clone(),
                asked_at: 1_795_538_049_000,
            }],
            invitations: vec![InvitationRow {
                id: 3,
                role: Role::Viewer,
                note: self.prompt.clone(),
                made_by: Some(self.prompt.clone()),
                created_at: 1_795_538_049_000,
                expires_at: 1_795_538_049_000,
                uses: 1,
                max_uses: 5,
            }],
            self_sign_up: false,
            looks: true,
        })
    }

    async fn person(&self, viewer: &Viewer, id: UserId) -> Answer<PersonData> {
        let users = self.list_users(viewer).await?;
        let user = users.into_iter().find(|user| user.id == id);
        Ok(PersonData {
            user: user.ok_or(AppError::NotFound)?,
            sessions: 2,
            tokens: 1,
            two_step: true,
            looks: true,
            others: vec![(UserId(1), self.prompt.clone())],
        })
    }

    async fn invite(&self, _: &Viewer, new: NewInvitation) -> Answer<MadeLink> {
        self.note(format!("invite {new:?}"));
        Err(AppError::Forbidden)
    }

    async fn revoke_invitation(&self, _: &Viewer, id: i64) -> Answer<()> {
        self.note(format!("revoke invitation {id}"));
        Ok(())
    }

    async fn set_self_sign_up(&self, _: &Viewer, on: bool) -> Answer<()> {
        self.note(format!("self sign-up {on}"));
        Ok(())
    }

    async fn answer_sign_up(
        &self,
        _: &Viewer,
        id: UserId,
        asked_at: i64,
        role: Option<Role>,
    ) -> Answer<()> {
        self.note(format!("answer {} of {asked_at} {role:?}", id.0));
        Ok(())
    }

    async fn set_role(&self, _: &Viewer, id: UserId, role: Role) -> Answer<()> {
        self.note(format!("role {} {}", id.0, role.as_str()));
        Ok(())
    }

    async fn make_reset_link(&self, _: &Viewer, id: UserId) -> Answer<MadeLink> {
        self.note(format!("reset link {}", id.0));
        Err(AppError::Forbidden)
    }

    async fn end_two_step_of(&self, _: &Viewer, id: UserId) -> Answer<()> {
        self.note(format!("two-step off {}", id.0));
        Ok(())
    }

    async fn remove(&self, _: &Viewer, id: UserId, leaving: Leaving) -> Answer<()> {
        self.note(format!("remove {} {leaving:?}", id.0));
        Ok(())
    }

    async fn allow_looks(&self, _: &Viewer, on: bool) -> Answer<()> {
        self.note(format!("looks {on}"));
        Ok(())
    }

    async fn look(&self, viewer: &Viewer, id: UserId, after: Option<&str>) -> Answer<LookPage> {
        self.note(format!("look {}", id.0));
        Ok(LookPage {
            user: id,
            name: self.prompt.clone(),
            images: self.list_images(viewer, after, 50).await?,
        })
    }

    async fn audit(&self, _: &Viewer, filter: AuditFilter) -> Answer<AuditPage> {
        Ok(AuditPage {
            rows: vec![AuditRow {
                id: 9,
                at: 1_795_538_049_000,
                actor: self.prompt.clone(),
                act: filter.act,
                subject: self.prompt.clone(),
                detail: self.prompt.clone(),
            }],
            next: Some(9),
            actors: vec![self.prompt.clone()],
        })
    }
}
