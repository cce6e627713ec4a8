//! `atelier probe`.

use crate::config::ProbeArgs;
use std::process::ExitCode;

/// Finds out what this machine can compute on.
pub fn run(_args: ProbeArgs) -> ExitCode {
    eprintln!("atelier probe lands next");
    ExitCode::FAILURE
}
