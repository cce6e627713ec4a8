//! Linear layers.

use candle_core::{Result, Tensor};

use crate::EngineError;
use crate::cpu;
use crate::weights::{StoredMatrix, Weights};

/// `y = x Wᵀ + b`.
pub struct Linear {
    weight: StoredMatrix,
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` (outputs, inputs) and `bias` (outputs).
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn load(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
    ) -> std::result::Result<Self, EngineError> {
        Ok(Self {
            weight: weights.matrix("weight", &[outputs, inputs])?,
            bias: Some(weights.tensor("bias", &[outputs])?),
        })
    }

    /// Reads `weight` (outputs, inputs) of a layer without bias.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn load_no_bias(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
    ) -> std::result::Result<Self, EngineError> {
        Ok(Self {
            weight: weights.matrix("weight", &[outputs, inputs])?,
            bias: None,
        })
    }

    /// Reads the layer `name` below `weights`, or under the name that old files give it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn load_renamed(
        weights: &Weights,
        name: &str,
        old_name: &str,
        inputs: usize,
        outputs: usize,
    ) -> std::result::Result<Self, EngineError> {
        let names = |end: &str| [format!("{name}.{end}"), format!("{old_name}.{end}")];
        let (weight, bias) = (names("weight"), names("bias"));
        Ok(Self {
            weight: weights.matrix_named(&[&weight[0], &weight[1]], &[outputs, inputs])?,
            bias: Some(weights.tensor_named(&[&bias[0], &bias[1]], &[outputs])?),
        })
    }

    /// (…, inputs) → (…, outputs).
    ///
    /// # Errors
    /// If the last axis has another length.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        cpu::linear(input, &self.weight, self.bias.as_ref())
    }
}
