//! How the machine feels: load, memory, temperature and power of the CPU and of every GPU, and the
//! memory of workers, every few seconds, the last hour kept in memory. For administrators.
//!
//! Costs well under half a per cent of a core: a dozen small files every five seconds, and a
//! process that holds NVIDIA's library where there is one.

mod gpus; // where GPUs' numbers come from
mod host; // what Linux tells of itself
pub mod nvml; // NVIDIA's library, in a process of its own

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atelier_app::admin::{
    DeviceReport, DeviceVitals, LONGEST_SPAN_S, Pressure, StepTime, VitalPoint, VitalsReport,
    WorkerMemory,
};

use crate::db::now_ms;
use crate::startup::Shutdown;
pub use gpus::Programs;
use gpus::{Found, Gpus};
use host::{Host, HostSample};
use nvml::GpuVitals;

/// The word in place of a device by which the server has `atelier probe` read GPUs for it.
pub const ASKED_OF_PROBE: &str = "vitals";

/// Between two measurements.
pub const EVERY: Duration = Duration::from_secs(5);

/// Points that a plot is drawn from at most: more could not be told apart.
const PLOTTED: usize = 120;

/// What is measured, and how often.
#[derive(Clone, Debug)]
pub struct VitalsConfig {
    /// `/`, or a folder that stands for it.
    pub root: PathBuf,
    /// What is asked about GPUs.
    pub programs: Programs,
    /// Between two measurements.
    pub every: Duration,
}

impl VitalsConfig {
    /// This machine, with `program` as the `atelier` binary.
    pub fn of_this_machine(program: PathBuf) -> Self {
        Self {
            root: PathBuf::from("/"),
            programs: Programs {
                atelier: program,
                smi: PathBuf::from("nvidia-smi"),
                patience: Duration::from_secs(20),
            },
            every: EVERY,
        }
    }
}

/// What was measured. Cheap to share.
pub struct Vitals {
    every: Duration,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    cpu: Ring,
    gpus: Vec<Gpu>,
    workers: Vec<WorkerMemory>,
    pressure: Option<Pressure>,
    gpu_source: String,
}

struct Gpu {
    latest: GpuVitals,
    ring: Ring,
}

#[derive(Default)]
struct Ring {
    memory_total: Option<u64>,
    points: VecDeque<VitalPoint>,
}

impl Ring {
    fn push(&mut self, point: VitalPoint) {
        let oldest = point.at - i64::from(LONGEST_SPAN_S) * 1000;
        while self.points.front().is_some_and(|first| first.at < oldest) {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }
}

impl Vitals {
    /// Measures from now on until the server stops.
    pub fn start(config: VitalsConfig, shutdown: Shutdown) -> Arc<Self> {
        let vitals = Arc::new(Self {
            every: config.every,
            book: Mutex::default(),
        });
        let book = vitals.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.requested() => {}
                () = book.measure(config) => {}
            }
        });
        vitals
    }

    async fn measure(&self, config: VitalsConfig) {
        let host = self.measure_host(&config.root, config.every);
        // A library that takes its time must not make the CPU's plot stand still.
        let gpus = self.measure_gpus(config.programs, config.every);
        tokio::join!(host, gpus);
    }

    async fn measure_host(&self, root: &Path, every: Duration) {
        let mut host = Host::new(root, std::process::id());
        let began = Instant::now();
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Reading what the kernel writes on the spot takes a millisecond and waits for no disk.
            let sample = host.sample(began.elapsed());
            self.keep_host(now_ms(), sample);
        }
    }

    async fn measure_gpus(&self, programs: Programs, every: Duration) {
        let mut gpus = Gpus::new(programs);
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let found = gpus.look().await;
            self.keep_gpus(now_ms(), found);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_host(&self, at: i64, sample: HostSample) {
        let mut book = self.book();
        book.cpu.memory_total = sample.memory_total;
        book.cpu.push(VitalPoint {
            at,
            memory_used: sample.memory_used.map(|bytes| bytes as f64),
            load: sample.load,
            temperature_c: sample.temperature_c,
            power_w: None,
        });
        book.workers = sample.workers;
        book.pressure = sample.pressure;
    }

    fn keep_gpus(&self, at: i64, found: Found) {
        let mut book = self.book();
        book.gpu_source = found.source;
        if !found.fresh {
            return;
        }
        let mut before = std::mem::take(&mut book.gpus);
        book.gpus = found
            .gpus
            .into_iter()
            .map(|gpu| {
                let is_same = |known: &Gpu| match (&known.latest.uuid, &gpu.uuid) {
                    (Some(known), Some(uuid)) => known == uuid,
                    _ => known.latest.index == gpu.index,
                };
                let mut ring = before
                    .iter()
                    .position(is_same)
                    .map_or_else(Ring::default, |place| before.swap_remove(place).ring);
                ring.memory_total = gpu.memory_total.or(ring.memory_total);
                ring.push(VitalPoint {
                    at,
                    memory_used: gpu.memory_used.map(|bytes| bytes as f64),
                    load: gpu.load,
                    temperature_c: gpu.temperature_c,
                    power_w: gpu.power_w,
                });
                Gpu { latest: gpu, ring }
            })
            .collect();
    }

    /// The last `span_s` seconds, at most an hour. GPUs are called as `devices` call them, found by
    /// UUID; `step_times` are what the queue knows, by device.
    pub fn report(
        &self,
        span_s: u32,
        devices: &[DeviceReport],
        step_times: &[(String, StepTime)],
    ) -> VitalsReport {
        let span_s = span_s.clamp(30, LONGEST_SPAN_S);
        let at = now_ms();
        let oldest = at - i64::from(span_s) * 1000;
        let times_of = |id: &str| {
            let own = step_times.iter().filter(|(device, _)| device == id);
            own.map(|(_, time)| *time).collect()
        };
        let book = self.book();
        let cpu = DeviceVitals {
            id: "cpu".into(),
            name: "CPU".into(),
            memory_total: book.cpu.memory_total,
            problem: None,
            points: thinned(&book.cpu.points, oldest, at),
            step_times: times_of("cpu"),
        };
        let gpus = book.gpus.iter().map(|gpu| {
            let id = id_of(&gpu.latest, devices);
            DeviceVitals {
                name: gpu
                    .latest
                    .name
                    .clone()
                    .unwrap_or_else(|| "NVIDIA GPU".into()),
                memory_total: gpu.ring.memory_total,
                problem: gpu.latest.problem.clone(),
                points: thinned(&gpu.ring.points, oldest, at),
                step_times: times_of(&id),
                id,
            }
        });
        let mut all: Vec<DeviceVitals> = std::iter::once(cpu).chain(gpus).collect();
        // What nothing can be read of has its step times all the same.
        for device in devices {
            if !all.iter().any(|known| known.id == device.id) {
                all.push(DeviceVitals {
                    id: device.id.clone(),
                    name: device.name.clone(),
                    step_times: times_of(&device.id),
                    ..DeviceVitals::default()
                });
            }
        }
        VitalsReport {
            at,
            span_s,
            every_s: self.every.as_secs_f64(),
            devices: all,
            workers: book.workers.clone(),
            pressure: book.pressure,
            gpu_source: book.gpu_source.clone(),
        }
    }
}

/// The library counts GPUs in the bus' order and CUDA the fastest first: only the UUID tells.
fn id_of(gpu: &GpuVitals, devices: &[DeviceReport]) -> String {
    let has = |device: &&DeviceReport| {
        let uuid = device.facts.iter().find(|(name, _)| name == "UUID");
        uuid.zip(gpu.uuid.as_ref())
            .is_some_and(|((_, known), uuid)| known == uuid)
    };
    match devices.iter().find(has) {
        Some(device) => device.id.clone(),
        None => format!("cuda:{}", gpu.index),
    }
}

/// The points since `oldest`, so few that a plot can show them all: each stands for an equal part of
/// the time and is the mean of what was measured in it.
fn thinned(points: &VecDeque<VitalPoint>, oldest: i64, now: i64) -> Vec<VitalPoint> {
    let recent: Vec<&VitalPoint> = points.iter().filter(|point| point.at >= oldest).collect();
    if recent.len() <= PLOTTED {
        return recent.into_iter().copied().collect();
    }
    let width = ((now - oldest).max(1) as usize).div_ceil(PLOTTED) as i64;
    // Parts begin at round times, so that a later report draws the same ones.
    recent
        .chunk_by(|a, b| a.at.div_euclid(width) == b.at.div_euclid(width))
        .map(|part| {
            let mean = |of: fn(&VitalPoint) -> Option<f64>| {
                let known: Vec<f64> = part.iter().filter_map(|point| of(point)).collect();
                (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
            };
            VitalPoint {
                at: part.last().map_or(now, |point| point.at),
                memory_used: mean(|point| point.memory_used).map(f64::round),
                load: mean(|point| point.load),
                temperature_c: mean(|point| point.temperature_c),
                power_w: mean(|point| point.power_w),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn vitals() -> Vitals {
        Vitals {
            every: EVERY,
            book: Mutex::default(),
        }
    }

    fn gpu(index: u32, uuid: &str, used: u64) -> GpuVitals {
        GpuVitals {
            index,
            uuid: Some(uuid.into()),
            memory_used: Some(used),
            memory_total: Some(24 << 30),
            ..GpuVitals::default()
        }
    }

    fn found(gpus: Vec<GpuVitals>, fresh: bool) -> Found {
        Found {
            gpus,
            fresh,
            source: "a test".into(),
        }
    }

    #[test]
    fn an_hour_is_kept_and_thinned_to_what_a_plot_shows() {
        let vitals = vitals();
        let now = now_ms();
        for step in (0..1440).rev() {
            let sample = HostSample {
                load: Some(f64::from(step % 2)),
                memory_used: Some(1000),
                memory_total: Some(2000),
                ..HostSample::default()
            };
            vitals.keep_host(now - step as i64 * 5000, sample);
        }
        assert!(vitals.book().cpu.points.len() <= 721);
        let hour = vitals.report(3600, &[], &[]);
        let cpu = hour.of("cpu").unwrap();
        assert!(
            (100..=PLOTTED + 1).contains(&cpu.points.len()),
            "{}",
            cpu.points.len()
        );
        let loads: Vec<f64> = cpu.points.iter().filter_map(|point| point.load).collect();
        assert!(
            loads[5..100].iter().all(|load| (load - 0.5).abs() < 0.2),
            "{loads:?}"
        );
        assert_eq!(cpu.memory_total, Some(2000));
        let minutes = vitals.report(300, &[], &[]);
        let points = &minutes.of("cpu").unwrap().points;
        assert!((59..=61).contains(&points.len()), "{}", points.len());
        assert_eq!(
            points.last().unwrap().load,
            Some(0.0),
            "the newest as it is"
        );
        assert_eq!(vitals.report(0, &[], &[]).span_s, 30);
        assert_eq!(vitals.report(u32::MAX, &[], &[]).span_s, LONGEST_SPAN_S);
    }

    #[test]
    fn gpus_keep_their_history_by_uuid_and_are_called_as_cuda_calls_them() {
        let vitals = vitals();
        let now = now_ms();
        vitals.keep_gpus(
            now - 5000,
            found(vec![gpu(0, "GPU-a", 1), gpu(1, "GPU-b", 2)], true),
        );
        // The order changes, as after a driver's restart; stale numbers are not counted twice.
        vitals.keep_gpus(
            now - 1,
            found(vec![gpu(0, "GPU-b", 3), gpu(1, "GPU-a", 4)], true),
        );
        vitals.keep_gpus(
            now,
            found(vec![gpu(0, "GPU-b", 3), gpu(1, "GPU-a", 4)], false),
        );
        let device = |id: &str, uuid: &str| DeviceReport {
            id: id.into(),
            facts: vec![("UUID".into(), uuid.into())],
            ..DeviceReport::default()
        };
        let time = StepTime {
            at: now,
            seconds: 0.5,
        };
        let report = vitals.report(
            300,
            &[device("cuda:0", "GPU-a"), device("cuda:1", "GPU-b")],
            &[
                ("cuda:0".into(), time),
                ("cpu".into(), time),
                ("cpu".into(), time),
            ],
        );
        let used = |id: &str| -> Vec<f64> {
            let points = &report.of(id).unwrap().points;
            points
                .iter()
                .filter_map(|point| point.memory_used)
                .collect()
        };
        assert_eq!(
            (used("cuda:0"), used("cuda:1")),
            (vec![1.0, 4.0], vec![2.0, 3.0])
        );
        let times = |id: &str| report.of(id).unwrap().step_times.len();
        assert_eq!((times("cpu"), times("cuda:0"), times("cuda:1")), (2, 1, 0));
        // One that nothing is read of has a place for its step times.
        let unread = vitals.report(
            300,
            &[device("cuda:5", "GPU-x")],
            &[("cuda:5".into(), time)],
        );
        let unread = unread.of("cuda:5").unwrap();
        assert_eq!((unread.points.len(), unread.step_times.len()), (0, 1));
        // A GPU that is gone is gone.
        vitals.keep_gpus(now, found(vec![gpu(0, "GPU-b", 3)], true));
        assert_eq!(vitals.report(300, &[], &[]).devices.len(), 2);
    }
}
