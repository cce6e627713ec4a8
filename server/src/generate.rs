//! `atelier generate`: the engine with no server or database.

use crate::config::GenerateArgs;
use std::process::ExitCode;

/// Makes one image.
pub fn run(_args: GenerateArgs) -> ExitCode {
    eprintln!("atelier generate lands next");
    ExitCode::FAILURE
}
