//! Several originals as one ZIP file that is written while it is sent: nothing is gathered in memory
//! or on disk, and its length is known before its first byte.
//!
//! Entries are stored, not compressed (PNGs are compressed already), so every size is known from the
//! rows. Offsets past 4 GiB and more than 65 534 entries use the ZIP64 records (APPNOTE 4.3.14).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use time::OffsetDateTime;

use super::store::WantedFile;
use super::{FileError, ImageHash, ImageStore};
use atelier_app::studio::Settings;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
/// Names are UTF-8.
const UTF8: u16 = 1 << 11;
/// What readers must know: 2.0, and 4.5 for ZIP64.
const VERSION: u16 = 20;
const VERSION_64: u16 = 45;

/// One file to put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the archive.
    pub name: String,
    content: Content,
    bytes: u64,
    time: u16,
    date: u16,
}

/// Where the bytes of an entry come from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Image(ImageHash),
    Upload(ImageHash),
    Text(Arc<[u8]>),
}

impl Entry {
    /// A text that is written into the archive.
    pub(crate) fn text(name: &str, text: String, at: i64) -> Self {
        let (date, time) = dos_time(at);
        Self {
            name: name.into(),
            bytes: text.len() as u64,
            content: Content::Text(text.into_bytes().into()),
            time,
            date,
        }
    }

    /// A file that somebody sent, where it is there and as long as its row says.
    pub(crate) fn upload(
        uploads: &ImageStore,
        name: String,
        hash: ImageHash,
        bytes: u64,
        at: i64,
    ) -> Option<Self> {
        if !is_whole(uploads, &hash, bytes) {
            return None;
        }
        let (date, time) = dos_time(at);
        Some(Self {
            name,
            content: Content::Upload(hash),
            bytes,
            time,
            date,
        })
    }
}

/// Sizes past 4 GiB would need more than an offset; no file of ours comes near.
fn is_whole(files: &ImageStore, hash: &ImageHash, bytes: u64) -> bool {
    let whole = files.length(hash) == Some(bytes) && bytes < u64::from(u32::MAX);
    if !whole {
        tracing::error!(%hash, "an image file is missing or not as long as it was");
    }
    whole
}

/// Gives images their names in an archive: no two files have the same.
#[derive(Default)]
pub(crate) struct Names {
    given: HashSet<String>,
    /// How often each was wanted, so that a thousand equal ones are not counted through from one.
    wanted: HashMap<String, u32>,
}

impl Names {
    /// The entry of an image whose file is there and as long as its row says.
    pub(crate) fn entry(&mut self, files: &ImageStore, file: WantedFile) -> Option<Entry> {
        if !is_whole(files, &file.hash, file.bytes) {
            return None;
        }
        let (date, time) = dos_time(file.created_at);
        Some(Entry {
            name: self.give(file_name(&file.settings)),
            content: Content::Image(file.hash),
            bytes: file.bytes,
            time,
            date,
        })
    }

    /// This name, or the first one that is free with a number behind it.
    fn give(&mut self, name: String) -> String {
        if self.given.insert(name.clone()) {
            return name;
        }
        let stem = name.trim_end_matches(".png").to_owned();
        let times = self.wanted.entry(name).or_insert(1);
        loop {
            *times += 1;
            let numbered = format!("{stem}-{times}.png");
            // Another's prompt may end in just this number.
            if self.given.insert(numbered.clone()) {
                return numbered;
            }
        }
    }
}

/// The entries of files that are there and as long as their rows say.
pub(super) fn entries(files: &ImageStore, wanted: Vec<WantedFile>) -> Vec<Entry> {
    let mut names = Names::default();
    let whole = |file| names.entry(files, file);
    wanted.into_iter().filter_map(whole).collect()
}

/// How long the archive will be.
pub fn length(entries: &[Entry]) -> u64 {
    let mut at = 0;
    let mut central = 0;
    for entry in entries {
        central += 46 + entry.name.len() as u64 + if at >= u64::from(u32::MAX) { 12 } else { 0 };
        at += 30 + entry.name.len() as u64 + entry.bytes;
    }
    let end = if needs_64(entries.len(), at) {
        56 + 20
    } else {
        0
    };
    at + central + end + 22
}

fn needs_64(entries: usize, directory_at: u64) -> bool {
    entries >= usize::from(u16::MAX) || directory_at >= u64::from(u32::MAX)
}

/// Writes an archive piece by piece.
pub struct Writer {
    files: Arc<ImageStore>,
    uploads: Option<Arc<ImageStore>>,
    entries: std::vec::IntoIter<Entry>,
    at: u64,
    written: Vec<(Entry, u32, u64)>,
    is_done: bool,
}

impl Writer {
    /// A writer of these entries, from a folder of files.
    pub fn new(files: Arc<ImageStore>, entries: Vec<Entry>) -> Self {
        Self {
            files,
            uploads: None,
            entries: entries.into_iter(),
            at: 0,
            written: Vec::new(),
            is_done: false,
        }
    }

    /// With the files that people sent, for archives that hold some.
    pub fn with_uploads(mut self, uploads: Arc<ImageStore>) -> Self {
        self.uploads = Some(uploads);
        self
    }

    /// The next piece: an entry, and at last the directory. Blocks.
    ///
    /// # Errors
    /// The file system's. What was sent so far is no whole archive, and its reader sees that.
    pub fn next_piece(&mut self) -> Option<Result<Vec<u8>, FileError>> {
        if self.is_done {
            return None;
        }
        match self.entries.next() {
            Some(entry) => Some(self.entry(entry)),
            None => {
                self.is_done = true;
                Some(Ok(self.directory()))
            }
        }
    }

    fn entry(&mut self, entry: Entry) -> Result<Vec<u8>, FileError> {
        let stored;
        let bytes: &[u8] = match &entry.content {
            Content::Text(text) => text,
            Content::Image(hash) | Content::Upload(hash) => {
                let files = match (&entry.content, &self.uploads) {
                    (Content::Upload(_), Some(uploads)) => uploads,
                    _ => &self.files,
                };
                stored = files.get(hash)?;
                if stored.len() as u64 != entry.bytes {
                    self.is_done = true;
                    return Err(FileError::Damaged {
                        hash: hash.clone(),
                        message: "its length has changed".into(),
                    });
                }
                &stored
            }
        };
        let crc = crc32fast::hash(bytes);
        let mut piece = Vec::with_capacity(30 + entry.name.len() + bytes.len());
        put4(&mut piece, LOCAL);
        put2(&mut piece, VERSION);
        about(&mut piece, &entry, crc);
        put2(&mut piece, 0);
        piece.extend_from_slice(entry.name.as_bytes());
        piece.extend_from_slice(bytes);
        let offset = self.at;
        self.at += piece.len() as u64;
        self.written.push((entry, crc, offset));
        Ok(piece)
    }

    fn directory(&self) -> Vec<u8> {
        let mut piece = Vec::new();
        for (entry, crc, offset) in &self.written {
            let far = *offset >= u64::from(u32::MAX);
            put4(&mut piece, CENTRAL);
            put2(&mut piece, VERSION_64);
            put2(&mut piece, if far { VERSION_64 } else { VERSION });
            about(&mut piece, entry, *crc);
            put2(&mut piece, if far { 12 } else { 0 });
            // No comment, first disk, no attributes.
            piece.extend_from_slice(&[0; 10]);
            put4(&mut piece, clamp4(*offset));
            piece.extend_from_slice(entry.name.as_bytes());
            if far {
                put2(&mut piece, 1);
                put2(&mut piece, 8);
                put8(&mut piece, *offset);
            }
        }
        let size = piece.len() as u64;
        let count = self.written.len();
        if needs_64(count, self.at) {
            let end_at = self.at + size;
            put4(&mut piece, END_64);
            put8(&mut piece, 44);
            put2(&mut piece, VERSION_64);
            put2(&mut piece, VERSION_64);
            put4(&mut piece, 0);
            put4(&mut piece, 0);
            put8(&mut piece, count as u64);
            put8(&mut piece, count as u64);
            put8(&mut piece, size);
            put8(&mut piece, self.at);
            put4(&mut piece, LOCATOR_64);
            put4(&mut piece, 0);
            put8(&mut piece, end_at);
            put4(&mut piece, 1);
        }
        let few = u16::try_from(count).unwrap_or(u16::MAX);
        put4(&mut piece, END);
        put4(&mut piece, 0);
        put2(&mut piece, few);
        put2(&mut piece, few);
        put4(&mut piece, clamp4(size));
        put4(&mut piece, clamp4(self.at));
        put2(&mut piece, 0);
        piece
    }
}

/// What local and central headers say alike: flags, method, time, check sum, sizes, length of the name.
fn about(piece: &mut Vec<u8>, entry: &Entry, crc: u32) {
    put2(piece, UTF8);
    put2(piece, 0);
    put2(piece, entry.time);
    put2(piece, entry.date);
    put4(piece, crc);
    put4(piece, clamp4(entry.bytes));
    put4(piece, clamp4(entry.bytes));
    put2(piece, u16::try_from(entry.name.len()).unwrap_or(u16::MAX));
}

fn clamp4(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn put2(piece: &mut Vec<u8>, value: u16) {
    piece.extend_from_slice(&value.to_le_bytes());
}

fn put4(piece: &mut Vec<u8>, value: u32) {
    piece.extend_from_slice(&value.to_le_bytes());
}

fn put8(piece: &mut Vec<u8>, value: u64) {
    piece.extend_from_slice(&value.to_le_bytes());
}

/// A time as ZIP keeps it: (date, time), to two seconds, from 1980 on.
fn dos_time(unix_ms: i64) -> (u16, u16) {
    let at = OffsetDateTime::from_unix_timestamp(unix_ms.div_euclid(1000))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let years = (at.year() - 1980).clamp(0, 127);
    let years = u16::try_from(years).unwrap_or(0);
    let date = years << 9 | u16::from(u8::from(at.month())) << 5 | u16::from(at.day());
    let time =
        u16::from(at.hour()) << 11 | u16::from(at.minute()) << 5 | u16::from(at.second() / 2);
    (date, time)
}

/// `a-red-circle-on-a-blue-background-42.png`: words of the prompt that any file system takes, then
/// the seed.
pub fn file_name(settings: &Settings) -> String {
    const LONGEST: usize = 60;
    let mut name = String::new();
    for word in settings
        .prompt
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        if name.len() + word.len() > LONGEST {
            break;
        }
        name.push_str(&word.to_ascii_lowercase());
        name.push('-');
    }
    if name.is_empty() {
        name.push_str("image-");
    }
    format!("{name}{}.png", settings.seed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(prompt: &str) -> String {
        file_name(&Settings {
            prompt: prompt.into(),
            negative_prompt: None,
            num_inference_steps: 1,
            guidance_scale: 1.0,
            width: 8,
            height: 8,
            seed: 42,
            scheduler: None,
            model: "demo".into(),
            ..Settings::default()
        })
    }

    #[test]
    fn file_names_hold_nothing_that_a_header_or_a_file_system_minds() {
        assert_eq!(
            name("A red circle, on a blue background"),
            "a-red-circle-on-a-blue-background-42.png"
        );
        assert_eq!(name("../../etc/passwd\"\r\nX: y"), "etc-passwd-x-y-42.png");
        assert_eq!(name("日本"), "image-42.png");
        let long = name(&"word ".repeat(1000));
        assert!(long.len() <= 70, "{long}");
        assert_eq!(name(&"x".repeat(500)), "image-42.png");
    }

    fn entry(name: &str, bytes: u64) -> Entry {
        let (date, time) = dos_time(1_795_538_049_000);
        Entry {
            name: name.into(),
            content: Content::Image(ImageHash::of(b"")),
            bytes,
            time,
            date,
        }
    }

    #[test]
    fn no_two_files_of_an_archive_have_one_name() {
        let mut names = Names::default();
        let given: Vec<String> = ["x-42", "x-42-2", "x-42", "x-42", "x-42-2", "y-1"]
            .map(|name| names.give(format!("{name}.png")))
            .into();
        assert_eq!(
            given,
            [
                "x-42.png",
                "x-42-2.png",
                "x-42-3.png",
                "x-42-4.png",
                "x-42-2-2.png",
                "y-1.png"
            ]
        );
    }

    #[test]
    fn times_are_kept_as_zip_keeps_them() {
        // 2026-11-24 16:34:09, to two seconds.
        assert_eq!(
            dos_time(1_795_538_049_000),
            (46 << 9 | 11 << 5 | 24, 16 << 11 | 34 << 5 | 4)
        );
        assert_eq!(dos_time(0).0 >> 9, 0);
    }

    #[test]
    fn far_offsets_and_many_entries_are_told_in_64_bits() {
        let data = tempfile::tempdir().unwrap();
        let files = Arc::new(ImageStore::open(data.path()).unwrap());
        let writer = |written: Vec<(Entry, u32, u64)>, at| Writer {
            files: files.clone(),
            uploads: None,
            entries: Vec::new().into_iter(),
            at,
            written,
            is_done: false,
        };
        // The third entry begins past what 32 bits can say.
        let (third_at, end_at) = ((6_u64 << 30) + 63, (9_u64 << 30) + 96);
        let entries = [
            entry("a", 3 << 30),
            entry("bb", 3 << 30),
            entry("ccc", 3 << 30),
        ];
        let [a, bb, ccc] = entries.clone();
        let three = writer(
            vec![(a, 1, 0), (bb, 2, (3 << 30) + 31), (ccc, 3, third_at)],
            end_at,
        );
        let bytes = three.directory();
        assert_eq!(bytes.len(), 47 + 48 + 61 + 56 + 20 + 22);
        let third = &bytes[47 + 48..];
        assert_eq!(third[42..46], u32::MAX.to_le_bytes());
        assert_eq!(third[49..53], [1, 0, 8, 0]);
        assert_eq!(third[53..61], third_at.to_le_bytes());
        let end = &third[61..];
        assert_eq!(end[..4], END_64.to_le_bytes());
        assert_eq!(end[32..40], 3_u64.to_le_bytes());
        assert_eq!(end[48..56], end_at.to_le_bytes());
        assert_eq!(end[56..60], LOCATOR_64.to_le_bytes());
        assert_eq!(end[64..72], (end_at + 156).to_le_bytes(), "the record");
        assert_eq!(length(&entries), end_at + bytes.len() as u64);
        let many = writer(vec![(entry("x", 1), 0, 0); 65_535], 7);
        let bytes = many.directory();
        assert_eq!(bytes[bytes.len() - 22 + 8..][..4], [0xff; 4]);
        assert_eq!(bytes.len(), 65_535 * 47 + 56 + 20 + 22);
    }
}
