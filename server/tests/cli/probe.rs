//! `atelier probe`, on this machine and on machines with a GPU whose driver is made up here: a
//! `libcuda.so.1` of our own that answers, refuses, or aborts.

use super::{assert_refused, atelier, text};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

fn report(command: &mut Command) -> serde_json::Value {
    let output = command.args(["probe", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn device<'a>(report: &'a serde_json::Value, id: &str) -> &'a serde_json::Value {
    let devices = report["devices"].as_array().unwrap();
    let found = devices.iter().find(|device| device["id"] == id);
    found.unwrap_or_else(|| panic!("no {id} in {report:#}"))
}

#[test]
fn the_cpu_is_found_checked_and_used() {
    let report = report(&mut atelier());
    let cpu = device(&report, "cpu");
    assert_eq!(cpu["usable"], true);
    assert_eq!(cpu["in_use"], true);
    assert!(!cpu["name"].as_str().unwrap().is_empty());
    let checks = cpu["checks"].as_array().unwrap();
    for kind in [
        "conv2d",
        "group_norm",
        "layer_norm",
        "attention",
        "linear",
        "upsample",
    ] {
        let of_kind = |check: &&serde_json::Value| check["name"].as_str().unwrap().contains(kind);
        assert!(
            checks.iter().any(|check| of_kind(&check)),
            "{kind} is checked"
        );
    }
    for check in checks {
        assert_eq!(check["ok"], true, "{check}");
        assert!(check["max_error"].as_f64().unwrap() <= check["tolerance"].as_f64().unwrap());
    }
}

#[test]
fn the_report_for_people_says_the_same() {
    let decision = report(&mut atelier())["decision"]
        .as_str()
        .unwrap()
        .to_owned();
    let output = atelier().arg("probe").output().unwrap();
    assert!(output.status.success());
    let stdout = text(&output.stdout);
    assert_eq!(stdout.lines().next(), Some(decision.as_str()));
    assert!(stdout.contains("cores: ") && stdout.contains("check conv2d 3x3 in f32: ok"));
}

#[test]
fn a_device_that_does_not_exist_is_refused_by_name() {
    let output = atelier()
        .args(["probe", "--device", "abacus"])
        .output()
        .unwrap();
    assert_refused(&output, &["--device", "abacus", "cuda:N"]);
}

#[test]
fn a_gpu_that_was_asked_for_and_is_not_there_is_a_fallback() {
    let mut command = atelier();
    command.args(["probe", "--json", "--device", "cuda:97"]);
    let report: serde_json::Value =
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!(report["degraded"], true);
    assert!(report["decision"].as_str().unwrap().contains("cuda:97"));
}

/// The made-up driver: what it does is chosen by `STUB_CUDA`.
const STUB: &str = include_str!("../stub/cuda.rs");

/// A folder that holds the made-up driver, compiled once by the compiler that built this test.
static DRIVER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stub-cuda");
    std::fs::create_dir_all(&folder).unwrap();
    let source = folder.join("stub.rs");
    std::fs::write(&source, STUB).unwrap();
    let output = Command::new("rustc")
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "cdylib",
            "--crate-name",
            "stub",
            "-o",
        ])
        .arg(folder.join("libcuda.so.1"))
        .arg(&source)
        .output()
        .expect("rustc runs these tests, so it is there");
    assert!(output.status.success(), "{}", text(&output.stderr));
    folder
});

fn with_driver(behaviour: &str) -> serde_json::Value {
    let mut command = atelier();
    command
        .env("LD_LIBRARY_PATH", &*DRIVER)
        .env("STUB_CUDA", behaviour);
    report(&mut command)
}

#[test]
fn a_working_gpu_is_found_with_its_facts_and_said_not_to_be_used() {
    let report = with_driver("work");
    assert_eq!(report["degraded"], true);
    let decision = report["decision"].as_str().unwrap();
    assert!(
        decision.contains("RTX 5090") && decision.contains("no CUDA worker"),
        "{decision}"
    );
    let gpu = device(&report, "cuda:0");
    assert_eq!(gpu["name"], "NVIDIA GeForce RTX 5090");
    assert_eq!(gpu["usable"], false);
    assert!(gpu["remedy"].is_string());
    let facts: Vec<(String, String)> = serde_json::from_value(gpu["facts"].clone()).unwrap();
    for fact in [
        ("compute capability", "12.0"),
        ("memory", "32.0 GiB"),
        ("newest CUDA of the driver", "13.0"),
        ("PCI address", "00fe:01:00.0"),
        ("UUID", "GPU-abababab-abab-abab-abab-abababababab"),
    ] {
        let fact = (fact.0.to_owned(), fact.1.to_owned());
        assert!(facts.contains(&fact), "{fact:?} in {facts:?}");
    }
    assert_eq!(device(&report, "cpu")["in_use"], true);
}

#[test]
fn a_driver_that_refuses_is_quoted() {
    let report = with_driver("mismatch");
    let decision = report["decision"].as_str().unwrap();
    assert_eq!(report["degraded"], true);
    for words in [
        "cuInit",
        "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        "803",
        "driver combination",
    ] {
        assert!(decision.contains(words), "{decision}");
    }
}

#[test]
fn a_driver_that_takes_its_process_along_is_a_result() {
    let report = with_driver("abort");
    let decision = report["decision"].as_str().unwrap();
    assert!(decision.contains("signal 6 (abort)"), "{decision}");
    assert!(decision.contains("driver: assertion failed"), "{decision}");
    assert!(
        !device(&report, "cpu")["checks"]
            .as_array()
            .unwrap()
            .is_empty()
    );

    let report = with_driver("exit");
    let decision = report["decision"].as_str().unwrap();
    assert!(decision.contains("ended with exit code 1"), "{decision}");
    assert_eq!(report["degraded"], true);
}
