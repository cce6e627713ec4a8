//! How the machine feels: memory, load, temperature, power and step times over the last hour.

use serde::{Deserialize, Serialize};

/// The longest time that is remembered and can be asked for, in seconds.
pub const LONGEST_SPAN_S: u32 = 3600;

/// The time that is plotted unless another is asked for, in seconds.
pub const USUAL_SPAN_S: u32 = 300;

/// One moment of one device; what the machine does not tell is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VitalPoint {
    /// Unix milliseconds.
    pub at: i64,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used: Option<f64>,
    /// From 0 to 1, over the cores that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// Degrees Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<f64>,
    /// Watts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_w: Option<f64>,
}

/// How long one denoising step of an image took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepTime {
    /// When the image was done, Unix milliseconds.
    pub at: i64,
    /// Seconds, the median of its steps.
    pub seconds: f64,
}

/// One device over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceVitals {
    /// As in the device's report, e.g. "cpu" or "cuda:0".
    pub id: String,
    /// What the measuring library calls it.
    pub name: String,
    /// Bytes; for the CPU the container's limit where there is one.
    pub memory_total: Option<u64>,
    /// Why nothing is measured, where the device itself refuses, e.g. "GPU is lost".
    pub problem: Option<String>,
    /// Oldest first, the last one a few seconds old.
    pub points: Vec<VitalPoint>,
    /// Of the latest images made on it, oldest first.
    pub step_times: Vec<StepTime>,
}

/// The memory of one worker process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerMemory {
    /// Its process id.
    pub pid: u32,
    /// The device it was started for.
    pub device: String,
    /// Resident bytes, mapped weights included.
    pub resident: u64,
    /// Resident bytes of its own, which the system cannot drop at will.
    pub anonymous: Option<u64>,
}

/// How much of the last ten seconds somebody waited for something (Linux's pressure stall
/// information), in per cent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// For a core.
    pub cpu: Option<f64>,
    /// For memory.
    pub memory: Option<f64>,
    /// For a disk.
    pub io: Option<f64>,
}

/// What the plots of the admin page show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VitalsReport {
    /// When this was put together, Unix milliseconds.
    pub at: i64,
    /// The time that was asked for, in seconds.
    pub span_s: u32,
    /// Seconds between two measurements.
    pub every_s: f64,
    /// The CPU first.
    pub devices: Vec<DeviceVitals>,
    /// The worker processes that run.
    pub workers: Vec<WorkerMemory>,
    /// Absent where the kernel does not tell.
    pub pressure: Option<Pressure>,
    /// Where the GPUs' numbers come from, or why there are none.
    pub gpu_source: String,
}

impl VitalsReport {
    /// One device over time.
    pub fn of(&self, id: &str) -> Option<&DeviceVitals> {
        self.devices.iter().find(|device| device.id == id)
    }
}
