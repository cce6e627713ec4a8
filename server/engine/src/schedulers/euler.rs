//! `EulerDiscreteScheduler` and `EulerAncestralDiscreteScheduler`: Euler's method on the
//! probability flow (arXiv:2206.00364, algorithm 2 without churn), after diffusers. The ancestral
//! one steps further down and adds fresh noise to come back up.

use super::config::{PredictionType, SchedulerConfig, SchedulerKind, TimestepSpacing};
use super::sigmas::NoiseSchedule;
use super::{Scheduler, mix};
use crate::rng::TorchGenerator;

/// Euler steps from one σ to the next.
pub struct EulerDiscrete {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    ancestral: bool,
    prediction_type: PredictionType,
    init_noise_sigma: f32,
    original: Vec<f32>,
}

impl EulerDiscrete {
    /// Sets out the steps of one generation.
    pub fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Self {
        let NoiseSchedule {
            mut timesteps,
            sigmas,
        } = NoiseSchedule::for_euler(config, num_inference_steps);
        let ancestral = config.kind == SchedulerKind::EulerAncestralDiscrete;
        let velocity = config.prediction_type == PredictionType::VPrediction;
        if config.continuous_timesteps && velocity && !ancestral {
            timesteps = sigmas[..sigmas.len() - 1]
                .iter()
                .map(|sigma| 0.25 * sigma.ln())
                .collect();
        }
        let largest = sigmas.iter().copied().fold(f32::MIN, f32::max);
        let init_noise_sigma = match config.timestep_spacing {
            TimestepSpacing::Linspace | TimestepSpacing::Trailing => largest,
            TimestepSpacing::Leading => (largest * largest + 1.0).sqrt(),
        };
        Self {
            timesteps,
            sigmas,
            ancestral,
            prediction_type: config.prediction_type,
            init_noise_sigma,
            original: Vec::new(),
        }
    }

    /// σ at each step, and where the last step ends.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }
}

impl Scheduler for EulerDiscrete {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f32 {
        self.init_noise_sigma
    }

    fn add_noise(&self, index: usize, original: &[f32], noise: &[f32]) -> Vec<f32> {
        mix(1.0, original, self.sigmas[index], noise)
    }

    fn scale_model_input(&self, index: usize, sample: &mut [f32]) {
        let sigma = self.sigmas[index];
        let scale = (sigma * sigma + 1.0).sqrt();
        for value in sample {
            *value /= scale;
        }
    }

    fn step(
        &mut self,
        index: usize,
        model_output: &[f32],
        sample: &mut [f32],
        generator: &mut TorchGenerator,
    ) {
        let (sigma, next) = (self.sigmas[index], self.sigmas[index + 1]);
        // The ancestral step: down to `target`, then noise of size `sigma_up` back to `next`.
        let (target, sigma_up) = if self.ancestral {
            let up = (next * next * (sigma * sigma - next * next) / (sigma * sigma)).sqrt();
            ((next * next - up * up).sqrt(), Some(up))
        } else {
            (next, None)
        };
        let dt = target - sigma;
        let variance = sigma * sigma + 1.0;
        let c_out = -sigma / variance.sqrt();
        self.original.clear();
        for (x, &output) in sample.iter_mut().zip(model_output) {
            // 1. The clean sample that the output implies.
            let original = match self.prediction_type {
                PredictionType::Epsilon => *x - sigma * output,
                PredictionType::VPrediction => output * c_out + *x / variance,
                PredictionType::Sample => output,
            };
            self.original.push(original);
            // 2. The direction away from it, and a step along it.
            let derivative = (*x - original) / sigma;
            *x += derivative * dt;
        }
        // 3. Fresh noise.
        if let Some(sigma_up) = sigma_up {
            for (x, noise) in sample.iter_mut().zip(generator.randn(model_output.len())) {
                *x += noise * sigma_up;
            }
        }
    }

    fn predicted_original(&self) -> Option<&[f32]> {
        (!self.original.is_empty()).then_some(&self.original)
    }
}
