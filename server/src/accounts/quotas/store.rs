//! The SQL of quotas. What is used is counted where jobs end (`crate::usage`).

use super::{Calendar, SETTING};
use crate::db::{Db, Write};
use atelier_app::account::{QuotaLimits, QuotaReport, Used, UserId};
use sqlx::{Error, SqliteConnection};

fn parse(text: &str) -> Result<QuotaLimits, Error> {
    serde_json::from_str(text).map_err(|error| Error::Decode(error.into()))
}

/// Limits and use of a user; what waits and runs is used already.
pub async fn report(
    connection: &mut SqliteConnection,
    user: UserId,
    calendar: Calendar,
) -> Result<QuotaReport, Error> {
    let own = own(connection, user).await?;
    let limits = match own {
        Some(limits) => limits,
        None => everybodys(connection).await?,
    };
    let (open_images, open_seconds): (u32, f64) = sqlx::query_as(
        "select count(*), coalesce(sum(cost), 0.0) from job
         where user_id = ? and state in ('queued', 'running')",
    )
    .bind(user.0)
    .fetch_one(&mut *connection)
    .await?;
    let mut used = [Used::default(); 2];
    for (used, since) in used.iter_mut().zip([calendar.day, calendar.month_start]) {
        let (seconds, images): (f64, u32) = sqlx::query_as(
            "select coalesce(sum(device_seconds), 0.0), coalesce(sum(images), 0) from usage
             where user_id = ? and day between ? and ?",
        )
        .bind(user.0)
        .bind(since)
        .bind(calendar.day)
        .fetch_one(&mut *connection)
        .await?;
        *used = Used {
            seconds: seconds + open_seconds,
            images: images.saturating_add(open_images),
        };
    }
    Ok(QuotaReport {
        limits,
        is_own: own.is_some(),
        day: used[0],
        month: used[1],
        day_ends_at: calendar.day_ends_at,
        month_ends_at: calendar.month_ends_at,
    })
}

/// The limits of whoever has none of their own.
pub async fn everybodys(connection: &mut SqliteConnection) -> Result<QuotaLimits, Error> {
    let text: Option<String> = sqlx::query_scalar("select value from setting where name = ?")
        .bind(SETTING)
        .fetch_optional(connection)
        .await?;
    Ok(text.as_deref().map(parse).transpose()?.unwrap_or_default())
}

async fn own(
    connection: &mut SqliteConnection,
    user: UserId,
) -> Result<Option<QuotaLimits>, Error> {
    let text: Option<String> = sqlx::query_scalar("select limits from quota where user_id = ?")
        .bind(user.0)
        .fetch_optional(connection)
        .await?;
    text.as_deref().map(parse).transpose()
}

async fn name_of(write: &mut Write, user: UserId) -> Result<Option<String>, Error> {
    sqlx::query_scalar("select name from user where id = ? and waiting_since is null")
        .bind(user.0)
        .fetch_optional(&mut **write)
        .await
}

/// Answers the user's name, where there is one, and the limits of their own before.
pub async fn set_own(
    write: &mut Write,
    user: UserId,
    limits: Option<&QuotaLimits>,
) -> Result<Option<(String, Option<QuotaLimits>)>, Error> {
    let Some(name) = name_of(write, user).await? else {
        return Ok(None);
    };
    let before = own(write, user).await?;
    match limits {
        Some(limits) => {
            let text =
                serde_json::to_string(limits).map_err(|error| Error::Encode(error.into()))?;
            sqlx::query(
                "insert into quota (user_id, limits) values (?, ?)
                 on conflict (user_id) do update set limits = excluded.limits",
            )
            .bind(user.0)
            .bind(text)
            .execute(&mut **write)
            .await?;
        }
        None => {
            sqlx::query("delete from quota where user_id = ?")
                .bind(user.0)
                .execute(&mut **write)
                .await?;
        }
    }
    Ok(Some((name, before)))
}

/// The weight of a user, where there is such a user.
pub async fn weight(db: &Db, user: UserId) -> Result<Option<f64>, Error> {
    sqlx::query_scalar(
        "select coalesce(share.weight, 1.0) from user left join share on share.user_id = user.id
         where user.id = ?",
    )
    .bind(user.0)
    .fetch_optional(db.read())
    .await
}

/// Answers the user's name, where there is one, and the weight before. A user whom the queue does
/// not know yet is put level with the others by their first job.
pub async fn set_weight(
    write: &mut Write,
    user: UserId,
    weight: f64,
) -> Result<Option<(String, f64)>, Error> {
    let Some(name) = name_of(write, user).await? else {
        return Ok(None);
    };
    let before: Option<f64> = sqlx::query_scalar("select weight from share where user_id = ?")
        .bind(user.0)
        .fetch_optional(&mut **write)
        .await?;
    sqlx::query(
        "insert into share (user_id, weight) values (?, ?)
         on conflict (user_id) do update set weight = excluded.weight",
    )
    .bind(user.0)
    .bind(weight)
    .execute(&mut **write)
    .await?;
    Ok(Some((name, before.unwrap_or(1.0))))
}
