//! Settings from quick to careful for each model and each LoRA that changes how many steps it takes.

use atelier_app::studio::Preset;
use atelier_engine::{Defaults, few_step_defaults};

/// The names, from quick to careful.
const NAMES: [&str; 3] = ["Fast", "Balanced", "Best"];
/// A solver that shows in a few steps what others show in many (arXiv:2211.01095), with the spacing
/// that suits few steps (arXiv:2206.00364).
const QUICK_SOLVER: &str = "DPM++ 2M Karras";

/// Those of a model that is run with `steps` and `guidance` where nothing else is said.
pub(super) fn of_model(
    defaults: &Defaults,
    steps: u32,
    guidance: f64,
    width: u32,
    schedulers: &[String],
) -> Vec<Preset> {
    if defaults.is_few_step() {
        // Of all distilled models, only the original Turbo is at home in one step.
        let turbo = defaults.why.starts_with("SDXL-Turbo") && width <= 512;
        return ladder(if turbo { [1, 2, 4] } else { few(steps) }, guidance);
    }
    let solver = schedulers.iter().find(|name| *name == QUICK_SOLVER);
    let mut presets = ladder([steps * 2 / 5, steps, steps * 5 / 3], guidance);
    // The careful ones keep the model's own scheduler: the same seed shows the same picture.
    if presets.len() == NAMES.len() {
        presets[0].scheduler = solver.cloned();
    }
    presets
}

/// Those of a LoRA of this name; none where it leaves the number of steps alone.
pub(super) fn of_lora(name: &str) -> Vec<Preset> {
    few_step_defaults(name).map_or_else(Vec::new, |defaults| {
        ladder(few(defaults.num_inference_steps), defaults.guidance_scale)
    })
}

/// What was distilled for some number of steps gains a little from some more. What was distilled
/// for a single one knows no other.
fn few(steps: u32) -> [u32; 3] {
    match steps {
        0 | 1 => [1; 3],
        steps => [steps, steps + steps / 2, steps * 2],
    }
}

/// One preset for each different number of steps.
fn ladder(steps: [u32; 3], guidance_scale: f64) -> Vec<Preset> {
    let mut presets: Vec<Preset> = Vec::new();
    for (name, steps) in NAMES.into_iter().zip(steps) {
        let num_inference_steps = steps.clamp(1, super::MAX_STEPS);
        if presets
            .iter()
            .any(|known| known.num_inference_steps == num_inference_steps)
        {
            continue;
        }
        presets.push(Preset {
            name: name.to_owned(),
            num_inference_steps,
            guidance_scale,
            scheduler: None,
        });
    }
    presets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(presets: &[Preset]) -> Vec<u32> {
        presets
            .iter()
            .map(|preset| preset.num_inference_steps)
            .collect()
    }

    #[test]
    fn presets_follow_from_the_model() {
        let schedulers = ["Euler".to_owned(), QUICK_SOLVER.to_owned()];
        let usual = of_model(&Defaults::default(), 30, 5.0, 1024, &schedulers);
        assert_eq!(steps(&usual), [12, 30, 50]);
        assert_eq!(usual[0].scheduler.as_deref(), Some(QUICK_SOLVER));
        assert_eq!(usual[2].scheduler, None);
        let distilled = |name: &str, width| {
            let defaults = few_step_defaults(name).expect("a distilled model");
            let (steps, guidance) = (defaults.num_inference_steps, defaults.guidance_scale);
            of_model(&defaults, steps, guidance, width, &schedulers)
        };
        assert_eq!(steps(&distilled("sdxl-turbo", 512)), [1, 2, 4]);
        assert_eq!(steps(&distilled("dreamshaper-turbo", 1024)), [4, 6, 8]);
        assert_eq!(steps(&distilled("sdxl_lightning_8step", 1024)), [8, 12, 16]);
        assert_eq!(steps(&distilled("sdxl_lightning_1step_x0", 1024)), [1]);
        let lcm = of_lora("lcm-lora-sdxl");
        assert_eq!(steps(&lcm), [4, 6, 8]);
        assert_eq!((lcm[0].guidance_scale, &lcm[0].scheduler), (1.0, &None));
        assert!(of_lora("ink").is_empty());
    }
}
