//! Weights where they lie: mapped in the number format of their file, widened to f32 panel by
//! panel as the products need them. A model so takes the memory of its file, not twice that, and
//! pages that are not in use can be given back to the operating system.

use std::ops::Range;
use std::sync::Arc;

use super::int8::Int8Matrix;
use super::mapped::WeightFile;
use crate::cpu::{widen_f16, widen_i8};
use candle_core::{Device, Tensor};

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 32 bits.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// Whole numbers, a scale for each row.
    Int8,
}

impl Format {
    /// Bytes that `count` numbers take.
    pub fn bytes(self, count: usize) -> usize {
        match self {
            Self::F32 => 4 * count,
            Self::F16 | Self::BF16 => 2 * count,
            Self::Int8 => count,
        }
    }
}

/// Bytes that live as long as anyone needs them.
#[derive(Clone)]
enum Bytes {
    /// Part of a weight file.
    Filed(Arc<WeightFile>),
    Owned(Arc<[u8]>),
    /// Rounded, in rows that are padded.
    Int8(Arc<Int8Matrix>),
    /// Zeros that take no memory: stand-ins while only headers are checked.
    Zeros,
}

/// A matrix of weights, row after row, in its stored format. Cloning shares the bytes.
#[derive(Clone)]
pub struct StoredMatrix {
    bytes: Bytes,
    range: Range<usize>,
    format: Format,
    rows: usize,
    columns: usize,
}

impl std::fmt::Debug for StoredMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{} {:?}", self.rows, self.columns, self.format)
    }
}

impl StoredMatrix {
    /// A matrix inside of a weight file; `None` if `range` does not have the length that the
    /// shape needs.
    pub fn filed(
        file: Arc<WeightFile>,
        range: Range<usize>,
        format: Format,
        rows: usize,
        columns: usize,
    ) -> Option<Self> {
        let needed = format.bytes(rows.checked_mul(columns)?);
        (range.end <= file.len() && range.len() == needed).then_some(Self {
            bytes: Bytes::Filed(file),
            range,
            format,
            rows,
            columns,
        })
    }

    /// A matrix of its own, in f32; `None` if the number of values is not `rows · columns`.
    pub fn from_values(values: &[f32], rows: usize, columns: usize) -> Option<Self> {
        if values.len() != rows.checked_mul(columns)? {
            return None;
        }
        let bytes: Arc<[u8]> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Some(Self {
            range: 0..bytes.len(),
            bytes: Bytes::Owned(bytes),
            format: Format::F32,
            rows,
            columns,
        })
    }

    /// A matrix of zeros that takes no memory.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self {
            bytes: Bytes::Zeros,
            range: 0..0,
            format: Format::F32,
            rows,
            columns,
        }
    }

    /// A tensor of f32 as a matrix: the first axis gives the rows, all others the columns.
    ///
    /// # Errors
    /// If the tensor has no axis or is not f32.
    pub fn from_tensor(tensor: &Tensor) -> candle_core::Result<Self> {
        let rows = tensor.dim(0)?;
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let columns = values.len() / rows.max(1);
        match Self::from_values(&values, rows, columns) {
            Some(matrix) => Ok(matrix),
            None => candle_core::bail!("{:?} is no matrix", tensor.shape()),
        }
    }

    /// The same matrix in int8, in memory of its own.
    ///
    /// # Errors
    /// If the system has no memory for it.
    pub fn rounded(&self) -> std::io::Result<Self> {
        let rounded = Int8Matrix::round(self)?;
        Ok(Self {
            bytes: Bytes::Int8(Arc::new(rounded)),
            range: 0..0,
            format: Format::Int8,
            rows: self.rows,
            columns: self.columns,
        })
    }

    /// The whole numbers and their scales, if it is in int8.
    pub fn as_int8(&self) -> Option<&Int8Matrix> {
        match &self.bytes {
            Bytes::Int8(matrix) => Some(matrix),
            _ => None,
        }
    }

    /// Gives the memory back that holds the matrix, if that is a file's; the next look fetches it again.
    pub fn release(&self) {
        if let Bytes::Filed(file) = &self.bytes {
            file.release(self.range.clone());
        }
    }

    /// Has the system begin to fetch the matrix, if it is a file's.
    pub fn fetch(&self) {
        if let Bytes::Filed(file) = &self.bytes {
            file.fetch(self.range.clone());
        }
    }

    /// The same matrix rounded to f16.
    pub fn halved(&self) -> Self {
        let mut row = vec![0.0; self.columns];
        let mut bytes = Vec::with_capacity(2 * self.rows * self.columns);
        for index in 0..self.rows {
            self.widen(index, 0, &mut row);
            bytes.extend(
                row.iter()
                    .flat_map(|&value| half::f16::from_f32(value).to_le_bytes()),
            );
        }
        Self {
            range: 0..bytes.len(),
            bytes: Bytes::Owned(bytes.into()),
            format: Format::F16,
            rows: self.rows,
            columns: self.columns,
        }
    }

    /// Number of rows: a layer's outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns: a layer's inputs, with a convolution's taps.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How the numbers are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The numbers as they are stored, little-endian; `None` for zeros that take no memory, and for
    /// int8, which has scales beside them.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        let all: &[u8] = match &self.bytes {
            Bytes::Filed(file) => file.bytes(),
            Bytes::Owned(bytes) => bytes,
            Bytes::Int8(_) | Bytes::Zeros => return None,
        };
        Some(&all[self.range.clone()])
    }

    /// `count` numbers of one row as they lie in the file, from column `first` on; `None` if they are
    /// not in f16.
    ///
    /// # Panics
    /// If the row does not have that many.
    pub fn f16_bytes(&self, row: usize, first: usize, count: usize) -> Option<&[u8]> {
        assert!(
            row < self.rows && first + count <= self.columns,
            "a panel reaches beyond its matrix"
        );
        let bytes = self.as_bytes().filter(|_| self.format == Format::F16)?;
        let start = self.format.bytes(row * self.columns + first);
        Some(&bytes[start..][..self.format.bytes(count)])
    }

    /// Widens `out.len()` numbers of one row, from column `first` on.
    ///
    /// # Panics
    /// If the row does not have that many.
    pub fn widen(&self, row: usize, first: usize, out: &mut [f32]) {
        assert!(
            row < self.rows && first + out.len() <= self.columns,
            "a panel reaches beyond its matrix"
        );
        if let Bytes::Int8(matrix) = &self.bytes {
            let whole = matrix.row(row, first, out.len());
            widen_i8(whole, matrix.scales()[row], out);
            return;
        }
        let Some(bytes) = self.as_bytes() else {
            out.fill(0.0);
            return;
        };
        let start = self.format.bytes(row * self.columns + first);
        let bytes = &bytes[start..][..self.format.bytes(out.len())];
        match self.format {
            Format::F32 => {
                for (out, word) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *out = f32::from_le_bytes(*word);
                }
            }
            Format::F16 => widen_f16(bytes, out),
            Format::BF16 => {
                for (out, word) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *out = f32::from_bits(u32::from(u16::from_le_bytes(*word)) << 16);
                }
            }
            Format::Int8 => unreachable!("has no plain bytes"),
        }
    }

    /// The whole matrix as a tensor of f32: (rows, columns).
    ///
    /// # Errors
    /// If the tensor cannot be made.
    pub fn to_tensor(&self) -> candle_core::Result<Tensor> {
        let mut values = vec![0.0; self.rows * self.columns];
        if self.columns > 0 {
            for (row, values) in values.chunks_exact_mut(self.columns).enumerate() {
                self.widen(row, 0, values);
            }
        }
        Tensor::from_vec(values, (self.rows, self.columns), &Device::Cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_widened_from_every_format() {
        let values = [1.5f32, -2.0, 0.25, 65504.0, 0.0, -0.125];
        for format in [Format::F32, Format::F16, Format::BF16] {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|&value| match format {
                    Format::F32 => value.to_le_bytes().to_vec(),
                    Format::F16 => half::f16::from_f32(value).to_le_bytes().to_vec(),
                    _ => half::bf16::from_f32(value).to_le_bytes().to_vec(),
                })
                .collect();
            let matrix = StoredMatrix {
                range: 0..bytes.len(),
                bytes: Bytes::Owned(bytes.into()),
                format,
                rows: 2,
                columns: 3,
            };
            let mut out = [0.0; 2];
            matrix.widen(1, 1, &mut out);
            assert_eq!(out, [0.0, -0.125], "{format:?}");
            let all = matrix.to_tensor().expect("a tensor");
            let all: Vec<f32> = all.flatten_all().and_then(|t| t.to_vec1()).expect("f32");
            assert_eq!(all[..3], values[..3], "{format:?}");
        }
    }

    #[test]
    fn int8_is_widened_by_its_scales() {
        let values = [1.5f32, -2.0, 0.25, 100.0, 0.0, -50.0];
        let matrix = StoredMatrix::from_values(&values, 2, 3).expect("a matrix");
        let rounded = matrix.rounded().expect("memory");
        assert_eq!(rounded.format(), Format::Int8);
        assert!(rounded.as_bytes().is_none() && rounded.as_int8().is_some());
        let mut out = [0.0; 2];
        rounded.widen(1, 1, &mut out);
        assert_eq!(out, [0.0, -64.0 * (100.0 / 127.0)]);
        let mut out = [0.0; 3];
        rounded.widen(0, 0, &mut out);
        for (out, value) in out.iter().zip(values) {
            assert!((out - value).abs() <= 0.5 * 2.0 / 127.0 + 1e-6, "{out}");
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        assert!(StoredMatrix::from_values(&[0.0; 5], 2, 3).is_none());
        assert!(StoredMatrix::from_values(&[0.0; 6], 2, 3).is_some());
    }
}
