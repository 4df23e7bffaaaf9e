//! How many streams there are whose windows come out of one sum, whichever connections they are of.
//!
//! Invariant: a stream counts from its beginning until nothing it received can be held any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The streams of the connections that share it: a node's.
#[derive(Debug, Clone, Default)]
pub struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// One stream more, until what this gives is dropped.
    pub(super) fn enter(&self) -> Counted {
        self.0.fetch_add(1, Relaxed);
        Counted(self.0.clone())
    }

    pub(super) fn streams(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// A stream that counts.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
