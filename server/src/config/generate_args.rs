//! The options of `atelier generate`.

use crate::devices::Precision;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use super::{CpuArgs, Syntax, finite, whole};

/// Settings of `atelier generate`.
#[derive(Args, Clone, Debug)]
pub struct GenerateArgs {
    /// Folder of an SDXL model in diffusers layout [default: the demo model in this program].
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// An SDXL refiner that takes over from the model: its folder or file.
    #[arg(long, value_name = "DIR")]
    pub refiner: Option<PathBuf>,
    /// Share of the steps that is the model's, the rest being the refiner's [default with --refiner: 0.8].
    #[arg(long, value_name = "SHARE", value_parser = finite, allow_hyphen_values = true, requires = "refiner", conflicts_with = "refiner_strength")]
    pub denoising_split: Option<f64>,
    /// Let the refiner work on the finished image instead, as strongly as this (0.3 is usual).
    #[arg(long, value_name = "S", value_parser = finite, allow_hyphen_values = true, requires = "refiner")]
    pub refiner_strength: Option<f64>,
    /// Aesthetic score that a refiner is told to reach [default: 6].
    #[arg(long, value_name = "SCORE", value_parser = finite, allow_hyphen_values = true)]
    pub aesthetic_score: Option<f64>,
    /// Aesthetic score that a refiner is guided away from [default: 2.5].
    #[arg(long, value_name = "SCORE", value_parser = finite, allow_hyphen_values = true)]
    pub negative_aesthetic_score: Option<f64>,
    /// What the image should show.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: String,
    /// What the image should not show.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub negative_prompt: Option<String>,
    /// Denoising steps [default: the model's].
    #[arg(
        long,
        alias = "num-inference-steps",
        value_name = "N",
        value_parser = whole::<u32>,
        allow_hyphen_values = true
    )]
    pub steps: Option<u32>,
    /// How closely to follow the prompt; 1 switches guidance off [default: the model's].
    #[arg(long, value_name = "G", value_parser = finite, allow_hyphen_values = true)]
    pub guidance_scale: Option<f64>,
    /// How far guidance is kept from oversaturating, 0 to 1 [default: 0].
    #[arg(long, value_name = "SHARE", value_parser = finite, allow_hyphen_values = true)]
    pub guidance_rescale: Option<f64>,
    /// A PNG, JPEG or WebP image to start from.
    #[arg(long, value_name = "FILE")]
    pub init_image: Option<PathBuf>,
    /// How much of the input image is made anew, above 0 and up to 1 [default: 0.3; with --mask 0.9999].
    #[arg(long, value_name = "S", value_parser = finite, allow_hyphen_values = true, requires = "init_image")]
    pub strength: Option<f64>,
    /// A mask of the input image: only where it is white, something new is painted.
    #[arg(long, value_name = "FILE", requires = "init_image")]
    pub mask: Option<PathBuf>,
    /// Radius by which the mask's edge is blurred, in pixels of the mask [default: 0].
    #[arg(long, value_name = "PIXELS", value_parser = finite, allow_hyphen_values = true, requires = "mask")]
    pub mask_blur: Option<f64>,
    /// Work on the masked region alone, enlarged, with this many pixels of the image around it.
    #[arg(long, value_name = "PIXELS", value_parser = whole::<u32>, allow_hyphen_values = true, requires = "mask")]
    pub only_masked_padding: Option<u32>,
    /// A VAE in place of the model's own: its folder or file.
    #[arg(long, value_name = "PATH")]
    pub vae: Option<PathBuf>,
    /// A UNet in place of the model's own: its folder or file.
    #[arg(long, value_name = "PATH")]
    pub unet: Option<PathBuf>,
    /// A LoRA file and how much of it is applied (1 if left out); repeatable.
    #[arg(long = "lora", value_name = "FILE[:WEIGHT]")]
    pub loras: Vec<LoraArg>,
    /// How the prompts are read.
    #[arg(long, value_enum, default_value_t, value_name = "SYNTAX")]
    pub prompt_syntax: Syntax,
    /// Last layers of the text encoders to leave out, besides the one that SDXL leaves out.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole::<u32>, allow_hyphen_values = true)]
    pub clip_skip: u32,
    /// Whether the VAE works in tiles: where memory is short (auto), always, or never.
    #[arg(long, value_enum, default_value_t)]
    pub vae_tiling: VaeTilingArg,
    /// Images to make, with the seeds S, S+1, …; each is what its seed makes alone.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub batch: u32,
    /// Width in pixels, a multiple of 8 [default: the input image's, else the model's].
    #[arg(long, value_name = "W", value_parser = whole::<u32>, allow_hyphen_values = true)]
    pub width: Option<u32>,
    /// Height in pixels, a multiple of 8 [default: the input image's, else the model's].
    #[arg(long, value_name = "H", value_parser = whole::<u32>, allow_hyphen_values = true)]
    pub height: Option<u32>,
    /// Seed of the noise; the same seed gives the same image [default: random].
    #[arg(long, value_name = "S", value_parser = whole::<u64>, allow_hyphen_values = true)]
    pub seed: Option<u64>,
    /// Scheduler to use in place of the model's own.
    #[arg(long, value_name = "NAME")]
    pub scheduler: Option<String>,
    /// The PNG file to write; {seed} in its name becomes the seed.
    #[arg(long, value_name = "FILE.png")]
    pub out: PathBuf,
    /// Threads to compute with [default: what the machine or its container offers].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Print what was done as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
    /// Device to compute on: auto, cpu or cuda:N; auto is the CPU, since nothing is probed here.
    #[arg(
        long,
        env = "ATELIER_DEVICE",
        default_value = "auto",
        value_name = "DEVICE"
    )]
    pub device: String,
    /// Number format to compute in: f32, f16 or bf16 [default: f32 on the CPU, bf16 on a GPU].
    #[arg(long, value_name = "FORMAT", value_parser = |text: &str| text.parse::<Precision>())]
    pub precision: Option<Precision>,
    /// How the CPU computes.
    #[command(flatten)]
    pub cpu: CpuArgs,
}

/// `--vae-tiling`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum VaeTilingArg {
    /// Where memory is short.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl VaeTilingArg {
    /// As settings have it: `on`, `off`, or nothing.
    pub fn setting(self) -> Option<String> {
        match self {
            Self::Auto => None,
            Self::On => Some("on".into()),
            Self::Off => Some("off".into()),
        }
    }
}

/// One `--lora FILE[:WEIGHT]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraArg {
    /// The file.
    pub path: PathBuf,
    /// 1 is as trained.
    pub weight: f64,
}

impl FromStr for LoraArg {
    type Err = String;

    /// What follows the last colon is the weight if it is a number, and else part of the file's name.
    fn from_str(text: &str) -> Result<Self, String> {
        let (path, weight) = match text.rsplit_once(':') {
            Some((path, number)) => match number.parse::<f64>() {
                Ok(weight) if weight.is_finite() => (path, weight),
                Ok(_) => return Err("the weight must be a finite number".into()),
                Err(_) => (text, 1.0),
            },
            None => (text, 1.0),
        };
        if path.is_empty() {
            return Err("the file is missing; write FILE or FILE:WEIGHT".into());
        }
        Ok(Self {
            path: PathBuf::from(path),
            weight,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lora_is_a_file_with_or_without_a_weight() {
        for (text, path, weight) in [
            ("a.safetensors", "a.safetensors", 1.0),
            ("dir/a.safetensors:0.75", "dir/a.safetensors", 0.75),
            ("a:b.safetensors", "a:b.safetensors", 1.0),
            ("a:b.safetensors:-1", "a:b.safetensors", -1.0),
        ] {
            let lora: LoraArg = text.parse().expect(text);
            assert_eq!((lora.path, lora.weight), (PathBuf::from(path), weight));
        }
        assert!("a:inf".parse::<LoraArg>().is_err());
        assert!(":0.5".parse::<LoraArg>().is_err());
    }
}
