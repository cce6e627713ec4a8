//! A user's own images: rows, content-addressed files, PNG metadata.
//!
//! Whose an image is, is asked of its row; the file's hash opens nothing by itself.

pub mod files; // originals and thumbnails on disk
pub mod metadata; // what a PNG says about itself
pub mod store; // rows

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use atelier_app::account::Viewer;
use atelier_app::backend::{Answer, Gallery};
use atelier_app::error::AppError;
use atelier_app::gallery::{GalleryPage, ImageDetail, ImageId};
use atelier_app::studio::Settings;

pub use files::{ImageHash, ImageStore};
pub use metadata::Facts;

use crate::config::ServeConfig;
use crate::db::Db;
use crate::error::ServerError;
use files::{FileError, SWEEP_AGE};

/// Most images in one page.
pub const MAX_PAGE: u32 = 100;

/// The gallery over one database and one folder of files. Cheap to clone.
#[derive(Clone)]
pub struct GalleryService {
    db: Db,
    files: Arc<ImageStore>,
}

/// Which bytes of an image are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rendition {
    /// The PNG as it was made.
    Original,
    /// The small JPEG.
    Thumbnail,
}

/// An image's file, found for a viewer who may see it.
#[derive(Clone, Debug)]
pub struct FoundFile {
    /// The original's hash.
    pub hash: ImageHash,
    /// What was asked for.
    pub settings: Settings,
}

impl GalleryService {
    /// Opens the images' folders, and sweeps them now and once a day for as long as the runtime lives.
    ///
    /// # Errors
    /// The file system's, naming the folder.
    pub async fn open(db: Db, config: &ServeConfig) -> Result<Arc<Self>, ServerError> {
        let data_dir = config.data_dir.path.clone();
        let files = blocking(move || ImageStore::open(&data_dir)).await??;
        let gallery = Self {
            db,
            files: Arc::new(files),
        };
        tokio::spawn(gallery.clone().keep_sweeping());
        Ok(Arc::new(gallery))
    }

    /// The files.
    pub fn files(&self) -> &ImageStore {
        &self.files
    }

    /// Which file one of the viewer's images is.
    ///
    /// # Errors
    /// [`AppError::NotFound`] for a missing image and for anybody else's.
    pub async fn find_file(&self, viewer: &Viewer, id: &ImageId) -> Answer<FoundFile> {
        let (hash, settings) = store::file(&self.db, viewer, id)
            .await?
            .ok_or(AppError::NotFound)?;
        Ok(FoundFile { hash, settings })
    }

    /// The bytes of one of the viewer's images.
    ///
    /// # Errors
    /// [`AppError::Internal`] where the file is gone or damaged: a row promised it.
    pub async fn read_file(
        &self,
        _viewer: &Viewer,
        found: &FoundFile,
        rendition: Rendition,
    ) -> Answer<Vec<u8>> {
        let (files, hash) = (self.files.clone(), found.hash.clone());
        let bytes = blocking(move || match rendition {
            Rendition::Original => files.get(&hash),
            Rendition::Thumbnail => files.thumbnail(&hash),
        })
        .await?;
        Ok(bytes.map_err(ServerError::from)?)
    }

    /// Removes files that no row names and that are older than `age`, and answers how many.
    ///
    /// # Errors
    /// The file system's or the database's; what was removed until then stays removed.
    pub async fn sweep(&self, age: Duration) -> Result<usize, ServerError> {
        let files = self.files.clone();
        let old = blocking(move || files.sweep_leftovers(age)).await??;
        let mut removed = 0;
        for hash in old {
            if !store::is_referenced(&self.db, &hash).await? {
                removed += usize::from(self.remove_unreferenced(hash, age).await?);
            }
        }
        Ok(removed)
    }

    async fn keep_sweeping(self) {
        let mut day = tokio::time::interval(SWEEP_AGE);
        loop {
            day.tick().await;
            match self.sweep(SWEEP_AGE).await {
                Ok(0) => {}
                Ok(removed) => {
                    tracing::info!(removed, "image files that no row names were removed")
                }
                Err(error) => tracing::error!(%error, "image files could not be swept"),
            }
        }
    }

    /// Removes a file and its thumbnail unless a row names it, or it was stored less than `age` ago:
    /// its row may be on its way. Rows are asked while no writer is at work.
    async fn remove_unreferenced(
        &self,
        hash: ImageHash,
        age: Duration,
    ) -> Result<bool, ServerError> {
        let (files, db) = (self.files.clone(), self.db.clone());
        let runtime = tokio::runtime::Handle::current();
        let removed = blocking(move || {
            files.remove_if(&hash, || {
                let old = files.stored_at(&hash).is_some_and(|at| {
                    age.is_zero()
                        || SystemTime::now()
                            .duration_since(at)
                            .is_ok_and(|since| since >= age)
                });
                // An unreadable database keeps the file: the next sweep asks again.
                old && !runtime
                    .block_on(store::is_referenced(&db, &hash))
                    .unwrap_or(true)
            })
        })
        .await?;
        Ok(removed?)
    }
}

#[async_trait]
impl Gallery for GalleryService {
    async fn list_images(
        &self,
        viewer: &Viewer,
        after: Option<&str>,
        limit: u32,
    ) -> Answer<GalleryPage> {
        if limit == 0 || limit > MAX_PAGE {
            return Err(AppError::invalid(
                "limit",
                format!("limit is {limit}; give a number from 1 to {MAX_PAGE}"),
            ));
        }
        if after.is_some_and(|cursor| !is_cursor(cursor)) {
            return Err(AppError::invalid(
                "after",
                "after is not a place in the gallery; start from the first page again",
            ));
        }
        let mut images = store::page(&self.db, viewer, after, limit + 1).await?;
        let more = images.len() > limit as usize;
        images.truncate(limit as usize);
        Ok(GalleryPage {
            next: images.last().filter(|_| more).map(|card| card.id.0.clone()),
            images,
            total: store::count(&self.db, viewer).await?,
        })
    }

    async fn image(&self, viewer: &Viewer, id: &ImageId) -> Answer<ImageDetail> {
        store::detail(&self.db, viewer, id)
            .await?
            .ok_or(AppError::NotFound)
    }

    async fn delete_image(&self, viewer: &Viewer, id: &ImageId) -> Answer<()> {
        let hash = store::delete(&self.db, viewer, id)
            .await?
            .ok_or(AppError::NotFound)?;
        // The row is gone, and with it the image for everybody; a file left behind is swept later.
        if let Err(error) = self.remove_unreferenced(hash, Duration::ZERO).await {
            tracing::warn!(%error, "a deleted image's file could not be removed yet");
        }
        Ok(())
    }
}

impl From<FileError> for ServerError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { path, source } => Self::Io {
                what: path.display().to_string(),
                source,
            },
            other => Self::broken(other.to_string()),
        }
    }
}

/// A cursor is the id of the last image of a page: a UUID in its usual spelling.
fn is_cursor(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServerError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ServerError::broken(format!("a file task ended early: {error}")))
}
