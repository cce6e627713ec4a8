//! Logs. They go to standard error, so that standard output stays for what a person must read
//! (address, setup code, device decision). Prompts, passwords and tokens are never logged.

use crate::config::LogFormat;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Turns logging on for this process; a second call changes nothing.
///
/// # Errors
/// A line that says what is wrong with `filter`.
pub fn start(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        format!("--log: {filter:?} is no filter ({error}); try info or atelier_server=debug")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // Tests start several servers in one process; the first one's logging stays.
    let _ = match format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    Ok(())
}
