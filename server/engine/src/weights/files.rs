//! Finding and mapping the safetensors files of one component.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use safetensors::Dtype;

use super::gguf::{GgufKind, MAGIC, parse_gguf};
use super::mapped::{Header, PICKLE, WeightFile, has_pickle_name, parse_safetensors};
use super::residency::Residency;
use super::stored::{Format, StoredMatrix};
use crate::EngineError;
use crate::config::Config;
use crate::nn::Ops;

/// The mapped weight files of one component, or of a whole model in a single file.
#[derive(Clone)]
pub struct WeightFiles {
    folder: PathBuf,
    /// What says which tensors there should be, as errors name it.
    described_by: String,
    files: Vec<Arc<WeightFile>>,
    tensors: BTreeMap<String, StoredTensor>,
    metadata: BTreeMap<String, String>,
}

/// Where a tensor lies and what it is.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    pub(super) file: usize,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Its number format, as it is read.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The name of its format on disk, where that is another.
    pub quantised: Option<&'static str>,
}

impl StoredTensor {
    /// The `at`th third of the rows, where they lie; `None` if there are not three equal ones.
    pub fn third(&self, at: usize) -> Option<Self> {
        let rows = *self.shape.first()?;
        let length = self.end - self.start;
        if at > 2 || !rows.is_multiple_of(3) || !length.is_multiple_of(3) {
            return None;
        }
        let mut shape = self.shape.clone();
        shape[0] = rows / 3;
        Some(Self {
            file: self.file,
            start: self.start + at * (length / 3),
            end: self.start + (at + 1) * (length / 3),
            dtype: self.dtype,
            shape,
            quantised: self.quantised,
        })
    }
}

/// What the headers of a component's files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeightSummary {
    /// Number of weights.
    pub parameters: u64,
    /// The number formats on disk, in order of first appearance.
    pub dtypes: Vec<&'static str>,
}

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
        let mut set = Self {
            folder: folder.to_path_buf(),
            described_by: folder.join("config.json").display().to_string(),
            ..Self::none()
        };
        for path in find_files(folder, stem)? {
            set.add(WeightFile::map(&path)?)?;
        }
        Ok(set)
    }

    /// Maps and checks one file, whatever it is called.
    ///
    /// # Errors
    /// [`EngineError::Model`] if it is none, a pickle, or damaged.
    pub fn open_file(path: &Path) -> Result<Self, EngineError> {
        Self::from_file(WeightFile::map(path)?)
    }

    /// As [`WeightFiles::open_file`], with the whole file in memory: for files that may be replaced
    /// while they are in use.
    ///
    /// # Errors
    /// As [`WeightFiles::open_file`].
    pub fn open_in_memory(path: &Path) -> Result<Self, EngineError> {
        Self::from_file(WeightFile::read(path)?)
    }

    /// As [`WeightFiles::open_file`], for bytes in memory; `path` is what errors call them.
    ///
    /// # Errors
    /// As [`WeightFiles::open_file`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, EngineError> {
        Self::from_file(WeightFile::owned(path, bytes))
    }

    fn from_file(file: WeightFile) -> Result<Self, EngineError> {
        let mut set = Self {
            folder: file.path().parent().unwrap_or(Path::new("")).to_path_buf(),
            described_by: "its kind".to_string(),
            ..Self::none()
        };
        set.add(file)?;
        Ok(set)
    }

    fn add(&mut self, file: WeightFile) -> Result<(), EngineError> {
        if file.bytes().starts_with(MAGIC) {
            return self.add_gguf(file);
        }
        let path = file.path();
        let header: Header =
            parse_safetensors(file.bytes()).map_err(|message| EngineError::model(path, message))?;
        for (name, listed) in header.tensors {
            let stored = StoredTensor {
                file: self.files.len(),
                start: listed.start,
                end: listed.end,
                dtype: listed.dtype,
                shape: listed.shape,
                quantised: None,
            };
            if self.tensors.contains_key(&name) {
                return Err(EngineError::model(
                    path,
                    format!("holds tensor `{name}`, which another file of the set holds too"),
                ));
            }
            self.tensors.insert(name, stored);
        }
        self.metadata.extend(header.metadata);
        self.files.push(Arc::new(file));
        Ok(())
    }

    /// Adds a GGUF file. Plain tensors stay where they lie; quantised ones are widened to f16, each
    /// when it is first read.
    fn add_gguf(&mut self, file: WeightFile) -> Result<(), EngineError> {
        let file = Arc::new(file);
        let path = file.path();
        let header =
            parse_gguf(file.bytes()).map_err(|message| EngineError::model(path, message))?;
        let whole = self.files.len();
        self.files.push(Arc::clone(&file));
        for (name, tensor) in header.tensors {
            let stored = match tensor.kind {
                GgufKind::Plain(dtype) => StoredTensor {
                    file: whole,
                    start: tensor.start,
                    end: tensor.end,
                    dtype,
                    shape: tensor.shape,
                    quantised: None,
                },
                GgufKind::Quantised(quantisation) => {
                    let length = 2 * tensor.shape.iter().product::<usize>();
                    let source = Arc::clone(&file);
                    let range = tensor.start..tensor.end;
                    let made = WeightFile::made(path, length, move || {
                        quantisation.to_f16(&source.bytes()[range])
                    });
                    self.files.push(Arc::new(made));
                    StoredTensor {
                        file: self.files.len() - 1,
                        start: 0,
                        end: length,
                        dtype: Dtype::F16,
                        shape: tensor.shape,
                        quantised: Some(quantisation.name()),
                    }
                }
            };
            self.tensors.insert(name, stored);
        }
        self.metadata.extend(header.metadata);
        Ok(())
    }

    /// An empty set over the same files, to which tensors are added one by one.
    pub fn part(&self, described_by: &str) -> Self {
        Self {
            folder: self.folder.clone(),
            described_by: described_by.to_string(),
            files: self.files.clone(),
            tensors: BTreeMap::new(),
            metadata: self.metadata.clone(),
        }
    }

    /// Adds a tensor of the same files under a name.
    pub fn insert(&mut self, name: String, tensor: StoredTensor) {
        self.tensors.insert(name, tensor);
    }

    /// Adds a matrix of the same files under a name, rows and columns exchanged; it is rewritten
    /// when it is first read. `old_name` is what errors call it.
    ///
    /// # Errors
    /// [`EngineError::Model`] if it is no matrix.
    pub fn insert_transposed(
        &mut self,
        name: String,
        old_name: &str,
        tensor: &StoredTensor,
    ) -> Result<(), EngineError> {
        let source = Arc::clone(&self.files[tensor.file]);
        let refuse = |what: String| EngineError::model(source.path(), what);
        let [rows, columns] = tensor.shape[..] else {
            return Err(refuse(format!(
                "tensor `{old_name}` is {:?}, where a matrix is needed",
                tensor.shape
            )));
        };
        let (start, length) = (tensor.start, tensor.end - tensor.start);
        let width = length.checked_div(rows * columns).unwrap_or(0);
        let path = source.path().to_path_buf();
        let made = WeightFile::made(&path, length, move || {
            let bytes = &source.bytes()[start..start + length];
            let mut out = Vec::with_capacity(length);
            for column in 0..columns {
                for row in 0..rows {
                    out.extend_from_slice(&bytes[(row * columns + column) * width..][..width]);
                }
            }
            out
        });
        let stored = StoredTensor {
            file: self.files.len(),
            start: 0,
            end: length,
            dtype: tensor.dtype,
            shape: vec![columns, rows],
            quantised: tensor.quantised,
        };
        self.files.push(Arc::new(made));
        self.tensors.insert(name, stored);
        Ok(())
    }

    /// No files at all.
    pub fn none() -> Self {
        Self {
            folder: PathBuf::new(),
            described_by: String::new(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// The component's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file, where there is one only; the folder otherwise.
    pub fn place(&self) -> &Path {
        match self.files.as_slice() {
            // A single file, and what was rewritten of it.
            [file, rest @ ..] if rest.iter().all(|other| other.path() == file.path()) => {
                file.path()
            }
            _ => &self.folder,
        }
    }

    /// What says which tensors there should be, for error messages.
    pub fn described_by(&self) -> &str {
        &self.described_by
    }

    /// What the headers say beside the tensors.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The names and places of all tensors.
    pub fn tensors(&self) -> &BTreeMap<String, StoredTensor> {
        &self.tensors
    }

    /// The file that holds a tensor.
    pub fn path_of(&self, tensor: &StoredTensor) -> &Path {
        self.files[tensor.file].path()
    }

    /// Number of bytes of all files.
    pub fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.len()).sum()
    }

    /// Number of bytes of all tensors, as they are read.
    pub fn tensor_bytes(&self) -> usize {
        let lengths = self
            .tensors
            .values()
            .map(|tensor| tensor.end - tensor.start);
        lengths.sum()
    }

    /// Whether both hold the same tensors, byte for byte.
    pub fn holds_the_same_as(&self, other: &Self) -> bool {
        self.tensors.len() == other.tensors.len()
            && self.tensors.iter().zip(&other.tensors).all(
                |((name, tensor), (other_name, other_tensor))| {
                    name == other_name
                        && tensor.dtype == other_tensor.dtype
                        && tensor.shape == other_tensor.shape
                        && self.bytes_of(tensor) == other.bytes_of(other_tensor)
                },
            )
    }

    fn bytes_of(&self, tensor: &StoredTensor) -> &[u8] {
        &self.files[tensor.file].bytes()[tensor.start..tensor.end]
    }

    /// Where the tensors lie, for giving memory back; `ops` is what computes with them.
    pub fn residency(&self, ops: &Ops) -> Residency {
        let mut residency = Residency::new(ops);
        let mapped = |(_, file): &(usize, &Arc<WeightFile>)| file.is_mapped();
        // Other files have no pages to give back, and are not kept by whoever gives pages back.
        for (index, file) in self.files.iter().enumerate().filter(mapped) {
            let ranges = self
                .tensors
                .values()
                .filter(|tensor| tensor.file == index)
                .map(|tensor| tensor.start..tensor.end)
                .collect();
            residency.add(file, ranges);
        }
        residency
    }

    /// Counts what the headers list.
    pub fn summary(&self) -> WeightSummary {
        let mut summary = WeightSummary::default();
        for tensor in self.tensors.values() {
            let Some(name) = tensor.quantised.or(dtype_name(tensor.dtype)) else {
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
        StoredMatrix::filed(Arc::clone(file), range, format, rows, columns).ok_or_else(|| {
            let message = format!("tensor `{name}` does not have the length of its shape");
            EngineError::model(file.path(), message)
        })
    }

    /// Reads the values of a small tensor, of floats or whole numbers.
    ///
    /// # Errors
    /// [`EngineError::Model`] for other number formats, or more than a few values.
    pub fn numbers(&self, name: &str, tensor: &StoredTensor) -> Result<Vec<f64>, EngineError> {
        let bytes = &self.files[tensor.file].bytes()[tensor.start..tensor.end];
        if bytes.len() > 64 {
            return Err(EngineError::model(
                self.path_of(tensor),
                format!("tensor `{name}` holds more than the few numbers it should"),
            ));
        }
        match tensor.dtype {
            Dtype::I64 => Ok(words::<8>(bytes)
                .map(|word| i64::from_le_bytes(word) as f64)
                .collect()),
            Dtype::I32 => Ok(words::<4>(bytes)
                .map(|word| f64::from(i32::from_le_bytes(word)))
                .collect()),
            Dtype::F64 => Ok(words::<8>(bytes).map(f64::from_le_bytes).collect()),
            _ => {
                let values = self.read(name, tensor)?.flatten_all()?.to_vec1::<f32>()?;
                Ok(values.into_iter().map(f64::from).collect())
            }
        }
    }

    /// Reads one tensor, widened to f32.
    ///
    /// # Errors
    /// [`EngineError::Model`] for a number format other than f32, f16, bf16 or f64.
    pub fn read(&self, name: &str, tensor: &StoredTensor) -> Result<Tensor, EngineError> {
        let file = &self.files[tensor.file];
        let bytes = &file.bytes()[tensor.start..tensor.end];
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
                    file.path(),
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
        .find(|path| has_pickle_name(path));
    Err(match pickle {
        Some(path) => EngineError::model(path, PICKLE),
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
