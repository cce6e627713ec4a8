//! What a weight file holds, told from its tensors' names.

use std::path::Path;

use crate::EngineError;
use crate::weights::WeightFiles;

/// Where the UNet lies in a whole model.
pub const UNET: &str = "model.diffusion_model.";
/// Where the VAE lies in a whole model.
pub const VAE: &str = "first_stage_model.";
const CLIP_L: &str = "conditioner.embedders.0.transformer.";
const CLIP_G: &str = "conditioner.embedders.1.model.";
const REFINER_CLIP_G: &str = "conditioner.embedders.0.model.";
// Where stable-diffusion.cpp puts them when it converts a file.
const CONVERTED_1: &str = "cond_stage_model.transformer.";
const CONVERTED_2: &str = "cond_stage_model.1.transformer.";

/// The text encoders of a whole model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoders {
    /// CLIP-L and OpenCLIP-G: a base model.
    Base,
    /// OpenCLIP-G alone: a refiner.
    Refiner,
    /// A base model that stable-diffusion.cpp converted.
    ConvertedBase,
    /// A refiner that stable-diffusion.cpp converted.
    ConvertedRefiner,
}

/// How a text encoder's tensors are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncoderNames {
    /// transformers' names.
    Transformers,
    /// OpenCLIP's names.
    OpenClip,
    /// transformers' names, but OpenCLIP's projection inside of the model.
    Converted,
}

/// A text encoder in a file.
pub struct EncoderPlace {
    /// Its folder's name in a diffusers folder.
    pub component: &'static str,
    /// What comes before each name.
    pub prefix: &'static str,
    /// The names.
    pub names: EncoderNames,
}

impl Encoders {
    /// Whether the model is a refiner.
    pub fn is_refiner(self) -> bool {
        matches!(self, Self::Refiner | Self::ConvertedRefiner)
    }

    /// Where each encoder lies.
    pub fn places(self) -> Vec<EncoderPlace> {
        let place = |component, prefix, names| EncoderPlace {
            component,
            prefix,
            names,
        };
        let (one, two) = ("text_encoder", "text_encoder_2");
        match self {
            Self::Base => vec![
                place(one, CLIP_L, EncoderNames::Transformers),
                place(two, CLIP_G, EncoderNames::OpenClip),
            ],
            Self::Refiner => vec![place(two, REFINER_CLIP_G, EncoderNames::OpenClip)],
            Self::ConvertedBase => vec![
                place(one, CONVERTED_1, EncoderNames::Transformers),
                place(two, CONVERTED_2, EncoderNames::Converted),
            ],
            Self::ConvertedRefiner => vec![place(two, CONVERTED_1, EncoderNames::Converted)],
        }
    }
}

/// How the tensors of one component are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Latent diffusion's names below this prefix.
    LatentDiffusion(&'static str),
    /// diffusers' names below this prefix.
    Diffusers(&'static str),
}

impl Layout {
    /// What comes before each name.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::LatentDiffusion(prefix) | Self::Diffusers(prefix) => prefix,
        }
    }

    /// Whether the names are latent diffusion's.
    pub fn is_latent_diffusion(self) -> bool {
        matches!(self, Self::LatentDiffusion(_))
    }
}

/// A file's tensors, for questions about what they are.
pub struct Contents<'a> {
    files: &'a WeightFiles,
}

impl<'a> Contents<'a> {
    /// The contents of a file.
    pub fn of(files: &'a WeightFiles) -> Self {
        Self { files }
    }

    fn has(&self, start: &str) -> bool {
        let from = self.files.tensors().range(start.to_string()..).next();
        from.is_some_and(|(name, _)| name.starts_with(start))
    }

    fn width_of(&self, name: &str) -> Option<usize> {
        self.files.tensors().get(name)?.shape.get(1).copied()
    }

    /// Checks that this is a whole SDXL model, and says which encoders it has.
    ///
    /// # Errors
    /// [`EngineError::Model`]: what the file is instead, or what is missing.
    pub fn whole_model(&self, path: &Path) -> Result<Encoders, EngineError> {
        let refuse = |message: String| Err(EngineError::model(path, message));
        if let Some(what) = self.other_model() {
            return refuse(format!(
                "{what}; an SDXL model is needed (base, refiner or inpainting)"
            ));
        }
        let encoders = if self.has(CONVERTED_2) {
            Encoders::ConvertedBase
        } else if self.has(CONVERTED_1) {
            Encoders::ConvertedRefiner
        } else if self.has(CLIP_G) || self.has(CLIP_L) {
            Encoders::Base
        } else {
            Encoders::Refiner
        };
        let mut missing = Vec::new();
        if !self.has(UNET) {
            missing.push("the UNet (model.diffusion_model.…)".to_string());
        }
        for place in encoders.places() {
            let (name, prefix) = (place.component, place.prefix);
            if !self.has(prefix) {
                missing.push(if self.has("conditioner.") {
                    format!("{name} ({prefix}…)")
                } else {
                    "the text encoders (conditioner.embedders.…)".to_string()
                });
            }
        }
        if !self.has(VAE) {
            missing.push("the VAE (first_stage_model.…)".to_string());
        }
        if missing.is_empty() {
            return Ok(encoders);
        }
        if self.unet(path).is_ok() {
            return refuse(format!(
                "holds a UNet, but lacks {}; use it over a whole model with --unet",
                missing.join(", ")
            ));
        }
        if self.vae(path).is_ok() {
            return refuse("holds a VAE only; use it over a whole model with --vae".to_string());
        }
        let names = self.files.tensors().keys();
        let lora = |name: &String| name.contains("lora_") || name.contains(".lora");
        if names.clone().any(lora) {
            return refuse("is a LoRA; use it over a model with --lora".to_string());
        }
        let first: Vec<&str> = names.take(3).map(String::as_str).collect();
        refuse(format!(
            "is no SDXL model: it lacks {}; its first tensors are {}",
            missing.join(", "),
            if first.is_empty() {
                "none".to_string()
            } else {
                first.join(", ")
            }
        ))
    }

    /// What the file is, if it is evidently a model of another kind.
    fn other_model(&self) -> Option<&'static str> {
        let to_k = "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight";
        let first = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
        let any = |start: &str| self.has(start) || self.has(&format!("{UNET}{start}"));
        if any("double_blocks.") || any("single_blocks.") || any("single_transformer_blocks.") {
            return Some("is a FLUX model");
        }
        if any("joint_blocks.") {
            return Some("is a Stable Diffusion 3 model");
        }
        // SDXL's base has two encoders, its refiner one of width 1280.
        let token = format!("{CONVERTED_1}text_model.embeddings.token_embedding.weight");
        let sdxl = self.has(CONVERTED_2) || self.width_of(&token) == Some(1280);
        if self.has(CONVERTED_1) && !sdxl {
            return Some("is a Stable Diffusion 1.x model");
        }
        if self.has("cond_stage_model.model.") {
            return Some("is a Stable Diffusion 2.x model");
        }
        // A UNet alone shows its kind by the width of the text that it reads.
        for name in [first, to_k] {
            let width = self
                .width_of(name)
                .or_else(|| self.width_of(&format!("{UNET}{name}")));
            match width {
                Some(768) => return Some("is a Stable Diffusion 1.x model"),
                Some(1024) => return Some("is a Stable Diffusion 2.x model"),
                _ => {}
            }
        }
        None
    }

    /// How the UNet in this file is called.
    ///
    /// # Errors
    /// [`EngineError::Model`] if there is none.
    pub fn unet(&self, path: &Path) -> Result<Layout, EngineError> {
        if let Some(what) = self.other_model() {
            return Err(EngineError::model(
                path,
                format!("{what}; an SDXL UNet is needed"),
            ));
        }
        for prefix in [UNET, "", "diffusion_model."] {
            if self.has(&format!("{prefix}input_blocks.")) {
                return Ok(Layout::LatentDiffusion(prefix));
            }
            if self.has(&format!("{prefix}down_blocks.")) {
                return Ok(Layout::Diffusers(prefix));
            }
        }
        if self.has("unet.down_blocks.") {
            return Ok(Layout::Diffusers("unet."));
        }
        Err(EngineError::model(
            path,
            "holds no UNet: neither input_blocks… nor down_blocks… is among its tensors",
        ))
    }

    /// How the VAE in this file is called.
    ///
    /// # Errors
    /// [`EngineError::Model`] if there is none.
    pub fn vae(&self, path: &Path) -> Result<Layout, EngineError> {
        for prefix in [VAE, "", "vae."] {
            if self.has(&format!("{prefix}decoder.up.")) {
                return Ok(Layout::LatentDiffusion(prefix));
            }
            if self.has(&format!("{prefix}decoder.up_blocks.")) {
                return Ok(Layout::Diffusers(prefix));
            }
        }
        Err(EngineError::model(
            path,
            "holds no VAE: neither decoder.up… nor decoder.up_blocks… is among its tensors",
        ))
    }
}
