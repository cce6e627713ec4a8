//! **For tests only**: a simulated CUDA device that fails on command.
//!
//! After [`simulate`], [`DeviceId::Cuda`](crate::DeviceId) in this process computes on the
//! processor, by the same candle operations as on a GPU, and the plan's faults happen at the
//! operations and phases that it names. So everything that is built around a GPU can be tried on a
//! machine without one. Nothing else in the engine or the server calls [`simulate`]; while it was
//! never called, each operation costs one relaxed load more, and nothing here has an effect.
//!
//! A plan is written as text, so that it fits an argument or a variable of a test program:
//!
//! ```
//! use atelier_engine::faults::Plan;
//! // The third attention is out of memory; every decoding of a whole image crashes.
//! let plan: Plan = "out_of_memory@attention:3, abort@decoding whole:1+".parse().unwrap();
//! assert_eq!(plan.injections.len(), 2);
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use candle_core::{Result, Tensor};

use crate::DeviceId;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `CUDA_ERROR_OUT_OF_MEMORY` (2).
    OutOfMemory,
    /// `CUDA_ERROR_NO_BINARY_FOR_GPU` (209), "no kernel image is available".
    NoKernelImage,
    /// `CUDA_ERROR_INVALID_PTX` (218).
    InvalidPtx,
    /// The result is NaN, and the operation calls it success.
    Nan,
    /// The result is 5 % too large, and the operation calls it success.
    WrongNumbers,
    /// The result is far below all bounds, and the operation calls it success: at `pixels`, a black
    /// image.
    Black,
    /// The operation never ends.
    Hang,
    /// The process aborts, as on a failed assertion inside of a driver.
    Abort,
    /// A library ends the process with status 1.
    Exit,
    /// `CUDA_ERROR_LAUNCH_FAILED` (719), and so for everything after it in this process.
    DeviceLost,
}

/// Names of the effects in plans.
const EFFECTS: &[(&str, Effect)] = &[
    ("out_of_memory", Effect::OutOfMemory),
    ("no_kernel_image", Effect::NoKernelImage),
    ("invalid_ptx", Effect::InvalidPtx),
    ("nan", Effect::Nan),
    ("wrong_numbers", Effect::WrongNumbers),
    ("black", Effect::Black),
    ("hang", Effect::Hang),
    ("abort", Effect::Abort),
    ("exit", Effect::Exit),
    ("device_lost", Effect::DeviceLost),
];

/// What faults can be put at, besides the phases and operations of [`points`].
const FURTHER_POINTS: &[&str] = &[
    // The device is opened. (The phase "loading" is passed once per component.)
    "opening",
    // A weight is copied to the device: at all, with Residence::Whole, or stored as f32.
    "upload",
    "upload whole",
    "upload f32",
    // An image is decoded in one piece, or one tile of it.
    "decoding whole",
    "decoding tile",
    // What the VAE gives.
    "pixels",
];

/// Names of the phases.
const PHASES: &[&str] = &[
    "loading",
    "encoding the text",
    "encoding the input image",
    "denoising",
    "decoding the image",
];

/// Everything that a fault can be put at: kinds of operation, phases, and a few points between.
pub fn points() -> impl Iterator<Item = &'static str> {
    let ops = crate::nn::OP_NAMES.iter();
    ops.chain(PHASES).chain(FURTHER_POINTS).copied()
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// What happens.
    pub effect: Effect,
    /// Where: one of [`points`]. A phase's begin counts, for `denoising` each step's.
    pub point: String,
    /// At which passage of the point, counted from 1.
    pub nth: u64,
    /// Whether at all later passages, too.
    pub onwards: bool,
}

/// What a simulated device does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The faults; none makes a device that works.
    pub injections: Vec<Injection>,
    /// How many devices there are; 0 counts as 1.
    pub devices: u32,
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = EFFECTS.iter().find(|(_, effect)| *effect == self.effect);
        let name = name.map_or("?", |(name, _)| name);
        write!(f, "{name}@{}:{}", self.point, self.nth)?;
        if self.onwards {
            f.write_str("+")?;
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.injections.iter().map(Injection::to_string).collect();
        f.write_str(&parts.join(", "))
    }
}

impl FromStr for Injection {
    type Err = String;

    /// `EFFECT@POINT`, `EFFECT@POINT:N` or `EFFECT@POINT:N+`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let refuse = |why: String| Err(format!("`{text}`: {why}"));
        let Some((effect, place)) = text.trim().split_once('@') else {
            return refuse("write EFFECT@POINT:N".into());
        };
        let Some((_, effect)) = EFFECTS.iter().find(|(name, _)| *name == effect) else {
            let names: Vec<&str> = EFFECTS.iter().map(|(name, _)| *name).collect();
            return refuse(format!("the effects are {}", names.join(", ")));
        };
        let (point, count) = place.split_once(':').unwrap_or((place, "1"));
        if !points().any(|known| known == point) {
            let names: Vec<&str> = points().collect();
            return refuse(format!("the points are {}", names.join(", ")));
        }
        let (number, onwards) = match count.strip_suffix('+') {
            Some(number) => (number, true),
            None => (count, false),
        };
        match number.parse() {
            Ok(nth) if nth > 0 => Ok(Self {
                effect: *effect,
                point: point.to_owned(),
                nth,
                onwards,
            }),
            _ => refuse("N counts from 1".into()),
        }
    }
}

impl FromStr for Plan {
    type Err = String;

    /// Injections joined by commas; an empty text is a device that works.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        Ok(Self {
            injections: parts
                .map(str::parse)
                .collect::<std::result::Result<_, _>>()?,
            devices: 1,
        })
    }
}

static SIMULATING: AtomicBool = AtomicBool::new(false);
static STATE: Mutex<State> = Mutex::new(State {
    pending: Vec::new(),
    devices: 0,
    lost: false,
});

struct State {
    /// Each injection with the passages of its point so far.
    pending: Vec<(Injection, u64)>,
    devices: u32,
    lost: bool,
}

/// Makes CUDA devices of this process simulated ones, from now on, that follow `plan`. A later
/// call begins anew with another plan.
pub fn simulate(plan: Plan) {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    *state = State {
        pending: plan.injections.into_iter().map(|one| (one, 0)).collect(),
        devices: plan.devices.max(1),
        lost: false,
    };
    SIMULATING.store(true, Ordering::Release);
}

/// Whether CUDA devices of this process are simulated.
pub fn simulating() -> bool {
    SIMULATING.load(Ordering::Relaxed)
}

/// How many simulated devices there are; `None` where none are simulated.
pub fn simulated_devices() -> Option<u32> {
    simulating().then(|| STATE.lock().unwrap_or_else(PoisonError::into_inner).devices)
}

/// The effect that is due at a passage of `point`.
fn due(point: &str) -> Option<Effect> {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    if state.lost {
        return Some(Effect::DeviceLost);
    }
    let mut effect = None;
    for (injection, passages) in &mut state.pending {
        if injection.point == point {
            *passages += 1;
            if *passages == injection.nth || injection.onwards && *passages > injection.nth {
                effect = effect.or(Some(injection.effect));
            }
        }
    }
    if effect == Some(Effect::DeviceLost) {
        state.lost = true;
    }
    effect
}

/// What an effect does that is no result of an operation.
fn strike(effect: Effect) -> Result<()> {
    let words = |words: &str| Err(candle_core::Error::msg(words));
    match effect {
        Effect::OutOfMemory => words("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")"),
        Effect::NoKernelImage => words(
            "DriverError(CUDA_ERROR_NO_BINARY_FOR_GPU, \"no kernel image is available for execution on the device\")",
        ),
        Effect::InvalidPtx => {
            words("DriverError(CUDA_ERROR_INVALID_PTX, \"a PTX JIT compilation failed\")")
        }
        Effect::DeviceLost => {
            words("DriverError(CUDA_ERROR_LAUNCH_FAILED, \"unspecified launch failure\")")
        }
        Effect::Hang => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        Effect::Abort => std::process::abort(),
        Effect::Exit => std::process::exit(1),
        Effect::Nan | Effect::WrongNumbers | Effect::Black => Ok(()),
    }
}

/// A passage of a point that has no result.
pub(crate) fn pass(point: &str) -> Result<()> {
    if !simulating() {
        return Ok(());
    }
    due(point).map_or(Ok(()), strike)
}

/// A passage of a point on a device.
pub(crate) fn pass_on(device: DeviceId, point: &str) -> Result<()> {
    if device.is_cuda() {
        pass(point)
    } else {
        Ok(())
    }
}

/// A passage of an operation on a device.
pub(crate) fn operation(
    device: DeviceId,
    name: &str,
    run: impl FnOnce() -> Result<Tensor>,
) -> Result<Tensor> {
    if !simulating() || !device.is_cuda() {
        return run();
    }
    let effect = due(name);
    if let Some(effect) = effect {
        strike(effect)?;
    }
    let result = run()?;
    match effect {
        Some(Effect::Nan) => result.affine(0.0, f64::NAN),
        Some(Effect::WrongNumbers) => result.affine(1.05, 0.0),
        Some(Effect::Black) => result.affine(0.0, -1e4),
        _ => Ok(result),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read_as_they_are_written() {
        let text = "out_of_memory@attention:3, abort@decoding whole:1+";
        let plan: Plan = text.parse().expect("a plan");
        assert_eq!(plan.to_string(), text);
        assert_eq!(plan.injections[0].nth, 3);
        assert!(plan.injections[1].onwards);
        assert_eq!("".parse::<Plan>().expect("none").injections, []);
        for (wrong, words) in [
            ("hang", "EFFECT@POINT"),
            ("explode@attention", "out_of_memory"),
            ("hang@nowhere", "attention"),
            ("hang@attention:0", "from 1"),
            ("hang@attention:x", "from 1"),
        ] {
            let error = wrong.parse::<Plan>().expect_err(wrong);
            assert!(error.contains(words), "{error}");
        }
        for (name, _) in EFFECTS {
            for point in points() {
                format!("{name}@{point}").parse::<Plan>().expect("known");
            }
        }
    }
}
