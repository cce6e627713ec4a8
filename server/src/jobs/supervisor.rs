//! Keeps one worker process running: starts it, hears it, restarts it with back-off, and takes its
//! job back at once when it dies.

use super::progress::Board;
use super::protocol::{News, Order, line};
use super::queue::{Dead, Queue};
use crate::config::ServeConfig;
use crate::devices::Devices;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{Notify, mpsc, watch};
use uuid::Uuid;

/// Waits between restarts: doubled each time up to the longest, forgotten after a calm minute or a
/// job that came to its end.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
const CALM: Duration = Duration::from_secs(60);
/// The longest between two looks at the leases.
const REAP: Duration = Duration::from_secs(5);
/// How long a worker may take to put its job back before it is killed.
const RELEASE: Duration = Duration::from_secs(5);
/// What a job's owner reads when its last attempt died too.
pub const CRASHED: &str = "Making this image ended the worker process each time it was tried. Try another size or other settings; an administrator finds the reason in the log.";

/// The worker as others see it.
pub struct Supervisor {
    orders: mpsc::UnboundedSender<Order>,
    words: Mutex<String>,
    stopped: watch::Sender<bool>,
    kill: Notify,
}

impl Supervisor {
    /// Starts the first worker and keeps one running until [`Supervisor::stop`].
    pub fn start(
        queue: Queue,
        board: Arc<Board>,
        config: Arc<ServeConfig>,
        devices: Arc<Devices>,
    ) -> Arc<Self> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let supervisor = Arc::new(Self {
            orders,
            words: Mutex::new("starting".into()),
            stopped: watch::Sender::new(false),
            kill: Notify::new(),
        });
        let shift = Shift {
            queue: queue.clone(),
            board: board.clone(),
            config,
            devices,
            supervisor: supervisor.clone(),
        };
        tokio::spawn(shift.keep_running(inbox));
        supervisor
    }

    /// Sends an order; a worker that is just restarting looks at the table by itself.
    pub fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// "starting", "idle", "working", "restarting (…)", "stopped".
    pub fn words(&self) -> String {
        self.words
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Lets the running job finish within `grace`, else puts it back; returns when the worker is gone.
    pub async fn stop(&self, grace: Duration) {
        let mut stopped = self.stopped.subscribe();
        self.order(Order::Drain);
        // A second is kept back for the job that has to be put back.
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
        self.kill.notify_one();
        let _ = tokio::time::timeout(RELEASE, stopped.wait_for(|stopped| *stopped)).await;
    }

    fn say(&self, words: impl Into<String>) {
        *self.words.lock().unwrap_or_else(PoisonError::into_inner) = words.into();
    }
}

/// Everything the supervising task needs.
struct Shift {
    queue: Queue,
    board: Arc<Board>,
    config: Arc<ServeConfig>,
    devices: Arc<Devices>,
    supervisor: Arc<Supervisor>,
}

/// How a worker's life ended.
enum End {
    /// As ordered.
    Ordered,
    /// On its own.
    Died {
        /// How, in words.
        words: String,
        /// Whether a job of its came to an end before.
        useful: bool,
    },
}

impl End {
    fn died(words: String) -> Self {
        Self::Died {
            words,
            useful: false,
        }
    }
}

impl Shift {
    async fn keep_running(self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        let mut wait = BACK_OFF.0;
        loop {
            let owner = format!("worker-{}", Uuid::now_v7());
            let born = Instant::now();
            let end = match self.spawn(&owner) {
                Ok(child) => self.attend(child, &owner, &mut inbox).await,
                Err(error) => End::died(format!("it could not be started: {error}")),
            };
            let (words, useful) = match end {
                End::Ordered => {
                    self.take_back(Dead::Stopped(&owner)).await;
                    break;
                }
                End::Died { words, useful } => (words, useful),
            };
            tracing::error!(reason = words, "the worker process ended; starting another");
            self.supervisor.say(format!("restarting ({words})"));
            self.take_back(Dead::Crashed(&owner)).await;
            if let Err(error) = self.devices.record("worker_died", "cpu", &words).await {
                tracing::error!(%error, "a device event could not be written");
            }
            if useful || born.elapsed() > CALM {
                wait = BACK_OFF.0;
            }
            // An order to stop must not wait for the back-off.
            let asleep = tokio::time::sleep(wait);
            tokio::pin!(asleep);
            let stop = loop {
                tokio::select! {
                    () = &mut asleep => break false,
                    order = inbox.recv() => if matches!(order, None | Some(Order::Drain | Order::Release)) { break true },
                }
            };
            if stop {
                break;
            }
            wait = (wait * 2).min(BACK_OFF.1);
        }
        self.supervisor.say("stopped");
        self.supervisor.stopped.send_replace(true);
    }

    fn spawn(&self, owner: &str) -> std::io::Result<Child> {
        let mut command = Command::new(self.config.program());
        command
            .args([
                "worker",
                "--device",
                "cpu",
                "--owner",
                owner,
                "--log",
                &self.config.log,
            ])
            .arg("--lease-seconds")
            .arg(self.config.lease.length().as_secs().to_string())
            .arg("--data-dir")
            .arg(&self.config.data_dir.path);
        for folder in &self.config.models.folders {
            let mut value = std::ffi::OsString::from(&folder.name);
            value.push("=");
            value.push(&folder.path);
            command.arg("--model").arg(value);
        }
        for folder in &self.config.lora_dirs.paths {
            command.arg("--lora-dir").arg(folder);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        // A ctrl-c in the terminal is the server's to handle: it tells its worker what to do.
        #[cfg(unix)]
        command.process_group(0);
        command.spawn()
    }

    /// Passes orders down and news up until the worker ends.
    async fn attend(
        &self,
        mut child: Child,
        owner: &str,
        inbox: &mut mpsc::UnboundedReceiver<Order>,
    ) -> End {
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return End::died("its pipes could not be opened".into());
        };
        // A worker that does not read must not keep its supervisor from noticing that.
        let orders = pass_down(stdin);
        let mut news = BufReader::new(stdout).lines();
        let mut leases = tokio::time::interval(REAP.min(self.config.lease.heartbeat()));
        let (mut stopping, mut hearing, mut useful) = (false, true, false);
        let mut hung = false;
        let _ = orders.send(Order::Device {
            fallback_reason: self.devices.fallback_reason(),
        });
        let status = loop {
            tokio::select! {
                order = inbox.recv() => {
                    let order = order.unwrap_or(Order::Release);
                    stopping |= matches!(order, Order::Drain | Order::Release);
                    // A worker that is gone is noticed below.
                    let _ = orders.send(order);
                }
                text = news.next_line(), if hearing => match text {
                    Ok(Some(text)) => useful |= self.hear(&text),
                    Ok(None) | Err(_) => hearing = false,
                },
                status = child.wait() => break status,
                () = self.supervisor.kill.notified() => {
                    tracing::error!("the worker process does not stop and is ended");
                    let _ = child.start_kill();
                }
                _ = leases.tick() => {
                    if self.take_back(Dead::Nobody).await.iter().any(|had| had == owner) {
                        tracing::error!("the worker process stopped answering and is ended");
                        hung = true;
                        let _ = child.start_kill();
                    }
                }
            }
        };
        // What it said last is still in the pipe.
        let rest = async {
            while let Ok(Some(text)) = news.next_line().await {
                useful |= self.hear(&text);
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
        let words = match status {
            _ if stopping => return End::Ordered,
            _ if hung => "stopped answering".to_owned(),
            Ok(status) => format!("crashed: {status}"),
            Err(error) => format!("lost: {error}"),
        };
        End::Died { words, useful }
    }

    /// Puts a line of news up; answers whether a job came to its end.
    fn hear(&self, text: &str) -> bool {
        let news = match serde_json::from_str::<News>(text) {
            Ok(news) => news,
            Err(error) => {
                tracing::warn!(%error, "news could not be read");
                return false;
            }
        };
        match &news {
            News::Idle => self.supervisor.say("idle"),
            News::Claimed { .. } | News::Progress { .. } => self.supervisor.say("working"),
            News::Ended { .. } => {}
        }
        let ended = matches!(news, News::Ended { .. });
        if news != News::Idle {
            self.board.hear(news);
        }
        ended
    }

    /// Takes jobs back and tells their owners; answers the workers that had them.
    async fn take_back(&self, dead: Dead<'_>) -> Vec<String> {
        match self.queue.reap(dead, CRASHED).await {
            Ok(reaped) => {
                for (job, user, owner) in &reaped {
                    tracing::warn!(job = job.0, owner, "a job was taken back");
                    let ended = match self.queue.job(job).await {
                        Ok(Some(row)) => row.state.is_final(),
                        _ => false,
                    };
                    self.board.row_changed(job, *user, ended);
                }
                reaped.into_iter().map(|(_, _, owner)| owner).collect()
            }
            Err(error) => {
                tracing::error!(%error, "leases could not be looked at");
                Vec::new()
            }
        }
    }
}

/// Writes orders to a worker's standard input for as long as it reads and the answer lives.
fn pass_down(mut stdin: ChildStdin) -> mpsc::UnboundedSender<Order> {
    let (orders, mut inbox) = mpsc::unbounded_channel::<Order>();
    tokio::spawn(async move {
        while let Some(order) = inbox.recv().await {
            if stdin.write_all(line(&order).as_bytes()).await.is_err() {
                break;
            }
        }
    });
    orders
}
