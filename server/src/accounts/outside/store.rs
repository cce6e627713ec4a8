//! The SQL of who people are at providers.

use crate::db::{Db, Write};
use atelier_app::account::UserId;
use sqlx::Error;

/// Who it is here, and whether their sign-in is closed.
pub async fn find(db: &Db, issuer: &str, subject: &str) -> Result<Option<(UserId, bool)>, Error> {
    let row: Option<(i64, bool)> = sqlx::query_as(
        "select u.id, u.disabled_at is not null from outside_identity o join user u on u.id = o.user_id
         where o.issuer = ? and o.subject = ?",
    )
    .bind(issuer)
    .bind(subject)
    .fetch_optional(db.read())
    .await?;
    Ok(row.map(|(id, closed)| (UserId(id), closed)))
}

/// Fails with a unique violation when somebody is known by it already.
pub async fn insert(
    write: &mut Write,
    issuer: &str,
    subject: &str,
    user: UserId,
    now: i64,
) -> Result<(), Error> {
    sqlx::query(
        "insert into outside_identity (issuer, subject, user_id, created_at) values (?, ?, ?, ?)",
    )
    .bind(issuer)
    .bind(subject)
    .bind(user.0)
    .bind(now)
    .execute(&mut **write)
    .await?;
    Ok(())
}

pub async fn count(db: &Db, user: UserId) -> Result<u32, Error> {
    sqlx::query_scalar("select count(*) from outside_identity where user_id = ?")
        .bind(user.0)
        .fetch_one(db.read())
        .await
}

pub async fn delete(db: &Db, user: UserId) -> Result<(), Error> {
    let mut write = db.write().await?;
    sqlx::query("delete from outside_identity where user_id = ?")
        .bind(user.0)
        .execute(&mut *write)
        .await?;
    write.commit().await
}
