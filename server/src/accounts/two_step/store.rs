//! The SQL of the second step.

use super::super::session::SecretHash;
use crate::db::{Db, Write};
use atelier_app::account::{TwoStepState, UserId};
use sqlx::Error;

/// A user's secret as stored.
pub struct Stored {
    pub secret: Vec<u8>,
    pub confirmed: bool,
}

fn secret(hex_text: &str) -> Result<Vec<u8>, Error> {
    hex::decode(hex_text).map_err(|error| Error::Decode(error.into()))
}

pub async fn state(db: &Db, user: UserId) -> Result<TwoStepState, Error> {
    let row: Option<(Option<i64>, u32)> = sqlx::query_as(
        "select confirmed_at,
                (select count(*) from recovery_code c where c.user_id = t.user_id and used_at is null)
         from two_step t where user_id = ?",
    )
    .bind(user.0)
    .fetch_optional(db.read())
    .await?;
    Ok(
        row.map_or_else(TwoStepState::default, |(on_since, left)| TwoStepState {
            recovery_codes_left: if on_since.is_some() { left } else { 0 },
            on_since,
        }),
    )
}

pub async fn find(db: &Db, user: UserId) -> Result<Option<Stored>, Error> {
    let row: Option<(String, bool)> =
        sqlx::query_as("select secret, confirmed_at is not null from two_step where user_id = ?")
            .bind(user.0)
            .fetch_optional(db.read())
            .await?;
    row.map(|(text, confirmed)| {
        Ok(Stored {
            secret: secret(&text)?,
            confirmed,
        })
    })
    .transpose()
}

/// Keeps a secret to be confirmed. `false` when the second step is on already.
pub async fn begin(write: &mut Write, user: UserId, secret: &[u8]) -> Result<bool, Error> {
    let done = sqlx::query(
        "insert into two_step (user_id, secret) values (?, ?)
         on conflict (user_id) do update set secret = excluded.secret, last_step = 0
             where confirmed_at is null",
    )
    .bind(user.0)
    .bind(hex::encode(secret))
    .execute(&mut **write)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Switches the second step on. `false` when it was on, or its secret is another by now.
pub async fn confirm(
    write: &mut Write,
    user: UserId,
    secret: &[u8],
    step: i64,
    now: i64,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "update two_step set confirmed_at = ?, last_step = ?
         where user_id = ? and secret = ? and confirmed_at is null",
    )
    .bind(now)
    .bind(step)
    .bind(user.0)
    .bind(hex::encode(secret))
    .execute(&mut **write)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes the code of a step. `false` when it, or a later one, was taken before: no code works twice.
pub async fn take_step(write: &mut Write, user: UserId, step: i64) -> Result<bool, Error> {
    let done = sqlx::query(
        "update two_step set last_step = ?1
         where user_id = ?2 and last_step < ?1 and confirmed_at is not null",
    )
    .bind(step)
    .bind(user.0)
    .execute(&mut **write)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes a recovery code. `false` when there is none such, or it was used.
pub async fn take_recovery_code(
    write: &mut Write,
    user: UserId,
    hash: &SecretHash,
    now: i64,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "update recovery_code set used_at = ? where code_hash = ? and user_id = ? and used_at is null",
    )
    .bind(now)
    .bind(&hash.0)
    .bind(user.0)
    .execute(&mut **write)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Puts new recovery codes in the place of the old ones.
pub async fn replace_recovery_codes(
    write: &mut Write,
    user: UserId,
    hashes: &[SecretHash],
) -> Result<(), Error> {
    sqlx::query("delete from recovery_code where user_id = ?")
        .bind(user.0)
        .execute(&mut **write)
        .await?;
    for hash in hashes {
        sqlx::query("insert into recovery_code (code_hash, user_id) values (?, ?)")
            .bind(&hash.0)
            .bind(user.0)
            .execute(&mut **write)
            .await?;
    }
    Ok(())
}

/// Switches the second step off. `false` when it was not on.
pub async fn end(write: &mut Write, user: UserId) -> Result<bool, Error> {
    for sql in [
        "delete from recovery_code where user_id = ?",
        "delete from sign_in_step where user_id = ?",
    ] {
        sqlx::query(sql).bind(user.0).execute(&mut **write).await?;
    }
    let was_on: Option<bool> = sqlx::query_scalar(
        "delete from two_step where user_id = ? returning confirmed_at is not null",
    )
    .bind(user.0)
    .fetch_optional(&mut **write)
    .await?;
    Ok(was_on.unwrap_or(false))
}

/// Notes that somebody gave the right password and owes the code.
pub async fn insert_sign_in(
    write: &mut Write,
    hash: &SecretHash,
    user: UserId,
    expires_at: i64,
    now: i64,
) -> Result<(), Error> {
    sqlx::query("delete from sign_in_step where expires_at <= ?")
        .bind(now)
        .execute(&mut **write)
        .await?;
    sqlx::query("insert into sign_in_step (id_hash, user_id, expires_at) values (?, ?, ?)")
        .bind(&hash.0)
        .bind(user.0)
        .bind(expires_at)
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Who owes a code: their id and name.
pub async fn find_sign_in(
    db: &Db,
    hash: &SecretHash,
    now: i64,
) -> Result<Option<(UserId, String)>, Error> {
    let row: Option<(i64, String)> = sqlx::query_as(
        "select u.id, u.name from sign_in_step s join user u on u.id = s.user_id
         where s.id_hash = ? and s.expires_at > ? and u.disabled_at is null",
    )
    .bind(&hash.0)
    .bind(now)
    .fetch_optional(db.read())
    .await?;
    Ok(row.map(|(id, name)| (UserId(id), name)))
}

/// Ends it. `false` when another request was quicker.
pub async fn take_sign_in(write: &mut Write, hash: &SecretHash) -> Result<bool, Error> {
    let done = sqlx::query("delete from sign_in_step where id_hash = ?")
        .bind(&hash.0)
        .execute(&mut **write)
        .await?;
    Ok(done.rows_affected() == 1)
}
