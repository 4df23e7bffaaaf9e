//! Accounts and usage in SQL: the only crate that speaks it.
//!
//! Invariants (DESIGN §8): an id is never used again; usage is written as absolute counts, so that nothing written twice
//! adds; the store being away stops nothing that runs.
//!
//! [`Store`] is for admins: each call works on the file that lies at the path at that moment. [`StoreSync`] is for a
//! node: it keeps [`Accounts`](swiftproxy_core::account::Accounts) like the rows and writes the counters that moved.

mod classic;
mod db;
mod error;
mod name;
mod place;
mod print;
mod row;
mod sync;
mod usage;
mod users;

use std::path::Path;
use std::time::Duration;

use db::{Db, Link};
use place::Place;

pub use classic::{ClassicFile, ClassicUser, read_classic};
pub use error::StoreError;
pub use name::check_name;
pub use place::{check_url, url_of};
pub use sync::StoreSync;
pub use usage::{Counts, UsageTotal};
pub use users::{NewUser, User, UserChange};

/// How long an admin's call waits for somebody else's transaction.
const PATIENCE: Duration = Duration::from_secs(5);

/// A store of accounts and usage. Cheap to clone; holds no connection.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
}

impl Store {
    /// Opens `sqlite://PATH`; creates the file and its folders, for this user alone, where they are missing.
    ///
    /// # Errors
    /// The url, the file, or its schema is not one that this program can use; the message says what to do.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let store = Self::at(url)?;
        store.db.create()?;
        store.db.connect(true).await?.close().await;
        Ok(store)
    }

    /// Opens `sqlite://PATH`, which must exist.
    ///
    /// # Errors
    /// Those of [`Store::open`], and [`StoreError::Missing`].
    pub async fn open_existing(url: &str) -> Result<Self, StoreError> {
        let store = Self::at(url)?;
        store.db.connect(false).await?.close().await;
        Ok(store)
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        self.db.path()
    }

    fn at(url: &str) -> Result<Self, StoreError> {
        Ok(Self { db: Db::new(Place::parse(url)?, PATIENCE) })
    }

    async fn link(&self) -> Result<Link, StoreError> {
        self.db.connect(false).await
    }

    /// Ends a call: closes its connection and sorts its error.
    async fn done<T>(&self, link: Link, result: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        link.close().await;
        result.map_err(|error| self.db.sort(error))
    }
}
