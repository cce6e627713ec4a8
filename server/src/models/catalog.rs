//! What lies on disk under which name, and a list of it that notices changes by itself: a model
//! that was fetched or copied in can be used without a restart.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use super::access::Access;
use super::manifest::{MANIFEST, Manifest};
use super::{Model, Models, ModelsError, demo};
use atelier_app::account::Viewer;

/// How long a folder that could not be used is left alone: it may still be being copied.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A model that was found, usable or not.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name that requests use.
    pub name: String,
    /// Its folder, or its file where it is a lone file.
    pub path: PathBuf,
    /// Where it comes from.
    pub origin: Origin,
    /// The model, or why it cannot be used.
    pub model: Result<Model, String>,
}

/// Where a model comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Named on the command line.
    Named,
    /// Part of this program.
    BuiltIn,
    /// Lies in the folder of models.
    Folder,
}

/// Every model there is, in order: those named on the command line, the demo model, then those in
/// `models_dir` by name. A name is taken once; whoever comes later is not used.
pub fn scan(models_dir: &Path, named: &[(String, PathBuf)]) -> Vec<Entry> {
    let mut found: Vec<(String, PathBuf, Origin)> = named
        .iter()
        .map(|(name, path)| (name.clone(), path.clone(), Origin::Named))
        .collect();
    let demo = demo::unpacked(models_dir);
    found.extend(demo.map(|folder| (demo::NAME.to_owned(), folder, Origin::BuiltIn)));
    let refiner = demo::unpacked_refiner(models_dir);
    found.extend(refiner.map(|folder| (demo::REFINER.to_owned(), folder, Origin::BuiltIn)));
    found.extend(
        lying_in(models_dir)
            .into_iter()
            .map(|(name, path)| (name, path, Origin::Folder)),
    );
    let mut entries: Vec<Entry> = Vec::new();
    for (name, path, origin) in found {
        if entries.iter().any(|entry| entry.name == name) {
            tracing::warn!(model = name, path = %path.display(), "a model of this name is there already; this one is not used");
            continue;
        }
        let model = Model::open(&name, &path).map_err(|error| error.to_string());
        entries.push(Entry {
            name,
            path,
            origin,
            model,
        });
    }
    entries
}

/// The models in a folder by name: folders with a pipeline or a manifest, and lone weight files.
fn lying_in(models_dir: &Path) -> BTreeMap<String, PathBuf> {
    let Ok(entries) = fs::read_dir(models_dir) else {
        return BTreeMap::new();
    };
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?.to_owned();
            if name.starts_with('.') || demo::is_unpacked_demo(&path) {
                return None;
            }
            if path.is_dir() {
                let is_model =
                    path.join("model_index.json").is_file() || path.join(MANIFEST).is_file();
                return is_model.then_some((name, path));
            }
            let (stem, end) = name.rsplit_once('.')?;
            matches!(end, "safetensors" | "gguf").then(|| (stem.to_owned(), path))
        })
        .collect()
}

/// The list of models, kept up to date.
pub struct Catalog {
    models_dir: PathBuf,
    named: Vec<(String, PathBuf)>,
    state: RwLock<State>,
}

struct State {
    entries: Arc<Vec<Entry>>,
    models: Arc<Models>,
    stamp: Stamp,
    scanned_at: Instant,
    default: Option<String>,
    access: Arc<Access>,
}

/// Names and times in the folder of models: another stamp means that something has changed.
type Stamp = Vec<(OsString, Option<SystemTime>, Option<SystemTime>)>;

impl Catalog {
    /// Makes the models of `data_dir` ready, as [`Models::open`]; `default` is used when a request
    /// names none.
    ///
    /// # Errors
    /// [`ModelsError`]; an unknown default among them.
    pub fn open(
        data_dir: &Path,
        named: &[(String, PathBuf)],
        default: Option<&str>,
    ) -> Result<Self, ModelsError> {
        let models_dir = data_dir.join("models");
        demo::unpack(&models_dir).map_err(|source| ModelsError::Unpack {
            folder: models_dir.clone(),
            source,
        })?;
        let stamp = stamp(&models_dir);
        let entries = scan(&models_dir, named);
        let mut models = Models::of(&entries, &models_dir)?;
        if let Some(name) = default {
            models = models.with_default(name)?;
        }
        Ok(Self {
            models_dir,
            named: named.to_vec(),
            state: RwLock::new(State {
                entries: Arc::new(entries),
                models: Arc::new(models),
                stamp,
                scanned_at: Instant::now(),
                default: default.map(str::to_owned),
                access: Arc::default(),
            }),
        })
    }

    /// The folder that models are fetched into.
    pub fn models_dir(&self) -> &Path {
        &self.models_dir
    }

    /// The list as it is now, looked through again where something has changed on disk.
    pub async fn fresh(self: &Arc<Self>) -> Arc<Models> {
        if self.has_changed() {
            let catalog = self.clone();
            // A panic in there is logged by the runtime; the old list still serves.
            let _ = tokio::task::spawn_blocking(move || catalog.rescan()).await;
        }
        self.models()
    }

    /// As [`Catalog::fresh`], without what is not for this viewer; the first that is left is then the
    /// one that requests mean which name none.
    pub async fn fresh_for(self: &Arc<Self>, viewer: &Viewer) -> Arc<Models> {
        let models = self.fresh().await;
        let access = self.read().access.clone();
        if access.is_open_to_all(viewer.role) {
            return models;
        }
        Arc::new((*models).clone().open_to(viewer.role, &access))
    }

    /// Who may use which.
    pub fn access(&self) -> Arc<Access> {
        self.read().access.clone()
    }

    /// Who may use which, from now on.
    pub fn set_access(&self, access: Access) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.access = Arc::new(access);
    }

    /// The list as it was when last looked through.
    pub fn models(&self) -> Arc<Models> {
        self.read().models.clone()
    }

    /// Everything that was found, usable or not.
    pub fn entries(&self) -> Arc<Vec<Entry>> {
        self.read().entries.clone()
    }

    /// Whether the folder of models is not as it was.
    pub fn has_changed(&self) -> bool {
        let state = self.read();
        let unsure = state.entries.iter().any(|entry| entry.model.is_err())
            && state.scanned_at.elapsed() > LOOK_AGAIN;
        unsure || state.stamp != stamp(&self.models_dir)
    }

    /// Looks through all folders again. Where nothing usable is left the old list stays.
    pub fn rescan(&self) {
        let stamp = stamp(&self.models_dir);
        let entries = scan(&self.models_dir, &self.named);
        let models = Models::of(&entries, &self.models_dir);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match models {
            Ok(models) => state.models = Arc::new(with_default(models, state.default.as_deref())),
            Err(error) => tracing::error!(%error, "no model is left; the old list stays"),
        }
        state.entries = Arc::new(entries);
        state.stamp = stamp;
        state.scanned_at = Instant::now();
    }

    /// Another default from now on, and after later looks, as long as that model is there.
    ///
    /// # Errors
    /// [`ModelsError::UnknownDefault`], listing the names there are.
    pub fn set_default(&self, name: &str) -> Result<(), ModelsError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let models = (*state.models).clone().with_default(name)?;
        state.models = Arc::new(models);
        state.default = Some(name.to_owned());
        Ok(())
    }

    /// The first model as the default again, from now on.
    ///
    /// # Errors
    /// [`ModelsError::UnknownDefault`] never; the first is there.
    pub fn reset_default(&self) -> Result<(), ModelsError> {
        let first = self.names().into_iter().next();
        if let Some(first) = first {
            self.set_default(&first)?;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.default = None;
        Ok(())
    }

    /// The models that images can be begun with, in the order in which they were found.
    pub fn names(&self) -> Vec<String> {
        let entries = self.entries();
        let usable = entries.iter().filter(|entry| {
            let model = entry.model.as_ref();
            model.is_ok_and(|model| !model.is_refiner())
        });
        usable.map(|entry| entry.name.clone()).collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn with_default(models: Models, default: Option<&str>) -> Models {
    match default {
        Some(name) => match models.clone().with_default(name) {
            Ok(models) => models,
            Err(error) => {
                tracing::warn!(%error, "the default model is gone; the first one takes its place");
                models
            }
        },
        None => models,
    }
}

fn stamp(models_dir: &Path) -> Stamp {
    let Ok(entries) = fs::read_dir(models_dir) else {
        return Vec::new();
    };
    let mut stamp: Stamp = entries
        .filter_map(Result::ok)
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| {
            let time = |path: &Path| fs::metadata(path).and_then(|about| about.modified()).ok();
            let path = entry.path();
            (entry.file_name(), time(&path), time(&path.join(MANIFEST)))
        })
        .collect();
    stamp.sort();
    stamp
}

/// The manifest of an entry, where it was fetched.
pub fn manifest_of(entry: &Entry) -> Option<Manifest> {
    Manifest::read(&entry.path).ok().flatten()
}
