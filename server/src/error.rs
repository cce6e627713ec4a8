//! Which error is for which layer. Rooms fail with [`ServerError`]; what crosses to pages and
//! clients is `AppError`, in words. The passage from one to the other is here, and it is where a
//! fault of ours is logged, once, with its cause and a reference that the answer carries too.

use atelier_app::error::AppError;

/// What a room of the server fails with.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Already in words for the person who asked.
    #[error(transparent)]
    Answer(#[from] AppError),
    /// The database.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// A file or folder.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, e.g. "storing an image".
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Anything else that must not happen; the words are for the log.
    #[error("{0}")]
    Broken(String),
}

impl ServerError {
    /// A shorthand for [`ServerError::Io`], for `map_err`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// A shorthand for [`ServerError::Broken`].
    pub fn broken(words: impl Into<String>) -> Self {
        Self::Broken(words.into())
    }
}

impl From<ServerError> for AppError {
    fn from(error: ServerError) -> Self {
        if let ServerError::Answer(answer) = error {
            return answer;
        }
        if is_disk_full(&error) {
            tracing::error!(error = %error, "the disk is full");
            return Self::Unavailable {
                message: "The server's disk is full. Nothing was saved; tell whoever runs it."
                    .into(),
            };
        }
        if is_busy(&error) {
            tracing::warn!(error = %error, "the database is busy");
            return Self::Unavailable {
                message: "The server is busy. Try again in a few seconds.".into(),
            };
        }
        let reference = new_reference();
        tracing::error!(%reference, error = %error, cause = ?error, "internal error");
        Self::Internal { reference }
    }
}

/// A short id that ties an answer to a log line.
pub fn new_reference() -> String {
    hex::encode(rand::random::<[u8; 6]>())
}

/// SQLite's primary result code, where the error has one.
fn sqlite_code(error: &sqlx::Error) -> Option<i64> {
    let code = error.as_database_error()?.code()?;
    // Extended codes keep the primary one in the low byte.
    code.parse::<i64>().ok().map(|code| code & 0xff)
}

fn is_busy(error: &ServerError) -> bool {
    const SQLITE_BUSY: i64 = 5;
    const SQLITE_LOCKED: i64 = 6;
    match error {
        ServerError::Database(sqlx::Error::PoolTimedOut) => true,
        ServerError::Database(error) => {
            matches!(sqlite_code(error), Some(SQLITE_BUSY | SQLITE_LOCKED))
        }
        _ => false,
    }
}

fn is_disk_full(error: &ServerError) -> bool {
    const SQLITE_FULL: i64 = 13;
    match error {
        ServerError::Database(error) => sqlite_code(error) == Some(SQLITE_FULL),
        ServerError::Io { source, .. } => matches!(
            source.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        ),
        _ => false,
    }
}

/// Whether the database refused a row because one like it exists.
pub fn is_unique_violation(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.is_unique_violation())
}
