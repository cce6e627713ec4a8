//! The model in a worker's memory: loaded when a job first needs it, kept until another is needed.
//! Prompts, schedulers and LoRAs change nothing about it; a refiner stays with its base also for
//! jobs that do without.

use super::watcher::Watcher;
use crate::devices::Way;
use crate::devices::probe::ops::{engine_dtype, engine_mode, fault_of};
use crate::devices::trial::{Fault, Kind};
use crate::models::fingerprint::Fingerprints;
use crate::models::{AddOns, Models, WeightFiles, engine_input, engine_request};
use crate::uploads;
use atelier_app::studio::Settings;
use atelier_engine::image::{read_grey, read_rgb};
use atelier_engine::{
    DeviceId, EngineError, GenerateRequest, Generation, LoadEvent, LoadOptions, Pipeline,
    Residence, VaeTiling,
};
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
    /// The device failed.
    Faulty(Fault),
    /// Nothing moves any more.
    Stalled {
        during: String,
    },
    /// The device failed, and another worker goes on with it.
    HandedOver {
        spares_process: bool,
    },
}

/// Where and how a job is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bench {
    pub device: DeviceId,
    pub refiner_device: Option<DeviceId>,
    pub way: Way,
}

impl Bench {
    /// Whether a pipeline loaded for `self` serves at `other`: tiles are chosen with each image.
    fn serves(&self, other: &Bench) -> bool {
        let tiles_aside = |bench: &Bench| Bench {
            way: Way {
                tiled_vae: false,
                ..bench.way
            },
            ..*bench
        };
        tiles_aside(self) == tiles_aside(other)
    }

    fn options(&self, files: &WeightFiles) -> LoadOptions {
        LoadOptions {
            refiner: files.refiner.clone(),
            vae: files.vae.clone(),
            device: self.device,
            refiner_device: self.refiner_device,
            dtype: engine_dtype(self.way.dtype),
            storage_dtype: (self.way.storage != self.way.dtype)
                .then(|| engine_dtype(self.way.storage)),
            residence: if self.way.in_turn {
                Residence::InTurn
            } else {
                Residence::Whole
            },
            cpu: engine_mode(self.way.cpu),
            ..LoadOptions::default()
        }
    }
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
    bench: Bench,
    pipeline: Arc<Pipeline>,
}

/// What a job needs before it can run.
pub(super) struct Needs {
    files: WeightFiles,
    key: Key,
    bench: Bench,
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
        bench: Bench,
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
            bench,
            fingerprint,
        })
    }

    /// Whether the pipeline in memory will do.
    pub(super) fn met_by(&self, resident: &Resident) -> bool {
        resident.key.serves(&self.key) && resident.bench.serves(&self.bench)
    }

    /// The engine's request: images decoded, LoRAs by their files.
    fn request(&self, settings: &Settings, data_dir: &Path) -> Result<GenerateRequest, Unmade> {
        let refused = |error: EngineError| Unmade::Refused(error.to_string());
        let mut request = engine_request(settings);
        request.previews = true;
        if self.bench.way.tiled_vae {
            request.vae_tiling = VaeTiling::On;
        }
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
            let (device, way) = (needs.bench.device, needs.bench.way.words());
            let model = &settings.model;
            tracing::info!(model, %device, way, "loading a model");
            let options = needs.bench.options(&needs.files);
            let loaded = Pipeline::load(&needs.files.model, &options, &mut |event| {
                let LoadEvent::Component { name, index, count } = event;
                let phase = format!("loading model: {name} ({} of {count})", index + 1);
                tracing::info!(model, %device, "{phase}, {:.1} s so far", began.elapsed().as_secs_f64());
                watcher.tell(&phase, 0, 0.0, None);
            });
            match loaded {
                Ok(pipeline) => {
                    let resident = Resident {
                        key: needs.key,
                        bench: needs.bench,
                        pipeline: Arc::new(pipeline),
                    };
                    let loading_s = began.elapsed().as_secs_f64();
                    tracing::info!(model, %device, "the model is loaded, after {loading_s:.1} s");
                    (resident, loading_s)
                }
                Err(error) => return (None, Err(unmade(error))),
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
        Err(error) => Err(unmade(error)),
    };
    (Some(resident), made)
}

fn unmade(error: EngineError) -> Unmade {
    match error {
        EngineError::Cancelled => Unmade::Stopped,
        EngineError::Device(fault) => Unmade::Faulty(fault_of(fault)),
        EngineError::NonFinite { phase } => Unmade::Faulty(Fault {
            kind: Kind::WrongNumbers,
            during: phase.to_string(),
            words: error.to_string(),
        }),
        _ => Unmade::Refused(error.to_string()),
    }
}
