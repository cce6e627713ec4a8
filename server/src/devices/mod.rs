//! Devices: what the probe found, what follows from it, and how it is told.
//!
//! The probe runs in a process of its own: at start, whenever an administrator asks, when a device
//! that rests may be tried again, and when GPUs or drivers have come or gone ([`watch`]). One sentence
//! says what is used and why; log, badge and admin page all show that one. Workers follow the
//! [`Plan`], which changes with the decision.

mod breaker; // three failures in ten minutes
mod child; // a program that may crash or hang, and always an answer
mod cpu; // what the processor is
mod decision; // findings → decision
mod driver; // NVIDIA's library, asked directly
mod nvidia; // which GPUs there are, from every place that knows
pub mod policy; // which GPU computes how, as a table
pub mod probe; // `atelier probe`
mod store; // events, and what administrators chose
pub mod trial; // a GPU tried, in processes that may die
mod verdict; // why a GPU is not used, and what to do
pub mod vitals; // load, memory, temperature over the last hour
mod watch; // whether anything has come or gone
mod way; // how a device computes, and what may be asked for

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use atelier_app::admin::{DeviceChoice, DeviceReport, DeviceState, DevicesReport};
use atelier_app::backend::Answer;
use atelier_app::error::AppError;
use atelier_app::studio::DeviceBadge;

pub use breaker::Breaker;
pub use decision::{Decision, Lane, Resting, Wish, decide};
pub use probe::{Findings, ProbeFailure};
pub use trial::CUDA_WORKER;
pub use way::{Asked, AskedPrecision, Precision, Way, cuda_number};

use crate::config::{DeviceArgs, ServeConfig, cuda_worker_beside};
use crate::db::{Db, now_ms};
use crate::error::ServerError;
use probe::Scope;
use trial::CudaWorker;

/// How long a start waits for the first decision; after that the site is open and says that the
/// devices are being checked.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// Events on the device page.
const SHOWN_EVENTS: u32 = 200;
/// Longest rest after which an idle model is let go, as a wish: a day.
const LONGEST_IDLE_S: u32 = 86_400;

/// The devices of this server. Cheap to clone.
#[derive(Clone)]
pub struct Devices {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    /// The `atelier` binary.
    program: PathBuf,
    cuda_worker: PathBuf,
    args: DeviceArgs,
    /// Another limit of the whole probe than its parts', for tests.
    limit: Option<Duration>,
    standing: RwLock<Standing>,
    /// One probe at a time.
    probing: tokio::sync::Mutex<()>,
    checking: AtomicBool,
    plan: tokio::sync::watch::Sender<Plan>,
}

/// Says that a probe is under way for as long as it lives, however whoever asked for it ends.
struct Checking(Arc<Inner>);

impl Checking {
    fn begin(inner: Arc<Inner>) -> Self {
        inner.checking.store(true, Ordering::Release);
        Self(inner)
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        self.0.checking.store(false, Ordering::Release);
    }
}

/// What follows for workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One worker each; none before the first decision.
    pub lanes: Vec<Lane>,
    /// Seconds after which a model that nobody uses is let go; 0 = never.
    pub idle_release_s: u32,
}

/// The decision that stands, and what it was made from.
struct Standing {
    findings: Option<Result<Findings, ProbeFailure>>,
    choice: DeviceChoice,
    decision: Decision,
    since: i64,
    /// The sentence of the decision before.
    last_sentence: String,
    probed_at: i64,
    breakers: BTreeMap<String, Breaker>,
    /// Since when each device is in its state.
    states: BTreeMap<String, (DeviceState, i64)>,
}

impl Devices {
    /// Begins to probe, and waits a moment for the decision. A probe that fails is no error but a
    /// decision.
    ///
    /// # Errors
    /// The database's.
    pub async fn start(db: Db, config: Arc<ServeConfig>) -> Result<Arc<Self>, ServerError> {
        let devices = Self::open(db, config.program(), config.devices.clone(), None).await?;
        // Once it is too late for the lines that are printed at start, the log says it.
        let is_late = Arc::new(AtomicBool::new(false));
        let first = {
            let (devices, is_late) = (devices.clone(), is_late.clone());
            async move {
                devices.look_again(None).await?;
                if is_late.load(Ordering::Acquire) {
                    devices.log_decision();
                }
                Ok::<(), ServerError>(())
            }
        };
        let first = tokio::spawn(first);
        match tokio::time::timeout(START_PATIENCE, first).await {
            Ok(Ok(decided)) => decided?,
            Ok(Err(error)) => {
                return Err(ServerError::broken(format!(
                    "the first probe's task ended early: {error}"
                )));
            }
            Err(_) => is_late.store(true, Ordering::Release),
        }
        tokio::spawn(watch::keep_looking(devices.clone()));
        Ok(Arc::new(devices))
    }

    /// As they stand before the first probe. `program` is the `atelier` binary; `limit` is how long
    /// the whole probe may take, where that is to be another time than its parts'.
    ///
    /// # Errors
    /// The database's.
    pub async fn open(
        db: Db,
        program: PathBuf,
        args: DeviceArgs,
        limit: Option<Duration>,
    ) -> Result<Self, ServerError> {
        let choice = overlaid(store::choice(&db).await?.unwrap_or_default(), &args);
        let before = store::latest_report(&db).await?;
        let states = before.iter().flat_map(|report| &report.devices);
        let states = states
            .map(|device| (device.id.clone(), (device.state, device.since)))
            .collect();
        Ok(Self {
            inner: Arc::new(Inner {
                cuda_worker: cuda_worker_beside(args.cuda_worker.as_ref(), &program),
                db,
                program,
                args,
                limit,
                standing: RwLock::new(Standing {
                    findings: None,
                    choice,
                    decision: Decision::pending(),
                    // So that the same decision keeps its date over a restart.
                    since: before.as_ref().map_or(0, |report| report.since),
                    last_sentence: before.map(|report| report.decision).unwrap_or_default(),
                    probed_at: 0,
                    breakers: BTreeMap::new(),
                    states,
                }),
                probing: tokio::sync::Mutex::default(),
                checking: AtomicBool::new(false),
                plan: tokio::sync::watch::Sender::default(),
            }),
        })
    }

    /// The workers to be kept running; changes with each decision.
    pub fn plan(&self) -> tokio::sync::watch::Receiver<Plan> {
        self.inner.plan.subscribe()
    }

    /// Runs the probe again and answers its report; the decision changes with what it finds. With a
    /// device, of GPUs only that one is tried, and none where it is the CPU.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for a device that is not there, or the database's.
    pub async fn test_again(&self, device: Option<&str>) -> Answer<DevicesReport> {
        let only = match device {
            None => None,
            Some(id) if !self.devices().iter().any(|device| device.id == id) => {
                return Err(AppError::invalid(
                    "device",
                    "There is no such device now; test all of them again.",
                ));
            }
            Some("cpu") => Some(Vec::new()),
            // The driver, or a GPU that it does not list: whatever comes of it may be any device.
            Some(id) => cuda_number(id).map(|number| vec![number]),
        };
        self.look_again(only).await?;
        self.report().await
    }

    /// Runs the probe and decides; of GPUs it tries only those in `only`, if that is given.
    pub(crate) async fn look_again(&self, only: Option<Vec<u32>>) -> Result<(), ServerError> {
        let _one = self.inner.probing.lock().await;
        let findings = {
            let _checking = Checking::begin(self.inner.clone());
            self.probe(only.clone()).await?
        };
        if let Err(failure) = &findings {
            tracing::error!(error = %failure, "the device probe failed");
        }
        let now = now_ms();
        {
            let mut standing = self.write();
            let failure = findings.as_ref().err().map(ToString::to_string);
            let findings = standing.joined(findings, only.as_deref());
            standing.probed_at = now;
            standing.settle_breakers(&findings, failure, only.as_deref(), &self.inner.args, now);
            standing.findings = Some(findings);
        }
        self.decide_anew("probe").await
    }

    async fn probe(
        &self,
        only: Option<Vec<u32>>,
    ) -> Result<Result<Findings, ProbeFailure>, ServerError> {
        let scope = Scope {
            cuda_worker: self.inner.cuda_worker.clone(),
            trial_limit: self.inner.args.trial_limit(),
            tries_gpus: self.read().wish(&self.inner.args).asked != Asked::Cpu,
            only,
        };
        let limit = self.inner.limit.unwrap_or_else(|| scope.limit());
        let program = self.inner.program.clone();
        tokio::task::spawn_blocking(move || probe::run_apart(&program, &scope, limit))
            .await
            .map_err(|error| ServerError::broken(format!("the probe's task ended early: {error}")))
    }

    /// Decides from what is known, publishes what follows, and writes down what changed.
    async fn decide_anew(&self, kind: &str) -> Result<(), ServerError> {
        let (changed, was_pending, device) = {
            let mut standing = self.write();
            let Some(findings) = &standing.findings else {
                return Ok(());
            };
            let wish = standing.wish(&self.inner.args);
            let decision = decide(findings, &wish, &standing.resting());
            let now = match kind {
                "probe" => standing.probed_at,
                _ => now_ms(),
            };
            let before = std::mem::take(&mut standing.states);
            standing.states = decision
                .devices
                .iter()
                .map(|device| {
                    let since = match before.get(&device.id) {
                        Some((state, since)) if *state == device.state && *since > 0 => *since,
                        _ => now,
                    };
                    (device.id.clone(), (device.state, since))
                })
                .collect();
            let changed = decision.sentence != standing.last_sentence;
            if changed || standing.since == 0 {
                standing.since = now;
            }
            standing.last_sentence.clone_from(&decision.sentence);
            let device = decision.lanes.first().map(|lane| lane.device.clone());
            standing.decision = decision;
            let plan = Plan {
                lanes: standing.decision.lanes.clone(),
                idle_release_s: standing.choice.idle_release_s,
            };
            let was_pending = self.inner.plan.borrow().lanes.is_empty();
            // Under the lock: plans leave in the order in which they were decided.
            self.inner.plan.send_if_modified(|current| {
                let differs = *current != plan;
                *current = plan;
                differs
            });
            let device = device.unwrap_or_else(|| "cpu".into());
            (changed, was_pending, device)
        };
        if changed && !was_pending {
            self.log_decision();
        }
        let report = self.report_without_events();
        if kind == "probe" || changed {
            store::record(
                &self.inner.db,
                kind,
                &device,
                &report.decision,
                Some(&report),
            )
            .await?;
        }
        Ok(())
    }

    fn log_decision(&self) {
        let decision = self.read().decision.clone();
        let remedy = decision.remedy.as_deref().unwrap_or_default();
        if decision.degraded {
            tracing::warn!(what_to_do = remedy, "{}", decision.line);
        } else {
            tracing::info!("{}", decision.line);
        }
    }

    /// Counts a device's failure: its worker had to be replaced, or a job had to leave it. Three in
    /// ten minutes, and it rests.
    ///
    /// # Errors
    /// The database's.
    pub async fn failure(&self, device: &str, words: &str) -> Result<(), ServerError> {
        self.record("failure", device, words).await?;
        let opened = {
            let rest = Duration::from_secs(u64::from(self.inner.args.device_rest_seconds));
            let mut standing = self.write();
            let breaker = standing
                .breakers
                .entry(device.to_owned())
                .or_insert_with(|| Breaker::new(rest));
            breaker
                .failed(now_ms(), words)
                .then(|| breaker.resting_until().unwrap_or_default())
        };
        let Some(until) = opened else { return Ok(()) };
        let seconds = (until - now_ms()).max(0) / 1000;
        let message = format!(
            "{} failures in ten minutes: it rests for {seconds} seconds and is then tried again.",
            breaker::FAILURES
        );
        tracing::error!(device, until, "{message}");
        self.record("resting", device, &message).await?;
        self.decide_anew("decision").await
    }

    /// Where new jobs are computed and how: `cpu` in f32, `cuda:0` in bf16.
    pub fn main_lane(&self) -> (String, Way) {
        let standing = self.read();
        let lane = standing.decision.lanes.first();
        lane.map_or(("cpu".into(), policy::CPU), |lane| {
            (lane.device.clone(), lane.way)
        })
    }

    /// The decision as the lines that are printed at start.
    pub fn decision(&self) -> String {
        let decision = self.read().decision.clone();
        match decision.remedy {
            Some(remedy) => format!("{}\nWhat to do: {remedy}", decision.line),
            None => decision.line,
        }
    }

    /// The device in one line, for every user.
    pub fn badge(&self) -> DeviceBadge {
        self.read().decision.badge.clone()
    }

    /// Why not the GPU, for the facts of each image; `None` where nothing is amiss.
    pub fn fallback_reason(&self) -> Option<String> {
        self.read().decision.reason.clone()
    }

    /// The devices as they stand, without what the database knows of them.
    pub fn devices(&self) -> Vec<DeviceReport> {
        self.report_without_events().devices
    }

    /// What the admin page shows; workers and step times are left for the queue to fill in.
    ///
    /// # Errors
    /// The database's.
    pub async fn report(&self) -> Answer<DevicesReport> {
        let mut report = self.report_without_events();
        report.events = store::latest_events(&self.inner.db, SHOWN_EVENTS).await?;
        Ok(report)
    }

    fn report_without_events(&self) -> DevicesReport {
        let mut report = self.read().report();
        report.checking = self.inner.checking.load(Ordering::Acquire);
        report.fixed = fixed(&self.inner.args);
        report
    }

    /// Writes an administrator's choice down and answers what follows from it. What the command
    /// line fixes stays as it is.
    ///
    /// # Errors
    /// [`AppError::Invalid`] naming the field at fault, or the database's.
    pub async fn choose(&self, choice: DeviceChoice) -> Answer<DevicesReport> {
        check(&choice)?;
        let choice = overlaid(choice, &self.inner.args);
        // What the command line fixes is not chosen: without it, the earlier choice holds again.
        let stored = store::choice(&self.inner.db).await?.unwrap_or_default();
        store::set_choice(
            &self.inner.db,
            &unfixed(choice.clone(), stored, &self.inner.args),
        )
        .await?;
        let untried = {
            let mut standing = self.write();
            standing.choice = choice.clone();
            // GPUs were not tried while the CPU was asked for.
            let tried =
                |findings: &Findings| !matches!(findings.cuda.worker, CudaWorker::NotAsked { .. });
            let is_tried = matches!(&standing.findings, Some(Ok(findings)) if tried(findings));
            choice.device != "cpu" && !is_tried
        };
        let words = format!(
            "An administrator chose {} in {}{}, idle models are let go after {} s.",
            choice.device,
            choice.precision,
            choice
                .refiner_device
                .as_ref()
                .map(|device| format!(", refiners on {device}"))
                .unwrap_or_default(),
            choice.idle_release_s
        );
        self.record("choice", &choice.device, &words).await?;
        if untried {
            self.look_again(None).await?;
        } else {
            self.decide_anew("decision").await?;
        }
        self.report().await
    }

    /// Writes an event down for the device page, e.g. `worker_died`.
    ///
    /// # Errors
    /// The database's.
    pub async fn record(&self, kind: &str, device: &str, message: &str) -> Result<(), ServerError> {
        store::record(&self.inner.db, kind, device, message, None).await
    }

    fn read(&self) -> RwLockReadGuard<'_, Standing> {
        self.inner
            .standing
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Standing> {
        self.inner
            .standing
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    /// What is wanted, the command line's and the administrator's wishes together.
    fn wish(&self, args: &DeviceArgs) -> Wish {
        // Both were read when they came in; what is unreadable after all is "auto".
        Wish {
            asked: self.choice.device.parse().unwrap_or_default(),
            precision: self.choice.precision.parse().unwrap_or_default(),
            refiner: self.choice.refiner_device.as_deref().and_then(cuda_number),
            by_administrator: args.device.is_none(),
        }
    }

    /// New findings, with what they leave out taken from the earlier ones: GPUs that were not tried
    /// this time, and the memory that is only taken because our own worker has it.
    fn joined(
        &self,
        findings: Result<Findings, ProbeFailure>,
        only: Option<&[u32]>,
    ) -> Result<Findings, ProbeFailure> {
        let (mut new, old) = match (findings, &self.findings) {
            (Ok(new), Some(Ok(old))) => (new, old),
            // What was not asked about is not worse for it.
            (Err(_), Some(Ok(old))) if only.is_some() => return Ok(old.clone()),
            (findings, _) => return findings,
        };
        if let Some(only) = only {
            new.cuda.complete(&old.cuda, only);
        }
        for gpu in &mut new.nvidia.gpus {
            let id = gpu.index.map(|index| format!("cuda:{index}"));
            let lanes = &self.decision.lanes;
            let is_ours = lanes.iter().any(|lane| {
                Some(&lane.device) == id.as_ref() || (lane.refiner_device == id && id.is_some())
            });
            let before = old.nvidia.gpus.iter().find(|old| old.index == gpu.index);
            if let Some(before) = before.filter(|_| is_ours) {
                gpu.memory_free = gpu.memory_free.max(before.memory_free);
            }
        }
        Ok(new)
    }

    /// Lets devices that passed go to work again, and those that did not rest for longer. Those that
    /// were not tried stay as they are; `failure` is that of a probe which found nothing out.
    fn settle_breakers(
        &mut self,
        findings: &Result<Findings, ProbeFailure>,
        failure: Option<String>,
        only: Option<&[u32]>,
        args: &DeviceArgs,
        now: i64,
    ) {
        let found = match (findings, failure) {
            (Ok(found), None) => found,
            (_, failure) => {
                let words = failure.unwrap_or_default();
                for breaker in self.breakers.values_mut() {
                    if breaker.is_due(now) {
                        breaker.still_fails(now, &words);
                    }
                }
                return;
            }
        };
        let wish = self.wish(args);
        let rest = Duration::from_secs(u64::from(args.device_rest_seconds));
        let bare = decide(findings, &wish, &BTreeMap::new());
        let mut before = std::mem::take(&mut self.breakers);
        for trial in &found.cuda.trials {
            let id = format!("cuda:{}", trial.device);
            let Some(device) = bare.devices.iter().find(|device| device.id == id) else {
                continue;
            };
            if self.breakers.contains_key(&id) {
                continue;
            }
            let breaker = before.remove(&id);
            if only.is_some_and(|only| !only.contains(&trial.device)) {
                if let Some(breaker) = breaker {
                    self.breakers.insert(id, breaker);
                }
                continue;
            }
            if device.usable {
                if let Some(mut breaker) = breaker {
                    breaker.passed(now);
                    self.breakers.insert(id, breaker);
                }
            } else if wish.wants(trial.device) {
                // It may work later: memory that is free by then, a driver that was mended.
                let mut breaker = breaker.unwrap_or_else(|| Breaker::new(rest));
                breaker.still_fails(now, &device.reason);
                self.breakers.insert(id, breaker);
            }
        }
        // Those that could not be tried this time come back with what is missing.
    }

    fn resting(&self) -> BTreeMap<String, Resting> {
        self.breakers
            .iter()
            .filter_map(|(id, breaker)| {
                let resting = Resting {
                    until: breaker.resting_until()?,
                    last: breaker.last_failure().to_owned(),
                };
                Some((id.clone(), resting))
            })
            .collect()
    }

    fn report(&self) -> DevicesReport {
        let devices = self.decision.devices.iter().map(|device| DeviceReport {
            since: self.states.get(&device.id).map_or(0, |(_, since)| *since),
            resting_until: device.resting_until.or_else(|| {
                let breaker = self.breakers.get(&device.id);
                breaker.and_then(Breaker::resting_until)
            }),
            ..device.clone()
        });
        DevicesReport {
            decision: self.decision.sentence.clone(),
            degraded: self.decision.degraded,
            since: self.since,
            probed_at: self.probed_at,
            devices: devices.collect(),
            cuda_worker: self.decision.cuda_worker.clone(),
            choice: self.choice.clone(),
            ..DevicesReport::default()
        }
    }
}

/// A choice with what the command line fixes.
fn overlaid(mut choice: DeviceChoice, args: &DeviceArgs) -> DeviceChoice {
    if let Some(device) = &args.device {
        choice.device.clone_from(device);
    }
    if let Some(precision) = &args.precision {
        choice.precision.clone_from(precision);
    }
    if args.refiner_device.is_some() {
        choice.refiner_device.clone_from(&args.refiner_device);
    }
    if let Some(seconds) = args.idle_release {
        choice.idle_release_s = seconds;
    }
    choice
}

/// A choice with what the command line fixes as it was `stored`.
fn unfixed(mut choice: DeviceChoice, stored: DeviceChoice, args: &DeviceArgs) -> DeviceChoice {
    if args.device.is_some() {
        choice.device = stored.device;
    }
    if args.precision.is_some() {
        choice.precision = stored.precision;
    }
    if args.refiner_device.is_some() {
        choice.refiner_device = stored.refiner_device;
    }
    if args.idle_release.is_some() {
        choice.idle_release_s = stored.idle_release_s;
    }
    choice
}

/// The fields of a choice that the command line fixes.
fn fixed(args: &DeviceArgs) -> Vec<String> {
    [
        ("device", args.device.is_some()),
        ("precision", args.precision.is_some()),
        ("refiner_device", args.refiner_device.is_some()),
        ("idle_release_s", args.idle_release.is_some()),
    ]
    .into_iter()
    .filter(|(_, is_fixed)| *is_fixed)
    .map(|(name, _)| name.to_owned())
    .collect()
}

fn check(choice: &DeviceChoice) -> Answer<()> {
    let invalid = |field: &'static str, words: String| AppError::invalid(field, words);
    choice
        .device
        .parse::<Asked>()
        .map_err(|words| invalid("device", format!("The device {words}.")))?;
    choice
        .precision
        .parse::<AskedPrecision>()
        .map_err(|words| invalid("precision", format!("The precision {words}.")))?;
    if let Some(device) = &choice.refiner_device
        && cuda_number(device).is_none()
    {
        let words = format!("The refiner's device is {device:?}; write cuda:N with N = 0, 1, …");
        return Err(invalid("refiner_device", words));
    }
    if choice.idle_release_s > LONGEST_IDLE_S {
        let words = format!("Choose at most {LONGEST_IDLE_S} seconds, or 0 for never.");
        return Err(invalid("idle_release_s", words));
    }
    Ok(())
}
