//! What the order-reading thread and the job under way share.

use crate::jobs::protocol::Order;
use atelier_app::studio::JobId;
use std::io::BufRead;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Between two looks at whether anything still moves.
const TICK: Duration = Duration::from_millis(500);

/// What the order-reading thread and the job share.
#[derive(Default)]
pub(super) struct Desk {
    pub draining: AtomicBool,
    pub releasing: AtomicBool,
    pub woken: Notify,
    pub fallback_reason: Mutex<Option<String>>,
    /// Seconds after which an idle model is let go; 0 = never.
    pub idle_release_s: AtomicU32,
    /// Devices whose workers come first.
    pub after: Mutex<Vec<String>>,
    pub current: Mutex<Option<Arc<Current>>>,
}

/// The job under way, as seen from outside the engine's thread.
pub(super) struct Current {
    pub job: JobId,
    stop: Mutex<Option<Stop>>,
    stop_asked: Notify,
    /// The engine cannot be stopped while it loads a model.
    pub loading: AtomicBool,
    phase: Mutex<Phase>,
}

/// Where the engine is, and since when it said nothing else.
#[derive(Clone)]
pub(super) struct Phase {
    pub words: String,
    pub step: u32,
    since: Instant,
}

/// Why a job is stopped before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Cancelled,
    Released,
    Lost,
}

impl Current {
    pub fn new(job: JobId) -> Self {
        Self {
            job,
            stop: Mutex::default(),
            stop_asked: Notify::new(),
            loading: AtomicBool::new(false),
            phase: Mutex::new(Phase {
                words: "starting".into(),
                step: 0,
                since: Instant::now(),
            }),
        }
    }

    pub fn stop(&self, why: Stop) {
        lock(&self.stop).get_or_insert(why);
        self.stop_asked.notify_one();
    }

    /// Waits for a stop that is asked for while the model loads; one that comes later is seen by
    /// the engine itself.
    pub async fn stopped_while_loading(&self) -> Stop {
        loop {
            self.stop_asked.notified().await;
            if let Some(why) = self.stopped()
                && self.loading.load(Ordering::Acquire)
            {
                return why;
            }
        }
    }

    pub fn stopped(&self) -> Option<Stop> {
        *lock(&self.stop)
    }

    pub fn phase(&self) -> Phase {
        lock(&self.phase).clone()
    }

    pub fn set_phase(&self, words: &str, step: u32) {
        *lock(&self.phase) = Phase {
            words: words.into(),
            step,
            since: Instant::now(),
        };
    }

    /// Waits until the engine has said nothing for `limit`; answers where it was. Never, without one.
    pub async fn stalled(&self, limit: Option<Duration>) -> Phase {
        let Some(limit) = limit else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(TICK).await;
            let phase = self.phase();
            if phase.since.elapsed() > limit {
                return phase;
            }
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads orders on a thread of their own; ends the process when they end.
pub(super) fn listen(desk: Arc<Desk>) {
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
    pub fn obey(&self, order: Order) {
        let current = lock(&self.current).clone();
        match order {
            Order::Wake => {}
            Order::Cancel { job } => {
                if let Some(current) = current.filter(|current| current.job == job) {
                    current.stop(Stop::Cancelled);
                }
            }
            Order::Device {
                fallback_reason,
                idle_release_s,
                after,
            } => {
                *lock(&self.fallback_reason) = fallback_reason;
                *lock(&self.after) = after;
                self.idle_release_s.store(idle_release_s, Ordering::Release);
            }
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
pub(super) async fn drain_on_signal(desk: Arc<Desk>) {
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
