//! How long an image takes, from how long the latest ones took.

use crate::gallery::Facts;
use crate::models::SDXL_PARAMETERS;
use atelier_app::studio::Settings;

/// Images that a speed is taken from.
const SAMPLE: usize = 20;

/// Floating-point operations of one UNet pass for each pixel and each weight of the whole model:
/// SDXL's base takes 6.2 million for a pixel (1.6e12 at 512²), and has 3.47 billion weights.
const OPERATIONS_PER_UNIT: f64 = 6.2e6 / SDXL_PARAMETERS;
/// The same of decoding, which takes 1e13 at 1024².
const OPERATIONS_PER_PIXEL: f64 = 9.7e6 / SDXL_PARAMETERS;
/// The share of a device's matrix products that a whole image reaches.
const EFFICIENCY: f64 = 0.75;
/// A model so many times as large or as small as another says little about it.
const COMPARABLE: f64 = 8.0;

/// What a speed that was not measured was reckoned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// The speed of another model here, or of this one without a refiner.
    Model,
    /// The device's arithmetic.
    Arithmetic,
}

impl Guess {
    /// In words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Model => "another model's speed here",
            Self::Arithmetic => "this device's arithmetic",
        }
    }
}

/// The speed of one model on the device in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Device-seconds per unit of work (see [`units`]).
    per_unit_s: f64,
    /// Seconds per pixel that do not grow with the steps: encoding, decoding, storing.
    per_pixel_s: f64,
    /// What it is reckoned from, where no such image was made here.
    pub guess: Option<Guess>,
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

impl Speed {
    /// The speed of `model` with `refiner` on the kind of `device` (`cpu`, `cuda:0`) from the latest
    /// images, newest first; `None` when none is of those and made there.
    pub fn measured(
        model: &str,
        refiner: Option<&str>,
        device: &str,
        latest: &[(Settings, Facts)],
    ) -> Option<Self> {
        Self::of_sample(device, latest, |settings| {
            settings.model == model && settings.refiner.as_deref() == refiner
        })
    }

    fn of_sample(
        device: &str,
        latest: &[(Settings, Facts)],
        wanted: impl Fn(&Settings) -> bool,
    ) -> Option<Self> {
        let kind = |device: &str| device.split(':').next().map(str::to_owned);
        let sample: Vec<_> = latest
            .iter()
            .filter(|(settings, facts)| wanted(settings) && kind(&facts.device) == kind(device))
            .take(SAMPLE)
            .collect();
        let per_unit_s = median(
            sample
                .iter()
                .map(|(settings, facts)| facts.timings.denoising_s / units(settings)),
        )?;
        let per_pixel_s = median(sample.iter().map(|(settings, facts)| {
            let timings = &facts.timings;
            let rest = (timings.total_s - timings.loading_s - timings.denoising_s).max(0.0);
            rest / pixels(settings)
        }))?;
        Some(Self {
            per_unit_s,
            per_pixel_s,
            guess: None,
        })
    }

    /// A first guess where no such image was made on the device: from the model without its refiner,
    /// from a model of about its size, or from `gflops`, billions of operations of matrix products in a
    /// second. `parameters` answers how many weights a model has.
    pub fn guessed(
        model: &str,
        device: &str,
        latest: &[(Settings, Facts)],
        parameters: impl Fn(&str) -> f64,
        gflops: Option<f64>,
    ) -> Option<Self> {
        let as_guess = |speed: Self, scale: f64, guess| Self {
            per_unit_s: speed.per_unit_s * scale,
            per_pixel_s: speed.per_pixel_s * scale,
            guess: Some(guess),
        };
        if let Some(speed) = Self::of_sample(device, latest, |settings| settings.model == model) {
            return Some(as_guess(speed, 1.0, Guess::Model));
        }
        let size = parameters(model);
        let mut nearest: Option<(f64, f64, Self)> = None;
        let mut seen: Vec<&str> = Vec::new();
        for (settings, _) in latest {
            if seen.contains(&settings.model.as_str()) {
                continue;
            }
            seen.push(&settings.model);
            let scale = size / parameters(&settings.model).max(1.0);
            let distance = scale.ln().abs();
            if nearest.is_none_or(|(known, _, _)| distance < known)
                && let Some(speed) =
                    Self::of_sample(device, latest, |other| other.model == settings.model)
            {
                nearest = Some((distance, scale, speed));
            }
        }
        let from_model = nearest.map(|(_, scale, speed)| as_guess(speed, scale, Guess::Model));
        if nearest.is_some_and(|(distance, _, _)| distance <= COMPARABLE.ln()) {
            return from_model;
        }
        let from_arithmetic = gflops.filter(|gflops| *gflops > 0.0).map(|gflops| {
            let per_operation_s = size / (gflops * 1e9 * EFFICIENCY);
            Self {
                per_unit_s: OPERATIONS_PER_UNIT * per_operation_s,
                per_pixel_s: OPERATIONS_PER_PIXEL * per_operation_s,
                guess: Some(Guess::Arithmetic),
            }
        });
        from_arithmetic.or(from_model)
    }

    /// Seconds that such an image takes once a worker has it and the model is loaded.
    pub fn takes_s(&self, settings: &Settings) -> f64 {
        self.per_unit_s * units(settings) + self.overhead_s(settings)
    }

    /// Seconds besides the denoising steps.
    pub fn overhead_s(&self, settings: &Settings) -> f64 {
        self.per_pixel_s * pixels(settings)
    }
}

fn pixels(settings: &Settings) -> f64 {
    (f64::from(settings.width) * f64::from(settings.height)).max(1.0)
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
        let speed = Speed::measured("demo", None, "cpu", &latest).unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
        near(speed.takes_s(&settings("demo", 20, 128, 5.0)), 2.5);
        near(speed.takes_s(&settings("demo", 40, 128, 5.0)), 4.5);
        // Decoding grows with the pixels, as steps do.
        near(speed.takes_s(&settings("demo", 20, 256, 5.0)), 10.0);
        near(speed.takes_s(&settings("demo", 20, 128, 1.0)), 1.5);
        assert_eq!(Speed::measured("new", None, "cpu", &latest), None);
        assert_eq!(Speed::measured("demo", None, "cuda:0", &latest), None);
        assert_eq!(Speed::measured("demo", Some("r"), "cpu", &latest), None);
    }

    #[test]
    fn what_was_never_made_is_reckoned_and_says_so() {
        let latest = [image(settings("base", 10, 512, 5.0), 100.0, 110.0)];
        let parameters = |name: &str| match name {
            "half" => SDXL_PARAMETERS / 2.0,
            "tiny" => SDXL_PARAMETERS / 1000.0,
            _ => SDXL_PARAMETERS,
        };
        let guess = |model: &str, device: &str, gflops| {
            Speed::guessed(model, device, &latest, parameters, gflops)
        };
        let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 0.05, "{a} is not {b}");
        let half = guess("half", "cpu", Some(100.0)).unwrap();
        assert_eq!(half.guess, Some(Guess::Model));
        near(half.takes_s(&settings("half", 10, 512, 5.0)), 55.0);
        // With a refiner that was never used: the model's own speed.
        let own = guess("base", "cpu", None).unwrap();
        near(own.takes_s(&settings("base", 10, 512, 5.0)), 110.0);
        // A model of another size altogether, and a device where nothing was made yet.
        let tiny = guess("tiny", "cpu", Some(100.0)).unwrap();
        assert_eq!(tiny.guess, Some(Guess::Arithmetic));
        assert!(guess("tiny", "cpu", None).is_some());
        let gpu = guess("base", "cuda:0", Some(100_000.0)).unwrap();
        assert_eq!(gpu.guess, Some(Guess::Arithmetic));
        // 10 steps of twice 1.6e12 operations, and decoding 2.5e12, at 75 % of 1e14 a second.
        near(gpu.takes_s(&settings("base", 10, 512, 5.0)), 0.467);
        assert_eq!(guess("base", "cuda:0", None), None);
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
