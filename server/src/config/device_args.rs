//! Options about devices: which are used, how, and how patient the server is with them.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::CpuArgs;
use crate::devices::{Asked, AskedPrecision, CUDA_WORKER, cuda_number};

/// Which devices `atelier serve` uses and how. What is given here cannot be changed by
/// administrators; what is left out they choose on the device page.
#[derive(Args, Clone, Debug)]
pub struct DeviceArgs {
    /// Device to compute on: auto (every GPU that works, else the CPU), cpu, cuda:N, or several: cuda:0,cuda:1 [default: auto].
    #[arg(
        long,
        env = "ATELIER_DEVICE",
        value_name = "DEVICE",
        value_parser = device
    )]
    pub device: Option<String>,
    /// Number format on GPUs: auto, f32, f16 or bf16 [default: auto].
    #[arg(
        long,
        env = "ATELIER_PRECISION",
        value_name = "FORMAT",
        value_parser = precision
    )]
    pub precision: Option<String>,
    /// GPU that refiners run on, where that is another than the base model's, e.g. cuda:1.
    #[arg(
        long,
        env = "ATELIER_REFINER_DEVICE",
        value_name = "cuda:N",
        value_parser = gpu
    )]
    pub refiner_device: Option<String>,
    /// Seconds after which a model that nobody uses is let go; 0 = never [default: 900].
    #[arg(long, env = "ATELIER_IDLE_RELEASE", value_name = "SECONDS")]
    pub idle_release: Option<u32>,
    /// The program that computes on NVIDIA GPUs, made by `make cuda` [default: atelier-cuda beside this program].
    #[arg(long, env = "ATELIER_CUDA_WORKER", value_name = "PATH")]
    pub cuda_worker: Option<PathBuf>,
    /// Seconds that trying one number format on one GPU may take.
    #[arg(
        long,
        env = "ATELIER_PROBE_SECONDS",
        default_value_t = 120,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    pub probe_seconds: u32,
    /// Seconds that a GPU rests after three failures in ten minutes, before it is tried again; each further rest is twice as long.
    #[arg(
        long,
        env = "ATELIER_DEVICE_REST_SECONDS",
        default_value_t = 30,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1800)
    )]
    pub device_rest_seconds: u32,
    /// Seconds between looks at whether GPUs or drivers have come or gone; where nothing changes, up to twenty times as long.
    #[arg(
        long,
        env = "ATELIER_DEVICE_LOOK_SECONDS",
        default_value_t = 30,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    pub device_look_seconds: u32,
    /// Seconds without any progress after which a job on a GPU counts as hanging.
    #[arg(
        long,
        env = "ATELIER_STALL_SECONDS",
        default_value_t = 300,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=86_400)
    )]
    pub stall_seconds: u32,
    /// How the CPU computes.
    #[command(flatten)]
    pub cpu: CpuArgs,
}

impl Default for DeviceArgs {
    /// As with no option given.
    fn default() -> Self {
        Self {
            device: None,
            precision: None,
            refiner_device: None,
            idle_release: None,
            cuda_worker: None,
            probe_seconds: 120,
            device_rest_seconds: 30,
            device_look_seconds: 30,
            stall_seconds: 300,
            cpu: CpuArgs::default(),
        }
    }
}

impl DeviceArgs {
    /// How long trying one number format may take.
    pub fn trial_limit(&self) -> Duration {
        Duration::from_secs(u64::from(self.probe_seconds))
    }
}

/// What finding out takes: options of `atelier probe`.
#[derive(Args, Clone, Debug)]
pub struct ProbeArgs {
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Decide as if this device had been asked for: auto, cpu or cuda:N [default: auto].
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Decide as if this number format had been asked for: auto, f32, f16 or bf16 [default: auto].
    #[arg(long, value_name = "FORMAT", value_parser = precision)]
    pub precision: Option<String>,
    /// The program that computes on NVIDIA GPUs [default: atelier-cuda beside this program].
    #[arg(long, env = "ATELIER_CUDA_WORKER", value_name = "PATH")]
    pub cuda_worker: Option<PathBuf>,
    /// Try only these GPUs of those that the driver lists, e.g. cuda:0,cuda:1; or none.
    #[arg(long, value_name = "GPUS", value_delimiter = ',', value_parser = gpu_or_none)]
    pub only: Option<Vec<String>>,
    /// Try every operation on the device in this process, in one number format; nothing else.
    #[arg(long, requires = "device", requires = "dtype")]
    pub ops: bool,
    /// The number format that --ops tries: f32, f16 or bf16.
    #[arg(long, value_name = "FORMAT", requires = "ops", value_parser = dtype)]
    pub dtype: Option<String>,
    /// Seconds that trying one number format on one GPU may take.
    #[arg(
        long,
        env = "ATELIER_PROBE_SECONDS",
        default_value_t = 120,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    pub probe_seconds: u32,
}

/// Where the CUDA worker is: as given, else beside `program`.
pub fn cuda_worker_beside(given: Option<&PathBuf>, program: &std::path::Path) -> PathBuf {
    given.cloned().unwrap_or_else(|| {
        program
            .parent()
            .map(|folder| folder.join(CUDA_WORKER))
            .unwrap_or_else(|| PathBuf::from(CUDA_WORKER))
    })
}

fn device(text: &str) -> Result<String, String> {
    text.parse::<Asked>().map(|_| text.to_owned())
}

fn precision(text: &str) -> Result<String, String> {
    text.parse::<AskedPrecision>().map(|_| text.to_owned())
}

fn dtype(text: &str) -> Result<String, String> {
    text.parse::<crate::devices::Precision>()
        .map(|_| text.to_owned())
}

/// A GPU's name, or the word for not one of them.
fn gpu_or_none(text: &str) -> Result<String, String> {
    match text {
        "none" => Ok(text.into()),
        text => gpu(text),
    }
}

fn gpu(text: &str) -> Result<String, String> {
    cuda_number(text)
        .map(|_| text.to_owned())
        .ok_or_else(|| format!("is {text:?}; write cuda:N with N = 0, 1, …"))
}
