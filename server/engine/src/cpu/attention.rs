//! Scaled dot-product attention (arXiv:1706.03762) in tiles of queries and keys with a running
//! softmax (arXiv:2205.14135), so that the scores of a tile stay in cache and the full score matrix
//! never exists.

use std::cell::RefCell;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::gemm::{Operand, Packed, multiply_packed};
use super::math::{exp, exp_of_negative};
use super::pages::Pages;
use super::vectorised::vectorised;
use super::{profile, values};

/// Most queries of a task: so often are keys and values used once they are near.
const QUERIES: usize = 512;
/// Queries whose scores are looked at together.
const ROWS: usize = 128;
/// Keys per tile.
const KEYS: usize = 256;

struct Attention {
    heads: usize,
    causal: bool,
}

/// softmax(q kᵀ / √d) v for each head: `query` (b, s, h·d), `key` and `value` (b, t, h·d) →
/// (b, s, h·d). `causal` hides later positions.
///
/// # Errors
/// If the shapes do not fit.
pub fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    heads: usize,
    causal: bool,
) -> Result<Tensor> {
    query.contiguous()?.apply_op3_no_bwd(
        &key.contiguous()?,
        &value.contiguous()?,
        &Attention { heads, causal },
    )
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (query, key, value) = (values(s1, l1)?, values(s2, l2)?, values(s3, l3)?);
        let (batch, queries, width) = l1.shape().dims3()?;
        let (key_batch, keys, key_width) = l2.shape().dims3()?;
        if l2.shape() != l3.shape()
            || key_batch != batch
            || key_width != width
            || keys == 0
            || self.heads == 0
            || !width.is_multiple_of(self.heads)
        {
            candle_core::bail!(
                "attention of {} heads got {:?}, {:?} and {:?}",
                self.heads,
                l1.shape(),
                l2.shape(),
                l3.shape()
            );
        }
        let dim = width / self.heads;
        let scale = 1.0 / (dim as f32).sqrt();
        let mut out = vec![0.0; query.len()];
        let shape = Shapes {
            heads: self.heads,
            dim,
            queries,
            keys,
        };
        let blocks = keys.div_ceil(KEYS);
        // A task is some queries of one head: fewer where there would be too few tasks.
        let (mut rows, groups) = (QUERIES, batch * self.heads);
        while rows > ROWS && queries.div_ceil(rows) * groups < 4 * rayon::current_num_threads() {
            rows /= 2;
        }
        let tiles = queries.div_ceil(rows);
        let target = Output(out.as_mut_ptr());
        let run = || {
            // Keys and values are packed once for all queries.
            let packed: Vec<(Packed, Packed)> = (0..groups * blocks)
                .into_par_iter()
                .map(|index| shape.pack(key, value, index))
                .collect();
            (0..groups * tiles).into_par_iter().for_each(|index| {
                SCRATCH.with_borrow_mut(|scratch| {
                    let (group, first) = (index / tiles, index % tiles * rows);
                    let (element, head) = (group / self.heads, group % self.heads);
                    let tile = Tile {
                        shape: &shape,
                        query: &query[element * queries * width..],
                        head,
                        first,
                        count: rows.min(queries - first),
                        causal: self.causal,
                        scale,
                    };
                    tile.attend(&packed[group * blocks..][..blocks], scratch);
                    let start = (element * queries + first) * width + head * dim;
                    // SAFETY: `count` rows of this head begin there, and are this task's alone.
                    unsafe { scratch.write(&tile, target, start) }
                });
            });
        };
        profile::measured(
            "attention",
            || format!("{batch}×{queries} on {keys}, {} heads of {dim}", self.heads),
            4.0 * (batch * queries) as f64 * (keys * width) as f64,
            run,
        );
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

/// The lengths that say where a head's rows lie.
struct Shapes {
    heads: usize,
    dim: usize,
    queries: usize,
    keys: usize,
}

impl Shapes {
    /// `count` rows of one head, from row `first` of `values` on.
    fn rows<'a>(&self, values: &'a [f32], first: usize, count: usize, head: usize) -> Operand<'a> {
        debug_assert!(first + count <= self.queries.max(self.keys));
        let width = self.heads * self.dim;
        Operand::Rows {
            values: &values[first * width + head * self.dim..],
            count,
            depth: self.dim,
            stride: width,
        }
    }

    /// Packs the keys and values of one block of one head of one batch element.
    fn pack(&self, key: &[f32], value: &[f32], index: usize) -> (Packed, Packed) {
        let blocks = self.keys.div_ceil(KEYS);
        let (block, head) = (index % blocks, index / blocks % self.heads);
        let element = index / blocks / self.heads;
        let width = self.heads * self.dim;
        let first = block * KEYS;
        let count = KEYS.min(self.keys - first);
        let start = element * self.keys * width;
        let keys = self.rows(&key[start..], first, count, head);
        let values = Operand::Columns {
            values: &value[start + first * width + head * self.dim..],
            count: self.dim,
            depth: count,
            stride: width,
        };
        (Packed::new(&keys), Packed::new(&values))
    }
}

/// Where the result goes.
#[derive(Clone, Copy)]
struct Output(*mut f32);
// SAFETY: every task writes to rows and heads of its own.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// Some queries of one head of one batch element.
struct Tile<'a> {
    shape: &'a Shapes,
    /// All queries of the batch element.
    query: &'a [f32],
    head: usize,
    /// Position of the first query.
    first: usize,
    count: usize,
    causal: bool,
    scale: f32,
}

thread_local! {
    /// Of the thread that attends, kept from call to call as the panels of `gemm` are.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What a tile works on.
#[derive(Default)]
struct Scratch {
    scores: Pages,
    /// (queries, dim) so far, not yet divided by `total`.
    result: Pages,
    /// Largest score of each query so far.
    largest: Vec<f32>,
    /// Sum of each query's weights so far.
    total: Vec<f32>,
}

impl Scratch {
    /// Writes the result of `tile`, rows being all heads wide.
    ///
    /// # Safety
    /// From `start` on, `out` has the tile's rows of one head, and no other thread uses them.
    unsafe fn write(&mut self, tile: &Tile<'_>, out: Output, start: usize) {
        let (dim, width) = (tile.shape.dim, tile.shape.heads * tile.shape.dim);
        let result = self.result.room::<f32>(tile.count * dim);
        for (row, (values, total)) in result.chunks_exact_mut(dim).zip(&self.total).enumerate() {
            let inverse = 1.0 / total;
            for value in values.iter_mut() {
                *value *= inverse;
            }
            // SAFETY: the caller's promise.
            unsafe {
                let target = out.0.add(start + row * width);
                std::ptr::copy_nonoverlapping(values.as_ptr(), target, dim);
            }
        }
    }
}

impl Tile<'_> {
    /// All keys for these queries, block by block.
    fn attend(&self, packed: &[(Packed, Packed)], scratch: &mut Scratch) {
        let dim = self.shape.dim;
        let Scratch {
            scores,
            result,
            largest,
            total,
        } = scratch;
        let result = result.room::<f32>(self.count * dim);
        largest.clear();
        largest.resize(self.count, f32::NEG_INFINITY);
        total.clear();
        total.resize(self.count, 0.0);
        for (block, (keys, values)) in packed.iter().enumerate() {
            let length = keys.count();
            for first in (0..self.count).step_by(ROWS) {
                let count = ROWS.min(self.count - first);
                let position = self.first + first;
                // Positions that the last of these queries does not see either.
                if self.causal && block * KEYS >= position + count {
                    continue;
                }
                let scores = scores.room::<f32>(count * length);
                let queries = self.shape.rows(self.query, position, count, self.head);
                multiply_packed(scores, length, &queries, keys, false);
                let result = &mut result[first * dim..][..count * dim];
                let rows = scores
                    .chunks_exact_mut(length)
                    .zip(result.chunks_exact_mut(dim));
                for (row, (scores, result)) in rows.enumerate() {
                    let visible = if self.causal {
                        (position + row + 1)
                            .saturating_sub(block * KEYS)
                            .min(length)
                    } else {
                        length
                    };
                    scores[visible..].fill(0.0);
                    if visible == 0 {
                        continue;
                    }
                    let (largest, total) = (&mut largest[first + row], &mut total[first + row]);
                    let scores = &mut scores[..visible];
                    let now = largest.max(maximum(scores));
                    let fade = if *largest == f32::NEG_INFINITY {
                        0.0
                    } else {
                        exp((*largest - now) * self.scale)
                    };
                    *total = *total * fade + weigh(scores, now, self.scale);
                    *largest = now;
                    if block > 0 && fade < 1.0 {
                        for value in result {
                            *value *= fade;
                        }
                    }
                }
                let weights = Operand::Rows {
                    values: scores,
                    count,
                    depth: length,
                    stride: length,
                };
                multiply_packed(result, dim, &weights, values, block > 0);
            }
        }
    }
}

const LANES: usize = 16;

vectorised! {
/// The largest; NaN if any is.
fn maximum(scores: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = scores.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, x);
        }
    }
    lanes
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, larger)
}

/// Scores → exp((score − largest) · scale), in place; their sum.
fn weigh(scores: &mut [f32], largest: f32, scale: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = scores.as_chunks_mut::<LANES>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = exp_of_negative((*x - largest) * scale);
            *lane += *x;
        }
    }
    let mut total: f32 = lanes.iter().sum();
    for x in rest {
        *x = exp_of_negative((*x - largest) * scale);
        total += *x;
    }
    total
}
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::rng::TorchGenerator;

    /// More keys than a block, more queries than a tile, and no multiple of either.
    #[test]
    fn tiles_and_blocks_join_without_a_trace() {
        let (batch, heads, dim) = (2, 3, 20);
        for (queries, keys, causal) in [(70, 600, false), (300, 300, true), (1, 1, false)] {
            let mut generator = TorchGenerator::new(9);
            let mut draw = |rows: usize| generator.randn(batch * rows * heads * dim);
            let (q, k, v) = (draw(queries), draw(keys), draw(keys));
            let tensor = |values: &[f32], rows: usize| {
                Tensor::from_slice(values, (batch, rows, heads * dim), &Device::Cpu)
            };
            let got = attention(
                &tensor(&q, queries).expect("a tensor"),
                &tensor(&k, keys).expect("a tensor"),
                &tensor(&v, keys).expect("a tensor"),
                heads,
                causal,
            )
            .and_then(|out| out.flatten_all()?.to_vec1::<f32>())
            .expect("computed");
            for (index, got) in got.iter().enumerate() {
                let (row, column) = (index / (heads * dim), index % (heads * dim));
                let (element, query, head) = (row / queries, row % queries, column / dim);
                let at = |rows: usize, row: usize, d: usize| {
                    (element * rows + row) * heads * dim + head * dim + d
                };
                let seen = if causal { query + 1 } else { keys };
                let scores: Vec<f64> = (0..seen)
                    .map(|key| {
                        let dot: f64 = (0..dim)
                            .map(|d| {
                                f64::from(q[at(queries, query, d)]) * f64::from(k[at(keys, key, d)])
                            })
                            .sum();
                        (dot / (dim as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = scores.iter().sum();
                let want: f64 = scores
                    .iter()
                    .enumerate()
                    .map(|(key, score)| score / total * f64::from(v[at(keys, key, column % dim)]))
                    .sum();
                let error = (f64::from(*got) - want).abs();
                assert!(
                    error < 2e-6,
                    "{queries} on {keys} at {index}: off by {error}"
                );
            }
        }
    }
}
