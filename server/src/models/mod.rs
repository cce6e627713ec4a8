//! Models: weights on disk under the names that requests use, and what each name's defaults are.
//!
//! A request becomes settings here, once: defaults filled in, the seed drawn, everything checked
//! against the model. Only configs are read; weights are the worker's.

pub mod access; // who may use which
pub mod add_ons; // LoRAs and VAEs
pub mod catalog; // what lies on disk, kept up to date
pub mod command; // `atelier models …`
pub mod demo; // the small SDXL inside the binary
pub mod fetch; // plan, download, install
pub mod fingerprint; // which weights made an image
pub mod hub; // the Hugging Face hub's HTTP
mod lock; // one at a time
pub mod manifest; // what a fetched model consists of
pub mod options; // what the command line takes
mod part; // one file on its way
mod presets; // settings from quick to careful
mod screen; // bars, lines, JSON
pub mod select; // which files make up a model
pub mod service; // as administrators manage them while the server runs
mod settle; // from a request to settings
mod store; // the SQL of what they choose
mod tally; // bytes, rate, time left
pub mod tokens; // how a prompt will be cut, before any image is made
pub mod verify; // whether it is still what was fetched

pub use add_ons::AddOns;
pub use settle::{WeightFiles, engine_input, engine_request};

use std::fs;
use std::path::{Path, PathBuf};

use atelier_app::error::AppError;
use atelier_app::studio::ModelSummary;
use atelier_engine::{EngineError, ModelDescription, inspect};
use serde::Deserialize;

/// Most steps that a request to the server may ask for; the engine itself allows more.
pub const MAX_STEPS: u32 = 150;

/// Weights of SDXL's base model, all components together.
pub const SDXL_PARAMETERS: f64 = 3.47e9;

/// A model that can be asked for.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its diffusers folder, or its one file.
    pub folder: PathBuf,
    /// What its configs say.
    pub description: ModelDescription,
    /// What a page shows, name and defaults included.
    pub summary: ModelSummary,
}

/// Every model of this server, the default first.
#[derive(Clone, Debug)]
pub struct Models {
    models: Vec<Model>,
    readers: tokens::Readers,
    /// Those that only finish what another has begun.
    refiners: Vec<Model>,
    /// Names that are not for whoever asks.
    closed: Vec<String>,
}

/// The models cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// The demo model could not be unpacked.
    #[error("the demo model cannot be unpacked into {}: {source}", folder.display())]
    Unpack {
        /// Where to.
        folder: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// The default that was asked for is not there.
    #[error("--default-model: there is no model {name:?}; there are: {names}")]
    UnknownDefault {
        /// The name asked for.
        name: String,
        /// The names there are.
        names: String,
    },
    /// There is nothing to generate with.
    #[error(
        "there is no model to generate with: this build carries no demo model, and no folder named by \
         --model NAME=DIR or lying in {} can be used{reasons}", folder.display()
    )]
    None {
        /// The folder that was looked through.
        folder: PathBuf,
        /// What was wrong with each folder that was found.
        reasons: String,
    },
}

/// What a model's folder may say about itself in `atelier.json`; every field may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct About {
    description: Option<String>,
    default_width: Option<u32>,
    default_height: Option<u32>,
    #[serde(alias = "num_inference_steps")]
    default_steps: Option<u32>,
    #[serde(alias = "guidance_scale")]
    default_guidance_scale: Option<f64>,
    max_side: Option<u32>,
    example_prompts: Option<Vec<String>>,
}

impl Models {
    /// Makes the models of `data_dir` ready: the demo model unpacked, every model in
    /// `data_dir/models`, and the folders `named` on the command line (NAME, DIR), of which the
    /// first becomes the default. A folder that cannot be used is logged with its reason and left
    /// out.
    ///
    /// # Errors
    /// [`ModelsError`] where the demo model cannot be unpacked or no model is left.
    pub fn open(data_dir: &Path, named: &[(String, PathBuf)]) -> Result<Self, ModelsError> {
        let models_dir = data_dir.join("models");
        demo::unpack(&models_dir).map_err(|source| ModelsError::Unpack {
            folder: models_dir.clone(),
            source,
        })?;
        Self::of(&catalog::scan(&models_dir, named), &models_dir)
    }

    /// The ones that images can be made with, the first as the default.
    fn of(entries: &[catalog::Entry], models_dir: &Path) -> Result<Self, ModelsError> {
        let mut models: Vec<Model> = Vec::new();
        let mut reasons = String::new();
        for entry in entries {
            match &entry.model {
                Ok(model) => models.push(model.clone()),
                Err(error) => {
                    tracing::warn!(model = entry.name, error, "a model cannot be used");
                    reasons.push_str(&format!("; {error}"));
                }
            }
        }
        let (refiners, mut models): (Vec<Model>, Vec<Model>) =
            models.into_iter().partition(Model::is_refiner);
        let Some(first) = models.first_mut() else {
            return Err(ModelsError::None {
                folder: models_dir.to_path_buf(),
                reasons,
            });
        };
        first.summary.is_default = true;
        Ok(Self {
            models,
            refiners,
            readers: tokens::Readers::default(),
            closed: Vec::new(),
        })
    }

    /// The same models with this one as the default, and first.
    ///
    /// # Errors
    /// [`ModelsError::UnknownDefault`], listing the names there are.
    pub fn with_default(mut self, name: &str) -> Result<Self, ModelsError> {
        let Some(place) = self
            .models
            .iter()
            .position(|model| model.summary.name == name)
        else {
            return Err(ModelsError::UnknownDefault {
                name: name.to_owned(),
                names: self.names(),
            });
        };
        self.models[..=place].rotate_right(1);
        for (place, model) in self.models.iter_mut().enumerate() {
            model.summary.is_default = place == 0;
        }
        Ok(self)
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self
            .models
            .iter()
            .map(|model| model.summary.name.as_str())
            .collect();
        names.join(", ")
    }

    /// Models, then refiners.
    fn everyone(&self) -> impl Iterator<Item = &Model> {
        self.models.iter().chain(&self.refiners)
    }

    /// The refiner of a name.
    ///
    /// # Errors
    /// [`AppError::Invalid`] on `refiner`, listing the names there are; [`AppError::Refused`] for one
    /// that is not for whoever asks.
    pub fn find_refiner(&self, name: &str) -> Result<&Model, AppError> {
        self.check_open(name)?;
        let found = self
            .refiners
            .iter()
            .find(|model| model.summary.name == name);
        found.ok_or_else(|| {
            let names: Vec<String> = self
                .refiners
                .iter()
                .map(|model| model.summary.name.clone())
                .collect();
            add_ons::unknown("refiner", "refiner", name, &names)
        })
    }

    /// How many weights a model or refiner has; of one whose files do not say, as many as SDXL's
    /// base.
    pub fn parameters(&self, name: &str) -> f64 {
        self.everyone()
            .find(|model| model.summary.name == name)
            .and_then(|model| model.description.parameters)
            .map_or(SDXL_PARAMETERS, |count| count as f64)
    }

    /// All of them, the default first.
    pub fn all(&self) -> &[Model] {
        &self.models
    }

    /// What a page shows of each, the default first, refiners last.
    pub fn summaries(&self) -> Vec<ModelSummary> {
        self.everyone().map(|model| model.summary.clone()).collect()
    }

    /// The model of a name; the default for `None`.
    ///
    /// # Errors
    /// [`AppError::Invalid`] on `model`, listing the names there are; [`AppError::Refused`] for one
    /// that is not for whoever asks, and where there is none that is.
    pub fn find(&self, name: Option<&str>) -> Result<&Model, AppError> {
        self.check_open(name.unwrap_or_default())?;
        if self.models.is_empty() {
            return Err(AppError::refused(
                "No model of this server is open to you. Ask an administrator for one.",
            ));
        }
        let found = match name {
            None => self.models.first(),
            Some(name) => self.everyone().find(|model| model.summary.name == name),
        };
        found.ok_or_else(|| {
            let asked: String = name.unwrap_or_default().chars().take(64).collect();
            AppError::invalid(
                "model",
                format!(
                    "There is no model “{asked}”. Choose one of: {}.",
                    self.names()
                ),
            )
        })
    }
}

impl Model {
    /// Reads the configs of a folder; of one that was fetched as a single file, that file's.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming the file and the reason.
    pub fn open(name: &str, folder: &Path) -> Result<Self, EngineError> {
        let manifest = manifest::Manifest::read(folder).ok().flatten();
        let place = match &manifest {
            Some(manifest) => verify::place_of(folder, manifest),
            None => folder.to_path_buf(),
        };
        let description = inspect(&place)?;
        let about = About::read(folder)?;
        let summary = about.summary(name, &description);
        Ok(Self {
            folder: place,
            description,
            summary,
        })
    }

    /// Whether it only refines what another model has begun.
    pub fn is_refiner(&self) -> bool {
        self.description.kind.contains("refiner")
    }
}

/// A seed for a request that names none. 32 bits, because torch's CPU generator takes no more from
/// a seed, and because every JSON reader keeps such a number exact.
pub fn random_seed() -> u64 {
    u64::from(rand::random::<u32>())
}

impl About {
    fn read(folder: &Path) -> Result<Self, EngineError> {
        let path = folder.join("atelier.json");
        let unusable = |message: String| EngineError::Model {
            path: path.clone(),
            message,
        };
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))
            }
            // A single file is no folder that could hold one.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(Self::default())
            }
            Err(error) => Err(unusable(error.to_string())),
        }
    }

    fn summary(self, name: &str, description: &ModelDescription) -> ModelSummary {
        let demo = name == demo::NAME || name == demo::REFINER;
        let defaults = &description.defaults;
        let strings = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        let default_width = self.default_width.unwrap_or(description.default_width);
        let default_steps = self.default_steps.unwrap_or(if demo {
            20
        } else if defaults.is_few_step() {
            defaults.num_inference_steps
        } else {
            30
        });
        let default_guidance_scale = self
            .default_guidance_scale
            .unwrap_or(defaults.guidance_scale);
        ModelSummary {
            name: name.to_owned(),
            kind: description.kind.clone(),
            description: self.description.unwrap_or_else(|| {
                if name == demo::REFINER {
                    "A tiny refiner for the demo model.".into()
                } else if demo {
                    "A tiny model for trying things out: coloured shapes on a coloured background."
                        .into()
                } else {
                    described(description)
                }
            }),
            default_width,
            default_height: self.default_height.unwrap_or(description.default_height),
            default_steps,
            default_guidance_scale,
            presets: presets::of_model(
                defaults,
                default_steps,
                default_guidance_scale,
                default_width,
                &description.schedulers,
            ),
            few_step: defaults.is_few_step(),
            size_multiple: description.size_multiple,
            max_side: self.max_side.unwrap_or(if demo { 256 } else { 2048 }),
            schedulers: description.schedulers.clone(),
            is_default: false,
            example_prompts: self.example_prompts.unwrap_or_else(|| {
                if demo {
                    strings(&[
                        "a red circle on a blue background",
                        "a small yellow star on a black background",
                        "a green square beside a red triangle on a white background",
                        "a white circle above a purple square on a gray background",
                    ])
                } else {
                    strings(&[
                        "a lighthouse on a cliff at dusk, long exposure, film photograph",
                        "a still life of pears and a copper jug, oil on canvas",
                        "a red fox curled up in fresh snow, soft morning light",
                    ])
                }
            }),
        }
    }
}

/// A model of the operator's own in one sentence, from what its files say.
fn described(description: &ModelDescription) -> String {
    let size = format!(
        "{}×{}",
        description.default_width, description.default_height
    );
    let mut sentence = match description.parameters {
        Some(count) if count >= 100_000_000 => format!(
            "SDXL for {size} images, {:.1} billion weights in {}.",
            count as f64 / 1e9,
            description.stored_dtype
        ),
        Some(count) => format!(
            "SDXL for {size} images, {:.1} million weights in {}.",
            count as f64 / 1e6,
            description.stored_dtype
        ),
        None => format!("SDXL for {size} images."),
    };
    let defaults = &description.defaults;
    if defaults.is_few_step() {
        sentence += &format!(" {} ({}).", defaults.why, description.scheduler);
    }
    sentence
}
