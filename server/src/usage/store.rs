//! The SQL of usage: written in the transaction that ends a job, read for plots and tables.

use super::day_of;
use crate::db::{Db, Write};
use crate::gallery::Facts;
use atelier_app::account::UserId;
use atelier_app::admin::{DayUse, SpeedLine, SpeedPoint, UserSpace, UserUse};
use sqlx::Error;

/// Counts device-seconds, and images where there are any, as a user's of the day of `now`.
pub async fn add(
    write: &mut Write,
    user: UserId,
    device_seconds: f64,
    images: u32,
    now: i64,
) -> Result<(), Error> {
    sqlx::query(
        "insert into usage (user_id, day, device_seconds, images) values (?, ?, ?, ?)
         on conflict (user_id, day) do update set
             device_seconds = device_seconds + excluded.device_seconds,
             images = images + excluded.images",
    )
    .bind(user.0)
    .bind(day_of(now))
    .bind(device_seconds.max(0.0))
    .bind(images)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Counts the speed of a finished image. `work` is in steps × megapixels, a step without guidance
/// counting half.
pub async fn add_speed(
    write: &mut Write,
    model: &str,
    facts: &Facts,
    work: f64,
    now: i64,
) -> Result<(), Error> {
    let denoising_s = facts.timings.denoising_s;
    if work <= 0.0 || denoising_s <= 0.0 || !denoising_s.is_finite() {
        return Ok(());
    }
    sqlx::query(
        "insert into speed (day, model, device, images, work, denoising_s) values (?, ?, ?, 1, ?, ?)
         on conflict (day, model, device) do update set
             images = images + 1, work = work + excluded.work,
             denoising_s = denoising_s + excluded.denoising_s",
    )
    .bind(day_of(now))
    .bind(model)
    .bind(&facts.device)
    .bind(work)
    .bind(denoising_s)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Days of a user, or of everybody who ever was here, from `since` on; days without use are left out.
pub async fn days(db: &Db, user: Option<UserId>, since: i64) -> Result<Vec<DayUse>, Error> {
    let rows: Vec<(i64, f64, u32)> = sqlx::query_as(
        "select day, sum(device_seconds), sum(images) from (
             select day, device_seconds, images from usage
             where day >= ?1 and (?2 is null or user_id = ?2)
             union all
             select day, device_seconds, images from usage_left where day >= ?1 and ?2 is null)
         group by day order by day",
    )
    .bind(since)
    .bind(user.map(|user| user.0))
    .fetch_all(db.read())
    .await?;
    Ok(rows
        .into_iter()
        .map(|(day, seconds, images)| DayUse {
            day,
            seconds,
            images,
        })
        .collect())
}

/// Every user with what they had since then, most device time first.
pub async fn users(db: &Db, since: i64) -> Result<Vec<UserUse>, Error> {
    let rows: Vec<(i64, String, f64, u32, f64)> = sqlx::query_as(
        "select user.id, user.name, coalesce(sum(usage.device_seconds), 0.0) as seconds,
                coalesce(sum(usage.images), 0), coalesce(share.weight, 1.0)
         from user left join usage on usage.user_id = user.id and usage.day >= ?
                   left join share on share.user_id = user.id
         where user.waiting_since is null
         group by user.id order by seconds desc, user.name",
    )
    .bind(since)
    .fetch_all(db.read())
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, name, seconds, images, weight)| UserUse {
            id: UserId(id),
            name,
            seconds,
            images,
            weight,
        })
        .collect())
}

/// Device-seconds and images of users who were removed.
pub async fn left(db: &Db, since: i64) -> Result<(f64, u32), Error> {
    sqlx::query_as(
        "select coalesce(sum(device_seconds), 0.0), coalesce(sum(images), 0) from usage_left
         where day >= ?",
    )
    .bind(since)
    .fetch_one(db.read())
    .await
}

/// The speed of each model on each device, those of most images first, day by day.
pub async fn speeds(db: &Db, since: i64) -> Result<Vec<SpeedLine>, Error> {
    let rows: Vec<(String, String, i64, u32, f64, f64)> = sqlx::query_as(
        "select model, device, day, images, work, denoising_s from speed
         where day >= ? order by model, device, day",
    )
    .bind(since)
    .fetch_all(db.read())
    .await?;
    let mut lines: Vec<SpeedLine> = Vec::new();
    for (model, device, day, images, work, denoising_s) in rows {
        if lines
            .last()
            .is_none_or(|line| line.model != model || line.device != device)
        {
            lines.push(SpeedLine {
                model,
                device,
                images: 0,
                days: Vec::new(),
            });
        }
        if let Some(line) = lines.last_mut() {
            line.images += images;
            line.days.push(SpeedPoint {
                day,
                seconds: denoising_s / work,
                images,
            });
        }
    }
    lines.sort_by_key(|line| std::cmp::Reverse(line.images));
    Ok(lines)
}

/// What each user's files take, most first.
pub async fn space(db: &Db) -> Result<Vec<UserSpace>, Error> {
    type Row = (i64, String, i64, i64, i64, i64, i64, i64);
    let rows: Vec<Row> = sqlx::query_as(
        "select user.id, user.name,
                coalesce(i.kept, 0), coalesce(i.kept_bytes, 0), coalesce(i.trashed, 0),
                coalesce(i.trashed_bytes, 0), coalesce(u.files, 0), coalesce(u.bytes, 0)
         from user
         left join (
             select user_id, count(*) filter (where trashed_at is null) as kept,
                    sum(bytes) filter (where trashed_at is null) as kept_bytes,
                    count(*) filter (where trashed_at is not null) as trashed,
                    sum(bytes) filter (where trashed_at is not null) as trashed_bytes
             from image group by user_id) i on i.user_id = user.id
         left join (
             select user_id, count(*) as files, sum(bytes) as bytes
             from upload group by user_id) u on u.user_id = user.id
         where user.waiting_since is null
         order by coalesce(i.kept_bytes, 0) + coalesce(i.trashed_bytes, 0) + coalesce(u.bytes, 0) desc,
                  user.name",
    )
    .fetch_all(db.read())
    .await?;
    let count = |number: i64| u64::try_from(number).unwrap_or_default();
    Ok(rows
        .into_iter()
        .map(|row| UserSpace {
            id: UserId(row.0),
            name: row.1,
            images: count(row.2),
            image_bytes: count(row.3),
            trashed: count(row.4),
            trashed_bytes: count(row.5),
            uploads: count(row.6),
            upload_bytes: count(row.7),
        })
        .collect())
}

/// Bytes of the database's own file, as SQLite counts its pages.
pub async fn database_bytes(db: &Db) -> Result<u64, Error> {
    let bytes: i64 = sqlx::query_scalar(
        "select page_count * page_size from pragma_page_count(), pragma_page_size()",
    )
    .fetch_one(db.read())
    .await?;
    Ok(u64::try_from(bytes).unwrap_or_default())
}
