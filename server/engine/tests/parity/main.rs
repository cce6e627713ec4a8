//! Parity: everything the engine computes, against what diffusers computed for the same folders.
//!
//! The numbers lie in `tests/fixtures/`; `tests/record_parity.py` recorded them, and says how. The
//! recorder also proves that the pictures can tell right from wrong: each mistake that an SDXL
//! implementation is likely to make moves at least one of them by several times the tolerance,
//! and rounding moves none by a tenth of it. Run with `--nocapture` to see the worst deviation of
//! every case.

mod decoding;
mod fixtures;
mod generic;
mod gguf;
mod hostile;
mod images;
mod int8;
mod lora;
mod noise;
mod numbers;
mod pipelines;
mod previews;
mod prompts;
mod refusals;
mod schedulers;
mod schedules;
mod second_opinion;
mod single_file;
mod tiling;
mod tokens;
