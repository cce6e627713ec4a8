//! One at a time: nobody fetches, repairs or removes a model while somebody else does.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use super::fetch::{FetchError, WORKSHOP};

/// A model's lock, so that nobody fetches, repairs or removes it at the same time. Ends with the
/// process, however that ends.
pub struct Lock(#[allow(dead_code, reason = "held, not read")] File);

/// Takes a model's lock.
///
/// # Errors
/// [`FetchError::Refused`] when somebody has it.
pub fn lock(models_dir: &Path, name: &str) -> Result<Lock, FetchError> {
    let workshop = models_dir.join(WORKSHOP);
    fs::create_dir_all(&workshop).map_err(FetchError::disk(&workshop))?;
    let path = workshop.join(format!("{name}.lock"));
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(FetchError::disk(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(fs::TryLockError::WouldBlock) => Err(FetchError::Refused(format!(
            "the model {name} is being fetched, repaired or removed already; wait until that has ended"
        ))),
        Err(fs::TryLockError::Error(source)) => Err(FetchError::disk(&path)(source)),
    }
}

/// As [`lock`], with patience: a fetch that has just failed may still have a write under way, which
/// holds the lock for a moment longer.
pub async fn lock_soon(models_dir: &Path, name: &str) -> Result<Lock, FetchError> {
    const LOOKS: u32 = 20;
    for _ in 0..LOOKS {
        match lock(models_dir, name) {
            Err(FetchError::Refused(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            other => return other,
        }
    }
    lock(models_dir, name)
}
