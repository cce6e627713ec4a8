//! From a request to jobs: settled, images to start from stored, earlier images of the same recipe
//! found, one job for each image queued.

use super::control::CLOSED;
use super::progress::Board;
use super::protocol::Order;
use super::queue::{EnqueuedAll, JobRow, NewJob};
use super::recipe::{fingerprint, kind, recipe};
use super::{JobService, LONGEST_KEY};
use crate::error::ServerError;
use crate::gallery::ImageHash;
use atelier_app::account::{LOOKS_ONLY, Role, Viewer};
use atelier_app::backend::Answer;
use atelier_app::error::AppError;
use atelier_app::gallery::ImageId;
use atelier_app::studio::{GenerationRequest, JobView, Settings};

/// A job that was asked for, and whether an earlier request had asked for it already.
#[derive(Debug)]
pub struct Submitted {
    /// The job as it stands.
    pub job: JobView,
    /// The same idempotency key came before.
    pub replayed: bool,
}

/// The jobs of one request: seed after seed.
#[derive(Debug)]
pub struct SubmittedAll {
    /// The jobs as they stand; never empty.
    pub jobs: Vec<JobView>,
    /// The same idempotency key came before.
    pub replayed: bool,
}

impl JobService {
    /// As the port's `submit`; the same `idem_key` of the same user is the same job.
    ///
    /// # Errors
    /// As [`JobService::submit_all`].
    pub async fn submit_once(
        &self,
        viewer: &Viewer,
        request: GenerationRequest,
        idem_key: Option<&str>,
    ) -> Answer<Submitted> {
        let SubmittedAll { mut jobs, replayed } =
            self.submit_all(viewer, request, idem_key).await?;
        Ok(Submitted {
            job: jobs.swap_remove(0),
            replayed,
        })
    }

    /// Queues one job for each image that is asked for, all of them or none; the same `idem_key`
    /// of the same user is the same jobs.
    ///
    /// # Errors
    /// [`AppError::Invalid`] naming the field, [`AppError::TooMany`] at a limit,
    /// [`AppError::NotFound`] for an image to start from that is not there,
    /// [`AppError::Refused`] for a viewer who may only look.
    pub async fn submit_all(
        &self,
        viewer: &Viewer,
        request: GenerationRequest,
        idem_key: Option<&str>,
    ) -> Answer<SubmittedAll> {
        if viewer.role == Role::Viewer {
            return Err(AppError::refused(LOOKS_ONLY));
        }
        if self.shutdown.is_requested() {
            return Err(AppError::Unavailable {
                message: "The server is stopping. Try again in a minute.".into(),
            });
        }
        if idem_key.is_some_and(|key| key.is_empty() || key.len() > LONGEST_KEY) {
            return Err(AppError::invalid(
                "Idempotency-Key",
                format!("Idempotency-Key must have 1 to {LONGEST_KEY} characters."),
            ));
        }
        let count = image_count(&request, self.settings.max_batch())?;
        // Without a seed every image is meant to be a new one.
        let may_be_there = self.settings.result_cache()
            && request.use_cache != Some(false)
            && request.seed.is_some();
        let (init_image, mask) = (request.init_image.clone(), request.mask.clone());
        let mut settings = self
            .models
            .fresh_for(viewer)
            .await
            .settle(request, &self.add_ons)?;
        if let Some(source) = init_image {
            let file = self.uploads.resolve(viewer, "init_image", source).await?;
            settings.init_image = Some(file);
        }
        if let Some(source) = mask {
            settings.mask = Some(self.uploads.resolve(viewer, "mask", source).await?);
        }
        check_mask_size(&settings)?;
        let cost = self.cost(&settings).await?;
        let mut jobs = Vec::with_capacity(count as usize);
        for place in 0..u64::from(count) {
            let settings = Settings {
                seed: settings.seed.wrapping_add(place),
                ..settings.clone()
            };
            let from_image = if may_be_there {
                self.find_made(viewer, &settings).await?
            } else {
                None
            };
            jobs.push(NewJob {
                settings,
                cost,
                from_image,
            });
        }
        let enqueued = self
            .queue
            .enqueue_all(viewer.id, &jobs, idem_key, self.settings.limits())
            .await
            .map_err(ServerError::from)?;
        let (rows, replayed) = match enqueued {
            EnqueuedAll::New(rows) => (rows, false),
            EnqueuedAll::Replayed(rows) => (rows, true),
            EnqueuedAll::UserFull => return Err(self.too_many(viewer.id, true).await?),
            EnqueuedAll::QueueFull => return Err(self.too_many(viewer.id, false).await?),
            EnqueuedAll::Closed => {
                return Err(AppError::Unavailable {
                    message: CLOSED.into(),
                });
            }
            EnqueuedAll::UploadGone => return Err(AppError::NotFound),
        };
        if !replayed {
            announce(&self.board, viewer, &rows);
            if rows.iter().any(|row| !row.state.is_final()) {
                self.supervisor.order(Order::Wake);
            }
        }
        Ok(SubmittedAll {
            jobs: self.views(rows).await?,
            replayed,
        })
    }

    /// An image of the viewer's that these settings would make again, and whose file is there.
    async fn find_made(
        &self,
        viewer: &Viewer,
        settings: &Settings,
    ) -> Result<Option<ImageId>, ServerError> {
        let files = self.models.models().locate(settings, &self.add_ons)?;
        let (prints, gallery) = (self.prints.clone(), self.gallery.clone());
        let kind_now = {
            let (device, way) = self.devices.main_lane();
            kind(&device, way)
        };
        // Weights that cannot be read now: their job will say so.
        let printed = tokio::task::spawn_blocking(move || fingerprint(&files, &prints)).await;
        let Some(recipe) = printed
            .ok()
            .and_then(Result::ok)
            .and_then(|print| recipe(settings, &print, &kind_now))
        else {
            return Ok(None);
        };
        let Some((id, sha256)) = self.queue.find_made(viewer.id, &recipe).await? else {
            return Ok(None);
        };
        let there = tokio::task::spawn_blocking(move || {
            let hash: Option<ImageHash> = sha256.parse().ok();
            // Read whole: a damaged file must be made anew.
            hash.and_then(|hash| Some((gallery.files().get(&hash).ok()?, hash)))
                .is_some_and(|(bytes, hash)| ImageHash::of(&bytes) == hash)
        });
        Ok(there.await.unwrap_or(false).then_some(id))
    }
}

fn announce(board: &Board, viewer: &Viewer, rows: &[JobRow]) {
    for row in rows {
        board.row_changed(&row.id, viewer.id, row.state.is_final());
    }
}

/// How many images are asked for; an administrator may have set that there are fewer at once.
fn image_count(request: &GenerationRequest, most: u32) -> Result<u32, AppError> {
    let count = request.num_images.unwrap_or(1);
    if (1..=most).contains(&count) {
        return Ok(count);
    }
    Err(AppError::invalid(
        "num_images",
        format!("num_images is {count}; give a number from 1 to {most}"),
    ))
}

/// Where only the masked region is worked on, mask and image must be of one size; a photograph's
/// orientation may swap its sides.
fn check_mask_size(settings: &Settings) -> Result<(), AppError> {
    let (Some(image), Some(mask), Some(_)) = (
        &settings.init_image,
        &settings.mask,
        settings.only_masked_padding,
    ) else {
        return Ok(());
    };
    let size = (image.width, image.height);
    if (mask.width, mask.height) == size || (mask.height, mask.width) == size {
        return Ok(());
    }
    Err(AppError::invalid(
        "mask",
        format!(
            "mask is {}×{} and init_image {}×{}; with only_masked_padding they must be of one size",
            mask.width, mask.height, size.0, size.1
        ),
    ))
}
