//! When somebody leaves: what is theirs goes into a zip first, to another user, or away. No row and no
//! file that only they needed is left behind.

pub mod export; // everything of theirs as one zip
mod store; // SQL

use super::AccountService;
use crate::audit::{Actor, store as audit};
use crate::db::{Db, now_ms};
use crate::error::ServerError;
use crate::gallery::{ImageHash, ImageStore};
use crate::jobs::queue::Queue;
use atelier_app::account::UserId;
use atelier_app::admin::Leaving;
use atelier_app::error::AppError;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use store::Gone;

/// How long a job of theirs that runs may take to stop: most steps are done within it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// How long a file that was just stored is left alone: the row of another's image that is the same file
/// may be on its way.
const GRACE: Duration = Duration::from_secs(60);

type NamedFile = (store::Files, ImageHash);

/// Files of a removed user that are too young to go.
pub(crate) struct Young(Vec<NamedFile>);

/// What removing people needs: rows, and the folders of files.
#[derive(Clone)]
pub struct Departures {
    db: Db,
    images: Arc<ImageStore>,
    uploads: Arc<ImageStore>,
}

impl Departures {
    /// Over one database and one data folder.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(db: Db, data_dir: &Path) -> Result<Self, ServerError> {
        Ok(Self {
            db,
            images: Arc::new(ImageStore::open(data_dir)?),
            uploads: Arc::new(ImageStore::open_uploads(data_dir)?),
        })
    }

    /// Closes a user's sign-in, stops their jobs, and removes them. The answer is for
    /// [`Departures::remove_late`].
    ///
    /// # Errors
    /// [`AppError::NotFound`]; [`AppError::Invalid`] for the last administrator, and for an heir who is
    /// nobody or the same.
    pub(crate) async fn remove(
        &self,
        accounts: &AccountService,
        actor: &Actor,
        id: UserId,
        leaving: Leaving,
    ) -> Result<Young, ServerError> {
        if let Leaving::HandOver(heir) = leaving
            && (heir == id || !store::is_user(&self.db, heir).await?)
        {
            return Err(AppError::invalid(
                "heir",
                "Choose another user, who takes their images over.",
            )
            .into());
        }
        accounts.set_disabled(actor, id, true).await?;
        self.stop_jobs(id).await?;
        let mut write = self.db.write().await?;
        let gone = match leaving {
            Leaving::Erase => store::erase(&mut write, id).await?,
            Leaving::HandOver(heir) => store::hand_over(&mut write, id, heir).await?,
        };
        let Gone {
            name,
            images,
            uploads,
            heir,
        } = match gone {
            store::Departure::Gone(gone) => gone,
            store::Departure::Missing => return Err(AppError::NotFound.into()),
            store::Departure::LastAdmin => {
                return Err(AppError::invalid(
                    "id",
                    "This is the only administrator who can sign in. Make somebody else an administrator first.",
                )
                .into());
            }
        };
        let detail = match heir {
            Some(heir) => format!("images and collections handed over to {heir}"),
            None => format!("{} images erased", images.len()),
        };
        audit::insert(&mut write, actor, "user.delete", &name, &detail, now_ms()).await?;
        write.commit().await?;
        tracing::info!(user = id.0, "a user was removed");
        let named = |table| move |hash: String| Some((table, hash.parse::<ImageHash>().ok()?));
        let files = images
            .into_iter()
            .filter_map(named(store::Files::Images))
            .chain(uploads.into_iter().filter_map(named(store::Files::Uploads)))
            .collect();
        self.remove_files(files).await
    }

    /// Stops their jobs. One whose step takes longer than anybody waits loses its row instead: its worker
    /// then finds at its next heartbeat that it works for nobody, and stores nothing.
    async fn stop_jobs(&self, id: UserId) -> Result<(), ServerError> {
        let queue = Queue::new(self.db.clone());
        let began = Instant::now();
        loop {
            let open = store::open_jobs(&self.db, id).await?;
            if open.is_empty() || began.elapsed() > PATIENCE {
                return Ok(());
            }
            for job in &open {
                queue.cancel(job, None).await?;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Removes the files that no row names any more; answers those that are too young to go. What fails
    /// is logged and swept within a day.
    async fn remove_files(&self, files: Vec<NamedFile>) -> Result<Young, ServerError> {
        let this = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let work = move || {
            let mut left = Vec::new();
            for (table, hash) in files {
                let store = match table {
                    store::Files::Images => &this.images,
                    store::Files::Uploads => &this.uploads,
                };
                let mut is_young = false;
                let removed = store.remove_if(&hash, || {
                    is_young = store.stored_at(&hash).is_some_and(|at| {
                        SystemTime::now()
                            .duration_since(at)
                            .is_ok_and(|since| since < GRACE)
                    });
                    // An unreadable database keeps the file: the sweep asks again.
                    !is_young
                        && !runtime
                            .block_on(store::is_named(&this.db, table, hash.as_str()))
                            .unwrap_or(true)
                });
                if let Err(error) = removed {
                    tracing::warn!(%error, "a file of a removed user could not be removed yet");
                }
                if is_young {
                    left.push((table, hash));
                }
            }
            Young(left)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| ServerError::broken(format!("removing files ended early: {error}")))
    }

    /// Waits until files are old enough, then removes those that no row names.
    pub(crate) async fn remove_late(&self, young: Young) {
        if young.0.is_empty() {
            return;
        }
        tokio::time::sleep(GRACE).await;
        if let Err(error) = self.remove_files(young.0).await {
            tracing::warn!(%error, "files of a removed user could not be removed yet");
        }
    }
}
