//! The layers of a loaded model by the names that LoRA files have for them.

use std::collections::HashMap;
use std::sync::Arc;

use super::file::{Factors, LoraFile, PlacedFactors, base};
use super::keys::Part;
use super::listed;
use crate::EngineError;
use crate::nn::{AdaptableLayer, LayerShape, LayerTable, LowRank, Ops, Weight};
use crate::unet::UnetConfig;
use crate::weights::WeightFiles;
use crate::weights::ldm::unet_name;

/// All layers of a model that LoRAs can act on.
pub struct LoraTargets {
    layers: HashMap<(Part, String), AdaptableLayer>,
    /// Width of the text that the UNet's cross attention sees, for telling models apart.
    cross_attention_dim: usize,
    /// What computes the model's layers, and so their adapters.
    ops: Ops,
}

/// A LoRA made ready for one model: its factors in memory, and the layers they belong to.
pub struct ResolvedLora {
    pub layers: Vec<(AdaptableLayer, Arc<LowRank>, f64)>,
    /// Whether a text encoder is among them.
    pub acts_on_text: bool,
    /// Memory of the file's contents.
    pub bytes: usize,
}

impl ResolvedLora {
    /// Frees what the device holds of it, until it is needed again.
    pub fn drop_copies(&self) {
        for (_, factors, _) in &self.layers {
            factors.down.drop_copy();
            factors.up.drop_copy();
            if let Some(core) = &factors.core {
                core.drop_copy();
            }
        }
    }
}

impl LoraTargets {
    /// Gathers the layers of a UNet, and of text encoders by their folders' names; `ops` is what
    /// computes them.
    pub fn new<'a>(
        ops: &Ops,
        unet: &LayerTable,
        config: &UnetConfig,
        encoders: impl IntoIterator<Item = (&'a str, &'a LayerTable)>,
    ) -> Self {
        let mut layers = HashMap::new();
        for (name, layer) in unet {
            layers.insert((Part::Unet, name.replace('.', "_")), *layer);
            if let Some(name) = unet_name(name, config) {
                layers.insert((Part::Unet, name.replace('.', "_")), *layer);
            }
        }
        for (encoder, table) in encoders {
            let part = if encoder == Part::TextEncoder2.name() {
                Part::TextEncoder2
            } else {
                Part::TextEncoder
            };
            for (name, layer) in table {
                let name = name.strip_prefix("text_model.").unwrap_or(name);
                layers.insert((part, name.replace('.', "_")), *layer);
            }
        }
        Self {
            layers,
            ops: ops.clone(),
            cross_attention_dim: config.cross_attention_dim,
        }
    }

    /// Finds the layer of every factor and reads the factors.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming the first few factors that fit no layer, and the model that
    /// the LoRA was made for where that shows.
    pub fn resolve(&self, file: &LoraFile) -> Result<ResolvedLora, EngineError> {
        let factors = file.factors()?;
        let mut homeless = Vec::new();
        let mut misshapen = Vec::new();
        let mut found = Vec::with_capacity(factors.len());
        for (place, factors) in &factors {
            match self.layers.get(*place) {
                None => homeless.push(factors.down.0.to_string()),
                Some(layer) if fits(layer.shape, factors) => {
                    found.push((place.0, *layer, factors));
                }
                Some(layer) => misshapen.push(format!(
                    "{} {:?} with {} {:?} for a {}",
                    factors.down.0,
                    factors.down.1.shape,
                    factors.up.0,
                    factors.up.1.shape,
                    describe(layer.shape),
                )),
            }
        }
        if !homeless.is_empty() || !misshapen.is_empty() {
            return Err(self.misfit(file, &factors, &homeless, &misshapen));
        }
        let mut resolved = ResolvedLora {
            layers: Vec::with_capacity(found.len()),
            acts_on_text: false,
            bytes: file.files().bytes(),
        };
        for (part, layer, factors) in found {
            let matrix = |(name, stored)| -> Result<Weight, EngineError> {
                Ok(Weight::new(file.files().matrix(name, stored)?, &self.ops))
            };
            let low_rank = LowRank {
                down: matrix(factors.down)?,
                core: factors.core.map(matrix).transpose()?,
                up: matrix(factors.up)?,
            };
            resolved.acts_on_text |= part != Part::Unet;
            resolved
                .layers
                .push((layer, Arc::new(low_rank), factors.scale));
        }
        Ok(resolved)
    }

    /// Why a LoRA does not fit this model.
    fn misfit(
        &self,
        file: &LoraFile,
        factors: &[PlacedFactors<'_>],
        homeless: &[String],
        misshapen: &[String],
    ) -> EngineError {
        let mut message = String::new();
        if let Some(model) = self.made_for(factors, file.files()) {
            message.push_str(&format!("was made for another model ({model}); "));
        } else {
            message.push_str("does not fit this model; ");
        }
        if !homeless.is_empty() {
            message.push_str(&format!(
                "{} of its {} layers are not in this one: {}",
                homeless.len(),
                factors.len(),
                listed(homeless)
            ));
        }
        if !misshapen.is_empty() {
            if !homeless.is_empty() {
                message.push_str("; ");
            }
            message.push_str(&format!(
                "{} of its layers have other shapes: {}",
                misshapen.len(),
                listed(misshapen)
            ));
        }
        message.push_str("; use a LoRA that was trained on this kind of model");
        EngineError::model(file.path(), message)
    }

    /// The model that a LoRA was made for, where it is evidently not this one: by the width of the
    /// text that its cross attention reads, or by its own words.
    fn made_for(&self, factors: &[PlacedFactors<'_>], files: &WeightFiles) -> Option<String> {
        let width = factors.iter().find_map(|((part, layer), factors)| {
            let reads_text = layer.ends_with("attn2_to_k") || layer.ends_with("attn2_to_v");
            (*part == Part::Unet && reads_text).then(|| factors.down.1.shape.get(1).copied())?
        });
        if let Some(width) = width
            && width != self.cross_attention_dim
        {
            let model = match width {
                768 => "Stable Diffusion 1.x",
                1024 => "Stable Diffusion 2.x",
                2048 => "an SDXL base model",
                1280 => "an SDXL refiner",
                _ => "of another width",
            };
            return Some(format!(
                "{model}: its cross attention reads text of width {width}, this model's {}",
                self.cross_attention_dim
            ));
        }
        let base = base(files)?;
        (!base.to_lowercase().contains("xl")).then_some(base)
    }
}

/// Whether factors fit a layer. Trainers write the factors of 1×1 convolutions as matrices and the
/// other way round.
fn fits(layer: LayerShape, factors: &Factors<'_>) -> bool {
    let kernel_of = |shape: &[usize]| match shape {
        [_, _] => Some(1),
        [_, _, height, width] if height == width => Some(*height),
        _ => None,
    };
    let down = factors.down.1.shape.as_slice();
    let up = factors.up.1.shape.as_slice();
    let (Some(down_kernel), Some(inputs), Some(outputs)) =
        (kernel_of(down), down.get(1), up.first())
    else {
        return false;
    };
    let core_kernel = factors.core.map(|(_, stored)| kernel_of(&stored.shape));
    let (wanted_inputs, wanted_outputs, kernels) = match layer {
        LayerShape::Linear { inputs, outputs } => {
            (inputs, outputs, core_kernel.is_none() && down_kernel == 1)
        }
        LayerShape::Conv {
            inputs,
            outputs,
            kernel,
        } => {
            let kernels = match core_kernel {
                None => down_kernel == kernel,
                Some(core) => down_kernel == 1 && core == Some(kernel),
            };
            (inputs, outputs, kernels)
        }
    };
    kernels && *inputs == wanted_inputs && *outputs == wanted_outputs
}

fn describe(shape: LayerShape) -> String {
    match shape {
        LayerShape::Linear { inputs, outputs } => format!("linear layer {inputs} → {outputs}"),
        LayerShape::Conv {
            inputs,
            outputs,
            kernel,
        } => format!("{kernel}×{kernel} convolution {inputs} → {outputs}"),
    }
}
