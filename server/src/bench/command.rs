//! The flags of `atelier bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::{CpuArgs, IsaArg};

/// Settings of `atelier bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub what: What,
}

/// What can be measured.
#[derive(Clone, Debug, Subcommand)]
pub enum What {
    /// One forward pass of the UNet.
    Unet(MeasureArgs),
    /// Decoding latents to an image.
    Vae(MeasureArgs),
    /// The text encoders on one prompt.
    Text(MeasureArgs),
    /// A whole image.
    Image(MeasureArgs),
    /// The most that this machine's multiply-add units give.
    Peak {
        /// The most that is used of the CPU's instructions [default: all there are].
        #[arg(long, env = "ATELIER_ISA", value_enum, value_name = "ISA")]
        isa: Option<IsaArg>,
        /// Threads to compute with [default: what the machine or its container offers].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
        threads: Option<u16>,
    },
    /// Write a full-size model with random weights to measure with.
    Model(ModelArgs),
}

/// Settings of a measurement.
#[derive(Args, Clone, Debug)]
pub struct MeasureArgs {
    /// Folder of an SDXL model.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Width and height of the image, in pixels.
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub size: u32,
    /// 1, or 2 for what guidance computes.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = batch)]
    pub batch: usize,
    /// Denoising steps of a whole image.
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub steps: u32,
    /// Runs that count; one more goes before them to warm up.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    /// Threads to compute with [default: what the machine or its container offers].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// How the CPU computes.
    #[command(flatten)]
    pub cpu: CpuArgs,
    /// Say where the time goes, and draw it into this file.
    #[arg(long, value_name = "FILE.svg")]
    pub profile: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Settings of `atelier bench model`.
#[derive(Args, Clone, Debug)]
pub struct ModelArgs {
    /// Folder to write; about 7 GB for the base model, 6 GB for the refiner.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The refiner in place of the base model.
    #[arg(long)]
    pub refiner: bool,
    /// Seed of the weights.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub seed: u64,
}

fn batch(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "2" => Ok(2),
        _ => Err("give 1 or 2".into()),
    }
}
