//! `DDIMScheduler` without added noise (arXiv:2010.02502, η = 0), after diffusers.

use super::config::{PredictionType, SchedulerConfig};
use super::sigmas::integer_timesteps;
use super::training::alphas_cumprod;
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

/// Whole timesteps within those of training, from noisy to clean.
///
/// # Errors
/// [`EngineError::InvalidRequest`] where there are too many for that.
pub(super) fn checked_timesteps(
    config: &SchedulerConfig,
    steps: usize,
) -> Result<Vec<usize>, EngineError> {
    let train = config.num_train_timesteps;
    if steps <= train {
        let within = |t: i64| usize::try_from(t).ok().filter(|&t| t < train);
        // With `trailing` and some counts (61), rounding lays out one timestep more, −1. diffusers
        // takes it for the last of training, and a finished picture for pure noise; it is left out.
        let timesteps = integer_timesteps(config, steps).into_iter().take(steps);
        if let Some(timesteps) = timesteps.map(within).collect() {
            return Ok(timesteps);
        }
    }
    Err(EngineError::invalid(
        "num_inference_steps",
        format!(
            "is {steps}, too many for the {train} timesteps that {} was trained with; give fewer",
            config.kind.name()
        ),
    ))
}

impl Ddim {
    /// Sets out the steps of one generation.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] for more steps than there are training timesteps.
    pub fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Self, EngineError> {
        let timesteps = checked_timesteps(config, num_inference_steps)?;
        let cumprod = alphas_cumprod(config);
        let final_alpha = if config.set_alpha_to_one {
            1.0
        } else {
            cumprod[0]
        };
        let stride = config.num_train_timesteps / num_inference_steps;
        let alphas = timesteps
            .iter()
            .map(|&t| {
                let previous = t.checked_sub(stride);
                (cumprod[t], previous.map_or(final_alpha, |at| cumprod[at]))
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

    fn add_noise(&self, index: usize, original: &[f32], noise: &[f32]) -> Vec<f32> {
        let (alpha, _) = self.alphas[index];
        mix(alpha.sqrt(), original, (1.0 - alpha).sqrt(), noise)
    }

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
            let prediction = self.prediction_type;
            let mut original = prediction.original(root_alpha, root_beta, *x, output);
            let epsilon = prediction.noise(root_alpha, root_beta, *x, output);
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
