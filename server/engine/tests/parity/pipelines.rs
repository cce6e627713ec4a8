//! Images, masks and refiners: what diffusers' image-to-image and inpainting pipelines make of the
//! same requests, and the pixels and numbers on the way. Recorded by `record_pipelines.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atelier_engine::image::{Filter, Pixels, gaussian_blur};
use atelier_engine::{
    Control, EngineError, GenerateRequest, InputImage, LoadOptions, Mask, Pipeline, Refine,
};
use image::{GrayImage, RgbImage};
use serde_json::Value;

use crate::fixtures::{Copy, Numbers, fixture, json, load, relative_error};

/// The bar, in steps of 1/255: on average, and at any pixel.
const MEAN: f64 = 0.5;
const MAX: u8 = 3;

fn folder(name: &str) -> PathBuf {
    let own = fixture("pipelines/models").join(name);
    if own.is_dir() {
        own
    } else {
        fixture("models").join(name)
    }
}

fn picture(kind: &str, name: &str) -> RgbImage {
    let path = fixture("pipelines").join(kind).join(format!("{name}.png"));
    image::open(&path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .to_rgb8()
}

fn grey(name: &str) -> GrayImage {
    let image = picture("inputs", name);
    GrayImage::from_fn(image.width(), image.height(), |x, y| {
        image::Luma([image.get_pixel(x, y).0[0]])
    })
}

fn pixels(image: &GrayImage) -> Pixels {
    Pixels {
        width: image.width() as usize,
        height: image.height() as usize,
        channels: 1,
        values: image.as_raw().clone(),
    }
}

pub fn cases() -> Vec<Value> {
    json("pipelines/cases.json")
        .as_array()
        .expect("a list")
        .clone()
}

pub fn case_named(name: &str) -> Value {
    let found = cases().into_iter().find(|case| case["name"] == name);
    found.unwrap_or_else(|| panic!("{name} was not recorded"))
}

pub fn request(case: &Value) -> GenerateRequest {
    let float = |key: &str| case[key].as_f64().expect("a number");
    let whole = |key: &str| case[key].as_u64().expect("a whole number");
    let mask = case["mask"].as_str().map(|name| Mask {
        image: Arc::new(grey(name)),
        blur: float("mask_blur") as f32,
        only_masked_padding: case["only_masked_padding"].as_u64().map(|n| n as u32),
    });
    let input = case["input"].as_str().map(|name| InputImage {
        image: Arc::new(picture("inputs", name)),
        strength: float("strength"),
        mask,
    });
    let refine = case["refine"].as_object().map(|refine| {
        let share = |key: &str| refine.get(key).and_then(Value::as_f64);
        match (share("split"), share("strength")) {
            (Some(denoising_split), _) => Refine::Ensemble { denoising_split },
            (_, Some(strength)) => Refine::ImageToImage { strength },
            _ => panic!("{refine:?}"),
        }
    });
    GenerateRequest {
        prompt: case["prompt"].as_str().expect("a prompt").into(),
        negative_prompt: case["negative_prompt"].as_str().map(String::from),
        width: whole("width") as u32,
        height: whole("height") as u32,
        num_inference_steps: whole("num_inference_steps") as u32,
        guidance_scale: float("guidance_scale"),
        guidance_rescale: float("guidance_rescale"),
        seed: whole("seed"),
        scheduler: case["scheduler"].as_str().map(String::from),
        input,
        refine,
        aesthetic_score: float("aesthetic_score"),
        negative_aesthetic_score: float("negative_aesthetic_score"),
        ..GenerateRequest::default()
    }
}

fn open(model: &Path, refiner: Option<&Path>) -> Pipeline {
    open_with(model, refiner, &LoadOptions::default())
}

fn open_with(model: &Path, refiner: Option<&Path>, options: &LoadOptions) -> Pipeline {
    let options = LoadOptions {
        refiner: refiner.map(Path::to_path_buf),
        ..options.clone()
    };
    Pipeline::load(model, &options, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"))
}

fn difference(got: &RgbImage, want: &RgbImage) -> (f64, u8) {
    assert_eq!(got.dimensions(), want.dimensions());
    let gaps = got.iter().zip(want.iter()).map(|(a, b)| a.abs_diff(*b));
    let total: u64 = gaps.clone().map(u64::from).sum();
    (total as f64 / got.len() as f64, gaps.max().unwrap_or(0))
}

fn check(case: &Value) -> Result<(), String> {
    let (mean, max) = deviation(case, &LoadOptions::default())?;
    if mean > MEAN || max > MAX {
        return Err(format!("{}: mean {mean:.4}, max {max}", case["name"]));
    }
    Ok(())
}

/// How far a case's picture is from the recorded one.
pub fn deviation(case: &Value, options: &LoadOptions) -> Result<(f64, u8), String> {
    let name = case["name"].as_str().expect("a name");
    let refiner = case["refiner"].as_str().map(folder);
    let pipeline = open_with(
        &folder(case["model"].as_str().expect("a model")),
        refiner.as_deref(),
        options,
    );
    let generation = pipeline
        .generate(&request(case), &mut |_| Control::Continue)
        .map_err(|error| format!("{name}: {error}"))?;
    let (mean, max) = difference(&generation.image, &picture("images", name));
    println!("{name:28} mean {mean:.4}/255  max {max}/255");
    Ok((mean, max))
}

fn check_all(beginnings: &[&str]) {
    let failures: Vec<String> = cases()
        .iter()
        .filter(|case| {
            let name = case["name"].as_str().expect("a name");
            beginnings
                .iter()
                .any(|beginning| name.starts_with(beginning))
        })
        .filter_map(|case| check(case).err())
        .collect();
    assert!(
        failures.is_empty(),
        "beyond the bar:\n{}",
        failures.join("\n")
    );
}

const KINDS: [&[&str]; 4] = [
    &["img-", "rescale"],
    &["ensemble-", "again-"],
    &["paint"],
    &["nine"],
];

#[test]
fn images_to_start_from() {
    check_all(KINDS[0]);
}

#[test]
fn base_and_refiner() {
    check_all(KINDS[1]);
}

#[test]
fn painting_under_a_mask() {
    check_all(KINDS[2]);
}

#[test]
fn models_made_for_inpainting() {
    check_all(KINDS[3]);
}

#[test]
fn nothing_recorded_is_left_out() {
    let cases = cases();
    assert!(cases.len() >= 40);
    for case in &cases {
        let name = case["name"].as_str().expect("a name");
        let kinds = KINDS
            .iter()
            .filter(|kind| kind.iter().any(|beginning| name.starts_with(beginning)));
        assert_eq!(kinds.count(), 1, "{name}");
    }
    let pictures = fs::read_dir(fixture("pipelines/images"))
        .expect("pictures")
        .count();
    assert_eq!(pictures, cases.len());
}

/// The recorded pictures differ where they should: the comparison can fail.
#[test]
fn pictures_tell_requests_apart() {
    let gap =
        |one: &str, other: &str| difference(&picture("images", one), &picture("images", other)).0;
    for (one, other) in [
        ("img-refiner", "img-0.6"),
        ("ensemble-0.8", "ensemble-0.8-negative"),
        ("ensemble-heun-6-0.8", "ensemble-scores"),
        ("paint", "paint-1.0"),
        ("paint", "img-0.6"),
        ("paint-ensemble", "paint-again"),
        ("nine-1.0", "nine-ancestral"),
    ] {
        if picture("images", one).dimensions() == picture("images", other).dimensions() {
            assert!(gap(one, other) > 2.0, "{one} and {other}");
        }
    }
    assert_eq!(
        picture("images", "paint-region").dimensions(),
        picture("inputs", "wide").dimensions()
    );
}

#[test]
fn resizing_is_pillows() {
    let wide = picture("inputs", "wide");
    let source = Pixels {
        width: 150,
        height: 83,
        channels: 3,
        values: wide.into_raw(),
    };
    for (width, height) in [(64, 64), (8, 8), (300, 40), (151, 83), (1, 200)] {
        let got = source.resize(width, height, Filter::Lanczos);
        let want = picture("pixels", &format!("resize-{width}-{height}"));
        assert!(got.values == *want.as_raw(), "{width}×{height}");
    }
}

#[test]
fn blurring_is_pillows() {
    let source = pixels(&grey("wide-soft-mask"));
    for radius in ["0.3", "1", "2.5", "7", "33", "200"] {
        let got = gaussian_blur(&source, radius.parse().expect("a number"));
        let path = fixture(&format!("pipelines/pixels/blur-{radius}.png"));
        let want = image::open(path).expect("recorded").to_luma8();
        assert!(got.values == *want.as_raw(), "radius {radius}");
    }
}

#[test]
fn the_encoder_gives_diffusers_moments() {
    let numbers = Numbers::read("pipelines/numbers.safetensors");
    for name in [
        "tiny-base",
        "tiny-fp16",
        "odd-two-levels",
        "odd-eight-channels",
        "tiny-refiner",
    ] {
        let moments = load(&folder(name))
            .vae_encoder()
            .encode(numbers.tensor("pixels"))
            .expect("encoded");
        let error = relative_error(name, &moments, numbers.tensor(name));
        println!("{name:20} {error:.1e}");
        assert!(error <= 5e-6, "{name}: {error}");
    }
}

/// A refiner with the base's own VAE decodes with that; with another, with its own.
#[test]
fn a_refiners_vae_is_its_own_unless_it_is_the_same() {
    let case = case_named("ensemble-0.8");
    let run = |refiner: &Path| {
        open(&folder("tiny-base"), Some(refiner))
            .generate(&request(&case), &mut |_| Control::Continue)
            .expect("a generation")
    };
    let own = run(&folder("tiny-refiner"));
    let copy = tempfile::TempDir::new().expect("a folder");
    crate::fixtures::copy_folder(&folder("tiny-refiner"), copy.path());
    fs::remove_dir_all(copy.path().join("vae")).expect("removed");
    crate::fixtures::copy_folder(&folder("tiny-base").join("vae"), &copy.path().join("vae"));
    let shared = run(copy.path());
    assert!(difference(&own.image, &shared.image).0 > 2.0);
    assert_eq!(own.timings.stage_steps, [8, 2]);
    assert_eq!(own.timings.step_s.len(), 10);
}

fn refused(pipeline: &Pipeline, request: &GenerateRequest, field: &str) {
    match pipeline.generate(request, &mut |_| Control::Continue) {
        Err(EngineError::InvalidRequest {
            field: named,
            message,
        }) => {
            println!("{named}: {message}");
            assert_eq!(named, field);
        }
        other => panic!("{field}: {:?}", other.map(|g| g.notes)),
    }
}

#[test]
fn what_cannot_be_run_names_its_field() {
    let plain = request(&cases()[0]);
    let base = open(&folder("tiny-base"), None);
    let refine = |refine| GenerateRequest {
        refine: Some(refine),
        ..plain.clone()
    };
    let split = |denoising_split| refine(Refine::Ensemble { denoising_split });
    refused(&base, &split(0.8), "refiner");
    for wrong in [0.0, 1.0, -1.0, f64::NAN] {
        refused(&base, &split(wrong), "denoising_split");
    }
    let both = open(&folder("tiny-base"), Some(&folder("tiny-refiner")));
    for wrong in [0.0, 1.01, f64::NAN, 0.01] {
        let wrong = refine(Refine::ImageToImage { strength: wrong });
        refused(&both, &wrong, "refiner_strength");
    }
    // A refiner starts from an image, an inpainting model from an image and a mask.
    refused(&open(&folder("tiny-refiner"), None), &plain, "init_image");
    let inpainting = open(&folder("tiny-inpaint"), None);
    refused(&inpainting, &plain, "init_image");
    let input = |strength, mask: Option<Mask>| GenerateRequest {
        input: Some(InputImage {
            image: Arc::new(picture("inputs", "square")),
            strength,
            mask,
        }),
        ..plain.clone()
    };
    refused(&inpainting, &input(0.5, None), "mask");
    for wrong in [0.0, -0.5, 1.5, f64::NAN, 0.1] {
        refused(&base, &input(wrong, None), "strength");
    }
    let mask = |image: GrayImage, blur, padding| {
        Some(Mask {
            image: Arc::new(image),
            blur,
            only_masked_padding: padding,
        })
    };
    let black = GrayImage::new(64, 64);
    refused(
        &base,
        &input(0.5, mask(black.clone(), 0.0, Some(4))),
        "mask",
    );
    refused(
        &base,
        &input(0.5, mask(grey("wide-mask"), 0.0, Some(4))),
        "mask",
    );
    refused(
        &base,
        &input(0.5, mask(black.clone(), f32::NAN, None)),
        "mask_blur",
    );
    refused(
        &base,
        &input(0.5, mask(GrayImage::new(0, 0), 0.0, None)),
        "mask",
    );
    for (change, field) in [
        (
            GenerateRequest {
                guidance_rescale: 1.5,
                ..plain.clone()
            },
            "guidance_rescale",
        ),
        (
            GenerateRequest {
                aesthetic_score: f64::NAN,
                ..plain.clone()
            },
            "aesthetic_score",
        ),
    ] {
        refused(&base, &change, field);
    }
    // A black mask over the whole image is allowed: it keeps everything.
    base.generate(&input(0.5, mask(black, 0.0, None)), &mut |_| {
        Control::Continue
    })
    .expect("a generation");
}

#[test]
fn refiners_that_do_not_fit_are_named() {
    let refusal = |refiner: &Path| {
        let options = LoadOptions {
            refiner: Some(refiner.to_path_buf()),
            ..LoadOptions::default()
        };
        let error = Pipeline::load(&folder("tiny-base"), &options, &mut |_| {})
            .err()
            .expect("refused")
            .to_string();
        println!("{error}");
        error
    };
    assert!(refusal(&folder("tiny-inpaint")).contains("inpainting"));
    assert!(refusal(&folder("odd-eight-channels")).contains("channels"));
    assert!(refusal(Path::new("no/such/refiner")).contains("no/such/refiner"));
    let copy = Copy::of("tiny-fp16");
    fs::remove_dir_all(copy.file("unet")).expect("removed");
    assert!(refusal(copy.path()).contains("unet"));
}
