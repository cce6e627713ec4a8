//! The autoencoder between latents and pixels (arXiv:2112.10752), after diffusers'
//! `AutoencoderKL`.

mod attention;
mod config;
mod decoder;
mod encoder;
mod tiling;

pub use config::VaeConfig;
pub use decoder::VaeDecoder;
pub use encoder::VaeEncoder;
pub use tiling::{Tiles, tile_side};
