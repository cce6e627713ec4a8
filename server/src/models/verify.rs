//! Whether a model on disk is still what was fetched: every file hashed again and compared with the
//! manifest. A folder without one is checked as far as its files speak for themselves.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use atelier_engine::inspect;
use sha2::{Digest as _, Sha256};

use super::demo;
use super::manifest::{CHECKED, Checked, FileSum, MANIFEST, Manifest};
use crate::db::now_ms;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong, file by file.
    pub damaged: Vec<Damage>,
    /// Files that the manifest does not know; they are left alone.
    pub strangers: Vec<String>,
    /// Why the engine cannot use the model, though every file is what it should be.
    pub unusable: Option<String>,
    /// How much was checked.
    pub thoroughness: Thoroughness,
    /// Files looked at.
    pub files: usize,
    /// Bytes read.
    pub bytes: u64,
}

/// A file at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its path in the model's folder.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
}

/// How much a check can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thoroughness {
    /// Every byte was compared with the checksums of the manifest.
    Checksums,
    /// Every byte was compared with the copy inside this program.
    BuiltIn,
    /// There is no manifest: configs, tokenizers and the headers of the weights were read.
    HeadersOnly,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.unusable.is_none()
    }
}

/// Checks a model's folder (or file). `progress` hears the bytes read so far and all there are, and
/// answers whether to go on.
///
/// # Errors
/// In words, where the check itself could not be done or was stopped.
pub fn verify(path: &Path, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<Verdict, String> {
    let folder = if path.is_file() {
        path.parent().unwrap_or(path)
    } else {
        path
    };
    if demo::is_unpacked_demo(path) {
        return Ok(built_in(path));
    }
    let verdict = match Manifest::read(folder)? {
        // A lone file beside others belongs to a manifest only if that names it.
        Some(manifest) if path.is_dir() || manifest.single_file.is_some() => {
            by_checksum(folder, &manifest, progress)?
        }
        _ => headers(path),
    };
    if path.is_dir() || verdict.thoroughness == Thoroughness::Checksums {
        let checked = Checked {
            at: now_ms(),
            damaged: verdict
                .damaged
                .iter()
                .map(|damage| format!("{}: {}", damage.path, damage.what))
                .chain(verdict.unusable.clone())
                .collect(),
            by_checksum: verdict.thoroughness == Thoroughness::Checksums,
        };
        if let Err(error) = checked.write(folder) {
            // Model folders are often read-only; the answer stands all the same.
            tracing::debug!(%error, folder = %folder.display(), "the result of a check could not be kept");
        }
    }
    Ok(verdict)
}

fn by_checksum(
    folder: &Path,
    manifest: &Manifest,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Verdict, String> {
    let all = manifest.bytes();
    let mut read = 0;
    let mut damaged = Vec::new();
    for (path, sum) in &manifest.files {
        let found = check_file(&folder.join(path), sum, &mut |more| {
            read += more;
            progress(read, all)
        });
        match found {
            Ok(None) => {}
            Ok(Some(what)) => damaged.push(Damage {
                path: path.clone(),
                what,
            }),
            Err(()) => return Err("the check was stopped".into()),
        }
    }
    let mut strangers = Vec::new();
    list_files(folder, folder, &mut strangers);
    strangers
        .retain(|path| !manifest.files.contains_key(path) && path != MANIFEST && path != CHECKED);
    let unusable = if damaged.is_empty() {
        why_unusable(&place_of(folder, manifest))
    } else {
        None
    };
    Ok(Verdict {
        damaged,
        strangers,
        unusable,
        thoroughness: Thoroughness::Checksums,
        files: manifest.files.len(),
        bytes: read,
    })
}

/// What the engine opens: the folder, or the one file of it.
pub(super) fn place_of(folder: &Path, manifest: &Manifest) -> PathBuf {
    match &manifest.single_file {
        Some(file) => folder.join(file),
        None => folder.to_path_buf(),
    }
}

/// What is wrong with a file; `Err` when the check was stopped.
fn check_file(
    path: &Path,
    sum: &FileSum,
    more: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<String>, ()> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some("is missing".into()));
        }
        Err(error) => return Ok(Some(format!("cannot be opened: {error}"))),
    };
    match file.metadata() {
        Ok(about) if !about.is_file() => return Ok(Some("is no plain file".into())),
        Ok(about) if about.len() != sum.size => {
            return Ok(Some(format!(
                "has {} bytes instead of {}",
                about.len(),
                sum.size
            )));
        }
        Ok(_) => {}
        Err(error) => return Ok(Some(format!("cannot be read: {error}"))),
    }
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block) {
            Ok(0) => break,
            Ok(got) => {
                hash.update(&block[..got]);
                if !more(got as u64) {
                    return Err(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Some(format!("cannot be read: {error}"))),
        }
    }
    let same = hex::encode(hash.finalize()) == sum.sha256;
    Ok((!same).then(|| "has other bytes than were fetched (SHA-256 differs)".into()))
}

fn built_in(folder: &Path) -> Verdict {
    let (files, damaged) = demo::compare(folder);
    Verdict {
        damaged: damaged
            .into_iter()
            .map(|path| Damage {
                path: path.to_owned(),
                what: "is not what this program carries; it is put right at the next start of the server".into(),
            })
            .collect(),
        strangers: Vec::new(),
        unusable: None,
        thoroughness: Thoroughness::BuiltIn,
        files,
        bytes: super::fetch::bytes_in(folder),
    }
}

fn headers(path: &Path) -> Verdict {
    let mut files = Vec::new();
    if path.is_dir() {
        list_files(path, path, &mut files);
    }
    Verdict {
        damaged: Vec::new(),
        strangers: Vec::new(),
        unusable: why_unusable(path),
        thoroughness: Thoroughness::HeadersOnly,
        files: files.len().max(1),
        bytes: 0,
    }
}

/// Why the engine cannot use what lies there: configs, tokenizers, headers of the weights.
pub fn why_unusable(path: &Path) -> Option<String> {
    match inspect(path) {
        Err(error) => Some(error.to_string()),
        // Configs alone describe a model, but make no image.
        Ok(description) if description.parameters.is_none() => Some(format!(
            "{}: a component has no weights; fetch or copy the model again",
            path.display()
        )),
        Ok(_) => None,
    }
}

fn list_files(root: &Path, folder: &Path, into: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            list_files(root, &path, into);
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) {
            into.push(name.to_owned());
        }
    }
    into.sort();
}
