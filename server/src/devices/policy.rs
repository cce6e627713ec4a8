//! The policy: which GPU computes how, as one table. `docs/devices.md` prints it, and a test
//! compares the two.

use std::fmt::Write as _;

use super::on_cpu::OnCpu;
use super::way::{AskedPrecision, Precision, Way};

/// One row: the first whose conditions a device meets says how it computes.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Whether it is about GPUs.
    pub gpu: bool,
    /// What was asked for.
    pub asked: &'static [AskedPrecision],
    /// The least compute capability.
    pub capability: (u32, u32),
    /// The least free memory, in GiB.
    pub free_gib: u32,
    /// How it computes.
    pub way: Way,
}

const AUTO: AskedPrecision = AskedPrecision::Auto;
const F32: AskedPrecision = AskedPrecision::Only(Precision::F32);
const BF16: AskedPrecision = AskedPrecision::Only(Precision::Bf16);
const F16: AskedPrecision = AskedPrecision::Only(Precision::F16);

/// Half precision has native arithmetic from here on.
const ANY_CUDA: (u32, u32) = (5, 3);
/// And bfloat16 from here on.
const AMPERE: (u32, u32) = (8, 0);

const fn gpu(
    asked: &'static [AskedPrecision],
    capability: (u32, u32),
    free_gib: u32,
    dtype: Precision,
    storage: Precision,
    small: (bool, bool),
) -> Row {
    Row {
        gpu: true,
        asked,
        capability,
        free_gib,
        way: Way {
            dtype,
            storage,
            in_turn: small.0,
            tiled_vae: small.1,
            cpu: OnCpu::USUAL,
        },
    }
}

/// Everything fits; the VAE needs care; only one part at a time fits.
const ROOMY: (bool, bool) = (false, false);
const TIGHT: (bool, bool) = (false, true);
const SMALL: (bool, bool) = (true, true);

/// The table, first match first. A row counts only where the probe found its number format right
/// on that device. SDXL's weights take 6.9 GiB in 16 bits, 5.9 more with a refiner, and one part at
/// a time at most 4.8; the rest is room to compute in.
pub const TABLE: &[Row] = &[
    gpu(&[F32], ANY_CUDA, 20, Precision::F32, Precision::F32, ROOMY),
    gpu(&[F32], ANY_CUDA, 13, Precision::F32, Precision::F16, TIGHT),
    gpu(&[F32], ANY_CUDA, 8, Precision::F32, Precision::F16, SMALL),
    gpu(
        &[AUTO, BF16],
        AMPERE,
        16,
        Precision::Bf16,
        Precision::Bf16,
        ROOMY,
    ),
    gpu(
        &[AUTO, BF16],
        AMPERE,
        10,
        Precision::Bf16,
        Precision::Bf16,
        TIGHT,
    ),
    gpu(
        &[AUTO, BF16],
        AMPERE,
        7,
        Precision::Bf16,
        Precision::Bf16,
        SMALL,
    ),
    gpu(
        &[AUTO, F16],
        ANY_CUDA,
        16,
        Precision::F16,
        Precision::F16,
        ROOMY,
    ),
    gpu(
        &[AUTO, F16],
        ANY_CUDA,
        10,
        Precision::F16,
        Precision::F16,
        TIGHT,
    ),
    gpu(
        &[AUTO, F16],
        ANY_CUDA,
        7,
        Precision::F16,
        Precision::F16,
        SMALL,
    ),
    gpu(&[AUTO], ANY_CUDA, 20, Precision::F32, Precision::F32, ROOMY),
    gpu(&[AUTO], ANY_CUDA, 13, Precision::F32, Precision::F16, TIGHT),
    gpu(&[AUTO], ANY_CUDA, 8, Precision::F32, Precision::F16, SMALL),
    Row {
        gpu: false,
        asked: &[AUTO, F32, BF16, F16],
        capability: (0, 0),
        free_gib: 0,
        way: CPU,
    },
];

/// The CPU: weights stay mapped from their files in the files' own format, so nothing has to be
/// small by force.
pub const CPU: Way = Way {
    dtype: Precision::F32,
    storage: Precision::F32,
    in_turn: false,
    tiled_vae: false,
    cpu: OnCpu::USUAL,
};

/// What a GPU has to offer.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Compute capability; an unknown one counts as the oldest.
    pub capability: (u32, u32),
    /// Bytes that are free; where nobody tells, all of its memory.
    pub free: Option<u64>,
    /// The number formats that passed every check.
    pub passed: Vec<Precision>,
}

/// Why no row is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// The number format that was asked for did not pass, or needs a newer GPU.
    Precision(AskedPrecision),
    /// Too little memory is free: the least that would do, in GiB.
    Memory {
        /// The least that would do, in GiB.
        needed_gib: u32,
    },
}

/// The way a GPU computes, by the table.
///
/// # Errors
/// What keeps every row from being met.
pub fn choose(offer: &Offer, asked: AskedPrecision) -> Result<Way, Unmet> {
    let able: Vec<&Row> = TABLE
        .iter()
        .filter(|row| {
            row.gpu
                && row.asked.contains(&asked)
                && row.capability <= offer.capability
                && offer.passed.contains(&row.way.dtype)
        })
        .collect();
    let gibibyte = 1_u64 << 30;
    let fits = |row: &&&Row| {
        offer
            .free
            .is_none_or(|free| free >= u64::from(row.free_gib) * gibibyte)
    };
    match (
        able.iter().find(fits),
        able.iter().map(|row| row.free_gib).min(),
    ) {
        (Some(row), _) => Ok(row.way),
        (None, Some(needed_gib)) => Err(Unmet::Memory { needed_gib }),
        (None, None) => Err(Unmet::Precision(asked)),
    }
}

/// The table as `docs/devices.md` prints it.
pub fn in_markdown() -> String {
    let mut text = String::from(
        "| device | precision asked for | compute capability | free memory | computes in | weights in | models | VAE |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for row in TABLE {
        let asked: Vec<String> = row.asked.iter().map(AskedPrecision::to_string).collect();
        let (major, minor) = row.capability;
        let (device, capability, free) = if row.gpu {
            (
                "GPU",
                format!("{major}.{minor} and newer"),
                format!("{} GiB and more", row.free_gib),
            )
        } else {
            ("CPU", "–".into(), "–".into())
        };
        let storage = if row.gpu {
            row.way.storage.name()
        } else {
            "their file's format"
        };
        let models = match (row.gpu, row.way.in_turn) {
            (false, _) => "mapped from their files",
            (true, true) => "by turns",
            (true, false) => "whole",
        };
        let vae = if row.way.tiled_vae {
            "in tiles"
        } else {
            "in one piece where it fits"
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {device} | {} | {capability} | {free} | {} | {storage} | {models} | {vae} |",
            asked.join(", "),
            row.way.dtype,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(capability: (u32, u32), free_gib: u64, passed: &[Precision]) -> Offer {
        Offer {
            capability,
            free: Some(free_gib << 30),
            passed: passed.to_vec(),
        }
    }

    fn words(
        capability: (u32, u32),
        free_gib: u64,
        asked: AskedPrecision,
    ) -> Result<String, Unmet> {
        choose(&offer(capability, free_gib, &Precision::ALL), asked).map(Way::words)
    }

    #[test]
    fn every_row_is_met_by_somebody_and_none_is_hidden_by_an_earlier_one() {
        for (at, row) in TABLE.iter().enumerate().filter(|(_, row)| row.gpu) {
            // A device that meets this row only just, with no number format but its own.
            let offer = offer(row.capability, u64::from(row.free_gib), &[row.way.dtype]);
            let found = row
                .asked
                .iter()
                .any(|&asked| choose(&offer, asked) == Ok(row.way));
            assert!(found, "row {at} is never met: {row:?}");
        }
    }

    #[test]
    fn the_missions_rules_are_rows() {
        let whole = "whole models in its memory";
        assert_eq!(words((9, 0), 75, AUTO), Ok(format!("bf16, {whole}")));
        assert_eq!(words((8, 0), 20, BF16), Ok(format!("bf16, {whole}")));
        assert_eq!(words((7, 5), 20, AUTO), Ok(format!("f16, {whole}")));
        assert_eq!(words((12, 0), 24, F32), Ok(format!("f32, {whole}")));
        assert_eq!(
            words((8, 6), 15, AUTO),
            Ok(format!("bf16, {whole}, VAE in tiles"))
        );
        assert_eq!(
            words((8, 6), 7, AUTO),
            Ok("bf16, models in its memory by turns, VAE in tiles".into())
        );
        assert_eq!(
            words((8, 6), 19, F32),
            Ok(format!("f32 from weights in f16, {whole}, VAE in tiles"))
        );
        assert_eq!(words((8, 6), 6, AUTO), Err(Unmet::Memory { needed_gib: 7 }));
        assert_eq!(words((7, 5), 24, BF16), Err(Unmet::Precision(BF16)));
        assert_eq!(words((5, 0), 24, AUTO), Err(Unmet::Precision(AUTO)));
    }

    #[test]
    fn only_what_passed_is_chosen() {
        let only = |passed: &[Precision], asked| {
            choose(&offer((9, 0), 40, passed), asked).map(|way| way.dtype)
        };
        assert_eq!(
            only(&[Precision::F16, Precision::F32], AUTO),
            Ok(Precision::F16)
        );
        assert_eq!(only(&[Precision::F32], AUTO), Ok(Precision::F32));
        assert_eq!(only(&[], AUTO), Err(Unmet::Precision(AUTO)));
        assert_eq!(only(&[Precision::F16], F32), Err(Unmet::Precision(F32)));
        // Where nobody tells how much is free, the table hopes; the ladder knows better later.
        let untold = Offer {
            free: None,
            ..offer((9, 0), 0, &Precision::ALL)
        };
        assert_eq!(
            choose(&untold, AUTO).map(|way| way.dtype),
            Ok(Precision::Bf16)
        );
    }
}
