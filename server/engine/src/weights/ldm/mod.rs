//! The names that latent-diffusion code (and everything descended from it: ComfyUI, A1111, kohya)
//! gives the tensors that diffusers and transformers call otherwise.

mod unet;

pub use unet::unet_name;
