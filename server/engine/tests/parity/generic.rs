//! The generic path, which is what a GPU runs: the same recorded pictures by plain candle
//! operations, on a simulated CUDA device, in every number format.
//!
//! On a processor all of it is computed as on a GPU but convolutions in f16 and bf16, which candle
//! has none of here: their inputs and results are rounded as there, their sums are f32's.

use std::path::Path;
use std::sync::{Arc, Once};

use atelier_engine::faults::{Plan, simulate};
use atelier_engine::nn::Ops;
use atelier_engine::pipeline::TinyDecoder;
use atelier_engine::{
    ComputeDtype, Control, DeviceId, GenerateRequest, InputImage, LoadOptions, Mask, Refine,
    Residence,
};
use candle_core::DType;
use image::GrayImage;

use crate::fixtures::{Numbers, fixture, json, load_with, model, relative_error};
use crate::images::{difference, generate};
use crate::{images, lora, pipelines};

/// The bar for single pictures, in steps of 1/255 on average.
const MEAN_F32: f64 = 1.0;
/// With half formats, how much more than diffusers' pictures all of them may move on average: chance
/// decides about single ones (see `record_half.py`).
const OF_DIFFUSERS: f64 = 1.1;

/// Two simulated GPUs that work.
fn gpu(dtype: ComputeDtype) -> LoadOptions {
    static READY: Once = Once::new();
    READY.call_once(|| {
        simulate(Plan {
            devices: 2,
            ..Plan::default()
        });
    });
    LoadOptions {
        device: DeviceId::Cuda(0),
        dtype,
        ..LoadOptions::default()
    }
}

#[test]
fn pictures_in_f32() {
    let mut worst = 0.0;
    for case in images::cases() {
        let (mean, max) = images::deviation(&case, &gpu(ComputeDtype::F32));
        worst = f64::max(worst, mean);
        assert!(
            mean <= MEAN_F32,
            "{}: mean {mean:.3}, max {max}",
            case["name"]
        );
    }
    println!("worst {worst:.4}");
}

/// Image to image, inpainting and refiners; the parts in turn, the refiner on another device.
#[test]
fn images_and_refiners_in_f32() {
    let options = LoadOptions {
        refiner_device: Some(DeviceId::Cuda(1)),
        residence: Residence::InTurn,
        ..gpu(ComputeDtype::F32)
    };
    for case in pipelines::cases() {
        let (mean, max) = pipelines::deviation(&case, &options).expect("a picture");
        assert!(
            mean <= MEAN_F32,
            "{}: mean {mean:.3}, max {max}",
            case["name"]
        );
    }
}

#[test]
fn loras_in_f32() {
    let deviations = lora::deviations(&fixture("lora"), &gpu(ComputeDtype::F32));
    assert!(deviations.len() >= 10);
    for (name, mean, max, error) in deviations {
        assert!(mean <= MEAN_F32, "{name}: mean {mean:.3}, max {max}");
        assert!(error <= lora::TOLERANCE, "{name}: UNet {error}");
    }
}

/// Half formats move sharp models' pictures no further than they move diffusers'.
#[test]
fn half_formats_round_no_worse_than_diffusers() {
    let recorded = json("half.json");
    for dtype in [ComputeDtype::F16, ComputeDtype::Bf16] {
        let theirs = &recorded[dtype.to_string()];
        let (mut ours, mut diffusers, mut count) = (0.0, 0.0, 0);
        for case in images::cases() {
            let Some(theirs) = theirs[case["name"].as_str().expect("a name")].as_f64() else {
                continue;
            };
            ours += images::deviation(&case, &gpu(dtype)).0;
            diffusers += theirs;
            count += 1;
        }
        let (ours, diffusers) = (ours / f64::from(count), diffusers / f64::from(count));
        println!("{dtype}: ours {ours:.3}, diffusers' {diffusers:.3}, {count} pictures");
        assert!(count >= 40);
        assert!(ours > 0.05, "{dtype} is not computed in");
        assert!(
            ours <= OF_DIFFUSERS * diffusers,
            "{dtype}: {ours} of {diffusers}"
        );
    }
}

/// One forward of each part in half formats, against diffusers' f32.
#[test]
fn parts_in_half_formats() {
    for (dtype, tolerance) in [(ComputeDtype::F16, 4e-3), (ComputeDtype::Bf16, 3e-2)] {
        for name in ["tiny-base", "tiny-fp16", "odd-two-levels"] {
            let numbers = Numbers::read(&format!("numbers/{name}.safetensors"));
            let pipeline = load_with(&model(name), &gpu(dtype));
            let ids: Vec<Vec<u32>> = numbers
                .tensor("ids_2")
                .to_dtype(DType::U32)
                .and_then(|ids| ids.to_vec2())
                .expect("ids");
            let encoder = &pipeline.encoders()[1].text_encoder;
            let encoding = encoder.encode(&ids, 0).expect("encoded");
            let hidden = numbers.tensor("hidden_2");
            let error = relative_error("hidden", &encoding.hidden_state, hidden);
            println!("{name} {dtype} hidden {error:.1e} of {tolerance:.1e}");
            assert!(error <= tolerance, "{name} in {dtype}: {error}");
            // What is computed is not f32 in disguise.
            assert!(error > 1e-5);
        }
    }
}

/// Weights kept in a smaller format than is computed in, tiles, and a tiny decoder's pixels.
#[test]
fn the_rest_of_the_ways() {
    let options = LoadOptions {
        storage_dtype: Some(ComputeDtype::F16),
        ..gpu(ComputeDtype::F32)
    };
    // tiny-fp16 is stored in f16, so that keeping it so changes nothing.
    let half = images::cases()
        .into_iter()
        .find(|case| case["name"] == "tiny-fp16-plain")
        .expect("recorded");
    let (mean, max) = images::deviation(&half, &options);
    assert!(mean <= 0.1, "{mean}, {max}");

    let numbers = Numbers::read("tiling.safetensors");
    let pipeline = load_with(&model("tiny-base"), &gpu(ComputeDtype::F32));
    let tiled = pipeline
        .vae()
        .decode_scaled_in_tiles(numbers.tensor("latents"), Some(8))
        .expect("decoded");
    let error = relative_error("tiled", &tiled, numbers.tensor("decoded"));
    assert!(error <= 2e-5, "{error}");

    let numbers = Numbers::read("previews/numbers.safetensors");
    let ops = Ops::open(DeviceId::Cuda(0), ComputeDtype::F32, None, Residence::Whole);
    let decoder = TinyDecoder::find(&ops.expect("a device"), &fixture("previews"), 4)
        .expect("readable")
        .expect("there");
    let pixels = decoder
        .decode(numbers.tensor("taesdxl/latents"))
        .expect("decoded");
    let error = relative_error("pixels", &pixels, numbers.tensor("taesdxl/pixels"));
    assert!(error <= 1e-5, "{error}");
}

/// A trained model, the one that comes with the server: every picture is within 4/255 of the CPU's in
/// f32, with and without refiner, from an image, and under a mask.
#[test]
fn a_trained_models_pictures_in_half_formats() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo");
    let open = |options: LoadOptions| {
        let options = LoadOptions {
            refiner: Some(demo.join("refiner")),
            ..options
        };
        load_with(&demo.join("model"), &options)
    };
    let cpu = open(LoadOptions::default());
    let in_turn = |dtype| LoadOptions {
        residence: Residence::InTurn,
        ..gpu(dtype)
    };
    let half = [
        open(gpu(ComputeDtype::F16)),
        open(in_turn(ComputeDtype::Bf16)),
    ];
    let request = |prompt: &str, seed| GenerateRequest {
        prompt: prompt.into(),
        width: 128,
        height: 128,
        num_inference_steps: 8,
        seed,
        ..GenerateRequest::for_model(cpu.description())
    };
    let plain = request("a red circle on a blue background", 1);
    let image = Arc::new(generate(&cpu, &plain));
    let input = |masked: bool| {
        Some(InputImage {
            image: Arc::clone(&image),
            strength: 0.7,
            mask: masked.then(|| Mask {
                image: Arc::new(GrayImage::from_fn(128, 128, |x, _| {
                    image::Luma([if x < 64 { 255 } else { 0 }])
                })),
                blur: 0.0,
                only_masked_padding: None,
            }),
        })
    };
    let requests = [
        plain.clone(),
        request("a green star and a yellow square on a white background", 2),
        request("a pink heart", 3),
        GenerateRequest {
            refine: Some(Refine::Ensemble {
                denoising_split: 0.75,
            }),
            ..plain.clone()
        },
        GenerateRequest {
            input: input(false),
            ..request("a blue circle on a red background", 4)
        },
        GenerateRequest {
            input: input(true),
            ..request("a white cross", 5)
        },
    ];
    for request in &requests {
        let want = generate(&cpu, request);
        for pipeline in &half {
            let made = pipeline
                .generate(request, &mut |_| Control::Continue)
                .unwrap_or_else(|error| panic!("{error}"));
            let (mean, max) = difference(&made.image, &want);
            println!(
                "{} {mean:.3}/255, max {max}: {}",
                made.dtype, request.prompt
            );
            assert_eq!(made.device, "cuda:0");
            assert!(mean <= 4.0, "{} in {}: {mean}", request.prompt, made.dtype);
            assert!(mean > 0.0, "{} is not computed in", made.dtype);
        }
    }
}
