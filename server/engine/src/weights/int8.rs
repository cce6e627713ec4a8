//! Weights in int8: each row, which makes one output of its layer, as whole numbers from -127 to 127
//! times a scale of its own. Half the memory of f16, in memory of the process' own.

use memmap2::MmapMut;
use rayon::prelude::*;

use super::StoredMatrix;
use crate::cpu::quantise_row;

/// Rows begin at multiples of this: cache lines, and whole steps of every kernel. What is beyond a row's
/// end is zero.
pub const ALIGN: usize = 64;

/// A matrix of whole numbers with scales.
pub struct Int8Matrix {
    /// Mapped, and so apart from the heap: it stays while everything around it comes and goes.
    values: Option<MmapMut>,
    columns: usize,
    stride: usize,
    /// The scale of each row, and the sum of its whole numbers.
    scales: Vec<f32>,
    sums: Vec<i32>,
}

impl Int8Matrix {
    /// Rounds a matrix, row by row.
    ///
    /// # Errors
    /// If the system has no memory for it.
    pub fn round(matrix: &StoredMatrix) -> std::io::Result<Self> {
        let (rows, columns) = (matrix.rows(), matrix.columns());
        let stride = columns.next_multiple_of(ALIGN);
        let mut values = match rows * stride {
            0 => None,
            bytes => Some(MmapMut::map_anon(bytes)?),
        };
        if values.is_none() {
            return Ok(Self {
                values,
                columns,
                stride,
                scales: vec![0.0; rows],
                sums: vec![0; rows],
            });
        }
        let lines = values.as_mut().map_or(&mut [][..], |map| &mut map[..]);
        let (scales, sums) = lines
            .par_chunks_exact_mut(stride.max(1))
            .enumerate()
            .map_init(
                || vec![0.0; columns],
                |wide, (row, line)| {
                    matrix.widen(row, 0, wide);
                    let whole = signed_mut(&mut line[..columns]);
                    let scale = quantise_row(wide, whole);
                    (scale, whole.iter().map(|&q| i32::from(q)).sum::<i32>())
                },
            )
            .unzip();
        Ok(Self {
            values,
            columns,
            stride,
            scales,
            sums,
        })
    }

    /// Whole numbers `first..first + count` of a row.
    ///
    /// # Panics
    /// If the row does not have that many, zeros beyond its end included.
    pub fn row(&self, row: usize, first: usize, count: usize) -> &[i8] {
        assert!(first + count <= self.stride, "a row has an end");
        let all = self.values.as_ref().map_or(&[][..], |map| &map[..]);
        signed(&all[row * self.stride + first..][..count])
    }

    /// Numbers of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Numbers from the beginning of one row to that of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// What the whole numbers of each row are multiplied by.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The sum of each row's whole numbers.
    pub fn sums(&self) -> &[i32] {
        &self.sums
    }
}

fn signed(bytes: &[u8]) -> &[i8] {
    // SAFETY: the two have the same size and alignment, and every byte is a number of either.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

fn signed_mut(bytes: &mut [u8]) -> &mut [i8] {
    // SAFETY: as above; the borrow goes from one to the other.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_scales_sums_and_zeros_after_them() {
        let values = [1.0, -2.0, 0.5, 0.0, 0.0, 0.0];
        let matrix = StoredMatrix::from_values(&values, 2, 3).expect("a matrix");
        let rounded = Int8Matrix::round(&matrix).expect("memory");
        assert_eq!(rounded.row(0, 0, 5), [64, -127, 32, 0, 0]);
        assert_eq!(rounded.row(1, 0, 3), [0, 0, 0]);
        assert_eq!(rounded.scales(), [2.0 / 127.0, 0.0]);
        assert_eq!(rounded.sums(), [-31, 0]);
        assert_eq!((rounded.columns(), rounded.stride()), (3, ALIGN));
    }

    #[test]
    fn nothing_is_rounded_to_nothing() {
        for (rows, columns) in [(0, 3), (2, 0)] {
            let matrix = StoredMatrix::from_values(&[], rows, columns).expect("a matrix");
            let rounded = Int8Matrix::round(&matrix).expect("memory");
            assert_eq!((rounded.columns(), rounded.scales().len()), (columns, rows));
        }
    }
}
