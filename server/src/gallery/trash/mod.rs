//! The trash: what was deleted waits here until somebody wants it back, or until its time is over.

pub(super) mod store; // rows

use std::time::Duration;

use atelier_app::account::Viewer;
use atelier_app::backend::Answer;
use atelier_app::error::AppError;
use atelier_app::gallery::{ImageId, MAX_TRASH_DAYS, Trash};

use super::{GalleryService, ImageHash};
use crate::db::now_ms;
use crate::error::ServerError;

/// How long the trash keeps images where administrators set nothing else, in days.
pub const USUAL_DAYS: u32 = 30;

/// Most images whose rows are deleted in one transaction: other writers wait for its end.
const BATCH: u32 = 500;

/// How long a file that was just stored is left alone: the row of another image that is the same
/// file may be on its way.
const GRACE: Duration = Duration::from_secs(60);

impl GalleryService {
    /// What lies in the viewer's trash, last thrown first.
    pub(super) async fn look_into_trash(
        &self,
        viewer: &Viewer,
        after: Option<&str>,
        limit: u32,
    ) -> Answer<Trash> {
        let before = after.map(place).transpose()?;
        let mut rows = store::page(&self.db, viewer, before, limit + 1).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        Ok(Trash {
            next: rows
                .last()
                .filter(|_| more)
                .map(|(card, trashed_at)| format!("{trashed_at}.{}", card.number)),
            images: rows.into_iter().map(|(card, _)| card.into()).collect(),
            total: store::count(&self.db, viewer).await?,
            days: self.trash_days().await?,
        })
    }

    /// After how many days images in the trash go for good.
    ///
    /// # Errors
    /// The database's.
    pub async fn trash_days(&self) -> Result<u32, ServerError> {
        Ok(store::days(&self.db).await?.unwrap_or(USUAL_DAYS))
    }

    pub(super) async fn keep_trash_for(&self, viewer: &Viewer, days: u32) -> Answer<()> {
        if !viewer.is_admin() {
            return Err(AppError::Forbidden);
        }
        if days == 0 || days > MAX_TRASH_DAYS {
            return Err(AppError::invalid(
                "days",
                format!("Give a whole number of days, 1 to {MAX_TRASH_DAYS}."),
            ));
        }
        Ok(store::set_days(&self.db, viewer, days).await?)
    }

    /// Deletes images of the viewer's trash, files and all; all of them where `ids` is absent.
    pub(super) async fn delete_for_good(
        &self,
        viewer: &Viewer,
        ids: Option<&[ImageId]>,
    ) -> Answer<u32> {
        let mut gone = 0;
        loop {
            let hashes = store::delete(&self.db, viewer, ids, BATCH).await?;
            if hashes.is_empty() {
                return Ok(gone);
            }
            gone += u32::try_from(hashes.len()).unwrap_or(u32::MAX);
            self.remove_files(hashes).await;
        }
    }

    /// Deletes what has been in anybody's trash for longer than the time that is set. Answers how
    /// many images.
    ///
    /// # Errors
    /// The database's; what was deleted until then stays deleted.
    pub async fn sweep_trash(&self) -> Result<u32, ServerError> {
        let age = Duration::from_secs(u64::from(self.trash_days().await?) * 24 * 60 * 60);
        let before = now_ms() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let mut gone = 0;
        loop {
            let hashes = store::delete_older(&self.db, before, BATCH).await?;
            if hashes.is_empty() {
                return Ok(gone);
            }
            gone += u32::try_from(hashes.len()).unwrap_or(u32::MAX);
            self.remove_files(hashes).await;
        }
    }

    /// The rows are gone, and with them the images for everybody; a file left behind, or too young
    /// to go, is swept later.
    async fn remove_files(&self, hashes: Vec<ImageHash>) {
        for hash in hashes {
            if let Err(error) = self.remove_unreferenced(hash, GRACE).await {
                tracing::warn!(%error, "a deleted image's file could not be removed yet");
            }
        }
    }
}

/// A cursor is when the last image of a page was thrown away, and its number.
fn place(cursor: &str) -> Result<(i64, i64), AppError> {
    cursor
        .split_once('.')
        .and_then(|(at, number)| Some((at.parse().ok()?, number.parse().ok()?)))
        .ok_or_else(|| {
            AppError::invalid(
                "after",
                "after is not a place in the trash; start from the first page again",
            )
        })
}
