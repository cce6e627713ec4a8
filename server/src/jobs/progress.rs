//! The news board: what workers said last about each job, for whoever watches. In memory only; the
//! latest word wins, so a slow reader costs nothing.

use super::protocol::News;
use crate::db::now_ms;
use atelier_app::account::UserId;
use atelier_app::studio::JobId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How long the news of an ended job are kept, for readers that lag.
const KEPT_MS: i64 = 60_000;

/// What was said last about one job.
#[derive(Clone, Debug)]
pub struct Latest {
    /// The job's owner.
    pub user: UserId,
    /// What the worker does now.
    pub phase: Option<String>,
    /// Finished steps.
    pub step: u32,
    /// Seconds since denoising began; 0 before.
    pub denoising_s: f64,
    /// The latents as a `data:` address.
    pub preview: Option<String>,
    /// When the attempt began, Unix milliseconds.
    pub claimed_at: i64,
    /// When this was said, Unix milliseconds.
    pub said_at: i64,
    /// Grows with each change anywhere on the board.
    pub version: u64,
    ended: bool,
}

/// The board. Readers wait on [`Board::changes`] and then look at what is newer than they have seen.
pub struct Board {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    jobs: HashMap<JobId, Latest>,
    version: u64,
    /// The version at which the order of the waiting last changed.
    order_version: u64,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Board {
    /// Wakes at each change; the value is the board's version.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What was said last about a job.
    pub fn latest(&self, job: &JobId) -> Option<Latest> {
        self.lock().jobs.get(job).cloned()
    }

    /// The board's version.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// A user's jobs that changed after `version`, and whether the order of the waiting did.
    pub fn newer(&self, user: UserId, version: u64) -> (Vec<JobId>, bool) {
        let inner = self.lock();
        let mut jobs: Vec<(u64, JobId)> = inner
            .jobs
            .iter()
            .filter(|(_, latest)| latest.user == user && latest.version > version)
            .map(|(job, latest)| (latest.version, job.clone()))
            .collect();
        jobs.sort();
        (
            jobs.into_iter().map(|(_, job)| job).collect(),
            inner.order_version > version,
        )
    }

    /// Says that a job's row changed (queued, cancelled, put back, ended).
    pub fn row_changed(&self, job: &JobId, user: UserId, ended: bool) {
        self.change(|inner, version| {
            inner.order_version = version;
            let latest = inner
                .jobs
                .entry(job.clone())
                .or_insert_with(|| Latest::new(user));
            // Whatever a worker said before is about an attempt that is over.
            *latest = Latest {
                version,
                ended,
                ..Latest::new(user)
            };
        });
    }

    /// Says that the order of the waiting changed, or that the queue was paused or goes on: whoever
    /// waits is told.
    pub fn order_changed(&self) {
        self.change(|inner, version| inner.order_version = version);
    }

    /// Puts a worker's news up. Answers the job that ended, with its owner.
    pub fn hear(&self, news: News) -> Option<(JobId, UserId)> {
        let mut ended = None;
        self.change(|inner, version| match news {
            News::Idle => {}
            News::Claimed { job, user, .. } => {
                inner.order_version = version;
                inner.jobs.insert(
                    job,
                    Latest {
                        version,
                        ..Latest::new(user)
                    },
                );
            }
            News::Progress {
                job,
                phase,
                step,
                denoising_s,
                preview,
            } => {
                if let Some(latest) = inner.jobs.get_mut(&job) {
                    latest.phase = Some(phase);
                    latest.step = step;
                    latest.denoising_s = denoising_s;
                    // The last picture stays while the worker says something without one.
                    latest.preview = preview.or_else(|| latest.preview.take());
                    latest.said_at = now_ms();
                    latest.version = version;
                }
            }
            News::Rung { job, .. } => {
                // The row has the rung; whoever watches reads it there.
                if let Some(latest) = inner.jobs.get_mut(&job) {
                    *latest = Latest {
                        version,
                        ..Latest::new(latest.user)
                    };
                }
            }
            News::Ended { job } => {
                inner.order_version = version;
                if let Some(latest) = inner.jobs.get_mut(&job) {
                    *latest = Latest {
                        version,
                        ended: true,
                        ..Latest::new(latest.user)
                    };
                    ended = Some((job, latest.user));
                }
            }
        });
        ended
    }

    fn change(&self, edit: impl FnOnce(&mut Inner, u64)) {
        let version = {
            let mut inner = self.lock();
            inner.version += 1;
            let version = inner.version;
            edit(&mut inner, version);
            let now = now_ms();
            inner
                .jobs
                .retain(|_, latest| !latest.ended || now - latest.said_at < KEPT_MS);
            version
        };
        self.changed.send_replace(version);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latest {
    /// Whether the attempt is over: its job's row says how.
    pub fn ended(&self) -> bool {
        self.ended
    }

    fn new(user: UserId) -> Self {
        let now = now_ms();
        Self {
            user,
            phase: None,
            step: 0,
            denoising_s: 0.0,
            preview: None,
            claimed_at: now,
            said_at: now,
            version: 0,
            ended: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_only_what_is_theirs_and_new() {
        let board = Board::default();
        let (mine, theirs) = (JobId("1".into()), JobId("2".into()));
        board.row_changed(&mine, UserId(1), false);
        board.row_changed(&theirs, UserId(2), false);
        assert_eq!(board.newer(UserId(1), 0), (vec![mine.clone()], true));
        let seen = board.version();
        assert_eq!(board.newer(UserId(1), seen), (vec![], false));
        board.hear(News::Claimed {
            job: mine.clone(),
            user: UserId(1),
            attempt: 1,
        });
        let progress = |step, preview: Option<&str>| News::Progress {
            job: mine.clone(),
            phase: "denoising".into(),
            step,
            denoising_s: 1.0,
            preview: preview.map(str::to_owned),
        };
        board.hear(progress(1, Some("data:1")));
        board.hear(progress(2, None));
        let latest = board.latest(&mine).unwrap();
        assert_eq!(
            (latest.step, latest.preview.as_deref()),
            (2, Some("data:1"))
        );
        assert_eq!(
            board.hear(News::Ended { job: mine.clone() }),
            Some((mine.clone(), UserId(1)))
        );
        assert_eq!(board.latest(&mine).unwrap().preview, None);
        // News of a job that nobody claimed are about nothing.
        board.hear(News::Progress {
            job: JobId("3".into()),
            phase: "x".into(),
            step: 1,
            denoising_s: 0.0,
            preview: None,
        });
        assert!(board.latest(&JobId("3".into())).is_none());
    }
}
