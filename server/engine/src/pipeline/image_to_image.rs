//! What a request brings along to start from, made ready for the denoising: diffusers'
//! `VaeImageProcessor` and the `prepare_latents` of its image-to-image and inpainting pipelines.

use ::image::RgbImage;
use candle_core::{Device, Tensor};

use super::inpaint::{self, Masked};
use crate::image::{Filter, Pixels, all_finite};
use crate::rng::TorchGenerator;
use crate::vae::{VaeEncoder, tile_side};
use crate::{EngineError, InputImage, Phase, VaeTiling};

/// A request's image and mask at the size that is worked at.
pub(super) struct Source {
    /// The image, values of −1…1: 3 · height · width.
    pixels: Vec<f32>,
    width: usize,
    height: usize,
    tiling: VaeTiling,
    /// The mask, and what is needed to put the result back into the image.
    pub masked: Option<Masked>,
}

/// An image as interleaved values.
pub(super) fn pixels_of(image: &RgbImage) -> Pixels {
    Pixels {
        width: image.width() as usize,
        height: image.height() as usize,
        channels: 3,
        values: image.as_raw().clone(),
    }
}

/// The other way.
pub(super) fn image_of(pixels: Pixels) -> RgbImage {
    RgbImage::from_raw(pixels.width as u32, pixels.height as u32, pixels.values)
        .expect("three values per pixel, as many as the size asks for")
}

impl Source {
    /// Resizes and crops the image and its mask for work at `width` by `height`.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] if the mask's region is empty.
    pub fn prepare(
        input: &InputImage,
        width: usize,
        height: usize,
        tiling: VaeTiling,
    ) -> Result<Self, EngineError> {
        let image = pixels_of(&input.image);
        let (image, masked) = match &input.mask {
            None => (image.resize(width, height, Filter::Lanczos), None),
            Some(mask) => {
                let masked = inpaint::prepare_mask(mask, width, height)?;
                let image = match &masked.region {
                    None => image.resize(width, height, Filter::Lanczos),
                    Some(region) => region.cut(&image).resize_and_fill(width, height),
                };
                (image, Some(masked))
            }
        };
        let area = width * height;
        let mut pixels = vec![0.0; 3 * area];
        for (at, pixel) in image.values.chunks(3).enumerate() {
            for (channel, &value) in pixel.iter().enumerate() {
                pixels[channel * area + at] = 2.0 * (f32::from(value) / 255.0) - 1.0;
            }
        }
        Ok(Self {
            pixels,
            width,
            height,
            tiling,
            masked,
        })
    }

    /// A sample of the image's latents, scaled for the UNet.
    ///
    /// # Errors
    /// [`EngineError::NonFinite`] if the encoder overflows.
    pub fn latents(
        &self,
        vae: &VaeEncoder,
        generator: &mut TorchGenerator,
    ) -> Result<Vec<f32>, EngineError> {
        let latents = self.encode(vae, self.pixels.clone(), generator)?;
        Ok(match &vae.config().latents_mean_std {
            // diffusers' inpainting leaves these out; so do we, to give the same image.
            Some((mean, std)) if self.masked.is_none() => {
                let area = latents.len() / mean.len();
                let scale = vae.config().scaling_factor as f32;
                let statistics = mean.iter().zip(std);
                latents
                    .chunks(area)
                    .zip(statistics)
                    .flat_map(|(channel, (mean, std))| {
                        channel.iter().map(move |x| (x - mean) * scale / std)
                    })
                    .collect()
            }
            _ => scaled(latents, vae),
        })
    }

    /// A sample of the latents of the image without what is to be painted, scaled for the UNet.
    ///
    /// # Errors
    /// As [`Source::latents`].
    pub fn masked_latents(
        &self,
        vae: &VaeEncoder,
        generator: &mut TorchGenerator,
    ) -> Result<Vec<f32>, EngineError> {
        let mut pixels = self.pixels.clone();
        if let Some(masked) = &self.masked {
            for channel in pixels.chunks_mut(self.width * self.height) {
                for (value, &painted) in channel.iter_mut().zip(&masked.painted) {
                    if painted {
                        *value = 0.0;
                    }
                }
            }
        }
        Ok(scaled(self.encode(vae, pixels, generator)?, vae))
    }

    fn encode(
        &self,
        vae: &VaeEncoder,
        pixels: Vec<f32>,
        generator: &mut TorchGenerator,
    ) -> Result<Vec<f32>, EngineError> {
        let shape = (1, 3, self.height, self.width);
        let pixels = Tensor::from_vec(pixels, shape, &Device::Cpu)?;
        let factor = vae.config().scale_factor();
        let (rows, columns) = (self.height / factor, self.width / factor);
        let tiles = tile_side(self.tiling, vae.config(), vae.ops(), rows, columns);
        let latents = vae.sample(&pixels, tiles, generator)?;
        if !all_finite(&latents) {
            return Err(EngineError::NonFinite {
                phase: Phase::ImageEncoding,
            });
        }
        Ok(latents)
    }
}

fn scaled(mut latents: Vec<f32>, vae: &VaeEncoder) -> Vec<f32> {
    let scale = vae.config().scaling_factor as f32;
    latents.iter_mut().for_each(|value| *value *= scale);
    latents
}
