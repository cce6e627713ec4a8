//! Products of whole numbers on tile registers (AMX): sixteen rows of sixteen sums, 64 numbers deep, by
//! one instruction.

use std::arch::asm;
use std::sync::OnceLock;

use super::kernel::Kernel;
use crate::cpu::gemm::amx;

/// Two tiles down, two across.
const SIDE: usize = 32;

/// Computes on tile registers.
pub const KERNEL: Kernel = Kernel {
    name: "amx",
    rows: SIDE,
    width: SIDE,
    block: 1 << 20,
    offset: false,
    run,
};

/// Whether this machine has tiles of whole numbers, and this process may use them.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        const INT8: u32 = 1 << 25;
        // Those of bf16 tell that leaf 7 is there, and that the system saves the registers.
        amx::available() && std::arch::x86_64::__cpuid_count(7, 0).edx & INT8 != 0
    })
}

unsafe fn run(words: usize, a: *const i8, b: *const u32, sums: *mut i32) {
    let tiles = amx::Tiles::begin().expect("`available` has looked for the registers");
    // SAFETY: the caller's promise: whole tiles, of a whole number of steps of 16 words. All registers
    // are 16 rows of 64 bytes while `tiles` lives. One block, since nothing says what they hold from one
    // to the next.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {steps}, {steps}",
            "jz 3f",
            "2:",
            "tileloadd tmm4, [{a} + {a_stride} * 1]",
            "tileloadd tmm6, [{b} + {b_stride} * 1]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {b_stride} * 1 + 64]",
            "tdpbssd tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{below} + {a_stride} * 1]",
            "tdpbssd tmm2, tmm5, tmm6",
            "tdpbssd tmm3, tmm5, tmm7",
            "add {a}, 64",
            "add {below}, 64",
            "add {b}, 2048",
            "dec {steps}",
            "jnz 2b",
            "3:",
            "tilestored [{sums} + {b_stride} * 1], tmm0",
            "tilestored [{sums} + {b_stride} * 1 + 64], tmm1",
            "tilestored [{sums} + {b_stride} * 1 + 2048], tmm2",
            "tilestored [{sums} + {b_stride} * 1 + 2112], tmm3",
            steps = inout(reg) words / 16 => _,
            a = inout(reg) a => _,
            below = inout(reg) a.add(16 * 4 * words) => _,
            a_stride = in(reg) 4 * words,
            b = inout(reg) b => _,
            b_stride = in(reg) 4 * SIDE,
            sums = in(reg) sums,
            options(nostack),
        );
    }
    drop(tiles);
}
