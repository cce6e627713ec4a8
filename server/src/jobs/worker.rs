//! `atelier worker`: claims jobs, runs the engine, stores the results.
//!
//! A process of its own, so that a crash, a hang or the OOM killer costs one attempt of one job.
//! It talks to the job table for everything that matters and to its supervisor for news; when its
//! standard input ends, the server is gone, and so is the worker at once.

mod descent; // what a device's failure changes
mod desk; // orders, and the job under way as seen from outside
mod keeping; // from a generation to a stored image
mod loading; // the model in its memory
mod watcher; // progress and heartbeats

use super::protocol::{News, line};
use super::queue::{Claim, Place, Queue};
use crate::config::{Lease, LogFormat, WorkerArgs};
use crate::db::Db;
use crate::devices::probe::ops::engine_isa;
use crate::devices::trial::Kind;
use crate::devices::{Precision, Way};
use crate::gallery::ImageStore;
use crate::models::AddOns;
use crate::models::catalog::Catalog;
use crate::models::fingerprint::Fingerprints;
use crate::telemetry;
use atelier_engine::DeviceId;
use desk::{Current, Desk, Stop, drain_on_signal, listen, lock};
use loading::{Bench, Made, Needs, Resident, Unmade, run_engine};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use uuid::Uuid;
use watcher::{Watcher, beat};

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
    /// The engine panicked, or the device failed in a way that this process cannot recover from:
    /// what it holds cannot be trusted, so it should end.
    Doubtful,
}

/// Runs jobs on a device until standard input closes.
pub fn run(args: WorkerArgs) -> ExitCode {
    atelier_engine::cpu::keep_pages();
    if args.device == "cpu" {
        // Before the first thread: pages are served while images are made.
        atelier_engine::cpu::stand_back();
    }
    if let Some(isa) = args.cpu.isa {
        atelier_engine::cpu::limit_isa(engine_isa(isa));
    }
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
                worker.let_idle_model_go();
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
    device: DeviceId,
    refiner_device: Option<DeviceId>,
    /// How it computes as a rule.
    way: Way,
    /// What a job may be moved to.
    formats: Vec<Precision>,
    /// How long a job on a GPU may say nothing.
    stall: Option<Duration>,
    /// The model in memory.
    loaded: Option<Resident>,
    /// When the last job ended.
    idle_since: Instant,
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
        let device: DeviceId = args
            .device
            .parse()
            .map_err(|words| format!("--device {words}"))?;
        let refiner_device = match &args.refiner_device {
            Some(name) => Some(
                name.parse()
                    .map_err(|words| format!("--refiner-device {words}"))?,
            ),
            None => None,
        };
        let way = args.way()?;
        let mut formats = args.formats.clone();
        if !formats.contains(&way.dtype) {
            formats.push(way.dtype);
        }
        let desk = Desk::default();
        desk.idle_release_s
            .store(args.idle_release, Ordering::Release);
        lock(&desk.after).clone_from(&args.after);
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
            desk: Arc::new(desk),
            say: Arc::new(say),
            device,
            refiner_device,
            way,
            formats,
            // On a CPU one step may take minutes, and a processor does not hang.
            stall: device
                .is_cuda()
                .then(|| Duration::from_secs(u64::from(args.stall_seconds.max(1)))),
            loaded: None,
            idle_since: Instant::now(),
        })
    }

    /// Claims the next job in fair order and runs it to its end.
    ///
    /// # Errors
    /// The database's; a job that was claimed then waits for its lease to run out.
    pub async fn run_next_job(&mut self) -> Result<Outcome, sqlx::Error> {
        let after = lock(&self.desk.after).clone();
        let device = self.device.to_string();
        let place = Place {
            device: &device,
            after: &after,
        };
        let claimed = self
            .queue
            .claim_at(&self.owner, self.lease.length(), place)
            .await?;
        let Some(mut claim) = claimed else {
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
        let made = self.make_on_the_ladder(&mut claim, &current, began).await;
        let outcome = match made {
            Err(
                Unmade::Panicked(_)
                | Unmade::HandedOver {
                    spares_process: false,
                },
            ) => Outcome::Doubtful,
            _ => Outcome::Ended,
        };
        let ended = self.end(&claim, &current, made, began).await;
        heart.abort();
        self.idle_since = Instant::now();
        *lock(&self.desk.current) = None;
        (self.say)(&News::Ended {
            job: claim.id.clone(),
        });
        ended.map(|()| outcome)
    }

    /// Lets the model go that nobody has used for long enough.
    fn let_idle_model_go(&mut self) {
        let seconds = self.desk.idle_release_s.load(Ordering::Acquire);
        let idle = self.idle_since.elapsed();
        if seconds > 0
            && idle >= Duration::from_secs(u64::from(seconds))
            && self.loaded.take().is_some()
        {
            let idle_s = idle.as_secs();
            tracing::info!(idle_s, device = %self.device, "an idle model was let go");
        }
    }

    /// Runs the engine on a thread of its own.
    async fn make(
        &mut self,
        claim: &Claim,
        current: &Arc<Current>,
        way: Way,
        began: Instant,
    ) -> Result<Made, Unmade> {
        let settings = claim.settings.clone();
        let models = self.models.fresh().await;
        let bench = Bench {
            device: self.device,
            refiner_device: self.refiner_device,
            way,
        };
        let needs = Needs::of(&settings, &models, &self.add_ons, &self.prints, bench)?;
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
                // A GPU that hangs meanwhile must not keep this process for ever.
                tokio::select! {
                    finished = &mut thread => finished,
                    phase = current.stalled(self.stall) => {
                        return Err(Unmade::Stalled { during: phase.words });
                    }
                }
            }
            // The thread is left to itself: this process ends.
            phase = current.stalled(self.stall) => {
                return Err(Unmade::Stalled { during: phase.words });
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
                current.set_phase("saving", claim.settings.num_inference_steps);
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
            // The row says so already.
            Err(Unmade::HandedOver { .. }) => {}
            Err(Unmade::Stalled { during }) => {
                let words = format!("Making this image came to a halt while {during}.");
                tracing::error!(job, during, "a job came to a halt");
                self.insist(|| self.queue.fail(claim, &words)).await?;
            }
            Err(Unmade::Faulty(fault)) => {
                let words = match fault.kind {
                    // The engine says what is wrong, and with what.
                    Kind::WrongNumbers => fault.words,
                    _ => format!("the device failed: {}", fault.words),
                };
                tracing::error!(job, error = words, "a job failed");
                self.insist(|| self.queue.fail(claim, &words)).await?;
            }
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
}

fn panic_words(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("(no words)")
        .to_owned()
}
