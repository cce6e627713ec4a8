//! Weights on disk: which files of a component's folder hold them, and a loader that accounts for
//! every tensor.
//!
//! A component is built twice by the same code: first against the headers only, which finds every
//! missing, misshapen and unused tensor before any data is read, then for real.

mod files;
mod loader;

pub use files::{StoredTensor, WeightFiles, WeightSummary};
pub use loader::{Weights, load_component, survey};
