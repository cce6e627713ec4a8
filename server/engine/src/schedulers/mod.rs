//! Schedulers: at which noise levels the UNet is asked, and how its answers move the sample.
//!
//! [`SchedulerConfig`] reads `scheduler_config.json`; [`SchedulerConfig::schedule`] makes the
//! [`Scheduler`] of one generation. Numbers are computed in the precision that diffusers computes
//! them in, f32 or f64 step by step.

mod beta;
mod brownian;
mod config;
mod consistency;
mod ddim;
mod ddpm;
mod deis;
mod dpm2;
mod dpm_sde;
mod dpm_singlestep;
mod dpm_solver;
mod euler;
mod few_step;
mod heun;
mod kind;
mod lms;
mod names;
mod pndm;
mod prediction;
mod read;
mod sigmas;
mod solver;
mod training;
mod unipc;

use crate::EngineError;
use crate::rng::TorchGenerator;

pub use beta::beta_quantile;
pub use brownian::BrownianTree;
pub use config::{
    Algorithm, BetaSchedule, ConsistencySettings, EdmSettings, FinalSigma, Interpolation,
    PredictionType, SchedulerConfig, SigmaSpacing, SolverType, TimestepSpacing, UniPcSettings,
    Variance,
};
pub use consistency::Consistency;
pub use ddim::Ddim;
pub use ddpm::Ddpm;
pub use deis::DeisMultistep;
pub use dpm_sde::DpmSolverSde;
pub use dpm_singlestep::DpmSolverSinglestep;
pub use dpm_solver::DpmSolverMultistep;
pub use dpm2::Kdpm2Discrete;
pub use euler::{EdmEuler, EulerDiscrete};
pub use few_step::{Defaults, few_step_defaults};
pub use heun::HeunDiscrete;
pub use kind::SchedulerKind;
pub use lms::LmsDiscrete;
pub use names::{NamedScheduler, names, samplers};
pub use pndm::Pndm;
pub use sigmas::NoiseSchedule;
pub use training::{alphas_cumprod, training_sigmas};
pub use unipc::UniPcMultistep;

/// One generation's way from noise to image.
pub trait Scheduler: Send {
    /// The timesteps that the UNet is asked at, from noisy to clean; they may be fractional.
    fn timesteps(&self) -> &[f32];

    /// σ at each timestep and where the last step ends, as diffusers' scheduler of the same name
    /// lists them; empty for schedulers that go by ᾱ.
    fn sigmas(&self) -> &[f32] {
        &[]
    }

    /// What the initial noise is multiplied by: 1 where the sample keeps its variance over the
    /// steps; more where it is kept unscaled, as Euler's method does.
    fn init_noise_sigma(&self) -> f32 {
        1.0
    }

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

    /// Scales the sample for the UNet at step `index`; nothing where it keeps its variance.
    fn scale_model_input(&self, _index: usize, _sample: &mut [f32]) {}

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

impl SchedulerConfig {
    /// Sets out the steps of one generation.
    ///
    /// # Errors
    /// If the config and the number of steps do not go together.
    pub fn schedule(&self, num_inference_steps: usize) -> Result<Box<dyn Scheduler>, EngineError> {
        let steps = num_inference_steps;
        Ok(match self.kind {
            SchedulerKind::EulerDiscrete | SchedulerKind::EulerAncestralDiscrete => {
                Box::new(EulerDiscrete::new(self, steps))
            }
            SchedulerKind::HeunDiscrete => Box::new(HeunDiscrete::new(self, steps)),
            SchedulerKind::Kdpm2Discrete | SchedulerKind::Kdpm2AncestralDiscrete => {
                Box::new(Kdpm2Discrete::new(self, steps))
            }
            SchedulerKind::LmsDiscrete => Box::new(LmsDiscrete::new(self, steps)),
            SchedulerKind::Ddim => Box::new(Ddim::new(self, steps)?),
            SchedulerKind::Ddpm => Box::new(Ddpm::new(self, steps)?),
            SchedulerKind::Pndm => Box::new(Pndm::new(self, steps)?),
            SchedulerKind::DpmSolverMultistep => Box::new(DpmSolverMultistep::new(self, steps)),
            SchedulerKind::DpmSolverSinglestep => Box::new(DpmSolverSinglestep::new(self, steps)),
            SchedulerKind::DpmSolverSde => Box::new(DpmSolverSde::new(self, steps)),
            SchedulerKind::DeisMultistep => Box::new(DeisMultistep::new(self, steps)),
            SchedulerKind::UniPcMultistep => Box::new(UniPcMultistep::new(self, steps)),
            SchedulerKind::Lcm | SchedulerKind::Tcd => Box::new(Consistency::new(self, steps)?),
            SchedulerKind::EdmEuler => Box::new(EdmEuler::new(self, steps)),
        })
    }
}
