//! What administrators do to the queue as a whole: pause it, let it run empty, stop jobs, give a job
//! another place. Each act is in the audit log, written in the transaction that does it, and stays
//! over a restart.
//!
//! A place overrides the fair order for its own job only: so many jobs start before it, whosever they
//! are. The others stay in the fair order among themselves, and the owner of a job that was moved is
//! charged for it like for any other.

mod store; // SQL

pub(super) use store::is_held;

use super::protocol::Order;
use super::{JobService, Waiting};
use crate::audit::{Actor, store as audit};
use crate::db::now_ms;
use crate::error::ServerError;
use atelier_app::account::UserId;
use atelier_app::admin::{CancelWhich, MoveTo, QueueEntry, QueueFilter, QueueHold, QueueReport};
use atelier_app::error::AppError;
use atelier_app::studio::{JobId, JobState};
use std::collections::HashMap;

/// What the owner of a job reads that an administrator stopped.
pub const CANCELLED_BY_ADMIN: &str = "An administrator cancelled it.";
/// What whoever asks for an image reads while the queue runs empty.
pub(super) const CLOSED: &str = "An administrator lets the queue run empty, so no new images are taken just now. What waits already is still made. Try again later.";

/// Most rows of one kind (waiting, ended) on the page.
const SHOWN: usize = 200;
/// Hours that the sketch covers.
const HOURS: i64 = 24;

impl JobService {
    /// Pauses the queue or lets it go on; closes it or opens it again. What stands so already is no
    /// act.
    pub(crate) async fn set_hold(
        &self,
        actor: &Actor,
        hold: QueueHold,
        on: bool,
    ) -> Result<(), ServerError> {
        let now = now_ms();
        let mut write = self.queue.db.write().await?;
        if is_held(&mut write, hold).await? == on {
            return Ok(());
        }
        store::set_hold(&mut write, hold, on.then_some(actor.name.as_str()), now).await?;
        let act = match (hold, on) {
            (QueueHold::Paused, true) => "queue.pause",
            (QueueHold::Paused, false) => "queue.resume",
            (QueueHold::Closed, true) => "queue.drain",
            (QueueHold::Closed, false) => "queue.accept",
        };
        audit::insert(&mut write, actor, act, "", "", now).await?;
        write.commit().await?;
        tracing::info!(act, by = actor.name, "the queue's state was changed");
        self.board.order_changed();
        if !on {
            self.supervisor.order(Order::Wake);
        }
        Ok(())
    }

    /// Stops jobs of anybody, and answers how many there were to stop.
    pub(crate) async fn cancel_many(
        &self,
        actor: &Actor,
        which: &CancelWhich,
    ) -> Result<u32, ServerError> {
        let now = now_ms();
        let mut write = self.queue.db.write().await?;
        let (subject, whose) = match which {
            CancelWhich::Jobs(ids) if ids.is_empty() => {
                let words = "Select at least one job first.";
                return Err(AppError::invalid("ids", words).into());
            }
            CancelWhich::Jobs(ids) => (ids[0].0.clone(), "selected"),
            CancelWhich::OfUser(user) => (
                store::user_name(&mut write, *user)
                    .await?
                    .ok_or(AppError::NotFound)?,
                "of this user",
            ),
            CancelWhich::Waiting => (String::new(), "waiting"),
        };
        let stopped = store::cancel_many(&mut write, which, CANCELLED_BY_ADMIN, now).await?;
        if stopped.is_empty() {
            return Ok(0);
        }
        let count = u32::try_from(stopped.len()).unwrap_or(u32::MAX);
        let detail = match count {
            1 => format!("one job {whose}, asked for by {}", stopped[0].user_name),
            _ => format!("{count} jobs {whose}"),
        };
        audit::insert(&mut write, actor, "queue.cancel", &subject, &detail, now).await?;
        write.commit().await?;
        for job in stopped {
            match job.state {
                JobState::Running => self.supervisor.order(Order::Cancel { job: job.id }),
                _ => self.board.row_changed(&job.id, job.user_id, true),
            }
        }
        Ok(count)
    }

    /// Gives a waiting job another place among all that wait, or takes its place away again.
    ///
    /// # Errors
    /// [`AppError::Invalid`] where it, or the job it shall go before, does not wait any more.
    pub(crate) async fn move_job(
        &self,
        actor: &Actor,
        id: &JobId,
        to: &MoveTo,
    ) -> Result<(), ServerError> {
        let now = now_ms();
        // Nobody else writes from here on, so the order that is read is the one that is changed.
        let mut write = self.queue.db.write().await?;
        let order = self.queue.fair_order(None).await?;
        let places = replaced(&order, id, to)?;
        store::set_places(&mut write, &places).await?;
        let detail = match places.iter().find(|(job, _)| job == id) {
            Some((_, Some(place))) => format!("to place {} of {}", place + 1, order.len()),
            _ => "back to the fair order".to_owned(),
        };
        audit::insert(&mut write, actor, "queue.move", &id.0, &detail, now).await?;
        write.commit().await?;
        self.board.order_changed();
        Ok(())
    }

    /// The queue as administrators see it: what runs, what waits in the order in which it will start,
    /// what ended lately. Never a prompt.
    pub(crate) async fn queue_report(
        &self,
        filter: &QueueFilter,
    ) -> Result<QueueReport, ServerError> {
        let now = now_ms();
        let (paused, closed) = store::holds(&self.queue.db).await?;
        let order = self.queue.fair_order(None).await?;
        let places: HashMap<&JobId, usize> = order
            .iter()
            .enumerate()
            .map(|(place, job)| (&job.id, place))
            .collect();
        let running = self.queue.running().await?;
        let running_left = self.running_left_s().await?;
        let lanes = self.lanes();
        let mut ahead = Vec::with_capacity(order.len());
        let mut sum = 0.0;
        for job in &order {
            ahead.push(sum);
            sum += job.cost;
        }
        let mut rows = store::open_and_ended(&self.queue.db, SHOWN as u32).await?;
        let people = people(&rows);
        let (queued, at_work) = self.queue.depth().await?;
        rows.retain(|row| {
            filter.shows(row.entry.state)
                && (filter.user.is_empty() || filter.user == row.entry.user)
        });
        let mut left_out = 0;
        let mut waiting = 0;
        let mut entries: Vec<QueueEntry> = Vec::with_capacity(rows.len());
        for row in rows {
            let mut entry = row.entry;
            match entry.state {
                JobState::Queued => {
                    let place = places.get(&entry.id).copied();
                    entry.position = place.and_then(|place| u32::try_from(place).ok());
                    let settings = row.settings.unwrap_or_default();
                    let speed = self.speed(&settings).await?;
                    entry.takes_s = speed.map(|speed| speed.takes_s(&settings));
                    let knows_when = speed.is_some() && paused.is_none();
                    entry.starts_in_s = place
                        .filter(|_| knows_when)
                        .map(|place| (running_left + ahead[place]) / lanes);
                }
                JobState::Running => {
                    if let Some(latest) = self.board.latest(&entry.id) {
                        entry.step = latest.step.max(entry.step);
                    }
                    let job = running.iter().find(|job| job.id == entry.id);
                    if let Some(job) = job {
                        entry.left_s = self.left_s(job, self.speed(&job.settings).await?);
                    }
                }
                JobState::Done | JobState::Failed | JobState::Cancelled => {}
            }
            entries.push(entry);
        }
        entries.sort_by_key(|entry| match entry.state {
            JobState::Running => (0, entry.started_at.unwrap_or_default()),
            JobState::Queued => (1, entry.position.map_or(i64::MAX, i64::from)),
            _ => (2, -entry.finished_at.unwrap_or_default()),
        });
        entries.retain(|entry| {
            waiting += usize::from(entry.state == JobState::Queued);
            let fits = entry.state != JobState::Queued || waiting <= SHOWN;
            left_out += u32::from(!fits);
            fits
        });
        Ok(QueueReport {
            paused,
            closed,
            queued,
            running: at_work,
            rows: entries,
            left_out,
            people,
            hours: store::hours(&self.queue.db, now, HOURS).await?,
            now,
        })
    }
}

/// Everybody with a job in the list, by name.
fn people(rows: &[store::Row]) -> Vec<(UserId, String)> {
    let mut people: Vec<(UserId, String)> = rows
        .iter()
        .map(|row| (row.entry.user_id, row.entry.user.clone()))
        .collect();
    people.sort_by(|a, b| (&a.1, a.0).cmp(&(&b.1, b.0)));
    people.dedup();
    people
}

/// The places to be written down so that `id` comes to stand where it shall. Those that have a place
/// keep it as it is seen in the list; the rest fills the gaps in the fair order.
fn replaced(
    order: &[Waiting],
    id: &JobId,
    to: &MoveTo,
) -> Result<Vec<(JobId, Option<i64>)>, AppError> {
    let gone = |field: &str| {
        AppError::invalid(
            field,
            "The queue has moved on: this job does not wait any more. Nothing was changed.",
        )
    };
    let at = order
        .iter()
        .position(|job| &job.id == id)
        .ok_or_else(|| gone("id"))?;
    if *to == MoveTo::Fair {
        return Ok(vec![(id.clone(), None)]);
    }
    let mut others: Vec<&Waiting> = order.iter().filter(|job| &job.id != id).collect();
    let target = match to {
        MoveTo::Front | MoveTo::Fair => 0,
        MoveTo::Up => at.saturating_sub(1),
        MoveTo::Down => (at + 1).min(others.len()),
        MoveTo::End => others.len(),
        MoveTo::Before(other) => others
            .iter()
            .position(|job| &job.id == other)
            .ok_or_else(|| gone("before"))?,
    };
    others.insert(target, &order[at]);
    Ok(others
        .into_iter()
        .enumerate()
        .filter(|(_, job)| job.place.is_some() || &job.id == id)
        .map(|(place, job)| (job.id.clone(), i64::try_from(place).ok()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(id: &str, place: Option<i64>) -> Waiting {
        Waiting {
            id: JobId(id.into()),
            user_id: UserId(1),
            cost: 1.0,
            place,
        }
    }

    fn job(id: &str) -> JobId {
        JobId(id.into())
    }

    #[test]
    fn only_jobs_with_a_place_are_written() {
        let order = [
            waiting("a", None),
            waiting("b", Some(1)),
            waiting("c", None),
            waiting("d", None),
        ];
        let of = |to: &MoveTo| replaced(&order, &job("d"), to).unwrap();
        // d goes first, and b stays directly before c.
        assert_eq!(
            of(&MoveTo::Front),
            [(job("d"), Some(0)), (job("b"), Some(2))]
        );
        assert_eq!(of(&MoveTo::Up), [(job("b"), Some(1)), (job("d"), Some(2))]);
        assert_eq!(
            of(&MoveTo::Before(job("b"))),
            [(job("d"), Some(1)), (job("b"), Some(2))]
        );
        assert_eq!(of(&MoveTo::End), [(job("b"), Some(1)), (job("d"), Some(3))]);
        assert_eq!(of(&MoveTo::Fair), [(job("d"), None)]);
        let up = replaced(&order, &job("a"), &MoveTo::Up).unwrap();
        assert_eq!(up, [(job("a"), Some(0)), (job("b"), Some(1))]);
    }

    #[test]
    fn what_waits_no_more_is_not_moved() {
        let order = [waiting("a", None)];
        assert!(replaced(&order, &job("z"), &MoveTo::Front).is_err());
        assert!(replaced(&order, &job("a"), &MoveTo::Before(job("z"))).is_err());
    }
}
