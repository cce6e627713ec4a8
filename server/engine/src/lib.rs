//! SDXL on candle: the whole public face is here.
//!
//! ```no_run
//! use atelier_engine::{Control, GenerateRequest, LoadOptions, Pipeline};
//! # fn main() -> Result<(), atelier_engine::EngineError> {
//! let folder = std::path::Path::new("models/sdxl");
//! let pipeline = Pipeline::load(folder, &LoadOptions::default(), &mut |_| {})?;
//! let request = GenerateRequest {
//!     prompt: "a red circle on a blue background".into(),
//!     num_inference_steps: 20,
//!     ..GenerateRequest::for_model(pipeline.description())
//! };
//! let generation = pipeline.generate(&request, &mut |_progress| Control::Continue)?;
//! generation.image.save("out.png").ok();
//! # Ok(())
//! # }
//! ```
//!
//! The engine is a library: it knows no users, HTTP, database or async runtime. What it computes
//! is what diffusers computes on a CPU in f32 for the same folder, prompt, seed, size, steps and
//! guidance; `tests/` holds the recorded numbers that hold it to that.

// The guided tour. A request is checked, ...
mod error;
mod fault;
mod request;
// ... the model folder read and its weights accounted for, ...
pub mod config;
pub mod lora;
mod model;
pub mod single_file;
mod source;
pub mod weights;
// ... the prompt read and turned into conditioning, ...
pub mod prompt;
pub mod text_encoder;
pub mod tokenizer;
// ... noise drawn and taken away step by step, ...
pub mod rng;
pub mod schedulers;
pub mod unet;
// ... and the latents turned into pixels.
pub mod image;
pub mod vae;
// All of it in order:
pub mod pipeline;
// What it is computed with, and whether that computes rightly on this machine.
pub mod cpu;
mod cpu_mode;
mod device;
pub mod memory;
pub mod nn;
pub mod probe;
// A GPU that fails on command, for tests.
pub mod faults;
// What it is measured with.
mod synthetic;
mod workload;

pub use cpu_mode::{CpuMemory, CpuMode, CpuNumbers};
pub use device::{ComputeDtype, CudaBuild, DeviceId, Residence, cuda_build};
pub use error::EngineError;
pub use fault::{DeviceFault, FaultKind};
pub use lora::{LoraDescription, inspect_lora};
pub use model::{ModelDescription, ModelKind, inspect};
pub use pipeline::{
    Control, Generation, LoadEvent, LoadOptions, Phase, Pipeline, Progress, Timings,
};
pub use probe::{Measurement, OpCheck, check_device_ops, check_device_ops_telling, measure_device};
pub use request::{GenerateRequest, InputImage, LoraChoice, Mask, PromptSyntax, Refine, VaeTiling};
pub use schedulers::{Defaults, few_step_defaults};
pub use synthetic::{SyntheticModel, write_model};
pub use workload::{Part, Workload};
