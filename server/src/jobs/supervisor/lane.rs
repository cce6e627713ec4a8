//! One worker process on one device: started, heard, restarted with back-off, its job taken back at
//! once when it dies.

use super::{Shift, owner_on};
use crate::config::CpuArgs;
use crate::devices::Lane;
use crate::jobs::protocol::{News, Order, line};
use crate::jobs::queue::Dead;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

/// Waits between restarts: doubled each time up to the longest, forgotten after a calm minute or a
/// job that came to its end.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
const CALM: Duration = Duration::from_secs(60);
/// How long a worker that said it ends may take; a driver that hangs keeps processes alive.
const LAST_BREATH: Duration = Duration::from_secs(5);
/// After being killed: one that is stuck inside the kernel does not even die.
const BURIAL: Duration = Duration::from_secs(10);

/// A lane's worker, kept running.
pub(super) struct LaneTask {
    pub shift: Arc<Shift>,
    pub lane: Lane,
    /// What a new worker is told first; later orders of its kind replace it.
    pub standing: Order,
    pub idle_release_s: u32,
    pub after: Vec<String>,
}

/// How a worker's life ended.
enum End {
    /// As ordered.
    Ordered,
    /// By itself, after the device failed it: counted and written down already.
    Replaced,
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

/// What a worker has said so far.
#[derive(Default)]
struct Heard {
    /// A job of its came to an end.
    useful: bool,
    /// The device failed it and it ends.
    replaced: bool,
}

impl LaneTask {
    /// Until it is ordered to end.
    pub async fn keep_running(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        let mut wait = BACK_OFF.0;
        let device = self.lane.device.clone();
        let is_gpu = device != "cpu";
        loop {
            let owner = owner_on(&device);
            let born = Instant::now();
            let end = match self.spawn(&owner) {
                Ok(child) => self.attend(child, &owner, &mut inbox).await,
                Err(error) => End::died(format!("it could not be started: {error}")),
            };
            match end {
                End::Ordered => {
                    self.shift.take_back(Dead::Stopped(&owner), "").await;
                    break;
                }
                End::Replaced => {
                    tracing::warn!(device, "the worker process is replaced");
                    self.say("restarting (the device failed it)");
                    self.shift.take_back(Dead::Stopped(&owner), "").await;
                    wait = BACK_OFF.0;
                }
                End::Died { words, useful } => {
                    tracing::error!(
                        device,
                        reason = words,
                        "the worker process ended; starting another"
                    );
                    self.say(format!("restarting ({words})"));
                    self.shift.take_back(Dead::Crashed(&owner), &words).await;
                    self.shift.note("worker_died", &device, &words).await;
                    if is_gpu {
                        self.shift
                            .count_failure(&device, &format!("the worker process {words}"))
                            .await;
                    }
                    if useful || born.elapsed() > CALM {
                        wait = BACK_OFF.0;
                    }
                }
            }
            // An order to stop must not wait for the back-off.
            let asleep = tokio::time::sleep(wait);
            tokio::pin!(asleep);
            let stop = loop {
                tokio::select! {
                    () = &mut asleep => break false,
                    order = inbox.recv() => match order {
                        None | Some(Order::Drain | Order::Release) => break true,
                        Some(order @ Order::Device { .. }) => self.standing = order,
                        Some(Order::Wake | Order::Cancel { .. }) => {}
                    },
                }
            };
            if stop {
                break;
            }
            wait = (wait * 2).min(BACK_OFF.1);
        }
        self.say("stopped");
    }

    fn say(&self, words: impl Into<String>) {
        self.shift.supervisor.say(&self.lane.device, words, None);
    }

    fn spawn(&self, owner: &str) -> std::io::Result<Child> {
        let config = &self.shift.config;
        let lane = &self.lane;
        let program = lane.program.clone().unwrap_or_else(|| config.program());
        let formats: Vec<&str> = lane.formats.iter().map(|format| format.name()).collect();
        let mut command = Command::new(program);
        command
            .args(["worker", "--device", &lane.device, "--owner", owner])
            .args(["--dtype", lane.way.dtype.name()])
            .args(["--storage", lane.way.storage.name()])
            .args(["--formats", &formats.join(",")])
            .args(["--log", &config.log, "--lease-seconds"])
            .arg(config.lease.length().as_secs().to_string())
            .args(["--idle-release", &self.idle_release_s.to_string()])
            .args(["--stall-seconds", &config.devices.stall_seconds.to_string()])
            .arg("--data-dir")
            .arg(&config.data_dir.path);
        if lane.device == "cpu" {
            command.args(CpuArgs::words(lane.way.cpu, config.devices.cpu.isa));
        }
        if lane.way.in_turn {
            command.arg("--in-turn");
        }
        if lane.way.tiled_vae {
            command.arg("--tiled-vae");
        }
        if let Some(device) = &lane.refiner_device {
            command.args(["--refiner-device", device]);
        }
        let after = match &self.standing {
            Order::Device { after, .. } => after,
            _ => &self.after,
        };
        if !after.is_empty() {
            command.args(["--after", &after.join(",")]);
        }
        for folder in &config.models.folders {
            let mut value = std::ffi::OsString::from(&folder.name);
            value.push("=");
            value.push(&folder.path);
            command.arg("--model").arg(value);
        }
        for folder in &config.lora_dirs.paths {
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
        &mut self,
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
        let mut silent = self.shift.silent.subscribe();
        let mut kill = self.shift.supervisor.kill.subscribe();
        let (mut stopping, mut hearing, mut hung, mut killed) = (false, true, false, false);
        let mut heard = Heard::default();
        let mut deadline: Option<tokio::time::Instant> = None;
        let _ = orders.send(self.standing.clone());
        let status = loop {
            tokio::select! {
                order = inbox.recv() => {
                    let order = order.unwrap_or(Order::Release);
                    stopping |= matches!(order, Order::Drain | Order::Release);
                    if matches!(order, Order::Device { .. }) {
                        self.standing = order.clone();
                    }
                    // A worker that is gone is noticed below.
                    let _ = orders.send(order);
                }
                text = news.next_line(), if hearing => match text {
                    Ok(Some(text)) => {
                        self.hear(&text, &mut heard).await;
                        if heard.replaced && deadline.is_none() {
                            deadline = Some(tokio::time::Instant::now() + LAST_BREATH);
                        }
                    }
                    Ok(None) | Err(_) => hearing = false,
                },
                status = child.wait() => break Some(status),
                () = async { drop(kill.wait_for(|kill| *kill).await) }, if !killed => {
                    tracing::error!("the worker process does not stop and is ended");
                    let _ = child.start_kill();
                    (killed, deadline) = (true, Some(tokio::time::Instant::now() + BURIAL));
                }
                () = async { tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)).await }, if deadline.is_some() => {
                    if killed {
                        // The kernel has it; whoever waits for it waits for ever.
                        break None;
                    }
                    let _ = child.start_kill();
                    (killed, deadline) = (true, Some(tokio::time::Instant::now() + BURIAL));
                }
                who = silent.recv() => {
                    if who.is_ok_and(|who| who == owner) {
                        tracing::error!("the worker process stopped answering and is ended");
                        hung = true;
                        let _ = child.start_kill();
                        (killed, deadline) = (true, Some(tokio::time::Instant::now() + BURIAL));
                    }
                }
            }
        };
        // What it said last is still in the pipe.
        let rest = async {
            while let Ok(Some(text)) = news.next_line().await {
                self.hear(&text, &mut heard).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
        let words = match status {
            _ if stopping => return End::Ordered,
            _ if heard.replaced => return End::Replaced,
            _ if hung => "stopped answering".to_owned(),
            Some(Ok(status)) => format!("crashed: {status}"),
            Some(Err(error)) => format!("lost: {error}"),
            None => "does not even end when it is killed".to_owned(),
        };
        End::Died {
            words,
            useful: heard.useful,
        }
    }

    /// Puts a line of news up.
    async fn hear(&self, text: &str, heard: &mut Heard) {
        let news = match serde_json::from_str::<News>(text) {
            Ok(news) => news,
            Err(error) => {
                tracing::warn!(%error, "news could not be read");
                return;
            }
        };
        let supervisor = &self.shift.supervisor;
        match &news {
            News::Idle => self.say("idle"),
            News::Claimed { job, .. } | News::Progress { job, .. } => {
                supervisor.say(&self.lane.device, "working", Some(job.clone()));
            }
            News::Rung {
                job,
                rung,
                counts,
                replaced,
            } => {
                heard.replaced |= replaced;
                self.shift.note_rung(job, rung).await;
                if *counts {
                    self.shift.count_failure(&rung.device, &rung.fault).await;
                    // Another worker may have to take it.
                    supervisor.order(Order::Wake);
                }
            }
            News::Ended { .. } => heard.useful = true,
        }
        if news != News::Idle {
            self.shift.board.hear(news);
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
