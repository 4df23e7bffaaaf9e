//! The tunnel against a small remote over loopback, and its links over pipes in memory.

mod lean;
mod login;
mod quiet;
mod remote;
mod sessions;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use swiftproxy_core::error::Refusal;
use swiftproxy_core::listener::Listener;
use swiftproxy_core::node::Node;
use swiftproxy_core::opened::Opened;
use swiftproxy_core::registry::{Build, RelayConfig};
use swiftproxy_core::secret::Secret;
use swiftproxy_core::session::Session;
use swiftproxy_core::tunnel::{Login, Tunnel as _, TunnelState, TunnelStatus};
use tower::Service;

use super::{Config, Tunnel};
use remote::TestRemote;

/// A local role: a node with one tunnel relay.
struct Local {
    node: Arc<Node>,
    listener: Arc<Listener>,
    relay: Tunnel,
}

impl Local {
    fn new(config: Config) -> Self {
        let node = Node::new("test");
        let listener = Listener::new(&node, "test");
        let relay = build(&node, &listener, config);
        Self { node, listener, relay }
    }

    /// Builds the relay anew, as a reload does.
    fn reload(&mut self, config: Config) {
        self.relay = build(&self.node, &self.listener, config);
    }

    fn session(&self, target: &str) -> Session {
        let client: SocketAddr = "127.0.0.1:1".parse().unwrap();
        Session::admit(&self.listener, client, "socks5", target.parse().unwrap()).unwrap()
    }

    async fn open(&self, target: &str) -> Result<Opened, Refusal> {
        self.relay.clone().call(self.session(target)).await
    }

    fn status(&self) -> TunnelStatus {
        self.relay.hub.status()
    }

    /// Waits for the state that `seen` looks for.
    async fn until(&self, seen: impl Fn(&TunnelStatus) -> bool) -> TunnelStatus {
        let mut changes = self.relay.hub.changes();
        loop {
            changes.borrow_and_update();
            let status = self.status();
            if seen(&status) {
                return status;
            }
            changes.changed().await.unwrap();
        }
    }

    async fn connected(&self) -> TunnelStatus {
        self.until(|status| status.state == TunnelState::Connected).await
    }
}

fn build(node: &Arc<Node>, listener: &Arc<Listener>, config: Config) -> Tunnel {
    let bind = "127.0.0.1:0".parse().unwrap();
    let mut build = Build::new(node, listener, bind, "relays.tunnel", Path::new("/"));
    let relay = config.build(&mut build).unwrap();
    build.commit();
    relay
}

fn config(remote: &TestRemote) -> Config {
    Config {
        server: Some(remote.addr.to_string()),
        username: Some("alice".to_owned()),
        password: Some(Secret::new("secret")),
        pin: Some(remote.pin.clone()),
        ..Config::default()
    }
}

fn login(remote: &TestRemote) -> Login {
    Login {
        server: remote.addr.to_string(),
        username: "alice".to_owned(),
        password: Secret::new("secret"),
        pin: Some(remote.pin.clone()),
        tls: true,
        insecure: false,
    }
}
