//! Noise levels: those of training, and those that inference steps through.

use super::beta::beta_quantile;
use super::config::{
    BetaSchedule, FinalSigma, Interpolation, SchedulerConfig, SchedulerKind, SigmaSpacing,
    TimestepSpacing,
};

/// The steps of one generation.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseSchedule {
    /// Timesteps, from noisy to clean.
    pub timesteps: Vec<f32>,
    /// σ at each of them, and where the last step ends.
    pub sigmas: Vec<f32>,
}

/// Cumulative products ᾱ of training, in f32.
pub fn alphas_cumprod(config: &SchedulerConfig) -> Vec<f32> {
    let count = config.num_train_timesteps;
    let mut betas: Vec<f32> = match &config.beta_schedule {
        BetaSchedule::Trained(betas) => betas.clone(),
        BetaSchedule::Linear => linspace_f32(config.beta_start, config.beta_end, count),
        BetaSchedule::ScaledLinear => {
            linspace_f32(config.beta_start.sqrt(), config.beta_end.sqrt(), count)
                .into_iter()
                .map(|root| root * root)
                .collect()
        }
        BetaSchedule::SquaredCosine => {
            let alpha_bar = |t: f64| {
                ((t + 0.008) / 1.008 * std::f64::consts::PI / 2.0)
                    .cos()
                    .powi(2)
            };
            (0..count)
                .map(|i| {
                    let (now, next) = (i as f64 / count as f64, (i + 1) as f64 / count as f64);
                    (1.0 - alpha_bar(next) / alpha_bar(now)).min(0.999) as f32
                })
                .collect()
        }
    };
    if config.rescale_betas_zero_snr {
        betas = rescale_zero_terminal_snr(&betas);
    }
    let mut cumprod = cumulative_product(betas.iter().map(|beta| 1.0 - beta));
    if config.rescale_betas_zero_snr
        && config.kind != SchedulerKind::Ddim
        && let Some(last) = cumprod.last_mut()
    {
        // Nearly all noise: σ must stay finite.
        *last = (2.0f32).powi(-24);
    }
    cumprod
}

/// σ of each training step, from clean to noisy, in f32.
pub fn training_sigmas(config: &SchedulerConfig) -> Vec<f32> {
    alphas_cumprod(config)
        .into_iter()
        .map(|alpha| ((1.0 - alpha) / alpha).sqrt())
        .collect()
}

impl NoiseSchedule {
    /// Lays `num_inference_steps` over the training steps as the Euler schedulers do.
    pub fn for_euler(config: &SchedulerConfig, num_inference_steps: usize) -> Self {
        let steps = num_inference_steps;
        let mut timesteps: Vec<f64> = base_timesteps(config, steps)
            .into_iter()
            .map(f64::from)
            .collect();
        let training = training_sigmas(config);
        let log_sigmas: Vec<f32> = training.iter().map(|sigma| sigma.ln()).collect();
        let mut sigmas: Vec<f64> = match config.interpolation {
            Interpolation::Linear => timesteps
                .iter()
                .map(|&t| interpolate(t, &training))
                .collect(),
            Interpolation::LogLinear => linspace_f32(
                f64::from(training[training.len() - 1].ln()),
                f64::from(training[0].ln()),
                steps + 1,
            )
            .into_iter()
            .map(|log| f64::from(log.exp()))
            .collect(),
        };
        if config.sigma_spacing != SigmaSpacing::FromTimesteps {
            let first = sigmas.first().copied().unwrap_or(1.0);
            let last = sigmas.last().copied().unwrap_or(1.0);
            let (max, min) = (
                config.sigma_max.unwrap_or(first),
                config.sigma_min.unwrap_or(last),
            );
            sigmas = respaced(config.sigma_spacing, max, min, steps);
            timesteps = sigmas
                .iter()
                .map(|&sigma| sigma_to_timestep(sigma, &log_sigmas))
                .collect();
        }
        sigmas.push(match config.final_sigma {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => f64::from(training[0]),
        });
        Self::rounded(timesteps, sigmas)
    }

    /// Lays `num_inference_steps` over the training steps as DPM-Solver does: whole timesteps, and
    /// new spacings of σ over the whole range of training.
    pub fn for_dpm_solver(config: &SchedulerConfig, num_inference_steps: usize) -> Self {
        let steps = num_inference_steps;
        let training = training_sigmas(config);
        let log_sigmas: Vec<f32> = training.iter().map(|sigma| sigma.ln()).collect();
        let (mut timesteps, mut sigmas): (Vec<f64>, Vec<f64>);
        if config.sigma_spacing == SigmaSpacing::FromTimesteps {
            timesteps = integer_timesteps_for_dpm_solver(config, steps);
            sigmas = timesteps
                .iter()
                .map(|&t| interpolate(t, &training))
                .collect();
        } else {
            let max = config
                .sigma_max
                .unwrap_or(f64::from(training[training.len() - 1]));
            let min = config.sigma_min.unwrap_or(f64::from(training[0]));
            sigmas = respaced(config.sigma_spacing, max, min, steps);
            timesteps = sigmas
                .iter()
                .map(|&sigma| sigma_to_timestep(sigma, &log_sigmas))
                .collect();
            let rounds =
                config.sigma_spacing == SigmaSpacing::Karras && !config.has_cosine_schedule();
            for timestep in &mut timesteps {
                *timestep = if rounds {
                    timestep.round_ties_even()
                } else {
                    timestep.trunc()
                };
            }
        }
        sigmas.push(match config.final_sigma {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => f64::from(training[0]),
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
    match config.timestep_spacing {
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
fn base_timesteps(config: &SchedulerConfig, steps: usize) -> Vec<f32> {
    let train = config.num_train_timesteps;
    match config.timestep_spacing {
        TimestepSpacing::Linspace => {
            let mut list: Vec<f32> = linspace_f64(0.0, (train - 1) as f64, steps)
                .into_iter()
                .map(|t| t as f32)
                .collect();
            list.reverse();
            list
        }
        TimestepSpacing::Leading => {
            let ratio = train / steps;
            (0..steps)
                .rev()
                .map(|i| (i * ratio) as f32 + config.steps_offset as f32)
                .collect()
        }
        TimestepSpacing::Trailing => descending(train as f64, train as f64 / steps as f64)
            .map(|t| t.round_ties_even() as f32 - 1.0)
            .collect(),
    }
}

/// σ from `max` down to `min`, spaced by a rule.
fn respaced(spacing: SigmaSpacing, max: f64, min: f64, steps: usize) -> Vec<f64> {
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
        SigmaSpacing::FromTimesteps => Vec::new(),
    }
}

/// The fractional training step at which σ is reached.
fn sigma_to_timestep(sigma: f64, log_sigmas: &[f32]) -> f64 {
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

/// `torch.linspace` in f32: from both ends towards the middle.
fn linspace_f32(start: f64, end: f64, count: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    if count == 1 {
        return vec![start];
    }
    let step = (end - start) / (count - 1) as f32;
    (0..count)
        .map(|i| {
            if i < count / 2 {
                start + step * i as f32
            } else {
                end - step * (count - i - 1) as f32
            }
        })
        .collect()
}

/// `numpy.linspace` in f64.
fn linspace_f64(start: f64, end: f64, count: usize) -> Vec<f64> {
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

/// `torch.cumprod` of f32 on a CPU: accumulated in f64, rounded at each output.
fn cumulative_product(values: impl Iterator<Item = f32>) -> Vec<f32> {
    values
        .scan(1.0f64, |product, value| {
            *product *= f64::from(value);
            Some(*product as f32)
        })
        .collect()
}

/// Shifts and scales √ᾱ so that the last step is all noise (arXiv:2305.08891, algorithm 1).
fn rescale_zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = cumulative_product(betas.iter().map(|beta| 1.0 - beta))
        .into_iter()
        .map(f32::sqrt)
        .collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let bars: Vec<f32> = roots
        .into_iter()
        .map(|root| {
            let moved = (root - last) * (first / (first - last));
            moved * moved
        })
        .collect();
    let mut before = 1.0;
    bars.into_iter()
        .map(|bar| {
            let alpha = bar / before;
            before = bar;
            1.0 - alpha
        })
        .collect()
}
