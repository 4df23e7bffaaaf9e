//! What runs: an accept loop for each listener's sockets, a task for each connection.
//!
//! Invariant: a configuration is carried out whole or not at all; a listener whose address did not change is never
//! closed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::accept;
use crate::assemble::Plan;
use crate::cancel::Reason;
use crate::config::{Config, ConfigErrors, ListenerConfig, Sources};
use crate::listener::Listener;
use crate::node::Node;
use crate::registry::Registry;
use crate::reload::Fingerprint;
use crate::sockets::{self, Handed, Sockets};
use crate::status::Reload;
use crate::workers::Workers;

/// How something is carried out.
pub type Change = Box<dyn FnOnce() + Send>;

/// Tables that are not core's own follow a configuration through this.
pub trait Follower: Send + Sync {
    /// Reads what concerns it and answers how to carry it out, once everything else was found right too.
    ///
    /// # Errors
    /// All that is wrong.
    fn prepare(&self, config: &Config) -> Result<Change, ConfigErrors>;
}

/// A node that serves a configuration and follows its changes.
pub struct Server {
    node: Arc<Node>,
    registry: Arc<Registry>,
    sources: Sources,
    followers: Vec<Arc<dyn Follower>>,
    /// Addresses of ours that are no listener's (the API).
    own: SyncMutex<Vec<SocketAddr>>,
    handed: Vec<Handed>,
    running: Mutex<Running>,
}

struct Running {
    config: Option<Config>,
    seen: Fingerprint,
    open: HashMap<String, Open>,
}

/// A listener that accepts.
struct Open {
    listener: Arc<Listener>,
    bind: SocketAddr,
    sockets: Arc<Sockets>,
    _accepting: Accepting,
}

/// Accept loops; they end when this is dropped.
struct Accepting(Vec<AbortHandle>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Server {
    /// A server of that node that serves nothing yet.
    pub fn new(
        node: Arc<Node>,
        registry: Arc<Registry>,
        sources: Sources,
        followers: Vec<Arc<dyn Follower>>,
    ) -> Arc<Self> {
        Self::with_sockets(node, registry, sources, followers, Vec::new())
    }

    /// The same with listening sockets that are open already.
    pub fn with_sockets(
        node: Arc<Node>,
        registry: Arc<Registry>,
        sources: Sources,
        followers: Vec<Arc<dyn Follower>>,
        handed: Vec<Handed>,
    ) -> Arc<Self> {
        let running = Running { config: None, seen: Fingerprint::default(), open: HashMap::new() };
        Arc::new(Self {
            node,
            registry,
            sources,
            followers,
            own: SyncMutex::default(),
            handed,
            running: Mutex::new(running),
        })
    }

    /// Its node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Where its configuration comes from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Names an address of ours that no session may dial.
    pub fn add_own(&self, addr: SocketAddr) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).push(addr);
    }

    /// Builds everything and binds nothing.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn check(&self) -> Result<Vec<(String, Vec<String>)>, ConfigErrors> {
        let (config, mut errors) = Config::read_most(&self.sources)?;
        let plan = match self.prepare(&config, &[]) {
            Ok((plan, _)) if errors.is_empty() => plan,
            more => {
                errors.extend(more.err().into_iter().flat_map(|more| more.0));
                return Err(ConfigErrors(errors));
            }
        };
        Ok(plan.listeners.iter().map(|p| (p.listener.name().to_owned(), p.assembled.names.clone())).collect())
    }

    /// Reads the configuration and serves it.
    ///
    /// # Errors
    /// All that is wrong; nothing was changed then.
    pub async fn start(&self) -> Result<(), ConfigErrors> {
        let before = Fingerprint::of(self.sources.files.iter().cloned());
        let config = Config::load(&self.sources)?;
        let mut running = self.running.lock().await;
        self.apply(&mut running, config, before)?;
        for handed in &self.handed {
            if !running.open.values().any(|open| open.bind == handed.addr) {
                tracing::warn!(
                    "no listener binds {}, where a socket was handed over; its clients wait in vain",
                    handed.addr
                );
            }
        }
        Ok(())
    }

    /// Reads the configuration anew and carries out what changed.
    pub async fn reload(&self) -> Reload {
        let mut running = self.running.lock().await;
        let before = Fingerprint::of(self.sources.files.iter().cloned());
        let outcome = match Config::load(&self.sources) {
            Err(errors) => rejected(&errors),
            Ok(config) => {
                let same = running.config.as_ref().is_some_and(|known| known.same_text(&config));
                if same && !running.seen.changed() {
                    return Reload::Unchanged;
                }
                match self.apply(&mut running, config, before) {
                    Ok(()) => Reload::Reloaded,
                    Err(errors) => rejected(&errors),
                }
            }
        };
        match &outcome {
            Reload::Rejected(errors) => {
                for error in errors {
                    tracing::error!("configuration rejected, the running one goes on: {error}");
                }
            }
            _ => tracing::info!("configuration reloaded"),
        }
        self.node.health.set_reload(outcome.clone());
        outcome
    }

    fn prepare(&self, config: &Config, known: &[Arc<Listener>]) -> Result<(Plan, Vec<Change>), ConfigErrors> {
        let mut errors = Vec::new();
        let plan =
            Plan::build(&self.node, &self.registry, config, known).map_err(|e| errors.extend(e.0)).ok();
        let mut follow = Vec::new();
        for follower in &self.followers {
            match follower.prepare(config) {
                Ok(change) => follow.push(change),
                Err(more) => errors.extend(more.0),
            }
        }
        match plan {
            Some(plan) if errors.is_empty() => Ok((plan, follow)),
            _ => Err(ConfigErrors(errors)),
        }
    }

    fn apply(&self, running: &mut Running, config: Config, before: Fingerprint) -> Result<(), ConfigErrors> {
        let known: Vec<_> = running.open.values().map(|open| open.listener.clone()).collect();
        let (plan, follow) = self.prepare(&config, &known)?;
        let sockets = bind_all(running, &config, &plan, (&self.handed, self.node.workers()))?;
        running.seen = before.and(Fingerprint::of(plan.watched.iter().cloned()));
        follow.into_iter().for_each(|change| change());
        self.node.set_access_log(config.node.access_log);
        self.node.slots().set_most(config.node.max_sessions);
        let barred = self.node.accounts.set_file(config.users.clone());
        let listeners = plan.commit(&self.node);
        self.node.end_barred(barred);
        listen(running, listeners, sockets);
        let mut own: Vec<_> = self.own.lock().unwrap_or_else(PoisonError::into_inner).clone();
        own.extend(running.open.values().map(|open| open.sockets.addr));
        self.node.set_own(own);
        running.config = Some(config);
        Ok(())
    }

    /// The files that a change of must be followed.
    pub(crate) async fn fingerprint(&self) -> Fingerprint {
        self.running.lock().await.seen.clone()
    }

    /// The address that a listener is bound to.
    pub async fn local_addr(&self, listener: &str) -> Option<SocketAddr> {
        Some(self.running.lock().await.open.get(listener)?.sockets.addr)
    }

    /// How long sessions may go on once the node shuts down.
    pub async fn shutdown_timeout(&self) -> Duration {
        let running = self.running.lock().await;
        running.config.as_ref().map_or(Duration::ZERO, |config| config.node.shutdown_timeout.0)
    }

    /// Stops in stages: accepts nobody new, lets sessions end until the deadline or until `cut` is ready, then cuts
    /// them. Returns how many were cut.
    pub async fn drain(&self, cut: impl Future<Output = ()>) -> usize {
        let timeout = self.shutdown_timeout().await;
        self.node.drain();
        self.running.lock().await.open.clear();
        let sessions = &self.node.sessions;
        tokio::select! {
            () = sessions.emptied() => return 0,
            () = tokio::time::sleep(timeout) => {}
            () = cut => {}
        }
        let left = sessions.count();
        sessions.each(|live| live.cancel.fire(Reason::Shutdown));
        // Each ends at its next poll; one that hangs is dropped with the process.
        let _ = tokio::time::timeout(Duration::from_secs(1), sessions.emptied()).await;
        left
    }

    /// Sees to sessions that are idle for too long or have become long ones, once a second.
    pub async fn sweep(&self) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            self.node.sessions.sweep(Instant::now());
        }
    }
}

fn rejected(errors: &ConfigErrors) -> Reload {
    Reload::Rejected(errors.0.iter().map(ToString::to_string).collect())
}

/// Sockets for each listener by name: those it has, another's of the same address, one that was handed over, or new
/// ones.
fn bind_all(
    running: &Running,
    config: &Config,
    plan: &Plan,
    from: (&[Handed], &Workers),
) -> Result<HashMap<String, Arc<Sockets>>, ConfigErrors> {
    let mut all = HashMap::new();
    let mut errors = Vec::new();
    for planned in &plan.listeners {
        let (name, bind) = (planned.listener.name(), planned.config.bind);
        let own = running.open.get(name).filter(|open| open.bind == bind);
        // Port 0 is another port each time.
        let other = || running.open.values().find(|open| open.bind == bind && bind.port() != 0);
        let sockets = match own.or_else(other) {
            Some(open) => Ok(open.sockets.clone()),
            None => sockets::open(config, name, bind, from).map(Arc::new),
        };
        match sockets {
            Ok(sockets) => drop(all.insert(name.to_owned(), sockets)),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(all) } else { Err(ConfigErrors(errors)) }
}

/// Starts and stops accept loops so that they are what the plan says.
fn listen(
    running: &mut Running,
    listeners: Vec<(Arc<Listener>, ListenerConfig)>,
    mut all: HashMap<String, Arc<Sockets>>,
) {
    let mut before = std::mem::take(&mut running.open);
    for (listener, config) in listeners {
        let name = listener.name().to_owned();
        let Some(sockets) = all.remove(&name) else { continue };
        if let Some(open) = before.remove(&name)
            && Arc::ptr_eq(&open.sockets, &sockets)
        {
            running.open.insert(name, open);
            continue;
        }
        tracing::info!(listener = name, "listening on {}", sockets.addr);
        let accept = |(worker, socket): (usize, &Arc<_>)| {
            let accepting = accept::run(Arc::clone(socket), listener.clone());
            listener.node().workers().spawn(worker, accepting).abort_handle()
        };
        let accepting = Accepting(sockets.each.iter().enumerate().map(accept).collect());
        running.open.insert(name, Open { listener, bind: config.bind, sockets, _accepting: accepting });
    }
    for (name, open) in before {
        tracing::info!(listener = name, "no longer listening on {}", open.bind);
    }
}
