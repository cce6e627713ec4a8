//! `DPMSolverMultistepScheduler` as DPM-Solver++ of first or second order (arXiv:2211.01095), with
//! or without fresh noise, after diffusers.

use super::config::{FinalSigma, PredictionType, SchedulerConfig, SolverType};
use super::sigmas::NoiseSchedule;
use super::{Scheduler, mix};
use crate::rng::TorchGenerator;

/// Up to this many steps, the last ones are taken with a lower order for stability.
const FEW_STEPS: usize = 15;

/// Second-order steps from the last two predictions.
pub struct DpmSolverMultistep {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    config: SchedulerConfig,
    /// The clean samples that the last two outputs implied, newest last.
    originals: Vec<Vec<f32>>,
}

/// Signal, noise and half the log of their squared ratio at one σ.
struct Level {
    alpha: f32,
    sigma: f32,
    lambda: f32,
}

impl Level {
    fn new(sigma: f32) -> Self {
        let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
        let sigma = sigma * alpha;
        Self {
            alpha,
            sigma,
            lambda: alpha.ln() - sigma.ln(),
        }
    }
}

impl DpmSolverMultistep {
    /// Sets out the steps of one generation.
    pub fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Self {
        let NoiseSchedule { timesteps, sigmas } =
            NoiseSchedule::for_dpm_solver(config, num_inference_steps);
        Self {
            timesteps,
            sigmas,
            config: config.clone(),
            originals: Vec::with_capacity(2),
        }
    }

    /// σ at each step, and where the last step ends.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    /// Whether step `index` is taken by one prediction only.
    fn first_order(&self, index: usize) -> bool {
        let config = &self.config;
        let count = self.timesteps.len();
        let last = index + 1 == count
            && (config.euler_at_final
                || (config.lower_order_final && count < FEW_STEPS)
                || config.final_sigma == FinalSigma::Zero);
        config.solver_order == 1 || self.originals.len() < 2 || last
    }
}

impl Scheduler for DpmSolverMultistep {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f32 {
        1.0
    }

    fn add_noise(&self, index: usize, original: &[f32], noise: &[f32]) -> Vec<f32> {
        let level = Level::new(self.sigmas[index]);
        mix(level.alpha, original, level.sigma, noise)
    }

    fn scale_model_input(&self, _index: usize, _sample: &mut [f32]) {}

    fn step(
        &mut self,
        index: usize,
        model_output: &[f32],
        sample: &mut [f32],
        generator: &mut TorchGenerator,
    ) {
        let from = Level::new(self.sigmas[index]);
        let to = Level::new(self.sigmas[index + 1]);
        // 1. The clean sample that the output implies.
        let original: Vec<f32> = sample
            .iter()
            .zip(model_output)
            .map(|(&x, &output)| match self.config.prediction_type {
                PredictionType::Epsilon => (x - from.sigma * output) / from.alpha,
                PredictionType::Sample => output,
                PredictionType::VPrediction => from.alpha * x - from.sigma * output,
            })
            .collect();
        if self.originals.len() == 2 {
            self.originals.remove(0);
        }
        self.originals.push(original);

        // 2. The integral over the step: by one prediction, or by a line through two.
        let h = to.lambda - from.lambda;
        let sde = self.config.sde;
        let (keep, gain, noise_scale) = if sde {
            let decay = (-2.0 * h).exp();
            (
                to.sigma / from.sigma * (-h).exp(),
                to.alpha * (1.0 - decay),
                to.sigma * (1.0 - decay).sqrt(),
            )
        } else {
            (to.sigma / from.sigma, -(to.alpha * ((-h).exp() - 1.0)), 0.0)
        };
        let noise = sde.then(|| generator.randn(sample.len()));
        let second = if self.first_order(index) {
            None
        } else {
            let before = Level::new(self.sigmas[index - 1]);
            let ratio = (from.lambda - before.lambda) / h;
            let gain = match (self.config.solver_type, sde) {
                (SolverType::Midpoint, _) => 0.5 * gain,
                (SolverType::Heun, false) => to.alpha * (((-h).exp() - 1.0) / h + 1.0),
                (SolverType::Heun, true) => {
                    to.alpha * ((1.0 - (-2.0 * h).exp()) / (-2.0 * h) + 1.0)
                }
            };
            Some((gain, 1.0 / ratio, &self.originals[self.originals.len() - 2]))
        };
        let newest = &self.originals[self.originals.len() - 1];
        for (at, x) in sample.iter_mut().enumerate() {
            let mut moved = keep * *x + gain * newest[at];
            if let Some((gain, inverse_ratio, older)) = second {
                moved += gain * (inverse_ratio * (newest[at] - older[at]));
            }
            if let Some(noise) = &noise {
                moved += noise_scale * noise[at];
            }
            *x = moved;
        }
    }

    fn predicted_original(&self) -> Option<&[f32]> {
        self.originals.last().map(Vec::as_slice)
    }
}
