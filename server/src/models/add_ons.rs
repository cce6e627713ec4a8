//! LoRAs and VAEs: single files that lie in folders of their own and are asked for by name. The
//! folders are read anew each time, so a file that was copied in can be used at once.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use atelier_app::error::AppError;
use atelier_app::percent_encode;
use atelier_app::studio::AddOn;
use atelier_engine::inspect_lora;

use super::presets;

/// How deep folders are looked through.
const DEPTH: usize = 3;
/// What a picture beside a LoRA is called after its name, as A1111 and others look for it.
const PICTURES: [&str; 8] = [
    "preview.png",
    "preview.jpg",
    "preview.jpeg",
    "preview.webp",
    "png",
    "jpg",
    "jpeg",
    "webp",
];

/// What a file's header said, and which file that was: its time and its size.
type Described = HashMap<PathBuf, (Option<SystemTime>, u64, AddOn)>;

/// Where LoRAs and VAEs lie.
#[derive(Clone, Debug, Default)]
pub struct AddOns {
    loras: Vec<PathBuf>,
    vaes: Vec<PathBuf>,
    /// Reading five hundred headers takes a second; a file that has not changed is read once.
    described: Arc<Mutex<Described>>,
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
            described: Arc::default(),
        }
    }

    /// Every LoRA, by name.
    pub fn list_loras(&self) -> Vec<AddOn> {
        let found = find_all(&self.loras);
        let mut known = self
            .described
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // What is gone is forgotten.
        known.retain(|path, _| found.values().any(|there| there == path) || found.len() > 5000);
        found
            .into_iter()
            .map(|(name, path)| {
                let about = fs::metadata(&path).ok();
                let at = about.as_ref().and_then(|about| about.modified().ok());
                let bytes = about.map_or(0, |about| about.len());
                let add_on = match known.get(&path) {
                    Some((then, length, add_on)) if (*then, *length) == (at, bytes) => {
                        add_on.clone()
                    }
                    _ => {
                        let add_on = describe(name, &path);
                        known.insert(path.clone(), (at, bytes, add_on.clone()));
                        add_on
                    }
                };
                AddOn {
                    preview: picture_beside(&path)
                        .map(|picture| picture_address(&add_on.name, &picture)),
                    ..add_on
                }
            })
            .collect()
    }

    /// The picture that lies beside a LoRA.
    pub fn lora_picture(&self, name: &str) -> Option<PathBuf> {
        picture_beside(&find_all(&self.loras).remove(name)?)
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

/// The first picture there is of the file's name.
fn picture_beside(path: &Path) -> Option<PathBuf> {
    PICTURES
        .into_iter()
        .map(|ending| path.with_extension(ending))
        .find(|picture| picture.is_file())
}

/// Where a browser gets it; the address changes with the file, so that it may be kept.
fn picture_address(name: &str, picture: &Path) -> String {
    let changed = fs::metadata(picture)
        .and_then(|about| about.modified())
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_millis());
    format!("/api/loras/{}/preview?v={changed:x}", percent_encode(name))
}

fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn describe(name: String, path: &Path) -> AddOn {
    let bytes = size_of(path);
    match inspect_lora(path) {
        Ok(lora) => AddOn {
            presets: presets::of_lora(&name),
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
            ..AddOn::default()
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
        // A picture beside it is found under the names that other programs give it.
        assert_eq!(add_ons.lora_picture("ada"), None);
        for picture in ["ada.png", "ada.preview.png"] {
            fs::write(loras.join("people").join(picture), b"x").unwrap();
            assert_eq!(
                add_ons.lora_picture("ada"),
                Some(loras.join("people").join(picture))
            );
        }
        let shown = add_ons.list_loras()[0].preview.clone().unwrap();
        assert!(shown.starts_with("/api/loras/ada/preview?v="), "{shown}");
        assert_eq!(add_ons.lora_picture("../people/ada"), None);
        assert!(add_ons.list_vaes().is_empty() && add_ons.vae("new").is_none());
    }
}
