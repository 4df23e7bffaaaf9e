//! Moves a session's bytes between its two ends, under its meter.
//!
//! Invariants: one task a session; a session that is idle owns no buffer and no pipe; what was read and not yet
//! taken by the sink is bounded, by a chunk for each session and more tightly once many sessions are stalled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use swiftproxy_core::BoxFuture;
use swiftproxy_core::endpoint::Endpoint;
use swiftproxy_core::node::Node;
use swiftproxy_core::opened;
use swiftproxy_core::session::Session;

mod copy;
mod duplex;
mod flow;
#[cfg(target_os = "linux")]
mod pool;
mod scratch;
#[cfg(target_os = "linux")]
mod splice;
#[cfg(test)]
mod tests;

/// Full chunks in a row after which a flow is bulk, for which a pipe is worth its system calls.
const BULK: u32 = 8;
/// Bytes that all stalled sessions together may hold before each new one holds no more than a small chunk.
const MUCH: usize = 16 << 20;

/// The engine of a node: copies through a buffer of the worker's, and moves bulk inside the kernel where both ends
/// are plain TCP (Linux).
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What all sessions of an engine share.
#[derive(Debug)]
struct Shared {
    /// Bytes that were read and that no sink took yet.
    held: AtomicUsize,
    /// Full chunks in a row after which a flow is spliced; none: never.
    splice_after: Option<u32>,
    #[cfg(target_os = "linux")]
    pool: pool::Pool,
}

impl Engine {
    /// The node's one engine, which outlives reloads; with `splice` off, one that only copies.
    pub fn of(node: &Arc<Node>, splice: bool) -> Arc<dyn opened::Engine> {
        if splice {
            node.state("engine", || Self::new(Some(BULK)))
        } else {
            node.state("engine.copy", || Self::new(None))
        }
    }

    fn new(splice_after: Option<u32>) -> Self {
        Self {
            shared: Arc::new(Shared {
                held: AtomicUsize::new(0),
                splice_after,
                #[cfg(target_os = "linux")]
                pool: pool::Pool::default(),
            }),
        }
    }
}

impl opened::Engine for Engine {
    fn run(&self, session: Session, client: Box<dyn Endpoint>, target: Box<dyn Endpoint>) -> BoxFuture<()> {
        if let Some(why) = session.must_copy() {
            tracing::debug!(session = session.live().id, why, "bytes pass through memory");
        }
        Box::pin(duplex::Duplex::new(self.shared.clone(), session, client, target))
    }
}

impl Shared {
    /// Whether so much is held already that nobody new may hold more than a little.
    fn is_short(&self) -> bool {
        self.held.load(Relaxed) > MUCH
    }
}
