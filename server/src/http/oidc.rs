//! The two addresses of signing in through a provider: going there and coming back. What goes wrong is
//! said on the sign-in page.

use super::viewer::{Asker, asker_of};
use crate::error::ServerError;
use crate::http::AppState;
use crate::oidc::{Return, Way};
use crate::startup::Services;
use atelier_app::error::AppError;
use axum::extract::{FromRef, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, LOCATION, SET_COOKIE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum_extra::extract::CookieJar;
use serde::Deserialize;

/// The query of going there.
#[derive(Deserialize)]
pub(super) struct Start {
    #[serde(default)]
    next: String,
    /// Connect the account that is signed in, rather than sign in.
    link: Option<String>,
}

/// `GET /oidc/start?next=PATH`: to the provider.
pub(super) async fn start(
    State(state): State<AppState>,
    Query(query): Query<Start>,
    request: Request,
) -> Response {
    let asker = match asker_of(&state, request).await {
        Ok(asker) => asker,
        Err(error) => return back_to("/sign-in", error),
    };
    let services = Services::from_ref(&state);
    let Some(oidc) = &services.oidc else {
        return back_to("/sign-in", AppError::NotFound.into());
    };
    let link = query.link.is_some();
    if link && asker.viewer.is_none() {
        return back_to("/sign-in", AppError::SignInRequired.into());
    }
    let viewer = asker.viewer.filter(|_| link);
    let next = atelier_app::safe_path(&query.next);
    // Who is signed in is led away from the sign-in page, and would not read what went wrong.
    let page = if link { "/account" } else { "/sign-in" };
    go(oidc.leave(&next, viewer.as_ref()).await, page)
}

/// `GET /oidc/callback?code=…&state=…`: back from the provider.
pub(super) async fn callback(
    State(state): State<AppState>,
    Query(back): Query<Return>,
    jar: CookieJar,
    request: Request,
) -> Response {
    let Asker { client, viewer } = match asker_of(&state, request).await {
        Ok(asker) => asker,
        Err(error) => return back_to("/sign-in", error),
    };
    let services = Services::from_ref(&state);
    let Some(oidc) = &services.oidc else {
        return back_to("/sign-in", AppError::NotFound.into());
    };
    let cookie = jar.get(oidc.cookie_name()).map(|cookie| cookie.value());
    // Whoever is signed in comes back from connecting, to where they left.
    let page = if viewer.is_some() {
        "/account"
    } else {
        "/sign-in"
    };
    go(
        oidc.arrive(back, cookie, viewer.as_ref(), &client).await,
        page,
    )
}

fn go(way: Result<Way, ServerError>, page: &str) -> Response {
    let way = match way {
        Ok(way) => way,
        Err(error) => return back_to(page, error),
    };
    let mut response = redirect(&way.to);
    for cookie in &way.set_cookies {
        if let Ok(value) = HeaderValue::from_str(cookie) {
            response.headers_mut().append(SET_COOKIE, value);
        }
    }
    response
}

/// The code of the refusal; a page has the words. Text of an address is nobody's to choose.
fn back_to(page: &str, error: ServerError) -> Response {
    let error = AppError::from(error);
    let code = error.field().unwrap_or("fault");
    redirect(&format!("{page}?refused={code}"))
}

fn redirect(to: &str) -> Response {
    let mut response = StatusCode::FOUND.into_response();
    let headers = response.headers_mut();
    headers.insert(
        LOCATION,
        HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/sign-in")),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
