//! LoRAs (arXiv:2106.09685) and LoCons: small differences to a model's weights, applied beside the
//! weights and never merged into them, as peft does unless told to fuse.
//!
//! A file's keys are taken apart in `keys`, its factors paired in [`LoraFile`], and both
//! resolved to the layers of a loaded model once; what a request asks for is then put together in
//! no time, file by file and weight by weight.

mod file;
mod keys;
mod shelf;
mod targets;

use std::path::Path;

pub use file::{LoraDescription, LoraFile};
pub use keys::Part;
pub use shelf::LoraShelf;
pub use targets::LoraTargets;

use crate::EngineError;

/// Reads a LoRA's header: what it acts on and what it says about itself, without any model.
///
/// # Errors
/// [`EngineError::Model`] for a file that is no LoRA of an SDXL model, with the reason.
pub fn inspect_lora(path: &Path) -> Result<LoraDescription, EngineError> {
    LoraFile::open(path)?.describe()
}

/// How many names an error lists before it only counts.
const NAMED: usize = 4;

fn listed(names: &[String]) -> String {
    let mut text = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED {
        text.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    text
}
