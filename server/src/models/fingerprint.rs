//! Which weights made an image: a hash that changes when a model's files do, without reading them
//! whole. Of a large file its size, its time of change and its beginning (where safetensors and
//! GGUF list their tensors) count; of a small one (configs, vocabularies) every byte.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

/// Up to here every byte counts.
const SMALL: u64 = 4 * 1024 * 1024;
/// How much of a large file's beginning counts.
const BEGINNING: u64 = 1024 * 1024;
/// How deep a model's folder goes.
const DEPTH: usize = 3;

/// Fingerprints of files and folders; what was read is remembered for as long as size and time of
/// change stay the same.
#[derive(Debug, Default)]
pub struct Fingerprints {
    known: Mutex<HashMap<PathBuf, (u64, SystemTime, String)>>,
}

impl Fingerprints {
    /// The fingerprint of a file, or of everything in a folder.
    ///
    /// # Errors
    /// The file system's.
    pub fn of(&self, path: &Path) -> io::Result<String> {
        let mut files = Vec::new();
        if path.is_dir() {
            collect(path, DEPTH, &mut files)?;
        } else {
            files.push(path.to_path_buf());
        }
        files.sort();
        let mut all = Sha256::new();
        for file in files {
            let name = file.strip_prefix(path).unwrap_or(&file);
            all.update(name.as_os_str().as_encoded_bytes());
            all.update([0]);
            all.update(self.of_file(&file)?);
        }
        Ok(hex::encode(&all.finalize()[..16]))
    }

    fn of_file(&self, path: &Path) -> io::Result<String> {
        let metadata = fs::metadata(path)?;
        let (size, changed) = (metadata.len(), metadata.modified()?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known_size, known_changed, hash)) = known.get(path)
            && (*known_size, *known_changed) == (size, changed)
        {
            return Ok(hash.clone());
        }
        let mut hash = Sha256::new();
        hash.update(size.to_le_bytes());
        let mut counts = size;
        if size > SMALL {
            counts = BEGINNING;
            let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
            hash.update(since.as_nanos().to_le_bytes());
        }
        let mut file = File::open(path)?.take(counts);
        let mut block = vec![0; 64 * 1024];
        loop {
            let got = file.read(&mut block)?;
            if got == 0 {
                break;
            }
            hash.update(&block[..got]);
        }
        let hash = hex::encode(hash.finalize());
        known.insert(path.to_path_buf(), (size, changed, hash.clone()));
        Ok(hash)
    }
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if path.is_dir() {
            if depth > 1 {
                collect(&path, depth - 1, files)?;
            }
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn any_change_changes_it_and_a_copy_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let folder = dir.path().join(name);
            fs::create_dir_all(folder.join("unet")).unwrap();
            fs::write(folder.join("model_index.json"), "{}").unwrap();
            fs::write(folder.join("unet/weights"), [1, 2, 3]).unwrap();
            folder
        };
        let (one, two) = (make("one"), make("two"));
        let prints = Fingerprints::default();
        let before = prints.of(&one).unwrap();
        assert_eq!(before, prints.of(&two).unwrap(), "the same files elsewhere");
        fs::write(two.join("unet/weights"), [1, 2, 4]).unwrap();
        assert_ne!(before, Fingerprints::default().of(&two).unwrap());
        fs::write(one.join("unet/config.json"), "{}").unwrap();
        assert_ne!(before, prints.of(&one).unwrap(), "one file more");
        assert!(prints.of(&dir.path().join("none")).is_err());
    }

    #[test]
    fn of_a_large_file_size_time_and_beginning_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.safetensors");
        let mut bytes = vec![7_u8; SMALL as usize + 1];
        fs::write(&path, &bytes).unwrap();
        let prints = Fingerprints::default();
        let before = prints.of(&path).unwrap();
        let at = fs::metadata(&path).unwrap().modified().unwrap();
        bytes[8] = 8;
        fs::write(&path, &bytes).unwrap();
        File::open(&path).unwrap().set_modified(at).unwrap();
        assert_ne!(before, Fingerprints::default().of(&path).unwrap());
        let now = prints.of(&path).unwrap();
        let later = at + std::time::Duration::from_secs(1);
        File::open(&path).unwrap().set_modified(later).unwrap();
        assert_ne!(now, prints.of(&path).unwrap());
    }
}
