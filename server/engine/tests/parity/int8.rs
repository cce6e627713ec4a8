//! What is computed with smaller numbers, or with less memory, beside what is computed as a rule.

use atelier_engine::{CpuMemory, CpuMode, CpuNumbers, GenerateRequest, LoadOptions, Pipeline};
use image::RgbImage;

use crate::fixtures::{fixture, json, load, load_with, model};
use crate::images::{cases, generate, request};

fn options(numbers: CpuNumbers, memory: CpuMemory) -> LoadOptions {
    LoadOptions {
        cpu: CpuMode { numbers, memory },
        ..LoadOptions::default()
    }
}

/// Peak signal to noise ratio, in dB.
fn psnr(got: &RgbImage, want: &RgbImage) -> f64 {
    assert_eq!(got.dimensions(), want.dimensions());
    let square = |(a, b): (&u8, &u8)| f64::from(a.abs_diff(*b)).powi(2);
    let mean = got.iter().zip(want.iter()).map(square).sum::<f64>() / got.len() as f64;
    10.0 * (255.0 * 255.0 / mean.max(1e-9)).log10()
}

/// Pictures of a model in smaller numbers beside the same model's in f32: the least and the mean PSNR.
fn compared(
    numbers: CpuNumbers,
    full: &Pipeline,
    small: &Pipeline,
    requests: &[GenerateRequest],
) -> (f64, f64) {
    let mut all = Vec::new();
    for request in requests {
        let made = generate(small, request);
        assert_eq!(made, generate(small, request), "the same again");
        all.push(psnr(&made, &generate(full, request)));
    }
    let least = all.iter().copied().fold(f64::INFINITY, f64::min);
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    println!("{numbers}: PSNR {least:.1} dB at least, {mean:.1} dB on average");
    assert!(least < 90.0, "nothing was rounded");
    (least, mean)
}

fn demo() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/model")
}

/// The trained demo model: what people would see.
#[test]
fn the_demo_models_pictures_survive_smaller_numbers() {
    let full = load(&demo());
    for (numbers, at_least, on_average) in [
        (CpuNumbers::Int8Weights, 50.0, 53.0),
        (CpuNumbers::Int8, 48.0, 51.0),
    ] {
        let small = load_with(&demo(), &options(numbers, CpuMemory::Auto));
        let requests: Vec<GenerateRequest> = [
            "a red circle on a blue background",
            "two green squares on a white background",
            "a yellow star above a black heart on a grey background",
        ]
        .into_iter()
        .enumerate()
        .map(|(seed, prompt)| GenerateRequest {
            prompt: prompt.into(),
            num_inference_steps: 8,
            seed: seed as u64,
            ..GenerateRequest::for_model(full.description())
        })
        .collect();
        let (least, mean) = compared(numbers, &full, &small, &requests);
        assert!(
            least >= at_least && mean >= on_average,
            "{numbers}: {least}, {mean}"
        );
    }
}

/// Models with random weights, whose pictures move with everything.
#[test]
fn random_models_pictures_survive_smaller_numbers() {
    for (numbers, at_least, on_average) in [
        (CpuNumbers::Int8Weights, 20.0, 24.0),
        (CpuNumbers::Int8, 20.0, 24.0),
    ] {
        for name in ["tiny-base", "tiny-fp16"] {
            let full = load(&model(name));
            let small = load_with(&model(name), &options(numbers, CpuMemory::Auto));
            let requests: Vec<_> = cases()
                .iter()
                .filter(|case| case["model"] == name)
                .filter(|case| {
                    case["overrides"]
                        .as_object()
                        .is_some_and(|set| set.is_empty())
                })
                .map(|case| request(case, &full))
                .collect();
            let (least, mean) = compared(numbers, &full, &small, &requests);
            assert!(
                least >= at_least && mean >= on_average,
                "{name}, {numbers}: {least}, {mean}"
            );
        }
    }
}

/// What an image's record says, and which way nobody gets who did not ask.
#[test]
fn smaller_numbers_are_recorded_and_never_chosen_silently() {
    let made = |options: &LoadOptions| {
        let pipeline = load_with(&model("tiny-base"), options);
        let case = json("images.json")[0].clone();
        let request = request(&case, &pipeline);
        let made = pipeline.generate(&request, &mut |_| atelier_engine::Control::Continue);
        made.expect("an image")
    };
    assert_eq!(made(&LoadOptions::default()).dtype, "f32");
    let of = |numbers| made(&options(numbers, CpuMemory::Auto)).dtype;
    // The dearest of mistakes: to believe that these are what diffusers makes.
    assert_eq!(of(CpuNumbers::Int8Weights), "f32, weights in int8");
    assert_eq!(of(CpuNumbers::Int8), "int8 (w8a8)");
}

/// Weights that are read layer by layer are the same weights.
#[test]
fn low_memory_changes_no_pixel() {
    for name in ["tiny-base", "tiny-fp16"] {
        let folder = model(name);
        let case = cases()
            .into_iter()
            .find(|case| case["model"] == name)
            .expect("a case");
        let usual = load_with(&folder, &options(CpuNumbers::Full, CpuMemory::Full));
        let low = load_with(&folder, &options(CpuNumbers::Full, CpuMemory::Low));
        let request = request(&case, &usual);
        let want = generate(&usual, &request);
        for _ in 0..2 {
            assert!(generate(&low, &request) == want, "{name}");
        }
    }
}

/// A GGUF file's numbers are widened to f16 when they are read; in int8 they are rounded from that.
#[test]
fn quantised_files_are_rounded_too() {
    let options = LoadOptions {
        unet: Some(fixture("gguf/unet-q8_0.gguf")),
        ..options(CpuNumbers::Int8Weights, CpuMemory::Auto)
    };
    let small = load_with(&model("tiny-base"), &options);
    let case = json("images.json")[0].clone();
    let got = generate(&small, &request(&case, &small));
    let want = image::open(fixture("gguf/unet-q8_0.png")).expect("a recorded picture");
    let ratio = psnr(&got, &want.to_rgb8());
    println!("of Q8_0: {ratio:.1} dB");
    assert!(ratio >= 24.0);
}

#[test]
fn contradictions_are_refused() {
    let wrong = options(CpuNumbers::Int8Weights, CpuMemory::Low);
    let error = Pipeline::load(&model("tiny-base"), &wrong, &mut |_| {}).err();
    let words = error.expect("refused").to_string();
    assert!(words.contains("stay in memory"), "{words}");
}
