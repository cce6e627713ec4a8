//! Models: which folders become names, and how a request becomes settings.

use atelier_app::error::AppError;
use atelier_app::studio::GenerationRequest;
use atelier_server::models::{AddOns, Models, ModelsError, demo};
use std::fs;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("engine/tests/fixtures/models")
        .join(name)
}

fn tiny() -> Vec<(String, PathBuf)> {
    vec![("tiny".into(), fixture("tiny-base"))]
}

fn names(models: &Models) -> Vec<String> {
    models
        .summaries()
        .into_iter()
        .map(|model| model.name)
        .collect()
}

fn request() -> GenerationRequest {
    GenerationRequest {
        prompt: "a red circle".into(),
        ..GenerationRequest::default()
    }
}

fn link(from: &Path, to: &Path) {
    std::os::unix::fs::symlink(from, to).unwrap();
}

#[test]
fn named_folders_come_first_and_the_first_is_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("models");
    fs::create_dir(&folder).unwrap();
    link(&fixture("tiny-fp16"), &folder.join("half"));
    link(&fixture("tiny-bf16-sharded"), &folder.join("another"));
    // Neither of these is a model.
    fs::create_dir(folder.join("notes")).unwrap();
    fs::write(folder.join("README"), "x").unwrap();

    let models = Models::open(dir.path(), &tiny()).unwrap();
    let expected: &[&str] = if demo::is_embedded() {
        &["tiny", "demo", "another", "half", "demo-refiner"]
    } else {
        &["tiny", "another", "half"]
    };
    assert_eq!(names(&models), expected);
    let summaries = models.summaries();
    assert!(summaries[0].is_default && !summaries[1].is_default);
    assert_eq!(models.find(None).unwrap().summary.name, "tiny");
    assert_eq!(
        models.find(Some("half")).unwrap().folder,
        folder.join("half")
    );
    for model in &summaries {
        assert!(!model.description.is_empty() && !model.example_prompts.is_empty());
        assert!(model.schedulers.contains(&"DPM++ 2M Karras".to_owned()));
        assert_eq!(model.default_width % model.size_multiple, 0);
    }
}

#[test]
fn folders_that_cannot_be_used_are_left_out_with_the_reason_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("models/broken");
    fs::create_dir_all(&broken).unwrap();
    fs::write(broken.join("model_index.json"), "{").unwrap();
    let missing = vec![("gone".to_owned(), dir.path().join("gone"))];

    let both: Vec<_> = missing.iter().cloned().chain(tiny()).collect();
    let models = Models::open(dir.path(), &both).unwrap();
    assert!(
        !names(&models)
            .iter()
            .any(|name| name == "gone" || name == "broken")
    );

    if !demo::is_embedded() {
        let error = Models::open(dir.path(), &missing).unwrap_err();
        assert!(matches!(error, ModelsError::None { .. }));
        let words = error.to_string();
        assert!(
            words.contains("gone") && words.contains("broken"),
            "{words}"
        );
    }
}

#[test]
fn a_name_is_taken_once() {
    let dir = tempfile::tempdir().unwrap();
    let twice = vec![
        ("tiny".to_owned(), fixture("tiny-base")),
        ("tiny".to_owned(), fixture("tiny-fp16")),
    ];
    let models = Models::open(dir.path(), &twice).unwrap();
    assert_eq!(
        names(&models).iter().filter(|name| *name == "tiny").count(),
        1
    );
    assert_eq!(
        models.find(Some("tiny")).unwrap().folder,
        fixture("tiny-base")
    );
}

#[test]
fn a_request_becomes_settings_with_nothing_left_open() {
    let dir = tempfile::tempdir().unwrap();
    let models = Models::open(dir.path(), &tiny()).unwrap();
    let summary = &models.summaries()[0];
    let settings = models.settle(request(), &AddOns::default()).unwrap();
    assert_eq!(settings.model, "tiny");
    assert_eq!(settings.num_inference_steps, summary.default_steps);
    assert_eq!(settings.guidance_scale, summary.default_guidance_scale);
    assert_eq!(
        (settings.width, settings.height),
        (summary.default_width, summary.default_height)
    );
    assert_eq!(settings.negative_prompt, None);
    let another = models.settle(request(), &AddOns::default()).unwrap();
    assert_ne!(settings.seed, another.seed, "seeds are drawn");

    let asked = GenerationRequest {
        negative_prompt: Some(String::new()),
        num_inference_steps: Some(150),
        guidance_scale: Some(1.0),
        width: Some(64),
        height: Some(72),
        seed: Some(u64::MAX),
        scheduler: Some("EulerDiscrete".into()),
        model: Some("tiny".into()),
        ..request()
    };
    let settings = models.settle(asked, &AddOns::default()).unwrap();
    assert_eq!(settings.negative_prompt.as_deref(), Some(""));
    assert_eq!((settings.width, settings.height), (64, 72));
    assert_eq!(settings.seed, u64::MAX);
}

#[test]
fn what_cannot_be_run_is_refused_by_the_fields_name() {
    let dir = tempfile::tempdir().unwrap();
    let models = Models::open(dir.path(), &tiny()).unwrap();
    let long = "ä".repeat(10_001);
    let cases: Vec<(&str, &str, GenerationRequest)> = vec![
        (
            "prompt",
            "empty",
            GenerationRequest {
                prompt: " \n".into(),
                ..request()
            },
        ),
        (
            "prompt",
            "10001",
            GenerationRequest {
                prompt: long.clone(),
                ..request()
            },
        ),
        (
            "negative_prompt",
            "10001",
            GenerationRequest {
                negative_prompt: Some(long),
                ..request()
            },
        ),
        (
            "num_inference_steps",
            "0",
            GenerationRequest {
                num_inference_steps: Some(0),
                ..request()
            },
        ),
        (
            "num_inference_steps",
            "1 to 150",
            GenerationRequest {
                num_inference_steps: Some(151),
                ..request()
            },
        ),
        (
            "guidance_scale",
            "NaN",
            GenerationRequest {
                guidance_scale: Some(f64::NAN),
                ..request()
            },
        ),
        (
            "guidance_scale",
            "inf",
            GenerationRequest {
                guidance_scale: Some(f64::INFINITY),
                ..request()
            },
        ),
        (
            "guidance_scale",
            "-1",
            GenerationRequest {
                guidance_scale: Some(-1.0),
                ..request()
            },
        ),
        (
            "width",
            "65",
            GenerationRequest {
                width: Some(65),
                ..request()
            },
        ),
        (
            "height",
            "0",
            GenerationRequest {
                height: Some(0),
                ..request()
            },
        ),
        (
            "height",
            "2056",
            GenerationRequest {
                height: Some(2056),
                ..request()
            },
        ),
        (
            "scheduler",
            "nonsense",
            GenerationRequest {
                scheduler: Some("nonsense".into()),
                ..request()
            },
        ),
        (
            "model",
            "tiny",
            GenerationRequest {
                model: Some("nonsense".into()),
                ..request()
            },
        ),
        (
            "model",
            "tiny",
            GenerationRequest {
                model: Some("../tiny".into()),
                ..request()
            },
        ),
    ];
    for (field, named, request) in cases {
        let error = models.settle(request, &AddOns::default()).unwrap_err();
        assert_eq!(error.field(), Some(field), "{error}");
        let words = error.to_string();
        assert!(
            words.contains(named) && words.lines().count() == 1,
            "{words}"
        );
    }
    let longest = "ä".repeat(10_000);
    let request = GenerationRequest {
        prompt: longest,
        ..request()
    };
    assert!(models.settle(request, &AddOns::default()).is_ok());
}

#[test]
fn unknown_models_are_answered_with_the_names_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let models = Models::open(dir.path(), &tiny()).unwrap();
    let Err(AppError::Invalid { field, message }) = models.find(Some(&"x".repeat(5000))) else {
        panic!("there is no such model")
    };
    assert_eq!(field, "model");
    assert!(message.contains("tiny") && message.len() < 300, "{message}");
}

#[test]
fn the_default_can_be_chosen_among_all_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut both = tiny();
    both.push(("half".into(), fixture("tiny-fp16")));
    let models = Models::open(dir.path(), &both).unwrap();
    let models = models.with_default("half").unwrap();
    let summaries = models.summaries();
    assert_eq!(names(&models)[..2], ["half", "tiny"]);
    assert!(summaries[0].is_default && !summaries[1].is_default);
    assert_eq!(models.find(None).unwrap().summary.name, "half");
    let words = models.with_default("nonsense").unwrap_err().to_string();
    assert!(
        words.contains("nonsense") && words.contains("half, tiny"),
        "{words}"
    );
}
