//! Device events in SQL: what the probe reported and what befell workers.

use atelier_app::admin::{DeviceChoice, DeviceEvent, DevicesReport};

use crate::db::{Db, now_ms};
use crate::error::ServerError;

/// Events kept; older ones are dropped as new ones come.
const KEPT: i64 = 2000;

/// Writes one event down.
///
/// # Errors
/// The database's.
pub(super) async fn record(
    db: &Db,
    kind: &str,
    device: &str,
    message: &str,
    report: Option<&DevicesReport>,
) -> Result<(), ServerError> {
    let report = report
        .map(serde_json::to_string)
        .transpose()
        .map_err(|error| ServerError::broken(error.to_string()))?;
    let mut write = db.write().await?;
    sqlx::query(
        "insert into device_event (at, kind, device, message, report) values (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(now_ms())
    .bind(kind)
    .bind(device)
    .bind(message)
    .bind(report)
    .execute(&mut *write)
    .await?;
    sqlx::query("delete from device_event where id <= (select max(id) from device_event) - ?1")
        .bind(KEPT)
        .execute(&mut *write)
        .await?;
    write.commit().await?;
    Ok(())
}

/// The probe's latest report, if one can still be read.
///
/// # Errors
/// The database's.
pub(super) async fn latest_report(db: &Db) -> Result<Option<DevicesReport>, ServerError> {
    let text: Option<String> = sqlx::query_scalar(
        "select report from device_event where kind = 'probe' and report is not null \
          order by id desc limit 1",
    )
    .fetch_optional(db.read())
    .await?;
    // A report of an older version's shape is as good as none: it is only asked for its date.
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// The latest events, newest first.
///
/// # Errors
/// The database's.
pub(super) async fn latest_events(db: &Db, count: u32) -> Result<Vec<DeviceEvent>, ServerError> {
    let rows: Vec<(i64, String, String, String)> = sqlx::query_as(
        "select at, kind, device, message from device_event order by id desc limit ?1",
    )
    .bind(count)
    .fetch_all(db.read())
    .await?;
    Ok(rows
        .into_iter()
        .map(|(at, kind, device, message)| DeviceEvent {
            at,
            kind,
            device,
            message,
        })
        .collect())
}

const CHOICE: &str = "devices";

/// What administrators chose last, if they ever did.
///
/// # Errors
/// The database's.
pub(super) async fn choice(db: &Db) -> Result<Option<DeviceChoice>, ServerError> {
    let text: Option<String> = sqlx::query_scalar("select value from setting where name = ?1")
        .bind(CHOICE)
        .fetch_optional(db.read())
        .await?;
    // A choice of another version's shape is none: automatic is always right.
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Writes a choice down.
///
/// # Errors
/// The database's.
pub(super) async fn set_choice(db: &Db, choice: &DeviceChoice) -> Result<(), ServerError> {
    let text =
        serde_json::to_string(choice).map_err(|error| ServerError::broken(error.to_string()))?;
    let mut write = db.write().await?;
    sqlx::query(
        "insert into setting (name, value, changed_at) values (?1, ?2, ?3) \
         on conflict (name) do update set value = excluded.value, changed_at = excluded.changed_at",
    )
    .bind(CHOICE)
    .bind(text)
    .bind(now_ms())
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok(())
}
