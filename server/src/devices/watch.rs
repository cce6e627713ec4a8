//! Whether anything has come or gone: a driver, a GPU, the CUDA worker. A cheap look with back-off;
//! only where it shows something new is the whole probe run. And devices that rest are tried again
//! when their time has come.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::driver::DriverAnswer;
use super::probe::{self, ask_driver_apart};
use super::way::Asked;
use super::{Devices, cuda_number};
use crate::db::now_ms;

/// How long the driver may take to answer a look.
const LIMIT: Duration = probe::DRIVER_LIMIT;
/// Looks grow this much rarer where nothing changes.
const RAREST: u32 = 20;
/// Between two looks at whether a rest is over.
const TICK: Duration = Duration::from_millis(500);

/// What a look shows.
#[derive(Clone, Debug, PartialEq)]
struct Glance {
    driver: DriverAnswer,
    /// Size and date of the CUDA worker.
    worker: Option<(u64, Option<SystemTime>)>,
}

impl Glance {
    /// Blocks, at most as long as the driver may take.
    fn take(program: &Path, cuda_worker: &Path) -> Self {
        let mut driver = ask_driver_apart(program, LIMIT);
        for gpu in &mut driver.gpus {
            // Comes and goes with every image.
            gpu.memory_free = None;
        }
        let worker = std::fs::metadata(cuda_worker).ok();
        Self {
            driver,
            worker: worker.map(|file| (file.len(), file.modified().ok())),
        }
    }
}

/// Looks for as long as the runtime lives.
pub(super) async fn keep_looking(devices: Devices) {
    let first = Duration::from_secs(u64::from(devices.inner.args.device_look_seconds));
    let mut seen = glance(&devices).await;
    let mut wait = first;
    let mut looked = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(TICK).await;
        if devices.read().wish(&devices.inner.args).asked == Asked::Cpu {
            continue;
        }
        let due = devices.due();
        if !due.is_empty() {
            // What it failed at may have to do with what has changed since.
            seen = glance(&devices).await;
            try_again(&devices, Some(due)).await;
            continue;
        }
        if looked.elapsed() < wait {
            continue;
        }
        let now = glance(&devices).await;
        looked = tokio::time::Instant::now();
        if now == seen {
            wait = (wait * 2).min(first * RAREST);
            // A probe that found nothing out (killed, or too slow on a full machine) says nothing of
            // the GPUs: it is tried again.
            if !devices.probe_failed() {
                continue;
            }
        } else {
            tracing::info!("GPUs, their driver or the CUDA worker have changed; testing again");
            wait = first;
        }
        seen = now;
        try_again(&devices, None).await;
    }
}

async fn try_again(devices: &Devices, only: Option<Vec<u32>>) {
    let before = devices.in_use();
    if let Err(error) = devices.look_again(only).await {
        tracing::error!(%error, "the devices could not be tested again");
        return;
    }
    for device in devices.in_use() {
        if before.contains(&device) {
            continue;
        }
        let message = "It passed every check and is used.";
        if let Err(error) = devices.record("recovered", &device, message).await {
            tracing::error!(%error, "a device event could not be written");
        }
    }
}

async fn glance(devices: &Devices) -> Option<Glance> {
    let (program, worker) = (
        devices.inner.program.clone(),
        devices.inner.cuda_worker.clone(),
    );
    tokio::task::spawn_blocking(move || Glance::take(&program, &worker))
        .await
        .ok()
}

impl Devices {
    /// GPUs whose rest is over.
    fn due(&self) -> Vec<u32> {
        let now = now_ms();
        let standing = self.read();
        let due = standing
            .breakers
            .iter()
            .filter(|(_, breaker)| breaker.is_due(now));
        due.filter_map(|(id, _)| cuda_number(id)).collect()
    }

    /// Whether the last probe came to no findings.
    fn probe_failed(&self) -> bool {
        matches!(self.read().findings, Some(Err(_)))
    }

    /// GPUs that work now.
    fn in_use(&self) -> Vec<String> {
        let standing = self.read();
        let lanes = standing.decision.lanes.iter();
        lanes
            .filter(|lane| lane.device != "cpu")
            .map(|lane| lane.device.clone())
            .collect()
    }
}
