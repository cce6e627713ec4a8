//! Whether a device computes rightly, and how fast: every kind of operation that SDXL uses, on
//! SDXL's own shapes, run on the device and compared with plain scalar arithmetic in f64.
//!
//! Drivers and kernels fail at the first use of an operation, or worse, return wrong numbers and
//! call it success. So each kind is tried before a device is trusted. Heights and widths are small
//! ones, so that all of it takes seconds on any device; channels and heads are SDXL's.

mod checks;
mod measure;
mod reference;

use std::time::Instant;

use candle_core::Tensor;

use crate::nn::Ops;
use crate::{ComputeDtype, DeviceFault, DeviceId, FaultKind, Residence};
use checks::{CHECKS, Trial};

pub use measure::{Measurement, measure_device};

/// How one kind of operation fared.
#[derive(Clone, Debug, PartialEq)]
pub struct OpCheck {
    /// The operation.
    pub name: &'static str,
    /// Largest difference from the reference, as a fraction of the reference's largest value.
    pub max_error: f64,
    /// Largest difference that is still right.
    pub tolerance: f64,
    /// Whether it ran and is right.
    pub ok: bool,
    /// How long it took on the device, the way back to the host included.
    pub seconds: f64,
    /// Why it did not run, in the driver's words; or that it gave something undefined.
    pub error: Option<String>,
    /// What kind of failure it was, where it is not ok.
    pub fault: Option<FaultKind>,
}

/// An operation's result on the device, and what some of its values should be.
pub(crate) struct Outcome {
    got: Tensor,
    /// Positions in the result, and the values there.
    want: Vec<(usize, f64)>,
    /// Number of values in the result.
    count: usize,
    seconds: f64,
}

/// Runs every kind of operation that SDXL uses on a device, in a number format. A device that cannot
/// be opened fails the only check, "open".
pub fn check_device_ops(device: DeviceId, dtype: ComputeDtype) -> Vec<OpCheck> {
    check_device_ops_telling(device, dtype, &mut |_| {})
}

/// As [`check_device_ops`]; `begins` hears of each operation before it is tried, so that one which
/// never comes back is known.
pub fn check_device_ops_telling(
    device: DeviceId,
    dtype: ComputeDtype,
    begins: &mut dyn FnMut(&'static str),
) -> Vec<OpCheck> {
    begins("open");
    let ops = match Ops::open(device, dtype, None, Residence::Whole) {
        Ok(ops) => ops,
        Err(fault) => return vec![failed("open", 0.0, fault)],
    };
    CHECKS
        .iter()
        .enumerate()
        .map(|(seed, check)| {
            begins(check.name);
            let tolerance = check.tolerance.of(dtype);
            let mut trial = Trial::new(&ops, seed as u64);
            let compared = (check.run)(&mut trial)
                .map_err(DeviceFault::from)
                .and_then(|outcome| Ok((worst(&outcome)?, outcome.seconds)));
            match compared {
                Ok((max_error, seconds)) => {
                    let ok = max_error <= tolerance;
                    OpCheck {
                        name: check.name,
                        max_error,
                        tolerance,
                        ok,
                        seconds,
                        error: None,
                        fault: (!ok).then_some(FaultKind::WrongNumbers),
                    }
                }
                Err(fault) => failed(check.name, tolerance, fault),
            }
        })
        .collect()
}

fn failed(name: &'static str, tolerance: f64, fault: DeviceFault) -> OpCheck {
    OpCheck {
        name,
        max_error: f64::INFINITY,
        tolerance,
        ok: false,
        seconds: 0.0,
        error: Some(fault.words),
        fault: Some(fault.kind),
    }
}

/// The largest difference, as a fraction of the largest value that should be there.
fn worst(outcome: &Outcome) -> Result<f64, DeviceFault> {
    let got = outcome.got.flatten_all()?.to_vec1::<f32>()?;
    if got.len() != outcome.count {
        let words = format!("{} values came back, not {}", got.len(), outcome.count);
        return Err(DeviceFault::wrong_numbers("", &words));
    }
    if let Some(at) = got.iter().position(|value| !value.is_finite()) {
        let words = format!("value {at} of {} came back as {}", got.len(), got[at]);
        return Err(DeviceFault::wrong_numbers("", &words));
    }
    let scale = outcome
        .want
        .iter()
        .map(|(_, want)| want.abs())
        .fold(f64::MIN_POSITIVE, f64::max);
    Ok(outcome
        .want
        .iter()
        .map(|&(at, want)| (f64::from(got[at]) - want).abs() / scale)
        .fold(0.0, f64::max))
}

/// Runs something on the device and brings its result back.
fn timed(
    ops: &Ops,
    count: usize,
    want: Vec<(usize, f64)>,
    run: impl FnOnce() -> candle_core::Result<Tensor>,
) -> candle_core::Result<Outcome> {
    let started = Instant::now();
    let got = ops.give(&run()?)?;
    Ok(Outcome {
        got,
        want,
        count,
        seconds: started.elapsed().as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_cpu_computes_rightly() {
        for dtype in ComputeDtype::ALL {
            let started = Instant::now();
            let checks = check_device_ops(DeviceId::Cpu, dtype);
            println!("{dtype}: {:.2} s", started.elapsed().as_secs_f64());
            for check in &checks {
                println!(
                    "{:32} {:.1e} of {:.1e}, {:.1} ms",
                    check.name,
                    check.max_error,
                    check.tolerance,
                    check.seconds * 1e3
                );
            }
            assert!(checks.len() > 30);
            for check in checks {
                assert!(check.ok, "{dtype}: {check:?}");
            }
        }
    }

    #[test]
    fn a_wrong_or_undefined_result_is_noticed() {
        let outcome = |got: &[f32], want: &[f64], count| Outcome {
            got: Tensor::from_slice(got, got.len(), &candle_core::Device::Cpu).expect("a tensor"),
            want: want.iter().copied().enumerate().collect(),
            count,
            seconds: 0.0,
        };
        let error = worst(&outcome(&[1.0, 2.5], &[1.0, 2.0], 2)).expect("comparable");
        assert_eq!(error, 0.25);
        // Small values everywhere do not hide a difference.
        let error = worst(&outcome(&[1e-3, 2e-3], &[1e-3, 1e-3], 2)).expect("comparable");
        assert!((error - 1.0).abs() < 1e-6, "{error}");
        for bad in [f32::NAN, f32::INFINITY] {
            // Also where nothing is compared.
            let fault = worst(&outcome(&[1.0, bad], &[1.0], 2)).expect_err("undefined");
            assert_eq!(fault.kind, FaultKind::WrongNumbers);
        }
        assert!(worst(&outcome(&[1.0], &[1.0], 2)).is_err());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_is_not_there_says_so() {
        let checks = check_device_ops(DeviceId::Cuda(0), ComputeDtype::F32);
        assert_eq!(checks.len(), 1);
        assert!(!checks[0].ok && checks[0].name == "open");
        let error = checks[0].error.as_deref().expect("words");
        assert!(error.contains("make cuda"), "{error}");
    }
}
