//! Backups: the database as it is at one moment and every file that its rows name, as one tar archive
//! that is made while the server runs. Models are not in it: they are fetched again.
//!
//! The archives lie in `backups/` of the data folder; a copy on the same disk helps against mistakes,
//! not against the disk, so each can be downloaded. `atelier restore` puts one back.

mod archive; // making one
pub mod command; // `atelier backup`, `atelier restore`
mod restore; // putting one back
mod store; // SQL

pub use archive::{Made, Progress, make};
pub use restore::{Restored, restore};

use crate::audit::{Actor, Audit};
use crate::db::{Db, now_ms};
use crate::error::ServerError;
use crate::models::fetch::free_space;
use crate::settings::RunTime;
use crate::startup::Shutdown;
use archive::manifest_of;
use atelier_app::admin::{BackupProgress, BackupRow, BackupsReport};
use atelier_app::error::AppError;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;

/// How names begin and end.
const START: &str = "atelier-";
const END: &str = ".tar";
/// What the names of those end with that the schedule made.
const BY_ITSELF: &str = "-auto.tar";
/// How names of archives end that are not whole yet.
const PART: &str = ".part";
/// How long a part is left alone that nobody writes to: a command may be at it.
const PART_AGE: Duration = Duration::from_secs(60 * 60);
/// Between two looks at the schedule.
const LOOK: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;

/// What can go wrong; each is one line.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Somebody wanted it to stop.
    #[error("it was stopped")]
    Stopped,
    /// It would not fit.
    #[error("{needed} bytes are needed in {}, and {free} are free", folder.display())]
    NoRoom {
        /// Where.
        folder: PathBuf,
        /// Bytes that the backup takes.
        needed: u64,
        /// Bytes that there are.
        free: u64,
    },
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// Anything else, in words.
    #[error("{0}")]
    Refused(String),
}

impl BackupError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// The backups of one data folder.
pub struct Backups {
    db: Db,
    data_dir: PathBuf,
    folder: PathBuf,
    settings: Arc<RunTime>,
    audit: Audit,
    work: Mutex<Work>,
}

#[derive(Default)]
struct Work {
    running: Option<(i64, Arc<Progress>)>,
    trouble: Option<String>,
}

/// Where the backups of a data folder lie.
pub(crate) fn folder_of(data_dir: &Path) -> PathBuf {
    data_dir.join("backups")
}

/// The name of a backup that is made now, e.g. `atelier-20261125-031245.tar`.
pub(crate) fn name_now(by_itself: bool) -> String {
    let now = OffsetDateTime::now_utc();
    let end = if by_itself { BY_ITSELF } else { END };
    format!(
        "{START}{:04}{:02}{:02}-{:02}{:02}{:02}{end}",
        now.year(),
        u8::from(now.month()),
        now.day(),
        now.hour(),
        now.minute(),
        now.second()
    )
}

/// Whether a text could be the name of a backup: never a path.
fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(START)
        && name.ends_with(END)
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
}

impl Backups {
    /// Watches the schedule for as long as the runtime lives.
    pub fn start(db: Db, data_dir: &Path, settings: Arc<RunTime>, shutdown: Shutdown) -> Arc<Self> {
        let backups = Arc::new(Self {
            audit: Audit::new(db.clone()),
            db,
            data_dir: data_dir.to_owned(),
            folder: folder_of(data_dir),
            settings,
            work: Mutex::default(),
        });
        remove_parts(&backups.folder);
        tokio::spawn(backups.clone().keep_schedule(shutdown));
        backups
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What lies here and what is being made.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub async fn report(&self) -> Result<BackupsReport, ServerError> {
        let folder = self.folder.clone();
        let (backups, free_bytes) = tokio::task::spawn_blocking(move || {
            let free = free_space(folder.parent().unwrap_or(&folder)).ok();
            list(&folder).map(|backups| (backups, free))
        })
        .await
        .map_err(|error| ServerError::broken(error.to_string()))?
        .map_err(|error| ServerError::broken(error.to_string()))?;
        let work = self.lock();
        Ok(BackupsReport {
            backups,
            running: work
                .running
                .as_ref()
                .map(|(began_at, progress)| BackupProgress {
                    began_at: *began_at,
                    copies_database: progress.copies_database(),
                    done: progress.done(),
                    total: progress.total(),
                }),
            trouble: work.trouble.clone(),
            folder: self.folder.display().to_string(),
            free_bytes,
            every_hours: self.settings.backup_every_hours(),
            kept: self.settings.backups_kept(),
        })
    }

    /// Begins to make one in the background.
    ///
    /// # Errors
    /// [`AppError::Unavailable`] while one is being made.
    pub fn begin(self: &Arc<Self>, actor: &Actor) -> Result<(), AppError> {
        self.begin_as(Some(actor.clone()))
    }

    /// `actor` absent: the schedule.
    fn begin_as(self: &Arc<Self>, actor: Option<Actor>) -> Result<(), AppError> {
        let progress = Arc::new(Progress::default());
        {
            let mut work = self.lock();
            if work.running.is_some() {
                return Err(AppError::Unavailable {
                    message: "A backup is being made already; wait until it is done, or stop it."
                        .into(),
                });
            }
            work.running = Some((now_ms(), progress.clone()));
            work.trouble = None;
        }
        let backups = self.clone();
        tokio::spawn(async move {
            let name = name_now(actor.is_none());
            // A task of its own, so that the place is given back however it ends.
            let made = {
                let (backups, name) = (backups.clone(), name.clone());
                tokio::spawn(async move { backups.make(&name, &progress).await }).await
            };
            let made = made.unwrap_or_else(|error| Err(BackupError::Refused(error.to_string())));
            if let Err(error) = backups.told(actor, &name, &made).await {
                tracing::error!(%error, "a backup could not be written down");
            }
            let mut work = backups.lock();
            work.running = None;
            work.trouble = match made {
                Ok(made) => made.trouble(),
                Err(BackupError::Stopped) => None,
                Err(error) => Some(error.to_string()),
            };
        });
        Ok(())
    }

    async fn make(&self, name: &str, progress: &Arc<Progress>) -> Result<Made, BackupError> {
        let made = make(&self.db, &self.data_dir, &self.folder.join(name), progress).await?;
        let (folder, kept) = (self.folder.clone(), self.settings.backups_kept());
        tokio::task::spawn_blocking(move || prune(&folder, kept as usize))
            .await
            .map_err(|error| BackupError::Refused(error.to_string()))??;
        Ok(made)
    }

    /// Tells log and audit log what came of it.
    async fn told(
        &self,
        actor: Option<Actor>,
        name: &str,
        made: &Result<Made, BackupError>,
    ) -> Result<(), ServerError> {
        let detail = match made {
            Ok(made) => {
                tracing::info!(
                    name,
                    images = made.images,
                    bytes = made.bytes,
                    "a backup was made"
                );
                format!("{} images, {} bytes", made.images, made.bytes)
            }
            Err(error) => {
                tracing::warn!(name, %error, "no backup was made");
                format!("not made: {error}")
            }
        };
        match actor {
            Some(actor) => {
                let noted = self.audit.note_as(&actor, "backup.make", name, &detail);
                noted.await
            }
            // What the schedule does is no administrator's act; that it was set is.
            None => Ok(()),
        }
    }

    /// Stops the one being made; nothing of it is kept.
    ///
    /// # Errors
    /// [`AppError::NotFound`] where none is.
    pub async fn stop(&self, actor: &Actor) -> Result<(), ServerError> {
        match &self.lock().running {
            Some((_, progress)) => progress.stop(),
            None => return Err(AppError::NotFound.into()),
        }
        self.audit.note_as(actor, "backup.stop", "", "").await
    }

    /// Deletes one.
    ///
    /// # Errors
    /// [`AppError::NotFound`], or the file system's.
    pub async fn delete(&self, actor: &Actor, name: &str) -> Result<(), ServerError> {
        let path = self.path(name)?;
        tokio::fs::remove_file(&path)
            .await
            .map_err(ServerError::io(format!("deleting {}", path.display())))?;
        self.audit.note_as(actor, "backup.delete", name, "").await
    }

    /// Where a backup lies that is there.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub fn path(&self, name: &str) -> Result<PathBuf, AppError> {
        let path = self.folder.join(name);
        if is_name(name) && path.is_file() {
            Ok(path)
        } else {
            Err(AppError::NotFound)
        }
    }

    /// Writes down that somebody took one away: everything is in it.
    ///
    /// # Errors
    /// The database's.
    pub async fn note_download(&self, actor: &Actor, name: &str) -> Result<(), ServerError> {
        self.audit.note_as(actor, "backup.download", name, "").await
    }

    async fn keep_schedule(self: Arc<Self>, shutdown: Shutdown) {
        let mut tick = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = shutdown.requested() => {
                    if let Some((_, progress)) = &self.lock().running {
                        progress.stop();
                    }
                    return;
                }
                _ = tick.tick() => {}
            }
            if self.is_due().await {
                // One that is being made already is as good.
                let _ = self.begin_as(None);
            }
        }
    }

    /// Whether the latest backup, whoever wanted it, is older than the schedule says.
    async fn is_due(&self) -> bool {
        let Some(hours) = self.settings.backup_every_hours() else {
            return false;
        };
        let folder = self.folder.clone();
        let Ok(Ok(backups)) = tokio::task::spawn_blocking(move || list(&folder)).await else {
            return false;
        };
        let latest = backups.first().map_or(0, |backup| backup.at);
        now_ms() - latest >= i64::from(hours) * HOUR_MS
    }
}

/// The backups in a folder, latest first.
fn list(folder: &Path) -> Result<Vec<BackupRow>, BackupError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(BackupError::io(folder)(source)),
    };
    let mut rows: Vec<BackupRow> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let about = entry.metadata().ok()?;
            if !is_name(&name) || !about.is_file() {
                return None;
            }
            let manifest = manifest_of(&entry.path()).ok();
            Some(BackupRow {
                at: manifest
                    .as_ref()
                    .map(|manifest| manifest.created_at)
                    .or_else(|| millis(about.modified().ok()?))?,
                bytes: about.len(),
                images: manifest.map(|manifest| manifest.images),
                by_itself: name.ends_with(BY_ITSELF),
                name,
            })
        })
        .collect();
    rows.sort_by(|a, b| (b.at, &b.name).cmp(&(a.at, &a.name)));
    Ok(rows)
}

fn millis(time: SystemTime) -> Option<i64> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

/// Deletes what the schedule made, all but the latest.
fn prune(folder: &Path, kept: usize) -> Result<(), BackupError> {
    let by_itself = list(folder)?.into_iter().filter(|row| row.by_itself);
    for row in by_itself.skip(kept) {
        let path = folder.join(row.name);
        fs::remove_file(&path).map_err(BackupError::io(&path))?;
    }
    Ok(())
}

/// Removes what an interrupted run left behind.
fn remove_parts(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let is_part = entry.file_name().to_string_lossy().contains(PART);
        let is_old = entry
            .metadata()
            .and_then(|about| about.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > PART_AGE));
        if is_part && is_old {
            // What cannot be removed now is tried again at the next start.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_and_never_paths() {
        assert!(is_name(&name_now(false)) && is_name(&name_now(true)));
        for other in [
            "",
            "atelier-1.tar.part",
            "atelier-../../x.tar",
            "atelier-A.tar",
            "x.tar",
            "../atelier-1.tar",
        ] {
            assert!(!is_name(other), "{other}");
        }
    }

    #[test]
    fn only_what_the_schedule_made_is_pruned() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["atelier-1.tar", "atelier-2-auto.tar", "atelier-3-auto.tar"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        prune(dir.path(), 1).unwrap();
        let left = list(dir.path()).unwrap();
        let mut names: Vec<&str> = left.iter().map(|row| row.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(names[0], "atelier-1.tar");
    }
}
