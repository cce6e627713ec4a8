//! What to expect before an image is asked for: when it would start, how long it would take, and on
//! a CPU, what would be quicker.

use super::estimate::Speed;
use super::{JobService, Measurements, UNMEASURED_COST_S};
use crate::error::ServerError;
use crate::models::Models;
use atelier_app::account::Viewer;
use atelier_app::backend::Answer;
use atelier_app::studio::{
    Estimate, Faster, GenerationRequest, ImageSource, LoraWeight, MAX_IMAGES, Settings,
};

/// What is not at least so many times as fast is not worth words.
const WORTH_SAYING: f64 = 1.5;
/// Models and LoRAs that are thought through for that.
const MOST_CANDIDATES: usize = 24;
/// The number of the probe's that says how fast a device multiplies matrices.
const MATRIX_PRODUCTS: &str = "matrix products";

impl JobService {
    /// The speed of such an image, from the latest ones; else a first guess.
    pub(super) fn speed_from(&self, latest: &Measurements, settings: &Settings) -> Option<Speed> {
        let (device, _) = self.devices.main_lane();
        let (model, refiner) = (&settings.model, settings.refiner.as_deref());
        Speed::measured(model, refiner, &device, latest).or_else(|| {
            let models = self.models.models();
            let parameters = |name: &str| models.parameters(name);
            Speed::guessed(model, &device, latest, parameters, self.gflops(&device))
        })
    }

    /// What the probe measured of a device: billions of operations in a second.
    fn gflops(&self, device: &str) -> Option<f64> {
        let dtype = self.devices.main_lane().1.dtype.name();
        let card = self
            .devices
            .devices()
            .into_iter()
            .find(|card| card.id == device)?;
        let report = card
            .measurements
            .iter()
            .find(|report| report.dtype == dtype)
            .or(card.measurements.first())?;
        report
            .numbers
            .iter()
            .find(|(name, _, _)| name == MATRIX_PRODUCTS)
            .map(|(_, value, _)| *value)
    }

    /// When such a request would start and how long it would take.
    pub(super) async fn forecast(
        &self,
        viewer: &Viewer,
        request: GenerationRequest,
    ) -> Answer<Estimate> {
        let count = request.num_images.unwrap_or(1).clamp(1, MAX_IMAGES);
        let wish = GenerationRequest {
            // An estimate is wanted while the prompt is still being written.
            prompt: if request.prompt.trim().is_empty() {
                "…".into()
            } else {
                request.prompt
            },
            // That there is one counts, not what it shows.
            init_image: request.init_image.map(|_| unnamed()),
            mask: request.mask.map(|_| unnamed()),
            ..request
        };
        let models = self.models.fresh_for(viewer).await;
        let settings = models.settle(wish.clone(), &self.add_ons)?;
        let speed = self.speed(&settings).await?;
        let cost = speed.map_or(UNMEASURED_COST_S, |speed| speed.takes_s(&settings));
        let order = self
            .queue
            .fair_order(Some((viewer.id, cost)))
            .await
            .map_err(ServerError::from)?;
        let ahead: f64 = order
            .iter()
            .take_while(|job| !job.id.0.is_empty())
            .map(|job| job.cost)
            .sum();
        let running = self.running_left_s().await?;
        // Several images are made beside each other where there are several devices.
        let rounds = (f64::from(count) / self.lanes()).ceil();
        let faster = match speed {
            Some(speed) => self.faster(&models, &wish, &settings, speed).await?,
            None => None,
        };
        Ok(Estimate {
            starts_in_s: speed.map(|_| (running + ahead) / self.lanes()),
            takes_s: speed.map(|speed| speed.takes_s(&settings) * rounds),
            num_images: count,
            guessed_from: speed
                .and_then(|speed| speed.guess)
                .map(|guess| guess.words().to_owned()),
            paused: self.queue.is_held().await.map_err(ServerError::from)?,
            faster,
        })
    }

    /// On a CPU, what makes the same in a few steps: the quickest of the models and LoRAs that were
    /// distilled for that.
    async fn faster(
        &self,
        models: &Models,
        wish: &GenerationRequest,
        settings: &Settings,
        speed: Speed,
    ) -> Result<Option<Faster>, ServerError> {
        if self.devices.main_lane().0 != "cpu" {
            return Ok(None);
        }
        let add_ons = self.add_ons.clone();
        let loras = tokio::task::spawn_blocking(move || add_ons.list_loras())
            .await
            .map_err(|error| ServerError::broken(error.to_string()))?;
        let few_loras: Vec<&str> = loras
            .iter()
            .filter(|lora| lora.problem.is_none() && !lora.presets.is_empty())
            .map(|lora| lora.name.as_str())
            .collect();
        let Ok(model) = models.find(Some(&settings.model)) else {
            return Ok(None);
        };
        let is_quick = model.summary.few_step
            || settings
                .loras
                .iter()
                .any(|lora| few_loras.contains(&lora.name.as_str()));
        if is_quick || model.is_refiner() {
            return Ok(None);
        }
        let few_models = models
            .all()
            .iter()
            .filter(|other| other.summary.few_step && other.summary.kind == model.summary.kind)
            .map(|other| (other.summary.name.clone(), false));
        let few_loras = few_loras.into_iter().map(|name| (name.to_owned(), true));
        let mut best: Option<Faster> = None;
        for (name, is_lora) in few_models.chain(few_loras).take(MOST_CANDIDATES) {
            let mut quick = GenerationRequest {
                num_inference_steps: None,
                guidance_scale: None,
                scheduler: None,
                ..wish.clone()
            };
            if is_lora {
                quick.loras.push(LoraWeight {
                    name: name.clone(),
                    weight: 1.0,
                });
            } else {
                quick.model = Some(name.clone());
            }
            // One that does not fit the rest of the request is no help.
            let Ok(quick) = models.settle(quick, &self.add_ons) else {
                continue;
            };
            let Some(its) = self.speed(&quick).await? else {
                continue;
            };
            let times = speed.takes_s(settings) / its.takes_s(&quick).max(1e-6);
            if times >= WORTH_SAYING && best.as_ref().is_none_or(|best| times > best.times) {
                best = Some(Faster {
                    name,
                    is_lora,
                    num_inference_steps: quick.num_inference_steps,
                    times,
                    measured: speed.guess.is_none() && its.guess.is_none(),
                });
            }
        }
        Ok(best)
    }
}

fn unnamed() -> ImageSource {
    ImageSource::Upload {
        upload_id: String::new(),
    }
}
