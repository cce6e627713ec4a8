//! Scaled dot-product attention (arXiv:1706.03762) in tiles of queries, so that the scores of a
//! tile stay in cache and the full score matrix never exists.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::gemm::{Bias, Operand, multiply};
use super::math::exp;
use super::{profile, values};

/// Queries per tile.
const TILE: usize = 64;

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
        // A tile is `TILE` rows of one batch element, all heads: contiguous in the output.
        let tiles: Vec<(usize, usize, &mut [f32])> = out
            .chunks_exact_mut((queries * width).max(1))
            .enumerate()
            .flat_map(|(element, rows)| {
                rows.chunks_mut(TILE * width)
                    .enumerate()
                    .map(move |(tile, rows)| (element, tile * TILE, rows))
            })
            .collect();
        let run = || {
            tiles.into_par_iter().for_each_init(
                || vec![0.0; TILE * keys],
                |scores, (element, first, out)| {
                    let count = out.len() / width;
                    let scores = &mut scores[..count * keys];
                    for head in 0..self.heads {
                        let start = |row: usize, length: usize| {
                            (element * length + row) * width + head * dim
                        };
                        let rows = |tensor, row: usize, count, length| {
                            let tensor: &[f32] = tensor;
                            Operand::Rows {
                                values: &tensor[start(row, length)..],
                                count,
                                depth: dim,
                                stride: width,
                            }
                        };
                        let (q, k) = (rows(query, first, count, queries), rows(key, 0, keys, keys));
                        multiply(scores, keys, &q, &k, Bias::None, false);
                        for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
                            let visible = if self.causal {
                                (first + row + 1).min(keys)
                            } else {
                                keys
                            };
                            softmax(&mut scores[..visible], scale);
                            scores[visible..].fill(0.0);
                        }
                        let weights = Operand::Rows {
                            values: scores,
                            count,
                            depth: keys,
                            stride: keys,
                        };
                        let v = Operand::Columns {
                            values: &value[start(0, keys)..],
                            count: dim,
                            depth: keys,
                            stride: width,
                        };
                        multiply(
                            &mut out[head * dim..],
                            width,
                            &weights,
                            &v,
                            Bias::None,
                            false,
                        );
                    }
                },
            )
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

/// Softmax of `scores` times `scale`, in place.
fn softmax(scores: &mut [f32], scale: f32) {
    const LANES: usize = 16;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = scores.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = lane.max(x);
        }
    }
    let largest = lanes
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = scores.as_chunks_mut::<LANES>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = exp((*x - largest) * scale);
            *lane += *x;
        }
    }
    let mut total: f32 = lanes.iter().sum();
    for x in rest {
        *x = exp((*x - largest) * scale);
        total += *x;
    }
    let inverse = 1.0 / total;
    for x in scores {
        *x *= inverse;
    }
}
