//! The relay that carries sessions to a remote: CONNECT over a few warm HTTP/2 connections, authenticated and
//! encrypted (DESIGN §7). Any HTTPS proxy that speaks HTTP/2 will do.
//!
//! Invariant: no credential leaves before trust in the remote is settled, and an application never sees the
//! remote's opinion of our own login as one of its own.

mod account;
mod connect;
mod dial;
mod hub;
mod link;
mod remote;
mod silence;
#[cfg(test)]
mod tests;
mod uplink;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use swiftproxy_core::BoxFuture;
use swiftproxy_core::error::{BuildError, Refusal};
use swiftproxy_core::opened::{self, Opened};
use swiftproxy_core::registry::{Build, RelayConfig};
use swiftproxy_core::secret::Secret;
use swiftproxy_core::session::Session;
use swiftproxy_core::tunnel::Login;
use swiftproxy_core::units::Span;
use tower::Service;

use crate::engine::Engine;
use hub::{Hub, Lease};
use remote::Remote;

/// Where the tunnel leads, who logs in there, and how long anything may take.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The remote, `host:port`. Without it the tunnel is down until it is told over the API where to log in.
    #[schemars(example = "proxy.example.net:8889")]
    pub server: Option<String>,
    /// The account's name there. Without it nothing is sent to log in.
    #[schemars(example = &"alice")]
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// The remote's public key, `sha256//` and base64, where its certificate is self-signed; several are separated
    /// by `;`. Without it the platform's trust store decides.
    #[schemars(example = &"sha256//…")]
    pub pin: Option<String>,
    /// Whether the link is encrypted.
    pub tls: bool,
    /// Allows `tls = false` beyond loopback. The password can then be read on the way.
    pub insecure: bool,
    /// How many connections are kept to the remote, 1 to 16.
    pub connections: usize,
    /// How long a connection to the remote may take to come about, TLS and login included.
    pub connect_timeout: Span,
    /// How long the remote may take to answer for a target.
    pub open_timeout: Span,
    /// How long a session that was opened while the tunnel is down waits for it to come back.
    pub wait: Span,
    /// How many sessions may wait like that.
    pub max_waiting: usize,
    /// Whether our own HTTP/2 engine carries sessions where the remote knows it too, at less cost. Any other HTTP/2
    /// proxy is spoken to as such.
    pub lean: bool,
    /// Ends a session in which no byte moved for that long, in whole seconds. Absent: none is ended.
    pub idle_timeout: Option<Span>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: None,
            username: None,
            password: None,
            pin: None,
            tls: true,
            insecure: false,
            connections: 2,
            connect_timeout: Span::secs(10),
            open_timeout: Span::secs(60),
            wait: Span::secs(5),
            max_waiting: 1024,
            lean: true,
            idle_timeout: None,
        }
    }
}

/// What changes without a new login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings {
    connections: usize,
    connect_timeout: Duration,
    open_timeout: Duration,
    wait: Duration,
    max_waiting: usize,
    lean: bool,
    idle_timeout: Option<Duration>,
}

impl Config {
    fn settings(&self) -> Settings {
        Settings {
            connections: self.connections,
            connect_timeout: self.connect_timeout.0,
            open_timeout: self.open_timeout.0,
            wait: self.wait.0,
            max_waiting: self.max_waiting,
            lean: self.lean,
            idle_timeout: self.idle_timeout.map(|span| span.0),
        }
    }

    fn remote(&self, build: &Build<'_>) -> Result<Option<Remote>, BuildError> {
        let Some(server) = &self.server else {
            return match (&self.username, &self.pin) {
                (None, None) => Ok(None),
                _ => {
                    Err(build.error("server", "nothing says where to log in", "write server = \"HOST:PORT\""))
                }
            };
        };
        if self.username.is_some() != self.password.is_some() {
            let key = if self.username.is_some() { "password" } else { "username" };
            return Err(build.error(key, "only half a login is here", "write both username and password"));
        }
        let login = Login {
            server: server.clone(),
            username: self.username.clone().unwrap_or_default(),
            password: self.password.clone().unwrap_or_default(),
            pin: self.pin.clone(),
            tls: self.tls,
            insecure: self.insecure,
        };
        Remote::new(&login).map(Some).map_err(|wrong| build.error(wrong.key, wrong.problem, wrong.remedy))
    }
}

impl RelayConfig for Config {
    const KIND: &'static str = "tunnel";
    const SUMMARY: &'static str =
        "Carries sessions to a remote, through an authenticated and encrypted link.";
    type Relay = Tunnel;

    fn build(self, build: &mut Build<'_>) -> Result<Tunnel, BuildError> {
        if !(1..=16).contains(&self.connections) {
            let problem = format!("{} connections are kept by nobody", self.connections);
            return Err(build.error("connections", problem, "write a number from 1 to 16"));
        }
        for (key, span) in [("connect_timeout", self.connect_timeout), ("open_timeout", self.open_timeout)] {
            if span.0.is_zero() {
                return Err(build.error(key, "nothing happens in no time", "write a time such as \"10s\""));
            }
        }
        if self.idle_timeout.is_some_and(|span| span.0 < Duration::from_secs(1)) {
            return Err(build.error("idle_timeout", "is less than a second", "write a time such as \"60s\""));
        }
        let (remote, settings) = (self.remote(build)?, self.settings());
        let hub = build.state(|| Hub::new(settings, build.node.workers().clone()));
        let lease = hub.lease();
        build.tunnel(hub.clone());
        build.on_commit({
            let hub = hub.clone();
            move || hub.configure(remote, settings)
        });
        Ok(Tunnel { hub, engine: Engine::of(build.node, true), _lease: lease })
    }
}

/// The innermost service of a local role.
#[derive(Clone)]
pub struct Tunnel {
    hub: Arc<Hub>,
    engine: Arc<dyn opened::Engine>,
    /// The last one to go takes the link down.
    _lease: Arc<Lease>,
}

impl Service<Session> for Tunnel {
    type Response = Opened;
    type Error = Refusal;
    type Future = BoxFuture<Result<Opened, Refusal>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, session: Session) -> Self::Future {
        Box::pin(connect::open(self.hub.clone(), session, self.engine.clone()))
    }
}
