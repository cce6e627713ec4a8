//! Where each GPU stands: the first thing that keeps it from being used, or how it is used.

use std::collections::BTreeMap;

use atelier_app::admin::{CheckReport, DeviceReport, DeviceState, MeasurementReport};

use super::{Lane, Resting, Wish, capitalised};
use crate::devices::cpu::gibibytes;
use crate::devices::driver::{Driver, Gpu};
use crate::devices::nvidia::Nvidia;
use crate::devices::policy::{self, Offer, Unmet};
use crate::devices::probe::Findings;
use crate::devices::trial::{CudaWorker, Trial, TrialEnd};
use crate::devices::verdict::{self, Verdict};
use crate::devices::way::{Asked, AskedPrecision, Precision, Way};

/// One GPU, judged.
pub(super) struct Standing<'f> {
    pub gpu: &'f Gpu,
    pub id: String,
    /// What was tried on it.
    trials: Vec<&'f Trial>,
    /// How it computes or would; `None` where it cannot.
    pub way: Option<Way>,
    /// Why it is not used; its reason is empty where it is.
    pub verdict: Verdict,
    pub is_used: bool,
    resting_until: Option<i64>,
    pub refiner_device: Option<String>,
}

/// Judges every GPU.
pub(super) fn judge<'f>(
    found: &'f Findings,
    wish: &Wish,
    resting: &BTreeMap<String, Resting>,
) -> Vec<Standing<'f>> {
    let mut standings: Vec<Standing<'f>> = found
        .nvidia
        .gpus
        .iter()
        .map(|gpu| Standing::of(gpu, found, wish, resting))
        .collect();
    let Some(refiner) = wish.refiner else {
        return standings;
    };
    // The refiner's GPU works for the others, unless it was asked for itself.
    let id = format!("cuda:{refiner}");
    let asked_itself = matches!(&wish.asked, Asked::Cuda(numbers) if numbers.contains(&refiner));
    let others = standings
        .iter()
        .filter(|gpu| gpu.is_used && gpu.id != id)
        .count();
    let partner = standings
        .iter_mut()
        .find(|gpu| gpu.id == id && gpu.way.is_some() && gpu.resting_until.is_none());
    let Some(partner) = partner.filter(|_| others > 0) else {
        return standings;
    };
    if !asked_itself {
        partner.is_used = false;
        partner.verdict = Verdict {
            reason: "kept for refiners".into(),
            ..Verdict::default()
        };
    }
    for gpu in standings
        .iter_mut()
        .filter(|gpu| gpu.is_used && gpu.id != id)
    {
        gpu.refiner_device = Some(id.clone());
    }
    standings
}

impl<'f> Standing<'f> {
    fn of(
        gpu: &'f Gpu,
        found: &'f Findings,
        wish: &Wish,
        resting: &BTreeMap<String, Resting>,
    ) -> Self {
        let id = match (gpu.index, &gpu.pci) {
            (Some(index), _) => format!("cuda:{index}"),
            (None, Some(pci)) => format!("pci:{pci}"),
            (None, None) => "gpu".into(),
        };
        let trials: Vec<&Trial> = found
            .cuda
            .trials
            .iter()
            .filter(|trial| gpu.index == Some(trial.device))
            .collect();
        let mut standing = Self {
            gpu,
            id,
            trials,
            way: None,
            verdict: Verdict::default(),
            is_used: false,
            resting_until: None,
            refiner_device: None,
        };
        match standing.examine(found, wish.precision) {
            Ok(way) => standing.way = Some(way),
            Err(verdict) => {
                // Whatever is wrong with it, it was not wanted.
                standing.verdict = unwanted(gpu, wish).unwrap_or(*verdict);
                return standing;
            }
        }
        if let Some(verdict) = unwanted(gpu, wish) {
            standing.verdict = verdict;
        } else if let Some(rest) = resting.get(&standing.id) {
            standing.resting_until = Some(rest.until);
            standing.verdict = Verdict {
                reason: format!(
                    "it rests until {} after {} failures in ten minutes (the last: {})",
                    clock(rest.until),
                    crate::devices::breaker::FAILURES,
                    rest.last
                ),
                remedy: Some(
                    "It is tried again by itself and used as soon as it passes. If it keeps failing, look for lines with \
                     NVRM or Xid in the kernel's log (dmesg)."
                        .into(),
                ),
                error: None,
            };
        } else {
            standing.is_used = true;
        }
        standing
    }

    /// The way it computes, or the first thing that keeps it from computing.
    fn examine(&self, found: &Findings, precision: AskedPrecision) -> Result<Way, Box<Verdict>> {
        if let Some(verdict) = verdict::of_driver(&found.nvidia) {
            return Err(Box::new(verdict));
        }
        if self.gpu.index.is_none() {
            return Err(Box::new(Verdict {
                reason: "the driver does not list it".into(),
                remedy: Some("Look at what nvidia-smi and CUDA_VISIBLE_DEVICES say of it.".into()),
                error: None,
            }));
        }
        if let Some(verdict) = verdict::of_worker(found.cuda.worker_for(self.gpu.index)) {
            return Err(Box::new(verdict));
        }
        let passed: Vec<Precision> = self.passed();
        let offer = Offer {
            capability: self.capability(),
            free: self.gpu.memory_free.or(self.gpu.memory),
            passed: passed.clone(),
        };
        policy::choose(&offer, precision).map_err(|unmet| Box::new(match unmet {
            Unmet::Memory { needed_gib } => Verdict {
                reason: format!(
                    "{} of its memory are free and SDXL needs {needed_gib} GiB",
                    offer.free.map(gibibytes).unwrap_or_default()
                ),
                remedy: Some(
                    "End what else uses its memory (nvidia-smi shows it); it is tried again by itself.".into(),
                ),
                error: None,
            },
            Unmet::Precision(asked) => {
                let failed = verdict::of_trials(&self.trials, &found.nvidia, self.gpu, found.cuda.worker_for(self.gpu.index));
                match (failed, asked) {
                    (Some(verdict), _) if passed.is_empty() => verdict,
                    (failed, asked) => Verdict {
                        reason: format!("it cannot compute in {asked}"),
                        remedy: Some("Choose another precision, or auto.".into()),
                        error: failed.and_then(|verdict| verdict.error),
                    },
                }
            }
        }))
    }

    fn passed(&self) -> Vec<Precision> {
        self.trials
            .iter()
            .filter(|trial| trial.passed())
            .map(|trial| trial.dtype)
            .collect()
    }

    fn capability(&self) -> (u32, u32) {
        self.gpu
            .compute_capability
            .as_deref()
            .and_then(|text| text.split_once('.'))
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
            .unwrap_or_default()
    }

    /// `NVIDIA GeForce RTX 5090`.
    pub fn name(&self) -> &str {
        self.gpu.name.as_deref().unwrap_or("NVIDIA GPU")
    }

    /// `NVIDIA GeForce RTX 5090 (cuda:0, compute capability 12.0)`.
    pub fn name_in_full(&self) -> String {
        let capability = self
            .gpu
            .compute_capability
            .as_ref()
            .map(|capability| format!(", compute capability {capability}"))
            .unwrap_or_default();
        format!("{} ({}{capability})", self.name(), self.id)
    }

    /// `cuda:0 (NVIDIA GeForce RTX 5090, 31.0 GiB free, bf16)`.
    pub fn line(&self) -> String {
        let free = self
            .gpu
            .memory_free
            .map(|free| format!(", {} free", gibibytes(free)))
            .unwrap_or_default();
        let dtype = self.way.map(|way| way.dtype.name()).unwrap_or_default();
        format!("{} ({}{free}, {dtype})", self.id, self.name())
    }

    pub fn checks_passed(&self) -> usize {
        // A format in which one was wrong is not used, and not counted.
        self.trials
            .iter()
            .filter(|trial| trial.passed())
            .flat_map(|trial| trial.checks())
            .filter(|check| check.ok)
            .count()
    }

    pub fn lane(&self, found: &Findings) -> Option<Lane> {
        Some(Lane {
            device: self.id.clone(),
            program: Some(found.cuda.worker_for(self.gpu.index).path().to_path_buf()),
            way: self.way?,
            formats: self.passed(),
            refiner_device: self.refiner_device.clone(),
            standby: false,
            fallback_reason: None,
        })
    }

    pub fn card(&self, found: &Findings) -> DeviceReport {
        let reason = if self.is_used {
            self.used_reason()
        } else {
            match self.verdict.reason.as_str() {
                reason if reason.starts_with("not used") => format!("{}.", capitalised(reason)),
                reason => format!("Not used: {reason}."),
            }
        };
        let (checks, measurements): (Vec<Vec<CheckReport>>, Vec<Option<MeasurementReport>>) = self
            .trials
            .iter()
            .map(|trial| match &trial.end {
                TrialEnd::Ran(tried) => (tried.checks.clone(), tried.measurement.clone()),
                _ => (Vec::new(), None),
            })
            .unzip();
        let built_for = match found.cuda.worker_for(self.gpu.index) {
            CudaWorker::Ready { build, .. } => build.architectures.clone(),
            _ => Vec::new(),
        };
        DeviceReport {
            id: self.id.clone(),
            name: self.name().to_owned(),
            facts: facts(
                &found.nvidia,
                self.gpu,
                found.cuda.worker_for(self.gpu.index),
            ),
            state: match (self.is_used, self.resting_until, self.way) {
                (true, ..) => DeviceState::InUse,
                (false, Some(_), _) => DeviceState::Resting,
                (false, None, Some(_)) => DeviceState::Usable,
                (false, None, None) => DeviceState::NotUsable,
            },
            since: 0,
            resting_until: self.resting_until,
            usable: self.way.is_some(),
            in_use: self.is_used,
            way: self.way.map(Way::words),
            reason,
            remedy: self.verdict.remedy.clone(),
            error: self.verdict.error.clone(),
            architecture: self.gpu.compute_capability.clone(),
            built_for,
            checks: checks.into_iter().flatten().collect(),
            measurements: measurements.into_iter().flatten().collect(),
        }
    }

    fn used_reason(&self) -> String {
        let passed: Vec<&str> = self.passed().iter().map(|dtype| dtype.name()).collect();
        let failed: Vec<&str> = self
            .trials
            .iter()
            .filter(|trial| !trial.passed())
            .map(|trial| trial.dtype.name())
            .collect();
        let mut reason = format!(
            "Used. All {} checks in {} gave the right numbers.",
            self.trials
                .iter()
                .filter(|trial| trial.passed())
                .map(|trial| trial.checks().len())
                .sum::<usize>(),
            passed.join(", ")
        );
        if !failed.is_empty() {
            reason.push_str(&format!(" It is not used in {}.", failed.join(", ")));
        }
        reason
    }
}

/// Why a GPU is not used that might be: another was asked for.
fn unwanted(gpu: &Gpu, wish: &Wish) -> Option<Verdict> {
    let is_wanted = match &wish.asked {
        Asked::Auto => true,
        Asked::Cpu => false,
        Asked::Cuda(numbers) => {
            // One that the driver does not list has no number, and what is wrong with it counts.
            gpu.index.is_none_or(|index| numbers.contains(&index))
        }
    };
    (!is_wanted).then(|| Verdict {
        reason: format!("not used, because {}", wish.was_asked()),
        ..Verdict::default()
    })
}

fn facts(nvidia: &Nvidia, gpu: &Gpu, worker: &CudaWorker) -> Vec<(String, String)> {
    let cuda = match &nvidia.driver {
        Driver::Works { cuda } => Some(cuda.clone()),
        _ => None,
    };
    let runtime = match worker {
        CudaWorker::Ready { build, .. } => Some(build.runtime.clone()),
        _ => None,
    };
    [
        ("compute capability", gpu.compute_capability.clone()),
        ("memory", gpu.memory.map(gibibytes)),
        ("memory free", gpu.memory_free.map(gibibytes)),
        ("driver", gpu.driver_version.clone()),
        ("newest CUDA of the driver", cuda),
        ("CUDA of the worker", runtime),
        ("PCI address", gpu.pci.clone()),
        ("UUID", gpu.uuid.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

/// The badge's words: `GPU · RTX 5090 · bf16`, `2 GPUs · bf16`.
pub(super) fn badge(used: &[&Standing<'_>]) -> String {
    let mut dtypes: Vec<&str> = used
        .iter()
        .filter_map(|gpu| Some(gpu.way?.dtype.name()))
        .collect();
    dtypes.dedup();
    let dtypes = dtypes.join(", ");
    match used {
        [one] => {
            let name = one.name();
            let short = name.strip_prefix("NVIDIA ").unwrap_or(name);
            let short = short.strip_prefix("GeForce ").unwrap_or(short);
            format!("GPU · {short} · {dtypes}")
        }
        many => format!("{} GPUs · {dtypes}", many.len()),
    }
}

/// `14:02 UTC`.
fn clock(at_ms: i64) -> String {
    let minutes = at_ms.div_euclid(60_000);
    format!(
        "{:02}:{:02} UTC",
        minutes.div_euclid(60).rem_euclid(24),
        minutes.rem_euclid(60)
    )
}
