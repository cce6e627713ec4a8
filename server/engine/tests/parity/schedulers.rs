//! Every scheduler against diffusers': timesteps, σ and all stepped latents, from the beginning and
//! from the middle, as recorded by `record_schedulers.py`.

use std::path::Path;

use atelier_engine::config::Config;
use atelier_engine::rng::TorchGenerator;
use atelier_engine::schedulers::{BrownianTree, SchedulerConfig, SchedulerKind};
use atelier_engine::{Control, GenerateRequest};
use serde_json::{Value, json as value};

use crate::fixtures::{Copy, Numbers, fixture, json, load, relative_error_of};
use crate::images::{MAX, MEAN, difference};

/// Relative to the largest value of a run: f32, with rounding carried from step to step.
const TOLERANCE: f32 = 1e-5;
/// Of third-order steps in sums that cancel: diffusers' own f32 is this far from its f64.
const CANCELLING: f32 = 3e-4;
/// Of DPMSolverSDE: its path is asked at σ rounded to six decimals, and σ is an exponential of a
/// logarithm in f32, whose last bit depends on the processor. One bit more is 10⁻⁶ more of Brownian
/// time now and then, which is 10⁻³ of noise.
const BROWNIAN: f32 = 2e-3;
/// Timesteps found from σ, relative to the largest: the inverse of a logarithm in f32.
const TIMESTEPS: f32 = 2e-5;

/// What the recorder has in place of a UNet.
fn unet(sample: &[f32], timestep: f32) -> Vec<f32> {
    sample
        .iter()
        .map(|x| 0.9 * x + 0.2 * (2.0 * x + 0.01 * timestep).sin())
        .collect()
}

/// The part of a list that one run recorded.
struct Reader {
    values: Vec<f32>,
    at: usize,
}

impl Reader {
    fn new(numbers: &Numbers, name: &str) -> Self {
        Self {
            values: numbers.values(name),
            at: 0,
        }
    }

    fn take(&mut self, count: usize) -> Vec<f32> {
        let part = self.values[self.at..self.at + count].to_vec();
        self.at += count;
        part
    }
}

fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a count")).expect("a small count")
}

/// Largest error of a case's timesteps, σ and latents.
fn errors(case: &Value, numbers: &Numbers) -> [f32; 3] {
    let name = case["name"].as_str().expect("a name");
    let kind = SchedulerKind::find(case["kind"].as_str().expect("a kind")).expect("a known kind");
    let text = case["config"].to_string();
    let config = Config::parse(Path::new("scheduler_config.json"), &text).expect("a JSON object");
    let config = SchedulerConfig::read_as(&config, kind).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut lists = ["timesteps", "sigmas", "init", "trail"]
        .map(|part| Reader::new(numbers, &format!("{name}/{part}")));
    let mut worst = [0f32; 3];
    for run in case["runs"].as_array().expect("runs") {
        let (steps, begin) = (size(&run["steps"]), size(&run["begin"]));
        let what = format!("{name}/{steps}/{begin}");
        let mut scheduler = config
            .schedule(steps)
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(scheduler.order(), size(&run["order"]), "{what}: order");
        let timesteps = scheduler.timesteps().to_vec();
        let want = lists[0].take(size(&run["timesteps"]));
        worst[0] = worst[0].max(relative_error_of(&what, &timesteps, &want));
        let want = lists[1].take(size(&run["sigmas"]));
        let sigmas = scheduler.sigmas();
        // diffusers ends KDPM2's list with zeros that no step looks at.
        worst[1] = worst[1].max(relative_error_of(&what, &sigmas[..want.len()], &want));
        let want = lists[2].take(1);
        worst[1] = worst[1].max(relative_error_of(
            &what,
            &[scheduler.init_noise_sigma()],
            &want,
        ));

        let trail = size(&run["trail"]);
        let want = lists[3].take(trail * 24);
        let mut wanted = want.chunks(24);
        let mut generator = TorchGenerator::new(run["seed"].as_u64().expect("a seed"));
        let noise = generator.randn(24);
        let mut sample = if run["noised"].as_bool().expect("a flag") {
            let original: Vec<f32> = (0..24).map(|i| -1.5 + 3.0 / 23.0 * i as f32).collect();
            scheduler.set_begin_index(begin);
            scheduler.add_noise(begin, &original, &noise)
        } else {
            let scale = scheduler.init_noise_sigma();
            noise.iter().map(|n| n * scale).collect()
        };
        let largest = want.iter().fold(0f32, |max, value| max.max(value.abs()));
        let mut compare = |sample: &[f32], step: usize| {
            let want = wanted.next().expect("a recorded sample");
            for (got, want) in sample.iter().zip(want) {
                let error = (got - want).abs() / largest;
                assert!(error.is_finite(), "{what}: step {step}: {got}, not {want}");
                worst[2] = worst[2].max(error);
            }
        };
        compare(&sample, begin);
        for (index, &timestep) in timesteps.iter().enumerate().skip(begin) {
            let mut scaled = sample.clone();
            scheduler.scale_model_input(index, &mut scaled);
            let output = unet(&scaled, timestep);
            scheduler.step(index, &output, &mut sample, &mut generator);
            compare(&sample, index);
            let original = scheduler.predicted_original().expect("a preview");
            assert_eq!(original.len(), sample.len(), "{what}: preview");
        }
        assert!(wanted.next().is_none(), "{what}: steps are missing");
    }
    worst
}

fn tolerance(case: &Value) -> f32 {
    let config = &case["config"];
    let third = config["solver_order"] == 3;
    match case["kind"].as_str().expect("a kind") {
        "DPMSolverSDE" => BROWNIAN,
        "DEISMultistep" if third => CANCELLING,
        "DPMSolverSinglestep" if third && config["solver_type"] == "heun" => CANCELLING,
        _ => TOLERANCE,
    }
}

/// The path of DPMSolverSDE's noise, against torchsde's: the same bits.
#[test]
fn brownian_paths_are_torchsdes() {
    let numbers = Numbers::read("schedulers/brownian.safetensors");
    let table = json("schedulers/brownian.json");
    let table = table.as_array().expect("a list");
    assert!(table.len() >= 6);
    for entry in table {
        let number = |value: &Value| value.as_f64().expect("a time");
        let entropy = entry["entropy"].as_u64().expect("a seed");
        let (start, end) = (number(&entry["start"]), number(&entry["end"]));
        let tree = BrownianTree::new(start, end, 24, entropy);
        for (index, asked) in entry["asked"].as_array().expect("times").iter().enumerate() {
            let got = tree.increment(number(&asked[0]), number(&asked[1]));
            let want = numbers.values(&format!("{entropy}/{index}"));
            assert_eq!(got, want, "entropy {entropy}, {asked}");
        }
    }
}

#[test]
fn every_scheduler_steps_as_diffusers() {
    let numbers = Numbers::read("schedulers/cases.safetensors");
    let cases = json("schedulers/cases.json");
    let cases = cases.as_array().expect("a list");
    let mut failures = Vec::new();
    let mut seen = Vec::new();
    let mut largest = [0f32; 3];
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let worst = errors(case, &numbers);
        let line = format!(
            "{name:40} timesteps {:.1e}  sigmas {:.1e}  latents {:.1e}",
            worst[0], worst[1], worst[2]
        );
        println!("{line}");
        if worst[0] > TIMESTEPS || worst[1] > TOLERANCE || worst[2] > tolerance(case) {
            failures.push(line);
        }
        for (largest, worst) in largest.iter_mut().zip(worst) {
            *largest = largest.max(worst);
        }
        seen.push(case["kind"].as_str().expect("a kind"));
    }
    println!("{} configs, largest errors {largest:?}", cases.len());
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    for kind in SchedulerKind::ALL {
        assert!(
            seen.contains(&kind.name()),
            "{} is not recorded",
            kind.name()
        );
    }
}

/// Whole pictures by every scheduler, asked for by the name that people know it by. What is
/// reported as the scheduler's name makes the same picture again.
#[test]
fn pictures_by_every_scheduler() {
    let copy = Copy::of("tiny-base");
    // DDIM and DDPM would clip latents to ±1, and then differ little.
    copy.set(
        "scheduler/scheduler_config.json",
        &value!({"clip_sample": false}),
    );
    let pipeline = load(copy.path());
    let table = json("schedulers/images.json");
    let table = table.as_array().expect("a list");
    assert!(table.len() >= 25);
    let mut failures = Vec::new();
    for case in table {
        let name = case["name"].as_str().expect("a name");
        let mut request = GenerateRequest {
            prompt: "a red circle on a blue field".into(),
            negative_prompt: Some("blurry".into()),
            width: 48,
            height: 32,
            num_inference_steps: u32::try_from(size(&case["steps"])).expect("few"),
            guidance_scale: 5.0,
            seed: case["seed"].as_u64().expect("a seed"),
            scheduler: Some(name.into()),
            ..GenerateRequest::default()
        };
        let made = pipeline
            .generate(&request, &mut |_| Control::Continue)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(made.scheduler, name);
        let file = fixture("schedulers").join(case["file"].as_str().expect("a file"));
        let want = image::open(file).expect("a recorded picture").to_rgb8();
        let (mean, max) = difference(&made.image, &want);
        println!("{name:28} mean {mean:.4}/255  max {max}/255");
        if mean > MEAN || max > MAX {
            failures.push(format!("{name}: mean {mean:.4}, max {max}"));
        }
        // Under diffusers' name it is the same where that name alone says enough.
        if !name.contains("++") && !name.contains(' ') {
            request.scheduler = Some(case["kind"].as_str().expect("a kind").into());
            let again = pipeline.generate(&request, &mut |_| Control::Continue);
            let again = again.unwrap_or_else(|e| panic!("{name}: {e}"));
            if name != "PLMS" {
                assert_eq!(again.image, made.image, "{name}");
            }
        }
    }
    assert!(
        failures.is_empty(),
        "beyond the bar:\n{}",
        failures.join("\n")
    );
}

/// A model that is called after a few-step distillation runs with what that takes, and a named
/// scheduler keeps its spacing.
#[test]
fn few_step_models_run_as_they_were_distilled() {
    let parent = tempfile::TempDir::new().expect("a folder");
    let original = Copy::of("tiny-base");
    let picture = |folder: &Path, scheduler: Option<&str>| {
        let pipeline = load(folder);
        let request = GenerateRequest {
            prompt: "a red circle".into(),
            scheduler: scheduler.map(String::from),
            width: 32,
            height: 32,
            ..GenerateRequest::for_model(pipeline.description())
        };
        let made = pipeline
            .generate(&request, &mut |_| Control::Continue)
            .unwrap_or_else(|e| panic!("{e}"));
        (pipeline.description().clone(), made)
    };
    let named = parent.path().join("my_sdxl_lightning_4step");
    std::os::unix::fs::symlink(original.path(), &named).expect("a link");
    // A link to a folder of another name counts by its own.
    assert!(picture(&named, None).0.defaults.is_few_step());
    std::fs::remove_file(&named).expect("removed");
    std::fs::rename(original.path(), &named).expect("renamed");
    let (description, lightning) = picture(&named, None);
    assert_eq!(description.defaults.num_inference_steps, 4);
    assert_eq!(description.defaults.guidance_scale, 0.0);
    assert!(description.defaults.why.contains("Lightning"));
    assert_eq!(lightning.scheduler, "Euler");
    assert_eq!(lightning.timings.step_s.len(), 4);
    let (_, explicit) = picture(&named, Some("EulerDiscrete"));
    assert_eq!(explicit.image, lightning.image);

    // The same as an ordinary model whose config says `trailing`.
    let ordinary = Copy::of("tiny-base");
    ordinary.set(
        "scheduler/scheduler_config.json",
        &value!({"timestep_spacing": "trailing"}),
    );
    for scheduler in [None, Some("DDIM"), Some("DPM++ 2M Karras")] {
        let pipeline = load(ordinary.path());
        let request = GenerateRequest {
            prompt: "a red circle".into(),
            scheduler: scheduler.map(String::from),
            width: 32,
            height: 32,
            num_inference_steps: 4,
            guidance_scale: 0.0,
            ..GenerateRequest::default()
        };
        let made = pipeline
            .generate(&request, &mut |_| Control::Continue)
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            picture(&named, scheduler).1.image,
            made.image,
            "{scheduler:?}"
        );
    }
}

/// Hyper-SD's UNet for one step starts below the noisiest timestep. With more steps than one, and
/// under other names, nothing is special.
#[test]
fn a_single_step_starts_where_it_was_distilled_to() {
    let parent = tempfile::TempDir::new().expect("a folder");
    let run = |name: &str| {
        let original = Copy::of("tiny-base");
        let folder = parent.path().join(name);
        std::fs::rename(original.path(), &folder).expect("renamed");
        let pipeline = load(&folder);
        let request = GenerateRequest {
            prompt: "a red circle on a blue field".into(),
            width: 48,
            height: 32,
            seed: 5,
            ..GenerateRequest::for_model(pipeline.description())
        };
        assert_eq!(request.num_inference_steps, 1);
        let made = pipeline.generate(&request, &mut |_| Control::Continue);
        made.unwrap_or_else(|e| panic!("{e}")).image
    };
    let made = run("Hyper-SDXL-1step-Unet");
    let want = image::open(fixture("schedulers").join("one-step-from-800.png"));
    let want = want.expect("a recorded picture").to_rgb8();
    let (mean, max) = difference(&made, &want);
    println!("mean {mean:.4}, max {max}");
    assert!(mean <= MEAN && max <= MAX, "mean {mean}, max {max}");
    // From the noisiest it would be another picture.
    let other = run("some-lcm-1step");
    assert!(difference(&other, &want).0 > 1.0);
}
