//! The only error that crosses the wire between the pages and the server.

use leptos::server_fn::codec::JsonEncoding;
use leptos::server_fn::error::{FromServerFnError, ServerFnErrorErr};
use serde::{Deserialize, Serialize};

/// What went wrong, in words a person can act on.
///
/// Each variant is one class of answer: pages branch on the variant, never on the words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AppError {
    /// Nobody is signed in, or the session has ended.
    #[error("Sign in to go on.")]
    SignInRequired,
    /// Somebody is signed in who may not do this.
    #[error("This needs an administrator.")]
    Forbidden,
    /// Somebody is signed in who may not do this, and there is more to say about it.
    #[error("{message}")]
    Refused {
        /// Why not, and what to do.
        message: String,
    },
    /// There is no such thing, or it belongs to somebody else: the two look the same on purpose.
    #[error("There is nothing here (it may have been deleted).")]
    NotFound,
    /// One field of the request cannot be used.
    #[error("{message}")]
    Invalid {
        /// The field's name on the wire, e.g. `num_inference_steps`.
        field: String,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// The request is fine, but a limit is reached.
    #[error("{message}")]
    TooMany {
        /// Which limit, in words.
        message: String,
        /// When trying again makes sense, in seconds.
        retry_after_s: u32,
    },
    /// The server cannot do this now (starting, stopping, disk full).
    #[error("{message}")]
    Unavailable {
        /// Why, in words.
        message: String,
    },
    /// The request never got a proper answer (network down, body unreadable).
    #[error("The server could not be reached: {0}")]
    Transport(String),
    /// A fault of ours. The log has the details under this reference.
    #[error("Something went wrong on the server (reference {reference}).")]
    Internal {
        /// A short id that the log line carries too.
        reference: String,
    },
}

impl AppError {
    /// A shorthand for [`AppError::Invalid`].
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            message: message.into(),
        }
    }

    /// A shorthand for [`AppError::Refused`].
    pub fn refused(message: impl Into<String>) -> Self {
        Self::Refused {
            message: message.into(),
        }
    }

    /// The field at fault, where there is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Invalid { field, .. } => Some(field),
            _ => None,
        }
    }
}

impl FromServerFnError for AppError {
    type Encoder = JsonEncoding;

    fn from_server_fn_error(error: ServerFnErrorErr) -> Self {
        Self::Transport(error.to_string())
    }
}
