//! `UniPCMultistepScheduler` (arXiv:2302.04867): each prediction first corrects the step that led
//! to it, then predicts the next, after diffusers.

use super::config::SchedulerConfig;
use super::sigmas::NoiseSchedule;
use super::solver::{History, Level, exp_m1};
use super::{Scheduler, mix};
use crate::rng::TorchGenerator;

/// Predictor and corrector of up to third order.
pub struct UniPcMultistep {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    config: SchedulerConfig,
    history: History,
    /// The sample before the last step, and that step's order.
    last: Option<(Vec<f32>, usize)>,
    /// Steps taken, up to the solver's order.
    taken: usize,
}

/// The functions of h that a step's weights are made of.
struct Phi {
    /// e^±h − 1.
    first: f32,
    /// B(h).
    b_h: f32,
    /// Right-hand sides of the conditions on the weights, by order.
    b: Vec<f32>,
}

impl UniPcMultistep {
    /// Sets out the steps of one generation.
    pub fn new(config: &SchedulerConfig, num_inference_steps: usize) -> Self {
        let NoiseSchedule { timesteps, sigmas } =
            NoiseSchedule::for_dpm_solver(config, num_inference_steps);
        Self {
            timesteps,
            sigmas,
            config: config.clone(),
            history: History::new(config.solver_order),
            last: None,
            taken: 0,
        }
    }

    fn level(&self, index: usize) -> Level {
        Level::new(self.sigmas[index])
    }

    /// φ_k(h) and what follows from them, up to `order`.
    fn phi(&self, h: f32, order: usize) -> Phi {
        let hh = if self.config.unipc.predict_x0 { -h } else { h };
        let first = exp_m1(hh);
        let b_h = if self.config.unipc.bh1 { hh } else { first };
        let mut phi_k = first / hh - 1.0;
        let mut factorial = 1.0f32;
        let mut b = Vec::with_capacity(order);
        for i in 1..=order {
            b.push(phi_k * factorial / b_h);
            factorial *= i as f32 + 1.0;
            phi_k = phi_k / hh - 1.0 / factorial;
        }
        Phi { first, b_h, b }
    }

    /// Ratios r of the `order − 1` steps before `index` to the step of length `h` from it, then 1.
    fn ratios(&self, index: usize, h: f32, order: usize) -> Vec<f32> {
        let start = self.level(index).lambda;
        (1..order)
            .map(|i| (self.level(index - i).lambda - start) / h)
            .chain([1.0])
            .collect()
    }

    /// One step from `index`: the part that is exact, and B(h) with its factor, by which the rest
    /// is weighted.
    fn exact_part(&self, index: usize, phi: &Phi, from: &[f32], m0: &[f32]) -> (Vec<f32>, f32) {
        let (start, end) = (self.level(index), self.level(index + 1));
        let (keep, scale) = if self.config.unipc.predict_x0 {
            (end.sigma / start.sigma, end.alpha)
        } else {
            (end.alpha / start.alpha, end.sigma)
        };
        let gain = scale * phi.first;
        let exact = from
            .iter()
            .zip(m0)
            .map(|(x, m0)| keep * x - gain * m0)
            .collect();
        (exact, scale * phi.b_h)
    }

    /// Moves `sample`, which the step before `index` led to, by what `newest` says about it.
    fn correct(
        &self,
        index: usize,
        newest: &[f32],
        sample: &mut [f32],
        last: &[f32],
        order: usize,
    ) {
        let before = index - 1;
        let h = self.level(index).lambda - self.level(before).lambda;
        let phi = self.phi(h, order);
        let ratios = self.ratios(before, h, order);
        let weights = if order == 1 {
            vec![0.5]
        } else {
            solve(vandermonde(&ratios, order), phi.b.clone())
        };
        let m0 = self.history.back(0);
        let (exact, scale) = self.exact_part(before, &phi, last, m0);
        for (at, x) in sample.iter_mut().enumerate() {
            let older: f32 = (1..order)
                .map(|i| weights[i - 1] * ((self.history.back(i)[at] - m0[at]) / ratios[i - 1]))
                .sum();
            *x = exact[at] - scale * (older + weights[order - 1] * (newest[at] - m0[at]));
        }
    }

    /// Steps from `index` to the next level.
    fn predict(&self, index: usize, sample: &mut [f32], order: usize) {
        let h = self.level(index + 1).lambda - self.level(index).lambda;
        let phi = self.phi(h, order);
        let ratios = self.ratios(index, h, order);
        let weights = match order {
            1 => Vec::new(),
            2 => vec![0.5],
            _ => {
                let fewer = order - 1;
                solve(vandermonde(&ratios, fewer), phi.b[..fewer].to_vec())
            }
        };
        let m0 = self.history.back(0);
        let (exact, scale) = self.exact_part(index, &phi, sample, m0);
        for (at, x) in sample.iter_mut().enumerate() {
            let older: f32 = (1..order)
                .map(|i| weights[i - 1] * ((self.history.back(i)[at] - m0[at]) / ratios[i - 1]))
                .sum();
            *x = exact[at] - scale * older;
        }
    }
}

/// Rows r⁰, r¹, … of the first `count` ratios.
fn vandermonde(ratios: &[f32], count: usize) -> Vec<Vec<f32>> {
    (0..count)
        .map(|power| {
            ratios[..count]
                .iter()
                .map(|ratio| ratio.powi(power as i32))
                .collect()
        })
        .collect()
}

/// Solves `a` x = `b` by elimination with the largest pivots.
fn solve(mut a: Vec<Vec<f32>>, mut b: Vec<f32>) -> Vec<f32> {
    let n = b.len();
    for column in 0..n {
        let pivot = (column..n)
            .max_by(|&i, &j| a[i][column].abs().total_cmp(&a[j][column].abs()))
            .unwrap_or(column);
        a.swap(column, pivot);
        b.swap(column, pivot);
        for row in column + 1..n {
            let factor = a[row][column] / a[column][column];
            let (above, below) = a.split_at_mut(row);
            for (below, above) in below[0][column..].iter_mut().zip(&above[column][column..]) {
                *below -= factor * above;
            }
            b[row] -= factor * b[column];
        }
    }
    for row in (0..n).rev() {
        for k in row + 1..n {
            b[row] -= a[row][k] * b[k];
        }
        b[row] /= a[row][row];
    }
    b
}

impl Scheduler for UniPcMultistep {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    fn add_noise(&self, index: usize, original: &[f32], noise: &[f32]) -> Vec<f32> {
        let level = self.level(index);
        mix(level.alpha, original, level.sigma, noise)
    }

    fn step(
        &mut self,
        index: usize,
        model_output: &[f32],
        sample: &mut [f32],
        _generator: &mut TorchGenerator,
    ) {
        let (prediction, unipc) = (self.config.prediction_type, &self.config.unipc);
        let level = self.level(index);
        let pairs = || sample.iter().copied().zip(model_output.iter().copied());
        // 1. The clean sample or the noise that the output implies.
        let original: Vec<f32> = pairs()
            .map(|(x, output)| level.original(prediction, x, output))
            .collect();
        let integrated: Vec<f32> = if unipc.predict_x0 {
            original.clone()
        } else {
            pairs()
                .map(|(x, output)| level.noise(prediction, x, output))
                .collect()
        };
        // 2. Correct the step that led here.
        if let Some((last, order)) = self.last.take()
            && index > 0
            && !unipc.disable_corrector.contains(&(index as i64 - 1))
        {
            self.correct(index, &integrated, sample, &last, order);
        }
        self.history.push(integrated, original);
        // 3. Predict the next.
        let left = self.timesteps.len() - index;
        let highest = if self.config.lower_order_final {
            self.config.solver_order.min(left)
        } else {
            self.config.solver_order
        };
        let order = highest.min(self.taken + 1);
        self.last = Some((sample.to_vec(), order));
        self.predict(index, sample, order);
        self.taken = (self.taken + 1).min(self.config.solver_order);
    }

    fn predicted_original(&self) -> Option<&[f32]> {
        self.history.original()
    }
}
