//! Every way in which a GPU can fail to be used, on a machine that has none: each is named with the
//! operation, the error and what to do, and the CPU works.

use super::device_machine::{Machine, device};
use serde_json::Value;

/// A failure, and what the report must say of it.
struct Case {
    /// What the simulated GPU does.
    plan: &'static str,
    /// What the driver does.
    driver: &'static str,
    /// The error's name, and its number.
    error: (&'static str, Option<i64>),
    /// Parts of the decision.
    said: &'static [&'static str],
    /// A part of the remedy.
    helps: &'static str,
}

const fn case(
    plan: &'static str,
    error: (&'static str, Option<i64>),
    said: &'static [&'static str],
    helps: &'static str,
) -> Case {
    Case {
        plan,
        driver: "",
        error,
        said,
        helps,
    }
}

const CASES: &[Case] = &[
    case(
        "probe = no_kernel_image@conv2d 3x3",
        ("CUDA_ERROR_NO_BINARY_FOR_GPU", Some(209)),
        &[
            "conv2d 3x3 in f32 failed: CUDA_ERROR_NO_BINARY_FOR_GPU (209, “no kernel image",
            "compute capability 12.0",
            "compute_80 (PTX)",
        ],
        "make cuda",
    ),
    case(
        "probe = invalid_ptx@linear",
        ("CUDA_ERROR_INVALID_PTX", Some(218)),
        &["linear 640 to 640 in f32 failed: CUDA_ERROR_INVALID_PTX (218"],
        "make cuda",
    ),
    Case {
        driver: "cuda=11040",
        ..case(
            "probe = invalid_ptx@linear",
            ("CUDA_ERROR_INVALID_PTX", Some(218)),
            &["the driver supports CUDA up to 11.4 and the CUDA worker was built with 13.0"],
            "Update NVIDIA's driver to one for CUDA 13.0",
        )
    },
    case(
        "probe = out_of_memory@attention",
        ("CUDA_ERROR_OUT_OF_MEMORY", Some(2)),
        &["in f32 failed: CUDA_ERROR_OUT_OF_MEMORY (2"],
        "nvidia-smi",
    ),
    case(
        "probe = wrong_numbers@group_norm:1+",
        ("wrong numbers", None),
        &["wrong numbers in group_norm in f32"],
        "Do not trust this GPU",
    ),
    case(
        "probe = nan@activation:1+",
        ("wrong numbers", None),
        &["wrong numbers in silu in f32"],
        "Do not trust this GPU",
    ),
    case(
        "probe = device_lost@layer_norm",
        ("CUDA_ERROR_LAUNCH_FAILED", Some(719)),
        &["CUDA_ERROR_LAUNCH_FAILED (719"],
        "Xid",
    ),
    case(
        "probe = abort@conv2d 1x1",
        ("crash", None),
        &["(conv2d 1x1 in f32) was ended by signal 6 (abort)"],
        "make cuda",
    ),
    case(
        "probe = exit@upsample",
        ("crash", None),
        &["(upsample in f32) ended with exit code 1"],
        "make cuda",
    ),
    case(
        "probe = hang@geglu",
        ("hang", None),
        &["(geglu in f32) did not end within 2 seconds and was stopped"],
        "dmesg",
    ),
    case(
        "version = 0.0.9",
        ("", None),
        &["it is version 0.0.9, and the server is"],
        "make cuda",
    ),
    Case {
        driver: "refuse=35",
        ..case(
            "",
            ("CUDA_ERROR_INSUFFICIENT_DRIVER", Some(35)),
            &["cuInit answers CUDA_ERROR_INSUFFICIENT_DRIVER (35"],
            "too old",
        )
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_is_named_with_what_to_do_and_the_cpu_works() {
    let machine = Machine::new("", "").await;
    for case in CASES {
        machine.driver(case.driver);
        machine.plan(case.plan);
        let limit = if case.plan.contains("hang") {
            "2"
        } else {
            "60"
        };
        let report = machine.probe(&["--probe-seconds", limit]);
        let decision = report["decision"].as_str().unwrap();
        assert_eq!(report["degraded"], true, "{}: {decision}", case.plan);
        for said in case.said {
            assert!(
                decision.contains(said),
                "{}: {said:?} in {decision}",
                case.plan
            );
        }
        assert_eq!(device(&report, "cpu")["in_use"], true);
        // A driver that refuses lists no GPU; its own card says the same.
        let id = if case.driver.starts_with("refuse") {
            "nvidia"
        } else {
            "cuda:0"
        };
        let gpu = device(&report, id);
        assert_eq!(gpu["state"], "not_usable", "{}", case.plan);
        let remedy = gpu["remedy"].as_str().unwrap();
        assert!(remedy.contains(case.helps), "{}: {remedy}", case.plan);
        let (name, code) = case.error;
        if name.is_empty() {
            assert_eq!(gpu["error"], Value::Null);
        } else {
            assert_eq!(gpu["error"]["name"], name, "{}: {gpu:#}", case.plan);
            assert_eq!(gpu["error"]["code"].as_i64(), code, "{}", case.plan);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_passes_is_used_with_every_check_and_measurement() {
    let machine = Machine::new("", "architectures = compute_80 (PTX)").await;
    let report = machine.probe(&[]);
    assert_eq!(
        report["decision"],
        "Running on NVIDIA GeForce RTX 5090 (cuda:0) in bf16."
    );
    assert_eq!(report["degraded"], false);
    let gpu = device(&report, "cuda:0");
    assert_eq!(
        (&gpu["state"], &gpu["in_use"]),
        (&"in_use".into(), &true.into())
    );
    assert_eq!(gpu["architecture"], "12.0");
    assert_eq!(gpu["built_for"][0], "compute_80 (PTX)");
    let checks = gpu["checks"].as_array().unwrap();
    for dtype in ["f32", "f16", "bf16"] {
        for kind in [
            "conv2d 3x3",
            "group_norm",
            "linear",
            "attention",
            "softmax",
            "index select",
        ] {
            let found = checks.iter().any(|check| {
                check["dtype"] == dtype && check["name"].as_str().unwrap().contains(kind)
            });
            assert!(found, "{kind} is tried in {dtype}");
        }
    }
    assert!(checks.iter().all(|check| check["ok"] == true));
    let measured = gpu["measurements"].as_array().unwrap();
    assert_eq!(measured.len(), 3);
    for number in measured[0]["numbers"].as_array().unwrap() {
        assert!(number[1].as_f64().unwrap() > 0.0, "{number}");
    }
    assert!(
        !device(&report, "cpu")["measurements"]
            .as_array()
            .unwrap()
            .is_empty()
    );

    // For people, the same.
    let f32_only = machine.probe(&["--precision", "f32"]);
    assert!(f32_only["decision"].as_str().unwrap().ends_with("in f32."));
    let cpu = machine.probe(&["--device", "cpu"]);
    assert_eq!(cpu["degraded"], false);
    assert_eq!(device(&cpu, "cuda:0")["in_use"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_format_that_fails_leaves_the_others_and_a_crash_ends_the_trial() {
    let machine = Machine::new("", "probe bf16 = nan@linear:1+").await;
    let report = machine.probe(&[]);
    assert!(
        report["decision"].as_str().unwrap().ends_with("in f16."),
        "{}",
        report["decision"]
    );
    let reason = device(&report, "cuda:0")["reason"].as_str().unwrap();
    assert!(reason.contains("not used in bf16"), "{reason}");

    // An older GPU takes f16 although bf16 passes; one with little memory gets its parts by turns.
    machine.plan("");
    machine.driver("capability=75 gib=8");
    let report = machine.probe(&[]);
    assert!(report["decision"].as_str().unwrap().ends_with("in f16."));
    let way = device(&report, "cuda:0")["way"].as_str().unwrap();
    assert!(
        way.contains("by turns") && way.contains("in tiles"),
        "{way}"
    );
    machine.driver("gib=4");
    let report = machine.probe(&[]);
    let decision = report["decision"].as_str().unwrap();
    assert!(
        decision.contains("4.0 GiB of its memory are free and SDXL needs 7 GiB"),
        "{decision}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_a_stated_reason() {
    let machine = Machine::new("", "").await;
    machine.without_cuda_worker();
    let report = machine.probe(&[]);
    let decision = report["decision"].as_str().unwrap();
    assert!(decision.contains("there is no CUDA worker ("), "{decision}");
    assert!(
        device(&report, "cuda:0")["remedy"]
            .as_str()
            .unwrap()
            .contains("make cuda")
    );
    machine.without_driver();
    let report = machine.probe(&[]);
    assert_eq!(
        report["decision"],
        "Running on the CPU. No NVIDIA GPU was found."
    );
    assert_eq!(report["degraded"], false);
}
