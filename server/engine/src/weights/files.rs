//! Finding and mapping the safetensors files of one component.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::SafeTensorError;
use safetensors::tensor::{Metadata, SafeTensors};

use super::stored::{Format, StoredMatrix};
use crate::EngineError;
use crate::config::Config;

/// The mapped weight files of one component.
pub struct WeightFiles {
    folder: PathBuf,
    files: Vec<MappedFile>,
    tensors: BTreeMap<String, StoredTensor>,
}

struct MappedFile {
    path: PathBuf,
    map: Arc<Mmap>,
}

/// Where a tensor lies and what it is.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    file: usize,
    start: usize,
    end: usize,
    /// Its number format on disk.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// What the headers of a component's files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeightSummary {
    /// Number of weights.
    pub parameters: u64,
    /// The number formats on disk, in order of first appearance.
    pub dtypes: Vec<&'static str>,
}

/// Largest header accepted, the limit of the format itself.
const MAX_HEADER: u64 = 100_000_000;

impl WeightFiles {
    /// Finds, maps and checks the weight files in `folder`. `stem` is `model` for transformers'
    /// components and `diffusion_pytorch_model` for diffusers'.
    ///
    /// Looked for in this order: a single file, a sharded set with its index, the same two of the
    /// `fp16` variant.
    ///
    /// # Errors
    /// [`EngineError::Model`] if there are none, only pickles, or damaged ones.
    pub fn open(folder: &Path, stem: &str) -> Result<Self, EngineError> {
        let paths = find_files(folder, stem)?;
        let mut files = Vec::with_capacity(paths.len());
        let mut tensors = BTreeMap::new();
        for path in paths {
            let (map, metadata, data_start) = map_file(&path)?;
            for (name, info) in metadata.tensors() {
                let stored = StoredTensor {
                    file: files.len(),
                    start: data_start + info.data_offsets.0,
                    end: data_start + info.data_offsets.1,
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                };
                if tensors.insert(name.clone(), stored).is_some() {
                    return Err(EngineError::model(
                        &path,
                        format!("holds tensor `{name}`, which another file of the set holds too"),
                    ));
                }
            }
            files.push(MappedFile {
                path,
                map: Arc::new(map),
            });
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            files,
            tensors,
        })
    }

    /// No files at all.
    pub fn none() -> Self {
        Self {
            folder: PathBuf::new(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
        }
    }

    /// The component's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file, where there is one only; the folder otherwise.
    pub fn place(&self) -> &Path {
        match self.files.as_slice() {
            [file] => &file.path,
            _ => &self.folder,
        }
    }

    /// The names and places of all tensors.
    pub fn tensors(&self) -> &BTreeMap<String, StoredTensor> {
        &self.tensors
    }

    /// The file that holds a tensor.
    pub fn path_of(&self, tensor: &StoredTensor) -> &Path {
        &self.files[tensor.file].path
    }

    /// Counts what the headers list.
    pub fn summary(&self) -> WeightSummary {
        let mut summary = WeightSummary::default();
        for tensor in self.tensors.values() {
            let Some(name) = dtype_name(tensor.dtype) else {
                continue; // integer buffers such as position_ids are no weights
            };
            summary.parameters += tensor.shape.iter().map(|&n| n as u64).product::<u64>();
            if !summary.dtypes.contains(&name) {
                summary.dtypes.push(name);
            }
        }
        summary
    }

    /// One tensor as a matrix that stays where it lies: the first axis gives the rows, all others
    /// the columns.
    ///
    /// # Errors
    /// As [`WeightFiles::read`].
    pub fn matrix(&self, name: &str, tensor: &StoredTensor) -> Result<StoredMatrix, EngineError> {
        let format = match tensor.dtype {
            Dtype::F32 => Format::F32,
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::BF16,
            _ => return Ok(StoredMatrix::from_tensor(&self.read(name, tensor)?)?),
        };
        let file = &self.files[tensor.file];
        let rows = tensor.shape.first().copied().unwrap_or(1);
        let columns = tensor.shape.iter().skip(1).product();
        let range = tensor.start..tensor.end;
        StoredMatrix::mapped(Arc::clone(&file.map), range, format, rows, columns).ok_or_else(|| {
            let message = format!("tensor `{name}` does not have the length of its shape");
            EngineError::model(&file.path, message)
        })
    }

    /// Reads one tensor, widened to f32.
    ///
    /// # Errors
    /// [`EngineError::Model`] for a number format other than f32, f16, bf16 or f64.
    pub fn read(&self, name: &str, tensor: &StoredTensor) -> Result<Tensor, EngineError> {
        let file = &self.files[tensor.file];
        let bytes = &file.map[tensor.start..tensor.end];
        let values: Vec<f32> = match tensor.dtype {
            Dtype::F32 => words::<4>(bytes).map(f32::from_le_bytes).collect(),
            Dtype::F16 => words::<2>(bytes)
                .map(|word| half::f16::from_le_bytes(word).to_f32())
                .collect(),
            Dtype::BF16 => words::<2>(bytes)
                .map(|word| half::bf16::from_le_bytes(word).to_f32())
                .collect(),
            Dtype::F64 => words::<8>(bytes)
                .map(|word| f64::from_le_bytes(word) as f32)
                .collect(),
            other => {
                return Err(EngineError::model(
                    &file.path,
                    format!("tensor `{name}` is stored as {other:?}; use f32, f16 or bf16"),
                ));
            }
        };
        Ok(Tensor::from_vec(
            values,
            tensor.shape.as_slice(),
            &Device::Cpu,
        )?)
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

fn dtype_name(dtype: Dtype) -> Option<&'static str> {
    match dtype {
        Dtype::F32 => Some("f32"),
        Dtype::F16 => Some("f16"),
        Dtype::BF16 => Some("bf16"),
        Dtype::F64 => Some("f64"),
        _ => None,
    }
}

fn map_file(path: &Path) -> Result<(Mmap, Metadata, usize), EngineError> {
    let file = File::open(path)
        .map_err(|error| EngineError::model(path, format!("cannot be opened: {error}")))?;
    let length = file
        .metadata()
        .map_err(|error| EngineError::model(path, format!("cannot be read: {error}")))?
        .len();
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
    let header = u64::from_le_bytes(map[..8].try_into().expect("eight bytes were asked for"));
    if header > MAX_HEADER {
        return Err(EngineError::model(
            path,
            "is no safetensors file: its header has an impossible length",
        ));
    }
    if header + 8 > length {
        return Err(EngineError::model(
            path,
            format!(
                "is truncated: its header alone needs {} bytes, the file has {length}; copy it again",
                header + 8
            ),
        ));
    }
    let (header_length, metadata) = SafeTensors::read_metadata(&map).map_err(|error| {
        let cause = if matches!(error, SafeTensorError::MetadataIncompleteBuffer) {
            format!("is truncated or damaged: its header describes another length than the file's {length} bytes")
        } else {
            format!("has a damaged header ({error})")
        };
        EngineError::model(path, format!("{cause}; copy the file again"))
    })?;
    let data_start = header_length + 8;
    Ok((map, metadata, data_start))
}

fn find_files(folder: &Path, stem: &str) -> Result<Vec<PathBuf>, EngineError> {
    if !folder.is_dir() {
        return Err(EngineError::model(
            folder,
            "is missing; the model folder is incomplete",
        ));
    }
    for (single, indices) in [
        (
            format!("{stem}.safetensors"),
            vec![format!("{stem}.safetensors.index.json")],
        ),
        (
            format!("{stem}.fp16.safetensors"),
            vec![
                format!("{stem}.safetensors.index.fp16.json"),
                format!("{stem}.fp16.safetensors.index.json"),
            ],
        ),
    ] {
        let path = folder.join(single);
        if path.is_file() {
            return Ok(vec![path]);
        }
        for index in indices {
            let path = folder.join(index);
            if path.is_file() {
                return shards(folder, &path);
            }
        }
    }
    let pickle = std::fs::read_dir(folder)
        .ok()
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.extension().is_some_and(|end| {
                ["bin", "ckpt", "pt", "pth"]
                    .iter()
                    .any(|known| end == *known)
            })
        });
    Err(match pickle {
        Some(path) => EngineError::model(
            path,
            "is a Python pickle, which can run code when read; save the model with \
             safe_serialization=True and use the .safetensors file",
        ),
        None => EngineError::model(
            folder,
            format!(
                "holds no weights: {stem}.safetensors (or a sharded or fp16 set of it) is missing"
            ),
        ),
    })
}

fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let config = Config::read(index)?;
    let map = config
        .get("weight_map")
        .and_then(|value| value.as_object())
        .ok_or_else(|| EngineError::model(index, "has no `weight_map`"))?;
    let mut names: Vec<&str> = Vec::new();
    for (tensor, file) in map {
        let name = file.as_str().ok_or_else(|| {
            EngineError::model(
                index,
                format!("maps `{tensor}` to something not a file name"),
            )
        })?;
        // A name, never a path: an index must not reach outside of its folder.
        if name.contains(['/', '\\']) || name == ".." {
            return Err(EngineError::model(
                index,
                format!("maps `{tensor}` to `{name}`, which is not a file of this folder"),
            ));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    names
        .into_iter()
        .map(|name| {
            let path = folder.join(name);
            if path.is_file() {
                Ok(path)
            } else {
                Err(EngineError::model(
                    path,
                    "is missing; the index of the sharded weights names it",
                ))
            }
        })
        .collect()
}
