//! The names that people know schedulers by: diffusers' class names, those of A1111, and the
//! spellings of ComfyUI and InvokeAI. A name stands for a class and, often, settings of it.

use serde_json::{Value, json};

use super::config::{Algorithm, SchedulerConfig, SigmaSpacing, SolverType};
use super::kind::SchedulerKind;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedScheduler {
    /// The class.
    pub kind: SchedulerKind,
    /// Keys of `scheduler_config.json` that the name decides, whatever the model's file says.
    pub overrides: Vec<(&'static str, Value)>,
}

/// A sampler as A1111 writes it.
struct Sampler {
    name: &'static str,
    kind: SchedulerKind,
    /// Of the DPM-Solvers: algorithm, order and solver type.
    solver: Option<(Algorithm, usize, SolverType)>,
    /// Other spellings, reduced as [`reduced`] does.
    aliases: &'static [&'static str],
}

const fn plain(
    name: &'static str,
    kind: SchedulerKind,
    aliases: &'static [&'static str],
) -> Sampler {
    Sampler {
        name,
        kind,
        solver: None,
        aliases,
    }
}

const fn solver(
    name: &'static str,
    kind: SchedulerKind,
    algorithm: Algorithm,
    order: usize,
    solver_type: SolverType,
) -> Sampler {
    Sampler {
        name,
        kind,
        solver: Some((algorithm, order, solver_type)),
        aliases: &[],
    }
}

const MULTISTEP: SchedulerKind = SchedulerKind::DpmSolverMultistep;
const PLUS_PLUS: Algorithm = Algorithm::DpmSolverPlusPlus;
const SDE: Algorithm = Algorithm::SdeDpmSolverPlusPlus;

/// All of them, the usual ones first.
const SAMPLERS: &[Sampler] = &[
    plain("Euler", SchedulerKind::EulerDiscrete, &[]),
    plain(
        "Euler a",
        SchedulerKind::EulerAncestralDiscrete,
        &["eulerancestral"],
    ),
    solver("DPM++ 2M", MULTISTEP, PLUS_PLUS, 2, SolverType::Midpoint),
    solver("DPM++ 2M SDE", MULTISTEP, SDE, 2, SolverType::Midpoint),
    solver("DPM++ 2M SDE Heun", MULTISTEP, SDE, 2, SolverType::Heun),
    solver("DPM++ 3M", MULTISTEP, PLUS_PLUS, 3, SolverType::Midpoint),
    solver("DPM++ 3M SDE", MULTISTEP, SDE, 3, SolverType::Midpoint),
    plain("DPM++ SDE", SchedulerKind::DpmSolverSde, &[]),
    solver(
        "DPM++ 2S",
        SchedulerKind::DpmSolverSinglestep,
        PLUS_PLUS,
        2,
        SolverType::Midpoint,
    ),
    plain("Heun", SchedulerKind::HeunDiscrete, &[]),
    plain("DDIM", SchedulerKind::Ddim, &[]),
    plain("UniPC", SchedulerKind::UniPcMultistep, &[]),
    plain("LCM", SchedulerKind::Lcm, &[]),
    plain("TCD", SchedulerKind::Tcd, &[]),
    plain("DPM2", SchedulerKind::Kdpm2Discrete, &["kdpm2"]),
    plain(
        "DPM2 a",
        SchedulerKind::Kdpm2AncestralDiscrete,
        &["dpm2ancestral", "kdpm2a", "kdpm2ancestral"],
    ),
    plain("LMS", SchedulerKind::LmsDiscrete, &[]),
    plain("DEIS", SchedulerKind::DeisMultistep, &[]),
    plain("PLMS", SchedulerKind::Pndm, &[]),
    plain("DDPM", SchedulerKind::Ddpm, &[]),
    plain("EDM Euler", SchedulerKind::EdmEuler, &[]),
];

/// Spacings of σ, as names end with them.
const SPACINGS: &[(&str, SigmaSpacing)] = &[
    ("Karras", SigmaSpacing::Karras),
    ("Exponential", SigmaSpacing::Exponential),
    ("Beta", SigmaSpacing::Beta),
];

/// Lower case, without spaces and marks; `++` is `pp`.
fn reduced(name: &str) -> String {
    name.to_lowercase()
        .replace('+', "p")
        .chars()
        .filter(|c| !matches!(c, ' ' | '_' | '-' | '.'))
        .collect()
}

impl Sampler {
    fn is(&self, reduced_name: &str) -> bool {
        let own = reduced(self.name);
        // k_euler, k_dpmpp_2m: the names of the k-diffusion library.
        let with_k = reduced_name.strip_prefix('k').unwrap_or(reduced_name);
        own == reduced_name
            || own == with_k
            || self.aliases.contains(&reduced_name)
            || self.aliases.contains(&with_k)
    }

    fn named(&self, spacing: Option<SigmaSpacing>) -> NamedScheduler {
        let mut overrides: Vec<(&'static str, Value)> = Vec::new();
        if let Some((algorithm, order, solver_type)) = self.solver {
            overrides.push(("algorithm_type", json!(algorithm.name())));
            overrides.push(("solver_order", json!(order)));
            let heun = solver_type == SolverType::Heun;
            overrides.push(("solver_type", json!(if heun { "heun" } else { "midpoint" })));
        }
        match self.kind {
            SchedulerKind::DeisMultistep => overrides.push(("algorithm_type", json!("deis"))),
            SchedulerKind::Pndm => overrides.push(("skip_prk_steps", json!(true))),
            _ => {}
        }
        if let Some(spacing) = spacing {
            for (key, named) in [
                ("use_karras_sigmas", SigmaSpacing::Karras),
                ("use_exponential_sigmas", SigmaSpacing::Exponential),
                ("use_beta_sigmas", SigmaSpacing::Beta),
                ("use_lu_lambdas", SigmaSpacing::LogSnr),
            ] {
                overrides.push((key, json!(named == spacing)));
            }
        }
        NamedScheduler {
            kind: self.kind,
            overrides,
        }
    }

    /// Whether this name, given again, would change nothing about a config.
    fn describes(&self, config: &SchedulerConfig) -> bool {
        let found = (config.algorithm, config.solver_order, config.solver_type);
        let third = config.solver_order == 3 && config.kind == MULTISTEP;
        self.kind == config.kind
            && self.solver.is_none_or(|(algorithm, order, solver_type)| {
                (algorithm, order) == (found.0, found.1) && (third || solver_type == found.2)
            })
            && (self.kind != SchedulerKind::Pndm || config.skip_prk_steps)
    }
}

impl NamedScheduler {
    /// Finds what a name stands for: a class name with or without `Scheduler`, or a sampler's name
    /// with or without a spacing of σ at its end, in any case.
    pub fn find(name: &str) -> Option<Self> {
        if let Some(kind) = SchedulerKind::find(name) {
            return Some(Self {
                kind,
                overrides: Vec::new(),
            });
        }
        let name = reduced(name);
        let sampler = |name: &str| SAMPLERS.iter().find(|sampler| sampler.is(name));
        if let Some(sampler) = sampler(&name) {
            return Some(sampler.named(None));
        }
        SPACINGS
            .iter()
            .map(|(suffix, spacing)| (reduced(suffix), *spacing))
            // InvokeAI's dpmpp_2m_k.
            .chain([("k".to_string(), SigmaSpacing::Karras)])
            .find_map(|(suffix, spacing)| {
                let sampler = sampler(name.strip_suffix(&suffix)?)?;
                sampler
                    .kind
                    .respaces()
                    .then(|| sampler.named(Some(spacing)))
            })
    }
}

/// The names that a request may give, as A1111 writes them: each sampler, and with Karras' σ where
/// that is possible.
pub fn names() -> Vec<String> {
    SAMPLERS
        .iter()
        .flat_map(|sampler| {
            let karras = sampler
                .kind
                .respaces()
                .then(|| format!("{} Karras", sampler.name));
            [sampler.name.to_string()].into_iter().chain(karras)
        })
        .collect()
}

/// The samplers' names alone, for messages.
pub fn samplers() -> String {
    SAMPLERS
        .iter()
        .map(|sampler| sampler.name)
        .collect::<Vec<_>>()
        .join(", ")
}

impl SchedulerConfig {
    /// The name of what this config says: given in a request to the same model, it gives this
    /// config again.
    pub fn name(&self) -> String {
        let Some(sampler) = SAMPLERS.iter().find(|sampler| sampler.describes(self)) else {
            return self.kind.name().to_string();
        };
        match SPACINGS
            .iter()
            .find(|(_, spacing)| *spacing == self.sigma_spacing)
        {
            Some((suffix, _)) => format!("{} {suffix}", sampler.name),
            None => sampler.name.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn read(name: &str) -> SchedulerConfig {
        let named = NamedScheduler::find(name).unwrap_or_else(|| panic!("{name} is not known"));
        let mut config = Config::parse(Path::new("c"), "{}").expect("JSON");
        for (key, value) in named.overrides {
            config.set(key, value);
        }
        SchedulerConfig::read_as(&config, named.kind).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    #[test]
    fn a_name_given_back_means_the_same() {
        for name in names() {
            let config = read(&name);
            assert_eq!(config.name(), name);
            assert_eq!(read(&config.name()), config);
        }
        for kind in SchedulerKind::ALL {
            for class in [kind.name().to_string(), format!("{}Scheduler", kind.name())] {
                assert_eq!(read(&class).kind, *kind, "{class}");
            }
            let config = read(kind.name());
            assert_eq!(read(&config.name()), config, "{}", kind.name());
        }
    }

    #[test]
    fn spellings() {
        for (spelling, name) in [
            ("euler", "Euler"),
            ("k_euler", "Euler"),
            ("eulerdiscretescheduler", "Euler"),
            ("euler_a", "Euler a"),
            ("Euler A", "Euler a"),
            ("euler ancestral", "Euler a"),
            ("k_euler_a", "Euler a"),
            ("Euler Karras", "Euler Karras"),
            ("euler_k", "Euler Karras"),
            ("dpmpp_2m", "DPM++ 2M"),
            ("k_dpmpp_2m", "DPM++ 2M"),
            ("dpm++ 2m karras", "DPM++ 2M Karras"),
            ("DPM++ 2M Karras", "DPM++ 2M Karras"),
            ("dpmpp_2m_karras", "DPM++ 2M Karras"),
            ("dpmpp_2m_k", "DPM++ 2M Karras"),
            ("dpmpp_2m_sde", "DPM++ 2M SDE"),
            ("DPM++ 2M SDE Exponential", "DPM++ 2M SDE Exponential"),
            ("dpmpp_3m_sde_karras", "DPM++ 3M SDE Karras"),
            ("dpmpp_sde", "DPM++ SDE"),
            ("DPM++ SDE Karras", "DPM++ SDE Karras"),
            ("dpmpp_2s", "DPM++ 2S"),
            ("k_dpm_2", "DPM2"),
            ("dpm_2_ancestral", "DPM2 a"),
            ("kdpm_2_a", "DPM2 a"),
            ("uni_pc", "UniPC"),
            ("ddim", "DDIM"),
            ("plms", "PLMS"),
        ] {
            assert_eq!(read(spelling).name(), name, "{spelling}");
        }
        // Another algorithm, or one that has no such σ, is not guessed at.
        for unknown in [
            "DPM++ 2S a",
            "Euler a Karras",
            "DDIM Karras",
            "",
            "k",
            "Karras",
        ] {
            assert_eq!(NamedScheduler::find(unknown), None, "{unknown}");
        }
    }
}
