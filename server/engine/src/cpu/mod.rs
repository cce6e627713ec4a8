//! Kernels for the CPU, behind candle custom ops: what SDXL spends its time in, each parallel over
//! the process' compute threads.
//!
//! All take and give contiguous f32 tensors; weights come as they are stored. This is the one place
//! of the engine with unsafe arithmetic: the inner loops in [`gemm`] and [`winograd`], behind checks of
//! their bounds.

mod allocator;
mod attention;
mod conv2d;
mod gemm;
mod int8;
mod isa;
mod layout;
mod linear;
mod math;
mod norm;
mod pages;
mod pointwise;
mod priority;
pub mod profile;
mod vectorised;
mod widen;
mod winograd;

use candle_core::{CpuStorage, Layout, Result};

pub(crate) use allocator::give_pages_back;
pub use allocator::keep_pages;
pub use attention::attention;
pub use conv2d::{ConvGeometry, conv2d};
pub use gemm::fma_peak;
pub use int8::linear_int8;
pub(crate) use int8::{quantise_row, takes as takes_int8, widen_i8};
pub use isa::{Isa, limit_isa};
pub use layout::{channels_first, channels_last, nearest_positions, upsample_nearest};
pub use linear::linear;
pub use norm::{group_norm, layer_norm};
pub use pointwise::{Pointwise, geglu, pointwise};
pub use priority::stand_back;
pub(crate) use widen::widen_f16;

/// The values of a contiguous f32 tensor.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => candle_core::bail!("a kernel needs contiguous tensors"),
    }
}

/// Sets the number of compute threads of this process, once: later calls change nothing.
///
/// `None` takes what the machine offers, which rayon asks of the operating system and which
/// respects a container's quota.
pub fn set_threads(threads: Option<usize>) {
    if let Some(threads) = threads {
        // The pool can be built only once per process; the first caller decides.
        let _ = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .build_global();
    }
}

/// Number of compute threads in use.
pub fn threads() -> usize {
    rayon::current_num_threads()
}
