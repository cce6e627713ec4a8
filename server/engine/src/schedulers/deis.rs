//! `DEISMultistepScheduler`: exponential integration with the noise interpolated in log ρ
//! (arXiv:2204.13902), after diffusers.

use super::config::{Algorithm, SchedulerConfig, SolverType};
use super::sigmas::NoiseSchedule;
use super::solver::{History, Level, Weights, ln, multistep_order};
use super::{Scheduler, mix};
use crate::rng::TorchGenerator;

/// Steps from the last predictions of the noise.
pub struct DeisMultistep {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    config: SchedulerConfig,
    history: History,
}

impl DeisMultistep {
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

/// ∫ of the line that is 1 at log `b` and 0 at log `c`, at `t`.
fn line(t: f32, b: f32, c: f32) -> f32 {
    let (b, c) = (ln(b), ln(c));
    t * (-c + ln(t) - 1.0) / (b - c)
}

/// ∫ of the parabola that is 1 at log `b` and 0 at log `c` and log `d`, at `t`.
fn parabola(t: f32, b: f32, c: f32, d: f32) -> f32 {
    let (log, b, c, d) = (ln(t), ln(b), ln(c), ln(d));
    let numerator = t * (c * (d - log + 1.0) - d * log + d + log * log - 2.0 * log + 2.0);
    numerator / ((b - c) * (b - d))
}

impl Scheduler for DeisMultistep {
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
        _generator: &mut TorchGenerator,
    ) {
        let level = |index: usize| Level::new(self.sigmas[index]);
        let (from, to) = (level(index), level(index + 1));
        // 1. The clean sample, and from it the noise: in two steps, as diffusers rounds them.
        let original: Vec<f32> = sample
            .iter()
            .zip(model_output)
            .map(|(&x, &output)| from.original(self.config.prediction_type, x, output))
            .collect();
        let noise = sample
            .iter()
            .zip(&original)
            .map(|(x, original)| (x - from.alpha * original) / from.sigma)
            .collect();
        self.history.push(noise, original);
        // 2. The integral over the step.
        let order = multistep_order(
            &self.config,
            index,
            self.timesteps.len(),
            self.history.len(),
            false,
        );
        let rho = |level: Level| level.sigma / level.alpha;
        let (t, s0) = (rho(to), rho(from));
        let m0 = self.history.back(0);
        match order {
            1 => {
                let midpoint = SolverType::Midpoint;
                let weights = Weights::of_step(Algorithm::DpmSolver, midpoint, from, to);
                for (x, m0) in sample.iter_mut().zip(m0) {
                    *x = weights.keep * *x + weights.zeroth * m0;
                }
            }
            2 => {
                let s1 = rho(level(index - 1));
                let (c0, c1) = (
                    line(t, s0, s1) - line(s0, s0, s1),
                    line(t, s1, s0) - line(s0, s1, s0),
                );
                let m1 = self.history.back(1);
                for ((x, m0), m1) in sample.iter_mut().zip(m0).zip(m1) {
                    *x = to.alpha * (*x / from.alpha + c0 * m0 + c1 * m1);
                }
            }
            _ => {
                let (s1, s2) = (rho(level(index - 1)), rho(level(index - 2)));
                let weight = |b, c, d| parabola(t, b, c, d) - parabola(s0, b, c, d);
                let (c0, c1, c2) = (weight(s0, s1, s2), weight(s1, s2, s0), weight(s2, s0, s1));
                let (m1, m2) = (self.history.back(1), self.history.back(2));
                for (at, x) in sample.iter_mut().enumerate() {
                    let moved = *x / from.alpha + c0 * m0[at] + c1 * m1[at] + c2 * m2[at];
                    *x = to.alpha * moved;
                }
            }
        }
    }

    fn predicted_original(&self) -> Option<&[f32]> {
        self.history.original()
    }
}
