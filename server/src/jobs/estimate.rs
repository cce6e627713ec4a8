//! How long an image takes, from how long the latest ones took.

use crate::gallery::Facts;
use atelier_app::studio::Settings;

/// Images that a speed is taken from.
const SAMPLE: usize = 20;

/// The measured speed of one model on the device in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Device-seconds per unit of work (see [`units`]).
    per_unit_s: f64,
    /// Seconds per image that do not grow with its steps: encoding, decoding, storing.
    overhead_s: f64,
}

/// The work of denoising: steps × pixels × UNet passes per step.
pub fn units(settings: &Settings) -> f64 {
    let passes = if settings.guidance_scale > 1.0 {
        2.0
    } else {
        1.0
    };
    f64::from(settings.num_inference_steps)
        * f64::from(settings.width)
        * f64::from(settings.height)
        * passes
}

impl Speed {
    /// The speed of `model` from the latest images, newest first; `None` when none is of that model.
    pub fn measured(model: &str, latest: &[(Settings, Facts)]) -> Option<Self> {
        let sample: Vec<_> = latest
            .iter()
            .filter(|(settings, _)| settings.model == model)
            .take(SAMPLE)
            .collect();
        let per_unit_s = median(
            sample
                .iter()
                .map(|(settings, facts)| facts.timings.denoising_s / units(settings)),
        )?;
        let overhead_s = median(sample.iter().map(|(_, facts)| {
            let timings = &facts.timings;
            (timings.total_s - timings.loading_s - timings.denoising_s).max(0.0)
        }))?;
        Some(Self {
            per_unit_s,
            overhead_s,
        })
    }

    /// Seconds that such an image takes once a worker has it and the model is loaded.
    pub fn takes_s(&self, settings: &Settings) -> f64 {
        self.per_unit_s * units(settings) + self.overhead_s
    }

    /// Seconds after the last denoising step.
    pub fn overhead_s(&self) -> f64 {
        self.overhead_s
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use atelier_app::gallery::PhaseTimings;

    fn settings(model: &str, steps: u32, side: u32, guidance_scale: f64) -> Settings {
        Settings {
            prompt: "x".into(),
            negative_prompt: None,
            num_inference_steps: steps,
            guidance_scale,
            width: side,
            height: side,
            seed: 1,
            scheduler: None,
            model: model.into(),
            prompt_syntax: Default::default(),
            clip_skip: 0,
        }
    }

    fn image(settings: Settings, denoising_s: f64, total_s: f64) -> (Settings, Facts) {
        let timings = PhaseTimings {
            denoising_s,
            total_s,
            ..PhaseTimings::default()
        };
        (
            settings,
            Facts {
                timings,
                ..Facts::default()
            },
        )
    }

    #[test]
    fn speed_scales_with_steps_pixels_and_guidance() {
        let latest = [
            image(settings("demo", 20, 128, 5.0), 2.0, 2.5),
            image(settings("demo", 10, 128, 5.0), 1.0, 1.5),
            image(settings("other", 10, 128, 5.0), 100.0, 101.0),
        ];
        let speed = Speed::measured("demo", &latest).unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
        near(speed.takes_s(&settings("demo", 20, 128, 5.0)), 2.5);
        near(speed.takes_s(&settings("demo", 40, 128, 5.0)), 4.5);
        near(speed.takes_s(&settings("demo", 20, 256, 5.0)), 8.5);
        near(speed.takes_s(&settings("demo", 20, 128, 1.0)), 1.5);
        assert_eq!(Speed::measured("new", &latest), None);
    }
}
