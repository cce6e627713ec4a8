//! Fetching a model: plan, download, check, install.
//!
//! Everything is gathered in `models/.fetch/NAME/` and becomes `models/NAME/` by one rename when
//! the last byte has been checked. Whatever ends a fetch before that (a cut connection, ctrl-c, a
//! power cut) leaves parts that the next fetch of the same model goes on from.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::demo;
use super::hub::{Address, Hub, HubError, Listing, RemoteFile, Repo};
use super::lock::{Lock, lock, lock_soon};
use super::manifest::{FileSum, MANIFEST, Manifest, read_json, sync_folder, write_json};
use super::part::{Task, blocking};
use super::select::{self, Selection, Variant};
use crate::db::now_ms;

/// Where parts are gathered, below the folder of models.
pub const WORKSHOP: &str = ".fetch";
/// What is being fetched, in its workshop.
const STATE: &str = "fetch.json";
/// Files fetched at the same time: one connection seldom fills the line.
const AT_ONCE: usize = 4;
/// Disk space that a fetch leaves free.
const SPARE: u64 = 64 << 20;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The name that the model gets here.
    pub name: String,
    /// The repository.
    pub repo: Repo,
    /// A branch, tag or commit.
    pub revision: String,
    /// One weights file instead of the whole folder.
    pub file: Option<String>,
    /// Which weights are preferred.
    pub variant: Variant,
}

/// News of a fetch. `file` is a place in [`Event::Planned`]'s list.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What will be fetched.
    Planned {
        /// The commit.
        commit: String,
        /// Every file and its size, where that is known.
        files: Vec<(String, Option<u64>)>,
        /// Bytes that an earlier run has left.
        kept: u64,
        /// What was chosen among several.
        notes: Vec<String>,
    },
    /// What an earlier run left of a file is being read.
    Checking {
        /// Which.
        file: usize,
        /// Bytes read.
        have: u64,
    },
    /// More of a file has come.
    Bytes {
        /// Which.
        file: usize,
        /// Bytes in all.
        have: u64,
    },
    /// The connection failed and is opened again after a pause.
    Retrying {
        /// Which.
        file: usize,
        /// What happened.
        reason: String,
        /// The pause.
        seconds: f64,
    },
    /// What came was wrong; the file is fetched again from its beginning.
    Restarting {
        /// Which.
        file: usize,
        /// What was wrong.
        reason: String,
    },
    /// A file is whole and checked.
    Finished {
        /// Which.
        file: usize,
    },
}

/// Whoever hears the news.
pub type Watch = Arc<dyn Fn(Event) + Send + Sync>;

/// Why a model was not fetched, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The hub or the way to it.
    #[error("{0}")]
    Hub(String),
    /// The request itself, or what is here already.
    #[error("{0}")]
    Refused(String),
    /// The disk.
    #[error("{what}: {source}")]
    Disk {
        /// What was touched.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl FetchError {
    /// For `map_err`: the file system's complaint with its place.
    pub(super) fn disk(what: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let what = what.as_ref().display().to_string();
        move |source| Self::Disk { what, source }
    }
}

impl From<HubError> for FetchError {
    fn from(error: HubError) -> Self {
        Self::Hub(error.to_string())
    }
}

/// What was installed.
#[derive(Debug)]
pub struct Installed {
    /// The model's folder.
    pub folder: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// It was here already, from the same commit.
    pub was_there: bool,
}

/// An unfinished fetch on disk.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// What was asked for.
    pub wish: Wish,
    /// Bytes that have come.
    pub have: u64,
    /// Bytes in all, where that is known.
    pub total: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    wish: Wish,
    total: Option<u64>,
    /// Files that are whole.
    done: BTreeMap<String, Done>,
}

/// A file that is whole, and what the hub said of it when it was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Done {
    sum: FileSum,
    git_sha1: Option<String>,
    commit: String,
}

impl Wish {
    /// From what was typed: the name is made from the repository's or the file's.
    ///
    /// # Errors
    /// In words.
    pub fn new(address: Address, name: Option<&str>, variant: Variant) -> Result<Self, String> {
        let name = match (name, &address.file) {
            (Some(name), _) => name.to_owned(),
            (None, Some(file)) => {
                let last = file.rsplit('/').next().unwrap_or(file);
                let stem = last.rsplit_once('.').map_or(last, |(stem, _)| stem);
                stem.chars().take(64).collect()
            }
            (None, None) => address.repo.name.chars().take(64).collect(),
        };
        check_name(&name)?;
        Ok(Self {
            name,
            repo: address.repo,
            revision: address.revision.unwrap_or_else(|| "main".into()),
            file: address.file,
            variant,
        })
    }
}

/// A name that can be a folder and part of a request.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = (1..=64).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c));
    if !fits {
        return Err(
            "a model's name has 1 to 64 letters, digits, dots, dashes and underscores, and does not begin with a dot or a dash".into(),
        );
    }
    if [demo::NAME, demo::REFINER].contains(&name) || demo::is_unpacked_demo(Path::new(name)) {
        return Err(format!(
            "the name {name} is the demo model's; choose another"
        ));
    }
    Ok(())
}

/// Fetches a model into `models_dir/NAME`.
///
/// # Errors
/// [`FetchError`]; nothing is installed then, and what is good of it waits to be gone on from.
pub async fn fetch(
    hub: &Hub,
    models_dir: &Path,
    wish: &Wish,
    watch: &Watch,
) -> Result<Installed, FetchError> {
    check_name(&wish.name).map_err(FetchError::Refused)?;
    let lock = Arc::new(lock_soon(models_dir, &wish.name).await?);
    let target = models_dir.join(&wish.name);
    let here = Manifest::read(&target).unwrap_or_default();
    if target.exists() && here.as_ref().is_none_or(|here| here.repo != wish.repo) {
        return Err(FetchError::Refused(format!(
            "there is another model named {} already; choose a name with --name, or remove it first",
            wish.name
        )));
    }

    // 1. What there is, at one commit, and what of it is wanted.
    let listing = hub.list(&wish.repo, &wish.revision).await?;
    let selection = choose(hub, wish, &listing).await?;
    if let Some(manifest) = here {
        let same =
            manifest.variant == wish.variant && manifest.single_file == selection.single_file;
        if manifest.commit == listing.commit && same {
            return Ok(Installed {
                folder: target,
                manifest,
                was_there: true,
            });
        }
        return Err(FetchError::Refused(format!(
            "{} is here already, as {} ({}); fetch it under another name with --name, or remove it first",
            wish.name,
            manifest.origin(),
            manifest.variant
        )));
    }
    let gathering = Gathering::open(models_dir, wish, &listing.commit, &selection.files)?;
    (watch)(Event::Planned {
        commit: listing.commit.clone(),
        files: selection
            .files
            .iter()
            .map(|file| (file.path.clone(), file.size))
            .collect(),
        kept: gathering.kept,
        notes: selection.notes.clone(),
    });
    let most = gathering.check_space(models_dir)?;

    // 2. The bytes.
    let sums = gathering
        .run(
            hub,
            wish,
            &listing.commit,
            &selection.files,
            watch,
            &lock,
            most,
        )
        .await?;

    // 3. The model, all at once.
    let manifest = Manifest {
        format: 1,
        repo: wish.repo.clone(),
        revision: wish.revision.clone(),
        commit: listing.commit,
        variant: wish.variant,
        single_file: selection.single_file,
        fetched_at: now_ms(),
        files: sums,
    };
    let (folder, room) = (gathering.folder, gathering.files);
    let (models_dir, written) = (models_dir.to_owned(), manifest.clone());
    let held = lock.clone();
    blocking(move || {
        let _held = held;
        let install = || -> io::Result<()> {
            remove_strangers(&room, &room, &written)?;
            write_json(&room.join(MANIFEST), &written)?;
            sync_tree(&room)?;
            fs::rename(&room, &target)?;
            sync_folder(&models_dir)?;
            fs::remove_dir_all(&folder)
        };
        install().map_err(FetchError::disk(&target))?;
        Ok(Installed {
            folder: target,
            manifest: written,
            was_there: false,
        })
    })
    .await
}

async fn choose(hub: &Hub, wish: &Wish, listing: &Listing) -> Result<Selection, FetchError> {
    let refused = |why: String| FetchError::Refused(format!("{}: {why}", wish.repo));
    if let Some(file) = &wish.file {
        return select::one_file(listing, file).map_err(refused);
    }
    let index = "model_index.json";
    if !listing.files.iter().any(|file| file.path == index) {
        return Err(refused(select::no_pipeline(listing)));
    }
    let bytes = hub.small_file(&wish.repo, &listing.commit, index).await?;
    select::pipeline(listing, &bytes, wish.variant).map_err(refused)
}

/// Fetches single files of an installed model again, at the commit of its manifest.
///
/// # Errors
/// [`FetchError`]; files that came before the error are in place already.
pub async fn repair(
    hub: &Hub,
    models_dir: &Path,
    name: &str,
    damaged: &[String],
    watch: &Watch,
) -> Result<(), FetchError> {
    let lock = Arc::new(lock(models_dir, name)?);
    let target = models_dir.join(name);
    let manifest = Manifest::read(&target)
        .map_err(FetchError::Refused)?
        .ok_or_else(|| {
            FetchError::Refused(format!(
                "{name} has no {MANIFEST}, so it is not known where it came from; fetch it again under a new name"
            ))
        })?;
    let files: Vec<RemoteFile> = manifest
        .files
        .iter()
        .filter(|(path, _)| damaged.contains(path))
        .map(|(path, sum)| RemoteFile {
            path: path.clone(),
            size: Some(sum.size),
            sha256: Some(sum.sha256.clone()),
            git_sha1: None,
        })
        .collect();
    let wish = Wish {
        name: name.to_owned(),
        repo: manifest.repo.clone(),
        revision: manifest.commit.clone(),
        file: manifest.single_file.clone(),
        variant: manifest.variant,
    };
    let gathering = Gathering::open(models_dir, &wish, &manifest.commit, &files)?;
    (watch)(Event::Planned {
        commit: manifest.commit.clone(),
        files: files
            .iter()
            .map(|file| (file.path.clone(), file.size))
            .collect(),
        kept: gathering.kept,
        notes: Vec::new(),
    });
    let most = gathering.check_space(models_dir)?;
    gathering
        .run(hub, &wish, &manifest.commit, &files, watch, &lock, most)
        .await?;
    blocking(move || {
        let _held = lock;
        let replace = || -> io::Result<()> {
            for file in &files {
                let place = target.join(&file.path);
                let parent = place.parent().unwrap_or(&target);
                fs::create_dir_all(parent)?;
                fs::rename(gathering.files.join(&file.path), &place)?;
                sync_folder(parent)?;
            }
            // Written anew, so that whoever has the old files in memory notices.
            write_json(&target.join(MANIFEST), &manifest)?;
            fs::remove_dir_all(&gathering.folder)
        };
        replace().map_err(FetchError::disk(&target))
    })
    .await
}

/// Every unfinished fetch in a folder of models, by name.
pub fn unfinished(models_dir: &Path) -> BTreeMap<String, Unfinished> {
    let Ok(entries) = fs::read_dir(models_dir.join(WORKSHOP)) else {
        return BTreeMap::new();
    };
    entries
        .filter_map(|entry| {
            let folder = entry.ok()?.path();
            let state: State = read_json(&folder.join(STATE)).ok().flatten()?;
            let found = Unfinished {
                have: bytes_in(&folder.join("files")),
                total: state.total,
                wish: state.wish,
            };
            Some((found.wish.name.clone(), found))
        })
        .collect()
}

/// Throws an unfinished fetch away.
///
/// # Errors
/// [`FetchError::Refused`] while it runs or where there is none.
pub fn discard(models_dir: &Path, name: &str) -> Result<(), FetchError> {
    check_name(name).map_err(FetchError::Refused)?;
    let folder = models_dir.join(WORKSHOP).join(name);
    if !folder.is_dir() {
        return Err(FetchError::Refused(format!("no fetch of {name} was begun")));
    }
    let _lock = lock(models_dir, name)?;
    fs::remove_dir_all(&folder).map_err(FetchError::disk(&folder))
}

/// The folder that a fetch gathers its files in.
struct Gathering {
    folder: PathBuf,
    files: PathBuf,
    state: State,
    /// Bytes of earlier runs that are still good.
    kept: u64,
    /// Bytes still to come, as far as sizes are known.
    missing: u64,
}

impl Gathering {
    /// Opens it, and throws away what an earlier run left of files that have changed since.
    fn open(
        models_dir: &Path,
        wish: &Wish,
        commit: &str,
        wanted: &[RemoteFile],
    ) -> Result<Self, FetchError> {
        let folder = models_dir.join(WORKSHOP).join(&wish.name);
        let files = folder.join("files");
        let disk = |error| FetchError::disk(&folder)(error);
        let old: Option<State> = read_json(&folder.join(STATE)).unwrap_or_default();
        let mut done = match old {
            Some(old) if old.wish.repo == wish.repo => old.done,
            // A part of another repository's file of the same path would be no beginning of this one.
            _ => {
                remove_tree(&folder).map_err(disk)?;
                BTreeMap::new()
            }
        };
        fs::create_dir_all(&files).map_err(disk)?;
        done.retain(|path, done| {
            let listed = wanted.iter().find(|file| file.path == *path);
            let whole =
                fs::metadata(files.join(path)).is_ok_and(|about| about.len() == done.sum.size);
            whole && listed.is_some_and(|file| done.is_still(file, commit))
        });
        let mut total = Some(0_u64);
        let mut known = 0_u64;
        let mut kept = 0;
        for file in wanted {
            total = match (total, file.size) {
                (Some(sum), Some(size)) => Some(sum.checked_add(size).ok_or_else(|| {
                    FetchError::Refused(format!("{} lists sizes that no disk can hold", wish.repo))
                })?),
                _ => None,
            };
            known = known.saturating_add(file.size.unwrap_or(0));
            kept += match done.get(&file.path) {
                Some(done) => done.sum.size,
                None => {
                    remove_file(&files.join(&file.path)).map_err(disk)?;
                    let part = files.join(format!("{}.part", file.path));
                    fs::metadata(part).map_or(0, |about| about.len())
                }
            };
        }
        let state = State {
            wish: wish.clone(),
            total,
            done,
        };
        write_json(&folder.join(STATE), &state).map_err(disk)?;
        Ok(Self {
            folder,
            files,
            state,
            kept,
            missing: known.saturating_sub(kept),
        })
    }

    /// Makes sure of the disk; answers the bytes that one file of unknown size may take.
    fn check_space(&self, models_dir: &Path) -> Result<u64, FetchError> {
        let free = free_space(models_dir).map_err(FetchError::disk(models_dir))?;
        if self.missing > free.saturating_sub(SPARE) {
            return Err(FetchError::Refused(format!(
                "{} needs {} more, but only {} are free in {}; make room, or choose another folder with --data-dir",
                self.state.wish.name,
                Bytes(self.missing),
                Bytes(free),
                models_dir.display()
            )));
        }
        Ok(free.saturating_sub(SPARE))
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "each is a different thing; the callers are two"
    )]
    async fn run(
        &self,
        hub: &Hub,
        wish: &Wish,
        commit: &str,
        wanted: &[RemoteFile],
        watch: &Watch,
        lock: &Arc<Lock>,
        most: u64,
    ) -> Result<BTreeMap<String, FileSum>, FetchError> {
        let state = Mutex::new(self.state.clone());
        let fetched = stream::iter(wanted.iter().cloned().enumerate().map(|(place, file)| {
            let state = &state;
            async move {
                if let Some(done) = self.state.done.get(&file.path) {
                    (watch)(Event::Bytes {
                        file: place,
                        have: done.sum.size,
                    });
                    (watch)(Event::Finished { file: place });
                    return Ok((file.path.clone(), done.sum.clone()));
                }
                let task = Task {
                    hub,
                    repo: &wish.repo,
                    commit,
                    place,
                    folder: &self.files,
                    watch,
                    lock,
                    most,
                };
                let sum = task.run(&file).await?;
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                let done = Done {
                    sum: sum.clone(),
                    git_sha1: file.git_sha1.clone(),
                    commit: commit.to_owned(),
                };
                state.done.insert(file.path.clone(), done);
                write_json(&self.folder.join(STATE), &*state)
                    .map_err(FetchError::disk(&self.folder))?;
                Ok::<_, FetchError>((file.path.clone(), sum))
            }
        }));
        fetched.buffer_unordered(AT_ONCE).try_collect().await
    }
}

impl Done {
    /// Whether the file that the hub lists now is the one that was fetched.
    fn is_still(&self, file: &RemoteFile, commit: &str) -> bool {
        match (&file.sha256, &file.git_sha1) {
            (Some(hash), _) => *hash == self.sum.sha256,
            (None, Some(hash)) => self.git_sha1.as_ref() == Some(hash),
            // Without a hash only the commit says that nothing has changed.
            (None, None) => self.commit == commit,
        }
    }
}

/// A size for people, as the pages write it.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", indicatif::BinaryBytes(self.0))
    }
}

pub(crate) fn free_space(folder: &Path) -> io::Result<u64> {
    let about = rustix::fs::statvfs(folder)?;
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}

/// Bytes of all plain files below a folder; what cannot be read counts nothing.
pub fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => bytes_in(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |about| about.len()),
            _ => 0,
        })
        .sum()
}

/// Removes what an earlier run, with other wishes, left beside the files of this one.
fn remove_strangers(root: &Path, folder: &Path, manifest: &Manifest) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_strangers(root, &path, manifest)?;
            // Fails where something is left in it, which is as it should be.
            let _ = fs::remove_dir(&path);
        } else {
            let relative = path.strip_prefix(root).unwrap_or(&path);
            let known = relative
                .to_str()
                .is_some_and(|name| manifest.files.contains_key(name));
            if !known {
                fs::remove_file(&path)?;
            }
        }
    }
    Ok(())
}

/// Makes the entries of all folders below `folder` durable; the files are already.
fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        }
    }
    sync_folder(folder)
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error)
            if error.kind() != io::ErrorKind::NotFound
                && error.kind() != io::ErrorKind::NotADirectory =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}
