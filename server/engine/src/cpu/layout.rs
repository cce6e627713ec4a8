//! Moving values without changing them.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{profile, values};

struct Transpose;

/// (b, c, h, w) → (b, h·w, c).
///
/// # Errors
/// If the tensor has another rank.
pub fn channels_last(input: &Tensor) -> Result<Tensor> {
    input
        .flatten_from(2)?
        .contiguous()?
        .apply_op1_no_bwd(&Transpose)
}

/// (b, h·w, c) → (b, c, h, w).
///
/// # Errors
/// If the sizes do not fit.
pub fn channels_first(input: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (batch, _, channels) = input.dims3()?;
    input
        .contiguous()?
        .apply_op1_no_bwd(&Transpose)?
        .reshape((batch, channels, height, width))
}

impl CustomOp1 for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        const BLOCK: usize = 16;
        let input = values(storage, layout)?;
        let (batch, rows, columns) = layout.shape().dims3()?;
        let mut out = vec![0.0; input.len()];
        let run = || {
            out.par_chunks_mut((BLOCK * rows).max(1))
                .enumerate()
                .for_each(|(index, out)| {
                    // `out` may span two batch elements only if rows do; blocks are cut per element
                    // below, so walk line by line: line = one column of the input.
                    for (line, out) in out.chunks_exact_mut(rows.max(1)).enumerate() {
                        let line = index * BLOCK + line;
                        let (element, column) = (line / columns, line % columns);
                        let source = &input[element * rows * columns + column..];
                        for (value, source) in out.iter_mut().zip(source.iter().step_by(columns)) {
                            *value = *source;
                        }
                    }
                });
        };
        profile::measured("transpose", || format!("{:?}", layout.dims()), 0.0, run);
        Ok((CpuStorage::F32(out), Shape::from((batch, columns, rows))))
    }
}

struct Nearest {
    height: usize,
    width: usize,
}

/// Nearest-neighbour resize of (b, c, h, w) to `height` × `width`, with torch's rounding: output
/// pixel i shows input pixel ⌊i · in / out⌋, computed in f32.
///
/// # Errors
/// If the tensor has another rank.
pub fn upsample_nearest(input: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    input
        .contiguous()?
        .apply_op1_no_bwd(&Nearest { height, width })
}

/// Which of `input` pixels each of `output` pixels shows.
pub fn nearest_positions(output: usize, input: usize) -> Vec<usize> {
    let scale = input as f32 / output as f32;
    (0..output)
        .map(|i| ((i as f32 * scale) as usize).min(input - 1))
        .collect()
}

impl CustomOp1 for Nearest {
    fn name(&self) -> &'static str {
        "upsample_nearest"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = values(storage, layout)?;
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let shape = Shape::from((batch, channels, self.height, self.width));
        let mut out = vec![0.0; shape.elem_count()];
        if !out.is_empty() && !input.is_empty() {
            let rows = nearest_positions(self.height, height);
            let columns = nearest_positions(self.width, width);
            let run = || {
                out.par_chunks_exact_mut(self.height * self.width)
                    .zip(input.par_chunks_exact(height * width))
                    .for_each(|(out, input)| {
                        for (out, &row) in out.chunks_exact_mut(self.width).zip(&rows) {
                            let input = &input[row * width..][..width];
                            for (out, &column) in out.iter_mut().zip(&columns) {
                                *out = input[column];
                            }
                        }
                    })
            };
            profile::measured("upsample", || format!("{:?}", layout.dims()), 0.0, run);
        }
        Ok((CpuStorage::F32(out), shape))
    }
}
