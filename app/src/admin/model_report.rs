//! What the admin page says of models, and what it can ask to be done: wire types.

use crate::account::Role;
use serde::{Deserialize, Serialize};

/// Models, fetches, and what both depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelsReport {
    /// Every model that was found, usable or not.
    pub models: Vec<ModelRow>,
    /// Fetches that run, have failed or were interrupted.
    pub fetches: Vec<FetchRow>,
    /// Where models are fetched to.
    pub folder: String,
    /// Free space there.
    pub free_bytes: Option<u64>,
    /// The hub's address.
    pub endpoint: String,
    /// Whether the server has an access token for it.
    pub has_token: bool,
    /// Whether the command line says which model is the default.
    pub default_is_fixed: bool,
}

impl ModelsReport {
    /// Whether something goes on that is worth watching.
    pub fn is_busy(&self) -> bool {
        let fetches = self.fetches.iter();
        let mut checks = self.models.iter().map(|model| &model.check);
        fetches
            .map(|fetch| fetch.state)
            .any(|state| state == FetchState::Running)
            || checks.any(|check| matches!(check, ModelCheck::Running { .. }))
    }
}

/// A model on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRow {
    /// The name that requests use.
    pub name: String,
    /// A sentence, where it can be used.
    pub description: Option<String>,
    /// E.g. "stable-diffusion-xl-base".
    pub kind: Option<String>,
    /// Bytes on disk.
    pub bytes: u64,
    /// How its weights are stored.
    pub dtype: Option<String>,
    /// Steps when a request names none.
    pub default_steps: Option<u32>,
    /// Guidance when a request names none.
    pub default_guidance_scale: Option<f64>,
    /// Where it lies.
    pub path: String,
    /// Where it came from, in words.
    pub origin: String,
    /// Whether requests that name none get it.
    pub is_default: bool,
    /// Whether it could be that.
    pub can_be_default: bool,
    /// Whether it may be deleted here.
    pub can_be_removed: bool,
    /// Why it cannot be used, where that is so.
    pub problem: Option<String>,
    /// What is known of its files.
    pub check: ModelCheck,
    /// The least role that may see and use it; viewer: everybody.
    pub least_role: Role,
}

/// Whether a model's files are what they should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ModelCheck {
    /// Nobody has looked.
    Never,
    /// Being looked at, or fetched again.
    Running {
        /// Damaged files are being fetched again.
        repairs: bool,
        /// From 0 to 1, where known.
        done: Option<f64>,
    },
    /// All was well.
    Sound {
        /// Unix milliseconds.
        at: i64,
        /// Every byte was compared, and not only what the files say of themselves.
        by_checksum: bool,
    },
    /// Something was not.
    Damaged {
        /// Unix milliseconds.
        at: i64,
        /// File by file.
        faults: Vec<String>,
        /// Whether the files can be fetched again.
        can_repair: bool,
    },
    /// The check or the repair itself failed.
    Failed {
        /// Why.
        message: String,
    },
}

/// A fetch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FetchRow {
    /// The name that the model will have.
    pub name: String,
    /// The repository, or the file in it.
    pub source: String,
    /// "fp16" or "full".
    pub variant: String,
    /// How it stands.
    pub state: FetchState,
    /// Bytes here.
    pub have: u64,
    /// Bytes in all, where known.
    pub total: Option<u64>,
    /// Files that are whole.
    pub files_done: u32,
    /// Files in all; 0 while that is not known.
    pub files: u32,
    /// Of late.
    pub bytes_per_s: Option<f64>,
    /// At that rate.
    pub seconds_left: Option<f64>,
    /// The files that bytes come for now.
    pub current: Vec<String>,
    /// The latest trouble, or why it failed.
    pub trouble: Option<String>,
    /// Whether it can be gone on with.
    pub can_resume: bool,
}

/// How a fetch stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchState {
    /// Bytes come.
    Running,
    /// It was stopped, or the server was.
    #[default]
    Interrupted,
    /// It gave up.
    Failed,
}

/// What to fetch, as the form has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewFetch {
    /// `OWNER/NAME`, `OWNER/NAME/FILE`, or the hub's address of either.
    pub model: String,
    /// The name it gets here.
    pub name: Option<String>,
    /// "fp16" or "full".
    pub variant: String,
}

/// What can be done to a model or a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelAct {
    /// Go on with a fetch.
    Resume,
    /// Stop a fetch; what has come stays.
    Stop,
    /// Throw away what a fetch has left.
    Discard,
    /// Look at every file.
    Check,
    /// Look at every file, and fetch damaged ones again.
    Repair,
    /// Delete from the disk.
    Remove,
    /// Use it when a request names none.
    MakeDefault,
}

impl ModelAct {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Stop => "stop",
            Self::Discard => "discard",
            Self::Check => "check",
            Self::Repair => "repair",
            Self::Remove => "remove",
            Self::MakeDefault => "make-default",
        }
    }
}
