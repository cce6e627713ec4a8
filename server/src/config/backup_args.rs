//! The options of `atelier backup` and `atelier restore`.

use super::DataDir;
use clap::Args;
use std::path::PathBuf;

/// Settings of `atelier backup`.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// Where everything is kept.
    #[command(flatten)]
    pub data_dir: DataDir,
    /// The archive to write; - for standard output [default: a new file in backups/ of the data folder].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Settings of `atelier restore`.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// The archive that `atelier backup` or the page wrote; - for standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where everything shall be.
    #[command(flatten)]
    pub data_dir: DataDir,
    /// Put aside what is in the data folder, instead of refusing.
    #[arg(long)]
    pub replace: bool,
}
