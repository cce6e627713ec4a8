//! What a model is computed on: which device, in which number format, and how much of it is there
//! at a time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A device, as people and settings name it: `cpu`, `cuda:0`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub enum DeviceId {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by the driver's number for it in this process.
    Cuda(u32),
}

impl DeviceId {
    /// Whether it is a GPU.
    pub fn is_cuda(self) -> bool {
        matches!(self, Self::Cuda(_))
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(at) => write!(f, "cuda:{at}"),
        }
    }
}

impl FromStr for DeviceId {
    type Err = String;

    /// Reads `cpu`, `cuda:N`, or `cuda` for the first GPU.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "cpu" => return Ok(Self::Cpu),
            None if text == "cuda" => return Ok(Self::Cuda(0)),
            Some(("cuda", number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                if let Ok(number) = number.parse() {
                    return Ok(Self::Cuda(number));
                }
            }
            _ => {}
        }
        Err(format!(
            "`{}` names no device; use cpu, cuda:0, cuda:1 …",
            text.escape_debug()
        ))
    }
}

impl From<DeviceId> for String {
    fn from(device: DeviceId) -> Self {
        device.to_string()
    }
}

impl TryFrom<String> for DeviceId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A number format to compute in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// 32-bit floating point.
    #[default]
    F32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16: the range of f32, eight bits of precision.
    Bf16,
}

impl ComputeDtype {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// Bytes that one number takes.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    pub(crate) fn candle(self) -> candle_core::DType {
        match self {
            Self::F32 => candle_core::DType::F32,
            Self::F16 => candle_core::DType::F16,
            Self::Bf16 => candle_core::DType::BF16,
        }
    }
}

impl fmt::Display for ComputeDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for ComputeDtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|dtype| dtype.to_string() == text)
            .ok_or_else(|| {
                format!(
                    "`{}` is no number format; use f32, f16 or bf16",
                    text.escape_debug()
                )
            })
    }
}

/// How much of a model a device holds at a time. On the CPU both are the same: weights are mapped
/// from their files and paged in and out by the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Residence {
    /// All weights, from loading on.
    #[default]
    Whole,
    /// Text encoders, UNet and VAE each while they work: they are copied from the mapped files to
    /// the device when their turn comes, and dropped after it.
    InTurn,
}

impl fmt::Display for Residence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "whole",
            Self::InTurn => "in turn",
        })
    }
}

/// What CUDA this program was built for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CudaBuild {
    /// Architectures that its kernels carry, such as `compute_80 (PTX)`: the driver compiles PTX
    /// for the GPU at hand if that is at least as new.
    pub architectures: Vec<String>,
    /// Version of the CUDA toolkit that it was built with, such as `13.0`.
    pub runtime: String,
}

/// What CUDA this program was built for; `None` in a build without.
pub fn cuda_build() -> Option<CudaBuild> {
    if !cfg!(feature = "cuda") {
        return None;
    }
    let architectures = option_env!("ATELIER_CUDA_ARCHITECTURES").unwrap_or("unknown");
    Some(CudaBuild {
        architectures: architectures.split(',').map(str::to_owned).collect(),
        runtime: option_env!("ATELIER_CUDA_RUNTIME")
            .unwrap_or("unknown")
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for device in [DeviceId::Cpu, DeviceId::Cuda(0), DeviceId::Cuda(17)] {
            assert_eq!(device.to_string().parse(), Ok(device));
            let json = serde_json::to_string(&device).expect("JSON");
            assert_eq!(json, format!("\"{device}\""));
            assert_eq!(serde_json::from_str::<DeviceId>(&json).ok(), Some(device));
        }
        assert_eq!("cuda".parse(), Ok(DeviceId::Cuda(0)));
        for wrong in [
            "",
            "gpu",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:99999999999",
            "cpu:0",
        ] {
            let error = wrong.parse::<DeviceId>().expect_err(wrong);
            assert!(error.contains("cuda:0"), "{error}");
        }
        for dtype in ComputeDtype::ALL {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
            let json = serde_json::to_string(&dtype).expect("JSON");
            assert_eq!(json, format!("\"{dtype}\""));
        }
        assert!("fp16".parse::<ComputeDtype>().is_err());
    }

    #[test]
    fn a_build_without_cuda_says_so() {
        assert_eq!(cuda_build().is_some(), cfg!(feature = "cuda"));
    }
}
