//! The command line, run as a person runs it: the real binary, real model folders, real files.
//!
//! Every mistake of the caller's is one line on standard error and exit code 2, and leaves nothing.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/generate.rs"]
mod generate;
#[path = "cli/model_folder.rs"]
mod model_folder;
#[path = "cli/probe.rs"]
mod probe;
#[path = "cli/whole_requests.rs"]
mod whole_requests;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The binary under test, with nothing of this environment's settings.
fn atelier() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atelier"));
    command.env_remove("ATELIER_DEVICE").env_remove("RUST_LOG");
    command
}

/// A small model of the real architecture with random weights, recorded for the parity suite.
fn tiny_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/tests/fixtures/models/tiny-base")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Asserts that a run was refused in one line that names every one of `named`.
#[track_caller]
fn assert_refused(output: &Output, named: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "one line:\n{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    for name in named {
        assert!(stderr.contains(name), "{name} is not named in: {stderr}");
    }
}

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
