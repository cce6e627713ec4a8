//! A cheap look at latents: a linear map from latent channels to colours.
//!
//! The map is fitted to the model's own decoder, so that it is right for any model: a few small
//! latents are decoded once, and least squares do the rest.

use std::time::{Duration, Instant};

use ::image::{Rgb, RgbImage};
use candle_core::{Device, Tensor};

use super::Phase;
use super::tiny_decoder::TinyDecoder;
use crate::EngineError;
use crate::image::{all_finite, quantise};
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
        if !all_finite(&colours) {
            return Err(EngineError::NonFinite {
                phase: Phase::Decoding,
            });
        }
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

/// The pictures of one generation, kept cheap beside its steps.
pub struct Previewer<'a> {
    map: &'a LatentToRgb,
    decoder: Option<&'a TinyDecoder>,
    budget: Budget,
}

/// Time for pictures: a share of the time that steps took.
#[derive(Default)]
struct Budget {
    steps: Duration,
    spent: Duration,
    last: Duration,
}

/// Longest side of a decoded picture, in pixels, and the share of the steps' time it may take.
const DECODED_SIDE: usize = 256;
const SHARE: f64 = 0.05;

impl Budget {
    /// Whether another picture like the last fits. The first is always due: what it takes is not
    /// known before.
    fn is_due(&self) -> bool {
        self.spent.is_zero() || self.spent + self.last <= self.steps.mul_f64(SHARE)
    }

    fn spend(&mut self, took: Duration) {
        self.last = took;
        self.spent += took;
    }
}

impl<'a> Previewer<'a> {
    /// Pictures by `decoder` where there is one, else by `map`.
    pub fn new(map: &'a LatentToRgb, decoder: Option<&'a TinyDecoder>) -> Self {
        Self {
            map,
            decoder,
            budget: Budget::default(),
        }
    }

    /// The picture of latents (c, h, w) after a step, or none where too much time went into
    /// pictures already: whoever looks keeps the one before.
    pub fn after_step(
        &mut self,
        step_took: Duration,
        latents: &[f32],
        height: usize,
        width: usize,
    ) -> Option<RgbImage> {
        let Some(decoder) = self.decoder else {
            return Some(self.map.preview(latents, height, width));
        };
        self.budget.steps += step_took;
        if !self.budget.is_due() {
            return None;
        }
        let started = Instant::now();
        let picture = decoder.preview(latents, height, width, DECODED_SIDE);
        self.budget.spend(started.elapsed());
        // A decoder that fails costs its pictures, not the image.
        Some(picture.unwrap_or_else(|_| self.map.preview(latents, height, width)))
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
    use super::*;

    #[test]
    fn pictures_take_a_twentieth_of_the_time() {
        let mut budget = Budget::default();
        let (step, picture) = (Duration::from_millis(100), Duration::from_millis(20));
        let mut made = 0;
        for _ in 0..100 {
            budget.steps += step;
            if budget.is_due() {
                budget.spend(picture);
                made += 1;
            }
        }
        assert_eq!(made, 25, "each takes the share of four steps");
        // Cheap ones are made at every step.
        let mut budget = Budget::default();
        for _ in 0..10 {
            budget.steps += step;
            assert!(budget.is_due());
            budget.spend(Duration::from_millis(2));
        }
    }

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
