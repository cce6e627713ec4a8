//! LoRAs: pictures and UNet outputs against diffusers with peft, for files in every key style.
//! Recorded by `tests/record_lora.py`.

use std::path::{Path, PathBuf};
use std::{env, fs};

use atelier_engine::nn::with_adapters;
use atelier_engine::{
    EngineError, GenerateRequest, LoadOptions, LoraChoice, Pipeline, inspect_lora,
};
use candle_core::{Device, Tensor};
use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::{Numbers, fixture, load, load_with, model, read_json, relative_error};
use crate::images::{MAX, MEAN, difference, generate, request};

/// Largest difference of a UNet's output, as a fraction of its largest value. torch's own rounding to
/// f32 is up to a tenth of it in these cases.
pub const TOLERANCE: f32 = 1e-4;

fn choices(case: &Value, folder: &Path) -> Vec<LoraChoice> {
    let list = case["loras"].as_array().expect("a list");
    list.iter()
        .map(|pair| LoraChoice {
            path: folder.join(format!("{}.safetensors", pair[0].as_str().expect("a name"))),
            weight: pair[1].as_f64().expect("a weight"),
        })
        .collect()
}

fn lora_request(case: &Value, folder: &Path, pipeline: &Pipeline) -> GenerateRequest {
    GenerateRequest {
        loras: choices(case, folder),
        ..request(case, pipeline)
    }
}

fn row(numbers: &Numbers, name: &str) -> Tensor {
    let tensor = numbers.tensor(&format!("unet/{name}"));
    tensor.narrow(0, 0, 1).expect("a row")
}

/// The UNet's output for the first recorded input, with the given LoRAs.
fn unet_output(pipeline: &Pipeline, loras: &[LoraChoice], numbers: &Numbers) -> Tensor {
    let adapters = pipeline.loras().adapters(loras).expect("adapters");
    let time_ids: Vec<Vec<f32>> = row(numbers, "time_ids").to_vec2().expect("a row of six");
    let time_ids: [f32; 6] = time_ids[0].clone().try_into().expect("six");
    let (embeds, pooled) = (
        row(numbers, "encoder_hidden_states"),
        row(numbers, "text_embeds"),
    );
    let timestep = numbers.values("unet/timestep")[0];
    with_adapters(adapters, || {
        let unet = pipeline.unet();
        let conditioning = unet
            .condition(&embeds, &pooled, &[time_ids.to_vec()], 1.0)
            .expect("conditioning");
        unet.forward(&row(numbers, "sample"), timestep, &conditioning)
            .expect("a forward pass")
    })
}

/// Compares every case of a folder, with one pipeline for all of them.
fn compare(folder: &Path) {
    let deviations = deviations(folder, &LoadOptions::default());
    let failures: Vec<_> = deviations
        .iter()
        .filter(|(_, mean, max, error)| *mean > MEAN || *max > MAX || *error > TOLERANCE)
        .collect();
    assert!(failures.is_empty(), "beyond the bar: {failures:?}");
}

/// Each case's name, and how far its picture (mean, max) and its UNet's output are from the
/// recorded ones.
pub fn deviations(folder: &Path, options: &LoadOptions) -> Vec<(String, f64, u8, f32)> {
    let pipeline = load_with(&model("tiny-base"), options);
    let inputs = Numbers::read("numbers/tiny-base.safetensors");
    let outputs =
        candle_core::safetensors::load(folder.join("unet_outputs.safetensors"), &Device::Cpu)
            .expect("recorded outputs");
    let cases = read_json(&folder.join("cases.json"));
    let cases = cases.as_array().expect("a list");
    let deviation = |case: &Value| {
        let name = case["name"].as_str().expect("a name");
        let request = lora_request(case, folder, &pipeline);
        let got = generate(&pipeline, &request);
        let want = image::open(folder.join(format!("{name}.png")))
            .expect("a recorded picture")
            .to_rgb8();
        let (mean, max) = difference(&got, &want);
        let output = unet_output(&pipeline, &request.loras, &inputs);
        let error = relative_error(name, &output, &outputs[name]);
        println!("{name:32} mean {mean:.4}/255  max {max}/255  UNet {error:.2e}");
        (name.to_owned(), mean, max, error)
    };
    cases.iter().map(deviation).collect()
}

#[test]
fn pictures_with_loras() {
    compare(&fixture("lora"));
}

/// The same for cases that `record_lora.py --random` wrote into the folder that
/// `ATELIER_LORA_CASES` names.
#[test]
#[ignore = "needs a folder of random cases"]
fn random_pictures_with_loras() {
    let folder = env::var_os("ATELIER_LORA_CASES").expect("ATELIER_LORA_CASES names a folder");
    compare(&PathBuf::from(folder));
}

/// LoRAs come and go without a trace: the picture without them is bit for bit what it was.
#[test]
fn loras_leave_no_trace() {
    let pipeline = load(&model("tiny-base"));
    let cases = read_json(&fixture("lora/cases.json"));
    let with = lora_request(&cases[0], &fixture("lora"), &pipeline);
    let without = GenerateRequest {
        loras: Vec::new(),
        ..with.clone()
    };
    let zero = GenerateRequest {
        loras: vec![LoraChoice {
            weight: 0.0,
            ..with.loras[0].clone()
        }],
        ..with.clone()
    };
    let plain = generate(&pipeline, &without);
    let adapted = generate(&pipeline, &with);
    assert!(
        difference(&plain, &adapted).0 > 2.0,
        "the LoRA does nothing"
    );
    assert_eq!(generate(&pipeline, &without), plain);
    assert_eq!(generate(&pipeline, &zero), plain);
    assert_eq!(generate(&pipeline, &with), adapted);
    // Two threads, one model, different LoRAs.
    std::thread::scope(|scope| {
        let one = scope.spawn(|| generate(&pipeline, &with));
        let other = scope.spawn(|| generate(&pipeline, &without));
        assert_eq!(one.join().expect("joined"), adapted);
        assert_eq!(other.join().expect("joined"), plain);
    });
}

/// A file that is written anew under the same name is read anew.
#[test]
fn a_changed_file_is_noticed() {
    let pipeline = load(&model("tiny-base"));
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("mine.safetensors");
    let cases = read_json(&fixture("lora/cases.json"));
    let request = GenerateRequest {
        loras: vec![LoraChoice {
            path: path.clone(),
            weight: 1.0,
        }],
        ..request(&cases[0], &pipeline)
    };
    let picture = |from: &str| {
        fs::copy(fixture("lora").join(from), &path).expect("copied");
        generate(&pipeline, &request)
    };
    let first = picture("kohya.safetensors");
    let second = picture("peft.safetensors");
    assert!(difference(&first, &second).0 > 2.0);
    assert_eq!(picture("kohya.safetensors"), first);
}

#[test]
fn a_lora_is_described_from_its_header() {
    let described = inspect_lora(&fixture("lora/kohya.safetensors")).expect("a LoRA");
    assert_eq!(described.name, "kohya");
    assert_eq!(described.ranks, [2, 3, 4]);
    assert_eq!(described.parts, ["unet"]);
    assert_eq!(described.base.as_deref(), Some("sdxl_base_v1-0"));
    let described = inspect_lora(&fixture("lora/peft.safetensors")).expect("a LoRA");
    assert_eq!(described.parts, ["unet", "text_encoder", "text_encoder_2"]);
}

/// Writes a LoRA of zeros with these tensors.
fn write(folder: &TempDir, tensors: &[(&str, &[usize])]) -> PathBuf {
    let path = folder.path().join("refused.safetensors");
    let tensors: std::collections::HashMap<String, Tensor> = tensors
        .iter()
        .map(|(name, shape)| {
            let zeros = Tensor::zeros(*shape, candle_core::DType::F32, &Device::Cpu);
            ((*name).to_string(), zeros.expect("zeros"))
        })
        .collect();
    candle_core::safetensors::save(&tensors, &path).expect("saved");
    path
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let pipeline = load(&model("tiny-base"));
    let folder = TempDir::new().expect("a folder");
    let cases = read_json(&fixture("lora/cases.json"));
    let refusal = |path: &Path| {
        let request = GenerateRequest {
            loras: vec![LoraChoice {
                path: path.to_path_buf(),
                weight: 1.0,
            }],
            ..request(&cases[0], &pipeline)
        };
        match pipeline.generate(&request, &mut |_| panic!("work before the refusal")) {
            Err(EngineError::Model { path: at, message }) if at == path => message,
            other => panic!("not refused: {:?}", other.map(|_| ())),
        }
    };
    let layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k";
    let down = format!("{layer}.lora_down.weight");
    let up = format!("{layer}.lora_up.weight");
    let many: Vec<String> = (0..9)
        .flat_map(|at| {
            let layer = format!("lora_unet_down_blocks_0_attentions_{at}_proj_in");
            [
                format!("{layer}.lora_down.weight"),
                format!("{layer}.lora_up.weight"),
            ]
        })
        .collect();
    let many: Vec<(&str, &[usize])> = many
        .iter()
        .map(|name| (name.as_str(), &[2, 2][..]))
        .collect();
    for (tensors, words) in [
        // A layer of another model, by the width of its text.
        (
            vec![(down.as_str(), &[4, 768][..]), (&up, &[24, 4])],
            vec!["Stable Diffusion 1.x", "width 768", "64"],
        ),
        (
            many,
            vec![
                "9 of its 9 layers",
                "and 5 more",
                "down_blocks_0_attentions_0_proj_in",
            ],
        ),
        (vec![(&down, &[4, 64])], vec!["incomplete", "attn2_to_k"]),
        (
            vec![(&down, &[4, 64]), (&up, &[24, 5])],
            vec!["do not fit each other", "[24, 5]"],
        ),
        (
            vec![(&down, &[4, 64]), (&up, &[16, 4])],
            vec!["other shapes", "64 → 24"],
        ),
        (
            vec![("lora_unet_conv_in.hada_w1_a", &[2, 2])],
            vec!["LoHa", "not supported"],
        ),
        (
            vec![("lora_unet_conv_in.lokr_w1", &[2, 2])],
            vec!["LoKr", "not supported"],
        ),
        (
            vec![("unet.conv_in.lora_magnitude_vector", &[2])],
            vec!["DoRA", "not supported"],
        ),
        (
            vec![("transformer.x.lora_A.weight", &[2, 2])],
            vec!["another model", "FLUX"],
        ),
        (
            vec![("conv_in.weight", &[8, 4, 3, 3])],
            vec!["is no LoRA", "conv_in.weight"],
        ),
        (
            vec![(&down, &[4, 64]), (&up, &[24, 4]), ("emb_params", &[2, 2])],
            vec!["belong to no LoRA", "emb_params"],
        ),
    ] {
        let message = refusal(&write(&folder, &tensors));
        for word in words {
            assert!(message.contains(word), "{message:?} lacks {word:?}");
        }
    }
    // Files that are no safetensors at all.
    let path = folder.path().join("renamed.safetensors");
    fs::write(&path, b"PK\x03\x04 a zip archive as torch.save makes it").expect("written");
    assert!(refusal(&path).contains("pickle"));
    fs::write(&path, b"\x80\x02}q\x00X\x05\x00\x00\x00helloq\x01").expect("written");
    assert!(refusal(&path).contains("pickle"));
    fs::remove_file(&path).expect("removed");
    assert!(refusal(&path).contains("does not exist"));
    // Weights out of range are the request's fault.
    let request = GenerateRequest {
        loras: vec![LoraChoice {
            path,
            weight: f64::NAN,
        }],
        ..request(&cases[0], &pipeline)
    };
    match request.validate(pipeline.description()) {
        Err(EngineError::InvalidRequest { field: "lora", .. }) => {}
        other => panic!("{other:?}"),
    }
}
