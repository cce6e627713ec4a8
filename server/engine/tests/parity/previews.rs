//! The tiny decoder of previews, against diffusers' `AutoencoderTiny` (`record_previews.py`).

use std::collections::HashMap;
use std::fs;

use atelier_engine::nn::Ops;
use atelier_engine::pipeline::TinyDecoder;
use atelier_engine::rng::TorchGenerator;
use atelier_engine::{Control, GenerateRequest, LoadOptions, Pipeline};
use candle_core::{Device, Tensor};
use tempfile::TempDir;

use crate::fixtures::{Numbers, copy_folder, fixture, floats, model, relative_error};

/// Largest difference, of the largest value.
const TOLERANCE: f32 = 5e-6;

#[test]
fn the_tiny_decoder_is_diffusers() {
    let numbers = Numbers::read("previews/numbers.safetensors");
    let decoder = TinyDecoder::find(&Ops::kernels(), &fixture("previews"), 4)
        .expect("readable")
        .expect("there");
    let pixels = decoder
        .decode(numbers.tensor("taesdxl/latents"))
        .expect("decoded");
    let error = relative_error("pixels", &pixels, numbers.tensor("taesdxl/pixels"));
    println!("tiny decoder {error:.1e} of {TOLERANCE:.1e}");
    assert!(error <= TOLERANCE, "{error}");
}

/// Tensors of TAESD's own size, by diffusers' numbers.
fn published() -> HashMap<String, Tensor> {
    let mut random = TorchGenerator::new(4);
    let mut tensors = HashMap::new();
    let mut conv = |name: String, inputs: usize, outputs: usize, bias: bool| {
        let mut draw = |shape: &[usize]| {
            let count: usize = shape.iter().product();
            let values = random.randn(count).into_iter().map(|v| v * 0.05).collect();
            Tensor::from_vec::<_, f32>(values, shape, &Device::Cpu).expect("a tensor")
        };
        tensors.insert(format!("{name}.weight"), draw(&[outputs, inputs, 3, 3]));
        if bias {
            tensors.insert(format!("{name}.bias"), draw(&[outputs]));
        }
    };
    conv("0".into(), 4, 64, true);
    for block in [2, 3, 4, 7, 8, 9, 12, 13, 14, 17] {
        for part in [0, 2, 4] {
            conv(format!("{block}.conv.{part}"), 64, 64, true);
        }
    }
    for upsampled in [6, 11, 16] {
        conv(upsampled.to_string(), 64, 64, false);
    }
    conv("18".into(), 64, 3, true);
    tensors
}

/// TAESD's own file counts the clamp in front as a layer; the result is the same.
#[test]
fn both_namings_are_read() {
    let folder = TempDir::new().expect("a folder");
    let save = |name: &str, file: &str, rename: &dyn Fn(&str) -> String| {
        let path = folder.path().join(name);
        fs::create_dir_all(&path).expect("made");
        let tensors: HashMap<String, Tensor> = published()
            .into_iter()
            .map(|(name, tensor)| (rename(&name), tensor))
            .collect();
        candle_core::safetensors::save(&tensors, path.join(file)).expect("written");
    };
    let find = || TinyDecoder::find(&Ops::kernels(), folder.path(), 4).expect("readable");
    assert!(find().is_none());
    save("vae_approx", "taesdxl_decoder.safetensors", &|name| {
        let (number, rest) = name.split_once('.').expect("a number");
        format!("{}.{rest}", number.parse::<usize>().expect("a number") + 1)
    });
    let own = find().expect("there");
    save("taesd", "diffusion_pytorch_model.safetensors", &|name| {
        format!("decoder.layers.{name}")
    });
    fs::write(folder.path().join("taesd/config.json"), "{}").expect("written");
    let diffusers = find().expect("there");
    let latents = TorchGenerator::new(1).randn(4 * 3 * 2);
    let latents = Tensor::from_vec(latents, (1, 4, 3, 2), &Device::Cpu).expect("latents");
    let pixels = diffusers.decode(&latents).expect("decoded");
    assert_eq!(pixels.dims(), [1, 3, 24, 16]);
    assert_eq!(
        floats(&pixels),
        floats(&own.decode(&latents).expect("decoded"))
    );
    // What it cannot use is named.
    assert!(TinyDecoder::find(&Ops::kernels(), folder.path(), 16).is_err());
    let config = folder.path().join("taesd/config.json");
    for (text, word) in [
        (r#"{"num_decoder_blocks": [1]}"#, "num_decoder_blocks"),
        (r#"{"act_fn": "x"}"#, "act_fn"),
        (r#"{"num_decoder_blocks": [3, 3, 2, 1]}"#, "decoder.layers"),
    ] {
        fs::write(&config, text).expect("written");
        let error = TinyDecoder::find(&Ops::kernels(), folder.path(), 4)
            .err()
            .expect(text)
            .to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_model_with_a_tiny_decoder_shows_larger_previews() {
    let folder = TempDir::new().expect("a folder");
    copy_folder(&model("tiny-base"), folder.path());
    copy_folder(&fixture("previews/taesdxl"), &folder.path().join("taesdxl"));
    let preview_of = |folder: &std::path::Path| {
        let pipeline =
            Pipeline::load(folder, &LoadOptions::default(), &mut |_| {}).expect("loaded");
        let request = GenerateRequest {
            prompt: "a red circle".into(),
            width: 64,
            height: 128,
            num_inference_steps: 2,
            previews: true,
            ..GenerateRequest::for_model(pipeline.description())
        };
        let mut sizes = Vec::new();
        let generation = pipeline
            .generate(&request, &mut |progress| {
                sizes.extend(progress.preview.map(image::RgbImage::dimensions));
                Control::Continue
            })
            .expect("an image");
        (sizes[0], generation.image)
    };
    let (plain, image) = preview_of(&model("tiny-base"));
    assert_eq!(plain, (8, 16));
    // Three stages: four pixels for each of the latents'.
    let (decoded, same) = preview_of(folder.path());
    assert_eq!(decoded, (32, 64));
    assert_eq!(image, same, "a preview changes no image");
}
