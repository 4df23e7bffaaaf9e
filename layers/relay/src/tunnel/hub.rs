//! The tunnel's state, which outlives reloads: who is logged in where, and what a GUI sees of it.
//!
//! Invariant: settings that did not change disturb nothing; a new login leaves the open sessions of the old one
//! alone; after a logout none is open.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use swiftproxy_core::BoxFuture;
use swiftproxy_core::listener::{Slot, Slots};
use swiftproxy_core::tunnel::{Login, Tunnel, TunnelError, TunnelState, TunnelStatus, unix_now};
use swiftproxy_core::workers::Workers;
use tokio::sync::watch;

use super::Settings;
use super::link::Link;
use super::remote::Remote;
use super::uplink::{Stop, Uplink};

/// A tunnel relay's state.
#[derive(Debug)]
pub(super) struct Hub {
    inner: Arc<Inner>,
    lease: Mutex<Weak<Lease>>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    settings: watch::Sender<Settings>,
    changed: watch::Sender<()>,
    waiting: Arc<Slots>,
    /// Links run on these.
    workers: Arc<Workers>,
}

#[derive(Debug)]
struct State {
    /// Who is logged in.
    uplink: Option<Arc<Uplink>>,
    /// What is shown while nobody is.
    idle: TunnelStatus,
    /// What the configuration said last.
    configured: Option<Remote>,
    /// Links of former logins that still carry sessions.
    former: Vec<Weak<Link>>,
    /// Counts logins and logouts, so that one that was overtaken changes nothing.
    turn: u64,
}

/// Held by every relay that was built; when the last is gone, nothing in the configuration leads here any more.
#[derive(Debug)]
pub(super) struct Lease(Arc<Inner>);

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.configured = None;
        self.0.replace(&mut state, None, Stop::Retire);
        state.idle = TunnelStatus::disconnected();
    }
}

impl Hub {
    /// Nobody logged in.
    pub(super) fn new(settings: Settings, workers: Arc<Workers>) -> Self {
        let state = State {
            uplink: None,
            idle: TunnelStatus::disconnected(),
            configured: None,
            former: Vec::new(),
            turn: 0,
        };
        let inner = Inner {
            state: Mutex::new(state),
            settings: watch::Sender::new(settings),
            changed: watch::Sender::new(()),
            waiting: Arc::default(),
            workers,
        };
        Self { inner: Arc::new(inner), lease: Mutex::default() }
    }

    /// A share in keeping it up.
    pub(super) fn lease(&self) -> Arc<Lease> {
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        lease.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Lease(self.inner.clone()));
            *lease = Arc::downgrade(&new);
            new
        })
    }

    /// Follows the configuration. What did not change there does not undo a login or logout over the API.
    pub(super) fn configure(&self, remote: Option<Remote>, settings: Settings) {
        let inner = &self.inner;
        inner.waiting.set_most(Some(settings.max_waiting));
        inner.settings.send_if_modified(|known| std::mem::replace(known, settings) != settings);
        let mut state = inner.state();
        if state.configured == remote {
            return;
        }
        state.configured.clone_from(&remote);
        let uplink = remote.map(|remote| inner.uplink(remote));
        inner.replace(&mut state, uplink.clone(), Stop::Retire);
        state.idle = TunnelStatus::disconnected();
        drop(state);
        if let Some(uplink) = uplink {
            tokio::spawn(uplink.keep());
        }
    }

    /// Who is logged in.
    pub(super) fn uplink(&self) -> Option<Arc<Uplink>> {
        self.inner.state().uplink.clone()
    }

    /// Told whenever a link came or went, or a login.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.inner.changed.subscribe()
    }

    /// What changes without a new login.
    pub(super) fn settings(&self) -> Settings {
        *self.inner.settings.borrow()
    }

    /// A place among those who wait for the tunnel, if one is free.
    pub(super) fn wait(&self) -> Option<Slot> {
        self.inner.waiting.take()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uplink(&self, remote: Remote) -> Arc<Uplink> {
        Uplink::new(remote, self.settings.subscribe(), self.changed.clone(), self.workers.clone())
    }

    fn replace(&self, state: &mut State, next: Option<Arc<Uplink>>, stop: Stop) {
        state.turn += 1;
        if let Some(former) = std::mem::replace(&mut state.uplink, next) {
            let links = former.stop(stop);
            state.former.retain(|link| link.strong_count() > 0);
            state.former.extend(links.iter().map(Arc::downgrade));
        }
        if stop == Stop::Cut {
            state.former.drain(..).filter_map(|link| link.upgrade()).for_each(|link| link.cut());
        }
        self.changed.send_replace(());
    }

    async fn connect(self: Arc<Self>, login: Login) -> Result<TunnelStatus, TunnelError> {
        let remote = Remote::new(&login)?;
        let uplink = self.uplink(remote);
        let turn = {
            let mut state = self.state();
            state.turn += 1;
            state.idle =
                TunnelStatus { since: unix_now(), state: TunnelState::Connecting, ..uplink.status() };
            state.turn
        };
        let outcome = uplink.log_in().await;
        let mut state = self.state();
        if state.turn != turn {
            uplink.stop(Stop::Cut).iter().for_each(|link| link.cut());
            return Err(TunnelError::new("overtaken", "Another login or logout came in between."));
        }
        match outcome {
            Ok(()) => {
                let status = uplink.status();
                self.replace(&mut state, Some(uplink.clone()), Stop::Retire);
                drop(state);
                tokio::spawn(uplink.keep());
                Ok(status)
            }
            Err(error) => {
                state.idle = TunnelStatus {
                    state: TunnelState::Disconnected,
                    since: unix_now(),
                    error: Some(error.clone()),
                    ..uplink.status()
                };
                Err(error)
            }
        }
    }
}

impl Tunnel for Hub {
    fn status(&self) -> TunnelStatus {
        let state = self.inner.state();
        state.uplink.as_ref().map_or_else(|| state.idle.clone(), |uplink| uplink.status())
    }

    /// Where somebody is logged in already, that login stays until the new one has succeeded.
    fn connect(&self, login: Login) -> BoxFuture<Result<TunnelStatus, TunnelError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            // A task of its own: whoever asked may go away, and the status must not stay half-way.
            let attempt = tokio::spawn(inner.connect(login));
            attempt.await.unwrap_or_else(|_| Err(TunnelError::new("internal", "The attempt was given up.")))
        })
    }

    fn disconnect(&self) -> BoxFuture<()> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let mut state = inner.state();
            inner.replace(&mut state, None, Stop::Cut);
            state.idle = TunnelStatus::disconnected();
        })
    }
}
