//! A loaded model and what is done with it.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use image::RgbImage;

use crate::{EngineError, GenerateRequest, ModelDescription, model};

/// How a model is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Threads to compute with; `None` takes what the machine (or its container) offers. The pools
    /// are process-wide: the first pipeline of a process decides.
    pub threads: Option<usize>,
}

/// Reported while a model is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadEvent<'a> {
    /// A component is about to be read.
    Component {
        /// Its folder's name: `text_encoder`, `text_encoder_2`, `unet`, `vae`.
        name: &'a str,
        /// Zero-based place among the components.
        index: usize,
        /// How many components there are.
        count: usize,
    },
}

/// What the observer of a generation answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Stop: the generation ends with [`EngineError::Cancelled`].
    Cancel,
}

/// The three parts of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The prompts are turned into conditioning.
    TextEncoding,
    /// The UNet removes noise, step by step.
    Denoising,
    /// The VAE turns latents into pixels.
    Decoding,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TextEncoding => "encoding the text",
            Self::Denoising => "denoising",
            Self::Decoding => "decoding the image",
        })
    }
}

/// Where a generation is. Reported as each phase begins and after each denoising step.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The phase under way.
    pub phase: Phase,
    /// Denoising steps finished.
    pub step: u32,
    /// Denoising steps in all.
    pub steps: u32,
    /// Time since the generation began.
    pub elapsed: Duration,
    /// A cheap picture of the latents, one pixel per latent pixel, after each denoising step if
    /// [`GenerateRequest::previews`] is set.
    pub preview: Option<&'a RgbImage>,
}

/// A finished image and how it came about.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The image.
    pub image: RgbImage,
    /// The seed that was used.
    pub seed: u64,
    /// The device that computed it: `cpu`.
    pub device: String,
    /// The number format that was computed in: `f32`.
    pub dtype: String,
    /// The scheduler that was used.
    pub scheduler: String,
    /// How long each part took.
    pub timings: Timings,
    /// What the person should know, such as which words did not fit the context.
    pub notes: Vec<String>,
}

/// How long each part of a generation took, in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timings {
    /// Tokenizing and both text encoders.
    pub text_encoding_s: f64,
    /// All denoising steps.
    pub denoising_s: f64,
    /// Each denoising step.
    pub step_s: Vec<f64>,
    /// The VAE and the conversion to pixels.
    pub decoding_s: f64,
    /// Everything.
    pub total_s: f64,
}

/// A model in memory, ready to generate. Shared between threads by reference; each call to
/// [`Pipeline::generate`] uses all of the process' compute threads.
pub struct Pipeline {
    description: ModelDescription,
}

impl Pipeline {
    /// Reads a diffusers folder: configs, tokenizers and all weights.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming the file at fault and the cause: unknown class, unsupported
    /// config value, missing, unused or misshapen tensors, damaged file.
    pub fn load(
        folder: &Path,
        options: &LoadOptions,
        on_event: &mut dyn FnMut(LoadEvent<'_>),
    ) -> Result<Self, EngineError> {
        let _ = (options, on_event);
        let description = model::inspect(folder)?;
        Ok(Self { description })
    }

    /// What was loaded.
    pub fn description(&self) -> &ModelDescription {
        &self.description
    }

    /// Makes one image. `observe` is called as each phase begins and after each step; its answer
    /// decides whether to go on.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] before any work; [`EngineError::Cancelled`] at the
    /// observer's wish; [`EngineError::NonFinite`] rather than a black image.
    pub fn generate(
        &self,
        request: &GenerateRequest,
        observe: &mut dyn FnMut(&Progress<'_>) -> Control,
    ) -> Result<Generation, EngineError> {
        let _ = observe;
        request.validate(&self.description)?;
        Err(EngineError::model("", "generation lands next"))
    }
}
