//! `PNDMScheduler` (arXiv:2202.09778), which A1111 calls "PLMS" without its Runge-Kutta steps, after
//! diffusers.

use super::config::{PredictionType, SchedulerConfig};
use super::ddim::checked_timesteps;
use super::training::alphas_cumprod;
use super::{Scheduler, mix};
use crate::EngineError;
use crate::rng::TorchGenerator;

/// Steps of the Runge-Kutta start.
const PNDM_ORDER: usize = 4;

/// Runge-Kutta steps, if asked for, then a linear multistep of the predicted noise.
pub struct Pndm {
    timesteps: Vec<f32>,
    asked: Vec<i64>,
    cumprod: Vec<f32>,
    final_alpha: f32,
    velocity: bool,
    /// Training steps between two steps.
    stride: i64,
    /// How many of the first timesteps are Runge-Kutta's.
    runge_kutta: usize,
    /// Calls of `step`: what diffusers goes by, not the index.
    counter: usize,
    outputs: Vec<Vec<f32>>,
    /// Sum of a Runge-Kutta step's outputs so far.
    sum: Vec<f32>,
    start: Option<Vec<f32>>,
    original: Vec<f32>,
}

impl Pndm {
    /// Sets out the steps of one generation: one timestep more than asked for, or nine more with
    /// Runge-Kutta.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] for more steps than there are training timesteps, or too few
    /// for a Runge-Kutta start.
    pub fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Result<Self, EngineError> {
        let steps = num_inference_steps;
        let descending: Vec<i64> = checked_timesteps(config, steps)?
            .into_iter()
            .map(|t| t as i64)
            .collect();
        let train = config.num_train_timesteps;
        let stride = (train / steps) as i64;
        let mut asked: Vec<i64> = Vec::new();
        let mut runge_kutta = 0;
        if config.skip_prk_steps {
            // The second timestep comes twice.
            let twice = descending.get(1).copied();
            asked.extend(&descending[..1]);
            asked.extend(twice);
            asked.extend(&descending[1..]);
        } else {
            if descending.len() < PNDM_ORDER {
                return Err(EngineError::invalid(
                    "num_inference_steps",
                    format!("is {steps}; PNDM with Runge-Kutta steps takes at least {PNDM_ORDER}"),
                ));
            }
            // t, t + ½, and so on upwards, all but the first and the last twice.
            let upwards: Vec<i64> = descending[..PNDM_ORDER]
                .iter()
                .rev()
                .flat_map(|&t| [t, t + stride / 2])
                .collect();
            let twice: Vec<i64> = upwards[..upwards.len() - 1]
                .iter()
                .flat_map(|&t| [t, t])
                .collect();
            asked.extend(twice[1..twice.len() - 1].iter().rev());
            runge_kutta = asked.len();
            asked.extend(&descending[PNDM_ORDER - 1..]);
        }
        let cumprod = alphas_cumprod(config);
        if asked.iter().any(|&t| t < 0 || t as usize >= train) {
            return Err(EngineError::invalid(
                "num_inference_steps",
                format!("is {steps}, which puts timesteps of PNDM outside the {train} of training"),
            ));
        }
        Ok(Self {
            timesteps: asked.iter().map(|&t| t as f32).collect(),
            asked,
            final_alpha: if config.set_alpha_to_one {
                1.0
            } else {
                cumprod[0]
            },
            cumprod,
            velocity: config.prediction_type == PredictionType::VPrediction,
            stride,
            runge_kutta,
            counter: 0,
            outputs: Vec::new(),
            sum: Vec::new(),
            start: None,
            original: Vec::new(),
        })
    }

    /// ᾱ at a timestep, which may lie beyond either end.
    fn alpha(&self, timestep: i64) -> f32 {
        match usize::try_from(timestep) {
            Ok(at) => self.cumprod[at.min(self.cumprod.len() - 1)],
            Err(_) => self.final_alpha,
        }
    }

    /// Formula (9) of the paper, from one timestep to another.
    fn transfer(&mut self, from: i64, to: i64, start: &[f32], output: &[f32], sample: &mut [f32]) {
        let (alpha, previous) = (self.alpha(from), self.alpha(to));
        let (beta, beta_previous) = (1.0 - alpha, 1.0 - previous);
        let keep = (previous / alpha).sqrt();
        let denominator = alpha * beta_previous.sqrt() + (alpha * beta * previous).sqrt();
        self.original.clear();
        for (i, x) in sample.iter_mut().enumerate() {
            let epsilon = if self.velocity {
                alpha.sqrt() * output[i] + beta.sqrt() * start[i]
            } else {
                output[i]
            };
            self.original
                .push((start[i] - beta.sqrt() * epsilon) / alpha.sqrt());
            *x = keep * start[i] - (previous - alpha) * epsilon / denominator;
        }
    }

    fn runge_kutta_step(&mut self, index: usize, output: &[f32], sample: &mut [f32]) {
        let back = if self.counter.is_multiple_of(2) {
            self.stride / 2
        } else {
            0
        };
        let to = self.asked[index] - back;
        let from = self.asked[self.counter / 4 * 4];
        let phase = self.counter % 4;
        let mut used = output.to_vec();
        if phase == 0 {
            self.outputs.push(output.to_vec());
            self.start = Some(sample.to_vec());
        }
        self.sum.resize(output.len(), 0.0);
        let weight = if phase == 0 || phase == 3 {
            1.0 / 6.0
        } else {
            1.0 / 3.0
        };
        for (sum, output) in self.sum.iter_mut().zip(output) {
            *sum += weight * output;
        }
        if phase == 3 {
            used = std::mem::take(&mut self.sum);
        }
        let start = self.start.clone().unwrap_or_else(|| sample.to_vec());
        self.transfer(from, to, &start, &used, sample);
    }

    fn multistep_step(&mut self, index: usize, output: &[f32], sample: &mut [f32]) {
        let timestep = self.asked[index];
        let (mut from, mut to) = (timestep, timestep - self.stride);
        if self.counter == 1 {
            (from, to) = (timestep + self.stride, timestep);
        } else {
            let known = self.outputs.len();
            self.outputs.drain(..known.saturating_sub(3));
            self.outputs.push(output.to_vec());
        }
        let mut start = sample.to_vec();
        let back = |age: usize| &self.outputs[self.outputs.len() - 1 - age];
        let used: Vec<f32> = match self.outputs.len() {
            1 if self.counter == 0 => output.to_vec(),
            1 => output
                .iter()
                .zip(back(0))
                .map(|(output, before)| (output + before) / 2.0)
                .collect(),
            2 => combine(&[back(0), back(1)], &[3.0, -1.0], |sum| sum / 2.0),
            3 => combine(&[back(0), back(1), back(2)], &[23.0, -16.0, 5.0], |sum| {
                sum / 12.0
            }),
            _ => combine(
                &[back(0), back(1), back(2), back(3)],
                &[55.0, -59.0, 37.0, -9.0],
                |sum| 1.0 / 24.0 * sum,
            ),
        };
        if self.outputs.len() == 1 {
            if self.counter == 0 {
                self.start = Some(start.clone());
            } else if self.counter == 1
                && let Some(before) = self.start.take()
            {
                start = before;
            }
        }
        self.transfer(from, to, &start, &used, sample);
    }
}

/// A weighted sum of outputs, newest first.
fn combine(outputs: &[&Vec<f32>], weights: &[f32], scale: impl Fn(f32) -> f32) -> Vec<f32> {
    (0..outputs[0].len())
        .map(|i| {
            let terms = outputs.iter().zip(weights);
            scale(terms.map(|(output, weight)| weight * output[i]).sum())
        })
        .collect()
}

impl Scheduler for Pndm {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn add_noise(&self, index: usize, original: &[f32], noise: &[f32]) -> Vec<f32> {
        let alpha = self.alpha(self.asked[index]);
        mix(alpha.sqrt(), original, (1.0 - alpha).sqrt(), noise)
    }

    fn step(
        &mut self,
        index: usize,
        model_output: &[f32],
        sample: &mut [f32],
        _generator: &mut TorchGenerator,
    ) {
        if self.counter < self.runge_kutta {
            self.runge_kutta_step(index, model_output, sample);
        } else {
            self.multistep_step(index, model_output, sample);
        }
        self.counter += 1;
    }

    fn predicted_original(&self) -> Option<&[f32]> {
        (!self.original.is_empty()).then_some(&self.original)
    }
}
