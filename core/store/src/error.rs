//! What can go wrong with the store, each with what to do about it.
//!
//! Invariant: no message carries a password, a hash, or an unescaped control character.

use std::path::{Path, PathBuf};

/// Why the store refused or could not be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// `store.url` cannot be read.
    #[error("store url {url:?}: {why}")]
    Url {
        /// As it was written.
        url: String,
        /// What is wrong, and what to write instead.
        why: &'static str,
    },
    /// A `postgres://` url.
    #[error(
        "PostgreSQL is not built into this version; use sqlite://PATH, for example sqlite://swiftproxy.db"
    )]
    NoPostgres,
    /// No such file, and it was not to be created.
    #[error("there is no {}; put the file back, or create it with `swiftproxy user add`", .0.display())]
    Missing(PathBuf),
    /// The file cannot be created or opened.
    #[error("cannot open {}: {why}; check that the path exists and that this user may read and write it", .path.display())]
    Unreachable {
        /// The database file.
        path: PathBuf,
        /// The system's reason.
        why: String,
    },
    /// Something else than SQLite wrote the file.
    #[error("{} is not an SQLite database; name another file, or move this one away and a new one is created", .0.display())]
    NotADatabase(PathBuf),
    /// An empty file, or an SQLite database of another program.
    #[error(
        "{} holds no SwiftProxy store (it is empty, or another program's); name another file (the first SwiftProxy's user.db is taken over with \
         `swiftproxy user import`)", .0.display()
    )]
    NotAStore(PathBuf),
    /// A later version of the program has changed the schema.
    #[error(
        "{} was written by a later version of SwiftProxy (schema {version}); run that version, or restore a backup",
        .path.display()
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The schema's number in the file.
        version: i64,
    },
    /// The schema was made by statements that this program does not know.
    #[error("{}'s schema {version} is not the one of this version; restore a backup, or start with a new file", .path.display())]
    Altered {
        /// The database file.
        path: PathBuf,
        /// The schema's number.
        version: i64,
    },
    /// The file, its folder or its file system cannot be written.
    #[error("{} is read-only; give this user write permission on the file and on its folder", .0.display())]
    ReadOnly(PathBuf),
    /// Another connection holds the file.
    #[error("{} is locked by another program; end its transaction (an open sqlite3 shell?) and try again", .0.display())]
    Locked(PathBuf),
    /// No room on the disk.
    #[error("no room left to write {}; make room on its file system", .0.display())]
    Full(PathBuf),
    /// The file's contents are damaged.
    #[error("{} is damaged ({why}); restore a backup, or save what is left with `sqlite3 FILE .recover`", .path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// SQLite's reason.
        why: String,
    },
    /// The disk failed.
    #[error("cannot read or write {}: {why}; check its disk", .path.display())]
    Io {
        /// The database file.
        path: PathBuf,
        /// SQLite's reason.
        why: String,
    },
    /// The disk does not answer.
    #[error("{} does not answer; check its disk", .0.display())]
    Stuck(PathBuf),
    /// Something else wrote over it while it was open.
    #[error("{} was overwritten or cut by another program while it was in use; put the store back (move a whole file into its place, never copy over it)", .0.display())]
    Overwritten(PathBuf),
    /// There is another file in its place.
    #[error("{} was being replaced by another file; try again", .0.display())]
    Replaced(PathBuf),
    /// The name is taken.
    #[error("there is a user {0:?} already; names are case-sensitive and unique")]
    NameTaken(String),
    /// Nobody has that name.
    #[error("there is no user {0:?}; `swiftproxy user list` shows them all")]
    NoSuchUser(String),
    /// The name cannot be one.
    #[error("{name:?} cannot be a user's name: {why}")]
    InvalidName {
        /// The name.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Another value cannot be stored.
    #[error("{column}: {why}")]
    InvalidValue {
        /// The column.
        column: &'static str,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Not the first SwiftProxy's file.
    #[error(
        "{} has no table user(name, password, dataRate); name the first SwiftProxy's user.db", .0.display()
    )]
    NotClassic(PathBuf),
    /// Anything else the database said.
    #[error("the store failed: {0}")]
    Sql(#[source] sqlx::Error),
}

impl StoreError {
    /// Sorts what SQLite said about the file at `path`.
    pub(crate) fn at(path: &Path, error: sqlx::Error) -> Self {
        let path = path.to_path_buf();
        let code = error.as_database_error().and_then(|e| e.code()).and_then(|code| code.parse::<i32>().ok());
        let Some(code) = code else { return Self::Sql(error) };
        let why = error.as_database_error().map(|e| e.message().to_owned()).unwrap_or_default();
        // https://www.sqlite.org/rescode.html: the low byte is the primary code.
        match (code, code & 0xff) {
            (1032, _) => Self::Replaced(path),
            (_, 5 | 6) => Self::Locked(path),
            (_, 8) => Self::ReadOnly(path),
            (_, 10) => Self::Io { path, why },
            (_, 11) => Self::Corrupt { path, why },
            (_, 13) => Self::Full(path),
            (_, 14 | 23 | 3) => Self::Unreachable { path, why },
            (_, 26) => Self::NotADatabase(path),
            _ => Self::Sql(error),
        }
    }

    /// Whether the same connection may well succeed later. Not where SQLite rolls the transaction back by itself
    /// (a full disk: <https://www.sqlite.org/lang_transaction.html>): sqlx counts it as open from then on, and what is
    /// written next is a savepoint of a transaction that nobody ever commits.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Locked(_) | Self::ReadOnly(_))
    }
}
