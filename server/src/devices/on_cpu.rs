//! How the CPU holds weights and multiplies by them, where that was asked for otherwise than usual.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What a UNet's layers are computed with on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuNumbers {
    /// Weights as they are stored, arithmetic in f32.
    #[default]
    Full,
    /// Weights in int8, arithmetic in f32.
    Int8Weights,
    /// Weights in int8, and what linear layers take too.
    W8a8,
}

/// How much memory weights may take on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum CpuMemory {
    /// Low where they do not fit what is free.
    #[default]
    Auto,
    /// Whole components at a time.
    Full,
    /// Layer by layer from the page cache, in less than 2 GiB of the process' own.
    Low,
}

/// Both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OnCpu {
    /// What is computed with.
    pub numbers: CpuNumbers,
    /// How much memory weights may take.
    pub memory: CpuMemory,
}

impl OnCpu {
    /// As nobody asked for anything.
    pub const USUAL: Self = Self {
        numbers: CpuNumbers::Full,
        memory: CpuMemory::Auto,
    };

    /// "f32", "f32 from weights in int8", "int8 (w8a8)".
    pub fn format(self) -> &'static str {
        match self.numbers {
            CpuNumbers::Full => "f32",
            CpuNumbers::Int8Weights => "f32 from weights in int8",
            CpuNumbers::W8a8 => "int8 (w8a8)",
        }
    }

    /// As [`OnCpu::format`], with the memory where that is little.
    pub fn words(self) -> String {
        let memory = match self.memory {
            CpuMemory::Low => ", low memory",
            CpuMemory::Auto | CpuMemory::Full => "",
        };
        format!("{}{memory}", self.format())
    }
}
