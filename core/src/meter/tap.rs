//! Counters of bytes, told after bytes moved.
//!
//! Invariant: they only grow, so whoever takes a difference never sees it negative.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Which way bytes go; *up* is client to target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Client to target.
    Up,
    /// Target to client.
    Down,
}

impl Direction {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];
}

/// A pair of counters, in bytes of payload.
#[derive(Debug, Default)]
pub struct Tap {
    up: AtomicU64,
    down: AtomicU64,
}

impl Tap {
    fn side(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    /// Adds `n` bytes that went `direction`.
    pub fn count(&self, direction: Direction, n: u64) {
        self.side(direction).fetch_add(n, Relaxed);
    }

    /// The bytes so far that went `direction`.
    pub fn total(&self, direction: Direction) -> u64 {
        self.side(direction).load(Relaxed)
    }
}
