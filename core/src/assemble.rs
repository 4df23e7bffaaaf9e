//! From tables to stacks: every listener's layers, built over its relay.
//!
//! Invariant: nothing that runs is touched here; a plan is carried out whole ([`Plan::commit`]) or dropped.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, ConfigError, ConfigErrors, ListenerConfig};
use crate::credentials::Authenticator;
use crate::listener::{Assembled, Listener};
use crate::node::Node;
use crate::registry::{Build, Entry, Failure, Maker, Registry, Wrap};
use crate::stack::Stack;
use crate::table::Table;
use crate::tunnel::Tunnel;

/// A configuration that was built and may now run.
pub struct Plan {
    /// Each listener with its table and what it will run.
    pub listeners: Vec<Planned>,
    /// Files besides the configuration's own that a change of must be followed.
    pub watched: Vec<PathBuf>,
    tunnels: Vec<(String, Arc<dyn Tunnel>)>,
    commits: Vec<Box<dyn FnOnce() + Send>>,
}

/// One listener of a plan.
pub struct Planned {
    /// Its living state.
    pub listener: Arc<Listener>,
    /// Its table.
    pub config: ListenerConfig,
    /// What it will run.
    pub assembled: Assembled,
}

impl Plan {
    /// Builds every listener's stack; `known` are the listeners there are already.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn build(
        node: &Arc<Node>,
        registry: &Registry,
        config: &Config,
        known: &[Arc<Listener>],
    ) -> Result<Self, ConfigErrors> {
        let mut plan =
            Self { listeners: Vec::new(), watched: Vec::new(), tunnels: Vec::new(), commits: Vec::new() };
        let mut errors = Vec::new();
        let mut binds = BTreeSet::<SocketAddr>::new();
        for (name, table) in &config.listeners {
            if table.bind.port() != 0 && !binds.insert(table.bind) {
                errors.push(config.error(
                    &format!("listeners.{name}.bind"),
                    format!("another listener binds {} already", table.bind),
                    "choose another port",
                ));
            }
            let listener = known.iter().find(|listener| listener.name() == name).cloned();
            let listener = listener.unwrap_or_else(|| Listener::new(node, name));
            let mut assembly = Assembly { config, registry, node, listener, table, plan: &mut plan };
            match assembly.run(&mut errors) {
                Some(assembled) => {
                    let listener = assembly.listener;
                    plan.listeners.push(Planned { listener, config: table.clone(), assembled });
                }
                None => debug_assert!(!errors.is_empty(), "what is not assembled has an error"),
            }
        }
        if config.whole {
            unused(config, &mut errors);
        }
        errors.dedup();
        if errors.is_empty() { Ok(plan) } else { Err(ConfigErrors(errors)) }
    }

    /// Carries the plan out: new state first, then the stacks. Returns what the listeners are.
    pub fn commit(self, node: &Arc<Node>) -> Vec<(Arc<Listener>, ListenerConfig)> {
        self.commits.into_iter().for_each(|change| change());
        node.set_tunnels(self.tunnels);
        node.set_listeners(self.listeners.iter().map(|planned| planned.listener.clone()).collect());
        let swap = |planned: Planned| {
            planned.listener.slots().set_most(planned.config.max_sessions);
            planned.listener.swap(planned.assembled);
            (planned.listener, planned.config)
        };
        self.listeners.into_iter().map(swap).collect()
    }
}

/// Tables that no listener uses.
fn unused(config: &Config, errors: &mut Vec<ConfigError>) {
    let layers: BTreeSet<_> = config.listeners.values().flat_map(|listener| &listener.stack).collect();
    let relays: BTreeSet<_> = config.listeners.values().map(|listener| &listener.relay).collect();
    for name in config.layers.keys().filter(|name| !layers.contains(name)) {
        errors.push(config.error(
            &format!("layers.{name}"),
            "no listener's stack names it",
            "add it to a stack, or remove the table",
        ));
    }
    for name in config.relays.keys().filter(|name| !relays.contains(name)) {
        errors.push(config.error(
            &format!("relays.{name}"),
            "no listener names it",
            format!("write relay = \"{name}\" in a listener, or remove the table"),
        ));
    }
}

/// One listener's stack on its way.
struct Assembly<'a> {
    config: &'a Config,
    registry: &'a Registry,
    node: &'a Arc<Node>,
    listener: Arc<Listener>,
    table: &'a ListenerConfig,
    plan: &'a mut Plan,
}

impl Assembly<'_> {
    /// Innermost first; goes on after an error, so that all of them are told.
    fn run(&mut self, errors: &mut Vec<ConfigError>) -> Option<Assembled> {
        let before = errors.len();
        let mut rechecks = Vec::new();
        let mut authenticator = None;
        let mut stack =
            self.relay(&mut authenticator, &mut rechecks).map_err(|error| errors.push(error)).ok();
        let mut front: Option<Wrap<crate::stack::Front>> = None;
        for (at, name) in self.table.stack.iter().enumerate().rev() {
            if self.table.stack.iter().take(at).any(|other| other == name) {
                errors.push(self.stack_error(format!("it names \"{name}\" twice"), "name each layer once"));
                continue;
            }
            match self.layer(name, at == 0, &mut authenticator, &mut rechecks) {
                Ok(Built::Front(wrap)) => front = Some(wrap),
                Ok(Built::Layer(wrap)) => stack = stack.map(wrap),
                Err(error) => errors.push(error),
            }
        }
        if self.table.stack.is_empty() {
            errors.push(self.stack_error("it is empty".into(), "write stack = [\"detect\", …]"));
        }
        if errors.len() > before {
            return None;
        }
        let names = self.table.stack.iter().chain([&self.table.relay]).cloned().collect();
        let front = front?(self.listener.following());
        Some(Assembled { front, stack: stack?, rechecks, names })
    }

    fn stack_error(&self, problem: String, remedy: &str) -> ConfigError {
        self.config.error(&format!("listeners.{}.stack", self.listener.name()), problem, remedy)
    }

    fn relay(
        &mut self,
        authenticator: &mut Option<Arc<dyn Authenticator>>,
        rechecks: &mut Vec<Arc<dyn crate::listener::Recheck>>,
    ) -> Result<Stack, ConfigError> {
        let name = &self.table.relay;
        let (entry, table) =
            self.find("relays", name, &self.registry.relays, self.config.relays.get(name))?;
        match &entry.make {
            Maker::Relay(make) => {
                self.make("relays", name, &table, authenticator, rechecks, |t, b| make(t, b))
            }
            _ => Err(self.config.error("relays", "a layer is no relay", "choose direct or tunnel")),
        }
    }

    fn layer(
        &mut self,
        name: &str,
        first: bool,
        authenticator: &mut Option<Arc<dyn Authenticator>>,
        rechecks: &mut Vec<Arc<dyn crate::listener::Recheck>>,
    ) -> Result<Built, ConfigError> {
        let (entry, table) =
            self.find("layers", name, &self.registry.layers, self.config.layers.get(name))?;
        match (&entry.make, first) {
            (Maker::Front(make), true) => self
                .make("layers", name, &table, authenticator, rechecks, |t, b| make(t, b))
                .map(Built::Front),
            (Maker::Layer(make), false) => self
                .make("layers", name, &table, authenticator, rechecks, |t, b| make(t, b))
                .map(Built::Layer),
            (_, true) => Err(self.stack_error(
                format!("it starts with \"{name}\", which cannot read a connection"),
                "write \"detect\" first",
            )),
            (_, false) => {
                Err(self.stack_error(format!("\"{name}\" stands behind other layers"), "write it first"))
            }
        }
    }

    /// The catalogue's entry for a name, and its table without `kind`.
    fn find<'r>(
        &self,
        section: &str,
        name: &str,
        catalogue: &'r std::collections::BTreeMap<&'static str, Entry>,
        table: Option<&Table>,
    ) -> Result<(&'r Entry, Table), ConfigError> {
        let mut table = table.cloned().unwrap_or_default();
        let written = table.remove("kind");
        let kind = match &written {
            Some(kind) => kind.as_str().unwrap_or_default(),
            None => name,
        };
        let entry = catalogue.get(kind).ok_or_else(|| {
            let kinds: Vec<_> = catalogue.keys().map(|kind| format!("\"{kind}\"")).collect();
            let kinds = kinds.join(", ");
            if written.is_some() {
                let key = format!("{section}.{name}.kind");
                return self.config.error(
                    &key,
                    format!("there is no kind \"{kind}\""),
                    format!("write one of {kinds}"),
                );
            }
            let key = match section {
                "relays" => format!("listeners.{}.relay", self.listener.name()),
                _ => format!("listeners.{}.stack", self.listener.name()),
            };
            let remedy = format!("write one of {kinds}, or add [{section}.{name}] with kind = one of them");
            self.config.error(&key, format!("there is no \"{name}\""), remedy)
        })?;
        Ok((entry, table))
    }

    fn make<T>(
        &mut self,
        section: &str,
        name: &str,
        table: &Table,
        authenticator: &mut Option<Arc<dyn Authenticator>>,
        rechecks: &mut Vec<Arc<dyn crate::listener::Recheck>>,
        make: impl FnOnce(&Table, &mut Build<'_>) -> Result<T, Failure>,
    ) -> Result<T, ConfigError> {
        let key = format!("{section}.{name}");
        let mut build = Build::new(self.node, &self.listener, self.table.bind, &key, self.config.base());
        name.clone_into(&mut build.name);
        build.authenticator = authenticator.take();
        let made = make(table, &mut build);
        *authenticator = build.authenticator;
        rechecks.append(&mut build.rechecks);
        self.plan.commits.append(&mut build.commits);
        self.plan.watched.append(&mut build.watched);
        for (name, tunnel) in build.tunnels {
            if !self.plan.tunnels.iter().any(|(known, _)| *known == name) {
                self.plan.tunnels.push((name, tunnel));
            }
        }
        made.map_err(|failure| match failure {
            Failure::Table(error) => self.config.table_error(&key, error),
            Failure::Build(error) => self.config.error(&error.key, error.problem, error.remedy),
        })
    }
}

enum Built {
    Front(Wrap<crate::stack::Front>),
    Layer(Wrap<Stack>),
}
