//! `DPMSolverMultistepScheduler`: DPM-Solver and DPM-Solver++ of first to third order
//! (arXiv:2206.00927, arXiv:2211.01095), with or without fresh noise, after diffusers.

use super::config::{FinalSigma, SchedulerConfig};
use super::sigmas::NoiseSchedule;
use super::solver::{History, Level, Weights, multistep_order};
use super::{Scheduler, mix};
use crate::rng::TorchGenerator;

/// Steps from the last predictions.
pub struct DpmSolverMultistep {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    config: SchedulerConfig,
    history: History,
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
            history: History::new(config.solver_order),
        }
    }
}

impl Scheduler for DpmSolverMultistep {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    fn add_noise(&self, index: usize, original: &[f32], noise: &[f32]) -> Vec<f32> {
        let level = Level::new(self.sigmas[index]);
        mix(level.alpha, original, level.sigma, noise)
    }

    fn step(
        &mut self,
        index: usize,
        model_output: &[f32],
        sample: &mut [f32],
        generator: &mut TorchGenerator,
    ) {
        let config = &self.config;
        let level = |index: usize| Level::new(self.sigmas[index]);
        let (from, to) = (level(index), level(index + 1));
        // 1. The clean sample or the noise that the output implies.
        self.history.convert(
            &from,
            config.prediction_type,
            config.algorithm.predicts_sample(),
            sample,
            model_output,
        );
        let noise = config
            .algorithm
            .is_sde()
            .then(|| generator.randn(sample.len()));
        // 2. The integral over the step: by one prediction, a line through two, a parabola
        //    through three.
        let ends_with_first_order = config.euler_at_final || config.final_sigma == FinalSigma::Zero;
        let order = multistep_order(
            config,
            index,
            self.timesteps.len(),
            self.history.len(),
            ends_with_first_order,
        );
        let weights = Weights::of_step(config.algorithm, config.solver_type, from, to);
        let h = to.lambda - from.lambda;
        let ratio = |newer: Level, older: Level| (newer.lambda - older.lambda) / h;
        let m0 = self.history.back(0);
        match order {
            1 => {
                for (x, m0) in sample.iter_mut().zip(m0) {
                    *x = weights.keep * *x + weights.zeroth * m0;
                }
            }
            2 => {
                let r0 = ratio(from, level(index - 1));
                let m1 = self.history.back(1);
                for ((x, m0), m1) in sample.iter_mut().zip(m0).zip(m1) {
                    let d1 = 1.0 / r0 * (m0 - m1);
                    *x = weights.keep * *x + weights.zeroth * m0 + weights.first * d1;
                }
            }
            _ => {
                let (s1, s2) = (level(index - 1), level(index - 2));
                let (r0, r1) = (ratio(from, s1), ratio(s1, s2));
                let (m1, m2) = (self.history.back(1), self.history.back(2));
                for (at, x) in sample.iter_mut().enumerate() {
                    let newer = 1.0 / r0 * (m0[at] - m1[at]);
                    let older = 1.0 / r1 * (m1[at] - m2[at]);
                    let d1 = newer + r0 / (r0 + r1) * (newer - older);
                    let d2 = 1.0 / (r0 + r1) * (newer - older);
                    *x = weights.keep * *x
                        + weights.zeroth * m0[at]
                        + weights.first_of_three * d1
                        + weights.second * d2;
                }
            }
        }
        // 3. Fresh noise.
        if let Some(noise) = noise {
            for (x, noise) in sample.iter_mut().zip(noise) {
                *x += weights.noise * noise;
            }
        }
    }

    fn predicted_original(&self) -> Option<&[f32]> {
        self.history.original()
    }
}
