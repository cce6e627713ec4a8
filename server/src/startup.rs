//! `Application::build(config)`: the only place where the parts are joined. Tests build the same
//! application and change nothing but the configuration.

use crate::accounts::AccountService;
use crate::accounts::departure::Departures;
use crate::accounts::people::PeopleService;
use crate::admin::{AdminService, Rooms};
use crate::audit::Audit;
use crate::backup::Backups;
use crate::config::{ServeConfig, make_folder};
use crate::db::Db;
use crate::devices::Devices;
use crate::devices::vitals::{Vitals, VitalsConfig};
use crate::error::ServerError;
use crate::gallery::GalleryService;
use crate::http;
use crate::jobs::JobService;
use crate::models::service::ModelService;
use crate::oidc::OidcService;
use crate::settings::RunTime;
use crate::studio::StudioService;
use crate::uploads::UploadService;
use atelier_app::backend::Backend;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How long a running job and open requests may take to finish after a stop was asked for.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);

/// Why the server does not start; each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The database file cannot be used.
    #[error("cannot open the database {}: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite or the migrations said.
        source: Box<sqlx::Error>,
    },
    /// A folder cannot be made.
    #[error("cannot make the folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source} (choose another with --addr)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A part of the server could not start.
    #[error(transparent)]
    Part(#[from] ServerError),
    /// A setting that cannot be used; the words name it.
    #[error("{0}")]
    Setting(String),
}

impl StartupError {
    pub(crate) fn database(path: &Path, source: sqlx::Error) -> Self {
        Self::Database {
            path: path.to_owned(),
            source: Box::new(source),
        }
    }
}

/// Tells every long-lived task that the server stops. Cheap to clone.
#[derive(Clone)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Default for Shutdown {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Shutdown {
    /// Asks everything to stop.
    pub fn request(&self) {
        self.0.send_replace(true);
    }

    /// Whether a stop was asked for.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until a stop is asked for.
    pub async fn requested(&self) {
        let mut receiver = self.0.subscribe();
        // The sender lives in `self`, so waiting cannot fail while it is waited on.
        let _ = receiver.wait_for(|stop| *stop).await;
    }
}

/// Every room of the server, joined.
#[derive(Clone)]
pub struct Services {
    /// What the process was started with.
    pub config: Arc<ServeConfig>,
    /// The database.
    pub db: Db,
    /// Users, passwords, sessions, tokens.
    pub accounts: Arc<AccountService>,
    /// The queue and its worker.
    pub jobs: Arc<JobService>,
    /// Images.
    pub gallery: Arc<GalleryService>,
    /// What people keep for the studio.
    pub studio: Arc<StudioService>,
    /// Images that people send to start from.
    pub uploads: Arc<UploadService>,
    /// What administrators may ask.
    pub admin: Arc<AdminService>,
    /// Who may come in and do what.
    pub people: Arc<PeopleService>,
    /// What administrators did.
    pub audit: Audit,
    /// The provider that people may sign in through, where there is one.
    pub oidc: Option<Arc<OidcService>>,
    /// Hardware and the decision about it.
    pub devices: Arc<Devices>,
    /// Weights on disk.
    pub models: Arc<ModelService>,
    /// Load, memory and temperature over the last hour.
    pub vitals: Arc<Vitals>,
    /// What can be set while the server runs.
    pub settings: Arc<RunTime>,
    /// Copies of everything.
    pub backups: Arc<Backups>,
    /// Tells when the server stops.
    pub shutdown: Shutdown,
}

impl Services {
    /// The port, as pages and server functions see it.
    pub fn backend(&self) -> Backend {
        Backend {
            accounts: self.accounts.clone(),
            jobs: self.jobs.clone(),
            studio: self.studio.clone(),
            gallery: self.gallery.clone(),
            admin: self.admin.clone(),
            models: self.admin.clone(),
            operations: self.admin.clone(),
            people: self.people.clone(),
            outside: self.oidc.as_ref().map(|oidc| oidc.name().to_owned()),
        }
    }
}

/// A server that listens, with everything joined, ready to run.
pub struct Application {
    address: SocketAddr,
    listener: TcpListener,
    router: axum::Router,
    services: Services,
    setup_code: Option<String>,
}

impl Application {
    /// Opens the data folder, starts the parts and binds the address.
    ///
    /// # Errors
    /// [`StartupError`], in one line for whoever started it.
    pub async fn build(config: ServeConfig) -> Result<Self, StartupError> {
        // The address first: a second server on the same data folder then fails before it touches it.
        let listener =
            TcpListener::bind(config.addr)
                .await
                .map_err(|source| StartupError::Listen {
                    address: config.addr,
                    source,
                })?;
        let address = listener
            .local_addr()
            .map_err(|source| StartupError::Listen {
                address: config.addr,
                source,
            })?;

        make_folder(&config.data_dir.path)?;
        let config = Arc::new(config);
        let shutdown = Shutdown::default();
        let db = Db::open(&config.data_dir.database()).await?;
        let (accounts, setup_code) = AccountService::open(db.clone(), &config).await?;
        let oidc = OidcService::open(accounts.clone(), &config)?;
        let settings = RunTime::open(db.clone(), config.clone()).await?;
        let models = ModelService::open(db.clone(), config.clone()).await?;
        let devices = Devices::start(db.clone(), config.clone()).await?;
        let gallery = GalleryService::open(db.clone(), &config).await?;
        let uploads = UploadService::open(db.clone(), &config, gallery.clone()).await?;
        let jobs = JobService::start(
            db.clone(),
            settings.clone(),
            devices.clone(),
            models.catalog().clone(),
            gallery.clone(),
            uploads.clone(),
            shutdown.clone(),
        )
        .await?;
        let studio = StudioService::new(db.clone(), jobs.add_ons().clone());
        let audit = Audit::new(db.clone());
        let of_machine = VitalsConfig::of_this_machine(config.program());
        let vitals = Vitals::start(of_machine, shutdown.clone());
        let backups = Backups::start(
            db.clone(),
            &config.data_dir.path,
            settings.clone(),
            shutdown.clone(),
        );
        let admin = Arc::new(AdminService::new(Rooms {
            accounts: accounts.clone(),
            devices: devices.clone(),
            jobs: jobs.clone(),
            models: models.clone(),
            audit: audit.clone(),
            vitals: vitals.clone(),
            settings: settings.clone(),
            backups: backups.clone(),
        }));
        let departures = Departures::open(db.clone(), &config.data_dir.path)?;
        let people = Arc::new(PeopleService::new(
            accounts.clone(),
            audit.clone(),
            jobs.clone(),
            gallery.clone(),
            departures,
        ));
        let services = Services {
            config,
            db,
            accounts,
            jobs,
            gallery,
            studio,
            uploads,
            admin,
            people,
            audit,
            oidc,
            devices,
            models,
            vitals,
            settings,
            backups,
            shutdown,
        };
        let router = http::router(services.clone())?;
        Ok(Self {
            address,
            listener,
            router,
            services,
            setup_code,
        })
    }

    /// Where it listens (the real port, where port 0 was asked for).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The one-time code that makes the first administrator; `None` once there is a user.
    pub fn setup_code(&self) -> Option<&str> {
        self.setup_code.as_deref()
    }

    /// The rooms, for whoever runs the application from inside (tests).
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// The whole site, for whoever sends requests from inside (tests).
    pub fn router(&self) -> axum::Router {
        self.router.clone()
    }

    /// Says on standard output what a person needs to begin.
    pub fn announce(&self) {
        let mut lines = self.services.devices.decision();
        if let Some(code) = &self.setup_code {
            lines += &format!("\nSetup code: {code}");
        }
        lines += &format!("\nAtelier is ready: http://{}\n", self.address);
        // Whoever reads only the first line and hangs up must not end the server.
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
    }

    /// Answers requests until [`Shutdown::request`]; then lets requests and the running job finish
    /// within [`SHUTDOWN_GRACE`], and closes the database.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run_until_stopped(self) -> Result<(), StartupError> {
        let Self {
            address,
            listener,
            router,
            services,
            ..
        } = self;
        let stop = services.shutdown.clone();
        let server = axum::serve(
            listener,
            router.into_make_service_with_connect_info::<SocketAddr>(),
        )
        .with_graceful_shutdown({
            let stop = stop.clone();
            async move { stop.requested().await }
        });
        let drained = async {
            stop.requested().await;
            // A client that never finishes its request must not keep the server from stopping.
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        };
        let served = async {
            tokio::select! {
                served = server.into_future() => served,
                () = drained => Ok(()),
            }
        };
        let jobs = async {
            stop.requested().await;
            services.jobs.stop(SHUTDOWN_GRACE).await;
        };
        let result = {
            tokio::pin!(served, jobs);
            tokio::select! {
                served = &mut served => { stop.request(); jobs.await; served }
                () = &mut jobs => served.await,
            }
        };
        services.db.close().await;
        result.map_err(|source| StartupError::Listen { address, source })
    }
}

/// Waits for SIGTERM or ctrl-c and asks for a stop; a second signal ends the process at once.
pub async fn stop_on_signal(shutdown: Shutdown) {
    wait_for_signal().await;
    tracing::info!("stopping: the running job may finish, or goes back to the queue");
    shutdown.request();
    wait_for_signal().await;
    tracing::warn!("second signal: stopping at once");
    std::process::exit(1);
}

#[cfg(unix)]
async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

#[cfg(not(unix))]
async fn wait_for_signal() {
    let _ = tokio::signal::ctrl_c().await;
}
