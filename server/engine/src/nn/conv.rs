//! Convolutions.

use candle_core::{Result, Tensor};

use super::{AdapterSlot, LayerShape, Ops, Weight};
use crate::EngineError;
use crate::cpu::ConvGeometry;
use crate::weights::Weights;

/// A square convolution.
pub struct Conv2d {
    ops: Ops,
    weight: Weight,
    kernel: usize,
    bias: Option<Tensor>,
    geometry: ConvGeometry,
    adapters: AdapterSlot,
}

impl Conv2d {
    /// Reads a convolution that keeps the size of its input: `weight` (outputs, inputs, k, k) and
    /// `bias` (outputs), odd `kernel`.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn load(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        kernel: usize,
    ) -> std::result::Result<Self, EngineError> {
        Self::load_with(weights, inputs, outputs, kernel, ConvGeometry::same(kernel))
    }

    /// As [`Conv2d::load`], for a convolution without bias.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn load_no_bias(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        kernel: usize,
    ) -> std::result::Result<Self, EngineError> {
        Ok(Self {
            ops: weights.ops().clone(),
            weight: weights.weight("weight", &[outputs, inputs, kernel, kernel])?,
            kernel,
            bias: None,
            geometry: ConvGeometry::same(kernel),
            adapters: weights.adapter_slot(LayerShape::Conv {
                inputs,
                outputs,
                kernel,
            }),
        })
    }

    /// Reads a convolution with any stride and padding.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn load_with(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        geometry: ConvGeometry,
    ) -> std::result::Result<Self, EngineError> {
        Ok(Self {
            ops: weights.ops().clone(),
            weight: weights.weight("weight", &[outputs, inputs, kernel, kernel])?,
            kernel,
            bias: Some(weights.parameter("bias", &[outputs])?),
            geometry,
            adapters: weights.adapter_slot(LayerShape::Conv {
                inputs,
                outputs,
                kernel,
            }),
        })
    }

    /// (b, inputs, h, w) → (b, outputs, h', w').
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let (kernel, geometry) = (self.kernel, self.geometry);
        let bias = self.bias.as_ref();
        let out = self
            .ops
            .conv2d(input, &self.weight, bias, kernel, geometry)?;
        self.adapters
            .apply_conv(&self.ops, input, out, kernel, geometry)
    }
}
