//! A machine with everything that a device page can tell: a CPU in use, a GPU that cannot be used,
//! one that rests; events of today and of a later version.

use atelier_app::admin::*;
use atelier_app::studio::{Descent, Rung};

/// The server's clock.
const NOW: i64 = 1_795_538_049_000;

fn check(name: &str, dtype: &str, ok: bool) -> CheckReport {
    CheckReport {
        name: name.into(),
        dtype: dtype.into(),
        ok,
        max_error: ok.then_some(0.0004),
        tolerance: 0.002,
        seconds: 0.0131,
        error: (!ok).then(|| "no kernel image is available for execution on the device".into()),
    }
}

fn cpu() -> DeviceReport {
    DeviceReport {
        id: "cpu".into(),
        name: "AMD EPYC 7B13".into(),
        facts: vec![("cores".into(), "2".into())],
        state: DeviceState::InUse,
        since: NOW - 7_200_000,
        usable: true,
        in_use: true,
        way: Some("f32".into()),
        reason: "Used. All 2 checks gave the right numbers.".into(),
        checks: vec![check("matmul", "f32", true), check("softmax", "f32", true)],
        measurements: vec![MeasurementReport {
            dtype: "f32".into(),
            numbers: vec![
                ("matrix products".into(), 31.24, "TFLOP/s".into()),
                ("one step".into(), 0.18712, "s".into()),
            ],
        }],
        ..DeviceReport::default()
    }
}

fn unusable(hostile: &str) -> DeviceReport {
    DeviceReport {
        id: "cuda:0".into(),
        name: format!("NVIDIA GeForce RTX 5090{hostile}"),
        facts: vec![("compute capability".into(), "12.0".into())],
        state: DeviceState::NotUsable,
        since: NOW - 60_000,
        reason: "conv2d 3×3 failed.".into(),
        remedy: Some("Install the build for compute capability 12.0.".into()),
        error: Some(DeviceError {
            name: "CUDA_ERROR_NO_BINARY_FOR_GPU".into(),
            code: Some(209),
            during: "conv2d 3×3 in bf16".into(),
            words: format!("no kernel image is available for execution on the device{hostile}"),
        }),
        architecture: Some("12.0".into()),
        built_for: vec!["8.0".into(), "8.6".into(), "9.0".into()],
        checks: vec![
            check("matmul", "bf16", true),
            check("conv2d 3×3", "bf16", false),
        ],
        ..DeviceReport::default()
    }
}

fn resting() -> DeviceReport {
    DeviceReport {
        id: "cuda:1".into(),
        name: "NVIDIA H100".into(),
        state: DeviceState::Resting,
        since: NOW - 300_000,
        resting_until: Some(NOW + 200_000),
        usable: true,
        reason: "It failed three times in ten minutes.".into(),
        checks: vec![check("matmul", "f32", true)],
        ..DeviceReport::default()
    }
}

/// What the device page shows; `hostile` is in every text that comes from outside.
pub fn devices(hostile: &str) -> DevicesReport {
    let event = |minutes: i64, kind: &str| DeviceEvent {
        at: NOW - minutes * 60_000,
        kind: kind.into(),
        device: "cuda:1".into(),
        message: format!("A {kind} of that time{hostile}."),
    };
    let worker = |device: &str, words: &str, standby: bool| WorkerReport {
        device: device.into(),
        words: words.into(),
        job: None,
        standby,
        since: NOW - 1000,
    };
    DevicesReport {
        decision: "Running on the CPU, because the GPU failed a check.".into(),
        degraded: true,
        since: NOW - 7_200_000,
        probed_at: NOW,
        checking: false,
        devices: vec![cpu(), unusable(hostile), resting()],
        worker: "idle".into(),
        workers: vec![
            worker("cuda:1", "restarting (crashed: signal 11)", false),
            worker("cpu", "idle", true),
        ],
        cuda_worker: CudaWorkerReport {
            path: "/srv/atelier/atelier-cuda".into(),
            found: true,
            words: "It carries 8.0, 8.6 and 9.0.".into(),
        },
        choice: DeviceChoice {
            device: "cuda:7".into(),
            precision: "bf16".into(),
            refiner_device: None,
            idle_release_s: 600,
        },
        fixed: vec!["precision".into()],
        events: [
            event(5, "worker_died"),
            event(6, "rung"),
            event(7, "failure"),
            event(8, "resting"),
            event(9, "probe"),
            event(10, "decision"),
            event(11, "recovered"),
            event(12, "choice"),
            event(2000, "cooled_down"),
        ]
        .into(),
        step_times: vec![0.19, 0.2, 0.21],
    }
}

/// What befell a job on the way.
pub fn rungs(hostile: &str) -> Vec<Rung> {
    vec![
        Rung {
            at: NOW,
            device: "cuda:0".into(),
            fault: "out of memory while decoding the image".into(),
            descent: Descent::TiledVae,
            done: "decoded in tiles".into(),
        },
        Rung {
            at: NOW,
            device: "cuda:0".into(),
            fault: hostile.into(),
            descent: Descent::Leave,
            done: "made on the CPU".into(),
        },
    ]
}

/// A CPU and a GPU over time.
pub fn vitals(span_s: u32) -> VitalsReport {
    let point = |step: i32| VitalPoint {
        at: NOW - i64::from(step) * 5000,
        memory_used: Some(f64::from(9 - step % 2) * f64::from(1 << 30)),
        load: Some(0.37),
        temperature_c: Some(61.0),
        power_w: None,
    };
    let device = |id: &str, points: Vec<VitalPoint>| DeviceVitals {
        id: id.into(),
        name: id.into(),
        memory_total: Some(32 << 30),
        problem: None,
        points,
        step_times: vec![StepTime {
            at: NOW,
            seconds: 0.19,
        }],
    };
    VitalsReport {
        at: NOW,
        span_s,
        every_s: 5.0,
        devices: vec![
            device("cpu", (0..60).rev().map(point).collect()),
            DeviceVitals {
                problem: Some("GPU is lost".into()),
                step_times: Vec::new(),
                ..device("cuda:0", Vec::new())
            },
        ],
        workers: vec![WorkerMemory {
            pid: 7,
            device: "cpu".into(),
            resident: 3 << 30,
            anonymous: Some(1 << 30),
        }],
        pressure: Some(Pressure {
            cpu: Some(12.4),
            memory: Some(0.0),
            io: None,
        }),
        gpu_source: "nvidia-smi".into(),
    }
}
