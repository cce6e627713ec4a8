//! Pages, server functions and the built interface. One closure gives all three their context: the
//! `Backend`, the `Client` and who is signed in.

use crate::config::ServeConfig;
use crate::http::viewer::{Asker, identify};
use crate::http::{AppState, headers, problem};
use atelier_app::error::AppError;
use atelier_app::session::SiteName;
use atelier_app::{App, shell};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use leptos::config::LeptosOptions;
use leptos::nonce::use_nonce;
use leptos::prelude::{provide_context, use_context};
use leptos_axum::{LeptosRoutes, ResponseOptions, generate_route_list};
use tower::ServiceExt;
use tower_http::services::ServeDir;

/// Where server functions live; the same words as in `.cargo/config.toml`.
const SERVER_FUNCTIONS: &str = "/app/";

/// The header by which leptos tells wasm to go elsewhere.
const MARKED_FOR_WASM: &str = "serverfnredirect";

/// What leptos needs to know about the built interface.
pub(super) fn options(config: &ServeConfig) -> LeptosOptions {
    LeptosOptions::builder()
        .output_name("atelier")
        .site_root(config.site_root().to_string_lossy().into_owned())
        .site_pkg_dir("pkg")
        .site_addr(config.addr)
        .build()
}

/// Adds pages, server functions, files and the 404 page behind the routes that are there already.
pub(super) fn routes(routes: Router<AppState>, state: &AppState) -> Router<AppState> {
    let options = state.leptos.clone();
    let context = context(state);
    let page = {
        let options = options.clone();
        move || shell(options.clone())
    };
    let not_found = {
        let render = leptos_axum::render_app_async_with_context(context.clone(), page.clone());
        move |request: Request| {
            let rendering = render(request);
            async move {
                let mut response = rendering.await;
                if response.status() == StatusCode::OK {
                    *response.status_mut() = StatusCode::NOT_FOUND;
                }
                response
            }
        }
    };
    let files = {
        let site = site_files(state);
        move |request: Request| async move { file_or(site, request, not_found).await }
    };
    let pages = Router::new()
        .leptos_routes_with_context(state, generate_route_list(App), context, page)
        .fallback(files)
        .layer(from_fn(give_server_functions_their_status))
        .layer(from_fn(redirect_whoever_asks))
        .layer(from_fn_with_state(state.clone(), identify));
    pages.merge(routes)
}

/// The one closure.
fn context(state: &AppState) -> impl Fn() + Clone + Send + Sync + 'static {
    let backend = state.services.backend();
    let settings = state.services.settings.clone();
    move || {
        let asker = use_context::<Parts>()
            .and_then(|parts| parts.extensions.get::<Asker>().cloned())
            .unwrap_or_default();
        provide_context(backend.clone());
        provide_context(SiteName(settings.site_name()));
        provide_context(asker.client);
        provide_context(asker.viewer);
        // Server functions answer with data and have no nonce; `headers::secure` closes them.
        if let (Some(nonce), Some(response)) = (use_nonce(), use_context::<ResponseOptions>())
            && let Ok(policy) = HeaderValue::from_str(&headers::page_policy(&nonce))
        {
            response.insert_header(CONTENT_SECURITY_POLICY, policy);
            response.insert_header(headers::REPORTING_ENDPOINTS, headers::CSP_ENDPOINT);
        }
    }
}

fn site_files(state: &AppState) -> ServeDir {
    ServeDir::new(state.leptos.site_root.as_ref())
        .append_index_html_on_directories(false)
        .precompressed_gzip()
        .precompressed_br()
}

/// A file of the built interface, or else what `otherwise` makes of the request.
async fn file_or<F>(site: ServeDir, request: Request, otherwise: impl Fn(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let (parts, body) = request.into_parts();
    let for_files = Request::from_parts(parts.clone(), Body::empty());
    let found = match site.oneshot(for_files).await {
        Ok(found) => found,
        Err(never) => match never {},
    };
    if found.status().is_success()
        || matches!(
            found.status(),
            StatusCode::NOT_MODIFIED | StatusCode::RANGE_NOT_SATISFIABLE
        )
    {
        let mut response = found.into_response();
        // Names carry no hash, so browsers ask each time; `Last-Modified` makes the answer short.
        response
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        return response;
    }
    otherwise(Request::from_parts(parts, body)).await
}

/// Leptos marks a page's redirect for wasm unless the request says that it accepts HTML. A page is
/// not asked for by wasm: whoever asks without saying so (`curl`, a link checker) is sent on too.
async fn redirect_whoever_asks(request: Request, next: Next) -> Response {
    let is_page = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = next.run(request).await;
    if is_page && response.headers().contains_key(LOCATION) {
        response.headers_mut().remove(MARKED_FOR_WASM);
        if !response.status().is_redirection() {
            *response.status_mut() = StatusCode::FOUND;
        }
    }
    response
}

/// Leptos answers every error of a server function with 500. The body says which class of error it
/// was, and so should the status: proxies, logs and rate limiters read nothing else.
async fn give_server_functions_their_status(request: Request, next: Next) -> Response {
    let is_server_function = request.uri().path().starts_with(SERVER_FUNCTIONS);
    let response = next.run(request).await;
    if !is_server_function || response.status() != StatusCode::INTERNAL_SERVER_ERROR {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, super::BODY_LIMIT).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if let Ok(error) = serde_json::from_slice::<AppError>(&bytes) {
        parts.status = problem::status_of(&error);
        if let Some(seconds) = problem::retry_after_s(&error) {
            parts
                .headers
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
    Response::from_parts(parts, Body::from(bytes))
}
