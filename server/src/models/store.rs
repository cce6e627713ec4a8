//! The SQL of what administrators choose about models.

use super::access::Access;
use crate::db::{Db, Write, now_ms};
use atelier_app::account::Role;

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

/// Who may use which.
///
/// # Errors
/// The database's.
pub(super) async fn access(db: &Db) -> Result<Access, sqlx::Error> {
    let rows: Vec<(String, String)> = sqlx::query_as("select model, role from model_access")
        .fetch_all(db.read())
        .await?;
    let mut access = Access::default();
    for (model, role) in rows {
        // The table takes no other words.
        access.set(&model, role.parse().unwrap_or(Role::Admin));
    }
    Ok(access)
}

/// Writes down who may use a model.
///
/// # Errors
/// The database's.
pub(super) async fn set_access(
    write: &mut Write,
    model: &str,
    least: Role,
) -> Result<(), sqlx::Error> {
    let statement = match least {
        Role::Viewer => sqlx::query("delete from model_access where model = ?").bind(model),
        Role::Member | Role::Admin => sqlx::query(
            "insert into model_access (model, role) values (?1, ?2)
             on conflict (model) do update set role = excluded.role",
        )
        .bind(model)
        .bind(least.as_str()),
    };
    statement.execute(&mut **write).await?;
    Ok(())
}
