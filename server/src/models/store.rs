//! The SQL of what administrators choose about models.

use crate::db::{Db, now_ms};

const DEFAULT_MODEL: &str = "default_model";

/// The model that was chosen for requests that name none.
///
/// # Errors
/// The database's.
pub(super) async fn default_model(db: &Db) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("select value from setting where name = ?1")
        .bind(DEFAULT_MODEL)
        .fetch_optional(db.read())
        .await
}

/// Writes the choice down.
///
/// # Errors
/// The database's.
pub(super) async fn set_default_model(db: &Db, model: &str) -> Result<(), sqlx::Error> {
    let mut write = db.write().await?;
    sqlx::query(
        "insert into setting (name, value, changed_at) values (?1, ?2, ?3) \
         on conflict (name) do update set value = excluded.value, changed_at = excluded.changed_at",
    )
    .bind(DEFAULT_MODEL)
    .bind(model)
    .bind(now_ms())
    .execute(&mut *write)
    .await?;
    write.commit().await
}
