//! A ceiling on the instructions that kernels use, for measuring what a lesser machine would give
//! and for comparing with programs that have such a switch too. Results stay within the same bounds
//! under every one.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// Kinds of instructions, each with all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Isa {
    /// What every machine of the architecture has.
    Portable,
    /// 256-bit vectors with fused multiplication and addition.
    Avx2,
    /// 512-bit vectors.
    Avx512,
    /// Tile registers.
    Amx,
}

impl Isa {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Amx];
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        })
    }
}

impl FromStr for Isa {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.to_string() == text)
            .ok_or_else(|| "use portable, avx2, avx512 or amx".to_string())
    }
}

static CEILING: AtomicU8 = AtomicU8::new(Isa::Amx as u8);

/// Has kernels use nothing beyond `most`. To be called before the first of them runs: which kernel is
/// best is found out once.
pub fn limit_isa(most: Isa) {
    CEILING.store(most as u8, Ordering::Relaxed);
}

/// Whether kernels may use these instructions, if the machine has them.
#[inline]
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "other architectures have one kind only")
)]
pub(crate) fn allows(isa: Isa) -> bool {
    isa as u8 <= CEILING.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
            assert!(allows(isa), "nothing is held back unless asked for");
        }
        assert!("sse".parse::<Isa>().is_err());
    }
}
