//! Whole models in one file, as ComfyUI, A1111, kohya and stable-diffusion.cpp keep them: tensors
//! under latent-diffusion names, no configs. The architecture is read off the tensors' shapes; what
//! shapes do not tell has the values that SDXL was published with, or comes from a diffusers-style
//! folder beside the file (the file's name without its ending, or the file's own folder).
//!
//! The result is what a diffusers folder would give: a config and named tensors per component.

mod architecture;
mod claim;
mod detect;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::EngineError;
use crate::config::Config;
use crate::text_encoder::{TextEncoder, TextEncoderConfig};
use crate::unet::{Unet, UnetConfig};
use crate::vae::{VaeConfig, VaeDecoder};
use crate::weights::ldm::{Piece, open_clip_name, unet_name, vae_name};
use crate::weights::{WeightFiles, survey};

use claim::Claims;
pub use detect::{Contents, EncoderNames, EncoderPlace, Encoders, Layout};

/// A whole model in one file, its tensors under diffusers' names.
pub struct SingleFile {
    path: PathBuf,
    /// A folder of configs and tokenizers that goes before what the file itself tells.
    configs: Option<PathBuf>,
    /// The configs that the file itself tells, by their paths in a diffusers folder.
    derived: Vec<(&'static str, Value)>,
    components: Vec<(&'static str, WeightFiles)>,
}

impl SingleFile {
    /// Reads a file's header, finds out what it is and sorts its tensors.
    ///
    /// # Errors
    /// [`EngineError::Model`] for a file that is no whole SDXL model: what it is instead, or what
    /// it lacks, with the remedy.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        Self::sorted(path, WeightFiles::open_file(path)?)
    }

    /// As [`SingleFile::open`], for bytes in memory; `path` is what errors call them.
    ///
    /// # Errors
    /// As [`SingleFile::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, EngineError> {
        Self::sorted(path, WeightFiles::from_bytes(path, bytes)?)
    }

    fn sorted(path: &Path, files: WeightFiles) -> Result<Self, EngineError> {
        let contents = Contents::of(&files);
        let encoders = contents.whole_model(path)?;
        let configs = configs_beside(path);
        let mut single = Self {
            path: path.to_path_buf(),
            configs,
            derived: Vec::new(),
            components: Vec::new(),
        };
        single.derived = if single.configs.is_some() {
            Vec::new()
        } else {
            architecture::configs(path, &files, encoders)?
        };
        single.sort(&files, encoders)?;
        Ok(single)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The config that would lie at `name` in a diffusers folder.
    ///
    /// # Errors
    /// If it is read from the folder beside the file, and cannot be.
    pub fn config(&self, name: &str) -> Result<Config, EngineError> {
        if let Some(folder) = &self.configs {
            return Config::read(&folder.join(name));
        }
        match self.derived.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => Config::parse(&self.path, &value.to_string()),
            None => Err(EngineError::model(
                &self.path,
                format!("has nothing that tells what {name} would"),
            )),
        }
    }

    /// The tensors of a component, under diffusers' names.
    pub fn weights(&self, component: &str) -> WeightFiles {
        self.components
            .iter()
            .find(|(name, _)| *name == component)
            .map_or_else(WeightFiles::none, |(_, files)| files.clone())
    }

    /// The folder that holds a tokenizer, if configs lie beside the file; CLIP's own vocabulary is
    /// meant otherwise.
    pub fn tokenizer_folder(&self, name: &str) -> Option<PathBuf> {
        let folder = self.configs.as_ref()?.join(name);
        folder.is_dir().then_some(folder)
    }

    fn sort(&mut self, files: &WeightFiles, encoders: Encoders) -> Result<(), EngineError> {
        let mut claims = Claims::new(files);
        for place in encoders.places() {
            let name = place.component;
            let config = TextEncoderConfig::read(&self.config(&format!("{name}/config.json"))?)?;
            let with_projection = name == "text_encoder_2";
            let asked = survey(|weights| {
                TextEncoder::load(weights, "text_model", &config, with_projection)
            })?;
            let there = |tensor: &str| {
                let name = format!("{}{tensor}", place.prefix);
                files.tensors().contains_key(&name)
            };
            let part =
                claims.component(place.prefix, asked.keys(), |tensor| match place.names {
                    EncoderNames::Transformers => Some((tensor.to_string(), Piece::Whole)),
                    EncoderNames::OpenClip => open_clip_name(tensor),
                    EncoderNames::Converted => converted_name(tensor, there),
                })?;
            self.components.push((name, part));
        }
        let config = UnetConfig::read(&self.config("unet/config.json")?)?;
        let part = unet_part(&mut claims, detect::UNET, &config)?;
        self.components.push(("unet", part));
        let config = VaeConfig::read(&self.config("vae/config.json")?)?;
        let part = vae_part(&mut claims, detect::VAE, &config)?;
        self.components.push(("vae", part));
        claims.finish()
    }
}

/// transformers' name of a tensor of `CLIPTextModelWithProjection` → stable-diffusion.cpp's. Some of
/// its versions keep queries, keys and values together.
fn converted_name(tensor: &str, there: impl Fn(&str) -> bool) -> Option<(String, Piece)> {
    if tensor == "text_projection.weight" {
        return Some(("text_model.text_projection".to_string(), Piece::Transposed));
    }
    if there(tensor) {
        return Some((tensor.to_string(), Piece::Whole));
    }
    let (layer, rest) = tensor.split_once(".self_attn.")?;
    let (third, end) = ["q_proj.", "k_proj.", "v_proj."]
        .iter()
        .enumerate()
        .find_map(|(third, name)| Some((third, rest.strip_prefix(name)?)))?;
    let fused = format!("{layer}.self_attn.in_proj.{end}");
    Some((fused, Piece::Third(third)))
}

/// The tensors of a UNet under diffusers' names, from latent-diffusion names below `prefix`.
fn unet_part(
    claims: &mut Claims<'_>,
    prefix: &str,
    config: &UnetConfig,
) -> Result<WeightFiles, EngineError> {
    let asked = survey(|weights| Unet::load(weights, config))?;
    claims.component(prefix, asked.keys(), |tensor| {
        Some((unet_name(tensor, config)?, Piece::Whole))
    })
}

/// The tensors of a VAE under diffusers' names, from latent-diffusion names below `prefix`.
fn vae_part(
    claims: &mut Claims<'_>,
    prefix: &str,
    config: &VaeConfig,
) -> Result<WeightFiles, EngineError> {
    let levels = config.block_out_channels.len();
    let asked = survey(|weights| VaeDecoder::load(weights, config))?;
    claims.component(prefix, asked.keys(), |tensor| {
        Some((vae_name(tensor, levels)?, Piece::Whole))
    })
}

/// One component in place of a model's own: its config and its tensors.
pub struct Component {
    /// Its config, with `path` naming the file or folder.
    pub config: Config,
    /// Its tensors, under diffusers' names.
    pub files: WeightFiles,
}

/// Opens a UNet in place of `base`'s own: a folder with `config.json`, or a file with diffusers' or
/// latent diffusion's names, whose architecture is `base`'s but for what its first and last layers
/// show.
///
/// # Errors
/// [`EngineError::Model`] for a file that holds no UNet.
pub fn open_unet(path: &Path, base: &Config) -> Result<Component, EngineError> {
    if path.is_dir() {
        return open_folder(path);
    }
    let files = WeightFiles::open_file(path)?;
    let layout = Contents::of(&files).unet(path)?;
    let prefix = layout.prefix();
    let mut config = base.at(path);
    for (key, value) in architecture::unet_ends(&files, prefix, layout.is_latent_diffusion())? {
        config.set(key, value);
    }
    let mut claims = Claims::new(&files);
    let part = if layout.is_latent_diffusion() {
        unet_part(&mut claims, prefix, &UnetConfig::read(&config)?)?
    } else {
        claims.renamed(prefix)
    };
    // What else lies in the file belongs to other components, which are not asked for.
    Ok(Component {
        config: config.at(path),
        files: part,
    })
}

/// Opens a VAE in place of a model's own: a folder with `config.json`, or a file with diffusers' or
/// latent diffusion's names.
///
/// # Errors
/// [`EngineError::Model`] for a file that holds no VAE.
pub fn open_vae(path: &Path, base: &Config) -> Result<Component, EngineError> {
    if path.is_dir() {
        return open_folder(path);
    }
    let files = WeightFiles::open_file(path)?;
    let layout = Contents::of(&files).vae(path)?;
    let config = base.at(path);
    let mut claims = Claims::new(&files);
    let part = if layout.is_latent_diffusion() {
        vae_part(&mut claims, layout.prefix(), &VaeConfig::read(&config)?)?
    } else {
        claims.renamed(layout.prefix())
    };
    Ok(Component {
        config: config.at(path),
        files: part,
    })
}

fn open_folder(path: &Path) -> Result<Component, EngineError> {
    Ok(Component {
        config: Config::read(&path.join("config.json"))?,
        files: WeightFiles::open(path, crate::model::DIFFUSERS_STEM)?,
    })
}

/// The folder of configs beside a file, if there is one.
fn configs_beside(path: &Path) -> Option<PathBuf> {
    [
        Some(path.with_extension("")),
        path.parent().map(Path::to_path_buf),
    ]
    .into_iter()
    .flatten()
    .find(|folder| folder.join("model_index.json").is_file())
}
