//! LoRAs and VAEs: single files that lie in folders of their own and are asked for by name. The
//! folders are read anew each time, so a file that was copied in can be used at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use atelier_app::error::AppError;
use atelier_app::studio::AddOn;
use atelier_engine::inspect_lora;

/// How deep folders are looked through.
const DEPTH: usize = 3;

/// Where LoRAs and VAEs lie.
#[derive(Clone, Debug, Default)]
pub struct AddOns {
    loras: Vec<PathBuf>,
    vaes: Vec<PathBuf>,
}

impl AddOns {
    /// Those of a data folder (`models/loras`, `models/vae`), and the LoRAs of further folders,
    /// which win where a name is there twice.
    pub fn new(data_dir: &Path, lora_dirs: &[PathBuf]) -> Self {
        let mut loras = lora_dirs.to_vec();
        loras.push(data_dir.join("models").join("loras"));
        Self {
            loras,
            vaes: vec![data_dir.join("models").join("vae")],
        }
    }

    /// Every LoRA, by name.
    pub fn list_loras(&self) -> Vec<AddOn> {
        find_all(&self.loras)
            .into_iter()
            .map(|(name, path)| describe(name, &path))
            .collect()
    }

    /// Every VAE, by name.
    pub fn list_vaes(&self) -> Vec<AddOn> {
        find_all(&self.vaes)
            .into_iter()
            .map(|(name, path)| AddOn {
                name,
                bytes: size_of(&path),
                ..AddOn::default()
            })
            .collect()
    }

    /// The file of a LoRA.
    ///
    /// # Errors
    /// [`AppError::Invalid`] on `loras`, listing the names there are.
    pub fn lora(&self, name: &str) -> Result<PathBuf, AppError> {
        find("loras", "LoRA", &self.loras, name)
    }

    /// The file of a VAE, if there is one of that name.
    pub fn vae(&self, name: &str) -> Option<PathBuf> {
        find_all(&self.vaes).remove(name)
    }

    /// The names of the VAEs.
    pub fn vae_names(&self) -> Vec<String> {
        find_all(&self.vaes).into_keys().collect()
    }
}

fn find(field: &str, what: &str, folders: &[PathBuf], name: &str) -> Result<PathBuf, AppError> {
    let mut all = find_all(folders);
    let bare = name.strip_suffix(".safetensors").unwrap_or(name);
    if let Some(path) = all.remove(name).or_else(|| all.remove(bare)) {
        return Ok(path);
    }
    Err(unknown(
        field,
        what,
        name,
        &all.into_keys().collect::<Vec<_>>(),
    ))
}

/// An unknown name, and those that would do.
pub(super) fn unknown(field: &str, what: &str, name: &str, names: &[String]) -> AppError {
    let asked: String = name.chars().take(64).collect();
    let remedy = if names.is_empty() {
        "There is none on this server.".to_owned()
    } else {
        format!("Choose one of: {}.", names.join(", "))
    };
    AppError::invalid(field, format!("There is no {what} “{asked}”. {remedy}"))
}

/// The safetensors files below some folders by name, the first of a name.
fn find_all(folders: &[PathBuf]) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for folder in folders {
        collect(folder, DEPTH, &mut found);
    }
    found
}

fn collect(folder: &Path, depth: usize, found: &mut BTreeMap<String, PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    for path in paths {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            if depth > 1 {
                collect(&path, depth - 1, found);
            }
        } else if let Some(stem) = name.strip_suffix(".safetensors")
            && !stem.is_empty()
        {
            found.entry(stem.to_owned()).or_insert(path);
        }
    }
}

fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn describe(name: String, path: &Path) -> AddOn {
    let bytes = size_of(path);
    match inspect_lora(path) {
        Ok(lora) => AddOn {
            name,
            bytes,
            ranks: lora
                .ranks
                .into_iter()
                .filter_map(|rank| u32::try_from(rank).ok())
                .collect(),
            parts: lora.parts.iter().map(|part| (*part).to_owned()).collect(),
            triggers: lora
                .trigger_phrase
                .into_iter()
                .chain(lora.tags.into_iter().map(|(tag, _)| tag))
                .collect(),
            problem: None,
        },
        Err(error) => AddOn {
            name,
            bytes,
            problem: Some(error.to_string()),
            ..AddOn::default()
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_are_found_by_name_and_the_operators_folder_wins() {
        let data = tempfile::tempdir().unwrap();
        let mine = tempfile::tempdir().unwrap();
        let loras = data.path().join("models/loras");
        fs::create_dir_all(loras.join("people")).unwrap();
        for (path, length) in [
            (loras.join("ink.safetensors"), 1),
            (loras.join("people/ada.safetensors"), 2),
            (loras.join("notes.txt"), 3),
            (loras.join(".hidden.safetensors"), 4),
            (mine.path().join("ink.safetensors"), 5),
        ] {
            fs::write(path, vec![0_u8; length]).unwrap();
        }
        let add_ons = AddOns::new(data.path(), &[mine.path().to_path_buf()]);
        let listed: Vec<(String, u64)> = add_ons
            .list_loras()
            .into_iter()
            .map(|lora| (lora.name, lora.bytes))
            .collect();
        let problem = &add_ons.list_loras()[0].problem;
        assert!(problem.is_some(), "two bytes are no LoRA");
        assert_eq!(listed, [("ada".to_owned(), 2), ("ink".to_owned(), 5)]);
        assert_eq!(
            add_ons.lora("ink.safetensors").unwrap(),
            mine.path().join("ink.safetensors")
        );
        let error = add_ons.lora("../ink").unwrap_err();
        assert_eq!(error.field(), Some("loras"));
        assert!(error.to_string().contains("ada, ink"), "{error}");
        // A file that comes later is there at once.
        fs::write(loras.join("new.safetensors"), b"x").unwrap();
        assert!(add_ons.lora("new").is_ok());
        assert!(add_ons.list_vaes().is_empty() && add_ons.vae("new").is_none());
    }
}
