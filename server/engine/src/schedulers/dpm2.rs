//! `KDPM2DiscreteScheduler` and `KDPM2AncestralDiscreteScheduler`: a midpoint in log σ, as
//! DPM-Solver-2 takes it (arXiv:2206.00927), on the probability flow in σ, after diffusers.

use super::config::{PredictionType, SchedulerConfig};
use super::euler::{ancestral_step, init_noise_sigma, scale_by_spread};
use super::heun::doubled;
use super::kind::SchedulerKind;
use super::sigmas::{NoiseSchedule, euler_levels};
use super::solver::{exp, ln};
use super::training::{numpy_ln, training_log_sigmas};
use super::{Scheduler, mix};
use crate::rng::TorchGenerator;

/// Euler's step to a σ in between, then a whole step with the slope found there.
pub struct Kdpm2Discrete {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    /// σ in between, for each step that has a second half.
    middles: Vec<f32>,
    /// Where each step goes, and the noise added there.
    targets: Vec<(f32, f32)>,
    ancestral: bool,
    prediction_type: PredictionType,
    init_noise_sigma: f32,
    /// The sample where the step began, between its halves.
    start: Option<Vec<f32>>,
    original: Vec<f32>,
}

impl Kdpm2Discrete {
    /// Sets out the steps of one generation: 2 n − 1 timesteps.
    pub fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Self {
        let ancestral = config.kind == SchedulerKind::Kdpm2AncestralDiscrete;
        let (timesteps, _) = euler_levels(config, num_inference_steps);
        let NoiseSchedule { sigmas: levels, .. } =
            NoiseSchedule::for_euler(config, num_inference_steps);
        let targets: Vec<(f32, f32)> = levels
            .windows(2)
            .map(|pair| {
                if ancestral {
                    ancestral_step(pair[0], pair[1])
                } else {
                    (pair[1], 0.0)
                }
            })
            .collect();
        let middles: Vec<f32> = levels
            .iter()
            .zip(&targets)
            .map(|(&from, &(to, _))| middle(from, to, ancestral))
            .collect();
        let log_sigmas = training_log_sigmas(config);
        // The timestep of each step's middle comes before that of the next step's beginning.
        let mut asked = vec![timesteps[0] as f32];
        for (&next, &middle) in timesteps[1..].iter().zip(&middles) {
            asked.push(timestep_of(middle, &log_sigmas));
            asked.push(next as f32);
        }
        let mut sigmas = doubled(&levels);
        sigmas.push(levels[levels.len() - 1]);
        Self {
            timesteps: asked,
            init_noise_sigma: init_noise_sigma(config.timestep_spacing, &sigmas),
            sigmas,
            middles,
            targets,
            ancestral,
            prediction_type: config.prediction_type,
            start: None,
            original: Vec::new(),
        }
    }
}

/// σ half way between two in log σ. diffusers interpolates the ancestral one from the beginning of
/// the step, the other from its end.
fn middle(from: f32, to: f32, ancestral: bool) -> f32 {
    if to == 0.0 {
        return 0.0;
    }
    let (from, to) = (ln(from), ln(to));
    // torch.lerp at ½.
    let (a, b) = if ancestral { (from, to) } else { (to, from) };
    exp(b - (b - a) * (1.0 - 0.5))
}

/// The fractional training step at which σ is reached, in f32: diffusers looks up these, and only
/// these, as tensors.
fn timestep_of(sigma: f32, log_sigmas: &[f32]) -> f32 {
    let log_sigma = numpy_ln(sigma.max(1e-10));
    let below = log_sigmas
        .iter()
        .rposition(|&known| log_sigma - known >= 0.0)
        .unwrap_or(0)
        .min(log_sigmas.len() - 2);
    let (low, high) = (log_sigmas[below], log_sigmas[below + 1]);
    let weight = ((low - log_sigma) / (low - high)).clamp(0.0, 1.0);
    (1.0 - weight) * below as f32 + weight * (below + 1) as f32
}

impl Scheduler for Kdpm2Discrete {
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
        let sigma = match self.start {
            None => self.sigmas[index],
            Some(_) => self.middles[(index - 1) / 2],
        };
        scale_by_spread(sigma, sample);
    }

    fn step(
        &mut self,
        index: usize,
        model_output: &[f32],
        sample: &mut [f32],
        generator: &mut TorchGenerator,
    ) {
        let start = self.start.take();
        let second = start.is_some();
        let begun = if second { index - 1 } else { index };
        let sigma = self.sigmas[begun];
        // Pipelines begin with a first half, at an even index.
        let step = begun.div_ceil(2).min(self.targets.len() - 1);
        let middle = self.middles[step];
        let (target, sigma_up) = self.targets[step];
        let at = if second { middle } else { sigma };
        let dt = if second { target } else { middle } - sigma;
        self.original.clear();
        let before = sample.to_vec();
        for (i, x) in sample.iter_mut().enumerate() {
            let original = self
                .prediction_type
                .original_at_sigma(at, *x, model_output[i]);
            self.original.push(original);
            let derivative = (*x - original) / at;
            let from = start.as_ref().map_or(*x, |start| start[i]);
            *x = from + derivative * dt;
        }
        if !second {
            self.start = Some(before);
        } else if self.ancestral {
            for (x, noise) in sample.iter_mut().zip(generator.randn(model_output.len())) {
                *x += noise * sigma_up;
            }
        }
    }

    fn predicted_original(&self) -> Option<&[f32]> {
        (!self.original.is_empty()).then_some(&self.original)
    }
}
