//! Model folders that cannot be used: each is refused in one line that names the file and the cause.

use super::{assert_refused, atelier, entries, tiny_model};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A copy of the tiny model to damage.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(&tiny_model(), &dir.path().join("model"));
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("model").join(name)
    }

    /// The weights of a component, which the recording script wrote as one file.
    fn weights(&self, component: &str) -> PathBuf {
        let folder = self.path(component);
        let name = entries(&folder)
            .into_iter()
            .find(|name| name.ends_with(".safetensors"));
        folder.join(name.unwrap())
    }

    fn generate(&self) -> Output {
        let out = self.0.path().join("out");
        fs::create_dir_all(&out).unwrap();
        let output = atelier()
            .current_dir(&out)
            .args([
                "generate", "--prompt", "x", "--steps", "1", "--out", "o.png", "--model",
            ])
            .arg(self.path(""))
            .output()
            .unwrap();
        if !output.status.success() {
            assert!(entries(&out).is_empty(), "nothing is left behind");
        }
        output
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Rewrites the header of a safetensors file; the data stays as it is.
fn edit_header(path: &Path, edit: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    let mut text = serde_json::to_vec(&header).unwrap();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut edited = (text.len() as u64).to_le_bytes().to_vec();
    edited.extend(text);
    edited.extend(&bytes[8 + length..]);
    fs::write(path, edited).unwrap();
}

#[test]
fn an_untouched_copy_works() {
    let copy = Copy::new();
    assert!(copy.generate().status.success());
}

#[test]
fn a_folder_that_is_none_is_named() {
    let copy = Copy::new();
    fs::remove_dir_all(copy.path("")).unwrap();
    assert_refused(&copy.generate(), &["model", "does not exist"]);
    fs::create_dir(copy.path("")).unwrap();
    assert_refused(&copy.generate(), &["model_index.json"]);
    fs::write(copy.path("model_index.json"), b"{").unwrap();
    assert_refused(&copy.generate(), &["model_index.json"]);
}

#[test]
fn truncated_weights_are_named() {
    for component in ["unet", "vae", "text_encoder", "text_encoder_2"] {
        for keep in [0, 5, 100] {
            let copy = Copy::new();
            let path = copy.weights(component);
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() * keep / 101]).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_refused(&copy.generate(), &[&format!("{component}/{name}")]);
        }
    }
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    let copy = Copy::new();
    edit_header(&copy.weights("unet"), |header| {
        let tensor = header.get_mut("time_embedding.linear_1.weight").unwrap();
        let shape = tensor["shape"].as_array_mut().unwrap();
        assert_ne!(shape[0], shape[1]);
        shape.reverse();
    });
    assert_refused(
        &copy.generate(),
        &["unet", "time_embedding.linear_1.weight"],
    );
}

#[test]
fn a_missing_and_an_unknown_tensor_are_both_named() {
    let copy = Copy::new();
    edit_header(&copy.weights("vae"), |header| {
        let tensor = header.remove("decoder.conv_in.bias").unwrap();
        header.insert("decoder.conv_in.bios".into(), tensor);
    });
    assert_refused(
        &copy.generate(),
        &["vae", "decoder.conv_in.bias", "decoder.conv_in.bios"],
    );
}

#[test]
fn a_component_without_weights_or_config_is_named() {
    let copy = Copy::new();
    fs::remove_file(copy.weights("text_encoder_2")).unwrap();
    assert_refused(&copy.generate(), &["text_encoder_2"]);

    let copy = Copy::new();
    fs::remove_file(copy.path("unet/config.json")).unwrap();
    assert_refused(&copy.generate(), &["unet"]);

    let copy = Copy::new();
    fs::write(copy.path("scheduler/scheduler_config.json"), b"[1, 2]").unwrap();
    assert_refused(&copy.generate(), &["scheduler"]);
}

#[test]
fn what_a_folder_says_of_itself_is_believed_or_refused() {
    let copy = Copy::new();
    fs::write(
        copy.path("atelier.json"),
        br#"{"default_guidance_scale": 2.5}"#,
    )
    .unwrap();
    let output = atelier()
        .current_dir(copy.0.path())
        .args([
            "generate", "--prompt", "x", "--steps", "1", "--out", "o.png", "--json", "--model",
        ])
        .arg(copy.path(""))
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["guidance_scale"], 2.5);

    fs::write(copy.path("atelier.json"), br#"{"default_steps": "many"}"#).unwrap();
    assert_refused(&copy.generate(), &["atelier.json"]);
}
