//! How the engine's kernels on the CPU hold weights and multiply by them. Everything but the default
//! changes pictures a little or takes time, and is never chosen for anybody silently.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The numbers that a UNet's linear layers and convolutions are computed with. Its first and last
/// convolution, the embeddings of time and size, all norms, biases and attention, the text encoders and
/// the VAE stay as they are in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuNumbers {
    /// Weights as they are stored, arithmetic in f32.
    #[default]
    Full,
    /// Weights in int8, a scale for each output; arithmetic in f32.
    Int8Weights,
    /// As that, and what linear layers take in int8 too, a scale for each row: W8A8.
    Int8,
}

impl CpuNumbers {
    /// Whether weights are held in int8.
    pub fn narrows_weights(self) -> bool {
        self != Self::Full
    }
}

/// What an image's record calls it.
impl fmt::Display for CpuNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "f32",
            Self::Int8Weights => "f32, weights in int8",
            Self::Int8 => "int8 (w8a8)",
        })
    }
}

/// How much memory weights may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuMemory {
    /// [`CpuMemory::Low`] where the weights do not fit what is free, which images then say.
    #[default]
    Auto,
    /// A component's pages stay while it works.
    Full,
    /// Each layer's pages are given back when it is done; they are fetched again, from the system's page
    /// cache or the disk, when it is next needed.
    Low,
}

impl fmt::Display for CpuMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Full => "full",
            Self::Low => "low",
        })
    }
}

impl FromStr for CpuMemory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Auto, Self::Full, Self::Low]
            .into_iter()
            .find(|memory| memory.to_string() == text)
            .ok_or_else(|| "use auto, full or low".to_string())
    }
}

/// Both choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CpuMode {
    /// What is computed with.
    pub numbers: CpuNumbers,
    /// How much memory weights may take.
    pub memory: CpuMemory,
}
