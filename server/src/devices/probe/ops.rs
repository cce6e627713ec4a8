//! The half of the probe that computes: every operation of SDXL on one device in one number format,
//! compared; and how fast it is. For a GPU it runs in the CUDA worker, in a process of its own.

use std::time::Duration;

use atelier_app::admin::{CheckReport, MeasurementReport};
use atelier_engine::cpu::Isa;
use atelier_engine::{
    ComputeDtype, CpuMode, DeviceFault, DeviceId, FaultKind, Measurement, OpCheck,
    check_device_ops_telling, cuda_build, measure_device,
};

use crate::config::IsaArg;
use crate::devices::on_cpu::{CpuMemory, CpuNumbers, OnCpu};
use crate::devices::trial::{Build, Fault, Introduction, Kind, TRYING, Tried};
use crate::devices::way::Precision;

/// What this program carries.
pub fn introduction() -> Introduction {
    Introduction {
        version: env!("CARGO_PKG_VERSION").into(),
        build: cuda_build().map(|build| Build {
            architectures: build.architectures,
            runtime: build.runtime,
        }),
    }
}

/// Ends this process after `limit`, should it still run: whoever started it may be gone by then,
/// and a GPU must not stay occupied by a process that hangs.
pub fn end_after(limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        std::process::exit(124);
    });
}

/// Tries everything in this process. May abort or hang with the driver.
///
/// # Errors
/// A device name that is none.
pub fn try_ops(device: &str, dtype: Precision) -> Result<Tried, String> {
    let device: DeviceId = device.parse()?;
    // Whoever started this process learns so what took it along.
    let tell = |name: &str| {
        if device.is_cuda() {
            eprintln!("{TRYING}{name}");
        }
    };
    let checks = check_device_ops_telling(device, engine_dtype(dtype), &mut |name| tell(name));
    let all_right = checks.iter().all(|check| check.ok);
    let mut tried = Tried {
        op_faults: checks.iter().filter_map(op_fault).collect(),
        checks: checks
            .into_iter()
            .map(|check| check_report(check, dtype))
            .collect(),
        ..Tried::default()
    };
    if all_right {
        tell("measuring");
        match measure_device(device, engine_dtype(dtype)) {
            Ok(measured) => tried.measurement = Some(measurement_report(&measured, dtype)),
            Err(fault) => tried.fault = Some(fault_of(fault)),
        }
    }
    Ok(tried)
}

/// The engine's name for a number format.
pub fn engine_dtype(dtype: Precision) -> ComputeDtype {
    match dtype {
        Precision::F32 => ComputeDtype::F32,
        Precision::F16 => ComputeDtype::F16,
        Precision::Bf16 => ComputeDtype::Bf16,
    }
}

/// A fault of the engine's as the server speaks of it.
pub fn fault_of(fault: DeviceFault) -> Fault {
    Fault {
        kind: kind_of(fault.kind),
        during: fault.during,
        words: fault.words,
    }
}

fn kind_of(kind: FaultKind) -> Kind {
    match kind {
        FaultKind::OutOfMemory => Kind::OutOfMemory,
        FaultKind::NoKernel => Kind::NoKernel,
        FaultKind::WrongNumbers => Kind::WrongNumbers,
        FaultKind::Lost => Kind::Lost,
        FaultKind::Other => Kind::Other,
    }
}

fn op_fault(check: &OpCheck) -> Option<(String, Fault)> {
    Some((
        check.name.to_owned(),
        Fault {
            kind: kind_of(check.fault?),
            during: check.name.to_owned(),
            words: check.error.clone()?,
        },
    ))
}

fn check_report(check: OpCheck, dtype: Precision) -> CheckReport {
    CheckReport {
        name: check.name.to_owned(),
        dtype: dtype.name().into(),
        ok: check.ok,
        // An operation that did not run has no error to show, and JSON has no infinity.
        max_error: (check.error.is_none() && check.max_error.is_finite())
            .then_some(check.max_error),
        tolerance: check.tolerance,
        seconds: check.seconds,
        error: check.error,
    }
}

fn measurement_report(measured: &Measurement, dtype: Precision) -> MeasurementReport {
    let number = |name: &str, value: f64, unit: &str| (name.to_owned(), value, unit.to_owned());
    MeasurementReport {
        dtype: dtype.name().into(),
        numbers: vec![
            number("matrix products", measured.matmul_gflops, "GFLOP/s"),
            number("memory", measured.memory_gbs, "GB/s"),
            number(
                "one step of a small UNet",
                measured.unet_step_s * 1000.0,
                "ms",
            ),
        ],
    }
}

/// The engine's words for how the CPU computes.
pub fn engine_mode(on_cpu: OnCpu) -> CpuMode {
    CpuMode {
        numbers: match on_cpu.numbers {
            CpuNumbers::Full => atelier_engine::CpuNumbers::Full,
            CpuNumbers::Int8Weights => atelier_engine::CpuNumbers::Int8Weights,
            CpuNumbers::W8a8 => atelier_engine::CpuNumbers::Int8,
        },
        memory: match on_cpu.memory {
            CpuMemory::Auto => atelier_engine::CpuMemory::Auto,
            CpuMemory::Full => atelier_engine::CpuMemory::Full,
            CpuMemory::Low => atelier_engine::CpuMemory::Low,
        },
    }
}

/// And for the most that is used of its instructions.
pub fn engine_isa(isa: IsaArg) -> Isa {
    match isa {
        IsaArg::Portable => Isa::Portable,
        IsaArg::Avx2 => Isa::Avx2,
        IsaArg::Avx512 => Isa::Avx512,
        IsaArg::Amx => Isa::Amx,
    }
}
