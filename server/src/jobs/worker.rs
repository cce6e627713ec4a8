//! `atelier worker`.

use crate::config::WorkerArgs;
use std::process::ExitCode;

/// Runs jobs on a device until standard input closes.
pub fn run(_args: WorkerArgs) -> ExitCode {
    eprintln!("atelier worker lands next");
    ExitCode::FAILURE
}
