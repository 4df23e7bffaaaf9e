//! What a session asks before bytes move and tells after they moved.
//!
//! Invariants: charged ≥ counted at every moment; a grant not spent goes back, whatever the await it is dropped
//! at; nothing stays taken from one limit while another refuses.

mod line;
#[cfg(all(test, swiftproxy_loom))]
mod model;
mod reserve;
mod shared;
mod tap;
#[cfg(all(test, not(swiftproxy_loom)))]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio::time::Instant;

pub use line::{Line, Party, Place};
pub use reserve::Wait;
pub use tap::{Direction, Tap};

/// How many flows a limit binds; narrow before wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// One account's.
    Account,
    /// A listener's.
    Listener,
    /// The whole node's.
    Node,
}

/// A rate that flows are held to. Pure: it reads no clock and awaits nothing.
pub trait Limit: Send + Sync {
    /// Whose flows it binds.
    fn reach(&self) -> Reach;

    /// The line to wait in, or none while there is no limit that way.
    fn line(&self, direction: Direction) -> Option<&Arc<Line>>;

    /// Takes at most `want` bytes at `now` while there is plenty, so that nobody has to wait; none where flows
    /// should go by turn.
    fn take_freely(&self, now: Instant, direction: Direction, want: usize) -> Option<usize>;

    /// Takes at most `want` bytes at `now`, and no less than a quantum or all of `want`; or says when it is worth
    /// asking again.
    ///
    /// # Errors
    /// The moment at which that much will be there; nothing was taken then.
    fn take(&self, now: Instant, direction: Direction, want: usize) -> Result<usize, Instant>;

    /// What [`take`](Self::take) would say, taking nothing.
    ///
    /// # Errors
    /// The same.
    fn check(&self, now: Instant, direction: Direction, want: usize) -> Result<(), Instant>;

    /// Takes `n` bytes back that were taken and not used.
    fn give_back(&self, direction: Direction, n: usize);

    /// How many bytes a flow takes at a time while others wait.
    fn quantum(&self, direction: Direction) -> usize;
}

/// A session's limits and taps, gathered by the layers it passed.
#[derive(Default)]
pub struct Meter {
    limits: Vec<Arc<dyn Limit>>,
    taps: Vec<Arc<Tap>>,
    charged: Tap,
    payer: Option<Payer>,
}

/// Who a session's turns are put on the account of; its weight is asked at every turn, so a change binds at once.
#[derive(Debug, Clone)]
pub struct Payer {
    /// Equal for all sessions of an account, never 0.
    pub key: u64,
    /// Its share as a multiple of the others'.
    pub weight: Arc<AtomicU32>,
}

impl Meter {
    /// Adds a limit, once however often it is added.
    pub fn limit(&mut self, limit: Arc<dyn Limit>) {
        // One order for all sessions, narrow ones first: flows wait for turns in this order, so that no two of
        // them can wait for each other, and none waits for its own account while it holds up others.
        let place = |limit: &Arc<dyn Limit>| (limit.reach(), Arc::as_ptr(limit).cast::<()>());
        if let Err(at) = self.limits.binary_search_by_key(&place(&limit), place) {
            self.limits.insert(at, limit);
        }
    }

    /// Adds counters that are told of every byte, once however often they are added. Whether they are new.
    pub fn tap(&mut self, tap: Arc<Tap>) -> bool {
        let new = !self.taps.iter().any(|known| Arc::ptr_eq(known, &tap));
        if new {
            self.taps.push(tap);
        }
        new
    }

    /// Says on whose behalf the session waits where a limit is shared.
    pub fn set_payer(&mut self, payer: Payer) {
        self.payer = Some(payer);
    }

    fn party(&self) -> Party {
        let party = |payer: &Payer| Party { key: payer.key, weight: payer.weight.load(Relaxed) };
        self.payer.as_ref().map_or_else(Party::default, party)
    }

    /// Bytes read from their source so far; never less than what the taps were told.
    pub fn charged(&self, direction: Direction) -> u64 {
        self.charged.total(direction)
    }

    /// Tells the taps that the sink took `n` bytes.
    pub fn count(&self, direction: Direction, n: usize) {
        for tap in &self.taps {
            tap.count(direction, n as u64);
        }
    }

    fn give_back(&self, direction: Direction, n: usize, by_turn: bool) {
        for limit in &self.limits {
            limit.give_back(direction, n);
            if by_turn && let Some(line) = limit.line(direction) {
                line.refund(self.party(), n as u64);
            }
        }
    }
}

/// Bytes that may be read now. What is not spent goes back when it is dropped.
#[must_use = "a grant that is dropped gives its bytes back"]
pub struct Grant<'a> {
    meter: &'a Meter,
    direction: Direction,
    left: usize,
    limited: bool,
    by_turn: bool,
}

impl Grant<'_> {
    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.left
    }

    /// Charges the `n` bytes that were read; the rest goes back.
    pub fn spend(mut self, n: usize) {
        let n = n.min(self.left);
        self.left -= n;
        self.meter.charged.count(self.direction, n as u64);
    }
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        if self.limited && self.left > 0 {
            self.meter.give_back(self.direction, self.left, self.by_turn);
        }
    }
}
