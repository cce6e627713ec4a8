//! Who asks: from the session cookie or a Bearer token to a `Viewer`, and from the connection to a
//! `Client`.

use crate::accounts::AccountService;
use crate::config::Network;
use crate::error::ServerError;
use crate::http::AppState;
use crate::http::problem::Problem;
use crate::http::scopes;
use atelier_app::account::{Scope, Viewer};
use atelier_app::backend::{Client, SessionSecret};
use atelier_app::error::AppError;
use axum::extract::{ConnectInfo, FromRef, FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum_extra::extract::CookieJar;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who a page is for: put into the request by [`identify`], read by the closure that gives pages,
/// server functions and the fallback their context.
#[derive(Clone, Debug, Default)]
pub(super) struct Asker {
    pub(super) client: Client,
    pub(super) viewer: Option<Viewer>,
}

/// Finds out who asks, by the session cookie only: tokens do not open pages or server functions.
pub(super) async fn identify(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let asker = match asker(&state, &parts).await {
        Ok(asker) => asker,
        Err(error) => return Problem::from(error).into_response(),
    };
    request = Request::from_parts(parts, body);
    request.extensions_mut().insert(asker);
    next.run(request).await
}

/// Who sends a request whose body nobody reads.
pub(super) async fn asker_of(state: &AppState, request: Request) -> Result<Asker, ServerError> {
    let (parts, _) = request.into_parts();
    asker(state, &parts).await
}

async fn asker(state: &AppState, parts: &Parts) -> Result<Asker, ServerError> {
    let accounts = &state.services.accounts;
    let secret = session_secret(accounts, &parts.headers);
    let viewer = match &secret {
        Some(secret) => accounts.viewer_of_session(secret).await?,
        None => None,
    };
    let client = Client {
        address: client_address(parts, &state.services.config.trusted_proxies).to_string(),
        user_agent: user_agent(&parts.headers),
        session: viewer
            .is_some()
            .then_some(secret)
            .flatten()
            .map(SessionSecret),
        step: cookie(&parts.headers, accounts.step_cookie_name()).map(SessionSecret),
    };
    Ok(Asker { client, viewer })
}

fn session_secret(accounts: &AccountService, headers: &HeaderMap) -> Option<String> {
    cookie(headers, accounts.cookie_name())
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let jar = CookieJar::from_headers(headers);
    jar.get(name).map(|cookie| cookie.value().to_owned())
}

fn user_agent(headers: &HeaderMap) -> String {
    let text = headers
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    text.chars().take(200).collect()
}

/// The peer, unless it is a trusted proxy: then the rightmost address in `X-Forwarded-For` that no
/// trusted proxy wrote. Anything further left is the client's own invention.
fn client_address(parts: &Parts, trusted: &[Network]) -> IpAddr {
    let peer = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| {
            peer.0.ip().to_canonical()
        });
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let mut address = peer;
    let values: Vec<&str> = parts
        .headers
        .get_all(&X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for value in values.into_iter().rev() {
        let Some(hop) = parse_hop(value.trim()) else {
            break;
        };
        address = hop;
        if !is_trusted(hop) {
            break;
        }
    }
    address
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn parse_hop(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(|address| address.to_canonical())
}

/// Somebody signed in with a browser. For images and the event stream; answers 401 otherwise.
#[derive(Clone, Debug)]
pub struct SignedInViewer(pub Viewer);

impl<S> FromRequestParts<S> for SignedInViewer
where
    AppState: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let state = AppState::from_ref(state);
        let viewer = asker(&state, parts).await?.viewer;
        viewer
            .map(Self)
            .ok_or_else(|| AppError::SignInRequired.into())
    }
}

/// Who uses the JSON API: by `Authorization: Bearer`, else by the session cookie (our own pages).
///
/// An `Authorization` header that opens nothing is a 401 even where a cookie would do: a client
/// that sends a token means it.
#[derive(Clone, Debug)]
pub struct ApiViewer(pub Viewer);

impl<S> FromRequestParts<S> for ApiViewer
where
    AppState: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let state = AppState::from_ref(state);
        let viewer = match parts.headers.get(AUTHORIZATION) {
            Some(header) => match bearer_token(header.to_str().unwrap_or("")) {
                Some(token) => match state.services.accounts.bearer_of_token(token).await? {
                    Some((viewer, scopes)) => {
                        check_scope(&scopes, parts)?;
                        Some(viewer)
                    }
                    None => None,
                },
                None => None,
            },
            None => asker(&state, parts).await?.viewer,
        };
        viewer
            .map(Self)
            .ok_or_else(|| AppError::SignInRequired.into())
    }
}

/// An administrator, by a token of theirs too: for what is only read. Tokens administer nothing.
#[derive(Clone, Debug)]
pub(super) struct Watcher(pub(super) Viewer);

impl<S> FromRequestParts<S> for Watcher
where
    AppState: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let app = AppState::from_ref(state);
        let viewer = match parts.headers.get(AUTHORIZATION) {
            Some(header) => match bearer_token(header.to_str().unwrap_or("")) {
                Some(token) => match app.services.accounts.owner_of_token(token).await? {
                    Some((viewer, scopes)) => {
                        check_scope(&scopes, parts)?;
                        Some(viewer)
                    }
                    None => None,
                },
                None => None,
            },
            None => asker(&app, parts).await?.viewer,
        };
        match viewer {
            Some(viewer) if viewer.is_admin() => Ok(Self(viewer)),
            Some(_) => Err(AppError::Forbidden.into()),
            None => Err(AppError::SignInRequired.into()),
        }
    }
}

/// Refuses a token that does not open what is asked for.
fn check_scope(scopes: &[Scope], parts: &Parts) -> Result<(), Problem> {
    let needed = scopes::needed(&parts.method, parts.uri.path());
    if needed.iter().any(|scope| scopes.contains(scope)) {
        return Ok(());
    }
    let named: Vec<&str> = needed.iter().map(|scope| scope.as_str()).collect();
    Err(Problem::of_scope(&scopes::words(needed), &named.join(" ")))
}

/// RFC 6750: the scheme in any letter case, then the token.
fn bearer_token(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut request = axum::http::Request::new(());
        for value in forwarded {
            request
                .headers_mut()
                .append(X_FORWARDED_FOR, value.parse().unwrap());
        }
        let (mut parts, ()) = request.into_parts();
        parts
            .extensions
            .insert(ConnectInfo::<SocketAddr>(peer.parse().unwrap()));
        let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        client_address(&parts, &trusted).to_string()
    }

    #[test]
    fn forwarded_addresses_count_only_from_trusted_proxies() {
        let proxies = ["10.0.0.0/8"];
        // Nobody may name their own address.
        assert_eq!(address("192.0.2.1:9", &["1.1.1.1"], &proxies), "192.0.2.1");
        assert_eq!(address("10.0.0.1:9", &["1.1.1.1"], &proxies), "1.1.1.1");
        // The leftmost is what the client sent; the proxy appended what it saw.
        assert_eq!(
            address("10.0.0.1:9", &["6.6.6.6, 1.1.1.1"], &proxies),
            "1.1.1.1"
        );
        assert_eq!(
            address("10.0.0.1:9", &["6.6.6.6", "1.1.1.1, 10.0.0.2"], &proxies),
            "1.1.1.1"
        );
        assert_eq!(
            address("10.0.0.1:9", &["1.1.1.1:4711"], &proxies),
            "1.1.1.1"
        );
        assert_eq!(
            address("10.0.0.1:9", &["[2001:db8::1]:80"], &proxies),
            "2001:db8::1"
        );
        assert_eq!(address("10.0.0.1:9", &["nonsense"], &proxies), "10.0.0.1");
        assert_eq!(address("10.0.0.1:9", &[], &proxies), "10.0.0.1");
    }

    #[test]
    fn only_bearer_is_a_token() {
        assert_eq!(bearer_token("Bearer atl_x"), Some("atl_x"));
        assert_eq!(bearer_token("bearer atl_x"), Some("atl_x"));
        assert_eq!(bearer_token("Basic atl_x"), None);
        assert_eq!(bearer_token("atl_x"), None);
    }
}
