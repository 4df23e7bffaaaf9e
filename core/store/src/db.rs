//! Connections to the database file; the only module that knows which database it is.
//!
//! Invariant: a connection is used only while the file it opened still lies at the store's path. A file that was
//! moved away is left complete (its write-ahead log goes into it, never into the one that took its place).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqlSafeStr};

use crate::error::StoreError;
use crate::place::Place;

/// The database, by one name for all modules.
pub(crate) type Database = sqlx::Sqlite;
/// A connection to it.
pub(crate) type Conn = sqlx::SqliteConnection;
/// One row of an answer.
pub(crate) type Row = sqlx::sqlite::SqliteRow;

/// One line for each migration, in order; a released one is never edited.
const MIGRATIONS: &[(i64, &str, &str)] =
    &[(1, "accounts", include_str!("../migrations/sqlite/0001_accounts.sql"))];

/// What tells a file from another that took its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId(u64, u64);

/// A connection and the file it reads.
pub(crate) struct Link {
    /// The open connection.
    pub(crate) conn: Conn,
    /// The file it was opened on.
    pub(crate) file: FileId,
    real: PathBuf,
    /// The write-ahead log and its index, as they were when it was opened.
    beside: [(PathBuf, Option<FileId>); 2],
}

/// How connections are made.
#[derive(Debug, Clone)]
pub(crate) struct Db {
    place: Place,
    patience: Duration,
}

impl Db {
    /// Connections that wait for a lock at most `patience`.
    pub(crate) fn new(place: Place, patience: Duration) -> Self {
        Self { place, patience }
    }

    /// The same file, with another patience.
    pub(crate) fn with_patience(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    /// Creates the file if there is none, readable by its owner alone: it holds password hashes.
    pub(crate) fn create(&self) -> Result<(), StoreError> {
        let unreachable = |error: std::io::Error| StoreError::Unreachable {
            path: self.path().to_path_buf(),
            why: error.to_string(),
        };
        if let Some(folder) = self.path().parent() {
            let mut builder = fs::DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.recursive(true).create(folder).map_err(unreachable)?;
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(self.path()) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map(drop).map_err(unreachable),
        }
    }

    /// Connects and brings the schema up to date. An empty file becomes a store only if `may_found`.
    pub(crate) async fn connect(&self, may_found: bool) -> Result<Link, StoreError> {
        let file = self.file_id().await?;
        let options = SqliteConnectOptions::new()
            .filename(self.path())
            .create_if_missing(false)
            .foreign_keys(true)
            .busy_timeout(self.patience)
            .synchronous(SqliteSynchronous::Normal)
            .disable_statement_logging();
        let conn = options.connect().await.map_err(|error| self.sort(error))?;
        // The write-ahead log and its index lie beside what a symlink points to.
        let real = tokio::fs::canonicalize(self.path()).await.unwrap_or_else(|_| self.path().to_path_buf());
        let beside = ["-wal", "-shm"].map(|suffix| (with_suffix(&real, suffix), None));
        let mut link = Link { conn, file, real, beside };
        let migrated = self.migrate(&mut link.conn, may_found).await;
        if let Err(error) = migrated {
            link.close().await;
            return Err(error);
        }
        if self.file_id().await? != link.file {
            link.abandon().await;
            return Err(StoreError::Replaced(self.path().to_path_buf()));
        }
        for (path, file) in &mut link.beside {
            *file = FileId::at(path).await;
        }
        Ok(link)
    }

    /// Which file lies at the path now.
    pub(crate) async fn file_id(&self) -> Result<FileId, StoreError> {
        let meta = match tokio::fs::metadata(self.path()).await {
            Ok(meta) if meta.is_file() => meta,
            Ok(_) => {
                let (path, why) = (self.path().to_path_buf(), "it is not a regular file".to_owned());
                return Err(StoreError::Unreachable { path, why });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Missing(self.path().to_path_buf()));
            }
            Err(error) => {
                let (path, why) = (self.path().to_path_buf(), error.to_string());
                return Err(StoreError::Unreachable { path, why });
            }
        };
        Ok(FileId::of(&meta))
    }

    /// Sorts an error of this file.
    pub(crate) fn sort(&self, error: sqlx::Error) -> StoreError {
        StoreError::at(self.path(), error)
    }

    async fn migrate(&self, conn: &mut Conn, may_found: bool) -> Result<(), StoreError> {
        let counts =
            "SELECT count(*), count(CASE WHEN name = '_sqlx_migrations' THEN 1 END) FROM sqlite_master";
        let (tables, ours): (i64, i64) =
            sqlx::query_as(counts).fetch_one(&mut *conn).await.map_err(|error| self.sort(error))?;
        if ours == 0 && (tables > 0 || !may_found) {
            return Err(StoreError::NotAStore(self.path().to_path_buf()));
        }
        let migrator = migrator();
        if ours > 0 && self.is_current(conn, &migrator).await? {
            return self.log_ahead(conn).await;
        }
        if ours == 0 {
            self.log_ahead(conn).await?;
        }
        // Two processes may found the same store at the same moment: the one that comes second looks again.
        let mut tries = 0;
        loop {
            tries += 1;
            match migrator.run_direct(None, &mut *conn, false).await {
                Ok(()) => return self.log_ahead(conn).await,
                Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..)) if tries < 5 => {
                    tokio::time::sleep(Duration::from_millis(20 * tries)).await;
                }
                Err(error) => return Err(self.sort_migration(error)),
            }
        }
    }

    /// Nodes read while somebody writes. Not before the file is known to be ours, for this writes into it.
    async fn log_ahead(&self, conn: &mut Conn) -> Result<(), StoreError> {
        // The log is opened by the first read in that mode.
        let sql = "PRAGMA journal_mode = WAL; SELECT count(*) FROM sqlite_master";
        sqlx::raw_sql(sql).execute(conn).await.map(drop).map_err(|error| self.sort(error))
    }

    /// Whether nothing is to be done: answered by reading alone, for a store that may be locked for writing.
    async fn is_current(&self, conn: &mut Conn, migrator: &Migrator) -> Result<bool, StoreError> {
        let applied = conn
            .list_applied_migrations(&migrator.table_name)
            .await
            .map_err(|error| self.sort_migration(error))?;
        Ok(applied.len() == migrator.iter().count()
            && applied
                .iter()
                .zip(migrator.iter())
                .all(|(has, knows)| has.version == knows.version && has.checksum == knows.checksum))
    }

    fn sort_migration(&self, error: MigrateError) -> StoreError {
        let path = self.path().to_path_buf();
        match error {
            MigrateError::VersionMissing(version) => StoreError::Newer { path, version },
            MigrateError::VersionMismatch(version) | MigrateError::Dirty(version) => {
                StoreError::Altered { path, version }
            }
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => self.sort(error),
            other => StoreError::Sql(sqlx::Error::Migrate(Box::new(other))),
        }
    }
}

impl Link {
    /// The file itself, which lies where a symlink points to.
    pub(crate) fn real(&self) -> &Path {
        &self.real
    }

    /// Leaves a file into which something else was written. Closing carries the write-ahead log into it, unless it does
    /// not lie at its path: so it is moved away for that moment. The log is put aside.
    #[cfg(unix)]
    pub(crate) async fn disown(self) {
        let aside = with_suffix(&self.real, ".overwritten");
        if tokio::fs::rename(&self.real, &aside).await.is_err() {
            // Never closed is better than written into.
            std::mem::forget(self.conn);
            return;
        }
        let Self { conn, real, beside, .. } = self;
        let _ = conn.close().await;
        // Not over what somebody else may have put there meanwhile.
        match tokio::fs::hard_link(&aside, &real).await {
            Ok(()) => drop(tokio::fs::remove_file(&aside).await),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(_) => drop(tokio::fs::rename(&aside, &real).await),
        }
        for (path, file) in beside {
            if file.is_some() && FileId::at(&path).await == file {
                let _ = tokio::fs::rename(&path, with_suffix(&path, ".stale")).await;
            }
        }
    }

    /// Where a file that is open cannot be overwritten.
    #[cfg(not(unix))]
    pub(crate) async fn disown(self) {
        self.close().await;
    }

    /// Closes the connection; what it had to say is said.
    pub(crate) async fn close(self) {
        let _ = self.conn.close().await;
    }

    /// Leaves a file that no longer lies at the path. Its write-ahead log still does, where the file that took its
    /// place would read it as its own: so it is carried into the old file first, and goes; or, where somebody still
    /// reads the old file, is put aside for it.
    pub(crate) async fn abandon(mut self) {
        let carried: Result<(i64, i64, i64), _> =
            sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut self.conn).await;
        for (path, file) in &self.beside {
            if file.is_none() || FileId::at(path).await != *file {
                continue;
            }
            let _ = match carried {
                Ok((0, _, _)) => tokio::fs::remove_file(path).await,
                _ => tokio::fs::rename(path, with_suffix(path, ".stale")).await,
            };
        }
        self.close().await;
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl FileId {
    async fn at(path: &Path) -> Option<Self> {
        tokio::fs::metadata(path).await.ok().map(|meta| Self::of(&meta))
    }

    /// Of a file.
    #[cfg(unix)]
    pub(crate) fn of(meta: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(meta.dev(), meta.ino())
    }

    /// An open database cannot be replaced here; the moment of creation is enough.
    #[cfg(not(unix))]
    pub(crate) fn of(meta: &fs::Metadata) -> Self {
        let created = meta.created().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        created.map_or(Self(0, 0), |since| Self(since.as_secs(), u64::from(since.subsec_nanos())))
    }
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|&(version, name, sql)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}
