//! What administrators can set while the server runs: wire types.

use serde::{Deserialize, Serialize};

/// Something that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingName {
    /// What the bar on every page says.
    SiteName,
    /// Whether people may ask for an account: `approval` or `off`.
    SelfSignUp,
    /// Whether administrators may look into others' images: `allowed` or `forbidden`.
    LooksIntoImages,
    /// Days that somebody stays signed in.
    SessionDays,
    /// The model of requests that name none.
    DefaultModel,
    /// Most images of one request.
    MaxBatch,
    /// Jobs one user may have waiting.
    QueueLimitPerUser,
    /// Jobs that may wait in all.
    QueueLimit,
    /// Whether an image that is there already answers the same request again: `on` or `off`.
    ResultCache,
    /// Days that the trash keeps images.
    TrashDays,
    /// Hours between backups that are made by themselves; 0: none.
    BackupEveryHours,
    /// How many of those are kept.
    BackupKeep,
}

impl SettingName {
    /// All of them, in the order of the page.
    pub const ALL: [Self; 12] = [
        Self::SiteName,
        Self::SelfSignUp,
        Self::SessionDays,
        Self::LooksIntoImages,
        Self::DefaultModel,
        Self::MaxBatch,
        Self::ResultCache,
        Self::QueueLimitPerUser,
        Self::QueueLimit,
        Self::TrashDays,
        Self::BackupEveryHours,
        Self::BackupKeep,
    ];

    /// Its name on the wire, in the database and in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SiteName => "site_name",
            Self::SelfSignUp => "self_sign_up",
            Self::LooksIntoImages => "looks_into_images",
            Self::SessionDays => "session_days",
            Self::DefaultModel => "default_model",
            Self::MaxBatch => "max_batch",
            Self::QueueLimitPerUser => "queue_limit_per_user",
            Self::QueueLimit => "queue_limit",
            Self::ResultCache => "result_cache",
            Self::TrashDays => "trash_days",
            Self::BackupEveryHours => "backup_every_hours",
            Self::BackupKeep => "backup_keep",
        }
    }
}

/// What may be written for a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettingKind {
    /// Some text, up to so many characters.
    Text {
        /// Most characters.
        longest: u32,
    },
    /// A whole number.
    Number {
        /// The smallest.
        least: u32,
        /// The largest.
        most: u32,
    },
    /// One of these words.
    Choice(Vec<String>),
}

/// A setting as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingRow {
    /// Which.
    pub name: SettingName,
    /// What holds now.
    pub value: String,
    /// What holds when nobody chose anything.
    pub default: String,
    /// What may be written.
    pub kind: SettingKind,
    /// When an administrator set it, Unix milliseconds; absent: nobody did.
    pub changed_at: Option<i64>,
    /// The flag of the command line that goes before any choice, e.g. "--queue-limit 50".
    pub fixed_by: Option<String>,
}
