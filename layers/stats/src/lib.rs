//! `stats`: what happened. Hangs the counters of the node, the listener and the account on a session's meter, and
//! makes figures of them once a second.
//!
//! Invariant: a byte is counted once by each counter, by the meter's taps and by nothing else, so this layer costs
//! nothing beyond them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use schemars::JsonSchema;
use serde::Deserialize;
use swiftproxy_core::error::{BuildError, Refusal};
use swiftproxy_core::opened::Opened;
use swiftproxy_core::registry::{Build, LayerConfig};
use swiftproxy_core::session::Session;
use swiftproxy_core::stack::Stack;
use tower::Service;

mod sampler;
mod snapshot;

pub use sampler::{Sampler, Tick};
pub use snapshot::{
    AccountFigures, ConfigState, ListenerFigures, Pair, SessionFigures, Snapshot, StoreState, reload_state,
    unix_time,
};

/// Counts bytes and sessions by account, listener and node. It has no keys of its own.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

impl LayerConfig for Config {
    const KIND: &'static str = "stats";
    const SUMMARY: &'static str = "What happened: counts bytes and sessions by account, listener and node.";
    type Layer = Layer;

    fn build(self, build: &mut Build<'_>) -> Result<Layer, BuildError> {
        // Layers are built innermost first: whoever published the authenticator is further in than this one.
        if build.authenticator.is_some() {
            return Err(build.error(
                "",
                "stands before auth in a stack, where it cannot know whose bytes it counts",
                format!("put \"{}\" after \"auth\" in listeners.{}.stack", build.name, build.listener.name()),
            ));
        }
        Ok(Layer {})
    }
}

/// Puts the counters on each session that passes.
#[derive(Debug, Clone)]
pub struct Layer {}

impl tower::Layer<Stack> for Layer {
    type Service = Counted;

    fn layer(&self, inner: Stack) -> Counted {
        Counted { inner }
    }
}

/// The stack below, with every session counted.
#[derive(Debug, Clone)]
pub struct Counted {
    inner: Stack,
}

impl Service<Session> for Counted {
    type Response = Opened;
    type Error = Refusal;
    type Future = <Stack as Service<Session>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut session: Session) -> Self::Future {
        let listener = session.live().listener.clone();
        session.meter.tap(listener.node().bytes.clone());
        session.meter.tap(listener.bytes.clone());
        if let Some(account) = session.account().cloned()
            && session.meter.tap(Arc::clone(&account.usage))
        {
            account.sessions.fetch_add(1, Relaxed);
        }
        self.inner.call(session)
    }
}

#[cfg(test)]
mod tests;
