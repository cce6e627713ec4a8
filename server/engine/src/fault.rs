//! What went wrong on a device, told apart by the driver's own names and numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::nn::OP_NAMES;

/// What kind of failure it was: what can be done about it depends on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The device has too little free memory for the work.
    OutOfMemory,
    /// The program carries no code that this device or driver can run.
    NoKernel,
    /// Results are undefined, infinite or otherwise wrong.
    WrongNumbers,
    /// The device is gone, or this process can no longer use it.
    Lost,
    /// Anything else.
    Other,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfMemory => "out of memory",
            Self::NoKernel => "no usable kernel",
            Self::WrongNumbers => "wrong numbers",
            Self::Lost => "device lost",
            Self::Other => "failed",
        })
    }
}

/// A failure of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFault {
    /// What kind it was.
    pub kind: FaultKind,
    /// What was being done: a phase ("decoding the image", "loading unet"), with the operation
    /// where that is known ("decoding the image, conv2d 3x3"). Empty where neither is.
    pub during: String,
    /// The driver's own words, on one line.
    pub words: String,
}

impl fmt::Display for DeviceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if !self.during.is_empty() {
            write!(f, " while {}", self.during)?;
        }
        write!(f, ": {}", self.words)
    }
}

impl std::error::Error for DeviceFault {}

impl DeviceFault {
    /// A fault by a driver's or library's words.
    pub fn from_words(words: &str) -> Self {
        let line = first_line(words);
        // Operations put their names before what they report.
        let mut words = line.as_str();
        let mut during = Vec::new();
        while let Some((name, rest)) = words.split_once(": ")
            && (OP_NAMES.contains(&name) || name == "upload")
        {
            during.push(name);
            words = rest;
        }
        Self {
            kind: classify(words),
            during: during.join(", "),
            words: words.to_owned(),
        }
    }

    /// Numbers that cannot be right.
    pub(crate) fn wrong_numbers(during: impl fmt::Display, words: &str) -> Self {
        Self {
            kind: FaultKind::WrongNumbers,
            during: during.to_string(),
            words: words.to_owned(),
        }
    }

    /// Says what was being done; what is known already stays behind it.
    pub(crate) fn during(mut self, what: impl fmt::Display) -> Self {
        let what = what.to_string();
        self.during = match self.during.as_str() {
            "" => what,
            known if known.starts_with(&what) => return self,
            known => format!("{what}, {known}"),
        };
        self
    }
}

impl From<candle_core::Error> for DeviceFault {
    fn from(error: candle_core::Error) -> Self {
        Self::from_words(&error.to_string())
    }
}

/// The first line that says something: candle appends a backtrace where one was captured.
fn first_line(words: &str) -> String {
    let line = words.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("no words").to_owned()
}

/// Words by which drivers and libraries are understood, most telling first. Names are cuda.h's,
/// texts those of `cuGetErrorString`.
const SIGNS: &[(FaultKind, &[&str])] = &[
    (
        FaultKind::Lost,
        &[
            "CUDA_ERROR_DEVICE_UNAVAILABLE",
            "CUDA_ERROR_DEINITIALIZED",
            "CUDA_ERROR_ECC_UNCORRECTABLE",
            "CUDA_ERROR_NVLINK_UNCORRECTABLE",
            "CUDA_ERROR_CONTAINED",
            "CUDA_ERROR_CONTEXT_IS_DESTROYED",
            "CUDA_ERROR_CONTEXT_ALREADY_IN_USE",
            "CUDA_ERROR_ILLEGAL_ADDRESS",
            "CUDA_ERROR_ILLEGAL_INSTRUCTION",
            "CUDA_ERROR_MISALIGNED_ADDRESS",
            "CUDA_ERROR_INVALID_ADDRESS_SPACE",
            "CUDA_ERROR_INVALID_PC",
            "CUDA_ERROR_HARDWARE_STACK_ERROR",
            "CUDA_ERROR_LAUNCH_TIMEOUT",
            "CUDA_ERROR_LAUNCH_FAILED",
            "CUDA_ERROR_ASSERT",
            "CUDA_ERROR_TENSOR_MEMORY_LEAK",
            "CUDA_ERROR_EXTERNAL_DEVICE",
            "CUDA_ERROR_NO_DEVICE",
            "CUDA_ERROR_INVALID_DEVICE",
            "CUDA_ERROR_UNKNOWN",
            "unspecified launch failure",
            "device is lost",
            "device lost",
            "fallen off the bus",
            "GPU is lost",
            "uncorrectable ECC error",
            "Xid",
        ],
    ),
    (
        FaultKind::OutOfMemory,
        &[
            "CUDA_ERROR_OUT_OF_MEMORY",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "CUDNN_STATUS_ALLOC_FAILED",
            "CURAND_STATUS_ALLOCATION_FAILED",
            "out of memory",
        ],
    ),
    (
        FaultKind::NoKernel,
        &[
            "CUDA_ERROR_NO_BINARY_FOR_GPU",
            "CUDA_ERROR_INVALID_PTX",
            "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
            "CUDA_ERROR_JIT_COMPILER_NOT_FOUND",
            "CUDA_ERROR_JIT_COMPILATION_DISABLED",
            "CUDA_ERROR_INVALID_IMAGE",
            "CUDA_ERROR_INVALID_SOURCE",
            "CUDA_ERROR_NOT_FOUND",
            "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
            "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
            "CUBLAS_STATUS_ARCH_MISMATCH",
            "CUDNN_STATUS_ARCH_MISMATCH",
            "CURAND_STATUS_ARCH_MISMATCH",
            "no kernel image is available",
            "a PTX JIT compilation failed",
            "the provided PTX was compiled with an unsupported toolchain",
            "named symbol not found",
            "missing kernel",
        ],
    ),
];

/// cuda.h's numbers, where nothing but a number is given.
const NUMBERS: &[(u32, FaultKind)] = &[
    (2, FaultKind::OutOfMemory),
    (46, FaultKind::Lost),
    (100, FaultKind::Lost),
    (101, FaultKind::Lost),
    (200, FaultKind::NoKernel),
    (209, FaultKind::NoKernel),
    (214, FaultKind::Lost),
    (218, FaultKind::NoKernel),
    (220, FaultKind::Lost),
    (221, FaultKind::NoKernel),
    (222, FaultKind::NoKernel),
    (223, FaultKind::NoKernel),
    (500, FaultKind::NoKernel),
    (700, FaultKind::Lost),
    (702, FaultKind::Lost),
    (709, FaultKind::Lost),
    (710, FaultKind::Lost),
    (714, FaultKind::Lost),
    (715, FaultKind::Lost),
    (716, FaultKind::Lost),
    (717, FaultKind::Lost),
    (718, FaultKind::Lost),
    (719, FaultKind::Lost),
    (803, FaultKind::NoKernel),
    (804, FaultKind::NoKernel),
    (999, FaultKind::Lost),
];

fn classify(words: &str) -> FaultKind {
    for (kind, signs) in SIGNS {
        if signs.iter().any(|sign| contains_ignoring_case(words, sign)) {
            return *kind;
        }
    }
    error_number(words)
        .and_then(|number| NUMBERS.iter().find(|(known, _)| *known == number))
        .map_or(FaultKind::Other, |(_, kind)| *kind)
}

fn contains_ignoring_case(words: &str, sign: &str) -> bool {
    words.to_lowercase().contains(&sign.to_lowercase())
}

/// The number behind "CUDA error", "cudaError", "error code" or "CUresult".
fn error_number(words: &str) -> Option<u32> {
    let lower = words.to_lowercase();
    ["cuda error", "cudaerror", "error code", "curesult"]
        .iter()
        .find_map(|before| {
            let rest = &lower[lower.find(before)? + before.len()..];
            let rest = rest.trim_start_matches([' ', ':', '(', '=', '#']);
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            rest[..digits].parse().ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As cudarc 0.19 and candle 0.11 print them, with the driver's texts; then other libraries'.
    #[test]
    fn real_messages_are_understood() {
        use FaultKind::{Lost, NoKernel, Other, OutOfMemory};
        for (words, kind) in [
            (
                r#"DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")"#,
                OutOfMemory,
            ),
            ("CublasError(CUBLAS_STATUS_ALLOC_FAILED)", OutOfMemory),
            ("CudnnError(CUDNN_STATUS_ALLOC_FAILED)", OutOfMemory),
            ("CurandError(CURAND_STATUS_ALLOCATION_FAILED)", OutOfMemory),
            (
                "CUDA out of memory. Tried to allocate 2.50 GiB",
                OutOfMemory,
            ),
            ("CUDA error: 2", OutOfMemory),
            (
                r#"DriverError(CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device") when loading fill"#,
                NoKernel,
            ),
            (
                r#"DriverError(CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed")"#,
                NoKernel,
            ),
            (
                r#"DriverError(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "the provided PTX was compiled with an unsupported toolchain.")"#,
                NoKernel,
            ),
            (
                r#"DriverError(CUDA_ERROR_NOT_FOUND, "named symbol not found")"#,
                NoKernel,
            ),
            (
                r#"DriverError(CUDA_ERROR_JIT_COMPILER_NOT_FOUND, "PTX JIT compiler library not found")"#,
                NoKernel,
            ),
            (
                r#"DriverError(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid")"#,
                NoKernel,
            ),
            (
                r#"DriverError(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "system has unsupported display driver / cuda driver combination")"#,
                NoKernel,
            ),
            ("CublasError(CUBLAS_STATUS_ARCH_MISMATCH)", NoKernel),
            ("missing kernel 'affine_bf16'", NoKernel),
            ("cudaError 209", NoKernel),
            ("error code: 218", NoKernel),
            ("CUresult(222)", NoKernel),
            (
                r#"DriverError(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure")"#,
                Lost,
            ),
            (
                r#"DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")"#,
                Lost,
            ),
            (r#"DriverError(CUDA_ERROR_UNKNOWN, "unknown error")"#, Lost),
            (
                r#"DriverError(CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered")"#,
                Lost,
            ),
            (
                r#"DriverError(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal")"#,
                Lost,
            ),
            (
                r#"DriverError(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected")"#,
                Lost,
            ),
            (
                "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.",
                Lost,
            ),
            ("CUDA error (719)", Lost),
            ("CUDA error: 999", Lost),
            (
                r#"DriverError(CUDA_ERROR_INVALID_VALUE, "invalid argument")"#,
                Other,
            ),
            ("CublasError(CUBLAS_STATUS_EXECUTION_FAILED)", Other),
            ("unsupported dtype BF16 for op conv2d", Other),
            ("CUDA error: 1", Other),
            (
                "shape mismatch in matmul, lhs: [2, 209], rhs: [218, 2]",
                Other,
            ),
        ] {
            let fault = DeviceFault::from_words(words);
            assert_eq!(fault.kind, kind, "{words}");
            assert_eq!(fault.words, words);
            assert_eq!(fault.during, "");
        }
    }

    #[test]
    fn what_was_done_is_told_apart_from_what_was_said() {
        let error = candle_core::Error::msg(
            "conv2d 3x3: upload: DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")\n  0: backtrace",
        );
        let fault = DeviceFault::from(error).during("decoding the image");
        assert_eq!(fault.kind, FaultKind::OutOfMemory);
        assert_eq!(fault.during, "decoding the image, conv2d 3x3, upload");
        let line = fault.to_string();
        assert_eq!(
            line,
            "out of memory while decoding the image, conv2d 3x3, upload: DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")"
        );
        // Saying it again changes nothing; a colon in other words is part of them.
        assert_eq!(fault.clone().during("decoding the image"), fault);
        let fault = DeviceFault::from_words("nvrtc: CUDA error: 2");
        assert_eq!(
            (fault.during.as_str(), fault.kind),
            ("", FaultKind::OutOfMemory)
        );
        let json = serde_json::to_string(&fault).expect("JSON");
        assert!(json.contains(r#""kind":"out_of_memory""#), "{json}");
    }
}
