//! How many streams there are whose windows come out of one sum, whichever connections they are of, and how much of what
//! they received waits to be read.
//!
//! Invariant: a stream counts from its beginning until nothing it received can be held any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// While so many bytes wait to be read, readers are what is short: larger windows would only hold more, but for those
/// whose readers wait.
const MUCH: u64 = 8 << 20;

/// While so many do, not even those grow. It is more than the initial windows of two thousand streams hold, so that
/// those alone do not keep others small.
const TOO_MUCH: u64 = 20 << 20;

/// The streams of the connections that share it: a node's.
#[derive(Debug, Clone, Default)]
pub struct Budget(Arc<Sums>);

#[derive(Debug, Default)]
struct Sums {
    streams: AtomicUsize,
    waiting: AtomicU64,
}

impl Budget {
    /// One stream more, until what this gives is dropped.
    pub(super) fn enter(&self) -> Counted {
        self.0.streams.fetch_add(1, Relaxed);
        Counted { sums: self.0.clone(), waiting: AtomicU32::new(0) }
    }

    pub(super) fn streams(&self) -> usize {
        self.0.streams.load(Relaxed)
    }

    /// Whether a window may grow; `dry` says that its reader leaves nothing unread.
    pub(super) fn is_ample(&self, dry: bool) -> bool {
        self.0.waiting.load(Relaxed) < if dry { TOO_MUCH } else { MUCH }
    }
}

/// A stream that counts.
#[derive(Debug)]
pub(super) struct Counted {
    sums: Arc<Sums>,
    waiting: AtomicU32,
}

impl Counted {
    /// So many bytes of it wait to be read.
    pub(super) fn wait(&self, bytes: u32) {
        let before = self.waiting.swap(bytes, Relaxed);
        if before != bytes {
            // Adding what is negative wraps to what is meant.
            self.sums.waiting.fetch_add(u64::from(bytes).wrapping_sub(before.into()), Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.wait(0);
        self.sums.streams.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_summed_up_until_it_is_dropped() {
        let budget = Budget::default();
        let streams: Vec<_> = (0..4).map(|_| budget.clone().enter()).collect();
        let quarter = u32::try_from(MUCH / 4).unwrap();
        streams.iter().for_each(|stream| stream.wait(quarter));
        assert!(!budget.is_ample(false) && budget.is_ample(true));
        streams[0].wait(quarter - 1);
        assert!(budget.is_ample(false));
        streams[0].wait(u32::try_from(TOO_MUCH).unwrap());
        assert!(!budget.is_ample(true));
        drop(streams);
        assert!(budget.is_ample(false));
        assert_eq!((budget.streams(), budget.0.waiting.load(Relaxed)), (0, 0));
    }
}
