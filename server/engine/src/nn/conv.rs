//! Convolutions.

use candle_core::{DType, Device, Result, Tensor};

use super::{AdapterSlot, LayerShape};
use crate::EngineError;
use crate::cpu::{ConvGeometry, conv2d};
use crate::weights::{StoredMatrix, Weights};

/// A square convolution with bias.
pub struct Conv2d {
    weight: StoredMatrix,
    kernel: usize,
    bias: Tensor,
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
            weight: weights.matrix("weight", &[outputs, inputs, kernel, kernel])?,
            kernel,
            bias: Tensor::zeros(outputs, DType::F32, &Device::Cpu)?,
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
            weight: weights.matrix("weight", &[outputs, inputs, kernel, kernel])?,
            kernel,
            bias: weights.tensor("bias", &[outputs])?,
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
        let out = conv2d(input, &self.weight, &self.bias, self.kernel, self.geometry)?;
        self.adapters
            .apply_conv(input, out, self.kernel, self.geometry)
    }
}
