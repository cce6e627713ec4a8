//! The ladder's SQL: rungs in a job's row, jobs handed over to another worker, and what workers that
//! died have left behind.

use super::{Descent, Rung};
use crate::db::{Write, now_ms};
use crate::jobs::queue::{
    Claim, Dead, LeftBehind, Queue, charge, from_json, seconds_since, to_json,
};
use crate::usage::store as usage;
use atelier_app::account::UserId;
use atelier_app::studio::JobId;
use sqlx::Row;

impl Queue {
    /// Writes a rung down; the job goes on in the same hands. `false`: the claim was lost.
    pub async fn descend(&self, claim: &Claim, rung: &Rung) -> Result<bool, sqlx::Error> {
        let mut write = self.db.write().await?;
        let mine: bool = sqlx::query_scalar(
            "select exists (select 1 from job where id = ? and fence = ? and state = 'running')",
        )
        .bind(&claim.id.0)
        .bind(claim.fence)
        .fetch_one(&mut *write)
        .await?;
        if mine {
            add_rung(&mut write, &claim.id.0, rung).await?;
            write.commit().await?;
        }
        Ok(mine)
    }

    /// Writes a rung down and puts the job back for another worker, without counting the attempt.
    /// `false`: the claim was lost.
    pub async fn hand_over(&self, claim: &Claim, rung: &Rung) -> Result<bool, sqlx::Error> {
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
        let Some(cost) = cost else { return Ok(false) };
        add_rung(&mut write, &claim.id.0, rung).await?;
        charge(&mut write, claim.user_id, -cost).await?;
        write.commit().await?;
        Ok(true)
    }

    /// Step 6: Takes back what workers left behind: every lease that ran out, and every job of `dead`
    /// workers. Answers the jobs that changed, each with who had it.
    pub async fn reap(
        &self,
        dead: Dead<'_>,
        why: &str,
    ) -> Result<Vec<(JobId, UserId, String)>, sqlx::Error> {
        self.reap_onto(dead, why, &|_| None).await
    }

    /// Step 6 with a ladder: a job that `next` gives a rung goes down that rung, and its attempt does
    /// not count.
    pub async fn reap_onto(
        &self,
        dead: Dead<'_>,
        why: &str,
        next: &(dyn Fn(&LeftBehind) -> Option<Rung> + Sync),
    ) -> Result<Vec<(JobId, UserId, String)>, sqlx::Error> {
        let (owner, everybody, innocent) = match dead {
            Dead::Nobody => (None, false, false),
            Dead::Everybody => (None, true, true),
            Dead::Crashed(owner) => (Some(owner), false, false),
            Dead::Stopped(owner) => (Some(owner), false, true),
        };
        let left: bool = sqlx::query_scalar(
            "select exists (select 1 from job where state = 'running' and (lease_until < ? or owner = ? or ?))",
        )
        .bind(now_ms())
        .bind(owner)
        .bind(everybody)
        .fetch_one(self.db.read())
        .await?;
        if !left {
            return Ok(Vec::new());
        }
        let mut write = self.db.write().await?;
        let now = now_ms();
        let rows = sqlx::query(
            "select id, user_id, coalesce(owner, '') as owner, cost, started_at, phase, rungs from job
             where state = 'running' and (lease_until < ? or owner = ? or ?)",
        )
        .bind(now)
        .bind(owner)
        .bind(everybody)
        .fetch_all(&mut *write)
        .await?;
        let mut reaped = Vec::with_capacity(rows.len());
        for row in &rows {
            let id: String = row.try_get("id")?;
            let user = UserId(row.try_get("user_id")?);
            let had: String = row.try_get("owner")?;
            let innocent = innocent && (everybody || owner == Some(had.as_str()));
            let rung = if innocent {
                None
            } else {
                next(&LeftBehind {
                    job: JobId(id.clone()),
                    owner: had.clone(),
                    phase: row.try_get("phase")?,
                    rungs: from_json(row.try_get("rungs")?)?,
                })
            };
            let forgiven = innocent || rung.is_some();
            // The fence moves on, so that a worker that was only asleep matches no row.
            sqlx::query(
                "update job set
                     state = case when cancel then 'cancelled' when attempt - ?1 >= max_attempts then 'failed' else 'queued' end,
                     error = case when not cancel and attempt - ?1 >= max_attempts then ?2 end,
                     finished_at = case when cancel or attempt - ?1 >= max_attempts then ?3 end,
                     attempt = attempt - ?1, fence = fence + 1,
                     owner = null, lease_until = null, phase = null, step = 0
                 where id = ?4",
            )
            .bind(i64::from(forgiven))
            .bind(why)
            .bind(now)
            .bind(&id)
            .execute(&mut *write)
            .await?;
            if let Some(rung) = rung {
                add_rung(&mut write, &id, &rung).await?;
            }
            // The next claim charges again. An attempt that ended its worker stays charged: whoever
            // sends such jobs waits for their turn like everybody else.
            if forgiven {
                charge(&mut write, user, -row.try_get::<f64, _>("cost")?).await?;
            } else {
                let started: Option<i64> = row.try_get("started_at")?;
                let spent = seconds_since(started.unwrap_or(now), now);
                usage::add(&mut write, user, spent, 0, now).await?;
            }
            reaped.push((JobId(id), user, had));
        }
        write.commit().await?;
        Ok(reaped)
    }
}

async fn add_rung(write: &mut Write, job: &str, rung: &Rung) -> Result<(), sqlx::Error> {
    let left = (rung.descent == Descent::Leave).then_some(rung.device.as_str());
    sqlx::query(
        "update job set rungs = json_insert(rungs, '$[#]', json(?1)),
             avoid = case when ?2 is null then avoid else json_insert(avoid, '$[#]', ?2) end
         where id = ?3",
    )
    .bind(to_json(rung)?)
    .bind(left)
    .bind(job)
    .execute(&mut **write)
    .await
    .map(|_| ())
}
