//! Noise levels that inference steps through.

use super::beta::beta_quantile;
use super::config::{
    BetaSchedule, FinalSigma, Interpolation, SchedulerConfig, SigmaSpacing, TimestepSpacing,
};
use super::kind::SchedulerKind;
use super::training::{alphas_cumprod, numpy_ln, training_log_sigmas, training_sigmas};

/// The steps of one generation.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseSchedule {
    /// Timesteps, from noisy to clean.
    pub timesteps: Vec<f32>,
    /// σ at each of them, and where the last step ends.
    pub sigmas: Vec<f32>,
}

impl NoiseSchedule {
    /// Lays `num_inference_steps` over the training steps as the schedulers that step in σ do:
    /// Euler, Heun, DPM2, LMS, DPM-Solver SDE.
    pub fn for_euler(config: &SchedulerConfig, num_inference_steps: usize) -> Self {
        let (timesteps, mut sigmas) = euler_levels(config, num_inference_steps);
        sigmas.push(match config.final_sigma {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => f64::from(training_sigmas(config)[0]),
        });
        Self::rounded(timesteps, sigmas)
    }

    /// Lays `num_inference_steps` over the training steps as the DPM-Solvers, DEIS and UniPC do:
    /// whole timesteps, and new spacings of σ over the whole range of training.
    pub fn for_dpm_solver(config: &SchedulerConfig, num_inference_steps: usize) -> Self {
        let steps = num_inference_steps;
        let training = training_sigmas(config);
        let log_sigmas = training_log_sigmas(config);
        let (mut timesteps, mut sigmas): (Vec<f64>, Vec<f64>);
        if config.sigma_spacing == SigmaSpacing::FromTimesteps {
            timesteps = integer_timesteps_for_dpm_solver(config, steps);
            sigmas = timesteps
                .iter()
                .map(|&t| interpolate(t, &training))
                .collect();
        } else {
            let (mut max, mut min) = (training[training.len() - 1].into(), training[0].into());
            if config.sigma_spacing != SigmaSpacing::LogSnr {
                max = config.sigma_max.unwrap_or(max);
                min = config.sigma_min.unwrap_or(min);
            }
            sigmas = respaced(config.sigma_spacing, max, min, steps);
            timesteps = sigmas
                .iter()
                .map(|&sigma| sigma_to_timestep(sigma, &log_sigmas))
                .collect();
            // Only the multistep solver looks at the schedule of β here.
            let fractional = config.kind == SchedulerKind::DpmSolverMultistep
                && config.beta_schedule == BetaSchedule::SquaredCosine;
            let rounds = matches!(
                config.sigma_spacing,
                SigmaSpacing::Karras | SigmaSpacing::LogSnr
            ) && !fractional;
            for timestep in &mut timesteps {
                *timestep = if rounds {
                    timestep.round_ties_even()
                } else {
                    timestep.trunc()
                };
            }
        }
        let respaced = config.sigma_spacing != SigmaSpacing::FromTimesteps;
        let lowest = f64::from(training[0]);
        sigmas.push(match (config.kind, config.final_sigma) {
            (SchedulerKind::DeisMultistep, _)
            | (SchedulerKind::UniPcMultistep, FinalSigma::SigmaMin)
                if respaced =>
            {
                sigmas.last().copied().unwrap_or(lowest)
            }
            (SchedulerKind::DeisMultistep, _) | (_, FinalSigma::SigmaMin) => lowest,
            (_, FinalSigma::Zero) => 0.0,
        });
        Self::rounded(timesteps, sigmas)
    }

    fn rounded(timesteps: Vec<f64>, sigmas: Vec<f64>) -> Self {
        Self {
            timesteps: timesteps.into_iter().map(|t| t as f32).collect(),
            sigmas: sigmas.into_iter().map(|sigma| sigma as f32).collect(),
        }
    }
}

/// Timesteps and σ of the steps of [`NoiseSchedule::for_euler`], before they are rounded to f32.
pub(super) fn euler_levels(config: &SchedulerConfig, steps: usize) -> (Vec<f64>, Vec<f64>) {
    let mut timesteps = base_timesteps(config, steps);
    if config.kind != SchedulerKind::DpmSolverSde {
        for timestep in &mut timesteps {
            *timestep = f64::from(*timestep as f32);
        }
    }
    let training = training_sigmas(config);
    let log_sigmas = training_log_sigmas(config);
    let mut sigmas: Vec<f64> = match config.interpolation {
        Interpolation::Linear => timesteps
            .iter()
            .map(|&t| interpolate(t, &training))
            .collect(),
        Interpolation::LogLinear => linspace_f32(
            f64::from(log_sigmas[log_sigmas.len() - 1]),
            f64::from(log_sigmas[0]),
            steps + 1,
        )
        .into_iter()
        .map(|log| f64::from(log.exp()))
        .collect(),
    };
    if config.sigma_spacing != SigmaSpacing::FromTimesteps {
        let first = sigmas.first().copied().unwrap_or(1.0);
        let last = sigmas.last().copied().unwrap_or(1.0);
        // These two take Karras' range from the timesteps, whatever the config says.
        let fixed = config.sigma_spacing == SigmaSpacing::Karras
            && matches!(
                config.kind,
                SchedulerKind::LmsDiscrete | SchedulerKind::DpmSolverSde
            );
        let (max, min) = if fixed {
            (first, last)
        } else {
            (
                config.sigma_max.unwrap_or(first),
                config.sigma_min.unwrap_or(last),
            )
        };
        sigmas = respaced(config.sigma_spacing, max, min, steps);
        timesteps = sigmas
            .iter()
            .map(|&sigma| sigma_to_timestep(sigma, &log_sigmas))
            .collect();
        let rounds = config.sigma_spacing == SigmaSpacing::Karras
            && matches!(
                config.kind,
                SchedulerKind::Kdpm2Discrete | SchedulerKind::Kdpm2AncestralDiscrete
            );
        if rounds {
            for timestep in &mut timesteps {
                *timestep = timestep.round_ties_even();
            }
        }
    }
    (timesteps, sigmas)
}

/// Whole timesteps, as DDIM takes them.
pub fn integer_timesteps(config: &SchedulerConfig, steps: usize) -> Vec<i64> {
    let train = config.num_train_timesteps;
    match config.timestep_spacing {
        TimestepSpacing::Linspace => linspace_f64(0.0, (train - 1) as f64, steps)
            .into_iter()
            .rev()
            .map(|t| t.round_ties_even() as i64)
            .collect(),
        TimestepSpacing::Leading => (0..steps)
            .rev()
            .map(|i| (i * (train / steps)) as i64 + config.steps_offset)
            .collect(),
        TimestepSpacing::Trailing => descending(train as f64, train as f64 / steps as f64)
            .map(|t| t.round_ties_even() as i64 - 1)
            .collect(),
    }
}

/// Whole timesteps, as DPM-Solver takes them: one more than asked for is laid out, and the last
/// left off.
fn integer_timesteps_for_dpm_solver(config: &SchedulerConfig, steps: usize) -> Vec<f64> {
    let train = config.num_train_timesteps;
    let last = train - clipped_timesteps(config);
    let spacing = if config.kind == SchedulerKind::DpmSolverSinglestep {
        TimestepSpacing::Linspace
    } else {
        config.timestep_spacing
    };
    match spacing {
        TimestepSpacing::Linspace => linspace_f64(0.0, last as f64 - 1.0, steps + 1)
            .into_iter()
            .rev()
            .take(steps)
            .map(f64::round_ties_even)
            .collect(),
        TimestepSpacing::Leading => (1..=steps)
            .rev()
            .map(|i| (i * (last / (steps + 1))) as f64 + config.steps_offset as f64)
            .collect(),
        TimestepSpacing::Trailing => descending(last as f64, train as f64 / steps as f64)
            .map(|t| t.round_ties_even() - 1.0)
            .collect(),
    }
}

/// Number of training steps too noisy for `lambda_min_clipped`.
fn clipped_timesteps(config: &SchedulerConfig) -> usize {
    let Some(minimum) = config.lambda_min_clipped else {
        return 0;
    };
    alphas_cumprod(config)
        .into_iter()
        .filter(|&alpha| {
            let lambda = alpha.sqrt().ln() - (1.0 - alpha).sqrt().ln();
            f64::from(lambda) < minimum
        })
        .count()
        .min(config.num_train_timesteps - 1)
}

/// From `start` down to above zero: as many numbers as numpy's arange counts, with steps taken
/// from the first difference.
fn descending(start: f64, step: f64) -> impl Iterator<Item = f64> {
    let count = (-start / -step).ceil() as usize;
    let difference = (start - step) - start;
    (0..count).map(move |i| start + i as f64 * difference)
}

/// Timesteps before any new spacing of σ.
fn base_timesteps(config: &SchedulerConfig, steps: usize) -> Vec<f64> {
    let train = config.num_train_timesteps;
    match config.timestep_spacing {
        TimestepSpacing::Linspace => {
            let mut list = linspace_f64(0.0, (train - 1) as f64, steps);
            list.reverse();
            list
        }
        TimestepSpacing::Leading => {
            let ratio = train / steps;
            (0..steps)
                .rev()
                .map(|i| (i * ratio) as f64 + config.steps_offset as f64)
                .collect()
        }
        TimestepSpacing::Trailing => descending(train as f64, train as f64 / steps as f64)
            .map(|t| t.round_ties_even() - 1.0)
            .collect(),
    }
}

/// σ from `max` down to `min`, spaced by a rule.
pub(super) fn respaced(spacing: SigmaSpacing, max: f64, min: f64, steps: usize) -> Vec<f64> {
    match spacing {
        SigmaSpacing::Karras => {
            const RHO: f64 = 7.0;
            let (max, min) = (max.powf(1.0 / RHO), min.powf(1.0 / RHO));
            linspace_f64(0.0, 1.0, steps)
                .into_iter()
                .map(|ramp| (max + ramp * (min - max)).powf(RHO))
                .collect()
        }
        SigmaSpacing::Exponential => linspace_f64(max.ln(), min.ln(), steps)
            .into_iter()
            .map(f64::exp)
            .collect(),
        SigmaSpacing::Beta => linspace_f64(0.0, 1.0, steps)
            .into_iter()
            .map(|ramp| min + beta_quantile(1.0 - ramp, 0.6, 0.6) * (max - min))
            .collect(),
        // λ from one end to the other, arXiv:2211.01095 with ρ = 1.
        SigmaSpacing::LogSnr => {
            let (max, min) = (numpy_ln(max as f32), numpy_ln(min as f32));
            let (max, min) = (f64::from(max), f64::from(min));
            linspace_f64(0.0, 1.0, steps)
                .into_iter()
                .map(|ramp| (max + ramp * (min - max)).exp())
                .collect()
        }
        SigmaSpacing::FromTimesteps => Vec::new(),
    }
}

/// The fractional training step at which σ is reached.
pub(super) fn sigma_to_timestep(sigma: f64, log_sigmas: &[f32]) -> f64 {
    let log_sigma = sigma.max(1e-10).ln();
    // The last training step at or below; log σ grows with the step.
    let below = log_sigmas
        .iter()
        .rposition(|&known| log_sigma - f64::from(known) >= 0.0)
        .unwrap_or(0)
        .min(log_sigmas.len() - 2);
    let (low, high) = (log_sigmas[below], log_sigmas[below + 1]);
    let weight = ((f64::from(low) - log_sigma) / f64::from(low - high)).clamp(0.0, 1.0);
    (1.0 - weight) * below as f64 + weight * (below + 1) as f64
}

/// Linear interpolation of `values` at 0, 1, 2, …, constant beyond both ends.
fn interpolate(at: f64, values: &[f32]) -> f64 {
    let last = values.len() - 1;
    if at <= 0.0 {
        return f64::from(values[0]);
    }
    if at >= last as f64 {
        return f64::from(values[last]);
    }
    let below = at.floor() as usize;
    let (low, high) = (f64::from(values[below]), f64::from(values[below + 1]));
    (high - low) * (at - below as f64) + low
}

/// `torch.linspace` in f32: from both ends towards the middle, with fused products.
pub(super) fn linspace_f32(start: f64, end: f64, count: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    if count == 1 {
        return vec![start];
    }
    let step = (end - start) / (count - 1) as f32;
    (0..count)
        .map(|i| {
            if i < count / 2 {
                step.mul_add(i as f32, start)
            } else {
                (-step).mul_add((count - i - 1) as f32, end)
            }
        })
        .collect()
}

/// `numpy.linspace` in f64.
pub(super) fn linspace_f64(start: f64, end: f64, count: usize) -> Vec<f64> {
    if count == 1 {
        return vec![start];
    }
    let step = (end - start) / (count - 1) as f64;
    (0..count)
        .map(|i| {
            if i + 1 == count {
                end
            } else {
                i as f64 * step + start
            }
        })
        .collect()
}
