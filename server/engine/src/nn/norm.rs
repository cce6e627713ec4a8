//! Normalisation layers.

use candle_core::{Result, Tensor};

use super::{Activation, Ops};
use crate::EngineError;
use crate::weights::Weights;

/// Group normalisation, with the activation that follows it fused in.
pub struct GroupNorm {
    ops: Ops,
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Reads `weight` and `bias` (channels).
    ///
    /// # Errors
    /// If they cannot be read, or `groups` does not divide `channels`.
    pub fn load(
        weights: &Weights,
        channels: usize,
        groups: usize,
        eps: f64,
    ) -> std::result::Result<Self, EngineError> {
        if !channels.is_multiple_of(groups) {
            return Err(weights.config_error(format!(
                "`norm_num_groups` is {groups}, which does not divide the {channels} channels of a layer"
            )));
        }
        Ok(Self {
            ops: weights.ops().clone(),
            weight: weights.precise("weight", &[channels])?,
            bias: weights.precise("bias", &[channels])?,
            groups,
            eps,
        })
    }

    /// Normalises (b, c, …), then applies `activation`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(&self, input: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
        self.ops.group_norm(
            input,
            &self.weight,
            &self.bias,
            self.groups,
            self.eps,
            activation.map(Activation::pointwise),
        )
    }
}

/// Layer normalisation over the last axis.
pub struct LayerNorm {
    ops: Ops,
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias` (size).
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn load(
        weights: &Weights,
        size: usize,
        eps: f64,
    ) -> std::result::Result<Self, EngineError> {
        Ok(Self {
            ops: weights.ops().clone(),
            weight: weights.precise("weight", &[size])?,
            bias: weights.precise("bias", &[size])?,
            eps,
        })
    }

    /// Normalises the last axis.
    ///
    /// # Errors
    /// If the last axis has another length.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        self.ops
            .layer_norm(input, &self.weight, &self.bias, self.eps)
    }
}
