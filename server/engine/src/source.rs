//! Where a model's configs, tensors and tokenizers come from: a diffusers folder or a single file,
//! with another UNet or VAE in place of its own where that is asked for.

use std::path::{Path, PathBuf};

use crate::EngineError;
use crate::config::Config;
use crate::single_file::{Component, SingleFile, open_unet, open_vae};
use crate::tokenizer::{ClipTokenizer, Padding};
use crate::weights::WeightFiles;

/// Parts that take the place of a model's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replacements<'a> {
    /// A UNet: a folder with its `config.json`, or a file.
    pub unet: Option<&'a Path>,
    /// A VAE: likewise.
    pub vae: Option<&'a Path>,
}

/// Everything that a model is read from.
pub struct ModelSource {
    path: PathBuf,
    /// The whole model, where it is one file.
    file: Option<SingleFile>,
    unet: Option<Component>,
    vae: Option<Component>,
}

impl ModelSource {
    /// Opens a diffusers folder or a single file.
    ///
    /// # Errors
    /// [`EngineError::Model`] for what is neither, or a replacement that cannot be used.
    pub fn open(path: &Path, replacements: Replacements<'_>) -> Result<Self, EngineError> {
        let file = if path.is_dir() {
            if !path.join("model_index.json").is_file() {
                return Err(EngineError::model(
                    path,
                    "has no model_index.json, so it is no diffusers folder",
                ));
            }
            None
        } else if path.exists() {
            Some(SingleFile::open(path)?)
        } else {
            return Err(EngineError::model(
                path,
                "does not exist; give the path of a diffusers folder or of a single file",
            ));
        };
        let mut source = Self {
            path: path.to_path_buf(),
            file,
            unet: None,
            vae: None,
        };
        if let Some(path) = replacements.unet {
            source.unet = Some(open_unet(path, &source.config("unet/config.json")?)?);
        }
        if let Some(path) = replacements.vae {
            source.vae = Some(open_vae(path, &source.config("vae/config.json")?)?);
        }
        Ok(source)
    }

    fn replacement(&self, component: &str) -> Option<&Component> {
        match component {
            "unet" => self.unet.as_ref(),
            "vae" => self.vae.as_ref(),
            _ => None,
        }
    }

    /// The config that lies at `name` in a diffusers folder, such as `unet/config.json`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn config(&self, name: &str) -> Result<Config, EngineError> {
        let component = name
            .split_once('/')
            .map_or(name, |(component, _)| component);
        if let Some(replacement) = self.replacement(component) {
            return Ok(replacement.config.at(replacement.config.path()));
        }
        match &self.file {
            Some(file) => file.config(name),
            None => Config::read(&self.path.join(name)),
        }
    }

    /// What errors about a config call it.
    pub fn config_path(&self, name: &str) -> PathBuf {
        self.config(name).map_or_else(
            |_| self.path.join(name),
            |config| config.path().to_path_buf(),
        )
    }

    /// The tensors of a component.
    ///
    /// # Errors
    /// As [`WeightFiles::open`].
    pub fn weights(&self, component: &str, stem: &str) -> Result<WeightFiles, EngineError> {
        if let Some(replacement) = self.replacement(component) {
            return Ok(replacement.files.clone());
        }
        match &self.file {
            Some(file) => Ok(file.weights(component)),
            None => WeightFiles::open(&self.path.join(component), stem),
        }
    }

    /// A tokenizer by its folder's name.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming the file that is missing or wrong.
    pub fn tokenizer(&self, name: &str) -> Result<ClipTokenizer, EngineError> {
        let Some(file) = &self.file else {
            return ClipTokenizer::open(&self.path.join(name));
        };
        match file.tokenizer_folder(name) {
            Some(folder) => ClipTokenizer::open(&folder),
            None if name == "tokenizer_2" => ClipTokenizer::clip(Padding::ExclamationMark),
            None => ClipTokenizer::clip(Padding::EndOfText),
        }
    }
}
