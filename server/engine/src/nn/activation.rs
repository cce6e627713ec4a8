//! Activation functions by the names that configs give them.

use candle_core::{Result, Tensor};

use super::Ops;
use crate::EngineError;
use crate::config::Config;
use crate::cpu::Pointwise;

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activation(Pointwise);

impl Activation {
    /// SiLU, the activation of nearly every SDXL layer.
    pub const SILU: Self = Self(Pointwise::Silu);
    /// ReLU, TAESD's activation.
    pub const RELU: Self = Self(Pointwise::Relu);

    /// Reads a name as diffusers spells them (`act_fn`).
    ///
    /// # Errors
    /// [`EngineError::Model`] for a name that diffusers does not know.
    pub fn from_diffusers(
        config: &Config,
        key: &str,
    ) -> std::result::Result<Option<Self>, EngineError> {
        let Some(name) = config.optional_text(key)? else {
            return Ok(None);
        };
        let function = match name.to_lowercase().as_str() {
            "silu" | "swish" => Pointwise::Silu,
            "mish" => Pointwise::Mish,
            "gelu" => Pointwise::Gelu,
            "relu" => Pointwise::Relu,
            _ => return Err(config.unsupported(key, "use silu, swish, mish, gelu or relu")),
        };
        Ok(Some(Self(function)))
    }

    /// Reads a name as transformers spells them (`hidden_act`).
    ///
    /// # Errors
    /// [`EngineError::Model`] for other names.
    pub fn from_transformers(
        config: &Config,
        key: &str,
        default: &str,
    ) -> std::result::Result<Self, EngineError> {
        let function = match config.text(key, default)?.as_str() {
            "quick_gelu" => Pointwise::QuickGelu,
            "gelu" | "gelu_python" => Pointwise::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_accurate"
            | "gelu_python_tanh" => Pointwise::GeluTanh,
            "silu" | "swish" => Pointwise::Silu,
            "relu" => Pointwise::Relu,
            "mish" => Pointwise::Mish,
            "tanh" => Pointwise::Tanh,
            _ => {
                return Err(config.unsupported(
                    key,
                    "use quick_gelu, gelu, gelu_new, silu, relu, mish or tanh",
                ));
            }
        };
        Ok(Self(function))
    }

    /// Applies it to every value.
    ///
    /// # Errors
    /// If the device fails.
    pub fn forward(self, ops: &Ops, input: &Tensor) -> Result<Tensor> {
        ops.activate(input, self.0)
    }

    pub(crate) fn pointwise(self) -> Pointwise {
        self.0
    }
}
