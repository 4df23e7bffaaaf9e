//! What a session asks before bytes move and tells after they moved.
//!
//! Invariants (DESIGN §5): charged ≥ counted at every moment; a grant not spent goes back, whatever the await it
//! is dropped at; nothing is taken from one limit while another refuses.

mod line;
mod reserve;
mod tap;

use std::sync::Arc;

use tokio::time::Instant;

pub use line::{Line, Party, Place};
pub use reserve::Wait;
pub use tap::{Direction, Tap};

/// A rate that flows are held to. Pure: it reads no clock and awaits nothing.
pub trait Limit: Send + Sync {
    /// Takes at most `want` bytes at `now`, or says when it is worth asking again.
    ///
    /// # Errors
    /// The moment at which some bytes will be there; nothing was taken then.
    fn take(&self, now: Instant, direction: Direction, want: usize) -> Result<usize, Instant>;

    /// Takes `n` bytes back that were taken and not used.
    fn give_back(&self, direction: Direction, n: usize);

    /// The line to wait in, or none while there is no limit that way.
    fn line(&self, direction: Direction) -> Option<&Arc<Line>>;

    /// How many bytes a flow takes at a time while others wait.
    fn quantum(&self, direction: Direction) -> usize;
}

/// A session's limits and taps, gathered by the layers it passed.
#[derive(Default)]
pub struct Meter {
    limits: Vec<Arc<dyn Limit>>,
    taps: Vec<Arc<Tap>>,
    charged: Tap,
    party: Party,
}

impl Meter {
    /// Adds a limit; narrow ones (the account's) before wide ones (the node's).
    pub fn limit(&mut self, limit: Arc<dyn Limit>) {
        self.limits.push(limit);
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
    pub fn set_party(&mut self, party: Party) {
        self.party = party;
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

    fn give_back(&self, direction: Direction, n: usize) {
        if n > 0 {
            for limit in &self.limits {
                limit.give_back(direction, n);
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
        self.meter.give_back(self.direction, self.left);
    }
}
