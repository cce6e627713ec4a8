//! Putting a backup back: unpacked beside, checked, and only then moved into its place. Never under a
//! running server, and never over what is there unless that is put aside.

use super::archive::{DATABASE, FileKind, Named, read_manifest};
use super::{BackupError, store};
use crate::db::Db;
use crate::jobs::lock_folder;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// What a data folder consists of, as far as backups are concerned.
const PARTS: [&str; 7] = [
    "atelier.db",
    "atelier.db-wal",
    "atelier.db-shm",
    "img",
    "thumb",
    "upload",
    "upload-thumb",
];

/// What was put back.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Images.
    pub images: u64,
    /// Files.
    pub files: u64,
    /// Files that are not what their names say; they were put back as they are.
    pub damaged: Vec<String>,
    /// Files that rows name and that are not in the backup.
    pub missing: Vec<String>,
    /// Where that lies which was there before.
    pub put_aside: Option<PathBuf>,
}

/// Removes the half-unpacked folder, however this ends.
struct Stage(PathBuf);

impl Drop for Stage {
    fn drop(&mut self) {
        // After a success it is gone already.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Puts a backup into a data folder; `-` reads the standard input. With `replace`, what is there is
/// put aside first; without, the folder must hold nothing of ours.
///
/// # Errors
/// [`BackupError`], also where a server runs on the folder; the folder is then as it was.
pub async fn restore(
    archive: &Path,
    data_dir: &Path,
    replace: bool,
) -> Result<Restored, BackupError> {
    fs::create_dir_all(data_dir).map_err(BackupError::io(data_dir))?;
    // Held to the end: no server may start on a half-filled folder.
    let _lock = lock_folder(data_dir).map_err(|_| {
        BackupError::Refused(format!(
            "an Atelier server runs on the folder {}; stop it first",
            data_dir.display()
        ))
    })?;
    let taken = PARTS.iter().any(|part| is_something(&data_dir.join(part)));
    if taken && !replace {
        return Err(BackupError::Refused(format!(
            "{} holds a database or images already; name an empty folder, or add --replace, which puts aside what is there",
            data_dir.display()
        )));
    }
    let stage = Stage(data_dir.join(format!(".restore-{}", uuid::Uuid::now_v7())));
    fs::create_dir_all(&stage.0).map_err(BackupError::io(&stage.0))?;
    let (from, to) = (archive.to_owned(), stage.0.clone());
    let mut restored = tokio::task::spawn_blocking(move || unpack(&from, &to))
        .await
        .map_err(|error| BackupError::Refused(error.to_string()))??;
    check(&stage.0, &mut restored).await?;
    if taken {
        restored.put_aside = Some(put_aside(data_dir)?);
    }
    for part in PARTS {
        let from = stage.0.join(part);
        if from.exists() {
            let to = data_dir.join(part);
            // A folder may be there, empty.
            let _ = fs::remove_dir(&to);
            fs::rename(&from, &to).map_err(BackupError::io(&to))?;
        }
    }
    File::open(data_dir)
        .and_then(|folder| folder.sync_all())
        .map_err(BackupError::io(data_dir))?;
    Ok(restored)
}

/// Whether a path is a file, or a folder that is not empty.
fn is_something(path: &Path) -> bool {
    match fs::read_dir(path) {
        // The images' lock file alone is nothing.
        Ok(entries) => entries
            .filter_map(Result::ok)
            .any(|entry| entry.file_name() != ".lock"),
        Err(_) => path.exists(),
    }
}

fn put_aside(data_dir: &Path) -> Result<PathBuf, BackupError> {
    let name = super::name_now(false);
    let aside = data_dir.join(format!(
        "replaced-{}",
        name.trim_start_matches(super::START)
            .trim_end_matches(super::END)
    ));
    fs::create_dir(&aside).map_err(BackupError::io(&aside))?;
    for part in PARTS {
        let from = data_dir.join(part);
        if from.exists() {
            fs::rename(&from, aside.join(part)).map_err(BackupError::io(&from))?;
        }
    }
    Ok(aside)
}

fn unpack(archive: &Path, stage: &Path) -> Result<Restored, BackupError> {
    let input: Box<dyn Read> = if archive == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(archive).map_err(BackupError::io(archive))?)
    };
    let refused = |words: String| {
        BackupError::Refused(format!("{} cannot be restored: {words}", archive.display()))
    };
    let mut tar = tar::Archive::new(io::BufReader::with_capacity(1 << 20, input));
    let mut entries = tar.entries().map_err(BackupError::io(archive))?;
    let unreadable = |error: io::Error| refused(format!("it is cut short or no archive ({error})"));
    let first = entries
        .next()
        .ok_or_else(|| refused("it is empty".into()))?
        .map_err(unreadable)?;
    read_manifest(first).map_err(refused)?;
    let mut restored = Restored::default();
    let mut has_database = false;
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let name = entry.path().map_err(unreadable)?;
        let name = name.to_string_lossy().into_owned();
        let is_file = entry.header().entry_type() == tar::EntryType::Regular;
        if is_file && name == DATABASE && !has_database {
            has_database = true;
            write_file(entry, &stage.join(DATABASE), unreadable)?;
            continue;
        }
        let named = Named::of_path(&name).filter(|_| is_file && !has_database);
        let named = named.ok_or_else(|| {
            refused(format!(
                "it holds {name:?}, which no backup of Atelier does"
            ))
        })?;
        let hash = write_file(entry, &stage.join(named.path()), unreadable)?;
        restored.files += 1;
        if hash != named.hash.as_str() {
            restored.damaged.push(name);
        }
    }
    if has_database {
        Ok(restored)
    } else {
        Err(refused("it is cut short: its database is missing".into()))
    }
}

/// Writes an entry to stable storage and answers its SHA-256 in hex.
fn write_file<R: Read>(
    mut entry: tar::Entry<'_, R>,
    path: &Path,
    unreadable: impl FnOnce(io::Error) -> BackupError,
) -> Result<String, BackupError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(BackupError::io(folder))?;
    }
    let mut file = File::create(path).map_err(BackupError::io(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut unreadable = Some(unreadable);
    loop {
        let count = match entry.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => {
                return Err(match unreadable.take() {
                    Some(words) => words(error),
                    None => BackupError::io(path)(error),
                });
            }
        };
        hash.update(&buffer[..count]);
        file.write_all(&buffer[..count])
            .map_err(BackupError::io(path))?;
    }
    file.sync_all().map_err(BackupError::io(path))?;
    Ok(hex::encode(hash.finalize()))
}

/// Opens the unpacked database, which brings its schema up to date, and looks whether all is there.
async fn check(stage: &Path, restored: &mut Restored) -> Result<(), BackupError> {
    let db = Db::open(&stage.join(DATABASE))
        .await
        .map_err(|error| BackupError::Refused(format!("the backup's database: {error}")))?;
    let looked = async {
        if let Some(words) = store::damage(&db).await? {
            let words = format!("the backup's database is damaged: {words}");
            return Err(BackupError::Refused(words));
        }
        restored.images = store::images(&db).await?;
        for file in store::files(&db).await? {
            let path = file.path();
            if !stage.join(&path).is_file() {
                restored.missing.push(path);
            } else if file.kind == FileKind::Image && file.bytes == 0 {
                restored.damaged.push(path);
            }
        }
        Ok(())
    }
    .await;
    db.close().await;
    looked
}
