//! A pair of buckets as the meter's limit: an account's, or a cap that all flows of a listener or node share.
//!
//! Invariant: rate and burst are read whenever somebody asks, so a change binds on open flows at once, and the
//! buckets keep their level through it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use swiftproxy_core::account::Rates;
use swiftproxy_core::meter::{Direction, Limit, Line, Reach};
use tokio::time::Instant;

use crate::bucket::{Bucket, Pace};

/// Where a limit's rate comes from.
pub trait Source: Send + Sync {
    /// The pace at the moment; none is unlimited.
    fn pace(&self, direction: Direction) -> Option<Pace>;

    /// Whose flows it binds.
    fn reach(&self) -> Reach;
}

/// One pair of buckets, with the lines to wait in.
#[derive(Debug)]
pub struct Buckets<S> {
    source: S,
    up: Side,
    down: Side,
}

#[derive(Debug)]
struct Side {
    bucket: Bucket,
    line: Arc<Line>,
}

impl<S: Source> Buckets<S> {
    /// Full buckets.
    pub fn new(source: S) -> Self {
        let side = || Side { bucket: Bucket::new(Instant::now()), line: Arc::default() };
        Self { source, up: side(), down: side() }
    }

    /// Where the rate comes from.
    pub fn source(&self) -> &S {
        &self.source
    }

    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

impl<S: Source> Limit for Buckets<S> {
    fn reach(&self) -> Reach {
        self.source.reach()
    }

    fn line(&self, direction: Direction) -> Option<&Arc<Line>> {
        self.source.pace(direction).map(|_| &self.side(direction).line)
    }

    fn take_freely(&self, now: Instant, direction: Direction, want: usize) -> Option<usize> {
        let Some(pace) = self.source.pace(direction) else { return Some(want) };
        self.side(direction).bucket.take_freely(now, pace, want)
    }

    fn take(&self, now: Instant, direction: Direction, want: usize) -> Result<usize, Instant> {
        let Some(pace) = self.source.pace(direction) else { return Ok(want) };
        self.side(direction).bucket.take(now, pace, want)
    }

    fn check(&self, now: Instant, direction: Direction, want: usize) -> Result<(), Instant> {
        let Some(pace) = self.source.pace(direction) else { return Ok(()) };
        self.side(direction).bucket.check(now, pace, want)
    }

    fn give_back(&self, direction: Direction, n: usize) {
        if let Some(pace) = self.source.pace(direction) {
            self.side(direction).bucket.give_back(pace, n);
        }
    }

    fn quantum(&self, direction: Direction) -> usize {
        self.source.pace(direction).map_or(usize::MAX, |pace| pace.quantum() as usize)
    }
}

/// A length of time that a reload may change.
#[derive(Debug)]
pub struct Burst(AtomicU64);

impl Burst {
    /// That long.
    pub fn new(burst: Duration) -> Self {
        Self(AtomicU64::new(burst.as_nanos() as u64))
    }

    /// Changes it.
    pub fn set(&self, burst: Duration) {
        self.0.store(burst.as_nanos() as u64, Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }
}

/// An account's rates. Not the account itself, which holds its limit.
#[derive(Debug)]
pub struct OfAccount {
    /// The account's live rates.
    pub rates: Arc<Rates>,
    /// All accounts' burst.
    pub burst: Arc<Burst>,
}

impl Source for OfAccount {
    fn pace(&self, direction: Direction) -> Option<Pace> {
        self.rates.effective(direction).map(|rate| Pace::new(rate, self.burst.get()))
    }

    fn reach(&self) -> Reach {
        Reach::Account
    }
}

/// A cap's rates, as the configuration states them.
#[derive(Debug)]
pub struct OfCap {
    reach: Reach,
    burst: Burst,
    up: AtomicU64,
    down: AtomicU64,
}

impl OfCap {
    /// No cap as yet.
    pub fn new(reach: Reach) -> Self {
        let unlimited = || AtomicU64::new(u64::MAX);
        Self { reach, burst: Burst::new(Duration::ZERO), up: unlimited(), down: unlimited() }
    }

    /// Changes it; bytes per second, none is unlimited.
    pub fn set(&self, up: Option<u64>, down: Option<u64>, burst: Duration) {
        self.burst.set(burst);
        self.up.store(up.unwrap_or(u64::MAX), Relaxed);
        self.down.store(down.unwrap_or(u64::MAX), Relaxed);
    }
}

impl Source for OfCap {
    fn pace(&self, direction: Direction) -> Option<Pace> {
        let rate = match direction {
            Direction::Up => self.up.load(Relaxed),
            Direction::Down => self.down.load(Relaxed),
        };
        (rate != u64::MAX).then(|| Pace::new(rate, self.burst.get()))
    }

    fn reach(&self) -> Reach {
        self.reach
    }
}
