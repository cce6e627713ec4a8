//! Single files: the picture of a model in one file is the picture of its folder, bit for bit, and
//! the published layouts are read off their shapes. The mapping was recorded by
//! `tests/record_single_file.py`, which made it on its own and checked it with diffusers.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use atelier_engine::single_file::SingleFile;
use atelier_engine::tokenizer::{ClipTokenizer, Padding};
use atelier_engine::{LoadOptions, Pipeline, inspect};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::{copy_folder, fixture, json, load, model};
use crate::images::{generate, request};
use crate::pipelines;

type Tensors = HashMap<String, Tensor>;

fn open(path: &Path) -> Tensors {
    candle_core::safetensors::load(path, &Device::Cpu).expect("tensors")
}

fn save(tensors: &Tensors, path: &Path) {
    candle_core::safetensors::save(tensors, path).expect("saved");
}

/// tiny-base as a single file's tensors.
fn converted() -> Tensors {
    converted_of(&model("tiny-base"))
}

/// A folder's weights as a single file's tensors, by the mapping recorded for its name.
fn converted_of(model: &Path) -> Tensors {
    let mut parts: HashMap<&str, Tensors> = HashMap::new();
    for (part, file) in [
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
        ("text_encoder_2", "model"),
    ] {
        let path = model.join(part).join(format!("{file}.safetensors"));
        // Refiners have the second encoder only.
        if path.exists() {
            parts.insert(part, open(&path));
        }
    }
    let name = model.file_name().expect("a name").to_string_lossy();
    let rows = json(&format!("single_file/{name}.json"));
    let mut tensors = Tensors::new();
    let mut fused: BTreeMap<String, BTreeMap<usize, Tensor>> = BTreeMap::new();
    for row in rows.as_array().expect("rows") {
        let word = |at: usize| row[at].as_str().expect("a word");
        let part = &parts[word(0)];
        let tensor = &part[word(1)];
        let name = word(2).to_string();
        match word(3) {
            "transposed" => {
                let transposed = tensor.t().and_then(|t| t.contiguous()).expect("a matrix");
                tensors.insert(name, transposed);
            }
            "convolution" if tensor.rank() == 2 => {
                let (rows, columns) = tensor.dims2().expect("a matrix");
                let wide = tensor.reshape((rows, columns, 1, 1)).expect("reshaped");
                tensors.insert(name, wide);
            }
            piece @ ("q" | "k" | "v") => {
                let at = "qkv".find(piece).expect("one of them");
                fused.entry(name).or_default().insert(at, tensor.clone());
            }
            _ => {
                tensors.insert(name, tensor.clone());
            }
        }
    }
    for (name, thirds) in fused {
        let thirds: Vec<Tensor> = thirds.into_values().collect();
        tensors.insert(name, Tensor::cat(&thirds, 0).expect("three thirds"));
    }
    tensors
}

/// tiny-base's configs and tokenizers, without weights.
fn configs(folder: &Path) {
    configs_of(&model("tiny-base"), folder);
}

/// A model's configs and tokenizers, without weights.
fn configs_of(model: &Path, folder: &Path) {
    copy_folder(model, folder);
    for part in ["unet", "vae", "text_encoder", "text_encoder_2"] {
        if !folder.join(part).exists() {
            continue;
        }
        for entry in fs::read_dir(folder.join(part)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|end| end == "safetensors") {
                fs::remove_file(path).expect("removed");
            }
        }
    }
}

/// A folder with `model.safetensors` in it and configs beside it.
fn single_file(change: impl FnOnce(&mut Tensors)) -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a folder");
    configs(&folder.path().join("model"));
    let path = folder.path().join("model.safetensors");
    let mut tensors = converted();
    change(&mut tensors);
    save(&tensors, &path);
    (folder, path)
}

fn case() -> Value {
    json("images.json")[1].clone()
}

fn refusal(path: &Path) -> String {
    match Pipeline::load(path, &LoadOptions::default(), &mut |_| {}) {
        Ok(_) => panic!("{} was not refused", path.display()),
        Err(error) => error.to_string(),
    }
}

fn check_words(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{message:?} lacks {word:?}");
    }
    assert!(!message.contains('\n'), "{message:?}");
}

#[test]
fn the_picture_is_the_folders() {
    let of_folder = load(&model("tiny-base"));
    let want = generate(&of_folder, &request(&case(), &of_folder));
    // Idle tensors that checkpoints carry are passed over.
    let (_folder, path) = single_file(|tensors| {
        for name in [
            "denoiser.sigmas",
            "model_ema.decay",
            "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
            "conditioner.embedders.1.model.logit_scale",
        ] {
            let idle = Tensor::zeros(3, DType::F32, &Device::Cpu).expect("zeros");
            tensors.insert(name.to_string(), idle);
        }
    });
    let of_file = load(&path);
    assert_eq!(generate(&of_file, &request(&case(), &of_file)), want);
    let described = inspect(&path).expect("described");
    assert_eq!(described.kind, "stable-diffusion-xl-base");
    assert_eq!(described.parameters, of_folder.description().parameters);
    assert_eq!(described.stored_dtype, "f32");
    // Configs lying right beside the file do as well.
    let folder = TempDir::new().expect("a folder");
    configs(folder.path());
    let beside = folder.path().join("any name.safetensors");
    fs::copy(&path, &beside).expect("copied");
    let of_file = load(&beside);
    assert_eq!(generate(&of_file, &request(&case(), &of_file)), want);
}

/// The same for a refiner and for an inpainting model of nine channels.
#[test]
fn refiners_and_inpainting_models_come_in_one_file_too() {
    for (name, case) in [("tiny-refiner", "img-refiner"), ("tiny-inpaint", "nine")] {
        let own = fixture("pipelines/models").join(name);
        let folder = TempDir::new().expect("a folder");
        configs_of(&own, &folder.path().join("model"));
        let path = folder.path().join("model.safetensors");
        save(&converted_of(&own), &path);
        let wanted = pipelines::request(&pipelines::case_named(case));
        let want = generate(&load(&own), &wanted);
        assert_eq!(generate(&load(&path), &wanted), want, "{name}");
        let kind = inspect(&path).expect("described").kind;
        let word = name.trim_start_matches("tiny-");
        assert!(kind.contains(word), "{name}: {kind}");
    }
}

/// Files whose configs are read off their shapes give their folders' pictures: those that
/// `record_single_file.py --derived` wrote into the folder that `ATELIER_DERIVED_MODELS` names.
#[test]
#[ignore = "needs a folder of models"]
fn derived_configs_give_the_folders_picture() {
    let folder = std::env::var_os("ATELIER_DERIVED_MODELS").expect("it names a folder");
    let folder = Path::new(&folder);
    for name in ["base", "uneven", "four-levels"] {
        // The GGUF file's matrices are rounded to f16, and so are those of its own folder.
        for (end, rounded) in [("safetensors", ""), ("gguf", "-f16")] {
            let of_folder = load(&folder.join(format!("{name}{rounded}")));
            let wanted = request(&case(), &of_folder);
            let of_file = load(&folder.join("files").join(format!("{name}.{end}")));
            let same = generate(&of_file, &wanted) == generate(&of_folder, &wanted);
            assert!(same, "{name}.{end} gives another picture than its folder");
        }
    }
}

#[test]
fn another_unet_or_vae_takes_the_place_of_the_models_own() {
    let base = load(&model("tiny-base"));
    let want = generate(&base, &request(&case(), &base));
    let folder = TempDir::new().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let all = converted();
    let below = |prefix: &str, keep: bool| -> Tensors {
        all.iter()
            .filter_map(|(name, tensor)| {
                let rest = name.strip_prefix(prefix)?;
                let name = if keep { name.as_str() } else { rest };
                Some((name.to_string(), tensor.clone()))
            })
            .collect()
    };
    let unet = "model.diffusion_model.";
    save(&below(unet, true), &file("unet-prefixed.safetensors"));
    save(&below(unet, false), &file("unet-bare.safetensors"));
    save(
        &below("first_stage_model.", true),
        &file("vae-prefixed.safetensors"),
    );
    save(
        &below("first_stage_model.", false),
        &file("vae-bare.safetensors"),
    );
    save(&all, &file("whole.safetensors"));
    let own = |part: &str| {
        let name = format!("{part}/diffusion_pytorch_model.safetensors");
        model("tiny-base").join(name)
    };
    // A model whose own UNet and VAE are zeros, so that only the replacements can be right.
    let hollow = TempDir::new().expect("a folder");
    copy_folder(&model("tiny-base"), hollow.path());
    for part in ["unet", "vae"] {
        let path = hollow
            .path()
            .join(part)
            .join("diffusion_pytorch_model.safetensors");
        let zeros = open(&path)
            .into_iter()
            .map(|(name, tensor)| (name, tensor.zeros_like().expect("zeros")))
            .collect();
        save(&zeros, &path);
    }
    let unets = [
        file("unet-prefixed.safetensors"),
        file("unet-bare.safetensors"),
        file("whole.safetensors"),
        own("unet"),
        model("tiny-base").join("unet"),
    ];
    let vaes = [
        file("vae-prefixed.safetensors"),
        file("vae-bare.safetensors"),
        file("whole.safetensors"),
        own("vae"),
        model("tiny-base").join("vae"),
    ];
    for (unet, vae) in unets.into_iter().zip(vaes) {
        let options = LoadOptions {
            unet: Some(unet.clone()),
            vae: Some(vae),
            ..LoadOptions::default()
        };
        let pipeline = Pipeline::load(hollow.path(), &options, &mut |_| {})
            .unwrap_or_else(|error| panic!("{error}"));
        let got = generate(&pipeline, &request(&case(), &pipeline));
        assert_eq!(got, want, "{}", unet.display());
    }
    // What is no UNet or VAE is refused.
    let options = LoadOptions {
        unet: Some(file("vae-bare.safetensors")),
        ..LoadOptions::default()
    };
    let error = Pipeline::load(&model("tiny-base"), &options, &mut |_| {});
    check_words(
        &error.err().expect("refused").to_string(),
        &["holds no UNet"],
    );
    let options = LoadOptions {
        vae: Some(file("unet-bare.safetensors")),
        ..LoadOptions::default()
    };
    let error = Pipeline::load(&model("tiny-base"), &options, &mut |_| {});
    check_words(
        &error.err().expect("refused").to_string(),
        &["holds no VAE"],
    );
}

#[test]
fn what_is_no_whole_model_is_refused_with_what_it_is() {
    let only = |prefix: &str| {
        let prefix = prefix.to_string();
        single_file(move |tensors| tensors.retain(|name, _| name.starts_with(&prefix)))
    };
    let (_folder, path) = only("model.diffusion_model.");
    check_words(
        &refusal(&path),
        &["holds a UNet", "lacks", "text encoders", "VAE", "--unet"],
    );
    let (_folder, path) = only("first_stage_model.");
    check_words(&refusal(&path), &["holds a VAE only", "--vae"]);
    check_words(
        &refusal(&fixture("lora/kohya.safetensors")),
        &["is a LoRA", "--lora"],
    );
    let (_folder, path) = single_file(|tensors| {
        tensors.remove("model.diffusion_model.out.2.bias");
        let extra = Tensor::zeros(3, DType::F32, &Device::Cpu).expect("zeros");
        tensors.insert("model.diffusion_model.novel.weight".to_string(), extra);
    });
    check_words(
        &refusal(&path),
        &["1 tensor is missing", "conv_out.bias", "novel.weight"],
    );
    let (_folder, path) = single_file(|tensors| {
        let extra = Tensor::zeros(3, DType::F32, &Device::Cpu).expect("zeros");
        tensors.insert("control_model.x".to_string(), extra);
    });
    check_words(&refusal(&path), &["control_model.x", "belong to no part"]);
    // Other kinds of models, by a few of their tensors.
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("other.safetensors");
    for (name, shape, what) in [
        (
            "cond_stage_model.transformer.text_model.x",
            vec![2],
            "Stable Diffusion 1.x",
        ),
        (
            "cond_stage_model.model.ln_final.weight",
            vec![2],
            "Stable Diffusion 2.x",
        ),
        (
            "model.diffusion_model.joint_blocks.0.x",
            vec![2],
            "Stable Diffusion 3",
        ),
        ("double_blocks.0.img_attn.qkv.weight", vec![2, 2], "FLUX"),
        (
            "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
            vec![320, 768],
            "Stable Diffusion 1.x",
        ),
        ("some.weight", vec![2], "is no SDXL model"),
    ] {
        let tensor = Tensor::zeros(shape, DType::F32, &Device::Cpu).expect("zeros");
        save(&HashMap::from([(name.to_string(), tensor)]), &path);
        check_words(&refusal(&path), &[what]);
    }
    // Pickles, whatever they are called.
    for bytes in [
        &b"PK\x03\x04 a zip archive as torch.save makes it"[..],
        b"\x80\x02}q\x00X\x05\x00\x00\x00hello",
    ] {
        fs::write(&path, bytes).expect("written");
        check_words(&refusal(&path), &["pickle", "safetensors"]);
        let ckpt = folder.path().join("model.ckpt");
        fs::write(&ckpt, bytes).expect("written");
        check_words(&refusal(&ckpt), &["pickle", "safetensors"]);
    }
}

/// A file of the published layout, full-size, of which only the header is there: the data is a
/// hole.
fn stock_file(folder: &Path, kind: &str, extra: &[(&str, &str)], metadata: &str) -> PathBuf {
    let list =
        fs::read_to_string(fixture(&format!("single_file/stock-{kind}.txt"))).expect("a list");
    let mut header = format!("{{\"__metadata__\":{metadata}");
    let mut end = 0u64;
    let lines = list.lines().filter_map(|line| line.split_once(' '));
    for (name, shape) in lines.chain(extra.iter().copied()) {
        let shape: Vec<u64> = shape
            .split('x')
            .map(|length| length.parse().expect("a length"))
            .collect();
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        header.push_str(&format!(
            ",\"{name}\":{{\"dtype\":\"F16\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}"
        ));
    }
    header.push('}');
    let path = folder.join(format!("{kind}.safetensors"));
    let mut file = fs::File::create(&path).expect("created");
    file.write_all(&(header.len() as u64).to_le_bytes())
        .expect("written");
    file.write_all(header.as_bytes()).expect("written");
    file.set_len(8 + header.len() as u64 + end).expect("a hole");
    path
}

#[test]
fn published_layouts_are_read_off_their_shapes() {
    let folder = TempDir::new().expect("a folder");
    for (kind, unet_in) in [("base", 4), ("inpaint", 9)] {
        let path = stock_file(folder.path(), kind, &[], "{}");
        let file = SingleFile::open(&path).expect("an SDXL model");
        let unet = file.config("unet/config.json").expect("derived");
        assert_eq!(
            unet.sizes("block_out_channels", &[]).expect("sizes"),
            [320, 640, 1280]
        );
        assert_eq!(
            unet.sizes("attention_head_dim", &[]).expect("sizes"),
            [5, 10, 20]
        );
        assert_eq!(
            unet.sizes("transformer_layers_per_block", &[])
                .expect("sizes"),
            [1, 2, 10]
        );
        assert_eq!(unet.size("in_channels", 0).expect("a size"), unet_in);
        assert_eq!(
            unet.size("addition_time_embed_dim", 0).expect("a size"),
            256
        );
    }
    let path = folder.path().join("base.safetensors");
    let described = inspect(&path).expect("described");
    // UNet 2 567 463 684, VAE 83 653 863, CLIP-L 123 060 480, OpenCLIP-G 694 659 840.
    assert_eq!(described.parameters, Some(3_468_837_867));
    assert_eq!(
        (described.default_width, described.scheduler.as_str()),
        (1024, "Euler")
    );
    let path = stock_file(folder.path(), "refiner", &[], "{}");
    let described = inspect(&path).expect("described");
    assert_eq!(described.kind, "stable-diffusion-xl-refiner");
    let inpainting = inspect(&folder.path().join("inpaint.safetensors")).expect("described");
    assert_eq!(inpainting.kind, "stable-diffusion-xl-inpainting");
    let file = SingleFile::open(&path).expect("an SDXL refiner");
    let unet = file.config("unet/config.json").expect("derived");
    assert_eq!(
        unet.sizes("block_out_channels", &[]).expect("sizes"),
        [384, 768, 1536, 1536]
    );
    assert_eq!(
        unet.sizes("attention_head_dim", &[]).expect("sizes"),
        [6, 12, 24, 24]
    );
    assert_eq!(
        unet.size("addition_time_embed_dim", 0).expect("a size"),
        256
    );
    let index = file.config("model_index.json").expect("derived");
    assert!(
        !index
            .flag("force_zeros_for_empty_prompt", true)
            .expect("a flag")
    );
}

#[test]
fn files_say_what_their_unets_predict() {
    let folder = TempDir::new().expect("a folder");
    let predicts = |extra: &[(&str, &str)], metadata: &str| {
        let path = stock_file(folder.path(), "base", extra, metadata);
        let config = SingleFile::open(&path)?.config("scheduler/scheduler_config.json")?;
        Ok::<_, atelier_engine::EngineError>((
            config.text("prediction_type", "")?,
            config.flag("rescale_betas_zero_snr", false)?,
        ))
    };
    let epsilon = ("epsilon".to_string(), false);
    let velocity = |zero_snr| ("v_prediction".to_string(), zero_snr);
    let spoken = |kind: &str| format!("{{\"modelspec.prediction_type\":\"{kind}\"}}");
    assert_eq!(predicts(&[], "{}").expect("read"), epsilon);
    assert_eq!(predicts(&[], &spoken("epsilon")).expect("read"), epsilon);
    assert_eq!(predicts(&[], &spoken("v")).expect("read"), velocity(false));
    assert_eq!(
        predicts(&[("v_pred", "0")], "{}").expect("read"),
        velocity(false)
    );
    let both = [("v_pred", "0"), ("ztsnr", "0")];
    assert_eq!(predicts(&both, "{}").expect("read"), velocity(true));
    let error = predicts(&[], &spoken("sample"))
        .expect_err("refused")
        .to_string();
    check_words(&error, &["modelspec.prediction_type", "sample"]);
}

/// The tokenizers that single files use are the published ones.
#[test]
fn the_engines_own_vocabulary_is_clips() {
    let ours = [
        ClipTokenizer::clip(Padding::EndOfText).expect("a tokenizer"),
        ClipTokenizer::clip(Padding::ExclamationMark).expect("a tokenizer"),
    ];
    let cases = json("clip_tokens.json");
    let cases = cases.as_array().expect("a list");
    assert!(cases.len() > 20);
    for case in cases {
        let prompt = case["prompt"].as_str().expect("a prompt");
        for (tokenizer, key) in ours.iter().zip(["ids", "ids_2"]) {
            let want: Vec<u32> = case[key]
                .as_array()
                .expect("ids")
                .iter()
                .map(|id| id.as_u64().expect("an id") as u32)
                .collect();
            assert_eq!(
                tokenizer.encode(prompt).expect("tokens").ids,
                want,
                "{prompt:?} {key}"
            );
        }
    }
}
