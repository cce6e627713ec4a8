//! Timesteps, sigmas and Euler steps, against `EulerDiscreteScheduler`.

use std::path::Path;

use atelier_engine::config::Config;
use atelier_engine::rng::TorchGenerator;
use atelier_engine::schedulers::{EulerDiscrete, Scheduler, SchedulerConfig};

use crate::fixtures::{Numbers, json, relative_error_of};

/// Relative to the largest value of the list: f32 with a few roundings.
const TOLERANCE: f32 = 2e-6;
/// Sigmas each relative to itself: the small ones at the end shape the details.
const EACH: f32 = 1e-5;

fn config(value: &serde_json::Value) -> SchedulerConfig {
    let config = Config::parse(Path::new("scheduler_config.json"), &value.to_string())
        .expect("a JSON object");
    SchedulerConfig::read(&config).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn timesteps_and_sigmas() {
    let numbers = Numbers::read("schedules.safetensors");
    let table = json("schedules.json");
    let table = table.as_array().expect("a list");
    assert!(table.len() >= 24);
    for entry in table {
        let name = entry["name"].as_str().expect("a name");
        let config = config(&entry["config"]);
        let steps = entry["steps"].as_array().expect("step counts");
        assert!(!steps.is_empty(), "{name}");
        let mut worst = [0f32; 3];
        for steps in steps {
            let steps = steps.as_u64().expect("a count") as usize;
            let case = format!("{name}/{steps}");
            let scheduler = EulerDiscrete::new(&config, steps);
            let timesteps = numbers.values(&format!("{case}/timesteps"));
            let sigmas = numbers.values(&format!("{case}/sigmas"));
            let init = numbers.values(&format!("{case}/init_noise_sigma"));
            worst[0] = worst[0].max(relative_error_of(&case, scheduler.timesteps(), &timesteps));
            let got = &scheduler.sigmas()[..sigmas.len()];
            for (index, (&got, &want)) in got.iter().zip(&sigmas).enumerate() {
                let gap = if want == 0.0 {
                    got.abs()
                } else {
                    ((got - want) / want).abs()
                };
                assert!(gap <= EACH, "{case}: sigma {index} is {got}, not {want}");
                worst[1] = worst[1].max(gap);
            }
            worst[2] = worst[2].max(relative_error_of(
                &case,
                &[scheduler.init_noise_sigma()],
                &init,
            ));
        }
        println!(
            "{name:24} timesteps {:.1e}  sigmas {:.1e}  first scale {:.1e}",
            worst[0], worst[1], worst[2]
        );
        // A timestep found from a sigma is a logarithm's inverse: one f32 rounding of log σ there
        // moves it by more than a rounding of itself.
        assert!(
            worst[0] <= 10.0 * TOLERANCE,
            "{name}: timesteps {}",
            worst[0]
        );
        assert!(worst[2] <= EACH, "{name}: init_noise_sigma {}", worst[2]);
    }
}

#[test]
fn euler_steps() {
    let numbers = Numbers::read("schedules.safetensors");
    for entry in json("schedules.json").as_array().expect("a list") {
        let name = entry["name"].as_str().expect("a name");
        let mut scheduler = config(&entry["config"]).schedule(3).expect("a schedule");
        let mut sample = numbers.values(&format!("{name}/step/sample"));
        let mut generator = TorchGenerator::new(0); // Euler draws nothing from it
        let mut worst = 0f32;
        for index in 0..scheduler.timesteps().len() {
            let recorded = |part: &str| numbers.values(&format!("{name}/step/{index}/{part}"));
            let mut scaled = sample.clone();
            scheduler.scale_model_input(index, &mut scaled);
            worst = worst.max(relative_error_of(name, &scaled, &recorded("scaled")));
            // The step's own error, not what was carried along: start from the recorded sample.
            scheduler.step(index, &recorded("output"), &mut sample, &mut generator);
            let want = recorded("sample");
            worst = worst.max(relative_error_of(name, &sample, &want));
            sample = want;
        }
        println!("{name:24} steps {worst:.1e}");
        assert!(worst <= 10.0 * TOLERANCE, "{name}: {worst}");
    }
}
