//! Weights on disk: which files of a component's folder hold them, and a loader that accounts for
//! every tensor. Matrices stay where they lie, in their stored format; only norms, biases and
//! embeddings are read and widened.
//!
//! A component is built twice by the same code: first against the headers only, which finds every
//! missing, misshapen and unused tensor before any data is read, then for real.

mod files;
mod gguf;
mod int8;
pub mod ldm;
mod loader;
mod mapped;
mod quantised;
mod residency;
mod stored;

pub use files::{StoredTensor, WeightFiles, WeightSummary};
pub use gguf::{GgufHeader, GgufKind, GgufTensor, parse_gguf};
pub use int8::Int8Matrix;
pub use loader::{Weights, load_adaptable, load_component, survey};
pub use mapped::{Header, ListedTensor, WeightFile, parse_safetensors, refuse_pickle};
pub use quantised::Quantisation;
pub use residency::Residency;
pub use stored::{Format, StoredMatrix};
