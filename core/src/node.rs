//! One running process's shared state: who is known, what is open, what was counted.
//!
//! Invariant: there is no state outside a node, so two of them can live in one process.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::account::{Account, Accounts};
use crate::cancel::Reason;
use crate::error::Refusal;
use crate::listener::{Listener, Slots};
use crate::live::Sessions;
use crate::meter::Tap;
use crate::status::Health;
use crate::tunnel::Tunnel;
use crate::workers::Workers;

type State = HashMap<(TypeId, String), Arc<dyn Any + Send + Sync>>;

/// A running process, named, in a fleet that may share a store.
pub struct Node {
    name: String,
    started: SystemTime,
    since: Instant,
    /// Every account it knows.
    pub accounts: Arc<Accounts>,
    /// Every open session.
    pub sessions: Sessions,
    /// Bytes of all sessions.
    pub bytes: Arc<Tap>,
    /// The last reload's outcome, and the store's state.
    pub health: Health,
    workers: Arc<Workers>,
    slots: Arc<Slots>,
    draining: AtomicBool,
    drained: Notify,
    access_log: AtomicBool,
    refusals: Vec<(Refusal, AtomicU64)>,
    own: ArcSwap<Vec<SocketAddr>>,
    listeners: RwLock<Vec<Weak<Listener>>>,
    tunnels: RwLock<Vec<(String, Arc<dyn Tunnel>)>>,
    state: Mutex<State>,
}

impl Node {
    /// A node of that name, with nothing in it, that serves its connections where it accepts them.
    pub fn new(name: impl Into<String>) -> Arc<Self> {
        Self::with_workers(name, Arc::default())
    }

    /// The same, with threads that serve its connections.
    pub fn with_workers(name: impl Into<String>, workers: Arc<Workers>) -> Arc<Self> {
        Arc::new(Self {
            workers,
            name: name.into(),
            started: SystemTime::now(),
            since: Instant::now(),
            accounts: Arc::default(),
            sessions: Sessions::default(),
            bytes: Arc::default(),
            health: Health::default(),
            slots: Arc::default(),
            draining: AtomicBool::new(false),
            drained: Notify::new(),
            access_log: AtomicBool::new(false),
            refusals: Refusal::all().map(|refusal| (refusal, AtomicU64::new(0))).collect(),
            own: ArcSwap::default(),
            listeners: RwLock::default(),
            tunnels: RwLock::default(),
            state: Mutex::default(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it started, by the wall clock.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// How long it has run.
    pub fn uptime(&self) -> std::time::Duration {
        self.since.elapsed()
    }

    /// `local` where a tunnel leads on from here, `remote` elsewhere.
    pub fn role(&self) -> &'static str {
        if self.tunnels().is_empty() { "remote" } else { "local" }
    }

    /// The threads that serve its connections.
    pub fn workers(&self) -> &Arc<Workers> {
        &self.workers
    }

    /// The cap on sessions of all listeners together.
    pub fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// Whether no new session is admitted any more.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Admits no new session from now on.
    pub fn drain(&self) {
        self.draining.store(true, SeqCst);
        self.drained.notify_waiters();
    }

    /// Waits until no new session is admitted any more; connections without a session then close.
    pub async fn draining(&self) {
        let mut drained = std::pin::pin!(self.drained.notified());
        drained.as_mut().enable();
        if !self.draining.load(SeqCst) {
            drained.await;
        }
    }

    /// Whether each session leaves a line in the log.
    pub fn access_log(&self) -> bool {
        self.access_log.load(Relaxed)
    }

    /// Switches the access log.
    pub fn set_access_log(&self, on: bool) {
        self.access_log.store(on, Relaxed);
    }

    /// Counts a session that was turned away.
    pub fn count_refusal(&self, refusal: Refusal) {
        if let Some((_, count)) = self.refusals.iter().find(|(known, _)| *known == refusal) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// How many sessions were turned away, by label.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> {
        self.refusals.iter().map(|(refusal, count)| (*refusal, count.load(Relaxed)))
    }

    /// Ends the sessions of accounts that may no longer be used.
    pub fn end_barred(&self, barred: Vec<(Arc<Account>, Reason)>) {
        for (account, reason) in barred {
            self.sessions.end_account(&account, reason);
        }
    }

    /// Says which addresses are ours: listeners and API, as bound.
    pub fn set_own(&self, own: Vec<SocketAddr>) {
        self.own.store(Arc::new(own));
    }

    /// Whether dialling `addr` would reach a listener of ours.
    pub fn is_own(&self, addr: SocketAddr) -> bool {
        let ip = addr.ip().to_canonical();
        self.own.load().iter().filter(|own| own.port() == addr.port()).any(|own| {
            let bound = own.ip().to_canonical();
            bound == ip
                || ip.is_unspecified()
                // Only an address of this machine can be bound.
                || (bound.is_unspecified() && (ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()))
        })
    }

    /// Its listeners, in the order of their names.
    pub fn listeners(&self) -> Vec<Arc<Listener>> {
        let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().filter_map(Weak::upgrade).collect()
    }

    /// Says which listeners there are.
    pub fn set_listeners(&self, mut listeners: Vec<Arc<Listener>>) {
        listeners.sort_by(|a, b| a.name().cmp(b.name()));
        *self.listeners.write().unwrap_or_else(PoisonError::into_inner) =
            listeners.iter().map(Arc::downgrade).collect();
    }

    /// Its tunnels by relay name.
    pub fn tunnels(&self) -> Vec<(String, Arc<dyn Tunnel>)> {
        self.tunnels.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says which tunnels there are.
    pub fn set_tunnels(&self, tunnels: Vec<(String, Arc<dyn Tunnel>)>) {
        *self.tunnels.write().unwrap_or_else(PoisonError::into_inner) = tunnels;
    }

    /// The state of that type and name, made when first asked for: buckets, caches and pools outlive a reload here.
    pub fn state<T: Any + Send + Sync>(&self, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (TypeId::of::<T>(), name.to_owned());
        if let Some(known) = state.get(&key).and_then(|known| known.clone().downcast::<T>().ok()) {
            return known;
        }
        let made = Arc::new(make());
        state.insert(key, made.clone());
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_in_every_form() {
        let node = Node::new("test");
        node.set_own(vec!["0.0.0.0:80".parse().unwrap(), "127.0.0.1:90".parse().unwrap()]);
        for own in ["127.0.0.1:80", "127.9.9.9:80", "[::ffff:127.0.0.1]:90", "0.0.0.0:90", "[::]:80"] {
            assert!(node.is_own(own.parse().unwrap()), "{own}");
        }
        for other in ["127.0.0.2:90", "127.0.0.1:81", "192.0.2.1:80"] {
            assert!(!node.is_own(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn state_outlives_whoever_asked_first() {
        let node = Node::new("test");
        let first = node.state("a", || AtomicU64::new(1));
        assert!(Arc::ptr_eq(&first, &node.state("a", || AtomicU64::new(2))));
        assert_eq!(node.state("b", || AtomicU64::new(2)).load(Relaxed), 2);
    }
}
