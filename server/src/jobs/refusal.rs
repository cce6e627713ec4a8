//! What is said to whoever may not queue now: which limit is reached, and when trying again makes sense.

use super::JobService;
use crate::error::ServerError;
use atelier_app::account::UserId;
use atelier_app::error::AppError;

/// The shortest and the longest wait that is named, in seconds: a guess for hours is none.
const WAIT_S: (f64, f64) = (1.0, 3600.0);

/// Which limit of the queue a request runs into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The user's own; how many images they have open.
    Own(u32),
    /// Everybody's; how many images are open.
    All(u32),
}

impl JobService {
    /// Why a request for so many images is not queued: the queue, or the user's part of it, is full.
    pub(super) async fn too_many(
        &self,
        user: UserId,
        full: Full,
        wanted: u32,
    ) -> Result<AppError, ServerError> {
        let limits = self.settings.limits();
        let (open, limit, whose) = match full {
            Full::Own(open) => (open, limits.per_user, Some(user)),
            Full::All(open) => (open, limits.total, None),
        };
        tracing::info!(user = user.0, ?full, wanted, "the queue is full");
        if wanted > limit {
            // No waiting helps.
            return Ok(AppError::invalid("num_images", never(full, limit, wanted)));
        }
        let places = open.saturating_add(wanted).saturating_sub(limit);
        let wait_s = self.places_free_in(whose, places).await?;
        Ok(AppError::TooMany {
            message: words(full, limit, wanted),
            // Whole seconds between 1 and 3600 fit.
            retry_after_s: wait_s.ceil().clamp(WAIT_S.0, WAIT_S.1) as u32,
        })
    }

    /// Seconds until so many open jobs of a user, or of anybody, have ended.
    async fn places_free_in(&self, user: Option<UserId>, places: u32) -> Result<f64, ServerError> {
        let counts = |owner: UserId| user.is_none_or(|user| user == owner);
        let running = self.running_left().await?;
        let mut ends: Vec<f64> = running
            .iter()
            .filter(|(owner, _)| counts(*owner))
            .map(|(_, left_s)| *left_s)
            .collect();
        let mut line = self.timeline(&running);
        for job in self.queue.fair_order(None).await? {
            let (_, end) = line.next(job.cost);
            if counts(job.user_id) {
                ends.push(end);
            }
        }
        ends.sort_by(f64::total_cmp);
        let last = (places.max(1) as usize).min(ends.len());
        // Where all have ended since, there is room already.
        Ok(last.checked_sub(1).map_or(0.0, |last| ends[last]))
    }
}

fn words(full: Full, limit: u32, wanted: u32) -> String {
    match full {
        Full::Own(open) if wanted > 1 => format!(
            "You have {open} images waiting or being made and may have {limit} at once; this request asks for {wanted} more. Wait for some to finish, cancel some, or ask for fewer."
        ),
        Full::Own(open) => format!(
            "You have {open} images waiting or being made, which is the limit. Wait for one to finish, or cancel one."
        ),
        Full::All(open) if wanted > 1 => format!(
            "The queue is full: everybody together has {open} images waiting or being made and may have {limit}; this request asks for {wanted} more. Wait for some to finish, or ask for fewer."
        ),
        Full::All(open) => format!(
            "The queue is full: everybody together has {open} images waiting or being made, which is the limit. Wait for one to finish."
        ),
    }
}

fn never(full: Full, limit: u32, wanted: u32) -> String {
    match full {
        Full::Own(_) => format!(
            "This request asks for {wanted} images, and this server lets a user have {limit} waiting or being made at once; ask for at most {limit}."
        ),
        Full::All(_) => format!(
            "This request asks for {wanted} images, and this server's queue takes {limit} in all; ask for at most {limit}."
        ),
    }
}
