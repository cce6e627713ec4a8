//! Looks at the queue that change nothing: the order to come, the administrator's list, what
//! estimates are made from. What changes it is in [`super::queue`].

use super::fairness::{Waiting, in_fair_order};
use super::queue::{JobRow, Queue, from_json, read_row, read_state};
use crate::gallery::Facts;
use atelier_app::account::UserId;
use atelier_app::admin::QueueRow;
use atelier_app::gallery::ImageId;
use atelier_app::studio::{JobId, Settings};
use sqlx::Row;
use std::collections::HashMap;

impl Queue {
    /// Everything that waits, in the order in which it will be claimed; with `extra`, as if that
    /// user had one more job of that cost, whose id is then empty.
    pub async fn fair_order(
        &self,
        extra: Option<(UserId, f64)>,
    ) -> Result<Vec<Waiting>, sqlx::Error> {
        let rows = sqlx::query(
            "select j.id, j.user_id, j.cost, j.place from job j
             where j.state = 'queued' order by j.user_id, j.priority desc, j.id",
        )
        .fetch_all(self.db.read())
        .await?;
        let mut waiting = Vec::with_capacity(rows.len() + 1);
        for row in &rows {
            waiting.push(Waiting {
                id: JobId(row.try_get("id")?),
                user_id: UserId(row.try_get("user_id")?),
                cost: row.try_get("cost")?,
                place: row.try_get("place")?,
            });
        }
        let mut shares = HashMap::new();
        let mut least_active: Option<f64> = None;
        let rows = sqlx::query(
            "select user_id, vtime, weight, exists (select 1 from job j
                 where j.user_id = share.user_id and j.state in ('queued', 'running')) as active from share",
        )
        .fetch_all(self.db.read())
        .await?;
        let mut idle = Vec::new();
        for row in &rows {
            let user = UserId(row.try_get("user_id")?);
            let vtime: f64 = row.try_get("vtime")?;
            if row.try_get("active")? {
                least_active = Some(least_active.map_or(vtime, |least| least.min(vtime)));
            } else {
                idle.push(user);
            }
            shares.insert(user, (vtime, row.try_get("weight")?));
        }
        if let Some((user_id, cost)) = extra {
            let least = least_active.unwrap_or(0.0);
            let known = shares.entry(user_id).or_insert((least, 1.0));
            if idle.contains(&user_id) {
                known.0 = known.0.max(least);
            }
            waiting.push(Waiting {
                id: JobId(String::new()),
                user_id,
                cost,
                place: None,
            });
        }
        Ok(in_fair_order(waiting, shares))
    }

    /// Everybody's open jobs and the last twenty that ended, newest first among those.
    pub async fn overview(&self) -> Result<Vec<QueueRow>, sqlx::Error> {
        let rows = sqlx::query(
            "select * from (
                 select j.*, u.name as user_name, 0 as ended from job j join user u on u.id = j.user_id
                 where j.state in ('queued', 'running')
                 union all
                 select * from (
                     select j.*, u.name as user_name, 1 as ended from job j join user u on u.id = j.user_id
                     where j.finished_at is not null order by j.finished_at desc limit 20))
             order by ended, case when ended then -finished_at else state = 'queued' end, id",
        )
        .fetch_all(self.db.read())
        .await?;
        rows.iter()
            .map(|row| {
                let settings: Settings = from_json(row.try_get("settings")?)?;
                Ok(QueueRow {
                    id: JobId(row.try_get("id")?),
                    user: row.try_get("user_name")?,
                    state: read_state(row)?,
                    size: format!("{}×{}", settings.width, settings.height),
                    steps: settings.num_inference_steps,
                    model: settings.model,
                    step: row.try_get("step")?,
                    created_at: row.try_get("created_at")?,
                    started_at: row.try_get("started_at")?,
                    attempt: row.try_get("attempt")?,
                })
            })
            .collect()
    }

    /// Everybody's running jobs, oldest first.
    pub async fn running(&self) -> Result<Vec<JobRow>, sqlx::Error> {
        let rows = sqlx::query(
            "select j.*, null as image_id from job j where j.state = 'running' order by j.id",
        )
        .fetch_all(self.db.read())
        .await?;
        rows.iter().map(read_row).collect()
    }

    /// Whether an open job of anybody's names this model, as its base, its refiner or its VAE.
    pub async fn needs_model(&self, name: &str) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar(
            "select exists (
                 select 1 from job where state in ('queued', 'running')
                 and ?1 in (settings ->> '$.model', settings ->> '$.refiner', settings ->> '$.vae'))",
        )
        .bind(name)
        .fetch_one(self.db.read())
        .await
    }

    /// Open jobs of everybody: (queued, running).
    pub async fn depth(&self) -> Result<(u32, u32), sqlx::Error> {
        sqlx::query_as(
            "select count(*) filter (where state = 'queued'), count(*) filter (where state = 'running')
             from job where state in ('queued', 'running')",
        )
        .fetch_one(self.db.read())
        .await
    }

    /// Whether an administrator holds the queue back: nothing starts until they let it go on.
    pub async fn is_held(&self) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar("select exists (select 1 from setting where name = 'queue_paused')")
            .fetch_one(self.db.read())
            .await
    }

    /// The latest image that a user made with each LoRA, among their latest thousands.
    pub async fn latest_by_lora(
        &self,
        user: UserId,
    ) -> Result<HashMap<String, ImageId>, sqlx::Error> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "select lora.value ->> '$.name' as name, max(made.id) from (
                 select id, settings from image
                 where user_id = ?1 and trashed_at is null and imported_from is null
                 order by number desc limit 4000) made,
                 json_each(made.settings, '$.loras') lora
             where name is not null group by name",
        )
        .bind(user.0)
        .fetch_all(self.db.read())
        .await?;
        Ok(rows
            .into_iter()
            .map(|(name, image)| (name, ImageId(image)))
            .collect())
    }

    /// When the latest `count` images were made, and their facts, newest first.
    pub async fn latest_step_facts(&self, count: u32) -> Result<Vec<(i64, Facts)>, sqlx::Error> {
        let rows = sqlx::query("select created_at, facts from image where imported_from is null order by id desc limit ?")
            .bind(count)
            .fetch_all(self.db.read())
            .await?;
        rows.iter()
            .map(|row| {
                let facts = from_json(row.try_get("facts")?)?;
                Ok((row.try_get("created_at")?, facts))
            })
            .collect()
    }

    /// Settings and facts of the latest `count` images, newest first: what estimates are made from.
    pub async fn latest_facts(&self, count: u32) -> Result<Vec<(Settings, Facts)>, sqlx::Error> {
        let rows = sqlx::query("select settings, facts from image where imported_from is null order by id desc limit ?")
            .bind(count)
            .fetch_all(self.db.read())
            .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    from_json(row.try_get("settings")?)?,
                    from_json(row.try_get("facts")?)?,
                ))
            })
            .collect()
    }
}
