//! The UNet that predicts noise (SDXL, arXiv:2307.01952), after diffusers'
//! `UNet2DConditionModel`.

mod blocks;
mod config;
mod embeddings;
mod model;
mod resnet;
mod transformer;

pub use config::{BlockAttention, BlockConfig, MidBlockConfig, UnetConfig};
pub use embeddings::{guidance_scale_embedding, sinusoidal_embedding};
pub use model::{Conditioning, Unet};
pub use resnet::{ResnetBlock, ResnetStyle};
