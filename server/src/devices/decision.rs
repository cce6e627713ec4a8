//! From what the probe found to what is used, and why, in sentences for the log, the badge and the
//! admin page alike.

mod gpus; // a verdict and a card for each GPU

use std::collections::BTreeMap;
use std::path::PathBuf;

use atelier_app::admin::{CheckReport, CudaWorkerReport, DeviceReport, DeviceState};
use atelier_app::studio::DeviceBadge;

use super::cpu::Cpu;
use super::driver::Driver;
use super::nvidia::Nvidia;
use super::on_cpu::OnCpu;
use super::policy;
use super::probe::{CudaSide, Findings, ProbeFailure};
use super::trial::CudaWorker;
use super::verdict;
use super::way::{Asked, AskedPrecision, Precision, Way};
use gpus::Standing;

/// What is wanted of devices, by the command line or an administrator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The devices.
    pub asked: Asked,
    /// The number format.
    pub precision: AskedPrecision,
    /// The GPU that refiners run on, where that is another.
    pub refiner: Option<u32>,
    /// Whether an administrator chose the devices, rather than the command line.
    pub by_administrator: bool,
    /// How the CPU holds weights and multiplies by them.
    pub on_cpu: OnCpu,
}

impl Wish {
    /// The command line's, with nothing else asked for.
    pub fn device(asked: Asked) -> Self {
        Self {
            asked,
            ..Self::default()
        }
    }

    /// Whether this GPU may be used.
    pub fn wants(&self, number: u32) -> bool {
        match &self.asked {
            Asked::Auto => true,
            Asked::Cpu => false,
            Asked::Cuda(numbers) => numbers.contains(&number) || self.refiner == Some(number),
        }
    }

    /// "--device cpu asks for", "an administrator chose".
    fn as_asked(&self) -> String {
        if self.by_administrator {
            "an administrator chose".into()
        } else {
            format!("--device {} asks for", self.asked)
        }
    }

    /// "--device cuda:1 was asked for", "cuda:1 was chosen by an administrator".
    fn was_asked(&self) -> String {
        if self.by_administrator {
            format!("{} was chosen by an administrator", self.asked)
        } else {
            format!("--device {} was asked for", self.asked)
        }
    }
}

/// A device that is left alone after failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resting {
    /// Until when, Unix milliseconds.
    pub until: i64,
    /// What it did last.
    pub last: String,
}

/// One worker process to be kept running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// `cpu`, `cuda:0`.
    pub device: String,
    /// The program that computes there, where it is not the server's own.
    pub program: Option<PathBuf>,
    /// How it computes.
    pub way: Way,
    /// Number formats that passed every check there.
    pub formats: Vec<Precision>,
    /// The GPU that refiners run on, where that is another.
    pub refiner_device: Option<String>,
    /// Takes only what every other lane has given up.
    pub standby: bool,
    /// Why not the GPU, for the facts of each image.
    pub fallback_reason: Option<String>,
}

/// What is used and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// E.g. "Running on the CPU. No NVIDIA GPU was found."
    pub sentence: String,
    /// The line for the terminal at start, e.g. "Device: CPU (Intel Xeon, 2 cores, f32). …"
    pub line: String,
    /// What to do about a fallback.
    pub remedy: Option<String>,
    /// Whether a GPU is there, or was asked for, and is not used.
    pub degraded: bool,
    /// Why not the GPU, where it is a fallback.
    pub reason: Option<String>,
    /// For every user's eyes.
    pub badge: DeviceBadge,
    /// The devices, those in use first.
    pub devices: Vec<DeviceReport>,
    /// The workers that follow; none before the first probe has ended.
    pub lanes: Vec<Lane>,
    /// The program that computes on GPUs.
    pub cuda_worker: CudaWorkerReport,
}

impl Decision {
    /// Before the first probe has ended: nothing runs yet.
    pub fn pending() -> Self {
        Self {
            sentence: "The devices are being checked; images wait until that is done.".into(),
            line: "Device: being checked. Images wait until that is done.".into(),
            badge: DeviceBadge {
                label: "Checking the devices …".into(),
                degraded: false,
                reason: None,
            },
            ..Self::default()
        }
    }
}

/// Decides.
///
/// | found | asked | used | fallback |
/// |---|---|---|---|
/// | no GPU | auto, cpu | CPU | no |
/// | a GPU, whatever its state | cpu | CPU | no: as asked |
/// | a GPU, driver broken | auto | CPU | yes: the driver's own error |
/// | a GPU, no CUDA worker, or one that does not start | auto | CPU | yes: that |
/// | a GPU that failed a check | auto | CPU | yes: the operation and the error |
/// | a GPU with too little free memory | auto | CPU | yes: how much |
/// | a GPU that rests after failures | auto | CPU | yes: until when |
/// | GPUs that passed | auto | all of them, by the policy's table | no |
/// | GPUs that passed | cuda:N | those | no |
/// | anything else | cuda:N | CPU | yes: why that one is not used |
/// | the driver fails and lists no GPU | auto | CPU | yes: the driver's own error |
/// | no answer from the probe | any | CPU | yes: how the probe ended |
pub fn decide(
    findings: &Result<Findings, ProbeFailure>,
    wish: &Wish,
    resting: &BTreeMap<String, Resting>,
) -> Decision {
    let found = match findings {
        Ok(found) => found,
        Err(failure) => {
            let fallback = (wish.asked != Asked::Cpu).then(|| {
                format!("{failure}; run “atelier probe” on the server to see what it says")
            });
            // Reading /proc is safe in any process; only computing and the driver are not.
            let cpu = Cpu::look(std::path::Path::new("/"));
            let mut decision = on_cpu(&cpu, &[], None, Some(failure), fallback, wish, Vec::new());
            decision.remedy = decision
                .degraded
                .then(|| "Run “atelier probe” on the server and look at what it prints.".into());
            return decision;
        }
    };
    let standings = gpus::judge(found, wish, resting);
    let used: Vec<&Standing<'_>> = standings.iter().filter(|gpu| gpu.is_used).collect();
    let mut decision = if used.is_empty() {
        let cards = cards(found, &standings);
        let fallback = fallback(found, &standings, wish);
        let remedy = fallback.as_ref().and_then(|(_, remedy)| remedy.clone());
        let mut decision = on_cpu(
            &found.cpu,
            &found.cpu_checks,
            found.cpu_measurement.clone(),
            None,
            fallback.map(|(reason, _)| reason),
            wish,
            cards,
        );
        decision.remedy = remedy.or(decision.remedy);
        decision
    } else {
        on_gpus(found, &standings, &used, wish)
    };
    decision.cuda_worker = cuda_worker(&found.cuda);
    decision
}

/// Why the CPU is a fallback, if it is one, and what to do.
fn fallback(
    found: &Findings,
    standings: &[Standing<'_>],
    wish: &Wish,
) -> Option<(String, Option<String>)> {
    let driver = || match found.nvidia.driver {
        // A driver that works and lists nothing is CUDA's image on a machine without a GPU.
        Driver::Absent | Driver::Works { .. } => None,
        _ => verdict::of_driver(&found.nvidia).map(|verdict| (verdict.reason, verdict.remedy)),
    };
    let wanted = match &wish.asked {
        Asked::Cpu => return None,
        Asked::Auto => standings.first(),
        Asked::Cuda(numbers) => standings
            .iter()
            .find(|gpu| gpu.gpu.index.is_some_and(|index| numbers.contains(&index))),
    };
    if let Some(gpu) = wanted {
        let name = gpu.name_in_full();
        let reason = gpu.verdict.reason.clone();
        let remedy = gpu.verdict.remedy.clone();
        let many = wish.asked == Asked::Auto && standings.len() > 1;
        let reason = if many {
            format!(
                "{} GPUs were found, the first {name}, but {reason}",
                standings.len()
            )
        } else {
            format!("{name} was found but {reason}")
        };
        return Some((reason, remedy));
    }
    if wish.asked == Asked::Auto {
        return driver();
    }
    let (reason, remedy) = if standings.is_empty() {
        driver().unwrap_or_else(|| ("no NVIDIA GPU was found".into(), None))
    } else {
        let ids: Vec<&str> = standings.iter().map(|gpu| gpu.id.as_str()).collect();
        (format!("only {} was found", ids.join(", ")), None)
    };
    Some((format!("{} and {reason}", wish.was_asked()), remedy))
}

/// A card for each GPU; where the driver fails before it can list any, one for the driver itself.
fn cards(found: &Findings, standings: &[Standing<'_>]) -> Vec<DeviceReport> {
    let nvidia: &Nvidia = &found.nvidia;
    if standings.is_empty()
        && nvidia.driver != Driver::Absent
        && let Some(verdict) = verdict::of_driver(nvidia)
    {
        return vec![DeviceReport {
            id: "nvidia".into(),
            name: "NVIDIA driver".into(),
            facts: nvidia
                .kernel_module
                .iter()
                .map(|version| ("driver".to_owned(), version.clone()))
                .collect(),
            reason: format!("{}.", capitalised(&verdict.reason)),
            remedy: verdict.remedy,
            error: verdict.error,
            ..DeviceReport::default()
        }];
    }
    standings.iter().map(|gpu| gpu.card(found)).collect()
}

fn on_cpu(
    cpu: &Cpu,
    checks: &[CheckReport],
    measurement: Option<atelier_app::admin::MeasurementReport>,
    failure: Option<&ProbeFailure>,
    fallback: Option<String>,
    wish: &Wish,
    gpus: Vec<DeviceReport>,
) -> Decision {
    let wrong = wrong_on_cpu(checks);
    let sentence = match &fallback {
        Some(reason) => format!("Running on the CPU, because {reason}."),
        None if wish.asked == Asked::Auto => "Running on the CPU. No NVIDIA GPU was found.".into(),
        None => format!("Running on the CPU, as {}.", wish.as_asked()),
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
    let reason = fallback.or_else(|| wrong.clone());
    let mut card = cpu_card(cpu, checks, measurement, failure);
    card.in_use = true;
    card.state = DeviceState::InUse;
    let remedy = card.remedy.clone();
    let mut devices = vec![card];
    devices.extend(gpus);
    Decision {
        line: format!(
            "Device: CPU ({}, {}, {}). {tail}",
            cpu.name,
            cpu.cores_in_words(),
            wish.on_cpu.words()
        ),
        sentence,
        remedy: remedy.filter(|_| reason.is_some()),
        degraded: reason.is_some(),
        badge: DeviceBadge {
            label: format!("CPU · {} · {}", cpu.cores_in_words(), wish.on_cpu.words()),
            degraded: reason.is_some(),
            reason: reason
                .as_deref()
                .map(|reason| format!("{}.", capitalised(reason))),
        },
        lanes: vec![cpu_lane(reason.clone(), false, wish)],
        reason,
        devices,
        cuda_worker: CudaWorkerReport::default(),
    }
}

fn cpu_lane(fallback_reason: Option<String>, standby: bool, wish: &Wish) -> Lane {
    Lane {
        device: "cpu".into(),
        program: None,
        way: Way {
            cpu: wish.on_cpu,
            ..policy::CPU
        },
        formats: vec![policy::CPU.dtype],
        refiner_device: None,
        standby,
        fallback_reason,
    }
}

fn wrong_on_cpu(checks: &[CheckReport]) -> Option<String> {
    let failed: Vec<String> = checks
        .iter()
        .filter(|check| !check.ok)
        .map(|check| format!("{} in {}", check.name, check.dtype))
        .collect();
    (!failed.is_empty()).then(|| format!("this CPU gives wrong results in {}", failed.join(", ")))
}

fn cpu_card(
    cpu: &Cpu,
    checks: &[CheckReport],
    measurement: Option<atelier_app::admin::MeasurementReport>,
    failure: Option<&ProbeFailure>,
) -> DeviceReport {
    let wrong = wrong_on_cpu(checks);
    let (reason, remedy) = match (failure, &wrong) {
        (Some(failure), _) => (
            format!("Used without having been checked: {failure}."),
            Some("Run “atelier probe” on the server and look at what it prints."),
        ),
        (None, Some(wrong)) => (
            format!("Used because there is no other device, although {wrong}."),
            Some(
                "Images may be wrong. Test the machine's memory and processor, and run the server elsewhere meanwhile.",
            ),
        ),
        (None, None) => (
            format!("Used. All {} checks gave the right numbers.", checks.len()),
            None,
        ),
    };
    DeviceReport {
        id: "cpu".into(),
        name: cpu.name.clone(),
        facts: cpu.facts(),
        usable: wrong.is_none(),
        way: Some(format!(
            "{}, weights mapped from their files",
            policy::CPU.dtype
        )),
        reason,
        remedy: remedy.map(str::to_owned),
        checks: checks.to_vec(),
        measurements: measurement.into_iter().collect(),
        ..DeviceReport::default()
    }
}

fn on_gpus(
    found: &Findings,
    standings: &[Standing<'_>],
    used: &[&Standing<'_>],
    wish: &Wish,
) -> Decision {
    let named = |gpu: &&Standing<'_>| {
        let way = gpu.way.map(|way| way.dtype.name()).unwrap_or_default();
        format!("{} ({}) in {way}", gpu.name(), gpu.id)
    };
    let names: Vec<String> = used.iter().map(named).collect();
    let refiner = used
        .iter()
        .find_map(|gpu| gpu.refiner_device.as_deref())
        .map(|device| format!(", refiners on {device}"))
        .unwrap_or_default();
    // GPUs that were asked for by number and are not used.
    let left: Vec<String> = match &wish.asked {
        Asked::Cuda(numbers) => numbers
            .iter()
            .filter(|number| !used.iter().any(|gpu| gpu.gpu.index == Some(**number)))
            .filter(|number| wish.refiner != Some(**number))
            .map(|number| {
                let id = format!("cuda:{number}");
                let gpu = standings.iter().find(|gpu| gpu.id == id);
                let reason = gpu.map_or("it was not found", |gpu| &gpu.verdict.reason);
                format!("{id} is not used: {reason}")
            })
            .collect(),
        _ => Vec::new(),
    };
    let mut sentence = format!("Running on {}{refiner}.", names.join(" and on "));
    for left in &left {
        sentence.push_str(&format!(" {}.", capitalised(left)));
    }
    let count: usize = used.iter().map(|gpu| gpu.checks_passed()).sum();
    let lines: Vec<String> = used.iter().map(|gpu| gpu.line()).collect();
    let mut line = format!(
        "Device: {}{refiner}. All {count} checks passed.",
        lines.join(", ")
    );
    for left in &left {
        line.push_str(&format!(" {}.", capitalised(left)));
    }
    let reason = (!left.is_empty()).then(|| left.join("; "));
    let mut lanes: Vec<Lane> = used.iter().filter_map(|gpu| gpu.lane(found)).collect();
    // What no GPU can do is still made.
    lanes.push(cpu_lane(None, true, wish));
    let mut devices = cards(found, standings);
    devices.sort_by_key(|device| !device.in_use);
    let mut cpu = cpu_card(
        &found.cpu,
        &found.cpu_checks,
        found.cpu_measurement.clone(),
        None,
    );
    if cpu.usable {
        cpu.state = DeviceState::Usable;
        cpu.reason = format!(
            "Ready for what the GPU cannot do. All {} checks gave the right numbers.",
            found.cpu_checks.len()
        );
    }
    devices.push(cpu);
    Decision {
        sentence,
        line,
        remedy: None,
        degraded: reason.is_some(),
        badge: DeviceBadge {
            label: gpus::badge(used),
            degraded: reason.is_some(),
            reason: reason
                .as_deref()
                .map(|reason| format!("{}.", capitalised(reason))),
        },
        reason,
        devices,
        lanes,
        cuda_worker: CudaWorkerReport::default(),
    }
}

fn cuda_worker(cuda: &CudaSide) -> CudaWorkerReport {
    let words = |worker: &CudaWorker| match worker {
        CudaWorker::NotAsked { path } => format!("{} was not needed.", path.display()),
        CudaWorker::Ready { path, build } => format!(
            "{} carries {}, built with CUDA {}.",
            path.display(),
            build.architectures.join(", "),
            build.runtime
        ),
        other => verdict::of_worker(other)
            .map(|verdict| format!("{}.", capitalised(&verdict.reason)))
            .unwrap_or_default(),
    };
    let all = || std::iter::once(&cuda.worker).chain(cuda.own_workers.values());
    let mut said: Vec<String> = all().map(words).collect();
    said.dedup();
    CudaWorkerReport {
        path: cuda.worker.path().display().to_string(),
        found: all().any(|worker| matches!(worker, CudaWorker::Ready { .. })),
        words: said.join(" "),
    }
}

pub(super) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        // A name such as cuda:0 stays as it is.
        Some(_) if text.starts_with("cuda:") => text.to_owned(),
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
