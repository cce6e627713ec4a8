//! Operands of a product, and how panels of them are laid out for the kernels.

use super::kernel::Kernel;
use crate::weights::StoredMatrix;

/// Vectors of equal length, the products of which make up a matrix product.
pub enum Operand<'a> {
    /// Vector i is a row: value k at `i · stride + k`.
    Rows {
        values: &'a [f32],
        count: usize,
        depth: usize,
        stride: usize,
    },
    /// Vector i is a column: value k at `k · stride + i`.
    Columns {
        values: &'a [f32],
        count: usize,
        depth: usize,
        stride: usize,
    },
    /// Vector i is a row of weights.
    Stored(&'a StoredMatrix),
    /// Vector i is what a convolution sees from output pixel i.
    Patches(&'a dyn Patches),
}

/// A convolution's input, unfolded as it is needed.
pub trait Patches: Sync {
    /// Number of output pixels.
    fn count(&self) -> usize;
    /// Channels times taps.
    fn depth(&self) -> usize;
    /// Writes value `k` of output pixels `first..first + out.len()`.
    fn line(&self, k: usize, first: usize, out: &mut [f32]);
}

impl Operand<'_> {
    /// Number of vectors.
    pub fn count(&self) -> usize {
        match self {
            Self::Rows { count, .. } | Self::Columns { count, .. } => *count,
            Self::Stored(matrix) => matrix.rows(),
            Self::Patches(patches) => patches.count(),
        }
    }

    /// Their length.
    pub fn depth(&self) -> usize {
        match self {
            Self::Rows { depth, .. } | Self::Columns { depth, .. } => *depth,
            Self::Stored(matrix) => matrix.columns(),
            Self::Patches(patches) => patches.depth(),
        }
    }

    /// Whether every value lies where the strides say.
    pub fn is_sound(&self) -> bool {
        let holds = |values: &[f32], outer: usize, inner: usize, stride: usize| {
            outer == 0 || inner == 0 || (outer - 1) * stride + inner <= values.len()
        };
        match self {
            Self::Rows {
                values,
                count,
                depth,
                stride,
            } => holds(values, *count, *depth, *stride),
            Self::Columns {
                values,
                count,
                depth,
                stride,
            } => holds(values, *depth, *count, *stride),
            Self::Stored(_) | Self::Patches(_) => true,
        }
    }

    /// Lays values `k..k + depth` of vectors `first..first + count` out as `out[k · width + i]`,
    /// zeros filling up to `width`. `scratch` is grown as needed.
    pub fn pack(
        &self,
        kernel: &Kernel,
        (first, count): (usize, usize),
        (k, depth): (usize, usize),
        width: usize,
        out: &mut [f32],
        scratch: &mut Vec<f32>,
    ) {
        assert!(
            count <= width
                && out.len() >= width * depth
                && first + count <= self.count()
                && k + depth <= self.depth(),
            "a panel reaches beyond its operand"
        );
        match self {
            Self::Rows { values, stride, .. } => {
                if count == width {
                    let source = &values[first * stride + k..];
                    assert!((count - 1) * stride + depth <= source.len());
                    // SAFETY: `source` holds `width` rows of `depth` values, as just asserted, and
                    // `out` `width · depth`.
                    unsafe {
                        (kernel.transpose)(
                            source.as_ptr(),
                            *stride,
                            width,
                            depth,
                            out.as_mut_ptr(),
                        );
                    }
                } else {
                    pack_rows(kernel, count, depth, width, out, scratch, |row, out| {
                        out.copy_from_slice(&values[(first + row) * stride + k..][..depth]);
                    });
                }
            }
            Self::Stored(matrix) => {
                pack_rows(kernel, count, depth, width, out, scratch, |row, out| {
                    matrix.widen(first + row, k, out);
                });
            }
            Self::Columns { values, stride, .. } => {
                for (line, out) in out.chunks_exact_mut(width).take(depth).enumerate() {
                    let source = &values[(k + line) * stride + first..][..count];
                    out[..count].copy_from_slice(source);
                    out[count..].fill(0.0);
                }
            }
            Self::Patches(patches) => {
                for (line, out) in out.chunks_exact_mut(width).take(depth).enumerate() {
                    patches.line(k + line, first, &mut out[..count]);
                    out[count..].fill(0.0);
                }
            }
        }
    }
}

/// Gathers rows side by side, then turns them around.
fn pack_rows(
    kernel: &Kernel,
    count: usize,
    depth: usize,
    width: usize,
    out: &mut [f32],
    scratch: &mut Vec<f32>,
    row: impl Fn(usize, &mut [f32]),
) {
    scratch.resize(width * depth, 0.0);
    let (rows, rest) = scratch.split_at_mut(count * depth);
    rest.fill(0.0);
    for (index, values) in rows.chunks_exact_mut(depth.max(1)).enumerate() {
        row(index, values);
    }
    // SAFETY: `scratch` holds `width` rows of `depth` values, and `out` as many.
    unsafe { (kernel.transpose)(scratch.as_ptr(), depth, width, depth, out.as_mut_ptr()) }
}
