//! The SQLite pool: its pragmas, its migrations, and the one way to write.
//!
//! An answer that says "accepted" must survive a power cut, so every connection runs in WAL mode
//! with `synchronous=FULL`, and a connection that reads anything else back is refused.

use crate::startup::StartupError;
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, Transaction};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The first SQLite release without the WAL-reset bug (lost or corrupted commits).
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);

/// How long a write waits for other writers before it is told "busy".
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pool: SqlitePool,
    /// Writers of this process queue here in order: SQLite's own lock is polled, and unfair.
    turn: Arc<Mutex<()>>,
}

impl Db {
    /// Opens the file, makes it when missing, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StartupError::Database`] when the file cannot be opened or is not ours, when its schema is
    /// newer than this program, or when a connection does not have the durability it was asked for.
    pub async fn open(path: &Path) -> Result<Self, StartupError> {
        let db = Self::connect_with(path, true).await?;
        MIGRATIONS
            .run(&db.pool)
            .await
            .map_err(|error| StartupError::database(path, sqlx::Error::from(error)))?;
        Ok(db)
    }

    /// Opens a file whose schema another process of ours (the server) brought up to date.
    ///
    /// # Errors
    /// [`StartupError::Database`] when there is no such file, or as [`Db::open`].
    pub async fn connect(path: &Path) -> Result<Self, StartupError> {
        Self::connect_with(path, false).await
    }

    async fn connect_with(path: &Path, create: bool) -> Result<Self, StartupError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(create)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(8)
            .acquire_timeout(BUSY_TIMEOUT)
            .after_connect(|connection, _| Box::pin(check_durability(connection)))
            .connect_with(options)
            .await
            .map_err(|error| StartupError::database(path, error))?;
        Ok(Self {
            pool,
            turn: Arc::default(),
        })
    }

    /// For statements that only read.
    pub fn read(&self) -> &SqlitePool {
        &self.pool
    }

    /// Opens a write transaction. It takes the write lock at once (`BEGIN IMMEDIATE`), so it never
    /// fails halfway for want of it; dropped without [`Write::commit`] it rolls back, also when
    /// its future is dropped. Keep it short and await nothing else inside.
    ///
    /// # Errors
    /// A "database is locked" error when other writers kept it for ten seconds.
    pub async fn write(&self) -> Result<Write, sqlx::Error> {
        let turn = tokio::time::timeout(BUSY_TIMEOUT, self.turn.clone().lock_owned())
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?;
        let transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Write {
            transaction,
            _turn: turn,
        })
    }

    /// Copies everything, as it is at one moment, into a new file; writers go on meanwhile.
    ///
    /// # Errors
    /// The database's, or where the file is there already.
    pub async fn copy_into(&self, path: &Path) -> Result<(), sqlx::Error> {
        sqlx::query("vacuum into ?")
            .bind(path.to_string_lossy().into_owned())
            .execute(&self.pool)
            .await
            .map(|_| ())
    }

    /// Closes all connections, after which SQLite folds the WAL into the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A write transaction; use `&mut *write` as the executor.
pub struct Write {
    // Field order is drop order: roll back first, then let the next writer in.
    transaction: Transaction<'static, Sqlite>,
    _turn: OwnedMutexGuard<()>,
}

impl Write {
    /// Makes everything durable.
    ///
    /// # Errors
    /// As the database says; nothing of the transaction is kept then.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.transaction.commit().await
    }
}

impl Deref for Write {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.transaction
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }
}

/// Refuses a connection that would lose acknowledged work.
async fn check_durability(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let journal_mode: String = sqlx::query_scalar("pragma journal_mode")
        .fetch_one(&mut *connection)
        .await?;
    let synchronous: i64 = sqlx::query_scalar("pragma synchronous")
        .fetch_one(&mut *connection)
        .await?;
    let foreign_keys: i64 = sqlx::query_scalar("pragma foreign_keys")
        .fetch_one(&mut *connection)
        .await?;
    let version: String = sqlx::query_scalar("select sqlite_version()")
        .fetch_one(&mut *connection)
        .await?;
    connection.ping().await?;
    if journal_mode != "wal" || synchronous != 2 || foreign_keys != 1 {
        return Err(sqlx::Error::Configuration(
            format!(
                "the database runs with journal_mode={journal_mode}, synchronous={synchronous}, \
                 foreign_keys={foreign_keys} where wal, 2, 1 is needed (is the data folder on a \
                 network drive?)"
            )
            .into(),
        ));
    }
    if parse_version(&version).is_none_or(|version| version < OLDEST_SQLITE) {
        return Err(sqlx::Error::Configuration(
            format!("SQLite {version} can lose commits (WAL-reset bug); 3.51.3 or newer is needed")
                .into(),
        ));
    }
    Ok(())
}

fn parse_version(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    Some((
        parts.next()??,
        parts.next()??,
        parts.next().flatten().unwrap_or(0),
    ))
}

/// Now, in Unix milliseconds.
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
