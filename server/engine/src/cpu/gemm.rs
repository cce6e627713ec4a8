//! Matrix products, as a checked door to the `gemm` crate.

use gemm::Parallelism;

/// A matrix of f32 somewhere in a slice, element (i, j) at `i * row_stride + j * column_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub values: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row after row, without gaps.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::with_stride(values, rows, columns, columns)
    }

    /// Row after row, `row_stride` apart.
    pub fn with_stride(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self {
            values,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// Rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    fn check(&self) {
        assert!(
            last_index(self.rows, self.columns, self.row_stride, self.column_stride)
                .is_none_or(|last| last < self.values.len()),
            "a matrix reaches beyond its values"
        );
    }
}

fn last_index(
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
) -> Option<usize> {
    (rows > 0 && columns > 0).then(|| (rows - 1) * row_stride + (columns - 1) * column_stride)
}

/// `out = scale * a b`, or `out += scale * a b` if `add`; `out` has `row_stride` between its rows.
///
/// `threads` > 1 splits the product; calls from inside a parallel loop pass 1.
pub fn multiply(
    out: &mut [f32],
    row_stride: usize,
    add: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    threads: usize,
) {
    assert!(
        last_index(a.rows, b.columns, row_stride, 1).is_none_or(|last| last < out.len()),
        "a product reaches beyond its output"
    );
    // SAFETY: `out` is exclusively borrowed and, by the assertion, holds every element written.
    unsafe { multiply_at(out.as_mut_ptr(), row_stride, add, a, b, scale, threads) }
}

/// As [`multiply`], to a place that several threads write to.
///
/// # Safety
/// For the duration of the call, the elements `i * row_stride + j` from `out` on, for all rows `i`
/// of `a` and columns `j` of `b`, must be valid and touched by nobody else.
pub unsafe fn multiply_at(
    out: *mut f32,
    row_stride: usize,
    add: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    threads: usize,
) {
    assert_eq!(a.columns, b.rows, "inner dimensions of a product differ");
    a.check();
    b.check();
    let parallelism = if threads > 1 {
        Parallelism::Rayon(threads)
    } else {
        Parallelism::None
    };
    // SAFETY: the inputs were checked above; the output is the caller's promise.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out,
            1,
            row_stride as isize,
            add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
