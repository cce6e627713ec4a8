//! What the page about backups shows: wire types.

use serde::{Deserialize, Serialize};

/// The backups that lie on the server, and the one being made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackupsReport {
    /// Latest first.
    pub backups: Vec<BackupRow>,
    /// The one being made.
    pub running: Option<BackupProgress>,
    /// Why the latest try made none, where that is so.
    pub trouble: Option<String>,
    /// Where they lie.
    pub folder: String,
    /// Free space there.
    pub free_bytes: Option<u64>,
    /// Hours between backups that are made by themselves, where they are.
    pub every_hours: Option<u32>,
    /// How many of those are kept.
    pub kept: u32,
}

/// A backup that is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRow {
    /// The file's name.
    pub name: String,
    /// Unix milliseconds.
    pub at: i64,
    /// Its size.
    pub bytes: u64,
    /// Images in it, where that can still be read.
    pub images: Option<u64>,
    /// Made by the schedule, and deleted by it.
    pub by_itself: bool,
}

/// How far a backup is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupProgress {
    /// Unix milliseconds.
    pub began_at: i64,
    /// Whether the database is being copied, which is one step of unknown length.
    pub copies_database: bool,
    /// Bytes of files that are in it.
    pub done: u64,
    /// Bytes of files in all; 0 while that is not known.
    pub total: u64,
}
