//! The CUDA worker of the tests: the real probe and the real worker on a simulated GPU, which fails
//! as a plan says. The plan lies beside the program, as the path it was called by with `.plan` behind
//! it, and is read anew by each process:
//!
//! ```text
//! probe = out_of_memory@attention        faults while the probe tries it, in every number format
//! probe f16 = nan@conv2d 3x3             or in one
//! work = abort@decoding whole            faults while it works, on any GPU
//! work cuda:1 = device_lost@denoising:3  or on one
//! architectures = compute_80 (PTX)       what it says it carries
//! runtime = 13.0                         and the CUDA it says it was built with
//! version = 0.0.9                        and its version
//! slow = 7                               seconds before it tries anything
//! ```
//!
//! Effects and places are those of `atelier_engine::faults`. Nothing but tests is to run it.
//!
//! What a probe without faults finds is the same each time and takes seconds: it is found once after
//! each build of this program, and kept beside it.

use atelier_engine::faults::{Plan, simulate};
use atelier_server::config::{self, Command, ProbeArgs};
use atelier_server::devices::probe::ops::try_ops;
use atelier_server::devices::trial::{Build, INTRODUCE, Introduction};
use atelier_server::{devices, jobs};
use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// How many GPUs a process sees: more than any test lists.
const GPUS: u32 = 8;

fn main() -> ExitCode {
    let plan = match read_plan() {
        Ok(plan) => plan,
        Err(words) => return refuse(&words),
    };
    let line = |keys: &[String]| keys.iter().find_map(|key| plan.get(key)).cloned();
    let command = match config::from_command_line() {
        Ok(cli) => cli.command,
        Err(refusal) => return refuse(refusal.text.trim_end()),
    };
    match command {
        Command::Probe(args) if args.device.as_deref() == Some(INTRODUCE) => {
            let said = |key: &str, otherwise: &str| {
                line(&[key.to_owned()]).unwrap_or_else(|| otherwise.to_owned())
            };
            let introduction = Introduction {
                version: said("version", env!("CARGO_PKG_VERSION")),
                build: Some(Build {
                    architectures: vec![said("architectures", "compute_80 (PTX)")],
                    runtime: said("runtime", "13.0"),
                }),
            };
            println!(
                "{}",
                serde_json::to_string(&introduction).unwrap_or_default()
            );
            ExitCode::SUCCESS
        }
        Command::Probe(args) => {
            if let Some(seconds) = line(&["slow".to_owned()]).and_then(|text| text.parse().ok()) {
                std::thread::sleep(Duration::from_secs(seconds));
            }
            let dtype = args.dtype.clone().unwrap_or_default();
            let faults = line(&[format!("probe {dtype}"), "probe".into()]);
            let is_sound = args.ops && faults.is_none();
            match begin(faults) {
                Ok(()) if is_sound => sound(&args),
                Ok(()) => devices::probe::run(args),
                Err(words) => refuse(&words),
            }
        }
        Command::Worker(args) => {
            match begin(line(&[format!("work {}", args.device), "work".into()])) {
                Ok(()) => jobs::worker::run(args),
                Err(words) => refuse(&words),
            }
        }
        other => refuse(&format!("it only probes and works, and does no {other:?}")),
    }
}

/// What a probe without faults finds, found before or now.
fn sound(args: &ProbeArgs) -> ExitCode {
    let (Some(device), Some(dtype)) = (&args.device, &args.dtype) else {
        return refuse("--ops takes --device and --dtype");
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return refuse(&error.to_string()),
    };
    let kept = program.with_extension(format!("{dtype}.json"));
    let built = |path: &Path| {
        std::fs::metadata(path)
            .and_then(|file| file.modified())
            .ok()
    };
    if built(&kept) > built(&program)
        && let Ok(found) = std::fs::read_to_string(&kept)
    {
        println!("{found}");
        return ExitCode::SUCCESS;
    }
    let tried = match dtype.parse() {
        Ok(dtype) => try_ops(device, dtype),
        Err(words) => return refuse(&words),
    };
    match tried {
        Ok(tried) => {
            let found = serde_json::to_string(&tried).unwrap_or_default();
            // Two that find it at once write the same; each writes a file of its own first.
            let new = kept.with_extension(std::process::id().to_string());
            if std::fs::write(&new, &found).is_ok() {
                let _ = std::fs::rename(new, kept);
            }
            println!("{found}");
            ExitCode::SUCCESS
        }
        Err(words) => refuse(&words),
    }
}

fn read_plan() -> Result<HashMap<String, String>, String> {
    let program = std::env::args().next().unwrap_or_default();
    let text = match std::fs::read_to_string(format!("{program}.plan")) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("{program}.plan: {error}")),
    };
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| match line.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
            None => Err(format!("{program}.plan: what is “{line}”?")),
        })
        .collect()
}

fn begin(faults: Option<String>) -> Result<(), String> {
    let mut plan: Plan = faults.unwrap_or_default().parse()?;
    plan.devices = GPUS;
    simulate(plan);
    Ok(())
}

fn refuse(words: &str) -> ExitCode {
    eprintln!("error: {words}");
    ExitCode::from(2)
}
