//! A user's own images: rows, content-addressed files, PNG metadata.
//!
//! Whose an image is, is asked of its row; the file's hash opens nothing by itself.

mod collections; // images under a name, one's own or shared
pub mod files; // originals and thumbnails on disk
pub mod import; // images that were made elsewhere
pub mod metadata; // what a PNG says about itself
mod port; // what may be asked
mod search; // queries, pages, facets
pub mod shares; // links for people without an account
pub mod store; // rows
mod trash; // what was deleted and can still be had back
pub mod zip; // several originals as one file

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use atelier_app::account::Viewer;
use atelier_app::backend::Answer;
use atelier_app::error::AppError;
use atelier_app::gallery::{ImageId, MAX_SELECTED};
use atelier_app::studio::Settings;

pub use files::{ImageHash, ImageStore};
pub(crate) use import::decoding_turn;
pub use metadata::Facts;
pub use trash::USUAL_DAYS as USUAL_TRASH_DAYS;

use crate::config::ServeConfig;
use crate::db::{Db, now_ms};
use crate::error::ServerError;
use files::{FileError, SWEEP_AGE};

/// How often the trash is looked through.
const TRASH_SWEEP: Duration = Duration::from_secs(60 * 60);

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
    /// Opens the images' folders, and sweeps them now and once a day for as long as the runtime
    /// lives; the trash, every hour.
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

    /// The files, to be held on to.
    pub fn shared_files(&self) -> Arc<ImageStore> {
        self.files.clone()
    }

    /// The files of several images, those left out that the viewer cannot see or that are gone.
    ///
    /// # Errors
    /// [`AppError::NotFound`] where none is left, [`AppError::Invalid`] for too many.
    pub async fn find_files(&self, viewer: &Viewer, ids: &[ImageId]) -> Answer<Vec<zip::Entry>> {
        if ids.is_empty() || ids.len() > MAX_SELECTED {
            return Err(AppError::invalid(
                "ids",
                format!("Select 1 to {MAX_SELECTED} images to download at once."),
            ));
        }
        let found = store::files(&self.db, viewer, ids).await?;
        let files = self.files.clone();
        let entries = blocking(move || zip::entries(&files, found)).await?;
        if entries.is_empty() {
            return Err(AppError::NotFound);
        }
        Ok(entries)
    }

    /// Which file an image is that the viewer can see: an own one, or one of a shared collection.
    /// From the trash, the thumbnail only.
    ///
    /// # Errors
    /// [`AppError::NotFound`] for a missing image and for anybody else's.
    pub async fn find_file(
        &self,
        viewer: &Viewer,
        id: &ImageId,
        rendition: Rendition,
    ) -> Answer<FoundFile> {
        let with_trash = rendition == Rendition::Thumbnail;
        let (hash, settings) = store::file(&self.db, viewer, id, with_trash)
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
        if rendition == Rendition::Original {
            let bytes = blocking(move || files.get(&hash)).await?;
            return Ok(bytes.map_err(ServerError::from)?);
        }
        let (looked, wanted) = (files.clone(), hash.clone());
        if let Some(bytes) = blocking(move || looked.kept_thumbnail(&wanted)).await? {
            return Ok(bytes);
        }
        // A page asks for a hundred at once; not that many originals fit into memory.
        let pixels = u64::from(found.settings.width) * u64::from(found.settings.height);
        let turn = import::decoding_turn(pixels).await?;
        let bytes = blocking(move || {
            let _turn = turn;
            files.thumbnail(&hash)
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
        let mut hour = tokio::time::interval(TRASH_SWEEP);
        let mut swept: Option<tokio::time::Instant> = None;
        loop {
            hour.tick().await;
            match self.sweep_trash().await {
                Ok(0) => {}
                Ok(gone) => tracing::info!(gone, "images left the trash for good"),
                Err(error) => tracing::error!(%error, "the trash could not be swept"),
            }
            if let Err(error) = shares::store::delete_expired(&self.db, now_ms()).await {
                tracing::error!(%error, "links that are over could not be removed");
            }
            if swept.is_some_and(|at| at.elapsed() < SWEEP_AGE) {
                continue;
            }
            swept = Some(tokio::time::Instant::now());
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
                    SystemTime::now()
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServerError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ServerError::broken(format!("a file task ended early: {error}")))
}
