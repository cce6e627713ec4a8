//! What only administrators fetch about people: the audit log as a file.

use super::problem::Problem;
use super::viewer::ApiViewer;
use crate::audit::{CSV_HEAD, csv};
use crate::startup::Services;
use atelier_app::admin::AuditFilter;
use atelier_app::error::AppError;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::stream;

/// Rows that are read at a time.
const CHUNK: u32 = 500;

/// `GET /api/admin/audit.csv?actor=…&act=…&text=…`: every act that passes the filter, newest first,
/// read piece by piece however long it is.
pub(super) async fn audit_csv(
    ApiViewer(viewer): ApiViewer,
    State(services): State<Services>,
    Query(filter): Query<AuditFilter>,
) -> Result<Response, Problem> {
    if !viewer.is_admin() {
        return Err(AppError::Forbidden.into());
    }
    let audit = services.audit.clone();
    // The first page before the answer begins: a filter that is none gets its own status.
    let first = audit.page(&filter, CHUNK).await?;
    let rest = stream::try_unfold(Some((first, filter, true)), move |state| {
        let audit = audit.clone();
        async move {
            let Some((page, filter, is_first)) = state else {
                return Ok::<_, AppError>(None);
            };
            let head = if is_first { CSV_HEAD } else { "" };
            let text = format!("{head}{}", csv(&page));
            let next = match page.next {
                None => None,
                Some(before) => {
                    let filter = AuditFilter {
                        before: Some(before),
                        ..filter
                    };
                    let page = audit.page(&filter, CHUNK).await?;
                    Some((page, filter, false))
                }
            };
            Ok(Some((text, next)))
        }
    });
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8"),
        (CONTENT_DISPOSITION, "attachment; filename=\"audit.csv\""),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(rest)).into_response())
}
