//! `LMSDiscreteScheduler`: the derivatives of the last four steps, as a polynomial in σ that is
//! integrated over the next, after diffusers.

use super::config::{PredictionType, SchedulerConfig};
use super::euler::{init_noise_sigma, scale_by_spread};
use super::sigmas::NoiseSchedule;
use super::{Scheduler, mix};
use crate::rng::TorchGenerator;

/// Highest order.
const ORDER: usize = 4;
/// Three points of Gauss and Legendre: exact up to the fifth power.
const POINTS: [(f64, f64); 3] = [
    (-0.774_596_669_241_483_4, 5.0 / 9.0),
    (0.0, 8.0 / 9.0),
    (0.774_596_669_241_483_4, 5.0 / 9.0),
];

/// Adams and Bashforth's method in σ.
pub struct LmsDiscrete {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    prediction_type: PredictionType,
    init_noise_sigma: f32,
    /// Of the last steps, newest last.
    derivatives: Vec<Vec<f32>>,
    original: Vec<f32>,
}

impl LmsDiscrete {
    /// Sets out the steps of one generation.
    pub fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Self {
        let NoiseSchedule { timesteps, sigmas } =
            NoiseSchedule::for_euler(config, num_inference_steps);
        Self {
            timesteps,
            init_noise_sigma: init_noise_sigma(config.timestep_spacing, &sigmas),
            sigmas,
            prediction_type: config.prediction_type,
            derivatives: Vec::new(),
            original: Vec::new(),
        }
    }

    /// ∫ over step `index` of the polynomial that is 1 at the σ of `age` steps ago and 0 at those
    /// of the others of the last `order`.
    fn weight(&self, index: usize, order: usize, age: usize) -> f32 {
        let sigma = |at: usize| f64::from(self.sigmas[at]);
        let basis = |tau: f64| -> f64 {
            (0..order)
                .filter(|&other| other != age)
                .map(|other| {
                    (tau - sigma(index - other)) / (sigma(index - age) - sigma(index - other))
                })
                .product()
        };
        let (from, to) = (sigma(index), sigma(index + 1));
        let (centre, half) = (0.5 * (from + to), 0.5 * (to - from));
        let sum: f64 = POINTS
            .iter()
            .map(|(at, weight)| weight * basis(centre + half * at))
            .sum();
        (half * sum) as f32
    }
}

impl Scheduler for LmsDiscrete {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    fn init_noise_sigma(&self) -> f32 {
        self.init_noise_sigma
    }

    fn add_noise(&self, index: usize, original: &[f32], noise: &[f32]) -> Vec<f32> {
        mix(1.0, original, self.sigmas[index], noise)
    }

    fn scale_model_input(&self, index: usize, sample: &mut [f32]) {
        scale_by_spread(self.sigmas[index], sample);
    }

    fn step(
        &mut self,
        index: usize,
        model_output: &[f32],
        sample: &mut [f32],
        _generator: &mut TorchGenerator,
    ) {
        let sigma = self.sigmas[index];
        self.original.clear();
        let mut derivative = Vec::with_capacity(sample.len());
        for (&x, &output) in sample.iter().zip(model_output) {
            let original = self.prediction_type.original_at_sigma(sigma, x, output);
            self.original.push(original);
            derivative.push((x - original) / sigma);
        }
        if self.derivatives.len() == ORDER {
            self.derivatives.remove(0);
        }
        self.derivatives.push(derivative);
        // The order follows the index, as in diffusers: after a start in the middle, polynomials
        // are of full order although their older derivatives are missing.
        let order = ORDER.min(index + 1);
        let weights: Vec<f32> = (0..order)
            .map(|age| self.weight(index, order, age))
            .collect();
        for (i, x) in sample.iter_mut().enumerate() {
            let moved: f32 = weights
                .iter()
                .zip(self.derivatives.iter().rev())
                .map(|(weight, derivative)| weight * derivative[i])
                .sum();
            *x += moved;
        }
    }

    fn predicted_original(&self) -> Option<&[f32]> {
        (!self.original.is_empty()).then_some(&self.original)
    }
}
