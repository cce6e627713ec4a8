//! Options of signing in through an OpenID Connect provider.

use crate::oidc::parse_issuer;
use atelier_app::account::Role;
use clap::Args;
use url::Url;

/// The provider, where there is one.
#[derive(Args, Clone)]
pub struct OidcArgs {
    /// Address of an OpenID Connect provider that people may sign in through; needs --public-url.
    #[arg(long = "oidc-issuer", env = "ATELIER_OIDC_ISSUER", value_name = "URL", value_parser = parse_issuer)]
    pub issuer: Option<Url>,
    /// What the provider calls this server.
    #[arg(
        long = "oidc-client-id",
        env = "ATELIER_OIDC_CLIENT_ID",
        value_name = "ID"
    )]
    pub client_id: Option<String>,
    /// What it proves itself with there; better given as ATELIER_OIDC_CLIENT_SECRET than typed.
    #[arg(
        long = "oidc-client-secret",
        env = "ATELIER_OIDC_CLIENT_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub client_secret: Option<String>,
    /// What people call the provider: "Sign in with NAME".
    #[arg(
        long = "oidc-name",
        env = "ATELIER_OIDC_NAME",
        default_value = "single sign-on",
        value_name = "NAME"
    )]
    pub name: String,
    /// Make a user of anybody whom the provider vouches for: member or viewer [default: only people who
    /// connected their account come in].
    #[arg(long = "oidc-newcomers", env = "ATELIER_OIDC_NEWCOMERS", value_name = "ROLE", value_parser = newcomer)]
    pub newcomers: Option<Role>,
}

impl std::fmt::Debug for OidcArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret is one.
        f.debug_struct("OidcArgs")
            .field("issuer", &self.issuer.as_ref().map(Url::as_str))
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

fn newcomer(word: &str) -> Result<Role, String> {
    match word.parse() {
        Ok(role @ (Role::Member | Role::Viewer)) => Ok(role),
        _ => Err("choose one of member, viewer".into()),
    }
}
