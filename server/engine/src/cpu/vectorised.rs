//! Loops that are compiled once for every vector unit there may be, and run on the one there is.
//!
//! The arithmetic is the same in each: the compiler may widen a loop, but never reorders sums or
//! joins a product with a sum, so results do not depend on the machine.

/// The vector units that loops are compiled for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// What every machine of this architecture has.
    Least,
    /// 256 bits.
    Avx2,
    /// 512 bits.
    Avx512,
}

/// The widest of this machine.
#[inline]
pub fn width() -> Width {
    // Both look at a flag that std keeps after the first look at the processor.
    #[cfg(target_arch = "x86_64")]
    {
        use super::isa::{Isa, allows};
        if allows(Isa::Avx512)
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
        {
            return Width::Avx512;
        }
        if allows(Isa::Avx2) && is_x86_feature_detected!("avx2") {
            return Width::Avx2;
        }
    }
    Width::Least
}

/// Defines functions whose loops are compiled for every [`Width`]. What they call must be inlined.
macro_rules! vectorised {
    ($($(#[$meta:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$meta])*
        $visibility fn $name($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn least($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($argument: $type),*) $(-> $result)? {
                    least($($argument),*)
                }
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
                fn avx512($($argument: $type),*) $(-> $result)? {
                    least($($argument),*)
                }
                match $crate::cpu::vectorised::width() {
                    // SAFETY: the machine has these instructions.
                    $crate::cpu::vectorised::Width::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: as above.
                    $crate::cpu::vectorised::Width::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::cpu::vectorised::Width::Least => {}
                }
            }
            least($($argument),*)
        }
    )*};
}

pub(super) use vectorised;
