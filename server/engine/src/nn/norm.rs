//! Normalisation layers.

use candle_core::{Result, Tensor};

use super::Activation;
use crate::EngineError;
use crate::cpu;
use crate::weights::Weights;

/// Group normalisation, with the activation that follows it fused in.
pub struct GroupNorm {
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
            weight: weights.tensor("weight", &[channels])?,
            bias: weights.tensor("bias", &[channels])?,
            groups,
            eps,
        })
    }

    /// Normalises (b, c, …), then applies `activation`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(&self, input: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
        cpu::group_norm(
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
            weight: weights.tensor("weight", &[size])?,
            bias: weights.tensor("bias", &[size])?,
            eps,
        })
    }

    /// Normalises the last axis.
    ///
    /// # Errors
    /// If the last axis has another length.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        cpu::layer_norm(input, &self.weight, &self.bias, self.eps)
    }
}
