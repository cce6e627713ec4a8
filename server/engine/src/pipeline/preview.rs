//! A cheap look at latents: a linear map from latent channels to colours.
//!
//! The map is fitted to the model's own decoder, so that it is right for any model: a few small
//! latents are decoded once, and least squares do the rest.

use ::image::{Rgb, RgbImage};
use candle_core::{Device, Tensor};

use crate::EngineError;
use crate::image::quantise;
use crate::rng::TorchGenerator;
use crate::vae::VaeDecoder;

/// Colours from latents: one row per latent channel and one for the constant.
pub struct LatentToRgb {
    weights: Vec<[f32; 3]>,
}

/// Side of the fields that are decoded, in latent pixels, and of the even patches they are made of.
const SIDE: usize = 8;
const PATCH: usize = 4;
const FIELDS: usize = 3;

impl LatentToRgb {
    /// Decodes a few random fields and fits the map.
    ///
    /// # Errors
    /// If decoding fails.
    pub fn fit(vae: &VaeDecoder) -> Result<Self, EngineError> {
        let channels = vae.config().latent_channels;
        let factor = vae.config().scale_factor();
        // Random levels, and beside them their opposites, so that the fields are balanced.
        let per_side = SIDE / PATCH;
        let mut generator = TorchGenerator::new(0);
        let mut latents = Vec::with_capacity(2 * FIELDS * channels * SIDE * SIDE);
        for _ in 0..FIELDS {
            let levels = generator.randn(channels * per_side * per_side);
            for sign in [1.0, -1.0] {
                for channel in 0..channels {
                    for y in 0..SIDE {
                        for x in 0..SIDE {
                            let patch = (y / PATCH) * per_side + x / PATCH;
                            latents.push(sign * levels[channel * per_side * per_side + patch]);
                        }
                    }
                }
            }
        }
        let shape = (2 * FIELDS, channels, SIDE, SIDE);
        let pixels = vae.decode_scaled(&Tensor::from_slice(&latents, shape, &Device::Cpu)?)?;
        // Mean colour of the pixels that belong to each latent pixel.
        let colours = pixels.avg_pool2d(factor)?.flatten_all()?.to_vec1::<f32>()?;
        let area = SIDE * SIDE;
        let samples = (0..2 * FIELDS).flat_map(|field| {
            let (latents, colours) = (&latents, &colours);
            (0..area).map(move |at| {
                let mut input: Vec<f64> = (0..channels)
                    .map(|channel| f64::from(latents[(field * channels + channel) * area + at]))
                    .collect();
                input.push(1.0);
                let output = [0, 1, 2].map(|c| f64::from(colours[(field * 3 + c) * area + at]));
                (input, output)
            })
        });
        Ok(Self {
            weights: least_squares(channels + 1, samples),
        })
    }

    /// One pixel per latent pixel of `latents` (c, h, w).
    pub fn preview(&self, latents: &[f32], height: usize, width: usize) -> RgbImage {
        let area = height * width;
        let channels = self.weights.len() - 1;
        RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let at = y as usize * width + x as usize;
            let mut colour = self.weights[channels];
            for (channel, weights) in self.weights[..channels].iter().enumerate() {
                let value = latents[channel * area + at];
                for (colour, weight) in colour.iter_mut().zip(weights) {
                    *colour += value * weight;
                }
            }
            Rgb(colour.map(quantise))
        })
    }
}

/// Fits outputs to inputs of `size` numbers by the normal equations, lightly damped.
fn least_squares(
    size: usize,
    samples: impl Iterator<Item = (Vec<f64>, [f64; 3])>,
) -> Vec<[f32; 3]> {
    let width = size + 3;
    let mut rows = vec![vec![0.0; width]; size];
    for (input, output) in samples {
        for (i, row) in rows.iter_mut().enumerate() {
            for (cell, value) in row.iter_mut().zip(input.iter().chain(&output)) {
                *cell += input[i] * value;
            }
        }
    }
    for (i, row) in rows.iter_mut().enumerate() {
        row[i] += 1e-6;
    }
    // Gauss and Jordan; the damped matrix is positive definite, so no pivot vanishes.
    for pivot in 0..size {
        let scale = rows[pivot][pivot];
        rows[pivot].iter_mut().for_each(|cell| *cell /= scale);
        let source = rows[pivot].clone();
        for (i, row) in rows.iter_mut().enumerate() {
            if i != pivot {
                let factor = row[pivot];
                for (cell, value) in row.iter_mut().zip(&source) {
                    *cell -= factor * value;
                }
            }
        }
    }
    rows.iter()
        .map(|row| [0, 1, 2].map(|c| row[size + c] as f32))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::least_squares;

    #[test]
    fn a_linear_map_is_found_again() {
        let map = [[0.5, -1.0, 2.0], [0.25, 0.0, -3.0], [1.0, 0.125, 0.0]];
        let samples = (0..40).map(|i| {
            let input = vec![f64::from(i % 7) - 3.0, f64::from(i % 5) - 2.0, 1.0];
            let output = [0, 1, 2].map(|c| (0..3).map(|r| input[r] * map[r][c]).sum());
            (input, output)
        });
        for (row, expected) in least_squares(3, samples).iter().zip(map) {
            for (got, want) in row.iter().zip(expected) {
                assert!((f64::from(*got) - want).abs() < 1e-5);
            }
        }
    }
}
