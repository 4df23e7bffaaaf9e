//! Whether the file that is open is still what SQLite believes it to be.
//!
//! Invariant: a file is watched, and its descriptor kept, from its first connection until another file lies there.

use std::sync::{Arc, Mutex, PoisonError};

use crate::db::{FileId, Link};
use crate::print::{Look, Watched};

/// The watch over the store's file.
#[derive(Default)]
pub(super) struct Guard {
    watched: Option<(FileId, Arc<Mutex<Watched>>)>,
}

impl Guard {
    /// Watches the file of a connection that was just made.
    pub(super) async fn watch(&mut self, link: &Link) {
        if let Some((file, watched)) = &self.watched
            && *file == link.file
        {
            let watched = watched.clone();
            off_thread(move || lock(&watched).begin()).await;
            return;
        }
        let path = link.real().to_path_buf();
        let opened = off_thread(move || {
            let watched = Watched::open(&path).ok()?;
            let file = FileId::of(&watched.metadata().ok()?);
            Some((file, Arc::new(Mutex::new(watched))))
        });
        // One that was replaced at this very moment is watched by the next connection.
        self.watched = opened.await.flatten();
    }

    /// Whether something else wrote into the connection's file.
    pub(super) async fn is_foreign(&mut self, link: &mut Link) -> bool {
        let watched = match &self.watched {
            Some((file, watched)) if *file == link.file => watched.clone(),
            _ => return false,
        };
        let look = |schema| {
            let watched = watched.clone();
            off_thread(move || lock(&watched).look(schema))
        };
        match look(None).await {
            Some(Look::Schema) => {
                let schema = sqlx::query_scalar("PRAGMA schema_version").fetch_one(&mut link.conn).await;
                match schema {
                    Ok(schema) => look(Some(schema)).await == Some(Look::Foreign),
                    Err(_) => true,
                }
            }
            look => look == Some(Look::Foreign),
        }
    }
}

fn lock(watched: &Mutex<Watched>) -> std::sync::MutexGuard<'_, Watched> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A disk may take its time, or never answer.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
