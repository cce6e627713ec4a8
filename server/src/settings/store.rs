//! The SQL of settings: one row a choice.

use crate::db::{Db, Write};
use sqlx::Error;

/// Every choice: (name, value, when).
pub(super) async fn rows(db: &Db) -> Result<Vec<(String, String, i64)>, Error> {
    sqlx::query_as("select name, value, changed_at from setting")
        .fetch_all(db.read())
        .await
}

/// One choice, as the transaction sees it.
pub(super) async fn value(write: &mut Write, name: &str) -> Result<Option<String>, Error> {
    sqlx::query_scalar("select value from setting where name = ?")
        .bind(name)
        .fetch_optional(&mut **write)
        .await
}

/// Writes a choice down, or takes it back.
pub(super) async fn set(
    write: &mut Write,
    name: &str,
    value: Option<&str>,
    now: i64,
) -> Result<(), Error> {
    let statement = match value {
        Some(value) => sqlx::query(
            "insert into setting (name, value, changed_at) values (?1, ?2, ?3)
             on conflict (name) do update set value = excluded.value, changed_at = excluded.changed_at",
        )
        .bind(name)
        .bind(value)
        .bind(now),
        None => sqlx::query("delete from setting where name = ?").bind(name),
    };
    statement.execute(&mut **write).await?;
    Ok(())
}
