//! Weights, chunks, `BREAK` and `clip_skip`, against an independent reading of the same rules on
//! transformers' encoders (`record_prompts.py`).

use std::fs;
use std::path::Path;

use atelier_engine::pipeline::{PromptEmbeds, PromptOptions};
use atelier_engine::prompt::PromptReader;
use atelier_engine::{Control, EngineError, GenerateRequest, Pipeline, PromptSyntax};
use serde_json::Value;

use crate::fixtures::{Numbers, fixture, floats, json, load, model, relative_error};

/// Largest difference, of the largest value, or this many times torch's own distance from f64: a
/// chunk's mean is brought back by dividing means, which lifts the rounding of those near zero.
const TOLERANCE: f32 = 5e-6;
const ROUNDINGS: f32 = 10.0;
/// The bar for images, in steps of 1/255.
const MEAN: f64 = 0.5;
const MAX: u8 = 3;

fn list(name: &str) -> Vec<Value> {
    match json(name) {
        Value::Array(cases) => cases,
        other => panic!("{name}: {other}"),
    }
}

fn options(syntax: PromptSyntax, clip_skip: usize) -> PromptOptions {
    PromptOptions {
        syntax,
        clip_skip,
        lora_key: 0,
    }
}

fn encode(
    pipeline: &Pipeline,
    prompt: &str,
    negative: Option<&str>,
    syntax: PromptSyntax,
) -> PromptEmbeds {
    pipeline
        .encode_prompts(prompt, Some(negative), &options(syntax, 0))
        .expect(prompt)
}

fn same(got: &PromptEmbeds, want: &PromptEmbeds) -> bool {
    floats(&got.prompt_embeds) == floats(&want.prompt_embeds)
        && floats(&got.pooled_prompt_embeds) == floats(&want.pooled_prompt_embeds)
}

#[test]
fn embeddings_are_the_recorded_ones() {
    let numbers = Numbers::read("prompts/embeds.safetensors");
    let pipeline = load(&model("tiny-base"));
    let cases = list("prompts/cases.json");
    assert!(cases.len() >= 12);
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let syntax = match case["syntax"].as_str() {
            Some("weighted") => PromptSyntax::Weighted,
            _ => PromptSyntax::Auto,
        };
        let skip = case["clip_skip"].as_u64().expect("a number") as usize;
        let prompt = case["prompt"].as_str().expect("a prompt");
        let got = pipeline
            .encode_prompts(
                prompt,
                Some(case["negative"].as_str()),
                &options(syntax, skip),
            )
            .expect(name);
        assert_eq!(got.notes, Vec::<String>::new(), "{name}");
        for (part, tensor) in [
            ("embeds", &got.prompt_embeds),
            ("pooled", &got.pooled_prompt_embeds),
        ] {
            let key = format!("{name}/{part}");
            let error = relative_error(&key, tensor, numbers.tensor(&key));
            let rounding = numbers.values(&format!("{name}/rounding"))[0];
            assert!(
                rounding < 1e-3,
                "{name} is too sharp to compare: {rounding}"
            );
            let tolerance = TOLERANCE.max(ROUNDINGS * rounding);
            println!("{key:32} {error:.1e} of {tolerance:.1e}");
            assert!(error <= tolerance, "{key}: {error}");
        }
    }
}

#[test]
fn images_are_diffusers() {
    let pipeline = load(&model("tiny-base"));
    for case in list("prompts/images.json") {
        let name = case["name"].as_str().expect("a name");
        let number = |key: &str| case[key].as_u64().expect("a number");
        let request = GenerateRequest {
            prompt: case["prompt"].as_str().expect("a prompt").into(),
            negative_prompt: case["negative"].as_str().map(String::from),
            width: number("width") as u32,
            height: number("height") as u32,
            num_inference_steps: number("steps") as u32,
            guidance_scale: case["guidance_scale"].as_f64().expect("a number"),
            seed: number("seed"),
            clip_skip: number("clip_skip") as u32,
            // Of the long prompt, the half that a plain reading would cut off counts too.
            prompt_syntax: if number("clip_skip") == 0 {
                PromptSyntax::Weighted
            } else {
                PromptSyntax::Auto
            },
            ..GenerateRequest::for_model(pipeline.description())
        };
        let got = pipeline
            .generate(&request, &mut |_| Control::Continue)
            .expect(name);
        let path = fixture("prompts").join(format!("{name}.png"));
        let bytes = fs::read(&path).expect("recorded");
        let want = image::load_from_memory(&bytes).expect("a PNG").to_rgb8();
        assert_eq!(got.image.dimensions(), want.dimensions(), "{name}");
        let (mut sum, mut max) = (0u64, 0u8);
        for (got, want) in got.image.as_raw().iter().zip(want.as_raw()) {
            sum += u64::from(got.abs_diff(*want));
            max = max.max(got.abs_diff(*want));
        }
        let mean = sum as f64 / want.as_raw().len() as f64;
        println!("{name:20} mean {mean:.4} max {max}");
        assert!(mean <= MEAN && max <= MAX, "{name}: mean {mean}, max {max}");
    }
}

#[test]
fn without_weights_both_readings_are_the_same_to_the_bit() {
    let pipeline = load(&model("tiny-base"));
    let (plain, weighted) = (PromptSyntax::Plain, PromptSyntax::Weighted);
    for (prompt, negative) in [
        ("a red circle", None),
        ("", Some("")),
        ("  two\n lines, with: marks! ", Some("blurry")),
        ("a\\b ( open ] :( 日本 🐱", Some("9:16 <|endoftext|> x")),
    ] {
        let as_plain = encode(&pipeline, prompt, negative, plain);
        assert!(
            same(&encode(&pipeline, prompt, negative, weighted), &as_plain),
            "{prompt}"
        );
        assert!(same(
            &encode(&pipeline, prompt, negative, PromptSyntax::Auto),
            &as_plain
        ));
    }
    let one = encode(&pipeline, "a (red:1.0) circle", None, weighted);
    assert!(same(&one, &encode(&pipeline, "a red circle", None, plain)));
    let not_one = encode(&pipeline, "a (red:1.2) circle", None, weighted);
    assert!(!same(&not_one, &one));
    // Plain takes the same characters as text.
    let text = encode(&pipeline, "a (red:1.2) circle", None, plain);
    assert!(!same(&text, &not_one) && !same(&text, &one));
}

#[test]
fn both_prompts_have_the_same_number_of_chunks() {
    let pipeline = load(&model("tiny-base"));
    let long = "a ".repeat(200);
    for (prompt, negative) in [
        ("(x)", Some(long.as_str())),
        (long.as_str(), Some("[x]")),
        (long.as_str(), None),
        ("x BREAK y BREAK z", Some("")),
    ] {
        let embeds = encode(&pipeline, prompt, negative, PromptSyntax::Weighted);
        assert_eq!(embeds.prompt_embeds.dims(), [2, 3 * 77, 64]);
        assert_eq!(embeds.pooled_prompt_embeds.dims(), [2, 36]);
        if negative.is_none() {
            let zeros = embeds.prompt_embeds.narrow(0, 0, 1).expect("a row");
            assert!(floats(&zeros).iter().all(|&value| value == 0.0));
        }
    }
}

#[test]
fn what_does_not_fit_is_cut_only_when_read_plainly() {
    let pipeline = load(&model("tiny-base"));
    let long = format!("{}zebra", "a ".repeat(75));
    let plain = encode(&pipeline, &long, None, PromptSyntax::Auto);
    assert_eq!(plain.prompt_embeds.dim(1).expect("tokens"), 77);
    let [note] = plain.notes.as_slice() else {
        panic!("{:?}", plain.notes)
    };
    assert!(
        note.contains("zebra") && note.contains("--prompt-syntax weighted"),
        "{note}"
    );
    let whole = encode(&pipeline, &long, None, PromptSyntax::Weighted);
    assert_eq!(whole.notes, Vec::<String>::new());
    assert_eq!(whole.prompt_embeds.dim(1).expect("tokens"), 2 * 77);
}

#[test]
fn wrong_requests_are_refused_by_field() {
    let pipeline = load(&model("tiny-base"));
    let refusal = |prompt: &str, negative: Option<&str>, clip_skip: u32| {
        let request = GenerateRequest {
            prompt: prompt.into(),
            negative_prompt: negative.map(String::from),
            clip_skip,
            width: 16,
            height: 16,
            num_inference_steps: 1,
            ..GenerateRequest::for_model(pipeline.description())
        };
        match pipeline.generate(&request, &mut |_| Control::Continue) {
            Err(EngineError::InvalidRequest { field, message }) => {
                assert!(!message.contains('\n'), "{message}");
                field
            }
            other => panic!("{prompt}: {other:?}"),
        }
    };
    assert_eq!(refusal("(a:nan)", None, 0), "prompt");
    assert_eq!(refusal("a", Some("(a:99)"), 0), "negative_prompt");
    assert_eq!(refusal(&"a BREAK ".repeat(17), None, 0), "prompt");
    assert_eq!(
        refusal("a", Some(&format!("(b){}", " c".repeat(1201))), 0),
        "negative_prompt"
    );
    // Three layers in the first encoder: two can be skipped.
    assert_eq!(refusal("a", None, 3), "clip_skip");
    assert_eq!(refusal("a", None, u32::MAX), "clip_skip");
}

#[test]
fn a_prompt_is_encoded_once() {
    let pipeline = load(&model("tiny-base"));
    let request = |prompt: &str, seed: u64| GenerateRequest {
        prompt: prompt.into(),
        negative_prompt: Some("blurry".into()),
        seed,
        width: 16,
        height: 16,
        num_inference_steps: 1,
        ..GenerateRequest::for_model(pipeline.description())
    };
    let run = |request: &GenerateRequest| {
        pipeline
            .generate(request, &mut |_| Control::Continue)
            .expect("an image")
    };
    let long = "a ".repeat(100);
    let first = run(&request(&long, 1));
    assert!(!first.text_cached);
    let again = run(&request(&long, 1));
    assert!(again.text_cached);
    assert_eq!(again.image.as_raw(), first.image.as_raw());
    assert_eq!(again.notes, first.notes);
    assert!(!first.notes.is_empty());
    assert!(run(&request(&long, 2)).text_cached, "another seed");
    assert!(!run(&request("a (cat)", 1)).text_cached);
    for other in [
        GenerateRequest {
            clip_skip: 1,
            ..request(&long, 1)
        },
        GenerateRequest {
            prompt_syntax: PromptSyntax::Weighted,
            ..request(&long, 1)
        },
        GenerateRequest {
            negative_prompt: Some("sharp".into()),
            ..request(&long, 1)
        },
    ] {
        assert!(!run(&other).text_cached, "{other:?}");
    }
    // Encoders that a LoRA has changed do not answer for those that it has not.
    let with = |lora_key| {
        let options = PromptOptions {
            lora_key,
            ..PromptOptions::default()
        };
        let embeds = pipeline.encode_prompts(&long, None, &options);
        embeds.expect("encoded").cached
    };
    assert!(with(0));
    assert!(!with(9));
    assert!(with(9));
}

/// The preview is what the encoders get: as many tokens, in as many chunks.
#[test]
fn the_preview_is_what_is_read() {
    let folder = model("tiny-base");
    let reader = PromptReader::open(&folder).expect("tokenizers");
    let pipeline = load(&folder);
    let long = "a ".repeat(100);
    for (prompt, beside, chunks, used) in [
        ("a b", None, 1, 2),
        ("", None, 1, 0),
        (long.as_str(), None, 1, 100),
        (long.as_str(), Some("(x)"), 2, 100),
        ("a BREAK (b:1.5) c", None, 2, 3),
        ("a BREAK BREAK a", None, 3, 2),
    ] {
        let preview = reader
            .preview(prompt, PromptSyntax::Auto, beside)
            .expect(prompt);
        assert_eq!(preview.chunks.len(), chunks, "{prompt}");
        assert_eq!(preview.room, 75 * chunks, "{prompt}");
        assert_eq!(preview.used, used, "{prompt}");
        assert_eq!(preview.weighted, chunks > 1, "{prompt}");
        let shown: usize = preview.chunks.iter().map(Vec::len).sum();
        assert_eq!(preview.cut.is_some(), shown < used, "{prompt}");
        let embeds = pipeline
            .encode_prompts(prompt, Some(beside), &PromptOptions::default())
            .expect(prompt);
        assert_eq!(
            embeds.prompt_embeds.dim(1).expect("tokens"),
            77 * chunks,
            "{prompt}"
        );
    }
    let preview = reader
        .preview("A (Cat:1.5) é🐱", PromptSyntax::Auto, None)
        .expect("read");
    let texts: String = preview.chunks[0].iter().map(|t| t.text.as_str()).collect();
    assert_eq!(texts, "ACaté🐱");
    let weights: Vec<f32> = preview.chunks[0].iter().map(|t| t.weight).collect();
    assert!(weights.contains(&1.5) && weights.contains(&1.0));
    let cut = reader
        .preview(
            &format!("{}The End", "x ".repeat(75)),
            PromptSyntax::Plain,
            None,
        )
        .expect("read");
    assert_eq!(cut.cut.as_deref(), Some("The End"));
    assert!(matches!(
        reader.preview(&"x".repeat(10_001), PromptSyntax::Auto, None),
        Err(EngineError::InvalidRequest { .. })
    ));
    assert!(PromptReader::open(Path::new("/nowhere")).is_err());
}
