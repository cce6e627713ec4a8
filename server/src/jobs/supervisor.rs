//! Keeps one worker process running for each device in use, and one on the CPU for what a GPU cannot
//! do: starts them as the devices' plan says, and takes jobs back whose worker fell silent.

mod lane; // one worker process, kept running

use super::ladder::{self, Fault, Footing};
use super::progress::Board;
use super::protocol::Order;
use super::queue::{Dead, LeftBehind, Queue};
use crate::config::ServeConfig;
use crate::db::now_ms;
use crate::devices::{Devices, Lane, Plan};
use atelier_app::admin::WorkerReport;
use atelier_app::studio::{Descent, JobId, Rung};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

/// The longest between two looks at the leases.
const REAP: Duration = Duration::from_secs(5);
/// How long a worker may take to put its job back before it is killed.
const RELEASE: Duration = Duration::from_secs(5);
/// What a job's owner reads when its last attempt died too.
pub const CRASHED: &str = "Making this image ended the worker process each time it was tried. Try another size or other settings; an administrator finds the reason in the log.";

/// The workers as others see them.
pub struct Supervisor {
    orders: mpsc::UnboundedSender<Order>,
    reports: Mutex<BTreeMap<String, WorkerReport>>,
    stopped: watch::Sender<bool>,
    kill: watch::Sender<bool>,
}

impl Supervisor {
    /// Starts workers as the devices' plan says and keeps them running until [`Supervisor::stop`].
    pub fn start(
        queue: Queue,
        board: Arc<Board>,
        config: Arc<ServeConfig>,
        devices: Arc<Devices>,
    ) -> Arc<Self> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let supervisor = Arc::new(Self {
            orders,
            reports: Mutex::default(),
            stopped: watch::Sender::new(false),
            kill: watch::Sender::new(false),
        });
        let shift = Shift {
            queue,
            board,
            config,
            devices,
            supervisor: supervisor.clone(),
            silent: broadcast::Sender::new(64),
        };
        tokio::spawn(Arc::new(shift).run(inbox));
        supervisor
    }

    /// Sends an order to every worker; one that is just restarting looks at the table by itself.
    pub fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// The worker that new jobs go to, in words: "starting", "idle", "working", "restarting (…)",
    /// "stopped", or that there is none yet.
    pub fn words(&self) -> String {
        let reports = self.lock();
        let main: Vec<&WorkerReport> = reports.values().filter(|worker| !worker.standby).collect();
        match main.as_slice() {
            [] => "waiting for the devices to be checked".into(),
            [one] => one.words.clone(),
            many => {
                let working = many.iter().find(|worker| worker.words == "working");
                working.unwrap_or(&many[0]).words.clone()
            }
        }
    }

    /// Every worker.
    pub fn workers(&self) -> Vec<WorkerReport> {
        let mut workers: Vec<WorkerReport> = self.lock().values().cloned().collect();
        workers.sort_by_key(|worker| worker.standby);
        workers
    }

    /// Lets running jobs finish within `grace`, else puts them back; returns when the workers are gone.
    pub async fn stop(&self, grace: Duration) {
        let mut stopped = self.stopped.subscribe();
        self.order(Order::Drain);
        // A second is kept back for jobs that have to be put back.
        let patience = grace.saturating_sub(Duration::from_secs(1));
        if tokio::time::timeout(patience, stopped.wait_for(|stopped| *stopped))
            .await
            .is_ok()
        {
            return;
        }
        self.order(Order::Release);
        if tokio::time::timeout(RELEASE, stopped.wait_for(|stopped| *stopped))
            .await
            .is_ok()
        {
            return;
        }
        self.kill.send_replace(true);
        let _ = tokio::time::timeout(RELEASE, stopped.wait_for(|stopped| *stopped)).await;
    }

    fn say(&self, device: &str, words: impl Into<String>, job: Option<JobId>) {
        let words = words.into();
        let mut reports = self.lock();
        let report = reports.entry(device.to_owned()).or_default();
        if report.words != words {
            report.since = now_ms();
        }
        device.clone_into(&mut report.device);
        report.words = words;
        report.job = job;
    }

    fn set_standby(&self, device: &str, standby: bool) {
        self.lock().entry(device.to_owned()).or_default().standby = standby;
    }

    fn forget(&self, device: &str) {
        self.lock().remove(device);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, WorkerReport>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that lanes need.
struct Shift {
    queue: Queue,
    board: Arc<Board>,
    config: Arc<ServeConfig>,
    devices: Arc<Devices>,
    supervisor: Arc<Supervisor>,
    /// Workers whose lease ran out.
    silent: broadcast::Sender<String>,
}

/// A lane with a worker on it.
struct Running {
    lane: Lane,
    orders: mpsc::UnboundedSender<Order>,
    /// It takes no more jobs and is replaced, or not, once it is gone.
    retiring: bool,
}

impl Shift {
    async fn run(self: Arc<Self>, mut inbox: mpsc::UnboundedReceiver<Order>) {
        let mut plans = self.devices.plan();
        let mut lanes: BTreeMap<String, Running> = BTreeMap::new();
        let mut ends: JoinSet<String> = JoinSet::new();
        let mut leases = tokio::time::interval(REAP.min(self.config.lease.heartbeat()));
        let mut stopping = false;
        let mut plan = plans.borrow_and_update().clone();
        self.follow(&plan, &mut lanes, &mut ends);
        loop {
            tokio::select! {
                order = inbox.recv() => {
                    let order = order.unwrap_or(Order::Release);
                    stopping |= matches!(order, Order::Drain | Order::Release);
                    for running in lanes.values() {
                        let _ = running.orders.send(order.clone());
                    }
                }
                changed = plans.changed(), if !stopping => {
                    if changed.is_ok() {
                        plan = plans.borrow_and_update().clone();
                        self.follow(&plan, &mut lanes, &mut ends);
                    }
                }
                Some(ended) = ends.join_next() => {
                    if let Err(error) = &ended {
                        tracing::error!(%error, "a lane's task ended early");
                    }
                    // Its own name where it ended as ordered; one that panicked hears nothing more.
                    let device = ended.ok();
                    lanes.retain(|name, running| {
                        let is_gone = device.as_ref() == Some(name) || running.orders.is_closed();
                        if is_gone {
                            self.supervisor.forget(name);
                        }
                        !is_gone
                    });
                    if !stopping {
                        self.follow(&plan, &mut lanes, &mut ends);
                    }
                }
                _ = leases.tick() => {
                    for owner in self.take_back(Dead::Nobody, "stopped answering").await {
                        let _ = self.silent.send(owner);
                    }
                }
            }
            if stopping && ends.is_empty() {
                break;
            }
        }
        self.supervisor.stopped.send_replace(true);
    }

    /// Brings the workers in line with a plan.
    fn follow(
        self: &Arc<Self>,
        plan: &Plan,
        lanes: &mut BTreeMap<String, Running>,
        ends: &mut JoinSet<String>,
    ) {
        let wanted = |device: &str| plan.lanes.iter().find(|lane| lane.device == device);
        for (device, running) in lanes.iter_mut() {
            match wanted(device) {
                Some(lane) if same_process(lane, &running.lane) && !running.retiring => {
                    running.lane = lane.clone();
                    self.supervisor.set_standby(device, lane.standby);
                    let _ = running.orders.send(standing_order(plan, lane));
                }
                _ => {
                    running.retiring = true;
                    let _ = running.orders.send(Order::Drain);
                }
            }
        }
        for lane in &plan.lanes {
            if lanes.contains_key(&lane.device) {
                continue;
            }
            let (orders, inbox) = mpsc::unbounded_channel();
            self.supervisor.say(&lane.device, "starting", None);
            self.supervisor.set_standby(&lane.device, lane.standby);
            let task = lane::LaneTask {
                shift: self.clone(),
                lane: lane.clone(),
                standing: standing_order(plan, lane),
                idle_release_s: plan.idle_release_s,
                after: after(plan, lane),
            };
            let device = lane.device.clone();
            ends.spawn(async move {
                task.keep_running(inbox).await;
                device
            });
            lanes.insert(
                lane.device.clone(),
                Running {
                    lane: lane.clone(),
                    orders,
                    retiring: false,
                },
            );
        }
    }

    /// Takes jobs back and tells their owners; those that were on a GPU go down a rung. Answers the
    /// workers that had them.
    async fn take_back(&self, dead: Dead<'_>, how: &str) -> Vec<String> {
        let rungs: Mutex<Vec<(JobId, Rung)>> = Mutex::default();
        let plan = self.devices.plan().borrow().clone();
        let next = |left: &LeftBehind| {
            let rung = rung_after_death(&plan, left, how)?;
            let mut rungs = rungs.lock().unwrap_or_else(PoisonError::into_inner);
            rungs.push((left.job.clone(), rung.clone()));
            Some(rung)
        };
        let reaped = match self.queue.reap_onto(dead, CRASHED, &next).await {
            Ok(reaped) => reaped,
            Err(error) => {
                tracing::error!(%error, "leases could not be looked at");
                return Vec::new();
            }
        };
        for (job, rung) in rungs.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.note_rung(&job, &rung).await;
        }
        for (job, user, owner) in &reaped {
            tracing::warn!(job = job.0, owner, "a job was taken back");
            let ended = match self.queue.job(job).await {
                Ok(Some(row)) => row.state.is_final(),
                _ => false,
            };
            self.board.row_changed(job, *user, ended);
        }
        // Another worker may have to take it.
        if !reaped.is_empty() {
            self.supervisor.order(Order::Wake);
        }
        reaped.into_iter().map(|(_, _, owner)| owner).collect()
    }

    async fn note_rung(&self, job: &JobId, rung: &Rung) {
        let message = format!("{}; {} (job {}).", rung.fault, rung.done, job.0);
        self.note("rung", &rung.device, &message).await;
    }

    async fn note(&self, kind: &str, device: &str, message: &str) {
        if let Err(error) = self.devices.record(kind, device, message).await {
            tracing::error!(%error, "a device event could not be written");
        }
    }

    async fn count_failure(&self, device: &str, words: &str) {
        if let Err(error) = self.devices.failure(device, words).await {
            tracing::error!(%error, "a device failure could not be written");
        }
    }
}

/// Whether the same worker process serves both.
fn same_process(a: &Lane, b: &Lane) -> bool {
    let bare = |lane: &Lane| Lane {
        standby: false,
        fallback_reason: None,
        ..lane.clone()
    };
    bare(a) == bare(b)
}

fn standing_order(plan: &Plan, lane: &Lane) -> Order {
    Order::Device {
        fallback_reason: lane.fallback_reason.clone(),
        idle_release_s: plan.idle_release_s,
        after: after(plan, lane),
    }
}

/// The devices that come before a lane.
fn after(plan: &Plan, lane: &Lane) -> Vec<String> {
    if !lane.standby {
        return Vec::new();
    }
    let first = plan.lanes.iter().filter(|other| !other.standby);
    first.map(|other| other.device.clone()).collect()
}

/// A worker's name, which tells its device.
fn owner_on(device: &str) -> String {
    format!("worker-{device}-{}", uuid::Uuid::now_v7())
}

/// The device in a worker's name.
fn device_of(owner: &str) -> Option<&str> {
    let rest = owner.strip_prefix("worker-")?;
    // A hyphen and 36 characters of a UUID.
    rest.get(..rest.len().checked_sub(37)?)
}

/// The rung for a job whose worker died at it on a GPU.
fn rung_after_death(plan: &Plan, left: &LeftBehind, how: &str) -> Option<Rung> {
    let device = device_of(&left.owner).filter(|device| device.starts_with("cuda:"))?;
    let lane = plan.lanes.iter().find(|lane| lane.device == device);
    let descent = lane.map_or(Descent::Leave, |lane| {
        Footing::of(lane.way, &lane.formats, &left.rungs).next(Fault::Died, &lane.formats)
    });
    let phase = left.phase.as_deref().unwrap_or("starting");
    Some(Rung {
        at: now_ms(),
        device: device.to_owned(),
        fault: format!("the worker process {how} while {phase}"),
        done: ladder::words(&descent),
        descent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workers_name_tells_its_device() {
        assert_eq!(device_of(&owner_on("cuda:12")), Some("cuda:12"));
        assert_eq!(device_of(&owner_on("cpu")), Some("cpu"));
        for other in ["", "worker-", "worker-x", "somebody"] {
            assert_eq!(device_of(other), None, "{other}");
        }
    }

    #[test]
    fn only_what_died_on_a_gpu_goes_down_a_rung() {
        let left = |owner: String| LeftBehind {
            job: JobId("1".into()),
            owner,
            phase: Some("denoising".into()),
            rungs: Vec::new(),
        };
        let plan = Plan::default();
        assert_eq!(
            rung_after_death(&plan, &left(owner_on("cpu")), "crashed"),
            None
        );
        let rung = rung_after_death(&plan, &left(owner_on("cuda:0")), "crashed").expect("a rung");
        // Nobody works there any more.
        assert_eq!(rung.descent, Descent::Leave);
        assert_eq!(rung.fault, "the worker process crashed while denoising");
    }
}
