//! The SQL of links that set a password.

use super::super::session::SecretHash;
use crate::db::{Db, Write};
use atelier_app::account::UserId;
use sqlx::Error;

/// Answers the user's name, where there is one who may sign in.
pub async fn insert(
    write: &mut Write,
    id: UserId,
    hash: &SecretHash,
    now: i64,
    expires_at: i64,
) -> Result<Option<String>, Error> {
    let name: Option<String> =
        sqlx::query_scalar("select name from user where id = ? and disabled_at is null")
            .bind(id.0)
            .fetch_optional(&mut **write)
            .await?;
    if name.is_some() {
        sqlx::query(
            "insert into password_reset (user_id, secret_hash, created_at, expires_at) values (?, ?, ?, ?)
             on conflict (user_id) do update set secret_hash = excluded.secret_hash,
                 created_at = excluded.created_at, expires_at = excluded.expires_at",
        )
        .bind(id.0)
        .bind(&hash.0)
        .bind(now)
        .bind(expires_at)
        .execute(&mut **write)
        .await?;
    }
    Ok(name)
}

pub async fn find(db: &Db, hash: &SecretHash, now: i64) -> Result<Option<(UserId, String)>, Error> {
    let row: Option<(i64, String)> = sqlx::query_as(
        "select u.id, u.name from password_reset r join user u on u.id = r.user_id
         where r.secret_hash = ? and r.expires_at > ? and u.disabled_at is null",
    )
    .bind(&hash.0)
    .bind(now)
    .fetch_optional(db.read())
    .await?;
    Ok(row.map(|(id, name)| (UserId(id), name)))
}

/// Ends a link that is good and answers whose it was.
pub async fn take(
    write: &mut Write,
    hash: &SecretHash,
    now: i64,
) -> Result<Option<(UserId, String)>, Error> {
    let row: Option<(i64, String)> = sqlx::query_as(
        "delete from password_reset
         where secret_hash = ?1 and expires_at > ?2
           and user_id in (select id from user where disabled_at is null)
         returning user_id, (select name from user where id = user_id)",
    )
    .bind(&hash.0)
    .bind(now)
    .fetch_optional(&mut **write)
    .await?;
    Ok(row.map(|(id, name)| (UserId(id), name)))
}
