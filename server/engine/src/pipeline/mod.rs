//! A loaded model and what is done with it.

mod conditioning;
mod denoise;
mod embedding_cache;
mod generate;
mod image_to_image;
mod inpaint;
mod plan;
mod preview;
mod refiner;
mod tiny_decoder;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use ::image::RgbImage;

pub use conditioning::{PromptEmbeds, PromptEncoder, PromptOptions, TextEncoders};
pub use preview::LatentToRgb;
pub use tiny_decoder::TinyDecoder;

use crate::lora::{LoraShelf, LoraTargets};
use crate::model::ModelFolder;
use crate::nn::{Ops, with_adapters};
use crate::schedulers::SchedulerConfig;
use crate::source::Replacements;
use crate::text_encoder::TextEncoder;
use crate::unet::Unet;
use crate::vae::{VaeDecoder, VaeEncoder};
use crate::weights::{WeightFiles, load_adaptable, load_component};
use crate::{
    ComputeDtype, CpuMemory, CpuMode, CpuNumbers, DeviceId, EngineError, GenerateRequest,
    ModelDescription, Residence, cpu, faults, memory,
};
use refiner::Refiner;

/// How a model is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Threads to compute with; `None` takes what the machine (or its container) offers. The pools
    /// are process-wide: the first pipeline of a process decides.
    pub threads: Option<usize>,
    /// A refiner: a diffusers folder or a single file.
    pub refiner: Option<PathBuf>,
    /// A VAE in place of the model's own: a folder or a single file.
    pub vae: Option<PathBuf>,
    /// A UNet in place of the model's own: a folder or a single file.
    pub unet: Option<PathBuf>,
    /// What computes.
    pub device: DeviceId,
    /// What computes the refiner, where that is another device.
    pub refiner_device: Option<DeviceId>,
    /// The number format that is computed in. A VAE that overflows in f16 (`force_upcast` in its
    /// config) is computed in f32 then.
    pub dtype: ComputeDtype,
    /// The number format that weights are kept in on the device, where that is another: f16 or bf16
    /// take half the memory of f32.
    pub storage_dtype: Option<ComputeDtype>,
    /// How much of the model is on the device at a time.
    pub residence: Residence,
    /// How the CPU's kernels hold weights and multiply by them; nothing else heeds it.
    pub cpu: CpuMode,
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

/// The parts of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The prompts are turned into conditioning.
    TextEncoding,
    /// The image to start from is turned into latents.
    ImageEncoding,
    /// The UNet removes noise, step by step.
    Denoising,
    /// The VAE turns latents into pixels.
    Decoding,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TextEncoding => "encoding the text",
            Self::ImageEncoding => "encoding the input image",
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
    /// Denoising steps finished, by the base model and the refiner together.
    pub step: u32,
    /// Denoising steps in all, of both models.
    pub steps: u32,
    /// Time since the generation began.
    pub elapsed: Duration,
    /// A cheap picture of the latents after each denoising step, if [`GenerateRequest::previews`]
    /// is set: one pixel per latent pixel, or up to 256 pixels a side where the model's folder has
    /// a tiny decoder. Steps whose picture would take too much time beside them have none.
    pub preview: Option<&'a RgbImage>,
}

/// A finished image and how it came about.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The image.
    pub image: RgbImage,
    /// The seed that was used.
    pub seed: u64,
    /// The device that computed it: `cpu`, `cuda:0`.
    pub device: String,
    /// What was computed in: `f32`, `f16`, `bf16`; on the CPU also what [`CpuNumbers`] are called.
    pub dtype: String,
    /// The scheduler that was used.
    pub scheduler: String,
    /// How long each part took.
    pub timings: Timings,
    /// Whether the prompts had been encoded before, so that no text encoder had to run.
    pub text_cached: bool,
    /// What the person should know, such as which words did not fit the context.
    pub notes: Vec<String>,
}

/// How long each part of a generation took, in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timings {
    /// Tokenizing and both text encoders.
    pub text_encoding_s: f64,
    /// The image to start from and its mask: resizing and the VAE's encoder.
    pub image_encoding_s: f64,
    /// All denoising steps.
    pub denoising_s: f64,
    /// Each denoising step; the refiner's come after the base model's.
    pub step_s: Vec<f64>,
    /// How many of them are each model's: the base model's, then the refiner's if it took part.
    pub stage_steps: Vec<usize>,
    /// The VAE and the conversion to pixels.
    pub decoding_s: f64,
    /// Everything.
    pub total_s: f64,
}

/// A model in memory, ready to generate. Shared between threads by reference; each call to
/// [`Pipeline::generate`] uses all of the process' compute threads.
pub struct Pipeline {
    description: ModelDescription,
    folder: ModelFolder,
    text_encoders: TextEncoders,
    unet: Unet,
    vae: VaeDecoder,
    vae_encoder: VaeEncoder,
    refiner: Option<Refiner>,
    loras: LoraShelf,
    /// Fitted when the first preview is asked for.
    latent_to_rgb: OnceLock<LatentToRgb>,
    /// For better previews, where the model's folder holds one.
    tiny_decoder: Option<TinyDecoder>,
    ops: Ops,
    /// What the CPU's kernels compute UNets with.
    numbers: CpuNumbers,
    /// Why weights are read layer by layer, where nobody asked for that.
    shortage: Option<String>,
}

/// Whether weights are read layer by layer; and why, if nobody asked for it.
fn streaming(options: &LoadOptions, largest: usize) -> Result<(bool, Option<String>), EngineError> {
    let narrow = options.cpu.numbers.narrows_weights();
    match options.cpu.memory {
        CpuMemory::Low if narrow => Err(EngineError::invalid(
            "memory",
            "low reads weights layer by layer, but weights in int8 stay in memory; leave one of the two out",
        )),
        CpuMemory::Low => Ok((true, None)),
        CpuMemory::Auto if !narrow => {
            let shortage = memory::shortage(largest as u64, memory::available());
            Ok((shortage.is_some(), shortage))
        }
        CpuMemory::Auto | CpuMemory::Full => Ok((false, None)),
    }
}

/// A fault while a component is copied to its device.
fn loading(name: &str, error: impl Into<EngineError>) -> EngineError {
    match error.into() {
        EngineError::Device(fault) => EngineError::Device(fault.during(format!("loading {name}"))),
        other => other,
    }
}

/// A UNet with what conditions it: the base model, or the refiner.
#[derive(Clone, Copy)]
struct Expert<'a> {
    folder: &'a ModelFolder,
    text_encoders: &'a TextEncoders,
    unet: &'a Unet,
}

impl Pipeline {
    /// Reads a diffusers folder or a single file: configs, tokenizers and all weights.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming the file at fault and the cause: unknown class, unsupported
    /// config value, missing, unused or misshapen tensors, damaged file.
    pub fn load(
        folder: &Path,
        options: &LoadOptions,
        on_event: &mut dyn FnMut(LoadEvent<'_>),
    ) -> Result<Self, EngineError> {
        cpu::keep_pages();
        // What a model that was here before has left.
        cpu::give_pages_back();
        cpu::set_threads(options.threads);
        let replacements = Replacements {
            unet: options.unet.as_deref(),
            vae: options.vae.as_deref(),
        };
        let folder = ModelFolder::read_with(folder, replacements)?;
        let refiner = match &options.refiner {
            Some(path) => Some(refiner::Found::read(path, &folder, options.vae.is_some())?),
            None => None,
        };
        let components = folder.components();
        let count = components.len() + refiner.as_ref().map_or(0, refiner::Found::count);
        // Open and check all files before the first is read: mistakes show at once.
        let mut files = Vec::with_capacity(count);
        for (name, stem) in &components {
            files.push(folder.open_weights(name, stem)?);
        }
        let tokenizers = folder.open_tokenizers()?;
        let description = folder.describe()?;
        // The device, once nothing is wrong with the files.
        let open = |device| {
            Ops::open(
                device,
                options.dtype,
                options.storage_dtype,
                options.residence,
            )
            .map_err(EngineError::Device)
        };
        let largest = files.iter().map(WeightFiles::tensor_bytes).max();
        let largest = largest.max(refiner.as_ref().map(refiner::Found::largest));
        let (streams, shortage) = streaming(options, largest.unwrap_or(0))?;
        let open = |device| {
            let ops: Ops = open(device)?;
            Ok::<_, EngineError>(ops.with_weights(options.cpu.numbers, streams))
        };
        let unet_ops = open(options.device)?;
        let shortage = shortage.filter(|_| unet_ops.streams());
        let ops = unet_ops.beside_unet();
        let vae_ops = ops.in_dtype(folder.vae.compute_dtype(options.dtype));
        let refiner_ops = match options.refiner_device {
            Some(other) if other != options.device && refiner.is_some() => open(other)?,
            _ => unet_ops.clone(),
        };
        let mut files = components.iter().zip(files).enumerate();
        let mut next = || {
            let (index, ((name, _), files)) = files.next().expect("one set of files per component");
            on_event(LoadEvent::Component { name, index, count });
            faults::pass_on(options.device, "loading").map_err(|error| loading(name, error))?;
            Ok::<_, EngineError>(files)
        };
        let mut encoders = Vec::with_capacity(folder.text_encoders.len());
        for (part, tokenizer) in folder.text_encoders.iter().zip(tokenizers) {
            let files = next()?;
            let text_encoder = TextEncoder::open(&ops, files, &part.config, part.with_projection)
                .map_err(|error| loading(part.name, error))?;
            text_encoder
                .fill()
                .map_err(|error| loading(part.name, error))?;
            encoders.push(PromptEncoder {
                tokenizer,
                text_encoder,
                name: part.name,
            });
        }
        let (unet, unet_layers) = load_adaptable(next()?, "", &unet_ops, |weights| {
            Unet::load(weights, &folder.unet)
        })
        .map_err(|error| loading("unet", error))?;
        unet.fill().map_err(|error| loading("unet", error))?;
        let tables = encoders
            .iter()
            .map(|encoder| (encoder.name, encoder.text_encoder.layer_table()));
        let targets = LoraTargets::new(&ops, &unet_layers, &folder.unet, tables);
        let tiny_decoder = TinyDecoder::find(&ops, &folder.path, folder.vae.latent_channels)?;
        let text_encoders =
            TextEncoders::new(&folder.path, encoders, folder.force_zeros_for_empty_prompt);
        let (vae, vae_encoder) = load_component(next()?, "", &vae_ops, |weights| {
            let decoder = VaeDecoder::load(weights, &folder.vae)?;
            Ok((decoder, VaeEncoder::load(weights, &folder.vae)?))
        })
        .map_err(|error| loading("vae", error))?;
        vae.fill().map_err(|error| loading("vae", error))?;
        let refiner = refiner
            .map(|found| {
                found.load(&refiner_ops, &mut |name, index| {
                    let index = components.len() + index;
                    on_event(LoadEvent::Component { name, index, count });
                })
            })
            .transpose()?;
        Ok(Self {
            description,
            folder,
            text_encoders,
            unet,
            vae,
            vae_encoder,
            refiner,
            loras: LoraShelf::new(targets),
            latent_to_rgb: OnceLock::new(),
            tiny_decoder,
            ops,
            numbers: options.cpu.numbers,
            shortage,
        })
    }

    /// What was loaded.
    pub fn description(&self) -> &ModelDescription {
        &self.description
    }

    /// The text encoders with their tokenizers.
    pub fn encoders(&self) -> &[PromptEncoder] {
        self.text_encoders.encoders()
    }

    /// The UNet.
    pub fn unet(&self) -> &Unet {
        &self.unet
    }

    /// The decoder.
    pub fn vae(&self) -> &VaeDecoder {
        &self.vae
    }

    /// The encoder.
    pub fn vae_encoder(&self) -> &VaeEncoder {
        &self.vae_encoder
    }

    /// Whether a refiner is loaded.
    pub fn has_refiner(&self) -> bool {
        self.refiner.is_some()
    }

    /// The folder's scheduler settings.
    pub fn scheduler_config(&self) -> &SchedulerConfig {
        &self.folder.scheduler
    }

    /// Encodes prompts as [`Pipeline::generate`] does; `negative_prompt` is `None` without
    /// guidance, `Some(None)` with guidance but no negative prompt.
    ///
    /// # Errors
    /// As [`TextEncoders::encode`].
    pub fn encode_prompts(
        &self,
        prompt: &str,
        negative_prompt: Option<Option<&str>>,
        options: &PromptOptions,
    ) -> Result<PromptEmbeds, EngineError> {
        self.text_encoders.encode(prompt, negative_prompt, options)
    }

    /// The LoRAs of this model.
    pub fn loras(&self) -> &LoraShelf {
        &self.loras
    }

    /// Makes one image. `observe` is called as each phase begins and after each step; its answer
    /// decides whether to go on.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] before any work; [`EngineError::Cancelled`] at the
    /// observer's wish; [`EngineError::NonFinite`] rather than a black image, or on a GPU
    /// [`EngineError::Device`], as for everything else that fails there.
    pub fn generate(
        &self,
        request: &GenerateRequest,
        observe: &mut dyn FnMut(&Progress<'_>) -> Control,
    ) -> Result<Generation, EngineError> {
        request.validate(&self.description)?;
        let adapters = self.loras.adapters(&request.loras)?;
        let made = with_adapters(adapters, || generate::generate(self, request, observe));
        if made.is_err() {
            // Whatever was stopped half-way leaves nothing behind on the device.
            self.release();
        }
        made
    }

    /// What it is computed in, as an image's record says it.
    fn format(&self) -> String {
        if self.ops.has_kernels() {
            self.numbers.to_string()
        } else {
            self.ops.dtype().to_string()
        }
    }

    /// What computes it.
    pub fn device(&self) -> DeviceId {
        self.ops.id()
    }

    /// Gives the memory of all components back, until they are needed again.
    fn release(&self) {
        self.text_encoders.release();
        self.unet.release();
        self.vae.release();
        if let Some(refiner) = &self.refiner {
            refiner.release();
        }
        self.release_loras();
        cpu::give_pages_back();
    }

    /// What the device holds of LoRAs, where components are there in turn only.
    fn release_loras(&self) {
        if self.ops.residence() == Residence::InTurn {
            self.loras.release();
        }
    }

    fn base(&self) -> Expert<'_> {
        Expert {
            folder: &self.folder,
            text_encoders: &self.text_encoders,
            unet: &self.unet,
        }
    }

    fn refiner_expert(&self) -> Option<Expert<'_>> {
        self.refiner.as_ref().map(Refiner::expert)
    }

    /// The decoder that belongs to the last of the stages.
    fn decoder_after(&self, stages: &[plan::Stage<'_>]) -> &VaeDecoder {
        match &self.refiner {
            Some(refiner) if stages.len() > 1 => refiner.vae().unwrap_or(&self.vae),
            _ => &self.vae,
        }
    }

    /// What previews are made with.
    pub fn tiny_decoder(&self) -> Option<&TinyDecoder> {
        self.tiny_decoder.as_ref()
    }

    fn latent_to_rgb(&self) -> Result<&LatentToRgb, EngineError> {
        if let Some(map) = self.latent_to_rgb.get() {
            return Ok(map);
        }
        let map = LatentToRgb::fit(&self.vae)?;
        self.vae.release();
        Ok(self.latent_to_rgb.get_or_init(|| map))
    }
}
