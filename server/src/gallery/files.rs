//! Image files on disk, named by the SHA-256 of their bytes: `img/ab/abcd….png`, with JPEG
//! thumbnails beside them under `thumb/ab/abcd….jpg`.
//!
//! An original is on stable storage before [`ImageStore::put`] returns, so a row that names it can
//! be committed afterwards. A crash in between leaves a file that no row names; the sweep removes
//! such files once they are a day old. Thumbnails can be made again at any time and are not synced.
//!
//! The calls block; async callers wrap them in `spawn_blocking`.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use image::ImageFormat;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use sha2::{Digest, Sha256};

/// The SHA-256 of an image file in lower-case hex. The only thing a path is ever made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageHash(String);

impl ImageHash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(bytes)))
    }

    /// 64 lower-case hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not 64 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an image hash is 64 lower-case hex digits")]
pub struct NotAHash;

impl FromStr for ImageHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAHash)
        }
    }
}

/// What can go wrong with a stored file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder at fault.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// There is no file of this hash.
    #[error("there is no image file {0}")]
    Missing(ImageHash),
    /// The stored bytes are not a picture any more.
    #[error("the image file {hash} cannot be read as a picture: {message}")]
    Damaged {
        /// Which file.
        hash: ImageHash,
        /// The decoder's own words.
        message: String,
    },
}

impl FileError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_path_buf(),
            source,
        }
    }

    /// Whether the disk had no room left.
    pub fn is_disk_full(&self) -> bool {
        matches!(
            self,
            Self::Io { source, .. }
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        )
    }
}

/// The image files of one data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ImageStore {
    images: PathBuf,
    thumbnails: PathBuf,
    /// How originals' names end.
    ending: &'static str,
}

/// How old an unreferenced file must be before a sweep removes it.
pub const SWEEP_AGE: Duration = Duration::from_secs(24 * 60 * 60);

impl ImageStore {
    /// A thumbnail's longer side in pixels, where the original is not smaller.
    pub const THUMBNAIL_SIDE: u32 = 384;

    /// Opens the store in `data_dir`, making its folders where they are missing.
    ///
    /// # Errors
    /// [`FileError::Io`] naming the folder that cannot be made.
    pub fn open(data_dir: &Path) -> Result<Self, FileError> {
        Self::open_in(data_dir, "img", "thumb", ".png")
    }

    /// As [`ImageStore::open`], for what people send: files of several kinds, which have no ending.
    ///
    /// # Errors
    /// As [`ImageStore::open`].
    pub fn open_uploads(data_dir: &Path) -> Result<Self, FileError> {
        Self::open_in(data_dir, "upload", "upload-thumb", "")
    }

    fn open_in(
        data_dir: &Path,
        images: &str,
        thumbnails: &str,
        ending: &'static str,
    ) -> Result<Self, FileError> {
        let store = Self {
            images: data_dir.join(images),
            thumbnails: data_dir.join(thumbnails),
            ending,
        };
        for folder in [&store.images, &store.thumbnails] {
            fs::create_dir_all(folder).map_err(FileError::io(folder))?;
        }
        sync_folder(data_dir)?;
        Ok(store)
    }

    /// Stores the bytes of a PNG and answers their hash. On return they survive a power cut.
    /// Storing the same bytes again is harmless, and repairs a damaged copy.
    ///
    /// # Errors
    /// [`FileError::Io`]; nothing is left half-written under the final name.
    pub fn put(&self, bytes: &[u8]) -> Result<ImageHash, FileError> {
        let hash = ImageHash::of(bytes);
        let path = self.image_path(&hash);
        let folder = path.parent().unwrap_or(&self.images);
        if !folder.is_dir() {
            fs::create_dir_all(folder).map_err(FileError::io(folder))?;
            sync_folder(&self.images)?;
        }
        // Shared with other writers, exclusive for removal: see `remove_if`.
        let _lock = self.lock(false)?;
        match fs::read(&path) {
            // A new modification time protects the file from a sweep that began before its row exists.
            Ok(stored) if stored == bytes => {
                let file = OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .map_err(FileError::io(&path))?;
                file.set_modified(SystemTime::now())
                    .and_then(|()| file.sync_all())
                    .map_err(FileError::io(&path))?;
            }
            _ => write_whole(&path, bytes, true)?,
        }
        // Also when the file was there: the run that wrote it may have died before this line.
        sync_folder(folder)?;
        Ok(hash)
    }

    /// The bytes of an original.
    ///
    /// # Errors
    /// [`FileError::Missing`] or [`FileError::Io`].
    pub fn get(&self, hash: &ImageHash) -> Result<Vec<u8>, FileError> {
        let path = self.image_path(hash);
        fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => FileError::Missing(hash.clone()),
            _ => FileError::Io { path, source },
        })
    }

    /// The JPEG thumbnail of an original, made now if it is not there yet.
    ///
    /// # Errors
    /// [`FileError::Missing`], [`FileError::Damaged`] for the original; a thumbnail that cannot be
    /// kept is still answered.
    pub fn thumbnail(&self, hash: &ImageHash) -> Result<Vec<u8>, FileError> {
        if let Some(bytes) = self.kept_thumbnail(hash) {
            return Ok(bytes);
        }
        let path = self.thumbnail_path(hash);
        let bytes = self.render_thumbnail(hash)?;
        let folder = path.parent().unwrap_or(&self.thumbnails);
        let kept = fs::create_dir_all(folder)
            .map_err(FileError::io(folder))
            .and_then(|()| write_whole(&path, &bytes, false));
        if let Err(error) = kept {
            tracing::warn!(%error, "a thumbnail could not be kept and will be made again");
        }
        Ok(bytes)
    }

    /// The thumbnail of an original that was made before.
    pub fn kept_thumbnail(&self, hash: &ImageHash) -> Option<Vec<u8>> {
        let bytes = fs::read(self.thumbnail_path(hash)).ok()?;
        is_whole_jpeg(&bytes).then_some(bytes)
    }

    fn render_thumbnail(&self, hash: &ImageHash) -> Result<Vec<u8>, FileError> {
        let damaged = |message: String| FileError::Damaged {
            hash: hash.clone(),
            message,
        };
        let original = image::load_from_memory_with_format(&self.get(hash)?, ImageFormat::Png)
            .map_err(|error| damaged(error.to_string()))?
            .into_rgb8();
        let (width, height) = thumbnail_size(original.width(), original.height());
        let small = if (width, height) == original.dimensions() {
            original
        } else {
            image::imageops::resize(&original, width, height, FilterType::CatmullRom)
        };
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 88)
            .encode_image(&small)
            .map_err(|error| damaged(error.to_string()))?;
        Ok(bytes)
    }

    /// Removes an original and its thumbnail if `unwanted` still says so once no writer is at work.
    /// Answers whether a file was removed.
    ///
    /// # Errors
    /// [`FileError::Io`], also where `unwanted` fails.
    pub fn remove_if(
        &self,
        hash: &ImageHash,
        unwanted: impl FnOnce() -> bool,
    ) -> Result<bool, FileError> {
        let _lock = self.lock(true)?;
        if !unwanted() {
            return Ok(false);
        }
        remove_file(&self.thumbnail_path(hash))?;
        remove_file(&self.image_path(hash))
    }

    /// How long an original is; `None` where it is not there.
    pub fn length(&self, hash: &ImageHash) -> Option<u64> {
        fs::metadata(self.image_path(hash))
            .map(|metadata| metadata.len())
            .ok()
    }

    /// When an original was last stored.
    pub fn stored_at(&self, hash: &ImageHash) -> Option<SystemTime> {
        fs::metadata(self.image_path(hash))
            .and_then(|metadata| metadata.modified())
            .ok()
    }

    /// Removes what an interrupted run left behind, if older than `age`: half-written temporary
    /// files, and thumbnails whose original is gone. Answers the hashes of the originals of that
    /// age, so that the caller can ask which of them no row names.
    ///
    /// # Errors
    /// [`FileError::Io`] naming the folder that cannot be read.
    pub fn sweep_leftovers(&self, age: Duration) -> Result<Vec<ImageHash>, FileError> {
        let mut old = Vec::new();
        for (path, name) in files_older_than(&self.images, age)? {
            if name.starts_with(TEMPORARY) {
                remove_file(&path)?;
            } else if let Some(hash) = hash_of_name(&name, self.ending) {
                old.push(hash);
            }
        }
        for (path, name) in files_older_than(&self.thumbnails, age)? {
            let orphan = match hash_of_name(&name, ".jpg") {
                Some(hash) => !self.image_path(&hash).exists(),
                None => name.starts_with(TEMPORARY),
            };
            if orphan {
                remove_file(&path)?;
            }
        }
        Ok(old)
    }

    fn image_path(&self, hash: &ImageHash) -> PathBuf {
        self.images
            .join(&hash.0[..2])
            .join(format!("{hash}{}", self.ending))
    }

    fn thumbnail_path(&self, hash: &ImageHash) -> PathBuf {
        self.thumbnails
            .join(&hash.0[..2])
            .join(format!("{hash}.jpg"))
    }

    /// Takes the lock that keeps removal and storing apart, also between processes. Released when
    /// the answer is dropped.
    fn lock(&self, exclusive: bool) -> Result<File, FileError> {
        let path = self.images.join(".lock");
        let open = || {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            if exclusive {
                file.lock()?;
            } else {
                file.lock_shared()?;
            }
            Ok(file)
        };
        open().map_err(FileError::io(&path))
    }
}

const TEMPORARY: &str = ".writing-";

/// Writes a file under a temporary name beside `path` and renames it, so that `path` is whole or
/// absent whatever happens. `durable` waits until the bytes are on stable storage.
///
/// # Errors
/// [`FileError::Io`]; the temporary file is removed.
pub fn write_whole(path: &Path, bytes: &[u8], durable: bool) -> Result<(), FileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = folder.join(format!("{TEMPORARY}{}", uuid::Uuid::new_v4().simple()));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)
    })();
    written.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        FileError::io(path)(source)
    })
}

/// Makes renames and new files in a folder durable.
///
/// # Errors
/// [`FileError::Io`] naming the folder.
pub fn sync_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(FileError::io(folder))
}

fn remove_file(path: &Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FileError::io(path)(error)),
    }
}

/// Files in the two-letter folders under `root` whose last change is at least `age` ago.
fn files_older_than(root: &Path, age: Duration) -> Result<Vec<(PathBuf, String)>, FileError> {
    let now = SystemTime::now();
    let mut found = Vec::new();
    for folder in fs::read_dir(root).map_err(FileError::io(root))? {
        let folder = folder.map_err(FileError::io(root))?.path();
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder).map_err(FileError::io(&folder))? {
            let entry = entry.map_err(FileError::io(&folder))?;
            let old = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|at| now.duration_since(at).is_ok_and(|since| since >= age));
            if let (true, Ok(name)) = (old, entry.file_name().into_string()) {
                found.push((entry.path(), name));
            }
        }
    }
    Ok(found)
}

fn hash_of_name(name: &str, ending: &str) -> Option<ImageHash> {
    name.strip_suffix(ending)?.parse().ok()
}

/// A JPEG that was written to its end: start and end markers are there.
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8]) && bytes.ends_with(&[0xff, 0xd9])
}

/// The thumbnail's size for an original's, keeping its shape and never enlarging.
fn thumbnail_size(width: u32, height: u32) -> (u32, u32) {
    let longest = width.max(height).max(1);
    if longest <= ImageStore::THUMBNAIL_SIDE {
        return (width, height);
    }
    let scale = |side: u32| {
        let scaled = f64::from(side) * f64::from(ImageStore::THUMBNAIL_SIDE) / f64::from(longest);
        (scaled.round() as u32).max(1)
    };
    (scale(width), scale(height))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn png(side: u32) -> Vec<u8> {
        let image =
            image::RgbImage::from_fn(side, side / 2, |x, y| image::Rgb([x as u8, y as u8, 90]));
        let mut bytes = io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn names(root: &Path) -> Vec<String> {
        let mut all = Vec::new();
        for folder in fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            if folder.is_dir() {
                all.extend(
                    fs::read_dir(&folder)
                        .unwrap()
                        .map(|entry| entry.unwrap().file_name().into_string().unwrap()),
                );
            }
        }
        all.sort();
        all
    }

    #[test]
    fn the_same_bytes_are_one_file_and_come_back_whole() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        let bytes = png(64);
        let hash = store.put(&bytes).unwrap();
        assert_eq!(store.put(&bytes).unwrap(), hash);
        assert_eq!(store.get(&hash).unwrap(), bytes);
        assert_eq!(names(&dir.path().join("img")), [format!("{hash}.png")]);
        let missing = ImageHash::of(b"nothing");
        assert!(matches!(store.get(&missing), Err(FileError::Missing(_))));
    }

    #[test]
    fn a_damaged_copy_is_repaired_by_storing_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        let bytes = png(64);
        let hash = store.put(&bytes).unwrap();
        fs::write(store.image_path(&hash), &bytes[..20]).unwrap();
        assert!(matches!(
            store.thumbnail(&hash),
            Err(FileError::Damaged { .. })
        ));
        store.put(&bytes).unwrap();
        assert_eq!(store.get(&hash).unwrap(), bytes);
    }

    #[test]
    fn thumbnails_keep_the_shape_are_cached_and_survive_damage() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        let hash = store.put(&png(1024)).unwrap();
        let first = store.thumbnail(&hash).unwrap();
        let decoded = image::load_from_memory_with_format(&first, ImageFormat::Jpeg).unwrap();
        assert_eq!((decoded.width(), decoded.height()), (384, 192));
        fs::write(store.thumbnail_path(&hash), &first[..first.len() / 2]).unwrap();
        assert_eq!(store.thumbnail(&hash).unwrap(), first);
        assert_eq!(fs::read(store.thumbnail_path(&hash)).unwrap(), first);
        let small = store.put(&png(128)).unwrap();
        let decoded = image::load_from_memory(&store.thumbnail(&small).unwrap()).unwrap();
        assert_eq!((decoded.width(), decoded.height()), (128, 64));
    }

    #[test]
    fn only_old_files_are_swept_and_storing_again_makes_a_file_young() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        let bytes = png(64);
        let hash = store.put(&bytes).unwrap();
        let path = store.image_path(&hash);
        let stale = path.with_file_name(format!("{TEMPORARY}dead"));
        fs::write(&stale, b"half").unwrap();
        assert!(store.sweep_leftovers(SWEEP_AGE).unwrap().is_empty());
        assert!(stale.exists());
        let past = SystemTime::now() - SWEEP_AGE - Duration::from_secs(1);
        for file in [&path, &stale] {
            let file = OpenOptions::new().write(true).open(file).unwrap();
            file.set_modified(past).unwrap();
        }
        assert_eq!(
            store.sweep_leftovers(SWEEP_AGE).unwrap(),
            std::slice::from_ref(&hash)
        );
        assert!(!stale.exists());
        store.put(&bytes).unwrap();
        assert!(store.sweep_leftovers(SWEEP_AGE).unwrap().is_empty());
        store.thumbnail(&hash).unwrap();
        assert!(!store.remove_if(&hash, || false).unwrap());
        assert!(store.remove_if(&hash, || true).unwrap());
        assert!(names(&dir.path().join("img")).is_empty());
        assert!(names(&dir.path().join("thumb")).is_empty());
    }

    #[test]
    fn nothing_but_a_hash_becomes_a_path() {
        for text in [
            "",
            "../../etc/passwd",
            &"A".repeat(64),
            &"g".repeat(64),
            &"a".repeat(63),
        ] {
            assert_eq!(text.parse::<ImageHash>(), Err(NotAHash), "{text}");
        }
        assert!("0123456789abcdef".repeat(4).parse::<ImageHash>().is_ok());
    }
}
