//! `atelier probe`: finds out what this machine can compute on.
//!
//! The server runs it in a child process with a time limit ([`run_apart`]); it runs the part that
//! loads NVIDIA's driver in a child of its own, so that a driver that aborts or hangs is a result.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use atelier_app::admin::CheckReport;
use atelier_engine::{ComputeDtype, DeviceId, check_device_ops};
use serde::{Deserialize, Serialize};

use super::child::{self, Ended};
use super::cpu::Cpu;
use super::driver::{self, Driver, DriverAnswer};
use super::nvidia::{self, Nvidia};
use super::policy::{self, Asked};
use crate::config::ProbeArgs;

/// What the probe found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// The version of the program that looked.
    pub version: String,
    /// The processor.
    pub cpu: Cpu,
    /// Every check that was run on the processor.
    pub cpu_checks: Vec<CheckReport>,
    /// NVIDIA's side of the machine.
    pub nvidia: Nvidia,
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
const DRIVER_LIMIT: Duration = Duration::from_secs(30);

/// Runs the command to its end and answers the process' exit code.
pub fn run(args: ProbeArgs) -> ExitCode {
    let ProbeArgs { json, device } = args;
    if device.as_deref() == Some(DRIVER_ONLY) {
        return print_json(&driver::ask());
    }
    let asked = match device.as_deref().unwrap_or("auto").parse::<Asked>() {
        Ok(asked) => asked,
        Err(message) => {
            eprintln!("error: --device {message}");
            return ExitCode::from(2);
        }
    };
    let findings = look();
    let decision = policy::decide(&Ok(findings.clone()), asked);
    if json {
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

/// Looks at everything, in this process except for the driver.
pub fn look() -> Findings {
    let root = Path::new("/");
    let answer = std::env::current_exe().map_or_else(
        |error| {
            unanswered(Driver::Unloadable {
                words: error.to_string(),
            })
        },
        |program| ask_driver_apart(&program, DRIVER_LIMIT),
    );
    Findings {
        version: env!("CARGO_PKG_VERSION").into(),
        cpu: Cpu::look(root),
        cpu_checks: cpu_checks(),
        nvidia: Nvidia::look(root, nvidia::ask_smi().as_deref(), answer),
    }
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
        Ended::TimedOut => unanswered(Driver::Hung {
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
pub fn run_apart(program: &Path, limit: Duration) -> Result<Findings, ProbeFailure> {
    let mut command = Command::new(program);
    command.args(["probe", "--json"]);
    match child::run(&mut command, limit) {
        Ended::NotStarted(error) => Err(ProbeFailure::NotStarted(format!(
            "{}: {error}",
            program.display()
        ))),
        Ended::TimedOut => Err(ProbeFailure::Hung {
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
fn cpu_checks() -> Vec<CheckReport> {
    check_device_ops(DeviceId::Cpu, ComputeDtype::F32)
        .into_iter()
        .map(|check| CheckReport {
            name: check.name.to_owned(),
            dtype: "f32".into(),
            ok: check.ok,
            // An operation that did not run has no error to show, and JSON has no infinity.
            max_error: (check.error.is_none() && check.max_error.is_finite())
                .then_some(check.max_error),
            tolerance: check.tolerance,
            seconds: check.seconds,
            error: check.error,
        })
        .collect()
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
fn in_words(decision: &policy::Decision) -> String {
    let mut text = format!("{}\n", decision.sentence);
    for device in &decision.devices {
        text.push_str(&format!("\n{}: {}\n", device.id, device.name));
        for (name, value) in &device.facts {
            text.push_str(&format!("  {name}: {value}\n"));
        }
        text.push_str(&format!("  {}\n", device.reason));
        if let Some(remedy) = &device.remedy {
            text.push_str(&format!("  What to do: {remedy}\n"));
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
