//! `atelier worker`: claims jobs, runs the engine, stores the results.
//!
//! A process of its own, so that a crash, a hang or the OOM killer costs one attempt of one job.
//! It talks to the job table for everything that matters and to its supervisor for news; when its
//! standard input ends, the server is gone, and so is the worker at once.

mod loading; // the model in its memory

use super::protocol::{News, Order, line};
use super::queue::{Claim, NewImage, Pulse, Queue};
use super::recipe::recipe;
use crate::config::{Lease, LogFormat, WorkerArgs};
use crate::db::{Db, now_ms};
use crate::gallery::metadata::{dominant_colour, write_png};
use crate::gallery::{Facts, ImageStore};
use crate::models::AddOns;
use crate::models::catalog::Catalog;
use crate::models::fingerprint::Fingerprints;
use crate::telemetry;
use atelier_app::gallery::{ImageId, PhaseTimings};
use atelier_app::studio::JobId;
use atelier_engine::{Control, Phase, Progress};
use base64::Engine as _;
use image::RgbImage;
use loading::{Made, Needs, Resident, Unmade, run_engine};
use std::io::{BufRead, Cursor, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use uuid::Uuid;

/// How often an idle worker looks by itself, should a wake-up have been lost.
const LOOK: Duration = Duration::from_secs(1);

/// Between two tries to write down how a job ended.
const AGAIN: Duration = Duration::from_secs(1);

/// What came of looking for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing waits.
    Nothing,
    /// A job ended (its row says how).
    Ended,
    /// The engine panicked: what it holds cannot be trusted, so the process should end.
    Doubtful,
}

/// Runs jobs on a device until standard input closes.
pub fn run(args: WorkerArgs) -> ExitCode {
    // Two threads: the heart must beat while a store or a claim waits for the disk.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let result = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| {
            let result = runtime.block_on(work(args));
            // A model that is just being loaded is not waited for.
            runtime.shutdown_background();
            result
        });
    match result {
        Ok(code) => code,
        Err(words) => {
            eprintln!("error: {words}");
            ExitCode::FAILURE
        }
    }
}

async fn work(args: WorkerArgs) -> Result<ExitCode, String> {
    telemetry::start(&args.log, LogFormat::Text)?;
    let mut worker = Worker::open(&args, print).await?;
    let desk = worker.desk.clone();
    listen(desk.clone());
    tokio::spawn(drain_on_signal(desk.clone()));
    loop {
        if desk.draining.load(Ordering::Acquire) {
            return Ok(ExitCode::SUCCESS);
        }
        match worker.run_next_job().await {
            Ok(Outcome::Ended) => {}
            Ok(Outcome::Doubtful) => return Ok(ExitCode::FAILURE),
            Ok(Outcome::Nothing) => {
                print(&News::Idle);
                let _ = tokio::time::timeout(LOOK, desk.woken.notified()).await;
            }
            Err(error) => {
                tracing::error!(%error, "the queue could not be asked");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// One line of news on standard output. A closed pipe means that the server is gone; standard input
/// says so as well.
fn print(news: &News) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line(news).as_bytes());
    let _ = out.flush();
}

/// What the order-reading thread and the job share.
#[derive(Default)]
struct Desk {
    draining: AtomicBool,
    releasing: AtomicBool,
    woken: Notify,
    fallback_reason: Mutex<Option<String>>,
    current: Mutex<Option<Arc<Current>>>,
}

/// The job under way, as seen from outside the engine's thread.
struct Current {
    job: JobId,
    stop: Mutex<Option<Stop>>,
    stop_asked: Notify,
    /// The engine cannot be stopped while it loads a model.
    loading: AtomicBool,
    phase: Mutex<(String, u32)>,
}

/// Why a job is stopped before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Cancelled,
    Released,
    Lost,
}

impl Current {
    fn new(job: JobId) -> Self {
        Self {
            job,
            stop: Mutex::default(),
            stop_asked: Notify::new(),
            loading: AtomicBool::new(false),
            phase: Mutex::new(("starting".into(), 0)),
        }
    }

    fn stop(&self, why: Stop) {
        lock(&self.stop).get_or_insert(why);
        self.stop_asked.notify_one();
    }

    /// Waits for a stop that is asked for while the model loads; one that comes later is seen by
    /// the engine itself.
    async fn stopped_while_loading(&self) -> Stop {
        loop {
            self.stop_asked.notified().await;
            if let Some(why) = self.stopped()
                && self.loading.load(Ordering::Acquire)
            {
                return why;
            }
        }
    }

    fn stopped(&self) -> Option<Stop> {
        *lock(&self.stop)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads orders on a thread of their own; ends the process when they end.
fn listen(desk: Arc<Desk>) {
    std::thread::spawn(move || {
        for text in std::io::stdin().lock().lines() {
            let Ok(text) = text else { break };
            match serde_json::from_str::<Order>(&text) {
                Ok(order) => desk.obey(order),
                Err(error) => tracing::warn!(%error, "an order could not be read"),
            }
        }
        // The server is gone without a word. Whatever runs here is taken back by the next one.
        std::process::exit(3);
    });
}

impl Desk {
    fn obey(&self, order: Order) {
        let current = lock(&self.current).clone();
        match order {
            Order::Wake => {}
            Order::Cancel { job } => {
                if let Some(current) = current.filter(|current| current.job == job) {
                    current.stop(Stop::Cancelled);
                }
            }
            Order::Device { fallback_reason } => *lock(&self.fallback_reason) = fallback_reason,
            Order::Drain => self.draining.store(true, Ordering::Release),
            Order::Release => {
                self.draining.store(true, Ordering::Release);
                self.releasing.store(true, Ordering::Release);
                if let Some(current) = current {
                    current.stop(Stop::Released);
                }
            }
        }
        self.woken.notify_one();
    }
}

/// A service manager may signal every process at once: the running job is then put back, uncounted.
async fn drain_on_signal(desk: Arc<Desk>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    desk.obey(Order::Release);
}

/// Where news go.
type Say = Arc<dyn Fn(&News) + Send + Sync>;

/// Runs jobs one by one, with the latest model kept in memory.
pub struct Worker {
    owner: String,
    lease: Lease,
    queue: Queue,
    models: Arc<Catalog>,
    add_ons: AddOns,
    prints: Fingerprints,
    data_dir: PathBuf,
    files: ImageStore,
    desk: Arc<Desk>,
    say: Say,
    /// The model in memory.
    loaded: Option<Resident>,
}

impl Worker {
    /// Opens the data folder that a server has made; `say` takes the news.
    ///
    /// # Errors
    /// One line that names what cannot be used.
    pub async fn open(
        args: &WorkerArgs,
        say: impl Fn(&News) + Send + Sync + 'static,
    ) -> Result<Self, String> {
        if args.device != "cpu" {
            return Err(format!(
                "--device {}: this build computes on the CPU only",
                args.device
            ));
        }
        let owner = args
            .owner
            .clone()
            .unwrap_or_else(|| format!("worker-{}", Uuid::now_v7()));
        let db = Db::connect(&args.data_dir.database())
            .await
            .map_err(|error| error.to_string())?;
        let folders: Vec<_> = args
            .models
            .folders
            .iter()
            .map(|folder| (folder.name.clone(), folder.path.clone()))
            .collect();
        let models = Catalog::open(&args.data_dir.path, &folders, None)
            .map_err(|error| error.to_string())?;
        let files = ImageStore::open(&args.data_dir.path).map_err(|error| error.to_string())?;
        Ok(Self {
            owner,
            lease: args.lease,
            queue: Queue::new(db),
            models: Arc::new(models),
            add_ons: AddOns::new(&args.data_dir.path, &args.lora_dirs.paths),
            prints: Fingerprints::default(),
            data_dir: args.data_dir.path.clone(),
            files,
            desk: Arc::default(),
            say: Arc::new(say),
            loaded: None,
        })
    }

    /// Claims the next job in fair order and runs it to its end.
    ///
    /// # Errors
    /// The database's; a job that was claimed then waits for its lease to run out.
    pub async fn run_next_job(&mut self) -> Result<Outcome, sqlx::Error> {
        let claimed = self.queue.claim(&self.owner, self.lease.length()).await?;
        let Some(claim) = claimed else {
            return Ok(Outcome::Nothing);
        };
        let began = Instant::now();
        let current = Arc::new(Current::new(claim.id.clone()));
        *lock(&self.desk.current) = Some(current.clone());
        if self.desk.releasing.load(Ordering::Acquire) {
            current.stop(Stop::Released);
        }
        (self.say)(&News::Claimed {
            job: claim.id.clone(),
            user: claim.user_id,
            attempt: claim.attempt,
        });
        // A cancellation that came between claim and now went unheard: the first beat is at once.
        let heart = tokio::spawn(beat(
            self.queue.clone(),
            claim.clone(),
            current.clone(),
            self.lease,
        ));
        let made = self.make(&claim, &current, began).await;
        let outcome = if matches!(made, Err(Unmade::Panicked(_))) {
            Outcome::Doubtful
        } else {
            Outcome::Ended
        };
        let ended = self.end(&claim, &current, made, began).await;
        heart.abort();
        *lock(&self.desk.current) = None;
        (self.say)(&News::Ended {
            job: claim.id.clone(),
        });
        ended.map(|()| outcome)
    }

    /// Runs the engine on a thread of its own.
    async fn make(
        &mut self,
        claim: &Claim,
        current: &Arc<Current>,
        began: Instant,
    ) -> Result<Made, Unmade> {
        let settings = claim.settings.clone();
        let models = self.models.fresh().await;
        let needs = Needs::of(&settings, &models, &self.add_ons, &self.prints)?;
        // What does not serve is let go before the next is loaded: both may not fit the memory.
        let resident = self.loaded.take().filter(|resident| needs.met_by(resident));
        current.loading.store(resident.is_none(), Ordering::Release);
        let data_dir = self.data_dir.clone();
        let watcher = Watcher {
            current: current.clone(),
            say: self.say.clone(),
        };
        let mut thread = tokio::task::spawn_blocking(move || {
            catch_unwind(AssertUnwindSafe(|| {
                run_engine(resident, needs, &settings, &data_dir, &watcher)
            }))
        });
        let finished = tokio::select! {
            finished = &mut thread => finished,
            why = current.stopped_while_loading() => {
                match why {
                    // The process ends, and the thread with it.
                    Stop::Released => return Err(Unmade::Stopped),
                    // Its owner need not wait for a model that the next job wants too.
                    Stop::Cancelled => {
                        let spent = began.elapsed().as_secs_f64();
                        if self.queue.confirm_cancel(claim, spent).await.is_ok() {
                            (self.say)(&News::Ended { job: claim.id.clone() });
                        }
                    }
                    Stop::Lost => {}
                }
                thread.await
            }
        };
        match finished {
            Ok(Ok((resident, made))) => {
                self.loaded = resident;
                made
            }
            Ok(Err(panic)) => Err(Unmade::Panicked(panic_words(&*panic))),
            Err(error) => Err(Unmade::Panicked(error.to_string())),
        }
    }

    /// Stores what was made and ends the job, or says why there is nothing.
    async fn end(
        &self,
        claim: &Claim,
        current: &Current,
        made: Result<Made, Unmade>,
        began: Instant,
    ) -> Result<(), sqlx::Error> {
        let job = &claim.id.0;
        match made {
            Ok(made) => {
                set_phase(current, "saving", claim.settings.num_inference_steps);
                let image = match self.store(claim, made, began).await {
                    Ok(image) => image,
                    Err(words) => {
                        tracing::error!(job, error = words, "an image could not be stored");
                        self.insist(|| self.queue.fail(claim, &words)).await?;
                        return Ok(());
                    }
                };
                let spent = began.elapsed().as_secs_f64();
                let kept = self
                    .insist(|| self.queue.finish(claim, &image, spent))
                    .await?;
                if !kept
                    && !self
                        .insist(|| self.queue.confirm_cancel(claim, spent))
                        .await?
                {
                    tracing::warn!(
                        job,
                        "a stale result was dropped: somebody else has this job"
                    );
                }
            }
            Err(Unmade::Stopped) => match current.stopped() {
                Some(Stop::Released) => {
                    self.insist(|| self.queue.release(claim)).await?;
                }
                Some(Stop::Lost) => tracing::warn!(job, "stopped: somebody else has this job"),
                Some(Stop::Cancelled) | None => {
                    let spent = began.elapsed().as_secs_f64();
                    self.insist(|| self.queue.confirm_cancel(claim, spent))
                        .await?;
                }
            },
            Err(Unmade::Refused(words)) => {
                tracing::error!(job, error = words, "a job failed");
                self.insist(|| self.queue.fail(claim, &words)).await?;
            }
            Err(Unmade::Panicked(words)) => {
                tracing::error!(job, panic = words, "the engine panicked");
                let words = "The engine stopped unexpectedly while making this image; the server's log has the details.";
                self.insist(|| self.queue.fail(claim, words)).await?;
            }
        }
        Ok(())
    }

    /// Writes down how a job ended, again and again where the database is busy or full: for as long
    /// as the claim may live. A second write of the same end matches no row.
    async fn insist<F>(&self, write: impl Fn() -> F) -> Result<bool, sqlx::Error>
    where
        F: Future<Output = Result<bool, sqlx::Error>>,
    {
        let deadline = Instant::now() + self.lease.length();
        loop {
            match write().await {
                Err(error) if Instant::now() < deadline => {
                    tracing::warn!(%error, "a job's end was not written; trying again");
                    tokio::time::sleep(AGAIN).await;
                }
                result => return result,
            }
        }
    }

    /// Writes the PNG to disk under its hash. After this the file is durable, and no row names it yet.
    async fn store(&self, claim: &Claim, made: Made, began: Instant) -> Result<NewImage, String> {
        let Made {
            generation,
            loading_s,
            fingerprint,
        } = made;
        let (settings, files) = (claim.settings.clone(), self.files.clone());
        let fallback_reason = lock(&self.desk.fallback_reason).clone();
        let queued_ms = claim.started_at.saturating_sub(claim.created_at).max(0);
        tokio::task::spawn_blocking(move || {
            let facts = Facts {
                scheduler: generation.scheduler.clone(),
                device: generation.device.clone(),
                dtype: generation.dtype.clone(),
                fallback_reason,
                rungs: Vec::new(),
                timings: PhaseTimings {
                    queued_s: queued_ms as f64 / 1000.0,
                    loading_s,
                    text_encoding_s: generation.timings.text_encoding_s,
                    denoising_s: generation.timings.denoising_s,
                    decoding_s: generation.timings.decoding_s,
                    total_s: began.elapsed().as_secs_f64(),
                },
                step_s: generation.timings.step_s.clone(),
                notes: generation.notes.clone(),
                text_cached: generation.text_cached,
                model_fingerprint: fingerprint.clone(),
                version: Facts::VERSION.into(),
            };
            let png = write_png(&generation.image, &settings, &facts)
                .map_err(|error| error.to_string())?;
            let hash = files
                .put(&png)
                .map_err(|error| format!("The image could not be stored: {error}"))?;
            Ok(NewImage {
                id: ImageId(Uuid::now_v7().to_string()),
                sha256: hash.as_str().to_owned(),
                bytes: png.len() as u64,
                width: generation.image.width(),
                height: generation.image.height(),
                dominant_colour: dominant_colour(&generation.image),
                recipe: fingerprint.and_then(|print| recipe(&settings, &print, &generation.device)),
                facts,
            })
        })
        .await
        .map_err(|error| error.to_string())?
    }
}

/// Keeps the claim alive, writes progress down, and hears of cancellations that the pipe lost.
async fn beat(queue: Queue, claim: Claim, current: Arc<Current>, lease: Lease) {
    let mut last_good = now_ms();
    loop {
        let (phase, step) = lock(&current.phase).clone();
        match queue.heartbeat(&claim, &phase, step, lease.length()).await {
            Ok(Pulse::Mine) => last_good = now_ms(),
            Ok(Pulse::Cancel) => {
                last_good = now_ms();
                current.stop(Stop::Cancelled);
            }
            Ok(Pulse::Lost) => {
                current.stop(Stop::Lost);
                return;
            }
            Err(error) => {
                let silent_s = (now_ms() - last_good) / 1000;
                tracing::warn!(%error, silent_s, "a heartbeat was not written");
            }
        }
        tokio::time::sleep(lease.heartbeat()).await;
    }
}

/// Turns the engine's progress into news.
pub(super) struct Watcher {
    current: Arc<Current>,
    say: Say,
}

impl Watcher {
    /// The model is there: from now on the engine looks for stops itself.
    pub(super) fn loading_done(&self) {
        self.current.loading.store(false, Ordering::Release);
    }

    pub(super) fn watch(
        &self,
        progress: &Progress<'_>,
        denoising_since: &mut Option<Instant>,
    ) -> Control {
        let phase = match progress.phase {
            Phase::TextEncoding => "encoding prompt",
            Phase::ImageEncoding => "encoding image",
            Phase::Denoising => "denoising",
            Phase::Decoding => "decoding",
        };
        let denoising_s = match progress.phase {
            Phase::TextEncoding | Phase::ImageEncoding => 0.0,
            Phase::Denoising | Phase::Decoding => denoising_since
                .get_or_insert_with(Instant::now)
                .elapsed()
                .as_secs_f64(),
        };
        self.tell(
            phase,
            progress.step,
            denoising_s,
            progress.preview.and_then(data_address),
        );
        if self.current.stopped().is_some() {
            Control::Cancel
        } else {
            Control::Continue
        }
    }

    pub(super) fn tell(&self, phase: &str, step: u32, denoising_s: f64, preview: Option<String>) {
        set_phase(&self.current, phase, step);
        (self.say)(&News::Progress {
            job: self.current.job.clone(),
            phase: phase.into(),
            step,
            denoising_s,
            preview,
        });
    }
}

fn set_phase(current: &Current, phase: &str, step: u32) {
    *lock(&current.phase) = (phase.into(), step);
}

/// A small picture as a `data:` address. PNG: previews are tiny, and flat areas stay flat.
fn data_address(preview: &RgbImage) -> Option<String> {
    let mut bytes = Cursor::new(Vec::new());
    preview.write_to(&mut bytes, image::ImageFormat::Png).ok()?;
    Some(format!(
        "data:image/png;base64,{}",
        base64::engine::general_purpose::STANDARD.encode(bytes.into_inner())
    ))
}

fn panic_words(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("(no words)")
        .to_owned()
}
