//! What a model or LoRA is best run with, told from its name and config: distilled models take few
//! steps, little or no guidance, and the spacing that they were distilled with.

use super::config::{PredictionType, SchedulerConfig, TimestepSpacing};
use super::kind::SchedulerKind;

/// Settings that suit a model where a request names none.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    /// Denoising steps.
    pub num_inference_steps: u32,
    /// Classifier-free guidance; 0 or 1 is off.
    pub guidance_scale: f64,
    /// The scheduler in place of the folder's own.
    pub scheduler: Option<String>,
    /// How steps are laid out, whatever scheduler is named.
    pub timestep_spacing: Option<TimestepSpacing>,
    /// What the UNet predicts, in place of what the folder's scheduler says.
    pub prediction_type: Option<PredictionType>,
    /// The timestep that a single step starts from, where it is not the noisiest.
    pub single_step_from: Option<usize>,
    /// Width and height in pixels, where they are not those of the UNet's config.
    pub side: Option<u32>,
    /// A sentence for people that says what was recognised; empty for ordinary models.
    pub why: String,
}

impl Default for Defaults {
    /// What diffusers' SDXL pipeline takes for an ordinary model.
    fn default() -> Self {
        Self {
            num_inference_steps: 50,
            guidance_scale: 5.0,
            scheduler: None,
            timestep_spacing: None,
            prediction_type: None,
            single_step_from: None,
            side: None,
            why: String::new(),
        }
    }
}

impl Defaults {
    /// Whether a distilled model was recognised.
    pub fn is_few_step(&self) -> bool {
        !self.why.is_empty()
    }

    /// Those of a model with this name (its folder's or file's), scheduler and kind of UNet. The
    /// name is looked at first.
    pub fn of_model(name: &str, scheduler: &SchedulerConfig, embeds_guidance: bool) -> Self {
        let mut found = few_step_defaults(name).or_else(|| of_scheduler(scheduler));
        if embeds_guidance {
            // The guidance scale is an input of the UNet (arXiv:2310.04378, §4.3).
            let found = found.get_or_insert_with(|| Self {
                num_inference_steps: 4,
                why: "Distilled model that takes guidance as an input".to_string(),
                ..Self::default()
            });
            found.guidance_scale = 8.0;
            found.why += ": guidance 8, told to the UNet";
        }
        let mut defaults = found.unwrap_or_default();
        if !embeds_guidance && defaults.is_few_step() {
            defaults.why += &format!(": {}", defaults.advice());
        }
        defaults
    }

    /// Steps and guidance in words.
    fn advice(&self) -> String {
        let steps = match self.num_inference_steps {
            1 => "1 step".to_string(),
            steps => format!("{steps} steps"),
        };
        if self.guidance_scale > 1.0 {
            format!("{steps}, guidance {}", self.guidance_scale)
        } else {
            format!("{steps}, guidance off")
        }
    }
}

/// Settings for a distilled model or LoRA of this name; `None` for any other. File endings and
/// folders before the name do not matter. Facts from the published model cards.
pub fn few_step_defaults(name: &str) -> Option<Defaults> {
    let name = name.to_lowercase();
    let words: Vec<&str> = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let joined = words.concat();
    let steps = steps_in(&words);
    let is_lora = joined.contains("lora");
    let found = |steps: u32, guidance_scale: f64, scheduler: &str, why: &str| Defaults {
        num_inference_steps: steps,
        guidance_scale,
        scheduler: Some(scheduler.to_string()),
        why: why.to_string(),
        ..Defaults::default()
    };
    let trailing = Some(TimestepSpacing::Trailing);

    if joined.contains("lightning") {
        let steps = steps.unwrap_or(4);
        return Some(Defaults {
            timestep_spacing: trailing,
            // The UNet for one step was trained to predict the clean sample.
            prediction_type: (steps == 1 && !is_lora).then_some(PredictionType::Sample),
            ..found(steps, 0.0, "Euler", "SDXL-Lightning")
        });
    }
    let hyper =
        joined.contains("hypersd") || words.contains(&"hyper") && (steps.is_some() || is_lora);
    if hyper {
        let steps = steps.unwrap_or(if is_lora { 8 } else { 1 });
        return Some(if steps == 1 && is_lora {
            found(1, 0.0, "TCD", "Hyper-SD")
        } else if steps == 1 {
            Defaults {
                // As its model card asks for: it was distilled for this one.
                single_step_from: Some(800),
                ..found(1, 0.0, "LCM", "Hyper-SD")
            }
        } else {
            // "CFG" in the name: trained to keep guidance, 5 to 8.
            let (guidance, why) = if joined.contains("cfg") {
                (5.0, "Hyper-SD that keeps guidance")
            } else {
                (0.0, "Hyper-SD")
            };
            Defaults {
                timestep_spacing: trailing,
                ..found(steps, guidance, "DDIM", why)
            }
        });
    }
    if joined.contains("turbo") {
        let official = joined.contains("sdxlturbo");
        return Some(Defaults {
            timestep_spacing: trailing,
            side: official.then_some(512),
            ..found(
                steps.unwrap_or(4),
                0.0,
                "Euler a",
                "SDXL-Turbo, for 1 to 4 steps",
            )
        });
    }
    if joined.contains("dmd2") {
        return Some(found(steps.unwrap_or(4), 0.0, "LCM", "DMD2"));
    }
    if words.contains(&"tcd") {
        return Some(found(
            steps.unwrap_or(4),
            0.0,
            "TCD",
            "TCD, for 4 to 8 steps",
        ));
    }
    if words
        .iter()
        .any(|word| matches!(*word, "lcm" | "lcmlora" | "sdxllcm" | "lcmsdxl"))
        || joined.contains("latentconsistency")
    {
        return Some(found(
            steps.unwrap_or(4),
            1.0,
            "LCM",
            "Latent consistency (LCM), for 4 to 8 steps",
        ));
    }
    None
}

/// The N of "4step", "4-steps", "4 step".
fn steps_in(words: &[&str]) -> Option<u32> {
    let number = |text: &str| text.parse().ok().filter(|steps| (1..=50).contains(steps));
    words.iter().enumerate().find_map(|(at, word)| {
        let before = word.find("step").map(|end| &word[..end])?;
        if before.is_empty() {
            at.checked_sub(1).and_then(|before| number(words[before]))
        } else {
            let digits = before.trim_start_matches(|c: char| !c.is_ascii_digit());
            number(digits)
        }
    })
}

/// Settings for a folder whose scheduler is that of a distilled model.
fn of_scheduler(scheduler: &SchedulerConfig) -> Option<Defaults> {
    let (guidance_scale, why) = match scheduler.kind {
        SchedulerKind::Lcm => (1.0, "Latent consistency (LCM), for 4 to 8 steps"),
        SchedulerKind::Tcd => (0.0, "TCD, for 4 to 8 steps"),
        // As SDXL-Turbo's folder has it, and no other's.
        SchedulerKind::EulerAncestralDiscrete
            if scheduler.timestep_spacing == TimestepSpacing::Trailing =>
        {
            (0.0, "SDXL-Turbo, for 1 to 4 steps")
        }
        _ => return None,
    };
    Some(Defaults {
        num_inference_steps: 4,
        guidance_scale,
        why: why.to_string(),
        ..Defaults::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps, guidance, scheduler and whether spacing is trailing.
    fn of(name: &str) -> Option<(u32, f64, String, bool)> {
        few_step_defaults(name).map(|found| {
            (
                found.num_inference_steps,
                found.guidance_scale,
                found.scheduler.expect("a scheduler"),
                found.timestep_spacing == Some(TimestepSpacing::Trailing),
            )
        })
    }

    #[test]
    fn published_names_are_known() {
        for (name, steps, guidance, scheduler, trailing) in [
            ("sdxl-turbo", 4, 0.0, "Euler a", true),
            ("sd_xl_turbo_1.0_fp16.safetensors", 4, 0.0, "Euler a", true),
            ("sdxl_lightning_4step.safetensors", 4, 0.0, "Euler", true),
            ("sdxl_lightning_8step_unet", 8, 0.0, "Euler", true),
            (
                "sdxl_lightning_2step_lora.safetensors",
                2,
                0.0,
                "Euler",
                true,
            ),
            ("SDXL-Lightning", 4, 0.0, "Euler", true),
            ("lcm-lora-sdxl", 4, 1.0, "LCM", false),
            ("lcm-sdxl", 4, 1.0, "LCM", false),
            ("Hyper-SDXL-4steps-lora.safetensors", 4, 0.0, "DDIM", true),
            ("Hyper-SDXL-1step-lora.safetensors", 1, 0.0, "TCD", false),
            ("Hyper-SDXL-1step-Unet.safetensors", 1, 0.0, "LCM", false),
            (
                "Hyper-SDXL-12steps-CFG-lora.safetensors",
                12,
                5.0,
                "DDIM",
                true,
            ),
            (
                "Hyper-SDXL-8steps-CFG-lora.safetensors",
                8,
                5.0,
                "DDIM",
                true,
            ),
            ("dmd2_sdxl_4step_lora.safetensors", 4, 0.0, "LCM", false),
            ("TCD-SDXL-LoRA", 4, 0.0, "TCD", false),
        ] {
            let want = (steps, guidance, scheduler.to_string(), trailing);
            assert_eq!(of(name), Some(want), "{name}");
        }
        for ordinary in [
            "stable-diffusion-xl-base-1.0",
            "juggernautXL_v9",
            "hyperrealism-xl",
            "pixel-art-lora",
            "demo",
            "calcmap",
        ] {
            assert_eq!(of(ordinary), None, "{ordinary}");
        }
        let one = few_step_defaults("sdxl_lightning_1step_x0").expect("known");
        assert_eq!(one.prediction_type, Some(PredictionType::Sample));
        let turbo = few_step_defaults("sd_xl_turbo_1.0").expect("known");
        assert_eq!(turbo.side, Some(512));
    }
}
