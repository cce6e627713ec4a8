//! The ladder: what a job changes when a device fails it, one rung after the other, down to the
//! CPU. Rungs that cannot help against a fault are left out. `docs/devices.md` prints it, and a test
//! compares the two.

mod store; // rungs in the job's row

use atelier_app::studio::{Descent, Rung};

use crate::devices::trial::Kind;
use crate::devices::{Precision, Way};

/// What befell a job on a device, as far as it decides what is tried next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Too little memory.
    OutOfMemory,
    /// Undefined numbers, wrong ones, or a black image.
    WrongNumbers,
    /// A kernel that is missing or failed.
    Kernel,
    /// The worker died or hung.
    Died,
    /// The device is gone.
    Lost,
}

/// All of them, for tests and documentation.
const FAULTS: [Fault; 5] = [
    Fault::OutOfMemory,
    Fault::WrongNumbers,
    Fault::Kernel,
    Fault::Died,
    Fault::Lost,
];

/// One kind of rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    TiledVae,
    InTurn,
    SmallerStorage,
    OtherPrecision,
    Leave,
}

impl From<Kind> for Fault {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::OutOfMemory => Self::OutOfMemory,
            Kind::WrongNumbers => Self::WrongNumbers,
            Kind::NoKernel | Kind::Other => Self::Kernel,
            Kind::Lost => Self::Lost,
        }
    }
}

impl Fault {
    /// The rungs that can help, in order.
    fn steps(self) -> &'static [Step] {
        match self {
            Self::OutOfMemory => &[
                Step::TiledVae,
                Step::InTurn,
                Step::SmallerStorage,
                Step::Leave,
            ],
            // Memory has nothing to do with it, digits and range have.
            Self::WrongNumbers => &[Step::OtherPrecision, Step::Leave],
            // Each number format has kernels of its own.
            Self::Kernel => &[Step::OtherPrecision, Step::Leave],
            // Perhaps a want of memory that the driver did not survive.
            Self::Died => &[Step::TiledVae, Step::InTurn, Step::Leave],
            Self::Lost => &[Step::Leave],
        }
    }

    /// Whether the process can be trusted after it: out of memory and wrong numbers leave CUDA's
    /// context as it was, everything else may not.
    pub fn spares_process(self) -> bool {
        matches!(self, Self::OutOfMemory | Self::WrongNumbers)
    }

    fn words(self) -> &'static str {
        match self {
            Self::OutOfMemory => "out of memory",
            Self::WrongNumbers => "undefined or wrong numbers, a black image",
            Self::Kernel => "a kernel that is missing or fails",
            Self::Died => "the worker crashes or hangs",
            Self::Lost => "the device is lost",
        }
    }
}

/// How a job runs on a device after the rungs it went down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footing {
    /// How it computes.
    pub way: Way,
    /// Number formats it was computed in there already.
    spent: Vec<Precision>,
}

impl Footing {
    /// On a device that computes in `way` as a rule, and in any of `formats` at need.
    pub fn of(way: Way, formats: &[Precision], rungs: &[Rung]) -> Self {
        let mut footing = Self {
            way,
            spent: vec![way.dtype],
        };
        for rung in rungs {
            let format = |name: &str| {
                let format = name.parse::<Precision>().ok()?;
                formats.contains(&format).then_some(format)
            };
            match &rung.descent {
                Descent::TiledVae => footing.way.tiled_vae = true,
                Descent::InTurn => footing.way.in_turn = true,
                Descent::Storage(name) => {
                    if let Ok(storage) = name.parse::<Precision>() {
                        footing.way.storage = storage;
                    }
                }
                Descent::Precision(name) => {
                    if let Some(format) = format(name) {
                        footing.way.dtype = format;
                        footing.way.storage = format;
                        footing.spent.push(format);
                    }
                }
                Descent::Leave => {}
            }
        }
        footing
    }

    /// What is changed after a fault.
    pub fn next(&self, fault: Fault, formats: &[Precision]) -> Descent {
        fault
            .steps()
            .iter()
            .find_map(|step| self.descend(*step, formats))
            .unwrap_or(Descent::Leave)
    }

    fn descend(&self, step: Step, formats: &[Precision]) -> Option<Descent> {
        match step {
            Step::TiledVae => (!self.way.tiled_vae).then_some(Descent::TiledVae),
            Step::InTurn => (!self.way.in_turn).then_some(Descent::InTurn),
            Step::SmallerStorage => {
                let smaller = self.way.storage.bytes() > Precision::F16.bytes();
                smaller.then(|| Descent::Storage(Precision::F16.name().into()))
            }
            Step::OtherPrecision => {
                // The one with the most range and digits first.
                let order = [Precision::Bf16, Precision::F32, Precision::F16];
                let other = order
                    .into_iter()
                    .find(|format| formats.contains(format) && !self.spent.contains(format))?;
                Some(Descent::Precision(other.name().into()))
            }
            Step::Leave => Some(Descent::Leave),
        }
    }
}

/// What was changed, in words.
pub fn words(descent: &Descent) -> String {
    match descent {
        Descent::TiledVae => "the VAE works in tiles".into(),
        Descent::InTurn => "text encoders, UNet and VAE take turns in memory".into(),
        Descent::Storage(format) => format!("weights are kept in {format}"),
        Descent::Precision(format) => format!("computed in {format}"),
        Descent::Leave => "moved to another device".into(),
    }
}

/// The ladder as `docs/devices.md` prints it.
pub fn in_markdown() -> String {
    let mut text =
        String::from("| what happens | what is tried, in order | process |\n|---|---|---|\n");
    for fault in FAULTS {
        let steps: Vec<&str> = fault
            .steps()
            .iter()
            .map(|step| match step {
                Step::TiledVae => "VAE in tiles",
                Step::InTurn => "text encoders, UNet and VAE by turns",
                Step::SmallerStorage => "weights in 16 bits",
                Step::OtherPrecision => "another number format that passed its checks",
                Step::Leave => "another GPU, in the end the CPU",
            })
            .collect();
        let process = if fault.spares_process() {
            "goes on"
        } else {
            "is replaced"
        };
        text.push_str(&format!(
            "| {} | {} | {process} |\n",
            fault.words(),
            steps.join(" → ")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(dtype: Precision) -> Way {
        Way {
            dtype,
            storage: dtype,
            in_turn: false,
            tiled_vae: false,
            cpu: Default::default(),
        }
    }

    /// Every rung a job goes down when the same fault meets it again and again.
    fn descents(way: Way, formats: &[Precision], faults: &[Fault]) -> Vec<Descent> {
        let mut rungs: Vec<Rung> = Vec::new();
        for at in 0.. {
            let fault = faults[at.min(faults.len() - 1)];
            let descent = Footing::of(way, formats, &rungs).next(fault, formats);
            rungs.push(Rung {
                at: 0,
                device: "cuda:0".into(),
                fault: String::new(),
                done: words(&descent),
                descent: descent.clone(),
            });
            if descent == Descent::Leave {
                break;
            }
            assert!(rungs.len() < 10, "the ladder has an end: {rungs:?}");
        }
        rungs.into_iter().map(|rung| rung.descent).collect()
    }

    #[test]
    fn out_of_memory_goes_through_every_rung_that_saves_some() {
        let all = &Precision::ALL;
        assert_eq!(
            descents(way(Precision::F32), all, &[Fault::OutOfMemory]),
            [
                Descent::TiledVae,
                Descent::InTurn,
                Descent::Storage("f16".into()),
                Descent::Leave
            ]
        );
        // Sixteen bits are the smallest there are.
        assert_eq!(
            descents(way(Precision::Bf16), all, &[Fault::OutOfMemory]),
            [Descent::TiledVae, Descent::InTurn, Descent::Leave]
        );
        // What the policy has done already is no rung.
        let small = Way {
            in_turn: true,
            tiled_vae: true,
            ..way(Precision::F16)
        };
        assert_eq!(
            descents(small, all, &[Fault::OutOfMemory]),
            [Descent::Leave]
        );
    }

    #[test]
    fn wrong_numbers_go_to_formats_that_passed_and_never_back() {
        assert_eq!(
            descents(way(Precision::F16), &Precision::ALL, &[Fault::WrongNumbers]),
            [
                Descent::Precision("bf16".into()),
                Descent::Precision("f32".into()),
                Descent::Leave
            ]
        );
        assert_eq!(
            descents(
                way(Precision::F16),
                &[Precision::F16],
                &[Fault::WrongNumbers]
            ),
            [Descent::Leave]
        );
        // f32 that does not fit goes down for memory, not back to f16.
        assert_eq!(
            descents(
                way(Precision::F16),
                &[Precision::F16, Precision::F32],
                &[
                    Fault::WrongNumbers,
                    Fault::OutOfMemory,
                    Fault::OutOfMemory,
                    Fault::OutOfMemory,
                    Fault::WrongNumbers
                ]
            ),
            [
                Descent::Precision("f32".into()),
                Descent::TiledVae,
                Descent::InTurn,
                Descent::Storage("f16".into()),
                Descent::Leave
            ]
        );
    }

    #[test]
    fn a_lost_device_is_left_at_once_and_every_ladder_ends_away_from_it() {
        let all = &Precision::ALL;
        assert_eq!(
            descents(way(Precision::Bf16), all, &[Fault::Lost]),
            [Descent::Leave]
        );
        for fault in FAULTS {
            assert_eq!(
                descents(way(Precision::Bf16), all, &[fault]).last(),
                Some(&Descent::Leave)
            );
        }
    }

    #[test]
    fn a_format_that_a_device_never_passed_is_not_taken_from_another_ones_rungs() {
        let rung = Rung {
            at: 0,
            device: "cuda:0".into(),
            fault: String::new(),
            descent: Descent::Precision("bf16".into()),
            done: String::new(),
        };
        let footing = Footing::of(way(Precision::F16), &[Precision::F16], &[rung]);
        assert_eq!(footing.way.dtype, Precision::F16);
    }
}
