//! GGUF: every quantisation against the gguf package's own numbers, whole models and UNets as
//! stable-diffusion.cpp and ComfyUI-GGUF write them. Recorded by `tests/record_gguf.py`.

use std::fs;

use atelier_engine::weights::{Quantisation, parse_gguf};
use atelier_engine::{LoadOptions, Pipeline, inspect};
use candle_core::{DType, Device};
use half::f16;
use tempfile::TempDir;

use crate::fixtures::{copy_folder, fixture, json, load, model};
use crate::images::{MAX, MEAN, difference, generate, request};

#[test]
fn every_quantisation_reads_as_ggufs_own_code_reads_it() {
    let recorded = candle_core::safetensors::load(fixture("gguf/blocks.safetensors"), &Device::Cpu)
        .expect("recorded blocks");
    let mut seen = 0;
    for number in 0..64 {
        let Some(kind) = Quantisation::find(number) else {
            continue;
        };
        seen += 1;
        let name = kind.name().to_uppercase();
        let blocks: Vec<u8> = recorded[&format!("{name}/blocks")]
            .flatten_all()
            .and_then(|tensor| tensor.to_vec1())
            .expect("bytes");
        let want: Vec<f32> = recorded[&format!("{name}/values")]
            .to_dtype(DType::F32)
            .and_then(|tensor| tensor.flatten_all()?.to_vec1())
            .expect("numbers");
        let got = kind.to_f16(&blocks);
        assert_eq!(got.len(), 2 * want.len(), "{name}");
        for (at, (word, want)) in got.as_chunks::<2>().0.iter().zip(want).enumerate() {
            let got = f16::from_le_bytes(*word).to_f32();
            let close = (got - want).abs() <= 1e-3 * want.abs() + 1e-6;
            assert!(close, "{name} {at}: {got} is not {want}");
        }
    }
    assert_eq!(seen, 10);
}

#[test]
fn a_whole_model_gives_its_folders_picture() {
    let folder = TempDir::new().expect("a folder");
    copy_folder(&model("tiny-fp16"), &folder.path().join("whole"));
    let path = folder.path().join("whole.gguf");
    fs::copy(fixture("gguf/whole.gguf"), &path).expect("copied");
    let case = json("images.json")[1].clone();
    let (of_file, of_folder) = (load(&path), load(&model("tiny-fp16")));
    let want = generate(&of_folder, &request(&case, &of_folder));
    assert_eq!(generate(&of_file, &request(&case, &of_file)), want);
    let described = inspect(&path).expect("described");
    assert_eq!(described.parameters, of_folder.description().parameters);
}

#[test]
fn a_quantised_unet_over_a_folder() {
    let options = LoadOptions {
        unet: Some(fixture("gguf/unet-q8_0.gguf")),
        ..LoadOptions::default()
    };
    let pipeline = Pipeline::load(&model("tiny-base"), &options, &mut |_| {})
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(pipeline.description().stored_dtype.contains("q8_0"));
    let case = json("images.json")[0].clone();
    let got = generate(&pipeline, &request(&case, &pipeline));
    let want = image::open(fixture("gguf/unet-q8_0.png"))
        .expect("a recorded picture")
        .to_rgb8();
    let (mean, max) = difference(&got, &want);
    println!("Q8_0 against diffusers with the same numbers: mean {mean:.4}, max {max}");
    assert!(mean <= MEAN && max <= MAX, "mean {mean}, max {max}");
}

#[test]
fn headers_that_lie_are_refused() {
    let whole = fs::read(fixture("gguf/unet-q8_0.gguf")).expect("a file");
    let refusal = |bytes: &[u8]| {
        // Not the header itself in the message: it has hundreds of lines.
        parse_gguf(bytes).map(|_| "read").expect_err("refused")
    };
    let header = parse_gguf(&whole).expect("a header");
    let ends = header.tensors.values().map(|tensor| tensor.end);
    let end = ends.max().expect("tensors");
    for length in [0, 3, 4, 8, 20, 24, 100, 5000, whole.len() / 2, end - 1] {
        assert!(refusal(&whole[..length]).contains("truncated"), "{length}");
    }
    let changed = |at: usize, bytes: &[u8]| {
        let mut copy = whole.clone();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        copy
    };
    assert!(refusal(&changed(0, b"GGML")).contains("no GGUF"));
    assert!(refusal(&changed(4, &1u32.to_le_bytes())).contains("version 1"));
    assert!(refusal(&changed(4, &3u32.to_be_bytes())).contains("version"));
    // Counts of tensors and of metadata beyond the file.
    for at in [8, 16] {
        refusal(&changed(at, &u64::MAX.to_le_bytes()));
    }
}
