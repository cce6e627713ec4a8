//! `DDPMScheduler`: the ancestral sampling of arXiv:2006.11239, after diffusers.

use super::config::{PredictionType, SchedulerConfig, Variance};
use super::ddim::checked_timesteps;
use super::training::alphas_cumprod;
use super::{Scheduler, mix};
use crate::EngineError;
use crate::rng::TorchGenerator;

/// Steps down with as much fresh noise as the forward process would add.
pub struct Ddpm {
    timesteps: Vec<f32>,
    /// ᾱ at each step and where it ends.
    alphas: Vec<(f32, f32)>,
    prediction_type: PredictionType,
    clip_sample_range: Option<f32>,
    variance: Variance,
    original: Vec<f32>,
}

impl Ddpm {
    /// Sets out the steps of one generation.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] for more steps than there are training timesteps.
    pub fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Self, EngineError> {
        let timesteps = checked_timesteps(config, num_inference_steps)?;
        let cumprod = alphas_cumprod(config);
        let ends = timesteps[1..].iter().map(|&t| cumprod[t]).chain([1.0]);
        let alphas = timesteps.iter().map(|&t| cumprod[t]).zip(ends).collect();
        Ok(Self {
            timesteps: timesteps.into_iter().map(|t| t as f32).collect(),
            alphas,
            prediction_type: config.prediction_type,
            clip_sample_range: config.clip_sample_range,
            variance: config.variance,
            original: Vec::new(),
        })
    }
}

impl Scheduler for Ddpm {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn add_noise(&self, index: usize, original: &[f32], noise: &[f32]) -> Vec<f32> {
        let (alpha, _) = self.alphas[index];
        mix(alpha.sqrt(), original, (1.0 - alpha).sqrt(), noise)
    }

    fn step(
        &mut self,
        index: usize,
        model_output: &[f32],
        sample: &mut [f32],
        generator: &mut TorchGenerator,
    ) {
        let (alpha, previous) = self.alphas[index];
        let (beta, beta_previous) = (1.0 - alpha, 1.0 - previous);
        let step_alpha = alpha / previous;
        let step_beta = 1.0 - step_alpha;
        let of_original = previous.sqrt() * step_beta / beta;
        let of_sample = step_alpha.sqrt() * beta_previous / beta;
        self.original.clear();
        for (x, &output) in sample.iter_mut().zip(model_output) {
            let mut original = self
                .prediction_type
                .original(alpha.sqrt(), beta.sqrt(), *x, output);
            if let Some(range) = self.clip_sample_range {
                original = original.clamp(-range, range);
            }
            self.original.push(original);
            *x = of_original * original + of_sample * *x;
        }
        if self.timesteps[index] > 0.0 {
            let lowest = (beta_previous / beta * step_beta).max(1e-20);
            let scale = match self.variance {
                Variance::FixedSmall => lowest.sqrt(),
                Variance::FixedSmallLog => (0.5 * lowest.ln()).exp(),
                Variance::FixedLarge => step_beta.sqrt(),
            };
            for (x, noise) in sample.iter_mut().zip(generator.randn(model_output.len())) {
                *x += scale * noise;
            }
        }
    }

    fn predicted_original(&self) -> Option<&[f32]> {
        (!self.original.is_empty()).then_some(&self.original)
    }
}
