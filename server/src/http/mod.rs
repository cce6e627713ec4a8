//! Every URL on one screen, and what every request passes through.
//!
//! Pages and server functions (`/app/…`) speak to the port; the JSON API (`/api/…`), the images
//! and the event stream are thin doors to the same services. Nothing here holds a rule.

mod backups;
mod events;
mod gallery;
mod generate;
mod headers;
mod health;
mod images;
mod metrics;
mod native;
mod oidc;
mod pages;
mod people;
pub mod problem;
mod scopes;
mod studio;
mod uploads;
pub mod viewer;

use crate::error::new_reference;
use crate::startup::{Services, StartupError};
use atelier_app::error::AppError;
use axum::extract::{DefaultBodyLimit, FromRef, MatchedPath};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post, put};
use axum::{Router, http};
use leptos::config::LeptosOptions;
use problem::Problem;
use std::any::Any;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use tower_http::csrf::CsrfLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::timeout::RequestBodyDeadlineLayer;
use tower_http::trace::TraceLayer;

/// The largest request body where no image is sent: prompts and forms are small.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// The largest body of a file that is sent by itself, with what a form puts around it.
pub const UPLOAD_LIMIT: usize = crate::uploads::MOST_BYTES + 64 * 1024;

/// The largest request for an image: an image to start from and a mask in base64, and the rest.
pub const GENERATE_LIMIT: usize = 2 * (crate::uploads::MOST_BYTES / 3 * 4) + BODY_LIMIT;

/// How long a client may take to send an image.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(300);

/// How long a client may take to send its body.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// What handlers can ask for with `State`.
#[derive(Clone)]
pub struct AppState {
    /// Every room.
    pub services: Services,
    /// What leptos needs to know about the built interface.
    pub leptos: LeptosOptions,
}

impl FromRef<AppState> for Services {
    fn from_ref(state: &AppState) -> Self {
        state.services.clone()
    }
}

impl FromRef<AppState> for LeptosOptions {
    fn from_ref(state: &AppState) -> Self {
        state.leptos.clone()
    }
}

/// The whole site.
///
/// # Errors
/// [`StartupError::Setting`] when the public URL cannot be an origin.
pub fn router(services: Services) -> Result<Router, StartupError> {
    let state = AppState {
        leptos: pages::options(&services.config),
        services,
    };

    let routes = Router::new()
        // For whoever watches the server.
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/healthz", get(health::healthz))
        .route("/metrics", get(metrics::metrics))
        .route("/oidc/start", get(oidc::start))
        .route("/oidc/callback", get(oidc::callback))
        .route("/csp-reports", post(headers::csp_report))
        // A user's own images: session cookie or Bearer token, owner only.
        .route("/images/{id}", get(images::original))
        .route("/images/{id}/thumbnail.jpg", get(images::thumbnail))
        // One image for whoever has its link.
        .route("/s/{secret}/image.png", get(images::shared))
        // The JSON API: Bearer token, or the session cookie from our own pages.
        .route("/api/events", get(events::events))
        .route("/api/jobs", get(native::list_jobs))
        .route(
            "/api/jobs/{id}",
            get(native::job).delete(native::cancel_job),
        )
        .route("/api/jobs/{id}/cancel", post(native::cancel_job))
        .route("/api/models", get(native::list_models))
        .route("/api/loras", get(native::list_loras))
        .route("/api/loras/{name}/preview", get(studio::lora_preview))
        .route("/api/vaes", get(native::list_vaes))
        .route("/api/estimate", post(studio::estimate))
        .route("/api/prompts", get(studio::prompts))
        .route(
            "/api/presets",
            get(studio::presets).post(studio::create_preset),
        )
        .route(
            "/api/presets/{id}",
            put(studio::change_preset).delete(studio::delete_preset),
        )
        .route(
            "/api/styles",
            get(studio::styles).post(studio::create_style),
        )
        .route("/api/styles/import", post(studio::import_styles))
        .route(
            "/api/styles/{id}",
            put(studio::change_style).delete(studio::delete_style),
        )
        .route("/api/images", get(gallery::find_images))
        .route("/api/images/facets", get(gallery::facets))
        .route("/api/images/act", post(gallery::act))
        .route("/api/images/zip", post(gallery::zip))
        .route(
            "/api/images/{id}",
            get(gallery::image).delete(gallery::delete_image),
        )
        .route(
            "/api/images/{id}/shares",
            get(gallery::share_links).post(gallery::create_share_link),
        )
        .route("/api/shares/{id}", delete(gallery::revoke_share_link))
        .route(
            "/api/trash",
            get(gallery::trash).delete(gallery::empty_trash),
        )
        .route(
            "/api/collections",
            get(gallery::collections).post(gallery::create_collection),
        )
        .route(
            "/api/collections/{id}",
            put(gallery::change_collection).delete(gallery::delete_collection),
        )
        .route("/api/account", get(people::account))
        .route("/api/account/export.zip", get(people::own_export))
        // For administrators.
        .route("/api/admin/users/{id}/export.zip", get(people::export))
        .route(
            "/api/admin/users/{id}/images/{image}/{file}",
            get(people::looked_at),
        )
        .route("/api/admin/audit.csv", get(people::audit_csv))
        .route("/api/admin/backups/{name}", get(backups::download))
        .route("/api/{*rest}", any(no_such_url));
    // Pages, server functions and the built interface; anything else is the app's own 404 page.
    let routes = pages::routes(routes, &state);

    // Where images come in, bodies may be large and take their time.
    let uploads = Router::new()
        .route("/api/uploads", post(uploads::upload).get(uploads::list))
        .route("/api/uploads/{id}", get(uploads::file));
    let uploads = uploads.route("/api/images/import", post(gallery::import));
    let generate = Router::new().route("/api/generate-image", post(generate::generate_image));
    let routes = bounded(routes, BODY_LIMIT, BODY_DEADLINE)
        .merge(bounded(uploads, UPLOAD_LIMIT, UPLOAD_DEADLINE))
        .merge(bounded(generate, GENERATE_LIMIT, UPLOAD_DEADLINE));

    // Innermost first: a request passes these from the last line to the first.
    let csrf = csrf(&state)?;
    Ok(routes
        .layer(csrf)
        .layer(from_fn(problem::shape_api_errors))
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(CompressionLayer::new().compress_when(worth_compressing()))
        .layer(from_fn_with_state(state.clone(), headers::secure))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .with_state(state))
}

/// An archive of PNGs is compressed already, and its length is known only as it is.
fn worth_compressing() -> impl Predicate {
    DefaultPredicate::new()
        .and(NotForContentType::const_new("application/zip"))
        .and(NotForContentType::const_new("application/x-tar"))
}

/// Routes whose bodies have a size and a time.
fn bounded(routes: Router<AppState>, limit: usize, deadline: Duration) -> Router<AppState> {
    routes
        .layer(DefaultBodyLimit::max(limit))
        .layer(RequestBodyDeadlineLayer::new(deadline))
        .layer(RequestBodyLimitLayer::new(limit))
}

/// Refuses requests that change something and come from another site, by `Sec-Fetch-Site` and
/// `Origin`; no token is needed for that.
fn csrf(state: &AppState) -> Result<CsrfLayer, StartupError> {
    let Some(public_url) = &state.services.config.public_url else {
        return Ok(CsrfLayer::new());
    };
    CsrfLayer::new()
        .add_trusted_origin(public_url.origin())
        .map_err(|error| StartupError::Setting(format!("--public-url: {error}")))
}

/// The route, never the query or the headers: those can hold prompts and secrets.
fn span<B>(request: &http::Request<B>) -> tracing::Span {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("(none)", MatchedPath::as_str);
    let id = request
        .headers()
        .get("x-request-id")
        .and_then(|id| id.to_str().ok())
        .unwrap_or("");
    tracing::info_span!("request", method = %request.method(), route, id)
}

/// A panic is one request's 500, never the end of the server.
fn answer_panic(panic: Box<dyn Any + Send>) -> Response {
    let words = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("(no words)");
    let reference = new_reference();
    tracing::error!(%reference, panic = words, "a request panicked");
    Problem::from(AppError::Internal { reference }).into_response()
}

async fn no_such_url() -> Problem {
    Problem::from(AppError::NotFound)
}
