//! `DDIMScheduler` without added noise (arXiv:2010.02502, η = 0), after diffusers.

use super::config::{PredictionType, SchedulerConfig};
use super::sigmas::{alphas_cumprod, integer_timesteps};
use super::{Scheduler, mix};
use crate::EngineError;
use crate::rng::TorchGenerator;

/// DDIM steps between training timesteps.
pub struct Ddim {
    timesteps: Vec<f32>,
    /// ᾱ at each step and where it ends.
    alphas: Vec<(f32, f32)>,
    prediction_type: PredictionType,
    clip_sample_range: Option<f32>,
    original: Vec<f32>,
}

impl Ddim {
    /// Sets out the steps of one generation.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] for more steps than there are training timesteps.
    pub fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Self, EngineError> {
        let train = config.num_train_timesteps;
        let timesteps = integer_timesteps(config, num_inference_steps);
        let cumprod = alphas_cumprod(config);
        let beyond = timesteps.iter().any(|&t| t < 0 || t as usize >= train);
        if num_inference_steps > train || beyond {
            return Err(EngineError::invalid(
                "num_inference_steps",
                format!(
                    "is {num_inference_steps}, too many for the {train} timesteps that DDIM was trained with; give fewer"
                ),
            ));
        }
        let final_alpha = if config.set_alpha_to_one {
            1.0
        } else {
            cumprod[0]
        };
        let stride = (train / num_inference_steps) as i64;
        let alphas = timesteps
            .iter()
            .map(|&t| {
                let previous = usize::try_from(t - stride).ok();
                (
                    cumprod[t as usize],
                    previous.map_or(final_alpha, |at| cumprod[at]),
                )
            })
            .collect();
        Ok(Self {
            timesteps: timesteps.into_iter().map(|t| t as f32).collect(),
            alphas,
            prediction_type: config.prediction_type,
            clip_sample_range: config.clip_sample_range,
            original: Vec::new(),
        })
    }
}

impl Scheduler for Ddim {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f32 {
        1.0
    }

    fn add_noise(&self, index: usize, original: &[f32], noise: &[f32]) -> Vec<f32> {
        let (alpha, _) = self.alphas[index];
        mix(alpha.sqrt(), original, (1.0 - alpha).sqrt(), noise)
    }

    fn scale_model_input(&self, _index: usize, _sample: &mut [f32]) {}

    fn step(
        &mut self,
        index: usize,
        model_output: &[f32],
        sample: &mut [f32],
        _generator: &mut TorchGenerator,
    ) {
        let (alpha, previous) = self.alphas[index];
        let (root_alpha, root_beta) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let (root_previous, direction) = (previous.sqrt(), (1.0 - previous).sqrt());
        self.original.clear();
        for (x, &output) in sample.iter_mut().zip(model_output) {
            // 1. The clean sample and the noise that the output implies.
            let (mut original, epsilon) = match self.prediction_type {
                PredictionType::Epsilon => ((*x - root_beta * output) / root_alpha, output),
                PredictionType::Sample => (output, (*x - root_alpha * output) / root_beta),
                PredictionType::VPrediction => (
                    root_alpha * *x - root_beta * output,
                    root_alpha * output + root_beta * *x,
                ),
            };
            // 2. Clip, where the config says so. NaN stays NaN.
            if let Some(range) = self.clip_sample_range {
                original = original.clamp(-range, range);
            }
            self.original.push(original);
            // 3. Mix anew at the next noise level.
            *x = root_previous * original + direction * epsilon;
        }
    }

    fn predicted_original(&self) -> Option<&[f32]> {
        (!self.original.is_empty()).then_some(&self.original)
    }
}
