//! The SQL of users, sessions, tokens and wrong tries. No rule is here but the ones that only the
//! database can keep when two requests race.

use super::failures::{self, Count, FORGET_MS, Subjects};
use super::session::{IDLE_MS, SecretHash};
use super::tokens::parse_scopes;
use crate::db::{Db, Write};
use atelier_app::account::{Role, Scope, SessionSummary, TokenSummary, UserId, Viewer};
use atelier_app::admin::UserRow;
use sqlx::Error;

/// How often "last seen" is written at most, in milliseconds: each write is an fsync.
pub const TOUCH_MS: i64 = 5 * 60 * 1000;

/// A user as sign-in needs them. Not a wire type: it holds the password's hash.
pub struct StoredUser {
    pub viewer: Viewer,
    pub password_hash: String,
    pub is_disabled: bool,
    /// Asked for an account and was not let in yet; disabled too.
    pub is_waiting: bool,
}

/// How many days a session lasts, where administrators set it.
pub(super) async fn session_days(write: &mut Write) -> Result<Option<u32>, Error> {
    let days: Option<String> =
        sqlx::query_scalar("select value from setting where name = 'session_days'")
            .fetch_optional(&mut **write)
            .await?;
    Ok(days.and_then(|days| days.parse().ok()))
}

/// What a new session row holds besides its times.
pub struct NewSession<'a> {
    pub hash: &'a SecretHash,
    pub public_id: &'a str,
    pub address: &'a str,
    pub user_agent: &'a str,
    pub expires_at: i64,
}

/// A live session or token, and when it was last written down as used.
pub struct Found {
    pub viewer: Viewer,
    pub last_seen_at: Option<i64>,
}

pub(super) fn role(word: &str) -> Result<Role, Error> {
    word.parse()
        .map_err(|()| Error::Decode(format!("unknown role {word:?}").into()))
}

fn viewer(id: i64, name: String, word: &str) -> Result<Viewer, Error> {
    Ok(Viewer {
        id: UserId(id),
        name,
        role: role(word)?,
    })
}

// ---- users

/// Whether the server has an administrator, who may have closed their door: only a server without
/// any may be set up.
pub async fn has_admin(db: &Db) -> Result<bool, Error> {
    sqlx::query_scalar("select exists (select 1 from user where role = 'admin')")
        .fetch_one(db.read())
        .await
}

pub async fn user_by_name(db: &Db, name: &str) -> Result<Option<StoredUser>, Error> {
    let row: Option<(i64, String, String, String, bool, bool)> = sqlx::query_as(
        "select id, name, role, password_hash, disabled_at is not null, waiting_since is not null
         from user where name = ?",
    )
    .bind(name)
    .fetch_optional(db.read())
    .await?;
    row.map(|(id, name, role, password_hash, is_disabled, is_waiting)| {
        Ok(StoredUser {
            viewer: viewer(id, name, &role)?,
            password_hash,
            is_disabled,
            is_waiting,
        })
    })
    .transpose()
}

/// A user who may sign in.
pub async fn viewer_by_id(write: &mut Write, id: UserId) -> Result<Option<Viewer>, Error> {
    let row: Option<(String, String)> =
        sqlx::query_as("select name, role from user where id = ? and disabled_at is null")
            .bind(id.0)
            .fetch_optional(&mut **write)
            .await?;
    row.map(|(name, role)| viewer(id.0, name, &role))
        .transpose()
}

/// Makes the first administrator. `None` when somebody else was first; fails with a unique
/// violation when the name is taken, by a member who came before any administrator did.
pub async fn insert_first_admin(
    write: &mut Write,
    name: &str,
    password_hash: &str,
    now: i64,
) -> Result<Option<UserId>, Error> {
    sqlx::query_scalar(
        "insert into user (id, name, role, password_hash, created_at)
         select (select max(last, coalesce((select max(id) from user), 0)) + 1 from user_number),
                ?, 'admin', ?, ? where not exists (select 1 from user where role = 'admin')
         returning id",
    )
    .bind(name)
    .bind(password_hash)
    .bind(now)
    .fetch_optional(&mut **write)
    .await
    .map(|id| id.map(UserId))
}

/// Fails with a unique violation when the name is taken.
pub async fn insert_user(
    write: &mut Write,
    name: &str,
    role: Role,
    password_hash: &str,
    now: i64,
) -> Result<UserId, Error> {
    sqlx::query_scalar(
        "insert into user (id, name, role, password_hash, created_at)
         select max(last, coalesce((select max(id) from user), 0)) + 1, ?, ?, ?, ? from user_number
         returning id",
    )
    .bind(name)
    .bind(role.as_str())
    .bind(password_hash)
    .bind(now)
    .fetch_one(&mut **write)
    .await
    .map(UserId)
}

/// Fails with a unique violation when the name is taken.
pub async fn set_name(write: &mut Write, id: UserId, name: &str) -> Result<(), Error> {
    sqlx::query("update user set name = ? where id = ?")
        .bind(name)
        .bind(id.0)
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Sets a password; an open link that would set another ends.
pub async fn set_password_hash(write: &mut Write, id: UserId, hash: &str) -> Result<bool, Error> {
    sqlx::query("delete from password_reset where user_id = ?")
        .bind(id.0)
        .execute(&mut **write)
        .await?;
    let done = sqlx::query("update user set password_hash = ? where id = ?")
        .bind(hash)
        .bind(id.0)
        .execute(&mut **write)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Replaces a hash by a stronger one of the same password, unless the password changed meanwhile.
pub async fn renew_password_hash(db: &Db, id: UserId, old: &str, new: &str) -> Result<(), Error> {
    let mut write = db.write().await?;
    sqlx::query("update user set password_hash = ? where id = ? and password_hash = ?")
        .bind(new)
        .bind(id.0)
        .bind(old)
        .execute(&mut *write)
        .await?;
    write.commit().await
}

/// Everybody, by name, with how much they keep.
pub async fn list_users(db: &Db) -> Result<Vec<UserRow>, Error> {
    type Row = (i64, String, String, i64, Option<i64>, Option<i64>, i64, i64);
    let rows: Vec<Row> = sqlx::query_as(
        "select user.id, user.name, user.role, user.created_at, user.last_seen_at, user.disabled_at,
                count(image.id), coalesce(sum(image.bytes), 0)
         from user left join image on image.user_id = user.id
         where user.waiting_since is null group by user.id order by user.name",
    )
    .fetch_all(db.read())
    .await?;
    rows.into_iter()
        .map(
            |(id, name, word, created_at, last_seen_at, disabled_at, images, bytes)| {
                Ok(UserRow {
                    id: UserId(id),
                    name,
                    role: role(&word)?,
                    created_at,
                    last_seen_at,
                    images: u64::try_from(images).unwrap_or(0),
                    bytes: u64::try_from(bytes).unwrap_or(0),
                    disabled: disabled_at.is_some(),
                })
            },
        )
        .collect()
}

// ---- sessions

/// Opens a session of a user who may sign in. `false` when they were disabled meanwhile.
pub async fn insert_session(
    write: &mut Write,
    user: UserId,
    new: &NewSession<'_>,
    now: i64,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "insert into session (id_hash, public_id, user_id, created_at, last_seen_at, expires_at, address, user_agent)
         select ?, ?, id, ?, ?, ?, ?, ? from user where id = ? and disabled_at is null",
    )
    .bind(&new.hash.0)
    .bind(new.public_id)
    .bind(now)
    .bind(now)
    .bind(new.expires_at)
    .bind(new.address)
    .bind(new.user_agent)
    .bind(user.0)
    .execute(&mut **write)
    .await?;
    sqlx::query("update user set last_seen_at = ? where id = ?")
        .bind(now)
        .bind(user.0)
        .execute(&mut **write)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn session(db: &Db, hash: &SecretHash, now: i64) -> Result<Option<Found>, Error> {
    let row: Option<(i64, String, String, i64)> = sqlx::query_as(
        "select user.id, user.name, user.role, session.last_seen_at
         from session join user on user.id = session.user_id
         where session.id_hash = ? and session.expires_at > ? and session.last_seen_at > ?
           and user.disabled_at is null",
    )
    .bind(&hash.0)
    .bind(now)
    .bind(now - IDLE_MS)
    .fetch_optional(db.read())
    .await?;
    row.map(|(id, name, role, last_seen_at)| {
        Ok(Found {
            viewer: viewer(id, name, &role)?,
            last_seen_at: Some(last_seen_at),
        })
    })
    .transpose()
}

/// Writes down that a session was used. An update, never an upsert: it must not bring back a
/// session that was signed out meanwhile.
pub async fn touch_session(
    db: &Db,
    hash: &SecretHash,
    user: UserId,
    now: i64,
) -> Result<(), Error> {
    let mut write = db.write().await?;
    sqlx::query("update session set last_seen_at = ? where id_hash = ?")
        .bind(now)
        .bind(&hash.0)
        .execute(&mut *write)
        .await?;
    sqlx::query("update user set last_seen_at = ? where id = ?")
        .bind(now)
        .bind(user.0)
        .execute(&mut *write)
        .await?;
    write.commit().await
}

pub async fn delete_session(write: &mut Write, hash: &SecretHash) -> Result<(), Error> {
    sqlx::query("delete from session where id_hash = ?")
        .bind(&hash.0)
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Ends every session of a user, and every sign-in that stopped half-way: the password that was given
/// for it may be an old one.
pub async fn delete_sessions(write: &mut Write, user: UserId) -> Result<(), Error> {
    for sql in [
        "delete from session where user_id = ?",
        "delete from sign_in_step where user_id = ?",
    ] {
        sqlx::query(sql).bind(user.0).execute(&mut **write).await?;
    }
    Ok(())
}

/// Ends the sessions of a user but one.
pub async fn delete_other_sessions(
    db: &Db,
    user: UserId,
    current: Option<&SecretHash>,
) -> Result<(), Error> {
    let mut write = db.write().await?;
    sqlx::query("delete from session where user_id = ? and id_hash is not ?")
        .bind(user.0)
        .bind(current.map(|hash| hash.0.as_str()))
        .execute(&mut *write)
        .await?;
    write.commit().await
}

/// `false` when the user has no such session.
pub async fn delete_session_by_public_id(db: &Db, user: UserId, id: &str) -> Result<bool, Error> {
    let mut write = db.write().await?;
    let done = sqlx::query("delete from session where public_id = ? and user_id = ?")
        .bind(id)
        .bind(user.0)
        .execute(&mut *write)
        .await?;
    write.commit().await?;
    Ok(done.rows_affected() == 1)
}

/// The live sessions of a user, newest first; `current` is the hash of the one that asks.
pub async fn list_sessions(
    db: &Db,
    user: UserId,
    current: Option<&SecretHash>,
    now: i64,
) -> Result<Vec<SessionSummary>, Error> {
    let rows: Vec<(String, String, i64, i64, String, String)> = sqlx::query_as(
        "select id_hash, public_id, created_at, last_seen_at, address, user_agent from session
         where user_id = ? and expires_at > ? and last_seen_at > ?
         order by created_at desc, public_id",
    )
    .bind(user.0)
    .bind(now)
    .bind(now - IDLE_MS)
    .fetch_all(db.read())
    .await?;
    Ok(rows
        .into_iter()
        .map(
            |(hash, id, created_at, last_seen_at, address, user_agent)| SessionSummary {
                current: current.is_some_and(|current| current.0 == hash),
                id,
                created_at,
                last_seen_at,
                address,
                user_agent,
            },
        )
        .collect())
}

/// Throws away what nobody can use any more.
pub async fn sweep(write: &mut Write, now: i64) -> Result<(), Error> {
    sqlx::query("delete from session where expires_at <= ? or last_seen_at <= ?")
        .bind(now)
        .bind(now - IDLE_MS)
        .execute(&mut **write)
        .await?;
    sqlx::query("delete from sign_in_failure where last_at <= ?")
        .bind(now - FORGET_MS)
        .execute(&mut **write)
        .await?;
    Ok(())
}

// ---- tokens

/// What a new token row holds.
pub struct NewTokenRow<'a> {
    pub name: &'a str,
    pub prefix: &'a str,
    pub hash: &'a SecretHash,
    pub scopes: &'a str,
    pub expires_at: Option<i64>,
}

/// Makes a token, unless the user has `most` live ones: then `None`.
pub async fn insert_token(
    db: &Db,
    user: UserId,
    new: &NewTokenRow<'_>,
    most: i64,
    now: i64,
) -> Result<Option<i64>, Error> {
    let mut write = db.write().await?;
    let id = sqlx::query_scalar(
        "insert into api_token (user_id, name, prefix, secret_hash, scopes, created_at, expires_at)
         select ?, ?, ?, ?, ?, ?, ?
         where (select count(*) from api_token
                where user_id = ? and revoked_at is null and (expires_at is null or expires_at > ?)) < ?
         returning id",
    )
    .bind(user.0)
    .bind(new.name)
    .bind(new.prefix)
    .bind(&new.hash.0)
    .bind(new.scopes)
    .bind(now)
    .bind(new.expires_at)
    .bind(user.0)
    .bind(now)
    .bind(most)
    .fetch_optional(&mut *write)
    .await?;
    write.commit().await?;
    Ok(id)
}

pub async fn token(
    db: &Db,
    hash: &SecretHash,
    now: i64,
) -> Result<Option<(Found, Vec<Scope>)>, Error> {
    let row: Option<(i64, String, String, Option<i64>, String)> = sqlx::query_as(
        "select user.id, user.name, user.role, api_token.last_used_at, api_token.scopes
         from api_token join user on user.id = api_token.user_id
         where api_token.secret_hash = ? and api_token.revoked_at is null
           and (api_token.expires_at is null or api_token.expires_at > ?)
           and user.disabled_at is null",
    )
    .bind(&hash.0)
    .bind(now)
    .fetch_optional(db.read())
    .await?;
    row.map(|(id, name, role, last_seen_at, scopes)| {
        let found = Found {
            viewer: viewer(id, name, &role)?,
            last_seen_at,
        };
        Ok((found, parse_scopes(&scopes)))
    })
    .transpose()
}

pub async fn touch_token(db: &Db, hash: &SecretHash, user: UserId, now: i64) -> Result<(), Error> {
    let mut write = db.write().await?;
    sqlx::query("update api_token set last_used_at = ? where secret_hash = ?")
        .bind(now)
        .bind(&hash.0)
        .execute(&mut *write)
        .await?;
    sqlx::query("update user set last_seen_at = ? where id = ?")
        .bind(now)
        .bind(user.0)
        .execute(&mut *write)
        .await?;
    write.commit().await
}

/// The tokens of a user that are not revoked, newest first.
pub async fn list_tokens(db: &Db, user: UserId) -> Result<Vec<TokenSummary>, Error> {
    type Row = (i64, String, String, String, i64, Option<i64>, Option<i64>);
    let rows: Vec<Row> = sqlx::query_as(
        "select id, name, prefix, scopes, created_at, expires_at, last_used_at from api_token
         where user_id = ? and revoked_at is null order by id desc",
    )
    .bind(user.0)
    .fetch_all(db.read())
    .await?;
    Ok(rows
        .into_iter()
        .map(
            |(id, name, prefix, scopes, created_at, expires_at, last_used_at)| TokenSummary {
                id,
                name,
                prefix,
                scopes: parse_scopes(&scopes),
                created_at,
                expires_at,
                last_used_at,
            },
        )
        .collect())
}

/// `false` when the user has no such token that is not revoked yet.
pub async fn revoke_token(db: &Db, user: UserId, id: i64, now: i64) -> Result<bool, Error> {
    let mut write = db.write().await?;
    let done = sqlx::query(
        "update api_token set revoked_at = ? where id = ? and user_id = ? and revoked_at is null",
    )
    .bind(now)
    .bind(id)
    .bind(user.0)
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok(done.rows_affected() == 1)
}

// ---- wrong tries

/// Counts a try before it is made. `Err(wait)` when it may not be made yet, which counts nothing.
pub async fn reserve_try(
    db: &Db,
    subjects: &Subjects,
    name: Option<&str>,
    address: &str,
    now: i64,
) -> Result<Result<(), i64>, Error> {
    let mut write = db.write().await?;
    let of_name = count(&mut write, &subjects.name, now).await?;
    let at_address = count(&mut write, &subjects.at_address, now).await?;
    let is_known_address: bool = sqlx::query_scalar(
        "select exists (select 1 from session join user on user.id = session.user_id
                        where user.name = ? and session.address = ?)",
    )
    .bind(name)
    .bind(address)
    .fetch_one(&mut *write)
    .await?;
    let wait = failures::wait_ms(of_name, at_address, is_known_address, now);
    if wait > 0 {
        return Ok(Err(wait));
    }
    for (subject, count) in [
        (&subjects.name, of_name),
        (&subjects.at_address, at_address),
    ] {
        sqlx::query(
            "insert into sign_in_failure (subject, failures, last_at) values (?, ?, ?)
             on conflict (subject) do update set failures = excluded.failures, last_at = excluded.last_at",
        )
        .bind(subject)
        .bind(count.failures.saturating_add(1))
        .bind(now)
        .execute(&mut *write)
        .await?;
    }
    write.commit().await?;
    Ok(Ok(()))
}

async fn count(write: &mut Write, subject: &str, now: i64) -> Result<Count, Error> {
    let row: Option<(i64, i64)> = sqlx::query_as(
        "select failures, last_at from sign_in_failure where subject = ? and last_at > ?",
    )
    .bind(subject)
    .bind(now - FORGET_MS)
    .fetch_optional(&mut **write)
    .await?;
    Ok(
        row.map_or_else(Count::default, |(failures, last_at)| Count {
            failures,
            last_at,
        }),
    )
}

/// Takes the counters away after a right try.
pub async fn forgive(write: &mut Write, subjects: &Subjects) -> Result<(), Error> {
    for subject in [&subjects.name, &subjects.at_address] {
        sqlx::query("delete from sign_in_failure where subject = ?")
            .bind(subject)
            .execute(&mut **write)
            .await?;
    }
    Ok(())
}
