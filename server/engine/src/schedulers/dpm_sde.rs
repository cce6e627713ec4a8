//! `DPMSolverSDEScheduler`, which A1111 calls "DPM++ SDE": DPM-Solver++ with a midpoint
//! (arXiv:2211.01095) and noise from one Brownian path per image, after diffusers.
//!
//! diffusers draws the path's seed at random unless it is told one (`noise_sampler_seed`). Here it
//! is the seed of the image.

use super::brownian::BrownianTree;
use super::config::{PredictionType, SchedulerConfig};
use super::euler::{init_noise_sigma, scale_by_spread};
use super::heun::doubled;
use super::sigmas::{euler_levels, sigma_to_timestep};
use super::solver::{exp, exp_m1, ln};
use super::training::training_log_sigmas;
use super::{Scheduler, mix};
use crate::rng::TorchGenerator;

/// Half a step to the middle in log σ, then a whole one with the prediction made there.
pub struct DpmSolverSde {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    prediction_type: PredictionType,
    init_noise_sigma: f32,
    path: Option<BrownianTree>,
    /// Between the halves: the sample where the step began, and σ in the middle.
    half: Option<(Vec<f32>, f32)>,
    original: Vec<f32>,
}

impl DpmSolverSde {
    /// Sets out the steps of one generation: 2 n − 1 timesteps.
    pub fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Self {
        let (timesteps, levels) = euler_levels(config, num_inference_steps);
        let log_sigmas = training_log_sigmas(config);
        let mut asked = vec![timesteps[0] as f32];
        for (pair, &next) in levels.windows(2).zip(&timesteps[1..]) {
            let (from, to) = (-pair[0].ln(), -pair[1].ln());
            let middle = (-(from + (to - from) * 0.5)).exp();
            asked.push(sigma_to_timestep(middle, &log_sigmas) as f32);
            asked.push(next as f32);
        }
        let levels: Vec<f32> = levels.into_iter().map(|sigma| sigma as f32).collect();
        let mut sigmas = doubled(&levels);
        sigmas.push(0.0);
        Self {
            timesteps: asked,
            init_noise_sigma: init_noise_sigma(config.timestep_spacing, &sigmas),
            sigmas,
            prediction_type: config.prediction_type,
            path: None,
            half: None,
            original: Vec::new(),
        }
    }

    /// Noise of spread 1 from the path between two levels.
    fn noise(&mut self, from: f32, to: f32, size: usize, seed: u64) -> Vec<f32> {
        let sigmas = &self.sigmas;
        let path = self.path.get_or_insert_with(|| {
            let positive = sigmas.iter().copied().filter(|&sigma| sigma > 0.0);
            let lowest = positive.fold(f32::INFINITY, f32::min);
            let highest = sigmas.iter().copied().fold(0.0, f32::max);
            BrownianTree::new(f64::from(lowest), f64::from(highest), size, seed)
        });
        let spread = (to - from).abs().sqrt();
        path.increment(f64::from(to), f64::from(from))
            .into_iter()
            // The path is walked from its end to its start.
            .map(|increment| -increment / spread)
            .collect()
    }
}

impl Scheduler for DpmSolverSde {
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
        let sigma = match &self.half {
            None => self.sigmas[index],
            Some((_, middle)) => *middle,
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
        let half = self.half.take();
        let begun = if half.is_some() { index - 1 } else { index };
        let (sigma, next) = (self.sigmas[begun], self.sigmas[begun + 1]);
        // Time is −log σ.
        let time = -ln(sigma);
        let middle = time + (-ln(next) - time) * 0.5;
        // 1. The clean sample that the output implies.
        let at = if half.is_some() { exp(-middle) } else { sigma };
        self.original.clear();
        self.original.extend(
            sample
                .iter()
                .zip(model_output)
                .map(|(&x, &output)| self.prediction_type.original_at_sigma(at, x, output)),
        );
        // 2. The last step: straight to the clean sample.
        if next == 0.0 {
            for (x, original) in sample.iter_mut().zip(&self.original) {
                *x += (*x - original) / sigma * (next - sigma);
            }
            return;
        }
        // 3. Down to less noise than there should be, and fresh noise back up.
        let end = if half.is_some() { -ln(next) } else { middle };
        let (from, to) = (exp(-time), exp(-end));
        let up = (to * to * (from * from - to * to) / (from * from)).sqrt();
        let up = if up < to { up } else { to };
        let down = (to * to - up * up).sqrt();
        let ancestral = -ln(down);
        let keep = exp(-ancestral) / from;
        let gain = exp_m1(time - ancestral);
        let noise = self.noise(from, to, sample.len(), generator.initial_seed());
        let start = half
            .as_ref()
            .map_or_else(|| sample.to_vec(), |(start, _)| start.clone());
        for (i, x) in sample.iter_mut().enumerate() {
            *x = keep * start[i] - gain * self.original[i] + noise[i] * up;
        }
        if half.is_none() {
            self.half = Some((start, to));
        }
    }

    fn predicted_original(&self) -> Option<&[f32]> {
        (!self.original.is_empty()).then_some(&self.original)
    }
}
