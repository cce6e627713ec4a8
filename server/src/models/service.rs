//! Models as administrators manage them while the server runs: fetches and checks in the
//! background, removing, the default. What is fetched can be used at once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atelier_app::account::Role;
use atelier_app::admin::{FetchRow, FetchState, ModelCheck, ModelRow, ModelsReport, NewFetch};
use atelier_app::backend::Answer;
use atelier_app::error::AppError;
use tokio::task::AbortHandle;

use super::ModelsError;
use super::catalog::{Catalog, Entry, Origin, manifest_of};
use super::command::remove_from;
use super::fetch::{self, FetchError, Unfinished, Wish, bytes_in, free_space};
use super::hub::{Address, Hub};
use super::manifest::Checked;
use super::store;
use super::tally::Tally;
use super::verify::verify;
use crate::audit::{Actor, store as audit};
use crate::config::{ServeConfig, proxies};
use crate::db::{Db, now_ms};
use crate::error::ServerError;
use crate::startup::StartupError;

/// The room of models.
pub struct ModelService {
    catalog: Arc<Catalog>,
    db: Db,
    config: Arc<ServeConfig>,
    hub: Arc<Hub>,
    /// What runs or has failed, by the model's name.
    work: Mutex<BTreeMap<String, Arc<Work>>>,
}

/// A fetch or a check in the background.
struct Work {
    kind: Kind,
    tally: Mutex<Tally>,
    /// Bytes read and to be read, of a check.
    read: Mutex<(u64, u64)>,
    stopped: AtomicBool,
    abort: Mutex<Option<AbortHandle>>,
    /// Why it ended without success.
    error: Mutex<Option<String>>,
}

#[derive(Clone)]
enum Kind {
    Fetch(Wish),
    Check,
    Repair,
}

impl Work {
    fn new(kind: Kind) -> Arc<Self> {
        Arc::new(Self {
            kind,
            tally: Mutex::default(),
            read: Mutex::default(),
            stopped: AtomicBool::new(false),
            abort: Mutex::default(),
            error: Mutex::default(),
        })
    }

    fn is_running(&self) -> bool {
        lock(&self.error).is_none()
    }

    fn watch(self: &Arc<Self>) -> fetch::Watch {
        let work = self.clone();
        Arc::new(move |event| lock(&work.tally).hear(&event))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ModelService {
    /// Reads the models' configs and the default that was chosen.
    ///
    /// # Errors
    /// [`StartupError::Setting`] where no model can be used or the default named on the command line
    /// is not there.
    pub async fn open(db: Db, config: Arc<ServeConfig>) -> Result<Arc<Self>, StartupError> {
        let chosen = store::default_model(&db).await.map_err(ServerError::from)?;
        let named: Vec<(String, PathBuf)> = config
            .models
            .folders
            .iter()
            .map(|folder| (folder.name.clone(), folder.path.clone()))
            .collect();
        let (data_dir, fixed) = (config.data_dir.path.clone(), config.default_model.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let catalog = Catalog::open(&data_dir, &named, fixed.as_deref())?;
            // The command line goes before what was chosen in the page; a chosen model that is gone
            // keeps nobody from starting.
            if let (None, Some(chosen)) = (&fixed, &chosen)
                && let Err(error) = catalog.set_default(chosen)
            {
                tracing::warn!(%error, "the default model that was chosen is gone");
            }
            Ok::<_, ModelsError>(catalog)
        });
        let catalog = opened
            .await
            .map_err(|error| StartupError::Setting(error.to_string()))?
            .map_err(|error| StartupError::Setting(error.to_string()))?;
        catalog.set_access(store::access(&db).await.map_err(ServerError::from)?);
        let hub = Hub::new(config.hub.settings(), proxies());
        Ok(Arc::new(Self {
            catalog: Arc::new(catalog),
            db,
            config,
            hub: Arc::new(hub),
            work: Mutex::default(),
        }))
    }

    /// The list that requests are answered from.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Everything an administrator may know.
    ///
    /// # Errors
    /// [`AppError`] in words.
    pub async fn report(self: &Arc<Self>) -> Answer<ModelsReport> {
        let default = self.catalog.fresh().await.find(None)?.summary.name.clone();
        let service = self.clone();
        let (models, unfinished, free_bytes) = tokio::task::spawn_blocking(move || {
            let entries = service.catalog.entries();
            let models: Vec<ModelRow> = entries
                .iter()
                .map(|entry| service.row(entry, &default))
                .collect();
            let models_dir = service.catalog.models_dir();
            let unfinished = fetch::unfinished(models_dir);
            (models, unfinished, free_space(models_dir).ok())
        })
        .await
        .map_err(|error| ServerError::broken(error.to_string()))?;
        Ok(ModelsReport {
            models,
            fetches: self.fetches(unfinished),
            folder: self.catalog.models_dir().display().to_string(),
            free_bytes,
            endpoint: self
                .config
                .hub
                .endpoint
                .as_str()
                .trim_end_matches('/')
                .to_owned(),
            has_token: self.config.hub.settings().token.is_some(),
            default_is_fixed: self.config.default_model.is_some(),
        })
    }

    fn row(&self, entry: &Entry, default: &str) -> ModelRow {
        let model = entry.model.as_ref().ok();
        let manifest = manifest_of(entry);
        let checked = Checked::read(&entry.path);
        let work = lock(&self.work).get(&entry.name).cloned();
        let work = work.filter(|work| !matches!(work.kind, Kind::Fetch(_)));
        let check = match (&work, checked) {
            (Some(work), _) if work.is_running() => {
                let (have, total) = if matches!(work.kind, Kind::Repair) {
                    let tally = lock(&work.tally);
                    (tally.have(), tally.total().unwrap_or(0))
                } else {
                    *lock(&work.read)
                };
                ModelCheck::Running {
                    repairs: matches!(work.kind, Kind::Repair),
                    done: (total > 0).then(|| have as f64 / total as f64),
                }
            }
            (Some(work), _) => ModelCheck::Failed {
                message: lock(&work.error).clone().unwrap_or_default(),
            },
            (None, None) => ModelCheck::Never,
            (None, Some(checked)) if checked.damaged.is_empty() => ModelCheck::Sound {
                at: checked.at,
                by_checksum: checked.by_checksum,
            },
            (None, Some(checked)) => ModelCheck::Damaged {
                at: checked.at,
                faults: checked.damaged,
                can_repair: manifest.is_some() && entry.origin == Origin::Folder,
            },
        };
        ModelRow {
            name: entry.name.clone(),
            description: model.map(|model| model.summary.description.clone()),
            kind: model.map(|model| model.description.kind.clone()),
            bytes: if entry.path.is_file() {
                std::fs::metadata(&entry.path).map_or(0, |about| about.len())
            } else {
                bytes_in(&entry.path)
            },
            dtype: model.map(|model| model.description.stored_dtype.clone()),
            default_steps: model.map(|model| model.summary.default_steps),
            default_guidance_scale: model.map(|model| model.summary.default_guidance_scale),
            path: entry.path.display().to_string(),
            origin: match (entry.origin, manifest) {
                (Origin::BuiltIn, _) => "part of this program".into(),
                (_, Some(manifest)) => manifest.origin(),
                (Origin::Named, None) => "named with --model".into(),
                (Origin::Folder, None) => "copied here".into(),
            },
            is_default: entry.name == default,
            can_be_default: model.is_some_and(|model| !model.is_refiner()),
            can_be_removed: entry.origin == Origin::Folder,
            problem: entry.model.as_ref().err().cloned(),
            check,
            least_role: self.catalog.access().least(&entry.name),
        }
    }

    /// What runs, what has failed, and what an earlier run of the server has left.
    fn fetches(&self, mut unfinished: BTreeMap<String, Unfinished>) -> Vec<FetchRow> {
        let mut rows = Vec::new();
        for (name, work) in lock(&self.work).iter() {
            let Kind::Fetch(wish) = &work.kind else {
                unfinished.remove(name);
                continue;
            };
            let left = unfinished.remove(name);
            let tally = lock(&work.tally);
            let error = lock(&work.error).clone();
            let is_running = error.is_none();
            let (have, total) = match (&left, is_running) {
                (Some(left), false) => (left.have, left.total),
                _ => (tally.have(), tally.total()),
            };
            rows.push(FetchRow {
                state: if is_running {
                    FetchState::Running
                } else {
                    FetchState::Failed
                },
                have,
                total,
                files_done: tally.done() as u32,
                files: tally.files.len() as u32,
                bytes_per_s: tally.rate().filter(|_| is_running),
                seconds_left: tally.seconds_left().filter(|_| is_running),
                current: tally
                    .current()
                    .iter()
                    .map(|path| (*path).to_owned())
                    .collect(),
                trouble: error.or_else(|| tally.trouble.clone()),
                can_resume: !is_running,
                ..row_of(wish)
            });
        }
        rows.extend(unfinished.into_values().map(|left| FetchRow {
            state: FetchState::Interrupted,
            have: left.have,
            total: left.total,
            can_resume: true,
            ..row_of(&left.wish)
        }));
        rows
    }

    /// Begins a fetch in the background.
    ///
    /// # Errors
    /// [`AppError::Invalid`] naming the field.
    pub fn begin_fetch(self: &Arc<Self>, asked: NewFetch) -> Answer<()> {
        let invalid = |field: &str| {
            let field = field.to_owned();
            move |why: String| AppError::invalid(field, why)
        };
        let address: Address = asked.model.parse().map_err(invalid("model"))?;
        let variant = asked.variant.parse().map_err(invalid("variant"))?;
        let name = asked
            .name
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty());
        let wish = Wish::new(address, name.as_deref(), variant).map_err(invalid("name"))?;
        let taken = self
            .catalog
            .entries()
            .iter()
            .any(|entry| entry.name == wish.name);
        if taken {
            return Err(AppError::invalid(
                "name",
                format!(
                    "There is a model named {} already; choose another name, or remove it first.",
                    wish.name
                ),
            ));
        }
        self.start_fetch(wish)
    }

    /// Goes on with a fetch that failed or was interrupted.
    ///
    /// # Errors
    /// [`AppError::NotFound`] where there is none.
    pub fn resume_fetch(self: &Arc<Self>, name: &str) -> Answer<()> {
        let known = lock(&self.work).get(name).cloned();
        let wish = match known.map(|work| work.kind.clone()) {
            Some(Kind::Fetch(wish)) => wish,
            _ => fetch::unfinished(self.catalog.models_dir())
                .remove(name)
                .map(|left| left.wish)
                .ok_or(AppError::NotFound)?,
        };
        self.start_fetch(wish)
    }

    fn start_fetch(self: &Arc<Self>, wish: Wish) -> Answer<()> {
        let name = wish.name.clone();
        let work = self.enter(&name, Kind::Fetch(wish.clone()))?;
        let (service, at_work) = (self.clone(), work.clone());
        tracing::info!(model = name, repo = %wish.repo, "a model is being fetched");
        let task = tokio::spawn(async move {
            let models_dir = service.catalog.models_dir().to_owned();
            let watch = at_work.watch();
            let fetched = fetch::fetch(&service.hub, &models_dir, &wish, &watch).await;
            service.rescan().await;
            service.leave(&wish.name, &at_work, fetched.map(|_| ()));
        });
        *lock(&work.abort) = Some(task.abort_handle());
        Ok(())
    }

    /// Stops a running fetch; what has come stays.
    ///
    /// # Errors
    /// [`AppError::NotFound`] where none runs.
    pub fn stop_fetch(&self, name: &str) -> Answer<()> {
        let mut all = lock(&self.work);
        let work = all
            .get(name)
            .filter(|work| work.is_running() && matches!(work.kind, Kind::Fetch(_)))
            .cloned()
            .ok_or(AppError::NotFound)?;
        if let Some(task) = lock(&work.abort).take() {
            task.abort();
        }
        // What is left is found on disk, as after a restart.
        all.remove(name);
        Ok(())
    }

    /// Throws away what a fetch has left.
    ///
    /// # Errors
    /// [`AppError::Unavailable`] while it runs.
    pub async fn discard_fetch(self: &Arc<Self>, name: &str) -> Answer<()> {
        let failed = {
            let all = lock(&self.work);
            let work = all
                .get(name)
                .filter(|work| matches!(work.kind, Kind::Fetch(_)));
            if work.is_some_and(|work| work.is_running()) {
                return Err(busy(name));
            }
            work.is_some()
        };
        let (models_dir, wanted) = (self.catalog.models_dir().to_owned(), name.to_owned());
        let done = tokio::task::spawn_blocking(move || {
            if fetch::unfinished(&models_dir).contains_key(&wanted) {
                return fetch::discard(&models_dir, &wanted);
            }
            // One that failed before anything came has left nothing on disk.
            if failed {
                Ok(())
            } else {
                Err(FetchError::Refused(String::new()))
            }
        })
        .await
        .map_err(|error| ServerError::broken(error.to_string()))?;
        match done {
            Ok(()) => {
                lock(&self.work).remove(name);
                Ok(())
            }
            Err(FetchError::Refused(why)) if why.is_empty() => Err(AppError::NotFound),
            Err(error) => Err(AppError::Unavailable {
                message: error.to_string(),
            }),
        }
    }

    /// Checks a model in the background, and fetches damaged files again if that is wanted.
    ///
    /// # Errors
    /// [`AppError::NotFound`], or [`AppError::Unavailable`] while something else is done to it.
    pub fn begin_check(self: &Arc<Self>, name: &str, repair: bool) -> Answer<()> {
        let entry = self.entry(name)?;
        if repair && entry.origin != Origin::Folder {
            return Err(AppError::invalid(
                "name",
                format!("{name} was not fetched here, so it cannot be repaired."),
            ));
        }
        let work = self.enter(name, Kind::Check)?;
        let (service, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            let done = service.check(&name, &entry, work.clone(), repair).await;
            service.rescan().await;
            let now = lock(&service.work).get(&name).cloned();
            service.leave(&name, &now.unwrap_or(work), done);
        });
        Ok(())
    }

    async fn check(
        &self,
        name: &str,
        entry: &Entry,
        work: Arc<Work>,
        repair: bool,
    ) -> Result<(), FetchError> {
        let found = look(entry.path.clone(), work).await?;
        if !repair || found.damaged.is_empty() {
            return Ok(());
        }
        let work = Work::new(Kind::Repair);
        lock(&self.work).insert(name.to_owned(), work.clone());
        let damaged: Vec<String> = found
            .damaged
            .into_iter()
            .map(|damage| damage.path)
            .collect();
        let watch = work.watch();
        fetch::repair(&self.hub, self.catalog.models_dir(), name, &damaged, &watch).await?;
        let work = Work::new(Kind::Check);
        lock(&self.work).insert(name.to_owned(), work.clone());
        look(entry.path.clone(), work).await.map(|_| ())
    }

    /// Removes a model from the disk.
    ///
    /// # Errors
    /// [`AppError::NotFound`], or [`AppError::Unavailable`] saying why not now.
    pub async fn remove(self: &Arc<Self>, name: &str) -> Answer<()> {
        let entry = self.entry(name)?;
        if entry.origin != Origin::Folder {
            return Err(AppError::invalid(
                "name",
                format!("{name} does not lie in the folder of models, so it is not removed here."),
            ));
        }
        let work = lock(&self.work).get(name).cloned();
        if work.is_some_and(|work| work.is_running()) {
            return Err(busy(name));
        }
        let (models_dir, wanted) = (self.catalog.models_dir().to_owned(), name.to_owned());
        tokio::task::spawn_blocking(move || remove_from(&models_dir, &wanted))
            .await
            .map_err(|error| ServerError::broken(error.to_string()))?
            .map_err(|message| AppError::Unavailable { message })?;
        lock(&self.work).remove(name);
        tracing::info!(model = name, "a model was removed");
        self.rescan().await;
        Ok(())
    }

    /// The model of requests that name none, from now on and after a restart.
    ///
    /// # Errors
    /// [`AppError::Invalid`] where there is no such model or the command line says otherwise.
    pub async fn set_default(&self, name: &str) -> Answer<()> {
        self.choose_default(Some(name))?;
        Ok(store::set_default_model(&self.db, name)
            .await
            .map_err(ServerError::from)?)
    }

    /// The names that can be the default, the one that is where nobody chose, and the one that is.
    ///
    /// # Errors
    /// Never, as long as there is a model.
    pub async fn default_choice(&self) -> Answer<(Vec<String>, String, String)> {
        let now = self.catalog.fresh().await.find(None)?.summary.name.clone();
        let names = self.catalog.names();
        let first = names.first().cloned().unwrap_or_default();
        Ok((names, first, now))
    }

    /// Sets the least role that may see and use a model. What was asked for before is still made.
    ///
    /// # Errors
    /// [`AppError::NotFound`] where there is no such model.
    pub async fn set_access(
        &self,
        actor: &Actor,
        name: &str,
        least: Role,
    ) -> Result<(), ServerError> {
        self.entry(name)?;
        let mut access = (*self.catalog.access()).clone();
        if access.least(name) == least {
            return Ok(());
        }
        access.set(name, least);
        let now = now_ms();
        let mut write = self.db.write().await?;
        store::set_access(&mut write, name, least).await?;
        let detail = super::access::words(least);
        audit::insert(&mut write, actor, "model.access", name, detail, now).await?;
        write.commit().await?;
        self.catalog.set_access(access);
        Ok(())
    }

    /// The default from now on, not written down; `None` for the first model.
    ///
    /// # Errors
    /// As [`ModelService::set_default`].
    pub fn choose_default(&self, name: Option<&str>) -> Answer<()> {
        if let Some(fixed) = &self.config.default_model {
            return Err(AppError::invalid(
                "name",
                format!(
                    "The server was started with --default-model {fixed}, which goes before this choice."
                ),
            ));
        }
        let done = match name {
            Some(name) => self.catalog.set_default(name),
            None => self.catalog.reset_default(),
        };
        done.map_err(|error| match error {
            ModelsError::UnknownDefault { names, .. } => AppError::invalid(
                "name",
                format!("There is no such model to choose. There are: {names}."),
            ),
            other => AppError::invalid("name", other.to_string()),
        })
    }

    /// Looks through all folders again.
    pub async fn rescan(&self) {
        let catalog = self.catalog.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || catalog.rescan()).await {
            tracing::error!(%error, "the folder of models could not be looked through");
        }
    }

    fn entry(&self, name: &str) -> Answer<Entry> {
        let entries = self.catalog.entries();
        let found = entries.iter().find(|entry| entry.name == name);
        found.cloned().ok_or(AppError::NotFound)
    }

    /// Makes a name busy; what failed before makes room.
    fn enter(&self, name: &str, kind: Kind) -> Answer<Arc<Work>> {
        let mut all = lock(&self.work);
        if all.get(name).is_some_and(|work| work.is_running()) {
            return Err(busy(name));
        }
        let work = Work::new(kind);
        all.insert(name.to_owned(), work.clone());
        Ok(work)
    }

    fn leave(&self, name: &str, work: &Arc<Work>, done: Result<(), FetchError>) {
        match done {
            Ok(()) => {
                let mut all = lock(&self.work);
                if all.get(name).is_some_and(|now| Arc::ptr_eq(now, work)) {
                    all.remove(name);
                }
            }
            Err(error) => {
                let words = error.to_string();
                tracing::warn!(
                    model = name,
                    error = words,
                    "work on a model ended without success"
                );
                *lock(&work.error) = Some(words);
            }
        }
    }
}

impl Drop for ModelService {
    fn drop(&mut self) {
        for work in lock(&self.work).values() {
            work.stopped.store(true, Ordering::Release);
        }
    }
}

async fn look(path: PathBuf, work: Arc<Work>) -> Result<super::verify::Verdict, FetchError> {
    super::part::blocking(move || {
        verify(&path, &mut |read, all| {
            *lock(&work.read) = (read, all);
            !work.stopped.load(Ordering::Acquire)
        })
        .map_err(FetchError::Refused)
    })
    .await
}

fn busy(name: &str) -> AppError {
    AppError::Unavailable {
        message: format!(
            "{name} is being fetched or checked; wait until that has ended, or stop it."
        ),
    }
}

fn row_of(wish: &Wish) -> FetchRow {
    FetchRow {
        name: wish.name.clone(),
        source: match &wish.file {
            Some(file) => format!("{}/{file}", wish.repo),
            None => wish.repo.to_string(),
        },
        variant: wish.variant.to_string(),
        ..FetchRow::default()
    }
}
