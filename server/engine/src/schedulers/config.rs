//! `scheduler/scheduler_config.json`.

use crate::EngineError;
use crate::config::Config;

/// The schedulers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerKind {
    /// Euler's method on the probability flow (arXiv:2206.00364), SDXL's default.
    EulerDiscrete,
    /// Euler's method with fresh noise at each step.
    EulerAncestralDiscrete,
    /// DDIM (arXiv:2010.02502) without fresh noise.
    Ddim,
    /// DPM-Solver++ (arXiv:2211.01095), good with few steps.
    DpmSolverMultistep,
}

impl SchedulerKind {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::EulerDiscrete,
        Self::EulerAncestralDiscrete,
        Self::Ddim,
        Self::DpmSolverMultistep,
    ];

    /// The name in requests: diffusers' class name without `Scheduler`.
    pub fn name(self) -> &'static str {
        match self {
            Self::EulerDiscrete => "EulerDiscrete",
            Self::EulerAncestralDiscrete => "EulerAncestralDiscrete",
            Self::Ddim => "DDIM",
            Self::DpmSolverMultistep => "DPMSolverMultistep",
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

/// How DPM-Solver's second-order term is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SolverType {
    /// In the middle of the step.
    Midpoint,
    /// From both ends of the step.
    Heun,
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
    /// DDIM: what predicted clean samples are clipped to, if at all.
    pub clip_sample_range: Option<f32>,
    /// DDIM: whether the last step ends without noise, or at the lowest noise of training.
    pub set_alpha_to_one: bool,
    /// DPM-Solver: order of its steps, 1 or 2.
    pub solver_order: usize,
    /// DPM-Solver: how the second-order term is taken.
    pub solver_type: SolverType,
    /// DPM-Solver: whether each step adds fresh noise.
    pub sde: bool,
    /// DPM-Solver: whether few steps end with one of lower order.
    pub lower_order_final: bool,
    /// DPM-Solver: whether the last step is one of first order.
    pub euler_at_final: bool,
    /// DPM-Solver: training steps with a lower log ratio of signal to noise are left out.
    pub lambda_min_clipped: Option<f64>,
}

impl SchedulerConfig {
    /// Whether β comes from a cosine.
    pub fn has_cosine_schedule(&self) -> bool {
        self.beta_schedule == BetaSchedule::SquaredCosine
    }

    /// Reads `scheduler_config.json` for the class that it names. Keys of other schedulers are passed over, as in diffusers,
    /// where a config survives a change of scheduler.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming file, key and value of what is not supported.
    pub fn read(config: &Config) -> Result<Self, EngineError> {
        let class = config.text("_class_name", "EulerDiscreteScheduler")?;
        let kind = SchedulerKind::find(&class).ok_or_else(|| {
            config.unsupported("_class_name", &format!("there are: {}", listed()))
        })?;
        Self::read_as(config, kind)
    }

    /// Reads `scheduler_config.json` as `kind`, with that class' defaults: what diffusers'
    /// `from_config` does to change the scheduler.
    ///
    /// # Errors
    /// As [`SchedulerConfig::read`].
    pub fn read_as(config: &Config, kind: SchedulerKind) -> Result<Self, EngineError> {
        let is_dpm_solver = kind == SchedulerKind::DpmSolverMultistep;
        refuse_variants(config, kind)?;
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
            match kind {
                SchedulerKind::EulerDiscrete => "epsilon, v_prediction, sample, original_sample",
                SchedulerKind::EulerAncestralDiscrete => "epsilon, v_prediction",
                _ => "epsilon, v_prediction, sample",
            },
        )?
        .as_str()
        {
            "epsilon" => PredictionType::Epsilon,
            "v_prediction" => PredictionType::VPrediction,
            _ => PredictionType::Sample,
        };
        let timestep_spacing = match choice(
            "timestep_spacing",
            if kind == SchedulerKind::Ddim {
                "leading"
            } else {
                "linspace"
            },
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
        let respaces = kind == SchedulerKind::EulerDiscrete || is_dpm_solver;
        for (key, spacing) in spacings.into_iter().filter(|_| respaces) {
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
            interpolation: if kind == SchedulerKind::EulerDiscrete
                && choice("interpolation_type", "linear", "linear, log_linear")? == "log_linear"
            {
                Interpolation::LogLinear
            } else {
                Interpolation::Linear
            },
            sigma_spacing,
            sigma_min: config.optional_number("sigma_min")?,
            sigma_max: config.optional_number("sigma_max")?,
            rescale_betas_zero_snr: config.flag("rescale_betas_zero_snr", false)?,
            final_sigma: if respaces
                && choice("final_sigmas_type", "zero", "zero, sigma_min")? == "sigma_min"
            {
                FinalSigma::SigmaMin
            } else {
                FinalSigma::Zero
            },
            continuous_timesteps: choice("timestep_type", "discrete", "discrete, continuous")?
                == "continuous",
            clip_sample_range: if config.flag("clip_sample", true)? {
                Some(config.number("clip_sample_range", 1.0)? as f32)
            } else {
                None
            },
            set_alpha_to_one: config.flag("set_alpha_to_one", true)?,
            solver_order: config.size("solver_order", 2)?,
            solver_type: match config.text("solver_type", "midpoint")?.as_str() {
                "heun" => SolverType::Heun,
                _ => SolverType::Midpoint,
            },
            sde: is_dpm_solver
                && config.text("algorithm_type", "dpmsolver++")? == "sde-dpmsolver++",
            lower_order_final: config.flag("lower_order_final", true)?,
            euler_at_final: config.flag("euler_at_final", false)?,
            lambda_min_clipped: config.optional_number("lambda_min_clipped")?,
        })
    }
}

/// Refuses the settings of a class that it does not have here.
fn refuse_variants(config: &Config, kind: SchedulerKind) -> Result<(), EngineError> {
    let mut off = Vec::new();
    if matches!(
        kind,
        SchedulerKind::Ddim | SchedulerKind::DpmSolverMultistep
    ) {
        off.push("thresholding");
    }
    if kind == SchedulerKind::DpmSolverMultistep {
        off.extend(["use_lu_lambdas", "use_flow_sigmas", "use_dynamic_shifting"]);
        if config.get("variance_type").is_some() {
            return Err(config.unsupported("variance_type", "use null"));
        }
        for (key, default, supported) in [
            (
                "algorithm_type",
                "dpmsolver++",
                "dpmsolver++ or sde-dpmsolver++",
            ),
            ("solver_type", "midpoint", "midpoint or heun"),
        ] {
            let value = config.text(key, default)?;
            if !supported.split(" or ").any(|name| name == value) {
                return Err(config.unsupported(key, &format!("use {supported}")));
            }
        }
        if config.size("solver_order", 2)? > 2 {
            return Err(config.unsupported("solver_order", "use 1 or 2"));
        }
    }
    for key in off {
        if config.flag(key, false)? {
            return Err(config.unsupported(key, "use false"));
        }
    }
    Ok(())
}

fn listed() -> String {
    SchedulerKind::ALL
        .iter()
        .map(|kind| format!("{}Scheduler", kind.name()))
        .collect::<Vec<_>>()
        .join(", ")
}
