//! GPUs that were tried: used, left for a stated reason, or resting.

use super::*;
use crate::devices::decision;
use crate::devices::trial::{self, Build, Fault, Kind, Trial, TrialEnd, Tried};

/// A trial in which every operation was right.
fn passed(device: u32, dtype: Precision) -> Trial {
    Trial {
        device,
        dtype,
        end: TrialEnd::Ran(Tried {
            checks: vec![CheckReport {
                dtype: dtype.name().into(),
                ..check(true)
            }],
            ..Tried::default()
        }),
    }
}

/// A trial in which an operation failed with these words, or gave wrong numbers.
fn failed(device: u32, dtype: Precision, fault: Option<(Kind, &str)>) -> Trial {
    let bad = CheckReport {
        dtype: dtype.name().into(),
        error: fault.map(|(_, words)| words.to_owned()),
        ..check(false)
    };
    let op_faults = fault.map(|(kind, words)| {
        let fault = Fault {
            kind,
            during: bad.name.clone(),
            words: words.into(),
        };
        (bad.name.clone(), fault)
    });
    Trial {
        device,
        dtype,
        end: TrialEnd::Ran(Tried {
            checks: vec![bad],
            op_faults: op_faults.into_iter().collect(),
            ..Tried::default()
        }),
    }
}

fn with_worker(gpus: Vec<Gpu>, trials: Vec<Trial>) -> Findings {
    let mut findings = machine(works(), gpus);
    findings.cuda = CudaSide {
        worker: CudaWorker::Ready {
            path: "/opt/atelier-cuda".into(),
            build: Build {
                architectures: vec!["compute_80 (PTX)".into()],
                runtime: "12.8".into(),
            },
        },
        own_workers: BTreeMap::new(),
        trials,
    };
    findings
}

fn all_passed(device: u32) -> Vec<Trial> {
    Precision::ALL
        .iter()
        .map(|&dtype| passed(device, dtype))
        .collect()
}

/// Testing the processor alone takes nothing from GPUs that were found well before.
#[test]
fn what_was_not_looked_at_stays_as_it_was() {
    let before = with_worker(
        vec![gpu(0), gpu(1)],
        [all_passed(0), all_passed(1)].concat(),
    );
    for only in [vec![], vec![1]] {
        let mut now = before.clone();
        now.cuda.trials.retain(|trial| only.contains(&trial.device));
        if only.is_empty() {
            now.cuda.worker = CudaWorker::NotAsked {
                path: "/opt/atelier-cuda".into(),
            };
        }
        now.cuda.complete(&before.cuda, &only);
        let devices = |findings: &Findings| {
            let decision = decide(&Ok(findings.clone()), Asked::Auto);
            (decision.sentence, decision.lanes.len())
        };
        assert_eq!(devices(&now), devices(&before), "{only:?}");
    }
}

#[test]
fn a_gpu_that_passed_everything_is_used_and_the_cpu_stands_by() {
    let decision = decide(&Ok(with_worker(vec![gpu(0)], all_passed(0))), Asked::Auto);
    assert!(!decision.degraded && decision.reason.is_none() && decision.remedy.is_none());
    assert_eq!(
        decision.sentence,
        "Running on NVIDIA GeForce RTX 5090 (cuda:0) in bf16."
    );
    assert_eq!(
        decision.line,
        "Device: cuda:0 (NVIDIA GeForce RTX 5090, bf16). All 3 checks passed."
    );
    assert_eq!(decision.badge.label, "GPU · RTX 5090 · bf16");
    let [main, standby] = decision.lanes.as_slice() else {
        panic!("{:?}", decision.lanes)
    };
    assert_eq!((main.device.as_str(), main.standby), ("cuda:0", false));
    assert_eq!(main.program, Some("/opt/atelier-cuda".into()));
    assert_eq!(main.formats, Precision::ALL);
    assert_eq!((standby.device.as_str(), standby.standby), ("cpu", true));
    let card = &decision.devices[0];
    assert_eq!(
        (card.id.as_str(), card.state),
        ("cuda:0", DeviceState::InUse)
    );
    assert_eq!(card.checks.len(), 3);
    assert_eq!(card.built_for, ["compute_80 (PTX)"]);
    assert_eq!(decision.devices[1].state, DeviceState::Usable);
    assert!(decision.cuda_worker.found && decision.cuda_worker.words.contains("12.8"));
}

#[test]
fn a_gpu_that_failed_says_operation_error_architecture_and_what_to_do() {
    let cases = [
        (
            (
                Kind::NoKernel,
                "DriverError(CUDA_ERROR_NO_BINARY_FOR_GPU, \"no kernel image is available for execution on the device\")",
            ),
            "conv2d 3x3 in f32 failed: CUDA_ERROR_NO_BINARY_FOR_GPU (209, “no kernel image is available for execution on the device”); it has compute capability 12.0 and the CUDA worker carries compute_80 (PTX)",
            Some(209),
            "make cuda",
        ),
        (
            (
                Kind::NoKernel,
                "DriverError(CUDA_ERROR_INVALID_PTX, \"a PTX JIT compilation failed\")",
            ),
            "CUDA_ERROR_INVALID_PTX (218",
            Some(218),
            "compute capability 12.0",
        ),
        (
            (
                Kind::NoKernel,
                "DriverError(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, \"the provided PTX was compiled with an unsupported toolchain.\")",
            ),
            "the driver supports CUDA up to 13.0 and the CUDA worker was built with 12.8",
            Some(222),
            "Update NVIDIA's driver",
        ),
        (
            (
                Kind::OutOfMemory,
                "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            ),
            "CUDA_ERROR_OUT_OF_MEMORY (2,",
            Some(2),
            "nvidia-smi",
        ),
        (
            (
                Kind::Lost,
                "DriverError(CUDA_ERROR_LAUNCH_FAILED, \"unspecified launch failure\")",
            ),
            "CUDA_ERROR_LAUNCH_FAILED (719",
            Some(719),
            "Xid",
        ),
        (
            (Kind::Other, "cuBLAS was not in the mood"),
            "cuBLAS was not in the mood",
            None,
            "nvidia-smi",
        ),
    ];
    for (fault, said, code, helps) in cases {
        let trials = Precision::ALL
            .iter()
            .map(|&dtype| failed(0, dtype, Some(fault)))
            .collect();
        let decision = decide(&Ok(with_worker(vec![gpu(0)], trials)), Asked::Auto);
        assert!(decision.degraded, "{fault:?}");
        assert!(decision.sentence.contains(said), "{}", decision.sentence);
        let card = &decision.devices[1];
        assert_eq!(card.state, DeviceState::NotUsable);
        let error = card.error.as_ref().expect("an error");
        assert_eq!(error.code, code, "{error:?}");
        assert_eq!(error.during, "conv2d 3x3 in f32");
        assert!(
            card.remedy.as_deref().expect("a remedy").contains(helps),
            "{card:?}"
        );
        assert_eq!(decision.remedy, card.remedy);
        assert_eq!(decision.lanes.len(), 1);
        assert_eq!(decision.lanes[0].fallback_reason, decision.reason);
    }
}

#[test]
fn a_driver_older_than_the_workers_cuda_is_named_as_such() {
    let fault = (
        Kind::NoKernel,
        "DriverError(CUDA_ERROR_INVALID_PTX, \"a PTX JIT compilation failed\")",
    );
    let trials = vec![failed(0, Precision::F32, Some(fault))];
    let mut findings = with_worker(vec![gpu(0)], trials);
    findings.nvidia.driver = Driver::Works {
        cuda: "11.4".into(),
    };
    let decision = decide(&Ok(findings), Asked::Auto);
    assert!(
        decision.sentence.contains(
            "the driver supports CUDA up to 11.4 and the CUDA worker was built with 12.8"
        ),
        "{}",
        decision.sentence
    );
    assert!(
        decision
            .remedy
            .expect("a remedy")
            .contains("Update NVIDIA's driver to one for CUDA 12.8")
    );
}

#[test]
fn wrong_numbers_crashes_and_hangs_are_told_with_their_operation() {
    let ended = |end: TrialEnd| Trial {
        device: 0,
        dtype: Precision::F32,
        end,
    };
    for (trial, name, said) in [
        (
            failed(0, Precision::F32, None),
            "wrong numbers",
            "it gives wrong numbers in conv2d 3x3 in f32 (largest error 5.0e-1, 1.0e-5 is allowed)",
        ),
        (
            ended(TrialEnd::Crashed {
                how: "was ended by signal 6 (abort)".into(),
                during: Some("attention".into()),
            }),
            "crash",
            "the process that tried it (attention in f32) was ended by signal 6 (abort)",
        ),
        (
            ended(TrialEnd::Hung {
                seconds: 120,
                during: None,
            }),
            "hang",
            "the process that tried it (f32) did not end within 120 seconds and was stopped",
        ),
    ] {
        let decision = decide(&Ok(with_worker(vec![gpu(0)], vec![trial])), Asked::Auto);
        assert!(decision.sentence.contains(said), "{}", decision.sentence);
        let error = decision.devices[1].error.as_ref().expect("an error");
        assert_eq!(error.name, name);
        assert!(decision.devices[1].remedy.is_some());
    }
}

#[test]
fn one_bad_format_leaves_the_others() {
    let mut trials = all_passed(0);
    trials[2] = failed(0, Precision::Bf16, None);
    let decision = decide(&Ok(with_worker(vec![gpu(0)], trials)), Asked::Auto);
    assert_eq!(decision.badge.label, "GPU · RTX 5090 · f16");
    assert_eq!(decision.lanes[0].formats, [Precision::F32, Precision::F16]);
    assert!(
        decision.devices[0].reason.contains("not used in bf16"),
        "{}",
        decision.devices[0].reason
    );
}

#[test]
fn a_gpu_with_little_memory_is_left_and_says_how_much_it_takes() {
    let small = Gpu {
        memory_free: Some(3 << 30),
        ..gpu(0)
    };
    let decision = decide(&Ok(with_worker(vec![small], all_passed(0))), Asked::Auto);
    assert!(
        decision
            .sentence
            .contains("3.0 GiB of its memory are free and SDXL needs 7 GiB"),
        "{}",
        decision.sentence
    );
    let middling = Gpu {
        memory_free: Some(8 << 30),
        ..gpu(0)
    };
    let decision = decide(&Ok(with_worker(vec![middling], all_passed(0))), Asked::Auto);
    assert!(decision.lanes[0].way.in_turn && decision.lanes[0].way.tiled_vae);
    assert!(
        decision.line.contains("8.0 GiB free, bf16"),
        "{}",
        decision.line
    );
}

#[test]
fn a_precision_that_was_asked_for_is_taken_or_the_cpu() {
    let findings = Ok(with_worker(vec![gpu(0)], all_passed(0)));
    let with = |precision| {
        let wish = Wish {
            precision: AskedPrecision::Only(precision),
            ..Wish::default()
        };
        decision::decide(&findings, &wish, &BTreeMap::new())
    };
    assert_eq!(with(Precision::F32).badge.label, "GPU · RTX 5090 · f32");
    let mut old = gpu(0);
    old.compute_capability = Some("7.5".into());
    let findings = Ok(with_worker(vec![old], all_passed(0)));
    let wish = Wish {
        precision: AskedPrecision::Only(Precision::Bf16),
        ..Wish::default()
    };
    let decision = decision::decide(&findings, &wish, &BTreeMap::new());
    assert!(
        decision.sentence.contains("it cannot compute in bf16"),
        "{}",
        decision.sentence
    );
}

#[test]
fn every_gpu_that_passed_gets_a_lane_and_one_may_be_the_refiners() {
    let trials: Vec<Trial> = all_passed(0).into_iter().chain(all_passed(1)).collect();
    let findings = Ok(with_worker(vec![gpu(0), gpu(1)], trials));
    let lanes = |wish: &Wish| -> Vec<(String, Option<String>, bool)> {
        decision::decide(&findings, wish, &BTreeMap::new())
            .lanes
            .into_iter()
            .map(|lane| (lane.device, lane.refiner_device, lane.standby))
            .collect()
    };
    let lane = |device: &str, refiner: Option<&str>, standby| {
        (device.to_owned(), refiner.map(str::to_owned), standby)
    };
    assert_eq!(
        lanes(&Wish::default()),
        [
            lane("cuda:0", None, false),
            lane("cuda:1", None, false),
            lane("cpu", None, true)
        ]
    );
    assert_eq!(
        lanes(&Wish::device(Asked::Cuda(vec![1]))),
        [lane("cuda:1", None, false), lane("cpu", None, true)]
    );
    let refiner = Wish {
        refiner: Some(1),
        ..Wish::default()
    };
    assert_eq!(
        lanes(&refiner),
        [
            lane("cuda:0", Some("cuda:1"), false),
            lane("cpu", None, true)
        ]
    );
    let decision = decision::decide(&findings, &refiner, &BTreeMap::new());
    assert!(
        decision.sentence.contains("refiners on cuda:1"),
        "{}",
        decision.sentence
    );
    let asked = Wish::device(Asked::Cuda(vec![0, 7]));
    let decision = decision::decide(&findings, &asked, &BTreeMap::new());
    assert!(
        decision.degraded
            && decision
                .sentence
                .contains("cuda:7 is not used: it was not found")
    );
}

#[test]
fn a_gpu_that_rests_is_said_to_until_when_and_comes_back() {
    let findings = Ok(with_worker(vec![gpu(0)], all_passed(0)));
    let resting = BTreeMap::from([(
        "cuda:0".to_owned(),
        Resting {
            // 14:02 UTC on the first day.
            until: (14 * 60 + 2) * 60_000,
            last: "the device is lost".into(),
        },
    )]);
    let decision = decision::decide(&findings, &Wish::default(), &resting);
    assert!(decision.degraded);
    assert!(
        decision.sentence.contains("it rests until 14:02 UTC after 3 failures in ten minutes (the last: the device is lost)"),
        "{}",
        decision.sentence
    );
    let card = &decision.devices[1];
    assert_eq!(card.state, DeviceState::Resting);
    assert!(card.usable && card.resting_until.is_some());
    assert_eq!(decision.lanes[0].device, "cpu");
    assert!(!decision.lanes[0].standby);
}

#[test]
fn a_cuda_worker_that_cannot_be_used_is_a_stated_reason() {
    let path = || PathBuf::from("/opt/atelier-cuda");
    for (worker, said, helps) in [
        (
            CudaWorker::Failed {
                path: path(),
                how: "ended with exit code 127: error while loading shared libraries: libcublas.so.13: cannot open shared object file".into(),
            },
            "libcublas.so.13",
            "Install the CUDA libraries",
        ),
        (
            CudaWorker::Unsuitable {
                path: path(),
                why: "it is version 0.0.9, and the server is 0.1.0".into(),
            },
            "version 0.0.9",
            "make cuda",
        ),
    ] {
        let mut findings = with_worker(vec![gpu(0)], Vec::new());
        findings.cuda.worker = worker;
        let decision = decide(&Ok(findings), Asked::Auto);
        assert!(decision.sentence.contains(said), "{}", decision.sentence);
        assert!(decision.remedy.expect("a remedy").contains(helps));
        assert!(!decision.cuda_worker.found);
    }
}

#[test]
fn a_gpu_with_a_program_of_its_own_architecture_takes_that_one() {
    let mut findings = with_worker(vec![gpu(0)], all_passed(0));
    let own = trial::own_program(&PathBuf::from("/opt/atelier-cuda"), "12.0");
    assert_eq!(own, PathBuf::from("/opt/atelier-cuda-sm_120"));
    let build = Build {
        architectures: vec!["sm_120".into()],
        runtime: "13.0".into(),
    };
    let worker = CudaWorker::Ready {
        path: own.clone(),
        build,
    };
    findings.cuda.own_workers.insert(0, worker);
    let decision = decide(&Ok(findings), Asked::Auto);
    assert_eq!(decision.lanes[0].program, Some(own));
    assert_eq!(decision.devices[0].built_for, ["sm_120"]);
    assert!(
        decision
            .cuda_worker
            .words
            .contains("sm_120, built with CUDA 13.0")
    );
}
