//! One weight file: its bytes, mapped or made, and what its header says.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use memmap2::Mmap;
use safetensors::tensor::SafeTensors;
use safetensors::{Dtype, SafeTensorError};

use crate::EngineError;

/// The bytes that tensors lie in.
pub struct WeightFile {
    path: PathBuf,
    bytes: Bytes,
}

enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
    /// Of a known length, converted from another file's bytes when first read.
    Made(
        usize,
        LazyLock<Vec<u8>, Box<dyn FnOnce() -> Vec<u8> + Send + Sync>>,
    ),
}

impl WeightFile {
    /// Maps a file.
    ///
    /// # Errors
    /// [`EngineError::Model`] if it cannot be opened or mapped, or is empty.
    pub fn map(path: &Path) -> Result<Self, EngineError> {
        let file = File::open(path).map_err(|error| {
            let message = if error.kind() == std::io::ErrorKind::NotFound {
                "does not exist".to_string()
            } else {
                format!("cannot be opened: {error}")
            };
            EngineError::model(path, message)
        })?;
        let kind = file
            .metadata()
            .map_err(|error| EngineError::model(path, format!("cannot be read: {error}")))?;
        if !kind.is_file() {
            return Err(EngineError::model(path, "is not a plain file"));
        }
        let length = kind.len();
        if length < 8 {
            return Err(EngineError::model(
                path,
                format!("has only {length} bytes; the file is truncated, copy it again"),
            ));
        }
        // SAFETY: the map is read-only. Another process that shortens the file while it is mapped
        // could end this one with SIGBUS; model folders are not written to while a worker runs.
        let map = unsafe { Mmap::map(&file) }
            .map_err(|error| EngineError::model(path, format!("cannot be mapped: {error}")))?;
        Ok(Self {
            path: path.to_path_buf(),
            bytes: Bytes::Mapped(map),
        })
    }

    /// Bytes in memory under the name of a file.
    pub fn owned(path: &Path, bytes: Vec<u8>) -> Self {
        Self {
            path: path.to_path_buf(),
            bytes: Bytes::Owned(bytes),
        }
    }

    /// `length` bytes that `make` gives when they are first asked for, under the name of the file
    /// that they are made from.
    pub fn made(
        path: &Path,
        length: usize,
        make: impl FnOnce() -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self {
            path: path.to_path_buf(),
            bytes: Bytes::Made(length, LazyLock::new(Box::new(make))),
        }
    }

    /// Reads a file whole.
    ///
    /// # Errors
    /// [`EngineError::Model`] if it cannot be read or is far larger than any LoRA.
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        // Mapped first: this checks that it is a plain file, and its length.
        let map = Self::map(path)?;
        if map.len() > MAX_READ {
            return Err(EngineError::model(
                path,
                format!(
                    "has {} bytes; at most {MAX_READ} are accepted here",
                    map.len()
                ),
            ));
        }
        check_header(map.bytes()).map_err(|message| EngineError::model(path, message))?;
        Ok(Self::owned(path, map.bytes().to_vec()))
    }

    /// Number of its bytes.
    pub fn len(&self) -> usize {
        match &self.bytes {
            Bytes::Mapped(map) => map.len(),
            Bytes::Owned(bytes) => bytes.len(),
            Bytes::Made(length, _) => *length,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the pages of `range` back to the system, if they are mapped from a file; the next look
    /// at them fetches them again.
    pub fn release(&self, range: Range<usize>) {
        let Bytes::Mapped(map) = &self.bytes else {
            return;
        };
        let end = range.end.min(map.len());
        if range.start < end {
            #[cfg(unix)]
            // SAFETY: the map is shared and read-only, so that a page given back comes again with
            // the same bytes of the file.
            let advised = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    end - range.start,
                )
            };
            // Where the system does not take the advice, nothing is lost but memory.
            #[cfg(unix)]
            let _ = advised;
        }
    }

    /// Has the system begin to fetch the pages of `range`, if they are mapped from a file.
    pub fn fetch(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.bytes {
            let end = range.end.min(map.len());
            if range.start < end {
                // A hint: without it, the first look at each page fetches it.
                let _ = map.advise_range(memmap2::Advice::WillNeed, range.start, end - range.start);
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Whether it is mapped from a file.
    pub fn is_mapped(&self) -> bool {
        matches!(self.bytes, Bytes::Mapped(_))
    }

    /// All of its bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
            Bytes::Made(_, bytes) => bytes,
        }
    }
}

/// A tensor as a header lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTensor {
    /// Its number format.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where its bytes begin, from the start of the file.
    pub start: usize,
    /// Where they end.
    pub end: usize,
}

/// What a safetensors header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// All tensors by name.
    pub tensors: BTreeMap<String, ListedTensor>,
    /// What else was written down.
    pub metadata: BTreeMap<String, String>,
}

/// Most bytes that [`WeightFile::read`] takes into memory.
const MAX_READ: usize = 4 << 30;

/// Largest header accepted, the limit of the format itself.
const MAX_HEADER: u64 = 100_000_000;

fn check_header(bytes: &[u8]) -> Result<(), String> {
    if bytes.starts_with(super::gguf::MAGIC) {
        super::gguf::parse_gguf(bytes).map(|_| ())
    } else {
        parse_safetensors(bytes).map(|_| ())
    }
}

/// Reads the header of a safetensors file, given the whole file's bytes.
///
/// # Errors
/// What is wrong with it, for a person; [`refuse_pickle`] first.
pub fn parse_safetensors(bytes: &[u8]) -> Result<Header, String> {
    let length = bytes.len() as u64;
    let Some((first, _)) = bytes.split_first_chunk::<8>() else {
        return Err(format!(
            "has only {length} bytes; the file is truncated, copy it again"
        ));
    };
    refuse_pickle(bytes)?;
    let header = u64::from_le_bytes(*first);
    if header > MAX_HEADER {
        return Err("is no safetensors file: its header has an impossible length".to_string());
    }
    if header + 8 > length {
        return Err(format!(
            "is truncated: its header alone needs {} bytes, the file has {length}; copy it again",
            header + 8
        ));
    }
    let (header_length, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| {
        let cause = if matches!(error, SafeTensorError::MetadataIncompleteBuffer) {
            format!("is truncated or damaged: its header describes another length than the file's {length} bytes")
        } else {
            format!("has a damaged header ({error})")
        };
        format!("{cause}; copy the file again")
    })?;
    let data_start = header_length + 8;
    if let Some((name, info)) = metadata
        .tensors()
        .into_iter()
        .find(|(_, info)| !is_possible(&info.shape))
    {
        return Err(format!(
            "has tensor `{name}` of the impossible shape {:?}",
            info.shape
        ));
    }
    let tensors = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let listed = ListedTensor {
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: data_start + info.data_offsets.0,
                end: data_start + info.data_offsets.1,
            };
            (name, listed)
        })
        .collect();
    let metadata = metadata.metadata().clone().unwrap_or_default();
    Ok(Header {
        tensors,
        metadata: metadata.into_iter().collect(),
    })
}

/// Whether the axes of a shape can be multiplied in any order. An axis of length 0 hides lengths
/// that are beyond all memory from whoever multiplies it first.
pub(super) fn is_possible(shape: &[usize]) -> bool {
    shape
        .iter()
        .try_fold(1usize, |all, &length| all.checked_mul(length.max(1)))
        .is_some_and(|all| all <= isize::MAX as usize / 8)
}

/// Refuses Python pickles by their first bytes, whatever the file is called: torch's zip archives
/// and plain pickles of protocol 2 and later.
///
/// # Errors
/// The reason and the remedy.
pub fn refuse_pickle(bytes: &[u8]) -> Result<(), String> {
    let zip = bytes.starts_with(b"PK\x03\x04");
    let plain =
        matches!(bytes, [0x80, 2..=5, ..]) && !matches!(bytes, [_, _, 0, 0, 0, 0, 0, 0, ..]);
    if zip || plain {
        return Err(PICKLE.to_string());
    }
    Ok(())
}

/// Why pickles are refused, and what to do.
pub const PICKLE: &str = "is a Python pickle, which can run code when read; save the model with \
                          safe_serialization=True and use the .safetensors file";

/// Whether a file's name is one that pickles have.
pub fn has_pickle_name(path: &Path) -> bool {
    path.extension().is_some_and(|end| {
        ["bin", "ckpt", "pt", "pth", "pkl"]
            .iter()
            .any(|known| end.eq_ignore_ascii_case(known))
    })
}
