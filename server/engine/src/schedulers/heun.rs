//! `HeunDiscreteScheduler`: Heun's method on the probability flow (arXiv:2206.00364, algorithm 1
//! without churn), after diffusers. Each step but the last asks the UNet twice.

use super::config::{PredictionType, SchedulerConfig};
use super::euler::{init_noise_sigma, scale_by_spread};
use super::sigmas::NoiseSchedule;
use super::{Scheduler, mix};
use crate::rng::TorchGenerator;

/// Euler's step to the next σ, then half of it and half of the slope found there.
pub struct HeunDiscrete {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    prediction_type: PredictionType,
    clip_sample_range: Option<f32>,
    init_noise_sigma: f32,
    /// Between the halves of a step.
    half: Option<Half>,
    original: Vec<f32>,
}

/// What the second half of a step needs of the first.
struct Half {
    sample: Vec<f32>,
    derivative: Vec<f32>,
    dt: f32,
}

/// The first once, the others twice: the UNet is asked at the end of a step and again where the
/// next begins.
pub(super) fn doubled(values: &[f32]) -> Vec<f32> {
    values
        .iter()
        .enumerate()
        .flat_map(|(at, &value)| std::iter::repeat_n(value, if at == 0 { 1 } else { 2 }))
        .collect()
}

impl HeunDiscrete {
    /// Sets out the steps of one generation: 2 n − 1 timesteps.
    pub fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Self {
        let NoiseSchedule { timesteps, sigmas } =
            NoiseSchedule::for_euler(config, num_inference_steps);
        let (levels, end) = sigmas.split_at(sigmas.len() - 1);
        let mut sigmas = doubled(levels);
        sigmas.extend(end);
        Self {
            timesteps: doubled(&timesteps),
            init_noise_sigma: init_noise_sigma(config.timestep_spacing, &sigmas),
            sigmas,
            prediction_type: config.prediction_type,
            clip_sample_range: config.clip_sample_range,
            half: None,
            original: Vec::new(),
        }
    }
}

impl Scheduler for HeunDiscrete {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    fn order(&self) -> usize {
        2
    }

    fn init_noise_sigma(&self) -> f32 {
        self.init_noise_sigma
    }

    fn add_noise(&self, index: usize, original: &[f32], noise: &[f32]) -> Vec<f32> {
        mix(1.0, original, self.sigmas[index], noise)
    }

    fn scale_model_input(&self, index: usize, sample: &mut [f32]) {
        scale_by_spread(self.sigmas[index], sample);
    }

    fn step(
        &mut self,
        index: usize,
        model_output: &[f32],
        sample: &mut [f32],
        _generator: &mut TorchGenerator,
    ) {
        // In the second half, `index` is already at the end of the step.
        let at = self.sigmas[index];
        self.original.clear();
        let mut derivative = Vec::with_capacity(sample.len());
        for (&x, &output) in sample.iter().zip(model_output) {
            let mut original = self.prediction_type.original_at_sigma(at, x, output);
            if let Some(range) = self.clip_sample_range {
                original = original.clamp(-range, range);
            }
            self.original.push(original);
            derivative.push((x - original) / at);
        }
        match self.half.take() {
            None => {
                let dt = self.sigmas[index + 1] - at;
                let start = sample.to_vec();
                for (x, derivative) in sample.iter_mut().zip(&derivative) {
                    *x += derivative * dt;
                }
                self.half = Some(Half {
                    sample: start,
                    derivative,
                    dt,
                });
            }
            Some(half) => {
                for (i, x) in sample.iter_mut().enumerate() {
                    let mean = (half.derivative[i] + derivative[i]) / 2.0;
                    *x = half.sample[i] + mean * half.dt;
                }
            }
        }
    }

    fn predicted_original(&self) -> Option<&[f32]> {
        (!self.original.is_empty()).then_some(&self.original)
    }
}
