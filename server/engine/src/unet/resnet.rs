//! The residual block of UNet and VAE.

use candle_core::{Result, Tensor};

use crate::EngineError;
use crate::nn::{Activation, Conv2d, GroupNorm, Linear, Ops};
use crate::weights::Weights;

/// norm → activation → conv, the time embedding, norm → activation → conv, plus the input.
pub struct ResnetBlock {
    ops: Ops,
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    time_scale_shift: bool,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    activation: Activation,
    output_scale_factor: f64,
}

/// What all resnets of a model have in common.
#[derive(Clone, Copy, Debug)]
pub struct ResnetStyle {
    /// Width of the time embedding; `None` in the VAE.
    pub time_embed_dim: Option<usize>,
    /// Whether the time embedding scales and shifts, or is added.
    pub time_scale_shift: bool,
    /// Groups of the norms.
    pub groups: usize,
    /// Epsilon of the norms.
    pub eps: f64,
    /// The activation.
    pub activation: Activation,
    /// What the output is divided by.
    pub output_scale_factor: f64,
}

impl ResnetBlock {
    /// Reads a block of `inputs` → `outputs` channels.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn load(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        style: &ResnetStyle,
    ) -> std::result::Result<Self, EngineError> {
        let time_outputs = if style.time_scale_shift {
            2 * outputs
        } else {
            outputs
        };
        Ok(Self {
            ops: weights.ops().clone(),
            norm1: GroupNorm::load(&weights.at("norm1"), inputs, style.groups, style.eps)?,
            conv1: Conv2d::load(&weights.at("conv1"), inputs, outputs, 3)?,
            time_emb_proj: style
                .time_embed_dim
                .map(|dim| Linear::load(&weights.at("time_emb_proj").in_full(), dim, time_outputs))
                .transpose()?,
            time_scale_shift: style.time_scale_shift,
            norm2: GroupNorm::load(&weights.at("norm2"), outputs, style.groups, style.eps)?,
            conv2: Conv2d::load(&weights.at("conv2"), outputs, outputs, 3)?,
            conv_shortcut: (inputs != outputs)
                .then(|| Conv2d::load(&weights.at("conv_shortcut"), inputs, outputs, 1))
                .transpose()?,
            activation: style.activation,
            output_scale_factor: style.output_scale_factor,
        })
    }

    /// `input` (b, inputs, h, w) → (b, outputs, h, w). `activated_time` is the activation of the
    /// time embedding, (b, `time_embed_dim`): the same for all blocks, so computed once.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(&self, input: &Tensor, activated_time: Option<&Tensor>) -> Result<Tensor> {
        let activation = Some(self.activation);
        let mut hidden = self
            .conv1
            .forward(&self.norm1.forward(input, activation)?)?;
        let time = match (&self.time_emb_proj, activated_time) {
            (Some(projection), Some(time)) => {
                // (b, outputs or 2·outputs, 1, 1)
                Some(projection.forward(time)?.unsqueeze(2)?.unsqueeze(3)?)
            }
            _ => None,
        };
        hidden = match time {
            Some(time) if self.time_scale_shift => {
                let halves = time.chunk(2, 1)?;
                let normed = self.norm2.forward(&hidden, None)?;
                let scaled = normed.broadcast_mul(&(&halves[0] + 1.0)?)?;
                self.activation
                    .forward(&self.ops, &scaled.broadcast_add(&halves[1])?)?
            }
            Some(time) => self
                .norm2
                .forward(&hidden.broadcast_add(&time)?, activation)?,
            None => self.norm2.forward(&hidden, activation)?,
        };
        hidden = self.conv2.forward(&hidden)?;
        let out = match &self.conv_shortcut {
            Some(shortcut) => self.ops.add(&shortcut.forward(input)?, &hidden)?,
            None => self.ops.add(input, &hidden)?,
        };
        if self.output_scale_factor == 1.0 {
            Ok(out)
        } else {
            out / self.output_scale_factor
        }
    }
}
