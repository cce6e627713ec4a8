//! Schedulers: at which noise levels the UNet is asked, and how its answers move the sample.
//!
//! [`SchedulerConfig`] reads `scheduler_config.json`; [`SchedulerConfig::schedule`] makes the
//! [`Scheduler`] of one generation. Numbers are computed in the precision that diffusers computes
//! them in, f32 or f64 step by step.

mod beta;
mod config;
mod ddim;
mod dpm_solver;
mod euler;
mod sigmas;

use crate::EngineError;
use crate::rng::TorchGenerator;

pub use beta::beta_quantile;
pub use config::{
    BetaSchedule, FinalSigma, Interpolation, PredictionType, SchedulerConfig, SchedulerKind,
    SigmaSpacing, SolverType, TimestepSpacing,
};
pub use ddim::Ddim;
pub use dpm_solver::DpmSolverMultistep;
pub use euler::EulerDiscrete;
pub use sigmas::{NoiseSchedule, alphas_cumprod, training_sigmas};

/// One generation's way from noise to image.
pub trait Scheduler: Send {
    /// The timesteps that the UNet is asked at, from noisy to clean; they may be fractional.
    fn timesteps(&self) -> &[f32];

    /// What the initial noise is multiplied by.
    fn init_noise_sigma(&self) -> f32;

    /// UNet forwards per step that a person asks for: 2 for second-order schedulers (Heun and its
    /// like), whose [`Scheduler::timesteps`] then has about twice as many entries as steps.
    fn order(&self) -> usize {
        1
    }

    /// Tells that the first step will be `index`, not 0, as image-to-image and the refiner start
    /// in the middle. Called before the first step.
    fn set_begin_index(&mut self, _index: usize) {}

    /// `original` with as much `noise` as step `index` expects: diffusers' `add_noise` at
    /// `timesteps()[index]`.
    fn add_noise(&self, index: usize, original: &[f32], noise: &[f32]) -> Vec<f32>;

    /// Scales the sample for the UNet at step `index`.
    fn scale_model_input(&self, index: usize, sample: &mut [f32]);

    /// Moves `sample` by the UNet's output at step `index`. Steps are taken in order; noise that a
    /// step adds comes from `generator`, which drew the initial noise.
    fn step(
        &mut self,
        index: usize,
        model_output: &[f32],
        sample: &mut [f32],
        generator: &mut TorchGenerator,
    );

    /// The clean sample that the last step's output implied: what a preview shows.
    fn predicted_original(&self) -> Option<&[f32]>;
}

/// `signal` · original + `sigma` · noise, each element on its own.
fn mix(signal: f32, original: &[f32], sigma: f32, noise: &[f32]) -> Vec<f32> {
    original
        .iter()
        .zip(noise)
        .map(|(x, noise)| signal * x + sigma * noise)
        .collect()
}

/// Names of all schedulers, as a request may give them.
pub fn names() -> Vec<String> {
    SchedulerKind::ALL
        .iter()
        .map(|kind| kind.name().to_string())
        .collect()
}

impl SchedulerConfig {
    /// Sets out the steps of one generation.
    ///
    /// # Errors
    /// If the config and the number of steps do not go together.
    pub fn schedule(&self, num_inference_steps: usize) -> Result<Box<dyn Scheduler>, EngineError> {
        Ok(match self.kind {
            SchedulerKind::EulerDiscrete | SchedulerKind::EulerAncestralDiscrete => {
                Box::new(EulerDiscrete::new(self, num_inference_steps))
            }
            SchedulerKind::Ddim => Box::new(Ddim::new(self, num_inference_steps)?),
            SchedulerKind::DpmSolverMultistep => {
                Box::new(DpmSolverMultistep::new(self, num_inference_steps))
            }
        })
    }
}
