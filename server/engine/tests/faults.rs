//! A GPU that fails: every kind of failure, at checks and in the middle of a generation, on the
//! simulated device. What the server makes of them is its own tests' matter.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atelier_engine::faults::{Plan, points, simulate};
use atelier_engine::{
    ComputeDtype, Control, DeviceFault, DeviceId, EngineError, FaultKind, GenerateRequest,
    LoadOptions, OpCheck, Pipeline, Residence, VaeTiling, check_device_ops,
    check_device_ops_telling, measure_device,
};
use image::RgbImage;

/// One plan at a time: it holds for the whole process.
fn with(plan: &str) -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    simulate(plan.parse().unwrap());
    guard
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/tiny-base")
}

fn load(options: &LoadOptions) -> Result<Pipeline, EngineError> {
    Pipeline::load(&model(), options, &mut |_| {})
}

fn gpu() -> LoadOptions {
    LoadOptions {
        device: DeviceId::Cuda(0),
        ..LoadOptions::default()
    }
}

fn request() -> GenerateRequest {
    GenerateRequest {
        prompt: "a red circle on a blue field".into(),
        width: 64,
        height: 64,
        num_inference_steps: 4,
        guidance_scale: 5.0,
        ..GenerateRequest::default()
    }
}

fn make(pipeline: &Pipeline, request: &GenerateRequest) -> Result<RgbImage, EngineError> {
    let made = pipeline.generate(request, &mut |_| Control::Continue)?;
    assert_eq!(made.device, pipeline.device().to_string());
    Ok(made.image)
}

fn fault(outcome: Result<RgbImage, EngineError>) -> DeviceFault {
    match outcome {
        Err(EngineError::Device(fault)) => fault,
        other => panic!("no fault of a device: {:?}", other.map(|_| ())),
    }
}

fn check<'a>(checks: &'a [OpCheck], name: &str) -> &'a OpCheck {
    checks.iter().find(|check| check.name == name).unwrap()
}

#[test]
fn a_device_that_works_passes_every_check() {
    let _one = with("");
    for dtype in ComputeDtype::ALL {
        for check in check_device_ops(DeviceId::Cuda(0), dtype) {
            assert!(check.ok, "{dtype}: {check:?}");
        }
    }
    let measured = measure_device(DeviceId::Cuda(0), ComputeDtype::F32).unwrap();
    assert!(measured.unet_step_s > 0.0 && measured.matmul_gflops > 0.0);
}

#[test]
fn checks_name_the_operation_and_the_drivers_error() {
    for (plan, name, kind, words) in [
        (
            "out_of_memory@conv2d 1x1",
            "conv2d 1x1",
            FaultKind::OutOfMemory,
            "CUDA_ERROR_OUT_OF_MEMORY",
        ),
        (
            "no_kernel_image@cast:1+",
            "cast",
            FaultKind::NoKernel,
            "CUDA_ERROR_NO_BINARY_FOR_GPU",
        ),
        (
            "invalid_ptx@softmax:1+",
            "softmax",
            FaultKind::NoKernel,
            "CUDA_ERROR_INVALID_PTX",
        ),
        (
            "nan@attention:3",
            "attention 12 heads",
            FaultKind::WrongNumbers,
            "NaN",
        ),
        (
            "device_lost@geglu",
            "geglu",
            FaultKind::Lost,
            "CUDA_ERROR_LAUNCH_FAILED",
        ),
    ] {
        let _one = with(plan);
        let checks = check_device_ops(DeviceId::Cuda(0), ComputeDtype::F16);
        let check = check(&checks, name);
        assert!(!check.ok, "{plan}");
        assert_eq!(check.fault, Some(kind), "{plan}");
        let error = check.error.as_deref().unwrap();
        assert!(error.contains(words), "{plan}: {error}");
    }
}

/// Numbers that are wrong by a twentieth are noticed at every operation, in every format.
#[test]
fn slightly_wrong_numbers_are_noticed_everywhere() {
    for dtype in ComputeDtype::ALL {
        let _one = with("");
        let names: Vec<&str> = check_device_ops(DeviceId::Cuda(0), dtype)
            .iter()
            .map(|check| check.name)
            .collect();
        drop(_one);
        assert!(names.len() > 30);
        // Everything at once: each check has to notice its own.
        let plan: Vec<String> = atelier_engine::nn::OP_NAMES
            .iter()
            .map(|op| format!("wrong_numbers@{op}:1+"))
            .collect();
        let _one = with(&plan.join(","));
        for check in check_device_ops(DeviceId::Cuda(0), dtype) {
            assert!(!check.ok, "{dtype}: {check:?}");
            assert_eq!(check.fault, Some(FaultKind::WrongNumbers), "{check:?}");
            // (In f16, the largest number there is becomes infinite.)
            assert!(check.max_error > 0.03, "{check:?}");
        }
    }
}

#[test]
fn a_lost_device_stays_lost() {
    let _one = with("device_lost@activation:2");
    let checks = check_device_ops(DeviceId::Cuda(0), ComputeDtype::F32);
    let first = checks.iter().position(|check| !check.ok).unwrap();
    assert_eq!(checks[first].name, "gelu");
    for check in &checks[first..] {
        assert_eq!(check.fault, Some(FaultKind::Lost), "{check:?}");
    }
    let error = measure_device(DeviceId::Cuda(0), ComputeDtype::F32).unwrap_err();
    assert_eq!(error.kind, FaultKind::Lost);
}

#[test]
fn devices_that_are_not_there() {
    let _one = with("");
    let checks = check_device_ops(DeviceId::Cuda(1), ComputeDtype::F32);
    assert_eq!((checks.len(), checks[0].name), (1, "open"));
    let error = checks[0].error.as_deref().unwrap();
    assert!(error.contains("CUDA_ERROR_INVALID_DEVICE"), "{error}");
    let options = LoadOptions {
        device: DeviceId::Cuda(3),
        ..LoadOptions::default()
    };
    let fault = fault(load(&options).map(|_| RgbImage::new(1, 1)));
    assert_eq!(fault.during, "opening cuda:3");
}

/// A generation that fails says what it did, and the same pipeline makes the right image afterwards.
#[test]
fn faults_in_the_middle_leave_nothing_behind() {
    let _one = with("");
    let cpu = make(&load(&LoadOptions::default()).unwrap(), &request()).unwrap();
    drop(_one);
    for residence in [Residence::Whole, Residence::InTurn] {
        for (plan, kind, during) in [
            (
                "out_of_memory@denoising:3",
                FaultKind::OutOfMemory,
                "denoising",
            ),
            (
                "out_of_memory@decoding the image",
                FaultKind::OutOfMemory,
                "decoding the image",
            ),
            (
                "device_lost@encoding the text",
                FaultKind::Lost,
                "encoding the text",
            ),
            (
                "no_kernel_image@attention:2",
                FaultKind::NoKernel,
                "encoding the text, attention",
            ),
            ("nan@linear:2", FaultKind::WrongNumbers, "encoding the text"),
            ("nan@geglu", FaultKind::WrongNumbers, "denoising"),
            ("nan@pixels", FaultKind::WrongNumbers, "decoding the image"),
            (
                "black@pixels",
                FaultKind::WrongNumbers,
                "decoding the image",
            ),
        ] {
            let _one = with("");
            let options = LoadOptions { residence, ..gpu() };
            let pipeline = load(&options).unwrap();
            simulate(plan.parse().unwrap());
            let fault = fault(make(&pipeline, &request()));
            println!("{residence}: {fault}");
            assert_eq!(fault.kind, kind, "{plan}: {fault}");
            assert_eq!(fault.during, during, "{plan}");
            simulate(Plan::default());
            let again = make(&pipeline, &request()).unwrap();
            let gap = cpu
                .iter()
                .zip(again.iter())
                .map(|(a, b)| a.abs_diff(*b))
                .max();
            assert!(gap.unwrap() <= 3, "{plan}: {gap:?}");
        }
    }
}

/// Each step down the ladder gets round the failure that it is for.
#[test]
fn tiles_turns_and_smaller_weights_take_less() {
    // Whole images do not fit, tiles do.
    let _one = with("out_of_memory@decoding whole:1+");
    let pipeline = load(&gpu()).unwrap();
    let large = GenerateRequest {
        width: 128,
        height: 128,
        num_inference_steps: 1,
        vae_tiling: VaeTiling::Off,
        ..request()
    };
    assert_eq!(fault(make(&pipeline, &large)).kind, FaultKind::OutOfMemory);
    let tiled = GenerateRequest {
        vae_tiling: VaeTiling::On,
        ..large
    };
    make(&pipeline, &tiled).unwrap();
    drop(_one);

    // The model as a whole does not fit, its parts in turn do.
    let _one = with("out_of_memory@upload whole:200+");
    let fault_of = |options: &LoadOptions| fault(load(options).map(|_| RgbImage::new(1, 1)));
    let whole = fault_of(&gpu());
    assert_eq!(whole.kind, FaultKind::OutOfMemory);
    assert!(whole.during.starts_with("loading "), "{whole}");
    assert!(whole.during.ends_with(", upload"), "{whole}");
    let in_turn = LoadOptions {
        residence: Residence::InTurn,
        ..gpu()
    };
    make(&load(&in_turn).unwrap(), &request()).unwrap();
    drop(_one);

    // In f32 weights do not fit, in f16 they do.
    let _one = with("out_of_memory@upload f32:1+");
    assert_eq!(fault_of(&gpu()).kind, FaultKind::OutOfMemory);
    let small = LoadOptions {
        storage_dtype: Some(ComputeDtype::F16),
        ..gpu()
    };
    make(&load(&small).unwrap(), &request()).unwrap();
}

/// Faults are the GPU's alone: the processor next to it computes as ever.
#[test]
fn the_cpu_is_out_of_reach() {
    let every: Vec<String> = points().map(|point| format!("nan@{point}:1+")).collect();
    let _one = with(&every.join(","));
    for dtype in ComputeDtype::ALL {
        for check in check_device_ops(DeviceId::Cpu, dtype) {
            assert!(check.ok, "{dtype}: {check:?}");
        }
    }
    make(&load(&LoadOptions::default()).unwrap(), &request()).unwrap();
}

const PLAN: &str = "ATELIER_TEST_PLAN";
/// Before the name of an operation that the other process begins to try.
const BEGINS: &str = "begins ";

/// Not a test: what [`crashes_and_hangs_are_the_processes`] runs in a process of its own.
#[test]
#[ignore = "is run by crashes_and_hangs_are_the_processes"]
fn in_a_process_of_its_own() {
    simulate(std::env::var(PLAN).unwrap().parse().unwrap());
    let _ = check_device_ops_telling(DeviceId::Cuda(0), ComputeDtype::F32, &mut |name| {
        println!("{BEGINS}{name}");
    });
}

#[test]
fn crashes_and_hangs_are_the_processes() {
    let start = |plan: &str| {
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "in_a_process_of_its_own",
                "--ignored",
                "--nocapture",
            ])
            .env(PLAN, plan)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let status = |plan| start(plan).wait_with_output().unwrap().status;
    assert!(status("").success());
    assert_eq!(status("exit@linear:2").code(), Some(1));
    let aborted = status("abort@attention:5");
    assert!(!aborted.success() && aborted.code().is_none(), "{aborted}");
    let mut hung = start("hang@cat");
    // It comes as far as the operation, however long that takes, and then says nothing any more.
    let mut lines = BufReader::new(hung.stdout.take().unwrap()).lines();
    let reached = |line: &String| line.ends_with("begins cat");
    assert!(lines.any(|line| reached(&line.unwrap())), "it never began");
    let (said, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.for_each(|line| drop(said.send(line))));
    let silence = heard.recv_timeout(Duration::from_secs(3));
    assert_eq!(silence.err(), Some(RecvTimeoutError::Timeout));
    assert_eq!(hung.try_wait().unwrap(), None);
    hung.kill().unwrap();
    hung.wait().unwrap();
}
