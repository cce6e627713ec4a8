//! A model folder as its configs describe it, before any weight is read.

use std::path::Path;

use crate::EngineError;

/// What a folder holds, read from its configs and the headers of its weight files.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelDescription {
    /// What kind of model it is; `stable-diffusion-xl-base` is the only one today.
    pub kind: String,
    /// Width in pixels that the model was trained for.
    pub default_width: u32,
    /// Height in pixels that the model was trained for.
    pub default_height: u32,
    /// Width and height must be multiples of this (the VAE's scale factor, 8 for SDXL).
    pub size_multiple: u32,
    /// Number of weights in all components, where the weight files are at hand.
    pub parameters: Option<u64>,
    /// How the weights are stored: `f32`, `f16`, `bf16`, or several joined by `+`.
    pub stored_dtype: String,
    /// The folder's own scheduler, by its diffusers class name without `Scheduler`.
    pub scheduler: String,
    /// Every scheduler that a request may name.
    pub schedulers: Vec<String>,
    /// Tokens of a prompt that the model sees, begin and end included (77 for SDXL).
    pub max_prompt_tokens: u32,
}

/// Reads a folder's configs, and no weights: a cheap check for listing models and validating
/// requests.
///
/// # Errors
/// [`EngineError::Model`] naming the file, and in it the key and value, that cannot be used.
pub fn inspect(folder: &Path) -> Result<ModelDescription, EngineError> {
    Err(EngineError::model(folder, "reading folders lands next"))
}
