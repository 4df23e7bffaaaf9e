//! A listener's own state, which outlives every reload that keeps its name.
//!
//! Invariant: a slot is given back when it is dropped; a cap that was lowered ends nobody, it admits nobody new.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arc_swap::ArcSwapOption;
use tower::Service;

use crate::BoxFuture;
use crate::cancel::Reason;
use crate::error::Refusal;
use crate::live::Live;
use crate::meter::Tap;
use crate::node::Node;
use crate::opened::Opened;
use crate::session::Session;
use crate::stack::{Front, Stack};

/// Judges open sessions anew after a reload.
pub trait Recheck: Send + Sync {
    /// Whether the session may go on.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, live: &Live) -> Result<(), Refusal>;
}

/// What a listener runs at this moment.
pub struct Assembled {
    /// The outermost layer.
    pub front: Front,
    /// All the layers below it.
    pub stack: Stack,
    /// Judges of its open sessions.
    pub rechecks: Vec<Arc<dyn Recheck>>,
    /// The layers' names in order, and the relay's last.
    pub names: Vec<String>,
}

/// A listener by name.
pub struct Listener {
    name: String,
    node: Arc<Node>,
    slots: Arc<Slots>,
    current: ArcSwapOption<Assembled>,
    /// Bytes of all its sessions.
    pub bytes: Arc<Tap>,
}

impl Listener {
    /// A listener that runs nothing yet.
    pub fn new(node: &Arc<Node>, name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            node: node.clone(),
            slots: Arc::default(),
            current: ArcSwapOption::empty(),
            bytes: Arc::default(),
        })
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node it belongs to.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Its cap on sessions.
    pub fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// What it runs.
    pub fn current(&self) -> Option<Arc<Assembled>> {
        self.current.load_full()
    }

    /// Runs `next` from now on, and judges the open sessions by it.
    pub fn swap(&self, next: Assembled) {
        let rechecks = next.rechecks.clone();
        self.current.store(Some(Arc::new(next)));
        if rechecks.is_empty() {
            return;
        }
        self.node.sessions.each(|live| {
            if live.listener.name == self.name && rechecks.iter().any(|judge| judge.check(live).is_err()) {
                live.cancel.fire(Reason::Denied);
            }
        });
    }

    /// A stack that follows this listener's stack of the moment, counts refusals and notes them on the session.
    pub fn following(self: &Arc<Self>) -> Stack {
        let listener = self.clone();
        Stack::new(tower::service_fn(move |session| listener.clone().open(session)))
    }

    fn open(self: Arc<Self>, session: Session) -> BoxFuture<Result<Opened, Refusal>> {
        let live = session.live().clone();
        let call = match self.current() {
            Some(current) => current.stack.clone().call(session),
            None => Box::pin(std::future::ready(Err(Refusal::Draining))),
        };
        Box::pin(async move {
            let opened = call.await;
            if let Err(refusal) = &opened {
                self.node.count_refusal(*refusal);
                live.set_outcome(refusal.label());
            }
            opened
        })
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A cap that may change at any time, and how much of it is taken.
#[derive(Debug)]
pub struct Slots {
    most: AtomicUsize,
    taken: AtomicUsize,
}

impl Default for Slots {
    fn default() -> Self {
        Self { most: AtomicUsize::new(usize::MAX), taken: AtomicUsize::new(0) }
    }
}

impl Slots {
    /// Changes the cap; none is no cap.
    pub fn set_most(&self, most: Option<usize>) {
        self.most.store(most.unwrap_or(usize::MAX), Relaxed);
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// A slot, if one is free.
    pub fn take(self: &Arc<Self>) -> Option<Slot> {
        if self.taken.fetch_add(1, Relaxed) < self.most.load(Relaxed) {
            return Some(Slot(self.clone()));
        }
        self.taken.fetch_sub(1, Relaxed);
        None
    }
}

/// One of a cap's slots; dropping it gives it back.
#[derive(Debug)]
pub struct Slot(Arc<Slots>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_binds_at_once_and_slots_return() {
        let slots = Arc::new(Slots::default());
        slots.set_most(Some(1));
        let first = slots.take();
        assert!(first.is_some() && slots.take().is_none());
        drop(first);
        assert!(slots.take().is_some());
        assert_eq!(slots.taken(), 0);
    }
}
