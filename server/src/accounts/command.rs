//! `atelier user`: managing users of a data folder from the command line.

use crate::config::UserArgs;

/// Runs one action of `atelier user`.
///
/// # Errors
/// One line for whoever typed it.
pub async fn run(_args: UserArgs) -> Result<(), String> {
    Err("atelier user lands next".into())
}
