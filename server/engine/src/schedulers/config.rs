//! What `scheduler/scheduler_config.json` can say, parsed.

use super::kind::SchedulerKind;

/// How noise grows over the training steps.
#[derive(Clone, Debug, PartialEq)]
pub enum BetaSchedule {
    /// Evenly spaced β.
    Linear,
    /// Evenly spaced √β.
    ScaledLinear,
    /// β from a squared cosine of ᾱ (arXiv:2102.09672).
    SquaredCosine,
    /// β from an exponential of the step.
    Exponential,
    /// β from Laplace's distribution of the log ratio of signal to noise (arXiv:2407.03297).
    Laplace,
    /// β along a sigmoid (arXiv:2203.02923).
    Sigmoid,
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
    /// Evenly spaced log ratio of signal to noise (diffusers' `use_lu_lambdas`).
    LogSnr,
}

/// Where the last step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalSigma {
    /// Without noise.
    Zero,
    /// At the lowest noise of training.
    SigmaMin,
}

/// How DPM-Solver's higher-order terms are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SolverType {
    /// In the middle of the step.
    Midpoint,
    /// From both ends of the step.
    Heun,
}

/// Which integral DPM-Solver approximates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Of the noise (arXiv:2206.00927).
    DpmSolver,
    /// Of the clean sample (arXiv:2211.01095).
    DpmSolverPlusPlus,
    /// Of the noise, with fresh noise at each step.
    SdeDpmSolver,
    /// Of the clean sample, with fresh noise at each step.
    SdeDpmSolverPlusPlus,
}

impl Algorithm {
    /// Whether each step adds fresh noise.
    pub fn is_sde(self) -> bool {
        matches!(self, Self::SdeDpmSolver | Self::SdeDpmSolverPlusPlus)
    }

    /// Whether the clean sample is integrated, not the noise.
    pub fn predicts_sample(self) -> bool {
        matches!(self, Self::DpmSolverPlusPlus | Self::SdeDpmSolverPlusPlus)
    }

    /// diffusers' name.
    pub fn name(self) -> &'static str {
        match self {
            Self::DpmSolver => "dpmsolver",
            Self::DpmSolverPlusPlus => "dpmsolver++",
            Self::SdeDpmSolver => "sde-dpmsolver",
            Self::SdeDpmSolverPlusPlus => "sde-dpmsolver++",
        }
    }
}

/// UniPC's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct UniPcSettings {
    /// Whether the clean sample is integrated, not the noise.
    pub predict_x0: bool,
    /// B(h) = h (`bh1`) in place of e^h − 1 (`bh2`).
    pub bh1: bool,
    /// Steps after which nothing is corrected.
    pub disable_corrector: Vec<i64>,
}

/// Settings of the consistency schedulers, LCM and TCD.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConsistencySettings {
    /// Steps of the schedule that the model was distilled with.
    pub original_inference_steps: usize,
    /// What timesteps are multiplied by in LCM's boundary condition.
    pub timestep_scaling: f64,
    /// Where a generation of one step starts; the noisiest timestep where none is given.
    pub single_step_from: Option<usize>,
}

/// How much noise DDPM adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variance {
    /// The lower bound.
    FixedSmall,
    /// The lower bound, its root taken through the logarithm, and used as it is.
    FixedSmallLog,
    /// The upper bound: β.
    FixedLarge,
}

/// EDM's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EdmSettings {
    /// Spread of the data.
    pub sigma_data: f64,
    /// Whether σ is spaced exponentially, not as Karras et al. do.
    pub exponential: bool,
    /// Exponent of Karras' spacing.
    pub rho: f64,
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
    /// What predicted clean samples are clipped to, if at all.
    pub clip_sample_range: Option<f32>,
    /// DDIM and PNDM: whether the last step ends without noise, or at the lowest noise of training.
    pub set_alpha_to_one: bool,
    /// DPM-Solver, DEIS, UniPC: order of their steps.
    pub solver_order: usize,
    /// DPM-Solver: how the higher-order terms are taken.
    pub solver_type: SolverType,
    /// DPM-Solver: which integral is approximated.
    pub algorithm: Algorithm,
    /// Whether few steps end with ones of lower order.
    pub lower_order_final: bool,
    /// DPM-Solver: whether the last step is one of first order.
    pub euler_at_final: bool,
    /// DPM-Solver: training steps with a lower log ratio of signal to noise are left out.
    pub lambda_min_clipped: Option<f64>,
    /// UniPC's own.
    pub unipc: UniPcSettings,
    /// LCM's and TCD's own.
    pub consistency: ConsistencySettings,
    /// DDPM's own.
    pub variance: Variance,
    /// PNDM's own: whether it starts without Runge-Kutta steps.
    pub skip_prk_steps: bool,
    /// EDM's own.
    pub edm: EdmSettings,
}
