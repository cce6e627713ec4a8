//! Images that people send to start from: checked by their headers, stored under their hash, kept
//! for as long as a job or an image needs them. Decoding them is the worker's.

pub mod store; // rows

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atelier_app::account::{LOOKS_ONLY, Role, Viewer};
use atelier_app::backend::Answer;
use atelier_app::error::AppError;
use atelier_app::gallery::ImageId;
use atelier_app::studio::{ImageSource, InputFile, UploadSummary};
use base64::Engine as _;
use image::{ImageFormat, ImageReader};
use uuid::Uuid;

use crate::config::ServeConfig;
use crate::db::{Db, now_ms};
use crate::error::ServerError;
use crate::gallery::files::SWEEP_AGE;
use crate::gallery::{GalleryService, ImageHash, ImageStore, Rendition};

/// Largest file.
pub const MOST_BYTES: usize = 32 * 1024 * 1024;
/// Most pixels.
pub const MOST_PIXELS: u64 = 64_000_000;
/// Most files that one user may have lying here.
pub const MOST_PER_USER: u32 = 500;

/// The uploads of one database and one folder. Cheap to clone.
#[derive(Clone)]
pub struct UploadService {
    db: Db,
    files: Arc<ImageStore>,
    gallery: Arc<GalleryService>,
}

/// A stored upload and its bytes.
#[derive(Debug)]
pub struct UploadFile {
    /// Its media type.
    pub media_type: &'static str,
    /// The bytes as they were sent.
    pub bytes: Vec<u8>,
}

/// What the header of a file says.
struct Header {
    format: &'static str,
    width: u32,
    height: u32,
}

impl UploadService {
    /// Opens the folder, and sweeps it now and once a day for as long as the runtime lives.
    ///
    /// # Errors
    /// The file system's, naming the folder.
    pub async fn open(
        db: Db,
        config: &ServeConfig,
        gallery: Arc<GalleryService>,
    ) -> Result<Arc<Self>, ServerError> {
        let data_dir = config.data_dir.path.clone();
        let files = blocking(move || ImageStore::open_uploads(&data_dir)).await??;
        let uploads = Self {
            db,
            files: Arc::new(files),
            gallery,
        };
        tokio::spawn(uploads.clone().keep_sweeping());
        Ok(Arc::new(uploads))
    }

    /// Stores a file that was sent. The same file of the same user is the same upload.
    ///
    /// # Errors
    /// [`AppError::Invalid`] on `field` for what is no image or too large, [`AppError::TooMany`]
    /// at the limit, [`AppError::Refused`] for a viewer who may only look.
    pub async fn add(&self, viewer: &Viewer, field: &str, bytes: Vec<u8>) -> Answer<UploadSummary> {
        if viewer.role == Role::Viewer {
            return Err(AppError::refused(LOOKS_ONLY));
        }
        let header = read_header(field, &bytes)?;
        let have = store::count(&self.db, viewer).await?;
        let hash = ImageHash::of(&bytes);
        if have >= MOST_PER_USER
            && store::find_by_hash(&self.db, viewer, &hash)
                .await?
                .is_none()
        {
            return Err(AppError::TooMany {
                message: format!(
                    "You have {have} files uploaded, which is the limit. Those that no image is made from go after a day."
                ),
                retry_after_s: 3600,
            });
        }
        let length = bytes.len() as u64;
        let files = self.files.clone();
        blocking(move || files.put(&bytes))
            .await?
            .map_err(ServerError::from)?;
        let row = store::NewUpload {
            id: Uuid::now_v7().to_string(),
            sha256: hash.as_str().to_owned(),
            bytes: length,
            width: header.width,
            height: header.height,
            format: header.format,
            at: now_ms(),
        };
        Ok(store::insert(&self.db, viewer, &row).await?)
    }

    /// The file that a request names, wherever it comes from. One from the gallery is copied, so
    /// that what is made from it can be made again when it is gone.
    ///
    /// # Errors
    /// As [`UploadService::add`]; [`AppError::NotFound`] for what is missing or somebody else's.
    pub async fn resolve(
        &self,
        viewer: &Viewer,
        field: &str,
        source: ImageSource,
    ) -> Answer<InputFile> {
        let upload = match source {
            ImageSource::Upload { upload_id } => {
                store::find(&self.db, viewer, &upload_id)
                    .await?
                    .ok_or(AppError::NotFound)?
                    .0
            }
            ImageSource::Gallery { image_id } => {
                let found = self
                    .gallery
                    .find_file(viewer, &ImageId(image_id), Rendition::Original)
                    .await?;
                let bytes = self
                    .gallery
                    .read_file(viewer, &found, Rendition::Original)
                    .await?;
                self.add(viewer, field, bytes).await?
            }
            ImageSource::Inline(text) => {
                let bytes = decode_base64(field, &text)?;
                self.add(viewer, field, bytes).await?
            }
        };
        Ok(InputFile {
            upload_id: upload.id,
            sha256: upload.sha256,
            width: upload.width,
            height: upload.height,
        })
    }

    /// The viewer's uploads, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, viewer: &Viewer) -> Answer<Vec<UploadSummary>> {
        Ok(store::list(&self.db, viewer).await?)
    }

    /// One of the viewer's uploads with its bytes.
    ///
    /// # Errors
    /// [`AppError::NotFound`] for what is missing or somebody else's.
    pub async fn file(&self, viewer: &Viewer, id: &str) -> Answer<UploadFile> {
        let (upload, format) = store::find(&self.db, viewer, id)
            .await?
            .ok_or(AppError::NotFound)?;
        let hash: ImageHash = upload
            .sha256
            .parse()
            .map_err(|error| ServerError::broken(format!("upload {id}: {error}")))?;
        let files = self.files.clone();
        let bytes = blocking(move || files.get(&hash))
            .await?
            .map_err(ServerError::from)?;
        Ok(UploadFile {
            media_type: match format.as_str() {
                "jpeg" => "image/jpeg",
                "webp" => "image/webp",
                _ => "image/png",
            },
            bytes,
        })
    }

    /// Removes what nothing has needed for `age`: rows, then files that no row names. Answers how
    /// many rows went.
    ///
    /// # Errors
    /// The database's or the file system's; what was removed until then stays removed.
    pub async fn sweep(&self, age: Duration) -> Result<usize, ServerError> {
        let before = now_ms() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let removed = store::remove_unused(&self.db, before).await?;
        let files = self.files.clone();
        let old = blocking(move || files.sweep_leftovers(age)).await??;
        for hash in old {
            let (files, db) = (self.files.clone(), self.db.clone());
            let runtime = tokio::runtime::Handle::current();
            blocking(move || {
                files.remove_if(&hash, || {
                    // An unreadable database keeps the file: the next sweep asks again.
                    !runtime
                        .block_on(store::is_referenced(&db, &hash))
                        .unwrap_or(true)
                })
            })
            .await??;
        }
        Ok(removed)
    }

    async fn keep_sweeping(self) {
        let mut day = tokio::time::interval(SWEEP_AGE);
        loop {
            day.tick().await;
            match self.sweep(SWEEP_AGE).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "uploads that nothing needs were removed"),
                Err(error) => tracing::error!(%error, "uploads could not be swept"),
            }
        }
    }
}

/// The bytes of an upload, for the worker.
///
/// # Errors
/// One line for the job's owner.
pub fn read(data_dir: &Path, file: &InputFile) -> Result<Vec<u8>, String> {
    let words = |error: String| format!("The image to start from cannot be read: {error}");
    let hash: ImageHash = file.sha256.parse().map_err(|_| words("bad hash".into()))?;
    ImageStore::open_uploads(data_dir)
        .and_then(|files| files.get(&hash))
        .map_err(|error| words(error.to_string()))
}

/// Base64, plain or after `data:…;base64,`, with or without line breaks and padding.
fn decode_base64(field: &str, text: &str) -> Result<Vec<u8>, AppError> {
    use base64::alphabet::STANDARD;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let data = match text.strip_prefix("data:") {
        None => text,
        Some(rest) => rest
            .split_once(";base64,")
            .map(|(_, data)| data)
            .ok_or_else(|| {
                AppError::invalid(
                    field,
                    format!("{field} is a data: address without ;base64,"),
                )
            })?,
    };
    if data.len() / 4 * 3 > MOST_BYTES + 3 {
        return Err(too_large(field, data.len() / 4 * 3));
    }
    let data: Vec<u8> = data
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&STANDARD, config)
        .decode(data)
        .map_err(|_| {
            AppError::invalid(
                field,
                format!(
                    "{field} is no base64; send a PNG, JPEG or WebP in base64, {{\"image_id\": \"…\"}} or {{\"upload_id\": \"…\"}}"
                ),
            )
        })
}

fn too_large(field: &str, bytes: usize) -> AppError {
    AppError::invalid(
        field,
        format!(
            "{field} has {bytes} bytes; at most {} MiB are accepted",
            MOST_BYTES / 1024 / 1024
        ),
    )
}

fn read_header(field: &str, bytes: &[u8]) -> Result<Header, AppError> {
    if bytes.len() > MOST_BYTES {
        return Err(too_large(field, bytes.len()));
    }
    let refuse = |why: &str| AppError::invalid(field, format!("{field} {why}"));
    const KINDS: &str = "is no PNG, JPEG or WebP image";
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|_| refuse(KINDS))?;
    let format = match reader.format() {
        Some(ImageFormat::Png) => "png",
        Some(ImageFormat::Jpeg) => "jpeg",
        Some(ImageFormat::WebP) => "webp",
        _ => return Err(refuse(KINDS)),
    };
    let (width, height) = reader
        .into_dimensions()
        .map_err(|error| refuse(&format!("cannot be read as an image: {error}")))?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MOST_PIXELS {
        return Err(refuse(&format!(
            "is {width}×{height}; at most {} million pixels are accepted",
            MOST_PIXELS / 1_000_000
        )));
    }
    Ok(Header {
        format,
        width,
        height,
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServerError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ServerError::broken(format!("a file task ended early: {error}")))
}
