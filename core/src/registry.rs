//! The catalogue of layers and relays, and how one is built from its table.
//!
//! Invariant: building changes nothing that runs. What a table changes in living state it hangs on
//! [`Build::on_commit`], which runs once everything was built.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use tower::{Layer, Service};

use crate::connection::Connection;
use crate::credentials::Authenticator;
use crate::error::{BuildError, Refusal};
use crate::listener::{Listener, Recheck};
use crate::node::Node;
use crate::opened::Opened;
use crate::session::Session;
use crate::stack::{Front, Stack};
use crate::table::{self, Table, TableError};
use crate::tunnel::Tunnel;

/// A layer's table: parsed, then built.
pub trait LayerConfig: DeserializeOwned + JsonSchema {
    /// The word for it everywhere.
    const KIND: &'static str;
    /// One sentence for the reference.
    const SUMMARY: &'static str;
    /// What it is put over an inner service as.
    type Layer;

    /// Builds it.
    ///
    /// # Errors
    /// The key, what is wrong with it, and what to write instead.
    fn build(self, build: &mut Build<'_>) -> Result<Self::Layer, BuildError>;
}

/// A relay's table.
pub trait RelayConfig: DeserializeOwned + JsonSchema {
    /// The word for it everywhere.
    const KIND: &'static str;
    /// One sentence for the reference.
    const SUMMARY: &'static str;
    /// The innermost service.
    type Relay: Service<Session, Response = Opened, Error = Refusal, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static;

    /// Builds it.
    ///
    /// # Errors
    /// The key, what is wrong with it, and what to write instead.
    fn build(self, build: &mut Build<'_>) -> Result<Self::Relay, BuildError>;
}

/// What a table is built with: whose it is, what it may use, and what it leaves for others.
pub struct Build<'a> {
    /// The node it will run on.
    pub node: &'a Arc<Node>,
    /// The listener whose stack is built.
    pub listener: &'a Arc<Listener>,
    /// The address that listener binds.
    pub bind: std::net::SocketAddr,
    /// The table's name, such as `lan-cap`.
    pub name: String,
    /// The table's key path, such as `layers.lan-cap`.
    pub key: String,
    /// Where relative paths of the table start.
    pub base: &'a Path,
    /// What `auth` published; layers outside of it find it here.
    pub authenticator: Option<Arc<dyn Authenticator>>,
    pub(crate) rechecks: Vec<Arc<dyn Recheck>>,
    pub(crate) commits: Vec<Box<dyn FnOnce() + Send>>,
    pub(crate) watched: Vec<PathBuf>,
    pub(crate) tunnels: Vec<(String, Arc<dyn Tunnel>)>,
}

impl<'a> Build<'a> {
    /// A build of the table `key` (such as `layers.lan-cap`) for a listener that binds `bind`.
    pub fn new(
        node: &'a Arc<Node>,
        listener: &'a Arc<Listener>,
        bind: std::net::SocketAddr,
        key: &str,
        base: &'a Path,
    ) -> Self {
        let name = key.rsplit('.').next().unwrap_or(key).to_owned();
        Self {
            node,
            listener,
            bind,
            name,
            key: key.to_owned(),
            base,
            authenticator: None,
            rechecks: Vec::new(),
            commits: Vec::new(),
            watched: Vec::new(),
            tunnels: Vec::new(),
        }
    }

    /// Runs what was hung on [`Build::on_commit`].
    pub fn commit(&mut self) {
        self.commits.drain(..).for_each(|change| change());
    }

    /// An error at one of the table's keys (empty: the table itself).
    pub fn error(&self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) -> BuildError {
        let path = if key.is_empty() { self.key.clone() } else { format!("{}.{key}", self.key) };
        BuildError::new(path, problem, remedy)
    }

    /// State of this table's name that outlives reloads.
    pub fn state<T: std::any::Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        self.node.state(&self.key, make)
    }

    /// State of this table's name on this listener that outlives reloads.
    pub fn listener_state<T: std::any::Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        self.node.state(&format!("{}@{}", self.key, self.listener.name()), make)
    }

    /// Runs `change` once everything was built without an error.
    pub fn on_commit(&mut self, change: impl FnOnce() + Send + 'static) {
        self.commits.push(Box::new(change));
    }

    /// Judges open sessions anew whenever this was built again.
    pub fn recheck(&mut self, judge: Arc<dyn Recheck>) {
        self.rechecks.push(judge);
    }

    /// Makes a path absolute, and reloads when that file changes.
    pub fn file(&mut self, path: &Path) -> PathBuf {
        let path = self.base.join(path);
        self.watched.push(path.clone());
        path
    }

    /// Shows a tunnel to the API, under this table's name.
    pub fn tunnel(&mut self, tunnel: Arc<dyn Tunnel>) {
        if !self.tunnels.iter().any(|(name, _)| *name == self.name) {
            self.tunnels.push((self.name.clone(), tunnel));
        }
    }
}

/// Why a table was not built: it cannot be read, or what it says cannot be done.
pub(crate) enum Failure {
    Table(TableError),
    Build(BuildError),
}

type Make<T> = Arc<dyn Fn(&Table, &mut Build<'_>) -> Result<T, Failure> + Send + Sync>;
pub(crate) type Wrap<T> = Box<dyn FnOnce(Stack) -> T>;

/// One word's entry in the catalogue.
pub struct Entry {
    /// One sentence.
    pub summary: &'static str,
    /// The table's schema.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) make: Maker,
}

pub(crate) enum Maker {
    Front(Make<Wrap<Front>>),
    Layer(Make<Wrap<Stack>>),
    Relay(Make<Stack>),
}

/// Every layer and relay there is.
#[derive(Default)]
pub struct Registry {
    /// Layers by kind; the front is one of them.
    pub layers: BTreeMap<&'static str, Entry>,
    /// Relays by kind.
    pub relays: BTreeMap<&'static str, Entry>,
}

impl Registry {
    /// Adds the outermost layer: sessions out of connections.
    #[must_use]
    pub fn front<C>(mut self) -> Self
    where
        C: LayerConfig + 'static,
        C::Layer: Layer<Stack> + 'static,
        <C::Layer as Layer<Stack>>::Service: Service<Connection, Response = (), Error = Infallible, Future: Send + 'static>
            + Clone
            + Send
            + Sync,
    {
        let make: Make<Wrap<Front>> = Arc::new(|table, build| {
            let layer =
                table::read::<C>(table).map_err(Failure::Table)?.build(build).map_err(Failure::Build)?;
            Ok(Box::new(move |inner| Front::new(layer.layer(inner))))
        });
        self.layers
            .insert(C::KIND, Entry { summary: C::SUMMARY, schema: schema_of::<C>, make: Maker::Front(make) });
        self
    }

    /// Adds a layer: a session in, a session on.
    #[must_use]
    pub fn layer<C>(mut self) -> Self
    where
        C: LayerConfig + 'static,
        C::Layer: Layer<Stack> + 'static,
        <C::Layer as Layer<Stack>>::Service: Service<Session, Response = Opened, Error = Refusal, Future: Send + 'static>
            + Clone
            + Send
            + Sync,
    {
        let make: Make<Wrap<Stack>> = Arc::new(|table, build| {
            let layer =
                table::read::<C>(table).map_err(Failure::Table)?.build(build).map_err(Failure::Build)?;
            Ok(Box::new(move |inner| Stack::new(layer.layer(inner))))
        });
        self.layers
            .insert(C::KIND, Entry { summary: C::SUMMARY, schema: schema_of::<C>, make: Maker::Layer(make) });
        self
    }

    /// Adds a relay.
    #[must_use]
    pub fn relay<C: RelayConfig + 'static>(mut self) -> Self {
        let make: Make<Stack> = Arc::new(|table, build| {
            let relay =
                table::read::<C>(table).map_err(Failure::Table)?.build(build).map_err(Failure::Build)?;
            Ok(Stack::new(relay))
        });
        self.relays
            .insert(C::KIND, Entry { summary: C::SUMMARY, schema: schema_of::<C>, make: Maker::Relay(make) });
        self
    }
}

fn schema_of<C: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<C>()
}
