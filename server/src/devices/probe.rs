//! `atelier probe`: finds out what this machine can compute on.
//!
//! The server runs it in a child process with a time limit ([`run_apart`]); it runs the part that
//! loads NVIDIA's driver in a child of its own, so that a driver that aborts or hangs is a result,
//! and tries each GPU in each number format in further children ([`super::trial`]).

pub mod ops; // the operations themselves, on the engine

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use atelier_app::admin::{CheckReport, MeasurementReport};
use serde::{Deserialize, Serialize};

use super::child::{self, Ended};
use super::cpu::Cpu;
use super::decision::{self, Decision, Wish};
use super::driver::{self, Driver, DriverAnswer, Gpu};
use super::nvidia::{self, Nvidia};
use super::trial::{self, CudaWorker, INTRODUCE, Trial};
use super::vitals::{ASKED_OF_PROBE, nvml};
use super::way::{Asked, Precision, cuda_number};
use crate::config::{ProbeArgs, cuda_worker_beside};

impl CudaSide {
    /// Takes what was not looked at this time, all but the GPUs in `only`, from an earlier look.
    pub fn complete(&mut self, old: &Self, only: &[u32]) {
        if matches!(self.worker, CudaWorker::NotAsked { .. }) {
            self.worker = old.worker.clone();
        }
        let left = old.trials.iter();
        self.trials
            .extend(left.filter(|trial| !only.contains(&trial.device)).cloned());
        let own = old.own_workers.iter();
        self.own_workers.extend(
            own.filter(|(device, _)| !only.contains(device))
                .map(|(device, worker)| (*device, worker.clone())),
        );
    }
}

/// What the probe found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// The version of the program that looked.
    pub version: String,
    /// The processor.
    pub cpu: Cpu,
    /// Every check that was run on the processor.
    pub cpu_checks: Vec<CheckReport>,
    /// How fast the processor is.
    #[serde(default)]
    pub cpu_measurement: Option<MeasurementReport>,
    /// NVIDIA's side of the machine.
    pub nvidia: Nvidia,
    /// What came of trying its GPUs.
    pub cuda: CudaSide,
}

/// What came of trying GPUs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CudaSide {
    /// The program that computes on them.
    pub worker: CudaWorker,
    /// The programs built for one architecture that lie beside it, for the GPUs that have it.
    #[serde(default)]
    pub own_workers: BTreeMap<u32, CudaWorker>,
    /// Each GPU in each number format.
    pub trials: Vec<Trial>,
}

/// Why there are no findings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// The process could not be started.
    #[error("the device probe could not be started: {0}")]
    NotStarted(String),
    /// The process died.
    #[error("the device probe {how}{}", last_words.as_ref().map(|words| format!(": {words}")).unwrap_or_default())]
    Crashed {
        /// How.
        how: String,
        /// The last line it wrote to standard error.
        last_words: Option<String>,
    },
    /// The process did not come to an end.
    #[error("the device probe did not end within {seconds} seconds and was stopped")]
    Hung {
        /// Its time limit.
        seconds: u64,
    },
    /// What it printed is not a report.
    #[error("the device probe printed something that is no report ({0})")]
    Unreadable(String),
}

/// What `atelier probe --json` prints.
#[derive(Debug, Serialize, Deserialize)]
struct Printed {
    /// The decision in a sentence.
    decision: String,
    /// Whether it is a fallback.
    degraded: bool,
    /// The devices as the admin page shows them.
    devices: Vec<atelier_app::admin::DeviceReport>,
    /// What the server decides from.
    findings: Findings,
}

/// How long the driver may take to answer: waking many GPUs takes seconds each.
pub(super) const DRIVER_LIMIT: Duration = Duration::from_secs(30);

impl CudaSide {
    /// The program that computes on a GPU: the one for its architecture, else the one for all.
    pub fn worker_for(&self, device: Option<u32>) -> &CudaWorker {
        device
            .and_then(|device| self.own_workers.get(&device))
            .unwrap_or(&self.worker)
    }
}

/// What is looked at, and for how long.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The program that computes on GPUs.
    pub cuda_worker: std::path::PathBuf,
    /// How long trying one number format on one GPU may take.
    pub trial_limit: Duration,
    /// Whether GPUs are tried, rather than only listed.
    pub tries_gpus: bool,
    /// The only ones that are; `None`: every one that the driver lists.
    pub only: Option<Vec<u32>>,
}

impl Scope {
    /// How long the whole probe may take: every part of it has a limit of its own, and GPUs are
    /// tried beside each other.
    pub fn limit(&self) -> Duration {
        let formats = u32::try_from(Precision::ALL.len()).unwrap_or(u32::MAX);
        Duration::from_secs(90) + DRIVER_LIMIT + self.trial_limit * formats
    }
}

/// Runs the command to its end and answers the process' exit code.
pub fn run(args: ProbeArgs) -> ExitCode {
    match args.device.as_deref() {
        Some(DRIVER_ONLY) => return print_json(&driver::ask()),
        Some(ASKED_OF_PROBE) => return nvml::answer_until_closed(),
        Some(INTRODUCE) => return print_json(&ops::introduction()),
        _ => {}
    }
    let refuse = |message: String| {
        eprintln!("error: {message}");
        ExitCode::from(2)
    };
    let device = args.device.as_deref().unwrap_or("auto");
    if args.ops {
        // clap has seen to it that a format is there and can be read.
        let dtype = args.dtype.as_deref().and_then(|text| text.parse().ok());
        let dtype = dtype.unwrap_or(Precision::F32);
        ops::end_after(Duration::from_secs(u64::from(args.probe_seconds) + 5));
        return match ops::try_ops(device, dtype) {
            Ok(tried) => print_json(&tried),
            Err(message) => refuse(format!("--device {message}")),
        };
    }
    let asked = match device.parse::<Asked>() {
        Ok(asked) => asked,
        Err(message) => return refuse(format!("--device {message}")),
    };
    let precision = args.precision.as_deref().unwrap_or("auto").parse();
    let wish = Wish {
        precision: precision.unwrap_or_default(),
        ..Wish::device(asked)
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return refuse(format!("this program does not know where it is: {error}")),
    };
    let findings = look(&Scope {
        cuda_worker: cuda_worker_beside(args.cuda_worker.as_ref(), &program),
        trial_limit: Duration::from_secs(u64::from(args.probe_seconds)),
        tries_gpus: wish.asked != Asked::Cpu,
        only: args
            .only
            .map(|only| only.iter().filter_map(|id| cuda_number(id)).collect()),
    });
    let decision = decision::decide(&Ok(findings.clone()), &wish, &Default::default());
    if args.json {
        return print_json(&Printed {
            decision: decision.sentence,
            degraded: decision.degraded,
            devices: decision.devices,
            findings,
        });
    }
    print!("{}", in_words(&decision));
    ExitCode::SUCCESS
}

/// The word in place of a device by which the probe calls itself, to load the driver apart.
const DRIVER_ONLY: &str = "driver";

/// Looks at everything, in this process except for the driver and the GPUs.
pub fn look(scope: &Scope) -> Findings {
    let root = Path::new("/");
    let program = std::env::current_exe();
    let answer = match &program {
        Ok(program) => ask_driver_apart(program, DRIVER_LIMIT),
        Err(error) => unanswered(Driver::Unloadable {
            words: error.to_string(),
        }),
    };
    // Without a GPU that the driver lists there is nothing to ask about.
    let management = match &program {
        Ok(program) if !answer.gpus.is_empty() => nvidia::ask_management(program),
        _ => Vec::new(),
    };
    let nvidia = Nvidia::look(root, nvidia::ask_smi().as_deref(), management, answer);
    let cuda = try_gpus(&nvidia, scope);
    let cpu = cpu_tried();
    Findings {
        version: env!("CARGO_PKG_VERSION").into(),
        cpu: Cpu::look(root),
        cpu_checks: cpu.checks,
        cpu_measurement: cpu.measurement,
        nvidia,
        cuda,
    }
}

/// Tries every GPU that the driver lists, all at once: each has its own memory and its own processes.
fn try_gpus(nvidia: &Nvidia, scope: &Scope) -> CudaSide {
    let listed: Vec<&Gpu> = match nvidia.driver {
        Driver::Works { .. } => {
            let is_meant = |gpu: &&Gpu| {
                gpu.index.is_some_and(|index| {
                    scope.only.as_ref().is_none_or(|only| only.contains(&index))
                })
            };
            nvidia.gpus.iter().filter(is_meant).collect()
        }
        _ => Vec::new(),
    };
    if listed.is_empty() || !scope.tries_gpus {
        return CudaSide {
            worker: CudaWorker::NotAsked {
                path: scope.cuda_worker.clone(),
            },
            own_workers: BTreeMap::new(),
            trials: Vec::new(),
        };
    }
    let worker = CudaWorker::look(&scope.cuda_worker);
    let own_workers = listed.iter().filter_map(|gpu| {
        let path = trial::own_program(&scope.cuda_worker, gpu.compute_capability.as_deref()?);
        path.is_file()
            .then(|| Some((gpu.index?, CudaWorker::look(&path))))?
    });
    let mut cuda = CudaSide {
        worker,
        own_workers: own_workers.collect(),
        trials: Vec::new(),
    };
    let ready = listed
        .iter()
        .filter_map(|gpu| match (gpu.index, cuda.worker_for(gpu.index)) {
            (Some(index), CudaWorker::Ready { path, .. }) => Some((index, path.as_path())),
            _ => None,
        });
    let ready: Vec<(u32, &Path)> = ready.collect();
    let trials = std::thread::scope(|threads| {
        let running: Vec<_> = ready
            .into_iter()
            .map(|(device, path)| {
                threads.spawn(move || trial::try_gpu(path, device, scope.trial_limit))
            })
            .collect();
        running
            .into_iter()
            .flat_map(|gpu| gpu.join().unwrap_or_default())
            .collect()
    });
    cuda.trials = trials;
    cuda
}

/// Asks the driver in a process of its own.
pub fn ask_driver_apart(program: &Path, limit: Duration) -> DriverAnswer {
    let mut command = Command::new(program);
    command.args(["probe", "--json", "--device", DRIVER_ONLY]);
    match child::run(&mut command, limit) {
        Ended::Exited { status, stdout, .. } if status.success() => serde_json::from_slice(&stdout)
            .unwrap_or_else(|error| {
                unanswered(Driver::Crashed {
                    how: format!("printed something that is no answer ({error})"),
                })
            }),
        Ended::Exited {
            status, last_words, ..
        } => unanswered(Driver::Crashed {
            how: match last_words {
                Some(words) => format!("{}: {words}", child::in_words(status)),
                None => child::in_words(status),
            },
        }),
        Ended::TimedOut { .. } => unanswered(Driver::Hung {
            seconds: limit.as_secs(),
        }),
        Ended::NotStarted(error) => unanswered(Driver::Crashed {
            how: format!("could not be started: {error}"),
        }),
    }
}

fn unanswered(driver: Driver) -> DriverAnswer {
    DriverAnswer {
        driver,
        gpus: Vec::new(),
    }
}

/// Runs `program probe --json` for at most `limit`. Blocks.
///
/// # Errors
/// [`ProbeFailure`]: a probe that crashes or hangs is a result too.
pub fn run_apart(program: &Path, scope: &Scope, limit: Duration) -> Result<Findings, ProbeFailure> {
    let mut command = Command::new(program);
    command
        .args(["probe", "--json", "--probe-seconds"])
        .arg(scope.trial_limit.as_secs().clamp(1, 3600).to_string())
        .arg("--cuda-worker")
        .arg(&scope.cuda_worker);
    if !scope.tries_gpus {
        command.args(["--device", "cpu"]);
    }
    if let Some(only) = &scope.only {
        let mut names: Vec<String> = only.iter().map(|index| format!("cuda:{index}")).collect();
        if names.is_empty() {
            names.push("none".into());
        }
        command.arg("--only").arg(names.join(","));
    }
    match child::run(&mut command, limit) {
        Ended::NotStarted(error) => Err(ProbeFailure::NotStarted(format!(
            "{}: {error}",
            program.display()
        ))),
        Ended::TimedOut { .. } => Err(ProbeFailure::Hung {
            seconds: limit.as_secs(),
        }),
        Ended::Exited {
            status, last_words, ..
        } if !status.success() => Err(ProbeFailure::Crashed {
            how: child::in_words(status),
            last_words,
        }),
        Ended::Exited { stdout, .. } => serde_json::from_slice::<Printed>(&stdout)
            .map(|printed| printed.findings)
            .map_err(|error| ProbeFailure::Unreadable(error.to_string())),
    }
}

/// Every operation that SDXL uses, computed on the processor and compared.
fn cpu_tried() -> trial::Tried {
    // "cpu" is a device's name.
    ops::try_ops("cpu", Precision::F32).unwrap_or_default()
}

fn print_json<T: Serialize>(value: &T) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The report for a person at a terminal.
fn in_words(decision: &Decision) -> String {
    let mut text = format!("{}\n", decision.sentence);
    if !decision.cuda_worker.words.is_empty() {
        text.push_str(&format!("CUDA worker: {}\n", decision.cuda_worker.words));
    }
    for device in &decision.devices {
        text.push_str(&format!("\n{}: {}\n", device.id, device.name));
        for (name, value) in &device.facts {
            text.push_str(&format!("  {name}: {value}\n"));
        }
        if let Some(way) = &device.way {
            text.push_str(&format!("  computes in: {way}\n"));
        }
        text.push_str(&format!("  {}\n", device.reason));
        if let Some(remedy) = &device.remedy {
            text.push_str(&format!("  What to do: {remedy}\n"));
        }
        for measured in &device.measurements {
            for (name, value, unit) in &measured.numbers {
                text.push_str(&format!(
                    "  measured in {}: {name} {value:.1} {unit}\n",
                    measured.dtype
                ));
            }
        }
        for check in &device.checks {
            let verdict = match (&check.error, check.max_error) {
                (Some(error), _) => format!("FAILED: {error}"),
                (None, Some(max)) if check.ok => {
                    format!(
                        "ok, largest error {max:.1e} of {:.1e} allowed",
                        check.tolerance
                    )
                }
                (None, Some(max)) => {
                    format!(
                        "WRONG, largest error {max:.1e} of {:.1e} allowed",
                        check.tolerance
                    )
                }
                (None, None) => {
                    if check.ok {
                        "ok".into()
                    } else {
                        "FAILED".to_owned()
                    }
                }
            };
            text.push_str(&format!(
                "  check {} in {}: {verdict}\n",
                check.name, check.dtype
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_never_answers_is_a_result() {
        // Goes on whatever it is called with, as a hanging driver does.
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("hanging");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 60\n").unwrap();
        let rights = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, rights).unwrap();
        let answer = ask_driver_apart(&program, Duration::from_millis(500));
        assert_eq!(answer, unanswered(Driver::Hung { seconds: 0 }));
    }

    #[test]
    fn a_driver_that_answers_nonsense_is_a_result() {
        for (program, said) in [
            ("true", "no answer"),
            ("echo", "no answer"),
            ("false", "ended with exit code 1"),
            ("/nonexistent/atelier", "could not be started"),
        ] {
            let answer = ask_driver_apart(Path::new(program), DRIVER_LIMIT);
            let Driver::Crashed { how } = answer.driver else {
                panic!("{program}: {answer:?}")
            };
            assert!(how.contains(said), "{how}");
        }
    }
}
