//! The demo model: a small SDXL that is part of the binary, unpacked once into a folder that the
//! engine can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Its files: (path below the model's folder, bytes), in order of their paths.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/demo_files.rs"));

/// The files of the refiner that goes with it.
static REFINER_FILES: &[(&str, &[u8])] =
    include!(concat!(env!("OUT_DIR"), "/demo_refiner_files.rs"));

/// The name that requests use.
pub const NAME: &str = "demo";

/// The refiner's name.
pub const REFINER: &str = "demo-refiner";

/// Whether this build carries the demo model.
pub fn is_embedded() -> bool {
    !FILES.is_empty()
}

/// A hash over all names and contents: a new model gets a new folder.
fn fingerprint(files: &[(&str, &[u8])]) -> String {
    let mut all = Sha256::new();
    for (name, bytes) in files {
        all.update((name.len() as u64).to_le_bytes());
        all.update(name);
        all.update((bytes.len() as u64).to_le_bytes());
        all.update(bytes);
    }
    hex::encode(&all.finalize()[..8])
}

/// Makes sure that the demo model lies whole in `models_dir/demo-HASH` and answers that folder;
/// `None` where this build carries none. Its refiner goes beside it, into `demo-refiner-HASH`. Demo
/// models of other versions are removed.
///
/// # Errors
/// The file system's, with the path in words.
pub fn unpack(models_dir: &Path) -> io::Result<Option<PathBuf>> {
    if FILES.is_empty() {
        return Ok(None);
    }
    if !REFINER_FILES.is_empty() {
        unpack_files(REFINER, REFINER_FILES, models_dir)?;
    }
    unpack_files(NAME, FILES, models_dir).map(Some)
}

/// Where [`unpack`] has put it, if it has.
pub fn unpacked(models_dir: &Path) -> Option<PathBuf> {
    let folder = models_dir.join(format!("{NAME}-{}", fingerprint(FILES)));
    (!FILES.is_empty() && folder.is_dir()).then_some(folder)
}

/// Where [`unpack`] has put the refiner, if it has.
pub fn unpacked_refiner(models_dir: &Path) -> Option<PathBuf> {
    let folder = models_dir.join(format!("{REFINER}-{}", fingerprint(REFINER_FILES)));
    (!REFINER_FILES.is_empty() && folder.is_dir()).then_some(folder)
}

/// Writes the demo model's files straight into `folder`, which must exist: for one-off use.
///
/// # Errors
/// The file system's.
pub fn write_into(folder: &Path) -> io::Result<()> {
    write_files(FILES, folder, false)
}

fn unpack_files(name: &str, files: &[(&str, &[u8])], models_dir: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(models_dir)?;
    // Two servers may start at once; the lock ends with the handle.
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(models_dir.join(".lock"))?;
    lock.lock()?;

    let target = models_dir.join(format!("{name}-{}", fingerprint(files)));
    if !is_whole(files, &target) {
        let temporary = models_dir.join(format!(".{name}-unpacking"));
        remove_dir(&temporary)?;
        remove_dir(&target)?;
        fs::create_dir(&temporary)?;
        write_files(files, &temporary, true)?;
        fs::rename(&temporary, &target)?;
        File::open(models_dir)?.sync_all()?;
    }
    for entry in fs::read_dir(models_dir)? {
        let path = entry?.path();
        if path != target && path.is_dir() && is_unpacked(&path, name) {
            remove_dir(&path)?;
        }
    }
    Ok(target)
}

/// Whether a folder is one that [`unpack`] makes.
pub(super) fn is_unpacked_demo(path: &Path) -> bool {
    is_unpacked(path, NAME) || is_unpacked(path, REFINER)
}

/// Whether a folder is `NAME-HASH`.
fn is_unpacked(path: &Path, name: &str) -> bool {
    path.file_name()
        .and_then(|folder| folder.to_str())
        .and_then(|folder| folder.strip_prefix(name)?.strip_prefix('-'))
        .is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Compares every byte: a half-unpacked or damaged copy is made again rather than trusted.
fn is_whole(files: &[(&str, &[u8])], folder: &Path) -> bool {
    files
        .iter()
        .all(|(name, bytes)| fs::read(folder.join(name)).is_ok_and(|stored| stored == *bytes))
}

/// How many files the demo model (or its refiner) has, and which of them are not as they should be in `folder`.
pub(super) fn compare(folder: &Path) -> (usize, Vec<&'static str>) {
    let differs = |(name, bytes): &&(&'static str, &[u8])| {
        fs::read(folder.join(name)).map_or(true, |stored| stored != *bytes)
    };
    let files = if is_unpacked(folder, REFINER) {
        REFINER_FILES
    } else {
        FILES
    };
    let damaged = files.iter().filter(differs).map(|(name, _)| *name);
    (files.len(), damaged.collect())
}

fn write_files(files: &[(&str, &[u8])], folder: &Path, durable: bool) -> io::Result<()> {
    for (name, bytes) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = File::create(&path)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
    }
    Ok(())
}

fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ONE: &[(&str, &[u8])] = &[
        ("model_index.json", b"{}"),
        ("unet/config.json", b"{\"a\":1}"),
    ];
    const TWO: &[(&str, &[u8])] = &[("model_index.json", b"{ }")];

    #[test]
    fn unpacks_once_repairs_damage_and_replaces_other_versions() {
        let dir = tempfile::tempdir().unwrap();
        let models = dir.path().join("models");
        let folder = unpack_files(NAME, ONE, &models).unwrap();
        let unet = folder.join("unet/config.json");
        assert_eq!(fs::read(&unet).unwrap(), b"{\"a\":1}");

        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let first = inode(&unet);
        assert_eq!(unpack_files(NAME, ONE, &models).unwrap(), folder);
        assert_eq!(inode(&unet), first, "a whole copy is left alone");

        fs::write(&unet, b"{\"a\"").unwrap();
        fs::create_dir(models.join(".demo-unpacking")).unwrap();
        assert_eq!(unpack_files(NAME, ONE, &models).unwrap(), folder);
        assert_eq!(fs::read(&unet).unwrap(), b"{\"a\":1}");

        let mine = models.join("demo-mine");
        fs::create_dir(&mine).unwrap();
        let newer = unpack_files(NAME, TWO, &models).unwrap();
        assert!(newer != folder && !folder.exists() && newer.exists() && mine.exists());
        assert!(!models.join(".demo-unpacking").exists());
    }

    #[test]
    fn names_and_contents_both_count() {
        let moved: &[(&str, &[u8])] = &[("model_index.jso", b"n{}")];
        let whole: &[(&str, &[u8])] = &[("model_index.json", b"{}")];
        assert_ne!(fingerprint(moved), fingerprint(whole));
    }
}
