//! Reading fixtures, and folders made from them for one test.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use atelier_engine::{LoadOptions, Pipeline};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use tempfile::TempDir;

/// A file or folder under `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// A recorded JSON file.
pub fn json(name: &str) -> Value {
    read_json(&fixture(name))
}

pub fn read_json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Recorded tensors by name.
pub struct Numbers(HashMap<String, Tensor>);

impl Numbers {
    pub fn read(name: &str) -> Self {
        let path = fixture(name);
        Self(
            candle_core::safetensors::load(&path, &Device::Cpu)
                .unwrap_or_else(|e| panic!("{}: {e}", path.display())),
        )
    }

    pub fn tensor(&self, name: &str) -> &Tensor {
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("`{name}` is not recorded"))
    }

    pub fn values(&self, name: &str) -> Vec<f32> {
        floats(self.tensor(name))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

pub fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor
        .flatten_all()
        .and_then(|t| t.to_dtype(DType::F32))
        .and_then(|t| t.to_vec1())
        .expect("numbers of a tensor")
}

/// Largest difference, as a fraction of the largest recorded value. Shapes must agree.
pub fn relative_error(what: &str, got: &Tensor, want: &Tensor) -> f32 {
    assert_eq!(got.dims(), want.dims(), "{what}: shape");
    relative_error_of(what, &floats(got), &floats(want))
}

pub fn relative_error_of(what: &str, got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(0f32, |max, value| max.max(value.abs()));
    let worst = got.iter().zip(want).fold(0f32, |max, (got, want)| {
        assert!(got.is_finite(), "{what}: {got}");
        max.max((got - want).abs())
    });
    if scale == 0.0 { worst } else { worst / scale }
}

/// A recorded model folder.
pub fn model(name: &str) -> PathBuf {
    fixture("models").join(name)
}

/// The names of all recorded model folders.
pub fn model_names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(fixture("models"))
        .expect("recorded models")
        .map(|entry| {
            let name = entry.expect("an entry").file_name();
            name.into_string().expect("a readable name")
        })
        .collect();
    names.sort();
    assert!(names.len() >= 6, "models are missing: {names:?}");
    names
}

pub fn load(folder: &Path) -> Pipeline {
    load_with(folder, &LoadOptions::default())
}

pub fn load_with(folder: &Path, options: &LoadOptions) -> Pipeline {
    Pipeline::load(folder, options, &mut |_| {})
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
}

/// A copy of a recorded model folder that a test may change.
pub struct Copy(TempDir);

impl Copy {
    pub fn of(model_name: &str) -> Self {
        let copy = TempDir::new().expect("a temporary folder");
        copy_folder(&model(model_name), copy.path());
        Self(copy)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaces keys of a JSON file; null removes the key.
    pub fn set(&self, file: &str, changes: &Value) -> &Self {
        let path = self.file(file);
        let mut value = read_json(&path);
        let object = value.as_object_mut().expect("a JSON object");
        for (key, change) in changes.as_object().expect("changes by key") {
            object.insert(key.clone(), change.clone());
        }
        fs::write(&path, value.to_string()).expect("written");
        self
    }

    /// Rewrites the tensors of a weight file.
    pub fn rewrite(&self, file: &str, change: impl FnOnce(&mut HashMap<String, Tensor>)) {
        let path = self.file(file);
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).expect("tensors");
        change(&mut tensors);
        candle_core::safetensors::save(&tensors, &path).expect("saved");
    }
}

pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a readable folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a file type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copied");
        }
    }
}
