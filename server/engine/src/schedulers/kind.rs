//! The schedulers there are, and what diffusers' class of each one reads from a config.

use super::config::TimestepSpacing;

/// The schedulers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchedulerKind {
    /// Euler's method on the probability flow (arXiv:2206.00364), SDXL's default.
    EulerDiscrete,
    /// Euler's method with fresh noise at each step.
    EulerAncestralDiscrete,
    /// Heun's method on the probability flow (arXiv:2206.00364, algorithm 1): second order.
    HeunDiscrete,
    /// DPM-Solver-2 in σ (arXiv:2206.00364, with the midpoint of arXiv:2206.00927).
    Kdpm2Discrete,
    /// The same with fresh noise at each step.
    Kdpm2AncestralDiscrete,
    /// Linear multistep (Adams-Bashforth) in σ, up to fourth order.
    LmsDiscrete,
    /// DDIM (arXiv:2010.02502) without fresh noise.
    Ddim,
    /// The ancestral sampling of DDPM (arXiv:2006.11239).
    Ddpm,
    /// Pseudo numerical methods (arXiv:2202.09778).
    Pndm,
    /// DPM-Solver(++) from the last predictions (arXiv:2211.01095), good with few steps.
    DpmSolverMultistep,
    /// DPM-Solver(++) with steps that start anew every second or third time.
    DpmSolverSinglestep,
    /// DPM-Solver++ with a midpoint and the noise of a Brownian path.
    DpmSolverSde,
    /// DEIS (arXiv:2204.13902).
    DeisMultistep,
    /// UniPC (arXiv:2302.04867): a predictor and a corrector.
    UniPcMultistep,
    /// Latent consistency models (arXiv:2310.04378).
    Lcm,
    /// Trajectory consistency distillation (arXiv:2402.19159).
    Tcd,
    /// Euler's method as EDM's models are preconditioned (arXiv:2206.00364).
    EdmEuler,
}

impl SchedulerKind {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::EulerDiscrete,
        Self::EulerAncestralDiscrete,
        Self::HeunDiscrete,
        Self::Kdpm2Discrete,
        Self::Kdpm2AncestralDiscrete,
        Self::LmsDiscrete,
        Self::Ddim,
        Self::Ddpm,
        Self::Pndm,
        Self::DpmSolverMultistep,
        Self::DpmSolverSinglestep,
        Self::DpmSolverSde,
        Self::DeisMultistep,
        Self::UniPcMultistep,
        Self::Lcm,
        Self::Tcd,
        Self::EdmEuler,
    ];

    /// diffusers' class name without `Scheduler`.
    pub fn name(self) -> &'static str {
        match self {
            Self::EulerDiscrete => "EulerDiscrete",
            Self::EulerAncestralDiscrete => "EulerAncestralDiscrete",
            Self::HeunDiscrete => "HeunDiscrete",
            Self::Kdpm2Discrete => "KDPM2Discrete",
            Self::Kdpm2AncestralDiscrete => "KDPM2AncestralDiscrete",
            Self::LmsDiscrete => "LMSDiscrete",
            Self::Ddim => "DDIM",
            Self::Ddpm => "DDPM",
            Self::Pndm => "PNDM",
            Self::DpmSolverMultistep => "DPMSolverMultistep",
            Self::DpmSolverSinglestep => "DPMSolverSinglestep",
            Self::DpmSolverSde => "DPMSolverSDE",
            Self::DeisMultistep => "DEISMultistep",
            Self::UniPcMultistep => "UniPCMultistep",
            Self::Lcm => "LCM",
            Self::Tcd => "TCD",
            Self::EdmEuler => "EDMEuler",
        }
    }

    /// Finds a scheduler by its class name, with or without `Scheduler` at the end, in any case.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| {
            let class = kind.name();
            name.eq_ignore_ascii_case(class)
                || name.len() == class.len() + "Scheduler".len()
                    && name.is_char_boundary(class.len())
                    && name[..class.len()].eq_ignore_ascii_case(class)
                    && name[class.len()..].eq_ignore_ascii_case("Scheduler")
        })
    }

    /// Whether σ can be spaced anew: Karras, exponential, beta.
    pub fn respaces(self) -> bool {
        matches!(
            self,
            Self::EulerDiscrete
                | Self::HeunDiscrete
                | Self::Kdpm2Discrete
                | Self::Kdpm2AncestralDiscrete
                | Self::LmsDiscrete
        ) || self.integrates_log_snr()
            || self == Self::DpmSolverSde
    }

    /// Whether it steps in the log ratio of signal to noise, with whole timesteps.
    pub fn integrates_log_snr(self) -> bool {
        matches!(
            self,
            Self::DpmSolverMultistep
                | Self::DpmSolverSinglestep
                | Self::DeisMultistep
                | Self::UniPcMultistep
        )
    }

    /// Whether it walks ᾱ over whole timesteps of training.
    pub fn walks_training_steps(self) -> bool {
        matches!(
            self,
            Self::Ddim | Self::Ddpm | Self::Pndm | Self::Lcm | Self::Tcd
        )
    }

    /// Whether its class reads `rescale_betas_zero_snr`; the others pass it over.
    pub(super) fn reads_zero_snr(self) -> bool {
        matches!(
            self,
            Self::EulerDiscrete
                | Self::EulerAncestralDiscrete
                | Self::Ddim
                | Self::Ddpm
                | Self::DpmSolverMultistep
                | Self::UniPcMultistep
                | Self::Lcm
                | Self::Tcd
        )
    }

    /// Whether its class reads `final_sigmas_type`.
    pub(super) fn reads_final_sigma(self) -> bool {
        matches!(
            self,
            Self::EulerDiscrete
                | Self::DpmSolverMultistep
                | Self::DpmSolverSinglestep
                | Self::UniPcMultistep
                | Self::EdmEuler
        )
    }

    /// First and last β, and their schedule, where the config is silent.
    pub(super) fn default_betas(self) -> (f64, f64, &'static str) {
        match self {
            Self::HeunDiscrete
            | Self::Kdpm2Discrete
            | Self::Kdpm2AncestralDiscrete
            | Self::DpmSolverSde => (0.00085, 0.012, "linear"),
            Self::Lcm | Self::Tcd => (0.00085, 0.012, "scaled_linear"),
            _ => (0.0001, 0.02, "linear"),
        }
    }

    /// Schedules of β that its class knows.
    pub(super) fn beta_schedules(self) -> &'static str {
        match self {
            Self::HeunDiscrete => "linear, scaled_linear, squaredcos_cap_v2, exp",
            Self::Ddpm => "linear, scaled_linear, squaredcos_cap_v2, laplace, sigmoid",
            _ => "linear, scaled_linear, squaredcos_cap_v2",
        }
    }

    /// Predictions that its class knows.
    pub(super) fn prediction_types(self) -> &'static str {
        match self {
            Self::EulerDiscrete => "epsilon, v_prediction, sample, original_sample",
            Self::EulerAncestralDiscrete
            | Self::Kdpm2Discrete
            | Self::Kdpm2AncestralDiscrete
            | Self::DpmSolverSde
            | Self::Pndm
            | Self::EdmEuler => "epsilon, v_prediction",
            _ => "epsilon, v_prediction, sample",
        }
    }

    /// How steps are laid out where the config is silent.
    pub(super) fn default_spacing(self) -> TimestepSpacing {
        if self.walks_training_steps() {
            TimestepSpacing::Leading
        } else {
            TimestepSpacing::Linspace
        }
    }
}
