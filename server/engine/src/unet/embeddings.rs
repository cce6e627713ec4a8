//! Embeddings of timesteps, size conditions and guidance scales.

use candle_core::{Device, Result, Tensor};

use crate::EngineError;
use crate::nn::{Activation, Linear, Ops};
use crate::weights::Weights;

/// Sines and cosines of `values` at geometrically spaced frequencies (arXiv:2006.11239): (n) →
/// (n, `dim`). Computed in f32 whatever the model's number format.
///
/// # Errors
/// If the tensor cannot be made.
pub fn sinusoidal_embedding(
    values: &[f32],
    dim: usize,
    flip_sin_to_cos: bool,
    freq_shift: f64,
) -> Result<Tensor> {
    let half = dim / 2;
    let max_period = -(10_000f64.ln()) as f32;
    let frequencies: Vec<f32> = (0..half)
        .map(|i| (max_period * i as f32 / (half as f64 - freq_shift) as f32).exp())
        .collect();
    let mut out = Vec::with_capacity(values.len() * dim);
    for value in values {
        let angles = frequencies.iter().map(|frequency| value * frequency);
        if flip_sin_to_cos {
            out.extend(angles.clone().map(f32::cos));
            out.extend(angles.map(f32::sin));
        } else {
            out.extend(angles.clone().map(f32::sin));
            out.extend(angles.map(f32::cos));
        }
        if dim % 2 == 1 {
            out.push(0.0);
        }
    }
    Tensor::from_vec(out, (values.len(), dim), &Device::Cpu)
}

/// Embedding of `guidance_scale − 1` for models distilled to take it (arXiv:2210.03142): (1, dim).
///
/// # Errors
/// If the tensor cannot be made.
pub fn guidance_scale_embedding(guidance_scale: f64, dim: usize) -> Result<Tensor> {
    let w = ((guidance_scale - 1.0) as f32) * 1000.0;
    let half = dim / 2;
    let step = (-(10_000f64.ln()) / (half as f64 - 1.0)) as f32;
    let angles: Vec<f32> = (0..half).map(|i| w * (i as f32 * step).exp()).collect();
    let mut out: Vec<f32> = angles.iter().map(|angle| angle.sin()).collect();
    out.extend(angles.iter().map(|angle| angle.cos()));
    out.resize(dim, 0.0);
    Tensor::from_vec(out, (1, dim), &Device::Cpu)
}

/// Two linear layers with an activation between, and what configs may add to them.
pub struct TimestepEmbedding {
    ops: Ops,
    cond_proj: Option<Linear>,
    linear_1: Linear,
    linear_2: Linear,
    activation: Activation,
    post_activation: Option<Activation>,
}

impl TimestepEmbedding {
    /// Reads `linear_1` (inputs → width), `linear_2` (width → width) and, with `cond_dim`,
    /// `cond_proj` (`cond_dim` → inputs).
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn load(
        weights: &Weights,
        inputs: usize,
        width: usize,
        activation: Activation,
        post_activation: Option<Activation>,
        cond_dim: Option<usize>,
    ) -> std::result::Result<Self, EngineError> {
        Ok(Self {
            ops: weights.ops().clone(),
            cond_proj: cond_dim
                .map(|dim| Linear::load_no_bias(&weights.at("cond_proj"), dim, inputs))
                .transpose()?,
            linear_1: Linear::load(&weights.at("linear_1"), inputs, width)?,
            linear_2: Linear::load(&weights.at("linear_2"), width, width)?,
            activation,
            post_activation,
        })
    }

    /// (b, inputs) → (b, width); `condition` is (1 or b, `cond_dim`).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(&self, sample: &Tensor, condition: Option<&Tensor>) -> Result<Tensor> {
        let mut sample = sample.clone();
        if let (Some(projection), Some(condition)) = (&self.cond_proj, condition) {
            sample = sample.broadcast_add(&projection.forward(condition)?)?;
        }
        let hidden = self
            .activation
            .forward(&self.ops, &self.linear_1.forward(&sample)?)?;
        let out = self.linear_2.forward(&hidden)?;
        match self.post_activation {
            Some(activation) => activation.forward(&self.ops, &out),
            None => Ok(out),
        }
    }
}
