//! Follows the files a configuration consists of.
//!
//! Invariant: folders are watched, not files, for editors replace files and Kubernetes swaps symlinks; what is
//! compared is what the files are, not what the watcher said.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::server::Server;

/// Changes closer together than this are one.
const DEBOUNCE: Duration = Duration::from_millis(60);
/// However long changes go on, they are looked at this often.
const AT_MOST: Duration = Duration::from_millis(300);
/// Looked at without a watcher's word too: some file systems send none.
const POLL: Duration = Duration::from_millis(700);

/// What files looked like at some moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint(Vec<(PathBuf, Option<Stamp>)>);

/// A file's age, size and, where there is one, number.
type Stamp = (Option<SystemTime>, u64, u64);

impl Fingerprint {
    pub(crate) fn of(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let files: BTreeSet<_> = files.into_iter().collect();
        Self(files.into_iter().map(|path| (stamp(&path), path)).map(|(stamp, path)| (path, stamp)).collect())
    }

    /// These files as well.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Whether some file is no longer what it was.
    pub(crate) fn changed(&self) -> bool {
        self.0.iter().any(|(path, before)| stamp(path) != *before)
    }

    fn folders(&self) -> BTreeSet<PathBuf> {
        let parent = |path: &Path| match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        // Where a symlink leads may change as well as the symlink.
        let real = self.0.iter().filter_map(|(path, _)| std::fs::canonicalize(path).ok());
        self.0.iter().map(|(path, _)| parent(path)).chain(real.map(|path| parent(&path))).collect()
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let number = 0;
    Some((metadata.modified().ok(), metadata.len(), number))
}

/// Reloads whenever a file changed, until it is aborted.
pub async fn follow(server: Arc<Server>) {
    let (tx, mut events) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // A full channel holds a wake-up already.
            let _ = tx.try_send(());
        }
    })
    .map_err(|error| tracing::warn!("no file watcher ({error}); the configuration is looked at instead"))
    .ok();
    let mut watched = BTreeSet::new();
    let mut tried = Fingerprint::default();
    loop {
        let seen = server.fingerprint().await;
        if let Some(watcher) = &mut watcher {
            watch(watcher, &mut watched, seen.folders());
        }
        tokio::select! {
            Some(()) = events.recv() => settle(&mut events).await,
            () = tokio::time::sleep(POLL) => {}
        }
        let now = Fingerprint::of(seen.0.iter().map(|(path, _)| path.clone()));
        // A file that was rejected is looked at again once it changed again.
        if now != seen && now != tried {
            tried = now;
            server.reload().await;
        }
    }
}

/// Waits until the changes pause.
async fn settle(events: &mut mpsc::Receiver<()>) {
    let quiet =
        async { while tokio::time::timeout(DEBOUNCE, events.recv()).await.is_ok_and(|e| e.is_some()) {} };
    let _ = tokio::time::timeout(AT_MOST, quiet).await;
}

fn watch(watcher: &mut impl Watcher, watched: &mut BTreeSet<PathBuf>, folders: BTreeSet<PathBuf>) {
    for gone in watched.difference(&folders) {
        let _ = watcher.unwatch(gone);
    }
    for new in folders.difference(watched) {
        if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
            tracing::warn!("cannot watch {}: {error}; it is looked at instead", new.display());
        }
    }
    *watched = folders;
}
