//! The one error type that leaves the engine. Every message is one clear line that names the
//! cause and what to do about it.

use std::path::{Path, PathBuf};

use crate::fault::DeviceFault;
use crate::pipeline::Phase;

/// What can go wrong between a request and its image.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The request cannot be run on this model; `field` is the name of the request's field.
    #[error("{field}: {message}")]
    InvalidRequest {
        /// Name of the field of [`crate::GenerateRequest`] at fault.
        field: &'static str,
        /// What is wrong with it and what would be right.
        message: String,
    },
    /// The model folder cannot be used; `path` is the file or folder at fault.
    #[error("{}: {message}", path.display())]
    Model {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// The observer asked to stop ([`crate::Control::Cancel`]).
    #[error("cancelled")]
    Cancelled,
    /// Numbers overflowed or became undefined: there is no picture to show.
    #[error(
        "the model produced values that are not finite while {phase}; the weights are damaged or \
         the settings are out of their range (try a lower guidance_scale)"
    )]
    NonFinite {
        /// The phase in which it happened.
        phase: Phase,
    },
    /// The device failed, or the work does not fit it.
    #[error("the device failed: {0}")]
    Device(DeviceFault),
}

impl EngineError {
    pub(crate) fn model(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Model {
            path: path.as_ref().to_path_buf(),
            message: message.into(),
        }
    }

    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::InvalidRequest {
            field,
            message: message.into(),
        }
    }
}

impl From<candle_core::Error> for EngineError {
    fn from(error: candle_core::Error) -> Self {
        Self::Device(error.into())
    }
}
