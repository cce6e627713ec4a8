//! From what the probe found to what is used, and why, in sentences for the log, the badge and the
//! admin page alike.

use std::str::FromStr;

use atelier_app::admin::{CheckReport, DeviceReport};
use atelier_app::studio::DeviceBadge;

use super::cpu::{Cpu, gibibytes};
use super::driver::{Driver, Gpu};
use super::nvidia::Nvidia;
use super::probe::{Findings, ProbeFailure};

/// The device that the operator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Whatever is best.
    #[default]
    Auto,
    /// The CPU, also where a GPU is there.
    Cpu,
    /// One GPU.
    Cuda(u32),
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" | "gpu" => Ok(Self::Cuda(0)),
            other => other
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| {
                    format!("is {other:?}; choose auto, cpu or cuda:N with N = 0, 1, …")
                }),
        }
    }
}

/// What is used and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// E.g. "Running on the CPU. No NVIDIA GPU was found."
    pub sentence: String,
    /// The line for the terminal at start, e.g. "Device: CPU (Intel Xeon, 2 cores, f32). …"
    pub line: String,
    /// Whether a GPU is there, or was asked for, and is not used.
    pub degraded: bool,
    /// Why not the GPU, where it is a fallback.
    pub reason: Option<String>,
    /// For every user's eyes.
    pub badge: DeviceBadge,
    /// The devices, the one in use first.
    pub devices: Vec<DeviceReport>,
}

/// What a device is worth: why it is or isn't used, and what to do.
struct Verdict {
    reason: String,
    remedy: Option<String>,
}

/// Decides.
///
/// | found | asked | used | fallback |
/// |---|---|---|---|
/// | no GPU | auto, cpu | CPU | no |
/// | a GPU, driver broken or not | cpu | CPU | no: as asked |
/// | a GPU, driver broken | auto | CPU | yes: the driver's own error |
/// | a GPU, driver working | auto | CPU | yes: this build has no CUDA worker |
/// | the driver, but no GPU | auto | CPU | yes: the driver's own error |
/// | anything | cuda:N | CPU | yes: why that one is not used |
/// | no answer from the probe | any | CPU | yes: how the probe ended |
pub fn decide(findings: &Result<Findings, ProbeFailure>, asked: Asked) -> Decision {
    let (cpu, checks, gpus, fallback) = match findings {
        Ok(found) => {
            let gpus = gpu_reports(&found.nvidia, asked);
            let fallback = fallback_reason(&found.nvidia, &gpus, asked);
            (found.cpu.clone(), found.cpu_checks.clone(), gpus, fallback)
        }
        Err(failure) => {
            let fallback = (asked != Asked::Cpu).then(|| {
                format!("{failure}; run “atelier probe” on the server to see what it says")
            });
            // Reading /proc is safe in any process; only computing and the driver are not.
            let cpu = Cpu::look(std::path::Path::new("/"));
            (cpu, Vec::new(), Vec::new(), fallback)
        }
    };
    let failed: Vec<&CheckReport> = checks.iter().filter(|check| !check.ok).collect();
    let wrong = (!failed.is_empty()).then(|| {
        let names: Vec<String> = failed
            .iter()
            .map(|c| format!("{} in {}", c.name, c.dtype))
            .collect();
        format!("this CPU gives wrong results in {}", names.join(", "))
    });

    let sentence = match (&fallback, findings) {
        (Some(reason), _) => format!("Running on the CPU, because {reason}."),
        (None, Ok(found)) if asked == Asked::Cpu && !found.nvidia.gpus.is_empty() => {
            "Running on the CPU, as --device cpu asks for.".into()
        }
        (None, Ok(_)) if asked == Asked::Auto => {
            "Running on the CPU. No NVIDIA GPU was found.".into()
        }
        (None, _) => "Running on the CPU, as --device cpu asks for.".into(),
    };
    let sentence = match &wrong {
        Some(wrong) => format!("{sentence} Beware: {wrong}."),
        None => sentence,
    };
    let tail = sentence
        .strip_prefix("Running on the CPU")
        .map(|rest| rest.trim_start_matches([',', '.', ' ']))
        .map(capitalised)
        .unwrap_or_default();
    let line = format!(
        "Device: CPU ({}, {}, f32). {tail}",
        cpu.name,
        cpu.cores_in_words()
    );
    let reason = fallback.clone().or_else(|| wrong.clone());

    let cpu_verdict = cpu_verdict(&checks, findings.as_ref().err(), wrong.as_deref());
    let mut devices = vec![DeviceReport {
        id: "cpu".into(),
        name: cpu.name.clone(),
        facts: cpu.facts(),
        usable: wrong.is_none(),
        in_use: true,
        reason: cpu_verdict.reason,
        remedy: cpu_verdict.remedy,
        checks,
        ..DeviceReport::default()
    }];
    devices.extend(gpus);
    Decision {
        sentence,
        line,
        degraded: reason.is_some(),
        badge: DeviceBadge {
            label: format!("CPU · {} · f32", cpu.cores_in_words()),
            degraded: reason.is_some(),
            reason: reason
                .as_deref()
                .map(|reason| format!("{}.", capitalised(reason))),
        },
        reason,
        devices,
    }
}

fn cpu_verdict(
    checks: &[CheckReport],
    failure: Option<&ProbeFailure>,
    wrong: Option<&str>,
) -> Verdict {
    match (failure, wrong) {
        (Some(failure), _) => Verdict {
            reason: format!("Used without having been checked: {failure}."),
            remedy: Some("Run “atelier probe” on the server and look at what it prints.".into()),
        },
        (None, Some(wrong)) => Verdict {
            reason: format!("Used because there is no other device, although {wrong}."),
            remedy: Some(
                "Images may be wrong. Test the machine's memory and processor, and run the server elsewhere meanwhile."
                    .into(),
            ),
        },
        (None, None) => Verdict {
            reason: format!("Used. All {} checks gave the right numbers.", checks.len()),
            remedy: None,
        },
    }
}

/// A card for each GPU; where the driver fails before it can list any, one for the driver itself.
fn gpu_reports(nvidia: &Nvidia, asked: Asked) -> Vec<DeviceReport> {
    if nvidia.gpus.is_empty() && nvidia.driver != Driver::Absent {
        return driver_verdict(nvidia)
            .map(|verdict| DeviceReport {
                id: "nvidia".into(),
                name: "NVIDIA driver".into(),
                facts: nvidia
                    .kernel_module
                    .iter()
                    .map(|version| ("driver".to_owned(), version.clone()))
                    .collect(),
                usable: false,
                in_use: false,
                reason: format!("{}.", capitalised(&verdict.reason)),
                remedy: verdict.remedy,
                ..DeviceReport::default()
            })
            .into_iter()
            .collect();
    }
    nvidia
        .gpus
        .iter()
        .map(|gpu| {
            let verdict = gpu_verdict(nvidia, gpu, asked);
            DeviceReport {
                id: match (gpu.index, &gpu.pci) {
                    (Some(index), _) => format!("cuda:{index}"),
                    (None, Some(pci)) => format!("pci:{pci}"),
                    (None, None) => "gpu".into(),
                },
                name: gpu.name.clone().unwrap_or_else(|| "NVIDIA GPU".into()),
                facts: gpu_facts(nvidia, gpu),
                usable: false,
                in_use: false,
                reason: format!("{}.", capitalised(&verdict.reason)),
                remedy: verdict.remedy,
                ..DeviceReport::default()
            }
        })
        .collect()
}

fn gpu_facts(nvidia: &Nvidia, gpu: &Gpu) -> Vec<(String, String)> {
    let cuda = match &nvidia.driver {
        Driver::Works { cuda } => Some(cuda.clone()),
        _ => None,
    };
    [
        ("compute capability", gpu.compute_capability.clone()),
        ("memory", gpu.memory.map(gibibytes)),
        ("driver", gpu.driver_version.clone()),
        ("newest CUDA of the driver", cuda),
        ("PCI address", gpu.pci.clone()),
        ("UUID", gpu.uuid.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

/// Why one GPU is not used.
fn gpu_verdict(nvidia: &Nvidia, gpu: &Gpu, asked: Asked) -> Verdict {
    if asked == Asked::Cpu {
        return Verdict {
            reason: "not used, because --device cpu was asked for".into(),
            remedy: None,
        };
    }
    if let Some(verdict) = driver_verdict(nvidia) {
        return verdict;
    }
    if let Asked::Cuda(wanted) = asked
        && gpu.index != Some(wanted)
    {
        return Verdict {
            reason: format!("not used, because --device cuda:{wanted} was asked for"),
            remedy: None,
        };
    }
    if gpu.index.is_none() {
        return Verdict {
            reason: "not used: the driver does not list it".into(),
            remedy: Some("Look at what nvidia-smi and CUDA_VISIBLE_DEVICES say of it.".into()),
        };
    }
    Verdict {
        reason: "not used: this build has no CUDA worker beside the server binary".into(),
        remedy: Some(
            "Nothing has to be done: every function works on the CPU. Using the GPU takes a build of Atelier that \
             brings a CUDA worker for its compute capability."
                .into(),
        ),
    }
}

/// What keeps every GPU from being used, if it is the driver.
fn driver_verdict(nvidia: &Nvidia) -> Option<Verdict> {
    let inside = nvidia.container && !nvidia.device_nodes;
    let container = "Give the container access to the GPU: with Docker, install the NVIDIA Container Toolkit on the \
                     host and start the container with --gpus all.";
    let (reason, remedy) = match &nvidia.driver {
        Driver::Works { .. } => return None,
        Driver::Absent => (
            "NVIDIA's driver is not installed".to_owned(),
            "Install NVIDIA's driver.",
        ),
        Driver::Unloadable { words } if nvidia.kernel_module.is_none() => {
            match &nvidia.other_module {
                Some(module) if module == "vfio-pci" => (
                    "the GPU is set aside for a virtual machine (the kernel drives it with vfio-pci)".into(),
                    "Bind the GPU to NVIDIA's driver to use it here.",
                ),
                Some(module) => (
                    format!("the kernel drives the GPU with {module}, and NVIDIA's driver is not installed ({words})"),
                    "Install NVIDIA's driver, and restart the machine.",
                ),
                None => (
                    format!("NVIDIA's driver is not installed ({words})"),
                    "Install NVIDIA's driver, and restart the machine.",
                ),
            }
        }
        Driver::Unloadable { words } => (
            format!("the driver's kernel module is loaded but its library cannot be ({words})"),
            "Install the package that brings libcuda.so.1 (on Debian: libcuda1), in the kernel module's version.",
        ),
        Driver::Refused {
            call,
            code,
            name,
            words,
        } => {
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
        Driver::Crashed { how } => (
            format!("the process that asked NVIDIA's driver {how}"),
            "Run nvidia-smi on the server; if it fails too, reinstall the driver and restart the machine.",
        ),
        Driver::Hung { seconds } => (
            format!("NVIDIA's driver did not answer within {seconds} seconds"),
            "Look for lines with NVRM or Xid in the kernel's log (dmesg); restarting the machine usually helps.",
        ),
    };
    Some(Verdict {
        reason,
        remedy: Some(if inside { container } else { remedy }.to_owned()),
    })
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

/// Why running on the CPU is a fallback, if it is one.
fn fallback_reason(nvidia: &Nvidia, gpus: &[DeviceReport], asked: Asked) -> Option<String> {
    let listed = !nvidia.gpus.is_empty();
    let wanted = match asked {
        Asked::Cpu => return None,
        // A driver that works and lists nothing is CUDA's image on a machine without a GPU.
        Asked::Auto if !listed => return driver_failure(nvidia),
        Asked::Auto => gpus.first(),
        Asked::Cuda(index) => gpus.iter().find(|gpu| gpu.id == format!("cuda:{index}")),
    };
    let Some(gpu) = wanted else {
        let found = if listed {
            let ids: Vec<&str> = gpus.iter().map(|gpu| gpu.id.as_str()).collect();
            format!("only {} was found", ids.join(", "))
        } else {
            driver_failure(nvidia).unwrap_or_else(|| "no NVIDIA GPU was found".into())
        };
        let Asked::Cuda(index) = asked else {
            return None;
        };
        return Some(format!("--device cuda:{index} was asked for and {found}"));
    };
    let capability = gpu
        .facts
        .iter()
        .find(|(name, _)| name == "compute capability")
        .map(|(_, value)| format!(", compute capability {value}"))
        .unwrap_or_default();
    let name = format!("{} ({}{capability})", gpu.name, gpu.id);
    let reason = gpu.reason.trim_end_matches('.');
    let reason = reason
        .strip_prefix("Not used: ")
        .map_or_else(|| lower_first(reason), str::to_owned);
    Some(match (asked, gpus.len()) {
        (Asked::Auto, count) if count > 1 => {
            format!("{count} GPUs were found, the first {name}, but {reason}")
        }
        _ => format!("{name} was found but {reason}"),
    })
}

/// What is wrong with a driver that is there, if anything is.
fn driver_failure(nvidia: &Nvidia) -> Option<String> {
    match nvidia.driver {
        Driver::Absent => None,
        _ => driver_verdict(nvidia).map(|verdict| verdict.reason),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// Lower case, except where a name such as NVIDIA begins.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
