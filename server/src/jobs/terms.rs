//! What the queue speaks of: rows, claims, and what became of a request or a heartbeat.

use crate::gallery::Facts;
use atelier_app::account::UserId;
use atelier_app::gallery::ImageId;
use atelier_app::studio::{JobId, JobState, Rung, Settings};

/// How many jobs may wait.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Queued and running jobs of one user.
    pub per_user: u32,
    /// Queued and running jobs of everybody.
    pub total: u32,
}

/// A job's row.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Its owner.
    pub user_id: UserId,
    /// Where it stands.
    pub state: JobState,
    /// What was asked for.
    pub settings: Settings,
    /// Which attempt runs or ran last; 0 before the first.
    pub attempt: u32,
    /// The rungs it went down because a device failed it.
    pub rungs: Vec<Rung>,
    /// What the worker said last.
    pub phase: Option<String>,
    /// Finished steps, at most a heartbeat old.
    pub step: u32,
    /// Why it failed.
    pub error: Option<String>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds, of the last attempt.
    pub started_at: Option<i64>,
    /// Unix milliseconds.
    pub finished_at: Option<i64>,
    /// Its image, once done (and not deleted since).
    pub image_id: Option<ImageId>,
    /// That image is an earlier job's.
    pub cached: bool,
}

/// A job about to be queued.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// What to make.
    pub settings: Settings,
    /// What it is thought to cost, in device-seconds.
    pub cost: f64,
    /// An earlier image that is just that: the job is done at once.
    pub from_image: Option<ImageId>,
}

/// What became of a request for several jobs: all of them, or none.
#[derive(Debug)]
pub enum EnqueuedAll {
    /// They wait now, or are done.
    New(Vec<JobRow>),
    /// The same idempotency key came before: these are its jobs.
    Replayed(Vec<JobRow>),
    /// The user would have more than allowed.
    UserFull,
    /// Everybody together would.
    QueueFull,
    /// An administrator lets the queue run empty.
    Closed,
    /// An image to start from is gone.
    UploadGone,
}

/// What became of a request to queue.
#[derive(Debug)]
pub enum Enqueued {
    /// It waits now.
    New(JobRow),
    /// The same idempotency key came before: this is its job.
    Replayed(JobRow),
    /// The user has as many as allowed.
    UserFull,
    /// Everybody together has.
    QueueFull,
    /// An administrator lets the queue run empty.
    Closed,
}

/// A job in a worker's hands.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its id.
    pub id: JobId,
    /// Its owner.
    pub user_id: UserId,
    /// What to make.
    pub settings: Settings,
    /// The right to write; grows with each claim.
    pub fence: i64,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The rungs it went down before.
    pub rungs: Vec<Rung>,
    /// When it was queued, Unix milliseconds.
    pub created_at: i64,
    /// When it was claimed, Unix milliseconds.
    pub started_at: i64,
}

/// A heartbeat's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// Go on.
    Mine,
    /// The owner wants it stopped.
    Cancel,
    /// Somebody else has it, or it ended: drop everything.
    Lost,
}

/// A stored file about to become a job's image.
#[derive(Clone, Debug)]
pub struct NewImage {
    /// Its id.
    pub id: ImageId,
    /// SHA-256 of the PNG in hex; the file is on disk already.
    pub sha256: String,
    /// Bytes of the PNG.
    pub bytes: u64,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// `#rrggbb`.
    pub dominant_colour: String,
    /// How it was made.
    pub facts: Facts,
    /// A hash of everything that decides its pixels, where that is known.
    pub recipe: Option<String>,
}

/// Where somebody claims.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    /// The device, e.g. `cuda:0`; empty for nowhere in particular.
    pub device: &'a str,
    /// Devices that come first: only what has left all of them is taken.
    pub after: &'a [String],
}

/// A job whose worker is gone.
#[derive(Clone, Debug)]
pub struct LeftBehind {
    /// Its id.
    pub job: JobId,
    /// Who had it.
    pub owner: String,
    /// What was being done.
    pub phase: Option<String>,
    /// The rungs it went down before.
    pub rungs: Vec<Rung>,
}

/// Whose running jobs are taken back, besides those whose lease ran out.
#[derive(Clone, Copy, Debug)]
pub enum Dead<'a> {
    /// Nobody else's.
    Nobody,
    /// Everybody's: the server has just started, so no worker of an earlier one counts. That server's
    /// end says nothing about the job, so the attempt does not count.
    Everybody,
    /// This worker's, which died at its work.
    Crashed(&'a str),
    /// This worker's, which we ended ourselves: the attempt does not count.
    Stopped(&'a str),
}
