//! `scheduler/scheduler_config.json`.

use crate::EngineError;
use crate::config::Config;

/// The schedulers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerKind {
    /// Euler's method on the probability flow (arXiv:2206.00364), SDXL's default.
    EulerDiscrete,
}

impl SchedulerKind {
    /// All of them.
    pub const ALL: &[Self] = &[Self::EulerDiscrete];

    /// The name in requests: diffusers' class name without `Scheduler`.
    pub fn name(self) -> &'static str {
        match self {
            Self::EulerDiscrete => "EulerDiscrete",
        }
    }

    /// Finds a scheduler by its name, with or without `Scheduler` at the end.
    pub fn find(name: &str) -> Option<Self> {
        let name = name.strip_suffix("Scheduler").unwrap_or(name);
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// How noise grows over the training steps.
#[derive(Clone, Debug, PartialEq)]
pub enum BetaSchedule {
    /// Evenly spaced β.
    Linear,
    /// Evenly spaced √β.
    ScaledLinear,
    /// β from a squared cosine of ᾱ (arXiv:2102.09672).
    SquaredCosine,
    /// β as given.
    Trained(Vec<f32>),
}

/// What the UNet predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredictionType {
    /// The noise.
    Epsilon,
    /// Velocity (arXiv:2202.00512).
    VPrediction,
    /// The clean sample.
    Sample,
}

/// How inference steps are laid over the training steps (arXiv:2305.08891, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestepSpacing {
    /// Both ends included.
    Linspace,
    /// The first training step included.
    Leading,
    /// The last training step included.
    Trailing,
}

/// How σ is read off between training steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// Linear in σ.
    Linear,
    /// Evenly spaced log σ, whatever the timesteps.
    LogLinear,
}

/// How σ is spaced anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigmaSpacing {
    /// As the timesteps give it.
    FromTimesteps,
    /// Evenly spaced σ^(1/7) (arXiv:2206.00364).
    Karras,
    /// Evenly spaced log σ.
    Exponential,
    /// By quantiles of a beta distribution (arXiv:2407.12173).
    Beta,
}

/// Where the last step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalSigma {
    /// Without noise.
    Zero,
    /// At the lowest noise of training.
    SigmaMin,
}

/// A scheduler's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    /// Which scheduler.
    pub kind: SchedulerKind,
    /// Training steps.
    pub num_train_timesteps: usize,
    /// First β.
    pub beta_start: f64,
    /// Last β.
    pub beta_end: f64,
    /// β between them.
    pub beta_schedule: BetaSchedule,
    /// What the UNet predicts.
    pub prediction_type: PredictionType,
    /// How steps are laid out.
    pub timestep_spacing: TimestepSpacing,
    /// Added to `leading` timesteps.
    pub steps_offset: i64,
    /// How σ is interpolated.
    pub interpolation: Interpolation,
    /// How σ is spaced.
    pub sigma_spacing: SigmaSpacing,
    /// Lowest σ of a new spacing.
    pub sigma_min: Option<f64>,
    /// Highest σ of a new spacing.
    pub sigma_max: Option<f64>,
    /// Whether the last training step is all noise (arXiv:2305.08891).
    pub rescale_betas_zero_snr: bool,
    /// Where the last step ends.
    pub final_sigma: FinalSigma,
    /// Whether the UNet is told ¼ log σ in place of a timestep; counts for v-prediction only.
    pub continuous_timesteps: bool,
}

impl SchedulerConfig {
    /// Reads `scheduler_config.json`. Keys of other schedulers are passed over, as in diffusers,
    /// where a config survives a change of scheduler.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming file, key and value of what is not supported.
    pub fn read(config: &Config) -> Result<Self, EngineError> {
        let class = config.text("_class_name", "EulerDiscreteScheduler")?;
        let kind = SchedulerKind::find(&class).ok_or_else(|| {
            config.unsupported("_class_name", &format!("there are: {}", listed()))
        })?;
        let choice = |key: &str, default: &str, names: &str| -> Result<String, EngineError> {
            let value = config.text(key, default)?;
            if names.split(", ").any(|name| name == value) {
                Ok(value)
            } else {
                Err(config.unsupported(key, &format!("use one of {names}")))
            }
        };
        let beta_schedule = match config.optional_numbers("trained_betas")? {
            Some(betas) if !betas.is_empty() => {
                BetaSchedule::Trained(betas.into_iter().map(|beta| beta as f32).collect())
            }
            Some(_) => return Err(config.unsupported("trained_betas", "give numbers, or null")),
            None => match choice(
                "beta_schedule",
                "linear",
                "linear, scaled_linear, squaredcos_cap_v2",
            )?
            .as_str()
            {
                "linear" => BetaSchedule::Linear,
                "scaled_linear" => BetaSchedule::ScaledLinear,
                _ => BetaSchedule::SquaredCosine,
            },
        };
        let prediction_type = match choice(
            "prediction_type",
            "epsilon",
            "epsilon, v_prediction, sample, original_sample",
        )?
        .as_str()
        {
            "epsilon" => PredictionType::Epsilon,
            "v_prediction" => PredictionType::VPrediction,
            _ => PredictionType::Sample,
        };
        let timestep_spacing = match choice(
            "timestep_spacing",
            "linspace",
            "linspace, leading, trailing",
        )?
        .as_str()
        {
            "linspace" => TimestepSpacing::Linspace,
            "leading" => TimestepSpacing::Leading,
            _ => TimestepSpacing::Trailing,
        };
        let spacings = [
            ("use_karras_sigmas", SigmaSpacing::Karras),
            ("use_exponential_sigmas", SigmaSpacing::Exponential),
            ("use_beta_sigmas", SigmaSpacing::Beta),
        ];
        let mut sigma_spacing = SigmaSpacing::FromTimesteps;
        for (key, spacing) in spacings {
            if config.flag(key, false)? {
                if sigma_spacing != SigmaSpacing::FromTimesteps {
                    return Err(config.unsupported(
                        key,
                        "only one of use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas can be true",
                    ));
                }
                sigma_spacing = spacing;
            }
        }
        let num_train_timesteps = match &beta_schedule {
            BetaSchedule::Trained(betas) => {
                let count = config.size("num_train_timesteps", 1000)?;
                if betas.len() != count {
                    return Err(config.unsupported(
                        "num_train_timesteps",
                        &format!("`trained_betas` has {} numbers", betas.len()),
                    ));
                }
                count
            }
            _ => config.size("num_train_timesteps", 1000)?,
        };
        if num_train_timesteps < 2 {
            return Err(config.unsupported("num_train_timesteps", "use at least 2"));
        }
        Ok(Self {
            kind,
            num_train_timesteps,
            beta_start: config.number("beta_start", 0.0001)?,
            beta_end: config.number("beta_end", 0.02)?,
            beta_schedule,
            prediction_type,
            timestep_spacing,
            steps_offset: config.integer("steps_offset", 0)?,
            interpolation: match choice("interpolation_type", "linear", "linear, log_linear")?
                .as_str()
            {
                "linear" => Interpolation::Linear,
                _ => Interpolation::LogLinear,
            },
            sigma_spacing,
            sigma_min: config.optional_number("sigma_min")?,
            sigma_max: config.optional_number("sigma_max")?,
            rescale_betas_zero_snr: config.flag("rescale_betas_zero_snr", false)?,
            final_sigma: match choice("final_sigmas_type", "zero", "zero, sigma_min")?.as_str() {
                "zero" => FinalSigma::Zero,
                _ => FinalSigma::SigmaMin,
            },
            continuous_timesteps: choice("timestep_type", "discrete", "discrete, continuous")?
                == "continuous",
        })
    }
}

fn listed() -> String {
    SchedulerKind::ALL
        .iter()
        .map(|kind| format!("{}Scheduler", kind.name()))
        .collect::<Vec<_>>()
        .join(", ")
}
