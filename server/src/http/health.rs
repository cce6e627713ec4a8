//! For whoever watches the server: is it alive, is it ready, is it on the device it should be on?

use crate::db::Db;
use crate::startup::Services;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::time::Duration;

/// The process answers.
pub(super) async fn livez() -> &'static str {
    "ok"
}

/// The database answers, and the server is not stopping.
pub(super) async fn readyz(State(services): State<Services>) -> Response {
    if services.shutdown.is_requested() {
        return unready("stopping");
    }
    match tokio::time::timeout(Duration::from_secs(5), probe(&services.db)).await {
        Ok(Ok(())) => "ok".into_response(),
        Ok(Err(error)) => {
            tracing::error!(%error, "not ready: the database does not answer");
            unready("the database does not answer")
        }
        Err(_) => unready("the database is busy"),
    }
}

async fn probe(db: &Db) -> Result<(), sqlx::Error> {
    // Taking the write lock and giving it back proves more than a read, and costs no fsync.
    drop(db.write().await?);
    Ok(())
}

fn unready(reason: &'static str) -> Response {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready: {reason}\n"),
    )
        .into_response()
}

/// `ok`, or `degraded: DEVICE` and the reason where a better device was found but is not used.
pub(super) async fn healthz(State(services): State<Services>) -> String {
    let badge = services.devices.badge();
    if !badge.degraded {
        return "ok".into();
    }
    let device = if badge.label.to_ascii_lowercase().contains("cpu") {
        "cpu"
    } else {
        &badge.label
    };
    match badge.reason {
        Some(reason) => format!("degraded: {device}\n{reason}\n"),
        None => format!("degraded: {device}\n"),
    }
}
