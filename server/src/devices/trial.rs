//! Trying a GPU: every operation of SDXL in one number format, in a process of its own with a time
//! limit. The program that computes on GPUs may be missing, may not start, may crash, hang, or be
//! ended by a library; each is a result.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use atelier_app::admin::{CheckReport, MeasurementReport};
use serde::{Deserialize, Serialize};

use super::child::{self, Ended};
use super::way::Precision;

/// The program's name beside the server's.
pub const CUDA_WORKER: &str = "atelier-cuda";

/// What a line on standard error begins with that says which operation is about to be tried.
pub const TRYING: &str = "trying ";

/// How long the program may take to say what it is.
const INTRODUCTION_LIMIT: Duration = Duration::from_secs(30);

/// What a failure was, as far as it decides what can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Too little memory.
    OutOfMemory,
    /// No code for this GPU or driver.
    NoKernel,
    /// Undefined or wrong results.
    WrongNumbers,
    /// The device is gone.
    Lost,
    /// Anything else that the driver or a library says.
    Other,
}

/// A failure in the driver's or a library's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What it was.
    pub kind: Kind,
    /// What was being done.
    pub during: String,
    /// The words.
    pub words: String,
}

/// What the CUDA worker says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Its version.
    pub version: String,
    /// What it was built for; absent for a program that computes on the CPU only.
    pub build: Option<Build>,
}

/// What a CUDA build carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// E.g. `compute_80 (PTX)`.
    pub architectures: Vec<String>,
    /// The CUDA version it was built with, e.g. `12.8`.
    pub runtime: String,
}

/// The program that computes on GPUs, looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum CudaWorker {
    /// It was not looked for: no GPU that the driver lists, or none is wanted.
    NotAsked {
        /// Where it would be.
        path: PathBuf,
    },
    /// There is no such file.
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It does not answer.
    Failed {
        /// Where it is.
        path: PathBuf,
        /// How it ended, in words.
        how: String,
    },
    /// It answers and cannot be used.
    Unsuitable {
        /// Where it is.
        path: PathBuf,
        /// Why, in words.
        why: String,
    },
    /// It answers.
    Ready {
        /// Where it is.
        path: PathBuf,
        /// What it carries.
        build: Build,
    },
}

impl CudaWorker {
    /// Where it is or was looked for.
    pub fn path(&self) -> &Path {
        match self {
            Self::NotAsked { path }
            | Self::Absent { path }
            | Self::Failed { path, .. }
            | Self::Unsuitable { path, .. }
            | Self::Ready { path, .. } => path,
        }
    }

    /// Asks the program what it is. Blocks.
    pub fn look(path: &Path) -> Self {
        let path = path.to_path_buf();
        if !path.is_file() {
            return Self::Absent { path };
        }
        let mut command = Command::new(&path);
        command.args(["probe", "--json", "--device", INTRODUCE]);
        let how = match child::run(&mut command, INTRODUCTION_LIMIT) {
            Ended::Exited { status, stdout, .. } if status.success() => {
                match serde_json::from_slice::<Introduction>(&stdout) {
                    Ok(said) => return Self::introduced(path, said),
                    Err(error) => format!("printed something that is no answer ({error})"),
                }
            }
            Ended::Exited {
                status, last_words, ..
            } => with_words(child::in_words(status), last_words),
            Ended::TimedOut { stderr } => with_words(
                format!(
                    "did not answer within {} seconds",
                    INTRODUCTION_LIMIT.as_secs()
                ),
                child::last_line(&stderr),
            ),
            Ended::NotStarted(error) => format!("could not be started: {error}"),
        };
        Self::Failed { path, how }
    }

    fn introduced(path: PathBuf, said: Introduction) -> Self {
        let ours = env!("CARGO_PKG_VERSION");
        if said.version != ours {
            let why = format!("it is version {}, and the server is {ours}", said.version);
            return Self::Unsuitable { path, why };
        }
        match said.build {
            Some(build) => Self::Ready { path, build },
            None => Self::Unsuitable {
                path,
                why: "it was built without CUDA".into(),
            },
        }
    }
}

/// Where the program for one architecture lies, beside the one for all: `atelier-cuda-sm_120`.
pub fn own_program(path: &Path, capability: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!("-sm_{}", capability.replace('.', "")));
    path.with_file_name(name)
}

/// The word in place of a device by which a program is asked what it carries.
pub const INTRODUCE: &str = "build";

/// One number format on one GPU, tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The GPU's number.
    pub device: u32,
    /// The format.
    pub dtype: Precision,
    /// How it ended.
    pub end: TrialEnd,
}

/// What the trying process prints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// Every operation.
    pub checks: Vec<CheckReport>,
    /// How fast it is, where every operation was right.
    pub measurement: Option<MeasurementReport>,
    /// What failed that is no single operation: opening the device, measuring it.
    pub fault: Option<Fault>,
    /// The faults of single operations, in the checks' order, by the operation's name.
    pub op_faults: Vec<(String, Fault)>,
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ended")]
pub enum TrialEnd {
    /// It ran to its end, whatever came of it.
    Ran(Tried),
    /// Its process died.
    Crashed {
        /// How, with its last words.
        how: String,
        /// The operation it was at.
        during: Option<String>,
    },
    /// It did not come to an end.
    Hung {
        /// Its time limit.
        seconds: u64,
        /// The operation it was at.
        during: Option<String>,
    },
    /// What it printed is no report.
    Unreadable {
        /// The reader's words.
        words: String,
    },
    /// It was not tried, because another format took the process along.
    Skipped {
        /// That format.
        after: Precision,
    },
}

impl Trial {
    /// Whether everything ran and every number was right.
    pub fn passed(&self) -> bool {
        match &self.end {
            TrialEnd::Ran(tried) => {
                tried.fault.is_none()
                    && !tried.checks.is_empty()
                    && tried.checks.iter().all(|check| check.ok)
            }
            _ => false,
        }
    }

    /// What was found of each operation.
    pub fn checks(&self) -> &[CheckReport] {
        match &self.end {
            TrialEnd::Ran(tried) => &tried.checks,
            _ => &[],
        }
    }

    /// Whether the next format is worth trying: one that crashed or hung would again.
    fn goes_on(&self) -> bool {
        matches!(self.end, TrialEnd::Ran(_) | TrialEnd::Unreadable { .. })
    }
}

/// Tries every number format on one GPU, one process after the other. Blocks.
pub fn try_gpu(program: &Path, device: u32, limit: Duration) -> Vec<Trial> {
    let mut trials: Vec<Trial> = Vec::new();
    for dtype in Precision::ALL {
        let stopped = trials.iter().find(|trial| !trial.goes_on());
        let end = match stopped {
            Some(stopped) => TrialEnd::Skipped {
                after: stopped.dtype,
            },
            None => try_one(program, device, dtype, limit),
        };
        trials.push(Trial { device, dtype, end });
    }
    trials
}

fn try_one(program: &Path, device: u32, dtype: Precision, limit: Duration) -> TrialEnd {
    let mut command = Command::new(program);
    command
        .args(["probe", "--json", "--ops", "--device"])
        .arg(format!("cuda:{device}"))
        .args(["--dtype", dtype.name(), "--probe-seconds"])
        .arg(limit.as_secs().max(1).to_string());
    match child::run(&mut command, limit) {
        Ended::Exited { status, stdout, .. } if status.success() => {
            match serde_json::from_slice(&stdout) {
                Ok(tried) => TrialEnd::Ran(tried),
                Err(error) => TrialEnd::Unreadable {
                    words: error.to_string(),
                },
            }
        }
        Ended::Exited {
            status,
            last_words,
            stderr,
            ..
        } => TrialEnd::Crashed {
            how: with_words(
                child::in_words(status),
                last_words.filter(|words| !words.starts_with(TRYING)),
            ),
            during: at_work(&stderr),
        },
        Ended::TimedOut { stderr } => TrialEnd::Hung {
            seconds: limit.as_secs(),
            during: at_work(&stderr),
        },
        Ended::NotStarted(error) => TrialEnd::Crashed {
            how: format!("could not be started: {error}"),
            during: None,
        },
    }
}

/// The operation that was being tried when the process wrote its last.
fn at_work(stderr: &str) -> Option<String> {
    let lines = stderr.lines().rev();
    lines
        .filter_map(|line| line.strip_prefix(TRYING))
        .map(str::to_owned)
        .next()
}

fn with_words(how: String, words: Option<String>) -> String {
    match words {
        Some(words) => format!("{how}: {words}"),
        None => how,
    }
}
