//! `y = x Wᵀ + b`.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use super::gemm::{Bias, Operand, multiply};
use super::{profile, values};
use crate::weights::StoredMatrix;

struct Linear<'a>(&'a StoredMatrix);

/// Applies a linear layer to the last axis: `input` (…, n), `weight` (m, n), `bias` (m) → (…, m).
///
/// # Errors
/// If the shapes do not fit.
pub fn linear(input: &Tensor, weight: &StoredMatrix, bias: Option<&Tensor>) -> Result<Tensor> {
    let input = input.contiguous()?;
    match bias {
        Some(bias) => input.apply_op2_no_bwd(bias, &Linear(weight)),
        None => input.apply_op1_no_bwd(&Linear(weight)),
    }
}

impl Linear<'_> {
    fn forward(
        &self,
        input: &[f32],
        shape: &Shape,
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let (outputs, inputs) = (self.0.rows(), self.0.columns());
        let mut dims = shape.dims().to_vec();
        match dims.last_mut() {
            Some(last) if *last == inputs => *last = outputs,
            _ => candle_core::bail!("a linear layer of {inputs} inputs got {shape:?}"),
        }
        if bias.is_some_and(|bias| bias.len() != outputs) {
            candle_core::bail!("a linear layer of {outputs} outputs has another number of biases");
        }
        let rows = input.len() / inputs.max(1);
        let mut out = vec![0.0; rows * outputs];
        let input = Operand::Rows {
            values: input,
            count: rows,
            depth: inputs,
            stride: inputs,
        };
        profile::measured(
            "linear",
            || format!("{rows}×{inputs} → {outputs}"),
            2.0 * rows as f64 * inputs as f64 * outputs as f64,
            || {
                let bias = bias.map_or(Bias::None, Bias::Columns);
                multiply(
                    &mut out,
                    outputs,
                    &input,
                    &Operand::Stored(self.0),
                    bias,
                    true,
                );
            },
        );
        Ok((CpuStorage::F32(out), Shape::from(dims)))
    }
}

impl CustomOp1 for Linear<'_> {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(values(storage, layout)?, layout.shape(), None)
    }
}

impl CustomOp2 for Linear<'_> {
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
        self.forward(values(s1, l1)?, l1.shape(), Some(values(s2, l2)?))
    }
}
