//! Devices on the wire: what was found, what was tried, what is used, why, and what befell it.

use crate::studio::JobId;
use serde::{Deserialize, Serialize};

/// One capability check of the device probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// E.g. "conv2d 3×3".
    pub name: String,
    /// The data type it ran in.
    pub dtype: String,
    /// Whether the numbers were right.
    pub ok: bool,
    /// The largest error against the reference, where it ran.
    pub max_error: Option<f64>,
    /// The error allowed.
    pub tolerance: f64,
    /// Seconds it took.
    pub seconds: f64,
    /// The driver's or library's own words, where it failed.
    pub error: Option<String>,
}

/// How fast a device computes in one number format, measured by the probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasurementReport {
    /// The number format.
    pub dtype: String,
    /// What was measured, in order: name, value, unit, e.g. ("matrix products", 31.2, "TFLOP/s").
    pub numbers: Vec<(String, f64, String)>,
}

/// Where a device stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Images are made on it.
    InUse,
    /// It could be used, and is not: another is preferred, or it waits for what others leave.
    Usable,
    /// It failed too often and is left alone until [`DeviceReport::resting_until`].
    Resting,
    /// It cannot be used.
    #[default]
    NotUsable,
}

impl DeviceState {
    /// "In use", "Usable", "Resting", "Not usable".
    pub fn words(self) -> &'static str {
        match self {
            Self::InUse => "In use",
            Self::Usable => "Usable",
            Self::Resting => "Resting",
            Self::NotUsable => "Not usable",
        }
    }
}

/// The error that keeps a device from being used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceError {
    /// The driver's name for it where it has one, e.g. "CUDA_ERROR_NO_BINARY_FOR_GPU", else what
    /// happened: "hang", "crash", "wrong numbers".
    pub name: String,
    /// The driver's number, where it has one.
    pub code: Option<i32>,
    /// What was done when it came, e.g. "conv2d 3x3 in bf16".
    pub during: String,
    /// The driver's or library's own words.
    pub words: String,
}

/// One device that was found, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// "cpu" or "cuda:0".
    pub id: String,
    /// E.g. "AMD EPYC 7B13" or "NVIDIA GeForce RTX 5090".
    pub name: String,
    /// Facts in order, e.g. ("cores", "2"), ("memory", "24 GiB"), ("compute capability", "12.0").
    pub facts: Vec<(String, String)>,
    /// Where it stands.
    #[serde(default)]
    pub state: DeviceState,
    /// Since when it stands there, Unix milliseconds; 0 where that is not known.
    #[serde(default)]
    pub since: i64,
    /// Until when it rests, Unix milliseconds, where it does.
    #[serde(default)]
    pub resting_until: Option<i64>,
    /// Whether images can be made on it.
    pub usable: bool,
    /// Whether images are made on it now.
    pub in_use: bool,
    /// How it computes or would: "bf16, whole models in its memory"; `None` where it cannot.
    #[serde(default)]
    pub way: Option<String>,
    /// Why it is or isn't used, in a plain sentence.
    pub reason: String,
    /// What to do about it, where something can be done.
    pub remedy: Option<String>,
    /// What keeps it from being used, where something does.
    #[serde(default)]
    pub error: Option<DeviceError>,
    /// The compute capability that was found, e.g. "12.0".
    #[serde(default)]
    pub architecture: Option<String>,
    /// The compute capabilities that the CUDA worker was built for, e.g. ["8.0 and newer (PTX)"].
    #[serde(default)]
    pub built_for: Vec<String>,
    /// Every check that was run on it.
    pub checks: Vec<CheckReport>,
    /// How fast it was, for each number format that passed its checks.
    #[serde(default)]
    pub measurements: Vec<MeasurementReport>,
}

/// Something that befell a device or its worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceEvent {
    /// Unix milliseconds.
    pub at: i64,
    /// "decision", "probe", "rung", "failure", "resting", "recovered", "worker_died", "choice" …
    pub kind: String,
    /// "cpu", "cuda:0", or "nvidia" for the driver.
    pub device: String,
    /// In a plain sentence.
    pub message: String,
}

/// A worker process: one for each device in use, and one on the CPU for what a GPU cannot do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// The device it computes on.
    pub device: String,
    /// "starting", "idle", "working", "restarting (crashed: …)", "stopped".
    pub words: String,
    /// The job it has.
    pub job: Option<JobId>,
    /// Whether it takes only what the GPUs' workers have given up.
    pub standby: bool,
    /// Since when it is what its words say, Unix milliseconds.
    pub since: i64,
}

/// The program that computes on NVIDIA GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CudaWorkerReport {
    /// Where it is, or where it was looked for.
    pub path: String,
    /// Whether it was found and answers.
    pub found: bool,
    /// In a plain sentence: which architectures it carries and for which CUDA, or why there is none.
    pub words: String,
}

/// What administrators choose about devices; kept over restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceChoice {
    /// "auto" (every usable GPU, else the CPU), "cpu", or GPUs by number: "cuda:0", "cuda:0,cuda:1".
    pub device: String,
    /// "auto", "f32", "f16" or "bf16".
    pub precision: String,
    /// The GPU that refiners run on, e.g. "cuda:1"; `None`: where the base model runs.
    #[serde(default)]
    pub refiner_device: Option<String>,
    /// Seconds after which a model that nobody uses is let go; 0 = never.
    pub idle_release_s: u32,
}

impl Default for DeviceChoice {
    fn default() -> Self {
        Self {
            device: "auto".into(),
            precision: "auto".into(),
            refiner_device: None,
            idle_release_s: 900,
        }
    }
}

/// What the device page shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DevicesReport {
    /// The decision in one plain sentence, e.g. "Running on the CPU, because no NVIDIA driver was found."
    pub decision: String,
    /// Whether this is a fallback.
    pub degraded: bool,
    /// Since when the decision stands, Unix milliseconds.
    pub since: i64,
    /// When the probe last ran, Unix milliseconds; 0 before the first has ended.
    pub probed_at: i64,
    /// Whether a probe is under way.
    #[serde(default)]
    pub checking: bool,
    /// The devices, those in use first.
    pub devices: Vec<DeviceReport>,
    /// All worker processes in words: "starting", "idle", "working", "restarting (crashed: …)".
    pub worker: String,
    /// The worker processes.
    #[serde(default)]
    pub workers: Vec<WorkerReport>,
    /// The program that computes on GPUs.
    #[serde(default)]
    pub cuda_worker: CudaWorkerReport,
    /// What stands of the administrator's choice and the command line together.
    #[serde(default)]
    pub choice: DeviceChoice,
    /// The parts of [`DevicesReport::choice`] that the command line fixes, by field name.
    #[serde(default)]
    pub fixed: Vec<String>,
    /// The latest events, newest first.
    #[serde(default)]
    pub events: Vec<DeviceEvent>,
    /// Measured seconds per denoising step of the latest images, oldest first, for the plot.
    pub step_times: Vec<f64>,
}
