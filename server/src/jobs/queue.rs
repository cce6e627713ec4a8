//! All SQL of the queue, as functions that each take one step.
//!
//! The state machine: `queued → running → done | failed | cancelled`, with two ways back from
//! `running` to `queued` (a lease that ran out, a worker that gives its job back). A claim carries a
//! fence that grows with each attempt: whoever holds an older one matches no row.
//!
//! Fairness is virtual time: the user whose device-seconds divided by weight are smallest goes
//! next. A user who comes back from idling starts at the smallest time of those who wait, so idling
//! banks no credit.

pub use super::fairness::Waiting;
pub use super::terms::{
    Claim, Dead, Enqueued, EnqueuedAll, JobRow, LeftBehind, Limits, NewImage, NewJob, Place, Pulse,
};

use super::control::{CANCELLED_BY_ADMIN, is_held};
use crate::db::{Db, Write, now_ms};
use atelier_app::account::UserId;
use atelier_app::admin::QueueHold;
use atelier_app::gallery::ImageId;
use atelier_app::studio::{JobId, JobState, Settings};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::time::Duration;
use uuid::Uuid;

/// The queue's SQL. Cheap to clone.
#[derive(Clone)]
pub struct Queue {
    pub(super) db: Db,
}

impl Queue {
    /// The queue of this database.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Step 1: Puts a job in, durably, or says why not.
    pub async fn enqueue(
        &self,
        user: UserId,
        settings: &Settings,
        cost: f64,
        idem_key: Option<&str>,
        limits: Limits,
    ) -> Result<Enqueued, sqlx::Error> {
        let job = NewJob {
            settings: settings.clone(),
            cost,
            from_image: None,
        };
        let first = |mut rows: Vec<JobRow>| {
            if rows.is_empty() {
                Err(sqlx::Error::RowNotFound)
            } else {
                Ok(rows.swap_remove(0))
            }
        };
        Ok(
            match self.enqueue_all(user, &[job], idem_key, limits).await? {
                EnqueuedAll::New(rows) => Enqueued::New(first(rows)?),
                EnqueuedAll::Replayed(rows) => Enqueued::Replayed(first(rows)?),
                EnqueuedAll::UserFull => Enqueued::UserFull,
                EnqueuedAll::QueueFull => Enqueued::QueueFull,
                EnqueuedAll::Closed => Enqueued::Closed,
                EnqueuedAll::UploadGone => return Err(sqlx::Error::RowNotFound),
            },
        )
    }

    /// Step 1 for several jobs: all of them or none, under one idempotency key. Those with an image
    /// already take no place in the queue.
    pub async fn enqueue_all(
        &self,
        user: UserId,
        jobs: &[NewJob],
        idem_key: Option<&str>,
        limits: Limits,
    ) -> Result<EnqueuedAll, sqlx::Error> {
        let mut write = self.db.write().await?;
        if let Some(key) = idem_key {
            let mut earlier = Vec::new();
            for place in 0.. {
                let id = sqlx::query_scalar::<_, String>(
                    "select id from job where user_id = ? and idem_key = ?",
                )
                .bind(user.0)
                .bind(key_of(key, place))
                .fetch_optional(&mut *write)
                .await?;
                let Some(id) = id else { break };
                let row = job_row(&mut write, &JobId(id)).await?;
                earlier.push(row.ok_or(sqlx::Error::RowNotFound)?);
            }
            if !earlier.is_empty() {
                return Ok(EnqueuedAll::Replayed(earlier));
            }
        }
        // Read in the same transaction: once a drain is answered, nothing comes in behind it.
        if is_held(&mut write, QueueHold::Closed).await? {
            return Ok(EnqueuedAll::Closed);
        }
        let (own, all): (i64, i64) = sqlx::query_as(
            "select count(*) filter (where user_id = ?), count(*)
             from job where state in ('queued', 'running')",
        )
        .bind(user.0)
        .fetch_one(&mut *write)
        .await?;
        let waiting = jobs.iter().filter(|job| job.from_image.is_none()).count();
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        if waiting > 0 && own.saturating_add(waiting) > i64::from(limits.per_user) {
            return Ok(EnqueuedAll::UserFull);
        }
        if waiting > 0 && all.saturating_add(waiting) > i64::from(limits.total) {
            return Ok(EnqueuedAll::QueueFull);
        }
        // Idling banks no credit: whoever has nothing here starts level with the least served of those who have.
        sqlx::query(
            "insert into share (user_id, vtime) values (?1, coalesce((
                 select min(s.vtime) from share s where exists (
                     select 1 from job j where j.user_id = s.user_id and j.state in ('queued', 'running'))), 0))
             on conflict (user_id) do update set vtime = max(vtime, excluded.vtime)
                 where not exists (
                     select 1 from job j where j.user_id = ?1 and j.state in ('queued', 'running'))",
        )
        .bind(user.0)
        .execute(&mut *write)
        .await?;
        let mut rows = Vec::with_capacity(jobs.len());
        for (place, job) in jobs.iter().enumerate() {
            let id = JobId(Uuid::now_v7().to_string());
            let now = now_ms();
            let done = job.from_image.is_some();
            sqlx::query(
                "insert into job (id, user_id, settings, cost, idem_key, created_at, state, from_image, finished_at)
                 values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(&id.0)
            .bind(user.0)
            .bind(to_json(&job.settings)?)
            .bind(job.cost)
            .bind(idem_key.map(|key| key_of(key, place)))
            .bind(now)
            .bind(if done { "done" } else { "queued" })
            .bind(job.from_image.as_ref().map(|image| image.0.as_str()))
            .bind(done.then_some(now))
            .execute(&mut *write)
            .await?;
            for file in job.settings.input_files() {
                let used =
                    sqlx::query("update upload set used_at = ? where id = ? and user_id = ?")
                        .bind(now)
                        .bind(&file.upload_id)
                        .bind(user.0)
                        .execute(&mut *write)
                        .await?;
                if used.rows_affected() != 1 {
                    return Ok(EnqueuedAll::UploadGone);
                }
                sqlx::query("insert or ignore into job_upload (job_id, upload_id) values (?, ?)")
                    .bind(&id.0)
                    .bind(&file.upload_id)
                    .execute(&mut *write)
                    .await?;
            }
            let row = job_row(&mut write, &id).await?;
            rows.push(row.ok_or(sqlx::Error::RowNotFound)?);
        }
        write.commit().await?;
        Ok(EnqueuedAll::New(rows))
    }

    /// The user's newest image of a recipe, with the hash of its file.
    pub async fn find_made(
        &self,
        user: UserId,
        recipe: &str,
    ) -> Result<Option<(ImageId, String)>, sqlx::Error> {
        let found: Option<(String, String)> = sqlx::query_as(
            "select id, sha256 from image where user_id = ? and recipe = ? and trashed_at is null order by id desc limit 1",
        )
        .bind(user.0)
        .bind(recipe)
        .fetch_optional(self.db.read())
        .await?;
        Ok(found.map(|(id, sha256)| (ImageId(id), sha256)))
    }

    /// Step 2: Takes the next job in fair order for `owner`, or `None` when nothing waits.
    pub async fn claim(&self, owner: &str, lease: Duration) -> Result<Option<Claim>, sqlx::Error> {
        self.claim_at(owner, lease, Place::default()).await
    }

    /// Step 2 at a certain place: jobs that have left its device are passed by, and all that have
    /// not left every one of the devices that it comes after. Nothing while the queue is paused. A
    /// job whose place an administrator gave goes when so many others have started; among the rest,
    /// the fair order holds.
    pub async fn claim_at(
        &self,
        owner: &str,
        lease: Duration,
        place: Place<'_>,
    ) -> Result<Option<Claim>, sqlx::Error> {
        let after = to_json(&place.after)?;
        // A look without the write lock first: an idle worker asks often.
        let waiting: bool = sqlx::query_scalar(
            "select exists (select 1 from job j where j.state = 'queued'
                 and not exists (select 1 from json_each(j.avoid) a where a.value = ?1)
                 and not exists (select 1 from json_each(?2) d
                     where d.value not in (select value from json_each(j.avoid))))
             and not exists (select 1 from setting where name = 'queue_paused')",
        )
        .bind(place.device)
        .bind(&after)
        .fetch_one(self.db.read())
        .await?;
        if !waiting {
            return Ok(None);
        }
        let mut write = self.db.write().await?;
        let next = sqlx::query(
            "select j.id, j.user_id, j.settings, j.fence, j.attempt, j.created_at, j.cost, j.rungs
             from job j join share s on s.user_id = j.user_id
             where j.state = 'queued'
                 and not exists (select 1 from json_each(j.avoid) a where a.value = ?1)
                 and not exists (select 1 from json_each(?2) d
                     where d.value not in (select value from json_each(j.avoid)))
                 and not exists (select 1 from setting where name = 'queue_paused')
             order by case when j.place <= 0 then 0 when j.place is null then 1 else 2 end, j.place,
                 s.vtime, s.user_id, j.priority desc, j.id limit 1",
        )
        .bind(place.device)
        .bind(&after)
        .fetch_optional(&mut *write)
        .await?;
        let Some(next) = next else { return Ok(None) };
        let now = now_ms();
        let claim = Claim {
            id: JobId(next.try_get("id")?),
            user_id: UserId(next.try_get("user_id")?),
            settings: from_json(next.try_get("settings")?)?,
            fence: next.try_get::<i64, _>("fence")? + 1,
            attempt: next.try_get::<u32, _>("attempt")? + 1,
            rungs: from_json(next.try_get("rungs")?)?,
            created_at: next.try_get("created_at")?,
            started_at: now,
        };
        sqlx::query(
            "update job set state = 'running', owner = ?, lease_until = ?, fence = ?, attempt = ?,
                 started_at = ?, phase = 'starting', step = 0, error = null
             where id = ? and state = 'queued'",
        )
        .bind(owner)
        .bind(now + millis(lease))
        .bind(claim.fence)
        .bind(claim.attempt)
        .bind(now)
        .bind(&claim.id.0)
        .execute(&mut *write)
        .await?;
        sqlx::query(
            "update job set place = place - 1 where state = 'queued' and place is not null",
        )
        .execute(&mut *write)
        .await?;
        charge(&mut write, claim.user_id, next.try_get("cost")?).await?;
        write.commit().await?;
        Ok(Some(claim))
    }

    /// Step 3: Keeps a claim alive and writes its progress down.
    pub async fn heartbeat(
        &self,
        claim: &Claim,
        phase: &str,
        step: u32,
        lease: Duration,
    ) -> Result<Pulse, sqlx::Error> {
        let mut write = self.db.write().await?;
        let cancel: Option<bool> = sqlx::query_scalar(
            "update job set lease_until = ?, phase = ?, step = ?
             where id = ? and fence = ? and state = 'running' returning cancel",
        )
        .bind(now_ms() + millis(lease))
        .bind(phase)
        .bind(step)
        .bind(&claim.id.0)
        .bind(claim.fence)
        .fetch_optional(&mut *write)
        .await?;
        write.commit().await?;
        Ok(match cancel {
            Some(false) => Pulse::Mine,
            Some(true) => Pulse::Cancel,
            None => Pulse::Lost,
        })
    }

    /// Step 4: Ends a job with its image, in one transaction. `false`: the claim was lost, nothing is kept.
    ///
    /// A cancellation that came too late to stop the work still counts: no image is kept then.
    pub async fn finish(
        &self,
        claim: &Claim,
        image: &NewImage,
        device_seconds: f64,
    ) -> Result<bool, sqlx::Error> {
        let mut write = self.db.write().await?;
        let now = now_ms();
        let cost: Option<f64> = sqlx::query_scalar(
            "update job set state = 'done', finished_at = ?, lease_until = null, owner = null,
                 step = ?, phase = null
             where id = ? and fence = ? and state = 'running' and cancel = 0 returning cost",
        )
        .bind(now)
        .bind(claim.settings.num_inference_steps)
        .bind(&claim.id.0)
        .bind(claim.fence)
        .fetch_optional(&mut *write)
        .await?;
        let Some(cost) = cost else { return Ok(false) };
        sqlx::query(
            "insert into image (id, job_id, user_id, sha256, bytes, width, height, dominant_colour,
                                prompt, settings, facts, created_at, recipe)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&image.id.0)
        .bind(&claim.id.0)
        .bind(claim.user_id.0)
        .bind(&image.sha256)
        .bind(i64::try_from(image.bytes).unwrap_or(i64::MAX))
        .bind(image.width)
        .bind(image.height)
        .bind(&image.dominant_colour)
        .bind(&claim.settings.prompt)
        .bind(to_json(&claim.settings)?)
        .bind(to_json(&image.facts)?)
        .bind(now)
        .bind(&image.recipe)
        .execute(&mut *write)
        .await?;
        charge(&mut write, claim.user_id, device_seconds - cost).await?;
        write.commit().await?;
        Ok(true)
    }

    /// Step 4b: Ends a job without an image. `false`: the claim was lost.
    pub async fn fail(&self, claim: &Claim, words: &str) -> Result<bool, sqlx::Error> {
        let mut write = self.db.write().await?;
        let ended = sqlx::query(
            "update job set state = case when cancel then 'cancelled' else 'failed' end,
                 error = case when cancel then error else ? end,
                 finished_at = ?, lease_until = null, owner = null, phase = null
             where id = ? and fence = ? and state = 'running'",
        )
        .bind(words)
        .bind(now_ms())
        .bind(&claim.id.0)
        .bind(claim.fence)
        .execute(&mut *write)
        .await?;
        write.commit().await?;
        Ok(ended.rows_affected() == 1)
    }

    /// Step 4c: Ends a cancelled job at its worker's word. `false`: the claim was lost.
    pub async fn confirm_cancel(
        &self,
        claim: &Claim,
        device_seconds: f64,
    ) -> Result<bool, sqlx::Error> {
        let mut write = self.db.write().await?;
        let cost: Option<f64> = sqlx::query_scalar(
            "update job set state = 'cancelled', finished_at = ?, lease_until = null, owner = null, phase = null
             where id = ? and fence = ? and state = 'running' returning cost",
        )
        .bind(now_ms())
        .bind(&claim.id.0)
        .bind(claim.fence)
        .fetch_optional(&mut *write)
        .await?;
        if let Some(cost) = cost {
            charge(&mut write, claim.user_id, device_seconds - cost).await?;
        }
        write.commit().await?;
        Ok(cost.is_some())
    }

    /// Step 4d: Puts a running job back without counting the attempt (the server stops).
    pub async fn release(&self, claim: &Claim) -> Result<bool, sqlx::Error> {
        let mut write = self.db.write().await?;
        let cost: Option<f64> = sqlx::query_scalar(
            "update job set state = case when cancel then 'cancelled' else 'queued' end,
                 finished_at = case when cancel then ? end,
                 attempt = attempt - 1, lease_until = null, owner = null, phase = null, step = 0
             where id = ? and fence = ? and state = 'running' returning cost",
        )
        .bind(now_ms())
        .bind(&claim.id.0)
        .bind(claim.fence)
        .fetch_optional(&mut *write)
        .await?;
        if let Some(cost) = cost {
            charge(&mut write, claim.user_id, -cost).await?;
        }
        write.commit().await?;
        Ok(cost.is_some())
    }

    /// Step 5: Asks for a stop: a queued job ends at once, a running one at its worker's next look.
    /// `None`: there is no such job of this user. `user` absent means an administrator asks.
    pub async fn cancel(
        &self,
        id: &JobId,
        user: Option<UserId>,
    ) -> Result<Option<JobRow>, sqlx::Error> {
        let mut write = self.db.write().await?;
        sqlx::query(
            "update job set cancel = 1,
                 error = case when ?3 is null then ?4 else error end,
                 finished_at = case state when 'queued' then ?1 else finished_at end,
                 state = case state when 'queued' then 'cancelled' else state end
             where id = ?2 and (?3 is null or user_id = ?3) and state in ('queued', 'running')",
        )
        .bind(now_ms())
        .bind(&id.0)
        .bind(user.map(|user| user.0))
        .bind(CANCELLED_BY_ADMIN)
        .execute(&mut *write)
        .await?;
        let row = job_row(&mut write, id).await?;
        write.commit().await?;
        Ok(row.filter(|row| user.is_none_or(|user| row.user_id == user)))
    }

    /// One job, whoever owns it.
    pub async fn job(&self, id: &JobId) -> Result<Option<JobRow>, sqlx::Error> {
        let mut connection = self.db.read().acquire().await?;
        job_row(&mut connection, id).await
    }

    /// A user's queued and running jobs, oldest first, then those that ended without an image since `since`.
    pub async fn active(&self, user: UserId, since: i64) -> Result<Vec<JobRow>, sqlx::Error> {
        let rows = sqlx::query(
            "select j.*, i.id as image_id from job j
             left join image i on (i.job_id = j.id or i.id = j.from_image) and i.trashed_at is null
             where j.user_id = ?1 and (j.state in ('queued', 'running')
                 or (j.state in ('failed', 'cancelled') and j.finished_at >= ?2))
             order by j.state in ('failed', 'cancelled'), j.id",
        )
        .bind(user.0)
        .bind(since)
        .fetch_all(self.db.read())
        .await?;
        rows.iter().map(read_row).collect()
    }
}

/// Adds device-seconds to a user's virtual time.
pub(super) async fn charge(
    write: &mut Write,
    user: UserId,
    device_seconds: f64,
) -> Result<(), sqlx::Error> {
    sqlx::query("update share set vtime = max(0, vtime + ? / weight) where user_id = ?")
        .bind(device_seconds)
        .bind(user.0)
        .execute(&mut **write)
        .await
        .map(|_| ())
}

/// An idempotency key of one job among several. A client's key cannot hold the separator.
fn key_of(key: &str, place: usize) -> String {
    match place {
        0 => key.to_owned(),
        place => format!("{key}\u{1f}{place}"),
    }
}

async fn job_row(
    connection: &mut sqlx::SqliteConnection,
    id: &JobId,
) -> Result<Option<JobRow>, sqlx::Error> {
    sqlx::query(
        "select j.*, i.id as image_id from job j
         left join image i on (i.job_id = j.id or i.id = j.from_image) and i.trashed_at is null
         where j.id = ?",
    )
    .bind(&id.0)
    .fetch_optional(connection)
    .await?
    .as_ref()
    .map(read_row)
    .transpose()
}

pub(super) fn read_row(row: &SqliteRow) -> Result<JobRow, sqlx::Error> {
    Ok(JobRow {
        id: JobId(row.try_get("id")?),
        user_id: UserId(row.try_get("user_id")?),
        state: read_state(row)?,
        settings: from_json(row.try_get("settings")?)?,
        attempt: row.try_get("attempt")?,
        rungs: from_json(row.try_get("rungs")?)?,
        phase: row.try_get("phase")?,
        step: row.try_get("step")?,
        error: row.try_get("error")?,
        created_at: row.try_get("created_at")?,
        started_at: row.try_get("started_at")?,
        finished_at: row.try_get("finished_at")?,
        image_id: row.try_get::<Option<String>, _>("image_id")?.map(ImageId),
        cached: row.try_get::<Option<String>, _>("from_image")?.is_some(),
    })
}

pub(super) fn read_state(row: &SqliteRow) -> Result<JobState, sqlx::Error> {
    let word: String = row.try_get("state")?;
    serde_json::from_value(serde_json::Value::String(word))
        .map_err(|error| sqlx::Error::Decode(error.into()))
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
