//! The names that latent-diffusion code (and everything descended from it: ComfyUI, A1111, kohya)
//! gives the tensors that diffusers and transformers call otherwise.

mod open_clip;
mod unet;
mod vae;

pub use open_clip::{Piece, open_clip_name};
pub use unet::unet_name;
pub use vae::vae_name;
