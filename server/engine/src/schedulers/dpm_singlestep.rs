//! `DPMSolverSinglestepScheduler`: DPM-Solver and DPM-Solver++ in groups of one to three steps,
//! each group from where it began (arXiv:2206.00927, arXiv:2211.01095), after diffusers.

use super::config::{FinalSigma, SchedulerConfig, SolverType};
use super::sigmas::NoiseSchedule;
use super::solver::{History, Level, Weights};
use super::{Scheduler, mix};
use crate::rng::TorchGenerator;

/// Steps of growing order, starting anew every `solver_order` steps.
pub struct DpmSolverSinglestep {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    config: SchedulerConfig,
    orders: Vec<usize>,
    history: History,
    /// The sample where the group began.
    start: Vec<f32>,
}

impl DpmSolverSinglestep {
    /// Sets out the steps of one generation.
    pub fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Self {
        let NoiseSchedule { timesteps, sigmas } =
            NoiseSchedule::for_dpm_solver(config, num_inference_steps);
        Self {
            timesteps,
            sigmas,
            config: config.clone(),
            orders: orders(config, num_inference_steps),
            history: History::new(config.solver_order),
            start: Vec::new(),
        }
    }
}

/// The order of each step: 1, 2, …, and so on, with a lower end where the count does not divide.
fn orders(config: &SchedulerConfig, steps: usize) -> Vec<usize> {
    let order = config.solver_order;
    let ends_clean = config.final_sigma == FinalSigma::Zero;
    let mut orders: Vec<usize> = (0..steps).map(|step| step % order + 1).collect();
    if config.lower_order_final || !steps.is_multiple_of(order) || ends_clean {
        match (order, steps % order) {
            (2 | 3, 0) if steps > 0 => orders[steps - 1] = 1,
            _ => {}
        }
    }
    if ends_clean && let Some(last) = orders.last_mut() {
        *last = 1;
    }
    orders
}

impl Scheduler for DpmSolverSinglestep {
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
        // 1. The clean sample or the noise that the output implies.
        self.history.convert(
            &level(index),
            config.prediction_type,
            config.algorithm.predicts_sample(),
            sample,
            model_output,
        );
        let noise = config
            .algorithm
            .is_sde()
            .then(|| generator.randn(sample.len()));
        // 2. A step of first order begins a group; a start in the middle of one does, too.
        let order = self.orders[index].min(self.history.len());
        if order == 1 {
            self.start = sample.to_vec();
        }
        // 3. The integral from the group's beginning to the end of this step.
        let (from, to) = (level(index + 1 - order), level(index + 1));
        let weights = Weights::of_step(config.algorithm, config.solver_type, from, to);
        let h = to.lambda - from.lambda;
        let ratio = |later: Level| (later.lambda - from.lambda) / h;
        let m0 = self.history.back(0);
        match order {
            1 => {
                for ((x, start), m0) in sample.iter_mut().zip(&self.start).zip(m0) {
                    *x = weights.keep * start + weights.zeroth * m0;
                }
            }
            2 => {
                let r0 = ratio(level(index));
                let m1 = self.history.back(1);
                for (at, x) in sample.iter_mut().enumerate() {
                    let d1 = 1.0 / r0 * (m0[at] - m1[at]);
                    *x = weights.keep * self.start[at]
                        + weights.zeroth * m1[at]
                        + weights.first * d1;
                }
            }
            _ => {
                let (r0, r1) = (ratio(level(index)), ratio(level(index - 1)));
                let (m1, m2) = (self.history.back(1), self.history.back(2));
                let heun = config.solver_type == SolverType::Heun;
                for (at, x) in sample.iter_mut().enumerate() {
                    let near = 1.0 / r1 * (m1[at] - m2[at]);
                    let far = 1.0 / r0 * (m0[at] - m2[at]);
                    *x = weights.keep * self.start[at] + weights.zeroth * m2[at];
                    if heun {
                        let d1 = (r0 * near - r1 * far) / (r0 - r1);
                        let d2 = 2.0 * (far - near) / (r0 - r1);
                        *x = *x + weights.first_of_three * d1 + weights.second * d2;
                    } else {
                        *x += weights.first_of_three * far;
                    }
                }
            }
        }
        // 4. Fresh noise.
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::orders;
    use crate::config::Config;
    use crate::schedulers::{SchedulerConfig, SchedulerKind};

    #[test]
    fn orders_are_those_of_diffusers() {
        let read = |text: &str| {
            let config = Config::parse(Path::new("c"), text).expect("JSON");
            SchedulerConfig::read_as(&config, SchedulerKind::DpmSolverSinglestep).expect("valid")
        };
        let third = read(r#"{"solver_order": 3}"#);
        assert_eq!(orders(&third, 6), [1, 2, 3, 1, 2, 1]);
        assert_eq!(orders(&third, 7), [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(orders(&third, 8), [1, 2, 3, 1, 2, 3, 1, 1]);
        assert_eq!(orders(&third, 1), [1]);
        let second = read(r#"{"final_sigmas_type": "sigma_min"}"#);
        assert_eq!(orders(&second, 4), [1, 2, 1, 2]);
        assert_eq!(orders(&second, 5), [1, 2, 1, 2, 1]);
        let lower = read(r#"{"final_sigmas_type": "sigma_min", "lower_order_final": true}"#);
        assert_eq!(orders(&lower, 4), [1, 2, 1, 1]);
    }
}
