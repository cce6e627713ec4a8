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

mod error;
mod model;
pub mod pipeline;
mod request;

pub use error::EngineError;
pub use model::{ModelDescription, inspect};
pub use pipeline::{
    Control, Generation, LoadEvent, LoadOptions, Phase, Pipeline, Progress, Timings,
};
pub use request::GenerateRequest;
