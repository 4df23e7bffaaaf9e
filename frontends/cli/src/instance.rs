//! One node with everything that belongs to it: store, server, API.
//!
//! Invariant: it stops in this order: sessions, then the store, which has then been told every byte.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use swiftproxy_api::Api;
use swiftproxy_core::account::Password;
use swiftproxy_core::config::{Config, ConfigErrors, Sources};
use swiftproxy_core::node::Node;
use swiftproxy_core::server::{Change, Follower, Server};
use swiftproxy_core::sockets::Handed;
use swiftproxy_core::workers::Workers;
use swiftproxy_store::{Store, StoreSync};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::sections::{LogConfig, StoreConfig};

/// The tables that are not core's own.
pub(crate) const SECTIONS: &[&str] = &["api", "log", "store"];

/// What still runs once a process is to end has this long; it has been told before.
pub(crate) const LAST: Duration = Duration::from_millis(200);

/// The threads that serve connections, of all nodes of this process.
pub(crate) fn workers() -> anyhow::Result<Arc<Workers>> {
    Workers::start().context("the system gives no threads")
}

/// A running node.
pub(crate) struct Instance {
    server: Arc<Server>,
    api: Arc<Api>,
    api_task: (oneshot::Sender<()>, JoinHandle<()>),
    store: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    tasks: Vec<JoinHandle<()>>,
}

/// Sources with this program's own tables allowed.
pub(crate) fn sources(mut sources: Sources) -> Sources {
    sources.sections = SECTIONS.to_vec();
    sources
}

/// A server that is only asked what is wrong.
pub(crate) fn checker(sources: Sources) -> Arc<Server> {
    let followers: Vec<Arc<dyn Follower>> =
        vec![Arc::new(swiftproxy_api::Check), Arc::new(OwnTables::default())];
    Server::new(Node::new("check"), Arc::new(swiftproxy_layers::registry()), sources, followers)
}

impl Instance {
    /// Starts a node from its sources.
    pub(crate) async fn start(sources: Sources, name: &str, workers: &Arc<Workers>) -> anyhow::Result<Self> {
        Self::start_with(sources, name, workers, false, Vec::new()).await
    }

    /// The same with listening sockets that are open already; with `log`, log lines go where `[log]` says.
    pub(crate) async fn start_with(
        sources: Sources,
        name: &str,
        workers: &Arc<Workers>,
        log: bool,
        handed: Vec<Handed>,
    ) -> anyhow::Result<Self> {
        let config = match Config::load(&sources) {
            Ok(config) => config,
            Err(errors) => {
                // It finds these, and what else is wrong.
                checker(sources).check()?;
                return Err(errors.into());
            }
        };
        if log && let Ok(log) = config.section::<LogConfig>("log") {
            log.unwrap_or_default().start();
        }
        // Everything that is wrong is told before anything is opened.
        checker(sources.clone()).check()?;
        let name = config.node.name.clone().unwrap_or_else(|| name.to_owned());
        let node = Node::with_workers(name, workers.clone());
        let api = Api::new(node.clone());
        let registry = Arc::new(swiftproxy_layers::registry());
        let own = OwnTables { started: Some(OwnTables::read(&config)?) };
        let followers: Vec<Arc<dyn Follower>> = vec![api.follower(), Arc::new(own)];
        let server = Server::with_sockets(node.clone(), registry, sources, followers, handed);
        api.on_bind({
            let server = Arc::downgrade(&server);
            move |addr| {
                if let Some(server) = server.upgrade() {
                    server.add_own(addr);
                }
            }
        });
        let store = match config.section::<StoreConfig>("store")? {
            Some(store) => Some(follow_store(&node, &store.url_from(config.base())).await?),
            None => None,
        };
        server.start().await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let api_task = tokio::spawn({
            let api = api.clone();
            async move { api.run(async { drop(stopped.await) }).await }
        });
        let tasks = vec![
            tokio::spawn(swiftproxy_core::reload::follow(server.clone())),
            tokio::spawn({
                let server = server.clone();
                async move { server.sweep().await }
            }),
        ];
        Ok(Self { server, api, api_task: (stop, api_task), store, tasks })
    }

    /// Its node.
    pub(crate) fn node(&self) -> &Arc<Node> {
        self.server.node()
    }

    /// Its server.
    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Stops in stages; `cut` cuts sessions at once.
    pub(crate) async fn stop(self, cut: impl Future<Output = ()>) {
        for task in self.tasks {
            task.abort();
        }
        let cut = self.server.drain(cut).await;
        if cut > 0 {
            tracing::warn!(
                "{cut} sessions were cut at the deadline (node.shutdown_timeout) or by a second signal"
            );
        }
        for (_, tunnel) in self.server.node().tunnels() {
            tunnel.disconnect().await;
        }
        for (stop, stopped) in self.store.into_iter().chain([self.api_task]) {
            // The receiver lives until then.
            let _ = stop.send(());
            let _ = stopped.await;
        }
        drop(self.api);
        tracing::info!(node = self.server.node().name(), "stopped");
    }
}

async fn follow_store(node: &Arc<Node>, url: &str) -> anyhow::Result<(oneshot::Sender<()>, JoinHandle<()>)> {
    let store = Store::open(url).await.context("store.url")?;
    let boot: String = crate::password::random::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut sync = StoreSync::new(&store, node.clone(), boot);
    sync.load(SystemTime::now()).await.context("store.url")?;
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(sync.run(async move {
        // Dropped or sent: it is over either way.
        let _ = stopped.await;
    }));
    Ok((stop, task))
}

/// Looks at every reload at what is read only at start, so that what is wrong with it, or takes a restart, is told
/// then.
#[derive(Default)]
struct OwnTables {
    /// What this process started with.
    started: Option<Started>,
}

type Started = (Option<LogConfig>, Option<StoreConfig>);

impl OwnTables {
    fn read(config: &Config) -> Result<Started, ConfigErrors> {
        let (log, store) = (config.section("log"), config.section("store"));
        match (log, store) {
            (Ok(log), Ok(store)) => Ok((log, store)),
            (log, store) => Err(ConfigErrors([log.err(), store.err()].into_iter().flatten().collect())),
        }
    }
}

impl Follower for OwnTables {
    fn prepare(&self, config: &Config) -> Result<Change, ConfigErrors> {
        let mut waiting = Vec::new();
        let mut errors = Vec::new();
        let read = Self::read(config);
        if let Ok((_, Some(store))) = &read
            && let Err(error) = swiftproxy_store::check_url(&store.url_from(config.base()))
        {
            errors.push(config.error("store.url", error.to_string(), ""));
        }
        match (read, &self.started) {
            (Ok((log, store)), Some(started)) => {
                waiting.extend((log != started.0).then_some("log"));
                waiting.extend((store != started.1).then_some("store"));
            }
            (Ok(_), None) => {}
            (Err(wrong), _) => errors.extend(wrong.0),
        }
        for user in &config.users {
            if let Some(Password::Hash(hash)) = &user.password
                && let Err(error) = swiftproxy_auth::check_hash(hash.expose())
            {
                let key = format!("users.{}.password_hash", user.name);
                errors.push(config.error(
                    &key,
                    error.to_string(),
                    "write what `swiftproxy user hash` prints",
                ));
            }
        }
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        Ok(Box::new(move || {
            for table in waiting {
                tracing::warn!("[{table}] was changed; that takes a restart, what it said at start goes on");
            }
        }))
    }
}
