//! From a generation to a stored image: facts, PNG, file.

use super::Worker;
use super::loading::Made;
use crate::gallery::Facts;
use crate::gallery::metadata::{dominant_colour, write_png};
use crate::jobs::queue::{Claim, NewImage};
use crate::jobs::recipe::{self, recipe};
use atelier_app::gallery::{ImageId, PhaseTimings};
use std::time::Instant;
use uuid::Uuid;

impl Worker {
    /// Writes the PNG to disk under its hash. After this the file is durable, and no row names it yet.
    pub(super) async fn store(
        &self,
        claim: &Claim,
        made: Made,
        began: Instant,
    ) -> Result<NewImage, String> {
        let Made {
            generation,
            loading_s,
            fingerprint,
        } = made;
        let (settings, files) = (claim.settings.clone(), self.files.clone());
        let fallback_reason = self.fallback_reason(claim);
        let rungs = claim.rungs.clone();
        let way = self.way;
        let queued_ms = claim.started_at.saturating_sub(claim.created_at).max(0);
        tokio::task::spawn_blocking(move || {
            let facts = Facts {
                scheduler: generation.scheduler.clone(),
                device: generation.device.clone(),
                dtype: generation.dtype.clone(),
                fallback_reason,
                rungs,
                timings: PhaseTimings {
                    queued_s: queued_ms as f64 / 1000.0,
                    loading_s,
                    text_encoding_s: generation.timings.text_encoding_s,
                    denoising_s: generation.timings.denoising_s,
                    decoding_s: generation.timings.decoding_s,
                    total_s: began.elapsed().as_secs_f64(),
                },
                step_s: generation.timings.step_s.clone(),
                notes: generation.notes.clone(),
                text_cached: generation.text_cached,
                model_fingerprint: fingerprint.clone(),
                version: Facts::VERSION.into(),
            };
            let png = write_png(&generation.image, &settings, &facts)
                .map_err(|error| error.to_string())?;
            let hash = files
                .put(&png)
                .map_err(|error| format!("The image could not be stored: {error}"))?;
            Ok(NewImage {
                id: ImageId(Uuid::now_v7().to_string()),
                sha256: hash.as_str().to_owned(),
                bytes: png.len() as u64,
                width: generation.image.width(),
                height: generation.image.height(),
                dominant_colour: dominant_colour(&generation.image),
                recipe: fingerprint.and_then(|print| {
                    let kind = recipe::kind(&facts.device, way);
                    // An image made otherwise than usual answers no other request.
                    let is_usual = facts.device == "cpu" || facts.rungs.is_empty();
                    recipe(&settings, &print, &kind).filter(|_| is_usual)
                }),
                facts,
            })
        })
        .await
        .map_err(|error| error.to_string())?
    }
}
