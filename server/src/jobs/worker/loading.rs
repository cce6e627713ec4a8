//! The model in a worker's memory: loaded when a job first needs it, kept until another is needed.
//! Prompts, schedulers and LoRAs change nothing about it; a refiner stays with its base also for
//! jobs that do without.

use super::Watcher;
use crate::models::fingerprint::Fingerprints;
use crate::models::{AddOns, Models, WeightFiles, engine_input, engine_request};
use crate::uploads;
use atelier_app::studio::Settings;
use atelier_engine::image::{read_grey, read_rgb};
use atelier_engine::{EngineError, GenerateRequest, Generation, LoadEvent, LoadOptions, Pipeline};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What the engine's thread hands back.
pub(super) struct Made {
    pub generation: Generation,
    pub loading_s: f64,
    pub fingerprint: Option<String>,
}

/// Why there is no image, in words for the job's owner.
pub(super) enum Unmade {
    Stopped,
    Refused(String),
    Panicked(String),
}

/// Which files a pipeline is loaded from, by what is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    model: String,
    refiner: Option<String>,
    vae: Option<String>,
}

impl Key {
    /// Whether a pipeline loaded from these files serves whoever wants `wanted`.
    fn serves(&self, wanted: &Key) -> bool {
        self.model == wanted.model
            && self.vae == wanted.vae
            && (wanted.refiner.is_none() || self.refiner == wanted.refiner)
    }
}

/// A loaded pipeline and what it was loaded from.
#[derive(Clone)]
pub(super) struct Resident {
    key: Key,
    pipeline: Arc<Pipeline>,
}

/// What a job needs before it can run.
pub(super) struct Needs {
    files: WeightFiles,
    key: Key,
    fingerprint: Option<String>,
}

impl Needs {
    /// Finds the files that settings name.
    ///
    /// # Errors
    /// One line for the job's owner.
    pub(super) fn of(
        settings: &Settings,
        models: &Models,
        add_ons: &AddOns,
        prints: &Fingerprints,
    ) -> Result<Self, Unmade> {
        let refused = |words: String| Unmade::Refused(words);
        let files = models
            .locate(settings, add_ons)
            .map_err(|error| refused(error.to_string()))?;
        let print = |path: &std::path::PathBuf| {
            // Without a fingerprint the path must do: loading says what is wrong with the file.
            let found = prints.of(path).unwrap_or_default();
            format!("{}\n{found}", path.display())
        };
        let key = Key {
            model: print(&files.model),
            refiner: files.refiner.as_ref().map(print),
            vae: files.vae.as_ref().map(print),
        };
        let fingerprint = crate::jobs::recipe::fingerprint(&files, prints).ok();
        Ok(Self {
            files,
            key,
            fingerprint,
        })
    }

    /// Whether the pipeline in memory will do.
    pub(super) fn met_by(&self, resident: &Resident) -> bool {
        resident.key.serves(&self.key)
    }

    /// The engine's request: images decoded, LoRAs by their files.
    fn request(&self, settings: &Settings, data_dir: &Path) -> Result<GenerateRequest, Unmade> {
        let refused = |error: EngineError| Unmade::Refused(error.to_string());
        let mut request = engine_request(settings);
        request.previews = true;
        request.loras.clone_from(&self.files.loras);
        if let Some(file) = &settings.init_image {
            let bytes = uploads::read(data_dir, file).map_err(Unmade::Refused)?;
            let image = read_rgb("init_image", &bytes).map_err(refused)?;
            let mask = match &settings.mask {
                None => None,
                Some(file) => {
                    let bytes = uploads::read(data_dir, file).map_err(Unmade::Refused)?;
                    Some(read_grey("mask", &bytes).map_err(refused)?)
                }
            };
            request.input = Some(engine_input(settings, image, mask));
        }
        Ok(request)
    }
}

/// Loads the model unless it is there, and makes the image. The model is handed back either way.
pub(super) fn run_engine(
    resident: Option<Resident>,
    needs: Needs,
    settings: &Settings,
    data_dir: &Path,
    watcher: &Watcher,
) -> (Option<Resident>, Result<Made, Unmade>) {
    let began = Instant::now();
    let request = match needs.request(settings, data_dir) {
        Ok(request) => request,
        Err(unmade) => return (resident, Err(unmade)),
    };
    let (resident, loading_s) = match resident {
        Some(resident) => (resident, 0.0),
        None => {
            watcher.tell("loading model", 0, 0.0, None);
            let options = LoadOptions {
                refiner: needs.files.refiner.clone(),
                vae: needs.files.vae.clone(),
                ..LoadOptions::default()
            };
            let loaded = Pipeline::load(&needs.files.model, &options, &mut |event| {
                let LoadEvent::Component { name, index, count } = event;
                let phase = format!("loading model: {name} ({} of {count})", index + 1);
                watcher.tell(&phase, 0, 0.0, None);
            });
            match loaded {
                Ok(pipeline) => {
                    let resident = Resident {
                        key: needs.key,
                        pipeline: Arc::new(pipeline),
                    };
                    (resident, began.elapsed().as_secs_f64())
                }
                Err(error) => return (None, Err(Unmade::Refused(error.to_string()))),
            }
        }
    };
    watcher.loading_done();
    let mut denoising_since = None;
    let made = resident.pipeline.generate(&request, &mut |progress| {
        watcher.watch(progress, &mut denoising_since)
    });
    let made = match made {
        Ok(generation) => Ok(Made {
            generation,
            loading_s,
            fingerprint: needs.fingerprint,
        }),
        Err(EngineError::Cancelled) => Err(Unmade::Stopped),
        Err(error) => Err(Unmade::Refused(error.to_string())),
    };
    (Some(resident), made)
}
