//! The second model: an SDXL refiner, or any SDXL model that goes on where the base stops.

use std::path::Path;

use super::{Expert, PromptEncoder, TextEncoders};
use crate::EngineError;
use crate::model::{DIFFUSERS_STEM, ModelFolder, ModelKind};
use crate::nn::Ops;
use crate::text_encoder::TextEncoder;
use crate::tokenizer::ClipTokenizer;
use crate::unet::Unet;
use crate::vae::VaeDecoder;
use crate::weights::{WeightFiles, load_component};

/// A refiner in memory.
pub(super) struct Refiner {
    folder: ModelFolder,
    text_encoders: TextEncoders,
    unet: Unet,
    /// Its own decoder, where it is another one than the base model's.
    vae: Option<VaeDecoder>,
}

/// A fault while the refiner's components are copied to their device.
fn loading(name: &str, error: impl Into<EngineError>) -> EngineError {
    super::loading(&format!("refiner's {name}"), error)
}

impl Refiner {
    pub fn expert(&self) -> Expert<'_> {
        Expert {
            folder: &self.folder,
            text_encoders: &self.text_encoders,
            unet: &self.unet,
        }
    }

    /// Gives the memory of all of it back, until it is needed again.
    pub fn release(&self) {
        self.text_encoders.release();
        self.unet.release();
        if let Some(vae) = &self.vae {
            vae.release();
        }
    }

    pub fn vae(&self) -> Option<&VaeDecoder> {
        self.vae.as_ref()
    }
}

/// A refiner whose files have been opened and checked, before any weight is read.
pub(super) struct Found {
    folder: ModelFolder,
    tokenizers: Vec<ClipTokenizer>,
    /// Weights by component; the VAE's only where they are not the base model's.
    files: Vec<(&'static str, WeightFiles)>,
}

impl Found {
    /// Opens a refiner's files and checks that it goes with `base`. With `other_vae` the latents
    /// are decoded by a VAE of the caller's choice, and its own is left alone.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming the file at fault and the cause.
    pub fn read(path: &Path, base: &ModelFolder, other_vae: bool) -> Result<Self, EngineError> {
        let folder = ModelFolder::read(path)?;
        if folder.kind == ModelKind::Inpainting {
            return Err(EngineError::model(
                path,
                "is an inpainting model, which cannot refine; give an SDXL refiner",
            ));
        }
        if folder.vae.latent_channels != base.vae.latent_channels
            || folder.vae.scale_factor() != base.vae.scale_factor()
        {
            return Err(EngineError::model(
                path,
                format!(
                    "works on latents of {} channels at 1/{} of the size, the base model on {} at 1/{}; they do not go together",
                    folder.vae.latent_channels,
                    folder.vae.scale_factor(),
                    base.vae.latent_channels,
                    base.vae.scale_factor()
                ),
            ));
        }
        let mut files = Vec::new();
        for (name, stem) in folder.components() {
            let opened = folder.open_weights(name, stem)?;
            if name == "vae"
                && (other_vae
                    || folder.vae == base.vae
                        && opened.holds_the_same_as(&base.open_weights("vae", DIFFUSERS_STEM)?))
            {
                continue;
            }
            files.push((name, opened));
        }
        Ok(Self {
            tokenizers: folder.open_tokenizers()?,
            folder,
            files,
        })
    }

    /// Bytes of its largest component's weights.
    pub fn largest(&self) -> usize {
        let bytes = self.files.iter().map(|(_, files)| files.tensor_bytes());
        bytes.max().unwrap_or(0)
    }

    /// How many components there are to load.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Reads the weights, to be computed by `ops`; `on_component` hears each component's name and
    /// place.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming the file at fault and the cause.
    pub fn load(
        self,
        ops: &Ops,
        on_component: &mut dyn FnMut(&str, usize),
    ) -> Result<Refiner, EngineError> {
        let folder = self.folder;
        let mut files = self.files.into_iter().enumerate();
        let mut next = || {
            let (index, (name, files)) = files.next()?;
            on_component(&format!("refiner's {name}"), index);
            Some(files)
        };
        let lacking = || EngineError::model(&folder.path, "has fewer components than it says");
        let beside = ops.beside_unet();
        let mut encoders = Vec::with_capacity(folder.text_encoders.len());
        for (part, tokenizer) in folder.text_encoders.iter().zip(self.tokenizers) {
            let files = next().ok_or_else(lacking)?;
            let name = part.name;
            let text_encoder =
                TextEncoder::open(&beside, files, &part.config, part.with_projection)
                    .map_err(|error| loading(name, error))?;
            text_encoder.fill().map_err(|error| loading(name, error))?;
            encoders.push(PromptEncoder {
                tokenizer,
                text_encoder,
                name,
            });
        }
        let unet = load_component(next().ok_or_else(lacking)?, "", ops, |weights| {
            Unet::load(weights, &folder.unet)
        })
        .map_err(|error| loading("unet", error))?;
        unet.fill().map_err(|error| loading("unet", error))?;
        let vae_ops = beside.in_dtype(folder.vae.compute_dtype(ops.dtype()));
        let vae = next()
            .map(|files| {
                load_component(files, "", &vae_ops, |weights| {
                    VaeDecoder::load(weights, &folder.vae)
                })
            })
            .transpose()
            .map_err(|error| loading("vae", error))?;
        if let Some(vae) = &vae {
            vae.fill().map_err(|error| loading("vae", error))?;
        }
        let zeros = folder.force_zeros_for_empty_prompt;
        Ok(Refiner {
            text_encoders: TextEncoders::new(&folder.path, encoders, zeros),
            folder,
            unet,
            vae,
        })
    }
}
