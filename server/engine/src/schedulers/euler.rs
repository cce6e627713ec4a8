//! `EulerDiscreteScheduler`, `EulerAncestralDiscreteScheduler` and `EDMEulerScheduler`: Euler's
//! method on the probability flow (arXiv:2206.00364, algorithm 2 without churn), after diffusers.
//! The ancestral one steps further down and adds fresh noise to come back up.

use super::config::{FinalSigma, PredictionType, SchedulerConfig, SigmaSpacing, TimestepSpacing};
use super::kind::SchedulerKind;
use super::sigmas::{NoiseSchedule, linspace_f32, linspace_f64, respaced};
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

/// What the initial noise is multiplied by where it is added to a sample of spread 1.
pub(super) fn init_noise_sigma(spacing: TimestepSpacing, sigmas: &[f32]) -> f32 {
    let largest = sigmas.iter().copied().fold(f32::MIN, f32::max);
    match spacing {
        TimestepSpacing::Linspace | TimestepSpacing::Trailing => largest,
        TimestepSpacing::Leading => (largest * largest + 1.0).sqrt(),
    }
}

/// Divides a sample by its spread at σ.
pub(super) fn scale_by_spread(sigma: f32, sample: &mut [f32]) {
    let spread = (sigma * sigma + 1.0).sqrt();
    for value in sample {
        *value /= spread;
    }
}

/// An ancestral step from σ to `next`: how far down to go, and the size of the noise that leads
/// back up.
pub(super) fn ancestral_step(sigma: f32, next: f32) -> (f32, f32) {
    let up = (next * next * (sigma * sigma - next * next) / (sigma * sigma)).sqrt();
    ((next * next - up * up).sqrt(), up)
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
        Self {
            init_noise_sigma: init_noise_sigma(config.timestep_spacing, &sigmas),
            timesteps,
            sigmas,
            ancestral,
            prediction_type: config.prediction_type,
            original: Vec::new(),
        }
    }
}

impl Scheduler for EulerDiscrete {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.sigmas
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
        generator: &mut TorchGenerator,
    ) {
        let (sigma, next) = (self.sigmas[index], self.sigmas[index + 1]);
        let (target, sigma_up) = if self.ancestral {
            let (down, up) = ancestral_step(sigma, next);
            (down, Some(up))
        } else {
            (next, None)
        };
        let dt = target - sigma;
        self.original.clear();
        for (x, &output) in sample.iter_mut().zip(model_output) {
            // 1. The clean sample that the output implies.
            let original = self.prediction_type.original_at_sigma(sigma, *x, output);
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

/// Euler steps for models that were preconditioned as EDM's are.
pub struct EdmEuler {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    sigma_data: f32,
    velocity: bool,
    init_noise_sigma: f32,
    original: Vec<f32>,
}

impl EdmEuler {
    /// Sets out the steps of one generation.
    pub fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Self {
        let steps = num_inference_steps;
        let (min, max) = (
            config.sigma_min.unwrap_or(0.002),
            config.sigma_max.unwrap_or(80.0),
        );
        let mut sigmas: Vec<f32> = if config.edm.exponential {
            let mut list = linspace_f32(min.ln(), max.ln(), steps);
            list.reverse();
            list.into_iter().map(f32::exp).collect()
        } else if config.edm.rho == 7.0 {
            respaced(SigmaSpacing::Karras, max, min, steps)
                .into_iter()
                .map(|sigma| sigma as f32)
                .collect()
        } else {
            let rho = config.edm.rho;
            let (from, to) = (max.powf(1.0 / rho), min.powf(1.0 / rho));
            linspace_f64(0.0, 1.0, steps)
                .into_iter()
                .map(|ramp| (from + ramp * (to - from)).powf(rho) as f32)
                .collect()
        };
        let timesteps = sigmas.iter().map(|sigma| 0.25 * sigma.ln()).collect();
        sigmas.push(match (config.final_sigma, sigmas.last()) {
            (FinalSigma::SigmaMin, Some(&last)) => last,
            _ => 0.0,
        });
        Self {
            timesteps,
            sigmas,
            sigma_data: config.edm.sigma_data as f32,
            velocity: config.prediction_type == PredictionType::VPrediction,
            init_noise_sigma: (max * max + 1.0).sqrt() as f32,
            original: Vec::new(),
        }
    }
}

impl Scheduler for EdmEuler {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    fn init_noise_sigma(&self) -> f32 {
        self.init_noise_sigma
    }

    fn add_noise(&self, index: usize, original: &[f32], noise: &[f32]) -> Vec<f32> {
        mix(1.0, original, self.sigmas[index], noise)
    }

    fn scale_model_input(&self, index: usize, sample: &mut [f32]) {
        let sigma = self.sigmas[index];
        let scale = 1.0 / (sigma * sigma + self.sigma_data * self.sigma_data).sqrt();
        for value in sample {
            *value *= scale;
        }
    }

    fn step(
        &mut self,
        index: usize,
        model_output: &[f32],
        sample: &mut [f32],
        _generator: &mut TorchGenerator,
    ) {
        let (sigma, next) = (self.sigmas[index], self.sigmas[index + 1]);
        let data = self.sigma_data;
        let variance = sigma * sigma + data * data;
        let c_skip = data * data / variance;
        let c_out = sigma * data / variance.sqrt();
        let c_out = if self.velocity { -c_out } else { c_out };
        self.original.clear();
        for (x, &output) in sample.iter_mut().zip(model_output) {
            let original = c_skip * *x + c_out * output;
            self.original.push(original);
            *x += (*x - original) / sigma * (next - sigma);
        }
    }

    fn predicted_original(&self) -> Option<&[f32]> {
        (!self.original.is_empty()).then_some(&self.original)
    }
}
