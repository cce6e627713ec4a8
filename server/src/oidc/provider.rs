//! The provider: where its doors are (OpenID Connect Discovery 1.0), its keys, and the exchange of a code
//! for its word.

use super::jwt::{self, Claims, Doubt, Keys};
use super::transport;
use crate::db::now_ms;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use url::Url;

/// How long what the provider says of itself is remembered.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);

/// Why there is no word.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The provider does not answer as it should.
    #[error("{0}")]
    Away(String),
    /// It answers what must not be believed.
    #[error("{0}")]
    Wrong(String),
}

/// The provider's doors.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// What it calls itself, to the letter.
    issuer: String,
    /// Where people sign in.
    pub authorization: Url,
    token: Url,
    keys: Url,
    /// Whether the secret may be sent in the form only.
    post_only: bool,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

/// A provider and our account there.
pub struct Provider {
    issuer: String,
    client_id: String,
    client_secret: Option<String>,
    known: Mutex<Option<(Instant, Arc<Endpoints>)>>,
    keys: Mutex<Keys>,
}

impl Provider {
    pub fn new(issuer: Url, client_id: &str, client_secret: Option<String>) -> Self {
        // What providers call themselves has no slash at the end unless it has a path; `Url` adds one.
        let issuer = match issuer.path() {
            "/" => issuer.as_str().trim_end_matches('/').to_owned(),
            _ => issuer.into(),
        };
        Self {
            issuer,
            client_id: client_id.to_owned(),
            client_secret,
            known: Mutex::default(),
            keys: Mutex::default(),
        }
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Its doors, asked for at most once an hour.
    pub async fn endpoints(&self) -> Result<Arc<Endpoints>, Failed> {
        let mut known = self.known.lock().await;
        if let Some((at, endpoints)) = &*known
            && at.elapsed() < REMEMBERED
        {
            return Ok(endpoints.clone());
        }
        let address = format!(
            "{}/.well-known/openid-configuration",
            self.issuer.trim_end_matches('/')
        );
        let url: Url = address
            .parse()
            .map_err(|error| Failed::Away(format!("{address}: {error}")))?;
        let found: Discovery = transport::get(&url).await.map_err(Failed::Away)?;
        // §4.3: otherwise somebody else speaks in its name.
        if found.issuer.trim_end_matches('/') != self.issuer.trim_end_matches('/') {
            return Err(Failed::Away(format!(
                "{url} is about {:?}, not about {:?}",
                found.issuer, self.issuer
            )));
        }
        let door = |text: &str| -> Result<Url, Failed> {
            text.parse()
                .ok()
                .filter(transport::is_safe)
                .ok_or_else(|| Failed::Away(format!("{text:?} is not https")))
        };
        let methods = &found.token_endpoint_auth_methods_supported;
        let endpoints = Arc::new(Endpoints {
            issuer: found.issuer,
            authorization: door(&found.authorization_endpoint)?,
            token: door(&found.token_endpoint)?,
            keys: door(&found.jwks_uri)?,
            // Basic is what a provider takes that says nothing.
            post_only: !methods.is_empty()
                && !methods.iter().any(|method| method == "client_secret_basic"),
        });
        *known = Some((Instant::now(), endpoints.clone()));
        Ok(endpoints)
    }

    /// Exchanges a code for the provider's word, and checks it.
    pub async fn exchange(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
        nonce: &str,
    ) -> Result<Claims, Failed> {
        let endpoints = self.endpoints().await?;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        let mut basic = None;
        match &self.client_secret {
            Some(secret) if !endpoints.post_only => {
                // RFC 6749, §2.3.1: both are form-encoded first.
                let encode = |text: &str| {
                    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
                };
                let pair = format!("{}:{}", encode(&self.client_id), encode(secret));
                basic = Some(format!("Basic {}", STANDARD.encode(pair)));
            }
            Some(secret) => {
                fields.push(("client_id", &self.client_id));
                fields.push(("client_secret", secret));
            }
            None => fields.push(("client_id", &self.client_id)),
        }
        let tokens: Tokens = transport::post(&endpoints.token, &fields, basic.as_deref())
            .await
            .map_err(Failed::Wrong)?;
        let now = now_ms() / 1000;
        let mut keys = self.keys.lock().await;
        for is_fresh in [false, true] {
            if is_fresh {
                *keys = transport::get(&endpoints.keys)
                    .await
                    .map_err(Failed::Away)?;
            }
            let issuer = &endpoints.issuer;
            match jwt::check(&tokens.id_token, &keys, issuer, &self.client_id, nonce, now) {
                Ok(claims) => return Ok(claims),
                Err(Doubt::Wrong(why)) => return Err(Failed::Wrong(why)),
                // The provider may have new keys.
                Err(Doubt::NoKey) => {}
            }
        }
        Err(Failed::Wrong(
            "no key of the provider fits its signature".into(),
        ))
    }
}
