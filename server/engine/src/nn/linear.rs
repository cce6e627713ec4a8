//! Linear layers.

use candle_core::{Result, Tensor};

use super::{AdapterSlot, LayerShape, Ops, Weight};
use crate::EngineError;
use crate::weights::Weights;

/// `y = x Wᵀ + b`.
pub struct Linear {
    ops: Ops,
    weight: Weight,
    bias: Option<Tensor>,
    adapters: AdapterSlot,
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
            ops: weights.ops().clone(),
            weight: weights.weight("weight", &[outputs, inputs])?,
            bias: Some(weights.parameter("bias", &[outputs])?),
            adapters: weights.adapter_slot(LayerShape::Linear { inputs, outputs }),
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
            ops: weights.ops().clone(),
            weight: weights.weight("weight", &[outputs, inputs])?,
            bias: None,
            adapters: weights.adapter_slot(LayerShape::Linear { inputs, outputs }),
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
            ops: weights.ops().clone(),
            weight: weights.weight_named(&[&weight[0], &weight[1]], &[outputs, inputs])?,
            bias: Some(weights.parameter_named(&[&bias[0], &bias[1]], &[outputs])?),
            adapters: weights
                .at(name)
                .adapter_slot(LayerShape::Linear { inputs, outputs }),
        })
    }

    /// (…, inputs) → (…, outputs).
    ///
    /// # Errors
    /// If the last axis has another length.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let out = self.ops.linear(input, &self.weight, self.bias.as_ref())?;
        self.adapters.apply(&self.ops, input, out)
    }
}
