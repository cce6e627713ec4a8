//! The SQL of invitations and of people who wait to be let in.

use super::super::session::SecretHash;
use super::super::store::role;
use crate::db::{Db, Write};
use atelier_app::account::{InvitationOffer, Role, UserId};
use atelier_app::admin::{InvitationRow, SignUpRow};
use sqlx::Error;

/// What a new invitation holds besides its time.
pub struct NewRow<'a> {
    pub hash: &'a SecretHash,
    pub role: Role,
    pub note: &'a str,
    pub made_by: Option<UserId>,
    pub expires_at: i64,
    pub max_uses: u32,
}

/// What became of a new invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    Done,
    /// As many as there may be are open already.
    TooMany,
    /// Whoever makes it administrates no longer.
    NotAllowed,
}

/// Makes an invitation, unless `most` are open. Whether its maker may is asked in the statement
/// itself: their role may have gone since the request came in. Without a maker it is the command
/// line, which may.
pub async fn insert(
    write: &mut Write,
    new: &NewRow<'_>,
    most: i64,
    now: i64,
) -> Result<Inserted, Error> {
    let done = sqlx::query(
        "insert into invitation (secret_hash, role, note, made_by, created_at, expires_at, max_uses)
         select ?1, ?2, ?3, ?4, ?5, ?6, ?7
         where (select count(*) from invitation
                where revoked_at is null and expires_at > ?5 and uses < max_uses) < ?8
           and (?4 is null or exists (select 1 from user
                where id = ?4 and role = 'admin' and disabled_at is null))",
    )
    .bind(&new.hash.0)
    .bind(new.role.as_str())
    .bind(new.note)
    .bind(new.made_by.map(|id| id.0))
    .bind(now)
    .bind(new.expires_at)
    .bind(new.max_uses)
    .bind(most)
    .execute(&mut **write)
    .await?;
    if done.rows_affected() == 1 {
        return Ok(Inserted::Done);
    }
    // Only to say the right words; the statement above has decided.
    let may: bool = sqlx::query_scalar(
        "select ?1 is null or exists (select 1 from user
             where id = ?1 and role = 'admin' and disabled_at is null)",
    )
    .bind(new.made_by.map(|id| id.0))
    .fetch_one(&mut **write)
    .await?;
    Ok(if may {
        Inserted::TooMany
    } else {
        Inserted::NotAllowed
    })
}

pub async fn list_open(db: &Db, now: i64) -> Result<Vec<InvitationRow>, Error> {
    type Row = (i64, String, String, Option<String>, i64, i64, u32, u32);
    let rows: Vec<Row> = sqlx::query_as(
        "select i.id, i.role, i.note, u.name, i.created_at, i.expires_at, i.uses, i.max_uses
         from invitation i left join user u on u.id = i.made_by
         where i.revoked_at is null and i.expires_at > ? and i.uses < i.max_uses order by i.id desc",
    )
    .bind(now)
    .fetch_all(db.read())
    .await?;
    rows.into_iter()
        .map(
            |(id, word, note, made_by, created_at, expires_at, uses, max_uses)| {
                Ok(InvitationRow {
                    id,
                    role: role(&word)?,
                    note,
                    made_by,
                    created_at,
                    expires_at,
                    uses,
                    max_uses,
                })
            },
        )
        .collect()
}

/// Answers the note of the one that was revoked.
pub async fn revoke(write: &mut Write, id: i64, now: i64) -> Result<Option<String>, Error> {
    sqlx::query_scalar(
        "update invitation set revoked_at = ?2
         where id = ?1 and revoked_at is null and expires_at > ?2 and uses < max_uses returning note",
    )
    .bind(id)
    .bind(now)
    .fetch_optional(&mut **write)
    .await
}

pub async fn offer(db: &Db, hash: &SecretHash, now: i64) -> Result<Option<InvitationOffer>, Error> {
    let row: Option<(String, i64, Option<String>)> = sqlx::query_as(
        "select i.role, i.expires_at, u.name from invitation i left join user u on u.id = i.made_by
         where i.secret_hash = ? and i.revoked_at is null and i.expires_at > ? and i.uses < i.max_uses",
    )
    .bind(&hash.0)
    .bind(now)
    .fetch_optional(db.read())
    .await?;
    row.map(|(word, expires_at, made_by)| {
        Ok(InvitationOffer {
            role: role(&word)?,
            expires_at,
            made_by,
        })
    })
    .transpose()
}

/// Takes one use of an open invitation and answers the role that it gives.
pub async fn use_up(write: &mut Write, hash: &SecretHash, now: i64) -> Result<Option<Role>, Error> {
    let word: Option<String> = sqlx::query_scalar(
        "update invitation set uses = uses + 1
         where secret_hash = ? and revoked_at is null and expires_at > ? and uses < max_uses
         returning role",
    )
    .bind(&hash.0)
    .bind(now)
    .fetch_optional(&mut **write)
    .await?;
    word.map(|word| role(&word)).transpose()
}

pub async fn count_waiting(write: &mut Write) -> Result<i64, Error> {
    sqlx::query_scalar("select count(*) from user where waiting_since is not null")
        .fetch_one(&mut **write)
        .await
}

/// Forgets requests that are older.
pub async fn forget_waiting(write: &mut Write, since: i64) -> Result<(), Error> {
    sqlx::query("delete from user where waiting_since < ?")
        .bind(since)
        .execute(&mut **write)
        .await?;
    Ok(())
}

pub async fn make_wait(write: &mut Write, id: UserId, now: i64) -> Result<(), Error> {
    sqlx::query("update user set waiting_since = ?1, disabled_at = ?1 where id = ?2")
        .bind(now)
        .bind(id.0)
        .execute(&mut **write)
        .await?;
    Ok(())
}

pub async fn list_waiting(db: &Db) -> Result<Vec<SignUpRow>, Error> {
    let rows: Vec<(i64, String, i64)> = sqlx::query_as(
        "select id, name, waiting_since from user where waiting_since is not null
         order by waiting_since, id",
    )
    .fetch_all(db.read())
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, name, asked_at)| SignUpRow {
            id: UserId(id),
            name,
            asked_at,
        })
        .collect())
}

/// Answers the name of whoever was let in. The time is asked for besides the id, because the id of
/// somebody who was forgotten is given out again: an old page must not let another person in.
pub async fn admit(
    write: &mut Write,
    id: UserId,
    asked_at: i64,
    role: Role,
) -> Result<Option<String>, Error> {
    sqlx::query_scalar(
        "update user set waiting_since = null, disabled_at = null, role = ?
         where id = ? and waiting_since = ? returning name",
    )
    .bind(role.as_str())
    .bind(id.0)
    .bind(asked_at)
    .fetch_optional(&mut **write)
    .await
}

/// Answers the name of whoever was forgotten. They never were in, so they left nothing behind.
pub async fn refuse(write: &mut Write, id: UserId, asked_at: i64) -> Result<Option<String>, Error> {
    sqlx::query_scalar("delete from user where id = ? and waiting_since = ? returning name")
        .bind(id.0)
        .bind(asked_at)
        .fetch_optional(&mut **write)
        .await
}
