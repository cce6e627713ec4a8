//! Making a backup: the database is copied as it is at one moment (`VACUUM INTO`, which keeps no
//! writer waiting), then every file its rows name, then the copy itself.
//!
//! Files never change under their names, but images are deleted for good while the archive grows: what
//! is gone by then, from the disk and from the living database, is taken out of the copy too, so that
//! the archive is whole in itself. That is why the database comes last in it.

use super::{BackupError, PART, store};
use crate::db::{Db, now_ms};
use crate::gallery::ImageHash;
use crate::models::fetch::free_space;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The first entry.
pub(super) const MANIFEST: &str = "atelier-backup.json";
/// The last entry.
pub(super) const DATABASE: &str = "atelier.db";
/// What is written now, and all that is read.
pub(super) const FORMAT: u32 = 1;
/// Longest manifest that is read.
pub(super) const LONGEST_MANIFEST: u64 = 64 * 1024;
/// Room that is left on the disk besides what the backup takes.
const SPARE: u64 = 64 * 1024 * 1024;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// [`FORMAT`].
    pub(super) format: u32,
    /// The version of Atelier that made it.
    pub(super) version: String,
    /// Unix milliseconds.
    pub(super) created_at: i64,
    /// Images in it.
    pub(super) images: u64,
    /// Files in it, besides database and manifest.
    pub(super) files: u64,
    /// Bytes of those.
    pub(super) bytes: u64,
}

/// A folder of files that rows name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// Images, in `img`.
    Image,
    /// What people sent to start from, in `upload`.
    Upload,
}

/// A file that a row names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) kind: FileKind,
    pub(super) hash: ImageHash,
    /// As its row has it.
    pub(super) bytes: u64,
}

impl Named {
    /// Its path in the data folder, and in an archive.
    pub(super) fn path(&self) -> String {
        let (folder, end) = match self.kind {
            FileKind::Image => ("img", ".png"),
            FileKind::Upload => ("upload", ""),
        };
        format!("{folder}/{}/{}{end}", &self.hash.as_str()[..2], self.hash)
    }

    /// The file that a path in an archive names, if it is one of ours.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let (folder, _, name) = (parts.next()?, parts.next()?, parts.next()?);
        let (kind, hash) = match folder {
            "img" => (FileKind::Image, name.strip_suffix(".png")?),
            "upload" => (FileKind::Upload, name),
            _ => return None,
        };
        let named = Self {
            kind,
            hash: hash.parse().ok()?,
            bytes: 0,
        };
        // Written back, it must be the same: no other folder, nothing behind it.
        (named.path() == path).then_some(named)
    }
}

/// How far one is, and whether it shall stop.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    stopped: AtomicBool,
}

impl Progress {
    /// Asks it to stop.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    pub(super) fn copies_database(&self) -> bool {
        self.total() == 0
    }

    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    fn go_on(&self) -> Result<(), BackupError> {
        if self.stopped.load(Ordering::Acquire) {
            Err(BackupError::Stopped)
        } else {
            Ok(())
        }
    }
}

/// A backup that was made.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// Images in it.
    pub images: u64,
    /// Files in it.
    pub files: u64,
    /// Its size.
    pub bytes: u64,
    /// Files that rows name and that are not on the disk.
    pub missing: u64,
    /// Files that are not what their rows say; they are in it as they are.
    pub damaged: u64,
}

impl Made {
    /// What is amiss with what was backed up, in words.
    pub fn trouble(&self) -> Option<String> {
        let said = [
            (self.missing, "missing on the disk"),
            (self.damaged, "damaged"),
        ];
        let parts: Vec<String> = said
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, words)| match count {
                1 => format!("one file is {words}"),
                _ => format!("{count} files are {words}"),
            })
            .collect();
        (!parts.is_empty()).then(|| format!("A backup was made, but {}.", parts.join(" and ")))
    }
}

/// Removes what it names when it is dropped: what was not finished leaves nothing.
struct Leavings(Vec<PathBuf>);

impl Drop for Leavings {
    fn drop(&mut self) {
        for path in &self.0 {
            // It may be there or not.
            let _ = fs::remove_file(path);
        }
    }
}

/// Where an archive is written to.
type Out = Box<dyn Write + Send>;

/// Makes a backup of a data folder at `target`, which then is there whole or not at all; `-` is the
/// standard output. The server may run meanwhile.
///
/// # Errors
/// [`BackupError`]; nothing is left behind.
pub async fn make(
    db: &Db,
    data_dir: &Path,
    target: &Path,
    progress: &Arc<Progress>,
) -> Result<Made, BackupError> {
    let to_stdout = target == Path::new("-");
    let folder = match target.parent() {
        Some(folder) if !to_stdout && !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) if !to_stdout => PathBuf::from("."),
        _ => super::folder_of(data_dir),
    };
    fs::create_dir_all(&folder).map_err(BackupError::io(&folder))?;
    let unique = uuid::Uuid::now_v7();
    let copy = folder.join(format!(".{unique}.db{PART}"));
    let part = folder.join(format!(".{unique}.tar{PART}"));
    let beside = |end: &str| folder.join(format!(".{unique}.db{PART}{end}"));
    let _leavings = Leavings(vec![
        copy.clone(),
        beside("-wal"),
        beside("-shm"),
        beside("-journal"),
        part.clone(),
    ]);

    db.copy_into(&copy).await?;
    progress.go_on()?;
    let snapshot = Db::connect(&copy)
        .await
        .map_err(|error| BackupError::Refused(error.to_string()))?;
    let archived = async {
        let files = store::files(&snapshot).await?;
        let images = store::images(&snapshot).await?;
        let bytes = files.iter().map(|file| file.bytes).sum::<u64>();
        let of_copy = fs::metadata(&copy).map_err(BackupError::io(&copy))?.len();
        if !to_stdout {
            check_room(&folder, bytes + of_copy)?;
        }
        progress.total.store(bytes + of_copy, Ordering::Release);
        let manifest = Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            created_at: now_ms(),
            images,
            files: files.len() as u64,
            bytes,
        };
        let (data, at, progress) = (data_dir.to_owned(), part.clone(), progress.clone());
        let (tar, read) = blocking(move || {
            let out: Out = if to_stdout {
                Box::new(io::stdout())
            } else {
                Box::new(File::create(&at).map_err(BackupError::io(&at))?)
            };
            put_files(out, &data, &manifest, files, &progress)
        })
        .await?;
        let mut gone = Vec::new();
        let mut missing = 0;
        for file in read.absent {
            if store::is_named(db, &file).await? {
                tracing::error!(file = file.path(), "a file is missing that a row names");
                missing += 1;
            } else {
                gone.push(file);
            }
        }
        store::forget(&snapshot, &gone).await?;
        Ok::<_, BackupError>((tar, images, read.files, read.damaged, missing))
    }
    .await;
    // Closed in any case: SQLite then folds the copy's log into it.
    snapshot.close().await;
    let (tar, images, files, damaged, missing) = archived?;
    progress.go_on()?;

    let (target, last) = (target.to_owned(), progress.clone());
    let bytes = blocking(move || {
        finish(tar, &copy, &last)?;
        if to_stdout {
            return Ok(last.done());
        }
        let file = File::open(&part).map_err(BackupError::io(&part))?;
        file.sync_all().map_err(BackupError::io(&part))?;
        let bytes = file.metadata().map_err(BackupError::io(&part))?.len();
        fs::rename(&part, &target).map_err(BackupError::io(&target))?;
        File::open(&folder)
            .and_then(|folder| folder.sync_all())
            .map_err(BackupError::io(&folder))?;
        Ok(bytes)
    })
    .await?;
    Ok(Made {
        images,
        files,
        bytes,
        missing,
        damaged,
    })
}

fn check_room(folder: &Path, needed: u64) -> Result<(), BackupError> {
    let needed = needed + SPARE;
    match free_space(folder) {
        Ok(free) if free < needed => Err(BackupError::NoRoom {
            folder: folder.to_owned(),
            needed,
            free,
        }),
        // Where nobody can say how much room there is, the disk itself will.
        _ => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| BackupError::Refused(format!("a file task ended early: {error}")))?
}

/// What became of the files.
#[derive(Default)]
struct ReadFiles {
    files: u64,
    damaged: u64,
    absent: Vec<Named>,
}

/// Writes manifest and files.
fn put_files(
    out: Out,
    data_dir: &Path,
    manifest: &Manifest,
    files: Vec<Named>,
    progress: &Progress,
) -> Result<(tar::Builder<BufWriter<Out>>, ReadFiles), BackupError> {
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, out));
    let text = serde_json::to_vec_pretty(manifest)
        .map_err(|error| BackupError::Refused(error.to_string()))?;
    put(&mut tar, MANIFEST, text.len() as u64, text.as_slice())?;
    let mut read = ReadFiles::default();
    for named in files {
        progress.go_on()?;
        let path = data_dir.join(named.path());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                read.absent.push(named);
                continue;
            }
            Err(source) => return Err(BackupError::io(&path)(source)),
        };
        let length = file.metadata().map_err(BackupError::io(&path))?.len();
        let mut hashed = Hashed {
            inner: file,
            hash: Sha256::new(),
        };
        put(&mut tar, &named.path(), length, &mut hashed)?;
        if hex::encode(hashed.hash.finalize()) != named.hash.as_str() {
            tracing::error!(file = named.path(), "a file is not what its row says");
            read.damaged += 1;
        }
        read.files += 1;
        progress.done.fetch_add(length, Ordering::AcqRel);
    }
    Ok((tar, read))
}

/// Adds an entry of exactly `length` bytes.
fn put(
    tar: &mut tar::Builder<BufWriter<Out>>,
    name: &str,
    length: u64,
    bytes: impl Read,
) -> Result<(), BackupError> {
    let at = Path::new(name);
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(now_ms() / 1000).unwrap_or_default());
    header.set_entry_type(tar::EntryType::Regular);
    // A file that is shorter by now would shift everything behind it.
    let mut exact = Exact {
        inner: bytes,
        left: length,
    };
    tar.append_data(&mut header, at, &mut exact)
        .map_err(BackupError::io(at))
}

/// Adds the copy of the database and ends the archive.
fn finish(
    mut tar: tar::Builder<BufWriter<Out>>,
    copy: &Path,
    progress: &Progress,
) -> Result<(), BackupError> {
    let file = File::open(copy).map_err(BackupError::io(copy))?;
    let length = file.metadata().map_err(BackupError::io(copy))?.len();
    put(&mut tar, DATABASE, length, file)?;
    progress.done.fetch_add(length, Ordering::AcqRel);
    let mut out = tar.into_inner().map_err(BackupError::io(copy))?;
    out.flush().map_err(BackupError::io(copy))
}

/// Reads and hashes.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// Reads so many bytes, or fails.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let room = room.min(buffer.len());
        let count = self.inner.read(&mut buffer[..room])?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it became shorter while it was read",
            ));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// What a backup says of itself.
///
/// # Errors
/// Where the file is none, or was made by a version that writes otherwise.
pub(super) fn manifest_of(path: &Path) -> Result<Manifest, BackupError> {
    let file = File::open(path).map_err(BackupError::io(path))?;
    let mut tar = tar::Archive::new(file);
    let mut entries = tar.entries().map_err(BackupError::io(path))?;
    let first = entries
        .next()
        .ok_or_else(|| BackupError::Refused(format!("{} is empty", path.display())))?
        .map_err(BackupError::io(path))?;
    read_manifest(first)
        .map_err(|words| BackupError::Refused(format!("{}: {words}", path.display())))
}

/// Reads the first entry of an archive.
pub(super) fn read_manifest<R: Read>(entry: tar::Entry<'_, R>) -> Result<Manifest, String> {
    let is_ours = entry.path().is_ok_and(|path| path == Path::new(MANIFEST));
    if !is_ours || entry.size() > LONGEST_MANIFEST {
        return Err("this is no backup of Atelier".into());
    }
    let manifest: Manifest = serde_json::from_reader(entry.take(LONGEST_MANIFEST))
        .map_err(|error| format!("{MANIFEST} cannot be read: {error}"))?;
    if manifest.format != FORMAT {
        return Err(format!(
            "it is in format {}, and this version of Atelier reads format {FORMAT}",
            manifest.format
        ));
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_paths_name_files() {
        let hash = ImageHash::of(b"x");
        for kind in [FileKind::Image, FileKind::Upload] {
            let named = Named {
                kind,
                hash: hash.clone(),
                bytes: 0,
            };
            assert_eq!(Named::of_path(&named.path()), Some(named));
        }
        let two = &hash.as_str()[..2];
        for path in [
            format!("img/{two}/{hash}"),
            format!("img/zz/{hash}.png"),
            format!("img/{two}/{hash}.png/x"),
            format!("/img/{two}/{hash}.png"),
            format!("upload/../{hash}"),
            format!("models/{two}/{hash}.png"),
            "atelier.db".into(),
        ] {
            assert_eq!(Named::of_path(&path), None, "{path}");
        }
    }
}
