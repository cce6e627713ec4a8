//! The SQL of the audit log: rows are added and read, never changed.

use super::Actor;
use crate::db::{Db, Write};
use atelier_app::account::UserId;
use atelier_app::admin::{AuditFilter, AuditRow};
use sqlx::Error;

/// Adds an act in the transaction that does it.
///
/// # Errors
/// The database's.
pub async fn insert(
    write: &mut Write,
    actor: &Actor,
    act: &'static str,
    subject: &str,
    detail: &str,
    now: i64,
) -> Result<(), Error> {
    sqlx::query(
        "insert into audit (at, actor_id, actor, act, subject, detail) values (?, ?, ?, ?, ?, ?)",
    )
    .bind(now)
    .bind(actor.id.map(|id| id.0))
    .bind(&actor.name)
    .bind(act)
    .bind(subject)
    .bind(detail)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Rows that pass the filter, newest first.
pub(super) async fn page(
    db: &Db,
    filter: &AuditFilter,
    limit: u32,
) -> Result<Vec<AuditRow>, Error> {
    type Row = (i64, i64, String, String, String, String);
    // `instr`, not `like`: whoever looks for 100% means the sign.
    let rows: Vec<Row> = sqlx::query_as(
        "select id, at, actor, act, subject, detail from audit
         where (?1 is null or id < ?1)
           and (?2 = '' or actor = ?2)
           and (?3 = '' or act = ?3 or act like ?3 || '.%')
           and (?4 = '' or instr(lower(subject), lower(?4)) or instr(lower(detail), lower(?4)))
         order by id desc limit ?5",
    )
    .bind(filter.before)
    .bind(&filter.actor)
    .bind(&filter.act)
    .bind(&filter.text)
    .bind(limit)
    .fetch_all(db.read())
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, at, actor, act, subject, detail)| AuditRow {
            id,
            at,
            actor,
            act,
            subject,
            detail,
        })
        .collect())
}

/// Who did something to others, whoever acted last first. Everybody joins once: that alone makes
/// nobody one to look for.
pub(super) async fn actors(db: &Db) -> Result<Vec<String>, Error> {
    sqlx::query_scalar(
        "select actor from audit where act <> 'user.join'
         group by actor order by max(id) desc limit 200",
    )
    .fetch_all(db.read())
    .await
}

/// Whether somebody did this to this subject since then.
pub(super) async fn has_since(
    db: &Db,
    actor: UserId,
    act: &str,
    subject: &str,
    since: i64,
) -> Result<bool, Error> {
    sqlx::query_scalar(
        "select exists (select 1 from audit
                        where actor_id = ? and act = ? and subject = ? and at >= ?)",
    )
    .bind(actor.0)
    .bind(act)
    .bind(subject)
    .bind(since)
    .fetch_one(db.read())
    .await
}
