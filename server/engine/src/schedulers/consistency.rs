//! `LCMScheduler` (arXiv:2310.04378) and `TCDScheduler` (arXiv:2402.19159): jumps to a clean sample,
//! or nearly, and fresh noise back to the next level, after diffusers.

use super::config::{PredictionType, SchedulerConfig};
use super::kind::SchedulerKind;
use super::training::alphas_cumprod;
use super::{Scheduler, mix};
use crate::EngineError;
use crate::rng::TorchGenerator;

/// Spread of the data in LCM's boundary condition.
const SIGMA_DATA: f32 = 0.5;
/// TCD's γ, which diffusers calls η: the share of a jump that is noised again.
const GAMMA: f32 = 0.3;

/// Few long steps over the schedule that the model was distilled with.
pub struct Consistency {
    timesteps: Vec<f32>,
    jumps: Vec<Jump>,
    prediction_type: PredictionType,
    clip_sample_range: Option<f32>,
    original: Vec<f32>,
}

/// ᾱ and weights of one step.
struct Jump {
    /// At the step.
    alpha: f32,
    /// Where the step ends.
    next: f32,
    kind: JumpKind,
    /// Whether fresh noise leads back up.
    noisy: bool,
}

enum JumpKind {
    /// How much of the sample and of the clean sample make up LCM's answer.
    Lcm { skip: f32, out: f32 },
    /// ᾱ that TCD jumps to.
    Tcd { target: f32 },
}

impl Consistency {
    /// Sets out the steps of one generation.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] for more steps than the model was distilled with.
    pub fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Self, EngineError> {
        let settings = config.consistency;
        let original_steps = settings.original_inference_steps;
        if num_inference_steps > original_steps {
            return Err(EngineError::invalid(
                "num_inference_steps",
                format!(
                    "is {num_inference_steps}, but {} takes at most {original_steps} steps with this model (4 to 8 are usual)",
                    config.kind.name()
                ),
            ));
        }
        let stride = config.num_train_timesteps / original_steps;
        // From the noisiest on: as many as asked for, evenly spread.
        let spread = original_steps as f64 / num_inference_steps as f64;
        let timesteps: Vec<usize> = match settings.single_step_from {
            Some(only) if num_inference_steps == 1 => {
                vec![only.min(config.num_train_timesteps - 1)]
            }
            _ => (0..num_inference_steps)
                .map(|i| {
                    let place = (i as f64 * spread).floor() as usize;
                    (original_steps - place) * stride - 1
                })
                .collect(),
        };
        let cumprod = alphas_cumprod(config);
        let count = timesteps.len();
        let jumps = timesteps
            .iter()
            .enumerate()
            .map(|(i, &t)| {
                let next = timesteps.get(i + 1).copied();
                let kind = if config.kind == SchedulerKind::Tcd {
                    let target = ((1.0 - GAMMA) * next.unwrap_or(0) as f32).floor() as usize;
                    JumpKind::Tcd {
                        target: cumprod[target],
                    }
                } else {
                    let scaled = t as f32 * settings.timestep_scaling as f32;
                    let variance = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
                    JumpKind::Lcm {
                        skip: SIGMA_DATA * SIGMA_DATA / variance,
                        out: scaled / variance.sqrt(),
                    }
                };
                Jump {
                    alpha: cumprod[t],
                    next: cumprod[next.unwrap_or(0)],
                    kind,
                    noisy: i + 1 < count,
                }
            })
            .collect();
        Ok(Self {
            timesteps: timesteps.into_iter().map(|t| t as f32).collect(),
            jumps,
            prediction_type: config.prediction_type,
            clip_sample_range: config.clip_sample_range,
            original: Vec::new(),
        })
    }
}

impl Scheduler for Consistency {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn add_noise(&self, index: usize, original: &[f32], noise: &[f32]) -> Vec<f32> {
        let alpha = self.jumps[index].alpha;
        mix(alpha.sqrt(), original, (1.0 - alpha).sqrt(), noise)
    }

    fn step(
        &mut self,
        index: usize,
        model_output: &[f32],
        sample: &mut [f32],
        generator: &mut TorchGenerator,
    ) {
        let jump = &self.jumps[index];
        let (signal, sigma) = (jump.alpha.sqrt(), (1.0 - jump.alpha).sqrt());
        let prediction = self.prediction_type;
        self.original.clear();
        for (x, &output) in sample.iter_mut().zip(model_output) {
            let mut original = prediction.original(signal, sigma, *x, output);
            if let Some(range) = self.clip_sample_range {
                original = original.clamp(-range, range);
            }
            self.original.push(original);
            *x = match jump.kind {
                JumpKind::Lcm { skip, out } => out * original + skip * *x,
                JumpKind::Tcd { target } => {
                    let epsilon = prediction.noise(signal, sigma, *x, output);
                    target.sqrt() * original + (1.0 - target).sqrt() * epsilon
                }
            };
        }
        if jump.noisy {
            // From where the jump ended (clean, for LCM) back up to the next step's level.
            let reached = match jump.kind {
                JumpKind::Lcm { .. } => 1.0,
                JumpKind::Tcd { target } => target,
            };
            let ratio = jump.next / reached;
            let noise = generator.randn(model_output.len());
            for (x, noise) in sample.iter_mut().zip(noise) {
                *x = ratio.sqrt() * *x + (1.0 - ratio).sqrt() * noise;
            }
        }
    }

    fn predicted_original(&self) -> Option<&[f32]> {
        (!self.original.is_empty()).then_some(&self.original)
    }
}
