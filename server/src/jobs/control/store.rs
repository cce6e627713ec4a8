//! The SQL of what administrators do to the queue as a whole.

use super::super::queue::{from_json, read_state};
use crate::db::{Db, Write};
use atelier_app::account::UserId;
use atelier_app::admin::{CancelWhich, Hold, HourCount, QueueEntry, QueueHold};
use atelier_app::studio::{JobId, JobState, Settings};
use sqlx::{Error, Row as _};

/// The row of `setting` that stands for a hold. The claim names the first one too.
fn row_of(hold: QueueHold) -> &'static str {
    match hold {
        QueueHold::Paused => "queue_paused",
        QueueHold::Closed => "queue_closed",
    }
}

/// Whether the queue is held so, as the transaction sees it.
pub(crate) async fn is_held(write: &mut Write, hold: QueueHold) -> Result<bool, Error> {
    sqlx::query_scalar("select exists (select 1 from setting where name = ?)")
        .bind(row_of(hold))
        .fetch_one(&mut **write)
        .await
}

/// Holds the queue in somebody's name, or lets it go.
pub(super) async fn set_hold(
    write: &mut Write,
    hold: QueueHold,
    by: Option<&str>,
    now: i64,
) -> Result<(), Error> {
    let statement = match by {
        Some(by) => {
            sqlx::query("insert into setting (name, value, changed_at) values (?1, ?2, ?3)")
                .bind(row_of(hold))
                .bind(by)
                .bind(now)
        }
        None => sqlx::query("delete from setting where name = ?").bind(row_of(hold)),
    };
    statement.execute(&mut **write).await?;
    Ok(())
}

/// How the queue is held: (paused, closed).
pub(super) async fn holds(db: &Db) -> Result<(Option<Hold>, Option<Hold>), Error> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "select name, value, changed_at from setting where name in ('queue_paused', 'queue_closed')",
    )
    .fetch_all(db.read())
    .await?;
    let find = |hold| {
        let row = rows.iter().find(|row| row.0 == row_of(hold));
        row.map(|(_, by, since)| Hold {
            by: by.clone(),
            since: *since,
        })
    };
    Ok((find(QueueHold::Paused), find(QueueHold::Closed)))
}

/// Writes places of waiting jobs down.
pub(super) async fn set_places(
    write: &mut Write,
    places: &[(JobId, Option<i64>)],
) -> Result<(), Error> {
    for (id, place) in places {
        sqlx::query("update job set place = ? where id = ? and state = 'queued'")
            .bind(place)
            .bind(&id.0)
            .execute(&mut **write)
            .await?;
    }
    Ok(())
}

pub(super) async fn user_name(write: &mut Write, user: UserId) -> Result<Option<String>, Error> {
    sqlx::query_scalar("select name from user where id = ?")
        .bind(user.0)
        .fetch_optional(&mut **write)
        .await
}

/// A job that was stopped, or is being stopped by its worker.
pub(super) struct Stopped {
    pub(super) id: JobId,
    pub(super) user_id: UserId,
    pub(super) user_name: String,
    pub(super) state: JobState,
}

/// Stops jobs: those that wait at once, those that run at their worker's next look.
pub(super) async fn cancel_many(
    write: &mut Write,
    which: &CancelWhich,
    words: &str,
    now: i64,
) -> Result<Vec<Stopped>, Error> {
    let (ids, user) = match which {
        CancelWhich::Jobs(ids) => {
            let ids: Vec<&str> = ids.iter().map(|id| id.0.as_str()).collect();
            let ids = serde_json::to_string(&ids).map_err(|error| Error::Encode(error.into()))?;
            (Some(ids), None)
        }
        CancelWhich::OfUser(user) => (None, Some(user.0)),
        CancelWhich::Waiting => (None, None),
    };
    let rows = sqlx::query(
        "update job set cancel = 1, error = ?1,
             finished_at = case state when 'queued' then ?2 else finished_at end,
             state = case state when 'queued' then 'cancelled' else state end
         where state in ('queued', 'running') and cancel = 0
             and (?3 is null or id in (select value from json_each(?3)))
             and (?4 is null or user_id = ?4)
             and (?3 is not null or ?4 is not null or state = 'queued')
         returning id, user_id, state, (select name from user where user.id = job.user_id) as user_name",
    )
    .bind(words)
    .bind(now)
    .bind(ids)
    .bind(user)
    .fetch_all(&mut **write)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Stopped {
                id: JobId(row.try_get("id")?),
                user_id: UserId(row.try_get("user_id")?),
                user_name: row.try_get("user_name")?,
                state: read_state(row)?,
            })
        })
        .collect()
}

/// A job for the administrators' list.
pub(super) struct Row {
    pub(super) entry: QueueEntry,
    /// What was asked for, while it waits: what estimates are made from.
    pub(super) settings: Option<Settings>,
}

/// Everybody's open jobs, and the latest that ended.
pub(super) async fn open_and_ended(db: &Db, ended: u32) -> Result<Vec<Row>, Error> {
    let rows = sqlx::query(
        "select j.id, j.user_id, u.name as user_name, j.state, j.settings, j.place, j.step, j.phase, j.attempt,
                j.created_at, j.started_at, j.finished_at, j.owner, j.from_image is not null as cached,
                j.settings ->> '$.model' as model, j.settings ->> '$.width' as width,
                j.settings ->> '$.height' as height, j.settings ->> '$.num_inference_steps' as steps
         from (select id from job where state in ('queued', 'running')
               union all
               select * from (select id from job where finished_at is not null
                              order by finished_at desc limit ?)) shown
         join job j on j.id = shown.id join user u on u.id = j.user_id",
    )
    .bind(ended)
    .fetch_all(db.read())
    .await?;
    rows.iter()
        .map(|row| {
            let state = read_state(row)?;
            let (width, height): (u32, u32) = (row.try_get("width")?, row.try_get("height")?);
            Ok(Row {
                settings: match state {
                    JobState::Queued => Some(from_json(row.try_get("settings")?)?),
                    _ => None,
                },
                entry: QueueEntry {
                    id: JobId(row.try_get("id")?),
                    user_id: UserId(row.try_get("user_id")?),
                    user: row.try_get("user_name")?,
                    state,
                    model: row.try_get("model")?,
                    size: format!("{width}×{height}"),
                    step: row.try_get("step")?,
                    steps: row.try_get("steps")?,
                    attempt: row.try_get("attempt")?,
                    created_at: row.try_get("created_at")?,
                    started_at: row.try_get("started_at")?,
                    finished_at: row.try_get("finished_at")?,
                    phase: row.try_get("phase")?,
                    placed: state == JobState::Queued
                        && row.try_get::<Option<i64>, _>("place")?.is_some(),
                    cached: row.try_get("cached")?,
                    ..QueueEntry::default()
                },
            })
        })
        .collect()
}

/// How many jobs ended how in each of the last hours, oldest first; an hour without any is there too.
pub(super) async fn hours(db: &Db, now: i64, count: i64) -> Result<Vec<HourCount>, Error> {
    const HOUR_MS: i64 = 3_600_000;
    let first = now / HOUR_MS - count + 1;
    let rows: Vec<(i64, u32, u32, u32)> = sqlx::query_as(
        "select finished_at / ?1, count(*) filter (where state = 'done'),
                count(*) filter (where state = 'failed'), count(*) filter (where state = 'cancelled')
         from job where finished_at >= ?2 group by 1",
    )
    .bind(HOUR_MS)
    .bind(first * HOUR_MS)
    .fetch_all(db.read())
    .await?;
    Ok((0..count)
        .map(|place| {
            let hour = first + place;
            let found = rows.iter().find(|row| row.0 == hour);
            let (_, done, failed, cancelled) = found.copied().unwrap_or_default();
            HourCount {
                at: hour * HOUR_MS,
                done,
                failed,
                cancelled,
            }
        })
        .collect())
}
