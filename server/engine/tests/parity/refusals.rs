//! Bad folders and bad requests: each is refused in one line that names the cause. A panic, or a
//! picture, is a failure.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use atelier_engine::{Control, EngineError, GenerateRequest, LoadOptions, Pipeline, inspect};
use candle_core::{DType, Device, Tensor};
use serde_json::json;

use crate::fixtures::{Copy, copy_folder, load, model};

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";
const VAE: &str = "vae/diffusion_pytorch_model.safetensors";
const TEXT: &str = "text_encoder/model.safetensors";
const TEXT_2: &str = "text_encoder_2/model.safetensors";

/// Loading must fail in one line that holds every one of `words`.
fn refused(folder: &Path, words: &[&str]) -> String {
    let error = Pipeline::load(folder, &LoadOptions::default(), &mut |_| {})
        .err()
        .unwrap_or_else(|| panic!("loaded, though {words:?}"));
    assert!(matches!(error, EngineError::Model { .. }), "{error:?}");
    let text = error.to_string();
    println!("{}", text.replace(&folder.display().to_string(), "DIR"));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.len() < 2000, "{} characters: {text}", text.len());
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    text
}

fn changed(file: &str, changes: serde_json::Value) -> Copy {
    let copy = Copy::of("tiny-base");
    copy.set(file, &changes);
    copy
}

fn rewritten(file: &str, change: impl FnOnce(&mut HashMap<String, Tensor>)) -> Copy {
    let copy = Copy::of("tiny-base");
    copy.rewrite(file, change);
    copy
}

#[test]
fn missing_tensors_are_named() {
    for (file, tensor) in [
        (UNET, "add_embedding.linear_1.weight"),
        (
            UNET,
            "up_blocks.0.attentions.2.transformer_blocks.1.ff.net.2.bias",
        ),
        (VAE, "decoder.mid_block.attentions.0.to_q.weight"),
        (VAE, "post_quant_conv.weight"),
        (VAE, "encoder.conv_in.weight"),
        (TEXT, "embeddings.position_embedding.weight"),
        (TEXT_2, "text_projection.weight"),
        (TEXT_2, "text_model.final_layer_norm.bias"),
    ] {
        let copy = rewritten(file, |tensors| {
            tensors
                .remove(tensor)
                .unwrap_or_else(|| panic!("{tensor} was not there"));
        });
        refused(copy.path(), &["missing", tensor]);
    }
}

#[test]
fn unused_tensors_are_named() {
    for file in [UNET, VAE, TEXT, TEXT_2] {
        let copy = rewritten(file, |tensors| {
            let extra = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).expect("zeros");
            tensors.insert("stray.lora_down.weight".into(), extra);
        });
        refused(copy.path(), &["stray.lora_down.weight"]);
    }
}

#[test]
fn wrong_shapes_are_named() {
    for (file, tensor) in [
        (UNET, "conv_in.weight"),
        (
            UNET,
            "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
        ),
        (VAE, "decoder.conv_out.bias"),
        (TEXT_2, "text_model.embeddings.token_embedding.weight"),
    ] {
        let copy = rewritten(file, |tensors| {
            let shorter = tensors[tensor].narrow(0, 1, 2).expect("two rows");
            tensors.insert(tensor.into(), shorter.contiguous().expect("contiguous"));
        });
        refused(copy.path(), &[tensor, "shape"]);
    }
    // The same number of values in another shape is still wrong.
    let copy = rewritten(UNET, |tensors| {
        let name = "add_embedding.linear_2.weight";
        let flat = tensors[name].flatten_all().expect("flat");
        tensors.insert(name.into(), flat);
    });
    refused(copy.path(), &["add_embedding.linear_2.weight"]);
}

#[test]
fn weights_that_are_no_floats_are_refused() {
    let copy = rewritten(UNET, |tensors| {
        let whole = tensors["conv_in.bias"]
            .to_dtype(DType::I64)
            .expect("whole numbers");
        tensors.insert("conv_in.bias".into(), whole);
    });
    refused(copy.path(), &["conv_in.bias"]);
}

#[test]
fn damaged_files_are_named() {
    for file in [UNET, VAE, TEXT, TEXT_2] {
        let name = file.rsplit('/').next().expect("a file name");
        let bytes = fs::read(model("tiny-base").join(file)).expect("weights");
        let copy = Copy::of("tiny-base");
        for kept in [0, 4, 8, 100, bytes.len() / 2, bytes.len() - 1] {
            fs::write(copy.file(file), &bytes[..kept]).expect("written");
            refused(copy.path(), &[name]);
        }
        // A header longer than the file, one that is no JSON, one with ranges beyond the data.
        let mut absurd = bytes.clone();
        absurd[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        fs::write(copy.file(file), &absurd).expect("written");
        refused(copy.path(), &[name]);
        let mut garbled = bytes.clone();
        garbled[8..40].fill(b'#');
        fs::write(copy.file(file), &garbled).expect("written");
        refused(copy.path(), &[name]);
        fs::write(copy.file(file), [bytes.as_slice(), &[0; 64]].concat()).expect("written");
        refused(copy.path(), &[name]);
    }
}

#[test]
fn pickles_are_not_read() {
    for (file, pickle) in [
        (UNET, "unet/diffusion_pytorch_model.bin"),
        (TEXT, "text_encoder/pytorch_model.bin"),
    ] {
        let copy = Copy::of("tiny-base");
        fs::rename(copy.file(file), copy.file(pickle)).expect("renamed");
        refused(copy.path(), &["pickle", ".bin", "safetensors"]);
    }
}

#[test]
fn incomplete_folders_are_named() {
    let nowhere = Path::new("no/such/model");
    refused(nowhere, &["no/such/model"]);
    assert!(inspect(nowhere).is_err());
    let empty = tempfile::TempDir::new().expect("a folder");
    refused(empty.path(), &["model_index.json"]);
    let file = empty.path().join("file.safetensors");
    fs::write(&file, b"x").expect("written");
    refused(&file, &["file.safetensors"]);
    for part in [
        "model_index.json",
        "scheduler",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "unet",
        "vae",
        "unet/config.json",
        "vae/config.json",
        "text_encoder_2/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/merges.txt",
        "tokenizer_2/vocab.json",
        UNET,
        VAE,
        TEXT,
    ] {
        let copy = Copy::of("tiny-base");
        let path = copy.file(part);
        if path.is_dir() {
            fs::remove_dir_all(&path).expect("removed");
        } else {
            fs::remove_file(&path).expect("removed");
        }
        let name = part.rsplit('/').next().expect("a name");
        let stem = name.split('.').next().expect("a stem");
        let text = refused(copy.path(), &[stem]);
        let plain = ["missing", "has no", "does not exist"];
        assert!(plain.iter().any(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn shards_are_checked() {
    let folder = model("tiny-bf16-sharded");
    let shard = fs::read_dir(folder.join("unet"))
        .expect("a folder")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| name.contains("00002-of-"))
        .expect("a second shard");
    let copy = Copy::of("tiny-bf16-sharded");
    fs::remove_file(copy.file("unet").join(&shard)).expect("removed");
    refused(copy.path(), &[&shard]);

    let index = "unet/diffusion_pytorch_model.safetensors.index.json";
    for outside in [
        "../vae/diffusion_pytorch_model.safetensors",
        "/etc/passwd",
        "..",
    ] {
        let copy = Copy::of("tiny-bf16-sharded");
        copy.set(index, &json!({"weight_map": {"conv_in.weight": outside}}));
        refused(copy.path(), &["index.json"]);
    }
    let copy = Copy::of("tiny-bf16-sharded");
    fs::write(copy.file(index), "{\"weight_map\": 3}").expect("written");
    refused(copy.path(), &["weight_map"]);
}

#[test]
fn configs_that_are_no_json_are_named() {
    for file in [
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
    ] {
        let name = file.rsplit('/').next().expect("a name");
        for text in ["", "{", "[1, 2]", "\u{0}\u{1}", "{\"a\": NaN}"] {
            let copy = Copy::of("tiny-base");
            fs::write(copy.file(file), text).expect("written");
            println!("{file} {text:?}");
            refused(copy.path(), &[name]);
        }
        let copy = Copy::of("tiny-base");
        fs::write(copy.file(file), [0xff, 0xfe, b'{', b'}']).expect("written");
        refused(copy.path(), &[name]);
    }
}

#[test]
fn wrong_components_are_named() {
    for (part, class) in [
        ("unet", "FluxTransformer2DModel"),
        ("vae", "AutoencoderTiny"),
        ("text_encoder", "T5EncoderModel"),
        ("text_encoder_2", "CLIPTextModel"),
        ("scheduler", "FlowMatchEulerDiscreteScheduler"),
    ] {
        let copy = changed("model_index.json", json!({ part: ["diffusers", class] }));
        refused(copy.path(), &[class]);
    }
    let copy = changed(
        "model_index.json",
        json!({"_class_name": "StableDiffusionPipeline"}),
    );
    refused(copy.path(), &["StableDiffusionPipeline"]);
    for (file, class) in [
        ("unet/config.json", "UNet3DConditionModel"),
        ("vae/config.json", "VQModel"),
    ] {
        refused(
            changed(file, json!({"_class_name": class})).path(),
            &[class],
        );
    }
    // The index decides which class reads the scheduler's config, as in diffusers; without it the
    // config's own class counts.
    let copy = changed("model_index.json", json!({"scheduler": null}));
    let class = json!({"_class_name": "NoSuchScheduler"});
    copy.set("scheduler/scheduler_config.json", &class);
    refused(copy.path(), &["NoSuchScheduler"]);
    // An encoder of another kind under the right name.
    let copy = Copy::of("tiny-base");
    fs::remove_dir_all(copy.file("text_encoder")).expect("removed");
    copy_folder(
        &model("tiny-base").join("text_encoder_2"),
        &copy.file("text_encoder"),
    );
    refused(copy.path(), &["text encoder"]);
}

#[test]
fn values_that_cannot_be_used_are_named() {
    for (file, key, value) in [
        ("unet/config.json", "block_out_channels", json!([8, 16])),
        ("unet/config.json", "block_out_channels", json!([])),
        (
            "unet/config.json",
            "block_out_channels",
            json!([8, 16, -24]),
        ),
        ("unet/config.json", "block_out_channels", json!([8, 16, 26])),
        ("unet/config.json", "norm_num_groups", json!(0)),
        ("unet/config.json", "attention_head_dim", json!([1, 3, 3])),
        ("unet/config.json", "attention_head_dim", json!(5)),
        (
            "unet/config.json",
            "transformer_layers_per_block",
            json!([1, 1]),
        ),
        (
            "unet/config.json",
            "down_block_types",
            json!(["DownBlock2D", "MadeUp", "DownBlock2D"]),
        ),
        ("unet/config.json", "act_fn", json!("sparkle")),
        ("unet/config.json", "addition_embed_type", json!(null)),
        ("unet/config.json", "addition_embed_type", json!("image")),
        ("unet/config.json", "addition_time_embed_dim", json!(17)),
        (
            "unet/config.json",
            "projection_class_embeddings_input_dim",
            json!(999),
        ),
        ("unet/config.json", "cross_attention_dim", json!(63)),
        ("unet/config.json", "class_embed_type", json!("timestep")),
        ("unet/config.json", "in_channels", json!(9)),
        ("unet/config.json", "attention_type", json!("gated")),
        ("unet/config.json", "something_new", json!(7)),
        ("vae/config.json", "latent_channels", json!(16)),
        ("vae/config.json", "scaling_factor", json!(0)),
        ("vae/config.json", "scaling_factor", json!("much")),
        ("vae/config.json", "out_channels", json!(4)),
        ("vae/config.json", "latents_mean", json!([0.0, 1.0])),
        ("vae/config.json", "norm_num_groups", json!(3)),
        ("text_encoder/config.json", "hidden_act", json!("sparkle")),
        ("text_encoder/config.json", "num_attention_heads", json!(5)),
        (
            "text_encoder/config.json",
            "max_position_embeddings",
            json!(16),
        ),
        (
            "scheduler/scheduler_config.json",
            "prediction_type",
            json!("flow"),
        ),
        (
            "scheduler/scheduler_config.json",
            "timestep_spacing",
            json!("random"),
        ),
        (
            "scheduler/scheduler_config.json",
            "beta_schedule",
            json!("square"),
        ),
        (
            "scheduler/scheduler_config.json",
            "num_train_timesteps",
            json!(0),
        ),
        (
            "scheduler/scheduler_config.json",
            "beta_start",
            json!("low"),
        ),
        (
            "tokenizer/tokenizer_config.json",
            "model_max_length",
            json!(1_000_000_000),
        ),
    ] {
        println!("{file} {key} {value}");
        let name = file.split('/').next().expect("a folder");
        refused(changed(file, json!({ key: value })).path(), &[name]);
    }
    let both = json!({"use_karras_sigmas": true, "use_beta_sigmas": true});
    refused(
        changed("scheduler/scheduler_config.json", both).path(),
        &["sigmas"],
    );
}

#[test]
fn sizes_beyond_all_memory_are_refused_before_anything_is_allocated() {
    for (file, key) in [
        ("unet/config.json", "cross_attention_dim"),
        ("text_encoder/config.json", "vocab_size"),
        ("text_encoder/config.json", "num_hidden_layers"),
        ("scheduler/scheduler_config.json", "num_train_timesteps"),
    ] {
        let copy = changed(file, json!({ key: 1_000_000_000_000u64 }));
        refused(copy.path(), &[file.split('/').next().expect("a folder")]);
    }
}

#[test]
fn tokenizer_and_encoder_must_belong_together() {
    // A vocabulary larger than the encoder's embedding: caught when loading or by the first prompt
    // that needs a token beyond it, never by reading past the end.
    let copy = rewritten(TEXT, |tensors| {
        let name = "embeddings.token_embedding.weight";
        let fewer = tensors[name].narrow(0, 0, 300).expect("300 rows");
        tensors.insert(name.into(), fewer.contiguous().expect("contiguous"));
    });
    copy.set("text_encoder/config.json", &json!({"vocab_size": 300}));
    let outcome = Pipeline::load(copy.path(), &LoadOptions::default(), &mut |_| {})
        .and_then(|pipeline| pipeline.generate(&plain(&pipeline), &mut |_| Control::Continue));
    let error = outcome.expect_err("token 575 is beyond 300").to_string();
    assert!(error.contains("vocab"), "{error}");
}

#[test]
fn undefined_weights_give_an_error_not_a_black_picture() {
    for (file, tensor) in [
        (UNET, "conv_out.bias"),
        (VAE, "decoder.conv_out.bias"),
        (TEXT, "encoder.layers.0.mlp.fc1.bias"),
    ] {
        let copy = rewritten(file, |tensors| {
            let shape = tensors[tensor].shape().clone();
            let undefined = Tensor::full(f32::NAN, shape, &Device::Cpu).expect("numbers");
            tensors.insert(tensor.into(), undefined);
        });
        let outcome = Pipeline::load(copy.path(), &LoadOptions::default(), &mut |_| {})
            .and_then(|pipeline| pipeline.generate(&plain(&pipeline), &mut |_| Control::Continue));
        let error = outcome
            .err()
            .unwrap_or_else(|| panic!("{tensor}: a picture of nothing"));
        println!("{error}");
        assert!(
            matches!(
                error,
                EngineError::NonFinite { .. } | EngineError::Model { .. }
            ),
            "{error:?}"
        );
    }
}

fn plain(pipeline: &Pipeline) -> GenerateRequest {
    GenerateRequest {
        prompt: "a red circle".into(),
        num_inference_steps: 2,
        width: 32,
        height: 32,
        ..GenerateRequest::for_model(pipeline.description())
    }
}

#[test]
fn bad_requests_name_the_field() {
    let pipeline = load(&model("tiny-base"));
    let good = plain(&pipeline);
    assert!(good.validate(pipeline.description()).is_ok());
    let with = |change: &dyn Fn(&mut GenerateRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let mut requests: Vec<(&str, GenerateRequest)> = Vec::new();
    for size in [0, 1, 4, 7, 12, 33, 4100, 1_000_000, u32::MAX, u32::MAX - 7] {
        requests.push(("width", with(&|r| r.width = size)));
        requests.push(("height", with(&|r| r.height = size)));
    }
    for steps in [0, 1001, u32::MAX] {
        requests.push((
            "num_inference_steps",
            with(&|r| r.num_inference_steps = steps),
        ));
    }
    for scale in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e30] {
        requests.push(("guidance_scale", with(&|r| r.guidance_scale = scale)));
    }
    for prompt in ["", "   \n", &"x".repeat(10_001), &"é".repeat(10_001)] {
        requests.push(("prompt", with(&|r| r.prompt = prompt.to_string())));
    }
    requests.push((
        "negative_prompt",
        with(&|r| r.negative_prompt = Some("y".repeat(10_001))),
    ));
    for name in ["", "NoSuchScheduler", "euler\n", "Euler'; DROP TABLE"] {
        requests.push(("scheduler", with(&|r| r.scheduler = Some(name.to_string()))));
    }
    for (field, request) in requests {
        let mut observed = 0;
        let error = pipeline
            .generate(&request, &mut |_| {
                observed += 1;
                Control::Continue
            })
            .err()
            .unwrap_or_else(|| panic!("{field} was accepted: {request:?}"));
        let text = error.to_string();
        match &error {
            EngineError::InvalidRequest { field: named, .. } => assert_eq!(*named, field, "{text}"),
            other => panic!("{field}: {other:?}"),
        }
        assert!(text.starts_with(field) && text.len() < 300, "{text}");
        assert_eq!(text.lines().count(), 1, "{text:?}");
        assert_eq!(observed, 0, "{field}: work was begun");
    }
    // Odd but right: these run.
    for request in [
        with(&|r| r.prompt = "🐱".repeat(10_000)),
        with(&|r| r.prompt = "\u{0}\u{7f}\u{202e}<|endoftext|>".into()),
        with(&|r| r.guidance_scale = 0.0),
        with(&|r| (r.width, r.height) = (8, 72)),
        with(&|r| r.negative_prompt = Some(String::new())),
        with(&|r| r.scheduler = Some(pipeline.description().scheduler.clone())),
    ] {
        if let Err(error) = pipeline.generate(&request, &mut |_| Control::Continue) {
            panic!("{error}");
        }
    }
}
