//! Why a GPU is not used, in words: what failed, the error by its name, and what to do about it.

use atelier_app::admin::{CheckReport, DeviceError};

use super::driver::{Driver, Gpu};
use super::nvidia::Nvidia;
use super::trial::{CudaWorker, Fault, Kind, Trial, TrialEnd};

/// What a device is worth: why it isn't used, and what to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Goes on from "not used: ".
    pub reason: String,
    /// What to do.
    pub remedy: Option<String>,
    /// The error that says so, where there is one.
    pub error: Option<DeviceError>,
}

impl Verdict {
    fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            remedy: Some(remedy.into()),
            error: None,
        }
    }

    fn with(self, error: DeviceError) -> Self {
        Self {
            error: Some(error),
            ..self
        }
    }
}

/// What keeps every GPU from being used, if it is the driver.
pub fn of_driver(nvidia: &Nvidia) -> Option<Verdict> {
    let inside = nvidia.container && !nvidia.device_nodes;
    let container = "Give the container access to the GPU: with Docker, install the NVIDIA Container Toolkit on the \
                     host and start the container with --gpus all.";
    let mut error = DeviceError::default();
    let (reason, remedy) = match &nvidia.driver {
        Driver::Works { .. } => return None,
        Driver::Absent => (
            "NVIDIA's driver is not installed".to_owned(),
            "Install NVIDIA's driver.",
        ),
        Driver::Unloadable { words } => {
            error.name = "no driver library".into();
            error.during = "loading libcuda.so.1".into();
            error.words.clone_from(words);
            unloadable(nvidia, words)
        }
        Driver::Refused {
            call,
            code,
            name,
            words,
        } => {
            error = DeviceError {
                name: name.clone(),
                code: Some(*code),
                during: call.clone(),
                words: words.clone(),
            };
            let words = if words.is_empty() {
                String::new()
            } else {
                format!(", “{words}”")
            };
            (
                format!("NVIDIA's driver refuses: {call} answers {name} ({code}{words})"),
                refusal_remedy(*code),
            )
        }
        Driver::Crashed { how } => {
            error.name = "crash".into();
            error.during = "asking the driver".into();
            error.words.clone_from(how);
            (
                format!("the process that asked NVIDIA's driver {how}"),
                "Run nvidia-smi on the server; if it fails too, reinstall the driver and restart the machine.",
            )
        }
        Driver::Hung { seconds } => {
            error.name = "hang".into();
            error.during = "asking the driver".into();
            (
                format!("NVIDIA's driver did not answer within {seconds} seconds"),
                "Look for lines with NVRM or Xid in the kernel's log (dmesg); restarting the machine usually helps.",
            )
        }
    };
    // A library that loads and refuses for another reason than finding no device was let in.
    let kept_out = match &nvidia.driver {
        Driver::Refused { code, .. } => *code == 100,
        Driver::Crashed { .. } | Driver::Hung { .. } => false,
        _ => true,
    };
    let remedy = if inside && kept_out {
        container
    } else {
        remedy
    };
    let verdict = Verdict::new(reason, remedy);
    Some(if error.name.is_empty() {
        verdict
    } else {
        verdict.with(error)
    })
}

fn unloadable(nvidia: &Nvidia, words: &str) -> (String, &'static str) {
    if nvidia.kernel_module.is_some() {
        return (
            format!("the driver's kernel module is loaded but its library cannot be ({words})"),
            "Install the package that brings libcuda.so.1 (on Debian: libcuda1), in the kernel module's version.",
        );
    }
    match &nvidia.other_module {
        Some(module) if module == "vfio-pci" => (
            "the GPU is set aside for a virtual machine (the kernel drives it with vfio-pci)"
                .into(),
            "Bind the GPU to NVIDIA's driver to use it here.",
        ),
        Some(module) => (
            format!(
                "the kernel drives the GPU with {module}, and NVIDIA's driver is not installed ({words})"
            ),
            "Install NVIDIA's driver, and restart the machine.",
        ),
        None => (
            format!("NVIDIA's driver is not installed ({words})"),
            "Install NVIDIA's driver, and restart the machine.",
        ),
    }
}

/// What helps against an error of `cuInit` and its kin, by the numbers of `cuda.h`.
fn refusal_remedy(code: i32) -> &'static str {
    match code {
        34 => {
            "The library found is the toolkit's stub; put the driver's own libcuda.so.1 first in the library path."
        }
        35 => "The driver is too old; install a newer one and restart the machine.",
        100 => {
            "Run nvidia-smi: if it lists the GPU, look at CUDA_VISIBLE_DEVICES; if not, reinstall the driver."
        }
        101 => "CUDA_VISIBLE_DEVICES names a GPU that is not there; correct it.",
        802 => "Start nvidia-fabricmanager, which GPUs joined by NVSwitch need.",
        803 => {
            "The driver was updated while running: restart the machine, so that library and kernel module match."
        }
        804 => {
            "Remove the CUDA compatibility package, which this GPU does not support, or update the driver."
        }
        _ => {
            "Run nvidia-smi, look for lines with NVRM or Xid in the kernel's log (dmesg), and restart the machine."
        }
    }
}

/// Why the program that computes on GPUs cannot be used, if it cannot.
pub fn of_worker(worker: &CudaWorker) -> Option<Verdict> {
    const CPU_WORKS: &str = "Until then every function works on the CPU.";
    match worker {
        CudaWorker::Ready { .. } => None,
        CudaWorker::NotAsked { .. } => Some(Verdict {
            reason: "it was not tried".into(),
            ..Verdict::default()
        }),
        CudaWorker::Absent { path } => Some(Verdict::new(
            format!(
                "there is no CUDA worker ({} does not exist)",
                path.display()
            ),
            format!(
                "Build it with “make cuda” and put it beside the server, or name it with --cuda-worker. {CPU_WORKS}"
            ),
        )),
        CudaWorker::Failed { path, how } => {
            let missing = how.contains("error while loading shared libraries");
            let remedy = if missing {
                "Install the CUDA libraries that it names, in the version it was built with (docs/devices.md), or put \
                 their folder into LD_LIBRARY_PATH."
            } else {
                "Run the CUDA worker by hand with “probe --device build” and look at what it prints."
            };
            Some(
                Verdict::new(
                    format!("the CUDA worker {} {how}", path.display()),
                    format!("{remedy} {CPU_WORKS}"),
                )
                .with(DeviceError {
                    name: if missing {
                        "missing library"
                    } else {
                        "CUDA worker failed"
                    }
                    .into(),
                    code: None,
                    during: "starting the CUDA worker".into(),
                    words: how.clone(),
                }),
            )
        }
        CudaWorker::Unsuitable { path, why } => Some(Verdict::new(
            format!("the CUDA worker {} cannot be used: {why}", path.display()),
            format!("Build it anew with “make cuda”. {CPU_WORKS}"),
        )),
    }
}

/// What the first trial that failed says of a GPU; `None` where every one passed.
pub fn of_trials(
    trials: &[&Trial],
    nvidia: &Nvidia,
    gpu: &Gpu,
    worker: &CudaWorker,
) -> Option<Verdict> {
    let failed = trials.iter().find(|trial| !trial.passed())?;
    let dtype = failed.dtype;
    Some(match &failed.end {
        TrialEnd::Ran(tried) => match (&tried.fault, tried.checks.iter().find(|check| !check.ok)) {
            (Some(fault), _) => of_fault(fault, dtype.name(), nvidia, gpu, worker),
            (None, Some(check)) => {
                let fault = tried.op_faults.iter().find(|(name, _)| *name == check.name);
                match fault {
                    Some((_, fault)) if fault.kind != Kind::WrongNumbers => {
                        of_fault(fault, dtype.name(), nvidia, gpu, worker)
                    }
                    _ => wrong_numbers(check),
                }
            }
            (None, None) => Verdict::new(
                format!("no operation was tried in {dtype}"),
                "Build the CUDA worker anew with “make cuda”.",
            ),
        },
        TrialEnd::Crashed { how, during } => {
            let at = at(during.as_deref(), dtype.name());
            Verdict::new(
                format!("the process that tried it{at} {how}"),
                "Run nvidia-smi and look for lines with NVRM or Xid in the kernel's log (dmesg); update the driver, and \
                 build the CUDA worker anew with “make cuda”.",
            )
            .with(DeviceError {
                name: "crash".into(),
                code: None,
                during: doing(during.as_deref(), dtype.name()),
                words: how.clone(),
            })
        }
        TrialEnd::Hung { seconds, during } => {
            let at = at(during.as_deref(), dtype.name());
            Verdict::new(
                format!("the process that tried it{at} did not end within {seconds} seconds and was stopped"),
                "Look for lines with NVRM or Xid in the kernel's log (dmesg); restarting the machine usually helps. On \
                 slow machines --probe-seconds gives it more time.",
            )
            .with(DeviceError {
                name: "hang".into(),
                code: None,
                during: doing(during.as_deref(), dtype.name()),
                words: format!("no answer within {seconds} seconds"),
            })
        }
        TrialEnd::Unreadable { words } => Verdict::new(
            format!("the process that tried it printed something that is no report ({words})"),
            "Build the CUDA worker anew with “make cuda”.",
        ),
        TrialEnd::Skipped { after } => Verdict {
            reason: format!("{dtype} was not tried after {after} took its process along"),
            ..Verdict::default()
        },
    })
}

fn at(during: Option<&str>, dtype: &str) -> String {
    format!(" ({})", doing(during, dtype))
}

fn doing(during: Option<&str>, dtype: &str) -> String {
    match during {
        Some(operation) => format!("{operation} in {dtype}"),
        None => dtype.to_owned(),
    }
}

fn wrong_numbers(check: &CheckReport) -> Verdict {
    let size = match (&check.error, check.max_error) {
        (Some(words), _) => format!(": {words}"),
        (None, Some(max)) => format!(
            " (largest error {max:.1e}, {:.1e} is allowed)",
            check.tolerance
        ),
        (None, None) => " (they are undefined)".into(),
    };
    Verdict::new(
        format!("it gives wrong numbers in {} in {}{size}", check.name, check.dtype),
        "Do not trust this GPU: look at its temperature, undo overclocking, test its memory, and update the driver.",
    )
    .with(DeviceError {
        name: "wrong numbers".into(),
        code: None,
        during: format!("{} in {}", check.name, check.dtype),
        words: size.trim_start_matches([' ', ':']).to_owned(),
    })
}

fn of_fault(
    fault: &Fault,
    dtype: &str,
    nvidia: &Nvidia,
    gpu: &Gpu,
    worker: &CudaWorker,
) -> Verdict {
    let error = named(fault, dtype);
    let shown = match error.code {
        Some(code) => format!("{} ({code}, “{}”)", error.name, error.words),
        None => error.words.clone(),
    };
    let reason = format!("{} failed: {shown}", error.during);
    let (reason, remedy) = match fault.kind {
        Kind::NoKernel => no_kernel(&reason, &error, nvidia, gpu, worker),
        Kind::OutOfMemory => (
            reason,
            "End what else uses its memory (nvidia-smi shows it), then test again.".into(),
        ),
        Kind::Lost => (
            reason,
            "Look for lines with NVRM or Xid in the kernel's log (dmesg), check its power and cooling, and restart the machine."
                .into(),
        ),
        Kind::WrongNumbers | Kind::Other => (
            reason,
            "Run nvidia-smi, update the driver, and build the CUDA worker anew with “make cuda”.".into(),
        ),
    };
    Verdict::new(reason, remedy).with(error)
}

/// No code for this GPU: either the driver is older than the program's CUDA, or the program carries
/// nothing for the architecture.
fn no_kernel(
    reason: &str,
    error: &DeviceError,
    nvidia: &Nvidia,
    gpu: &Gpu,
    worker: &CudaWorker,
) -> (String, String) {
    let CudaWorker::Ready { build, .. } = worker else {
        return (
            reason.to_owned(),
            "Build the CUDA worker anew with “make cuda”.".into(),
        );
    };
    let supported = match &nvidia.driver {
        Driver::Works { cuda } => Some(cuda.as_str()),
        _ => None,
    };
    let is_older = supported
        .and_then(version)
        .zip(version(&build.runtime))
        .is_some_and(|(driver, runtime)| driver < runtime);
    if is_older || error.code == Some(222) {
        let supported = supported.unwrap_or("an older CUDA");
        return (
            format!(
                "{reason}; the driver supports CUDA up to {supported} and the CUDA worker was built with {}",
                build.runtime
            ),
            format!(
                "Update NVIDIA's driver to one for CUDA {} or newer and restart the machine, or build the CUDA worker with CUDA {supported}.",
                build.runtime
            ),
        );
    }
    let found = gpu
        .compute_capability
        .as_deref()
        .unwrap_or("that nobody tells");
    (
        format!(
            "{reason}; it has compute capability {found} and the CUDA worker carries {}",
            build.architectures.join(", ")
        ),
        format!(
            "Build a CUDA worker for compute capability {found} with “make cuda” (docs/devices.md says how). Until then every function works on the CPU."
        ),
    )
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    let minor = minor.split('.').next().unwrap_or(minor);
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A fault with the driver's own name and number for it, where its words hold one.
pub fn named(fault: &Fault, dtype: &str) -> DeviceError {
    let name = error_name(&fault.words);
    let code = name
        .as_deref()
        .and_then(|name| CODES.iter().find(|(known, _)| *known == name))
        .map(|(_, code)| *code);
    DeviceError {
        name: name.unwrap_or_else(|| {
            match fault.kind {
                Kind::OutOfMemory => "out of memory",
                Kind::NoKernel => "no kernel",
                Kind::WrongNumbers => "wrong numbers",
                Kind::Lost => "device lost",
                Kind::Other => "device error",
            }
            .into()
        }),
        code,
        during: doing(
            Some(fault.during.as_str()).filter(|during| !during.is_empty()),
            dtype,
        ),
        words: quoted(&fault.words).unwrap_or(&fault.words).to_owned(),
    }
}

/// `CUDA_ERROR_…` and its kin in a driver's or library's words.
fn error_name(words: &str) -> Option<String> {
    [
        "CUDA_ERROR_",
        "CUBLAS_STATUS_",
        "CUDNN_STATUS_",
        "CURAND_STATUS_",
    ]
    .iter()
    .find_map(|start| {
        let rest = &words[words.find(start)?..];
        let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        Some(rest[..end].to_owned())
    })
}

/// What stands in quotes, as in `DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")`.
fn quoted(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once('"')?;
    let (inside, _) = rest.split_once('"')?;
    (!inside.is_empty()).then_some(inside)
}

/// Numbers of `cuda.h`.
const CODES: &[(&str, i32)] = &[
    ("CUDA_ERROR_INVALID_VALUE", 1),
    ("CUDA_ERROR_OUT_OF_MEMORY", 2),
    ("CUDA_ERROR_NOT_INITIALIZED", 3),
    ("CUDA_ERROR_DEINITIALIZED", 4),
    ("CUDA_ERROR_STUB_LIBRARY", 34),
    ("CUDA_ERROR_INSUFFICIENT_DRIVER", 35),
    ("CUDA_ERROR_DEVICE_UNAVAILABLE", 46),
    ("CUDA_ERROR_NO_DEVICE", 100),
    ("CUDA_ERROR_INVALID_DEVICE", 101),
    ("CUDA_ERROR_INVALID_IMAGE", 200),
    ("CUDA_ERROR_NO_BINARY_FOR_GPU", 209),
    ("CUDA_ERROR_ECC_UNCORRECTABLE", 214),
    ("CUDA_ERROR_INVALID_PTX", 218),
    ("CUDA_ERROR_NVLINK_UNCORRECTABLE", 220),
    ("CUDA_ERROR_JIT_COMPILER_NOT_FOUND", 221),
    ("CUDA_ERROR_UNSUPPORTED_PTX_VERSION", 222),
    ("CUDA_ERROR_JIT_COMPILATION_DISABLED", 223),
    ("CUDA_ERROR_NOT_FOUND", 500),
    ("CUDA_ERROR_ILLEGAL_ADDRESS", 700),
    ("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", 701),
    ("CUDA_ERROR_LAUNCH_TIMEOUT", 702),
    ("CUDA_ERROR_ASSERT", 710),
    ("CUDA_ERROR_HARDWARE_STACK_ERROR", 714),
    ("CUDA_ERROR_ILLEGAL_INSTRUCTION", 715),
    ("CUDA_ERROR_MISALIGNED_ADDRESS", 716),
    ("CUDA_ERROR_LAUNCH_FAILED", 719),
    ("CUDA_ERROR_NOT_SUPPORTED", 801),
    ("CUDA_ERROR_SYSTEM_NOT_READY", 802),
    ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", 803),
    ("CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", 804),
    ("CUDA_ERROR_UNKNOWN", 999),
];
