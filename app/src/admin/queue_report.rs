//! What administrators see of the queue, and what they can do to it: wire types.

use crate::account::UserId;
use crate::studio::{JobId, JobState};
use serde::{Deserialize, Serialize};

/// The queue as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueReport {
    /// Nothing new starts since then.
    pub paused: Option<Hold>,
    /// Nothing new is taken since then.
    pub closed: Option<Hold>,
    /// Jobs of everybody that wait.
    pub queued: u32,
    /// Jobs of everybody that run.
    pub running: u32,
    /// What the filter lets through: running jobs, then waiting ones in the order in which they will
    /// start, then those that ended lately, latest first.
    pub rows: Vec<QueueEntry>,
    /// Waiting jobs that pass the filter and are not in `rows`.
    pub left_out: u32,
    /// Everybody with a job that could be in `rows`, by name.
    pub people: Vec<(UserId, String)>,
    /// How jobs ended in the last hours, oldest hour first.
    pub hours: Vec<HourCount>,
    /// The server's clock, Unix milliseconds.
    pub now: i64,
}

impl QueueReport {
    /// Whether it was let run empty, and is.
    pub fn is_drained(&self) -> bool {
        self.closed.is_some() && self.queued == 0 && self.running == 0
    }
}

/// Who holds the queue since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The administrator's name.
    pub by: String,
    /// Unix milliseconds.
    pub since: i64,
}

/// A way of holding the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueHold {
    /// Nothing new starts; what runs goes on to its end, and new jobs are taken.
    Paused,
    /// Nothing new is taken; what waits is still made.
    Closed,
}

impl QueueHold {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Closed => "closed",
        }
    }
}

/// A job of anybody's: whose, how large, how long. Never the prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// Its id.
    pub id: JobId,
    /// Its owner.
    pub user_id: UserId,
    /// Its owner's name.
    pub user: String,
    /// Where it stands.
    pub state: JobState,
    /// The model's name.
    pub model: String,
    /// "1024×1024".
    pub size: String,
    /// Finished steps.
    pub step: u32,
    /// All steps.
    pub steps: u32,
    /// Which attempt (1 = first; 0 = none yet).
    pub attempt: u32,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Of the last attempt, Unix milliseconds.
    pub started_at: Option<i64>,
    /// Unix milliseconds.
    pub finished_at: Option<i64>,
    /// What its worker does now.
    pub phase: Option<String>,
    /// Jobs that start before it, while it waits.
    pub position: Option<u32>,
    /// An administrator gave it its place.
    pub placed: bool,
    /// Answered by an earlier image.
    pub cached: bool,
    /// Seconds until it starts, while it waits, where that can be known.
    pub starts_in_s: Option<f64>,
    /// Seconds it will take, while it waits, where its model was measured.
    pub takes_s: Option<f64>,
    /// Seconds left while it runs.
    pub left_s: Option<f64>,
}

impl Default for QueueEntry {
    fn default() -> Self {
        Self {
            id: JobId(String::new()),
            user_id: UserId(0),
            user: String::new(),
            state: JobState::Queued,
            model: String::new(),
            size: String::new(),
            step: 0,
            steps: 0,
            attempt: 0,
            created_at: 0,
            started_at: None,
            finished_at: None,
            phase: None,
            position: None,
            placed: false,
            cached: false,
            starts_in_s: None,
            takes_s: None,
            left_s: None,
        }
    }
}

/// How jobs ended in one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourCount {
    /// When it began, Unix milliseconds.
    pub at: i64,
    /// With an image.
    pub done: u32,
    /// Without one.
    pub failed: u32,
    /// Stopped.
    pub cancelled: u32,
}

/// Which jobs are wanted; empty texts want all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QueueFilter {
    /// "running", "waiting", "ended", or a state by its name.
    #[serde(default)]
    pub state: String,
    /// The owner's name.
    #[serde(default)]
    pub user: String,
}

impl QueueFilter {
    /// Whether jobs in this state are wanted.
    pub fn shows(&self, state: JobState) -> bool {
        match self.state.as_str() {
            "running" => state == JobState::Running,
            "waiting" | "queued" => state == JobState::Queued,
            "ended" => state.is_final(),
            "done" => state == JobState::Done,
            "failed" => state == JobState::Failed,
            "cancelled" => state == JobState::Cancelled,
            _ => true,
        }
    }
}

/// Which jobs are to be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CancelWhich {
    /// These.
    Jobs(Vec<JobId>),
    /// All of one user, running ones too.
    OfUser(UserId),
    /// Everything that waits; what runs goes on.
    Waiting,
}

/// Where a waiting job is to go, among everybody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveTo {
    /// Before all others.
    Front,
    /// One place ahead.
    Up,
    /// One place back.
    Down,
    /// Behind all others.
    End,
    /// Directly before this one.
    Before(JobId),
    /// Where fairness puts it.
    Fair,
}
