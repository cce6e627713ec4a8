//! The decision's table, row by row, on findings of machines that are not at hand.

mod trials; // GPUs that were tried

use super::*;
use crate::devices::driver::Gpu;
use crate::devices::probe::CudaSide;

/// As if nothing rested.
fn decide(findings: &Result<Findings, ProbeFailure>, asked: Asked) -> Decision {
    super::decide(findings, &Wish::device(asked), &BTreeMap::new())
}

fn check(ok: bool) -> CheckReport {
    CheckReport {
        name: "conv2d 3x3".into(),
        dtype: "f32".into(),
        ok,
        max_error: Some(if ok { 1e-6 } else { 0.5 }),
        tolerance: 1e-5,
        seconds: 0.001,
        error: None,
    }
}

fn gpu(index: u32) -> Gpu {
    Gpu {
        index: Some(index),
        name: Some("NVIDIA GeForce RTX 5090".into()),
        pci: Some(format!("0000:0{index}:00.0")),
        compute_capability: Some("12.0".into()),
        memory: Some(32 << 30),
        driver_version: Some("580.65.06".into()),
        ..Gpu::default()
    }
}

fn machine(driver: Driver, gpus: Vec<Gpu>) -> Findings {
    let kernel_module = match &driver {
        Driver::Absent | Driver::Unloadable { .. } => None,
        _ => Some("580.65.06".to_owned()),
    };
    Findings {
        version: "0.1.0".into(),
        cpu: Cpu {
            name: "Intel Xeon".into(),
            architecture: "x86_64".into(),
            cores: 2,
            simd: vec!["avx2".into()],
            memory_total: Some(24 << 30),
            memory_available: Some(20 << 30),
        },
        cpu_checks: vec![check(true)],
        cpu_measurement: None,
        cuda: CudaSide {
            worker: CudaWorker::Absent {
                path: "/opt/atelier-cuda".into(),
            },
            own_workers: BTreeMap::new(),
            trials: Vec::new(),
        },
        nvidia: Nvidia {
            driver,
            kernel_module,
            other_module: None,
            device_nodes: true,
            container: false,
            gpus,
        },
    }
}

fn works() -> Driver {
    Driver::Works {
        cuda: "13.0".into(),
    }
}

fn refuses(code: i32, name: &str) -> Driver {
    Driver::Refused {
        call: "cuInit".into(),
        code,
        name: name.into(),
        words: "some words".into(),
    }
}

fn unloadable() -> Driver {
    Driver::Unloadable {
        words: "libcuda.so.1: cannot open shared object file: No such file or directory".into(),
    }
}

fn decided(driver: Driver, gpus: Vec<Gpu>, asked: Asked) -> Decision {
    let decision = decide(&Ok(machine(driver, gpus)), asked);
    // Whatever was found: one device is in use, it is the first, and the badge says the same.
    assert!(decision.devices[0].in_use);
    assert_eq!(decision.devices.iter().filter(|d| d.in_use).count(), 1);
    assert_eq!(decision.badge.degraded, decision.degraded);
    assert_eq!(decision.reason.is_some(), decision.degraded);
    assert!(decision.sentence.ends_with('.') && decision.sentence.lines().count() == 1);
    assert!(
        decision
            .line
            .starts_with("Device: CPU (Intel Xeon, 2 cores, f32). ")
    );
    decision
}

#[test]
fn a_machine_without_a_gpu_is_not_degraded() {
    for asked in [Asked::Auto, Asked::Cpu] {
        let decision = decided(Driver::Absent, vec![], asked);
        assert!(!decision.degraded);
        assert_eq!(decision.badge.label, "CPU · 2 cores · f32");
        assert_eq!(decision.badge.reason, None);
    }
    let decision = decided(Driver::Absent, vec![], Asked::Auto);
    assert_eq!(
        decision.sentence,
        "Running on the CPU. No NVIDIA GPU was found."
    );
    assert_eq!(
        decision.line,
        "Device: CPU (Intel Xeon, 2 cores, f32). No NVIDIA GPU was found."
    );
    // CUDA's own image on a machine without a GPU: the library works and lists nothing.
    assert!(!decided(works(), vec![], Asked::Auto).degraded);
}

#[test]
fn a_working_gpu_is_told_as_found_and_not_used() {
    let decision = decided(works(), vec![gpu(0)], Asked::Auto);
    assert!(decision.degraded);
    assert_eq!(
        decision.sentence,
        "Running on the CPU, because NVIDIA GeForce RTX 5090 (cuda:0, compute capability 12.0) was \
         found but there is no CUDA worker (/opt/atelier-cuda does not exist)."
    );
    let report = &decision.devices[1];
    assert!(!report.usable && report.remedy.is_some());
    assert_eq!(
        report.reason,
        "Not used: there is no CUDA worker (/opt/atelier-cuda does not exist)."
    );
    let fact = |name: &str| {
        report
            .facts
            .iter()
            .find(|(n, _)| n == name)
            .unwrap()
            .1
            .as_str()
    };
    assert_eq!(fact("compute capability"), "12.0");
    assert_eq!(fact("driver"), "580.65.06");
    assert_eq!(fact("memory"), "32.0 GiB");
    assert_eq!(fact("newest CUDA of the driver"), "13.0");

    let two = decided(works(), vec![gpu(0), gpu(1)], Asked::Auto);
    assert!(
        two.sentence.contains("2 GPUs were found"),
        "{}",
        two.sentence
    );
    assert_eq!(two.devices.len(), 3);
}

#[test]
fn the_operators_wish_for_the_cpu_is_no_fallback() {
    let decision = decided(works(), vec![gpu(0)], Asked::Cpu);
    assert!(!decision.degraded);
    assert_eq!(
        decision.sentence,
        "Running on the CPU, as --device cpu asks for."
    );
    assert!(decision.devices[1].reason.contains("--device cpu"));
}

#[test]
fn a_gpu_asked_for_by_number_is_answered_by_number() {
    let missing = decided(Driver::Absent, vec![], Asked::Cuda(vec![0]));
    assert_eq!(
        missing.sentence,
        "Running on the CPU, because --device cuda:0 was asked for and no NVIDIA GPU was found."
    );
    let other = decided(works(), vec![gpu(0)], Asked::Cuda(vec![3]));
    assert!(
        other
            .sentence
            .contains("cuda:3 was asked for and only cuda:0 was found")
    );
    assert!(other.degraded);
    let there = decided(works(), vec![gpu(0), gpu(1)], Asked::Cuda(vec![1]));
    assert!(
        there
            .sentence
            .contains("(cuda:1, compute capability 12.0) was found but there is no CUDA worker"),
        "{}",
        there.sentence
    );
    assert!(
        there.devices[1]
            .reason
            .contains("--device cuda:1 was asked for")
    );
}

#[test]
fn a_broken_driver_is_told_in_its_own_words_with_what_helps() {
    for (driver, said, helps) in [
        (unloadable(), "libcuda.so.1", "Install NVIDIA's driver"),
        (
            refuses(803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
            "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803",
            "restart the machine",
        ),
        (
            refuses(802, "CUDA_ERROR_SYSTEM_NOT_READY"),
            "802",
            "fabricmanager",
        ),
        (
            refuses(35, "CUDA_ERROR_INSUFFICIENT_DRIVER"),
            "35",
            "too old",
        ),
        (
            Driver::Crashed {
                how: "was ended by signal 6 (abort)".into(),
            },
            "signal 6",
            "nvidia-smi",
        ),
        (Driver::Hung { seconds: 30 }, "30 seconds", "dmesg"),
    ] {
        let decision = decided(driver.clone(), vec![gpu(0)], Asked::Auto);
        assert!(decision.degraded, "{driver:?}");
        assert!(decision.sentence.contains(said), "{}", decision.sentence);
        let report = &decision.devices[1];
        assert!(report.reason.contains(said), "{}", report.reason);
        let remedy = report.remedy.as_deref().unwrap();
        assert!(remedy.contains(helps), "{remedy}");
    }
}

#[test]
fn a_driver_that_fails_without_listing_a_gpu_is_a_fallback_too() {
    let decision = decided(Driver::Hung { seconds: 30 }, vec![], Asked::Auto);
    assert_eq!(
        decision.sentence,
        "Running on the CPU, because NVIDIA's driver did not answer within 30 seconds."
    );
    let decision = decided(refuses(999, "CUDA_ERROR_UNKNOWN"), vec![], Asked::Auto);
    assert!(decision.degraded && decision.sentence.contains("CUDA_ERROR_UNKNOWN"));
    let card = &decision.devices[1];
    assert_eq!(card.name, "NVIDIA driver");
    assert!(card.remedy.is_some() && card.reason.contains("CUDA_ERROR_UNKNOWN"));
    let asked = decided(
        refuses(999, "CUDA_ERROR_UNKNOWN"),
        vec![],
        Asked::Cuda(vec![0]),
    );
    assert!(
        asked.sentence.contains("cuda:0 was asked for and"),
        "{}",
        asked.sentence
    );
    assert!(asked.sentence.contains("CUDA_ERROR_UNKNOWN"));
}

#[test]
fn a_container_that_was_not_given_the_gpu_is_told_how_to_get_it() {
    let mut findings = machine(unloadable(), vec![gpu(0)]);
    findings.nvidia.container = true;
    findings.nvidia.device_nodes = false;
    let decision = decide(&Ok(findings.clone()), Asked::Auto);
    assert!(
        decision.devices[1]
            .remedy
            .as_deref()
            .unwrap()
            .contains("--gpus all")
    );

    findings.nvidia.container = false;
    findings.nvidia.other_module = Some("vfio-pci".into());
    let decision = decide(&Ok(findings.clone()), Asked::Auto);
    assert!(decision.devices[1].reason.contains("virtual machine"));
    findings.nvidia.other_module = Some("nouveau".into());
    let decision = decide(&Ok(findings), Asked::Auto);
    assert!(
        decision.sentence.contains("nouveau"),
        "{}",
        decision.sentence
    );
}

#[test]
fn a_cpu_that_computes_wrongly_is_used_with_a_warning() {
    let mut findings = machine(Driver::Absent, vec![]);
    findings.cpu_checks.push(check(false));
    let decision = decide(&Ok(findings), Asked::Auto);
    assert!(decision.degraded && !decision.devices[0].usable && decision.devices[0].in_use);
    assert!(
        decision
            .sentence
            .contains("wrong results in conv2d 3x3 in f32"),
        "{}",
        decision.sentence
    );
    assert!(decision.devices[0].remedy.is_some());
}

#[test]
fn a_probe_that_ends_badly_is_a_decision_too() {
    for (failure, said) in [
        (
            ProbeFailure::Hung { seconds: 90 },
            "did not end within 90 seconds",
        ),
        (
            ProbeFailure::Crashed {
                how: "was ended by signal 4 (illegal instruction)".into(),
                last_words: Some("last words".into()),
            },
            "signal 4 (illegal instruction): last words",
        ),
        (
            ProbeFailure::NotStarted("x: no such file".into()),
            "could not be started",
        ),
        (
            ProbeFailure::Unreadable("expected value".into()),
            "no report",
        ),
    ] {
        let decision = decide(&Err(failure.clone()), Asked::Auto);
        assert!(decision.degraded);
        assert!(decision.sentence.contains(said), "{}", decision.sentence);
        assert!(decision.sentence.contains("atelier probe"));
        assert_eq!(decision.devices.len(), 1);
        assert!(decision.devices[0].in_use);
        assert!(!decide(&Err(failure), Asked::Cpu).degraded);
    }
}
