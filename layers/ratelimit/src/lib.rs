//! `ratelimit`: how fast. An account, a listener or the whole node is held to a rate.
//!
//! Invariant: one account has one pair of buckets, whatever the number of its sessions, listeners and protocols;
//! buckets outlive reloads, and a changed rate binds on open sessions.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use swiftproxy_core::error::{BuildError, Refusal};
use swiftproxy_core::meter::{Limit, Reach};
use swiftproxy_core::opened::Opened;
use swiftproxy_core::registry::{Build, LayerConfig};
use swiftproxy_core::session::Session;
use swiftproxy_core::stack::Stack;
use swiftproxy_core::units::{Rate, Span};
use tower::Service;

pub mod bucket;
pub mod limit;
#[cfg(test)]
mod tests;

use limit::{Buckets, Burst, OfAccount, OfCap};

/// Holds accounts to their rates, or all of a listener's or node's sessions together to one.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is held to the rate: each `account`, the `listener` as a whole, or the whole `node`. A cap of a
    /// listener or node is shared by the accounts that use it, by their weights.
    pub per: Per,
    /// Client to target. For accounts: the rate of those that have none of their own.
    pub up: Rate,
    /// Target to client. For accounts: the rate of those that have none of their own.
    pub down: Rate,
    /// How much may pass at once after a pause, as a time at the full rate; 10ms to 10s.
    pub burst: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self { per: Per::Account, up: Rate::UNLIMITED, down: Rate::UNLIMITED, burst: Span::millis(100) }
    }
}

/// What is held to a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Each account, over all of its sessions.
    Account,
    /// All sessions of the listener together.
    Listener,
    /// All sessions of the node together.
    Node,
}

impl LayerConfig for Config {
    const KIND: &'static str = "ratelimit";
    const SUMMARY: &'static str = "How fast: holds accounts, a listener or the whole node to a rate.";
    type Layer = Layer;

    fn build(self, build: &mut Build<'_>) -> Result<Layer, BuildError> {
        let burst = self.burst.0;
        if burst < Duration::from_millis(10) || burst > Duration::from_secs(10) {
            return Err(build.error(
                "burst",
                format!("{} is not between 10ms and 10s", self.burst),
                "write a time such as \"100ms\"",
            ));
        }
        let (up, down) = (self.up.get(), self.down.get());
        let cap = |reach| move || Buckets::new(OfCap::new(reach));
        let cap = match self.per {
            Per::Account => {
                // Layers are built innermost first: whoever published the authenticator is further in.
                if build.authenticator.is_some() {
                    return Err(build.error(
                        "per",
                        "stands before auth in a stack, where it cannot know whose rate it keeps",
                        format!(
                            "put \"{}\" after \"auth\" in listeners.{}.stack",
                            build.name,
                            build.listener.name()
                        ),
                    ));
                }
                // One for all accounts of the node, as an account's buckets serve every listener.
                let shared = build.node.state("ratelimit", || Burst::new(burst));
                let (to_set, defaults) = (shared.clone(), build.node.accounts.defaults.clone());
                build.on_commit(move || {
                    to_set.set(burst);
                    defaults.set(up, down);
                });
                return Ok(Layer(Kind::Account(shared)));
            }
            Per::Listener => build.listener_state(cap(Reach::Listener)),
            Per::Node => build.state(cap(Reach::Node)),
        };
        let to_set = cap.clone();
        build.on_commit(move || to_set.source().set(up, down, burst));
        Ok(Layer(Kind::Cap(cap)))
    }
}

/// Hangs the limit on each session that passes.
#[derive(Debug, Clone)]
pub struct Layer(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Account(Arc<Burst>),
    Cap(Arc<Buckets<OfCap>>),
}

impl tower::Layer<Stack> for Layer {
    type Service = Limited;

    fn layer(&self, inner: Stack) -> Limited {
        Limited { kind: self.0.clone(), inner }
    }
}

/// The layer over what is further in.
#[derive(Debug, Clone)]
pub struct Limited {
    kind: Kind,
    inner: Stack,
}

impl Service<Session> for Limited {
    type Response = Opened;
    type Error = Refusal;
    type Future = <Stack as Service<Session>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut session: Session) -> Self::Future {
        let limit = match &self.kind {
            Kind::Cap(cap) => Some(cap.clone() as Arc<dyn Limit>),
            // A session without an account has nobody's rate.
            Kind::Account(burst) => session.account().map(|account| {
                let make = || {
                    let source = OfAccount { rates: account.rates().clone(), burst: burst.clone() };
                    Arc::new(Buckets::new(source)) as Arc<dyn Limit>
                };
                account.limit(make)
            }),
        };
        if let Some(limit) = limit {
            session.meter.limit(limit);
        }
        self.inner.call(session)
    }
}
