//! `y = x Wᵀ + b`.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::gemm::{Matrix, multiply};
use super::{threads, values};

struct Linear;

/// Applies a linear layer to the last axis: `input` (…, n), `weight` (m, n), `bias` (m) → (…, m).
///
/// # Errors
/// If the shapes do not fit.
pub fn linear(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let input = input.contiguous()?;
    match bias {
        Some(bias) => input.apply_op3_no_bwd(weight, bias, &Linear),
        None => input.apply_op2_no_bwd(weight, &Linear),
    }
}

fn forward(
    input: &[f32],
    input_shape: &Shape,
    weight: &[f32],
    weight_shape: &Shape,
    bias: Option<&[f32]>,
) -> Result<(CpuStorage, Shape)> {
    let (outputs, inputs) = weight_shape.dims2()?;
    let mut dims = input_shape.dims().to_vec();
    match dims.last_mut() {
        Some(last) if *last == inputs => *last = outputs,
        _ => candle_core::bail!("a linear layer of {inputs} inputs got {input_shape:?}"),
    }
    let rows = input.len() / inputs.max(1);
    let mut out = match bias {
        Some(bias) => bias.repeat(rows),
        None => vec![0.0; rows * outputs],
    };
    multiply(
        &mut out,
        outputs,
        bias.is_some(),
        Matrix::new(input, rows, inputs),
        Matrix::new(weight, outputs, inputs).transposed(),
        1.0,
        threads(),
    );
    Ok((CpuStorage::F32(out), Shape::from(dims)))
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        forward(
            values(s1, l1)?,
            l1.shape(),
            values(s2, l2)?,
            l2.shape(),
            None,
        )
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        let bias = values(s3, l3)?;
        forward(
            values(s1, l1)?,
            l1.shape(),
            values(s2, l2)?,
            l2.shape(),
            Some(bias),
        )
    }
}
