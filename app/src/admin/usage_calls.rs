//! Server functions: quotas, weights, usage. Each finds out who asks, then asks the port.
#![allow(
    missing_docs,
    reason = "the macro makes a public struct of each function; its fields are the arguments"
)]

use super::{PersonQuota, UsageData, UsageSpan};
use crate::account::{QuotaLimits, UserId};
#[cfg(feature = "ssr")]
use crate::backend::{use_backend, use_viewer};
use crate::error::AppError;
use leptos::prelude::*;

/// A limit as typed into a field: empty is none.
#[cfg(feature = "ssr")]
fn limit(field: &str, text: &str) -> Result<Option<u32>, AppError> {
    match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            AppError::invalid(
                field,
                "Give a whole number, or leave it empty for no limit.",
            )
        }),
    }
}

/// The limits of whoever has none of their own.
#[server(endpoint = "load_everybodys_quota")]
pub async fn load_everybodys_quota() -> Result<QuotaLimits, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.usage.everybodys_quota(&viewer).await
}

/// A user's limits, use and weight.
#[server(endpoint = "load_quota_of")]
pub async fn load_quota_of(id: UserId) -> Result<PersonQuota, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.usage.quota_of(&viewer, id).await
}

/// Gives a user limits of their own, or everybody's.
#[server(endpoint = "set_own_quota")]
pub async fn set_own_quota(
    id: UserId,
    #[server(default)] as_everybody: bool,
    #[server(default)] day_images: String,
    #[server(default)] day_seconds: String,
    #[server(default)] month_images: String,
    #[server(default)] month_seconds: String,
) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    let limits = if as_everybody {
        None
    } else {
        Some(QuotaLimits {
            day_images: limit("day_images", &day_images)?,
            day_seconds: limit("day_seconds", &day_seconds)?,
            month_images: limit("month_images", &month_images)?,
            month_seconds: limit("month_seconds", &month_seconds)?,
        })
    };
    use_backend()?.usage.set_quota(&viewer, id, limits).await
}

/// Sets the limits of whoever has none of their own.
#[server(endpoint = "set_everybodys_quota")]
pub async fn set_everybodys_quota(
    #[server(default)] day_images: String,
    #[server(default)] day_seconds: String,
    #[server(default)] month_images: String,
    #[server(default)] month_seconds: String,
) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    let limits = QuotaLimits {
        day_images: limit("day_images", &day_images)?,
        day_seconds: limit("day_seconds", &day_seconds)?,
        month_images: limit("month_images", &month_images)?,
        month_seconds: limit("month_seconds", &month_seconds)?,
    };
    use_backend()?
        .usage
        .set_everybodys_quota(&viewer, limits)
        .await
}

/// Sets a user's share of the devices.
#[server(endpoint = "set_weight")]
pub async fn set_weight(id: UserId, weight: String) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    // People write 2,5 as well as 2.5.
    let weight =
        weight.trim().replace(',', ".").parse().map_err(|_| {
            AppError::invalid("weight", "Give a number from 0.1 to 10; 1 is usual.")
        })?;
    use_backend()?.usage.set_weight(&viewer, id, weight).await
}

/// What a user, or everybody, used in the last days.
#[server(endpoint = "load_usage")]
pub async fn load_usage(
    span: UsageSpan,
    #[server(default)] user: Option<UserId>,
) -> Result<UsageData, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.usage.usage(&viewer, span, user).await
}
