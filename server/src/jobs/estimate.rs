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

/// Denoising steps of all models together, as far as the settings alone tell.
pub fn steps(settings: &Settings) -> u32 {
    let asked = settings.num_inference_steps;
    // As diffusers rounds: down, but something is always run.
    let share = |strength: f64| ((f64::from(asked) * strength) as u32).clamp(1, asked.max(1));
    let base = settings.strength.map_or(asked, share);
    // A split leaves the number of steps as it is; refining the finished image adds to it.
    let all = base + settings.refiner_strength.map_or(0, share);
    if is_second_order(settings.scheduler.as_deref()) {
        (2 * all).saturating_sub(1)
    } else {
        all
    }
}

/// Whether a scheduler looks at every step's end once more.
fn is_second_order(scheduler: Option<&str>) -> bool {
    let name: String = scheduler
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_lowercase();
    name.contains("heun")
        // DPM++ 2M and its SDE are not among them.
        || ((name.contains("dpm2") && !name.contains("dpm2m") && !name.contains("dpm2s"))
            || ["dpmsde", "dpmsolversde"].iter().any(|part| name.contains(part)))
}

/// The work of denoising: steps × pixels × UNet passes per step.
pub fn units(settings: &Settings) -> f64 {
    let passes = if settings.guidance_scale > 1.0 {
        2.0
    } else {
        1.0
    };
    f64::from(steps(settings)) * f64::from(settings.width) * f64::from(settings.height) * passes
}

/// The same work as the page about usage counts it: steps × megapixels with guidance, half of that
/// without.
pub fn work(settings: &Settings) -> f64 {
    units(settings) / 2e6
}

impl Speed {
    /// The speed of `model` on the kind of `device` (`cpu`, `cuda:0`) from the latest images, newest
    /// first; `None` when none is of that model and made there.
    pub fn measured(model: &str, device: &str, latest: &[(Settings, Facts)]) -> Option<Self> {
        let kind = |device: &str| device.split(':').next().map(str::to_owned);
        let sample: Vec<_> = latest
            .iter()
            .filter(|(settings, facts)| {
                settings.model == model && kind(&facts.device) == kind(device)
            })
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
            ..Settings::default()
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
                device: "cpu".into(),
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
        let speed = Speed::measured("demo", "cpu", &latest).unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
        near(speed.takes_s(&settings("demo", 20, 128, 5.0)), 2.5);
        near(speed.takes_s(&settings("demo", 40, 128, 5.0)), 4.5);
        near(speed.takes_s(&settings("demo", 20, 256, 5.0)), 8.5);
        near(speed.takes_s(&settings("demo", 20, 128, 1.0)), 1.5);
        assert_eq!(Speed::measured("new", "cpu", &latest), None);
        assert_eq!(Speed::measured("demo", "cuda:0", &latest), None);
    }

    #[test]
    fn strength_refiner_and_second_order_count() {
        let count = |change: &dyn Fn(&mut Settings)| {
            let mut settings = settings("demo", 20, 128, 5.0);
            change(&mut settings);
            steps(&settings)
        };
        assert_eq!(count(&|_| {}), 20);
        assert_eq!(count(&|s| s.strength = Some(0.33)), 6);
        assert_eq!(count(&|s| s.strength = Some(0.001)), 1);
        assert_eq!(count(&|s| s.denoising_split = Some(0.8)), 20);
        assert_eq!(count(&|s| s.refiner_strength = Some(0.3)), 26);
        for name in [
            "HeunDiscrete",
            "Heun",
            "DPM2 a Karras",
            "KDPM2Discrete",
            "DPM++ SDE Karras",
        ] {
            assert_eq!(count(&|s| s.scheduler = Some(name.into())), 39, "{name}");
        }
        for name in ["Euler a", "DPM++ 2M", "DPM++ 2M SDE"] {
            let single = count(&|s| s.scheduler = Some(name.into()));
            assert_eq!(single, 20, "{name}");
        }
    }
}
