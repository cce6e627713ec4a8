//! What a fetched model consists of, written into its folder: where it came from, and each file's
//! size and SHA-256. Beside it lies what the last check found.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::hub::{Repo, check_path};
use super::select::Variant;

/// The manifest's file name.
pub const MANIFEST: &str = "atelier-manifest.json";
/// Where a check's result is kept.
pub const CHECKED: &str = ".atelier-checked.json";

/// Largest of these files that is read.
const LIMIT: u64 = 32 << 20;

/// `atelier-manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The shape of this file: 1.
    pub format: u32,
    /// The repository.
    pub repo: Repo,
    /// The revision that was asked for.
    pub revision: String,
    /// The commit that it named.
    pub commit: String,
    /// Which weights were preferred.
    pub variant: Variant,
    /// The weights file, where the model is one file and no folder of components.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub single_file: Option<String>,
    /// Unix milliseconds.
    pub fetched_at: i64,
    /// Every file by its path.
    pub files: BTreeMap<String, FileSum>,
}

/// What a file should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSum {
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// What the last check of a folder found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Unix milliseconds.
    pub at: i64,
    /// The files at fault, each with what is wrong; none where all is well.
    pub damaged: Vec<String>,
    /// Whether every byte was compared, or only what the files say of themselves.
    pub by_checksum: bool,
}

impl Manifest {
    /// The manifest of a folder; `None` where it has none.
    ///
    /// # Errors
    /// In words, where it is there but cannot be used.
    pub fn read(folder: &Path) -> Result<Option<Self>, String> {
        let Some(manifest) = read_json::<Self>(&folder.join(MANIFEST))? else {
            return Ok(None);
        };
        if manifest.format != 1 {
            return Err(format!(
                "{MANIFEST} is of format {}, which this version does not know",
                manifest.format
            ));
        }
        let named = manifest.files.keys().chain(&manifest.single_file);
        for path in named {
            check_path(path).map_err(|why| format!("{MANIFEST} names {path:?}, which {why}"))?;
        }
        Ok(Some(manifest))
    }

    /// All bytes.
    pub fn bytes(&self) -> u64 {
        self.files
            .values()
            .fold(0, |sum, file| sum.saturating_add(file.size))
    }

    /// `OWNER/NAME@COMMIT`, shortened for people.
    pub fn origin(&self) -> String {
        format!("{}@{}", self.repo, short(&self.commit))
    }
}

impl Checked {
    /// The last check of a folder, where there was one. A damaged note is no note.
    pub fn read(folder: &Path) -> Option<Self> {
        read_json(&folder.join(CHECKED)).ok().flatten()
    }

    /// Leaves a note in the folder.
    ///
    /// # Errors
    /// The file system's; a folder that may only be read can be checked all the same.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        write_json(&folder.join(CHECKED), self)
    }
}

/// The first characters of a commit.
pub fn short(commit: &str) -> &str {
    commit
        .char_indices()
        .nth(10)
        .map_or(commit, |(end, _)| &commit[..end])
}

/// Reads a JSON file of ours; `None` where there is none.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let words =
        |error: &dyn std::fmt::Display| format!("{} cannot be read: {error}", path.display());
    match fs::metadata(path) {
        Ok(about) if about.len() > LIMIT => return Err(words(&"it is far too large")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(words(&error)),
    }
    let bytes = fs::read(path).map_err(|error| words(&error))?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| words(&error))
}

/// Writes a JSON file whole or not at all, and durably.
pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let mut file = File::create(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Makes a rename in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
