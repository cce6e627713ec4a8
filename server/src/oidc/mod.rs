//! Signing in through an OpenID Connect provider (OpenID Connect Core 1.0): the authorization code flow
//! with PKCE (RFC 7636), and the provider's word checked by its signature.
//!
//! What has to be remembered between going there and coming back lies in a cookie of the browser that
//! goes: nobody else can come back in its place, and nobody can fill our tables by setting out.

mod jwt; // the provider's word
mod provider; // where it is and what it answers
mod transport; // asking it

use crate::accounts::AccountService;
use crate::accounts::outside::{Arrival, Identity, refused};
use crate::config::ServeConfig;
use crate::db::now_ms;
use crate::error::ServerError;
use crate::startup::StartupError;
use atelier_app::account::{Role, UserId, Viewer};
use atelier_app::backend::Client;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cookie::{Cookie, SameSite};
use provider::Provider;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq;
use url::Url;

/// How long one may take at the provider.
const AWAY_S: i64 = 10 * 60;
/// Longest path to go on to that is remembered.
const LONGEST_NEXT: usize = 1000;

/// The provider of this server, where there is one.
pub struct OidcService {
    accounts: Arc<AccountService>,
    provider: Provider,
    name: String,
    /// The role of people whom nobody here knows; absent: they are turned away.
    newcomers: Option<Role>,
    redirect_uri: String,
    https: bool,
}

/// What the browser keeps while it is away.
#[derive(Serialize, Deserialize)]
struct Away {
    state: String,
    nonce: String,
    verifier: String,
    next: String,
    /// Who was signed in and wants to be known by this provider too.
    link: Option<i64>,
    until: i64,
}

/// What the provider sends the browser back with.
#[derive(Debug, Default, Deserialize)]
pub struct Return {
    /// To be exchanged for the provider's word.
    pub code: Option<String>,
    /// Must be what the browser left with.
    pub state: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
}

/// Where the browser goes, and the cookies it gets.
#[derive(Debug)]
pub struct Way {
    /// An address, or a path on this server.
    pub to: String,
    /// Values of `Set-Cookie` headers.
    pub set_cookies: Vec<String>,
}

impl OidcService {
    /// The provider that the configuration names, if it does.
    ///
    /// # Errors
    /// [`StartupError::Setting`] where the settings do not fit together.
    pub fn open(
        accounts: Arc<AccountService>,
        config: &ServeConfig,
    ) -> Result<Option<Arc<Self>>, StartupError> {
        let Some(issuer) = &config.oidc.issuer else {
            return Ok(None);
        };
        let Some(public_url) = &config.public_url else {
            return Err(StartupError::Setting(
                "--oidc-issuer needs --public-url: the provider sends people back to it".into(),
            ));
        };
        let Some(client_id) = &config.oidc.client_id else {
            return Err(StartupError::Setting(
                "--oidc-issuer needs --oidc-client-id, which the provider gives you".into(),
            ));
        };
        Ok(Some(Arc::new(Self {
            accounts,
            provider: Provider::new(issuer.clone(), client_id, config.oidc.client_secret.clone()),
            name: config.oidc.name.clone(),
            newcomers: config.oidc.newcomers,
            redirect_uri: format!("{}/oidc/callback", public_url.origin()),
            https: config.is_https(),
        })))
    }

    /// What people call the provider.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the cookie.
    pub fn cookie_name(&self) -> &'static str {
        if self.https { "__Host-oidc" } else { "oidc" }
    }

    /// The way to the provider. `link`: who is signed in and wants to be known by it.
    ///
    /// # Errors
    /// `AppError::Invalid` with a code as its field when the provider does not answer.
    pub async fn leave(&self, next: &str, link: Option<&Viewer>) -> Result<Way, ServerError> {
        let endpoints = self.provider.endpoints().await.map_err(unavailable)?;
        let away = Away {
            state: random(),
            nonce: random(),
            verifier: random(),
            next: next.chars().take(LONGEST_NEXT).collect(),
            link: link.map(|viewer| viewer.id.0),
            until: now_ms() / 1000 + AWAY_S,
        };
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(away.verifier.as_bytes()));
        let mut to = endpoints.authorization.clone();
        to.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", self.provider.client_id())
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("scope", "openid profile")
            .append_pair("state", &away.state)
            .append_pair("nonce", &away.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        let text = serde_json::to_vec(&away)
            .map_err(|error| ServerError::broken(format!("writing a cookie: {error}")))?;
        Ok(Way {
            to: to.into(),
            set_cookies: vec![self.cookie(&URL_SAFE_NO_PAD.encode(text), AWAY_S)],
        })
    }

    /// The way on for a browser that comes back. `cookie` is what it left with.
    ///
    /// # Errors
    /// `AppError::Invalid` with a code as its field where the provider or this server does not let them
    /// in ([`atelier_app::account::outside_words`] has the words).
    pub async fn arrive(
        &self,
        back: Return,
        cookie: Option<&str>,
        viewer: Option<&Viewer>,
        client: &Client,
    ) -> Result<Way, ServerError> {
        let lost = || refused("lost");
        let away: Away = cookie
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(lost)?;
        let same = back.state.as_deref().is_some_and(|state| {
            bool::from(state.as_bytes().ct_eq(away.state.as_bytes())) && !state.is_empty()
        });
        if !same || away.until < now_ms() / 1000 {
            return Err(lost().into());
        }
        if let Some(error) = back.error {
            let error: String = error
                .chars()
                .filter(|c| c.is_ascii_graphic())
                .take(60)
                .collect();
            tracing::info!(error, "an identity provider did not sign somebody in");
            return Err(refused("denied").into());
        }
        let code = back.code.ok_or_else(lost)?;
        let claims = self
            .provider
            .exchange(&code, &away.verifier, &self.redirect_uri, &away.nonce)
            .await
            .map_err(not_believed)?;
        let identity = Identity {
            issuer: self.provider.issuer(),
            subject: &claims.sub,
            name: claims.best_name(),
        };
        let arrival = match (away.link, viewer) {
            (Some(link), Some(viewer)) if viewer.id == UserId(link) => {
                self.accounts.link_outside(viewer, &identity).await?;
                Arrival::Linked
            }
            (Some(_), _) => return Err(lost().into()),
            (None, _) => {
                self.accounts
                    .enter_from_outside(&identity, self.newcomers, client)
                    .await?
            }
        };
        let forget = self.cookie("", 0);
        Ok(match arrival {
            Arrival::Linked => Way {
                to: "/account".into(),
                set_cookies: vec![forget],
            },
            Arrival::In(signed_in) => Way {
                to: away.next,
                set_cookies: vec![forget, signed_in.set_cookie],
            },
            Arrival::CodeNeeded { set_cookie } => Way {
                to: format!(
                    "/sign-in/code?next={}",
                    url::form_urlencoded::byte_serialize(away.next.as_bytes()).collect::<String>()
                ),
                set_cookies: vec![forget, set_cookie],
            },
        })
    }

    fn cookie(&self, value: &str, seconds: i64) -> String {
        // Lax: the provider sends the browser back from another site.
        Cookie::build((self.cookie_name(), value.to_owned()))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(self.https)
            .max_age(cookie::time::Duration::seconds(seconds))
            .build()
            .to_string()
    }
}

fn not_believed(error: provider::Failed) -> ServerError {
    match error {
        provider::Failed::Away(_) => unavailable(error),
        provider::Failed::Wrong(why) => {
            tracing::warn!(%why, "an identity provider's word was not believed");
            refused("doubt").into()
        }
    }
}

fn unavailable(error: provider::Failed) -> ServerError {
    tracing::warn!(%error, "the identity provider does not answer");
    refused("away").into()
}

/// 256 random bits, in the letters that every part of the flow takes.
fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// An issuer that can be one: https, or this machine itself for trying things out.
///
/// # Errors
/// In words for the command line.
pub fn parse_issuer(text: &str) -> Result<Url, String> {
    let url: Url = text
        .parse()
        .map_err(|_| "write the provider's address, e.g. https://login.example.org".to_owned())?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("an issuer has no ? and no #".into());
    }
    if transport::is_safe(&url) {
        Ok(url)
    } else {
        Err("an issuer must be https".into())
    }
}
