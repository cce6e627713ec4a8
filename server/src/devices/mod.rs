//! Devices: what the probe found, what follows from it, and how it is told.
//!
//! The probe runs in a process of its own, before the first job and whenever an administrator asks.
//! One sentence says what is used and why; log, badge and admin page all show that one.

mod child; // a program that may crash or hang, and always an answer
mod cpu; // what the processor is
mod driver; // NVIDIA's library, asked directly
mod nvidia; // which GPUs there are, from every place that knows
mod policy; // findings → decision
pub mod probe; // `atelier probe`
mod store; // events

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use atelier_app::admin::{DeviceChoice, DeviceReport, DeviceState, DevicesReport};
use atelier_app::backend::Answer;
use atelier_app::error::AppError;
use atelier_app::studio::DeviceBadge;

pub use policy::{Asked, Decision, decide};
pub use probe::{Findings, ProbeFailure};

use crate::config::ServeConfig;
use crate::db::{Db, now_ms};
use crate::error::ServerError;

/// How long the whole probe may take.
pub const PROBE_LIMIT: Duration = Duration::from_secs(90);

/// Events on the device page.
const SHOWN_EVENTS: u32 = 200;

/// The devices of this server. Cheap to clone.
#[derive(Clone)]
pub struct Devices {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    program: PathBuf,
    asked: Asked,
    limit: Duration,
    standing: RwLock<Standing>,
    /// One probe at a time.
    probing: tokio::sync::Mutex<()>,
}

/// The decision that stands.
#[derive(Clone)]
struct Standing {
    decision: Decision,
    since: i64,
    probed_at: i64,
}

impl Devices {
    /// Probes and decides.
    ///
    /// # Errors
    /// The database's, or words about `--device`; a probe that fails is no error but a decision.
    pub async fn start(db: Db, config: Arc<ServeConfig>) -> Result<Arc<Self>, ServerError> {
        let asked = config.device.parse().map_err(|words| {
            ServerError::Answer(AppError::invalid("device", format!("--device {words}")))
        })?;
        let devices = Self::start_within(db, config.program(), asked, PROBE_LIMIT).await?;
        Ok(Arc::new(devices))
    }

    /// As [`Devices::start`] with `program` as the `atelier` binary and another time limit.
    ///
    /// # Errors
    /// The database's.
    pub async fn start_within(
        db: Db,
        program: PathBuf,
        asked: Asked,
        limit: Duration,
    ) -> Result<Self, ServerError> {
        let before = store::latest_report(&db).await?;
        let decision = probe_and_decide(&program, asked, limit).await?;
        let probed_at = now_ms();
        let since = before
            .filter(|before| before.decision == decision.sentence)
            .map_or(probed_at, |before| before.since);
        let devices = Self {
            inner: Arc::new(Inner {
                db,
                program,
                asked,
                limit,
                standing: RwLock::new(Standing {
                    decision,
                    since,
                    probed_at,
                }),
                probing: tokio::sync::Mutex::default(),
            }),
        };
        devices.write_down().await?;
        Ok(devices)
    }

    /// Runs the probe again and answers its report; the decision changes with what it finds.
    ///
    /// # Errors
    /// The database's.
    pub async fn test_again(&self) -> Answer<DevicesReport> {
        let _one = self.inner.probing.lock().await;
        let Inner {
            program,
            asked,
            limit,
            ..
        } = &*self.inner;
        let decision = probe_and_decide(program, *asked, *limit).await?;
        {
            let mut standing = self
                .inner
                .standing
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            standing.probed_at = now_ms();
            if decision.sentence != standing.decision.sentence {
                standing.since = standing.probed_at;
                tracing::info!(decision = decision.sentence, "the device decision changed");
            }
            standing.decision = decision;
        }
        self.write_down().await?;
        self.report().await
    }

    /// The decision as the line that is printed at start.
    pub fn decision(&self) -> String {
        self.standing().decision.line
    }

    /// The device in one line, for every user.
    pub fn badge(&self) -> DeviceBadge {
        self.standing().decision.badge
    }

    /// Why not the GPU, for the facts of each image; `None` where nothing is amiss.
    pub fn fallback_reason(&self) -> Option<String> {
        self.standing().decision.reason
    }

    /// What the admin page shows; `worker` and `step_times` are left for the queue to fill in.
    ///
    /// # Errors
    /// The database's.
    pub async fn report(&self) -> Answer<DevicesReport> {
        let mut report = self.standing().report();
        report.events = store::latest_events(&self.inner.db, SHOWN_EVENTS).await?;
        report.choice = store::choice(&self.inner.db).await?.unwrap_or_default();
        Ok(report)
    }

    /// Writes an administrator's choice down and answers what follows from it.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for what names no device, or the database's.
    pub async fn choose(&self, choice: DeviceChoice) -> Answer<DevicesReport> {
        let _: Asked = choice
            .device
            .parse()
            .map_err(|words| AppError::invalid("device", format!("It {words}")))?;
        store::set_choice(&self.inner.db, &choice).await?;
        self.test_again().await
    }

    /// Writes an event down for the device page, e.g. `worker_died`.
    ///
    /// # Errors
    /// The database's.
    pub async fn record(&self, kind: &str, device: &str, message: &str) -> Result<(), ServerError> {
        store::record(&self.inner.db, kind, device, message, None).await
    }

    fn standing(&self) -> Standing {
        self.inner
            .standing
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn write_down(&self) -> Result<(), ServerError> {
        let report = self.standing().report();
        store::record(
            &self.inner.db,
            "probe",
            "cpu",
            &report.decision,
            Some(&report),
        )
        .await
    }
}

impl Standing {
    fn report(self) -> DevicesReport {
        DevicesReport {
            decision: self.decision.sentence,
            degraded: self.decision.degraded,
            since: self.since,
            probed_at: self.probed_at,
            devices: self
                .decision
                .devices
                .into_iter()
                .map(|device| DeviceReport {
                    since: self.since,
                    state: match (device.in_use, device.usable) {
                        (true, _) => DeviceState::InUse,
                        (false, true) => DeviceState::Usable,
                        (false, false) => DeviceState::NotUsable,
                    },
                    ..device
                })
                .collect(),
            ..DevicesReport::default()
        }
    }
}

async fn probe_and_decide(
    program: &std::path::Path,
    asked: Asked,
    limit: Duration,
) -> Result<Decision, ServerError> {
    let program = program.to_path_buf();
    let findings = tokio::task::spawn_blocking(move || probe::run_apart(&program, limit))
        .await
        .map_err(|error| ServerError::broken(format!("the probe's task ended early: {error}")))?;
    if let Err(failure) = &findings {
        tracing::error!(error = %failure, "the device probe failed");
    }
    Ok(decide(&findings, asked))
}
