//! The SQL of what administrators do to people, and of the choices that concern people.

use super::super::store::role;
use crate::db::{Db, Write};
use atelier_app::account::{Role, UserId};
use sqlx::Error;

/// Whether people may ask for an account: `approval` or `off`.
pub const SELF_SIGN_UP: &str = "self_sign_up";

/// Whether administrators may look into others' images: `allowed` or `forbidden`.
pub const LOOKS: &str = "looks_into_images";

/// A choice as it stands.
pub async fn setting(db: &Db, name: &str) -> Result<Option<String>, Error> {
    sqlx::query_scalar("select value from setting where name = ?")
        .bind(name)
        .fetch_optional(db.read())
        .await
}

/// Writes a choice down.
pub async fn set_setting(
    write: &mut Write,
    name: &str,
    value: &str,
    now: i64,
) -> Result<(), Error> {
    sqlx::query(
        "insert into setting (name, value, changed_at) values (?1, ?2, ?3)
         on conflict (name) do update set value = excluded.value, changed_at = excluded.changed_at",
    )
    .bind(name)
    .bind(value)
    .bind(now)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// What a change of a user came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Done; the name of the user, what was before, and what ended with it.
    Done {
        /// Their name.
        name: String,
        /// Their role before.
        role: Role,
        /// Whether their sign-in was closed before.
        was_disabled: bool,
        /// The notes of their invitations that were open and are revoked now.
        revoked: Vec<String>,
    },
    /// Nobody could administrate afterwards.
    LastAdmin,
    /// There is no such user.
    Missing,
}

/// A user as the change finds them, and whether any other administrator can sign in.
async fn before(
    write: &mut Write,
    id: UserId,
) -> Result<Option<(String, Role, bool, bool)>, Error> {
    let row: Option<(String, String, bool, bool)> = sqlx::query_as(
        "select name, role, disabled_at is not null,
                exists (select 1 from user o where o.role = 'admin' and o.disabled_at is null and o.id <> user.id)
         from user where id = ? and waiting_since is null",
    )
    .bind(id.0)
    .fetch_optional(&mut **write)
    .await?;
    row.map(|(name, word, disabled, others)| Ok((name, role(&word)?, disabled, others)))
        .transpose()
}

/// Ends the open invitations of somebody who administrates no longer: a link that makes
/// administrators would let them back in. Answers the notes of those that were open.
async fn revoke_made_by(write: &mut Write, id: UserId, now: i64) -> Result<Vec<String>, Error> {
    let ended: Vec<(String, bool)> = sqlx::query_as(
        "update invitation set revoked_at = ?2 where made_by = ?1 and revoked_at is null
         returning note, expires_at > ?2 and uses < max_uses",
    )
    .bind(id.0)
    .bind(now)
    .fetch_all(&mut **write)
    .await?;
    let open = ended.into_iter().filter(|(_, was_open)| *was_open);
    Ok(open.map(|(note, _)| note).collect())
}

/// Gives a user another role; their sessions end, so that nothing open was opened under the old one.
/// The invitations of a former administrator end, too.
pub async fn set_role(
    write: &mut Write,
    id: UserId,
    new: Role,
    now: i64,
) -> Result<Changed, Error> {
    let Some((name, role, was_disabled, others)) = before(write, id).await? else {
        return Ok(Changed::Missing);
    };
    if role == Role::Admin && new != Role::Admin && !was_disabled && !others {
        return Ok(Changed::LastAdmin);
    }
    let mut revoked = Vec::new();
    if role != new {
        sqlx::query("update user set role = ? where id = ?")
            .bind(new.as_str())
            .bind(id.0)
            .execute(&mut **write)
            .await?;
        super::super::store::delete_sessions(write, id).await?;
        if new != Role::Admin {
            revoked = revoke_made_by(write, id, now).await?;
        }
    }
    Ok(Changed::Done {
        name,
        role,
        was_disabled,
        revoked,
    })
}

/// Closes sign-in, sessions, tokens and invitations of a user at once.
pub async fn disable(write: &mut Write, id: UserId, now: i64) -> Result<Changed, Error> {
    let Some((name, role, was_disabled, others)) = before(write, id).await? else {
        return Ok(Changed::Missing);
    };
    if role == Role::Admin && !was_disabled && !others {
        return Ok(Changed::LastAdmin);
    }
    sqlx::query("update user set disabled_at = coalesce(disabled_at, ?) where id = ?")
        .bind(now)
        .bind(id.0)
        .execute(&mut **write)
        .await?;
    super::super::store::delete_sessions(write, id).await?;
    // Opening sign-in again must not bring old keys back.
    sqlx::query("update api_token set revoked_at = ? where user_id = ? and revoked_at is null")
        .bind(now)
        .bind(id.0)
        .execute(&mut **write)
        .await?;
    let revoked = revoke_made_by(write, id, now).await?;
    Ok(Changed::Done {
        name,
        role,
        was_disabled,
        revoked,
    })
}

/// Opens sign-in of a user.
pub async fn enable(write: &mut Write, id: UserId) -> Result<Changed, Error> {
    let Some((name, role, was_disabled, _)) = before(write, id).await? else {
        return Ok(Changed::Missing);
    };
    sqlx::query("update user set disabled_at = null where id = ?")
        .bind(id.0)
        .execute(&mut **write)
        .await?;
    Ok(Changed::Done {
        name,
        role,
        was_disabled,
        revoked: Vec::new(),
    })
}

/// Live sessions and tokens of a user: (sessions, tokens).
pub async fn keys(db: &Db, id: UserId, now: i64) -> Result<(u32, u32), Error> {
    sqlx::query_as(
        "select (select count(*) from session where user_id = ?1 and expires_at > ?2 and last_seen_at > ?3),
                (select count(*) from api_token where user_id = ?1 and revoked_at is null
                     and (expires_at is null or expires_at > ?2))",
    )
    .bind(id.0)
    .bind(now)
    .bind(now - super::super::session::IDLE_MS)
    .fetch_one(db.read())
    .await
}
