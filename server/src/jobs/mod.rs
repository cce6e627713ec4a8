//! Jobs: what may be queued, in which order it runs, how long that takes, and what its owner sees.
//!
//! The rules are here, the SQL in [`queue`]. A worker process does the work ([`worker`]); the
//! [`supervisor`] keeps it alive; [`progress`] carries its news to whoever watches.

mod control; // what administrators do to the queue as a whole
mod estimate; // how long an image takes
mod fairness; // who goes next
mod forecast; // when and how long, before it is asked for
pub mod ladder; // what a job changes when a device fails it
pub mod progress; // the news board
pub mod protocol; // what server and worker say to each other
pub mod queue; // the SQL: six statements and some looks
mod recipe; // what decides an image's pixels
mod store; // looks at the queue
mod submission; // from a request to jobs
mod supervisor; // worker processes, kept running
mod terms; // what the queue speaks of
pub mod worker; // such a process

pub use control::CANCELLED_BY_ADMIN;
pub use submission::{Submitted, SubmittedAll};

use crate::db::{Db, now_ms};
use crate::devices::Devices;
use crate::error::ServerError;
use crate::gallery::{Facts, GalleryService};
use crate::models::AddOns;
use crate::models::catalog::Catalog;
use crate::models::fingerprint::Fingerprints;
use crate::settings::RunTime;
use crate::startup::Shutdown;
use crate::uploads::UploadService;
use async_trait::async_trait;
use atelier_app::account::{UserId, Viewer};
use atelier_app::admin::{QueueRow, StepTime, WorkerReport};
use atelier_app::backend::{Answer, Jobs};
use atelier_app::error::AppError;
use atelier_app::gallery::ImageId;
use atelier_app::studio::{
    AddOn, DeviceBadge, Estimate, GenerationRequest, JobId, JobState, JobView, ModelSummary,
    PAUSED, PromptTokens, Settings,
};
use estimate::Speed;
use progress::Board;
use protocol::Order;
use queue::{Dead, JobRow, Queue, Waiting};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use supervisor::Supervisor;

/// What a job is thought to cost, in device-seconds, while its model was never measured.
const UNMEASURED_COST_S: f64 = 10.0;
/// Images that speeds are taken from.
const SPEED_SAMPLE: u32 = 100;
/// How long they serve: every step of every job asks for its model's speed.
const SPEED_KEPT: Duration = Duration::from_secs(1);
/// Images whose step times are plotted.
const PLOTTED: u32 = 60;
/// Between two looks at a job that somebody waits for.
const LOOK: Duration = Duration::from_secs(2);
/// How long a failed or cancelled job stays in its owner's list.
const REMEMBERED_MS: i64 = 10 * 60 * 1000;
/// Longest `Idempotency-Key`.
const LONGEST_KEY: usize = 200;

/// Settings and facts of images, newest first.
type Measurements = Vec<(Settings, Facts)>;

/// The queue and its worker.
pub struct JobService {
    queue: Queue,
    settings: Arc<RunTime>,
    models: Arc<Catalog>,
    add_ons: AddOns,
    prints: Arc<Fingerprints>,
    gallery: Arc<GalleryService>,
    uploads: Arc<UploadService>,
    devices: Arc<Devices>,
    board: Arc<Board>,
    supervisor: Arc<Supervisor>,
    shutdown: Shutdown,
    /// What the latest images took, and when that was read.
    measured: Mutex<Option<(Instant, Arc<Measurements>)>>,
    /// Held for as long as this server lives, so that no second one takes its jobs back.
    _lock: File,
}

impl JobService {
    /// Takes up the queue where it was left and starts the supervisor.
    ///
    /// # Errors
    /// When another server uses the same data folder, or the database's.
    pub async fn start(
        db: Db,
        settings: Arc<RunTime>,
        devices: Arc<Devices>,
        models: Arc<Catalog>,
        gallery: Arc<GalleryService>,
        uploads: Arc<UploadService>,
        shutdown: Shutdown,
    ) -> Result<Arc<Self>, ServerError> {
        let config = settings.config().clone();
        let lock = lock_folder(&config.data_dir.path)?;
        let queue = Queue::new(db);
        // Whatever ran when the last server ended has no worker now: it goes first in line again.
        for (job, _, owner) in queue.reap(Dead::Everybody, supervisor::CRASHED).await? {
            tracing::warn!(job = job.0, owner, "a job of an earlier run was taken back");
        }
        let board = Arc::new(Board::default());
        let supervisor = Supervisor::start(
            queue.clone(),
            board.clone(),
            config.clone(),
            devices.clone(),
        );
        Ok(Arc::new(Self {
            queue,
            settings,
            models,
            add_ons: AddOns::new(&config.data_dir.path, &config.lora_dirs.paths),
            prints: Arc::default(),
            gallery,
            uploads,
            devices,
            board,
            supervisor,
            shutdown,
            measured: Mutex::default(),
            _lock: lock,
        }))
    }

    /// Lets the running job finish within `grace`, or puts it back, and ends the worker.
    pub async fn stop(&self, grace: Duration) {
        self.supervisor.stop(grace).await;
    }

    /// The LoRAs and VAEs there are.
    pub fn add_ons(&self) -> &AddOns {
        &self.add_ons
    }

    /// The news board, for the event stream.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Waits until a job of the viewer has ended, and answers it; at once when it has already. When
    /// the server stops, a job that runs is waited for as long as it may run; one that waits is
    /// answered as it is, for it goes on after the restart.
    ///
    /// # Errors
    /// [`AppError::NotFound`] when it is nobody's or somebody else's.
    pub async fn wait_until_ended(&self, viewer: &Viewer, id: &JobId) -> Answer<JobView> {
        let mut changes = self.board.changes();
        loop {
            let stopping = self.shutdown.is_requested();
            let row = self.own(viewer, id).await?;
            if row.state.is_final() || (stopping && row.state == JobState::Queued) {
                return self.view(row).await;
            }
            // The board tells at once; looking by ourselves is the safety net.
            let look = tokio::time::sleep(LOOK);
            tokio::pin!(look);
            loop {
                tokio::select! {
                    () = &mut look => break,
                    () = self.shutdown.requested(), if !stopping => break,
                    changed = changes.changed() => {
                        // Steps are news to others; only what the worker has let go can have ended.
                        let let_go = self.board.latest(id).is_none_or(|latest| latest.ended());
                        if changed.is_err() || let_go {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Every open job of a user, oldest first: what the event stream starts with.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_open(&self, viewer: &Viewer) -> Answer<Vec<JobView>> {
        let rows = self
            .queue
            .active(viewer.id, i64::MAX)
            .await
            .map_err(ServerError::from)?;
        self.views(rows).await
    }

    /// Everybody's queued and running jobs, and the last twenty that ended. For administrators.
    ///
    /// # Errors
    /// The database's.
    pub async fn admin_queue(&self) -> Answer<Vec<QueueRow>> {
        let mut rows = self.queue.overview().await.map_err(ServerError::from)?;
        for row in rows.iter_mut().filter(|row| row.state == JobState::Running) {
            if let Some(latest) = self.board.latest(&row.id) {
                row.step = latest.step;
            }
        }
        Ok(rows)
    }

    /// Whether a waiting or running job of anybody's needs this model.
    ///
    /// # Errors
    /// The database's.
    pub async fn needs_model(&self, name: &str) -> Answer<bool> {
        Ok(self
            .queue
            .needs_model(name)
            .await
            .map_err(ServerError::from)?)
    }

    /// Whether there is such a job, whoever's it is. For administrators.
    ///
    /// # Errors
    /// The database's.
    pub async fn is_there(&self, id: &JobId) -> Answer<bool> {
        let row = self.queue.job(id).await.map_err(ServerError::from)?;
        Ok(row.is_some())
    }

    /// Stops anybody's job. For administrators.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub async fn admin_cancel(&self, id: &JobId) -> Answer<()> {
        self.stop_job(id, None).await.map(|_| ())
    }

    /// The worker that new jobs go to in words: "starting", "idle", "working", "restarting (…)".
    pub fn worker_state(&self) -> String {
        self.supervisor.words()
    }

    /// Every worker process.
    pub fn workers(&self) -> Vec<WorkerReport> {
        self.supervisor.workers()
    }

    /// Measured seconds per denoising step of the latest images, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn step_times(&self) -> Answer<Vec<f64>> {
        let latest = self
            .queue
            .latest_facts(PLOTTED)
            .await
            .map_err(ServerError::from)?;
        Ok(latest
            .iter()
            .rev()
            .filter_map(|(_, facts)| facts.typical_step_s())
            .collect())
    }

    /// Open jobs of everybody: (queued, running).
    ///
    /// # Errors
    /// The database's.
    pub async fn depth(&self) -> Answer<(u32, u32)> {
        let depth = self.queue.depth().await;
        Ok(depth.map_err(ServerError::from)?)
    }

    /// Step times with the device and the time of each, oldest first: what each device's plot shows.
    ///
    /// # Errors
    /// The database's.
    pub async fn step_times_by_device(&self) -> Answer<Vec<(String, StepTime)>> {
        let latest = self
            .queue
            .latest_step_facts(PLOTTED)
            .await
            .map_err(ServerError::from)?;
        let time = |(at, facts): &(i64, Facts)| {
            let seconds = facts.typical_step_s()?;
            Some((facts.device.clone(), StepTime { at: *at, seconds }))
        };
        Ok(latest.iter().rev().filter_map(time).collect())
    }

    async fn own(&self, viewer: &Viewer, id: &JobId) -> Answer<JobRow> {
        self.queue
            .job(id)
            .await
            .map_err(ServerError::from)?
            .filter(|row| row.user_id == viewer.id)
            .ok_or(AppError::NotFound)
    }

    async fn stop_job(&self, id: &JobId, user: Option<UserId>) -> Answer<JobRow> {
        let row = self
            .queue
            .cancel(id, user)
            .await
            .map_err(ServerError::from)?
            .ok_or(AppError::NotFound)?;
        match row.state {
            JobState::Running => self.supervisor.order(Order::Cancel { job: id.clone() }),
            JobState::Cancelled => self.board.row_changed(id, row.user_id, true),
            JobState::Queued | JobState::Done | JobState::Failed => {}
        }
        Ok(row)
    }

    async fn speed(&self, settings: &Settings) -> Result<Option<Speed>, ServerError> {
        let known = {
            let measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
            measured
                .as_ref()
                .filter(|(at, latest)| !latest.is_empty() && at.elapsed() < SPEED_KEPT)
                .map(|(_, latest)| latest.clone())
        };
        let latest = match known {
            Some(latest) => latest,
            None => {
                let latest = Arc::new(self.queue.latest_facts(SPEED_SAMPLE).await?);
                *self.measured.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((Instant::now(), latest.clone()));
                latest
            }
        };
        Ok(self.speed_from(&latest, settings))
    }

    async fn cost(&self, settings: &Settings) -> Result<f64, ServerError> {
        let speed = self.speed(settings).await?;
        Ok(speed.map_or(UNMEASURED_COST_S, |speed| speed.takes_s(settings)))
    }

    /// How many workers share the queue.
    fn lanes(&self) -> f64 {
        let plan = self.devices.plan();
        let count = plan
            .borrow()
            .lanes
            .iter()
            .filter(|lane| !lane.standby)
            .count();
        count.max(1) as f64
    }

    /// Seconds until the devices are through with what runs now, all of it after each other.
    async fn running_left_s(&self) -> Result<f64, ServerError> {
        let mut left = 0.0;
        for job in self.queue.running().await? {
            left += self
                .left_s(&job, self.speed(&job.settings).await?)
                .unwrap_or(UNMEASURED_COST_S);
        }
        Ok(left)
    }

    /// Seconds left of a running job: from its own steps where it has some, else from its model's speed.
    fn left_s(&self, row: &JobRow, speed: Option<Speed>) -> Option<f64> {
        let latest = self.board.latest(&row.id);
        let all = f64::from(estimate::steps(&row.settings));
        if let Some(latest) = latest.filter(|latest| latest.step > 0 && latest.denoising_s > 0.0) {
            let done = f64::from(latest.step);
            let since_s = (now_ms() - latest.said_at).max(0) as f64 / 1000.0;
            let steps_left = latest.denoising_s / done * (all - done);
            let overhead = speed.map_or(0.0, |speed| speed.overhead_s(&row.settings));
            return Some((steps_left + overhead - since_s).max(0.0));
        }
        let spent_s = (now_ms() - row.started_at?).max(0) as f64 / 1000.0;
        Some((speed?.takes_s(&row.settings) - spent_s).max(0.0))
    }

    async fn too_many(&self, user: UserId, own: bool) -> Result<AppError, ServerError> {
        // A place comes free when the next job ends.
        let left = self.running_left_s().await?;
        let limits = self.settings.limits();
        let retry_after_s = left.ceil().clamp(1.0, 3600.0) as u32;
        tracing::info!(user = user.0, own, "the queue is full");
        let message = if own {
            format!(
                "You have {} images waiting, which is the limit. Wait for one to finish, or cancel one.",
                limits.per_user
            )
        } else {
            format!(
                "The queue is full ({} images). Try again in about {retry_after_s} s.",
                limits.total
            )
        };
        Ok(AppError::TooMany {
            message,
            retry_after_s,
        })
    }

    async fn view(&self, row: JobRow) -> Answer<JobView> {
        Ok(self.views(vec![row]).await?.remove(0))
    }

    async fn views(&self, rows: Vec<JobRow>) -> Answer<Vec<JobView>> {
        let mut order: Option<(Vec<Waiting>, f64)> = None;
        let mut held = None;
        let mut views = Vec::with_capacity(rows.len());
        for row in rows {
            let speed = self.speed(&row.settings).await?;
            let mut position = None;
            let mut seconds_left = None;
            match row.state {
                JobState::Queued => {
                    if order.is_none() {
                        let waiting = self
                            .queue
                            .fair_order(None)
                            .await
                            .map_err(ServerError::from)?;
                        order = Some((waiting, self.running_left_s().await?));
                        let is_held = self.queue.is_held().await.map_err(ServerError::from)?;
                        held = is_held.then(|| PAUSED.to_owned());
                    }
                    if let Some((waiting, running)) = &order {
                        let place = waiting.iter().position(|job| job.id == row.id);
                        position = place.and_then(|place| u32::try_from(place).ok());
                        let known = speed.zip(place).filter(|_| held.is_none());
                        seconds_left = known.map(|(speed, place)| {
                            let before = waiting[..place].iter().map(|job| job.cost).sum::<f64>();
                            (running + before) / self.lanes() + speed.takes_s(&row.settings)
                        });
                    }
                }
                JobState::Running => seconds_left = self.left_s(&row, speed),
                JobState::Done | JobState::Failed | JobState::Cancelled => {}
            }
            let latest = self
                .board
                .latest(&row.id)
                .filter(|_| row.state == JobState::Running);
            let steps = estimate::steps(&row.settings);
            views.push(JobView {
                held: held.clone().filter(|_| row.state == JobState::Queued),
                position,
                seconds_left,
                phase: match &latest {
                    Some(latest) => latest.phase.clone().or(row.phase),
                    None => row.phase,
                },
                step: match (&latest, row.state) {
                    (_, JobState::Done) => steps,
                    (Some(latest), _) => latest.step.max(row.step),
                    (None, _) => row.step,
                },
                steps,
                preview: latest.and_then(|latest| latest.preview),
                image_id: row.image_id.map(|image| image.0),
                cached: row.cached,
                id: row.id,
                state: row.state,
                settings: row.settings,
                error: row.error,
                attempt: row.attempt,
                rungs: row.rungs,
                created_at: row.created_at,
                finished_at: row.finished_at,
            });
        }
        Ok(views)
    }
}

/// Two servers on one folder would take each other's running jobs for dead.
pub(crate) fn lock_folder(data_dir: &Path) -> Result<File, ServerError> {
    let path = data_dir.join("serve.lock");
    let file =
        File::create(&path).map_err(ServerError::io(format!("opening {}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(ServerError::Answer(AppError::invalid(
            "data-dir",
            format!(
                "another Atelier server uses the folder {}; stop it, or choose another with --data-dir",
                data_dir.display()
            ),
        ))),
        Err(std::fs::TryLockError::Error(source)) => Err(ServerError::io(format!(
            "locking {}",
            path.display()
        ))(source)),
    }
}

#[async_trait]
impl Jobs for JobService {
    async fn submit(&self, viewer: &Viewer, request: GenerationRequest) -> Answer<JobView> {
        Ok(self.submit_once(viewer, request, None).await?.job)
    }

    async fn list_active(&self, viewer: &Viewer) -> Answer<Vec<JobView>> {
        let since = now_ms() - REMEMBERED_MS;
        let rows = self
            .queue
            .active(viewer.id, since)
            .await
            .map_err(ServerError::from)?;
        self.views(rows).await
    }

    async fn job(&self, viewer: &Viewer, id: &JobId) -> Answer<JobView> {
        let row = self.own(viewer, id).await?;
        self.view(row).await
    }

    async fn cancel(&self, viewer: &Viewer, id: &JobId) -> Answer<JobView> {
        let row = self.stop_job(id, Some(viewer.id)).await?;
        self.view(row).await
    }

    async fn estimate(&self, viewer: &Viewer, request: GenerationRequest) -> Answer<Estimate> {
        self.forecast(viewer, request).await
    }

    async fn prompt_tokens(
        &self,
        viewer: &Viewer,
        request: GenerationRequest,
    ) -> Answer<PromptTokens> {
        let models = self.models.fresh_for(viewer).await;
        // Reading a tokenizer's files takes some ten milliseconds, once per model.
        tokio::task::spawn_blocking(move || models.prompt_tokens(&request))
            .await
            .map_err(|error| ServerError::broken(format!("reading a tokenizer: {error}")))?
    }

    async fn list_models(&self, viewer: &Viewer) -> Answer<Vec<ModelSummary>> {
        Ok(self.models.fresh_for(viewer).await.summaries())
    }

    async fn list_loras(&self, viewer: &Viewer) -> Answer<Vec<AddOn>> {
        let add_ons = self.add_ons.clone();
        let listed = tokio::task::spawn_blocking(move || add_ons.list_loras()).await;
        let mut listed = listed.map_err(|error| ServerError::broken(error.to_string()))?;
        if listed.iter().any(|lora| lora.preview.is_none()) {
            let made = self.queue.latest_by_lora(viewer.id).await;
            let made = made.map_err(ServerError::from)?;
            for lora in listed.iter_mut().filter(|lora| lora.preview.is_none()) {
                lora.preview = made.get(&lora.name).map(ImageId::thumbnail_url);
            }
        }
        Ok(listed)
    }

    async fn list_vaes(&self, _: &Viewer) -> Answer<Vec<AddOn>> {
        let add_ons = self.add_ons.clone();
        let listed = tokio::task::spawn_blocking(move || add_ons.list_vaes()).await;
        Ok(listed.map_err(|error| ServerError::broken(error.to_string()))?)
    }

    async fn device_badge(&self, _: &Viewer) -> Answer<DeviceBadge> {
        Ok(self.devices.badge())
    }
}
