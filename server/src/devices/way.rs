//! How a device computes: number format, what stays in its memory, how the VAE works; and what an
//! operator may ask for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::on_cpu::OnCpu;

/// A number format to compute in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point with a large range and few digits.
    Bf16,
    /// 16-bit floating point with a small range and more digits.
    F16,
}

impl Precision {
    /// All of them, in the order in which the probe tries them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// `f32`, `bf16`, `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Bytes of one number.
    pub fn bytes(self) -> u32 {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|precision| precision.name() == text)
            .ok_or_else(|| format!("is {text:?}; choose f32, f16 or bf16"))
    }
}

/// The number format that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AskedPrecision {
    /// Whatever is best.
    #[default]
    Auto,
    /// This one.
    Only(Precision),
}

impl fmt::Display for AskedPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(precision) => precision.fmt(f),
        }
    }
}

impl FromStr for AskedPrecision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            other => other
                .parse()
                .map(Self::Only)
                .map_err(|_| format!("is {other:?}; choose auto, f32, f16 or bf16")),
        }
    }
}

/// The devices that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Every GPU that can be used, else the CPU.
    #[default]
    Auto,
    /// The CPU, also where a GPU is there.
    Cpu,
    /// These GPUs, by the driver's numbers; never empty.
    Cuda(Vec<u32>),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(numbers) => f.write_str(&in_list(numbers)),
        }
    }
}

/// `cuda:0,cuda:1`.
fn in_list(numbers: &[u32]) -> String {
    let names: Vec<String> = numbers
        .iter()
        .map(|number| format!("cuda:{number}"))
        .collect();
    names.join(",")
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |name: &str| match name.trim() {
            "cuda" | "gpu" => Some(0),
            other => cuda_number(other),
        };
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            list => {
                let numbers: Option<Vec<u32>> = list.split(',').map(number).collect();
                let mut numbers = numbers.ok_or_else(|| {
                    format!(
                        "is {text:?}; choose auto, cpu or cuda:N with N = 0, 1, … (several: cuda:0,cuda:1)"
                    )
                })?;
                numbers.sort_unstable();
                numbers.dedup();
                Ok(Self::Cuda(numbers))
            }
        }
    }
}

/// The number in `cuda:N`.
pub fn cuda_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("cuda:")?;
    // `parse` would take a sign.
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())?;
    digits.parse().ok()
}

/// How one device computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The number format that is computed in.
    pub dtype: Precision,
    /// The number format that weights are kept in.
    pub storage: Precision,
    /// Whether text encoders, UNet and VAE take turns in the device's memory.
    pub in_turn: bool,
    /// Whether the VAE always works in tiles.
    pub tiled_vae: bool,
    /// How the CPU holds weights and multiplies by them; GPUs do not heed it.
    #[serde(default)]
    pub cpu: OnCpu,
}

impl Way {
    /// "bf16, whole models in its memory, VAE in tiles".
    pub fn words(self) -> String {
        if self.cpu != OnCpu::USUAL {
            return self.cpu.words();
        }
        let residence = if self.in_turn {
            "models in its memory by turns"
        } else {
            "whole models in its memory"
        };
        let vae = if self.tiled_vae { ", VAE in tiles" } else { "" };
        let storage = if self.storage == self.dtype {
            String::new()
        } else {
            format!(" from weights in {}", self.storage)
        };
        format!("{}{storage}, {residence}{vae}", self.dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_that_name_a_device_are_taken() {
        assert_eq!("auto".parse(), Ok(Asked::Auto));
        assert_eq!("cpu".parse(), Ok(Asked::Cpu));
        assert_eq!("cuda".parse(), Ok(Asked::Cuda(vec![0])));
        assert_eq!("cuda:12".parse(), Ok(Asked::Cuda(vec![12])));
        assert_eq!("cuda:1, cuda:0,cuda:1".parse(), Ok(Asked::Cuda(vec![0, 1])));
        for text in ["auto", "cpu", "cuda:0,cuda:3"] {
            assert_eq!(
                text.parse::<Asked>().map(|asked| asked.to_string()),
                Ok(text.into())
            );
        }
        for wrong in [
            "",
            "GPU 0",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:x",
            "rocm",
            "cuda:0,cpu",
        ] {
            let message = wrong.parse::<Asked>().expect_err(wrong);
            assert!(message.contains("auto, cpu or cuda:N"), "{message}");
        }
    }

    #[test]
    fn only_known_number_formats_are_taken() {
        assert_eq!("auto".parse(), Ok(AskedPrecision::Auto));
        for precision in Precision::ALL {
            assert_eq!(precision.name().parse(), Ok(precision));
            assert_eq!(
                precision.name().parse(),
                Ok(AskedPrecision::Only(precision))
            );
        }
        for wrong in ["", "fp16", "F32", "int8"] {
            assert!(
                wrong
                    .parse::<AskedPrecision>()
                    .expect_err(wrong)
                    .contains("bf16")
            );
        }
    }
}
