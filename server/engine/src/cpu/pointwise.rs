//! Activations, value by value.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::math::{erf, exp, sigmoid, tanh};
use super::vectorised::vectorised;
use super::{profile, values};

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointwise {
    /// x · sigmoid(x), also called swish.
    Silu,
    /// x · Φ(x), exact by the error function.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// x · sigmoid(1.702 x).
    QuickGelu,
    /// max(x, 0).
    Relu,
    /// x · tanh(ln(1 + eˣ)).
    Mish,
    /// tanh(x).
    Tanh,
}

impl Pointwise {
    /// Applies the function in place.
    pub fn apply(self, values: &mut [f32]) {
        apply(self, values);
    }
}

vectorised! {
    fn apply(function: Pointwise, values: &mut [f32]) {
        match function {
            Pointwise::Silu => each(values, |x| x * sigmoid(x)),
            Pointwise::Gelu => each(values, gelu),
            Pointwise::GeluTanh => each(values, |x| {
                0.5 * x * (1.0 + tanh(0.797_884_6 * (x + 0.044_715 * x * x * x)))
            }),
            Pointwise::QuickGelu => each(values, |x| x * sigmoid(1.702 * x)),
            // Not f32::max, which would turn NaN into 0.
            Pointwise::Relu => each(values, |x| if x < 0.0 { 0.0 } else { x }),
            Pointwise::Mish => each(values, |x| {
                // tanh(ln(1 + e)) = (e² + 2e) / (e² + 2e + 2); for large x the factor is 1
                let e = exp(if x > 30.0 { 30.0 } else { x });
                let s = e * (e + 2.0);
                x * (s / (s + 2.0))
            }),
            Pointwise::Tanh => each(values, tanh),
        }
    }

    /// `out = value · GELU(gate)`, the two halves of a row.
    fn gate(row: &[f32], out: &mut [f32]) {
        let (value, gate) = row.split_at(out.len());
        for ((out, &value), &gate) in out.iter_mut().zip(value).zip(gate) {
            *out = value * gelu(gate);
        }
    }
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn each(values: &mut [f32], f: impl Fn(f32) -> f32) {
    for value in values {
        *value = f(*value);
    }
}

/// Values that one task handles.
const GRAIN: usize = 1 << 14;

struct Activation(Pointwise);

/// Applies `function` to every value.
///
/// # Errors
/// If the tensor is not f32.
pub fn pointwise(input: &Tensor, function: Pointwise) -> Result<Tensor> {
    input.contiguous()?.apply_op1_no_bwd(&Activation(function))
}

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut out = values(storage, layout)?.to_vec();
        let run = || {
            out.par_chunks_mut(GRAIN)
                .for_each(|chunk| self.0.apply(chunk));
        };
        profile::measured("activation", || format!("{:?}", layout.dims()), 0.0, run);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

struct Geglu;

/// GEGLU's gate (arXiv:2002.05202): (…, 2n) → (…, n), first half times GELU of the second.
///
/// # Errors
/// If the last axis is odd.
pub fn geglu(input: &Tensor) -> Result<Tensor> {
    input.contiguous()?.apply_op1_no_bwd(&Geglu)
}

impl CustomOp1 for Geglu {
    fn name(&self) -> &'static str {
        "geglu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = values(storage, layout)?;
        let mut dims = layout.dims().to_vec();
        let half = match dims.last_mut() {
            Some(last) if *last > 0 && *last % 2 == 0 => {
                *last /= 2;
                *last
            }
            _ => candle_core::bail!("geglu needs an even last axis, got {dims:?}"),
        };
        let mut out = vec![0.0; input.len() / 2];
        let run = || {
            out.par_chunks_mut(half)
                .zip(input.par_chunks(2 * half))
                .for_each(|(out, row)| gate(row, out));
        };
        profile::measured("geglu", || format!("{dims:?}"), 0.0, run);
        Ok((CpuStorage::F32(out), Shape::from(dims)))
    }
}
