//! GGUF headers (versions 2 and 3), as stable-diffusion.cpp and ComfyUI-GGUF write them. Every length
//! in a file is checked against the file's own size before anything is kept.

use std::collections::BTreeMap;

use super::mapped::is_possible;
use super::quantised::Quantisation;

/// What a GGUF header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GgufHeader {
    /// All tensors by name.
    pub tensors: BTreeMap<String, GgufTensor>,
    /// The texts among the metadata.
    pub metadata: BTreeMap<String, String>,
}

/// A tensor as a header lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufTensor {
    /// How it is stored.
    pub kind: GgufKind,
    /// Its shape, the slowest axis first as everywhere else (GGUF has it the other way round).
    pub shape: Vec<usize>,
    /// Where its bytes begin, from the start of the file.
    pub start: usize,
    /// Where they end.
    pub end: usize,
}

/// How a tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufKind {
    /// Plain numbers.
    Plain(safetensors::Dtype),
    /// Blocks of small whole numbers with scales.
    Quantised(Quantisation),
}

impl GgufKind {
    /// Reads ggml's number of a type; the error is its name or number.
    fn read(number: u32) -> Result<Self, String> {
        use safetensors::Dtype;
        if let Some(quantisation) = Quantisation::find(number) {
            return Ok(Self::Quantised(quantisation));
        }
        Ok(Self::Plain(match number {
            0 => Dtype::F32,
            1 => Dtype::F16,
            24 => Dtype::I8,
            25 => Dtype::I16,
            26 => Dtype::I32,
            27 => Dtype::I64,
            28 => Dtype::F64,
            30 => Dtype::BF16,
            16..=23 | 29 => return Err(format!("IQ (ggml type {number})")),
            other => return Err(format!("ggml type {other}")),
        }))
    }

    /// Values per block, and bytes per block.
    fn block(self) -> (usize, usize) {
        match self {
            Self::Plain(dtype) => (1, dtype.bitsize() / 8),
            Self::Quantised(quantisation) => quantisation.block(),
        }
    }
}

/// The first bytes of a GGUF file.
pub const MAGIC: &[u8] = b"GGUF";

/// Most axes that a tensor may have.
const MAX_AXES: u32 = 8;
/// Where tensors begin, unless the file says otherwise.
const DEFAULT_ALIGNMENT: usize = 32;
/// Arrays within arrays that are followed.
const MAX_NESTING: usize = 4;

/// Bytes read one after the other.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let Some(taken) = taken else {
            return Err(
                "is truncated or damaged: its header reaches beyond its end; copy the file again"
                    .to_string(),
            );
        };
        self.at += count;
        Ok(taken)
    }

    fn word<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        Ok(*taken.first_chunk().expect("N bytes were taken"))
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.word().map(u32::from_le_bytes)
    }

    fn length(&mut self) -> Result<usize, String> {
        let length = self.word().map(u64::from_le_bytes)?;
        usize::try_from(length).map_err(|_| "has a length beyond this machine's".to_string())
    }

    fn text(&mut self) -> Result<&'a str, String> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?)
            .map_err(|_| "has a name or text that is not UTF-8".to_string())
    }

    /// A metadata value: a text, or the whole numbers of a number or an array.
    fn value(&mut self, kind: u32, nesting: usize) -> Result<Value, String> {
        let number = |value: i64| Ok(Value::Numbers(vec![value]));
        match kind {
            0 | 7 => number(i64::from(self.word::<1>()?[0])),
            1 => number(i64::from(i8::from_le_bytes(self.word()?))),
            2 => number(i64::from(u16::from_le_bytes(self.word()?))),
            3 => number(i64::from(i16::from_le_bytes(self.word()?))),
            4 => number(i64::from(self.u32()?)),
            5 => number(i64::from(i32::from_le_bytes(self.word()?))),
            10 => number(u64::from_le_bytes(self.word()?).try_into().unwrap_or(-1)),
            11 => number(i64::from_le_bytes(self.word()?)),
            6 => self.word::<4>().map(|_| Value::Other),
            12 => self.word::<8>().map(|_| Value::Other),
            8 => Ok(Value::Text(self.text()?.to_string())),
            9 => {
                let kind = self.u32()?;
                let count = self.length()?;
                if nesting == 0 || count > self.bytes.len() - self.at {
                    return Err("has an impossible array in its metadata".to_string());
                }
                let mut numbers = Vec::new();
                for _ in 0..count {
                    // Only shapes are of interest: long arrays are passed over.
                    if let Value::Numbers(found) = self.value(kind, nesting - 1)?
                        && numbers.len() < MAX_AXES as usize
                    {
                        numbers.extend(found);
                    }
                }
                Ok(Value::Numbers(numbers))
            }
            other => Err(format!("has metadata of an unknown type ({other})")),
        }
    }
}

enum Value {
    Text(String),
    Numbers(Vec<i64>),
    Other,
}

/// Where ComfyUI-GGUF keeps the shapes of tensors that it stored in another one.
const ORIGINAL_SHAPE: &str = "comfy.gguf.orig_shape.";

/// Reads the header of a GGUF file, given the whole file's bytes.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn parse_gguf(bytes: &[u8]) -> Result<GgufHeader, String> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(MAGIC.len())? != MAGIC {
        return Err("is no GGUF file".to_string());
    }
    let version = reader.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!(
            "is GGUF of version {version}; versions 2 and 3 (little endian) can be read"
        ));
    }
    let tensor_count = reader.length()?;
    let value_count = reader.length()?;
    let mut header = GgufHeader::default();
    // 1. Metadata.
    let mut alignment = DEFAULT_ALIGNMENT;
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for _ in 0..value_count {
        let key = reader.text()?;
        let kind = reader.u32()?;
        match reader.value(kind, MAX_NESTING)? {
            Value::Text(text) => {
                header.metadata.insert(key.to_string(), text);
            }
            Value::Numbers(numbers) if key == "general.alignment" => {
                alignment = match numbers.as_slice() {
                    [number] => usize::try_from(*number).unwrap_or(0),
                    _ => 0,
                };
                if !alignment.is_power_of_two() || alignment > 1 << 20 {
                    return Err("has an impossible `general.alignment`".to_string());
                }
            }
            Value::Numbers(numbers) => {
                if let Some(name) = key.strip_prefix(ORIGINAL_SHAPE) {
                    let shape = numbers
                        .iter()
                        .map(|&length| usize::try_from(length).ok())
                        .collect::<Option<Vec<_>>>()
                        .ok_or_else(|| format!("has an impossible shape in `{key}`"))?;
                    shapes.insert(name.to_string(), shape);
                }
            }
            Value::Other => {}
        }
    }
    // 2. Tensors; their offsets count from the end of the header.
    let mut listed = Vec::new();
    for _ in 0..tensor_count {
        let name = reader.text()?;
        let axes = reader.u32()?;
        if axes > MAX_AXES {
            return Err(format!("has tensor `{name}` with {axes} axes"));
        }
        let mut shape = (0..axes)
            .map(|_| reader.length())
            .collect::<Result<Vec<_>, _>>()?;
        let kind = GgufKind::read(reader.u32()?).map_err(|kind| {
            format!(
                "stores tensor `{name}` as {kind}, which is not supported; use F32, F16, BF16, Q8_0, Q5_0, Q5_1, Q4_0, Q4_1 or Q2_K to Q6_K"
            )
        })?;
        let offset = reader.length()?;
        let (values, block_bytes) = kind.block();
        let row = shape.first().copied().unwrap_or(1);
        let count = is_possible(&shape).then(|| shape.iter().product::<usize>());
        let length = count
            .filter(|_| row.is_multiple_of(values))
            .and_then(|count| (count / values).checked_mul(block_bytes))
            .ok_or_else(|| format!("has tensor `{name}` of the impossible shape {shape:?}"))?;
        shape.reverse();
        if let Some(original) = shapes.get(name) {
            let same = is_possible(original) && Some(original.iter().product()) == count;
            if !same {
                return Err(format!(
                    "says that tensor `{name}` of shape {shape:?} was {original:?}, which has another number of values"
                ));
            }
            shape.clone_from(original);
        }
        listed.push((name, kind, shape, offset, length));
    }
    let data = reader.at.next_multiple_of(alignment);
    for (name, kind, shape, offset, length) in listed {
        let start = data.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(length));
        let (Some(start), Some(end)) = (start, end) else {
            return Err(format!("has tensor `{name}` at an impossible place"));
        };
        if end > bytes.len() {
            return Err(format!(
                "is truncated: tensor `{name}` ends at byte {end}, the file has {}; copy it again",
                bytes.len()
            ));
        }
        let tensor = GgufTensor {
            kind,
            shape,
            start,
            end,
        };
        if header.tensors.insert(name.to_string(), tensor).is_some() {
            return Err(format!("holds tensor `{name}` twice"));
        }
    }
    Ok(header)
}
