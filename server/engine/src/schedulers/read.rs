//! Reading `scheduler/scheduler_config.json`, as diffusers' `from_config` does: a class reads the
//! keys it knows, with its own defaults, and passes over those of other classes.

use super::config::{
    Algorithm, BetaSchedule, ConsistencySettings, EdmSettings, FinalSigma, Interpolation,
    PredictionType, SchedulerConfig, SigmaSpacing, SolverType, TimestepSpacing, UniPcSettings,
    Variance,
};
use super::kind::SchedulerKind;
use crate::EngineError;
use crate::config::Config;

impl SchedulerConfig {
    /// Reads `scheduler_config.json` for the class that it names. Keys of other schedulers are
    /// passed over, as in diffusers, where a config survives a change of scheduler.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming file, key and value of what is not supported.
    pub fn read(config: &Config) -> Result<Self, EngineError> {
        let class = config.text("_class_name", "EulerDiscreteScheduler")?;
        let kind = SchedulerKind::find(&class).ok_or_else(|| {
            config.unsupported("_class_name", &format!("there are: {}", classes()))
        })?;
        Self::read_as(config, kind)
    }

    /// Reads `scheduler_config.json` as `kind`, with that class' defaults: what diffusers'
    /// `from_config` does to change the scheduler.
    ///
    /// # Errors
    /// As [`SchedulerConfig::read`].
    pub fn read_as(config: &Config, kind: SchedulerKind) -> Result<Self, EngineError> {
        let keys = Keys { config, kind };
        keys.refuse_variants()?;
        let (beta_start, beta_end, schedule) = kind.default_betas();
        let beta_schedule = keys.beta_schedule(schedule)?;
        let num_train_timesteps = config.size("num_train_timesteps", 1000)?;
        if let BetaSchedule::Trained(betas) = &beta_schedule
            && betas.len() != num_train_timesteps
        {
            return Err(config.unsupported(
                "num_train_timesteps",
                &format!("`trained_betas` has {} numbers", betas.len()),
            ));
        }
        if num_train_timesteps < 2 {
            return Err(config.unsupported("num_train_timesteps", "use at least 2"));
        }
        let is_edm = kind == SchedulerKind::EdmEuler;
        let (sigma_min, sigma_max) = if is_edm {
            (
                Some(config.number("sigma_min", 0.002)?),
                Some(config.number("sigma_max", 80.0)?),
            )
        } else {
            // Every class sees them, whether it has them or not: diffusers keeps unknown keys.
            (
                config.optional_number("sigma_min")?,
                config.optional_number("sigma_max")?,
            )
        };
        let clips = match kind {
            SchedulerKind::Ddim | SchedulerKind::Ddpm => config.flag("clip_sample", true)?,
            SchedulerKind::HeunDiscrete | SchedulerKind::Lcm => {
                config.flag("clip_sample", false)?
            }
            _ => false,
        };
        let is_dpm_solver = matches!(
            kind,
            SchedulerKind::DpmSolverMultistep | SchedulerKind::DpmSolverSinglestep
        );
        let read = Self {
            kind,
            num_train_timesteps,
            beta_start: config.number("beta_start", beta_start)?,
            beta_end: config.number("beta_end", beta_end)?,
            beta_schedule,
            prediction_type: keys.prediction_type()?,
            timestep_spacing: keys.timestep_spacing()?,
            steps_offset: config.integer("steps_offset", 0)?,
            interpolation: keys.interpolation()?,
            sigma_spacing: keys.sigma_spacing()?,
            sigma_min,
            sigma_max,
            rescale_betas_zero_snr: kind.reads_zero_snr()
                && config.flag("rescale_betas_zero_snr", false)?,
            final_sigma: keys.final_sigma()?,
            continuous_timesteps: kind == SchedulerKind::EulerDiscrete
                && keys.choice("timestep_type", "discrete", "discrete, continuous")?
                    == "continuous",
            clip_sample_range: if clips {
                Some(config.number("clip_sample_range", 1.0)? as f32)
            } else {
                None
            },
            set_alpha_to_one: config.flag("set_alpha_to_one", kind != SchedulerKind::Pndm)?,
            solver_order: keys.solver_order()?,
            solver_type: keys.solver_type()?,
            algorithm: keys.algorithm()?,
            lower_order_final: config.flag(
                "lower_order_final",
                kind != SchedulerKind::DpmSolverSinglestep,
            )?,
            euler_at_final: config.flag("euler_at_final", false)?,
            lambda_min_clipped: if is_dpm_solver {
                config.optional_number("lambda_min_clipped")?
            } else {
                None
            },
            unipc: keys.unipc()?,
            consistency: ConsistencySettings {
                original_inference_steps: config.size("original_inference_steps", 50)?,
                timestep_scaling: config.number("timestep_scaling", 10.0)?,
                single_step_from: None,
            },
            variance: keys.variance()?,
            skip_prk_steps: config.flag("skip_prk_steps", false)?,
            edm: EdmSettings {
                sigma_data: config.number("sigma_data", 0.5)?,
                exponential: is_edm
                    && keys.choice("sigma_schedule", "karras", "karras, exponential")?
                        == "exponential",
                rho: config.number("rho", 7.0)?,
            },
        };
        keys.check_together(&read)?;
        Ok(read)
    }
}

/// A config with the class that reads it.
struct Keys<'a> {
    config: &'a Config,
    kind: SchedulerKind,
}

impl Keys<'_> {
    /// One of `names`, or an error that lists them.
    fn choice(&self, key: &str, default: &str, names: &str) -> Result<String, EngineError> {
        let value = self.config.text(key, default)?;
        if names.split(", ").any(|name| name == value) {
            Ok(value)
        } else {
            Err(self.unsupported(key, names))
        }
    }

    fn unsupported(&self, key: &str, names: &str) -> EngineError {
        self.config
            .unsupported(key, &format!("{}Scheduler takes {names}", self.kind.name()))
    }

    fn beta_schedule(&self, default: &str) -> Result<BetaSchedule, EngineError> {
        if let Some(betas) = self.config.optional_numbers("trained_betas")? {
            if betas.is_empty() {
                return Err(self
                    .config
                    .unsupported("trained_betas", "give numbers, or null"));
            }
            let betas = betas.into_iter().map(|beta| beta as f32).collect();
            return Ok(BetaSchedule::Trained(betas));
        }
        let name = self.choice("beta_schedule", default, self.kind.beta_schedules())?;
        Ok(match name.as_str() {
            "linear" => BetaSchedule::Linear,
            "scaled_linear" => BetaSchedule::ScaledLinear,
            "exp" => BetaSchedule::Exponential,
            "laplace" => BetaSchedule::Laplace,
            "sigmoid" => BetaSchedule::Sigmoid,
            _ => BetaSchedule::SquaredCosine,
        })
    }

    fn prediction_type(&self) -> Result<PredictionType, EngineError> {
        let name = self.choice("prediction_type", "epsilon", self.kind.prediction_types())?;
        Ok(match name.as_str() {
            "epsilon" => PredictionType::Epsilon,
            "v_prediction" => PredictionType::VPrediction,
            _ => PredictionType::Sample,
        })
    }

    fn timestep_spacing(&self) -> Result<TimestepSpacing, EngineError> {
        let Some(_) = self.config.get("timestep_spacing") else {
            return Ok(self.kind.default_spacing());
        };
        let name = self.choice("timestep_spacing", "", "linspace, leading, trailing")?;
        Ok(match name.as_str() {
            "linspace" => TimestepSpacing::Linspace,
            "leading" => TimestepSpacing::Leading,
            _ => TimestepSpacing::Trailing,
        })
    }

    fn interpolation(&self) -> Result<Interpolation, EngineError> {
        let log_linear = self.kind == SchedulerKind::EulerDiscrete
            && self.choice("interpolation_type", "linear", "linear, log_linear")? == "log_linear";
        Ok(if log_linear {
            Interpolation::LogLinear
        } else {
            Interpolation::Linear
        })
    }

    fn sigma_spacing(&self) -> Result<SigmaSpacing, EngineError> {
        let mut spacing = SigmaSpacing::FromTimesteps;
        for (key, named) in [
            ("use_karras_sigmas", SigmaSpacing::Karras),
            ("use_exponential_sigmas", SigmaSpacing::Exponential),
            ("use_beta_sigmas", SigmaSpacing::Beta),
        ] {
            if self.kind.respaces() && self.config.flag(key, false)? {
                if spacing != SigmaSpacing::FromTimesteps {
                    return Err(self.config.unsupported(
                        key,
                        "only one of use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas can be true",
                    ));
                }
                spacing = named;
            }
        }
        // diffusers looks at it after Karras' and before the others.
        if self.kind == SchedulerKind::DpmSolverMultistep
            && spacing != SigmaSpacing::Karras
            && self.config.flag("use_lu_lambdas", false)?
        {
            spacing = SigmaSpacing::LogSnr;
        }
        Ok(spacing)
    }

    fn final_sigma(&self) -> Result<FinalSigma, EngineError> {
        let sigma_min = self.kind.reads_final_sigma()
            && self.choice("final_sigmas_type", "zero", "zero, sigma_min")? == "sigma_min";
        Ok(if sigma_min {
            FinalSigma::SigmaMin
        } else {
            FinalSigma::Zero
        })
    }

    fn solver_order(&self) -> Result<usize, EngineError> {
        let order = self.config.size("solver_order", 2)?;
        if self.kind.integrates_log_snr() && order > 3 {
            return Err(self.unsupported("solver_order", "1, 2 or 3"));
        }
        Ok(order)
    }

    fn solver_type(&self) -> Result<SolverType, EngineError> {
        // The names of the other solvers' types stand for this one's default, as in diffusers.
        let heun = matches!(
            self.kind,
            SchedulerKind::DpmSolverMultistep | SchedulerKind::DpmSolverSinglestep
        ) && self.choice(
            "solver_type",
            "midpoint",
            "midpoint, heun, logrho, bh1, bh2",
        )? == "heun";
        Ok(if heun {
            SolverType::Heun
        } else {
            SolverType::Midpoint
        })
    }

    fn algorithm(&self) -> Result<Algorithm, EngineError> {
        let (default, names) = match self.kind {
            SchedulerKind::DpmSolverMultistep => (
                "dpmsolver++",
                "dpmsolver, dpmsolver++, sde-dpmsolver, sde-dpmsolver++, deis",
            ),
            SchedulerKind::DpmSolverSinglestep => (
                "dpmsolver++",
                "dpmsolver, dpmsolver++, sde-dpmsolver++, deis",
            ),
            SchedulerKind::DeisMultistep => ("deis", "deis, dpmsolver, dpmsolver++"),
            _ => return Ok(Algorithm::DpmSolverPlusPlus),
        };
        Ok(
            match self.choice("algorithm_type", default, names)?.as_str() {
                "dpmsolver" => Algorithm::DpmSolver,
                "sde-dpmsolver" => Algorithm::SdeDpmSolver,
                "sde-dpmsolver++" => Algorithm::SdeDpmSolverPlusPlus,
                _ => Algorithm::DpmSolverPlusPlus,
            },
        )
    }

    fn unipc(&self) -> Result<UniPcSettings, EngineError> {
        let config = self.config;
        if self.kind != SchedulerKind::UniPcMultistep {
            return Ok(UniPcSettings {
                predict_x0: true,
                bh1: false,
                disable_corrector: Vec::new(),
            });
        }
        let names = "bh1, bh2, midpoint, heun, logrho";
        let disable_corrector = match config.get("disable_corrector") {
            None => Vec::new(),
            Some(value) => value
                .as_array()
                .and_then(|list| list.iter().map(serde_json::Value::as_i64).collect())
                .ok_or_else(|| self.unsupported("disable_corrector", "a list of steps"))?,
        };
        Ok(UniPcSettings {
            predict_x0: config.flag("predict_x0", true)?,
            bh1: self.choice("solver_type", "bh2", names)? == "bh1",
            disable_corrector,
        })
    }

    fn variance(&self) -> Result<Variance, EngineError> {
        if self.kind != SchedulerKind::Ddpm {
            return Ok(Variance::FixedSmall);
        }
        let names = "fixed_small, fixed_small_log, fixed_large";
        Ok(
            match self.choice("variance_type", "fixed_small", names)?.as_str() {
                "fixed_small_log" => Variance::FixedSmallLog,
                "fixed_large" => Variance::FixedLarge,
                _ => Variance::FixedSmall,
            },
        )
    }

    /// Refuses the settings of a class that it does not have here.
    fn refuse_variants(&self) -> Result<(), EngineError> {
        let mut off = Vec::new();
        if self.kind.integrates_log_snr() {
            off.extend(["thresholding", "use_flow_sigmas", "use_dynamic_shifting"]);
            if self.kind == SchedulerKind::UniPcMultistep {
                for key in ["solver_p", "shift_terminal"] {
                    if self.config.get(key).is_some() {
                        return Err(self.config.unsupported(key, "use null"));
                    }
                }
            }
            if self
                .config
                .text("variance_type", "")?
                .starts_with("learned")
            {
                return Err(self.config.unsupported("variance_type", "use null"));
            }
        }
        if matches!(
            self.kind,
            SchedulerKind::Ddim | SchedulerKind::Ddpm | SchedulerKind::Lcm
        ) {
            off.push("thresholding");
        }
        for key in off {
            if self.config.flag(key, false)? {
                return Err(self.config.unsupported(key, "use false"));
            }
        }
        Ok(())
    }

    /// Refuses settings that give no finite image together.
    fn check_together(&self, read: &SchedulerConfig) -> Result<(), EngineError> {
        let config = self.config;
        let ends_clean = read.final_sigma == FinalSigma::Zero;
        let solver = matches!(
            self.kind,
            SchedulerKind::DpmSolverMultistep | SchedulerKind::DpmSolverSinglestep
        );
        if solver && !read.algorithm.predicts_sample() && ends_clean {
            return Err(
                config.unsupported("algorithm_type", "it needs `final_sigmas_type` `sigma_min`")
            );
        }
        if solver && read.algorithm == Algorithm::SdeDpmSolver && read.solver_order > 2 {
            return Err(config.unsupported("solver_order", "sde-dpmsolver takes 1 or 2"));
        }
        if self.kind == SchedulerKind::UniPcMultistep && ends_clean {
            let key = if !read.unipc.predict_x0 {
                "predict_x0"
            } else if read.unipc.bh1 {
                "solver_type"
            } else if !read.lower_order_final && read.solver_order > 1 {
                "lower_order_final"
            } else {
                return Ok(());
            };
            return Err(config.unsupported(key, "it needs `final_sigmas_type` `sigma_min`"));
        }
        if matches!(self.kind, SchedulerKind::Lcm | SchedulerKind::Tcd)
            && read.consistency.original_inference_steps > read.num_train_timesteps
        {
            return Err(config.unsupported(
                "original_inference_steps",
                "it cannot be more than `num_train_timesteps`",
            ));
        }
        Ok(())
    }
}

fn classes() -> String {
    SchedulerKind::ALL
        .iter()
        .map(|kind| format!("{}Scheduler", kind.name()))
        .collect::<Vec<_>>()
        .join(", ")
}
