//! The sessions of this moment, as an admin sees them and may end them.
//!
//! Invariant: a session is listed from its admission until it is dropped, at whatever await that is.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::account::Account;
use crate::cancel::{Cancel, Reason};
use crate::listener::Listener;
use crate::meter::{Direction, Tap};
use crate::target::Target;

/// A session that lasts for so long may rest for much longer.
const LONG: Duration = Duration::from_secs(5);

/// One session's facts, shared by the session, the API and whoever ends it.
#[derive(Debug)]
pub struct Live {
    /// Unique in this process, from 1.
    pub id: u64,
    /// Where the client is.
    pub client: SocketAddr,
    /// The listener it came in by.
    pub listener: Arc<Listener>,
    /// What it spoke: `socks5`, `socks4`, `http`, `connect` …
    pub protocol: &'static str,
    /// What it asked for.
    pub target: Target,
    /// When it was admitted, by the wall clock.
    pub started: SystemTime,
    /// The same, by the monotonic clock.
    pub since: Instant,
    /// Its bytes so far.
    pub bytes: Arc<Tap>,
    /// Ends it.
    pub cancel: Cancel,
    pub(crate) account: OnceLock<Arc<Account>>,
    pub(crate) dialled: OnceLock<SocketAddr>,
    pub(crate) outcome: OnceLock<&'static str>,
    long: AtomicBool,
    idle_after: AtomicU32,
    idle: Mutex<(u64, Option<Instant>)>,
}

impl Live {
    pub(crate) fn new(
        id: u64,
        client: SocketAddr,
        listener: Arc<Listener>,
        protocol: &'static str,
        target: Target,
    ) -> Self {
        Self {
            id,
            client,
            listener,
            protocol,
            target,
            started: SystemTime::now(),
            since: Instant::now(),
            bytes: Arc::default(),
            cancel: Cancel::default(),
            account: OnceLock::new(),
            dialled: OnceLock::new(),
            outcome: OnceLock::new(),
            long: AtomicBool::new(false),
            idle_after: AtomicU32::new(0),
            idle: Mutex::new((0, None)),
        }
    }

    /// Who pays, once known.
    pub fn account(&self) -> Option<&Arc<Account>> {
        self.account.get()
    }

    /// The address that was dialled, once connected directly.
    pub fn dialled(&self) -> Option<SocketAddr> {
        self.dialled.get().copied()
    }

    /// Says which address was dialled; the first word stays.
    pub fn set_dialled(&self, addr: SocketAddr) {
        let _ = self.dialled.set(addr);
    }

    /// Why it ended or was refused, once it was.
    pub fn outcome(&self) -> Option<&'static str> {
        self.outcome.get().copied()
    }

    /// Says why it ended; the first word stays.
    pub fn set_outcome(&self, label: &'static str) {
        let _ = self.outcome.set(label);
    }

    /// Lets [`Sessions::sweep`] end it when no byte moves for that long (whole seconds).
    pub fn end_when_idle(&self, after: Duration) {
        let secs = u32::try_from(after.as_secs()).unwrap_or(u32::MAX);
        self.idle_after.store(secs.max(1), Relaxed);
    }

    /// How long it lasted so far.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether it has lasted for a while: what only such a session needs is worth its system calls now. Whoever polls
    /// [`Self::cancel`] is woken when it has, and looks after that.
    pub fn is_long(&self) -> bool {
        self.long.load(Relaxed)
    }

    fn sweep(&self, now: Instant) {
        if !self.is_long() && now.saturating_duration_since(self.since) >= LONG {
            self.long.store(true, Relaxed);
            self.cancel.wake();
        }
        let after = self.idle_after.load(Relaxed);
        if after == 0 {
            return;
        }
        let total = self.bytes.total(Direction::Up) + self.bytes.total(Direction::Down);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match *idle {
            (seen, Some(since)) if seen == total => {
                if now.saturating_duration_since(since) >= Duration::from_secs(after.into()) {
                    self.cancel.fire(Reason::Idle);
                }
            }
            _ => *idle = (total, Some(now)),
        }
    }
}

impl Drop for Live {
    /// One line a session, when `access_log` is on; everyone who knew of it has let go of it by then.
    fn drop(&mut self) {
        if !self.listener.node().access_log() {
            return;
        }
        tracing::info!(
            target: "access",
            session = self.id,
            client = %self.client,
            account = self.account().map_or("-", |account| account.name()),
            listener = self.listener.name(),
            protocol = self.protocol,
            target = %self.target,
            dialled = %self.dialled().map_or_else(|| "-".to_owned(), |addr| addr.to_string()),
            up = self.bytes.total(Direction::Up),
            down = self.bytes.total(Direction::Down),
            ms = self.age().as_millis() as u64,
            outcome = self.outcome().unwrap_or("aborted"),
            "session ended"
        );
    }
}

const SHARDS: usize = 16;

/// Every session of this node.
#[derive(Debug, Default)]
pub struct Sessions {
    last: AtomicU64,
    count: AtomicUsize,
    opened: AtomicU64,
    shards: [Mutex<HashMap<u64, Arc<Live>>>; SHARDS],
    emptied: Notify,
}

impl Sessions {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// How many there have been.
    pub fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Arc<Live>> {
        let mut all = Vec::with_capacity(self.count());
        self.each(|live| all.push(live.clone()));
        all
    }

    /// The session of that number.
    pub fn get(&self, id: u64) -> Option<Arc<Live>> {
        self.shard(id).get(&id).cloned()
    }

    /// Looks at each.
    pub fn each(&self, mut look: impl FnMut(&Arc<Live>)) {
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(&mut look);
        }
    }

    /// Ends an account's sessions.
    pub fn end_account(&self, account: &Account, reason: Reason) {
        self.each(|live| {
            if live.account().is_some_and(|of| of.key() == account.key()) {
                live.cancel.fire(reason);
            }
        });
    }

    /// Ends those that have been idle for too long, and tells those that have become long ones.
    pub fn sweep(&self, now: Instant) {
        self.each(|live| live.sweep(now));
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.last.fetch_add(1, Relaxed) + 1
    }

    pub(crate) fn add(&self, live: &Arc<Live>) {
        self.count.fetch_add(1, Relaxed);
        self.opened.fetch_add(1, Relaxed);
        self.shard(live.id).insert(live.id, live.clone());
    }

    pub(crate) fn remove(&self, id: u64) {
        let removed = self.shard(id).remove(&id);
        if removed.is_some() && self.count.fetch_sub(1, SeqCst) == 1 {
            self.emptied.notify_waiters();
        }
    }

    /// Waits until there is none.
    pub async fn emptied(&self) {
        let mut emptied = std::pin::pin!(self.emptied.notified());
        loop {
            emptied.as_mut().enable();
            if self.count.load(SeqCst) == 0 {
                return;
            }
            emptied.as_mut().await;
            emptied.set(self.emptied.notified());
        }
    }

    fn shard(&self, id: u64) -> MutexGuard<'_, HashMap<u64, Arc<Live>>> {
        self.shards[id as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
