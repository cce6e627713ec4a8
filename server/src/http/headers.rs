//! What every answer says to the browser about itself: content security policy and its companions.

use crate::http::AppState;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use leptos::nonce::Nonce;
use std::sync::atomic::{AtomicI64, Ordering};

/// For everything that is not a page of ours: nothing may run, load or frame it.
const CLOSED_POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const CROSS_ORIGIN_OPENER_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-opener-policy");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
/// Names the endpoint that `report-to csp` speaks of.
pub(super) const REPORTING_ENDPOINTS: HeaderName = HeaderName::from_static("reporting-endpoints");

/// The policy of a page: only scripts that carry this answer's nonce run, and what they load.
pub(super) fn page_policy(nonce: &Nonce) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}' 'strict-dynamic' 'wasm-unsafe-eval'; \
         style-src 'self' 'nonce-{nonce}'; img-src 'self' blob: data:; connect-src 'self'; \
         font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; report-to csp"
    )
}

/// The value of `Reporting-Endpoints` that goes with [`page_policy`].
pub(super) const CSP_ENDPOINT: HeaderValue = HeaderValue::from_static("csp=\"/csp-reports\"");

/// Adds the headers that every answer carries, whatever made it. What a handler set itself stays.
pub(super) async fn secure(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut fill = |name: HeaderName, value: &'static str| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    fill(CONTENT_SECURITY_POLICY, CLOSED_POLICY);
    fill(X_CONTENT_TYPE_OPTIONS, "nosniff");
    fill(REFERRER_POLICY, "same-origin");
    fill(CROSS_ORIGIN_OPENER_POLICY, "same-origin");
    fill(CROSS_ORIGIN_RESOURCE_POLICY, "same-origin");
    fill(
        PERMISSIONS_POLICY,
        "camera=(), microphone=(), geolocation=(), payment=()",
    );
    // Pages and API answers are somebody's own: no cache may keep them.
    fill(CACHE_CONTROL, "no-store");
    if state.services.config.is_https() {
        fill(
            STRICT_TRANSPORT_SECURITY,
            "max-age=31536000; includeSubDomains",
        );
    }
    response
}

/// Takes the browser's word that a page broke its policy, and logs it: at most one line a second,
/// because anybody may post here.
pub(super) async fn csp_report(body: Bytes) -> StatusCode {
    static LAST_LOGGED_S: AtomicI64 = AtomicI64::new(0);
    let now = crate::db::now_ms() / 1000;
    if LAST_LOGGED_S.swap(now, Ordering::Relaxed) != now {
        let report: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let report = report
            .get(0)
            .and_then(|report| report.get("body"))
            .unwrap_or(&report);
        let word = |name: &str| -> String {
            let text = report
                .get(name)
                .and_then(serde_json::Value::as_str)
                .unwrap_or("");
            // Queries can hold what a person typed.
            let text = text.split(['?', '#']).next().unwrap_or("");
            text.chars().filter(|c| !c.is_control()).take(200).collect()
        };
        tracing::warn!(
            directive = word("effectiveDirective"),
            blocked = word("blockedURL"),
            document = word("documentURL"),
            "a page broke its content security policy"
        );
    }
    StatusCode::NO_CONTENT
}
