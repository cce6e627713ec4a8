//! Everything of a user as one zip: their images as they were made, those in the trash too, the files
//! they sent, and a list of what each image was asked for with and where it was kept.

use super::Departures;
use super::store::{self, Kept};
use crate::db::now_ms;
use crate::error::ServerError;
use crate::gallery::zip;
use atelier_app::account::UserId;
use serde::Serialize;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// The list inside the zip.
const LIST: &str = "atelier.json";

/// What the list says of everything.
#[derive(Serialize)]
struct List<'a> {
    user: &'a str,
    exported_at_ms: i64,
    images: &'a [ListedImage],
    uploads: &'a [ListedUpload],
}

/// An image in the list. Every setting is in the file itself.
#[derive(Serialize)]
struct ListedImage {
    file: String,
    #[serde(flatten)]
    kept: Kept,
}

#[derive(Serialize)]
struct ListedUpload {
    file: String,
    id: String,
    sent_at_ms: i64,
}

impl Departures {
    /// What is to be in a user's zip: the list, then their images and uploads whose files are there.
    ///
    /// # Errors
    /// [`atelier_app::error::AppError::NotFound`] for nobody; the database's.
    pub async fn entries_of(&self, user: UserId) -> Result<Vec<zip::Entry>, ServerError> {
        let name = store::name_of(&self.db, user)
            .await?
            .ok_or(atelier_app::error::AppError::NotFound)?;
        let wanted = store::images_of(&self.db, user).await?;
        let sent = store::uploads_of(&self.db, user).await?;
        let (files, uploads) = (self.images.clone(), self.uploads.clone());
        let gather = move || -> Result<Vec<zip::Entry>, ServerError> {
            let mut entries = Vec::with_capacity(wanted.len() + sent.len() + 1);
            let (mut images, mut others) = (Vec::new(), Vec::new());
            let mut names = zip::Names::default();
            for (file, kept) in wanted {
                if let Some(mut entry) = names.entry(&files, file) {
                    entry.name.insert_str(0, "images/");
                    images.push(ListedImage {
                        file: entry.name.clone(),
                        kept,
                    });
                    entries.push(entry);
                }
            }
            for sent in sent {
                let file = format!("uploads/{}.{}", sent.id, sent.format);
                let entry = zip::Entry::upload(
                    &uploads,
                    file.clone(),
                    sent.hash,
                    sent.bytes,
                    sent.created_at,
                );
                if let Some(entry) = entry {
                    entries.push(entry);
                    others.push(ListedUpload {
                        file,
                        id: sent.id,
                        sent_at_ms: sent.created_at,
                    });
                }
            }
            let now = now_ms();
            let list = serde_json::to_string_pretty(&List {
                user: &name,
                exported_at_ms: now,
                images: &images,
                uploads: &others,
            })
            .map_err(|error| ServerError::broken(format!("writing a list: {error}")))?;
            entries.insert(0, zip::Entry::text(LIST, list, now));
            Ok(entries)
        };
        tokio::task::spawn_blocking(gather)
            .await
            .map_err(|error| ServerError::broken(format!("an export ended early: {error}")))?
    }

    /// A writer of such a zip.
    pub fn writer(&self, entries: Vec<zip::Entry>) -> zip::Writer {
        zip::Writer::new(self.images.clone(), entries).with_uploads(self.uploads.clone())
    }

    /// Writes a user's zip into a file that does not exist yet; answers how many files are in it
    /// beside the list.
    ///
    /// # Errors
    /// The database's, and the file system's: then nothing is left of the file.
    pub async fn write_zip(&self, user: UserId, path: &Path) -> Result<usize, ServerError> {
        let entries = self.entries_of(user).await?;
        let count = entries.len() - 1;
        let mut writer = self.writer(entries);
        let path = path.to_owned();
        let work = move || -> Result<(), ServerError> {
            let mut file = File::create_new(&path)
                .map_err(ServerError::io(format!("making {}", path.display())))?;
            let mut write = || -> Result<(), ServerError> {
                while let Some(piece) = writer.next_piece() {
                    file.write_all(&piece?)
                        .map_err(ServerError::io(format!("writing {}", path.display())))?;
                }
                file.sync_all()
                    .map_err(ServerError::io(format!("writing {}", path.display())))
            };
            let written = write();
            if written.is_err() {
                // Half a zip helps nobody; that it cannot be removed either is not the news.
                let _ = std::fs::remove_file(&path);
            }
            written
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| ServerError::broken(format!("an export ended early: {error}")))??;
        Ok(count)
    }
}
