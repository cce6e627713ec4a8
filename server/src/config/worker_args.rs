//! Settings of `atelier worker`, which `atelier serve` starts.

use clap::Args;

use super::{CpuArgs, DataDir, Lease, LoraDirs, ModelFolders};
use crate::devices::{Precision, Way};

/// Settings of `atelier worker`.
#[derive(Args, Clone, Debug)]
pub struct WorkerArgs {
    /// Where everything is kept.
    #[command(flatten)]
    pub data_dir: DataDir,
    /// Extra model folders.
    #[command(flatten)]
    pub models: ModelFolders,
    /// Folders of LoRAs.
    #[command(flatten)]
    pub lora_dirs: LoraDirs,
    /// Device to compute on: cpu or cuda:N.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub device: String,
    /// Number format to compute in.
    #[arg(long, default_value = "f32", value_name = "FORMAT", value_parser = format)]
    pub dtype: Precision,
    /// Number format of the weights on the device [default: as --dtype].
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub storage: Option<Precision>,
    /// Keep only the part of a model that works in the device's memory.
    #[arg(long)]
    pub in_turn: bool,
    /// Decode every image in tiles.
    #[arg(long)]
    pub tiled_vae: bool,
    /// Number formats that passed the probe there, which a job may be moved to [default: --dtype alone].
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', value_parser = format)]
    pub formats: Vec<Precision>,
    /// Device of the refiner, where that is another.
    #[arg(long, value_name = "DEVICE")]
    pub refiner_device: Option<String>,
    /// Take only jobs that have left every one of these devices.
    #[arg(long, value_name = "DEVICES", value_delimiter = ',')]
    pub after: Vec<String>,
    /// Seconds after which a model that nobody uses is let go; 0 = never.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub idle_release: u32,
    /// Seconds without progress after which a job on a GPU counts as hanging.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub stall_seconds: u32,
    /// Name under which jobs are claimed; made up when absent.
    #[arg(long, value_name = "NAME")]
    pub owner: Option<String>,
    /// How the CPU computes.
    #[command(flatten)]
    pub cpu: CpuArgs,
    /// How long it may be silent.
    #[command(flatten)]
    pub lease: Lease,
    /// What is logged to standard error.
    #[arg(
        long,
        env = "ATELIER_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,
}

impl WorkerArgs {
    /// How it computes.
    ///
    /// # Errors
    /// One line, if two options contradict each other.
    pub fn way(&self) -> Result<Way, String> {
        Ok(Way {
            dtype: self.dtype,
            storage: self.storage.unwrap_or(self.dtype),
            in_turn: self.in_turn,
            tiled_vae: self.tiled_vae,
            cpu: self.cpu.on_cpu()?,
        })
    }
}

fn format(text: &str) -> Result<Precision, String> {
    text.parse()
}
